"""The measurements whether a policy begins a call more readily where a tool fits, and whether that can be taught."""

import importlib.util
import sys
from types import SimpleNamespace

import pytest
import torch

from toolexpander_lite.base.chat import CALL_CLOSE, CALL_OPEN
from toolexpander_lite.base.runs import REPOSITORY, read_json
from toolexpander_lite.method.prompts import gold_completion, render_prompt
from toolexpander_lite.method.samples import tool_name
from toolexpander_lite.models.policy import load_policy
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.worlds.nano_world import nano_samples
from toolexpander_lite.worlds.request_world import request_tasks


def loaded(name):
    sys.path.insert(0, str(REPOSITORY / "benchmarks"))
    try:
        spec = importlib.util.spec_from_file_location(name, REPOSITORY / "benchmarks" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(REPOSITORY / "benchmarks"))
    return module


@pytest.fixture(scope="module")
def script():
    return loaded("call_or_words")


@pytest.mark.parametrize("fits, misfits, share", [
    ([0.9, 0.5], [0.5, 0.1], 3.5 / 4), ([0.9, 0.8], [0.2], 1), ([0.1], [0.2, 0.3], 0), ([0.4], [0.4], 0.5),
])  # fmt: skip
def test_pairs_are_counted_by_hand(script, fits, misfits, share):
    assert script.told_apart(fits, misfits) == share


def test_the_probability_is_that_of_the_first_token_behind_the_prompt(script):
    model, tokenizer = load_policy(get_profile("nano"))
    samples = nano_samples("test", 1)[:3]
    for sample, found in zip(samples, script.calls_begun(model, tokenizer, samples, False)):
        prompt = render_prompt(sample, tokenizer)
        length = len(tokenizer(prompt, add_special_tokens=False).input_ids)
        ids = tokenizer(prompt + CALL_OPEN, add_special_tokens=False, return_tensors="pt").input_ids
        with torch.no_grad():
            expected = model(input_ids=ids).logits[0, length - 1].float().softmax(-1)[ids[0, length]]
        assert found == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("fits, misfits, threshold", [
    ([0.9, 0.5], [0.4, 0.1], 0.5),  # 1 - 0
    ([0.9, 0.5, 0.4], [0.6, 0.1], 0.4),  # 1 - 1/2, at 0.9 it is 1/3
    ([0.9, 0.5], [0.6, 0.1], 0.9),  # 1/2 - 0, and 1 - 1/2 at 0.5: the highest of equal ones
])  # fmt: skip
def test_the_threshold_tells_the_two_apart_best(script, fits, misfits, threshold):
    assert script.best_threshold(fits, misfits) == threshold


def test_an_answer_that_has_to_begin_as_a_call_is_executed(script, monkeypatch):
    tasks = {task.sample.id: task for task in request_tasks("train", 1)[:3]}
    samples = [task.sample for task in tasks.values()]
    right = gold_completion(samples[0], think=False)
    unclosed = gold_completion(samples[2], think=False).removesuffix(CALL_CLOSE)

    class Letters:  # a tokenizer with a token for each letter
        def __call__(self, text, **how):
            return SimpleNamespace(input_ids=[ord(letter) for letter in text])

        def decode(self, ids):
            return "".join(map(chr, ids))

    def answers(model, tokenizer, prompts, longest, batch_size):
        assert prompts == ["a prompt<"] * 3
        return [text.removeprefix("<") for text in (right, right, unclosed)]

    monkeypatch.setattr(script, "generate", answers)
    monkeypatch.setattr(script, "render_prompt", lambda sample, tokenizer, invite: "a prompt")
    found = script.right_if_called(None, Letters(), samples, tasks, "native", 60)
    assert found == [True, False, False]  # the second calls what the first wants, the third has no end


def test_the_committed_measurement_is_of_the_requests_that_notebook_05_tells_of():
    policies = read_json(REPOSITORY / "assets" / "benchmarks" / "call_or_words.json")["policies"]
    assert {"as it comes", "other_tools/seed-0", "withheld/seed-0", "withheld_gold/seed-0"} <= set(policies)
    assert all(found["train"]["asked"] == 40 and found["test"]["asked"] == 100 for found in policies.values())


def test_rows_are_learnt_by_turns_with_the_tool_that_fits_and_without_it():
    taught = loaded("taught_to_abstain")
    samples = [task.sample for task in taught.single_calls("train", 2)]
    rows = taught.rows_to_learn(samples, 4 * len(samples), seed=0)
    for fitting, misfit in zip(rows[::2], rows[1::2]):
        assert fitting.messages == misfit.messages
        names = [{tool_name(tool) for tool in row.tools} for row in (fitting, misfit)]
        called = {call["name"] for call in fitting.calls}
        assert len(called) == 1 and called <= names[0] and not called & names[1] and not misfit.calls
        assert len(names[0]) == len(names[1]) == 2
    visits = [row.messages[-1]["content"] for row in rows[::2]]
    assert sorted(visits) == sorted(2 * [sample.messages[-1]["content"] for sample in samples])
    assert len({str(row.tools) for row in rows}) > len(samples)  # other tools are on offer at each visit
