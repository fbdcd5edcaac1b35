"""Rewards, group outcomes and advantages against values worked out by hand."""


import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_calls import call, schema, text

from toolexpander_lite.base.groups import group_advantages, group_outcomes
from toolexpander_lite.method.prompts import gold_completion
from toolexpander_lite.method.rewards import conjunctive_reward
from toolexpander_lite.method.samples import ToolSample, to_dataset
from toolexpander_lite.variants.baselines import REWARDS, correctness, graded_reward

TOOLS = [schema("add"), schema("neg")]
ADD = call("add", a=1, b=2)


def reward(function, completions, gold, **extra):
    """Calls a reward function as `GRPOTrainer._calculate_rewards` does."""
    n = len(completions)
    return function(
        prompts=["q"] * n, completions=completions, completion_ids=[[1]] * n, calls=[gold] * n,
        tools=[TOOLS] * n, id=["s"] * n, trainer_state=None, log_extra=None, **extra,
    )  # fmt: skip


def test_conjunctive_reward_wants_format_and_calls():
    completions = [text(ADD), text(ADD, think=""), text(call("add", a=1, b=3)), ""]
    assert reward(conjunctive_reward, completions, [ADD]) == [1.0, 0.0, 0.0, 0.0]
    conversational = [[{"role": "assistant", "content": c}] for c in completions]
    assert reward(conjunctive_reward, conversational, [ADD]) == [1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("name", REWARDS)
def test_format_rate_is_logged(name):
    logged = []
    log = lambda key, value: logged.append((key, value))  # noqa: E731
    reward(REWARDS[name], [text(ADD), text(ADD, think=""), text(call("neg")), ""], [ADD], log_metric=log)
    assert logged == [("format_rate", 0.5)]


def test_rewards_read_the_columns_of_a_data_set():
    gold = [[call("add", a=i, b=[0.5, {"c": None}])] for i in range(3)]
    chat = [{"role": "user", "content": "q"}]
    samples = [ToolSample(f"s{i}", "f", chat, TOOLS, calls) for i, calls in enumerate(gold)]
    rows = to_dataset(samples)
    completions = [gold_completion(s) for s in samples[:2]] + [gold_completion(samples[0])]
    columns = {"calls": rows["calls"][:], "tools": rows["tools"][:]}
    assert conjunctive_reward(["q"] * 3, completions, **columns) == [1.0, 1.0, 0.0]
    assert graded_reward(["q"] * 3, completions, **columns)[:2] == [4.0, 4.0]


def test_columns_of_another_length_are_refused():
    with pytest.raises(ValueError, match="zip"):
        conjunctive_reward(["q"], [text(ADD)], [[ADD], [ADD]], [TOOLS, TOOLS])


# Gold add(a=1, b=2): S_max = 1 + 1 + 2 = 4, so each point of R is worth 1.5.
@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        ([ADD], 3.0),  # 1 + 1 + 2 = 4
        ([], -3.0),  # 0
        ([call("neg", a=1, b=2)], -3.0),  # another tool earns nothing
        ([call("add", a=1, b=3)], 1.5),  # 1 + 1 + 1 = 3
        ([call("add", a=True, b=3)], 0.0),  # 1 + 1 + 0 = 2
        ([call("add")], -1.5),  # 1 + 0/2 + 0 = 1
        ([call("add", a=1)], 0.75),  # 1 + 1/2 + 1 = 2.5
        ([call("add", a=1, c=2)], 0.5),  # 1 + 1/3 + 1 = 7/3
        ([ADD, call("neg")], 2.25),  # names 1/2, so 3.5
        ([ADD, ADD], 2.25),  # a repeated call costs as much as another one
    ],
)
def test_correctness_of_one_gold_call(predicted, expected):
    assert correctness(predicted, [ADD]) == pytest.approx(expected)


def test_correctness_of_several_calls_uses_the_best_pairing():
    gold = [call("add", a=1, b=2), call("add", a=1, b=3)]  # S_max = 1 + 2 + 4 = 7
    # Taken alone, the first gold call fits both predictions equally; the second needs the first one.
    predicted = [call("add", a=1, b=3), call("add", a=7, b=2)]
    # Names 1, argument names 1 + 1, values 1 (b=2) + 2 = 6 of 7.
    assert correctness(predicted, gold) == pytest.approx(6 * 6 / 7 - 3)
    assert correctness(predicted[::-1], gold) == correctness(predicted, gold)
    assert correctness(predicted, gold[::-1]) == correctness(predicted, gold)


def test_correctness_without_arguments_or_without_gold_calls():
    assert correctness([call("neg")], [call("neg")]) == 3.0
    assert correctness([call("neg", x=1)], [call("neg")]) == 0.0  # 1 + 0 of 2
    assert correctness([], []) == 3.0
    assert correctness([ADD], []) == -3.0


def test_graded_reward_adds_format_and_correctness():
    completions = [text(ADD), text(ADD, think=""), text(call("add", a=1, b=3)), text(call("neg")), ""]
    assert reward(graded_reward, completions, [ADD]) == [4.0, 3.0, 2.5, -2.0, -3.0]
    completions = ["<think>none fits</think>", text(ADD), text(ADD, think=""), "", text(ADD) + "<tool_call>"]
    assert reward(graded_reward, completions, []) == [4.0, -2.0, -3.0, -3.0, -3.0]


small_calls = st.lists(
    st.builds(
        lambda name, arguments: {"name": name, "arguments": arguments},
        st.sampled_from(["add", "neg"]),
        st.dictionaries(st.sampled_from("ab"), st.sampled_from([0, 1, 1.0, True, "1"]), max_size=2),
    ),
    max_size=4,
)


@given(small_calls, small_calls, st.sampled_from(["<think>hm</think>", ""]))
def test_full_grade_and_conjunctive_reward_agree(predicted, gold, think):
    completions = [text(*predicted, think=think)]
    [grade] = reward(graded_reward, completions, gold)
    assert -3.0 <= grade <= 4.0
    assert (grade == 4.0) == (reward(conjunctive_reward, completions, gold) == [1.0])


def test_recipes_name_the_rewards_there_are():
    assert REWARDS == {"conjunctive": conjunctive_reward, "graded": graded_reward}


def test_group_outcomes():
    rewards = [0, 0, 0, 1, 1, 1, 0, 1, 0, 0, 0, 0]
    assert group_outcomes(rewards, 3) == {"all_fail": 0.5, "all_pass": 0.25, "mixed": 0.25}
    with pytest.raises(ValueError, match="0 or 1"):
        group_outcomes([0.01, 0.0], 2)


def test_advantages_by_hand():
    # Mean 0.25, standard deviation sqrt((0.75^2 + 3 * 0.25^2) / 3) = 0.5.
    expected = [0.75 / 0.5001, -0.25 / 0.5001, -0.25 / 0.5001, -0.25 / 0.5001]
    np.testing.assert_allclose(group_advantages([1, 0, 0, 0], 4), expected, rtol=1e-12)
    np.testing.assert_allclose(group_advantages([1, 0, 0, 0], 4, scale="none"), [0.75, -0.25, -0.25, -0.25])


def test_groups_without_contrast_teach_nothing():
    for scale in ("group", "none"):
        assert group_advantages([0, 0, 1, 1], 2, scale).tolist() == [0.0] * 4


def test_a_tiny_bonus_in_a_failed_group_is_blown_up_by_scaling():
    # Mean 0.005, standard deviation 0.01 / sqrt(3) = 0.0057735.
    rewards = [0.01, 0.01, 0.0, 0.0]
    np.testing.assert_allclose(group_advantages(rewards, 4), [0.8513, 0.8513, -0.8513, -0.8513], atol=1e-4)
    np.testing.assert_allclose(group_advantages(rewards, 4, "none"), [0.005, 0.005, -0.005, -0.005])


def test_groups_are_scaled_apart():
    np.testing.assert_allclose(
        group_advantages([1, 0, 9, 5], 2),
        np.array([0.5, -0.5, 2, -2]) / (np.array([0.5, 0.5, 8, 8]) ** 0.5 + 1e-4),
    )


def test_a_batch_has_one_deviation():
    """Rewards 1, 0, 9, 5 deviate by 4.1130 (over n - 1) from their mean of 3.75."""
    found = group_advantages([1, 0, 9, 5], 2, scale="batch")
    np.testing.assert_allclose(found, np.array([0.5, -0.5, 2, -2]) / (4.112988 + 1e-4), rtol=1e-6)
    assert (group_advantages([1, 1, 0, 0], 2, scale="batch") == 0).all()


@pytest.mark.parametrize("function", [group_advantages, group_outcomes])
def test_incomplete_groups_are_refused(function):
    for rewards, size in (([1, 0, 1], 2), ([], 2), ([[1, 0]], 2), ([1, 0], 1)):
        with pytest.raises(ValueError, match="groups of|2 or more"):
            function(rewards, size)
    with pytest.raises(ValueError, match="unknown scale 'rows'; choose one of group, batch, none"):
        group_advantages([1, 0], 2, scale="rows")
