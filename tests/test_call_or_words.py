"""The measurement whether a policy begins a call more readily where a tool fits."""

import importlib.util
import sys

import pytest
import torch

from toolexpander_lite.base.chat import CALL_OPEN
from toolexpander_lite.base.runs import REPOSITORY, read_json
from toolexpander_lite.method.prompts import render_prompt
from toolexpander_lite.models.policy import load_policy
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.worlds.nano_world import nano_samples


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(REPOSITORY / "benchmarks"))
    try:
        file = REPOSITORY / "benchmarks" / "call_or_words.py"
        spec = importlib.util.spec_from_file_location("call_or_words", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(REPOSITORY / "benchmarks"))
    return module


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


def test_the_committed_measurement_is_of_the_requests_that_notebook_05_tells_of():
    policies = read_json(REPOSITORY / "assets" / "benchmarks" / "call_or_words.json")["policies"]
    assert {"as it comes", "other_tools/seed-0", "withheld/seed-0", "withheld_gold/seed-0"} <= set(policies)
    assert all(found["train"]["asked"] == 40 and found["test"]["asked"] == 100 for found in policies.values())
