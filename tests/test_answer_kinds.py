"""What earned an answer its credit: kinds of answers, by hand; and no published number beside "irrelevance" unsplit."""

import json
import re
from html import unescape

import pytest

from toolexpander_lite.base.runs import REPOSITORY
from toolexpander_lite.evaluation import accuracy
from toolexpander_lite.evaluation.answer_kinds import ANSWER_KINDS, answer_kind, earned_by, earned_text
from toolexpander_lite.method.calls import MAX_CHARS, parse_completion
from toolexpander_lite.method.samples import ToolSample

TOOLS = [{"type": "function", "function": {"name": "get_weather"}}, {"type": "function", "function": {"name": "f.g"}}]
CALL = '{"name": "get_weather", "arguments": {"city": "Rome"}}'
ANSWERS = {
    "abstained": [
        "<think>no tool fits</think>", "<think></think>", "<think>no tool fits</think>\nI cannot help with that.",
        "I cannot book a flight.", "No.", "对不起，没有合适的工具。", "get_weather does not fit, so I call nothing.",
        "The area is (10 * 5) / 2 = 25.", f"<think>not {CALL}, it does not fit</think>",
    ],
    "called": [f"{before}<tool_call>{CALL}</tool_call>" for before in ("<think>x</think>", "", "Sure! ")],
    "unknown_tool": [f"<think>x</think><tool_call>{CALL.replace('get_weather', 'zzz')}</tool_call>"],
    "unreadable": [
        "<think>x</think><tool_call>{bad}</tool_call>", f"<think>x</think><tool_call>{CALL[:-1]}</tool_call>",
        '<tool_call>{"name": "get_weather"}</tool_call>', CALL, f"```json\n{CALL}\n```", f"[{CALL}]",
        f"<think>x</think>{CALL.replace('arguments', 'parameters')}", "[get_weather(city='Rome')]", "f.g(1)",
        '{"function": "get_weather", "args": {}}', "<function=get_weather>{}</function>", "</tool_call>",
        "the the <tool_call> {{ the", f"<|python_tag|>{CALL}", "[TOOL_CALLS][]",
    ],
    "cut": [
        "<think>I should", f"<think>x</think><tool_call>{CALL[:-9]}", "<think>x</think><tool_call>", "<tool_call>\n{",
        f"<think>x</think><tool_call>{CALL}</tool_call><tool_call>" + '{"na',
    ],
    "garbage": ["", " \n", "the the the the", "]] }} (( ;;", "{" * 200, "x" * (MAX_CHARS + 1), "12 12 7"],
}  # fmt: skip


@pytest.mark.parametrize("kind, answer", [(kind, answer) for kind, answers in ANSWERS.items() for answer in answers])
def test_answers_by_hand(kind, answer):
    assert answer_kind(answer, TOOLS) == kind
    assert (kind in ("called", "unknown_tool")) == bool(parse_completion(answer).calls), "as the parser reads it"


def test_every_kind_is_described_and_tools_may_be_unknown():
    assert set(ANSWERS) == set(ANSWER_KINDS)
    assert answer_kind(ANSWERS["unknown_tool"][0]) == "called", "no name is known to be unknown"
    assert answer_kind(ANSWERS["called"][0], []) == "unknown_tool", "nothing is on offer"
    assert answer_kind("f_g(1)", TOOLS) == "abstained", "the dot in a tool's name is no wildcard"


@pytest.mark.parametrize("unit", ["<tool_call>", "</think>", '"name":', "{[", "get_weather", "\x00", "<think"])
def test_hostile_answers_have_a_kind(unit):
    for times in (1, 50, MAX_CHARS // len(unit)):
        assert answer_kind(unit * times, TOOLS) in ANSWER_KINDS


def test_credit_is_split_and_worded():
    kinds = {"a": "abstained", "b": "cut", "c": "called", "d": "cut"}
    assert earned_by(kinds, ["d", "a", "b"]) == {"abstained": ["a"], "cut": ["b", "d"]}
    assert earned_text({"abstained": ["a"], "cut": ["b", "d"]}) == "1 abstained, 2 cut"
    assert earned_text({"unknown_tool": 7}, no_call=True) == "0 abstained, 7 unknown tool"
    assert earned_text({}) == "" and earned_text({}, no_call=True) == "0 abstained"
    assert "not on record" in earned_text(None)


def committed_scores():
    return sorted((REPOSITORY / "assets" / "runs").glob("*/evaluations/*/bfcl/scores.json"))


def committed_answers(file):
    """The answers to "irrelevance" beside a committed scores.json, as rows."""
    (answers,) = file.parent.glob("result/*/*/BFCL_v4_irrelevance_result.json")
    return [json.loads(line) for line in answers.read_text().splitlines()]


def test_committed_splits_can_be_counted_again():
    """Every committed answer that BFCL credits for calling nothing, read once more, without the tools on offer.

    A tool's name before "(" is then not known for an attempt at a call, so an unreadable answer may pass for an
    abstention; nothing else may change. `tests/test_bfcl.py` counts with the tools, where bfcl-eval is there.
    """
    seen = 0
    for file in committed_scores():
        scores, rows = json.loads(file.read_text())["irrelevance"], committed_answers(file)
        again = earned_by({row["id"]: answer_kind(row["completion"]) for row in rows}, scores["right"])
        moved = set(again.get("abstained", [])) - set(scores["earned"].get("abstained", []))
        assert moved <= set(scores["earned"].get("unreadable", [])), file
        for kind in ANSWER_KINDS:
            assert set(again.get(kind, [])) - moved == set(scores["earned"].get(kind, [])) - moved, (file, kind)
        # What README and notebooks say in words: as it comes the model abstains nearly always, trained never.
        abstained = len(scores["earned"].get("abstained", [])) / len(rows)
        assert abstained >= 0.95 if file.parts[-3] == "base" else abstained == 0
        seen += 1
    assert seen


SCORE = re.compile(r"\d\s?%|\d of \d|(?<![\w.-])[01]\.\d|(?<!\w)[+-]\d")  # not a version, an address or a model's name
NO_SCORE = re.compile(r"\d+ of \d+ answered(, \d+\.\d+ per second)?|none, exact or near, of \d+ of")


def unsplit(text):
    """Sentences, and rows and cells of tables, with the word irrelevance beside a score and without its split."""
    found, heads = [], []
    for line in text.splitlines():
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            heads = heads if len(heads) == len(cells) else cells
            parts = [line] if "irrelevance" in cells[0] else []
            below = [(head, cell) for head, cell in zip(heads, cells) if "irrelevance" in head and cell != head]
            parts += [f"irrelevance {cell}" for _, cell in below]
        else:
            heads, parts = [], re.split(r"(?<=[.!?])\s+(?=[A-Z*`(])", line)
        for part in parts:
            if "irrelevance" in part.lower() and SCORE.search(NO_SCORE.sub("", part)) and "abstain" not in part:
                found.append(part)
    return found


def as_text(html):
    """The rows of an HTML table as those of a Markdown table."""
    html = re.sub(r"<style.*?</style>", "", html, flags=re.DOTALL)
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in html.split("<tr")]
    rows = [[unescape(re.sub(r"<[^>]+>|\n", " ", cell)) for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def published():
    """(name, text) of all that a reader of the repository sees: documents, and text and outputs of notebooks."""
    for file in [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md"), *REPOSITORY.glob("assets/*.md")]:
        yield file.name, file.read_text(encoding="utf-8")
    for file in REPOSITORY.glob("notebooks/*.ipynb"):
        for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
            texts = ["".join(cell["source"])] if cell["cell_type"] == "markdown" else []
            for output in cell.get("outputs", []):
                texts += ["".join(output.get("text", ""))]
                texts += [as_text("".join(output.get("data", {}).get("text/html", "")))]
            yield f"{file.name} {cell['id']}", "\n".join(texts)


def test_irrelevance_never_stands_beside_a_number_that_is_not_split():
    assert {name: found for name, text in published() if (found := unsplit(text))} == {}


@pytest.mark.parametrize(
    "unsplit_text, split",
    [
        ("BFCL irrelevance: `grpo` 5.0%, +5.5 points (it is right to call nothing).", "irrelevance 5.0%: 0 abstained"),
        ("Calls 3 of 4. Garbage scores 1.00 on irrelevance.", "1.00 on irrelevance, where it abstains on 0 of 4."),
        ("| part | base |\n|---|---|\n| `BFCL irrelevance` | 100.0% |", "| `BFCL irrelevance, abstained` | 100.0% |"),
        ("| model | irrelevance |\n| `base` | 9 of 10 |", "| model | irrelevance |\n| `base` | 9 of 10: 0 abstained |"),
        ("irrelevance: 4 of 4 right", "irrelevance: 2 of 4 answered, 0.39 per second"),
    ],
)  # fmt: skip
def test_the_search_for_unsplit_numbers_can_fail(unsplit_text, split):
    assert unsplit(unsplit_text) and not unsplit(split)


def test_tables_of_notebooks_are_read():
    table = "<table><tr><th>model</th><th>irrelevance</th></tr><tr><td>base</td><td>4 of 4</td></tr></table>"
    assert unsplit(as_text(table)) == ["irrelevance 4 of 4"]


def test_held_out_rows_without_a_call_are_told_apart(monkeypatch):
    """Three right of five is one of two calls and two of three abstentions; two attempts are not abstentions."""
    rows = [[{"name": "get_weather", "arguments": {}}], [{"name": "f.g", "arguments": {}}], [], [], []]
    turns = [{"role": "user", "content": "hi"}]
    asked = [ToolSample(str(n), "own", turns, TOOLS, calls) for n, calls in enumerate(rows)]
    samples, said = asked[:], [
        '<think>x</think><tool_call>{"name": "get_weather", "arguments": {}}</tool_call>', "<think>x</think>",
        "<think>no tool fits</think>", "<think>no</think>", "<think>x</think><tool_call>{bad}</tool_call>",
    ]  # fmt: skip
    monkeypatch.setattr(accuracy, "render_prompt", lambda *_, **__: "")
    monkeypatch.setattr(accuracy, "generate", lambda *_, **__: said[: len(samples)])
    found = accuracy.evaluate(None, None, samples, 8)
    assert found["zero_shot"] == 0.6 and found["no_call"] == {
        "rows": 3, "right": 2 / 3, "kinds": {"abstained": 2 / 3, "unreadable": 1 / 3}, "right_with_call": 0.5,
    }  # fmt: skip
    del samples[2:]
    assert "no_call" not in accuracy.evaluate(None, None, samples, 8)
    samples[:], said[:] = asked[2:3], ["I cannot help."]
    found = accuracy.evaluate(None, None, samples, 8)
    assert found["zero_shot"] == 0, "the form asks for a thought"
    assert found["no_call"] == {"rows": 1, "right": 0, "kinds": {"abstained": 1}, "right_with_call": None}
