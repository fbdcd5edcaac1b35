"""How much do the values matter that the paper's abstract does not give? A picture per assumption, from the run logs.

An assumption is a field of `recipes.Recipe` that is ours. Its runs differ in that field alone, and in the learning rate
where the tick says so.
"""

import re
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from ..base.runs import find_runs, load_study, rollouts_to
from .plan import chosen_rates, plan_names, read_plan, search_table


def sensitivity_table(runs):
    """Every run that shows what an assumption does -> DataFrame, one row per run and assumption.

    Columns: study, the one that asks; field, of `Recipe`; value, as text, in order; variant; learning_rate; seed; hard,
    the final accuracy on held-out hard questions; spent, rollouts until 0.9 on them (the whole run's, if never);
    reached, False if never. Fields of which fewer than two variants have runs are left out; an empty table if none is
    left.

    What is compared is what plans list under `compare`. `runs`: the folder that holds the studies; any may lack.
    """
    plans = [read_plan(name) for name in plan_names()]
    rows = [(plan.name, field, *arm) for plan in plans for field, _, arms in plan.compare for arm in arms]
    studies = {name: load_study(Path(runs) / name) for name in {row[3] for row in rows} if find_runs(Path(runs) / name)}
    parts = []
    for shown_in, field, value, study, name in rows:
        if study not in studies or name not in set(studies[study].variant):
            continue
        rows = studies[study][studies[study].variant == name]
        spent = rows.run.map(lambda run: rollouts_to(run, 0.9))
        parts.append(pd.DataFrame({
            "study": shown_in, "field": field, "value": value, "variant": name, "learning_rate": rows.learning_rate,
            "seed": rows.seed, "hard": rows.zero_shot_hard, "spent": spent.fillna(rows.rollouts).astype(float),
            "reached": spent.notna(),
        }))  # fmt: skip
    columns = ["study", "field", "value", "variant", "learning_rate", "seed", "hard", "spent", "reached"]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    tried = table.groupby(["study", "field"])["variant"].transform("nunique")
    return table[tried >= 2].reset_index(drop=True)


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
                for mark, colour, shown in (("o", "#222222", there), ("x", "#c44e52", ~there)):
                    axis.plot(spread[shown], rows[name][shown] / scale, mark, color=colour, markersize=4, zorder=3)
                means.append(rows[name].mean() / scale)
            axis.plot(range(len(means)), means, "_", color="#4c72b0", markersize=16, markeredgewidth=2)
            for place, values in enumerate(pairwise(variants["value"])):
                if values[0] != values[1] and all(re.fullmatch(r"[\d.e-]+", value) for value in values):
                    axis.plot([place, place + 1], means[place : place + 2], color="#4c72b0", alpha=0.6)
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
    """One small figure per assumption that has runs -> {name: matplotlib figure}, for the README.

    Names: `assumption-<field>` from `nano-hard-sampling`, `assumption-set-<field>` from `nano-sensitivity`, and
    `assumption-learning_rate` and `assumption-ablation-learning_rate` from the two learning rate searches. {} without
    runs.
    """
    figures = {}
    prefixes = {"nano-hard-sampling": "assumption", "nano-sensitivity": "assumption-set"}
    for (study, field), part in sensitivity_table(runs).groupby(["study", "field"], sort=False):
        figures[f"{prefixes[study]}-{field}"] = plot_sensitivity(part)
    for prefix, study in (("assumption", "nano-lr-search"), ("assumption-ablation", "nano-ablation-search")):
        folder = Path(runs) / study
        if find_runs(folder) and len(search_table(folder)):
            figures[f"{prefix}-learning_rate"] = plot_search(folder)
    return figures
