"""Seconds per step: the stock `GRPOTrainer` against `train()`, side by side in one run, at the same tokens.

    python benchmarks/step_time.py [--rounds 4] [--steps 14] [--out assets/benchmarks/step_time.json]
    python benchmarks/step_time.py --recipe toolexpander --profile nano-rare --steps 26

Both have the same base, seed and trainer settings. `train()` goes once without being measured; the stock trainer is
handed the very prompts that were served there, demonstrations included, and the task reward. The learning rate is next
to nothing, so both draw the same rollouts, and the logs of both are compared to make sure. What `train()` adds is the
pool, the choice of demonstrations, the judging of examples, the record of rollouts and the run log. The two take turns,
in the other order each round, so that a slow spell of the machine hits both. Evaluations and checkpoints are switched
off; the first two steps of each turn are warm-up and left out. A step is one batch of rollouts with all its updates.
Beside the clock's time stands that of the processor, which other jobs on the machine disturb less.
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
    """Notes both times and the mean length at each batch's first log: between two of them lies one whole step."""

    def __init__(self):
        self.wall, self.processor, self.lengths = [], [], []

    def note(self, row):
        if "reward" in row:  # not in the log of a second update on the same rollouts
            self.wall.append(time.perf_counter())
            self.processor.append(time.process_time())
            self.lengths.append(row["completions/mean_length"])

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.note(logs)

    def steps(self, count):
        """{"wall", "processor"}: the seconds of each measured step."""
        return {
            name: [b - a for a, b in zip(times, times[1:])][WARM_UP:][:count]
            for name, times in (("wall", self.wall), ("processor", self.processor))
        }


def ours(recipe, profile, folder):
    """-> (`Clock`, rows as they were served)."""
    clock, rows = Clock(), []
    record = RolloutRecorder.__call__

    def spy(self, prompts, completions, calls, tools, **columns):
        n = self.num_generations
        rows.extend({"prompt": p, "calls": c, "tools": t} for p, c, t in zip(prompts[::n], calls[::n], tools[::n]))
        return record(self, prompts=prompts, completions=completions, calls=calls, tools=tools, **columns)

    RolloutRecorder.__call__ = spy
    try:
        train(recipe, profile, 0, folder, progress=clock.note)
    finally:
        RolloutRecorder.__call__ = record
    return clock, rows


def stock(recipe, profile, folder, rows):
    """-> `Clock`."""
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
    return clock


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
    with tempfile.TemporaryDirectory() as folder:
        first, rows = ours(recipe, profile, Path(folder) / "first")
        served = [json.loads(line)["served"] for line in (Path(folder) / "first" / "rollouts.jsonl").open()]
        demonstrated = sum(mode != "plain" for mode in served) / len(served)
        sides = [(us, lambda out: ours(recipe, profile, out)[0]),
                 ("stock GRPOTrainer", lambda out: stock(recipe, profile, out, rows))]  # fmt: skip
        for turn in range(arguments.rounds):
            for name, run in sides if turn % 2 else sides[::-1]:
                clock = run(Path(folder) / f"{turn}-{name[:5]}")
                if max(abs(a - b) for a, b in zip(clock.lengths, first.lengths)) > 1e-3:  # logs have six digits
                    raise SystemExit("the two sides did not draw the same rollouts, so their times cannot be compared")
                measured[name].append(clock.steps(arguments.steps - 3))
            last = {name: statistics.mean(rounds[-1]["wall"]) for name, rounds in measured.items()}
            print(f"round {turn + 1}: " + ", ".join(f"{k} {v:.3f} s" for k, v in last.items()), flush=True)

    def fastest(name, clock):
        """Mean over the steps of the fastest round of each: noise only ever adds time."""
        return statistics.mean(map(min, zip(*(one[clock] for one in measured[name]))))

    best = {name: fastest(name, "wall") for name in measured}
    ratio = best[us] / best["stock GRPOTrainer"]
    processor = fastest(us, "processor") / fastest("stock GRPOTrainer", "processor")
    print(*(f"{k}: {v:.3f} s per step" for k, v in best.items()), f"ratio {ratio:.3f}", sep="\n")
    print(f"ratio of processor time {processor:.3f}")
    print(f"{demonstrated:.0%} of the groups were served with a demonstration")
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(arguments.out, {
            "recipe": recipe.name, "profile": arguments.profile, "demonstrated": round(demonstrated, 3),
            "seconds_per_step": {k: round(v, 4) for k, v in best.items()}, "ratio": round(ratio, 4),
            "processor_ratio": round(processor, 4),
            "rounds": arguments.rounds, "steps": len(measured[us][0]["wall"]), "threads": torch.get_num_threads(),
            "machine": str(describe_hardware()), "versions": software_versions(),
        })  # fmt: skip
        print(json.loads(arguments.out.read_text())["machine"])


if __name__ == "__main__":
    main()
