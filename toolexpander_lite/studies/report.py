"""Rebuilds the README's tables and pictures from the committed run logs; nothing in them is typed in."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from ..base.intervals import bootstrap_interval, paired_difference
from ..base.runs import REPOSITORY, evaluations, find_runs, has_collapsed, has_seeds, load_study, read_log, rollouts_to
from .difficulty_map import map_lines
from .figures import KEY_SEEDS, readme_figures
from .front_page import plot_curves, plot_idea, verdicts_markdown
from .headlines import (
    agreement_line,
    demonstration_lines,
    first_runs_lines,
    map_sentences,
    precision_lines,
    reading_lines,
    resume_line,
    speed_lines,
    warm_start_line,
)
from .plan import read_plan
from .scoreboard import scoreboard_lines

KEY_STUDIES = {  # the first tables of docs/results.md: study: (what it is about, {arm: in words})
    "nano-hard-sampling": (
        "**Demonstrations for hard samples** (study `nano-hard-sampling`; equal rollouts, each arm at the learning "
        "rate of one search on other seeds and prompts):",
        {
            "grpo": "vanilla GRPO",
            "rollouts_32": "32 rollouts a prompt, fewer prompts",
            "exclude_hard": "hard samples dropped",
            "hint": "hard samples continued from a prefix of their solution (after SEELE)",
            "hard_sampling": "hard samples demonstrated and re-tested",
            "hard_sampling_decay": "the same with learning rate decay: the paper's first idea",
            "hard_sampling-kl0": "the same without KL term and decay",
        },
    ),
    "nano-examples": (
        "**Examples the model writes for itself** (study `nano-examples`; another frozen policy, which is invited to "
        "write them and at first rarely does; no KL term, one learning rate):",
        {
            "nano-rare-invitation": "invited, paid nothing",
            "nano-rare-exemplify": "invited, paid 0.01 for writing one",
        },
    ),
    "nano-ablation": (
        "**Both ideas together** (study `nano-ablation`; a third policy, which writes examples rarely, and only when "
        "invited; equal rollouts, rates searched as above):",
        {
            "grpo": "vanilla GRPO",
            "no_kl": "the same without the KL term: one part of the second idea",
            "invitation": "vanilla GRPO, invited to write examples and paid nothing: another",
            "hard_sampling_decay": "the first idea",
            "set": "the second: no KL term, wider clip range on batches used twice, 0.01 for an example",
            "toolexpander": "both: the whole of ToolExpander",
        },
    ),
    "nano-ablation-hard": (
        "**The same on a harder policy** (study `nano-ablation-hard`; one that never saw a code unless a demonstration "
        "showed one):",
        {
            "grpo": "vanilla GRPO",
            "hard_sampling_decay": "the first idea",
            "hard_sampling_decay-kl0": "the same without the KL term",
            "hint-kl0": "a prefix of the solution instead, without the KL term",
            "set": "the second",
            "toolexpander": "both",
            "toolexpander-no-invitation": "both, but nobody invites or pays examples",
        },
    ),
}
CHAPTERS = (  # studies with a table in docs/results.md; heading and words are in their plans
    "nano-hard-sampling", "nano-map", "nano-examples", "nano-ablation", "nano-hard-first", "nano-ablation-hard",
    "nano-ablation-long", "nano-sensitivity",
)  # fmt: skip

BEGIN, END = "<!-- results: made by `python -m toolexpander_lite report` -->", "<!-- end of results -->"


def study_table(folder):
    """One row per variant of a study -> DataFrame: how it was run, what became of its seeds.

    `easy`, `hard` and `few_shot` are mean accuracies of the last evaluation (`few_shot`: hard families with one
    demonstration), with the worst or best seed beside them. `lost` counts the seeds whose few-shot accuracy ended
    below half of its own peak: collapse, by the same rule, of what a demonstration can bring out.
    """
    study = load_study(folder)
    few_shot = [[e["few_shot_hard"] for _, e in evaluations(read_log(run))] for run in study["run"]]
    study["few_shot"] = [scores[-1] for scores in few_shot]
    study["lost"] = [has_collapsed(scores) for scores in few_shot]
    return (
        study.groupby("variant")
        .agg(
            learning_rate=("learning_rate", "first"), steps=("steps", "first"), seeds=("seed", "count"),
            rollouts=("rollouts", "first"), stalled=("stalled", "sum"), collapsed=("collapsed", "sum"),
            easy=("zero_shot_easy", "mean"), easy_worst=("zero_shot_easy", "min"),
            hard=("zero_shot_hard", "mean"), hard_best=("zero_shot_hard", "max"),
            few_shot=("few_shot", "mean"), few_shot_worst=("few_shot", "min"), lost=("lost", "sum"),
        )
        .sort_values(["steps", "learning_rate"])
        .reset_index()
    )  # fmt: skip


def arms_table(folder, baseline="grpo"):
    """One row per variant of a study of arms, best first -> DataFrame.

    `hard` is the mean of the seeds' last zero-shot accuracies on the hard families, `low` and `high` its 95 % bootstrap
    interval, `worst` the worst seed, `solved` the number of seeds at 0.95 or more. `to_0.9` is the median of the
    rollouts until 0.9 over the `reached` seeds that got there. `uninvited`: the hard families without the invitation
    that the arm trains with (NaN if it has none). `gain` (with `gain_low`, `gain_high`) is the mean paired
    difference to the baseline, seed by seed. Costs are means over seeds.
    """
    study = load_study(folder)
    base = study[study.variant == baseline].set_index("seed")["zero_shot_hard"].to_dict()
    rows = []
    for variant, runs in study.groupby("variant"):
        hard = runs.set_index("seed")["zero_shot_hard"].to_dict()
        low, high = bootstrap_interval(hard.values())
        nothing = (float("nan"),) * 4  # no seed in common with the baseline
        gain, gain_low, gain_high, _ = paired_difference(hard, base) if set(hard) & set(base) else nothing
        reached = [n for n in (rollouts_to(run, 0.9) for run in runs["run"]) if n is not None]
        last = [evaluations(read_log(run))[-1][1] for run in runs["run"]]
        few_shot = [scores["few_shot_hard"] for scores in last]
        uninvited = [scores["uninvited"]["zero_shot_hard"] for scores in last if "uninvited" in scores]
        rows.append({
            "variant": variant, "learning_rate": runs.learning_rate.iloc[0], "seeds": len(runs),
            "rollouts": int(runs.rollouts.mean()),
            "tokens": int((runs.prompt_tokens + runs.completion_tokens).mean()), "seconds": runs.seconds.mean(),
            "easy": runs.zero_shot_easy.mean(), "hard": runs.zero_shot_hard.mean(), "low": low, "high": high,
            "worst": runs.zero_shot_hard.min(), "solved": int((runs.zero_shot_hard >= 0.95).sum()),
            "few_shot": sum(few_shot) / len(few_shot), "to_0.9": pd.Series(reached, dtype=float).median(),
            "reached": len(reached), "uninvited": pd.Series(uninvited, dtype=float).mean(),
            "gain": gain, "gain_low": gain_low, "gain_high": gain_high,
        })  # fmt: skip
    return pd.DataFrame(rows).sort_values(["hard", "variant"], ascending=[False, True]).reset_index(drop=True)


def key_lines(runs):
    """The arms that matter most, study by study, in words -> Markdown lines; and the map in a sentence."""
    told = []
    for study, (words, names) in KEY_STUDIES.items():
        if not has_seeds(runs / study, names, KEY_SEEDS):
            continue
        table = arms_table(runs / study)
        told += [
            words,
            "",
            "| arm | in words | seeds | hard families at the end (95 % interval) | seeds at 0.95 "
            "| median rollouts to 0.9 (of the seeds that got there, if not all) |",
            "|---|---|---|---|---|---|",
        ]
        for name, meaning in names.items():
            row = table[table.variant == name].to_dict("records")[0]
            told.append(
                f"| `{name}` | {meaning} | {row['seeds']} | {row['hard']:.2f} ({row['low']:.2f}-{row['high']:.2f}) | "
                f"{row['solved']} of {row['seeds']} | {time_to(row)} |"
            )
        told.append("")
    return [*told, *map_sentences(runs / "nano-map")]


def time_to(row):
    """The rollouts to 0.9 of a row of `arms_table` in words: their median, and over how many seeds if not over all."""
    if not row["reached"]:
        return "never"
    some = "" if row["reached"] == row["seeds"] else f" ({row['reached']} of {row['seeds']})"
    return f"{row['to_0.9']:,.0f}{some}"


def results_markdown(assets):
    """docs/results.md: every arm of every study with a table of its own, the real model, the benchmarks."""
    assets = Path(assets)
    runs = assets / "runs"
    lines = [
        "# All results",
        "",
        "Made by `python -m toolexpander_lite report` from the logs in `assets/runs` and `assets/benchmarks`; nothing "
        "is typed in. Accuracy is greedy, on held-out questions, at the end of a run; *hard*: on hard families, asked "
        "alone. Intervals are 95 %: over seeds bootstrap intervals, of shares of questions Wilson's, of speed ratios "
        "bootstrap intervals over steps. The command that made a run is in its configuration. *Like against like*: one "
        "side of a speed ratio against itself, which tells what the machine can measure.",
        "",
        "## The main arms",
        "",
        *key_lines(runs),
        "",
        "## Vanilla GRPO (`nano-baseline`)",
        "",
        "KL weight 0.04, clip 0.2 on both sides, constant learning rate, ten rollouts per prompt, 16 prompts a step. "
        "*Stalled*: on the hard families the last evaluation is at most 0.05 above the first. *Collapsed*: the last "
        "accuracy over all families is below half of the run's own peak. *Demonstrations lost*: the same rule, applied "
        "to the accuracy on hard questions with one demonstration in front.",
        "",
        "| variant | steps | rollouts | easy (worst seed) | hard (best seed) | hard, one demonstration (worst seed) "
        "| stalled | collapsed | demonstrations lost |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in study_table(runs / "nano-baseline").itertuples():
        lines.append(
            f"| `{row.variant}` | {row.steps} | {row.rollouts:,} | {row.easy:.2f} ({row.easy_worst:.2f}) | "
            f"{row.hard:.2f} ({row.hard_best:.2f}) | {row.few_shot:.2f} ({row.few_shot_worst:.2f}) | "
            f"{row.stalled} of {row.seeds} | {row.collapsed} of {row.seeds} | {row.lost} of {row.seeds} |"
        )
    for name in CHAPTERS:
        if find_runs(runs / name):
            plan, table = read_plan(name), map_lines(runs / name) if name == "nano-map" else arms_lines(runs / name)
            lines += ["", f"## {plan.title} (`{name}`)", "", plan.about, *table[:-1]]
    lines += ["", "## A real LLM, and the benchmarks", "", warm_start_line(runs / "smol-cpu-arms"),
              *first_runs_lines(runs / "smol"), *demonstration_lines(runs / "smol-cpu-arms"),
              *reading_lines(assets / "benchmarks"), *scoreboard_lines(runs / "smol-cpu-arms"),
              *scoreboard_lines(runs / "smol-arms"),
              agreement_line(assets / "benchmarks"), resume_line(assets / "benchmarks"),
              *precision_lines(assets / "benchmarks"), *speed_lines(assets / "benchmarks"), ""]  # fmt: skip
    return "\n".join(lines)


def arms_lines(folder):
    """The arms of a study as a Markdown table, best first."""
    table = arms_table(folder)
    invited = bool(table.uninvited.notna().any())
    lines = [
        "",
        "| arm | seeds | learning rate | rollouts | hard, mean (95 % interval) | worst seed | seeds at 0.95 "
        "| rollouts to 0.9 | easy | hard, one demonstration |" + " hard, not invited |" * invited,
        "|---|---|---|---|---|---|---|---|---|---|" + "---|" * invited,
    ]
    for row in table.to_dict("records"):
        uninvited = "" if pd.isna(row["uninvited"]) else f"{row['uninvited']:.2f}"
        interval = f"{row['low']:.2f}-{row['high']:.2f}" if row["seeds"] > 1 else "one seed"
        lines.append(
            f"| `{row['variant']}` | {row['seeds']} | {row['learning_rate']:.0e} | {row['rollouts']:,} | "
            f"{row['hard']:.2f} ({interval}) | {row['worst']:.2f} | {row['solved']} | "
            f"{time_to(row)} | {row['easy']:.2f} | {row['few_shot']:.2f} |" + f" {uninvited} |" * invited
        )
    return [*lines, ""]


def rebuild(repository=REPOSITORY):
    """Rewrite README.md's results, docs/results.md and assets/figures/*.png -> list of the files written."""
    repository = Path(repository)
    runs, figures = repository / "assets" / "runs", repository / "assets" / "figures"
    figures.mkdir(exist_ok=True)
    written = []
    with plt.rc_context({"figure.max_open_warning": 0}):  # each is closed below, once it is written
        drawn = readme_figures(runs)
        drawn |= {"idea": plot_idea(), "three-curves": plot_curves(runs / "nano-ablation")}
    for name, figure in drawn.items():
        figure.savefig(figures / f"{name}.png", dpi=110, metadata={"Software": None})
        plt.close(figure)
        written.append(figures / f"{name}.png")
    readme = repository / "README.md"
    text = readme.read_text(encoding="utf-8")
    head, tail = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    readme.write_text(f"{head}\n{verdicts_markdown(runs)}\n{tail}", encoding="utf-8", newline="\n")
    results = repository / "docs" / "results.md"
    results.parent.mkdir(exist_ok=True)
    results.write_text(results_markdown(repository / "assets"), encoding="utf-8", newline="\n")
    return [*written, readme, results]
