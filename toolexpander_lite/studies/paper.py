"""The paper's claims and its Table 3 beside our runs, from paper_claims.toml and the logs -> Markdown lines.

What has not been run is said to be so: a study, an arm or a whole claim may be missing.
"""

import tomllib
from pathlib import Path

from ..base.intervals import bootstrap_interval
from ..base.runs import find_runs, load_study, read_json, read_log
from .claims import Claim, often
from .plan import has_plan
from .statistics import FEWER, HARD_LEFT, HARD_RISES, compare, seed_values
from .tables import markdown_table

FILE = Path(__file__).with_name("paper_claims.toml")
PAPER = tomllib.loads(FILE.read_text(encoding="utf-8"))
COUNTS = "hard_rows.json"  # of assets/benchmarks: hard rows without any training
MEASURES = {
    HARD_LEFT: "rows left hard", HARD_RISES: "more hard rows than in the scan before", "zero_shot": "held-out accuracy",
    "collapsed": "runs that collapsed", "task_reward": "reward in training", "examples/rate": "valid examples",
    "examples/senseless": "senseless examples",
}  # fmt: skip


def comparisons(claim):
    """The comparisons of an entry of `PAPER["claims"]` -> [`claims.Claim`]."""
    return [Claim(claim["text"], claim["where"], **{"value": HARD_LEFT} | test) for test in claim["tests"]]


def outcome(assets, test):
    """A comparison -> a row of `statistics.compare`; of one that has not been run {"verdict": "not run yet"}."""
    if test.study == COUNTS:
        file = Path(assets) / "benchmarks" / COUNTS
        sides = [_counted(read_json(file), arm) if file.exists() else {} for arm in (test.ours, test.theirs)]
    elif test.expects == "often":
        return {"verdict": "not run yet"} | often(Path(assets) / "runs" / test.study, test)
    else:
        folder = Path(assets) / "runs" / test.study
        study = load_study(folder) if find_runs(folder) else None
        sides = [{} if study is None else seed_values(study[study.variant == arm], test.value)
                 for arm in (test.ours, test.theirs)]  # fmt: skip
    return compare(*sides, test.value in FEWER, test.expects)


def _counted(found, arm):
    """{seed: hard rows as a share of all} of "POLICY/COUNT" in hard_rows.json."""
    policy, count = arm.split("/")
    return {seed: run[count] / run["rows"] for seed, run in found.get(policy, {}).items()}


def claims_lines(assets):
    """Every claim of the paper, what it reports and what our runs say -> lines of a Markdown table."""
    rows = []
    for number, claim in enumerate(PAPER["claims"], start=1):
        said = f"{number}. {claim['text']} ({claim['where']})", claim["theirs"]
        for test in comparisons(claim):
            found = outcome(assets, test)
            rows.append((*said, f"{_arms(test)}: {MEASURES[test.value]}", _result(test, found), found["verdict"],
                         _command(test)))  # fmt: skip
            said = "", ""
    return markdown_table(("claim", "the paper", "compared here", "result", "verdict", "command"), rows)


def _arms(test):
    """Which arms a test compares; of the counts without training, which examples on which policy."""
    names = [name.split("/")[-1].replace("hard_", "examples: ") if test.study == COUNTS else f"`{name}`"
             for name in (test.ours, test.theirs) if name]  # fmt: skip
    on = f" (`{test.ours.split('/')[0]}`)" if test.study == COUNTS else ""
    return " against ".join(names).replace("examples: raw", "none") + on


def _result(test, found):
    if not found.get("seeds"):
        return ""
    interval = "" if found["low"] != found["low"] else f" ({found['low']:+.3f} to {found['high']:+.3f})"
    if test.expects == "often":
        return f"{found['ours'] * found['seeds']:.0f} of {found['seeds']} runs"
    gain = f"gain {found['gain']:+.3f}{interval}"
    return f"{found['ours']:.3f} against {found['theirs']:.3f}, {gain}, {found['seeds']} seeds"


def _command(test):
    """The command that makes a test's runs once more."""
    if test.study == COUNTS:
        return "`python benchmarks/hard_rows.py --out out/hard_rows.json`"
    names = ",".join(filter(None, (test.ours, test.theirs)))
    command = f"`python -m toolexpander_lite study {test.study} --only {names} --runs out/again`"
    return command if has_plan(test.study) else "no plan yet"


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
        rows.append((
            f"`{arm}`", len(runs), f"{runs.rollouts.mean():,.0f} ({sum(scans) / len(scans):,.0f})", f"{before:.1f}",
            f"{after.mean():.1f} ({_interval(after, 1)})", f"{after.mean() / n:.1%} of {n}",
            f"{runs.zero_shot.mean():.3f} ({_interval(runs.zero_shot, 3)})", f"{runs.collapsed.sum()} of {len(runs)}",
            paper,
        ))  # fmt: skip
    header = ("arm", "seeds", "rollouts (of them scans and verification)", "hard before", "hard after (95 % interval)",
              "as a share", "held-out accuracy (95 % interval)", "collapsed", "the paper: before, after")  # fmt: skip
    return markdown_table(header, rows)


def _interval(values, digits):
    low, high = bootstrap_interval(values)
    return f"{low:.{digits}f}-{high:.{digits}f}" if low == low else "one seed"
