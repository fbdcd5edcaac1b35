"""Context distillation inside the stock trainer: which answers, what loss, and that a cut run goes on alike."""

from dataclasses import replace

import pytest
import torch

from toolexpander_lite.base.errors import SettingsError
from toolexpander_lite.base.runs import read_jsonl, read_log
from toolexpander_lite.method.prompts import render_prompt
from toolexpander_lite.models.policy import load_policy
from toolexpander_lite.training import distil
from toolexpander_lite.training.distil import Distiller
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.train import train
from toolexpander_lite.variants.all_recipes import get_recipe
from toolexpander_lite.worlds.nano_world import nano_samples

RECIPE = get_recipe("context_distillation", round_steps=2, demos=2, demos_per_tool=1)
TINY = dict(prompts_per_step=6, micro_batch=60, train_prompts=2, eval_every=2, eval_prompts=1)


@pytest.fixture(scope="module")
def nano():
    model, tokenizer = load_policy(get_profile("nano"))
    return model, tokenizer, nano_samples("train", 1)


def test_only_different_right_answers_to_prompts_with_demonstrations_are_taken(nano):
    _, tokenizer, samples = nano
    distiller = Distiller(samples, tokenizer, 0.5, 2, False)
    a, b = samples[0].id, samples[1].id
    served = ["demonstrated"] * 6 + ["plain"]
    answers = [[1], [1], [2], [3], [4], [5], [6]]
    distiller.take([a, a, a, a, b, b, a], served, answers, [1.0, 1.0, 1.0, 1.0, 0.0, None, 1.0])
    assert distiller.rows == [(a, [1]), (a, [2])]
    distiller.take([b], ["plain"], [[7]], [1.0])
    assert distiller.rows == [], "of the last batch only"


@pytest.mark.parametrize("at_once", [1, 6])
def test_the_loss_is_the_mean_negative_log_likelihood_under_the_plain_prompt(nano, monkeypatch, at_once):
    monkeypatch.setattr(distil, "AT_ONCE", at_once)  # in parts or not
    model, tokenizer, samples = nano
    distiller, rows = Distiller(samples, tokenizer, 0.25, 3, False), []
    for sample, words in zip(samples, ("one two", "three")):
        rows.append((sample.id, tokenizer(words, add_special_tokens=False).input_ids + [tokenizer.eos_token_id]))
    distiller.rows, means = rows, []
    for sample, (_, answer) in zip(samples, rows):
        prompt = tokenizer(render_prompt(sample, tokenizer), add_special_tokens=False).input_ids
        scores = model(input_ids=torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
        means.append(sum(scores[len(prompt) - 1 + i, token] for i, token in enumerate(answer)) / -len(answer))
    model.zero_grad()
    (sum(means) / 2).backward()
    wanted = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    distiller.on_pre_optimizer_step(None, None, None, model=model)
    assert distiller.logged["distil/loss"] == pytest.approx(float(sum(means) / 2), rel=1e-4)
    for name, parameter in model.named_parameters():
        if name in wanted:
            torch.testing.assert_close(parameter.grad, 0.25 * wanted[name], rtol=1e-3, atol=1e-6)
    model.zero_grad()


def test_a_run_learns_its_own_answers_and_a_cut_one_goes_on_alike(tmp_path):
    whole = train(RECIPE, get_profile("nano", steps=4, **TINY), 0, tmp_path / "whole")
    cut = train(RECIPE, get_profile("nano", steps=2, **TINY), 0, tmp_path / "cut")
    train(RECIPE, get_profile("nano", steps=4, **TINY), 0, cut, resume=True)
    rows, again = (
        [{k: v for k, v in row.items() if k != "seconds"} for row in read_log(run)[1:]] for run in (whole, cut)
    )
    assert rows == again
    for row in rows:
        groups = [g for g in read_jsonl(whole / "rollouts.jsonl") if g["step"] == row["step"]]
        right = [g for g in groups if g["served"] == "demonstrated" and g["reasons"].get("ok")]
        assert (row["distil/rows"] > 0) == bool(right) == ("distil/loss" in row)
    assert any(row["distil/rows"] for row in rows)
    control = train(
        get_recipe(RECIPE, distil_weight=0.0), get_profile("nano", steps=2, **TINY), 0, tmp_path / "control"
    )
    first, without = read_log(whole)[1:3], read_log(control)[1:3]
    assert first[0]["reward"] == without[0]["reward"], "the first batch is the same"
    assert first[1]["loss"] != without[1]["loss"] and "distil/rows" not in without[0]


def test_a_replay_learns_earlier_answers_again_and_not_those_of_the_step(nano, tmp_path):
    _, tokenizer, samples = nano
    distiller = Distiller(samples, tokenizer, 0.5, 3, False, replay=2)
    a, b = samples[0].id, samples[1].id
    taken = [([(a, [1]), (a, [2])], []), ([(b, [3])], [(a, [1]), (a, [2])]), ([(a, [1])], [(a, [2]), (b, [3])])]
    for step, (rows, again) in enumerate(taken):
        distiller.take(*zip(*[(id, "demonstrated", answer, 1.0) for id, answer in rows]))
        assert sorted(distiller.replayed(step)) == again
    assert distiller.kept == {a: [[1], [2]], b: [[3]]}, "an answer is kept once"
    nothing = replace(samples[0], id="no-call", calls=[])
    distiller = Distiller([nothing], tokenizer, 0.5, 3, False, replay=2)
    distiller.take(["no-call"] * 2, ["plain"] * 2, [[4], [5]], [1.0, 0.0])
    assert distiller.rows == [("no-call", [4])], "no demonstration can be shown, so its plain answer is kept"
    recipe = get_recipe(RECIPE, distil_replay=5, round_steps=4)
    whole = train(recipe, get_profile("nano", steps=6, **TINY), 0, tmp_path / "whole")
    cut = train(recipe, get_profile("nano", steps=2, **TINY), 0, tmp_path / "cut")
    train(recipe, get_profile("nano", steps=6, **TINY), 0, cut, resume=True)
    logs = [[{k: v for k, v in r.items() if k != "seconds"} for r in read_log(run)[1:]] for run in (whole, cut)]
    assert logs[0] == logs[1]
    assert all(r["distil/replayed"] <= 5 for r in logs[0]) and logs[0][0]["distil/replayed"] == 0
    assert logs[0][-1]["distil/replayed"] > 0
    with pytest.raises(SettingsError, match="distil_replay must be at least 0"):
        get_recipe("context_distillation", distil_replay=-1)


def test_it_needs_demonstrations_and_a_weight():
    with pytest.raises(SettingsError, match="set hard_samples"):
        get_recipe("grpo", distil_weight=0.5)
    with pytest.raises(SettingsError, match="distil_weight is nan"):
        get_recipe("context_distillation", distil_weight=float("nan"))
