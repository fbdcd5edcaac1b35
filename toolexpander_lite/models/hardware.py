"""What this machine is, and which profile fits it.

The choices are made from a plain `Hardware` record, so they can be read, tested and argued about
without owning the machine. All thresholds are our assumptions.
"""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Hardware:
    """One machine, as far as the choice of a profile depends on it.

    Attributes:
        device: "cuda" or "cpu".
        name: the GPU's name, or "CPU".
        memory_gb: memory of the device in GiB (the GPU's own; the machine's for a CPU).
        compute_capability: CUDA compute capability, (7, 5) for a T4; None on a CPU.
        cpu_threads: threads torch uses.
        fast_bfloat16: of a CPU, does it have units for bfloat16 (AMX)? False on a GPU.
    """

    device: str
    name: str
    memory_gb: float
    compute_capability: tuple | None = None
    cpu_threads: int = 1
    fast_bfloat16: bool = False

    def __str__(self):
        if self.device == "cpu":
            return f"{self.name}, {self.cpu_threads} thread(s), {self.memory_gb:.0f} GiB"
        major, minor = self.compute_capability
        return f"{self.name}, {self.memory_gb:.0f} GiB, compute capability {major}.{minor}"


def describe_hardware():
    """Look at this machine (the first CUDA GPU if there is one, else the CPU) -> `Hardware`."""
    threads = torch.get_num_threads()
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        return Hardware("cuda", gpu.name, gpu.total_memory / 2**30, (gpu.major, gpu.minor), threads)
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):  # not every operating system tells
        memory = 0
    known = getattr(torch.cpu, "get_capabilities", dict)()  # older torch does not tell
    return Hardware("cpu", "CPU", memory / 2**30, None, threads, known.get("amx_bf16", False))


def processor_name():
    """The processor's own name, as far as the operating system tells it -> str."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def pick_dtype(wanted="bfloat16", hardware=None):
    """The precision nearest to `wanted` that a machine handles -> "float32", "float16" or "bfloat16".

    bfloat16 on a GPU needs compute capability 8.0, else it becomes float16. `torch.cuda.is_bf16_supported()` is not
    asked: on a T4 it can say True, because torch emulates bfloat16 there, slowly. On a CPU float16 becomes float32, and
    so does bfloat16 without AMX: float32 trained faster on the one measured (`benchmarks/cpu_precision.py`).

    Raises:
        ValueError: `wanted` is none of the three.
    """
    hardware = hardware or describe_hardware()
    if wanted not in ("float32", "float16", "bfloat16"):
        raise ValueError(f"dtype {wanted!r} is unknown; use 'float32', 'float16' or 'bfloat16'")
    if hardware.device == "cpu":
        return "bfloat16" if wanted == "bfloat16" and hardware.fast_bfloat16 else "float32"
    if wanted == "bfloat16" and hardware.compute_capability < (8, 0):
        return "float16"
    return wanted


def pick_profile(hardware=None):
    """The largest profile a machine runs -> (name of the profile, one sentence that says why)."""
    hardware = hardware or describe_hardware()
    if hardware.device == "cpu":
        return "nano", f"{hardware}: no GPU, so the nano model, which trains on a CPU in minutes."
    # 21 rather than 24, 14 rather than 16: a "24 GB" card reports just under 22 to 24 GiB, a "16 GB" T4 under 15.
    if hardware.memory_gb >= 21 and hardware.compute_capability >= (8, 0):
        return "gpu24", f"{hardware}: at least 21 GiB and bfloat16, so the 24 GB profile."
    if hardware.memory_gb >= 14:
        return "t4", f"{hardware}: at least 14 GiB, so the T4 profile, in {pick_dtype(hardware=hardware)}."
    return "smol", (
        f"{hardware}: under 14 GiB, where the 1.5B profile was never measured, so SmolLM2, a tenth of its size. To try "
        "the larger one: profile t4 with micro_batch=10; the preflight tells whether it fits."
    )
