"""JupyterLab in headless Chromium: a click and a drag change what is shown, and a stop button ends a run.

`python -m pytest tests/test_browser.py` runs it. It needs Playwright (`pip install -e .[browser]`) and a Chromium, and
is skipped without. With TOOLEXPANDER_SCREENSHOTS=folder it leaves screenshots there, to be looked at.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

from toolexpander_lite.base.runs import REPOSITORY, write_json, write_jsonl

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install -e .[browser]")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)", allow_module_level=True)

PATIENCE = 150_000  # milliseconds; a busy machine starts a kernel slowly
CELLS = {
    "advantages": "from toolexpander_lite.widgets.playgrounds import advantage_playground\nadvantage_playground()",
    "clip": "from toolexpander_lite.widgets.playgrounds import clip_playground\nclip_playground()",
    "pool": "from toolexpander_lite.widgets.pool_stepper import pool_stepper\npool_stepper()",
    "rollouts": "from toolexpander_lite.widgets.rollouts import RolloutBrowser\nRolloutBrowser('run')",
    # A cell that is at work, as one that trains: the click has to be heard meanwhile.
    "dashboard": "import pathlib, time\nfrom toolexpander_lite.widgets.dashboard import Dashboard\n\n"
    "def work(progress):\n    progress({'step': 0})\n    while not pathlib.Path('run/stop').exists():\n"
    "        time.sleep(0.1)\n    return 'heard'\n\nprint(await Dashboard('run').follow(work))",
}


def write_run(run):
    """A run in progress, by hand."""
    run.mkdir()
    write_json(run / "config.json", {"profile": {"steps": 9}, "recipe": {"hard_samples": "keep"}})
    write_jsonl(run / "log.jsonl", [{"step": n, "seconds": 2.0 * n, "reward": n / 9} for n in range(4)])
    call = '<think></think>\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    write_jsonl(run / "rollouts.jsonl", [
        {"step": step, "sample_id": f"sample-{step}", "family": "f", "served": "plain", "rewards": [1.0, 0.0],
         "reasons": {"ok": 1, "no_think": 1}, "verdicts": ["ok", "no_think"], "prompt": "what is <b>f</b>?",
         "completions": [call, "no"]} for step in (1, 2, 3)
    ])  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of an open notebook, its first cell selected."""
    folder = tmp_path_factory.mktemp("lab")
    write_run(folder / "run")
    cells = [nbformat.v4.new_code_cell(code) for code in CELLS.values()]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}  # else JupyterLab asks which
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "widgets.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = folder / "settings" / "@jupyterlab" / "apputils-extension"
    quiet.mkdir(parents=True)
    (quiet / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    settings = ["--no-browser", "--ip=127.0.0.1", f"--port={port}", "--IdentityProvider.token=", "--allow-root",
                f"--ServerApp.root_dir={folder}"]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "JUPYTER_CONFIG_DIR": str(folder / "config"),
                                "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings")}  # fmt: skip
    with (folder / "lab.log").open("w") as log:
        lab = subprocess.Popen([sys.executable, "-m", "jupyterlab", *settings], env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}/lab"
    try:
        wait_for(address, lab, folder / "lab.log")
        with sync_api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1300, "height": 1000})
            page.set_default_timeout(PATIENCE)
            page.goto(f"{address}/tree/widgets.ipynb")
            page.locator(".jp-Notebook .jp-CodeCell").first.click()
            page.folder = folder
            yield page
            browser.close()
    finally:
        lab.terminate()
        lab.wait(30)


def wait_for(address, lab, log):
    ends = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < ends and lab.poll() is None:
        try:
            return urllib.request.urlopen(address, timeout=30).read()
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"JupyterLab did not start: {log.read_text()[-2000:]}")


def run_cell(page, name):
    """Run the cell of a widget and wait for its controls -> the cell."""
    cell = page.locator(".jp-Notebook .jp-CodeCell").nth(list(CELLS).index(name))
    cell.locator(".jp-InputArea").click()
    page.keyboard.press("Control+Enter")
    cell.locator(".widget-vbox").wait_for()
    return cell


def picture(cell):
    cell.locator("img").wait_for()
    return cell.locator("img").get_attribute("src")


def drawn_anew(cell, before):
    """Wait for another picture -> its source."""
    sync_api.expect(cell.locator("img")).not_to_have_attribute("src", before, timeout=PATIENCE)
    return picture(cell)


def look(cell, name):
    if folder := os.environ.get("TOOLEXPANDER_SCREENSHOTS"):
        cell.scroll_into_view_if_needed()
        cell.screenshot(path=str(Path(folder) / f"{name}.png"))


def test_a_click_scales_the_advantages(page):
    cell = run_cell(page, "advantages")
    before = picture(cell)
    look(cell, "advantages")
    cell.get_by_role("button", name="batch").click()
    assert drawn_anew(cell, before) != before
    box = cell.locator("input[type=text]")
    box.fill("1 0 x")
    box.press("Enter")
    cell.get_by_text("could not convert string to float").wait_for()
    look(cell, "advantages-error")


def test_a_drag_moves_the_token(page):
    cell = run_cell(page, "clip")
    before = picture(cell)
    look(cell, "clip")
    handle = cell.locator(".noUi-handle").first
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 45, y, steps=4)
    page.mouse.up()
    assert drawn_anew(cell, before) != before
    look(cell, "clip-dragged")


def test_the_next_round_moves_rows(page):
    cell = run_cell(page, "pool")
    before = picture(cell)
    look(cell, "pool")
    cell.get_by_role("button", name="next round").click()
    assert drawn_anew(cell, before) != before
    cell.get_by_text("of 10 right in the scan").first.wait_for()
    look(cell, "pool-next")


def test_the_browser_turns_to_the_next_group(page):
    cell = run_cell(page, "rollouts")
    cell.get_by_text("step 1: sample-1").wait_for()
    look(cell, "rollouts")
    cell.get_by_role("button", name="next").click()
    cell.get_by_text("step 2: sample-2").wait_for()
    assert "what is <b>f</b>?" in cell.inner_text(), "a prompt is text, whatever it holds"


def test_the_stop_button_is_heard_while_the_cell_works(page):
    cell = run_cell(page, "dashboard")
    picture(cell)
    look(cell, "dashboard")
    cell.get_by_role("button", name="stop after this step").click()
    cell.get_by_text("heard", exact=True).wait_for()
    assert (page.folder / "run" / "stop").exists()
    look(cell, "dashboard-stopped")
