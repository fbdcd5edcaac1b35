"""Runs in slices: the next step to train to, and what a run directory says of how far it got."""

import json

import pytest

from toolexpander_lite.sessions import newest_checkpoint, next_target, updates_per_batch


@pytest.mark.parametrize(
    "done, seconds_per_step, left, target",
    [
        (0, None, 1, 20),  # the first slice finds out
        (40, None, 1, 60),
        (0, None, 0, None),
        (20, 2.0, 100, 60),  # 40 s a slice of 20 steps: two fit
        (20, 2.0, 39, None),
        (280, 2.0, 1000, 300),
        (290, 2.0, 40, 300),
    ],
)
def test_slices_end_on_checkpoints(done, seconds_per_step, left, target):
    assert next_target(done, 300, 20, seconds_per_step, left) == target


def test_progress_is_counted_in_batches_of_rollouts(tmp_path):
    assert (newest_checkpoint(tmp_path), updates_per_batch(tmp_path)) == (0, 1), "an empty folder"
    for name in ("checkpoint-8", "checkpoint-20"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert newest_checkpoint(tmp_path) == 20
    (tmp_path / "config.json").write_text(json.dumps({"recipe": {"num_iterations": 2}}))
    assert (newest_checkpoint(tmp_path), updates_per_batch(tmp_path)) == (10, 2)
    (tmp_path / "config.json").write_text(json.dumps({"warm_start_steps": 3}))
    assert updates_per_batch(tmp_path) == 1
