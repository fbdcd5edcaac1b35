"""The graded world: what it promises of its rows, of its policies, and of what demonstrations do to them."""

import json
import math
import random

import numpy as np
import pytest

from toolexpander_lite.evaluation.accuracy import ask_policy, choose_demos, gold_logprobs
from toolexpander_lite.method.calls import judge
from toolexpander_lite.method.hard_sampling import count_right
from toolexpander_lite.method.prompts import gold_completion, render_prompt, written_completion
from toolexpander_lite.method.self_examples import judge_examples_block
from toolexpander_lite.models.policy import load_policy
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.variants.other_demonstrations import VariantBank
from toolexpander_lite.variants.other_self_examples import trivial_share
from toolexpander_lite.worlds.graded_policy import (
    COPIED,
    OWN,
    REPEATED,
    build_graded_tokenizer,
    graded_plan,
    graded_row,
)
from toolexpander_lite.worlds.graded_world import (
    NOISE,
    TOOLS,
    Familiarity,
    graded_samples,
    queries,
    right_arguments,
    right_call,
    written,
)


def test_what_a_server_takes_is_its_own_affair():
    tool = TOOLS["book_taxi"]
    words = ("yen", "feet", "red")
    assert dict(zip(tool.books, tool.forms)) == {"currency": "ref", "unit": "id", "colour": "id"}
    right = {"taxi-currency": "ref:yen", "taxi-unit": "id:feet", "taxi-colour": "id:red"}
    assert right_arguments(tool, words) == right
    names = [a for t in TOOLS.values() for a in t.arguments]
    assert len(set(names)) == len(names) == 48, "no tool shares an argument name with another"
    assert {f for t in TOOLS.values() for f in t.forms} == {"id", "ref"}
    query = next(query for query, order in queries("book_taxi", "train") if order == ("yen", "feet", "red"))
    assert right_call(query) == {"name": "book_taxi", "arguments": right} and right_call(f"{query} please") is None


def test_the_odds_that_are_taught_by_hand():
    """e^2 and e^-1.5 to 1, for each of three arguments; a demonstration adds to the form that it shows."""
    tool, words = TOOLS["book_taxi"], ("yen", "feet", "red")
    flat = Familiarity(2.0, spread=0.0, word_spread=0.0, evidence=1.0)
    one = math.e**2 / (math.e**2 + 1 + math.e**-1.5)
    assert flat.chance(tool, words) == pytest.approx(one**3)
    right, bare = tuple((f,) for f in tool.forms), (("word",),) * 3
    shown = math.e**3 / (math.e**3 + 1 + math.e**-1.5)
    assert flat.chance(tool, words, right) == pytest.approx(shown**3)
    misled = math.e**2 / (math.e**2 + math.e + math.e**-1.5)
    assert flat.chance(tool, words, bare) == pytest.approx(misled**3)
    assert flat.chance(tool, words, temperature=0.5) == pytest.approx((math.e**4 / (math.e**4 + 1 + math.e**-3)) ** 3)


def test_no_words_are_in_both_splits_and_only_training_rows_are_noisy():
    for name in TOOLS:
        train, test = ({words for _, words in queries(name, split)} for split in ("train", "test"))
        assert not train & test and 0.1 < len(test) / 512 < 0.3
    rows = {split: graded_samples(split, 60) for split in ("train", "test")}
    noisy = {split: 0 for split in rows}
    for split, samples in rows.items():
        for sample in samples:
            words = dict(queries(sample.family, split))[sample.messages[0]["content"]]
            noisy[split] += sample.calls[0]["arguments"] != right_arguments(TOOLS[sample.family], words)
    assert noisy["test"] == 0 and noisy["train"] / len(rows["train"]) == pytest.approx(NOISE, abs=0.03)
    assert graded_samples("train", 3, seed=1) == graded_samples("train", 3, seed=1) != graded_samples("train", 3)


def test_the_tokenizer_loses_nothing():
    tokenizer, rng = build_graded_tokenizer(), random.Random(0)
    for row in (graded_row(Familiarity(0.0), 0.5, rng) for _ in range(50)):
        text = gold_completion(row.sample)
        assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text
        assert "<unk>" not in tokenizer.decode(tokenizer(render_prompt(row.sample, tokenizer, row.demos)).input_ids)


def test_own_examples_are_what_their_shares_say_and_stand_before_the_answer():
    """Drawn: six rows in ten invited, most of those with examples; each block in the form of the paper's rule."""
    tokenizer, rng = build_graded_tokenizer(), random.Random(0)
    plan = graded_plan("invited")
    rows = [graded_row(plan.familiarity, 0.4, rng, True, plan.own) for _ in range(2000)]
    invited = [row for row in rows if row.invited]
    assert len(invited) / 2000 == pytest.approx(0.6, abs=0.05)
    texts = [written_completion(row.sample) for row in invited]
    found = [judge_examples_block(text, 1) for text in texts]
    counts = np.bincount([v.read for v in found]) / len(found)
    assert counts == pytest.approx(OWN, abs=0.04) and {v.reason for v in found} == {"ok", "none"}
    prompts = [render_prompt(row.sample, tokenizer, row.demos, row.invited) for row in invited]
    # Copies (COPIED), and repeats (REPEATED) of every second example, of which each block of two has one.
    shares = COPIED + REPEATED * OWN[2] / (OWN[1] + 2 * OWN[2])
    assert trivial_share(prompts, texts) == pytest.approx(shares, abs=0.04)
    for text in texts[:50]:
        assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text
    assert all(right_call(e["question"]) for v in found for e in v.examples), "no question is senseless"
    assert not any("<examples>" in written_completion(row.sample) for row in rows if not row.invited)


# Share of hard rows, and by how much right demonstrations help more than any others: the 5, but for the policy
# that was taught on to write examples of its own, and lost some of that, and more in being taught to write four.
POLICIES = {"nano-graded": (0.28, 5), "nano-graded-weak": (0.72, 5), "nano-graded-habit": (0.28, 5),
            "nano-graded-invited": (0.72, 2), "nano-graded-invited-four": (0.72, 1)}  # fmt: skip


@pytest.fixture(scope="module", params=POLICIES.items(), ids=POLICIES)
def policy(request):
    profile, promised = request.param
    return (*load_policy(get_profile(profile)), promised)


def test_about_as_many_rows_are_hard_as_of_the_papers_small_models(policy):
    """Table 2: 17,455 and 45,362 of 62,687 rows, 10 rollouts at temperature 0.7. Pass rates lie all over 0 to 1."""
    model, tokenizer, (wanted, _) = policy
    rows = [(s, render_prompt(s, tokenizer)) for s in graded_samples("train", 10)]
    rates = np.array(list(count_right(ask_policy(model, tokenizer, 32, 0.7), rows, 10, 0, {}).right.values())) / 10
    assert np.mean(rates == 0) == pytest.approx(wanted, abs=0.08)
    between = [np.mean((rates > low) & (rates <= low + 0.25)) for low in (0, 0.25, 0.5, 0.75)]
    assert min(between) > 0.01, between


def test_right_demonstrations_of_the_same_tool_help_and_no_others(policy):
    """One demonstration, held-out rows, the exact chance of the gold answer: so many times the lift of other kinds."""
    model, tokenizer, (_, times) = policy
    held_out, train = graded_samples("test", 10), graded_samples("train", 20)

    def chance(demos):
        return gold_logprobs(model, tokenizer, held_out, demos).exp().mean().item()

    def of_its_tool(source):
        shown = choose_demos(held_out, VariantBank(train, source, per_tool=1), 2)
        return [[demo for demo in demos if demo.family == s.family] for s, demos in zip(held_out, shown)]

    plain, kinds = chance(None), {"right": of_its_tool("random"), "wrong values": of_its_tool("corrupted")}
    kinds["another tool"] = choose_demos(held_out, VariantBank(train, "other_tool", per_tool=1), 1)
    assert all(len(demos) == 1 for shown in kinds.values() for demos in shown)
    lift = {kind: chance(shown) - plain for kind, shown in kinds.items()}
    assert lift["right"] > 0.1 and lift["right"] >= times * max(lift["wrong values"], lift["another tool"]), lift
    # With one of each tool on offer, as rounds serve them, the distractor's takes some of it back.
    as_served = chance(choose_demos(held_out, VariantBank(train, "random", per_tool=1), 2)) - plain
    assert as_served > min(0.1, lift["right"] / 3), (as_served, lift)


def test_own_examples_are_written_where_they_are_asked_for_and_act_as_evidence():
    """Forced to begin with two examples of its tool: right ones lift the share of right answers, wrong ones cut it."""
    model, tokenizer = load_policy(get_profile("nano-graded-invited"))
    ask, held_out, rng = ask_policy(model, tokenizer, 104, 0.7), graded_samples("test", 5), random.Random(0)

    def answers(prompts):
        return [text for text, _ in ask([prompt for prompt in prompts for _ in range(5)], "0")]

    def right(openings):
        prompts = [render_prompt(s, tokenizer, invite="examples") + text for s, text in zip(held_out, openings)]
        whole = [openings[n // 5] + text for n, text in enumerate(answers(prompts))]
        asked = [sample for sample in held_out for _ in range(5)]
        return np.mean([judge(t, s.calls, s.tools).reason == "ok" for t, s in zip(whole, asked)])

    def block(sample, forms):
        tool, found = TOOLS[sample.family], []
        for question, words in rng.sample(queries(tool.name, "train"), 2):
            arguments = {a: written(w, f) for a, w, f in zip(tool.arguments, words, forms(tool))}
            answer = {"name": tool.name, "arguments": arguments}
            found.append({"tool": tool.name, "question": question, "answer": answer})
        return f"<think><examples>{json.dumps(found)}</examples>"

    prompts = ([render_prompt(s, tokenizer, invite=style) for s in held_out] for style in (False, "examples"))
    plain, invited = ([judge_examples_block(text, 2).reason for text in answers(asked)] for asked in prompts)
    assert plain.count("none") > 0.98 * len(plain)
    assert 0.15 < invited.count("ok") / len(invited) < 0.4 and invited.count("none") > 0.5 * len(invited)
    alone = right(["<think>call"] * len(held_out))
    helped = right([block(s, lambda tool: tool.forms) for s in held_out])
    misled = right([block(s, lambda tool: ["word"] * 3) for s in held_out])
    assert helped > 1.5 * alone and misled < 0.7 * alone, (helped, alone, misled)


def test_a_policy_that_writes_up_to_four_has_the_room_and_is_asked_to():
    """The paper's rule: more than three distinct examples. In a fifth to two fifths of invited answers."""
    model, tokenizer = load_policy(get_profile("nano-graded-invited-four"))
    ask, held_out = ask_policy(model, tokenizer, 200, 0.7), graded_samples("test", 3)
    for style, low, high in ((False, 0, 0.01), ("examples", 0.2, 0.4)):
        prompts = [render_prompt(s, tokenizer, invite=style) for s in held_out for _ in range(5)]
        texts = [text for text, _ in ask(prompts, "0")]
        assert low <= np.mean([judge_examples_block(text, 4).reason == "ok" for text in texts]) <= high
        assert np.mean([len(tokenizer(text).input_ids) < 200 for text in texts]) > 0.97, "they end by themselves"
