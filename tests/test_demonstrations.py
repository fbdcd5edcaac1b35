"""Whose solved examples are shown, and that none gives the answer away."""

import json
import random
from types import SimpleNamespace

import pytest

from toolexpander_lite.base.errors import DataError, PoolError, SettingsError
from toolexpander_lite.method.demonstrations import offering
from toolexpander_lite.method.hard_sampling import PoolReward
from toolexpander_lite.method.prompts import gold_completion, render_prompt
from toolexpander_lite.method.samples import SolvedSample, ToolSample
from toolexpander_lite.variants.other_demonstrations import VariantBank
from toolexpander_lite.variants.visit_pool import VisitPool
from toolexpander_lite.worlds.nano_policy import build_tokenizer
from toolexpander_lite.worlds.nano_world import nano_samples


def arguments_of(sample):
    (call,) = sample.calls
    return call["arguments"]


def tool(name):
    return {"type": "function", "function": {"name": name, "description": "", "parameters": {"type": "object"}}}


def sample(id, call, tools, value, family="real", query=None, split="train"):
    """A sample that lists `tools` and calls one of them with one argument."""
    messages = [{"role": "user", "content": query or f"question {id}"}]
    return ToolSample(
        id, family, messages, [tool(t) for t in tools], [{"name": call, "arguments": {"x": value}}], split
    )


def drawn(bank, sample, count=1, draws=200, **options):
    """All that `draws` draws bring -> {id: sample}."""
    return {d.id: d for seed in range(draws) for d in bank.choose(sample, count, random.Random(seed), **options)}


def test_what_cannot_be_a_bank_is_refused():
    with pytest.raises(DataError, match="'t' is from split 'test'; demonstrations come from train"):
        VariantBank([sample("t", "a", ["a"], 1, split="test")])
    with pytest.raises(SettingsError, match="unknown demonstration source 'best'; .*choose one of random, ver"):
        VariantBank([], "best")


@pytest.mark.parametrize("source", ["gold", "random", "verified", "corrupted", "other_tool"])
def test_the_draw_follows_the_generator_and_never_repeats_a_sample(source):
    samples = nano_samples("train", 12, families=["book_taxi", "play_song"])
    bank = VariantBank(samples, source, per_tool=3)
    draws = [bank.choose(samples[0], 3, random.Random(seed)) for seed in range(20)]
    assert draws == [bank.choose(samples[0], 3, random.Random(seed)) for seed in range(20)]
    assert all(len({d.id for d in demos}) == len(demos) == 3 for demos in draws)
    assert len({demos[0].id for demos in draws}) > 1


def test_for_each_tool_on_offer_other_rows_that_use_it():
    """The paper's rule, by hand: two tools, two rows each at most, never the row's own answer."""
    asked = sample("a", "f", ["f", "g"], 1)
    others = [
        sample("same-value", "f", ["f"], 1), sample("same-query", "f", ["f"], 2, query="question a"),
        *(sample(f"f{n}", "f", ["f"], 10 + n) for n in range(3)), *(sample(f"g{n}", "g", ["g"], n) for n in range(3)),
        sample("not-on-offer", "h", ["h", "f"], 5),
    ]  # fmt: skip
    both = sample("both", "f", ["f", "h"], 7)
    both.calls.append({"name": "h", "arguments": {}})
    bank = VariantBank([asked, *others, both], "random", per_tool=2)
    for seed in range(50):
        shown = bank.choose(asked, 4, random.Random(seed))
        assert sorted(d.calls[0]["name"] for d in shown) == ["f", "f", "g", "g"]
        assert all(d.id[1:].isdigit() for d in shown), "neither its answer, nor its query, nor a tool not on offer"
        assert sorted(d.calls[0]["name"] for d in bank.choose(asked, 2, random.Random(seed))) == ["f", "g"], "in turn"
    assert set(drawn(bank, asked, count=4)) == {"f0", "f1", "f2", "g0", "g1", "g2"}
    firsts = {bank.choose(asked, 1, random.Random(seed))[0].calls[0]["name"] for seed in range(50)}
    assert firsts == {"f", "g"}, "no tool is favoured: that would tell which is right"
    offers_both = sample("b", "f", ["f", "h"], 3)
    assert "both" in drawn(VariantBank([asked, both], "random"), offers_both, count=9, draws=1)


def test_a_tool_that_is_not_on_offer_brings_its_schema():
    asked, others = sample("a", "f", ["f"], 1), [sample(f"h{n}", "h", ["h", "x"], n) for n in range(3)]
    bank = VariantBank([asked, *others, sample("b", "f", ["f"], 2)], "other_tool")
    shown = bank.choose(asked, 1, random.Random(0))
    assert [d.calls[0]["name"] for d in shown] == ["h"]
    assert [t["function"]["name"] for t in offering(asked, shown).tools] == ["f", "h"], "and no tool it does not call"
    assert offering(asked, [sample("c", "f", ["f"], 3)]) is asked and len(asked.tools) == 1


def test_gold_is_of_the_tool_that_is_right_and_shares_no_value():
    asked = sample("a", "f", ["f", "g"], 1)
    others = [
        sample("same-value", "f", ["f"], 1), sample("same-query", "f", ["f"], 2, query="question a"),
        sample("other-tool", "g", ["g"], 3), sample("text-one", "f", ["f"], "1"), sample("fits", "f", ["f"], 4),
    ]  # fmt: skip
    assert set(drawn(VariantBank([asked, *others]), asked)) == {"text-one", "fits"}


def test_an_answer_that_is_equal_is_never_shown():
    """1.0 is 1 to the judge."""
    asked, same = sample("a", "f", ["f"], 1), sample("b", "f", ["f"], 1.0)
    for source in ("gold", "random"):
        assert drawn(VariantBank([asked, same], source), asked) == {}
        assert drawn(VariantBank([asked, sample("c", "f", ["f"], True)], source), asked) != {}


def test_corrupted_shows_the_right_names_with_values_of_other_calls():
    samples = nano_samples("train", 12, families=["book_taxi", "play_song"])
    golds, bank = {s.id: s for s in samples}, VariantBank(samples, "corrupted")
    asked = samples[0]
    elsewhere = {value for s in samples if s.id != asked.id for value in arguments_of(s).values()}
    for seed in range(100):
        for demo in bank.choose(asked, 2, random.Random(seed)):
            gold = golds[demo.id]
            assert (demo.messages, demo.tools, demo.calls[0]["name"]) == (gold.messages, gold.tools, "book_taxi")
            assert list(arguments_of(demo)) == list(arguments_of(gold))
            for name, value in arguments_of(demo).items():
                assert value != arguments_of(gold)[name] and value in elsewhere, "never from the asked row"
    assert samples == nano_samples("train", 12, families=["book_taxi", "play_song"]), "the gold itself stays whole"


def test_corrupted_keeps_a_value_that_nothing_differs_from():
    asked, *others = (sample(f"s{n}", "f", ["f"], value) for n, value in enumerate([1, 2, 2]))
    shown = drawn(VariantBank([asked, *others], "corrupted"), asked)
    assert [arguments_of(shown[id]) for id in ("s1", "s2")] == [{"x": 2}, {"x": 2}]


def test_own_shows_what_the_policy_wrote_when_it_first_solved_a_sample():
    samples = nano_samples("train", 12, families=["book_taxi"])
    asked, tokenizer = samples[0], build_tokenizer()
    found = list(drawn(VariantBank(samples), asked).values())[0]
    bank = VariantBank(samples, "own")
    assert bank.choose(asked, 3, random.Random(0)) == [], "nothing is solved yet"
    bank.learn(found.id, "<think>queen</think>", 5)
    assert bank.choose(asked, 3, random.Random(0), step=6) == [], "step 6 may be rendered before step 5 is known"
    expected = [SolvedSample.of(found, "<think>queen</think>")]
    assert bank.choose(asked, 3, random.Random(0), step=7) == bank.choose(asked, 3, random.Random(0)) == expected
    bank.learn(found.id, "<think>prince</think>", 6)
    assert bank.choose(asked, 3, random.Random(0), step=7) == expected, "the first solution stays"
    prompt = render_prompt(asked, tokenizer, expected)
    turns = f"<|user|>{found.messages[0]['content']}<|end|><|assistant|><think>queen</think><|end|>"
    assert turns in prompt and gold_completion(found) not in prompt


def test_own_solutions_of_the_sample_itself_or_with_its_values_are_never_shown():
    asked, same, fits = sample("a", "f", ["f"], 1), sample("b", "f", ["f"], 1), sample("c", "f", ["f"], 2)
    bank = VariantBank([asked, same, fits], "own")
    for known in (asked, same):
        bank.learn(known.id, "text", 1)
    assert bank.choose(asked, 2, random.Random(0)) == []
    bank.learn(fits.id, "text", 1)
    assert [d.id for d in bank.choose(asked, 2, random.Random(0))] == ["c"]


def test_it_says_who_gets_none_and_why():
    """The paper: 6,574 of 62,687 rows, since their tools are used nowhere else."""
    once, twin, same = sample("once", "f", ["f"], 1), sample("twin", "g", ["g"], 1), sample("same", "g", ["g"], 1)
    others = nano_samples("train", 8, families=["play_song"])
    samples = [*others, once, twin, same]
    none = {"once": "no_other_row", "twin": "same_answer", "same": "same_answer"}
    for source, missing in (("random", none), ("gold", none), ("corrupted", none), ("other_tool", {}), ("own", {})):
        assert VariantBank(samples, source).why_without(samples) == missing
        assert list(VariantBank(samples, source).why_without(samples)) == list(missing)
    assert VariantBank(samples, "random").choose(once, 1, random.Random(0)) == []


def test_saved_solutions_are_the_same_again(tmp_path):
    samples, file = nano_samples("train", 12, families=["book_taxi"]), tmp_path / "demonstrations.json"
    bank, again = VariantBank(samples, "own"), VariantBank(samples, "own")
    for step, solved in enumerate(samples[1:9]):
        bank.learn(solved.id, f"text {step} <tool_call> é", step)
    bank.save(file)
    again.load(file)
    for step in (3, 6, 20):
        told = [b.choose(samples[0], 9, random.Random(0), step=step) for b in (bank, again)]
        assert told[0] == told[1] and (step < 20 or told[0])
    again.learn(samples[1].id, "later", 30)
    again.save(tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text()) == json.loads(file.read_text()), "the first still stays"
    file.write_text('{"book')
    for name in (file, tmp_path / "none.json"):
        with pytest.raises(PoolError, match="cannot read the demonstrations"):
            again.load(name)
    file.write_text('["a list"]')
    with pytest.raises(PoolError, match="cannot read the demonstrations"):
        again.load(file)
    file.write_text('{"of another set": [1, "text"]}')
    with pytest.raises(PoolError, match="of another data set: no sample 'of another set' here"):
        again.load(file)


@pytest.mark.parametrize("source, known", [("own", {"a": [4, "right"], "c": [4, "right too"]}), ("gold", {})])
def test_the_reward_tells_the_bank_of_right_rollouts(source, known, tmp_path):
    """The first right text of each sample, with the step it was found in; a bank that shows gold needs none."""
    bank, ids = VariantBank([], source), ["a"] * 3 + ["b"] * 3 + ["c"] * 3
    texts = ["wrong", "right", "right again", "wrong", "no", "none", "right too", "right", "wrong"]

    def reward(prompts, completions, **columns):
        return [float(text.startswith("right")) for text in completions]

    wrapped = PoolReward(reward, VisitPool(["a", "b", "c"]), bank.learn if source == "own" else None)
    assert wrapped.__name__ == "reward"
    for step in (3, 4):
        state = SimpleNamespace(global_step=step)
        given = wrapped(texts, texts, sample_id=ids, served=["plain"] * 9, trainer_state=state)
        assert given == [0, 1, 1, 0, 0, 0, 1, 1, 0]
    bank.save(tmp_path / "bank.json")
    assert json.loads((tmp_path / "bank.json").read_text()) == known
