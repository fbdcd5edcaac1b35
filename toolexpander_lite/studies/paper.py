"""The paper's claims and its Table 3 beside our runs, from paper_claims.toml and the logs; how a comparison is judged.

What has not been run is said to be so: a study, an arm or a whole claim may be missing.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..base.intervals import bootstrap_interval, share_interval
from ..base.runs import evaluations, find_runs, has_file, load_study, read_json, read_jsonl, read_log
from ..worlds.graded_world import NOISE
from .plan import has_plan, read_plan
from .statistics import (
    EDGE,
    FEW,
    FEWER,
    HARD_LEFT,
    HARD_RISES,
    LITTLE,
    ROLLOUTS,
    TURNED_HARD,
    at_the_end,
    compare,
    seed_values,
    turned_hard,
)
from .texts import markdown_table

FILE = Path(__file__).with_name("paper_claims.toml")
PAPER = tomllib.loads(FILE.read_text(encoding="utf-8"))
COUNTS = "hard_rows.json"  # of assets/benchmarks: hard rows without any training
NOT_RUN, NOT_TESTED = "not run yet", "could not be tested here"
POLICY = {"paper-habit": " (habits)"}  # its arms are called as those of paper-t3
AGAIN = "out/again"  # where the commands of a table write a second set of runs
MEASURED_BY = {
    "zero_shot_hard": "accuracy, hard families", "zero_shot": "held-out accuracy",
    ROLLOUTS: "rollouts until 0.9 on the hard families (gain: saved)",
    "collapsed": "share of runs that collapsed", "stalled": "share of runs that stalled",
    HARD_LEFT: "rows left hard", HARD_RISES: "more hard rows than in the scan before",
    TURNED_HARD: "rows not hard before that are hard at the end",
    "task_reward": "reward in training", "examples/rate": "valid examples", "examples/senseless": "senseless examples",
    "examples/trivial": "trivial or repeated examples",
}  # fmt: skip
EXPECTED = {"little": ", little difference expected", "no gain": ", no gain expected"}


@dataclass(frozen=True)
class Comparison:
    """What tests a claim: two arms, STUDY/ARM each; paper_claims.toml and plans/README.md explain the fields."""

    ours: str
    theirs: str = ""
    value: str = HARD_LEFT
    expects: str = "gain"
    asks: str = ""
    claim: int = 0
    needs: str = ""
    differs: str = ""


def comparisons(claim):
    """The tests of an entry of `PAPER["claims"]` -> [`Comparison`]."""
    return [Comparison(**test) for test in claim["tests"]]


def plan_comparisons(plan):
    """The tests of a study's own plan, between its own arms -> [`Comparison`]."""
    fields = ({"value": "zero_shot_hard"} | test for test in plan.tests)
    return [Comparison(**f | {side: f"{plan.name}/{f[side]}" for side in ("ours", "theirs") if side in f})
            for f in fields]  # fmt: skip


def outcome(assets, test):
    """A comparison -> a row of `statistics.compare` with `rates`; of one not run {"verdict": `NOT_RUN`, "rates": ""}.

    Rows left hard are judged as a share of what can be won: of those hard before training that have no wrong gold call
    (`NOISE`). Where both sides leave hardly any of these, or all, the claim could not be tested. Nor could it where
    runs lack what it is about (`lacking`, told under "lacks"), or where the comparison `differs` from the paper's.
    """
    assets, nothing = Path(assets), {"verdict": NOT_RUN, "rates": ""}
    if test.expects == "often":
        return nothing | often(assets, test)
    ours, theirs = (arm_runs(assets, name) for name in (test.ours, test.theirs))
    if ours is None or theirs is None:
        return nothing
    most, floor = [1.0, 1.0], {HARD_LEFT: NOISE, HARD_RISES: None}.get(test.value, 0.0)
    if test.value == ROLLOUTS:
        most = [runs.rollouts.mean() for runs in (ours, theirs)]
    if test.value == HARD_LEFT:
        before = (seed_values(runs.assign(hard_rows_after=runs.hard_rows_before), HARD_LEFT) for runs in (ours, theirs))
        most = [sum(shares.values()) / len(shares) - NOISE for shares in before]
    values = [seed_values(runs, test.value) for runs in (ours, theirs)]
    if not all(values):  # runs without examples have no share of trivial ones, say
        told = " and ".join(f"{len(side)} of {len(runs)}" for side, runs in zip(values, (ours, theirs)))
        return {"verdict": NOT_TESTED, "rates": "", "lacks": f"on record in {told} runs"}
    rates = (f"{runs.learning_rate.iloc[0]:g}" for runs in (ours, theirs) if "learning_rate" in runs)
    found = compare(*values, test.value in FEWER, test.expects, most, floor) | {"rates": _against(rates)}
    lacks = lacking(test.needs, ours, theirs) if test.needs else ""
    return found | ({"verdict": NOT_TESTED, "lacks": lacks} if lacks or test.differs else {})


def lacking(quantity, *sides):
    """How many runs have hardly any of a quantity of the log left at the end -> in words; "" if it is there.

    It is there if `at_the_end` more than `EDGE` is left in at least half of the runs of each side that logs it.
    """
    ends = [[at_the_end(run, quantity) for run in runs.run] for runs in sides]
    ends = [[end for end in side if end == end] for side in ends]
    counts = [(sum(end > EDGE for end in side), len(side)) for side in ends if side]
    if counts and all(2 * kept >= runs for kept, runs in counts):
        return ""
    kept = " and ".join(f"{kept} of {runs}" for kept, runs in counts) or "no"
    return f"{MEASURED_BY[quantity]} at the end in {kept} runs"


def _against(names):
    return " against ".join(dict.fromkeys(names))


def arm_runs(assets, name):
    """The runs of STUDY/ARM -> rows of `load_study`, or None; /start after it: the same before training.

    Of hard_rows.json/POLICY/COUNT a row per seed, the count as `hard_rows_after` of its `train_rows`.
    """
    study, arm, *start = name.split("/")
    if study == COUNTS:
        file = assets / "benchmarks" / COUNTS
        found = read_json(file).get(arm, {}) if file.exists() else {}
        rows = [{"seed": seed, "hard_rows_before": counts["hard_raw"], "hard_rows_after": counts[start[0]],
                 "train_rows": counts["rows"], "run": file} for seed, counts in found.items()]  # fmt: skip
        return pd.DataFrame(rows) if rows else None
    folder = assets / "runs" / study
    runs = load_study(folder) if arm in find_runs(folder) else None
    if start and runs is not None:
        runs = runs.assign(zero_shot=[evaluations(read_log(run))[0][1]["zero_shot"] for run in runs.run])
    return None if runs is None else runs[runs.variant == arm]


def often(assets, test):
    """The same for `expects="often"`: in which share of an arm's runs is `value` so? `TURNED_HARD`: of their rows.

    All runs count whose variant is called so or begins with the name and "-"; one that a longer one of its base, seed
    and rate goes on from counts as the longer one. "seen" if Wilson's interval of the share lies above `LITTLE`,
    "leaning" if the share does. Runs of one seed at several rates are taken for independent, as they are not; so are
    rows of one run.
    """
    study, arm = test.ours.split("/")
    folder = Path(assets) / "runs" / study
    variants = [name for name in find_runs(folder) if f"{name}-".startswith(f"{arm}-")]
    if not variants:
        return {}
    study = load_study(folder)
    study = study[study.variant.isin(variants)].copy()
    study["base"] = [read_json(run / "config.json").get("base_model_hash", "") for run in study.run]
    one = study.groupby(["base", "seed", "learning_rate"], dropna=False)
    study = study[study.rollouts == one.rollouts.transform("max")]
    by_run = map(turned_hard, study.run) if test.value == TURNED_HARD else ((so, 1) for so in study[test.value])
    hits, of = (int(sum(numbers)) for numbers in zip(*by_run))
    if not of:
        return {"verdict": NOT_TESTED}
    share, (low, high) = hits / of, share_interval(hits, of)
    judged = "seen" if low > LITTLE else "leaning" if share > LITTLE else "not seen"
    return {"rates": ", ".join(f"{rate:g}" for rate in sorted(set(study.learning_rate))), "seeds": len(study),
            "ours": share, "gain": share, "low": low, "high": high, "hits": hits, "of": of,
            "verdict": "too few seeds" if len(study) < FEW else judged}  # fmt: skip


def claims_table(assets):
    """Every test of every claim -> DataFrame: number, claim, where, theirs, compared, measured, result, rates, seeds,
    verdict, command, expects, pair.

    `theirs`: what the paper reports; `compared`, `result`, `rates`: our two sides, in words; `pair`: the number of the
    first row that has these sides and this measure, in either order. Such a row tells nothing new.
    """
    rows, pairs = [], {}
    for number, claim in enumerate(PAPER["claims"], start=1):
        for test in comparisons(claim):
            found = outcome(assets, test)
            pair = pairs.setdefault((frozenset((test.ours, test.theirs)), test.value), len(rows))
            told = [result(test, found)]
            if pair < len(rows):
                told.append(f"the pair of claim {rows[pair]['number']}, sides exchanged")
            rows.append({
                "number": number, "claim": claim["text"], "where": claim["where"], "theirs": claim["theirs"],
                "compared": _arms(test), "measured": MEASURED_BY[test.value], "result": "; ".join(filter(None, told)),
                "rates": found["rates"], "seeds": found.get("seeds", 0), "verdict": found["verdict"],
                "command": command(test), "expects": test.expects, "pair": pair,
            })  # fmt: skip
    return pd.DataFrame(rows)


def claims_lines(table):
    """Every claim of the paper, what it reports and what our runs say -> lines of a Markdown table.

    `table`: the `claims_table`. What a claim says beside it and nothing here tests has a row without numbers.
    """
    rows = []
    for number, tests in table.groupby("number"):
        for row in tests.itertuples():
            said = ("", "") if row.Index > tests.index[0] else (f"{number}. {row.claim} ({row.where})", row.theirs)
            compared = f"{row.compared}: {row.measured}{EXPECTED.get(row.expects, '')}"
            rows.append((*said, compared, row.result, row.rates, row.verdict, row.command))
        for half in PAPER["claims"][number - 1].get("not_tested", ()):
            rows.append(("", "", half, "", "", "not tested", ""))
    header = ("claim", "the paper", "compared here", "result", "learning rates", "verdict", "command")
    return markdown_table(header, rows)


def comparison_lines(assets, plan):
    """What a study's own plan asks of its arms, and the verdicts -> lines of a Markdown table, or []."""
    rows = []
    for test in plan_comparisons(plan):
        found = outcome(assets, test)
        about = f"claim {test.claim}" if test.claim else ""
        rows.append((test.asks, about, f"{_arms(test)}: {MEASURED_BY[test.value]}", result(test, found),
                     found["rates"], found["verdict"]))  # fmt: skip
    header = ("asked", "of the paper", "compared", "result", "learning rates", "verdict")
    return markdown_table(header, rows) if rows else []


def theirs_left(name):
    """The share of rows that the paper leaves hard in what STUDY/ARM stands for (T2, T3) -> number, or None."""
    for table, arm in (("table2", name.partition("/")[2]), ("table3", name.removeprefix("paper-t3/"))):
        if arm in PAPER[table]:
            counts = PAPER[table][arm]
            return (counts[-1] if isinstance(counts, list) else counts) / PAPER["table3"]["rows"]
    return None


def _arms(test):
    """Which arms a test compares."""
    return _against(f"`{name.partition('/')[2]}`{POLICY.get(name.partition('/')[0], '')}"
                    for name in (test.ours, test.theirs) if name)  # fmt: skip


def result(test, found):
    """The numbers of an `outcome` in words -> str."""
    if not found.get("seeds"):
        return found.get("lacks", "")
    if test.expects == "often":
        unit = f"rows, {found['seeds']} runs" if test.value == TURNED_HARD else "runs"
        return f"{found['hits']} of {found['of']} {unit}"
    digits = ",.0f" if test.value == ROLLOUTS else ".3f"
    low, high, gain = (format(found[name], f"+{digits}") for name in ("low", "high", "gain"))
    interval = "" if found["low"] != found["low"] else f" ({low} to {high})"
    ours, theirs = (format(found[name], digits) for name in ("ours", "theirs"))
    why = [found.get("lacks"), test.differs and f"another test than the paper's: {test.differs}"]
    return "; ".join([f"{ours} against {theirs}, gain {gain}{interval}, {found['seeds']} seeds", *filter(None, why)])


def command(test):
    """The commands that make a test's runs once more."""
    if test.ours.startswith(COUNTS):
        return "`python benchmarks/hard_rows.py --out out/hard_rows.json`"
    arms = {}
    for study, arm, *_ in (name.split("/") for name in (test.ours, test.theirs) if name):
        arms.setdefault(study, []).append(arm)
    if not all(map(has_plan, arms)):
        return "no plan yet"
    again = "`python -m toolexpander_lite study {} --only {} --runs " + AGAIN + "`"
    return ", ".join(again.format(study, ",".join(dict.fromkeys(names))) for study, names in arms.items())


def gold_answers_learnt(run, base):
    """Gold answers that a run and its supervised start learnt, one counted each time -> int; `base`: of its `Arm`."""
    config = read_json(run / "config.json")
    trainer, steps = config.get("trainer", {}), base["--steps"] if base.get("--recipe") == "paper_sft" else 0
    if config.get("recipe", {}).get("supervised"):
        steps += config["profile"]["steps"]
    batches = trainer.get("gradient_accumulation_steps", 1) * config.get("processes", 1)
    return steps * trainer.get("per_device_train_batch_size", 0) * batches


def hard_rows_lines(folder):
    """The hard rows each arm leaves, beside the paper's where the study is its Table 3 -> lines of a Markdown table."""
    study, theirs, rows = load_study(folder), PAPER["table3"] if Path(folder).name == "paper-t3" else {}, []
    bases = {arm.variant: arm.base for arm in read_plan(Path(folder).name).arms} if has_plan(Path(folder).name) else {}
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
            f"{gold_answers_learnt(runs.run.iloc[0], bases.get(arm, {})):,}",
            *((f"{before:.1f}", f"{after.mean():.1f} ({_interval(after, 1)})", f"{after.mean() / n:.1%} of {n}")
              if after.notna().all() else ("not scanned", "not scanned", "")),
            f"{runs.zero_shot.mean():.3f} ({_interval(runs.zero_shot, 3)})", _collapsed(runs), paper,
        ))  # fmt: skip
    header = ("arm", "seeds", "learning rate", "rollouts (of them scans and verification)", "gold answers learnt",
              "hard before", "hard after (95 % interval)", "as a share", "held-out accuracy (95 % interval)",
              "collapsed", "the paper: before, after")  # fmt: skip
    if not any(int(row[4].replace(",", "")) for row in rows):
        header, rows = header[:4] + header[5:], [row[:4] + row[5:] for row in rows]
    if not theirs:  # only paper-t3 is its Table 3
        header, rows = header[:-1], [row[:-1] for row in rows]
    return markdown_table(header, rows)


def hard_rows_by_tool_lines(folder, differ=0.1):
    """In which tools the rows left hard are, by arm -> lines of a Markdown table, or [] without a scan.

    Each cell is a share of the tool's training rows, a mean over seeds, from the last scan of the run. Tools in which
    no two arms differ by more than `differ` are left out and counted.
    """
    cells = {}
    for arm, runs in find_runs(folder).items():
        for run in runs if has_file(runs[0] / "scans.jsonl") else ():
            scans = pd.DataFrame([row for row in read_jsonl(run / "scans.jsonl") if row["kind"] == "scan"])
            last = scans[scans.step == scans.step.max()]
            tool = last.sample_id.str.rpartition("-")[0]
            cells.setdefault(f"`{arm}`", []).append((last.right == 0).groupby(tool).mean())
    if not cells:
        return []
    table = pd.DataFrame({arm: pd.concat(seeds, axis=1).mean(axis=1) for arm, seeds in cells.items()})
    apart = table[table.max(axis=1) - table.min(axis=1) > differ]
    apart = apart.sort_values(list(apart.columns), ascending=False)
    rows = [(arm, *(f"{share:.2f}" for share in column)) for arm, column in apart.items()]
    return ["Rows left hard as a share of a tool's training rows, mean over seeds. Left out: "
            f"{len(table) - len(apart)} tools in which no two arms differ by more than {differ:g}.", "",
            *markdown_table(("arm", *(f"`{tool}`" for tool in apart.index)), rows)]  # fmt: skip


def _collapsed(runs):
    """How many of the runs of an arm collapsed, and from what to what each -> str."""
    fell = ", ".join(fall(run) for run in runs.run[runs.collapsed.eq(True)])
    return f"{runs.collapsed.sum()} of {len(runs)}" + f" ({fell})" * bool(fell)


def fall(run):
    """How many held-out questions a run had right at its peak and at its end -> "5, then 2 of 20"."""
    asked = read_json(run / "config.json")["held_out_samples"]
    shares = [scores["zero_shot"] for _, scores in evaluations(read_log(run))]
    return f"{max(shares) * asked:.0f}, then {shares[-1] * asked:.0f} of {asked}"


def _interval(values, digits):
    low, high = bootstrap_interval(values)
    return f"{low:.{digits}f}-{high:.{digits}f}" if low == low else "one seed"
