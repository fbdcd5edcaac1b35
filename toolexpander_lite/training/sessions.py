"""A run in slices: what fits into one session of a lent machine, and where the next one goes on."""

import time
from dataclasses import dataclass
from pathlib import Path

from ..base.runs import has_file, read_json, read_log
from .profiles import get_profile

# How much longer than measured a step may take, evaluations and checkpoints included (our assumptions). The preflight's
# clock saw one or two steps of a young policy, whose answers are often short; a run's log tells of its own steps.
PREFLIGHT_MARGIN = 2.0
LOG_MARGIN = 1.25


@dataclass(frozen=True)
class Session:
    """What one call of `train_session` did.

    Attributes:
        before, done, steps: batches of rollouts done before the session and after it, and those of the whole run.
        predicted, taken: seconds; both 0 when nothing was trained.
    """

    before: int
    done: int
    steps: int
    predicted: float = 0.0
    taken: float = 0.0

    def __str__(self):
        told = f"{self.done} of {self.steps} steps done, {self.before} of them before this session"
        if self.done > self.before:
            return f"{told}; {self.predicted:.0f} s predicted, {self.taken:.0f} s taken"
        return told if self.done == self.steps else f"{told}; too little time is left for a stretch between checkpoints"


def updates_per_batch(run):
    """Optimizer steps that a run makes on each batch of rollouts; 1 for a warm start, which has no recipe."""
    config = Path(run) / "config.json"
    recipe = read_json(config).get("recipe", {}) if has_file(config) else {}
    return recipe.get("num_iterations", 1)


def newest_checkpoint(run):
    """Batches up to the newest checkpoint of a run directory, complete or not; 0 when there is none."""
    steps = max((int(c.name.split("-")[1]) for c in Path(run).glob("checkpoints/checkpoint-*")), default=0)
    return steps // updates_per_batch(run)


def logged_speed(run):
    """Seconds per batch of rollouts by a run's own log, evaluations apart -> float; None before its first step."""
    rows = read_log(run) if has_file(Path(run) / "log.jsonl") else []
    if not rows or not rows[-1]["step"]:
        return None
    return rows[-1]["seconds"] / rows[-1]["step"] * updates_per_batch(run)


def next_target(done, steps, every, seconds_per_step, seconds_left):
    """The step to train to next, a multiple of `every` or the last one; None when the time does not allow any.

    Checkpoints are written each `every` steps, so what is trained beyond one and then cut is lost. The first slice
    (`seconds_per_step` None) is one `every` long, to find out. Steps are counted in batches of rollouts.
    """
    if seconds_per_step is None:
        slices = 1 if seconds_left > 0 else 0
    else:
        slices = int(seconds_left / (seconds_per_step * every))
    return min(steps, done - done % every + slices * every) if slices > 0 else None


def train_session(recipe, profile, seed, out, seconds_left, seconds_per_step=None, progress=None):
    """Train a run as far as the time reaches, on from its newest checkpoint -> `Session`.

    Args:
        recipe, profile, seed, out, progress: as for `train.train`; the profile's `steps` are those of the whole run.
        seconds_left: of the session.
        seconds_per_step: as the preflight measured them, taken `PREFLIGHT_MARGIN` times. Once the run has a log, that
            is asked instead, and taken `LOG_MARGIN` times. With neither, one stretch between checkpoints is trained.

    Raises:
        What `train.train` raises: a run that was begun with other settings is refused, for example.
    """
    from .train import train  # slow to import, and who only asks how far a run is does not need it

    profile, before = get_profile(profile), newest_checkpoint(out)
    # Not by final/: that of the session before is there until the last one writes its own.
    if before >= profile.steps and not (Path(out) / "summary.json").exists():
        # Cut between its last checkpoint, perhaps within it, and its end.
        before = max(0, before - (before % profile.eval_every or profile.eval_every))
    logged = logged_speed(out)
    speed = logged * LOG_MARGIN if logged else seconds_per_step and seconds_per_step * PREFLIGHT_MARGIN
    target = next_target(before, profile.steps, profile.eval_every, speed, seconds_left)
    if target is None or before >= profile.steps:
        return Session(before, before, profile.steps)
    began = time.monotonic()
    train(recipe, get_profile(profile, steps=target), seed, out, resume=True, progress=progress)
    predicted = (target - before) * speed if speed else seconds_left
    return Session(before, newest_checkpoint(out), profile.steps, predicted, time.monotonic() - began)
