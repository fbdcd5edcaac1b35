"""All of BFCL's single-turn questions, once in one go and once killed again and again: the same answers and scores?

    python benchmarks/bfcl_resume.py [--model nano] [--kills 4] [--out assets/benchmarks/bfcl_resume.json]

Both runs are the command that a user types, each in a process of its own. The second one is killed (SIGKILL, as a
machine that goes away) each time it has written its next share of the answers, and started again.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from toolexpander_lite.base.errors import KitError
from toolexpander_lite.base.runs import software_versions, write_json
from toolexpander_lite.evaluation.answers import read_answers
from toolexpander_lite.evaluation.bfcl import CATEGORIES, load_questions, result_file
from toolexpander_lite.models.hardware import describe_hardware


def start(out, words):
    """The `bfcl` command, into this folder -> the running process; what it prints goes to a file beside the folder."""
    with open(f"{out}.txt", "a") as told:
        return subprocess.Popen(
            [sys.executable, "-m", "toolexpander_lite", "bfcl", *words, "--out", str(out)], stdout=told, stderr=told
        )


def finished(process, out):
    if process.wait():
        raise SystemExit(f"bfcl ended with code {process.returncode}: {Path(f'{out}.txt').read_text()[-500:]}")


def answers(out, categories):
    """{(category, id): completion} of all that is written so far."""
    return {(c, row["id"]): row["completion"] for c in categories for row in read_answers(result_file(out, c))}


def killed_runs(out, words, categories, marks):
    """Start the command, kill it when they reach the next mark, and so on, then let it end -> answers at each."""
    kills = []
    for mark in marks:
        process = start(out, words)
        while (written := len(answers(out, categories))) < mark and process.poll() is None:
            time.sleep(0.1)
        if process.poll() is not None:  # it ended before the mark was seen: nothing to kill
            break
        process.kill()
        process.wait()
        kills.append(written)
    finished(start(out, words), out)
    return kills


def scores(out):
    """scores.json without what a clock says."""
    told = json.loads(Path(out, "scores.json").read_text())
    return {c: {name: value for name, value in s.items() if name != "items_per_second"} for c, s in told.items()}


def measure(words, categories, kills, place):
    """Both runs, below the folder `place` -> what the JSON holds."""
    whole, cut = Path(place, "whole"), Path(place, "cut")
    began = time.perf_counter()
    finished(start(whole, words), whole)
    seconds = time.perf_counter() - began
    ours = answers(whole, categories)
    at = killed_runs(cut, words, categories, [len(ours) * (n + 1) // (kills + 1) for n in range(kills)])
    theirs, told = answers(cut, categories), scores(whole)
    return {
        "questions": len(ours), "killed_at": at, "same_answers": sum(ours[key] == theirs.get(key) for key in ours),
        "same_scores": told == scores(cut), "seconds_in_one_go": round(seconds, 1),
        "questions_per_second": round(len(ours) / seconds, 2),  # with the start of the process and the scoring
        "correct": {c: [s["correct"], s["answered"]] for c, s in told.items()},
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano", help="any model or adapter that the bfcl command takes")
    parser.add_argument("--profile", default="nano")
    parser.add_argument("--categories", nargs="+", default=list(CATEGORIES))
    parser.add_argument("--limit", type=int, help="so many questions of each category; default all")
    parser.add_argument("--max-new-tokens", type=int, default=32)
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    words = ["--model", arguments.model, "--profile", arguments.profile, "--categories", *arguments.categories,
             "--max-new-tokens", str(arguments.max_new_tokens), "--batch-size", "32"]  # fmt: skip
    words += ["--limit", str(arguments.limit)] if arguments.limit else []
    try:
        for category in arguments.categories:
            load_questions(category, arguments.limit)
        with tempfile.TemporaryDirectory() as place:
            found = measure(words, arguments.categories, arguments.kills, place)
    except KitError as error:
        parser.error(str(error))
    found |= {"model": arguments.model, "max_new_tokens": arguments.max_new_tokens,
              "machine": str(describe_hardware()), "versions": software_versions()}  # fmt: skip
    print(json.dumps(found, indent=1))
    if arguments.out:
        write_json(arguments.out, found)
    return 0 if found["same_scores"] and found["same_answers"] == found["questions"] else 1


if __name__ == "__main__":
    sys.exit(main())
