"""Seconds per step: the stock `GRPOTrainer` against `train()`, side by side in one run, at the same tokens.

    python benchmarks/step_time.py [--rounds 4] [--steps 14] [--out assets/benchmarks/step_time.json]
    python benchmarks/step_time.py --recipe toolexpander --profile nano-rare --steps 26

Both have the same base, seed and trainer settings. `train()` goes first; the stock trainer is then handed the very
prompts that were served, demonstrations included, and the task reward. The learning rate is next to nothing, so both
draw the same rollouts, and the logs of both are compared to make sure. What `train()` adds is the pool, the choice of
demonstrations, the judging of examples, the record of rollouts and the run log. The two take turns, so that a slow
spell of the machine hits both. Evaluations and checkpoints are switched off; the first two steps of each turn are
warm-up and left out. A step is one batch of rollouts with all its updates.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback, set_seed
from trl import GRPOTrainer

from toolexpander_lite.hardware import describe_hardware
from toolexpander_lite.models import load_policy
from toolexpander_lite.profiles import get_profile
from toolexpander_lite.recipes import get_recipe
from toolexpander_lite.recording import RolloutRecorder
from toolexpander_lite.rewards import conjunctive_reward
from toolexpander_lite.runs import software_versions, write_json
from toolexpander_lite.train import grpo_config, train

WARM_UP = 2


class Clock(TrainerCallback):
    """Notes the time and the mean length at each batch's first log: between two of them lies one whole step."""

    def __init__(self):
        self.times, self.lengths = [], []

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "reward" in logs:  # not in the log of a second update on the same rollouts
            self.times.append(time.perf_counter())
            self.lengths.append(logs["completions/mean_length"])


def durations(times):
    return [b - a for a, b in zip(times, times[1:])][WARM_UP:]


def ours(recipe, profile, folder):
    """-> (seconds of each step, mean length of each step's completions, rows as they were served)."""
    times, lengths, rows = [], [], []
    record = RolloutRecorder.__call__

    def spy(self, prompts, completions, calls, tools, **columns):
        n = self.num_generations
        rows.extend({"prompt": p, "calls": c, "tools": t} for p, c, t in zip(prompts[::n], calls[::n], tools[::n]))
        return record(self, prompts=prompts, completions=completions, calls=calls, tools=tools, **columns)

    def note(row):
        if "reward" in row:
            times.append(time.perf_counter())
            lengths.append(row["completions/mean_length"])

    RolloutRecorder.__call__ = spy
    try:
        train(recipe, profile, 0, folder, progress=note)
    finally:
        RolloutRecorder.__call__ = record
    return durations(times), lengths, rows


def stock(recipe, profile, folder, rows):
    """-> (seconds of each step, mean length of each step's completions)."""
    set_seed(0)
    model, tokenizer = load_policy(profile)
    clock = Clock()
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=conjunctive_reward,
        args=grpo_config(recipe, profile, 0, folder, describe_hardware()),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[clock],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return durations(clock.times), clock.lengths


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=14)
    parser.add_argument("--recipe", default="grpo")
    parser.add_argument("--profile", default="nano")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    recipe = get_recipe(arguments.recipe, learning_rate=1e-12)
    # One evaluation and checkpoint at the very end, after the last measured step.
    profile = get_profile(arguments.profile, steps=arguments.steps + 1, eval_every=arguments.steps + 1)
    us = f"train({recipe.name!r})"
    measured = {"stock GRPOTrainer": [], us: []}
    demonstrated = 0
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(arguments.rounds):
            seconds, lengths, rows = ours(recipe, profile, Path(folder) / f"ours-{turn}")
            measured[us].append(seconds[: arguments.steps - 3])
            seconds, stock_lengths = stock(recipe, profile, Path(folder) / f"stock-{turn}", rows)
            measured["stock GRPOTrainer"].append(seconds[: arguments.steps - 3])
            if max(abs(a - b) for a, b in zip(lengths, stock_lengths)) > 1e-3:  # logs have six digits
                raise SystemExit("the two sides did not draw the same rollouts, so their times cannot be compared")
            served = [json.loads(line)["served"] for line in (Path(folder) / f"ours-{turn}" / "rollouts.jsonl").open()]
            demonstrated = sum(mode != "plain" for mode in served) / len(served)
            print(
                f"round {turn + 1}: " + ", ".join(f"{k} {statistics.mean(v[-1]):.3f} s" for k, v in measured.items()),
                flush=True,
            )
    # The fastest of the rounds for each step: noise only ever adds time.
    best = {k: sum(map(min, zip(*v))) / len(v[0]) for k, v in measured.items()}
    ratio = best[us] / best["stock GRPOTrainer"]
    print(*(f"{k}: {v:.3f} s per step" for k, v in best.items()), f"ratio {ratio:.3f}", sep="\n")
    print(f"{demonstrated:.0%} of the groups were served with a demonstration")
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(arguments.out, {
            "recipe": recipe.name, "profile": arguments.profile, "demonstrated": round(demonstrated, 3),
            "seconds_per_step": {k: round(v, 4) for k, v in best.items()}, "ratio": round(ratio, 4),
            "rounds": arguments.rounds, "steps": len(measured[us][0]), "threads": torch.get_num_threads(),
            "machine": str(describe_hardware()), "versions": software_versions(),
        })  # fmt: skip
        print(json.loads(arguments.out.read_text())["machine"])


if __name__ == "__main__":
    main()
