"""Make the runs of a study that are not there yet, or all of them once more in another folder.

`run_study` goes on where an interrupted study stopped; `study_plan` lists every run with its command.
"""

import os
import shlex
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from ..base.errors import RunError, SettingsError, meant
from ..base.runs import REPOSITORY, has_file, read_json
from .plan import RUNS, read_plan

# One thread a run. And glibc keeps freed memory, instead of handing each large tensor back and faulting it in again,
# which saves some time in each nano step; other C libraries ignore it.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**32)}


def study_plan(study, only="", runs=RUNS):
    """Every run of a study -> DataFrame: variant, seed, arm, words, complete, command.

    `words` are the arguments of the command; `complete`: the run is there already. An arm whose learning rate has not
    been searched has no words and no command yet.

    Args:
        study: see `read_plan`.
        only: which arms, names separated by commas: a variant's whole name stands for it alone, any other for all
            variants that begin so. "" takes all.
        runs: the folder that holds studies, from the repository's root. Searched rates are those of the runs in
            assets/runs all the same.

    Raises:
        SettingsError: see `read_plan`; also when a name in `only` fits none of its variants.
    """
    plan, rows = read_plan(study), []
    variants, wanted = {arm.variant for arm in plan.arms}, set()
    for name in [name.strip() for name in only.split(",") if name.strip()] or [""]:
        fitting = {name} if name in variants else {variant for variant in variants if variant.startswith(name)}
        if not fitting:
            near = meant(name, sorted(variants))
            raise SettingsError(
                f"no variant of {plan.name} is called {name!r} or begins so; {near}--dry-run lists its runs"
            )
        wanted |= fitting
    for arm in plan.arms:
        for seed in arm.seeds if arm.variant in wanted else ():
            words = arm.command(plan.name, seed, runs) if None not in arm.options.values() else []
            complete = bool(words) and has_file(REPOSITORY / words[-1] / "summary.json")
            command = f"python -m toolexpander_lite {shlex.join(words)}" if words else ""
            rows.append({"variant": arm.variant, "seed": seed, "arm": arm, "words": words, "complete": complete,
                         "command": command})  # fmt: skip
    return pd.DataFrame(rows, columns=["variant", "seed", "arm", "words", "complete", "command"])


def _call(words):
    """One command of the kit in a process of its own -> `CompletedProcess`."""
    return subprocess.run(
        [sys.executable, "-m", "toolexpander_lite", *words], cwd=REPOSITORY, capture_output=True, text=True,
        env={**os.environ, **ENVIRONMENT},
    )  # fmt: skip


def _build(arm, progress):
    """Make the base of an arm -> was it made?"""
    model = arm.options["--model"]
    options, folder = dict(arm.base), model.removesuffix("/final")
    words = [options.pop("--command", "nano-policy")]
    for name, value in options.items():
        for each in value if isinstance(value, list) else [value]:
            words += [name, str(each)]
    shutil.rmtree(REPOSITORY / folder, ignore_errors=True)  # of one that was cut while it was saved
    made = _call([*words, "--out", folder])
    result = f"could not be built: {_last_line(made.stderr)}" if made.returncode else "built"
    progress(f"  {model} {result}")
    return not made.returncode


def run_study(study, workers=1, only="", progress=print, runs=RUNS):
    """Make the runs of a study that are not complete, `workers` at a time, each in a process of one thread.

    A run that was cut is resumed. Of a complete run, checkpoints, rollouts and weights are removed, but for adapters.
    Arms that wait for the learning rate search are named and left out. `only`, `runs`: see `study_plan`.

    Raises:
        RunError: a run failed; the others are finished first.
    """
    plan, study = study_plan(study, only, runs), Path(study).stem
    # Seed by seed, so that a study that is cut has something of every arm.
    waiting = plan[~plan.complete & (plan.command != "")].sort_values("seed", kind="stable")
    progress(f"{study}: {plan.complete.sum()} of {len(plan)} runs are there")
    if not_searched := sorted(set(plan.variant[plan.command == ""])):
        progress(f"  no learning rate yet for {', '.join(not_searched)}; run the search that its plan names first")

    began, done = time.perf_counter(), []

    def run(row):
        out = REPOSITORY / row.words[-1]
        made = _call([*row.words, *(["--resume"] if (out / "config.json").exists() else [])])
        if made.returncode:
            progress(f"  {row.variant} seed {row.seed} FAILED: {_last_line(made.stderr)}")
            return False
        adapter = (out / "final" / "adapter_config.json").exists()  # small, and what benchmarks ask afterwards
        for name in ("checkpoints",) if adapter else ("checkpoints", "final"):
            shutil.rmtree(out / name, ignore_errors=True)
        (out / "rollouts.jsonl").unlink(missing_ok=True)
        summary = read_json(out / "summary.json")
        done.append(row)
        left = (time.perf_counter() - began) / len(done) * (len(waiting) - len(done)) / 60
        progress(
            f"  {row.variant} seed {row.seed}: zero-shot {summary['zero_shot']:.3f}, {summary['wall_seconds']:.0f} s; "
            f"{len(waiting) - len(done)} to go, about {left:.0f} min"
        )
        return True

    # Base policies first, each once. The tokenizer is the last that is saved of one.
    bases = {arm.options["--model"]: arm for arm in waiting.arm if arm.base}
    missing = [arm for model, arm in bases.items() if not (REPOSITORY / model / "tokenizer.json").exists()]
    with ThreadPoolExecutor(workers) as pool:
        if not all(list(pool.map(lambda arm: _build(arm, progress), missing))):
            raise RunError(f"a base policy of {study} could not be built; see above, then run the study again")
        if not all(list(pool.map(run, waiting.itertuples()))):
            raise RunError(f"some runs of {study} failed; see above, then run the study again")


def _last_line(text):
    """The last line of an error, cut: it names what is wrong."""
    return (text.strip().splitlines() or ["no message"])[-1][:300]
