"""What came of a study, in numbers over its seeds: means, intervals, effects, and the rule by which one is judged.

An effect is a paired difference: runs of one seed see the same questions in the same order, with the part and without.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from ..base.collapse import has_collapsed
from ..base.intervals import bootstrap_interval, share_interval
from ..base.runs import evaluations, find_runs, has_file, load_study, read_json, read_jsonl, read_log, rollouts_to
from ..worlds.nano_world import FAMILIES, HARD_FAMILIES
from .plan import plan_names, read_plan

# The rule of `verdict`, all of it ours.
FEW = 3  # seeds: with fewer there is no verdict
CHANCE = 1 / 16  # how often coin flips may agree as well as the seeds do: five of five (or nine of ten) pass
LITTLE = 0.1  # of accuracy: what "hardly" means in a claim
EDGE = 0.05  # both sides this near to 0, or to 1: a floor or a ceiling, and no verdict

# Values that are not in summary.json, see `seed_values`.
ROLLOUTS, HARD_LEFT, HARD_RISES = "rollouts_to_0.9", "hard_rows_left", "hard_rows_rises"
TURNED_HARD = "rows_turned_hard"  # of `paper.often`: no value of a seed
FEWER = (ROLLOUTS, HARD_LEFT, HARD_RISES, "examples/senseless", "examples/trivial", "stalled",
         "collapsed")  # less of them is better  # fmt: skip
END_STEPS = 10


def at_the_end(run, name):
    """Mean of a log quantity over the last END_STEPS steps, as far as they have it; NaN when none has."""
    values = [row[name] for row in read_log(run)[-END_STEPS:] if name in row]
    return float(np.mean(values)) if values else np.nan


def hard_counts(run):
    """Hard rows in the scan before each round, and after training -> list of numbers, from rounds.jsonl."""
    rounds = [Counter("".join(row["states"].values())) for row in read_jsonl(run / "rounds.jsonl")]
    return [*(r["p"] + r["d"] for r in rounds), read_json(run / "summary.json")["hard_rows_after"]]


def turned_hard(run):
    """(rows hard in the last scan but not in the first, rows not hard in the first); (0, 0) without scans."""
    scans = {}
    for row in read_jsonl(run / "scans.jsonl") if has_file(run / "scans.jsonl") else ():
        if row["kind"] == "scan":
            scans.setdefault(row["step"], {})[row["sample_id"]] = row["right"]
    if not scans:
        return 0, 0
    last, easier = scans[max(scans)], [sample for sample, right in scans[min(scans)].items() if right]
    return sum(last[sample] == 0 for sample in easier), len(easier)


def seed_values(runs, value):
    """One value of each run that has it -> {seed: number}. `runs`: rows of `load_study`.

    Args:
        value: a field of summary.json; a quantity of the log, if it holds a "/" or is "task_reward", as it is
            `at_the_end`; or one of these:
            `ROLLOUTS`: a seed that never reaches 0.9 counts with all its rollouts, so the difference to an arm with
            such seeds is a lower bound.
            `HARD_LEFT`: the share of the training rows that a scan after training finds hard.
            `HARD_RISES`: by how much, as a share of the rows, more are hard in a scan than in the one before; the mean
            over scans, 0 where there are fewer.
    """
    found = {row.seed: float(_value(row, value)) for row in runs.itertuples()}
    return {seed: number for seed, number in found.items() if number == number}


def _value(row, value):
    if value == ROLLOUTS:
        return rollouts_to(row.run, 0.9) or row.rollouts
    if "/" in value or value == "task_reward":
        return at_the_end(row.run, value)
    if value not in (HARD_LEFT, HARD_RISES):
        return getattr(row, value, np.nan)
    rows = getattr(row, "train_rows", None) or read_json(row.run / "config.json")["train_samples"]
    if value == HARD_LEFT:
        return getattr(row, "hard_rows_after", np.nan) / rows
    return np.diff(hard_counts(row.run)).clip(min=0).mean() / rows


def verdict(differences, ours, theirs, expects="gain"):
    """What paired differences say of a claim -> str. The rule is our assumption; its numbers are at the module's top.

    not run yet / too few seeds: no pair, or fewer than `FEW`.
    could not be tested here: both sides lie within `EDGE` of 1, where a gain has no room, or of 0, where a part that
        does nothing looks like one that does too little for this task.
    seen / reversed: the 95 % interval of the mean is wholly above / below 0, and coin flips would agree as well as the
        signs of the differences in at most `CHANCE` of all cases (sign test, two-sided, without the differences of 0).
    leaning / leaning against: such an interval, but too few seeds, or seeds that do not agree.
    not seen: the interval holds 0.

    Args:
        differences: one per seed, above 0 where they speak for the part.
        ours, theirs: the means of the two sides, as shares of what is possible; None where nothing bounds them.
        expects: "gain"; "little" for a claim of hardly any difference: there "above 0" reads "nearer than `LITTLE` to
            0", and "below 0" reads "farther away"; "no gain": "less than `LITTLE` above 0", and "more".
    """
    differences = np.asarray(differences, dtype=float)
    if not len(differences):
        return "not run yet"
    if len(differences) < FEW:
        return "too few seeds"
    if ours is not None and (max(ours, theirs) <= EDGE or min(ours, theirs) >= 1 - EDGE):
        return "could not be tested here"
    low, high = bootstrap_interval(differences)
    pro, contra, speaks_for, speaks_against = differences > 0, differences < 0, low > 0, high < 0
    if expects == "little":
        pro, contra = abs(differences) < LITTLE, abs(differences) > LITTLE
        speaks_for, speaks_against = max(-low, high) < LITTLE, max(-high, low) > LITTLE
    if expects == "no gain":
        pro, contra = differences < LITTLE, differences > LITTLE
        speaks_for, speaks_against = high < LITTLE, low > LITTLE
    if not (speaks_for or speaks_against):
        return "not seen"
    agree, signs = int(max(pro.sum(), contra.sum())), int(pro.sum() + contra.sum())
    sure = binomtest(agree, signs).pvalue <= CHANCE + 1e-9
    return ("seen" if sure else "leaning") if speaks_for else ("reversed" if sure else "leaning against")


def compare(ours, theirs, fewer=False, expects="gain", most=(1.0, 1.0), floor=0.0):
    """Two sides, {seed: value} each -> dict; seeds of one side do not count.

    Keys: seeds, how many both sides have; ours, theirs, the means over those; gain, the mean paired difference (where
    fewer is better: what was saved), with its 95 % bootstrap interval low, high; verdict; differences, seed by seed.

    `fewer`: less is better; `most`: what would be all of it, of each side; `floor`: what always remains, None: there is
    neither floor nor ceiling; `expects`: see `verdict`.
    """
    common = sorted(set(ours) & set(theirs))
    sides = [np.array([side[seed] for seed in common], float) for side in (ours, theirs)]
    differences = sides[1] - sides[0] if fewer else sides[0] - sides[1]
    one, other = (float(side.mean()) if common else np.nan for side in sides)
    low, high = bootstrap_interval(differences)
    shares = (None, None) if floor is None else ((one - floor) / most[0], (other - floor) / most[1])
    return {
        "seeds": len(common), "ours": one, "theirs": other, "gain": float(differences.mean()) if common else np.nan,
        "low": low, "high": high, "verdict": verdict(differences, *shares, expects),
        "differences": tuple(differences.tolist()),
    }  # fmt: skip


def arms_table(folder):
    """One row per variant of a study of arms, best first -> DataFrame.

    `hard` is the mean of the seeds' last zero-shot accuracies on the hard families, `low` and `high` its 95 % bootstrap
    interval, `worst` the worst seed, `solved` the number of seeds at 0.95 or more. `to_0.9` is the median of the
    rollouts until 0.9 over the `reached` seeds that got there. `uninvited`: the hard families without the invitation
    that the arm trains with (NaN if it has none). `stalled`, `collapsed`: numbers of seeds.
    """
    rows = []
    for variant, runs in load_study(folder).groupby("variant"):
        low, high = bootstrap_interval(runs.zero_shot_hard)
        reached = [n for n in (rollouts_to(run, 0.9) for run in runs["run"]) if n is not None]
        last = [evaluations(read_log(run))[-1][1] for run in runs["run"]]
        few_shot = pd.Series([scores.get("few_shot_hard") for scores in last], dtype=float)  # dialogues have none
        uninvited = [scores["uninvited"]["zero_shot_hard"] for scores in last if "uninvited" in scores]
        rows.append({
            "variant": variant, "learning_rate": runs.learning_rate.iloc[0], "seeds": len(runs),
            "rollouts": int(runs.rollouts.mean()),
            "easy": runs.zero_shot_easy.mean(), "hard": runs.zero_shot_hard.mean(), "low": low, "high": high,
            "worst": runs.zero_shot_hard.min(), "solved": int((runs.zero_shot_hard >= 0.95).sum()),
            "few_shot": few_shot.mean(), "to_0.9": pd.Series(reached, dtype=float).median(),
            "reached": len(reached), "stalled": int(runs.stalled.sum()),
            "collapsed": int(runs.collapsed.sum()), "uninvited": pd.Series(uninvited, dtype=float).mean(),
        })  # fmt: skip
    return pd.DataFrame(rows).sort_values(["hard", "variant"], ascending=[False, True]).reset_index(drop=True)


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


def map_table(folder):
    """The runs of a map -> DataFrame, one row per run. Variants are named `<recipe>-<base>`.

    Columns: base; recipe; seed; alone and helped, the mean probability of the gold completion on held-out hard
    questions before training, without and with one demonstration; hard, the zero-shot accuracy on them after it;
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
    stayed as it is and was asked zero-shot), seeds, then for each recipe its mean over seeds and `<recipe>_low`,
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


def sensitivity_table(runs):
    """Every run that shows what an assumption does -> DataFrame, one row per run and assumption.

    Columns: study, the one that asks; field, of `Recipe`; value, as text, in order; variant; learning_rate; seed; hard,
    the final accuracy on held-out hard questions; spent, rollouts until 0.9 on them (the whole run's, if never);
    reached, False if never. Fields of which fewer than two variants have runs are left out; an empty table if none is
    left.

    What is compared is what plans list under `compare`. `runs`: the folder that holds the studies; any may lack.
    """
    plans = [read_plan(name) for name in plan_names()]
    rows = [(plan.name, field, *arm) for plan in plans for field, _, arms in plan.compare for arm in arms]
    studies = {name: load_study(Path(runs) / name) for name in {row[3] for row in rows} if find_runs(Path(runs) / name)}
    parts = []
    for shown_in, field, value, study, name in rows:
        if study not in studies or name not in set(studies[study].variant):
            continue
        rows = studies[study][studies[study].variant == name]
        spent = rows.run.map(lambda run: rollouts_to(run, 0.9))
        parts.append(pd.DataFrame({
            "study": shown_in, "field": field, "value": value, "variant": name, "learning_rate": rows.learning_rate,
            "seed": rows.seed, "hard": rows.zero_shot_hard, "spent": spent.fillna(rows.rollouts).astype(float),
            "reached": spent.notna(),
        }))  # fmt: skip
    columns = ["study", "field", "value", "variant", "learning_rate", "seed", "hard", "spent", "reached"]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    tried = table.groupby(["study", "field"])["variant"].transform("nunique")
    return table[tried >= 2].reset_index(drop=True)


def hits(share, n):
    """0.375 of 24 -> "9 of 24 (95 % interval 0.21-0.57)", Wilson's interval for a share."""
    low, high = share_interval(round(share * n), n)
    return f"{round(share * n)} of {n} (95 % interval {low:.2f}-{high:.2f})"
