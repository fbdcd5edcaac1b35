"""docs/scale.md: its numbers come from the estimator, its files are what accelerate reads."""

from types import SimpleNamespace

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType

from toolexpander_lite.base.runs import REPOSITORY, read_json
from toolexpander_lite.models.memory import count_parameters, gpu_hours, per_gpu, qwen25_config, training_bytes

PAGE = (REPOSITORY / "docs" / "scale.md").read_text(encoding="utf-8")
FULL = SimpleNamespace(quantization=None, lora_rank=0, dtype="bfloat16", optim="adamw_torch_fused")
ROWS = 62_687


@pytest.mark.parametrize("size", ["1.5B", "7B"])
def test_memory_of_the_page(size):
    held = training_bytes(qwen25_config(size), FULL)
    ways = (1, "ddp"), (8, "zero2"), (8, "zero3"), (64, "zero3")
    told = [f"{sum(per_gpu(held, *way).values()) / 2**30:.1f}" for way in ways]
    assert f"| {size} | {' | '.join(told)} |" in PAGE


def test_hours_of_the_page():
    for answer in (200, 500, 1500):
        hours = []
        for size in ("1.5B", "7B"):
            count = count_parameters(qwen25_config(size))
            hours.append(gpu_hours(count["linear"] + count["other"], 10 * ROWS, 5, 600, answer, scans=5 * 10 * ROWS))
        cells = [f"{round(train)} + {round(scans)}" for train, scans in hours]
        eighths = " / ".join(str(round(sum(both) / 8)) for both in hours)
        assert f"| {answer} | {' | '.join(cells)} | {eighths} |" in PAGE


def test_hours_are_counted_by_hand():
    """One parameter, one row, one rollout of one token on a machine of one operation a second: 12 s and 2 s."""
    train, scan = gpu_hours(1, 1, 1, 0.5, 0.5, scans=1, peak=1, used=1)
    assert (train * 3600, scan * 3600) == (pytest.approx(12), pytest.approx(2))
    assert gpu_hours(1, 1, 1, 0.5, 0.5, reference=False, peak=1, used=1)[0] * 3600 == pytest.approx(10)


@pytest.mark.parametrize(("file", "kind", "stage"), [
    ("cpu", "MULTI_GPU", None), ("ddp", "MULTI_GPU", None), ("zero2", "DEEPSPEED", 2), ("zero3", "DEEPSPEED", 3),
    ("fsdp2", "FSDP", None),
])  # fmt: skip
def test_accelerate_reads_the_files(file, kind, stage):
    path = REPOSITORY / "toolexpander_lite" / "training" / "accelerate" / f"{file}.yaml"
    config = load_config_from_file(str(path))
    assert config.distributed_type == DistributedType[kind] and file in PAGE
    assert config.deepspeed_config.get("zero_stage") == stage
    assert file != "fsdp2" or config.fsdp_config["fsdp_version"] == 2


def test_the_measured_ratio_of_the_page():
    found = read_json(REPOSITORY / "assets" / "benchmarks" / "processes.json")
    assert f"takes {found['ratio']} of the time of one" in PAGE and f"a load of {found['load_before']}" in PAGE
    assert found["ratio"] == pytest.approx(found["seconds_per_step"]["2"] / found["seconds_per_step"]["1"], abs=1e-3)
