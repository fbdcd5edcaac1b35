"""Scoring a model on BFCL: ask, keep the answers where the official tool finds them, score them by its checker.

    OUT/config.json                                             whose answers these are, and how it was asked
    OUT/result/<READER>/<live or non_live>/BFCL_v4_<category>_result.json     the answers, see `answers.py`
    OUT/scores.json                                             what came of each category

`BFCL_PROJECT_ROOT=OUT bfcl evaluate --model <READER> --partial-eval` reads the same files. The folder's name only tells
it how to read them: the model is the one in config.json. There is no overall number: BFCL's own is a weighted mean with
categories that are not here, so ours could not be compared with it.
"""

from pathlib import Path

import pandas as pd

from ..base.errors import DataError, RunError
from ..base.intervals import share_interval
from ..base.runs import write_json
from ..method.calls import parse_completion
from .answer_kinds import answer_kind, earned_by, earned_text
from .answers import answer_samples, check_asking, claim_folder, form_and_speed, read_answers
from .bfcl import CATEGORIES, READER, check_calls, check_categories, find_package, load_questions


def result_file(out, category):
    """Where the answers to one category are kept, below `out` -> `Path`."""
    folder = READER.replace("/", "_")
    return Path(out, "result", folder, CATEGORIES[category], f"BFCL_v4_{category}_result.json")


def evaluate_bfcl(
    model, tokenizer, name, out, categories=tuple(CATEGORIES), limit=None, max_new_tokens=512, batch_size=16,
    progress=None, invite=False,
):  # fmt: skip
    """Ask a model the questions of some categories and score it -> the scores of `score_bfcl`, also in `scores.json`.

    Zero-shot and greedy, in the kit's own prompt and answer form (`prompts.py`), which is not the one behind the
    public leaderboard's numbers. What was answered before in `out` is kept; other categories may be added later.

    Args:
        name: the model's name, for `config.json`.
        limit: ask so many questions of each category, always the same random draw; None asks all.
        max_new_tokens: cap per completion, in tokens (512 is our assumption).
        progress: called with (category, number answered, number of questions, items per second).
        invite: invite an example of its own, as recipes with a bonus do in training.

    Raises:
        DataError: no such category, or the questions cannot be had.
        SettingsError: limit, max_new_tokens or batch_size below 1.
        RunError: `out` holds answers of another model, or under other settings, or is damaged.
    """
    check_categories(categories)
    settings = {"limit": limit, "max_new_tokens": max_new_tokens, "batch_size": batch_size}
    check_asking(**settings)
    settings |= {"invite": True} if invite else {}
    # All of them before the first is asked: a damaged file shows at once, not after hours.
    asked = {category: [q.sample for q in load_questions(category, limit)] for category in categories}
    claim_folder(out, model, name, benchmark="BFCL v4", bfcl_eval=find_package()[1], **settings)
    for category, samples in asked.items():
        tell = progress and (lambda *state, category=category: progress(category, *state))
        answer_samples(model, tokenizer, samples, result_file(out, category), max_new_tokens, batch_size, tell, invite)
    scores = score_bfcl(out)
    write_json(Path(out, "scores.json"), scores)
    return scores


def score_bfcl(out):
    """Score whatever answers are below `out` by the official checker -> {category: scores}, in BFCL's order.

    Scores of a category: "answered", "questions" (in the whole category), "correct", "accuracy" of the answered ones,
    "low" and "high" (95 % interval), "well_formed" and "items_per_second" (see `answers.form_and_speed`), "errors"
    {BFCL's error type: number}, "right" (ids of the questions answered right), "earned" {kind of answer: ids}: what
    earned that credit (see `answer_kinds`). Where no call is right, BFCL credits every answer from which none is read.

    Raises:
        RunError: no answers there, or a damaged file.
        DataError: an answer to a question that is not BFCL's.
    """
    scores = {}
    for category in CATEGORIES:
        rows = read_answers(result_file(out, category))
        if not rows:
            continue
        questions = {question.sample.id: question for question in load_questions(category)}
        errors, correct, kinds = {}, [], {}
        for row in rows:
            if row["id"] not in questions:
                raise DataError(f"{result_file(out, category)}: no {category} question is called {row['id']!r}")
            question = questions[row["id"]]
            right, error = check_calls(question, parse_completion(row["result"]).calls)
            kinds[row["id"]] = answer_kind(row.get("completion", row["result"]), question.sample.tools)
            if right:
                correct.append(row["id"])
            else:
                errors[error] = errors.get(error, 0) + 1
        low, high = share_interval(len(correct), len(rows))
        scores[category] = {
            "answered": len(rows), "questions": len(questions), "correct": len(correct),
            "accuracy": len(correct) / len(rows), "low": low, "high": high, **form_and_speed(rows), "errors": errors,
            "right": sorted(correct), "earned": earned_by(kinds, correct),
        }  # fmt: skip
    if not scores:
        raise RunError(f"no BFCL answers below {out}")
    return scores


def bfcl_table(scores):
    """`score_bfcl`'s scores -> DataFrame, one row per category, with no overall number.

    Where no tool fits, BFCL credits every answer from which no call is read, so a model that has fallen apart does best
    there. What earned the credit stands beside it, and those categories never stand without the call categories of
    their group, nor those without them: what was not run is in the table as such.
    """
    rows = []
    for group in ("non_live", "live"):
        members = [c for c in CATEGORIES if CATEGORIES[c] == group]
        calls = [c for c in members if "relevance" not in c]
        run = [c for c in members if c in scores]
        shown = set(run) | {c for c in members if run and c.endswith("irrelevance")}
        if run and not set(run) & set(calls):
            shown.add(calls[0])
        for category in members:
            if category in scores:
                s = scores[category]
                rows.append({
                    "category": category, "answered": f"{s['answered']} of {s['questions']}", "correct": s["correct"],
                    "accuracy": f"{s['accuracy']:.3f}", "95 % interval": f"{s['low']:.3f}-{s['high']:.3f}",
                    "earned by": earned_text(s.get("earned"), category.endswith("irrelevance")),
                    "well formed": f"{s['well_formed']:.3f}",
                })  # fmt: skip
            elif category in shown:
                rows.append({"category": category, "answered": "not run"})
    return pd.DataFrame(rows).fillna("")
