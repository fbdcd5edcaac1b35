"""What the hard sample pool costs: time of a step when nothing is hard, and memory for a million samples.

    python benchmarks/pool_cost.py [--steps 16] [--out assets/benchmarks/pool_cost.json]

Time: `train("grpo")`, `train("hard_sampling")` and `train("grpo")` once more take turns, see `turns.py`, on the same
prompts. The pool's window is set so wide that nothing becomes hard, and the learning rate so low that nothing changes;
all then sample the same rollouts, and the difference is the pool's.
Memory: growth of the process when a pool is made, and when every sample has been observed and found hard (the most it
ever has to remember), with the time of one step's share of the work, counts included.
"""

import argparse
import functools
import resource
import tempfile
import time
from pathlib import Path

from turns import compare, in_the_studies_environment, take_turns

from toolexpander_lite.base.runs import software_versions, write_json
from toolexpander_lite.models.hardware import describe_hardware
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.train import train
from toolexpander_lite.variants import assemble_any as assembling
from toolexpander_lite.variants.all_recipes import get_recipe
from toolexpander_lite.variants.visit_pool import VisitPool

PROMPTS = 16  # of a nano step


def resident():
    """MiB this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory(samples):
    ids = [f"sample-{n:09d}" for n in range(samples)]
    before = resident()
    pool = VisitPool(ids)
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
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    held = memory(arguments.samples)
    print(held, flush=True)
    assembling.VisitPool = functools.partial(VisitPool, window=10**9)
    profile = get_profile("nano", steps=arguments.steps + 1, eval_every=arguments.steps + 1)
    with tempfile.TemporaryDirectory() as folder:

        def run(recipe, out):
            recipe = get_recipe(recipe, learning_rate=1e-9)
            return lambda note: train(recipe, profile, 0, out, progress=note)

        def sides(number):
            out = Path(folder) / str(number)
            return {
                "grpo": run("grpo", out / "before"),
                "hard_sampling, nothing hard": run("hard_sampling", out / "pool"),
                "grpo, again": run("grpo", out / "after"),
            }

        found = compare(take_turns(sides, arguments.steps))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(arguments.out, {
            **found, "memory": held,
            "machine": str(describe_hardware()), "versions": software_versions(),
        })  # fmt: skip


if __name__ == "__main__":
    in_the_studies_environment()
    main()
