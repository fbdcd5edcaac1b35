"""The cache folder, and files that come into it whole or not at all."""

import errno
import io
import os
from pathlib import Path

import pytest

from toolexpander_lite.base import downloads
from toolexpander_lite.base.downloads import cache_folder, fetch, put_in_place
from toolexpander_lite.base.errors import SettingsError
from toolexpander_lite.data.sources import load_samples
from toolexpander_lite.evaluation.api_bank import load_api_bank


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
    monkeypatch.setattr(downloads.urllib.request, "urlopen", lambda url, timeout: io.BytesIO(b"rows"))
    for where in ((downloads.tempfile, "TemporaryDirectory"), (Path, "write_bytes")):  # at once, and half way
        message = words.format("data/toolrl", "No space.*")
        with monkeypatch.context() as patch, pytest.raises(SettingsError, match=message):
            patch.setattr(*where, full)
            load_samples("toolrl")
    assert not [place for place in tmp_path.rglob("*") if place.is_file() and place.name != "file"]


def test_two_processes_may_fetch_the_same_file_at_once(monkeypatch, tmp_path):
    """While the first one writes, the second one fetches the same address from beginning to end."""
    monkeypatch.setattr(downloads.urllib.request, "urlopen", lambda url, timeout: io.BytesIO(b"rows"))
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
