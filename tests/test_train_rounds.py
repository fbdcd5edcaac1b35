"""Training by rounds with the stock trainer: what is scanned, served and counted, and that a cut run goes on alike."""

import json
import shutil

import pytest

from toolexpander_lite.base.errors import SettingsError
from toolexpander_lite.base.runs import read_jsonl, read_log
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.train import train
from toolexpander_lite.variants.all_recipes import get_recipe

TINY = dict(prompts_per_step=6, micro_batch=60, train_prompts=2, eval_every=2, eval_prompts=1)
ROUND = {"round_steps": 2, "demos": 2, "demos_per_tool": 1}


def clockless(rows):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Six steps, three rounds of two, on 24 rows of the nano world, 16 of them hopeless without demonstrations."""
    out = tmp_path_factory.mktemp("rounds") / "whole"
    return train(get_recipe("paper_add", **ROUND), get_profile("nano", steps=6, **TINY), 0, out)


def test_scans_are_logged_counted_and_decide(whole):
    lines, rows, groups = (read_jsonl(whole / name) for name in ("scans.jsonl", "log.jsonl", "rollouts.jsonl"))
    assert [line["step"] for line in lines] == sorted([0, 2, 4, 6] * 24), "before, at each round's start, and after"
    assert {line["rollouts"] for line in lines} == {10}
    summary = json.loads((whole / "summary.json").read_text())
    for name, step in (("hard_rows_before", 0), ("hard_rows_after", 6)):
        assert summary[name] == sum(line["right"] == 0 for line in lines if line["step"] == step)
    assert summary["hard_rows_before"] >= 16
    hard = [{x["sample_id"] for x in lines if x["step"] == s and x["right"] == 0} for s in (0, 2, 4)]
    freed = set()
    for n in (1, 2):
        freed |= hard[n - 1] - hard[n]
    for group in groups:
        round = (group["step"] - 1) // 2
        if group["served"] == "demonstrated":
            assert group["sample_id"] in hard[round] - (freed if round == 2 else set())
        assert len(group["rewards"]) == 5
    kinds = {(g["served"], g["sample_id"] in hard[0]) for g in groups if g["step"] <= 2}
    expected = {("plain", True), ("demonstrated", True), ("plain", False)}
    assert kinds >= expected, "the hard row stays and its version is added"
    # The scan after training measures and is not counted; the three before rounds are.
    assert summary["rollouts"] == 6 * 60 + 3 * 240 and rows[-1]["scan_rollouts"] == 3 * 240
    assert rows[-1]["scan_tokens"] == sum(line["tokens"] for line in lines if line["step"] < 6)
    assert rows[0]["scan_rollouts"] == 240
    rates = [row["learning_rate"] for row in rows[1:]]
    base = get_profile("nano").learning_rate
    assert rates == pytest.approx([base, base, base * 0.8, base * 0.8, base * 0.64, base * 0.64])


@pytest.mark.parametrize("cut", [2, 4])
def test_a_run_that_was_cut_goes_on_alike(whole, tmp_path, cut):
    """At a round's end, where the next scan is to come, half of which has been written."""
    parts = tmp_path / "parts"
    shutil.copytree(whole, parts)
    (parts / "summary.json").unlink()
    for checkpoint in (parts / "checkpoints").glob("checkpoint-*"):
        if int(checkpoint.name.split("-")[1]) > cut:
            shutil.rmtree(checkpoint)
    if not (parts / "checkpoints" / f"checkpoint-{cut}").exists():  # only the last two are kept
        shutil.rmtree(parts)
        train(get_recipe("paper_add", **ROUND), get_profile("nano", steps=cut, **TINY), 0, parts)
    lines = (parts / "scans.jsonl").read_text().splitlines(keepends=True)
    (parts / "scans.jsonl").write_text("".join(lines[: 24 * (cut // 2) + 11]))
    train(get_recipe("paper_add", **ROUND), get_profile("nano", steps=6, **TINY), 0, parts, resume=True)
    for name in ("log.jsonl", "rollouts.jsonl", "rounds.jsonl", "scans.jsonl"):
        assert clockless(read_jsonl(parts / name)) == clockless(read_jsonl(whole / name)), name
    first, second = (json.loads((run / "summary.json").read_text()) for run in (whole, parts))
    assert first["hard_rows_after"] == second["hard_rows_after"]


def test_a_run_that_was_cut_within_a_round_keeps_its_list(whole, tmp_path):
    parts = tmp_path / "parts"
    recipe, odd = get_recipe("paper_add", **ROUND), TINY | {"eval_every": 3}
    for steps in (3, 6):
        train(recipe, get_profile("nano", steps=steps, **odd), 0, parts, resume=steps > 3)
    assert read_jsonl(parts / "rollouts.jsonl") == read_jsonl(whole / "rollouts.jsonl")


def test_rounds_longer_than_the_run_are_one_round(tmp_path):
    recipe = get_recipe("paper_replace_verified", round_steps=50, demos=1, verify_draws=1)
    out = train(recipe, get_profile("nano", steps=2, **TINY), 0, tmp_path / "run")
    lines = read_jsonl(out / "scans.jsonl")
    assert [line["step"] for line in lines if line["kind"] == "scan"] == [0] * 24 + [2] * 24
    verified = [line for line in lines if line["kind"] == "verify"]
    assert verified and {line["step"] for line in verified} == {0}
    assert read_log(out)[-1]["scan_rollouts"] == 240 + 10 * len(verified), "verification is counted"


def test_supervised_training_is_at_equal_tokens(tmp_path):
    """As many gold answers as GRPO has rollouts, with the stock SFTTrainer; measured by the same scans."""
    recipe = get_recipe("paper_sft", learning_rate=3e-3)
    out = train(recipe, get_profile("nano", steps=4, **TINY), 0, tmp_path / "run")
    rows, summary = read_log(out), json.loads((out / "summary.json").read_text())
    assert rows[-1]["rollouts"] == 0 and rows[-1]["loss"] < rows[1]["loss"]
    assert 4 * 60 * 15 < rows[-1]["completion_tokens"] < 4 * 60 * 30
    assert summary["hard_rows_after"] <= summary["hard_rows_before"] and "reward" not in rows[-1]
    with pytest.raises(SettingsError, match="supervised training has no rollouts"):
        get_recipe("paper_replace", supervised=True)


def test_what_grpo_leaves_is_measured_and_not_counted(tmp_path):
    out = train("paper_grpo", get_profile("nano", steps=2, **TINY), 0, tmp_path / "run")
    summary = json.loads((out / "summary.json").read_text())
    assert summary["rollouts"] == 2 * 60 and {"hard_rows_before", "hard_rows_after"} <= set(summary)
    assert "scan_rollouts" not in read_log(out)[-1]
