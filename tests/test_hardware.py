"""The choice of profile and precision, from made-up machines."""

import pytest

from toolexpander_lite.models.hardware import Hardware, describe_hardware, pick_dtype, pick_profile
from toolexpander_lite.training.profiles import PROFILES

CPU = Hardware("cpu", "CPU", 16.0)
AMX = Hardware("cpu", "CPU", 16.0, fast_bfloat16=True)
T4 = Hardware("cuda", "Tesla T4", 14.6, (7, 5))
V100 = Hardware("cuda", "V100", 31.7, (7, 0))
P4 = Hardware("cuda", "Tesla P4", 7.4, (6, 1))
L4 = Hardware("cuda", "L4", 22.2, (8, 9))
A10G = Hardware("cuda", "A10G", 21.96, (8, 6))
A4000 = Hardware("cuda", "RTX A4000", 15.7, (8, 6))
H100 = Hardware("cuda", "H100", 79.2, (9, 0))


@pytest.mark.parametrize(
    "hardware, profile, dtype",
    [
        (CPU, "nano", "float32"),
        (AMX, "nano", "bfloat16"),
        (T4, "t4", "float16"),
        (V100, "t4", "float16"),
        (P4, "smol", "float16"),
        (A4000, "t4", "bfloat16"),
        (L4, "gpu24", "bfloat16"),
        (A10G, "gpu24", "bfloat16"),
        (H100, "gpu24", "bfloat16"),
    ],
)
def test_profile_and_dtype_of_a_machine(hardware, profile, dtype):
    name, reason = pick_profile(hardware)
    assert name == profile and name in PROFILES
    assert hardware.name in reason and reason.endswith(".")
    assert pick_dtype("bfloat16", hardware) == dtype


def test_the_picked_profile_runs_in_the_precision_that_was_told():
    for hardware, dtype in ((T4, "float16"), (A4000, "bfloat16")):
        name, reason = pick_profile(hardware)
        assert f"in {dtype}." in reason and pick_dtype(PROFILES[name].dtype, hardware) == dtype


def test_float32_stays_and_a_cpu_gets_no_float16():
    assert pick_dtype("float32", T4) == "float32"
    assert [pick_dtype("float16", cpu) for cpu in (CPU, AMX)] == ["float32", "float32"]
    assert pick_dtype("float32", AMX) == "float32"


def test_an_emulated_bfloat16_is_not_believed(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda *a, **k: True)
    assert pick_dtype("bfloat16", T4) == "float16"


def test_an_unknown_dtype_is_named():
    with pytest.raises(ValueError, match="'fp16' is unknown"):
        pick_dtype("fp16", CPU)


def test_this_machine_can_be_described():
    here = describe_hardware()
    assert here.device in ("cpu", "cuda") and here.memory_gb > 0 and here.cpu_threads >= 1
    assert here.name in str(here)
    assert pick_profile()[0] in PROFILES
