"""The choice of profile and precision, from made-up machines."""

import errno
import io
import os
from pathlib import Path

import pytest

from toolexpander_lite.base.downloads import cache_folder, fetch, put_in_place
from toolexpander_lite.base.errors import SettingsError
from toolexpander_lite.data.sources import load_samples
from toolexpander_lite.evaluation.api_bank import load_api_bank
from toolexpander_lite.models import hardware as module
from toolexpander_lite.models.hardware import Hardware, describe_hardware, pick_dtype, pick_profile
from toolexpander_lite.training.profiles import PROFILES

CPU = Hardware("cpu", "CPU", 16.0)
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
        (CPU, "nano", "bfloat16"),
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
    assert pick_dtype("float16", CPU) == "float32"


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


def test_the_cache_folder_can_be_moved(monkeypatch, tmp_path):
    monkeypatch.setenv("TOOLEXPANDER_CACHE", str(tmp_path / "c"))
    assert cache_folder("a", "b") == tmp_path / "c" / "a" / "b" and cache_folder("a", "b").is_dir()


def test_a_cache_that_cannot_be_written_to_is_one_clear_error(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TOOLEXPANDER_CACHE", str(tmp_path / "file" / "cache"))
    words = r"cannot write to the cache folder .*{}.* \({}\); set TOOLEXPANDER_CACHE to a folder that can be written to"
    for act in (lambda: cache_folder("data"), lambda: load_samples("toolrl"), lambda: load_api_bank(1)):
        with pytest.raises(SettingsError, match=words.format("file/cache/", "Not a directory")):
            act()

    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setenv("TOOLEXPANDER_CACHE", str(tmp_path))
    monkeypatch.setattr(module.urllib.request, "urlopen", lambda url, timeout: io.BytesIO(b"rows"))
    for where in ((module.tempfile, "TemporaryDirectory"), (Path, "write_bytes")):  # at once, and half way
        message = words.format("data/toolrl", "No space.*")
        with monkeypatch.context() as patch, pytest.raises(SettingsError, match=message):
            patch.setattr(*where, full)
            load_samples("toolrl")
    assert not [place for place in tmp_path.rglob("*") if place.is_file() and place.name != "file"]


def test_two_processes_may_fetch_the_same_file_at_once(monkeypatch, tmp_path):
    """While the first one writes, the second one fetches the same address from beginning to end."""
    monkeypatch.setattr(module.urllib.request, "urlopen", lambda url, timeout: io.BytesIO(b"rows"))
    write, written = Path.write_bytes, []

    def write_bytes(file, content):
        written.append(file)
        write(file, content)
        if len(written) == 1:
            fetch("https://example.org/rows.json", tmp_path)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    file = fetch("https://example.org/rows.json", tmp_path)
    assert len(set(written)) == 2 and file.read_bytes() == b"rows" and list(tmp_path.iterdir()) == [file]
    fetch("https://example.org/rows.json", tmp_path)
    assert len(written) == 2, "what is there is not fetched again"


def test_what_another_process_has_put_there_is_used(tmp_path):
    for folder in ("made", "place"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").write_text(folder)
    put_in_place(tmp_path / "made", tmp_path / "place")
    assert (tmp_path / "place" / "file").read_text() == "place"
    put_in_place(tmp_path / "made", tmp_path / "free")
    assert (tmp_path / "free" / "file").read_text() == "made" and os.listdir(tmp_path / "free") == ["file"]
    with pytest.raises(FileNotFoundError):
        put_in_place(tmp_path / "made", tmp_path / "other")
