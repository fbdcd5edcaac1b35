"""The paper's Table 2 on the graded world: rows that are hard plainly, with random and with verified demonstrations.

    python benchmarks/hard_rows.py [--seeds 3] [--out assets/benchmarks/hard_rows.json]

No training. Three policies, `training.rounds.hard_counts` for each seed (of the training rows, their demonstrations and
the rollouts); one demonstration of each of the two tools on offer. A seed that is in --out already is not run again.
"""

import argparse
import tempfile
from pathlib import Path

from toolexpander_lite.base.runs import read_json, write_json
from toolexpander_lite.training.rounds import hard_counts
from toolexpander_lite.variants.all_recipes import get_recipe


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("assets/benchmarks/hard_rows.json"))
    arguments = parser.parse_args()
    found = read_json(arguments.out) if arguments.out.exists() else {}
    recipe = get_recipe("paper_replace", demos=2, demos_per_tool=1)
    for seed in range(arguments.seeds):
        for profile in ("nano-graded", "nano-graded-weak", "nano-graded-habit"):
            runs = found.setdefault(profile, {})
            if str(seed) in runs:
                continue
            with tempfile.TemporaryDirectory() as folder:
                counts = hard_counts(recipe, profile, seed, folder)
                config = read_json(Path(folder) / "config.json")
            kept = ("base_model_hash", "machine", "versions")
            runs[str(seed)] = counts | {name: config[name] for name in kept}
            print(profile, seed, counts, flush=True)
            write_json(arguments.out, found)


if __name__ == "__main__":
    main()
