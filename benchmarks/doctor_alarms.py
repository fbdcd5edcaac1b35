"""What the doctor says of the committed runs that went well: each fault or warning is a false alarm, or is arguable.

    python benchmarks/doctor_alarms.py --out assets/benchmarks/doctor_alarms.json

Went well: neither stalled nor collapsed by `assets/runs.csv`, and an accuracy of 0.8 or more at the end. Of the real
model's runs, which stay below that: held-out accuracy is higher at the end than it was at the beginning, by GRPO alone
or with the second loss of context distillation.
"""

import argparse
from collections import Counter
from pathlib import Path

import pandas as pd

from toolexpander_lite.base.progress import bar
from toolexpander_lite.base.runs import (
    REPOSITORY,
    evaluations,
    find_runs,
    has_file,
    read_json,
    read_log,
    software_versions,
    write_json,
)
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


def rose():
    """Runs of a real model whose held-out accuracy rose -> {"GRPO", "with a second loss": list of Path}."""
    found = {"GRPO": [], "with a second loss": []}
    for study in sorted((REPOSITORY / "assets" / "runs").iterdir()):
        runs = [run for runs in find_runs(study).values() for run in runs]
        for run in runs if has_file(runs[0] / "config.json") else ():
            config = read_json(run / "config.json")
            recipe = config.get("recipe", {})
            if not config.get("profile", {}).get("name", "").startswith("smol"):
                continue
            scores = [scores["zero_shot"] for _, scores in evaluations(read_log(run))]
            if not recipe.get("supervised") and len(scores) > 1 and scores[-1] > scores[0]:
                found["with a second loss" if recipe.get("distil_weight") else "GRPO"].append(run)
    return found


def warnings(runs):
    """What the doctor says of each, notes apart -> {"runs": how many, "first_named": counts, "told": list}."""
    told = []
    for run in bar(runs):
        heads = [finding for finding in diagnose(run) if finding.level != "note"]
        if heads:
            told.append({"run": "/".join(run.parts[-3:]), "first": heads[0].name, "level": heads[0].level})
    counts = Counter(row["first"] for row in told)
    return {"runs": len(runs), "first_named": dict(counts.most_common()), "told": told}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    found = {"least_accuracy": LEAST, **warnings(went_well())}
    found["real_model"] = {kind: warnings(runs) for kind, runs in rose().items()}
    write_json(arguments.out, found | {"versions": software_versions()})
    for kind, part in {"nano": found, **found["real_model"]}.items():
        print(f"{kind}: {len(part['told'])} of {part['runs']} runs: {part['first_named']}")


if __name__ == "__main__":
    main()
