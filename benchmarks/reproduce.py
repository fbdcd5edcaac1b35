"""How long `kit.py reproduce` takes in a fresh clone, and how much memory: all its processes together, once a second.

    python benchmarks/reproduce.py [--live] --out assets/benchmarks/reproduce.json

The environment is made first and timed apart. It wants the machine for itself; the load before it is noted.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from toolexpander_lite.base.runs import REPOSITORY, software_versions, write_json
from toolexpander_lite.models.hardware import describe_hardware


def memory_of(process, peak, ended):
    """Keep the largest sum of what a process and those it started hold, in bytes, in `peak[0]`."""
    while not ended.wait(1):
        held = 0
        for each in [process, *process.children(recursive=True)]:
            try:
                held += each.memory_full_info().pss  # pages that several share are counted once
            except psutil.Error:
                pass  # it has just ended
        peak[0] = max(peak[0], held)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--live", action="store_true", help="the real model's live runs of notebook 05 too")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "OMP_NUM_THREADS")}
    load, notebooks, peak, ended = os.getloadavg()[0], {}, [0], threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        kit = Path(folder, "kit")
        subprocess.run(["git", "clone", "-q", "--depth", "1", REPOSITORY.as_uri(), str(kit)], check=True)
        began = time.time()
        subprocess.run([sys.executable, "-c", "import kit; kit.set_up()"], cwd=kit, env=environment, check=True)
        made = time.time()
        command = [sys.executable, "-u", "kit.py", "reproduce", *(["--live"] if given.live else [])]
        run = subprocess.Popen(command, cwd=kit, env=environment, stdout=subprocess.PIPE, text=True)
        watch = threading.Thread(target=memory_of, args=(psutil.Process(run.pid), peak, ended))
        watch.start()
        for line in run.stdout:
            print(line, end="", flush=True)
            if found := re.match(r"(\S+\.ipynb): (\d+) s; ", line):
                notebooks[found[1]] = int(found[2])
        ended.set()
        watch.join()
        if run.wait():
            sys.exit(run.returncode)
        seconds = {"environment": round(made - began), "reproduce": round(time.time() - made)}
    machine = {"machine": str(describe_hardware()), "cores": os.cpu_count(), "load_before": round(load, 1)}
    about = {"packages": "from pip's cache, where it has them", "versions": software_versions()}
    result = {"seconds": seconds, "notebooks": notebooks, "peak_gib": round(peak[0] / 2**30, 1), "live": given.live}
    write_json(given.out, result | machine | about)
    print(f"{seconds['reproduce']} s after the environment, {result['peak_gib']} GiB at most")


if __name__ == "__main__":
    main()
