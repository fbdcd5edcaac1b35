"""Rebuilds from the committed logs what README, docs/results.md and assets/ say; nothing in them is typed in.

A function whose name ends in `_lines` gives Markdown lines, list items or a table; [] while there is nothing to tell.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from ..base.runs import REPOSITORY, evaluations, find_runs, has_file, has_seeds, read_json, read_jsonl, read_log
from ..training.profiles import tools_offered
from .front_page import plot_curves, plot_idea, verdicts_markdown
from .paper import claims_lines, hard_rows_lines
from .plan import read_plan
from .scoreboard import scoreboard_lines
from .statistics import arms_table, hits, map_cells, map_table, study_table
from .study_figures import KEY_SEEDS, docs_figures
from .tables import markdown_table, runs_table

CHAPTERS = (  # studies with a table in docs/results.md; heading and words are in their plans
    "paper-t3", "paper-roads", "nano-hard-sampling", "nano-map", "nano-examples", "nano-ablation", "nano-hard-first",
    "nano-ablation-hard", "nano-ablation-long", "nano-sensitivity",
)  # fmt: skip
BEGIN, END = "<!-- results: made by `python -m toolexpander_lite report` -->", "<!-- end of results -->"


def rebuild(repository=REPOSITORY):
    """Rewrite README.md's results, docs/results.md, assets/runs.csv and assets/figures/*.png -> the files written."""
    repository = Path(repository)
    runs, figures = repository / "assets" / "runs", repository / "assets" / "figures"
    figures.mkdir(exist_ok=True)
    written = []
    with plt.rc_context({"figure.max_open_warning": 0}):  # each is closed below, once it is written
        drawn = docs_figures(runs)
        drawn |= {"idea": plot_idea(), "three-curves": plot_curves(runs / "nano-ablation")}
    for name, figure in drawn.items():
        figure.savefig(figures / f"{name}.png", dpi=110, metadata={"Software": None})
        plt.close(figure)
        written.append(figures / f"{name}.png")
    readme = repository / "README.md"
    text = readme.read_text(encoding="utf-8")
    head, tail = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    readme.write_text(f"{head}\n{verdicts_markdown(runs)}\n{tail}", encoding="utf-8", newline="\n")
    table = repository / "assets" / "runs.csv"
    runs_table(runs).to_csv(table, index=False, lineterminator="\n")
    results = repository / "docs" / "results.md"
    results.parent.mkdir(exist_ok=True)
    results.write_text(results_markdown(repository / "assets"), encoding="utf-8", newline="\n")
    return [*written, readme, table, results]


def results_markdown(assets):
    """docs/results.md: every arm of every study with a table of its own, the real model, the benchmarks."""
    assets = Path(assets)
    runs = assets / "runs"
    lines = [
        "# All results",
        "",
        "Made by `python -m toolexpander_lite report` from the logs in `assets/runs` and `assets/benchmarks`; nothing "
        "is typed in. Accuracy is greedy, on held-out questions, at the end of a run; *hard*: on hard families, "
        "zero-shot. Intervals are 95 %: over seeds bootstrap intervals, of shares of questions Wilson's, of speed "
        "ratios bootstrap intervals over steps. The command that made a run is in its configuration. *Like against "
        "like*: one side of a speed ratio against itself, which tells what the machine can measure.",
        "",
        "## The paper's claims",
        "",
        "With the recipes `paper_...`, seed by seed. Hard rows are shares of all training rows. A gain is the mean "
        "difference, of what should be few the mean saved, with its 95 % interval. The rule of a verdict is in "
        "`studies/statistics.py`.",
        "",
        *claims_lines(assets),
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
        *markdown_table(
            ("variant", "steps", "rollouts", "easy (worst seed)", "hard (best seed)",
             "hard, one demonstration (worst seed)", "stalled", "collapsed", "demonstrations lost"),
            [
                (f"`{row.variant}`", row.steps, f"{row.rollouts:,}", f"{row.easy:.2f} ({row.easy_worst:.2f})",
                 f"{row.hard:.2f} ({row.hard_best:.2f})", f"{row.few_shot:.2f} ({row.few_shot_worst:.2f})",
                 *(f"{count} of {row.seeds}" for count in (row.stalled, row.collapsed, row.lost)))
                for row in study_table(runs / "nano-baseline").itertuples()
            ],
        ),
    ]  # fmt: skip
    for name in CHAPTERS:
        if find_runs(runs / name):
            plan, make = read_plan(name), TABLES.get(name, arms_lines)
            lines += ["", f"## {plan.title} (`{name}`)", "", plan.about, "", *make(runs / name)]
    lines += [*equal_rewards_lines(assets / "benchmarks", runs),
              "", "## A real LLM, and the benchmarks", "", warm_start_line(runs / "smol-cpu-arms"),
              *first_runs_lines(runs / "smol"), *demonstration_lines(runs / "smol-cpu-arms"),
              *reading_lines(assets / "benchmarks"), *scoreboard_lines(runs / "smol-cpu-arms"),
              *scoreboard_lines(runs / "smol-arms"),
              agreement_line(assets / "benchmarks"), resume_line(assets / "benchmarks"),
              *precision_lines(assets / "benchmarks"), *speed_lines(assets / "benchmarks"), ""]  # fmt: skip
    return "\n".join(lines)


def key_lines(runs):
    """The arms that matter most, study by study, in words -> Markdown lines; and the map in a sentence."""
    lines = []
    header = ("arm", "in words", "seeds", "hard families at the end (95 % interval)", "seeds at 0.95",
              "median rollouts to 0.9 (of the seeds that got there, if not all)")  # fmt: skip
    for plan in map(read_plan, CHAPTERS):
        if plan.words and has_seeds(runs / plan.name, plan.words, KEY_SEEDS):
            arms = arms_table(runs / plan.name).set_index("variant").to_dict("index")
            rows = [
                (f"`{name}`", meaning, row["seeds"], f"{row['hard']:.2f} ({row['low']:.2f}-{row['high']:.2f})",
                 f"{row['solved']} of {row['seeds']}", time_to(row))
                for name, meaning in plan.words.items() for row in [arms[name]]
            ]  # fmt: skip
            lines += [f"{plan.main}:", "", *markdown_table(header, rows), ""]
    return [*lines, *map_sentences(runs / "nano-map")]


def time_to(row):
    """The rollouts to 0.9 of a row of `arms_table` in words: their median, and over how many seeds if not over all."""
    if not row["reached"]:
        return "never"
    some = "" if row["reached"] == row["seeds"] else f" ({row['reached']} of {row['seeds']})"
    return f"{row['to_0.9']:,.0f}{some}"


def arms_lines(folder):
    """The arms of a study as a Markdown table, best first."""
    table = arms_table(folder)
    invited = bool(table.uninvited.notna().any())
    header = ("arm", "seeds", "learning rate", "rollouts", "hard, mean (95 % interval)", "worst seed", "seeds at 0.95",
              "rollouts to 0.9", "easy", "hard, one demonstration", *["hard, not invited"] * invited)  # fmt: skip
    rows = []
    for row in table.to_dict("records"):
        uninvited = "" if pd.isna(row["uninvited"]) else f"{row['uninvited']:.2f}"
        interval = f"{row['low']:.2f}-{row['high']:.2f}" if row["seeds"] > 1 else "one seed"
        rows.append((
            f"`{row['variant']}`", row["seeds"], f"{row['learning_rate']:.0e}", f"{row['rollouts']:,}",
            f"{row['hard']:.2f} ({interval})", f"{row['worst']:.2f}", row["solved"], time_to(row),
            f"{row['easy']:.2f}", f"{row['few_shot']:.2f}", *[uninvited] * invited,
        ))  # fmt: skip
    return markdown_table(header, rows)


def map_lines(folder):
    """The map as Markdown table lines."""
    table = map_table(folder)
    recipes = sorted(table.recipe.unique())

    def ended(cell, recipe):
        if cell[recipe] != cell[recipe]:
            return "not run"
        low, high = cell[f"{recipe}_low"], cell[f"{recipe}_high"]
        return f"{cell[recipe]:.2f} ({low:.2f}-{high:.2f})" if low == low else f"{cell[recipe]:.2f} (one seed)"

    rows = []
    for cell in map_cells(table).to_dict("records"):
        lucky = f"{cell['lucky']:.0f}" if cell["lucky"] >= 10 else f"{cell['lucky']:.2g}"
        rows.append((f"`{cell['base']}`", f"{cell['alone']:.0e}", f"{cell['helped']:.2g}", lucky,
                     *(ended(cell, recipe) for recipe in recipes)))  # fmt: skip
    return markdown_table(("base", "alone", "with one demonstration", "lucky successes to expect", *recipes), rows)


def map_sentences(folder):
    """What the map says, as a Markdown list item; none before its first run."""
    if not find_runs(folder):
        return []
    cells = map_cells(map_table(folder))
    seeds = " to ".join(dict.fromkeys((str(cells.seeds.min()), str(cells.seeds.max()))))
    solved = {recipe: (cells[recipe] >= 0.9).sum() for recipe in ("grpo", "hard_sampling")}
    lucky = cells[cells.grpo >= 0.9].lucky
    least = f"; the hardest of those had {lucky.min():.2g} lucky successes to expect in a run" if len(lucky) else ""
    return [
        f"- **The map.** {len(cells)} base policies, zero-shot P(gold) {cells.alone.max():.0e} to "
        f"{cells.alone.min():.0e} on hard questions ({seeds} seeds each): vanilla GRPO ends at 0.9 "
        f"or more on {solved['grpo']} of them{least}; hard sampling on {solved['hard_sampling']}. Notebook 02 has the "
        "picture."
    ]


def warm_start_line(study):
    """What the warm start of a study on SmolLM2 gave, as a Markdown list item with the counts behind each share."""
    warm = read_json(study / "warm-start" / "seed-0" / "summary.json")
    config = read_json(study / "warm-start" / "seed-0" / "config.json")
    rows = config["held_out_samples"]
    return (
        f"- **A real LLM, same code** (`{study.name}`). SmolLM2-135M-Instruct on ToolRL rows, on a CPU: "
        f"{hits(warm['zero_shot_before'], rows)} held-out questions right as it comes, "
        f"{hits(warm['zero_shot'], rows)} after {warm['steps']} supervised warm start steps "
        f"({warm['seconds'] / 60:.0f} minutes). {tools_offered(config['profile'])}"
    )


def first_runs_lines(smol):
    """The first short runs on SmolLM2 in 4 bits, as Markdown list items: their warm start, then each run."""
    lines = [warm_start_line(smol)]
    for variant, folders in find_runs(smol).items():
        for run in folders if variant != "warm-start" else []:
            config, log = read_json(run / "config.json"), read_log(run)
            scores, n = [e["zero_shot"] for _, e in evaluations(log)], config["held_out_samples"]
            lines.append(
                f"- {config['profile']['data']}, 4-bit NF4 with LoRA, seed {config['seed']}: "
                f"{hits(scores[0], n)} before and {hits(scores[-1], n)} after {log[-1]['step']} GRPO steps "
                f"({log[-1]['rollouts']} rollouts, {log[-1]['seconds'] / log[-1]['step']:.0f} s per step): too few "
                "to learn from; the path works."
            )
    return lines


def demonstration_lines(folder):
    """What became of the real model's rollouts with a demonstration, as a Markdown list item; none without runs."""
    runs = [run for run in find_runs(folder).get("toolexpander", []) if has_file(run / "rollouts.jsonl")]
    groups = [group for run in runs for group in read_jsonl(run / "rollouts.jsonl")]
    shown = [g["reasons"] for g in groups if g["served"] == "demonstrated"]
    failed = [g["reasons"] for g in groups if g["served"] == "plain" and not g["reasons"].get("ok")]
    if not shown or not failed:
        return []

    def share(chosen, reason):
        return f"{sum(r.get(reason, 0) for r in chosen)} of {sum(sum(r.values()) for r in chosen)}"

    return [
        f"- **Demonstrations on real rows.** SmolLM2 on ToolRL rows (`{folder.name}`, `toolexpander`, {len(runs)} "
        f"seeds): of the rollouts with a demonstration {share(shown, 'ok')} are right, and "
        f"{share(shown, 'unknown_tool')} call a tool that is not on offer; of zero-shot rollouts of hard samples "
        f"{share(failed, 'unknown_tool')} do. Each row brings its own tools; our reading is that the model "
        "copies the call it is shown (notebook 05)."
    ]


TABLES = {"nano-map": map_lines, "paper-t3": hard_rows_lines, "paper-roads": hard_rows_lines}  # instead of `arms_lines`


def equal_rewards_lines(benchmarks, runs):
    """Which committed runs had equal rewards that moved the weights, as Markdown lines; and those that ran again."""
    file = benchmarks / "equal_rewards.json"
    if not file.exists():
        return []
    rows = read_json(file)["runs"]
    known = [row for row in rows if row["touched"] is not None]
    touched = [row for row in known if row["touched"]]
    words = (
        "Until rewards were multiples of 1/4096, ten equal rewards of 1.01 were not silent: TRL's float32 mean left "
        f"each an advantage of {min(row['advantage']['right'] for row in rows):.4f}, whose size Adam divides away. Of "
        f"{len(rows)} committed runs that pay for examples, {len(known)} have no KL term, so that the loss tells: "
        f"{len(touched)} of them had such groups, in {sum(row['touched'] for row in touched):,} of "
        f"{sum(row['batches'] for row in known):,} batches. The other {len(rows) - len(known)} may have had some. "
        "`assets/benchmarks/equal_rewards.json` names every batch. What it did to verdicts is known only where arms "
        "are run again (`nano-ablation-long-silent`)."
    )
    studies = sorted({row["study"] for row in known})
    table = markdown_table(
        ("study", "runs without a KL term", "of them touched", "batches touched"),
        [
            (f"`{study}`", len(own), sum(row["touched"] > 0 for row in own),
             f"{sum(row['touched'] for row in own):,} of {sum(row['batches'] for row in own):,}")
            for study in studies for own in [[row for row in known if row["study"] == study]]
        ],
    )  # fmt: skip
    lines = ["", "## Groups of equal rewards in the runs above", "", words, "", *table]
    again = [run for seeds in find_runs(runs / "nano-ablation-long-silent").values() for run in seeds]
    if not again:
        return lines
    ends = [
        (f"`{run.parent.name}`", run.name.removeprefix("seed-"),
         *(f"{end['peak_zero_shot']:.2f}, then {end['zero_shot']:.2f}{', collapsed' * end['collapsed']}"
           for end in (read_json(runs / "nano-ablation-long" / run.parent.name / run.name / "summary.json"),
                       read_json(run / "summary.json"))))
        for run in again
    ]  # fmt: skip
    header = ("run again", "seed", "with the error: peak and end", "with silent groups: peak and end")
    return [*lines, "", *markdown_table(header, ends)]


def reading_lines(benchmarks):
    """What a demonstration does to hard questions before any training, by warm start, as a Markdown list item."""
    file = benchmarks / "demonstrations.json"
    if not file.exists():
        return []
    warm_starts = {"plain": "on zero-shot rows", "demonstrated": "on rows with a demonstration, too"}
    rows = {(row["policy"], row["asked"]): row["reasons"] for row in read_json(file)["rows"]}
    if not set(warm_starts) <= {policy for policy, _ in rows}:  # somebody asked policies of his own
        return []
    line = "- **What a demonstration does to hard real rows**, before any GRPO (notebook 05)."
    for policy, words in warm_starts.items():
        shown, again = rows[policy, "demonstrated"], rows[policy, "again"]
        line += (
            f" Warm-started {words}: with a demonstration {shown.get('unknown_tool', 0)} of {sum(shown.values())} "
            f"rollouts call a tool that the row does not have and {shown.get('ok', 0)} are right; zero-shot again "
            f"{again.get('unknown_tool', 0)} and {again.get('ok', 0)}."
        )
    return [line]


def speed_lines(benchmarks):
    """What the committed benchmarks measured, as Markdown list items."""
    step = read_json(benchmarks / "step_time.json")
    where = read_json(benchmarks / "where_time_goes.json")["shares"]
    pool = read_json(benchmarks / "pool_cost.json")
    held = pool["memory"]
    stock, ours = list(step["wall"]["seconds_per_step"].values())[:2]
    whole = read_json(benchmarks / "step_time_toolexpander.json")
    model = sum(share for name, share in where.items() if name.startswith("model"))
    return [
        f"- **Speed.** {ours:.2f} s per nano step with `train()`, {stock:.2f} s with the stock `GRPOTrainer`, taking "
        f"turns step by step: ratio {ratio(step)} ({step['machine']}). {model:.0%} of a step is the model itself.",
        f"- **The whole of ToolExpander** against the stock trainer, handed the same prompts "
        f"({whole['demonstrated']:.0%} of the groups with a demonstration) and drawing the same rollouts: ratio "
        f"{ratio(whole)}.",
        f"- **The pool's cost.** A step with the pool and nothing hard against a `grpo` step: ratio {ratio(pool)}. "
        f"A pool of {held['samples']:,} samples takes {held['MiB_new']} MiB, {held['MiB_all_hard']} MiB when all are "
        f"hard (the ids themselves not counted), and {held['MiB_on_disk']} MiB in a checkpoint.",
    ]


def ratio(benchmark):
    """A committed quotient of seconds per step, with its interval and what the control shows."""
    found = benchmark["wall"]
    (low, high), (least, most) = found["interval"], found["control"]["interval"]
    return f"{found['ratio']:.3f} (95 % interval {low:.3f}-{high:.3f}; like against like {least:.3f}-{most:.3f})"


def precision_lines(benchmarks):
    """What 4 bits cost a warm-started SmolLM2, as a Markdown list item; none while it has not been measured."""
    file = benchmarks / "four_bit.json"
    if not file.exists():
        return []
    found = read_json(file)
    rows = [
        f"{row['precision'].replace('4bit', '4 bits')} {hits(len(row['right']) / row['questions'], row['questions'])}, "
        f"{row['MiB_weights']:.0f} MiB of weights, {max(row['GiB_peak'].values()):.1f} GiB at the peak, "
        f"{row['questions_per_second']:.2f} questions a second"
        for row in found["rows"]
    ]
    moved = found["against_float32"]["4bit"]
    return [
        f"- **Precision.** The same warm-started SmolLM2 on the same questions ({found['machine']}): {'; '.join(rows)}."
        f" Between float32 and 4 bits {moved['only_float32']} answers are right only in float32, {moved['only_here']} "
        "only in 4 bits."
    ]


def resume_line(benchmarks):
    """Is a BFCL run that was killed the same as one in one go? As a Markdown list item."""
    found = read_json(benchmarks / "bfcl_resume.json")
    wanted = [counts for category, counts in found["correct"].items() if "irrelevance" not in category]
    right, calls = sum(correct for correct, _ in wanted), [asked for _, asked in wanted]
    return (
        f"- **BFCL, killed and resumed.** All {found['questions']:,} single-turn questions asked of `{found['model']}` "
        f"in one go ({found['questions_per_second']:.0f} a second, the start included) and in a run that was killed "
        f"{len(found['killed_at'])} times: {found['same_answers']:,} answers are the same, the scores "
        f"{'too' if found['same_scores'] else 'are NOT'}. (It is right on {right:,} of the {sum(calls):,} that want a "
        "call: what is compared is every word of its answers.)"
    )


def agreement_line(benchmarks):
    """How far our matcher agrees with BFCL's official checker, as a Markdown list item."""
    found = read_json(benchmarks / "bfcl_agreement.json")
    mutations = found["mutations"]
    gold = mutations["by_kind"]["gold"]
    causes = sorted(mutations["causes"].items(), key=lambda item: -item[1]["answers"])
    named = ", ".join(f"{name.replace('_', ' ')} {cause['answers']:,}" for name, cause in causes)
    gold_apart = sum(n for outcome, n in gold.items() if outcome.count("right") == 1)
    written = ""
    if found["models"] != "not run":
        models = found["models"]
        apart = ", ".join(f"{name.replace('_', ' ')} {cause['answers']:,}" for name, cause in models["causes"].items())
        asked = {id for ids in models["disagreements"].values() for id in ids.split()}
        written = (
            f" {len(models['by_kind'])} models answered {models['questions']:,} questions; of their "
            f"{models['with_a_readable_call']:,} answers with a call that can be read (of {models['answers']:,}; the "
            f"others are wrong to both) the two judge {models['answers'] - models['agreed']:,} differently"
            f"{f' ({apart})' if apart else ''}, on {len(asked)} of the questions."
        )
    return (
        f"- **Our matcher and BFCL's official checker** on {mutations['answers']:,} gold and mutated answers to "
        f"{found['questions']:,} questions: of the gold answers the checker passes "
        f"{gold['ours right, official right']:,} of {sum(gold.values()):,}; "
        f"{mutations['answers'] - mutations['agreed'] - gold_apart:,} mutated ones are judged differently. Causes, of "
        f"those {gold_apart} gold ones too: {named}. The mix of mutations is ours.{written} Scores on BFCL are the "
        "official checker's."
    )
