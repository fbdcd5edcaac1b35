"""With which versions of the libraries does the kit work? Writes assets/benchmarks/versions.json.

Three environments: the oldest versions that requirements.txt allows, the newest, and for each library the one in the
middle of those. In each, the tests below and notebook 01 in its quick mode are run. torch is the same in all three,
since another build of it is a download of gigabytes.

    python benchmarks/versions.py [--only oldest] [--environments FOLDER]

An environment that is there already is used again. What failed is in the file too: names, not only numbers.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import venv
import xml.etree.ElementTree as xml
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "assets" / "benchmarks" / "versions.json"
TORCH = "2.13.0"
KINDS = ("oldest", "between", "newest")
# The fast part of the tests: what each library is called by, no study and no benchmark.
TESTS = (
    "calls", "formats", "memory", "models", "prompts", "rewards", "rounds", "shared_prompt", "sources", "templates",
    "warm_start",
)  # fmt: skip


def requirements():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]


def pip(*arguments):
    done = subprocess.run([sys.executable, "-m", "pip", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"pip {' '.join(map(str, arguments))}\n{done.stderr[-2000:]}")
    return done.stdout


def allowed_versions(requirement):
    """Releases that a requirement allows, oldest first -> list of str."""
    listed = re.search(r"Available versions: (.*)", pip("index", "versions", requirement.name))[1].split(", ")
    return sorted((v for v in listed if v in requirement.specifier), key=Version)


def choose(kind):
    """{name: version} of one environment."""
    pins = {}
    for requirement in requirements():
        versions = allowed_versions(requirement)
        place = {"oldest": 0, "between": len(versions) // 2, "newest": -1}[kind]
        pins[requirement.name] = TORCH if requirement.name == "torch" else versions[place]
    return pins


def make_environment(kind, folder):
    """A virtual environment with the libraries of a kind -> (its Python, its pins)."""
    place, note = folder / kind, folder / kind / "pins.json"
    python = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    named = {requirement.name for requirement in requirements()}
    known = json.loads(note.read_text()) if note.is_file() else {}
    if set(known) != named or any(known[need.name] not in need.specifier for need in requirements()):
        pins = choose(kind)
        venv.EnvBuilder(with_pip=False, symlinks=os.name != "nt").create(place)
        wanted = [f"{name}=={version}" for name, version in pins.items()]
        pip("--python", python, "install", "--quiet", *wanted, "pytest", "hypothesis")
        note.write_text(json.dumps(pins))
    return python, json.loads(note.read_text())


def run_tests(python, environment):
    """{"passed", "failed", "skipped", "seconds", "failures": names}"""
    files = [f"tests/test_{name}.py" for name in TESTS]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *files]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if not report.is_file():
            return {"passed": 0, "failed": None, "error": (done.stdout + done.stderr)[-600:]}
        cases = list(xml.parse(report).getroot().iter("testcase"))
        failures = sorted(
            f"{case.get('classname').removeprefix('tests.')}::{case.get('name')}"
            for case in cases if case.find("failure") is not None or case.find("error") is not None
        )  # fmt: skip
        skipped = sum(case.find("skipped") is not None for case in cases)
        return {
            "passed": len(cases) - len(failures) - skipped, "failed": len(failures), "skipped": skipped,
            "seconds": round(sum(float(case.get("time")) for case in cases)), "failures": failures,
        }  # fmt: skip


def run_notebook(python, environment):
    """{"ok", "error"}: does notebook 01 run from top to bottom?"""
    with tempfile.TemporaryDirectory() as folder:
        command = [python, "-m", "toolexpander_lite", "notebooks", "--quick", "--only", "01", "--out", folder]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    return {"ok": done.returncode == 0, "error": "" if done.returncode == 0 else done.stderr.strip()[-600:]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=KINDS, help="one environment; the others' results stay in the file")
    parser.add_argument("--environments", type=Path, default=ROOT / "out" / "versions", help="where they are made")
    parser.add_argument("--install", action="store_true", help="make the environments and stop")
    options = parser.parse_args()
    known = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    results, earlier = known.get("environments", {}), known.get("earlier", [])
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    for kind in KINDS if options.only is None else (options.only,):
        python, pins = make_environment(kind, options.environments.resolve())
        if options.install:
            continue
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        found = json.loads(pip("--python", python, "list", "--format", "json"))
        names = {*pins, "numpy", "tokenizers", "huggingface_hub"}
        versions = {row["name"]: row["version"].partition("+")[0] for row in found if row["name"] in names}
        if results.get(kind, {}).get("tests", {}).get("failures"):
            earlier.append({"environment": kind, **results[kind]})  # why a bound was raised
        results[kind] = {
            "commit": commit.strip(), "versions": versions, "test_files": TESTS,
            "tests": run_tests(python, environment), "notebook_01_quick": run_notebook(python, environment),
        }  # fmt: skip
        note = f"torch is {TORCH} in all environments: other builds are downloads of gigabytes and were not tried"
        RESULTS.write_text(json.dumps({
            "python": sys.version.split()[0], "note": note, "earlier": earlier,
            "environments": {k: results[k] for k in KINDS if k in results},
        }, indent=1) + "\n")  # fmt: skip
        print(kind, {k: v for k, v in results[kind].items() if k != "versions"}, flush=True)


if __name__ == "__main__":
    main()
