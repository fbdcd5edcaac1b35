"""Rebuilds from the committed logs what README, docs/results.md, docs/studies and assets/ say; nothing is typed in.

A function whose name ends in `_lines` gives Markdown lines, list items or a table; [] while there is nothing to tell.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from ..base.collapse import collapse_mechanism
from ..base.runs import REPOSITORY, evaluations, find_runs, has_file, load_study, read_json, read_jsonl, read_log
from .front_page import plot_curves, plot_distillation, plot_idea, verdicts_markdown
from .notebooks import alt_text
from .paper import claims_lines, claims_table, comparison_lines, fall, hard_rows_by_tool_lines, hard_rows_lines
from .plan import chosen_rates, plan_names, read_plan
from .scoreboard import afterwards_lines, scoreboard_lines
from .statistics import EDGE, LITTLE, arms_table, map_cells, map_table, study_table
from .study_figures import docs_figures
from .tables import contents_table, leftovers_table, price_table, runs_table
from .texts import TEXTS, markdown_table, say

BEGIN, END = "<!-- results: made by `python -m toolexpander_lite report` -->", "<!-- end of results -->"


def rebuild(repository=REPOSITORY):
    """Rewrite README.md's results, docs/results.md, docs/studies, assets/runs.csv, assets/figures -> files written."""
    repository = Path(repository)
    runs, figures = repository / "assets" / "runs", repository / "assets" / "figures"
    pages = repository / "docs" / "studies"
    for folder in (figures, pages):
        folder.mkdir(parents=True, exist_ok=True)
    written, shown = [], {}
    with plt.rc_context({"figure.max_open_warning": 0}):  # each is closed below, once it is written
        drawn = docs_figures(runs)
        drawn[""] = {"idea": plot_idea(), "distillation": plot_distillation(),
                     "three-curves": plot_curves(runs / "nano-ablation")}  # fmt: skip
    for study, name, figure in ((s, name, figure) for s, own in drawn.items() for name, figure in own.items()):
        figure.savefig(figures / f"{name}.png", dpi=110, metadata={"Software": None})
        plt.close(figure)
        shown.setdefault(study, []).append((name, alt_text(figure)))
        written.append(figures / f"{name}.png")
    readme = repository / "README.md"
    text = readme.read_text(encoding="utf-8")
    head, tail = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    readme.write_text(f"{head}\n{verdicts_markdown(runs)}\n{tail}", encoding="utf-8", newline="\n")
    table = repository / "assets" / "runs.csv"
    runs_table(runs).to_csv(table, index=False, lineterminator="\n")
    results = repository / "docs" / "results.md"
    results.write_text(results_markdown(repository / "assets"), encoding="utf-8", newline="\n")
    for plan in studies(runs):
        written.append(pages / f"{plan.name}.md")
        page = study_markdown(repository / "assets", plan, shown.get(plan.name, ()))
        written[-1].write_text(page, encoding="utf-8", newline="\n")
    return [*written, readme, table, results]


def studies(runs):
    """Plans of the studies with a page -> [`Plan`], the paper's first."""
    plans = [read_plan(name) for name in plan_names(abandoned=True)]
    return sorted((p for p in plans if p.title and find_runs(runs / p.name)), key=lambda p: p.name[:4] != "pape")


def study_markdown(assets, plan, figures):
    """docs/studies/NAME.md: what the study is, its arms, its pictures, its comparisons, its command.

    `figures`: (name, alt text) each.
    """
    folder, more = assets / "runs" / plan.name, MORE.get(plan.name, lambda folder: [])
    lines = TABLES.get(plan.name)
    if lines is None and plan.name.endswith("-search") and plan.rates:
        lines = search_lines
    elif lines is None:
        lines = hard_rows_lines if "hard_rows_after" in load_study(folder) else arms_lines
    made = find_runs(folder)
    few = {arm.variant: len(arm.seeds) - len(made.get(arm.variant, ())) for arm in plan.arms}
    missing = [f"`{arm}` ({seeds})" for arm, seeds in few.items() if seeds > 0]
    by_tool = hard_rows_by_tool_lines(folder) if lines is hard_rows_lines and plan.name.startswith("paper-") else ()
    return TEXTS.get_template("study.md.j2").render(
        plan=plan, table="\n".join(lines(folder)), figures=figures, tests="\n".join(comparison_lines(assets, plan)),
        more="\n".join([*collapsed_lines(folder), *by_tool, *more(folder)]).strip(), missing=missing,
    )  # fmt: skip


def results_markdown(assets):
    """docs/results.md: the paper's claims, all studies with a page of their own, the real model, the benchmarks."""
    runs, benchmarks = Path(assets) / "runs", Path(assets) / "benchmarks"
    made = {folder.name: [len(seeds) for seeds in find_runs(folder).values()] for folder in sorted(runs.iterdir())}
    paged = [(plan, made.pop(plan.name)) for plan in studies(runs)]
    others = [(name, sum(seeds)) for name, seeds in made.items() if seeds]
    real = [
        warm_start_line(runs / "smol-cpu-arms"), *first_runs_lines(runs / "smol"),
        *demonstration_lines(runs / "smol-cpu-arms"), *reading_lines(benchmarks),
        *scoreboard_lines(runs / "smol-cpu-arms"), *scoreboard_lines(runs / "smol-arms"), agreement_line(benchmarks),
        resume_line(benchmarks), *precision_lines(benchmarks), *speed_lines(benchmarks),
    ]  # fmt: skip
    tests = claims_table(assets)
    return TEXTS.get_template("results.md.j2").render(
        claims="\n".join(claims_lines(tests)), tests=tests, little=LITTLE, edge=EDGE, real=real, studies=paged,
        others=others,
    )  # fmt: skip


def baseline_lines(folder):
    """Vanilla GRPO at each rate and length, what failed in how many seeds -> lines of a Markdown table."""
    header = ("variant", "steps", "rollouts", "easy (worst seed)", "hard (best seed)",
              "hard, one demonstration (worst seed)", "stalled", "collapsed", "demonstrations lost")  # fmt: skip
    rows = [
        (f"`{row.variant}`", row.steps, f"{row.rollouts:,}", f"{row.easy:.2f} ({row.easy_worst:.2f})",
         f"{row.hard:.2f} ({row.hard_best:.2f})", f"{row.few_shot:.2f} ({row.few_shot_worst:.2f})",
         *(f"{count} of {row.seeds}" for count in (row.stalled, row.collapsed, row.lost)))
        for row in study_table(folder).itertuples()
    ]  # fmt: skip
    return markdown_table(header, rows)


def time_to(row):
    """The rollouts to 0.9 of a row of `arms_table` in words: their median, and over how many seeds if not over all."""
    if not row["reached"]:
        return "never"
    some = "" if row["reached"] == row["seeds"] else f" ({row['reached']} of {row['seeds']})"
    return f"{row['to_0.9']:,.0f}{some}"


def arms_lines(folder):
    """The arms of a study as a Markdown table, best first."""
    table, words = arms_table(folder), read_plan(folder.name).words
    invited = bool(table.uninvited.notna().any())
    header = ("arm", *["in words"] * bool(words), "seeds", "learning rate", "rollouts", "hard, mean (95 % interval)",
              "worst seed", "seeds at 0.95", "rollouts to 0.9", "stalled", "collapsed", "easy",
              "hard, one demonstration", *["hard, not invited"] * invited)  # fmt: skip
    rows = []
    for row in table.to_dict("records"):
        uninvited = "" if pd.isna(row["uninvited"]) else f"{row['uninvited']:.2f}"
        interval = f"{row['low']:.2f}-{row['high']:.2f}" if row["seeds"] > 1 else "one seed"
        rows.append((
            f"`{row['variant']}`", *[words.get(row["variant"], "")] * bool(words), row["seeds"],
            f"{row['learning_rate']:.0e}", f"{row['rollouts']:,}", f"{row['hard']:.2f} ({interval})",
            f"{row['worst']:.2f}", row["solved"], time_to(row), row["stalled"], row["collapsed"], f"{row['easy']:.2f}",
            "" if pd.isna(row["few_shot"]) else f"{row['few_shot']:.2f}", *[uninvited] * invited,
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


def search_lines(folder):
    """A search of learning rates -> lines of a Markdown table, an arm per row, the chosen rate in bold."""
    plan, study = read_plan(folder.name), load_study(folder)
    chosen = chosen_rates(folder, plan)
    arms, rates = study.variant.str.rsplit("-lr", n=1).str[0], sorted(set(study.learning_rate))
    rows = []
    for arm, runs in study.groupby(arms):
        cells = []
        for rate in rates:
            found = runs[runs.learning_rate == rate].zero_shot
            bold = "**" * (f"{rate:g}" == chosen.get(arm))
            cells.append(f"{bold}{found.mean():.3f}{bold} ({len(found)})" if len(found) else "")
        rows.append((f"`{arm}`", *cells))
    return markdown_table(("arm; accuracy on validation questions (seeds)", *(f"{rate:g}" for rate in rates)), rows)


def collapsed_lines(folder):
    """What the collapsed runs of a study fail of -> Markdown list items."""
    study = load_study(folder)
    failed = [(run, *collapse_mechanism(run)) for run in study.run[study.collapsed.eq(True)]]
    return [f"- `{run.parent.name}`, {run.name}, collapsed ({fall(run)} right): `{reason}` in {rise:.0%} more answers "
            "than at its peak"
            for run, reason, rise in failed]  # fmt: skip


def frame_lines(table):
    """A DataFrame as lines of a Markdown table below an empty line: two decimals, none from ten on."""

    def show(value):
        if not isinstance(value, float):
            return str(value)
        return "" if value != value else f"{value:,.0f}" if value >= 10 else f"{value:.2f}"

    return ["", *markdown_table(table.columns, [[show(cell) for cell in row] for row in table.itertuples(index=False)])]


def leftovers_lines(folder):
    """What else is left by the runs whose settings nano-sensitivity compares, means over seeds -> Markdown lines."""
    table = leftovers_table(folder.name, folder.parent)
    means = table.drop(columns="seed").groupby(["field", "value"], sort=False).mean().reset_index()
    return frame_lines(means)


def examples_and_price_lines(folder):
    """What arms spend until 0.9 on the hard families, and the examples at the end of those that write any -> lines."""
    runs = find_runs(folder)
    contents = contents_table(runs)
    return [*frame_lines(price_table(runs)), *frame_lines(contents[contents["seeds that write"] > 0])]


def map_sentence(folder):
    """What the map says, as a Markdown list item."""
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


TABLES = {"nano-map": map_lines, "nano-baseline": baseline_lines, "nano-rare-search": arms_lines}
MORE = {  # below the tables of a study
    "nano-map": lambda folder: [map_sentence(folder)], "nano-sensitivity": leftovers_lines,
    "nano-hard-sampling": lambda folder: frame_lines(price_table(find_runs(folder))),
    "nano-ablation": examples_and_price_lines, "nano-ablation-hard": examples_and_price_lines,
    "real-requests": afterwards_lines,
    "nano-ablation-long-silent": lambda folder: equal_rewards_lines(folder.parents[1] / "benchmarks", folder.parent),
}  # fmt: skip


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
