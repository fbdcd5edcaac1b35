"""What is wrong with a run? `diagnose(anything)` gives findings, `report(anything)` says them in plain words."""

import textwrap
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..base.runs import find_runs
from .log import first, last
from .readers import read
from .rules import FAULT, NOTE, RULES, WARNING, num

LEVELS = (FAULT, WARNING, NOTE)


@dataclass(frozen=True)
class Finding:
    """One thing that a log shows.

    Attributes:
        name: of the rule; `rules.RULES[name]` has its source.
        level: "fault" (the run does not do what it should), "warning" (it costs), "note" (no fault).
        says: what was seen, with its numbers.
        steps: where; rows are counted as "line" from 1 where a log gives no step.
        sure: "sure", "likely" or "possible".
        cause, try_next: the likely cause, and what to do.
        also: findings that this one explains.
    """

    name: str
    level: str
    says: str
    steps: tuple
    sure: str
    cause: str
    try_next: str
    also: tuple = ()


def diagnose(source):
    """Anything `readers.read` takes -> list of `Finding`, what matters most first; [] or notes only: healthy.

    Raises:
        RunError: it cannot be read, or is no log of a GRPO run.
    """
    log = read(source)
    found = {}
    for name, rule in RULES.items():
        if seen := rule.check(log):
            steps = tuple(log.labels.loc[seen.index()])
            level, cause = seen.level or rule.level, seen.cause or rule.cause
            found[name] = Finding(name, level, seen.says, steps, seen.sure, cause, rule.try_next)
    if any(finding.level == FAULT for finding in found.values()):  # what comforts or doubts is beside the point then
        found = {name: finding for name, finding in found.items() if name not in ("too_short", "loss_near_zero")}
    below = {name: _explained(name, found) for name in found}
    told, heads = set(), []
    for name in sorted(found, key=lambda n: LEVELS.index(found[n].level)):
        if name in told or any(name in below[other] and other not in below[name] for other in found):
            continue
        also = [n for n in below[name] if n not in told]
        told |= {name, *also}
        heads.append(replace(found[name], also=tuple(found[n] for n in also)))
    return heads


def _explained(name, found):
    """Names of the findings that `name` explains, directly or through another, in the rules' order."""
    seen, rest = {name}, [name]
    while rest:
        for other in RULES[rest.pop()].explains:
            if other in found and other not in seen:
                seen.add(other)
                rest.append(other)
    return [n for n in found if n in seen - {name}]


def steps_in_words(steps, unit):
    """(1, 2, 3, 9) -> "steps 1, 2, 3, 9"; long lists are cut to their ends."""
    steps = [f"{step:g}" for step in steps]
    if not steps:
        return ""
    unit += "s" * (len(steps) > 1)
    if len(steps) <= 5:
        return f"{unit} {', '.join(steps)}"
    return f"{len(steps)} {unit} from {steps[0]} to {steps[-1]}"


def verdict(findings):
    """One sentence over all findings."""
    if any(f.level == FAULT for f in findings):
        return "Something is wrong."
    if any(f.level == WARNING for f in findings):
        return "It runs, with something to look at."
    if any(f.name == "too_short" for f in findings):
        return "Nothing wrong is seen, but it is too short to tell."
    return "Healthy: nothing wrong is seen."


def report(source):
    """Anything `readers.read` takes, or a study's folder -> text for people.

    Raises:
        RunError: as `diagnose`.
    """
    if isinstance(source, (str, Path)) and (runs := find_runs(source)):
        return "\n".join(_line(run) for group in runs.values() for run in group)
    log = read(source)
    findings = diagnose(log)
    lines = [f"{log.source}, {len(log)} row{'s' * (len(log) != 1)}. {verdict(findings)}", *log.notes]
    if len(log["reward"]) > 1 and np.ptp(log["reward"]):
        lines.append(f"The reward goes from {num(first(log['reward']))} to {num(last(log['reward']))}.")
    for number, finding in enumerate(findings, start=1):
        lines += ["", f"{number}. {finding.name.replace('_', ' ')} ({finding.level}, {finding.sure})"]
        lines += _wrapped("seen", finding.says + f" [{steps_in_words(finding.steps, log.unit)}]")
        for other in finding.also:
            seen = f"{other.name.replace('_', ' ')}: {other.says} [{steps_in_words(other.steps, log.unit)}]"
            lines += _wrapped("also", seen)
        lines += _wrapped("cause", finding.cause) + _wrapped("try", finding.try_next)
        lines += _wrapped("source", RULES[finding.name].source)
    return "\n".join(lines)


def _line(run):
    findings = diagnose(run)
    names = ", ".join(f.name for f in findings if f.level != NOTE)
    return f"{run.parent.name}/{run.name}: {names or 'healthy'}"


def _wrapped(label, text):
    return textwrap.wrap(text, 110, initial_indent=f"   {label + ':':8}", subsequent_indent=" " * 11)


def rules_table():
    """The rules as a Markdown table, for docs/doctor.md."""
    rows = [f"| `{name}` | {r.level} | {r.check.__doc__.strip()} | {r.source} |" for name, r in RULES.items()]
    return "\n".join(["| rule | level | seen when | source |", "|---|---|---|---|", *rows])
