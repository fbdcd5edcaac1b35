"""The paper's claims, each with the comparison that tests it here and the verdict that `statistics.verdict` gives.

The abstract reports two effects: vanilla GRPO fails and collapses on weak models, ToolExpander helps. Of the parts it
only says that they were chosen, so a row that tests one of them says so in its source.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..base.intervals import bootstrap_interval, share_interval
from ..base.runs import find_runs, load_study, read_json
from .plan import BASELINES, has_plan
from .runner import reproduce_command
from .statistics import FEW, HARD_LEFT, HARD_RISES, LITTLE, ROLLOUTS, effects_table, effects_with_costs
from .study_figures import VERDICT_COLOURS

AGAIN = "out/again"  # where the commands of a table write a second set of runs
MEASURED_BY = {
    "zero_shot_hard": "accuracy, hard families", "zero_shot": "accuracy, all families",
    ROLLOUTS: "rollouts until 0.9 on the hard families (gain: saved)",
    "collapsed": "share of runs that collapsed", "stalled": "share of runs that stalled",
    HARD_LEFT: "rows left hard", HARD_RISES: "more hard rows than in the scan before",
    "task_reward": "reward in training", "examples/rate": "valid examples", "examples/senseless": "senseless examples",
}  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """One sentence, and the comparison that tests it here.

    Attributes:
        text, source: what is said, and where: "abstract" (an effect it reports), "the abstract's choice, our test",
            "second-hand" (notes on the paper), or "our question".
        study, ours, theirs: the two variants compared, by their paired difference.
        value: what is compared, see `statistics.seed_values`.
        expects: "gain", "little" or "no gain", see `statistics.verdict`; "often": `value`, a yes or no, is yes in more
            than `LITTLE` of all runs whose variant is called `ours` or begins with it and "-". Then `theirs` is empty.
        headline: (what the paper says, what is compared here) of a row of the README's table, () of all others.
    """

    text: str
    source: str
    study: str
    ours: str
    theirs: str = ""
    value: str = "zero_shot_hard"
    expects: str = "gain"
    headline: tuple = ()


CLAIMS = tuple(
    Claim(**row) for row in tomllib.loads(Path(__file__).with_name("claims.toml").read_text(encoding="utf-8"))["claims"]
)


def claims_table(runs, claims=CLAIMS, again=AGAIN):
    """Each claim with its comparison and our verdict -> DataFrame, one row per claim.

    Columns: claim, source, measured by, study, with, against; rates, the learning rates of the two sides, one if they
    are the same; seeds (of "often": runs), ours, theirs, gain, low, high, verdict, see `statistics.effects_table`;
    command, which makes the row's runs once more below the folder `again`, "" if none is known. Of "often": gain is
    the share of such runs and low, high its Wilson interval, which takes runs of one seed at several rates for
    independent, as they are not; "seen" if it lies above `LITTLE`, "leaning" if the share does. A run that a longer
    one of its base, seed and rate goes on from counts as the longer one.

    `runs`: the folder that holds the studies.
    """
    rows = []
    for claim in claims:
        folder = Path(runs) / claim.study
        found = often(folder, claim) if claim.expects == "often" else _compared(folder, claim)
        rows.append({
            "claim": claim.text, "source": claim.source, "measured by": MEASURED_BY.get(claim.value, claim.value),
            "study": claim.study, "with": claim.ours, "against": claim.theirs, "rates": "", "seeds": 0,
            **dict.fromkeys(("ours", "theirs", "gain", "low", "high"), float("nan")), "verdict": "not run yet", **found,
            "command": _command(folder, claim, again),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _compared(folder, claim):
    """What is known of two variants -> the columns of `claims_table` that differ from "not run yet"."""
    if not {claim.ours, claim.theirs} <= set(find_runs(folder)):
        return {}
    table = effects_table(folder, claim.theirs, [claim.ours], claim.value, claim.expects)
    if not len(table):
        return {}
    study, found = load_study(folder), table.iloc[0]
    rates = [study.learning_rate[study.variant == name].iloc[0] for name in (claim.ours, claim.theirs)]
    return {
        "rates": " against ".join(dict.fromkeys(f"{rate:g}" for rate in rates)),
        **{name: found[name] for name in ("seeds", "ours", "theirs", "gain", "low", "high", "verdict")},
    }


def often(folder, claim):
    """The same for a claim of counts, `expects="often"`."""
    variants = [name for name in find_runs(folder) if f"{name}-".startswith(f"{claim.ours}-")]
    if not variants:
        return {}
    study = load_study(folder)
    study = study[study.variant.isin(variants)].copy()
    study["base"] = [read_json(run / "config.json").get("base_model_hash", "") for run in study.run]
    one = study.groupby(["base", "seed", "learning_rate"], dropna=False)
    study = study[study.rollouts == one.rollouts.transform("max")]
    count, share = len(study), study[claim.value].mean()
    low, high = share_interval(int(study[claim.value].sum()), count)
    judged = "seen" if low > LITTLE else "leaning" if share > LITTLE else "not seen"
    if count < FEW:
        judged = "too few seeds"
    return {
        "with": ", ".join(variants), "rates": ", ".join(f"{rate:g}" for rate in sorted(set(study.learning_rate))),
        "seeds": count, "ours": share, "gain": share, "low": low, "high": high, "verdict": judged,
    }  # fmt: skip


def _command(folder, claim, again):
    """The command that makes the runs of both sides again; of a study without a list of arms, its first run's."""
    if has_plan(claim.study):
        names = ",".join(filter(None, (claim.ours, claim.theirs)))
        return f"python -m toolexpander_lite study {claim.study} --only {names} --runs {again}"
    variants = find_runs(folder)
    first = next((name for name in variants if f"{name}-".startswith(f"{claim.ours}-")), None)
    return reproduce_command(folder, first, again) if first else ""


def claims_view(table):
    """Rows of `claims_table` for a notebook, verdicts in colour -> Styler."""
    interval = [f"{_short(low)} to {_short(high)}" if low == low else "" for low, high in zip(table.low, table.high)]
    shown = table.assign(interval=interval).drop(columns=["low", "high", "command"])
    shown.insert(len(shown.columns) - 1, "verdict", shown.pop("verdict"))
    shaded = {name: f"background-color: {colour}55; color: inherit" for name, colour in VERDICT_COLOURS.items()}
    view = shown.style.hide(axis="index").format(_short, subset=["ours", "theirs", "gain"])
    return view.map(lambda verdict: shaded.get(verdict, ""), subset=["verdict"])


def effects_view(folder, *panels):
    """The rows of a forest plot as numbers, each with the paper's claim that it tests, if it does -> Styler.

    `panels`: (baseline, [variant, ...]) each, see `statistics.effects_with_costs`.
    """
    said, head = {}, ""
    for claim in CLAIMS:
        head = head if claim.text.startswith("...") else claim.text
        text = claim.text if claim.text == head else f"{head} {claim.text}"
        if claim.value != "zero_shot_hard":
            text += f" (measured by {MEASURED_BY[claim.value]})"
        said.setdefault((claim.study, claim.ours, claim.theirs), text)
        said.setdefault((claim.study, claim.theirs, claim.ours), f"{text}: this row the other way round")
    table = effects_with_costs(folder, panels).rename(columns={"tokens": "tokens (times)"})
    table["claim"] = [said.get((folder.name, row.arm, row.against), "") for row in table.itertuples()]
    return table.style.hide(axis="index").format(precision=2)


def aims_table(runs):
    """What the study of both ideas was to show, written down before it was run -> DataFrame: aim, found, met.

    `runs`: the folder that holds the studies; the speed is read from the benchmarks beside it.
    """
    folder = Path(runs) / "nano-ablation"
    whole, harder = load_study(folder), load_study(Path(runs) / "nano-ablation-hard")

    def interval(study, arm):
        return bootstrap_interval(study.zero_shot_hard[study.variant == arm].to_numpy())

    def above(study, arm):
        (low, high), (other_low, other_high) = interval(study, "toolexpander"), interval(study, arm)
        return f"{low:.2f} to {high:.2f} against {other_low:.2f} to {other_high:.2f}", low > other_high

    ours = whole[whole.variant == "toolexpander"]
    solved, failed = (ours.zero_shot_hard >= 0.95).sum(), (ours.stalled.astype(int) + ours.collapsed).sum()
    rows = [("toolexpander ends at 0.95 or more on the hard families, in no seed stalled or collapsed",
             f"{solved} of {len(ours)} seeds at 0.95, {failed} stalled or collapsed",
             solved == len(ours) and not failed)]  # fmt: skip
    rows += [(f"its interval lies above that of {arm}", *above(whole, arm)) for arm in ("grpo", *BASELINES)]
    for arm in ("hard_sampling_decay", "set"):
        saved = effects_table(folder, arm, ["toolexpander"], ROLLOUTS).iloc[0]
        rows.append((f"fewer rollouts to 0.9 than {arm}",
                     f"{saved.gain:,.0f} saved ({saved.low:,.0f} to {saved.high:,.0f}): {saved.verdict}",
                     saved.low > 0))  # fmt: skip
    for arm in ("hard_sampling_decay", "set"):
        rows.append((f"harder policy: its interval lies above that of {arm}", *above(harder, arm)))
    timed = read_json(Path(runs).parent / "benchmarks" / "step_time_toolexpander.json")["wall"]
    rows.append(("at most 1.03 times the stock trainer's seconds per step, at the same tokens",
                 f"{timed['ratio']:.3f} ({timed['interval'][0]:.3f} to {timed['interval'][1]:.3f})",
                 timed["ratio"] <= 1.03))  # fmt: skip
    table = pd.DataFrame(rows, columns=["aim", "found", "met"])
    return table.assign(met=["yes" if met else "no" for met in table.met])


def _short(value):
    """A number of a table: no decimals from ten on, two below, nothing for one that is not known."""
    return "" if value != value else f"{value:,.0f}" if abs(value) >= 10 else f"{value:.2f}"
