"""A run in slices: what fits into one session of a lent machine, and where the next one goes on."""

import json
from pathlib import Path


def updates_per_batch(run):
    """Optimizer steps that a run makes on each batch of rollouts; 1 for a warm start, which has no recipe."""
    config = Path(run) / "config.json"
    recipe = json.loads(config.read_text()).get("recipe", {}) if config.exists() else {}
    return recipe.get("num_iterations", 1)


def newest_checkpoint(run):
    """Batches up to the newest checkpoint of a run directory, complete or not; 0 when there is none."""
    steps = max((int(c.name.split("-")[1]) for c in Path(run).glob("checkpoints/checkpoint-*")), default=0)
    return steps // updates_per_batch(run)


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
