"""The tokenizer, the warm start, and the promise of the committed checkpoint: its difficulty band."""

import random

import pandas as pd
import pytest
import torch

from toolexpander_lite.__main__ import main
from toolexpander_lite.base.errors import SettingsError
from toolexpander_lite.evaluation.accuracy import choose_demos, evaluate, generate, gold_logprobs
from toolexpander_lite.method.prompts import gold_completion, render_prompt, written_completion
from toolexpander_lite.method.samples import SolvedSample
from toolexpander_lite.models.policy import load_policy
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.variants.other_demonstrations import VariantBank
from toolexpander_lite.variants.other_self_examples import judge_example, judge_examples
from toolexpander_lite.worlds import nano_policy
from toolexpander_lite.worlds.nano_policy import (
    WarmStart,
    build_nano_policy,
    build_tokenizer,
    sft_batch,
    warm_start_row,
)
from toolexpander_lite.worlds.nano_world import (
    CODEBOOKS,
    EASY_FAMILIES,
    FAMILIES,
    HARD_FAMILIES,
    all_queries,
    nano_samples,
    split_of,
)


@pytest.fixture(scope="module")
def policy():
    return load_policy(get_profile("nano"))


def test_tokenizer_gives_back_every_gold_completion_and_knows_every_prompt():
    tokenizer = build_tokenizer()
    unknown = tokenizer.convert_tokens_to_ids("<unk>")
    for sample in nano_samples("train", 20) + nano_samples("test", 20):
        gold = gold_completion(sample)
        assert tokenizer.decode(tokenizer(gold).input_ids, skip_special_tokens=True) == gold
        assert unknown not in tokenizer(render_prompt(sample, tokenizer)).input_ids


def test_every_code_and_json_key_is_one_token():
    tokenizer = build_tokenizer()
    for text in ("CDG", '"city": "', '"minutes": ', '{"name": "', '", "arguments": {', "\n<tool_call>\n"):
        assert len(tokenizer(text).input_ids) == 1, text


def test_a_word_it_does_not_know_stays_visible():
    tokenizer = build_tokenizer()
    ids = tokenizer('"city": "atlantis"').input_ids
    assert "<unk>" in tokenizer.decode(ids, skip_special_tokens=True)


def test_committed_tokenizer_is_the_one_the_code_builds(policy):
    assert policy[1].get_vocab() == build_tokenizer().get_vocab()
    assert policy[1].chat_template == build_tokenizer().chat_template


def check_band(model, tokenizer, held_out):
    """The kit hangs on this: hard means a right answer in 3e-6 to 3e-5, and in 0.5 or more with one demonstration."""
    shown = choose_demos(held_out, VariantBank(nano_samples("train", 50)), 1)
    for demos, low, high in ((None, 3e-6, 3e-5), (shown, 0.5, 1)):
        chances = pd.Series(gold_logprobs(model, tokenizer, held_out, demos).exp().tolist())
        found = chances.groupby([sample.family for sample in held_out]).mean()
        assert set(found.index) == set(HARD_FAMILIES) and found.between(low, high).all(), found


def test_committed_policy_lies_in_the_difficulty_band(policy):
    check_band(*policy, nano_samples("test", 50, families=HARD_FAMILIES))


def test_easy_families_are_right_or_partly_right(policy):
    scores = evaluate(*policy, nano_samples("test", 20, families=EASY_FAMILIES), 48)["families"]
    assert scores["play_song"] == scores["set_timer"] == 1.0
    partly = gold_logprobs(*policy, nano_samples("test", 20, families=["send_note", "find_recipe"])).exp()
    assert 0.2 < partly.mean() < 0.6


def test_policy_is_of_the_size_it_says(policy):
    assert 3e5 <= policy[0].num_parameters() <= 1e6


def test_exact_gold_probability_agrees_with_sampling(policy):
    """Teacher-forced probability against the share of 2,000 rollouts that write just the gold text."""
    model, tokenizer = policy
    sample = nano_samples("test", 1, families=["send_note"])[0]
    exact = gold_logprobs(model, tokenizer, [sample]).exp().item()
    torch.manual_seed(0)
    prompt = tokenizer(render_prompt(sample, tokenizer), return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        output = model.generate(**prompt, do_sample=True, top_k=0, num_return_sequences=2000, max_new_tokens=48)
    texts = tokenizer.batch_decode(output[:, prompt.input_ids.shape[1] :], skip_special_tokens=True)
    share = sum(t == gold_completion(sample) for t in texts) / 2000
    assert 0.05 < exact < 0.95
    assert abs(share - exact) < 4 * (exact * (1 - exact) / 2000) ** 0.5


def test_gold_logprob_does_not_depend_on_the_batch(policy):
    samples = nano_samples("test", 2)
    together = gold_logprobs(*policy, samples)
    alone = torch.cat([gold_logprobs(*policy, [s]) for s in samples])
    assert torch.allclose(together, alone, atol=1e-4)


@pytest.fixture(scope="module")
def queries():
    return {f.name: [q for q in all_queries(f) if split_of(q[0]) == "train"] for f in FAMILIES.values()}


def test_warm_start_rows_have_the_frequencies_they_promise(queries):
    plan, rng = WarmStart(), random.Random(0)
    rows = [warm_start_row(plan, queries, rng) for _ in range(20000)]
    assert all(row.sample.split == "train" and not row.invited for row in rows)
    hard = [(s, d) for s, d, *_ in rows if s.family in HARD_FAMILIES]
    assert abs(len(hard) / len(rows) - 0.75) < 0.02
    plain = [s for s, d in hard if not d]
    assert abs(len(plain) / len(hard) - 0.45) < 0.02
    coded = [v not in s.messages[-1]["content"].split() for s in plain for v in s.calls[0]["arguments"].values()]
    assert abs(sum(coded) / len(coded) - 0.02) < 0.005
    for sample, demos in hard:
        for demo in demos:
            query, other = sample.messages[-1]["content"].split(), demo.messages[-1]["content"].split()
            assert query != other


def test_warm_start_rows_with_examples(queries):
    """Examples begin invited rows without demonstrations only, as often as asked, and never show the answer."""
    plan, rng, tokenizer = WarmStart(example_rate=0.2), random.Random(0), build_tokenizer(examples=True)
    rows = [warm_start_row(plan, queries, rng) for _ in range(20000)]
    asked = [row for row in rows if row.invited and not row.demos]
    with_example = [row.sample for row in asked if isinstance(row.sample, SolvedSample)]
    begun = [row for row in asked if not row.opened]
    assert abs(len(begun) / len(asked) - 0.7) < 0.02
    assert abs(sum(isinstance(row.sample, SolvedSample) for row in begun) / len(begun) - 0.2) < 0.02
    assert len(with_example) == sum(isinstance(row.sample, SolvedSample) for row in rows)
    for sample in with_example:
        prompt = render_prompt(sample, tokenizer, (), True)
        verdict = judge_example(sample.completion, prompt, sample.tools, strict=True)
        assert verdict.reason == "ok", "it shares no argument with the answer, or the strict rule would refuse it"
        assert tokenizer.decode(tokenizer(sample.completion).input_ids).count("<unk>") == 0
        coded = set(verdict.call["arguments"].values()) <= {c for book in CODEBOOKS.values() for c in book.values()}
        assert verdict.analysis == f"the tool takes {'codes' if coded else 'words'}"


def test_an_opened_example_is_learnt_but_not_its_beginning(queries):
    plan, rng, tokenizer = WarmStart(example_rate=0.2), random.Random(0), build_tokenizer(examples=True)
    rows = [warm_start_row(plan, queries, rng) for _ in range(300)]
    ids, labels = sft_batch(rows, tokenizer)
    opening = tokenizer.convert_tokens_to_ids("<example>")
    for row, tokens, learnt in zip(rows, ids.tolist(), labels.tolist()):
        scored = [t for t in learnt if t != -100]
        answer = tokenizer(written_completion(row.sample)).input_ids + [tokenizer.eos_token_id]
        assert scored == (answer[2:] if row.opened else answer)
        assert opening not in scored or not row.opened
        assert tokens[: len(tokens) - learnt[::-1].index(scored[-1])][-len(scored) :] == scored
    assert any(row.opened for row in rows)


@pytest.mark.parametrize(
    "name, low, high",
    [("nano-common", 0.03, 0.06), ("nano-rare", 0.002, 0.008), ("nano-rarest", -1, 0.002),
     ("nano-invited", 0.003, 0.008)],
)  # fmt: skip
def test_policies_with_examples(name, low, high):
    """The same band of difficulty, and self-written examples as rare as the name says, 2,400 rollouts."""
    model, tokenizer = load_policy(get_profile(name))
    assert tokenizer.get_vocab() == build_tokenizer(examples=True).get_vocab()
    assert tokenizer.chat_template == build_tokenizer(examples=True).chat_template
    held_out = nano_samples("test", 30, families=HARD_FAMILIES)
    check_band(model, tokenizer, held_out)
    asked = held_out * 10
    prompts = [render_prompt(s, tokenizer, (), True) for s in asked]
    torch.manual_seed(0)
    completions = generate(model, tokenizer, prompts, 64, temperature=1.0, batch_size=240)
    rate = sum(v.reason == "ok" for v in judge_examples(prompts, completions, [s.tools for s in asked])) / len(asked)
    assert low < rate < high


def chance_of_an_example(name, invite):
    """Exact chance that an answer to a held-out hard question begins with an example, mean over questions."""
    model, tokenizer = load_policy(get_profile(name))
    held_out = nano_samples("test", 10, families=HARD_FAMILIES)
    prompts = [render_prompt(s, tokenizer, (), invite) + "<think>" for s in held_out]
    ids = [tokenizer(prompt, return_tensors="pt").input_ids for prompt in prompts]
    opening = tokenizer.convert_tokens_to_ids("<example>")
    with torch.no_grad():
        return sum(model(row).logits[0, -1].softmax(-1)[opening].item() for row in ids) / len(ids)


def test_only_one_policy_tells_invited_prompts_from_others():
    assert chance_of_an_example("nano-rare", False) > 0.5 * chance_of_an_example("nano-rare", True)
    uninvited, invited = (chance_of_an_example("nano-invited", invite) for invite in (False, True))
    assert uninvited < 1e-4 and 0.003 < invited < 0.008


def test_an_early_rate_holds_for_two_thirds_of_the_steps(monkeypatch):
    """And without one, the rows are those of a plan that does not know it."""
    asked = []
    draw = nano_policy.warm_start_row

    def count(plan, queries, rng):
        asked.append(plan.example_rate)
        return draw(plan, queries, rng)

    monkeypatch.setattr(nano_policy, "warm_start_row", count)
    build_nano_policy(plan=WarmStart(steps=30, batch_size=2, example_rate=0.1, early_example_rate=0.4))
    assert asked == [0.4] * 40 + [0.1] * 20  # rows are drawn for ten steps at a time
    asked.clear()
    build_nano_policy(plan=WarmStart(steps=10, batch_size=2, example_rate=0.1))
    assert asked == [0.1] * 20
    asked.clear()
    rates = {"example_rate": 0.1, "early_example_rate": 0.4}
    build_nano_policy(plan=WarmStart(steps=30, batch_size=2, early_share=1 / 3, **rates))
    assert asked == [0.4] * 20 + [0.1] * 40
    with pytest.raises(SettingsError, match="early_example_rate is 2"):
        WarmStart(early_example_rate=2)


@pytest.mark.parametrize("name, words", [("", "is not empty"), ("config.json", "cannot write to")])
def test_a_policy_is_not_built_over_something(name, words, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(nano_policy, "build_model", lambda *a: pytest.fail("a policy was begun"))
    (tmp_path / "config.json").write_text("precious")
    assert main(["nano-policy", "--out", str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert words in error and "choose another folder with --out" in error and error.count("\n") == 1
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("config.json", "precious")]


def test_a_policy_is_saved_into_a_new_or_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        build_nano_policy(tmp_path / name, WarmStart(steps=2, batch_size=2))
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= {f.name for f in (tmp_path / name).iterdir()}


def test_rebuilding_is_deterministic():
    plan = WarmStart(steps=3, batch_size=4)
    first, _ = build_nano_policy(plan=plan)
    second, _ = build_nano_policy(plan=plan)
    other, _ = build_nano_policy(plan=WarmStart(steps=3, batch_size=4, seed=1))

    def weights(model):
        return torch.cat([p.flatten() for p in model.parameters()])

    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(other))
