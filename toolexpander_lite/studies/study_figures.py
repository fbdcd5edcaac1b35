"""Pictures of whole studies: arms beside each other, effects, the map of difficulty, settings; and those of docs/."""

import re
import textwrap
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from ..base.colours import BLUE, DARK, GREEN, GREY, LIGHT, ORANGE, SKY, WRONG, YELLOW
from ..base.intervals import bootstrap_interval
from ..base.runs import find_runs, load_study, read_log, rollouts_to
from ..worlds.graded_world import NOISE
from .paper import MEASURED_BY, POLICY, arm_runs, comparisons, theirs_left
from .plan import IDEAS, chosen_rates, plan_names, read_plan, search_table
from .run_figures import LOOKS, curve, draw_curves, ink, name_curves, plot_groups, plot_seeds
from .statistics import (
    EDGE,
    HARD_LEFT,
    HARD_RISES,
    TURNED_HARD,
    hard_counts,
    map_cells,
    map_table,
    seed_values,
    sensitivity_table,
)

VERDICT_COLOURS = {
    "seen": BLUE, "leaning": SKY, "not seen": DARK, "leaning against": YELLOW, "reversed": WRONG,
    "could not be tested here": LIGHT, "too few seeds": LIGHT,
}  # fmt: skip
# The arms of the first picture: baselines that move, some that do not, hard sampling with and without its parts.
ARMS = (
    "grpo", "rollouts_32", "exclude_hard", "difficulty_filter", "greso", "icl_seeding", "lr_decay", "hint",
    "hard_sampling", "hard_sampling_decay", "hard_sampling-kl0.01", "hard_sampling-kl0", "hard_sampling-kl0-no-retest",
)  # fmt: skip
OVER_TIME = (HARD_RISES, "collapsed")  # drawn as they went in `plot_claim`


def plot_arms(table, value, title, xlabel="accuracy"):
    """Every seed a dot, the mean a bar with its 95 % bootstrap interval; one line per arm, the highest on top.

    `table`: DataFrame with columns "variant" and `value`, one row per run.
    """
    order = table.groupby("variant")[value].mean().sort_values(ascending=False, kind="stable").index
    figure, axis = plt.subplots(figsize=(8.5, 0.34 * len(order) + 1.2))
    draw_arms(axis, {f"{v} ({(table.variant == v).sum()} seeds)": table[table.variant == v][value] for v in order})
    figure.suptitle(title, fontsize=11)
    axis.set(xlabel=xlabel, xlim=(-0.03, 1.03))
    figure.tight_layout()
    return figure


def draw_arms(axis, arms, marks=()):
    """{label: values, one per seed} on a matplotlib axis, the first on top. `marks`: {label: value} of diamonds."""
    for place, (label, values) in enumerate(arms.items()):
        values = np.asarray(values, float)
        low, high = bootstrap_interval(values)
        axis.plot([low, high], [place, place], color=BLUE, linewidth=6, alpha=0.35, solid_capstyle="butt")
        axis.plot([values.mean()] * 2, [place - 0.32, place + 0.32], color=BLUE, linewidth=2.5)
        jitter = np.linspace(-0.22, 0.22, len(values)) if len(values) > 1 else [0]
        axis.plot(values, place - np.array(jitter), "o", color="black", markersize=3.5, alpha=0.7)
        if label in marks:
            axis.plot(marks[label], place, "D", markersize=8, color=ORANGE, markerfacecolor="none")
    axis.set_yticks(range(len(arms)), arms, fontsize=9)
    axis.set_ylim(len(arms) - 0.5, -0.5)
    axis.grid(axis="x", alpha=0.25)


def plot_claim(assets, claim, shared=False):
    """The runs that test a claim of the paper -> figure, a panel per measure; None while no test of it has been run.

    A line per arm, a dot per seed, a bar at the mean with its 95 % interval; diamonds are the paper's, the dotted line
    is the share of wrong gold calls. For the swing of the hard count that count is drawn scan by scan, for collapse the
    accuracy over training.

    `claim`: an entry of `PAPER["claims"]`; `shared`: only the seeds that all of its arms have, as in paired tests.
    """
    panels = {}
    for test in (test for test in comparisons(claim) if test.value != TURNED_HARD):  # a count of rows, not of runs
        sides = {name: arm_runs(Path(assets), name) for name in (test.theirs, test.ours) if name}
        if all(runs is not None and seed_values(runs, test.value) for runs in sides.values()):
            panels[test.value] = panels.get(test.value, {}) | sides
    if not panels:
        return None
    if shared:
        seeds = set.intersection(*(set(runs.seed) for arms in panels.values() for runs in arms.values()))
        panels = {value: {name: runs[runs.seed.isin(seeds)] for name, runs in arms.items()}
                  for value, arms in panels.items()}  # fmt: skip
    heights = [2.4 if value in OVER_TIME else 0.3 * len(arms) + 0.5 for value, arms in panels.items()]
    figure, axes = plt.subplots(len(panels), 1, figsize=(8.5, sum(heights) + 0.5 * len(panels)), squeeze=False,
                                height_ratios=heights)  # fmt: skip
    for axis, (value, arms) in zip(axes.flat, panels.items()):
        if value == HARD_RISES:
            _draw_scans(axis, arms)
        elif value == "collapsed":
            draw_curves(axis, {_short(name): list(runs.run) for name, runs in arms.items()}, "eval/zero_shot",
                        "rollouts", title=" ")  # fmt: skip
            axis.set(ylabel="held-out accuracy", ylim=(-0.03, 1.03))
        else:
            found = {name: list(seed_values(runs, value).values()) for name, runs in arms.items()}
            labels = {name: f"{_short(name)}{_rate(runs)} ({len(found[name])})" for name, runs in arms.items()}
            theirs = {labels[name]: theirs_left(name) for name in arms if value == HARD_LEFT and theirs_left(name)}
            draw_arms(axis, {labels[name]: values for name, values in found.items() if values}, theirs)
            axis.set_xlabel(MEASURED_BY[value])
            if value == HARD_LEFT:
                axis.axvline(NOISE, color=DARK, linestyle=":", linewidth=1)
                whose = " (diamonds: the paper)" if theirs else ""
                axis.set(xlim=(0, None), xlabel=f"rows left hard, share of all{whose}")
        if value in OVER_TIME:
            name_curves(axis, 8)
    figure.suptitle(f"{claim['text']} ({claim['where']})", fontsize=10, wrap=True)
    figure.tight_layout()
    return figure


def _draw_scans(axis, arms):
    """Hard rows in each scan: thin lines for seeds, thick ones for the mean of an arm."""
    for (dashes, colour), (name, runs) in zip(LOOKS, arms.items()):
        counts = [hard_counts(run) for run in runs.run]
        for seed in counts:
            axis.plot(seed, color=colour, alpha=0.25, linewidth=0.8)
        axis.plot(np.mean(counts, 0), marker="o", linestyle=dashes, color=colour, linewidth=2, markersize=4,
                  label=f"{_short(name)} ({len(counts)} seeds)")  # fmt: skip
    axis.set(xlabel="scan", ylabel="hard rows", yscale="log")
    axis.yaxis.set_major_locator(plt.LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(plt.NullFormatter())
    axis.grid(alpha=0.25)


def _short(name):
    """STUDY/ARM without the study and what all arms share."""
    study, _, arm = name.partition("/")
    return arm.replace("paper_", "").replace("nano-", "").replace("/hard_", ": ") + POLICY.get(study, "")


def _rate(runs):
    return f", rate {runs.learning_rate.iloc[0]:g}" if "learning_rate" in runs else ""


def draw_race(axis, runs):
    """Who gets there first? Rollouts until 0.9 on the hard families, a dot per seed; a cross: never.

    Dots that would lie on one another are set apart upwards.
    """
    spent = {label: [rollouts_to(run, 0.9) for run in folders] for label, folders in runs.items()}
    most = max(read_log(run)[-1]["rollouts"] for folders in runs.values() for run in folders)
    for place, seeds in enumerate(reversed(spent.values())):
        found = sorted(n for n in seeds if n is not None)
        never = len(seeds) - len(found)
        heights = [place + height for value in dict.fromkeys(found) for height in _spread(found.count(value))]
        axis.plot(found, heights, "o", color=BLUE, alpha=0.7, markersize=5)
        axis.plot([1.07 * most] * never, place + _spread(never), "x", color=WRONG, markersize=5)
        axis.axhline(place - 0.5, color=LIGHT, linewidth=0.8)
    axis.set_yticks(range(len(runs)), list(reversed(spent)), fontsize=9)
    axis.set(xlabel="rollouts until 0.9 on the hard families", xlim=(0, 1.12 * most))
    axis.set_ylim(-0.5, len(runs) - 0.5)
    axis.locator_params(axis="x", nbins=6)
    axis.grid(axis="x", alpha=0.25)


def _spread(count):
    """Where `count` equal marks go above and below the middle of their row; a single one stays there."""
    return np.linspace(-0.35, 0.35, count) if count > 1 else np.zeros(count)


def plot_panels(runs, baseline):
    """Hard-family accuracy over rollouts, a panel per arm with the baseline's in grey behind -> figure.

    Arms whose runs all stay within `EDGE` of 0 would hide under one line: they are listed below the panels.
    `runs`: {arm: run directories}.
    """
    name, x, columns = "eval/zero_shot_hard", "rollouts", 3
    others = {arm: folders for arm, folders in runs.items() if arm != baseline}
    flat = [arm for arm, folders in others.items() if all(curve(run, name)[1].max() <= EDGE for run in folders)]
    drawn = [arm for arm in others if arm not in flat]
    rows = max(1, -(-len(drawn) // columns))
    size = (3.3 * columns, 2.4 * rows + 0.4)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, sharex=True, sharey=True)
    for axis, arm in zip(axes.flat, drawn):
        draw_curves(axis, {baseline: runs[baseline]}, name, x, colour=GREY)
        seeds = f"{len(runs[arm])} seed{'s' if len(runs[arm]) > 1 else ''}"
        draw_curves(axis, {arm: runs[arm]}, name, x, title=f"{arm} ({seeds})", colour=BLUE)
        axis.set_ylim(-0.03, 1.05)
        axis.tick_params(labelbottom=True)
    for axis in axes[:, 0]:
        axis.set_ylabel("hard families, held out", fontsize=8)
    for axis in axes.flat[len(drawn) :]:
        axis.axis("off")
    notes = [f"grey: {baseline} ({len(runs[baseline])})"]
    if flat:
        notes.append(f"not drawn, never above {EDGE}: " + ", ".join(f"{arm} ({len(runs[arm])})" for arm in flat))
    figure.tight_layout(rect=(0, 0.1 if rows == 1 else 0.07, 1, 1))
    figure.text(0.01, 0.01, "\n".join(textwrap.wrap("; ".join(notes), 55 * columns)), fontsize=8, va="bottom")
    return figure


def plot_map(table):
    """Final accuracy, the mean of the seeds as colour and number, over the difficulty of the base; a panel per recipe.

    The dotted line: left of it, less than one right answer to a hard question is to be expected in a whole run.
    """
    cells = map_cells(table)
    recipes = sorted(table.recipe.unique())
    size = (5.2 * len(recipes), 5.4)
    figure, axes = plt.subplots(1, len(recipes), figsize=size, squeeze=False, sharey=True, layout="constrained")
    for axis, recipe in zip(axes[0], recipes):
        axis.axvline(1 / table.hard_rollouts.mean(), color=DARK, linestyle=":", linewidth=1, zorder=0)
        run_here = cells.dropna(subset=recipe)
        image = axis.scatter(run_here.alone, run_here.helped, c=run_here[recipe], vmin=0, vmax=1, s=470, marker="s",
                             cmap="viridis", edgecolors="white")  # fmt: skip
        for cell in run_here.to_dict("records"):
            axis.text(cell["alone"], cell["helped"], f"{cell[recipe]:.2f}", ha="center", va="center", fontsize=7,
                      color=ink(image.to_rgba(cell[recipe])))  # fmt: skip
        axis.set(xscale="log", yscale="log", xlabel="P(gold), zero-shot, before training", title=recipe)
        axis.margins(0.08)
    axes[0, 0].set_ylabel("P(gold), one demonstration in front,\nbefore training")
    figure.colorbar(image, ax=list(axes[0]), label="hard families, zero-shot, after training")
    return figure


def plot_sensitivity(table):
    """Columns of panels, one per assumption: where runs end (above), how soon they reach 0.9 (below).

    A dot per seed, below a cross for one that never does; a dash at each mean, joined to the next where the values are
    two numbers. `table`: of `sensitivity_table`, not empty.
    """
    parts = list(table.groupby(["study", "field"], sort=False))
    titles = {study: {f: title for f, title, _ in read_plan(study).compare} for study in set(table.study)}
    figure, axes = plt.subplots(2, len(parts), figsize=(4 * len(parts), 3.1), squeeze=False, sharex="col", sharey="row")
    for pair, ((study, field), part) in zip(axes.T, parts):
        variants = part.drop_duplicates("variant")
        for axis, name, scale in zip(pair, ("hard", "spent"), (1, 1000)):
            means = []
            for place, variant in enumerate(variants.variant):
                rows = part[part.variant == variant]
                spread = place + (np.linspace(-0.08, 0.08, len(rows)) if len(rows) > 1 else np.zeros(1))
                there = rows.reached.to_numpy(bool) | (name == "hard")
                for mark, colour, shown in (("o", "black", there), ("x", WRONG, ~there)):
                    axis.plot(spread[shown], rows[name][shown] / scale, mark, color=colour, markersize=4, zorder=3)
                means.append(rows[name].mean() / scale)
            axis.plot(range(len(means)), means, "_", color=BLUE, markersize=16, markeredgewidth=2)
            for place, values in enumerate(pairwise(variants["value"])):
                if values[0] != values[1] and all(re.fullmatch(r"[\d.e-]+", value) for value in values):
                    axis.plot([place, place + 1], means[place : place + 2], color=BLUE, alpha=0.6)
            axis.grid(alpha=0.25)
        labels = list(variants["value"])
        if variants.learning_rate.nunique() > 1 and field != "learning_rate":
            labels = [f"{value}\n(rate {rate:g})" for value, rate in zip(labels, variants.learning_rate)]
        pair[1].set_xticks(range(len(labels)), labels, fontsize=7 if len(labels) > 3 else 8)
        pair[1].margins(x=0.15)
        pair[0].set_title(titles[study][field], fontsize=10)
        pair[1].set_xlabel(field, fontsize=9)
    axes[0, 0].set_ylim(-0.06, 1.06)
    axes[1, 0].set_ylim(0, 1.1 * table.spent.max() / 1000)
    axes[0, 0].set_ylabel("hard families,\nheld out", fontsize=8)
    axes[1, 0].set_ylabel("thousand rollouts\nuntil 0.9", fontsize=8)
    figure.tight_layout()
    return figure


def plot_search(folder):
    """The learning rate search -> figure: a row per arm, a dot per rate and seed, the chosen rate's mean as a bar."""
    study = load_study(folder)
    chosen, means = chosen_rates(folder), search_table(folder)
    study["recipe"] = study.variant.str.rsplit("-lr", n=1).str[0]
    searched = study.merge(means[["recipe", "learning_rate"]])  # only rates that have all search seeds
    arms = sorted(searched.recipe.unique(), reverse=True)
    rates = sorted(searched.learning_rate.unique())
    figure, axis = plt.subplots(figsize=(4.4, 0.24 * len(arms) + 1.3))
    for number, rate in enumerate(rates):
        # The same colour for a rate in every picture, from blue at 1e-4 to yellow at 4e-3.
        colour = plt.get_cmap("viridis")(np.log(rate / 1e-4) / np.log(40))
        shift = 0.22 * (len(rates) / 2 - 0.5 - number)
        part = searched[searched.learning_rate == rate]
        places = [arms.index(arm) + shift for arm in part.recipe]
        axis.plot(part.zero_shot, places, "os^vD"[number % 5], color=colour, markersize=3.5, label=f"{rate:g}")
        for row in means[means.learning_rate == rate].itertuples():
            if row.recipe in chosen and float(chosen[row.recipe]) == rate:
                place = arms.index(row.recipe)
                axis.plot([row.zero_shot] * 2, [place - 0.4, place + 0.4], color=colour, linewidth=2)
    axis.set_yticks(range(len(arms)), arms, fontsize=7)
    axis.set_xlim(-0.03, 1.03)
    axis.set_xlabel("accuracy on validation prompts, all families", fontsize=8)
    axis.grid(axis="x", alpha=0.25)
    axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(rates), frameon=False, fontsize=8,
                title="learning rate; bar: mean of the chosen one", title_fontsize=8)  # fmt: skip
    figure.tight_layout()
    return figure


def assumption_figures(runs):
    """{study: {name: matplotlib figure}}, one figure per assumption that has runs, and per search of learning rates.

    Names: `assumption-<field>` from `nano-hard-sampling`, `assumption-set-<field>` from `nano-sensitivity`.
    """
    figures, prefixes = {}, {"nano-hard-sampling": "assumption", "nano-sensitivity": "assumption-set"}
    for (study, field), part in sensitivity_table(runs).groupby(["study", "field"], sort=False):
        figures.setdefault(study, {})[f"{prefixes[study]}-{field}"] = plot_sensitivity(part)
    prefixes = {"nano-lr-search": "assumption", "nano-ablation-search": "assumption-ablation"}
    for name in plan_names():
        folder = Path(runs) / name
        if name.endswith("-search") and read_plan(name).rates and find_runs(folder) and len(search_table(folder)):
            figures[name] = {f"{prefixes.get(name, name)}-learning_rate": plot_search(folder)}
    return figures


def docs_figures(runs):
    """{study: {name: matplotlib figure}} for docs/: assumptions, the nano world, `study-<name>` for what has none."""
    runs, figures = Path(runs), assumption_figures(runs)
    for name in plan_names(abandoned=True):
        drawn = figures.setdefault(name, {})
        if name in NANO_WORLD and find_runs(runs / name):
            drawn |= NANO_WORLD[name](runs / name)
        elif not drawn and find_runs(runs / name):
            drawn[f"study-{name}"] = plot_ends(runs / name)
    return figures


def plot_ends(folder):
    """Where the arms of a study end: rows left hard if all scan, else accuracy on the hard families, or on all."""
    study = load_study(folder)
    scans = "hard_rows_after" in study and study.hard_rows_after.notna().all()
    value = HARD_LEFT if scans else "zero_shot_hard" if "zero_shot_hard" in study else "zero_shot"
    if "hard_rows_after" in study and not scans:  # some arms count hard rows: what all have is the accuracy on all
        value = "zero_shot"
    table = study.assign(**{value: [seed_values(study[study.run == run], value).popitem()[1] for run in study.run]})
    figure = plot_arms(table, value, folder.name, "rows left hard, share of all" if scans else "accuracy at the end")
    if scans:
        figure.axes[0].set_xlim(0, 1.1 * table[value].max())
    return figure


def _baseline_figures(folder):
    longest = find_runs(folder)["grpo-lr1e-3-600steps"]
    return {"readme-accuracy": plot_stall(longest), "readme-groups": plot_groups({"vanilla GRPO": longest})}


def _examples_figures(folder):
    rules = {name: find_runs(folder)[f"nano-rare-{name}"]
             for name in ("invitation", "exemplify_unscaled", "exemplify_gated", "exemplify")}  # fmt: skip
    panels = {"examples/rate": "rollouts with an\nexample of their own",
              "eval/zero_shot_hard": "hard families,\nheld out"}  # fmt: skip
    return {"readme-examples": plot_seeds(rules, panels, window=5)}


def _together_figures(folder):
    bases = {folder: "nano-invited", folder.with_name("nano-ablation-hard"): "a harder policy"}
    return {"readme-together": plot_together({study: title for study, title in bases.items() if find_runs(study)})}


def _hard_sampling_figures(folder):
    arms = find_runs(folder)
    return {"readme-hard-sampling": plot_panels({name: arms[name] for name in ARMS}, "grpo")}


NANO_WORLD = {
    "nano-baseline": _baseline_figures, "nano-hard-sampling": _hard_sampling_figures,
    "nano-examples": _examples_figures, "nano-ablation": _together_figures,
    "nano-map": lambda folder: {"readme-map": plot_map(map_table(folder))},
}  # fmt: skip


def plot_together(bases):
    """Neither idea, each and both: who gets there first? A panel per base policy; `bases`: {folder of study: title}."""
    figure, axes = plt.subplots(1, len(bases), figsize=(1.5 + 4.5 * len(bases), 2.6), sharey=True, squeeze=False)
    for axis, (folder, title) in zip(axes.flat, bases.items()):
        arms = find_runs(folder)
        draw_race(axis, {name: arms[name] for name in IDEAS})
        axis.set_title(title, fontsize=10)
    figure.tight_layout()
    return figure


def plot_stall(folders):
    """What vanilla GRPO learns, does not learn and unlearns: three accuracies over the steps."""
    figure, axis = plt.subplots(figsize=(8, 3.4))
    for colour, label, name in (
        (BLUE, "easy families", "eval/zero_shot_easy"),
        (WRONG, "hard families", "eval/zero_shot_hard"),
        (GREEN, "hard, with one demonstration", "eval/few_shot_hard"),
    ):
        draw_curves(axis, {label: folders}, name, colour=colour)
    title = "Vanilla GRPO on the nano world, learning rate 1e-3, 600 steps"
    axis.set_title(title, fontsize=11, loc="left")
    axis.set(title="", ylabel="held-out accuracy", ylim=(-0.03, 1.05))
    name_curves(axis)
    figure.tight_layout()
    return figure
