"""What the hard sample pool costs: time of a step when nothing is hard, and memory for a million samples.

    python benchmarks/pool_cost.py [--rounds 4] [--steps 14] [--out assets/benchmarks/pool_cost.json]

Time: `train("grpo")` and `train("hard_sampling")` take turns on the same prompts. The pool's window is set so wide that
nothing becomes hard; both then sample the same rollouts, and the difference is the pool's.
Memory: growth of the process when a pool is made, and when every sample has been observed and found hard (the most it
ever has to remember), with the time of one step's share of the work, counts included.
"""

import argparse
import functools
import resource
import tempfile
import time
from pathlib import Path

import torch

from toolexpander_lite import train as training
from toolexpander_lite.hardware import describe_hardware
from toolexpander_lite.profiles import get_profile
from toolexpander_lite.runs import software_versions, write_json
from toolexpander_lite.sample_pool import HardSamplePool

WARM_UP = 2
PROMPTS = 16  # of a nano step


def step_times(recipe, profile, folder):
    times = []
    training.train(recipe, profile, 0, folder, progress=lambda row: times.append(time.perf_counter()))
    return [b - a for a, b in zip(times[1:], times[2:])][WARM_UP:-1]  # the last step ends with an evaluation


def resident():
    """MiB this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory(samples):
    ids = [f"sample-{n:09d}" for n in range(samples)]
    before = resident()
    pool = HardSamplePool(ids)
    fresh = resident()
    for step, id in enumerate(ids):
        pool.observe(id, "plain", 10, 0, step // PROMPTS)
    full = resident()
    began = time.perf_counter()
    for id in ids[:PROMPTS]:
        pool.mode(id), pool.visits(id), pool.observe(id, "demonstrated", 10, 0, 1)
    pool.counts()
    step = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder:
        pool.save(Path(folder) / "pool.json")
        saved = (Path(folder) / "pool.json").stat().st_size / 2**20
    return {"samples": samples, "MiB_new": round(fresh - before), "MiB_all_hard": round(full - before),
            "MiB_on_disk": round(saved), "seconds_of_a_step": round(step, 4)}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=14)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    held = memory(arguments.samples)
    print(held, flush=True)
    training.HardSamplePool = functools.partial(HardSamplePool, window=10**9)
    profile = get_profile("nano", steps=arguments.steps + 1, eval_every=arguments.steps + 1)
    measured = {"grpo": [], "hard_sampling, nothing hard": []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(arguments.rounds):
            for name, times in measured.items():
                times.append(step_times(name.split(",")[0], profile, Path(folder) / f"{turn}-{len(name)}"))
            print(f"round {turn + 1}: " + ", ".join(f"{k} {v[-1][-1]:.3f} s" for k, v in measured.items()), flush=True)
    # The fastest of the rounds for each step: noise only ever adds time.
    best = {k: sum(map(min, zip(*v))) / len(v[0]) for k, v in measured.items()}
    ratio = best["hard_sampling, nothing hard"] / best["grpo"]
    print(*(f"{k}: {v:.3f} s per step" for k, v in best.items()), f"ratio {ratio:.3f}", sep="\n")
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(arguments.out, {
            "seconds_per_step": {k: round(v, 4) for k, v in best.items()}, "ratio": round(ratio, 4),
            "rounds": arguments.rounds, "memory": held, "threads": torch.get_num_threads(),
            "machine": str(describe_hardware()), "versions": software_versions(),
        })  # fmt: skip


if __name__ == "__main__":
    main()
