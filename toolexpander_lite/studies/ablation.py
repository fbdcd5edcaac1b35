"""What does each part do? Effects and endings, computed from run logs, and the rule by which an effect is judged.

An effect is a paired difference: runs of one seed see the same questions in the same order, with the part and without.
"""

import shlex
import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from scipy.stats import binomtest

from ..base.errors import RunError
from ..base.intervals import bootstrap_interval, paired_difference
from ..base.runs import evaluations, has_collapsed, load_study, read_log, rollouts_to
from .plots import curve, draw_curves

# The rule of `verdict`, all of it ours.
FEW = 3  # seeds: with fewer there is no verdict
CHANCE = 1 / 16  # how often coin flips may agree as well as the seeds do: five of five (or nine of ten) pass
LITTLE = 0.1  # of accuracy: what "hardly" means in a claim
EDGE = 0.05  # both sides this near to 0, or to 1: a floor or a ceiling, and no verdict
VERDICT_COLOURS = {
    "seen": "#2a8c4a", "leaning": "#8fce9f", "not seen": "#777777", "leaning against": "#e7a3a5", "reversed": "#c44e52",
    "could not be tested here": "#bbbbbb", "too few seeds": "#bbbbbb",
}  # fmt: skip
# A verdict on a difference without taking sides: in a picture of parts taken away, a part that helps lies below 0.
IN_WORDS = {
    "seen": "above 0", "leaning": "above 0, not surely", "not seen": "0 not ruled out",
    "leaning against": "below 0, not surely", "reversed": "below 0",
}  # fmt: skip

ROLLOUTS = "rollouts_to_0.9"  # not in summary.json: rollouts until 0.9 on the hard families
FEWER = (ROLLOUTS, "stalled", "collapsed")  # values of which less is better


def seed_values(runs, value):
    """One value of each run -> {seed: number}. `runs`: rows of `load_study`; `value`: a field of summary.json.

    Or `ROLLOUTS`: a seed that never reaches 0.9 counts with all its rollouts, so the difference to an arm with such
    seeds is a lower bound.
    """
    if value != ROLLOUTS:
        return runs.set_index("seed")[value].astype(float).to_dict()
    return {row.seed: float(rollouts_to(row.run, 0.9) or row.rollouts) for row in runs.itertuples()}


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
        ours, theirs: the means of the two sides, as shares of what is possible.
        expects: "gain", or "little" for a claim of hardly any difference: there "above 0" reads "nearer than `LITTLE`
            to 0", and "below 0" reads "farther away".
    """
    differences = np.asarray(differences, dtype=float)
    if not len(differences):
        return "not run yet"
    if len(differences) < FEW:
        return "too few seeds"
    if max(ours, theirs) <= EDGE or min(ours, theirs) >= 1 - EDGE:
        return "could not be tested here"
    low, high = bootstrap_interval(differences)
    pro, contra, speaks_for, speaks_against = differences > 0, differences < 0, low > 0, high < 0
    if expects == "little":
        pro, contra = abs(differences) < LITTLE, abs(differences) > LITTLE
        speaks_for, speaks_against = max(-low, high) < LITTLE, max(-high, low) > LITTLE
    if not (speaks_for or speaks_against):
        return "not seen"
    agree, signs = int(max(pro.sum(), contra.sum())), int(pro.sum() + contra.sum())
    sure = binomtest(agree, signs).pvalue <= CHANCE + 1e-9
    return ("seen" if sure else "leaning") if speaks_for else ("reversed" if sure else "leaning against")


def effects_table(folder, baseline, variants=None, value="zero_shot_hard", expects="gain"):
    """What each variant changes against a baseline of the same study -> DataFrame, largest gain first.

    Columns: variant; seeds, how many both sides have; ours, theirs, the means over those; gain, the mean paired
    difference (where fewer is better, see `FEWER`: what was saved), with its 95 % bootstrap interval low, high;
    verdict; differences, seed by seed.

    Args:
        variants: names; None takes all but the baseline. Those without a run are left out.
        value: see `seed_values`; an accuracy or a yes or no if it is not `ROLLOUTS`.
        expects: see `verdict`.

    Raises:
        RunError: the baseline has no runs.
    """
    study = load_study(folder)
    groups = dict(list(study.groupby("variant")))
    if baseline not in groups:
        raise RunError(f"no complete run of {baseline!r} below {folder}, so there is nothing to compare with")
    if variants is None:
        variants = [name for name in groups if name != baseline]
    scores = {name: seed_values(groups[name], value) for name in [*variants, baseline] if name in groups}
    rows = []
    for name in variants:
        common = sorted(set(scores.get(name, ())) & set(scores[baseline]))
        if not common:
            continue
        pair = [[side[seed] for seed in common] for side in (scores[name], scores[baseline])]
        if value in FEWER:
            pair.reverse()
        better, worse = (dict(zip(common, side)) for side in pair)
        gain, low, high, seeds = paired_difference(better, worse)
        differences = tuple(better[seed] - worse[seed] for seed in common)
        ours, theirs = (float(np.mean([side[seed] for seed in common])) for side in (scores[name], scores[baseline]))
        most = [groups[n].rollouts.mean() if value == ROLLOUTS else 1.0 for n in (name, baseline)]
        found = verdict(differences, ours / most[0], theirs / most[1], expects)
        rows.append({"variant": name, "seeds": seeds, "ours": ours, "theirs": theirs, "gain": gain, "low": low,
                     "high": high, "verdict": found, "differences": differences})  # fmt: skip
    columns = ["variant", "seeds", "ours", "theirs", "gain", "low", "high", "verdict", "differences"]
    table = pd.DataFrame(rows, columns=columns)
    return table.sort_values("gain", ascending=False, kind="stable").reset_index(drop=True)


def effects_told(folder, panels, again="out/again"):
    """The rows of forest plots, each with its price and its command -> DataFrame.

    Columns: arm, against; seeds, ours, theirs, gain, low, high, verdict, see `effects_table`; tokens, what a run of the
    arm spends on prompts and answers, as a multiple of the other side's, means over the seeds both have; command, which
    makes the runs of both sides once more below the folder `again`. A baseline or variant without runs is left out.

    `panels`: (baseline, [variant, ...]) each.
    """
    study, rows = load_study(folder), []
    spent = (study.prompt_tokens + study.completion_tokens).groupby([study.variant, study.seed]).first()
    for baseline, variants in panels:
        table = effects_table(folder, baseline, variants) if baseline in spent.index else pd.DataFrame()
        for row in table.itertuples(index=False):
            both = pd.concat([spent[row.variant], spent[baseline]], axis=1, join="inner").mean()
            names = shlex.quote(f"{row.variant},{baseline}")
            rows.append({
                "arm": row.variant, "against": baseline, **row._asdict(), "tokens": both.iloc[0] / both.iloc[1],
                "command": f"python -m toolexpander_lite study {folder.name} --only {names} --runs {again}",
            })  # fmt: skip
    columns = ["arm", "against", "seeds", "ours", "theirs", "gain", "low", "high", "verdict", "tokens", "command"]
    return pd.DataFrame(rows, columns=columns)


def plot_effects(tables, xlabel="paired difference in hard-family accuracy, held out"):
    """Forest plot: every seed's difference a small dot, their mean a large one, the 95 % interval a bar.

    `tables`: {title: table of `effects_table`}, a panel each. The colour is the verdict, in the words of `IN_WORDS`; a
    hollow mean has none.
    """
    heights = [max(1, len(table)) for table in tables.values()]
    figure, axes = plt.subplots(
        len(tables), 1, figsize=(8.5, 0.36 * sum(heights) + 1.1 * len(tables) + 0.4), squeeze=False, sharex=True,
        height_ratios=heights,
    )  # fmt: skip
    shown = set()
    for axis, (title, table) in zip(axes[:, 0], tables.items()):
        places = np.arange(len(table))[::-1]
        for place, row in zip(places, table.itertuples()):
            colour = VERDICT_COLOURS[row.verdict]
            shown.add(row.verdict)
            axis.axhline(place - 0.5, color="#eeeeee", linewidth=0.8, zorder=0)
            axis.plot([row.low, row.high], [place, place], color=colour, linewidth=7, alpha=0.4, solid_capstyle="butt")
            axis.plot(row.gain, place, "o", color=colour, markersize=8, markerfacecolor=_fill(row.verdict))
            spread = place + (np.linspace(-0.25, 0.25, row.seeds) if row.seeds > 1 else np.zeros(1))
            axis.plot(row.differences, spread, ".", color="#222222", markersize=4)
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set_yticks(places, [f"{r.variant} ({r.seeds})" for r in table.itertuples()], fontsize=8)
        axis.set_ylim(-0.7, max(1, len(table)) - 0.3)
        axis.set_title(title, fontsize=10, loc="left")
        axis.grid(axis="x", alpha=0.25)
    axes[-1, 0].set_xlabel(xlabel)
    handles = [
        Line2D([], [], marker="o", linestyle="", color=VERDICT_COLOURS[name], markerfacecolor=_fill(name),
               label=IN_WORDS.get(name, name))
        for name in VERDICT_COLOURS if name in shown
    ]  # fmt: skip
    figure.legend(handles=handles, loc="lower center", ncols=4, frameon=False, fontsize=8)
    figure.tight_layout(rect=(0, (0.25 + 0.2 * (len(handles) > 4)) / figure.get_figheight(), 1, 1))
    return figure


def _fill(found):
    return "white" if found in ("too few seeds", "could not be tested here") else VERDICT_COLOURS[found]


def plot_panels(runs, baseline, x="rollouts", columns=3):
    """Hard-family accuracy over `x`, a panel per arm with the baseline's in grey behind -> figure.

    Arms whose runs all stay within `EDGE` of 0 would hide under one line: they are listed below the panels.
    `runs`: {arm: run directories}; `x`: see `plots.draw_curves`.
    """
    name = "eval/zero_shot_hard"
    others = {arm: folders for arm, folders in runs.items() if arm != baseline}
    flat = [arm for arm, folders in others.items() if all(curve(run, name)[1].max() <= EDGE for run in folders)]
    drawn = [arm for arm in others if arm not in flat]
    rows = max(1, -(-len(drawn) // columns))
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.8 * columns, 2.5 * rows + 0.4), squeeze=False, sharex=True, sharey=True
    )
    for axis, arm in zip(axes.flat, drawn):
        draw_curves(axis, {baseline: runs[baseline]}, name, x, colour="#999999")
        seeds = f"{len(runs[arm])} seed{'s' if len(runs[arm]) > 1 else ''}"
        draw_curves(axis, {arm: runs[arm]}, name, x, title=f"{arm} ({seeds})", colour="#4c72b0")
        axis.set_ylim(-0.03, 1.05)
        axis.tick_params(labelbottom=True)
    for axis in axes[:, 0]:
        axis.set_ylabel("hard families, held out", fontsize=8)
    for axis in axes.flat[len(drawn) :]:
        axis.axis("off")
    notes = [f"grey: {baseline} ({len(runs[baseline])})"]
    if flat:
        notes.append(f"not drawn, never above {EDGE}: " + ", ".join(f"{arm} ({len(runs[arm])})" for arm in flat))
    figure.tight_layout(rect=(0, 0.1 if rows == 1 else 0.07, 1, 1))
    figure.text(0.01, 0.01, "\n".join(textwrap.wrap("; ".join(notes), 55 * columns)), fontsize=8, va="bottom")
    return figure


def endings_table(folder, window=20):
    """How the runs of each variant ended -> DataFrame: what failed, and what the last steps looked like.

    Columns: variant, learning_rate, steps, seeds; stalled, collapsed (see `runs`), lost (the same rule for accuracy
    with one demonstration): numbers of seeds; entropy (nats per token), format, length (tokens) and uniform (share of
    groups that are all right or all wrong; a bonus or the KL term may still move them): means over the last `window`
    batches and the seeds.
    """
    rows = []
    for (variant, rate, steps), runs in load_study(folder).groupby(["variant", "learning_rate", "steps"]):
        logs = [read_log(run) for run in runs["run"]]
        few_shot = [[e["few_shot_hard"] for _, e in evaluations(log) if "few_shot_hard" in e] for log in logs]
        # A batch's second update logs nothing of its rollouts.
        last = pd.concat([pd.DataFrame([r for r in log if "format_rate" in r][-window:]) for log in logs])
        rows.append({
            "variant": variant, "learning_rate": rate, "steps": steps, "seeds": len(runs),
            "stalled": int(runs.stalled.sum()), "collapsed": int(runs.collapsed.sum()),
            "lost": sum(has_collapsed(scores) for scores in few_shot if scores),
            "entropy": last["entropy"].mean(), "format": last["format_rate"].mean(),
            "length": last["completions/mean_length"].mean(),
            "uniform": (last["groups/all_fail"] + last["groups/all_pass"]).mean(),
        })  # fmt: skip
    return pd.DataFrame(rows)
