"""Single results in words, made from the committed logs: the map, the real model, speed, the judges' agreement."""

from ..base.intervals import share_interval
from ..base.runs import evaluations, find_runs, has_file, read_json, read_jsonl, read_log
from .difficulty_map import map_cells, map_table


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
        f"- **The map.** {len(cells)} base policies, P(gold) {cells.alone.max():.0e} to {cells.alone.min():.0e} on "
        f"hard questions asked alone ({seeds} seeds each): vanilla GRPO ends at 0.9 "
        f"or more on {solved['grpo']} of them{least}; hard sampling on {solved['hard_sampling']}. Notebook 02 has the "
        "picture."
    ]


def warm_start_line(study):
    """What the warm start of a study on SmolLM2 gave, as a Markdown list item with the counts behind each share."""
    warm = read_json(study / "warm-start" / "seed-0" / "summary.json")
    rows = read_json(study / "warm-start" / "seed-0" / "config.json")["held_out_samples"]
    return (
        f"- **A real LLM, same code** (`{study.name}`). SmolLM2-135M-Instruct on ToolRL rows, on a CPU: "
        f"{hits(warm['zero_shot_before'], rows)} held-out questions right as it comes, "
        f"{hits(warm['zero_shot'], rows)} after {warm['steps']} supervised warm start steps "
        f"({warm['seconds'] / 60:.0f} minutes)."
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
        f"{share(shown, 'unknown_tool')} call a tool that is not on offer; of rollouts of hard samples asked alone "
        f"{share(failed, 'unknown_tool')} do. Each row brings its own tools; our reading is that the model "
        "copies the call it is shown (notebook 05)."
    ]


def reading_lines(benchmarks):
    """What a demonstration does to hard questions before any training, by warm start, as a Markdown list item."""
    file = benchmarks / "demonstrations.json"
    if not file.exists():
        return []
    warm_starts = {"plain": "on rows asked alone", "demonstrated": "on rows with a demonstration, too"}
    rows = {(row["policy"], row["asked"]): row["reasons"] for row in read_json(file)["rows"]}
    if not set(warm_starts) <= {policy for policy, _ in rows}:  # somebody asked policies of his own
        return []
    told = "- **What a demonstration does to hard real rows**, before any GRPO (notebook 05)."
    for policy, words in warm_starts.items():
        shown, again = rows[policy, "demonstrated"], rows[policy, "again"]
        told += (
            f" Warm-started {words}: with a demonstration {shown.get('unknown_tool', 0)} of {sum(shown.values())} "
            f"rollouts call a tool that the row does not have and {shown.get('ok', 0)} are right; asked alone again "
            f"{again.get('unknown_tool', 0)} and {again.get('ok', 0)}."
        )
    return [told]


def hits(share, n):
    """0.375 of 24 -> "9 of 24 (95 % interval 0.21-0.57)", Wilson's interval for a share."""
    low, high = share_interval(round(share * n), n)
    return f"{round(share * n)} of {n} (95 % interval {low:.2f}-{high:.2f})"


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
    told = [
        f"{row['precision'].replace('4bit', '4 bits')} {hits(len(row['right']) / row['questions'], row['questions'])}, "
        f"{row['MiB_weights']:.0f} MiB of weights, {max(row['GiB_peak'].values()):.1f} GiB at the peak, "
        f"{row['questions_per_second']:.2f} questions a second"
        for row in found["rows"]
    ]
    moved = found["against_float32"]["4bit"]
    return [
        f"- **Precision.** The same warm-started SmolLM2 on the same questions ({found['machine']}): {'; '.join(told)}."
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
    told = ", ".join(f"{name.replace('_', ' ')} {cause['answers']:,}" for name, cause in causes)
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
        f"those {gold_apart} gold ones too: {told}. The mix of mutations is ours.{written} Scores on BFCL are the "
        "official checker's."
    )
