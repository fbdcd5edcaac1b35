"""A training run while it goes: curves, the last rollouts, the time left, and a button that ends it cleanly.

Everything is read from the run directory, so it may be a run of this notebook, of a terminal, or of another notebook.
"""

import asyncio
import threading
from pathlib import Path

import ipywidgets
import matplotlib.pyplot as plt

from ..base.colours import BLUE, ORANGE, RIGHT, WRONG
from ..base.errors import RunError
from ..base.runs import has_file, read_json, read_jsonl, read_log
from ..studies.run_figures import curve, smooth
from ..training.record import STOP
from ..training.sessions import logged_speed, updates_per_batch
from .show import Live

WINDOW = 5  # steps of the running means
CURVES = {  # panel: {quantity of the log: (label, colour)}
    "training reward": {"reward": ("", BLUE)},
    "silent groups": {"groups/all_fail": ("all fail", WRONG), "groups/all_pass": ("all pass", RIGHT)},
    "held-out accuracy": {"eval/zero_shot": ("all", BLUE), "eval/zero_shot_hard": ("hard families", ORANGE)},
}


def hard_rows(run):
    """[(step, hard rows in the training set)], by scans where there are some, else by the pool at each round's end."""
    if has_file(Path(run) / "scans.jsonl"):
        found = {}
        for line in read_jsonl(Path(run) / "scans.jsonl"):
            if line["kind"] == "scan":
                found[line["step"]] = found.get(line["step"], 0) + (line["right"] == 0)
        return list(found.items())
    rounds = read_jsonl(Path(run) / "rounds.jsonl") if has_file(Path(run) / "rounds.jsonl") else []
    return [(r["step"], sum(text.count("d") + text.count("t") for text in r["states"].values())) for r in rounds]


def progress_words(run):
    """How far a run is, and how long it takes from here at the pace of its log -> str."""
    config, rows = read_json(Path(run) / "config.json"), read_log(run)
    updates = updates_per_batch(run)
    step, steps = rows[-1]["step"] if rows else 0, config["profile"]["steps"] * updates
    words = f"step {step} of {steps}"
    if has_file(Path(run) / "summary.json"):
        return f"{words}; done in {read_json(Path(run) / 'summary.json')['wall_seconds']:.0f} s"
    if (Path(run) / STOP).exists():
        return f"{words}; will stop after this step"
    speed = logged_speed(run)
    return f"{words}; about {(steps - step) / updates * speed:.0f} s of steps left" if speed else words


def last_rollouts(run, number=4):
    """The last groups in a line each: right of how many, how served, sample, most frequent reason -> list of str."""
    groups = read_jsonl(Path(run) / "rollouts.jsonl")[-number:] if has_file(Path(run) / "rollouts.jsonl") else []
    return [
        f"{g['reasons'].get('ok', 0)} of {len(g['rewards'])}  {g['served'][:12]:<12}  {g['sample_id'][:24]:<24}  "
        f"{max(g['reasons'], key=g['reasons'].get)}"
        for g in groups
    ]


def dashboard_figure(run):
    """The static twin of `Dashboard` -> figure.

    Raises:
        RunError: there is no run, or it has logged nothing yet.
    """
    if not has_file(Path(run) / "log.jsonl") or not read_log(run):
        raise RunError(f"{run} has no log yet: the run is not begun, or still loads its model")
    figure, axes = plt.subplots(1, 4, figsize=(11, 3.7))
    for axis, (title, curves) in zip(axes, CURVES.items()):
        for name, (label, colour) in curves.items():
            xs, ys = curve(run, name)
            if len(xs):
                evaluated = name.startswith("eval/")
                axis.plot(xs, ys if evaluated else smooth(ys, WINDOW), "o-" if evaluated else "-", color=colour,
                          markersize=3, label=label)  # fmt: skip
        axis.set_title(title, fontsize=10)
        axis.set(xlabel="step", ylim=(-0.03, max(1.03, axis.get_ylim()[1])))
        axis.xaxis.get_major_locator().set_params(integer=True, nbins=5)
        if len(axis.lines) > 1:
            axis.legend(frameon=False, fontsize=8)
    if counted := hard_rows(run):
        axes[3].bar(range(len(counted)), [n for _, n in counted], color=WRONG)
        axes[3].bar_label(axes[3].containers[0], fontsize=8)
        axes[3].margins(y=0.12)
        axes[3].set_xticks(range(len(counted)), [step for step, _ in counted])
    else:
        axes[3].text(0.5, 0.5, "no scan, no pool", ha="center", transform=axes[3].transAxes)
        axes[3].set(xticks=[], yticks=[])
    axes[3].set_title("hard rows, round by round", fontsize=10)
    axes[3].set_xlabel("step")
    figure.suptitle(progress_words(run))
    for axis in axes:
        axis.grid(alpha=0.25)
    lines = last_rollouts(run)
    figure.tight_layout(rect=(0, 0.06 * len(lines), 1, 1))
    words = "\n".join(["last rollouts: right, served, sample, reason", *lines]) if lines else ""
    figure.text(0.03, 0.01, words, family="monospace", fontsize=8, va="bottom")
    return figure


class Dashboard:
    """Watches a run, and can stop it.

        await Dashboard(run).follow(train, recipe, profile, out=run)    a run of this notebook
        Dashboard(run).watch()                                          a run of another process

    `train(..., progress=Dashboard(run))` draws as well, but a click waits for the cell's end there. The button leaves a
    file that the run looks for (`training.record.StopOnRequest`): it writes a checkpoint and ends with `RunStopped`,
    and `resume=True` goes on. Interrupting a cell that follows does the same.

    Args:
        run: the run directory.
        every: steps between two drawings.
    """

    def __init__(self, run, every=5):
        self.run, self.every, self.live, self.asked = Path(run), every, None, False
        self.button = ipywidgets.Button(description="stop after this step", button_style="warning")
        self.button.on_click(self.stop)

    def stop(self, *_):
        """Ask the run to end after the step at hand, with a checkpoint; a complete run is past that."""
        if not has_file(self.run / "summary.json") and self.run.is_dir():
            (self.run / STOP).touch()
            self.asked = True
            self.button.description = "will stop"

    def show(self, *_):
        if self.live is None:
            self.live = Live([[self.button]], lambda: dashboard_figure(self.run))
        else:
            self.live()

    def __call__(self, row):
        if row["step"] % self.every == 0:
            self.show()

    def _ipython_display_(self):
        self.show()

    async def follow(self, work, *arguments, **named):
        """Call `work(*arguments, progress=self, **named)` in a thread, so that clicks are heard -> what it returns."""
        running = asyncio.create_task(asyncio.to_thread(work, *arguments, progress=self, **named))
        try:
            result = await asyncio.shield(running)
        except asyncio.CancelledError:  # the cell was interrupted, which ends no thread
            self.stop()
            result = await running
        self.show()
        return result

    def watch(self, seconds=3.0):
        """Draw every `seconds` in a thread of its own, until the run ends or stops as asked -> the thread."""
        self.show()
        thread = threading.Thread(target=self._follow, args=(seconds,), daemon=True)
        thread.start()
        return thread

    def _follow(self, seconds):
        ended = threading.Event()
        while not has_file(self.run / "summary.json"):
            if self.asked and not (self.run / STOP).exists():  # heard
                break
            ended.wait(seconds)
            self.show()
        self.show()
