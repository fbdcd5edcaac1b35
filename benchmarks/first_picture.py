"""From nothing to the first picture of notebook 00: clone, environment, cells; in a folder of its own.

    python benchmarks/first_picture.py --out assets/benchmarks/first_picture.json

The clone is one of this folder's last commit, so what is not measured is the way to a server. Packages come from where
pip finds them; those that its cache holds are not downloaded, and the result says so.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from toolexpander_lite.base.runs import REPOSITORY, read_json, software_versions, write_json
from toolexpander_lite.models.hardware import describe_hardware


def first_picture(notebook):
    """When the first cell with a picture had been run -> seconds since 1970."""
    for cell in notebook["cells"]:
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", ())):
            return datetime.fromisoformat(cell["metadata"]["execution"]["shell.execute_reply"]).timestamp()
    sys.exit("no cell of the notebook has a picture")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    seconds, load = {}, os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        kit = Path(folder, "kit")
        python = kit / ".venv" / "bin" / "python"
        steps = {
            "clone": (folder, ["git", "clone", "-q", "--depth", "1", REPOSITORY.as_uri(), str(kit)]),
            "environment": (kit, [sys.executable, "-c", "import kit; kit.set_up()"]),
            "notebook 00": (kit, [str(python), "-m", "toolexpander_lite", "notebooks", "--only", "00"]),
        }
        for what, (where, command) in steps.items():
            began = time.time()
            subprocess.run(command, cwd=where, env=environment, check=True)
            seconds[what] = round(time.time() - began, 1)
            print(f"{what}: {seconds[what]} s", flush=True)
        copy = read_json(kit / "out" / "notebooks" / "00_start_here.ipynb")
        seconds["first picture, from the notebook's start"] = round(first_picture(copy) - began, 1)
    machine = {"machine": str(describe_hardware()), "cores": os.cpu_count(), "load_before": round(load, 1)}
    about = {"packages": "from pip's cache, where it has them", "versions": software_versions()}
    write_json(arguments.out, {"seconds": seconds, **machine, **about})


if __name__ == "__main__":
    main()
