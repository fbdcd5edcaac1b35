"""Context distillation inside the stock trainer: which answers, what loss, and that a cut run goes on alike."""

from dataclasses import replace

import pytest
import torch

from toolexpander_lite.base.errors import SettingsError
from toolexpander_lite.base.runs import read_jsonl, read_log
from toolexpander_lite.method.calls import parse_completion
from toolexpander_lite.method.prompts import gold_completion, render_prompt
from toolexpander_lite.models.policy import load_policy
from toolexpander_lite.training import distil
from toolexpander_lite.training.distil import Distiller
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.splits import tools_by_name, with_other_tools
from toolexpander_lite.training.train import rows_to_train_on, train
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
    distiller = Distiller(samples, tokenizer, replace(RECIPE, distil_per_group=2))
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
    distiller, rows = Distiller(samples, tokenizer, replace(RECIPE, distil_weight=0.25)), []
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


def test_the_first_token_can_weigh_more(nano):
    model, tokenizer, samples = nano
    one, none = (Distiller(samples, tokenizer, replace(RECIPE, distil_first_token=w)) for w in (2.0, 0.0))
    rows = [(s.id, tokenizer(gold_completion(s), add_special_tokens=False).input_ids) for s in samples[:2]]
    first = []
    for sample, (_, answer) in zip(samples, rows):
        prompt = tokenizer(render_prompt(sample, tokenizer), add_special_tokens=False, return_tensors="pt").input_ids
        first.append(-model(input_ids=prompt).logits[0, -1].log_softmax(-1)[answer[0]].item())
    added = (one.loss(model, rows) - none.loss(model, rows)).item()
    assert added == pytest.approx(2 * sum(first) / 2, rel=1e-3)
    with pytest.raises(SettingsError, match="distil_first_token is -1"):
        get_recipe("context_distillation", distil_first_token=-1)
    with pytest.raises(SettingsError, match="needs distil_weight"):
        get_recipe("paper_replace", distil_first_token=1.0)


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
    distiller = Distiller(samples, tokenizer, replace(RECIPE, distil_replay=2))
    a, b = samples[0].id, samples[1].id
    taken = [([(a, [1]), (a, [2])], []), ([(b, [3])], [(a, [1]), (a, [2])]), ([(a, [1])], [(a, [2]), (b, [3])])]
    for step, (rows, again) in enumerate(taken):
        distiller.take(*zip(*[(id, "demonstrated", answer, 1.0) for id, answer in rows]))
        assert sorted(distiller.replayed(step)) == again
    assert distiller.kept == {a: [[1], [2]], b: [[3]]}, "an answer is kept once"
    nothing = replace(samples[0], id="no-call", calls=[])
    distiller = Distiller([nothing], tokenizer, replace(RECIPE, distil_replay=2))
    distiller.take(["no-call"] * 2, ["plain"] * 2, [[4], [5]], [1.0, 0.0])
    assert distiller.rows == [("no-call", [4])], "no demonstration can be shown, so its plain answer is kept"
    recipe = get_recipe(RECIPE, distil_replay=5, other_tools=True, round_steps=4)
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


def tools_of(prompt):
    return sorted(name for name in tools_by_name(nano_samples("train", 1)) if f"{name}(" in prompt)


def test_an_answer_is_learnt_with_other_tools_on_offer_beside_those_that_it_calls(nano):
    model, tokenizer, samples = nano
    sample, known = samples[0], tools_by_name(samples)
    (called,) = {call["name"] for call in sample.calls}
    shown = [[*tools_by_name([with_other_tools(sample, {called}, known, n)])] for n in range(40)]
    assert all(len(set(names)) == 2 and called in names for names in shown)
    assert {name for names in shown for name in names} == set(known), "any other tool, sooner or later"
    assert {names.index(called) for names in shown} == {0, 1}, "in any order"
    assert with_other_tools(sample, set(), known, 0) is sample, "where no call is right another tool might be"
    answer = tokenizer(gold_completion(sample), add_special_tokens=False).input_ids + [tokenizer.eos_token_id]
    distiller = Distiller(samples, tokenizer, replace(RECIPE, other_tools=True))
    prompts = [distiller.plain_prompt(sample.id, answer, step) for step in range(20)]
    assert all(called in tools_of(prompt) and len(tools_of(prompt)) == 2 for prompt in prompts)
    assert len({tuple(tools_of(prompt)) for prompt in prompts}) > 3
    assert distiller.plain_prompt(sample.id, answer, None) == render_prompt(sample, tokenizer)
    own = [distiller.loss(model, [(sample.id, answer)], seed).item() for seed in (None, "1 0", "1 0", "2 0")]
    assert own[1] == own[2] and len(set(own)) == 3, "the loss is that under the prompt of its step"


def test_plain_words_are_learnt_where_the_tool_that_a_row_needs_is_withheld(nano, monkeypatch):
    model, tokenizer, samples = nano
    recipe = get_recipe("distil_withheld", prompt_style="think", distil_withheld=3)
    distiller, end = Distiller(samples, tokenizer, recipe, longest=6), tokenizer.eos_token_id
    texts = ["one two", "one two three one", gold_completion(samples[2])] + ["three"] * (len(samples) - 3)
    asked = []
    monkeypatch.setattr(distil, "generate", lambda model, tokenizer, prompts, most: asked.extend(prompts) or texts)
    words = distiller.first_words(model)
    for sample, prompt in zip(samples, asked):
        assert not {call["name"] for call in sample.calls} & set(tools_of(prompt)) and len(tools_of(prompt)) == 2
    told = {text: tokenizer(text, add_special_tokens=False).input_ids for text in ("one two", "one two three")}
    assert words[samples[0].id] == [*told["one two"], end], "it ended"
    assert words[samples[1].id] == told["one two three"], "half of six, and no end: it may have been cut"
    assert samples[2].id not in words, "a call"
    shown = [tools_of(distiller.plain_prompt(samples[0].id, words[samples[0].id], step)) for step in range(30)]
    (needed,) = {call["name"] for call in samples[0].calls}
    assert {name for names in shown for name in names} == set(tools_by_name(samples)) - {needed}
    distiller.words = words
    assert len(distiller.words_again(1)) == 3 and distiller.words_again(1) == distiller.words_again(1)
    assert distiller.words_again(1) != distiller.words_again(2)
    with pytest.raises(SettingsError, match="distil_withheld must be at least 0, and offers other tools"):
        get_recipe("context_distillation", distil_withheld=8)


def test_one_gold_sentence_may_stand_for_the_words_where_a_tool_is_withheld(nano, monkeypatch):
    _, tokenizer, samples = nano
    monkeypatch.setattr(distil, "generate", lambda *args: pytest.fail("the policy is not asked"))
    for style, sentence in (("native", "No tool fits."), ("think", "<think>no tool fits</think>")):
        recipe = get_recipe("distil_withheld", prompt_style=style, distil_withheld_words="gold")
        words = Distiller(samples, tokenizer, recipe, longest=6).first_words(None)
        assert set(words) == {s.id for s in samples if s.calls}
        told = [*tokenizer(sentence, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        assert all(answer == told for answer in words.values())
    with pytest.raises(SettingsError, match="distil_withheld_words='gold' has no words to replace"):
        get_recipe("distil_other_tools", distil_withheld_words="gold")


def test_a_cut_run_goes_on_with_the_words_of_its_first_policy(tmp_path, monkeypatch):
    asked = []

    def another_answer_each_time(model, tokenizer, prompts, most):
        asked.append(prompts)
        return [("one", "two", "three")[len(asked) - 1]] * len(prompts)

    monkeypatch.setattr(distil, "generate", another_answer_each_time)
    recipe = replace(RECIPE, distil_replay=5, other_tools=True, distil_withheld=2, round_steps=4)
    whole = train(recipe, get_profile("nano", steps=6, **TINY), 0, tmp_path / "whole")
    assert len(asked) == 1, "not in the second round"
    asked.clear()
    cut = train(recipe, get_profile("nano", steps=2, **TINY), 0, tmp_path / "cut")
    train(recipe, get_profile("nano", steps=6, **TINY), 0, cut, resume=True)
    assert len(asked) == 1, "nor after the cut"
    logs = [[{k: v for k, v in r.items() if k != "seconds"} for r in read_log(run)[1:]] for run in (whole, cut)]
    assert logs[0] == logs[1] and all(row["distil/withheld"] == 2 for row in logs[0])


def test_gold_answers_are_learnt_with_other_tools_on_offer_too(nano):
    _, tokenizer, samples = nano
    profile = get_profile("nano", steps=2, **TINY)
    same, other = (
        rows_to_train_on(get_recipe("paper_sft", other_tools=varied), profile, 0, samples, tokenizer)
        for varied in (False, True)
    )
    assert same["completion"] == other["completion"] and sorted(same.column_names) == sorted(other.column_names)
    assert len({*same["prompt"]}) == 12 < len({*other["prompt"]})
    for prompt, completion in zip(other["prompt"], other["completion"]):
        (called,) = [call["name"] for call in parse_completion(completion).calls]
        assert called in tools_of(prompt) and len(tools_of(prompt)) == 2
    with pytest.raises(SettingsError, match="other_tools changes the prompts of distilled and of supervised answers"):
        get_recipe("paper_replace", other_tools=True)
