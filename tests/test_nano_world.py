import pytest

from toolexpander_lite.method.calls import judge
from toolexpander_lite.method.prompts import gold_completion
from toolexpander_lite.method.samples import to_dataset, to_samples
from toolexpander_lite.variants.other_demonstrations import VariantBank
from toolexpander_lite.worlds.nano_world import (
    CODEBOOKS,
    EASY_FAMILIES,
    FAMILIES,
    HARD_FAMILIES,
    WORDS,
    all_queries,
    make_sample,
    nano_samples,
    nano_tools,
    split_of,
)
from toolexpander_lite.worlds.run_calls import ToolRegistry


def test_train_and_held_out_share_no_query_for_any_pair_of_seeds():
    def texts(split, seed):
        return {s.messages[-1]["content"] for s in nano_samples(split, 20, seed)}

    held_out = set().union(*(texts("test", seed) for seed in range(5)))
    for seed in range(5):
        train = texts("train", seed)
        assert len(train) == 20 * len(FAMILIES)
        assert not train & held_out


def test_seed_decides_the_samples():
    assert nano_samples("train", 5, seed=3) == nano_samples("train", 5, seed=3)
    assert nano_samples("train", 5, seed=3) != nano_samples("train", 5, seed=4)


def test_eight_hard_families_with_three_coded_arguments_each():
    assert len(HARD_FAMILIES) == 8 and len(EASY_FAMILIES) == 4
    for name in HARD_FAMILIES:
        assert len(FAMILIES[name].arguments) == 3
        assert all(a in CODEBOOKS for a in FAMILIES[name].arguments)
    for name in EASY_FAMILIES:
        assert not any(a in CODEBOOKS for a in FAMILIES[name].arguments)


def test_words_and_codes_are_unique_so_a_value_names_its_argument():
    words = [w for book in CODEBOOKS.values() for w in book] + [str(w) for ws in WORDS.values() for w in ws]
    codes = [c for book in CODEBOOKS.values() for c in book.values()]
    assert len(set(words)) == len(words)
    assert len(set(codes)) == len(codes)
    assert not set(words) & set(codes)


def test_codes_are_not_in_the_schema_nor_in_the_query():
    for sample in nano_samples("train", 10, families=HARD_FAMILIES):
        for code in sample.calls[0]["arguments"].values():
            assert f'"{code}"' not in str(sample.tools).replace("'", '"')
            assert code not in sample.messages[-1]["content"].split()


def test_gold_calls_execute_and_the_habit_does_not():
    registry = ToolRegistry()
    for function, schema in nano_tools().values():
        registry.register(function, schema)
    for sample in nano_samples("test", 5):
        call = sample.calls[0]
        result = registry.execute(call)
        assert result.ok and result.value == {"done": call["name"], **call["arguments"]}
    family = FAMILIES["book_taxi"]
    query, words = next(all_queries(family))
    habit = {"name": "book_taxi", "arguments": words}
    assert not registry.execute(habit).ok
    assert "paris" in registry.execute(habit).error
    sample = make_sample(family, query, {"city": "CDG", "day": "d1", "currency": "USD"})
    assert judge(gold_completion(sample), sample.calls, sample.tools).call_ok
    wrong = make_sample(family, query, words)
    assert judge(gold_completion(wrong), sample.calls, sample.tools).reason == "wrong_argument"


def test_demonstrations_show_the_form_and_never_the_answer():
    import random

    bank = VariantBank(nano_samples("train", 30))
    for sample in nano_samples("test", 10) + nano_samples("train", 10):
        demos = bank.choose(sample, 2, random.Random(0))
        assert len(demos) == 2
        for demo in demos:
            assert demo.family == sample.family and demo.split == "train" and demo.id != sample.id
            for name, value in demo.calls[0]["arguments"].items():
                assert sample.calls[0]["arguments"][name] != value


def test_bank_refuses_held_out_samples_and_says_nothing_fits_with_an_empty_list():
    import random

    with pytest.raises(ValueError, match="come from train"):
        VariantBank(nano_samples("test", 1))
    sample = nano_samples("train", 1)[0]
    assert VariantBank([sample]).choose(sample, 2, random.Random(0)) == []


def test_samples_survive_the_dataset():
    samples = nano_samples("test", 2)
    assert to_samples(to_dataset(samples)) == samples


def test_too_many_samples_is_an_error_that_names_the_family():
    with pytest.raises(ValueError, match="play_song has .* test queries, 1000 asked for"):
        nano_samples("test", 1000, families=["play_song"])


def test_split_shares():
    queries = [q for f in FAMILIES.values() for q, _ in all_queries(f)]
    share = sum(split_of(q) == "test" for q in queries) / len(queries)
    assert 0.17 < share < 0.23
