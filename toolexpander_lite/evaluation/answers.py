"""Answers of a model to a benchmark: one greedy try per question, kept in a file that an interrupted run goes on with.

A row of the file is `{"id", "result", "completion", "latency"}`: the question's id; the calls that were read, in
`<tool_call>` blocks ("" without any); the whole completion; seconds, the batch's share. Where prompts ask for no think
block it has `"think": false`, too. An answered question is never asked again, so a repeated run cannot become the best
of several tries.
"""

import json
import random
import time
from pathlib import Path

from ..base.chat import CALL_CLOSE, CALL_OPEN, holds_turn_marker
from ..base.errors import DataError, RunError, SettingsError
from ..base.files import write_whole
from ..base.intervals import share_interval
from ..base.runs import write_json
from ..method.calls import judge, parse_completion
from ..method.prompts import render_prompt, style_of, wants_think
from ..models.templates import check_invitation
from .answer_kinds import earned_by


def calls_text(calls):
    """Calls, `{"name", "arguments"}`, as the text of a `result`; "" for none.

    Not escaped to ASCII: a long Chinese argument would outgrow the parser's limit when it is read again.
    """
    return "\n".join(f"{CALL_OPEN}\n{json.dumps(call, ensure_ascii=False)}\n{CALL_CLOSE}" for call in calls)


def as_completion(calls):
    """Calls as a well-formed completion -> str."""
    return "<think>as I see it</think>\n" + calls_text(calls)


def check_counts(**numbers):
    """Raise `SettingsError` unless each is a whole number from 1, or None."""
    for name, number in numbers.items():
        if number is not None and (not isinstance(number, int) or number < 1):
            raise SettingsError(f"{name} is {number}; it must be a whole number from 1")


def how_asked(limit, max_new_tokens, batch_size, invite):
    """What, beside the model, decides a benchmark's answers -> settings for `claim_folder`.

    Raises:
        SettingsError: a number below 1.
    """
    settings = {"limit": limit, "max_new_tokens": max_new_tokens, "batch_size": batch_size}
    check_counts(**settings)
    style = style_of(invite)
    return settings | ({} if style == "think" else {"invite": True if style == "example" else style})


def draw(rows, limit):
    """So many of the rows, always the same random draw, in their order; None keeps all.

    Raises:
        DataError: a limit below 1.
    """
    if limit is not None and limit < 1:
        raise DataError(f"limit is {limit}; give the number of rows to keep, or none for all")
    if limit is None or limit >= len(rows):
        return rows
    return [rows[i] for i in sorted(random.Random(0).sample(range(len(rows)), limit))]


def claim_folder(out, model, name, **settings):
    """Make `out` the folder of one model and one way of asking -> `Path`; what it is for goes to `config.json`.

    Args:
        name: the model's name, as the user gave it; its weights, adapters included, are told apart by their hash.
        settings: all else that changes an answer, plain values.

    Raises:
        RunError: the folder cannot be written, or holds answers of another model or of other settings.
    """
    from ..models.policy import model_hash  # late: names and numbers are refused before torch is imported

    out, file = Path(out), Path(out, "config.json")
    config = {"model": name, "weights": model_hash(model, adapters=True), **settings}
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not file.is_file():
            write_json(file, config)
        old = dict(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"cannot use {out} for answers: {error}; choose another folder") from None
    differs = [key for key in sorted(old.keys() | config.keys()) if old.get(key) != config.get(key)]
    if differs:
        raise RunError(
            f"{out} holds answers given under other settings ({', '.join(differs)} differ); choose another folder"
        )
    return out


def read_answers(file):
    """Rows of an answers file -> list of dicts; a half-written last line is left out, no file is no rows.

    Raises:
        RunError: any other line is not a row, or a question is answered twice.
    """
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines() if Path(file).is_file() else []
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"cannot read {file} ({error}); move the file away") from None
    rows = {}
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            if number == len(lines):
                break
            row = None
        if not _is_answer(row):
            raise RunError(f"{file}: line {number} is no answer; move the file away or repair the line")
        if row["id"] in rows:
            raise RunError(
                f"{file}: {row['id']} is answered twice; one try counts, so remove the answer that came second"
            )
        rows[row["id"]] = row
    return list(rows.values())


def _is_answer(row):
    """Is this an object with texts as id, result and, where it has them, completion, and seconds as latency?"""
    if not isinstance(row, dict):
        return False
    texts, seconds = (row.get("id"), row.get("result"), row.get("completion", "")), row.get("latency", 0)
    timed = isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < float("inf")
    return timed and all(isinstance(text, str) for text in texts)


def answer_samples(model, tokenizer, samples, file, max_new_tokens, batch_size=16, progress=None, invite=False):
    """Ask what has not been asked yet, greedy and zero-shot -> rows of all `samples`, longest prompt first.

    Batches are the same whether or not a run is interrupted, so the answers are too: a batch that was not written to
    its end is asked again as a whole. The longest prompts come first: if memory is short, it is so at once.

    Args:
        samples: `ToolSample`s.
        file: answers file, appended to batch by batch.
        max_new_tokens: cap per completion, in tokens.
        progress: called after each batch with (number answered, number of samples, items per second of this call).
        invite: what prompts ask for, as in training and in `prompts.render_messages`.

    Raises:
        RunError: the file is damaged, or holds other questions than `samples`.
        ModelError: the model's chat template drops what prompts ask for.
    """
    from .accuracy import generate

    check_invitation(tokenizer, invite)
    file = Path(file)
    prompts = {s.id: render_prompt(s, tokenizer, invite=invite) for s in samples}
    escaped = {s.id for s in samples if holds_turn_marker([s.messages, s.tools], tokenizer)}
    order = sorted(prompts, key=lambda id: -len(prompts[id]))
    rows = read_answers(file)
    if [row["id"] for row in rows] != order[: len(rows)]:
        raise RunError(f"{file} holds answers to other questions; choose another folder, or ask the same ones")
    if len(rows) < len(order):
        rows = rows[: len(rows) // batch_size * batch_size]
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, "".join(json.dumps(row) + "\n" for row in rows))  # without a half-written line or batch
    asked, began = len(rows), time.perf_counter()
    for start in range(asked, len(order), batch_size):
        ids, batch_began = order[start : start + batch_size], time.perf_counter()
        completions = generate(model, tokenizer, [prompts[id] for id in ids], max_new_tokens, batch_size=batch_size)
        latency = round((time.perf_counter() - batch_began) / len(ids), 4)
        fresh = [
            {"id": id, "result": calls_text(parse_completion(c).calls), "completion": c, "latency": latency,
             **({"escaped": True} if id in escaped else {}), **({} if wants_think(invite) else {"think": False})}
            for id, c in zip(ids, completions)
        ]  # fmt: skip
        with open(file, "a") as lines:
            lines.write("".join(json.dumps(row) + "\n" for row in fresh))
        rows += fresh
        if progress:
            progress(len(rows), len(order), (len(rows) - asked) / (time.perf_counter() - began))
    return rows


def scores_of(rows, right, kinds, **own):
    """The scores of answers, as plain values -> dict.

    Args:
        rows: of the answers file.
        right: ids of the questions answered right.
        kinds: {id: kind of answer, see `answer_kinds`}.
        own: what else a benchmark tells.

    Returns:
        "answered", "correct", "accuracy", "low" and "high" (95 % interval), "right", "earned" {kind: ids}: what earned
        the credit, and those of `form_and_speed`.
    """
    low, high = share_interval(len(right), len(rows))
    return {
        "answered": len(rows), **own, "correct": len(right), "accuracy": len(right) / len(rows), "low": low,
        "high": high, **form_and_speed(rows), "right": sorted(right), "earned": earned_by(kinds, right),
    }  # fmt: skip


def wanted_think(row):
    """Did the prompt of this answer ask for a think block? -> bool"""
    return row.get("think", True)


def form_and_speed(rows):
    """What every score table tells beside the accuracy -> {"well_formed", "items_per_second"}, and "escaped" if any.

    "well_formed" is the share of completions in the form that was asked for: a think block, then nothing but calls,
    if any; where prompts ask for no think block, calls or plain words. A model that has fallen apart shows here, even
    where writing no call counts as right. "escaped": questions in which a turn marker of the model's template was
    broken up, so that it could not forge a turn.
    """
    escaped = sum(row.get("escaped", False) for row in rows)
    seconds = sum(row.get("latency", 0) for row in rows)
    formed = [judge(row.get("completion", row["result"]), [], [], wanted_think(row)).format_ok for row in rows]
    return {"well_formed": sum(formed) / len(rows), "items_per_second": len(rows) / seconds if seconds else None,
            **({"escaped": escaped} if escaped else {})}  # fmt: skip


def write_answers(file, answers):
    """(sample, completion) pairs as the file of answers that the scoring functions read; see `answers.py`."""
    rows = [{"id": s.id, "result": calls_text(parse_completion(text).calls), "completion": text} for s, text in answers]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
