"""Runs: reading them, from folders or from a study's tables (`run_tables`), and what their logs say."""

import json
import subprocess
from importlib import metadata
from pathlib import Path

from .errors import RunError
from .files import write_whole
from .run_tables import packed_rows, packed_runs

REPOSITORY = Path(__file__).resolve().parents[2]


def write_json(path, value):
    write_whole(path, json.dumps(value, indent=1) + "\n")


def write_jsonl(path, rows):
    """Rows (dicts) as JSON lines, in place of what was there."""
    write_whole(path, "".join(json.dumps(row) + "\n" for row in rows))


def append_jsonl(path, *rows):
    with Path(path).open("a") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))


def software_versions():
    """{package: version} of what decides a run's numbers, with the git commit of this repository (or None)."""
    names = ("torch", "transformers", "trl", "datasets", "peft", "accelerate", "bitsandbytes")
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    describe = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        versions["git_commit"] = subprocess.run(describe, capture_output=True, text=True).stdout.strip() or None
    except OSError:  # no git on this machine
        versions["git_commit"] = None
    return versions


def has_file(path):
    """Is there such a file of a run, on the disk or in its study's tables? -> bool"""
    return Path(path).exists() or packed_rows(path) is not None


def read_json(path):
    """config.json or summary.json of a run, say, or any other JSON file -> dict.

    Raises:
        RunError: there is none, or it is no JSON object.
    """
    path = Path(path)
    rows = None if path.exists() else packed_rows(path)
    try:
        return rows[0] if rows else _json_object(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read as a JSON object ({error})") from error


def read_jsonl(path, whole=False):
    """JSON lines -> list of dicts; a half-written last line (a run in progress, or one that was cut) is left out.

    log.jsonl, rounds.jsonl or rollouts.jsonl of a run may lie in its study's tables instead.

    Args:
        whole: nobody is writing this file any more, and a half-written last line is an error, too.

    Raises:
        RunError: a line is no JSON object, the last one apart.
    """
    packed = None if Path(path).exists() else packed_rows(path)
    if packed is not None:
        return packed
    rows, lines = [], Path(path).read_bytes().splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(_json_object(line))
        except ValueError as error:
            if whole or number < len(lines):
                raise RunError(
                    f"{path}: line {number} of {len(lines)} is no JSON object ({error})"
                    + ("" if whole else "; repair or delete that line, and nothing of the lines after it is lost")
                ) from error
    return rows


def _json_object(line):
    value = json.loads(line)
    if not isinstance(value, dict):
        raise ValueError(f"it holds {line[:20]!r}")
    return value


def read_log(run):
    """log.jsonl of a run directory -> list of dicts, one per optimizer step."""
    return read_jsonl(Path(run) / "log.jsonl")


def evaluations(rows):
    """[(row, its "eval")] of the rows that hold an evaluation."""
    return [(row, row["eval"]) for row in rows if "eval" in row]


def first_at(run, accuracy):
    """The row of the log at which an evaluation first shows this accuracy on the hard families; None: it never does."""
    return next((row for row, e in evaluations(read_log(run)) if e.get("zero_shot_hard", 0) >= accuracy), None)


def rollouts_to(run, accuracy):
    """Rollouts spent until an evaluation first shows this accuracy on the hard families; None when it never does."""
    row = first_at(run, accuracy)
    return row and row["rollouts"]


def find_runs(folder):
    """{variant: [runs by seed]} of the complete runs of a study, variants in name order.

    A run is the path STUDY/<variant>/seed-<n>; that of a packed run is no folder, and the functions here read it alike.
    """
    runs = {}
    on_disk = {summary.parent for summary in Path(folder).glob("*/seed-*/summary.json")}
    for run in sorted(on_disk | set(packed_runs(folder)), key=_by_variant_and_seed):
        runs.setdefault(run.parent.name, []).append(run)
    return runs


def _by_variant_and_seed(run):
    return run.parent.name, int(run.name.removeprefix("seed-"))


def load_study(folder):
    """Complete runs of a study -> DataFrame, one row per run: variant, seed, the summary's fields, learning rate, path.

    Where there is none of a study, the runs that lie directly in `folder`, each called by its folder's name.

    Raises:
        RunError: no complete run below `folder`.
    """
    runs = [(variant, run) for variant, found in find_runs(folder).items() for run in found]
    runs = runs or [(s.parent.name, s.parent) for s in sorted(Path(folder).glob("*/summary.json"))]
    rows = []
    for variant, run in runs:
        config, summary = read_json(run / "config.json"), read_json(run / "summary.json")
        told = {"variant": variant, "seed": config["seed"], "learning_rate": config.get("learning_rate")}
        rows.append({**told, **summary, "run": run})
    if not rows:
        raise RunError(
            f"no complete run below {folder}: a study's lie in VARIANT/seed-N, single ones in a folder each, and what "
            "makes one complete is its summary.json"
        )
    import pandas as pd

    return pd.DataFrame(rows)
