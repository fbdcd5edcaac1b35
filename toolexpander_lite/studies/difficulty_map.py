"""The map of difficulty: where does vanilla GRPO suffice, where does hard sampling help, where does nothing?

The runs of the study `nano-map` start from policies of many difficulties. Two numbers, measured before training, place
a policy: how likely it is to answer a hard question right alone, and how likely with one demonstration in front.
"""

import matplotlib.pyplot as plt
import pandas as pd

from ..base.intervals import bootstrap_interval
from ..base.runs import evaluations, load_study, read_log
from ..worlds.nano_world import FAMILIES, HARD_FAMILIES


def map_table(folder):
    """The runs of a map -> DataFrame, one row per run. Variants are named `<recipe>-<base>`.

    Columns: base; recipe; seed; alone and helped, the mean probability of the gold completion on held-out hard
    questions before training, without and with one demonstration; hard, the accuracy on them (alone) after it;
    hard_rollouts, about how many rollouts went to hard families, if all families were asked equally often.

    Raises:
        RunError: no complete run.
    """
    rows = []
    for run in load_study(folder).itertuples():
        recipe, base = run.variant.split("-", 1)
        before = evaluations(read_log(run.run))[0][1]
        rows.append({
            "base": base, "recipe": recipe, "seed": run.seed, "alone": before["gold_prob_hard"],
            "helped": before["few_shot_prob_hard"], "hard": run.zero_shot_hard,
            "hard_rollouts": run.rollouts * len(HARD_FAMILIES) / len(FAMILIES),
        })  # fmt: skip
    return pd.DataFrame(rows)


def map_cells(table):
    """`map_table` -> DataFrame, one row per base, from easy to hopeless: where it lies and how each recipe ends.

    Columns: base, alone, helped, lucky (right answers to hard questions to be expected in a whole run if the policy
    stayed as it is and was asked alone), seeds, then for each recipe its mean over seeds and `<recipe>_low`,
    `<recipe>_high`, the 95 % bootstrap interval.
    """
    cells = []
    for base, runs in table.groupby("base"):
        cell = {"base": base, "alone": runs.alone.mean(), "helped": runs.helped.mean(), "seeds": runs.seed.nunique()}
        cell["lucky"] = cell["alone"] * runs.hard_rollouts.mean()
        for recipe, ended in runs.groupby("recipe").hard:
            cell[recipe] = ended.mean()
            cell[f"{recipe}_low"], cell[f"{recipe}_high"] = bootstrap_interval(ended)
        cells.append(cell)
    return pd.DataFrame(cells).sort_values("alone", ascending=False).reset_index(drop=True)


def plot_map(table):
    """Final accuracy, the mean of the seeds as colour and number, over the difficulty of the base; a panel per recipe.

    The dotted line: left of it, less than one right answer to a hard question is to be expected in a whole run.
    """
    cells = map_cells(table)
    recipes = sorted(table.recipe.unique())
    figure, axes = plt.subplots(
        1, len(recipes), figsize=(5.2 * len(recipes), 5.4), squeeze=False, sharey=True, layout="constrained"
    )
    for axis, recipe in zip(axes[0], recipes):
        axis.axvline(1 / table.hard_rollouts.mean(), color="#444444", linestyle=":", linewidth=1, zorder=0)
        run_here = cells.dropna(subset=recipe)
        image = axis.scatter(
            run_here.alone,
            run_here.helped,
            c=run_here[recipe],
            vmin=0,
            vmax=1,
            s=470,
            marker="s",
            cmap="viridis",
            edgecolors="white",
        )
        for cell in run_here.to_dict("records"):
            axis.text(cell["alone"], cell["helped"], f"{cell[recipe]:.2f}", ha="center", va="center", fontsize=7,
                      color="white" if cell[recipe] < 0.6 else "black")  # fmt: skip
        axis.set(xscale="log", yscale="log", xlabel="P(gold), asked alone, before training", title=recipe)
        axis.margins(0.08)
    axes[0, 0].set_ylabel("P(gold), one demonstration in front,\nbefore training")
    figure.colorbar(image, ax=list(axes[0]), label="hard families, asked alone, after training")
    return figure


def map_lines(folder):
    """The map as Markdown table lines."""
    table = map_table(folder)
    recipes = sorted(table.recipe.unique())

    def ended(cell, recipe):
        if cell[recipe] != cell[recipe]:
            return "not run"
        low, high = cell[f"{recipe}_low"], cell[f"{recipe}_high"]
        return f"{cell[recipe]:.2f} ({low:.2f}-{high:.2f})" if low == low else f"{cell[recipe]:.2f} (one seed)"

    lines = [
        "",
        f"| base | alone | with one demonstration | lucky successes to expect | {' | '.join(recipes)} |",
        "|---" * (4 + len(recipes)) + "|",
    ]
    for cell in map_cells(table).to_dict("records"):
        lucky = f"{cell['lucky']:.0f}" if cell["lucky"] >= 10 else f"{cell['lucky']:.2g}"
        where = f"`{cell['base']}` | {cell['alone']:.0e} | {cell['helped']:.2g} | {lucky}"
        lines.append(f"| {where} | {' | '.join(ended(cell, recipe) for recipe in recipes)} |")
    return [*lines, ""]
