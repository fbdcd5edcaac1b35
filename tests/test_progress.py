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
