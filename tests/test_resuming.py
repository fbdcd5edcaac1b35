"""Where a cut run goes on. What cannot is refused with all files as they were, before a model is loaded."""

import json
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import save_file

from toolexpander_lite.__main__ import main
from toolexpander_lite.base.errors import RunError
from toolexpander_lite.base.runs import read_log
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.record import rewind
from toolexpander_lite.training.resume import find_checkpoint
from toolexpander_lite.training.train import train
from toolexpander_lite.variants.all_recipes import get_recipe


def write_checkpoint(folder):
    """The files of a checkpoint that a resumed run with a pool reads."""
    folder.mkdir(parents=True)
    for name in ("trainer_state.json", "pool.json", "demonstrations.json"):
        (folder / name).write_text(json.dumps({"holds": name}))
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({"holds": torch.arange(500)}, folder / name)
    save_file({"weights": torch.arange(500)}, folder / "model.safetensors")


@pytest.fixture
def run(tmp_path):
    """A complete run of 40 steps with a pool, by hand: a log, and checkpoints at 20 and 40."""
    recipe, profile = get_recipe("hard_sampling"), get_profile("nano", steps=40, eval_every=20)
    identity = {"recipe": asdict(recipe), "profile": asdict(profile), "seed": 0}
    (tmp_path / "config.json").write_text(json.dumps(identity))
    counts = {"rollouts": 0, "completion_tokens": 0, "prompt_tokens": 0, "seconds": 0.0}
    for name in ("log.jsonl", "rollouts.jsonl", "rounds.jsonl"):
        (tmp_path / name).write_text("".join(json.dumps({"step": n, **counts}) + "\n" for n in range(41)))
    (tmp_path / "summary.json").write_text('{"steps": 40}')
    for step in (20, 40):
        write_checkpoint(tmp_path / "checkpoints" / f"checkpoint-{step}")
    return tmp_path


def contents(folder):
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def refused(run, words, steps=40, model=False):
    """Is all of the run as it was, after `train --resume` has said `words`; with `model`, once that is loaded?"""
    before = contents(run)
    with pytest.raises(RunError, match=words), pytest.MonkeyPatch.context() as patch:
        if not model:
            policy = "toolexpander_lite.training.train.load_policy"
            patch.setattr(policy, lambda profile: pytest.fail("a model is loaded"))
        train("hard_sampling", get_profile("nano", steps=steps, eval_every=20), 0, run, resume=True)
    return contents(run) == before


@pytest.mark.parametrize("name", ["log.jsonl", "rollouts.jsonl", "rounds.jsonl"])
@pytest.mark.parametrize("line", ['{"step": 4, "lo', "", "[4]", "\0\0\0\0"])
def test_a_bad_line_within_a_log_is_named_and_nothing_after_it_lost(run, name, line):
    lines = (run / name).read_text().splitlines()
    lines[4] = line
    (run / name).write_text("\n".join(lines) + "\n")
    assert refused(run, f"{name}: line 5 of 41 is no JSON object .*repair or delete that line")
    before = contents(run)
    with pytest.raises(RunError, match=f"{name}: line 5 of 41"):
        rewind(run, "checkpoint-20")
    assert contents(run) == before, "the other logs are not cut either"


def test_half_a_line_at_the_end_is_what_a_cut_run_leaves(run):
    with (run / "log.jsonl").open("a") as file:
        file.write('{"step": 41, "lo')
    assert len(read_log(run)) == 41
    assert find_checkpoint(run, 60, 1, True) == str(run / "checkpoints" / "checkpoint-40")


def test_fewer_steps_than_are_done_are_refused(run, capsys):
    assert refused(run, "has 40 steps done, more than the 39 asked for; ask for 40 steps or more", steps=39)
    words = ["train", "--recipe", "hard_sampling", "--steps", "10", "--eval-every", "20", "--out", str(run), "--resume"]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {run} has 40 steps done") and error.count("\n") == 1
    assert find_checkpoint(run, 40, 1, True).endswith("checkpoint-40"), "as many: a run that was cut at its very end"


def test_steps_of_a_complete_run_count_without_their_checkpoint(run):
    (run / "checkpoints" / "checkpoint-40" / "model.safetensors").unlink()
    assert refused(run, "has 40 steps done, more than the 30", steps=30)
    (run / "summary.json").unlink()  # it was cut: what lies behind the checkpoint has to be made again anyway
    assert find_checkpoint(run, 30, 1, True).endswith("checkpoint-20")


def test_steps_are_counted_in_batches_of_rollouts(run):
    assert find_checkpoint(run, 20, 2, True)
    with pytest.raises(RunError, match="has 20 steps done, more than the 19"):
        find_checkpoint(run, 19, 2, True)


@pytest.mark.parametrize("kept", [0, 10, -1])
@pytest.mark.parametrize(
    "name", ["trainer_state.json", "pool.json", "demonstrations.json", "optimizer.pt", "scheduler.pt", "rng_state.pth",
             "model.safetensors"],
)  # fmt: skip
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken_when_it_is_deleted(run, name, kept):
    newest = run / "checkpoints" / "checkpoint-40"
    (newest / name).write_bytes((newest / name).read_bytes()[:kept])
    assert refused(run, f"checkpoint-40 is damaged: its {name} cannot be read .*delete that folder, and --resume")
    for file in newest.iterdir():
        file.unlink()
    newest.rmdir()
    assert find_checkpoint(run, 40, 1, True).endswith("checkpoint-20")


def test_a_changed_byte_of_an_optimizers_state_is_noticed(run):
    file = run / "checkpoints" / "checkpoint-40" / "optimizer.pt"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    assert refused(run, "checkpoint-40 is damaged: its optimizer.pt")


def test_what_fails_before_the_first_step_leaves_the_run_as_it_was(run, monkeypatch):
    def no_rows(*arguments):
        raise RunError("no rows today")

    monkeypatch.setattr("toolexpander_lite.training.train.load_splits", no_rows)
    assert refused(run, "no rows today", steps=60, model=True)


@pytest.mark.parametrize("lines", [0, 21])
def test_a_log_that_ends_before_the_checkpoint_is_not_gone_on_with(run, lines):
    """As on a mounted drive that has the checkpoint already and an older log."""
    log = (run / "log.jsonl").read_text().splitlines(keepends=True)
    (run / "log.jsonl").write_text("".join(log[:lines]))
    assert refused(run, rf"log.jsonl ends at step {max(0, lines - 1)}, before .*checkpoint-40")


def test_a_file_that_cannot_be_read_now_is_not_called_damaged(run, monkeypatch):
    def gone(*arguments):
        raise OSError("Transport endpoint is not connected")

    monkeypatch.setattr("toolexpander_lite.training.resume.ZipFile", gone)
    assert refused(run, "cannot read .*is the disk there")
