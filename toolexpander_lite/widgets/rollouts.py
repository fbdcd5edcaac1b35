"""A run's groups, one by one: what was asked, what came back, why it failed, what GRPO made of it."""

import html
import itertools
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import ipywidgets
import numpy as np

from ..base.chat import CALL_CLOSE, CALL_OPEN
from ..base.colours import MARKED, RIGHT, WRONG
from ..base.errors import RunError
from ..base.groups import group_advantages
from ..base.runs import has_file, read_json, read_jsonl
from ..doctor.log import text_of, text_rewards
from ..method.calls import REASONS, parse_completion
from ..method.hard_pool import HardSamplePool
from ..variants.visit_pool import VisitPool
from .show import Live

SHOWN = 700  # characters of a completion that are shown
SCALE = 2.0  # advantage of a full bar


@dataclass(frozen=True)
class Group:
    """The rollouts of one prompt in one step.

    Attributes:
        name: sample id, or the beginning of the prompt.
        served: "plain", "demonstrated", ...; "" where it is not known.
        right: one truth value per rollout. reasons: reason codes, or "" each. paid: rewards with bonuses.
        line: of a kit run, its line of rollouts.jsonl.
    """

    step: int
    name: str
    served: str
    prompt: str
    completions: list
    reasons: list
    right: list
    paid: list
    advantages: list
    line: dict = field(default_factory=dict)

    @property
    def kind(self):
        return "all pass" if all(self.right) else "mixed" if any(self.right) else "all fail"


def read_groups(source):
    """A run directory of the kit's, a completions parquet of TRL's (`log_completions=True`) or its folder -> `Group`s.

    Raises:
        RunError: there are no rollouts, or it is neither.
    """
    source = Path(source)
    if has_file(source / "rollouts.jsonl"):
        groups = _of_kit(source)
    elif files := [source] if source.suffix == ".parquet" else sorted(source.glob("**/completions_*.parquet")):
        groups = _of_trl(files)
    else:
        raise RunError(
            f"no rollouts in {source}: a run of the kit keeps them in rollouts.jsonl, which is not committed with a "
            "study's tables, so make the run yourself; TRL keeps completions_*.parquet with log_completions=True"
        )
    if not groups:
        raise RunError(f"{source} holds no group yet")
    return groups


def _of_kit(run):
    recipe = read_json(run / "config.json")["recipe"] if has_file(run / "config.json") else {}
    scale, groups = recipe.get("scale_rewards", "group"), []
    for step, lines in itertools.groupby(read_jsonl(run / "rollouts.jsonl"), lambda line: line["step"]):
        lines = list(lines)
        paid = [np.add(line["rewards"], line.get("bonus", 0.0)).tolist() for line in lines]
        size = len(paid[0])
        advantages = group_advantages(sum(paid, []), size, scale).reshape(-1, size).tolist()
        for line, rewards, gains in zip(lines, paid, advantages):
            # Runs from before all completions were kept have the first one, and reason codes by number only.
            texts = line.get("completions") or [line.get("example", ""), *[""] * (size - 1)]
            reasons = line.get("verdicts") or [""] * size
            right = [r == "ok" for r in reasons] if any(reasons) else [r >= 1 for r in line["rewards"]]
            place = step, line["sample_id"], line["served"], line.get("prompt", "")
            groups.append(Group(*place, texts, reasons, right, rewards, gains, line))
    return groups


def _of_trl(files):
    import pandas as pd

    groups = []
    for file in files:
        try:
            table = pd.read_parquet(file)
            rewards, columns = text_rewards(table), [table[name] for name in ("step", "prompt", "completion")]
        except (OSError, ValueError, KeyError) as error:
            raise RunError(f"{file} is no completions parquet of TRL's ({error})") from error
        advantages = table["advantage"] if "advantage" in table else [math.nan] * len(table)
        rows = list(zip(*columns[:1], *(map(text_of, column) for column in columns[1:]), rewards, advantages))
        stretches = [list(rows) for _, rows in itertools.groupby(rows, lambda row: row[:2])]
        size = math.gcd(*map(len, stretches))  # one prompt twice in a batch is two groups
        size = size if size > 1 else max(map(len, stretches))
        hermes = any(CALL_OPEN in row[2] for row in rows)
        for stretch in stretches:
            for start in range(0, len(stretch), size):
                step, prompt, texts, paid, gains = zip(*stretch[start : start + size])
                low, high = min(paid), max(paid)
                right = [r == high and (r > low or r > 0) for r in paid]
                reasons = [parse_completion(t, think=False).reason if hermes else "" for t in texts]
                place = int(step[0]), " ".join(prompt[0].split())[-60:], "", prompt[0]
                groups.append(Group(*place, list(texts), reasons, right, list(paid), list(gains)))
    return groups


def chosen(groups, which):
    """The groups of a filter, "all", "all fail", "mixed", "all pass", "first success" or "with demonstrations".

    First success: some right, and none right in the groups of this sample before, of which there is one at least.
    """
    if which == "with demonstrations":
        return [group for group in groups if group.served == "demonstrated"]
    if which != "first success":
        return [group for group in groups if which in ("all", group.kind)]
    found, seen = [], {}
    for group in groups:
        if any(group.right) and seen.get(group.name) is False:
            found.append(group)
        seen[group.name] = seen.get(group.name, False) or any(group.right)
    return found


FILTERS = ("all", "all fail", "mixed", "all pass", "first success", "with demonstrations")


def why_served(source, group, groups):
    """Why a group was served as it was, by the pool's own rule, which decides again on what was logged -> str.

    `groups`: all of the run, in order.
    """
    source = Path(source)
    config = read_json(source / "config.json") if has_file(source / "config.json") else {}
    recipe, line = config.get("recipe", {}), group.line
    kind = recipe.get("hard_samples", "")
    if not line or kind not in ("scan", "demonstrate"):
        return "No pool decided this: every row is asked plainly." if line and kind == "keep" else ""
    earlier = [other.line for other in itertools.takewhile(lambda other: other is not group, groups)]
    events = [(other["step"], 0, other) for other in earlier]
    if kind == "scan":
        scans = read_jsonl(source / "scans.jsonl") if has_file(source / "scans.jsonl") else []
        scans = [s for s in scans if s["kind"] == "scan" and s["step"] < group.step]
        if not scans:
            return "The pool decided on scans, and scans.jsonl is not here."
        pool = HardSamplePool(dict.fromkeys(s["sample_id"] for s in scans))
        events += [(step, 1, "scan") for step in dict.fromkeys(s["step"] for s in scans)]
    else:
        pool = VisitPool(dict.fromkeys([*(o["sample_id"] for o in earlier), group.name]), retest=recipe["retest"])
        every = recipe["round_steps"] * recipe.get("num_iterations", 1)
        events += [(step, 1, "end") for step in range(every, group.step, every)]
    for step, _, event in sorted(events, key=lambda e: e[:2]):
        if event == "scan":
            here = [s for s in scans if s["step"] == step]
            pool.end_round(step) if step else None
            pool.take_scan({s["sample_id"]: s["right"] for s in here}, here[0]["rollouts"], step)
        elif event == "end":
            pool.end_round(step)
        else:
            right = event["reasons"].get("ok", 0)
            seen = event["sample_id"], event["served"], len(event["rewards"]), right, step, event.get("fallback", "")
            pool.observe(*seen)
    words = pool.explain(group.name)
    if line.get("fallback") and line["fallback"] not in words:
        words += f"\n  this visit was not served as planned: {line['fallback']}"
    if kind == "scan" and recipe.get("serving") not in (None, "replace"):
        words += f"\n  the recipe serves the rows of a round by {recipe['serving']!r}"
    return words


def group_html(group, why=""):
    """One group -> HTML; equal completions share a line. What a model wrote is escaped and cut to `SHOWN`."""
    reasons = Counter(group.reasons) if any(group.reasons) else group.line.get("reasons", {})
    said = "; ".join(f"{n} × {r}: {REASONS.get(r, '')}".removesuffix(": ") for r, n in reasons.items() if r)
    cell = "<td style='text-align:{};vertical-align:top'>{}</td>".format
    rows, equal = "", Counter(zip(group.completions, group.reasons, group.paid, group.advantages))
    for (text, reason, paid, gain), times in equal.items():
        bar = "█" * min(12, round(6 * abs(gain) / SCALE)) if math.isfinite(gain) else ""
        colour = RIGHT if gain > 0 else WRONG if gain < 0 else "inherit"
        code = f"<code>{marked(text)}</code>" if text else "(not kept)"
        rows += f"<tr>{cell('right', f'{times}&nbsp;×')}{cell('right', f'{paid:.4g}')}"
        rows += f"{cell('right', f'{gain:+.2f}' if gain else '0')}"
        rows += cell("left", f"<span style='color:{colour}'>{bar}</span>")
        rows += f"{cell('left', html.escape(reason))}{cell('left', code)}</tr>"
    names = "", "reward", "advantage", "", "reason", "completion"
    head = "".join(f"<th style='text-align:left'>{name}</th>" for name in names)
    served = f", served {html.escape(group.served)}" if group.served else ""
    prompt = f"<details open><summary>prompt</summary><p><code>{lines(group.prompt)}</code></p></details>"
    return (
        f"<p><b>step {group.step}: {html.escape(group.name)}</b>{served}; <b>{group.kind}</b>, "
        f"{sum(group.right)} of {len(group.right)} right. {html.escape(said)}</p>"
        + (f"<p><i>Why?</i> {lines(why)}</p>" if why else "")
        + (prompt if group.prompt else "")
        + f"<table><tr>{head}</tr>{rows}</table>"
    )


def lines(text):
    """Text -> HTML with its line breaks, which hold where styles are taken away (GitHub)."""
    return html.escape(text).replace("\n", "<br>")


def marked(text):
    """A completion -> HTML with its calls in bold on yellow; a call that is never closed is marked to the end."""
    text = text.strip() if len(text) <= SHOWN else text[:SHOWN] + " …"
    opened, closed = html.escape(CALL_OPEN), html.escape(CALL_CLOSE)
    parts = re.split(f"({opened}.*?(?:{closed}|$))", lines(text), flags=re.DOTALL)
    opening = f"<mark style='background:{MARKED};color:black'><b>"
    return "".join(f"{opening}{part}</b></mark>" if n % 2 else part for n, part in enumerate(parts))


class RolloutBrowser:
    """Shows a run's groups in a notebook, step by step: `RolloutBrowser(run)` as the last line of a cell.

    Args:
        source: as in `read_groups`.
        which, number: what it opens with, a filter of `FILTERS` and a group of it, from 1.

    Raises:
        RunError: as `read_groups`.
    """

    def __init__(self, source, which="all", number=1):
        self.source, self.groups, self.which, self.number = source, read_groups(source), which, number

    def html(self, number=1, which=None):
        """A group of a filter -> HTML, the static twin."""
        groups = chosen(self.groups, which or self.which)
        if not groups:
            return f"<p>No group of {len(self.groups)} is of this kind: {html.escape(which or self.which)}.</p>"
        group = groups[min(number, len(groups)) - 1]
        return group_html(group, why_served(self.source, group, self.groups))

    def _ipython_display_(self):
        sizes = {which: len(chosen(self.groups, which)) for which in FILTERS}
        options = [(f"{which} ({number:,})", which) for which, number in sizes.items()]
        kind = ipywidgets.Dropdown(options=options, value=self.which, description="groups")
        most = max(sizes[self.which], 1)
        place = ipywidgets.IntSlider(min(self.number, most), min=1, max=most, description="number",
                                     layout={"width": "400px"})  # fmt: skip
        back, on = ipywidgets.Button(description="◀ before"), ipywidgets.Button(description="next ▶")
        show = Live([[kind, back, on], [place]], lambda: self.html(place.value, kind.value))

        def choose(_):
            place.value, place.max = 1, max(sizes[kind.value], 1)
            show()

        kind.observe(choose, "value")
        place.observe(show, "value")
        back.on_click(lambda _: setattr(place, "value", max(place.value - 1, 1)))
        on.on_click(lambda _: setattr(place, "value", min(place.value + 1, place.max)))
