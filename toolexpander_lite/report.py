"""Rebuilds the README's tables and pictures from the committed run logs; nothing in them is typed in."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from .intervals import bootstrap_interval, paired_difference, share_interval
from .plots import draw_curves, plot_groups
from .runs import REPOSITORY, evaluations, find_runs, has_collapsed, load_study, read_log, rollouts_to

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
    rollouts until 0.9 over the seeds that got there. `gain` (with `gain_low`, `gain_high`) is the mean paired
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
        few_shot = [evaluations(read_log(run))[-1][1]["few_shot_hard"] for run in runs["run"]]
        rows.append({
            "variant": variant, "learning_rate": runs.learning_rate.iloc[0], "seeds": len(runs),
            "rollouts": int(runs.rollouts.mean()),
            "tokens": int((runs.prompt_tokens + runs.completion_tokens).mean()), "seconds": runs.seconds.mean(),
            "easy": runs.zero_shot_easy.mean(), "hard": runs.zero_shot_hard.mean(), "low": low, "high": high,
            "worst": runs.zero_shot_hard.min(), "solved": int((runs.zero_shot_hard >= 0.95).sum()),
            "few_shot": sum(few_shot) / len(few_shot), "to_0.9": pd.Series(reached, dtype=float).median(),
            "gain": gain, "gain_low": gain_low, "gain_high": gain_high,
        })  # fmt: skip
    return pd.DataFrame(rows).sort_values(["hard", "variant"], ascending=[False, True]).reset_index(drop=True)


def results_markdown(assets):
    """The README's results section: the baseline table, then the real model and the speed, from `assets` alone."""
    assets = Path(assets)
    lines = [
        "| variant | steps | rollouts | easy (worst seed) | hard (best seed) | hard, one demonstration (worst seed) "
        "| stalled | collapsed | demonstrations lost |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in study_table(assets / "runs" / "nano-baseline").itertuples():
        lines.append(
            f"| `{row.variant}` | {row.steps} | {row.rollouts:,} | {row.easy:.2f} ({row.easy_worst:.2f}) | "
            f"{row.hard:.2f} ({row.hard_best:.2f}) | {row.few_shot:.2f} ({row.few_shot_worst:.2f}) | "
            f"{row.stalled} of {row.seeds} | {row.collapsed} of {row.seeds} | {row.lost} of {row.seeds} |"
        )
    lines += [
        "",
        "**Hard sampling, its parts and its rivals** (`nano-hard-sampling`, 120 steps; `-kl0`: without the KL term; "
        "every arm at the learning rate that one search on other seeds and other prompts chose for it, the switches of "
        "`hard_sampling-kl0` at its rate, but for `lr2e-3`, our choice; intervals are bootstrapped over seeds; best "
        "arm first):",
        *arms_lines(assets / "runs" / "nano-hard-sampling"),
        "**Self-Exemplifying Thinking: what an example of one's own earns** (`nano-examples`, 120 steps, without the "
        "KL term except in `-kl`; `<policy>-<recipe>`, see notebook 03; evaluated with the invitation):",
        *arms_lines(assets / "runs" / "nano-examples"),
    ]
    return "\n".join([*lines, *real_model_lines(assets / "runs" / "smol"), agreement_line(assets / "benchmarks"),
                      *speed_lines(assets / "benchmarks")])  # fmt: skip


def arms_lines(folder):
    """The arms of a study as a Markdown table, best first."""
    lines = [
        "",
        "| arm | seeds | learning rate | rollouts | hard, mean (95 % interval) | worst seed | seeds at 0.95 "
        "| rollouts to 0.9 | easy | hard, one demonstration |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in arms_table(folder).to_dict("records"):
        reached = f"{row['to_0.9']:,.0f}" if row["to_0.9"] == row["to_0.9"] else "never"
        interval = f"{row['low']:.2f}-{row['high']:.2f}" if row["seeds"] > 1 else "one seed"
        lines.append(
            f"| `{row['variant']}` | {row['seeds']} | {row['learning_rate']:.0e} | {row['rollouts']:,} | "
            f"{row['hard']:.2f} ({interval}) | {row['worst']:.2f} | {row['solved']} | "
            f"{reached} | {row['easy']:.2f} | {row['few_shot']:.2f} |"
        )
    return [*lines, ""]


def real_model_lines(smol):
    """What the runs on SmolLM2 gave, as Markdown list items with the counts behind each share."""
    warm = json.loads((smol / "warm-start" / "seed-0" / "summary.json").read_text())
    rows = json.loads((smol / "warm-start" / "seed-0" / "config.json").read_text())["held_out_samples"]
    lines = [
        f"- **A real LLM, same code.** SmolLM2-135M-Instruct on ToolRL rows, two CPU cores: "
        f"{hits(warm['zero_shot_before'], rows)} held-out questions right as published, "
        f"{hits(warm['zero_shot'], rows)} after {warm['steps']} supervised warm start steps "
        f"({warm['seconds'] / 60:.0f} minutes)."
    ]
    for variant, folders in find_runs(smol).items():
        for run in folders if variant != "warm-start" else []:
            config, log = json.loads((run / "config.json").read_text()), read_log(run)
            scores, n = [e["zero_shot"] for _, e in evaluations(log)], config["held_out_samples"]
            lines.append(
                f"- {config['profile']['data']}, 4-bit NF4 with LoRA, seed {config['seed']}: "
                f"{hits(scores[0], n)} before and {hits(scores[-1], n)} after {log[-1]['step']} GRPO steps "
                f"({log[-1]['rollouts']} rollouts, {log[-1]['seconds'] / log[-1]['step']:.0f} s per step): too few "
                "to learn from; the path works."
            )
    return lines


def hits(share, n):
    """0.375 of 24 -> "9 of 24 (95 % interval 0.21-0.57)", Wilson's interval for a share."""
    low, high = share_interval(round(share * n), n)
    return f"{round(share * n)} of {n} (95 % interval {low:.2f}-{high:.2f})"


def speed_lines(benchmarks):
    """What the committed benchmarks measured, as Markdown list items."""
    step = json.loads((benchmarks / "step_time.json").read_text())
    where = json.loads((benchmarks / "where_time_goes.json").read_text())["shares"]
    pool = json.loads((benchmarks / "pool_cost.json").read_text())
    held = pool["memory"]
    stock, ours = step["seconds_per_step"].values()
    whole = json.loads((benchmarks / "step_time_toolexpander.json").read_text())
    model = sum(share for name, share in where.items() if name.startswith("model"))
    return [
        f"- **Speed.** {ours:.2f} s per nano step with `train()`, {stock:.2f} s with the stock `GRPOTrainer`, "
        f"side by side: ratio {step['ratio']:.3f} ({step['machine']}). {model:.0%} of a step is the model itself.",
        f"- **The whole of ToolExpander** against the stock trainer, handed the same prompts "
        f"({whole['demonstrated']:.0%} of the groups with a demonstration) and drawing the same rollouts: ratio "
        f"{whole['ratio']:.3f} ({whole['machine']}).",
        f"- **The pool's cost.** With nothing hard, a step with the pool takes {pool['ratio']:.3f} of a `grpo` step. "
        f"A pool of {held['samples']:,} samples takes {held['MiB_new']} MiB, {held['MiB_all_hard']} MiB when all are "
        f"hard (the ids themselves not counted), and {held['MiB_on_disk']} MiB in a checkpoint.",
    ]


def agreement_line(benchmarks):
    """How far our matcher agrees with BFCL's official checker, as a Markdown list item."""
    found = json.loads((benchmarks / "bfcl_agreement.json").read_text())
    mutations = found["mutations"]
    gold = mutations["by_kind"]["gold"]
    causes = sorted(mutations["causes"].items(), key=lambda item: -item[1]["answers"])
    told = ", ".join(f"{name.replace('_', ' ')} {cause['answers']:,}" for name, cause in causes)
    return (
        f"- **Our matcher and BFCL's official checker** on {mutations['answers']:,} gold and mutated answers to "
        f"{found['questions']:,} questions: of the gold answers the checker passes "
        f"{gold['ours right, official right']:,} of {sum(gold.values()):,}; "
        f"{mutations['answers'] - mutations['agreed']:,} mutated ones are judged differently, each with a known cause "
        f"({told}). The mix of mutations is ours. Scores on BFCL are the official checker's."
    )


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
    return {
        "readme-accuracy": figure,
        "readme-examples": paid,
        "readme-groups": plot_groups({"vanilla GRPO": folders}),
        "readme-hard-sampling": compared,
    }


def rebuild(repository=REPOSITORY):
    """Rewrite README.md's results and assets/figures/*.png -> list of the files written."""
    repository = Path(repository)
    runs, figures = repository / "assets" / "runs", repository / "assets" / "figures"
    figures.mkdir(exist_ok=True)
    written = []
    for name, figure in readme_figures(runs).items():
        figure.savefig(figures / f"{name}.png", dpi=110, metadata={"Software": None})
        plt.close(figure)
        written.append(figures / f"{name}.png")
    readme = repository / "README.md"
    text = readme.read_text(encoding="utf-8")
    head, tail = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    readme.write_text(f"{head}\n{results_markdown(repository / 'assets')}\n{tail}", encoding="utf-8", newline="\n")
    return [*written, readme]
