"""Why self-written examples go: which rollouts with a block of examples are right, and what advantage they get.

    python benchmarks/own_examples.py --out assets/benchmarks/own_examples.json

Runs of `paper_self_exemplifying` as in the study paper-second, whose rollouts are not committed, on seeds of their own.
Per five steps: rollouts with and without a block, how many are right, why the others are not, and the mean advantage
(task reward and bonus, over the group's standard deviation, as the trainer has it). `answers`: the first of four groups
of the last step.
"""

import argparse
import math
from collections import Counter
from pathlib import Path
from statistics import mean, stdev

from toolexpander_lite.base.runs import evaluations, read_json, read_jsonl, read_log, write_json
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.train import train
from toolexpander_lite.variants.all_recipes import get_recipe

WINDOW = 5


def advantages(group):
    """Task rewards and bonuses of a group -> its advantages."""
    total = [reward + bonus for reward, bonus in zip(group["rewards"], group["bonus"])]
    spread = stdev(total)
    return [(value - mean(total)) / (spread + 1e-4) for value in total]


def by_window(groups):
    """Lines of rollouts.jsonl -> [{"steps", "with": {...}, "without": {...}}, ...]."""
    windows = []
    for n in range(math.ceil(max(group["step"] for group in groups) / WINDOW)):
        found = {"with": [], "without": []}
        for group in groups:
            if (group["step"] - 1) // WINDOW == n:
                for text, why, gain in zip(group["completions"], group["verdicts"], advantages(group)):
                    found["with" if "<examples>" in text else "without"].append((why, gain, len(text)))
        told = {"steps": [n * WINDOW + 1, (n + 1) * WINDOW]}
        for name, rollouts in found.items():
            told[name] = {
                "rollouts": len(rollouts), "reasons": dict(Counter(why for why, _, _ in rollouts).most_common()),
                "advantage": mean(gain for _, gain, _ in rollouts) if rollouts else None,
                "characters": mean(length for _, _, length in rollouts) if rollouts else None,
            }  # fmt: skip
        windows.append(told)
    return windows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="100,101,102", help="with commas")
    parser.add_argument("--runs", type=Path, default=Path("out/own-examples"))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    recipe = get_recipe("paper_self_exemplifying", examples_needed=2, learning_rate=1.2e-3)
    runs = []
    for seed in map(int, arguments.seeds.split(",")):
        run = arguments.runs / f"seed-{seed}"
        if not (run / "summary.json").exists():
            train(recipe, get_profile("nano-graded-invited"), seed, run, resume=(run / "config.json").exists())
        groups = read_jsonl(run / "rollouts.jsonl")
        windows = by_window(groups)
        last = evaluations(read_log(run))[-1][1]
        ends = {"accuracy": last["zero_shot"], "examples": last["examples"]}
        ends["answers"] = [g["completions"][0][:300] for g in groups if g["step"] == groups[-1]["step"]][:4]
        made_by = read_json(run / "config.json")["versions"]
        runs.append({"seed": seed, "versions": made_by, **ends, "windows": windows})
        for window in windows:
            print(seed, window, flush=True)
        write_json(arguments.out, {"recipe": recipe.name, "runs": runs})


if __name__ == "__main__":
    main()
