"""Self-Exemplifying Thinking, batch reuse and the whole of ToolExpander in the real trainer, a few steps at a time."""

import json
import shutil

import pytest

from toolexpander_lite.__main__ import main
from toolexpander_lite.base.errors import ModelError
from toolexpander_lite.base.runs import read_jsonl, read_log
from toolexpander_lite.evaluation.accuracy import evaluate
from toolexpander_lite.evaluation.answers import answer_samples
from toolexpander_lite.models.policy import load_policy
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.train import train
from toolexpander_lite.variants.all_recipes import RECIPES, get_recipe
from toolexpander_lite.worlds.nano_world import HARD_FAMILIES, nano_samples

# Three prompts of each hard family and half of the easy ones would do; 12 prompts a step, 10 rollouts each.
TINY = dict(prompts_per_step=12, micro_batch=120, train_prompts=2, eval_every=2, eval_prompts=1, steps=2)


def tiny(**changes):
    return get_profile("nano-common", **{**TINY, **changes})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {name: train(name, tiny(), 0, folder / name) for name in ("exemplify", "invitation", "toolexpander")}


def test_bonus_adds_to_the_reward_and_never_to_what_is_hard(runs):
    rows = read_log(runs["exemplify"])
    paid = [row for row in rows[1:] if row["examples/rate"] > 0]
    assert paid, "a policy that writes an example in 4 % of its rollouts wrote none in 240"
    for row in rows[1:]:
        assert row["reward"] == pytest.approx(row["task_reward"] + 41 / 4096 * row["examples/rate"], abs=1e-5)
        assert row["examples/rate"] <= row["examples/tried"] <= 1
    assert all(0 <= row["examples/right"] <= 1 and 0 <= row["examples/senseless"] <= 1 for row in paid)
    for group in read_jsonl(runs["exemplify"] / "rollouts.jsonl"):
        assert set(group["rewards"]) <= {0.0, 1.0}, "what the record and the pool see is the task reward"
        assert sum(group["examples"].values()) == 10


def test_an_unpaid_example_adds_nothing(runs):
    for row in read_log(runs["invitation"])[1:]:
        assert row["reward"] == pytest.approx(row["task_reward"]) and "examples/rate" in row


def test_first_rollouts_are_the_same_whatever_they_earn(runs):
    """Same base, seed and prompts: arms differ in what is learnt, not in what they begin with."""
    first = [read_log(runs[name])[1] for name in ("exemplify", "invitation")]
    assert first[0]["completion_tokens"] == first[1]["completion_tokens"]
    assert first[0]["examples/rate"] == first[1]["examples/rate"]


def test_invited_runs_are_evaluated_with_the_invitation_and_without(runs):
    for _, scores in ((row, row["eval"]) for row in read_log(runs["exemplify"]) if "eval" in row):
        assert 0 <= scores["examples"] <= 1
        assert set(scores["uninvited"]) >= {"zero_shot", "zero_shot_hard", "zero_shot_easy", "families"}


def test_evaluation_without_invitation_is_the_ordinary_one():
    model, tokenizer = load_policy(get_profile("nano-common"))
    samples = nano_samples("test", 1)
    invited = evaluate(model, tokenizer, samples, 64, hard_families=HARD_FAMILIES, invite=True)
    plain = evaluate(model, tokenizer, samples, 64, hard_families=HARD_FAMILIES)
    assert invited["uninvited"] == plain and "examples" not in plain


def test_reused_batches_make_more_updates_on_the_same_rollouts(runs):
    rows = read_log(runs["toolexpander"])
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["rollouts"] for row in rows] == [0, 120, 120, 240, 240]
    assert ["reward" in row for row in rows[1:]] == [True, False, True, False]
    assert rows[1]["clip_ratio/high_mean"] == rows[1]["clip_ratio/low_mean"] == 0, "the ratio is 1 at first use"
    assert [row["step"] for row in rows if "eval" in row] == [0, 4]
    config = json.loads((runs["toolexpander"] / "config.json").read_text())
    assert config["trainer"]["num_iterations"] == 2 and config["recipe"]["epsilon_high"] == 0.28


def test_toolexpander_serves_demonstrations_and_invites(runs):
    groups = read_jsonl(runs["toolexpander"] / "rollouts.jsonl")
    assert len(groups) == 24 and all("examples" in group for group in groups)
    last = read_log(runs["toolexpander"])[-1]
    assert last["pool"]["demonstrated"] > 0 and sum(last["pool"].values()) == 24


def test_interrupted_toolexpander_equals_an_uninterrupted_one(tmp_path):
    recipe = get_recipe("toolexpander", round_steps=2)
    settings = dict(eval_every=2, train_prompts=1)
    train(recipe, tiny(steps=4, **settings), 0, tmp_path / "whole")
    train(recipe, tiny(steps=2, **settings), 0, tmp_path / "cut")
    train(recipe, tiny(steps=4, **settings), 0, tmp_path / "cut", resume=True)
    whole, cut = read_log(tmp_path / "whole"), read_log(tmp_path / "cut")
    for one, other in zip(whole, cut, strict=True):
        assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}
    assert (tmp_path / "whole" / "rounds.jsonl").read_text() == (tmp_path / "cut" / "rounds.jsonl").read_text()
    rates = [row["learning_rate"] for row in whole[1:]]
    assert rates == pytest.approx([rates[0]] * 4 + [0.9 * rates[0]] * 4), "a round is two batches, so four updates"


def test_a_policy_that_cannot_see_the_invitation_is_refused(tmp_path, capsys):
    with pytest.raises(ModelError, match="nano_checkpoint.*drops the invitation.*nano-rare"):
        train("exemplify", get_profile("nano", **TINY), 0, tmp_path / "run")
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    assert main(["train", "--recipe", "set", "--steps", "1", "--out", str(tmp_path / "run")]) == 2
    assert "drops the invitation" in capsys.readouterr().err


def test_every_evaluation_refuses_an_invitation_that_would_not_be_read(tmp_path, capsys):
    for command in (["evaluate"], ["executed", "--limit", "1"]):
        assert main([*command, "--style", "example", "--profile", "nano"]) == 2
        assert "'nano_checkpoint' drops the invitation" in capsys.readouterr().err
    model, tokenizer = load_policy(get_profile("nano"), device="cpu")
    with pytest.raises(ModelError, match="drops the invitation"):  # BFCL and API-Bank ask through this
        answer_samples(model, tokenizer, nano_samples("test", 1), tmp_path / "answers.jsonl", 8, invite=True)
    assert not (tmp_path / "answers.jsonl").exists()


@pytest.mark.parametrize(
    "changes, words",
    [({"example_bonus": -0.1}, "must be 0, or at least"), ({"example_bonus": 1.0}, "below the 1"),
     ({"invite": False}, "invite=True"), ({"example_bonus": float("nan")}, "must be 0, or at least"),
     ({"num_iterations": 0}, "at least 1")],
)  # fmt: skip
def test_settings_that_cannot_be_trained_with(changes, words):
    with pytest.raises(ValueError, match=words):
        get_recipe("exemplify", **changes)


def test_recipes_differ_from_their_controls_in_what_they_say():
    def changed(name, control):
        one, other = RECIPES[name], RECIPES[control]
        return {f for f in vars(one) if f not in ("name", "about") and getattr(one, f) != getattr(other, f)}

    assert changed("no_kl", "grpo") == {"beta"}
    assert changed("clip_higher", "clip_symmetric") == {"epsilon_high"}
    assert changed("clip_symmetric", "grpo") == {"num_iterations"}
    assert changed("exemplify", "invitation") == {"example_bonus"}
    assert changed("exemplify_gated", "exemplify") == {"gated_bonus"}
    assert changed("exemplify_unscaled", "exemplify") == {"scale_rewards"}
    assert changed("exemplify_strict", "exemplify") == {"strict_examples"}
    assert changed("set", "grpo") == {"beta", "epsilon_high", "num_iterations", "invite", "example_bonus"}
    assert changed("toolexpander", "set") == {"hard_samples", "lr_decay"}
