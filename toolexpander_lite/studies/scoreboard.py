"""Models side by side on held-out rows, BFCL, API-Bank and executed calls, from the scores that are on record.

    FOLDER/evaluations/<model>/held_out.json, bfcl/scores.json, api-bank/scores.json, executed.jsonl

is what `benchmarks/smol_runs.py` leaves; beside it bfcl-whole/scores.json, where a category was asked as a whole after
a draw of it. A model is called `base`, `warm-start-seed-0`, `grpo-seed-0`, `toolexpander-seed-0` (asked with the
invitation it was trained with) or `toolexpander-seed-0-plain` (without it).
"""

import json
import re
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from ..base.colours import SERIES
from ..base.errors import RunError
from ..base.intervals import paired_difference, share_interval
from ..base.runs import find_runs, has_file, load_study, read_json, read_jsonl
from ..evaluation.answer_kinds import earned_text
from ..evaluation.executed import earned_by_episode
from ..training.profiles import tools_offered
from .texts import markdown_table, say

_NAME = re.compile(r"(?P<arm>.+?)(?:-seed-(?P<seed>\d+))?(?P<plain>-plain)?")
_FIRST = {"base": 0, "warm-start": 1}
COLUMNS = [*"model arm seed part correct asked low high items_per_second well_formed right earned".split()]
NO_CALL = "irrelevance"  # the end of the names of parts in which no tool fits
ABSTAINED = ", abstained"  # such a part, counted by the answers that make no attempt at a call


def load_scores(folder):
    """All scores below `FOLDER/evaluations` -> DataFrame with the columns `COLUMNS`, a row per model and part.

    `arm` keeps a `-plain`; `seed` is -1 where a model has none. `low` and `high`: Wilson's 95 % interval. `right`: ids
    of the questions answered right, None where they are not on record; `items_per_second` and `well_formed`, the share
    of answers in the form that was asked for, likewise. `earned`: what earned the credit, {kind of answer: number}.
    Where no tool fits, a second row counts only the answers that abstain: "BFCL irrelevance, abstained".

    Raises:
        RunError: nothing there, or a file that is cut.
    """
    rows = []
    for model in sorted(Path(folder, "evaluations").glob("*/")):
        name = _NAME.fullmatch(model.name)
        arm, seed = name["arm"] + (name["plain"] or ""), int(name["seed"] or -1)
        for part, correct, asked, speed, formed, right, earned in _parts(model):
            counts = earned and {kind: ids if isinstance(ids, int) else len(ids) for kind, ids in earned.items()}
            shares = (correct, asked, *share_interval(correct, asked))
            rows.append((model.name, arm, seed, part, *shares, speed, formed, right, counts))
            if part.endswith(NO_CALL) and earned is not None:
                right = earned.get("abstained", [])
                shares, part = (len(right), asked, *share_interval(len(right), asked)), part + ABSTAINED
                rows.append((model.name, arm, seed, part, *shares, None, None, right, {"abstained": len(right)}))
    if not rows:
        raise RunError(f"no scores below {folder}/evaluations; benchmarks/smol_runs.py makes them")
    return pd.DataFrame(rows, columns=COLUMNS)


def _parts(model):
    """(part, correct, asked, items per second, well formed, ids, what earned it) of all that one model was asked."""
    for name, read in READERS.items():
        if (file := model / name).exists():
            try:
                yield from read(file)
            except (ValueError, KeyError, TypeError, AttributeError, RunError) as error:
                raise RunError(
                    f"{file} is cut or holds something else ({type(error).__name__}: {error}); delete it and score the "
                    "model again"
                ) from error


def _held_out(file):
    scores = json.loads(file.read_text())
    right, earned = round(scores["zero_shot"] * scores["questions"]), None
    if declined := scores.get("no_call"):
        calm = round(declined["right"] * declined["rows"])
        earned = {"called": right - calm, "abstained": calm}
    yield "held out", right, scores["questions"], None, None, None, earned


def _benchmark(file):
    prefix = {"bfcl": "BFCL", "bfcl-whole": "BFCL, all of", "api-bank": "API-Bank"}[file.parent.name]
    for part, s in json.loads(file.read_text()).items():
        form = s["items_per_second"], s["well_formed"]
        yield f"{prefix} {part}", s["correct"], s["answered"], *form, s["right"], s.get("earned")


def _executed(file):
    episodes = read_jsonl(file, whole=True)
    solved = [e for e in episodes if e["reason"] == "ok"]
    earned = dict(Counter(earned_by_episode(e) for e in solved if "calls" in e))
    yield "executed", len(solved), len(episodes), None, None, [e["id"] for e in solved], earned


# What a model's folder may hold, and who reads it.
READERS = {
    "held_out.json": _held_out, "bfcl/scores.json": _benchmark, "bfcl-whole/scores.json": _benchmark,
    "api-bank/scores.json": _benchmark, "executed.jsonl": _executed,
}  # fmt: skip


def score_table(scores):
    """`load_scores`'s rows -> DataFrame of texts, a row per model and a column per part: "12 of 400 (0.02-0.05)".

    Where anything but readable calls earned a score, the split follows it: ": 0 abstained, 8 unreadable, 4 cut". The
    last column, where it is on record, is the share of well-formed answers over all benchmark questions.
    """
    scores = scores[~scores.part.str.endswith(ABSTAINED)]
    table = scores.assign(
        text=[f"{s.correct} of {s.asked} ({s.low:.2f}-{s.high:.2f}){_split(s)}" for s in scores.itertuples()]
    ).pivot(index="model", columns="part", values="text")
    table = table.reindex(index=_ordered(scores), columns=scores.part.unique()).astype(object).fillna("not run")
    # A part "without searches" is a part of another one, and would count twice.
    formed = scores[scores.well_formed.notna() & ~scores.part.str.endswith("without searches")]
    if len(formed):
        counts = formed.assign(formed=formed.well_formed * formed.asked).groupby("model")[["formed", "asked"]].sum()
        shares = (counts.formed / counts.asked).map("{:.0%}".format)
        table["well formed"] = shares.reindex(table.index).astype(object).fillna("not run")
    return table.reset_index()


def _split(row):
    """What earned the score of a row of `load_scores`, as ": 0 abstained, 2 cut"; "" where only readable calls did."""
    no_call, kinds = row.part.endswith(NO_CALL), set(row.earned or ())
    plain = row.part.endswith(ABSTAINED) or not no_call and kinds <= {"called"}
    return "" if plain else f": {earned_text(row.earned, no_call)}"


def _mixed(scores):
    """Has anything but readable calls earned some of these scores, or may it have? -> bool"""
    return any(_split(s) for s in scores.itertuples())


def _ordered(scores):
    """Models as they came to be: as it comes, warm-started, then the arms."""
    return sorted(scores.model.unique(), key=lambda m: (_FIRST.get(_NAME.fullmatch(m)["arm"], 2), m))


def difference(scores, part, ours, theirs):
    """How much better one arm answers a part than another -> {"ours", "theirs", "mean", "low", "high", "seeds"}.

    Shares of right answers, means over the seeds that both have, and the 95 % bootstrap interval of their difference
    over *questions*, each question's answers of all seeds averaged first. It says how far these questions can be
    trusted; two or three seeds are too few to say how far another seed would differ.

    Raises:
        RunError: an arm has no such score, no seed in common with the other, or other questions; or not only readable
            calls earned the scores, so that their difference would say nothing.
    """
    chosen = scores[(scores.part == part) & scores.right.notna()]
    if _mixed(chosen):
        raise RunError(f"{part!r} is not earned by readable calls alone; compare {part + ABSTAINED!r}")
    sides = {arm: chosen[chosen.arm == arm].set_index("seed") for arm in (ours, theirs)}
    seeds = sorted(set(sides[ours].index) & set(sides[theirs].index))
    if not seeds:
        raise RunError(f"no seed of both {ours!r} and {theirs!r} has scores of {part!r}")
    sides = {arm: side.loc[seeds] for arm, side in sides.items()}
    if len({int(n) for side in sides.values() for n in side.asked}) > 1:
        raise RunError(f"{part!r} was asked of {ours!r} and {theirs!r} with different numbers of questions")
    means = {arm: float((side.correct / side.asked).mean()) for arm, side in sides.items()}
    return {"ours": means[ours], "theirs": means[theirs], **_gain(sides[ours], sides[theirs]), "seeds": len(seeds)}


def _gain(ours, theirs):
    """Rows of one part -> {"mean", "low", "high"}: ours minus theirs, by question, each side's rows averaged first."""
    known = {id for side in (ours, theirs) for ids in side.right for id in ids}
    # Which question it was that nobody answered right is not on record; any name will do.
    questions = [*known, *range(int(ours.asked.iloc[0]) - len(known))]
    shares = [{q: sum(q in ids for ids in map(set, side.right)) / len(side) for q in map(str, questions)}
              for side in (ours, theirs)]  # fmt: skip
    mean, low, high, _ = paired_difference(*shares)
    return {"mean": mean, "low": low, "high": high}


def over_warm_start(scores):
    """What training added to the warm start that all runs began on -> DataFrame of texts, a row per part.

    Columns: "part", "base", "warm-start" and one per arm: "23.5% (-3.5, -9.0 to +1.5)" is the share of right answers,
    mean over seeds, then points above the warm start and their 95 % bootstrap interval over questions. Parts without
    ids of the questions answered right, or with different numbers of questions, have no interval. Parts that the warm
    start was not asked are left out. Where not only readable calls earned the score, the split stands in place of a
    gain; the gain is in the row of those that abstain.
    """
    rows = []
    for part in scores.part.unique():
        sides = dict(list(scores[scores.part == part].groupby("arm")))
        if "warm-start" not in sides:
            continue
        warm, row = sides["warm-start"], {"part": part, "base": "not run"}
        for arm in sorted(sides, key=lambda arm: (arm != "base", arm != "warm-start", arm)):
            share = (sides[arm].correct / sides[arm].asked).mean()
            row[arm] = f"{share:.1%}"
            if _mixed(scores[scores.part == part]):
                counts = sum((Counter(earned or {}) for earned in sides[arm].earned), Counter(abstained=0))
                percent = {kind: f"{100 * n / sides[arm].asked.sum():.1f}" for kind, n in counts.items()}
                row[arm] += f": {earned_text(percent, no_call=True)}"
            elif arm not in ("base", "warm-start"):
                gain = 100 * (share - (warm.correct / warm.asked).mean())
                both = pd.concat([sides[arm], warm])
                known = both.right.notna().all() and both.asked.nunique() == 1  # the same questions
                found = _gain(sides[arm], warm) if known else None
                spread = f", {100 * found['low']:+.1f} to {100 * found['high']:+.1f}" if known else ""
                row[arm] += f" ({round(gain, 1) + 0.0:+.1f}{spread})"
        rows.append(row)
    return pd.DataFrame(rows).astype(object).fillna("not run") if rows else pd.DataFrame()


def plot_scoreboard(scores):
    """A panel per part, a dot and its 95 % interval per model -> figure."""
    scores = scores.groupby("part").filter(lambda rows: not _mixed(rows))  # one dot would say nothing
    parts, models = list(scores.part.unique()), _ordered(scores)[::-1]
    columns = min(3, len(parts))
    lines = -(-len(parts) // columns)
    size = (3.3 * columns + 1.2, (0.3 * len(models) + 0.9) * lines)
    figure, axes = plt.subplots(lines, columns, figsize=size, squeeze=False, sharey=True)
    colours = dict(zip(dict.fromkeys(scores.arm[scores.model.isin(models)]), SERIES * len(models)))
    for axis, part in zip(axes.flat, parts):
        for s in scores[scores.part == part].itertuples():
            place, share = models.index(s.model), s.correct / s.asked
            axis.plot([s.low, s.high], [place, place], color=colours[s.arm], linewidth=2)
            axis.plot(share, place, "o", color=colours[s.arm])
        axis.set_title(f"{part} ({scores[scores.part == part].asked.max()})", fontsize=10)
        axis.set(xlim=(-0.02, 1.02), ylim=(-0.6, len(models) - 0.4))
        axis.grid(axis="x", alpha=0.3)
    for axis in axes[:, 0]:
        axis.set_yticks(range(len(models)), models)
    for axis in axes.flat[len(parts) :]:
        axis.set_visible(False)
    figure.supxlabel("share of questions answered right, 95 % interval over questions")
    figure.tight_layout()
    return figure


def afterwards_lines(folder):
    """What models of a study are worth where they were not trained, as Markdown lines; [] if nobody asked them."""
    if not any(file for name in READERS for file in Path(folder).glob(f"evaluations/*/{name}")):
        return []
    scores = load_scores(folder)
    return ["", say("afterwards"), "", *_markdown(score_table(scores)), "", *abstention_lines(folder, scores)]


ARMS = ("toolexpander", "grpo")
WHOLE = "BFCL, all of simple_python"


def scoreboard_lines(folder):
    """What the scores below a folder say, as Markdown lines: list items, "", the tables; [] if there are none."""
    folder = Path(folder)
    if not any(file for name in READERS for file in folder.glob(f"evaluations/*/{name}")):
        return []
    scores = load_scores(folder)
    parts = [("BFCL simple_python", "the aim was +5")]
    if WHOLE in set(scores.part):
        parts.append((WHOLE, "the number before is a draw of them"))
    compared = [_compared(scores, part, *ARMS, remark) for part, remark in parts]
    lines = [say("benchmarks", folder.name, _trained(folder), compared, scores.items_per_second.dropna())]
    lines += abstention_lines(folder, scores)
    file = folder / "contamination.json"
    lines += [_twins_line(json.loads(file.read_text()))] if file.is_file() else []
    gains = over_warm_start(scores)
    if len(gains):
        begun = folder / "warm-start" / "seed-0" / "config.json"
        tools = tools_offered(read_json(begun)["profile"]) if has_file(begun) else ""
        lines += ["", say("gains", folder.name, tools), "", *_markdown(gains)]
    return [*lines, "", *_markdown(score_table(scores)), ""]


def abstention_lines(folder, scores):
    """Who calls nothing where no tool fits, and what earned BFCL's credit there, as Markdown list items."""
    lines, base = [], scores[(scores.arm == "base") & (scores.part == "BFCL simple_python")]
    called = (base.correct.sum(), base.asked.sum()) if len(base) else None
    for part in [part.removesuffix(ABSTAINED) for part in scores.part.unique() if part.endswith(ABSTAINED)]:
        credited, calm = (scores[scores.part == name].groupby("arm", sort=False) for name in (part, part + ABSTAINED))
        shares = (calm.correct.sum() / calm.asked.sum()).to_dict()
        lost = calm.high.max().get("warm-start", 1) < calm.low.min().get("base", 0)
        arms = [
            (arm, rows.correct.sum(), rows.asked.sum(), earned_text(sum(map(Counter, rows.earned), Counter()), True))
            for arm, rows in sorted(credited, key=lambda item: (_FIRST.get(item[0], 2), item[0]))
        ]
        trained = [share for arm, share in shares.items() if arm not in _FIRST]
        lines.append(say("abstention", folder.name, part, arms, lost, shares, trained, called))
    return lines


def _markdown(table):
    """A DataFrame of texts as the lines of a Markdown table, the first column as code."""
    return markdown_table(table.columns, ([f"`{row[0]}`", *row[1:]] for row in table.itertuples(index=False)))


def _twins_line(found):
    """How many evaluation questions have a twin among the rows of the training source, in words."""
    twins = {pair.removeprefix("all rows against "): n for pair, n in found["twins"].items()}
    some = {pair: n for pair, n in twins.items() if n["exact"][1] or n["near"][1]}
    none = [pair for pair in twins if pair not in some]
    return say("twins", found["source"], list(some.items()), none, sum(twins[pair]["rows"][1] for pair in none))


def _trained(folder):
    """The trained runs behind the scores -> [(arm, {"seeds", "rollouts", "hours"})]."""
    runs = load_study(folder) if find_runs(folder) else pd.DataFrame({"variant": []})
    runs = runs[runs.variant != "warm-start"]
    return [(arm, {"seeds": len(own), "rollouts": own.rollouts.max(), "hours": own.seconds.mean() / 3600})
            for arm, own in runs.groupby("variant")]  # fmt: skip


def _compared(scores, part, ours, theirs, remark):
    try:
        found = difference(scores, part, ours, theirs)
    except RunError:
        return f"`{ours}` against `{theirs}` on {part}: not measured yet."
    asked = scores[scores.part == part].sort_values("seed")
    each = {arm: ", ".join(f"{s.correct / s.asked:.0%}" for s in asked[asked.arm == arm].itertuples())
            for arm in (ours, theirs)}  # fmt: skip
    return say("compared", part, ours, theirs, found, each, remark)
