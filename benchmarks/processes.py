"""Step time of a run on several processes of this machine's CPU over that on one, as a ratio; one thread each.

    python benchmarks/processes.py [--processes 2] [--steps 8] [--out assets/benchmarks/processes.json]

Both runs have the same recipe, rows and rollouts per step, one after the other. The first two steps are not counted. On
a machine that is busy with other work the ratio says little; its load is noted.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from toolexpander_lite.base.runs import read_log, software_versions, write_json
from toolexpander_lite.models.hardware import describe_hardware

ROOT = Path(__file__).resolve().parents[1]


def step_seconds(number, steps, folder):
    """Median seconds of a step on so many processes -> float."""
    start = [f"--nproc-per-node={number}", "--standalone", "-m"]
    start = ["-m", "torch.distributed.run", *start] if number > 1 else ["-m"]
    asked = ["--recipe", "hard_sampling", "--steps", str(steps), "--eval-every", str(steps)]
    small = ["--profile-set", "eval_prompts=1", "--out", str(folder / str(number))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *start, "toolexpander_lite", "train", *asked, *small]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    ends = [row["seconds"] for row in read_log(folder / str(number))]
    return statistics.median(b - a for a, b in zip(ends[2:], ends[3:]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--out", type=Path, default=ROOT / "assets/benchmarks/processes.json")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        seconds = {number: step_seconds(number, given.steps, Path(folder)) for number in (1, given.processes)}
    ratio = round(seconds[given.processes] / seconds[1], 3)
    result = {
        "processes": given.processes, "seconds_per_step": seconds, "ratio": ratio, "steps": given.steps - 2,
        "load_before": round(load, 1), "load_after": round(os.getloadavg()[0], 1), "cores": os.cpu_count(),
        "machine": str(describe_hardware()), "versions": software_versions(),
    }  # fmt: skip
    write_json(given.out, result)
    print(f"{given.processes} processes / 1: {ratio}, at a load of {load:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
