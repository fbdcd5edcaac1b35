"""Long work shows how far it is, to a person at a terminal and to nobody else."""

import os
import subprocess
import sys

import pytest

COUNT = "import time\nfrom toolexpander_lite.base.progress import bar\nfor _ in bar(range(6), 'rows'): time.sleep(0.5)"


def test_nothing_is_drawn_into_a_pipe():
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""


def test_a_terminal_shows_what_is_done_and_the_time_left():
    pty, termios = (pytest.importorskip(name, reason="no such terminals") for name in ("pty", "termios"))
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (40, 100))
    done = subprocess.Popen([sys.executable, "-c", COUNT], stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:  # Linux: the other end is closed
        pass
    os.close(ours)
    assert done.wait() == 0
    assert b"rows:" in shown and b"5/6" in shown and b"<00:00" in shown
    assert shown.rstrip(b" ").endswith(b"\r"), "the bar is wiped out when it is done"


def test_a_run_shows_no_bars_but_its_own(tmp_path):
    """transformers draws one for each reading of weights, datasets one for each pass over rows."""
    command = ["train", "--recipe", "paper_grpo", "--profile", "nano", "--steps", "1", "--out", str(tmp_path / "run")]
    small = [w for n in ("eval_prompts", "train_prompts", "prompts_per_step") for w in ("--profile-set", f"{n}=1")]
    words = [sys.executable, "-m", "toolexpander_lite", *command, *small]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "Loading weights" not in done.stderr and "Writing model" not in done.stderr and "%|" not in done.stderr


def test_bars_of_others_come_back():
    import datasets
    from transformers.utils import logging

    from toolexpander_lite.models.policy import no_bars

    before = logging.is_progress_bar_enabled(), datasets.is_progress_bar_enabled()
    with no_bars():
        assert not logging.is_progress_bar_enabled() and not datasets.is_progress_bar_enabled()
    assert (logging.is_progress_bar_enabled(), datasets.is_progress_bar_enabled()) == before
