"""API-Bank (arXiv 2304.08244), levels 1 and 2, call accuracy: which call comes next in a dialogue?

Level 1 lists the tools; on level 2 the model first searches for them. Rows come from the owners (DAMO-ConvAI, MIT) or
as Hammer's authors rewrote them (Apache-2.0), which drops some. One call is expected in each row, and the score
is strict: this call and no other, in one try. Two habits of other evaluators raise the same model's score: to pass an
answer when any of its calls is right, and to ask again what was wrong when a run is repeated.
"""

import ast
import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import pandas as pd

from ..base.downloads import cache_folder, fetch
from ..base.errors import DataError, RunError
from ..base.runs import write_json
from ..base.spelled_defaults import DEFAULTS_RULE
from ..data.file_formats import read_rows
from ..data.parse_values import read_python_calls
from ..data.sources import LoadReport, convert_rows
from ..data.tool_schemas import RowDropped, flat_schema
from ..method.calls import judge
from ..method.samples import ToolSample
from .answer_kinds import answer_kind, earned_text
from .answers import answer_samples, claim_folder, draw, how_asked, read_answers, scores_of, wanted_think

_OWNERS = "https://raw.githubusercontent.com/AlibabaResearch/DAMO-ConvAI/5c38bb7d1d78c7a7f12aa415d620d6305dbe2078/"
_HAMMER = "https://raw.githubusercontent.com/MadeAgents/Hammer/5e3ca28c40f98e21bae4794d73d5546321533fe3/"
ADDRESSES = {
    "owners": {level: f"{_OWNERS}api-bank/json_test_data/level-{level}-api.json" for level in (1, 2)},
    "hammer": {level: f"{_HAMMER}data/test/original/apibank_l{level}.json" for level in (1, 2)},
}
LICENCES = {"owners": "MIT", "hammer": "Apache-2.0 (derived from API-Bank, MIT)"}
# From the owners' instruction, and needed: users say "March 26th", gold calls say "2023-03-26".
SYSTEM_TEXT = "The current year is 2023."
SEARCH_TOOL = "ToolSearcher"
_SPEAKERS = {"user": "User: ", "agent": "AI: ", "assistant": "API-Request: ", "tool": "API-Response: "}


def load_api_bank(level, publisher="owners", path=None, limit=None):
    """One level of API-Bank -> `sources.LoadReport`; all its samples are "test".

    The dialogue is one user turn, in the words of its publisher, as in the owners' own prompt (a chat template may not
    take its many roles). Tools are those that the row lists and, in the owners' rows, those that a search in the
    dialogue has found. The owners write all arguments as text; where a tool asks for a number or a list and
    the text is one, it is one here, as the schema tells the model (both our assumptions). Which arguments are required
    is not said, and gold calls leave some out.

    Args:
        level: 1 or 2.
        publisher: "owners" or "hammer"; of a local file the form is recognised.
        path: local file; None fetches the published one into the cache.
        limit: keep this many, always the same random draw; None keeps all.

    Raises:
        DataError: no such level or publisher, limit below 1, file absent, unreadable or out of reach, no usable row.
    """
    if level not in (1, 2) or publisher not in ADDRESSES:
        raise DataError(f"no API-Bank level {level!r} by {publisher!r}; choose 1 or 2, owners or hammer")
    address = ADDRESSES[publisher][level] if path is None else str(path)
    rows = list(read_rows(fetch(address, cache_folder("data", "api-bank")) if path is None else Path(path)))
    if path is not None:
        publisher = "hammer" if any("answers" in row for row in rows if isinstance(row, dict)) else "owners"
    read = convert_rows(rows, lambda index, row: _sample(row, level, index), address, "API-Bank")
    samples, dropped, first = read
    return LoadReport(draw(samples, limit), dropped, f"api-bank level {level}", LICENCES[publisher], address, first)


def _sample(row, level, index):
    dialogue, tools, call = _hammer_row(row) if "answers" in row else _owners_row(row)
    for tool in tools:
        for spec in tool["parameters"].values():
            spec["type"] = str(spec["type"]).replace("(", "[").replace(")", "]")  # list(str)
    parameters = {tool["name"]: tool["parameters"] for tool in tools}
    if call["name"] not in parameters:
        raise RowDropped("call to an unlisted tool")
    if not set(call["arguments"]) <= set(parameters[call["name"]]):
        raise RowDropped("argument its tool does not list")
    schemas = [
        {"type": "function", "function": {
            "name": t["name"], "description": t["description"], "parameters": flat_schema(t["parameters"], []),
        }}
        for t in tools
    ]  # fmt: skip
    listed = parameters[call["name"]]
    arguments = {name: _as_listed(value, listed[name]["type"]) for name, value in call["arguments"].items()}
    messages = [{"role": "system", "content": SYSTEM_TEXT}, {"role": "user", "content": dialogue}]
    id, calls = f"api-bank-{level}-{index:06d}", [{"name": call["name"], "arguments": arguments}]
    return ToolSample(id, f"api-bank-{level}", messages, schemas, calls, "test")


# What Python says of text that is no literal; the last two of signs and brackets by the thousand.
_NO_LITERAL = ValueError, SyntaxError, RecursionError, MemoryError


def _owners_row(row):
    """{"instruction", "input", "expected_output"} -> (dialogue, tools, call)."""
    listed = row["instruction"].split("API descriptions:\n", 1)[1]
    tools = [json.loads(line) for line in listed.splitlines() if line.strip()]
    tools = [t | {"parameters": t["input_parameters"]} for t in [*tools, *_found_tools(row["input"])]]
    unique = {tool["name"]: tool for tool in reversed(tools)}
    (gold,) = read_python_calls(row["expected_output"].strip().removeprefix("API-Request: "), unescaped=True)
    return row["input"].strip(), [unique[name] for name in reversed(unique)], gold


def _found_tools(dialogue):
    """Descriptions that an earlier search brought up: `API-Request: [ToolSearcher(...)]->{...}`."""
    found = []
    for result in re.findall(rf"^API-Request: \[{SEARCH_TOOL}\(.*?\)\]->(.*)$", dialogue, re.MULTILINE):
        try:
            value = ast.literal_eval(result)  # Python literals, as the owners' simulator prints them
        except _NO_LITERAL:
            continue  # cut short, or no description: the row then lists one tool less
        found += [v for v in (value if isinstance(value, list) else [value]) if "input_parameters" in v]
    return found


_PUBLISHED_TYPES = {"string": "str", "integer": "int", "number": "float"}


def to_owners_row(sample):
    """A `ToolSample` with one call and flat arguments -> row in the owners' form (dict), where all values are text."""
    listed = []
    for tool in (t["function"] for t in sample.tools):
        inputs = {
            name: {"type": _PUBLISHED_TYPES[spec["type"]], "description": spec.get("description", name)}
            for name, spec in tool["parameters"]["properties"].items()
        }
        parts = {"name": tool["name"], "description": tool["description"], "input_parameters": inputs}
        listed.append(json.dumps(parts | {"output_parameters": {}}, ensure_ascii=False))
    (call,) = sample.calls
    given = ", ".join(f"{name}='{value}'" for name, value in call["arguments"].items())
    return {
        "instruction": "Generate an API request.\nAPI descriptions:\n" + "\n".join(listed),
        "input": f"User: {sample.messages[-1]['content']}\nGenerate API Request:\n",
        "expected_output": f"API-Request: [{call['name']}({given})]",
    }


def _hammer_row(row):
    """{"query", "tools", "answers"} -> (dialogue, tools, call)."""
    dialogue = "\n".join(_SPEAKERS[turn["role"]] + turn["content"].strip("`") for turn in row["query"])
    if len(row["answers"]) != 1:
        raise RowDropped("not exactly one call")
    (call,) = row["answers"]
    return dialogue, row["tools"], {"name": call["name"], "arguments": call["arguments"]}


def _as_listed(value, kind):
    """A gold argument, given as text, as the type its tool lists, where the text is one; else unchanged."""
    wanted = {"int": int, "float": (int, float), "list": list, "dict": dict, "bool": bool}.get(kind.partition("[")[0])
    if wanted is None or not isinstance(value, str):
        return value
    try:
        literal = ast.literal_eval(value)
    except _NO_LITERAL:
        return value
    fits = isinstance(literal, wanted) and (isinstance(literal, bool) == (wanted is bool))  # a bool is an int to Python
    return literal if fits else value


def evaluate_api_bank(
    model, tokenizer, name, out, reports, limit=None, max_new_tokens=256, batch_size=16, progress=None, invite=False
):
    """Ask a model API-Bank's questions and score it -> the scores of `score_api_bank`, also in `OUT/scores.json`.

    Zero-shot and greedy. Answers are kept in `OUT/api-bank-<level>.jsonl`; what was answered before is not asked again.
    Levels may be added later: their scores join those that are there. Which rows were asked stands beside each score,
    as "questions" (see `questions_of`).

    Args:
        name: the model's name, for `config.json`.
        reports: {level: `load_api_bank`'s report}.
        limit: with which the reports were loaded.
        max_new_tokens: cap per completion, in tokens (256 is our assumption: one call).
        progress: called with (level, number answered, number of questions, items per second).
        invite: what prompts ask for, as in training and in `prompts.render_messages`.

    Raises:
        SettingsError: limit, max_new_tokens or batch_size below 1.
        RunError: `out` holds answers of another model, to other rows, or under other settings, or is damaged.
    """
    settings = how_asked(limit, max_new_tokens, batch_size, invite)
    settings |= {"spelled_defaults": rule} if (rule := DEFAULTS_RULE.get()) != "extra" else {}  # two rules, two folders
    asked = {f"level {level}": questions_of(report) for level, report in reports.items()}
    before = _read_object(Path(out, "config.json")).get("questions", asked)
    # A level that is asked again must have the same rows; one that is new joins the others.
    known = before | {level: rows for level, rows in asked.items() if level in before}
    claim_folder(out, model, name, benchmark="API-Bank", questions=known, **settings)
    if new := asked.keys() - known.keys():
        config = _read_object(Path(out, "config.json"))
        write_json(Path(out, "config.json"), config | {"questions": known | {level: asked[level] for level in new}})
    scores = _read_object(Path(out, "scores.json"))
    for level, report in reports.items():
        file = Path(out, f"api-bank-{level}.jsonl")
        shown = progress and (lambda *state, level=level: progress(f"level {level}", *state))
        answer_samples(model, tokenizer, report.samples, file, max_new_tokens, batch_size, shown, invite)
        found = score_api_bank(report.samples, file)
        scores |= {part: s | {"questions": asked[f"level {level}"]} for part, s in found.items()}
    scores = dict(sorted(scores.items()))
    write_json(Path(out, "scores.json"), scores)
    return scores


def questions_of(report):
    """Which rows these are -> {"publisher", "source", "rows", "sha256"}, plain values.

    "source" is the published address, or the name of a local file; "rows" the number asked; "sha256" 16 digits over all
    that a model is shown and all that it is judged by. Two scores can be compared if all but the source is the same.
    """
    shown = [[s.id, s.messages, s.tools, s.calls] for s in report.samples]
    (publisher,) = (name for name, licence in LICENCES.items() if licence == report.licence)
    published = report.address in ADDRESSES[publisher].values()
    return {
        "publisher": publisher, "source": report.address if published else Path(report.address).name,
        "rows": len(shown), "sha256": hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:16],
    }  # fmt: skip


def _read_object(file):
    """A JSON object that an earlier call left -> dict; {} where there is none."""
    try:
        return dict(json.loads(file.read_text()))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"cannot read {file} ({error}); choose another folder") from None


def score_api_bank(samples, file):
    """Score the answers in `file` to `samples`, strictly -> {level: scores}, as plain values.

    Scores: those of `answers.scores_of`, and "reasons" {code of `calls.REASONS`: number}. Right is the expected call
    and no other; thoughts and text around it do not matter. A level that has searches, whose keywords are free text
    that can hardly be guessed exactly, is also scored without them.

    Raises:
        DataError: an answer to none of these questions, or no answer at all.
    """
    by_id, rows = {s.id: s for s in samples}, read_answers(file)
    if not rows or any(row["id"] not in by_id for row in rows):
        raise DataError(f"{file} holds no answers, or answers to other questions than these {len(samples)}")
    level = samples[0].family.replace("api-bank-", "level ")
    scores = {level: _scores(rows, by_id)}
    called = [row for row in rows if by_id[row["id"]].calls[0]["name"] != SEARCH_TOOL]
    if 0 < len(called) < len(rows):
        scores[f"{level} without searches"] = _scores(called, by_id)
    return scores


def _scores(rows, by_id):
    reasons, right, kinds = Counter(), [], {}
    for row in rows:
        sample, completion = by_id[row["id"]], row.get("completion", row["result"])
        verdict = judge(completion, sample.calls, sample.tools, wanted_think(row))
        kinds[row["id"]] = answer_kind(completion, sample.tools)
        right += [row["id"]] if verdict.call_ok else []
        reasons[verdict.reason] += 1
    return scores_of(rows, right, kinds, reasons=dict(reasons))


def api_bank_table(scores):
    """`evaluate_api_bank`'s scores -> DataFrame, one row per level."""
    columns = ["answered", "correct", "accuracy", "low", "high", "well_formed"]
    return pd.DataFrame([
        {"questions": name, **{c: s[c] for c in columns}, "earned by": earned_text(s.get("earned"))}
        for name, s in scores.items()
    ])  # fmt: skip
