"""The measurements whether a policy begins a call more readily where a tool fits, and whether that can be taught."""

import importlib.util
import math
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


def test_probabilities_are_those_of_one_pass_over_prompt_and_call(script):
    model, tokenizer = load_policy(get_profile("nano"))
    begin = f'{CALL_OPEN}\n{{"name": "'
    for sample in nano_samples("test", 1)[:3]:
        prompt = render_prompt(sample, tokenizer)
        begun, names = script.names_weighed(model, tokenizer, sample, False)
        assert list(names) == [tool_name(tool) for tool in sample.tools]
        for name, found in names.items():
            parts = (prompt, begin, f'{name}",')
            ids = [tokenizer(text, add_special_tokens=False).input_ids for text in parts]
            before, to_name = len(ids[0]), len(ids[0]) + len(ids[1])
            row = torch.tensor([sum(ids, [])])
            with torch.no_grad():
                logps = model(input_ids=row).logits[0].float().log_softmax(-1)
            each = [logps[place - 1, row[0, place]].item() for place in range(before, row.shape[1])]
            assert begun == pytest.approx(math.exp(each[0]), rel=1e-4)
            assert found == pytest.approx(sum(each[to_name - before :]), rel=1e-4)


def test_a_name_is_lifted_by_what_the_request_adds(script, monkeypatch):
    sample = nano_samples("test", 1)[0]
    first, second = (tool_name(tool) for tool in sample.tools[:2])
    asked = {script.NEUTRAL: (0.1, {first: -1.0, second: -4.0})}
    monkeypatch.setattr(script, "names_weighed", lambda model, tokenizer, sample, style: asked.get(
        sample.messages[-1]["content"], (0.9, {first: -0.5, second: -2.0})))  # fmt: skip
    found = script.weighed(None, None, [sample], False)
    assert {name: values.tolist() for name, values in found.items()} == {"begun": [0.9], "name": [-0.5], "lifted": [2]}


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
