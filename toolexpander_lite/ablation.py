"""What does each part do? Effects, endings, sensitivity and the paper's claims, each computed from run logs.

An effect is a paired difference: runs of one seed see the same questions in the same order, with the part and without.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from .errors import RunError
from .intervals import paired_difference
from .runs import evaluations, find_runs, has_collapsed, load_study, read_log

MANY = 3  # seeds: with fewer, an interval says next to nothing, and no verdict is given
LITTLE = 0.1  # of accuracy: what "hardly" means in a claim


def effects_table(folder, baseline, variants=None, value="zero_shot_hard"):
    """What each variant changes against a baseline of the same study -> DataFrame, largest gain first.

    Columns: variant; seeds, how many both sides have; ours, theirs, the means over those; gain, the mean paired
    difference, with its 95 % bootstrap interval low, high.

    Args:
        variants: names; None takes all but the baseline. Those without a run are left out.
        value: a field of summary.json.

    Raises:
        RunError: the baseline has no runs.
    """
    study = load_study(folder)
    scores = {name: runs.set_index("seed")[value].astype(float).to_dict() for name, runs in study.groupby("variant")}
    if baseline not in scores:
        raise RunError(f"no complete run of {baseline!r} below {folder}, so there is nothing to compare with")
    rows = []
    for name in variants or [name for name in scores if name != baseline]:
        common = sorted(set(scores.get(name, ())) & set(scores[baseline]))
        if not common:
            continue
        gain, low, high, seeds = paired_difference(scores[name], scores[baseline])
        ours, theirs = (float(np.mean([side[seed] for seed in common])) for side in (scores[name], scores[baseline]))
        rows.append({"variant": name, "seeds": seeds, "ours": ours, "theirs": theirs, "gain": gain, "low": low,
                     "high": high})  # fmt: skip
    columns = ["variant", "seeds", "ours", "theirs", "gain", "low", "high"]
    table = pd.DataFrame(rows, columns=columns)
    return table.sort_values("gain", ascending=False, kind="stable").reset_index(drop=True)


def plot_effects(tables, xlabel="paired difference in hard-family accuracy, held out"):
    """Forest plot: a dot and its 95 % interval per row, a line at no effect; one panel per entry of {title: table}.

    `tables`: from `effects_table`. Green: the interval is above 0, red: below; hollow: fewer than `MANY` seeds.
    """
    heights = [max(1, len(table)) for table in tables.values()]
    figure, axes = plt.subplots(
        len(tables), 1, figsize=(8.5, 0.36 * sum(heights) + 1.1 * len(tables)), squeeze=False, sharex=True,
        height_ratios=heights,
    )  # fmt: skip
    for axis, (title, table) in zip(axes[:, 0], tables.items()):
        places = np.arange(len(table))[::-1]
        for place, row in zip(places, table.itertuples()):
            found = verdict(row.seeds, row.low, row.high)
            colour = {"seen": "#55a868", "reversed": "#c44e52"}.get(found, "#777777")
            axis.plot([row.low, row.high], [place, place], color=colour, linewidth=5, alpha=0.4, solid_capstyle="butt")
            axis.plot(row.gain, place, "o", color=colour, markerfacecolor=colour if row.seeds >= MANY else "white")
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set_yticks(places, [f"{r.variant} ({r.seeds})" for r in table.itertuples()], fontsize=8)
        axis.set_ylim(-0.7, max(1, len(table)) - 0.3)
        axis.set_title(title, fontsize=10, loc="left")
        axis.grid(axis="x", alpha=0.25)
    axes[-1, 0].set_xlabel(xlabel)
    figure.tight_layout()
    return figure


def endings_table(folder, window=20):
    """How the runs of each variant ended -> DataFrame: what failed, and what the last steps looked like.

    Columns: variant, learning_rate, steps, seeds; stalled, collapsed (see `runs`), lost (the same rule for accuracy
    with one demonstration): numbers of seeds; entropy (nats per token), format, length (tokens) and no_gradient (share
    of groups that all pass or all fail): means over the last `window` batches and the seeds.
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
            "no_gradient": (last["groups/all_fail"] + last["groups/all_pass"]).mean(),
        })  # fmt: skip
    return pd.DataFrame(rows)


def sensitivity_table(folder):
    """Runs whose variant is called `<recipe>-<field>-<value>` -> DataFrame: field, value (as text), seed, hard."""
    rows = []
    for row in load_study(folder).itertuples():
        named = re.fullmatch(r"\w+?-([a-z_]+)-(.+)", row.variant)
        if named:
            rows.append({"field": named[1], "value": named[2], "seed": row.seed, "hard": row.zero_shot_hard})
    return pd.DataFrame(rows, columns=["field", "value", "seed", "hard"])


def plot_sensitivity(table, columns=3):
    """One panel per field of a `sensitivity_table`: every seed a dot, the means a line, the values in order of size."""
    names = list(dict.fromkeys(table["field"]))
    rows = -(-len(names) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.6 * columns, 2.6 * rows), squeeze=False, sharey=True)
    for axis, name in zip(axes.flat, names):
        part = table[table["field"] == name]
        values = sorted(part["value"].unique(), key=float)
        for place, value in enumerate(values):
            seeds = part[part["value"] == value]["hard"]
            axis.plot([place] * len(seeds), seeds, "o", color="#222222", markersize=3.5, alpha=0.6)
        axis.plot(range(len(values)), [part[part["value"] == v]["hard"].mean() for v in values], color="#4c72b0")
        axis.set_xticks(range(len(values)), values)
        axis.set(title=name, ylim=(-0.05, 1.05))
        axis.grid(alpha=0.25)
    for axis in axes.flat[len(names) :]:
        axis.axis("off")
    axes[0, 0].set_ylabel("hard families, held out")
    figure.tight_layout()
    return figure


@dataclass(frozen=True)
class Claim:
    """One sentence of the paper, and the comparison that tests it here.

    Attributes:
        text, source: what is said, and where ("abstract" or "second-hand").
        study, ours, theirs: the two variants compared, by their paired difference.
        value: the field of summary.json that is compared.
        expects: "gain", or "little": hardly any difference.
    """

    text: str
    source: str
    study: str
    ours: str
    theirs: str
    value: str = "zero_shot_hard"
    expects: str = "gain"


CLAIMS = (
    Claim("Substituting demonstrations for hard samples, in rounds, with decay, helps", "abstract",
          "nano-hard-sampling", "hard_sampling_decay", "grpo"),
    Claim("... and so it does without the decay", "our question", "nano-hard-sampling", "hard_sampling", "grpo"),
    Claim("The decay adds to hard sampling", "abstract", "nano-hard-sampling", "hard_sampling_decay", "hard_sampling"),
    Claim("Exponential learning rate decay helps by itself", "our question", "nano-hard-sampling", "lr_decay", "grpo"),
    Claim("GRPO is better without the KL term", "abstract", "nano-hard-sampling", "grpo-kl0", "grpo"),
    Claim("Hard sampling is better without the KL term", "abstract",
          "nano-hard-sampling", "hard_sampling-kl0", "hard_sampling"),
    Claim("32 rollouts instead of 10, at 3.2 times the cost, hardly help", "second-hand",
          "nano-hard-sampling", "rollouts_32_equal_prompts", "grpo", expects="little"),
    Claim("Excluding hard samples backfires", "second-hand", "nano-hard-sampling", "grpo", "exclude_hard", "zero_shot"),
    Claim("Paying 0.01 for an example of one's own helps", "abstract",
          "nano-examples", "nano-rare-exemplify", "nano-rare-invitation"),
    Claim("... also where examples are useless to the policy", "our question",
          "nano-examples", "nano-rarest-exemplify", "nano-rarest-invitation"),
    Claim("An adjusted, asymmetric clip range helps", "abstract", "nano-ablation", "clip_higher", "clip_symmetric"),
    Claim("Self-Exemplifying Thinking helps", "abstract", "nano-ablation", "set", "grpo"),
    Claim("ToolExpander beats vanilla GRPO", "abstract", "nano-ablation", "toolexpander", "grpo"),
    Claim("The two ideas add up: more than hard sampling alone", "abstract",
          "nano-ablation", "toolexpander", "hard_sampling_decay"),
    Claim("... and more than self-examples alone", "abstract", "nano-ablation", "toolexpander", "set"),
)  # fmt: skip


def verdict(seeds, low, high, expects="gain"):
    """What the interval of a difference says of a claim -> str, see `claims_table`."""
    if not seeds:
        return "not run yet"
    if seeds < MANY:
        return "too few seeds"
    if expects == "little":
        return "seen" if max(-low, high) < LITTLE else "reversed" if max(-high, low) > LITTLE else "not seen"
    return "seen" if low > 0 else "reversed" if high < 0 else "not seen"


def claims_table(runs, claims=CLAIMS):
    """Each claim with its comparison and our verdict -> DataFrame, one row per claim.

    `runs`: the folder that holds the studies. Columns: claim, source, with, against, seeds, gain, low, high, verdict.
    "seen": the whole interval is above 0 (of a claim of little difference: within `LITTLE` of 0); "reversed": below
    (beyond it); "not seen": neither; or "too few seeds", "not run yet".
    """
    rows = []
    for claim in claims:
        found, folder = {"seeds": 0}, Path(runs) / claim.study
        variants = find_runs(folder)
        if claim.ours in variants and claim.theirs in variants:
            table = effects_table(folder, claim.theirs, [claim.ours], claim.value)
            found = table.iloc[0].to_dict() if len(table) else found
        seeds, nothing = int(found["seeds"]), float("nan")
        gain, low, high = (found.get(name, nothing) for name in ("gain", "low", "high"))
        rows.append({"claim": claim.text, "source": claim.source, "with": claim.ours, "against": claim.theirs,
                     "seeds": seeds, "gain": gain, "low": low, "high": high,
                     "verdict": verdict(seeds, low, high, claim.expects)})  # fmt: skip
    return pd.DataFrame(rows)


def reproduce_command(folder, variant):
    """The command that made a variant's first run, as its config.json has it -> str; other seeds differ in --seed."""
    run = find_runs(folder)[variant][0]
    return json.loads((run / "config.json").read_text())["command"]
