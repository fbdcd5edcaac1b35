"""The paper's claims and its Table 3 beside our runs, from paper_claims.toml and the logs -> Markdown lines.

What has not been run is said to be so: a study, an arm or a whole claim may be missing.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from ..base.intervals import bootstrap_interval
from ..base.runs import find_runs, load_study, read_json, read_log
from .claims import MEASURED_BY, Claim, often
from .plan import has_plan
from .statistics import FEWER, HARD_LEFT, compare, seed_values
from .texts import markdown_table

FILE = Path(__file__).with_name("paper_claims.toml")
PAPER = tomllib.loads(FILE.read_text(encoding="utf-8"))
COUNTS = "hard_rows.json"  # of assets/benchmarks: hard rows without any training


@dataclass(frozen=True)
class Comparison:
    """What tests a claim: two arms, STUDY/ARM each; paper_claims.toml explains the fields."""

    ours: str
    theirs: str = ""
    value: str = HARD_LEFT
    expects: str = "gain"


def comparisons(claim):
    """The tests of an entry of `PAPER["claims"]` -> [`Comparison`]."""
    return [Comparison(**test) for test in claim["tests"]]


def outcome(assets, test):
    """A comparison -> a row of `statistics.compare`; of one that has not been run {"verdict": "not run yet"}."""
    if test.expects == "often":
        study, arm = test.ours.split("/")
        found = often(Path(assets) / "runs" / study, Claim("", "", study, arm, value=test.value, expects="often"))
        return {"verdict": "not run yet"} | found
    sides = [_by_seed(Path(assets), arm, test.value) for arm in (test.ours, test.theirs)]
    return compare(*sides, test.value in FEWER, test.expects)


def _by_seed(assets, name, value):
    """{seed: value} of an arm; of one without runs {}."""
    study, *rest = name.split("/")
    if study == COUNTS:
        file, (policy, count) = assets / "benchmarks" / COUNTS, rest
        found = read_json(file).get(policy, {}) if file.exists() else {}
        return {seed: run[count] / run["rows"] for seed, run in found.items()}
    folder = assets / "runs" / study
    runs = load_study(folder) if find_runs(folder) else None
    return {} if runs is None else seed_values(runs[runs.variant == rest[0]], value)


def claims_lines(assets):
    """Every claim of the paper, what it reports and what our runs say -> lines of a Markdown table."""
    rows = []
    for number, claim in enumerate(PAPER["claims"], start=1):
        said = f"{number}. {claim['text']} ({claim['where']})", claim["theirs"]
        for test in comparisons(claim):
            found = outcome(assets, test)
            rows.append((*said, f"{_arms(test)}: {MEASURED_BY[test.value]}", _result(test, found), found["verdict"],
                         _command(test)))  # fmt: skip
            said = "", ""
    return markdown_table(("claim", "the paper", "compared here", "result", "verdict", "command"), rows)


def _arms(test):
    """Which arms a test compares."""
    return " against ".join(f"`{name.partition('/')[2]}`" for name in (test.ours, test.theirs) if name)


def _result(test, found):
    if not found.get("seeds"):
        return ""
    interval = "" if found["low"] != found["low"] else f" ({found['low']:+.3f} to {found['high']:+.3f})"
    if test.expects == "often":
        return f"{found['ours'] * found['seeds']:.0f} of {found['seeds']} runs"
    gain = f"gain {found['gain']:+.3f}{interval}"
    return f"{found['ours']:.3f} against {found['theirs']:.3f}, {gain}, {found['seeds']} seeds"


def _command(test):
    """The commands that make a test's runs once more."""
    if test.ours.startswith(COUNTS):
        return "`python benchmarks/hard_rows.py --out out/hard_rows.json`"
    arms = {}
    for study, _, arm in (name.partition("/") for name in (test.ours, test.theirs) if name):
        arms.setdefault(study, []).append(arm)
    if not all(map(has_plan, arms)):
        return "no plan yet"
    again = "`python -m toolexpander_lite study {} --only {} --runs out/again`"
    return ", ".join(again.format(study, ",".join(names)) for study, names in arms.items())


def hard_rows_lines(folder):
    """Table 3: the hard rows each arm leaves, and the paper's beside them -> lines of a Markdown table."""
    study, theirs, rows = load_study(folder), PAPER["table3"], []
    for arm, runs in study.groupby("variant", sort=False):
        n = read_json(runs.run.iloc[0] / "config.json")["train_samples"]
        scans = [read_log(run)[-1].get("scan_rollouts", 0) for run in runs.run]
        before, after = runs.hard_rows_before.mean(), runs.hard_rows_after
        paper = "not given"
        if arm in theirs:
            first, last = theirs[arm]
            paper = f"{first:,}, then {last:,} ({last / theirs['rows']:.1%} of {theirs['rows']:,})"
        rates = ", ".join(f"{rate:g}" for rate in sorted(set(runs.learning_rate)))
        rows.append((
            f"`{arm}`", len(runs), rates, f"{runs.rollouts.mean():,.0f} ({sum(scans) / len(scans):,.0f})",
            f"{before:.1f}",
            f"{after.mean():.1f} ({_interval(after, 1)})", f"{after.mean() / n:.1%} of {n}",
            f"{runs.zero_shot.mean():.3f} ({_interval(runs.zero_shot, 3)})", f"{runs.collapsed.sum()} of {len(runs)}",
            paper,
        ))  # fmt: skip
    header = ("arm", "seeds", "learning rate", "rollouts (of them scans and verification)", "hard before",
              "hard after (95 % interval)",
              "as a share", "held-out accuracy (95 % interval)", "collapsed", "the paper: before, after")  # fmt: skip
    return markdown_table(header, rows)


def _interval(values, digits):
    low, high = bootstrap_interval(values)
    return f"{low:.{digits}f}-{high:.{digits}f}" if low == low else "one seed"
