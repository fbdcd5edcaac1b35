"""Runs in slices: the next step to train to, and what a run directory says of how far it got."""

import json

import pytest

from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.sessions import (
    logged_speed,
    newest_checkpoint,
    next_target,
    train_session,
    updates_per_batch,
)


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


@pytest.fixture
def trainer(monkeypatch):
    """A stand-in for `train` that leaves a log and checkpoints, two seconds a step -> the steps it was asked for."""
    asked = []

    def train(recipe, profile, seed, out, resume, progress):
        asked.append(profile.steps)
        rows = [{"step": 0, "seconds": 0.0}, {"step": profile.steps, "seconds": 2.0 * profile.steps}]
        out.mkdir(exist_ok=True)
        (out / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (out / "checkpoints" / f"checkpoint-{profile.steps}").mkdir(parents=True, exist_ok=True)
        (out / "final").mkdir(exist_ok=True)
        (out / "summary.json").write_text("{}")

    monkeypatch.setattr("toolexpander_lite.training.train.train", train)
    return asked


def test_a_session_trains_what_fits_and_the_next_one_knows_the_speed(trainer, tmp_path):
    profile, run = get_profile("nano", steps=60, eval_every=10), tmp_path / "run"
    session = train_session("grpo", profile, 0, run, seconds_left=45, seconds_per_step=1.0)
    assert trainer == [20], "at twice the preflight's second, 20 steps take 40 s"
    assert (session.before, session.done, session.steps, session.predicted) == (0, 20, 60, 40)
    assert str(session).startswith("20 of 60 steps done, 0 of them before this session; 40 s predicted, ")
    session = train_session("grpo", profile, 0, run, seconds_left=60, seconds_per_step=0.001)
    assert trainer == [20, 40], "the log says 2 s a step, whatever the preflight said"
    assert session.predicted == 20 * 2.5
    late = train_session("grpo", profile, 0, run, seconds_left=20)
    assert "too little time is left" in str(late) and late.done == 40 and trainer == [20, 40]
    assert train_session("grpo", profile, 0, run, seconds_left=1000).done == 60
    again = train_session("grpo", profile, 0, run, seconds_left=1000)
    assert str(again) == "60 of 60 steps done, 60 of them before this session" and trainer == [20, 40, 60]


def test_a_run_that_was_cut_while_its_end_was_written_is_gone_on_with(trainer, tmp_path):
    profile = get_profile("nano", steps=60, eval_every=10)
    (tmp_path / "checkpoints" / "checkpoint-60").mkdir(parents=True)  # whole or not
    (tmp_path / "final").mkdir()  # of the session before; `train` takes away the summary when it goes on
    session = train_session("grpo", profile, 0, tmp_path, seconds_left=1000)
    assert trainer == [60] and session.done == 60
    train_session("grpo", profile, 0, tmp_path, seconds_left=1000)
    assert trainer == [60]


def test_an_end_that_is_no_multiple_of_the_stretch_is_gone_on_with(trainer, tmp_path):
    profile, run = get_profile("nano", steps=25, eval_every=10), tmp_path / "run"
    train_session("grpo", profile, 0, run, seconds_left=1000, seconds_per_step=1.0)
    (run / "summary.json").unlink()
    train_session("grpo", profile, 0, run, seconds_left=25)  # ten steps at two seconds, a quarter added
    assert trainer == [25, 25], "fewer than 25 steps would be refused: as many are done"


def test_a_session_that_knows_no_speed_trains_one_stretch(trainer, tmp_path):
    train_session("grpo", get_profile("nano", steps=60, eval_every=10), 0, tmp_path, seconds_left=1)
    assert trainer == [10]


def test_the_speed_of_a_run_is_counted_in_batches(tmp_path):
    assert logged_speed(tmp_path) is None
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 0, "seconds": 0.0}\n')
    assert logged_speed(tmp_path) is None, "only the base policy was looked at"
    log.write_text('{"step": 0, "seconds": 0.0}\n{"step": 8, "seconds": 12.0}\n{"step": 9, "sec')
    (tmp_path / "config.json").write_text(json.dumps({"recipe": {"num_iterations": 2}}))
    assert logged_speed(tmp_path) == 3.0
