"""Which committed batches had groups of equal rewards that moved the weights all the same?

Before rewards were multiples of 1/4096 (`method/rewards.py`, `quantise`), TRL's float32 mean of ten rewards of 1.01 was
not 1.01, and each of the ten got the same small advantage, whose size Adam divides away. This counts it in the logs of
all arms that pay a bonus or a grade:

    advantage     of each rollout of an equal group by TRL's own float32 arithmetic: all right and paid, all wrong and
                  paid
    batches       batches of rollouts in the log
    touched       without a KL term: batches with such a group, and in "groups" how many groups in all, [right, wrong].
                  At ratio 1 the advantages of a mixed group sum to 0, so the loss is -advantage times the share of such
                  groups. Wrong ones, whose advantage is 128 times less, can be counted where all are wrong.
                  None with a KL term, which adds its own to the loss: the logs do not tell
    no_contrast   batches in which every group was all right or all wrong and every rollout paid: nothing but this error
                  (and the KL term) moved the weights
    steps, no_contrast_steps   which, as the steps of log.jsonl

    python benchmarks/equal_rewards.py --out assets/benchmarks/equal_rewards.json

Reads logs alone; takes seconds.
"""

import argparse
from pathlib import Path

import torch

from toolexpander_lite.base.runs import REPOSITORY, find_runs, read_json, read_log, write_json


def float32_advantage(reward, size, scale):
    """What TRL 1.16 makes of `size` equal rewards -> float; 0.0 where float32 holds their sum exactly."""
    rewards = torch.full((1, size), reward, dtype=torch.float32)
    difference = rewards - torch.nanmean(rewards, dim=1, keepdim=True)
    if scale == "group":
        difference = difference / (rewards.std(dim=1, keepdim=True) + 1e-4)
    return difference[0, 0].item()


def touched(run):
    """One run -> its row, or None for an arm whose rewards are 0 and 1."""
    config = read_json(Path(run) / "config.json")
    recipe = config.get("recipe") or {}
    bonus = recipe.get("example_bonus", 0.0)
    if not bonus and recipe.get("reward", "conjunctive") == "conjunctive":
        return None
    size, scale = recipe["num_generations"], recipe["scale_rewards"]
    right, wrong = (float32_advantage(task + bonus, size, scale) for task in (1.0, 0.0))
    rows = [row for row in read_log(run) if "groups/all_pass" in row]  # a batch's second update does not log them
    alone = [row["step"] for row in rows if row.get("examples/rate") == 1
             and row["groups/all_pass"] + row["groups/all_fail"] > 1 - 1e-6]  # fmt: skip
    found = {
        "study": run.parents[1].name, "variant": run.parent.name, "seed": int(run.name.removeprefix("seed-")),
        "advantage": {"right": right, "wrong": wrong}, "batches": len(rows), "touched": None, "groups": None,
        "no_contrast": len(alone), "steps": None, "no_contrast_steps": ranges(alone),
    }  # fmt: skip
    if right and recipe["beta"] == 0:
        prompts = config["profile"]["prompts_per_step"] * (10 / size if recipe["equal_rollouts"] else 1)
        solved = {row["step"]: max(0, round(-row["loss"] / right * prompts)) for row in rows}
        failed = {
            row["step"]: max(0, round(-row["loss"] / wrong * prompts)) if wrong and row["groups/all_fail"] == 1 else 0
            for row in rows
        }
        steps = [step for step in solved if solved[step] + failed[step] > 0]
        found |= {"touched": len(steps), "groups": [sum(solved.values()), sum(failed.values())], "steps": ranges(steps)}
    return found


def ranges(steps):
    """[1, 3, 5, 9] -> "1-5 9": steps of one stride, as text (the stride is that of a batch's updates)."""
    parts, stride = [], min((b - a for a, b in zip(steps, steps[1:])), default=1)
    for step in steps:
        if parts and step - parts[-1][1] == stride:
            parts[-1][1] = step
        else:
            parts.append([step, step])
    return " ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found = []
    for study in sorted((REPOSITORY / "assets" / "runs").iterdir()):
        for runs in find_runs(study).values():
            found += [row for run in runs if (row := touched(run))]
    for row in found:
        print(f"{row['study']}/{row['variant']}/seed-{row['seed']}: {row['touched']} of {row['batches']} batches, "
              f"{row['groups']} groups; {row['no_contrast']} without contrast", flush=True)  # fmt: skip
    if arguments.out:
        write_json(arguments.out, {"runs": found})


if __name__ == "__main__":
    main()
