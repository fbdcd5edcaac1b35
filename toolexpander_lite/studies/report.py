"""Rebuilds from the committed logs what README, docs/results.md and assets/ say; nothing in them is typed in.

A function whose name ends in `_lines` gives Markdown lines, list items or a table; [] while there is nothing to tell.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from ..base.runs import REPOSITORY, evaluations, find_runs, has_file, has_seeds, read_json, read_jsonl, read_log
from .front_page import plot_curves, plot_idea, verdicts_markdown
from .paper import claims_lines, hard_rows_lines
from .plan import read_plan
from .scoreboard import scoreboard_lines
from .statistics import arms_table, map_cells, map_table, study_table
from .study_figures import KEY_SEEDS, docs_figures
from .tables import runs_table
from .texts import TEXTS, markdown_table, say

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
    runs, benchmarks = Path(assets) / "runs", Path(assets) / "benchmarks"
    plans = [plan for plan in map(read_plan, CHAPTERS) if find_runs(runs / plan.name)]
    main = [plan for plan in plans if plan.words and has_seeds(runs / plan.name, plan.words, KEY_SEEDS)]
    real = [
        warm_start_line(runs / "smol-cpu-arms"), *first_runs_lines(runs / "smol"),
        *demonstration_lines(runs / "smol-cpu-arms"), *reading_lines(benchmarks),
        *scoreboard_lines(runs / "smol-cpu-arms"), *scoreboard_lines(runs / "smol-arms"), agreement_line(benchmarks),
        resume_line(benchmarks), *precision_lines(benchmarks), *speed_lines(benchmarks),
    ]  # fmt: skip
    return TEXTS.get_template("results.md.j2").render(
        claims="\n".join(claims_lines(assets)), main=[(plan, main_table(plan, runs / plan.name)) for plan in main],
        map=map_sentence(runs / "nano-map"), baseline=baseline_table(runs / "nano-baseline"), real=real,
        chapters=[(plan, "\n".join(TABLES.get(plan.name, arms_lines)(runs / plan.name))) for plan in plans],
        equal_rewards=equal_rewards_lines(benchmarks, runs),
    )  # fmt: skip


def baseline_table(folder):
    """Vanilla GRPO at each rate and length, what failed in how many seeds -> Markdown."""
    header = ("variant", "steps", "rollouts", "easy (worst seed)", "hard (best seed)",
              "hard, one demonstration (worst seed)", "stalled", "collapsed", "demonstrations lost")  # fmt: skip
    rows = [
        (f"`{row.variant}`", row.steps, f"{row.rollouts:,}", f"{row.easy:.2f} ({row.easy_worst:.2f})",
         f"{row.hard:.2f} ({row.hard_best:.2f})", f"{row.few_shot:.2f} ({row.few_shot_worst:.2f})",
         *(f"{count} of {row.seeds}" for count in (row.stalled, row.collapsed, row.lost)))
        for row in study_table(folder).itertuples()
    ]  # fmt: skip
    return "\n".join(markdown_table(header, rows))


def main_table(plan, folder):
    """The arms of a study that matter most, in words -> Markdown."""
    arms = arms_table(folder).set_index("variant").to_dict("index")
    header = ("arm", "in words", "seeds", "hard families at the end (95 % interval)", "seeds at 0.95",
              "median rollouts to 0.9 (of the seeds that got there, if not all)")  # fmt: skip
    rows = [
        (f"`{name}`", meaning, row["seeds"], f"{row['hard']:.2f} ({row['low']:.2f}-{row['high']:.2f})",
         f"{row['solved']} of {row['seeds']}", time_to(row))
        for name, meaning in plan.words.items() for row in [arms[name]]
    ]  # fmt: skip
    return "\n".join(markdown_table(header, rows))


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
    return markdown_table(("base", "zero-shot", "with one demonstration", "lucky successes to expect", *recipes), rows)


def map_sentence(folder):
    """What the map says, as a Markdown list item; "" before its first run."""
    if not find_runs(folder):
        return ""
    cells = map_cells(map_table(folder))
    seeds = " to ".join(dict.fromkeys((str(cells.seeds.min()), str(cells.seeds.max()))))
    solved = {recipe: (cells[recipe] >= 0.9).sum() for recipe in ("grpo", "hard_sampling")}
    return say("map", cells, seeds, solved, cells[cells.grpo >= 0.9].lucky)


def warm_start_line(study):
    """What the warm start of a study on SmolLM2 gave, as a Markdown list item with the counts behind each share."""
    warm = study / "warm-start" / "seed-0"
    return say("warm_start", study.name, read_json(warm / "summary.json"), read_json(warm / "config.json"))


def first_runs_lines(smol):
    """The first short runs on SmolLM2 in 4 bits, as Markdown list items: their warm start, then each run."""
    runs = [run for arm, folders in find_runs(smol).items() if arm != "warm-start" for run in folders]
    evaluated = [[row for row, _ in evaluations(read_log(run))] for run in runs]
    configs = [read_json(run / "config.json") for run in runs]
    return [warm_start_line(smol),
            *(say("first_run", config, rows[0], rows[-1]) for config, rows in zip(configs, evaluated))]  # fmt: skip


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

    shares = share(shown, "ok"), share(shown, "unknown_tool"), share(failed, "unknown_tool")
    return [say("demonstrations", folder.name, len(runs), *shares)]


TABLES = {"nano-map": map_lines, "paper-t3": hard_rows_lines, "paper-roads": hard_rows_lines}  # instead of `arms_lines`


def equal_rewards_lines(benchmarks, runs):
    """Which committed runs had equal rewards that moved the weights, as Markdown lines; and those that ran again."""
    file = benchmarks / "equal_rewards.json"
    if not file.exists():
        return []
    rows = read_json(file)["runs"]
    known = [row for row in rows if row["touched"] is not None]
    by_study = pd.DataFrame(known).groupby("study")
    table = markdown_table(
        ("study", "runs without a KL term", "of them touched", "batches touched"),
        [(f"`{study}`", len(own), (own.touched > 0).sum(), f"{own.touched.sum():,.0f} of {own.batches.sum():,}")
         for study, own in by_study],
    )  # fmt: skip
    lines = [say("equal_rewards", rows, known, [row for row in known if row["touched"]]), "", *table]
    pairs = [(run, runs / "nano-ablation-long" / run.parent.name / run.name)
             for seeds in find_runs(runs / "nano-ablation-long-silent").values() for run in seeds]  # fmt: skip
    ends = [
        (f"`{run.parent.name}`", run.name.removeprefix("seed-"),
         *(f"{end['peak_zero_shot']:.2f}, then {end['zero_shot']:.2f}{', collapsed' * end['collapsed']}"
           for end in (read_json(before / "summary.json"), read_json(run / "summary.json"))))
        for run, before in pairs
    ]  # fmt: skip
    header = ("run again", "seed", "with the error: peak and end", "with silent groups: peak and end")
    return [*lines, "", *markdown_table(header, ends)] if ends else lines


def reading_lines(benchmarks):
    """What a demonstration does to hard questions before any training, by warm start, as a Markdown list item."""
    file = benchmarks / "demonstrations.json"
    warm_starts = {"plain": "on zero-shot rows", "demonstrated": "on rows with a demonstration, too"}
    rows = read_json(file)["rows"] if file.exists() else []
    reasons = {(row["policy"], row["asked"]): row["reasons"] for row in rows}
    if not set(warm_starts) <= {policy for policy, _ in reasons}:  # somebody asked policies of his own
        return []
    asked = [(words, reasons[name, "demonstrated"], reasons[name, "again"]) for name, words in warm_starts.items()]
    return [say("reading", asked)]


def speed_lines(benchmarks):
    """What the committed benchmarks measured, as Markdown list items."""
    names = ("step_time", "where_time_goes", "step_time_toolexpander", "pool_cost")
    step, where, whole, pool = (read_json(benchmarks / f"{name}.json") for name in names)
    model = sum(share for name, share in where["shares"].items() if name.startswith("model"))
    return [say("speed", step, model), say("whole", whole), say("pool_cost", pool)]


def precision_lines(benchmarks):
    """What 4 bits cost a warm-started SmolLM2, as a Markdown list item; none while it has not been measured."""
    file = benchmarks / "four_bit.json"
    return [say("precision", read_json(file))] if file.exists() else []


def resume_line(benchmarks):
    """Is a BFCL run that was killed the same as one in one go? As a Markdown list item."""
    found = read_json(benchmarks / "bfcl_resume.json")
    calls = [counts for category, counts in found["correct"].items() if "irrelevance" not in category]
    return say("resumed", found, calls)


def agreement_line(benchmarks):
    """How far our matcher agrees with BFCL's official checker, as a Markdown list item."""
    found = read_json(benchmarks / "bfcl_agreement.json")
    mutations, models = found["mutations"], found["models"]
    gold = mutations["by_kind"]["gold"]
    apart = sum(n for outcome, n in gold.items() if outcome.count("right") == 1)
    asked = None
    if models != "not run":
        asked = len({id for ids in models["disagreements"].values() for id in ids.split()})
    by_size = sorted(mutations["causes"].items(), key=lambda item: -item[1]["answers"])
    return say("agreement", found, gold, apart, by_size, asked)
