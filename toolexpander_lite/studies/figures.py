"""The README's pictures, drawn from the committed run logs."""

from pathlib import Path

import matplotlib.pyplot as plt

from ..base.runs import find_runs, has_seeds
from .ablation import plot_panels
from .difficulty_map import map_table, plot_map
from .plan import IDEAS
from .plots import draw_curves, draw_race, plot_groups, plot_seeds
from .sensitivity import assumption_figures

# The arms of the first picture: baselines that move, some that do not, hard sampling with and without its parts.
ARMS = (
    "grpo", "rollouts_32", "exclude_hard", "difficulty_filter", "greso", "icl_seeding", "lr_decay", "hint",
    "hard_sampling", "hard_sampling_decay", "hard_sampling-kl0.01", "hard_sampling-kl0", "hard_sampling-kl0-no-retest",
)  # fmt: skip
KEY_SEEDS = 5  # a picture or a table of the README waits until each of its arms has so many


def readme_figures(runs):
    """{name: matplotlib figure}; those of studies without runs are left out."""
    runs = Path(runs)
    figures = assumption_figures(runs)
    baseline = find_runs(runs / "nano-baseline")["grpo-lr1e-3-600steps"]
    figures["readme-accuracy"] = plot_stall(baseline)
    figures["readme-groups"] = plot_groups({"vanilla GRPO": baseline})
    arms = find_runs(runs / "nano-hard-sampling")
    figures["readme-hard-sampling"] = plot_panels({name: arms[name] for name in ARMS}, "grpo")
    if find_runs(runs / "nano-map"):
        figures["readme-map"] = plot_map(map_table(runs / "nano-map"))
    rules = {
        name: find_runs(runs / "nano-examples")[f"nano-rare-{name}"]
        for name in ("invitation", "exemplify_unscaled", "exemplify_gated", "exemplify")
    }
    panels = {
        "examples/rate": "rollouts with an\nexample of their own",
        "eval/zero_shot_hard": "hard families,\nheld out",
    }
    figures["readme-examples"] = plot_seeds(rules, panels, window=5)
    bases = {runs / "nano-ablation": "nano-invited", runs / "nano-ablation-hard": "a harder policy"}
    bases = {folder: title for folder, title in bases.items() if has_seeds(folder, IDEAS, KEY_SEEDS)}
    if bases:
        figures["readme-together"] = plot_together(bases)
    return figures


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
    figure, axis = plt.subplots(figsize=(7.2, 3.8))
    for colour, label, name in (
        ("#55a868", "easy families", "eval/zero_shot_easy"),
        ("#c44e52", "hard families", "eval/zero_shot_hard"),
        ("#dd8452", "hard, with one demonstration", "eval/few_shot_hard"),
    ):
        draw_curves(axis, {label: folders}, name, colour=colour)
    title = "Vanilla GRPO on the nano world, learning rate 1e-3, 600 steps"
    axis.set(title=title, ylabel="held-out accuracy", ylim=(-0.03, 1.05))
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=3, fontsize=8, frameon=False)
    figure.tight_layout()
    return figure
