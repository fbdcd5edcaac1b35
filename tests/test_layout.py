"""The rooms of the package: what may import what, how long they are, and that each says what it holds.

`python -m pytest tests/test_layout.py -s` prints lines per room and the import contract.
"""

import ast
import os
import re
import subprocess
import sys
import tomllib

import pytest

from toolexpander_lite.base.runs import REPOSITORY

PACKAGE = REPOSITORY / "toolexpander_lite"
ROOMS = (
    "base", "doctor", "method", "variants", "worlds", "data", "models", "evaluation", "training", "studies", "widgets",
)  # fmt: skip
SLOW = ("datasets", "pandas", "pyarrow", "scipy", "jsonschema", "jinja2")  # what takes a second or more to import
HEAVY = ("torch", "transformers", "trl", "accelerate", "peft")


def modules(room):
    return sorted((PACKAGE / room).rglob("*.py"))


def lines(paths):
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)


def long_functions(room, most=60):
    return [
        f"{path.name}:{node.lineno} {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for path in modules(room)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno - node.lineno >= most
    ]


def contract(folder=REPOSITORY):
    """What import-linter says of the package that lies in `folder`: (exit status, text)."""
    command = [sys.executable, "-c", "import sys; from importlinter.cli import lint_imports_command as c; c()",
               "--no-cache", "--no-logo"]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(folder), "COLUMNS": "200"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_lines_per_room():
    table = [(room, len(modules(room)), lines(modules(room))) for room in ROOMS]
    top = sorted(PACKAGE.glob("*.py"))
    table += [("(top)", len(top), lines(top))]
    assert {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(ROOMS)
    print("\n\nroom         files  lines")
    for room, files, count in table:
        print(f"{room:<12} {files:>5} {count:>6,}")
    print(f"{'together':<12} {sum(row[1] for row in table):>5} {sum(row[2] for row in table):>6,}")


def test_a_room_imports_only_rooms_below_it():
    status, text = contract()
    print("\n" + text)
    assert status == 0, text


def test_an_import_upwards_is_found_inside_a_function_too(tmp_path):
    for room in ROOMS:
        (tmp_path / "toolexpander_lite" / room).mkdir(parents=True)
        (tmp_path / "toolexpander_lite" / room / "__init__.py").touch()
    (tmp_path / "toolexpander_lite" / "__init__.py").touch()
    (tmp_path / "toolexpander_lite" / "__main__.py").touch()
    kept = [line for line in (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8").splitlines()
            if not line.startswith('    "toolexpander_lite.')]  # fmt: skip
    (tmp_path / "pyproject.toml").write_text("\n".join(kept))
    assert contract(tmp_path)[0] == 0
    late = "def f():\n    from ..training import train\n"
    (tmp_path / "toolexpander_lite" / "method" / "pool.py").write_text(late)
    status, text = contract(tmp_path)
    assert status == 1 and "toolexpander_lite.method is not allowed to import toolexpander_lite.training" in text


def test_the_package_is_listed_whole():
    """What pip installs: rooms are found, not listed by hand, and every file of theirs that is no code is data."""
    from setuptools import find_packages

    found = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    names = find_packages(REPOSITORY, **found["packages"]["find"])
    assert set(names) == {"toolexpander_lite", *(f"toolexpander_lite.{room}" for room in ROOMS)}
    assert all((PACKAGE / room / "__init__.py").exists() for room in ROOMS)
    patterns = {room: found["package-data"].get(f"toolexpander_lite.{room}", ()) for room in ROOMS}
    data = {path for room in ROOMS for pattern in patterns[room] for path in (PACKAGE / room).glob(pattern)}
    left = {path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc", ".md")} - data
    assert not left, left


def test_the_method_can_be_read_without_torch():
    """Every file of method/, imported where torch, transformers and trl are not installed; nothing slow comes along."""
    names = [f"toolexpander_lite.method.{path.stem}" for path in modules("method") if path.stem != "__init__"]
    code = (
        "import importlib, sys, time\n"
        f"sys.modules.update(dict.fromkeys({HEAVY!r}))\n"
        "begin = time.perf_counter()\n"
        f"[importlib.import_module(name) for name in {names!r}]\n"
        "rooms = {name.split('.')[1] for name in sys.modules if name.startswith('toolexpander_lite.')}\n"
        "assert rooms <= {'method', 'base'}, rooms\n"
        f"slow = [name for name in {SLOW!r} if sys.modules.get(name)]\n"
        "assert not slow, slow\n"
        "print(f'all of method/ in {time.perf_counter() - begin:.2f} s')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    print("\n" + done.stdout)


def test_the_paper_is_small():
    assert len(modules("method")) <= 11, "ten files and __init__.py"
    assert lines(modules("method")) <= 1500


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_no_longer_than_it_may_be(room):
    """By the table of docs/contributing.md."""
    text = (REPOSITORY / "docs" / "contributing.md").read_text(encoding="utf-8")
    most = re.search(rf"^\| \[{room}\]\(.*\| ([\d,]+) \|$", text, re.MULTILINE)[1]
    assert lines(modules(room)) <= int(most.replace(",", ""))


@pytest.mark.xfail(strict=True, reason="missed, see docs/contributing.md")
def test_the_package_is_small():
    assert lines(PACKAGE.rglob("*.py")) <= 9500


@pytest.mark.parametrize("room", ["method", "training"])
def test_a_function_fits_on_a_page(room):
    assert not long_functions(room)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_it_holds(room):
    """At most 20 lines; every file of the room is named, and none that is not there."""
    text = (PACKAGE / room / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 20
    files = {path.name for path in modules(room)} - {"__init__.py"}
    assert set(re.findall(r"`(\w+\.py)`", text)) == files
    assert "**May import:**" in text and "**Start with**" in text
