"""Seconds per step: the stock `GRPOTrainer` against `train("grpo")`, side by side in one run.

    python benchmarks/step_time.py [--rounds 4] [--steps 14] [--out assets/benchmarks/step_time.json]

Both do the same work (same base, seed, prompts and so the same rollouts); what `train()` adds is the record of
rollouts and the run log. The two take turns, so that a slow spell of the machine hits both. Evaluations and
checkpoints are switched off on both sides; the first two steps of each turn are warm-up and left out.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from transformers import PrinterCallback, TrainerCallback, set_seed
from trl import GRPOTrainer

from toolexpander_lite.hardware import describe_hardware
from toolexpander_lite.models import load_policy
from toolexpander_lite.profiles import get_profile
from toolexpander_lite.recipes import get_recipe
from toolexpander_lite.rewards import conjunctive_reward
from toolexpander_lite.runs import software_versions, write_json
from toolexpander_lite.splits import in_training_order, load_splits, training_rows
from toolexpander_lite.train import grpo_config, train

WARM_UP = 2


class Clock(TrainerCallback):
    """Notes the time at each step's log: between two of them lies one whole step, logging included."""

    def __init__(self):
        self.times = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "reward" in logs:
            self.times.append(time.perf_counter())


def durations(times):
    return [b - a for a, b in zip(times, times[1:])][WARM_UP:]


def stock(profile, folder):
    set_seed(0)
    model, tokenizer = load_policy(profile)
    rows = training_rows(load_splits(profile, 0, tokenizer).train, tokenizer)
    rows = in_training_order(rows, profile.steps * profile.prompts_per_step, 0)
    config = grpo_config(get_recipe("grpo"), profile, 0, folder, describe_hardware())
    clock = Clock()
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=conjunctive_reward,
        args=config,
        train_dataset=rows,
        processing_class=tokenizer,
        callbacks=[clock],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return durations(clock.times)


def ours(profile, folder):
    times = []
    train("grpo", profile, 0, folder, progress=lambda row: times.append(time.perf_counter()))
    # The first time is that of step 0's evaluation.
    return durations(times[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=14)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    # One evaluation and checkpoint at the very end, after the last measured step.
    profile = get_profile("nano", steps=arguments.steps + 1, eval_every=arguments.steps + 1)
    measured = {"stock GRPOTrainer": [], "train('grpo')": []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(arguments.rounds):
            measured["stock GRPOTrainer"].append(stock(profile, Path(folder) / f"stock-{turn}")[: arguments.steps - 3])
            measured["train('grpo')"].append(ours(profile, Path(folder) / f"ours-{turn}")[: arguments.steps - 3])
            print(
                f"round {turn + 1}: " + ", ".join(f"{k} {statistics.mean(v[-1]):.3f} s" for k, v in measured.items()),
                flush=True,
            )
    # The fastest of the rounds for each step: noise only ever adds time.
    best = {k: sum(map(min, zip(*v))) / len(v[0]) for k, v in measured.items()}
    ratio = best["train('grpo')"] / best["stock GRPOTrainer"]
    print(*(f"{k}: {v:.3f} s per step" for k, v in best.items()), f"ratio {ratio:.3f}", sep="\n")
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(arguments.out, {
            "seconds_per_step": {k: round(v, 4) for k, v in best.items()}, "ratio": round(ratio, 4),
            "rounds": arguments.rounds, "steps": len(measured["train('grpo')"][0]), "threads": torch.get_num_threads(),
            "machine": str(describe_hardware()), "versions": software_versions(),
        })  # fmt: skip
        print(json.loads(arguments.out.read_text())["machine"])


if __name__ == "__main__":
    main()
