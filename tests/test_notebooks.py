"""The notebooks run from top to bottom in quick mode, and the harness that says so can say no."""

import json
import os
import re
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pytest

from toolexpander_lite.__main__ import main
from toolexpander_lite.studies.exercises import Exercises
from toolexpander_lite.studies.notebooks import (
    NOTEBOOKS,
    NotebookError,
    alt_text,
    found_lines,
    run_notebook,
    run_notebooks,
)

ALL = sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))


def notebook(folder, name, *cells):
    path = Path(folder) / name
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells]), path)
    return path


LIVE_STEPS = {"01": 100, "02": 60, "03": 120}
KEYED = ("00", "01", "02", "03")  # their solutions are in notebooks/solutions
SOLVED = (*KEYED, "04", "05", "07")  # below each exercise of the last three, the solution is a block of code
BLANK = re.compile(r"^( *)(?:return|\w[\w, ]* =) \.\.\..*$", re.MULTILINE)


def with_solutions(path, folder):
    """A copy with a cell after each exercise in which its blank is filled with the solution -> its path."""
    book = nbformat.read(path, as_version=4)
    cells, key = [], Exercises(path.stem[:2]).exercises if path.stem[:2] in KEYED else {}
    for cell, below in zip(book.cells, [*book.cells[1:], None]):
        cells.append(cell)
        if cell.cell_type == "code" and (blank := BLANK.search(cell.source)):
            number = key and int(re.search(r"check\((\d)", cell.source)[1])
            solution = key[number].solution if key else re.search(r"```python\n(.*?)```", below.source, re.DOTALL)[1]
            filled = cell.source.replace(blank[0], textwrap.indent(solution.rstrip(), blank[1]))
            assert not BLANK.search(filled)
            if key and key[number].prediction:  # counts in full at the cell's first run alone
                cells.pop()
            cells.append(nbformat.v4.new_code_cell(filled))
    assert len(cells) > len(book.cells)
    book.cells = cells
    (folder / "notebooks").mkdir(parents=True)
    for name in ("assets", "kit.py", "toolexpander_lite"):  # a notebook finds them beside its own folder
        (folder / name).symlink_to(NOTEBOOKS.parent / name)
    nbformat.write(book, folder / "notebooks" / path.name)
    return folder / "notebooks" / path.name


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_notebook_runs_in_quick_mode(path, tmp_path):
    """And its exercises accept the solutions, one after the other."""
    if path.stem[:2] in SOLVED:
        path = with_solutions(path, tmp_path / "kit")
    seconds, findings, figures = run_notebook(path, tmp_path, quick=True)
    assert findings, "a notebook prints what it found"
    if path.stem[:2] == "04":  # trains nothing: what its committed copy says has to follow from the committed logs
        told = set(found_lines(nbformat.read(path, as_version=4)))
        assert len(told) > 20 and told <= set(findings), f"not what the logs say: {sorted(told - set(findings))}"
    copy = nbformat.read(tmp_path / "notebooks" / path.name, as_version=4)
    code = [c for c in copy.cells if c.cell_type == "code"]
    assert all(c.execution_count for c in code)
    if path.stem[:2] in KEYED:
        said = "\n".join(o.get("text", "") for c in code for o in c.outputs)
        assert "Not yet right." not in said and "10 of 10 in this notebook." in said
    if path.stem[:2] != "00":
        assert len(figures) >= 4 and all(f.stat().st_size > 5000 for f in figures)


def test_there_are_notebooks_to_run():
    assert [p.stem[:2] for p in ALL] == [f"{n:02d}" for n in range(len(ALL))] and len(ALL) >= 2


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_committed_notebook_carries_its_full_output(path):
    """Executed in order, in full mode, without errors, and without this or any machine's paths."""
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
    outputs = json.dumps([c.outputs for c in cells])
    assert '"output_type": "error"' not in outputs
    assert not re.search(r"(/root/|/home/|/work/|/Users/|/tmp/)", outputs)
    if steps := LIVE_STEPS.get(path.stem[:2]):
        assert f'\\"steps\\": {steps}' in outputs, "the live run of the committed copy is the full one"


def test_harness_fails_on_a_broken_notebook_and_keeps_the_traceback(tmp_path):
    path = notebook(tmp_path, "00_broken.ipynb", "print('Found: nothing yet')", "1 / 0", "print('never')")
    with pytest.raises(NotebookError, match="00_broken.ipynb failed(.|\n)*ZeroDivisionError"):
        run_notebook(path, tmp_path / "out")
    copy = nbformat.read(tmp_path / "out" / "notebooks" / path.name, as_version=4)
    assert copy.cells[1].outputs[0].output_type == "error" and not copy.cells[2].outputs


def test_harness_fails_on_a_notebook_that_hangs(tmp_path):
    path = notebook(tmp_path, "00_slow.ipynb", "import time; time.sleep(60)")
    with pytest.raises(NotebookError, match="00_slow.ipynb"):
        run_notebook(path, tmp_path / "out", timeout=2)


def test_harness_repeats_findings_saves_figures_and_passes_the_switch(tmp_path, capsys):
    notebook(
        tmp_path, "00_small.ipynb",
        "from toolexpander_lite.studies.notebooks import quick_mode\nprint(f'Found: quick is {quick_mode()}')",
        "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()",
    )  # fmt: skip
    run_notebooks(tmp_path / "out", quick=True, folder=tmp_path)
    assert "quick is True" in capsys.readouterr().out
    assert (tmp_path / "out" / "figures" / "00_small-1.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(NotebookError, match="begins with 07"):
        run_notebooks(tmp_path / "out", only="07", folder=tmp_path)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="on one core they run one by one")
def test_two_run_at_a_time_and_the_long_runs_are_read_unless_asked_for(tmp_path, capsys):
    """Each waits for the other's file: one after the other they would never end."""
    wait = (
        "import time\nfrom pathlib import Path\nfrom toolexpander_lite.studies.notebooks import live_mode\n"
        "Path('{mine}').touch()\nwhile not Path('{other}').exists():\n    time.sleep(0.1)\n"
        "print(f'Found: live is {{live_mode()}}')"
    )
    notebook(tmp_path, "00_one.ipynb", wait.format(mine=tmp_path / "a", other=tmp_path / "b"))
    notebook(tmp_path, "01_two.ipynb", wait.format(mine=tmp_path / "b", other=tmp_path / "a"))
    run_notebooks(tmp_path / "out", folder=tmp_path)
    assert capsys.readouterr().out.count("live is False") == 2
    run_notebooks(tmp_path / "out", folder=tmp_path, live=True)
    assert capsys.readouterr().out.count("live is True") == 2


def test_the_first_failure_ends_the_other(tmp_path):
    notebook(tmp_path, "00_waits.ipynb", "import time\ntime.sleep(600)")
    notebook(tmp_path, "01_broken.ipynb", "1 / 0")
    with pytest.raises(NotebookError, match="01_broken.ipynb failed"):
        run_notebooks(tmp_path / "out", folder=tmp_path)


def test_a_saved_notebook_has_the_picture_and_not_the_controls(tmp_path):
    """Without their kernel, widgets are an error message in the notebook's place."""
    code = "import ipywidgets\nfrom IPython.display import display\ndisplay(ipywidgets.IntSlider())\nprint('below')"
    run_notebook(notebook(tmp_path, "00_widget.ipynb", code), tmp_path / "out")
    copy = nbformat.read(tmp_path / "out" / "notebooks" / "00_widget.ipynb", as_version=4)
    assert [o.output_type for o in copy.cells[0].outputs] == ["stream"] and "widgets" not in copy.metadata


@pytest.mark.parametrize("words, executed", [([], []), (["--notebooks"], ["notebooks"])])
def test_report_executes_the_notebooks_only_when_asked(words, executed, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr("toolexpander_lite.studies.report.rebuild", lambda: [Path("README.md")])
    monkeypatch.setattr("toolexpander_lite.studies.notebooks.run_notebooks", lambda: calls.append("notebooks"))
    assert main(["report", *words]) == 0
    assert calls == executed and "README.md" in capsys.readouterr().out


def test_command_line_reports_a_missing_notebook(capsys):
    assert main(["notebooks", "--only", "99"]) == 2
    assert "no notebook" in capsys.readouterr().err


def test_a_picture_is_described_by_what_it_shows():
    figure, (left, right) = plt.subplots(1, 2)
    left.plot([0, 1], label="plain GRPO")
    left.set(title="hard questions", xlabel="rollouts", ylabel="share right")
    right.bar([0, 1], [1, 2])
    right.set_ylabel("advantage $A_i$")
    assert alt_text(figure) == "hard questions; share right over rollouts; showing plain GRPO. advantage A_i"
    assert alt_text(plt.figure()) == "a drawing without axis labels"
    plt.close("all")


@pytest.mark.parametrize("number", [*KEYED, "04", "05"])
def test_a_notebook_of_the_paper_is_short_and_sets_exercises(number):
    (path,) = (p for p in ALL if p.stem.startswith(number))
    cells = nbformat.read(path, as_version=4).cells
    words = sum(len(c.source.split()) for c in cells if c.cell_type == "markdown")
    assert len(cells) <= 40 and words <= 2000, f"{len(cells)} cells, {words} words"
    blanks = sum(c.cell_type == "code" and bool(BLANK.search(c.source)) for c in cells)
    assert blanks >= 3
    if number in KEYED:
        text = "\n".join(c.source for c in cells if c.cell_type == "markdown")
        assert len(Exercises(number).exercises) == blanks and "predict, then run" in text
        assert text.count("<summary>A hint</summary>") == blanks and "A solution" not in text


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_no_code_line_is_cut_on_a_small_screen(path):
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    assert [line for c in cells for line in c.source.splitlines() if len(line) > 100] == []
