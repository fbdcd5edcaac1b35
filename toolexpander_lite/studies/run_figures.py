"""Pictures of single runs and of arms: each draws from logs alone, so it works on a run that is still going.

`runs` is always a dict {label: [run directory, ...]}, one directory per seed; curves show the mean over seeds with
a band from the lowest to the highest, and every seed as a thin line. Functions return the matplotlib figure.
"""

from itertools import product
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap, to_rgb

from ..base.colours import DARK, FILLS, LIGHT, NEITHER, PALE, RIGHT, SERIES, SKY, WRONG, YELLOW
from ..base.runs import read_jsonl, read_log
from ..training.record import STATE_LETTERS

# What a pool's states look like, from bad to good.
STATE_COLOURS = {
    "unseen": PALE, "plain": WRONG, "failed": WRONG, "demonstrated": YELLOW, "retest": DARK, "returned": RIGHT,
    "solved": SKY,
}  # fmt: skip
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
LOOKS = tuple(product(DASHES, SERIES))  # of the curves of one picture
# A colour and a hatch per reason code of `calls.REASONS` and `executed.EPISODE_REASONS`, the same in every picture. A
# colour for what cannot be read, how many calls there are, the tool, its arguments, and what came of executing them.
REASON_KINDS = (
    ("ok",),
    ("no_think", "truncated", "too_long", "extra_text", "bad_json", "bad_call", "unreadable"),
    ("no_call", "missing_call", "extra_call"),
    ("unknown_tool", "wrong_name"),
    ("missing_argument", "extra_argument", "wrong_argument", "bad_arguments"),
    ("tool_error", "bad_result", "timeout", "step_limit", "wrong_state", "wrong_answer"),
)
REASON_LOOKS = {
    reason: (colour, hatch)
    for colour, reasons in zip(FILLS, REASON_KINDS)
    for reason, hatch in zip(reasons, ("", "//", "..", "xx", "\\\\", "oo", "--"))
}


def ink(colour):
    """Black or white, whichever can be read on a colour of matplotlib's: contrast of WCAG 2.1 over 4.5 -> str."""
    shares = np.array(to_rgb(colour))
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    return "black" if linear @ (0.2126, 0.7152, 0.0722) > 0.179 else "white"


def curve(run, name, x="step"):
    """One quantity of a run's log over `x` -> (xs, ys); evaluation quantities are written "eval/zero_shot"."""
    xs, ys = [], []
    for row in read_log(run):
        value = row.get("eval", {}).get(name[5:]) if name.startswith("eval/") else row.get(name)
        if value is not None:
            xs.append(row[x])
            ys.append(value)
    return np.array(xs), np.array(ys, dtype=float)


def smooth(values, window):
    """Running mean over `window` values; the first ones average what there is."""
    return pd.Series(values).rolling(window, min_periods=1).mean().to_numpy()


def _label(group, seeds):
    return f"{group} ({len(seeds)} seed{'s' if len(seeds) > 1 else ''})"


def on_one_grid(curves, x):
    """Curves of several seeds, each (xs, ys) -> (all their xs, table with a row per seed of its values there).

    Runs in progress are shorter: over steps or rollouts a seed has no value (nan) where it has not got to. Over tokens
    or seconds every seed ends somewhere else: one that has ended keeps its last value.
    """
    grid = np.unique(np.concatenate([xs for xs, _ in curves]))
    after = np.nan if x in ("step", "rollouts") else None
    return grid, np.array([np.interp(grid, xs, ys, left=np.nan, right=after) for xs, ys in curves])


def draw_curves(axis, runs, name, x="step", window=1, title=None, colour=None):
    """One quantity on a matplotlib axis: the mean (thick) and single seeds (thin); with up to 3 labels a band as well.

    The band goes from the lowest to the highest seed. `colour`: for all labels, else each has a look of its own.
    """
    for (dashes, own), (group, folders) in zip(LOOKS, runs.items()):
        shade = colour or own
        curves = [curve(folder, name, x) for folder in folders]
        curves = [(xs, smooth(ys, window)) for xs, ys in curves if len(xs)]
        if not curves:
            continue
        for xs, ys in curves:
            axis.plot(xs, ys, color=shade, alpha=0.25, linewidth=0.8)
        grid, table = on_one_grid(curves, x)
        axis.plot(grid, np.nanmean(table, 0), color=shade, linestyle=dashes, linewidth=2, label=_label(group, curves))
        if len(runs) <= 3:  # more bands than that hide each other; the single seeds show the spread
            axis.fill_between(grid, np.nanmin(table, 0), np.nanmax(table, 0), color=shade, alpha=0.12)
    names = {"step": "optimizer step", "seconds": "training seconds", "completion_tokens": "completion tokens"}
    axis.set_xlabel(names.get(x, x))
    axis.locator_params(axis="x", nbins=6, integer=True)
    axis.set_title(title or name, fontsize=10)
    axis.grid(alpha=0.25)


def name_curves(axis, size=9):
    """Write the label of each curve right of the axis, each apart from the others: no legend. A dot marks the end."""
    curves = [line for line in axis.lines if not line.get_label().startswith("_")]
    ends = [line.get_xydata()[np.isfinite(line.get_ydata())][-1] for line in curves]
    heights = [axis.transAxes.inverted().transform(axis.transData.transform(end))[1] for end in ends]
    tall = max(line.get_label().count("\n") + 1 for line in curves)
    axis.figure.tight_layout()  # now, for the height of the axis
    gap = 1.45 * tall * size * axis.figure.dpi / 72 / axis.get_window_extent().height
    order, low = np.argsort(heights, kind="stable"), -np.inf
    for place, number in enumerate(order):
        low = heights[number] = max(low, min(heights[number], 1 - gap * (len(order) - 0.5 - place)))
        low += gap
    for line, end, height in zip(curves, ends, heights):
        way = {"arrowstyle": "-", "color": line.get_color(), "linewidth": 0.9, "linestyle": ":", "relpos": (0, 0.5)}
        axis.scatter(*end, s=25, color=line.get_color(), zorder=3)
        axis.annotate(line.get_label(), end, (1.04, height), textcoords="axes fraction", va="center", fontsize=size,
                      arrowprops=way)  # fmt: skip


def plot_training(runs, panels, x="step", columns=3, window=1):
    """A grid of curves; `panels`: {log quantity: title}."""
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4.2 * columns, 2.9 * rows), squeeze=False)
    for axis, (name, title) in zip(axes.flat, panels.items()):
        if name.startswith(("eval/zero_shot", "eval/few_shot", "groups/", "format_rate", "task_reward")):
            axis.set_ylim(-0.03, 1.03)  # shares: one scale, so that "nothing moves" looks like it
        smoothed = 1 if name.startswith("eval/") else window
        draw_curves(axis, runs, name, x, smoothed, title + (f"\n(mean of {window} steps)" if smoothed > 1 else ""))
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=max(1, len(labels)), frameon=False)
    figure.tight_layout(rect=(0, 0.09 if rows == 1 else 0.06, 1, 1))
    return figure


def plot_groups(runs):
    """Shares of all-fail, mixed and all-pass groups over training, one panel per label.

    Means over seeds and 5 steps. Only mixed groups give the reward a gradient. Seeds are cut to the shortest.
    """
    rows, columns = -(-len(runs) // 3), min(3, len(runs))
    figure, axes = plt.subplots(rows, columns, figsize=(max(7, 4.2 * columns), 2.9 * rows), squeeze=False, sharey=True)
    for axis, (group, folders) in zip(axes.flat, runs.items()):
        logs = [(curve(f, "groups/all_fail"), curve(f, "groups/all_pass")) for f in folders]
        length = min(len(fail[0]) for fail, _ in logs)
        steps = logs[0][0][0][:length]
        fail = smooth(np.mean([f[1][:length] for f, _ in logs], 0), 5)
        passed = smooth(np.mean([p[1][:length] for _, p in logs], 0), 5)
        names = ["all fail: nothing to compare", "mixed: teaches", "all pass: nothing to compare"]
        axis.stackplot(steps, fail, 1 - fail - passed, passed, labels=names, colors=[WRONG, NEITHER, RIGHT])
        axis.set(title=_label(group, folders), xlabel="optimizer step", ylim=(0, 1))
        axis.margins(x=0)
    axes[0, 0].set_ylabel("share of groups")
    for axis in axes.flat[len(runs) :]:
        axis.axis("off")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=3, frameon=False)
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    return figure


def plot_pool(run, hard_families=()):
    """What the pool knew of its samples: counts over steps (log.jsonl), and sample by sample at each round's end.

    A row of the right picture is a sample, a column a round (rounds.jsonl); families are kept together.
    """
    log = [row for row in read_log(run) if "pool" in row]
    names = [n for n in STATE_COLOURS if n in log[0]["pool"]]
    rounds = read_jsonl(Path(run) / "rounds.jsonl")
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.6), width_ratios=(3, 2))
    counts = [[row["pool"][n] for row in log] for n in names]
    colours = [STATE_COLOURS[n] for n in names]
    left.stackplot([row["step"] for row in log], counts, labels=names, colors=colours)
    left.set(xlabel="optimizer step", ylabel="training samples", title="states of all samples")
    left.margins(0)
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=len(names), frameon=False, fontsize=8)
    families = sorted(rounds[0]["states"], key=lambda n: (n in hard_families, n))
    codes = {STATE_LETTERS[name]: number for number, name in enumerate(STATE_COLOURS)}
    grid = np.array([[codes[s] for n in families for s in r["states"][n]] for r in rounds]).T
    right.imshow(
        grid, aspect="auto", interpolation="nearest", vmin=0, vmax=len(codes) - 1,
        cmap=ListedColormap(list(STATE_COLOURS.values())), extent=(0.5, len(rounds) + 0.5, len(grid), 0),
    )  # fmt: skip
    edges = np.cumsum([0] + [len(rounds[0]["states"][n]) for n in families])
    for edge in edges[1:-1]:
        right.axhline(edge, color="white", linewidth=1.5)
    right.set_yticks((edges[1:] + edges[:-1]) / 2, [n + (" (hard)" if n in hard_families else "") for n in families],
                     fontsize=8)  # fmt: skip
    right.set_xticks(range(1, len(rounds) + 1), [r["step"] for r in rounds])
    right.set(xlabel="step at the round's end", title="each sample (rows), round by round")
    figure.tight_layout()
    return figure


def plot_seeds(runs, panels, window=1):
    """Every seed a line of its own style: a column per label, a row per quantity of `panels` {log quantity: title}.

    For what either happens or does not: a mean over such seeds is a run that nobody made. Quantities are shares.
    """
    size = (2.3 * len(runs) + 0.6, 1.8 * len(panels) + 0.9)
    figure, axes = plt.subplots(len(panels), len(runs), figsize=size, squeeze=False, sharex=True, sharey=True)
    for column, (group, folders) in zip(axes.T, runs.items()):
        column[0].set_title(group, fontsize=9)
        for axis, name in zip(column, panels):
            for number, folder in enumerate(folders):
                xs, ys = curve(folder, name, "rollouts")
                ys = ys if name.startswith("eval/") else smooth(ys, window)
                dashes = DASHES[(number + number // 5) % 5]
                axis.plot(xs, ys, color=SERIES[number % 5], linestyle=dashes, label=Path(folder).name)
            axis.grid(alpha=0.25)
        column[-1].set_xlabel("rollouts", fontsize=9)
    axes[0, 0].set_ylim(-0.04, 1.04)
    for axis, title in zip(axes[:, 0], panels.values()):
        axis.set_ylabel(title, fontsize=8)
    longest = max(axes[0], key=lambda axis: len(axis.lines))
    handles, labels = longest.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.3 / size[1], 1, 1))
    return figure


def plot_reasons(reasons, title, xlabel="share"):
    """What became of the same questions, one stacked bar for each label; right answers in blue.

    `reasons`: {label: {reason: share or number}}; drawn in the order of `REASON_LOOKS`, others grey at the end.
    """
    table = pd.DataFrame(reasons).fillna(0)
    table = table.loc[[*(r for r in REASON_LOOKS if r in table.index), *table.index.difference([*REASON_LOOKS])]]
    colours, hatches = zip(*(REASON_LOOKS.get(reason, (LIGHT, "")) for reason in table.index))
    size = (10, max(0.5 * len(reasons) + 1.4, 0.18 * len(table) + 0.5))  # as high as the bars, or as the legend
    axis = table.T.iloc[::-1].plot.barh(stacked=True, figsize=size, width=0.7, color=colours)
    for bars, colour, hatch in zip(axis.containers, colours, hatches):
        for bar in bars:
            bar.set(hatch=hatch, edgecolor=ink(colour), linewidth=0.6)
    axis.set(title=title, xlabel=xlabel, xlim=(0, table.sum().max()))
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8, frameon=False)
    axis.figure.tight_layout()
    return axis.figure


class LivePlot:
    """Redraws `plot_training` in a notebook while a run writes its log; pass it to `train(progress=...)`.

    Args:
        run: the run directory that `train` writes to.
        panels: as for `plot_training`.
        every: rows of the log between two drawings.
        window: steps of the running mean over what is logged at each step; it smooths, and it lags.
    """

    def __init__(self, run, panels, every=5, window=10):
        self.run, self.panels, self.every, self.window = run, panels, every, window
        self.handle = None

    def __call__(self, row):
        if row["step"] % self.every:
            return
        from IPython.display import display

        figure = plot_training({"this run": [self.run]}, self.panels, window=self.window)
        for text in figure.legends[0].texts:  # at step 0 there may be nothing in the first panel, so no legend
            text.set_text(f"this run, at step {row['step']}")
        if self.handle is None:
            self.handle = display(figure, display_id=True)
        else:
            self.handle.update(figure)
        plt.close(figure)
