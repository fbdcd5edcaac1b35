"""From a file of four functions and twenty questions to a first training step, as `docs/your-own-tools.md` says.

    python benchmarks/first_step.py nano        # the nano policy, which reads the words of this file
    python benchmarks/first_step.py smol-world  # SmolLM2-135M as it comes, 20 steps of context distillation
    python benchmarks/first_step.py smol-cpu    # SmolLM2-135M, with its warm start (some 4 GB; an hour if busy)
    python benchmarks/first_step.py turns       # the same on the page's jars, rows of several turns: a few steps

Each command of the page is run in a process of its own, as a user would, and timed; the machine's load is noted with
it. The last one loads what was trained and asks it a question from Python. What `train` logged is kept.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from toolexpander_lite.base.runs import read_json, read_log, software_versions, write_json
from toolexpander_lite.models.hardware import describe_hardware

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "assets/benchmarks/first_step.json"
FUNCTIONS = '''
TIMERS = {}


def book_taxi(city: str, day: str, currency: str = "euros") -> str:
    """Book a taxi.

    Args:
        city: where
        day: when
        currency: how it is paid
    """
    return f"a taxi in {city} on {day}, paid in {currency}"


def find_hotel(city: str, month: str, currency: str = "euros") -> list[str]:
    """Search a hotel.

    Args:
        city: where
        month: when
        currency: of the prices
    """
    return [f"{city} Grand", f"{city} Central"]


def set_timer(label: str, minutes: int) -> int:
    """Set a kitchen timer and return how many are running.

    Args:
        label: what it is for
        minutes: how long it runs
    """
    TIMERS[label] = minutes
    return len(TIMERS)


def play_song(artist: str, title: str) -> str:
    """Play a song.

    Args:
        artist: who plays it
        title: which one
    """
    return f"{artist}: {title}"


ROWS = "questions.csv"
'''
TAXIS = ("paris monday yen", "lima friday won", "oslo sunday pesos", "cairo tuesday francs", "berlin thursday rupees")
HOTELS = ("paris april yen", "tokyo june kroner", "madrid july dollars", "london march won", "oslo august pesos")
TIMERS = ("5 tea", "10 rice", "20 eggs", "15 pasta", "30 tea")
SONGS = ("rain adele", "yesterday queen", "rain queen", "hello adele", "yesterday bowie")
FORMS = {
    "book a taxi in {} for {} paid in {}": ("book_taxi(city='{}', day='{}', currency='{}')", TAXIS),
    "find a hotel in {} for {} priced in {}": ("find_hotel(city='{}', month='{}', currency='{}')", HOTELS),
    "set a timer of {} minutes for {}": ("set_timer(minutes={}, label='{}')", TIMERS),
    "play {} by {}": ("play_song(title='{}', artist='{}')", SONGS),
}
PAIRS = """
NAMES = ["Ann", "Bob", "Eva"]
JARS["Eva"] = 9
ROWS = [{"question": f"How many beans has {a}?", "call": f"look(jar='{a}')", "split": "train"} for a in NAMES]
ROWS += [
    {"question": f"Empty the jar of {a} into that of {b}.", "split": "test" if a < b else "train",
     "call": [f"look(jar='{a}')", f"pour(source='{a}', target='{b}', beans={JARS[a]})"]}
    for a in NAMES for b in NAMES if a != b
]
"""
ASKED = {"turns": "Empty the jar of Ann into that of Bob."}
USE = """
from toolexpander_lite.evaluation.tool_caller import ToolCaller
answer = ToolCaller.load("out/my-tools/final")("QUESTION")
print(answer.text, answer.results)
"""


# Of the page, too: the first two of the profile, the others of the recipe.
RAW = ("max_prompt_tokens=800", "max_tools=2", "prompt_style=native", "num_generations=10", "beta=0.0")


def commands(profile):
    """The page's commands for this file, in order -> {what: words after `python`}."""
    kind, steps = {"turns": ("own-turns", 3), "smol-world": ("own", 20)}.get(profile, ("own", 1))
    kit, data = ["-m", "toolexpander_lite"], ["--data", kind, "--data-path", "my_tools.py"]
    small = [*data, "--profile", "smol-cpu" if profile == "turns" else profile, "--profile-set", "train_prompts=8"]
    more = {"nano": "prompts_per_step=4", "smol-cpu": "max_prompt_tokens=800", "turns": "max_tools=0"}
    for each in RAW[:2] if profile == "smol-world" else [more[profile]]:
        small += ["--profile-set", each]
    taught = profile in ("smol-cpu", "turns")
    policy = ["--model", "out/my-warm/final"] if taught else []
    train = [*small, *policy, "--recipe", "context_distillation" if profile == "smol-world" else "hard_sampling"]
    for each in RAW[2:] if profile == "smol-world" else ():
        train += ["--set", each]
    warm = {"warm-start": [*kit, "warm-start", *small, "--out", "out/my-warm"]} if taught else {}
    preflight = {} if profile in ("turns", "smol-world") else {"preflight": [*kit, "preflight", *train]}
    asked = {"ToolCaller": ["-c", USE.replace("QUESTION", ASKED.get(profile, "set a timer of 10 minutes for eggs"))]}
    train = {"train": [*kit, "train", *train, "--steps", str(steps), "--out", "out/my-tools"]}
    return {"data": [*kit, "data", *data[1:]], **warm, **preflight, **train, **asked}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profile", choices=["nano", "smol-world", "smol-cpu", "turns"])
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    environment, steps = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, []
    with tempfile.TemporaryDirectory() as folder:
        page = (ROOT / "docs" / "your-own-tools.md").read_text(encoding="utf-8")
        jars = next(code for code in re.findall(r"```python\n(.*?)```", page, re.S) if "JARS =" in code)
        Path(folder, "my_tools.py").write_text(jars + PAIRS if given.profile == "turns" else FUNCTIONS)
        rows = [f'{asked},"{call}"'.replace("{}", "%s") % (*words.split() * 2,)
                for asked, (call, filled) in FORMS.items() for words in filled]  # fmt: skip
        Path(folder, "questions.csv").write_text("\n".join(["question,call", *rows, ""]))
        for what, words in commands(given.profile).items():
            load, began = os.getloadavg()[0], time.perf_counter()
            done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
            seconds = round(time.perf_counter() - began, 1)
            print(f"{what}: {seconds} s at a load of {load:.1f}\n{done.stdout[-1500:]}", flush=True)
            if done.returncode:
                sys.exit(done.stderr[-3000:])
            steps.append({"step": what, "seconds": seconds, "load": round(load, 1)})
        log = read_log(Path(folder, "out", "my-tools"))
    machine = {"cores": os.cpu_count(), "machine": str(describe_hardware()), "versions": software_versions()}
    result = {"steps": steps, "log": log, "answer": done.stdout, **machine}
    write_json(given.out, {**(read_json(given.out) if given.out.exists() else {}), given.profile: result})


if __name__ == "__main__":
    main()
