"""What the doctor says of the committed runs that went well: each fault or warning is a false alarm, or is arguable.

    python benchmarks/doctor_alarms.py --out assets/benchmarks/doctor_alarms.json

Went well: neither stalled nor collapsed by `assets/runs.csv`, and an accuracy of 0.8 or more at the end.
"""

import argparse
from collections import Counter
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from toolexpander_lite.base.runs import REPOSITORY, find_runs, software_versions, write_json
from toolexpander_lite.doctor import diagnose

LEAST = 0.8


def went_well():
    """Folders of the runs -> list of Path."""
    table = pd.read_csv(REPOSITORY / "assets" / "runs.csv")
    good = table[~table.stalled.eq(True) & ~table.collapsed.eq(True) & (table.zero_shot >= LEAST)]
    wanted = set(zip(good.study, good.arm, good.seed))
    runs = []
    for study in sorted((REPOSITORY / "assets" / "runs").iterdir()):
        for arm, found in find_runs(study).items():
            runs += [run for run in found if (study.name, arm, int(run.name.removeprefix("seed-"))) in wanted]
    return runs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    told, runs = [], went_well()
    for run in tqdm(runs):
        heads = [finding for finding in diagnose(run) if finding.level != "note"]
        if heads:
            told.append({"run": "/".join(run.parts[-3:]), "first": heads[0].name, "level": heads[0].level})
    counts = Counter(row["first"] for row in told)
    write_json(arguments.out, {
        "runs": len(runs), "least_accuracy": LEAST, "first_named": dict(counts.most_common()), "told": told,
        "versions": software_versions(),
    })  # fmt: skip
    print(f"{len(told)} of {len(runs)} runs: {dict(counts.most_common())}")


if __name__ == "__main__":
    main()
