"""Where a nano GRPO step spends its time: generation, scoring, learning, rewards, and the rest.

    python benchmarks/where_time_goes.py [--steps 20] [--out assets/benchmarks/where_time_goes.json]

Puts a clock around the trainer's own methods for the length of this script.
"""

import argparse
import functools
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import torch
from accelerate import Accelerator
from transformers import GenerationMixin
from trl import GRPOTrainer

from toolexpander_lite.base.runs import read_log, software_versions, write_json
from toolexpander_lite.models import shared_prompt
from toolexpander_lite.models.hardware import describe_hardware
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.train import train

SAMPLING = "model: sampling the rollouts"
spent = defaultdict(float)
running = []  # names of the clocks that run, outermost first: a nested one takes its time from the outer


def clock(owner, method, name):
    original = getattr(owner, method)

    @functools.wraps(original)
    def timed(*args, **kwargs):
        if name == SAMPLING and not running:  # an evaluation, outside of any step
            return original(*args, **kwargs)
        running.append(name)
        began = time.perf_counter()
        try:
            return original(*args, **kwargs)
        finally:
            took = time.perf_counter() - began
            running.pop()
            spent[name] += took
            if running:
                spent[running[-1]] -= took

    setattr(owner, method, timed)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    clock(GRPOTrainer, "training_step", "the rest: trainer, sampler, bookkeeping")
    clock(GenerationMixin, "generate", SAMPLING)
    clock(shared_prompt, "generate", SAMPLING)  # what a model that shares prompts has in its place
    clock(GRPOTrainer, "_get_per_token_logps_and_entropies", "model: forward (policy and reference)")
    clock(Accelerator, "backward", "model: backward")
    clock(torch.optim.AdamW, "step", "model: optimizer")
    clock(GRPOTrainer, "_calculate_rewards", "ours: reward, verdicts, rollouts.jsonl")
    with tempfile.TemporaryDirectory() as folder:
        profile = get_profile("nano", steps=arguments.steps, eval_every=10**6)
        run = train("grpo", profile, 0, Path(folder) / "run")
        seconds = read_log(run)[-1]["seconds"]
    # What no clock saw of a step, gradient clipping for one, belongs to the rest.
    spent["the rest: trainer, sampler, bookkeeping"] += seconds - sum(spent.values())
    shares = {name: value / seconds for name, value in sorted(spent.items(), key=lambda item: -item[1])}
    for name, share in shares.items():
        print(f"{share:6.1%}  {name}")
    print(f"{seconds / arguments.steps:.3f} s per step")
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(arguments.out, {
            "shares": {k: round(v, 4) for k, v in shares.items()},
            "seconds_per_step": round(seconds / arguments.steps, 4),
            "threads": torch.get_num_threads(), "machine": str(describe_hardware()), "versions": software_versions(),
        })  # fmt: skip


if __name__ == "__main__":
    main()
