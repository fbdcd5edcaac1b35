"""Rebuilds the README's table and picture from the committed run logs; nothing in either is typed in."""

from pathlib import Path

import matplotlib.pyplot as plt

from .plots import draw_curves, plot_groups
from .runs import REPOSITORY, find_runs, load_study

BEGIN, END = "<!-- results: made by `python -m toolexpander_lite report` -->", "<!-- end of results -->"


def study_table(folder):
    """One row per variant of a study -> DataFrame: seeds, steps, how many stalled and collapsed, final accuracies."""
    study = load_study(folder)
    return (
        study.groupby("variant")
        .agg(
            learning_rate=("learning_rate", "first"),
            steps=("steps", "first"),
            seeds=("seed", "count"),
            rollouts=("rollouts", "first"),
            stalled=("stalled", "sum"),
            collapsed=("collapsed", "sum"),
            easy=("zero_shot_easy", "mean"),
            easy_min=("zero_shot_easy", "min"),
            hard=("zero_shot_hard", "mean"),
            hard_max=("zero_shot_hard", "max"),
        )
        .sort_values(["steps", "learning_rate"])
        .reset_index()
    )


def results_markdown(runs):
    """The README's results section, from the run directories below `runs`."""
    lines = [
        "| variant | seeds | steps | rollouts | easy families (worst seed) | hard families (best seed) "
        "| stalled | collapsed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in study_table(Path(runs) / "nano-baseline").itertuples():
        lines.append(
            f"| `{row.variant}` | {row.seeds} | {row.steps} | {row.rollouts:,} | {row.easy:.2f} ({row.easy_min:.2f}) | "
            f"{row.hard:.2f} ({row.hard_max:.2f}) | {row.stalled} of {row.seeds} | {row.collapsed} of {row.seeds} |"
        )
    return "\n".join(lines)


def readme_figure(runs):
    """The picture at the top of the README: accuracy per kind of family, and what the groups teach."""
    variants = find_runs(Path(runs) / "nano-baseline")
    chosen = {
        "easy families": "eval/zero_shot_easy",
        "hard families": "eval/zero_shot_hard",
        "hard, with one demonstration": "eval/few_shot_hard",
    }
    folders = variants["grpo-lr6e-4"]
    figure, axis = plt.subplots(figsize=(6.2, 3.4))
    for colour, (label, name) in zip(("#55a868", "#c44e52", "#dd8452"), chosen.items()):
        draw_curves(axis, {label: folders}, name, colour=colour)
    axis.set(
        title=f"Vanilla GRPO on the nano world ({len(folders)} seeds)", ylabel="held-out accuracy", ylim=(-0.03, 1.05)
    )
    axis.legend(loc="center right", fontsize=8)
    figure.tight_layout()
    return figure, plot_groups({"vanilla GRPO": folders})


def rebuild(repository=REPOSITORY):
    """Rewrite README.md's results and assets/figures/*.png -> list of the files written."""
    repository = Path(repository)
    runs, figures = repository / "assets" / "runs", repository / "assets" / "figures"
    figures.mkdir(exist_ok=True)
    written = []
    for name, figure in zip(("readme-accuracy", "readme-groups"), readme_figure(runs)):
        figure.savefig(figures / f"{name}.png", dpi=110, metadata={"Software": None})
        plt.close(figure)
        written.append(figures / f"{name}.png")
    readme = repository / "README.md"
    text = readme.read_text(encoding="utf-8")
    head, tail = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    readme.write_text(f"{head}\n{results_markdown(runs)}\n{tail}", encoding="utf-8", newline="\n")
    return [*written, readme]
