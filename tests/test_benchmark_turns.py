"""The benchmarks' stopwatch: three runs that take turns in one process."""

import importlib.util
import random

import numpy as np
import pytest
import torch

from toolexpander_lite.base.runs import REPOSITORY


@pytest.fixture(scope="module")
def turns():
    spec = importlib.util.spec_from_file_location("turns", REPOSITORY / "benchmarks" / "turns.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def draws(numbers, length=3.0):
    """A run that draws random numbers in each of five steps."""

    def run(note):
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        for _ in range(5):
            numbers.append((random.random(), np.random.rand(), torch.rand(1).item()))
            note({"reward": 0.0, "completions/mean_length": length})
            note({"loss": 0.0})  # a second update on the same rollouts: no step of its own

    return run


def test_runs_take_turns_and_draw_as_if_alone(turns):
    order = []

    def sides(number):
        def named(name):
            def run(note):
                for _ in range(4):
                    order.append(name)
                    note({"reward": 0.0, "completions/mean_length": 1.0})

            return run

        return {name: named(name) for name in "abc"}

    rounds = turns.take_turns(sides, 4)
    assert "".join(order) == "abc" * 4 + "bca" * 4 + "cab" * 4
    assert [len(one["wall"]["b"]) for one in rounds] == [4 - turns.WARM_UP] * 3

    alone, one, two = [], [], []
    turns.one_round({"x": draws(alone)})
    turns.one_round({"x": draws(one), "y": draws(two)})
    assert alone == one == two and len(set(alone)) == 5


def test_other_rollouts_and_failures_are_not_passed_over(turns):
    with pytest.raises(SystemExit, match="same rollouts"):
        turns.one_round({"x": draws([]), "y": draws([], length=3.5)})

    def fails(note):
        raise ValueError("no such model")

    with pytest.raises(ValueError, match="no such model"):
        turns.one_round({"x": draws([]), "y": fails})


def test_ratio_by_hand(turns):
    one = {"wall": {"stock": [1.0, 2.0], "ours": [1.5, 3.3], "again": [2.0, 4.0]}}
    other = {"wall": {"stock": [1.0, 1.0], "ours": [1.2, 1.2], "again": [1.0, 1.0]}}
    found = turns.compare([one, other])["wall"]
    assert found["ratio"] == pytest.approx((1.0 + 1.1 + 1.2 + 1.2) / 4)
    assert found["by_round"] == pytest.approx([1.05, 1.2])
    assert found["control"]["ratio"] == pytest.approx((0.5 + 0.5 + 1 + 1) / 4)
    assert found["seconds_per_step"]["stock"] == pytest.approx(1.25)
