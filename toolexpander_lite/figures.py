"""The README's pictures, drawn from the committed run logs."""

from pathlib import Path

import matplotlib.pyplot as plt

from .difficulty_map import map_table, plot_map
from .plots import draw_curves, plot_groups
from .runs import find_runs


def readme_figures(runs):
    """The README's pictures -> {name: figure}: where vanilla GRPO stalls, what its groups teach, arms, examples."""
    variants = find_runs(Path(runs) / "nano-baseline")
    chosen = {
        "easy families": "eval/zero_shot_easy",
        "hard families": "eval/zero_shot_hard",
        "hard, with one demonstration": "eval/few_shot_hard",
    }
    folders = variants["grpo-lr1e-3-600steps"]
    figure, axis = plt.subplots(figsize=(7.2, 3.8))
    for colour, (label, name) in zip(("#55a868", "#c44e52", "#dd8452"), chosen.items()):
        draw_curves(axis, {label: folders}, name, colour=colour)
    axis.set(
        title="Vanilla GRPO on the nano world, learning rate 1e-3, 600 steps",
        ylabel="held-out accuracy",
        ylim=(-0.03, 1.05),
    )
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=3, fontsize=8, frameon=False)
    figure.tight_layout()
    arms = find_runs(Path(runs) / "nano-hard-sampling")
    arms = {name: folders for name, folders in arms.items() if "-" not in name or name.endswith(("-kl0", "-kl0.01"))}
    own = [name for name in arms if name.startswith(("grpo", "hard_sampling", "lr_decay", "replace"))]
    compared, axes = plt.subplots(1, 2, figsize=(11, 5), sharey=True)
    for axis, title, names in zip(
        axes, ("Vanilla GRPO, hard sampling, its parts", "What others do"), (own, [n for n in arms if n not in own])
    ):
        draw_curves(axis, {name: arms[name] for name in names}, "eval/zero_shot_hard", "rollouts", title=title)
        axis.set(ylim=(-0.03, 1.05), xlim=(0, 20_000))
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, fontsize=8, frameon=False)
    axes[0].set_ylabel("held-out accuracy, hard families alone")
    compared.tight_layout()
    examples = find_runs(Path(runs) / "nano-examples")
    prefix = "nano-rare-"
    rules = {n.removeprefix(prefix): f for n, f in examples.items() if n.startswith(prefix) and not n.endswith("-kl")}
    paid, axes = plt.subplots(1, 2, figsize=(9.6, 3.8))
    for axis, (name, title) in zip(axes, (("examples/rate", "Rollouts with an example of their own"),
                                          ("eval/zero_shot_hard", "Hard families, held out"))):  # fmt: skip
        draw_curves(axis, rules, name, "rollouts", title=title)
        axis.set_ylim(-0.03, 1.05)
    paid.legend(*axes[0].get_legend_handles_labels(), loc="lower center", ncols=3, fontsize=8, frameon=False)
    paid.tight_layout(rect=(0, 0.14, 1, 1))
    mapped = {"readme-map": plot_map(map_table(Path(runs) / "nano-map"))} if find_runs(Path(runs) / "nano-map") else {}
    return {
        **mapped,
        "readme-accuracy": figure,
        "readme-examples": paid,
        "readme-groups": plot_groups({"vanilla GRPO": folders}),
        "readme-hard-sampling": compared,
    }
