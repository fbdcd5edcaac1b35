"""Bytes counted from an architecture, against published sizes, pen and paper, and models that were really loaded."""

import importlib.util

import pytest
from test_models import WITH_TOOLS, save_model
from transformers import AutoConfig

from toolexpander_lite.models.memory import FOUR_BIT_LORA, count_parameters, held_bytes, qwen25_config, training_bytes
from toolexpander_lite.models.policy import load_policy
from toolexpander_lite.training.profiles import get_profile


@pytest.mark.parametrize("size, billions", [("0.5B", 0.49), ("1.5B", 1.54), ("3B", 3.09), ("7B", 7.61)])
def test_architectures_have_the_published_number_of_parameters(size, billions):
    count = count_parameters(qwen25_config(size))
    assert (count["linear"] + count["other"]) / 1e9 == pytest.approx(billions, abs=0.01)
    assert count["lora"] == 0


def test_adapters_have_rank_times_inputs_and_outputs():
    per_layer = 2 * (64 + 64) + 2 * (64 + 32) + 3 * (64 + 128)  # q and o; k and v; gate, up and down
    assert count_parameters(qwen25_config("tiny"), rank=8)["lora"] == 2 * 8 * per_layer


def test_full_training_by_pen_and_paper():
    """Weights, gradients, two AdamW numbers and the reference: 20 bytes a parameter."""
    config = qwen25_config("tiny")
    parameters = sum(count_parameters(config).values())
    parts = training_bytes(config, get_profile("nano"))
    assert sum(parts.values()) == 20 * parameters
    assert training_bytes(config, get_profile("nano"), reference=False)["reference"] == 0


def test_adapters_and_the_8_bit_optimizer_by_pen_and_paper():
    config, profile = qwen25_config("tiny"), get_profile("t4")
    count = count_parameters(config, profile.lora_rank)
    parts = training_bytes(config, profile)
    assert parts["adapters"] == parts["gradients"] == 2 * parts["optimizer"] == 4 * count["lora"]
    assert parts["reference"] == 0
    packed = parts["weights"] - 2 * count["other"]
    assert 0.515 < packed / count["linear"] < 0.517
    unpacked = training_bytes(config, get_profile("t4", quantization=None))
    assert unpacked["weights"] == 2 * (count["linear"] + count["other"])


def test_the_fields_that_are_drawn_are_those_of_the_profile():
    profile = get_profile("smol")
    assert {name: getattr(profile, name) for name in FOUR_BIT_LORA} == FOUR_BIT_LORA


@pytest.mark.parametrize("quantization", [None, "4bit"])
def test_the_count_is_what_a_loaded_model_holds(quantization, tmp_path, amx):
    if quantization and not importlib.util.find_spec("bitsandbytes"):
        pytest.skip("bitsandbytes is not installed")
    folder = save_model(tmp_path, template=WITH_TOOLS)
    profile = get_profile("smol", model=str(folder), quantization=quantization, lora_rank=2)
    model, _ = load_policy(profile, device="cpu")
    parts = training_bytes(AutoConfig.from_pretrained(folder), profile)
    assert held_bytes(model) == pytest.approx(parts["weights"] + parts["adapters"], rel=0.02)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert parts["gradients"] == 4 * trained
