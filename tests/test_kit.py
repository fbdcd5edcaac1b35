"""kit.py and the notebooks' set-up cell: an address once, links everywhere, and a kit that Colab fetches by itself."""

import json
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import quote

import nbformat
import pytest

from toolexpander_lite.base.runs import REPOSITORY

sys.path.insert(0, str(REPOSITORY))
import kit  # noqa: E402

ADDRESS = "https://github.com/someone/tool-kit"
NOTEBOOKS = sorted(path.name for path in (REPOSITORY / "notebooks").glob("*.ipynb"))


@pytest.fixture
def copy(tmp_path):
    """README and notebooks as they are committed, in a folder of their own."""
    shutil.copy(REPOSITORY / "README.md", tmp_path)
    shutil.copytree(REPOSITORY / "notebooks", tmp_path / "notebooks", ignore=shutil.ignore_patterns(".*", "solutions"))
    return tmp_path


def set_up_cell(name):
    cells = nbformat.read(REPOSITORY / "notebooks" / name, as_version=4).cells
    (cell,) = [cell for cell in cells if cell.source.startswith("REPOSITORY = ")]
    return cell.source


def test_all_notebooks_share_one_set_up_cell():
    assert len({set_up_cell(name) for name in NOTEBOOKS}) == 1 and len(NOTEBOOKS) >= 8


def test_publish_fills_in_what_check_finds_blank_and_changes_nothing_else(copy):
    assert kit.without_address(copy) == ["README.md", *NOTEBOOKS]
    before = {path: path.read_text(encoding="utf-8").splitlines() for path in copy.rglob("*.*")}
    kit.publish(ADDRESS + ".git", copy)
    assert kit.without_address(copy) == []
    for path, lines in before.items():
        after = path.read_text(encoding="utf-8").splitlines()
        changed = [new for old, new in zip(lines, after, strict=True) if old != new]
        name = path.name if path.suffix == ".ipynb" else "00_start_here.ipynb"
        assert f"colab.research.google.com/github/someone/tool-kit/blob/main/notebooks/{name})" in changed[0]
        assert len(changed) == (2 if path.suffix == ".ipynb" else 1)
        if path.suffix == ".ipynb":
            assert f'REPOSITORY = \\"{ADDRESS}\\"' in changed[1]
            nbformat.validate(nbformat.read(path, as_version=4))
    kit.publish("https://github.com/other/fork/", copy)
    assert ADDRESS not in "".join(path.read_text(encoding="utf-8") for path in before)


@pytest.mark.parametrize("address", ["", "github.com/a/b", "https://github.com/a", "https://example.com/a/b", "a'; b"])
def test_no_address_of_a_repository_is_one_line(copy, address):
    with pytest.raises(SystemExit, match="is no address of the form https://github.com/OWNER/NAME"):
        kit.publish(address, copy)
    assert kit.without_address(copy)


class Sessions(BaseHTTPRequestHandler):
    """Answers as Colab does for a notebook that was opened from GitHub."""

    def do_GET(self):
        path = "fileId=" + quote(f"{ADDRESS}/blob/main/notebooks/01_grpo_baseline.ipynb", safe="")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps([{"name": "01_grpo_baseline.ipynb", "path": path}]).encode())

    def log_message(self, *_):
        pass


def run_cell(folder, **environment):
    """Run the set-up cell in `folder`, with a git that makes a kit which says where it came from."""
    programs = folder / "programs"
    programs.mkdir()
    git = programs / "git"
    git.write_text(
        '#!/bin/sh\nmkdir -p "$6"\n'
        """printf 'def set_up_notebook():\\n    print("kit from %s")\\n' "$5" > "$6/kit.py"\n"""
    )
    git.chmod(0o755)
    (folder / "cell.py").write_text(set_up_cell(NOTEBOOKS[0]))
    here = folder / "content"
    here.mkdir()
    return subprocess.run([sys.executable, "../cell.py"], cwd=here, capture_output=True, text=True,
                          env={"PATH": f"{programs}:/usr/bin:/bin", **environment})  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for git is a shell script")
def test_in_colab_the_set_up_cell_finds_its_repository(tmp_path):
    server = HTTPServer(("127.0.0.1", 0), Sessions)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        done = run_cell(tmp_path, COLAB_JUPYTER_IP="127.0.0.1", KMP_TARGET_PORT=str(server.server_port))
    finally:
        server.shutdown()
    assert done.stdout == f"kit from {ADDRESS}\n", done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for git is a shell script")
def test_where_it_cannot_be_found_the_cell_asks_for_it(tmp_path):
    done = run_cell(tmp_path)
    assert done.returncode and done.stderr.strip().endswith("Fill in REPOSITORY above and run this cell again.")
