"""Reading tool calls out of completions, and comparing them with the gold calls.

A completion is one think block, then one block per call (the Hermes style that Qwen2.5 is trained on):

    <think>The user wants a sum.</think>
    <tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}</tool_call>

Everything up to the first `</think>` is thinking, tags and all, so a worked example call in there is
never taken for a call. After it come only call blocks and whitespace. Completions are hostile input:
nothing here evaluates them, raises on them, or takes longer than linear time in their length.
"""

import re
from dataclasses import dataclass

from ..base.chat import CALL_CLOSE, CALL_OPEN, THINK_CLOSE, THINK_OPEN
from ..base.spelled_defaults import DEFAULTS_RULE, without_defaults
from ..base.strict_json import read_json, same_value
from .samples import tool_name

MAX_CHARS = 20_000  # our assumption: some 5,000 tokens, ten times the longest completion of any profile

REASONS = {
    "ok": "format and calls are right",
    "too_long": f"the completion has more than {MAX_CHARS} characters and was not read",
    "truncated": "a block is opened and never closed: the completion was probably cut at the token limit",
    "no_think": "the completion does not open with a <think> block",
    "extra_text": "there is text outside the blocks",
    "bad_json": "a call block does not hold one strict JSON value",
    "bad_call": 'a call block holds JSON, but not {"name": string, "arguments": object}',
    "no_call": "there is no call block after the think block",
    "unknown_tool": "the called tool is not on offer",
    "missing_call": "there are fewer calls than in the gold answer",
    "extra_call": "there are more calls than in the gold answer",
    "wrong_name": "the called tool is on offer, but is not the right one",
    "missing_argument": "an argument of the gold call is not given",
    "extra_argument": "an argument is given that the gold call does not have",
    "wrong_argument": "an argument has another value, or type, than in the gold call",
}


@dataclass(frozen=True)
class ParsedCompletion:
    """What was read from one completion.

    Attributes:
        think: text of the think block, outer whitespace removed; None without such a block.
        calls: all calls in order, `{"name": str, "arguments": dict}`; [] when any block is unreadable.
        reason: "ok", or the key of `REASONS` for the first fault in reading order.
        detail: what the reason is about, in words; "" when ok.
    """

    think: str | None
    calls: list
    reason: str
    detail: str


@dataclass(frozen=True)
class Match:
    """Whether predicted calls are the gold calls; `reason` and `detail` as in `ParsedCompletion`."""

    ok: bool
    reason: str
    detail: str


@dataclass(frozen=True)
class Verdict:
    """Judgement of one completion: is it well formed, are its calls right, and if not, why not."""

    format_ok: bool
    call_ok: bool
    reason: str
    detail: str
    parsed: ParsedCompletion


def completion_text(completion):
    """Text of a completion as TRL has it, a str or `[{"role": "assistant", "content": str}]`; else `TypeError`."""
    if isinstance(completion, str):
        return completion
    try:
        [message] = completion
        return "" + message["content"]
    except (TypeError, ValueError, KeyError):
        raise TypeError(f"not a str or [{{'role', 'content': str}}]: {_short(completion)}") from None


def opened_think(prompt):
    """What of the answer a rendered prompt (str) has written already: "", "<think>", or a think block that is empty.

    Some chat templates open the think block for the model (Qwen3.5, Nemotron 3), or close an empty one where they want
    no thoughts. That belongs to the answer. A prompt that is given as messages opens nothing.
    """
    end = prompt.rstrip() if isinstance(prompt, str) else ""
    if end.endswith(THINK_CLOSE):
        return f"{THINK_OPEN}{THINK_CLOSE}\n"
    return THINK_OPEN if end.endswith(THINK_OPEN) else ""


def whole_answer(prompt, completion):
    """A completion with what its prompt has opened in front, unless it opens a think block itself; of the same type."""
    opened = opened_think(prompt)
    text = completion_text(completion) if opened else ""
    if not opened or text.lstrip().startswith(THINK_OPEN):
        return completion
    return opened + text if isinstance(completion, str) else [{**completion[0], "content": opened + text}]


def whole_answers(prompts, completions):
    """`whole_answer` of each pair -> list."""
    return [whole_answer(prompt, completion) for prompt, completion in zip(prompts, completions, strict=True)]


def parse_completion(text, think=True):
    """Completion (str) -> `ParsedCompletion`. Never raises on a string; linear time, at most `MAX_CHARS`.

    `think`: is the thinking asked for? Without, it may be left out, as in the paper's first idea. Our reading rules:
      - thinking runs to the first `</think>`; a second think block is extra text; an empty one is fine;
      - a missing think block or extra text is a fault, but the calls are read: graded rewards tell it from "no call";
      - a block that cannot be read ends the reading and voids all calls: half an answer is no answer.
    """
    if len(text) > MAX_CHARS:
        return ParsedCompletion(None, [], "too_long", f"{len(text)} characters")
    opened = text.lstrip().startswith(THINK_OPEN)
    before, close, after = text.partition(THINK_CLOSE)
    if opened and not close:
        return ParsedCompletion(None, [], "truncated", f"{THINK_OPEN} is never closed")
    fault = None if opened or not (think or close) else ("no_think", f"it opens with {_short(text.lstrip()[:40])}")
    think = before.lstrip().removeprefix(THINK_OPEN).strip() if opened else None
    body, position, calls = after if close else text, 0, []
    while True:
        block = body.find(CALL_OPEN, position)
        outside = body[position : block if block >= 0 else None].strip()
        if outside:
            fault = fault or ("extra_text", _short(outside[:60]))
        if block < 0:
            break
        call, position, problem = read_call_block(body, block + len(CALL_OPEN))
        if problem:
            return ParsedCompletion(think, [], *(fault or problem))
        calls.append(call)
    outcome = ("ok", "") if calls else ("no_call", "nothing follows the think block")
    return ParsedCompletion(think, calls, *(fault or outcome))


def read_call_block(text, start):
    """Call block whose inside begins at `start` -> (call, end of the block, None or (reason, detail)).

    The reason is "truncated", "bad_json" or "bad_call", see `REASONS`; the call is then None.
    """
    try:
        value, end = read_json(text, _SPACE.match(text, start).end())
        end = _SPACE.match(text, end).end()
        if not text.startswith(CALL_CLOSE, end):
            raise ValueError(f"after the JSON comes {_short(text[end : end + 40])}, not {CALL_CLOSE}")
    except ValueError as error:
        if text.find(CALL_CLOSE, start) < 0:
            return None, start, ("truncated", f"{CALL_OPEN} is never closed")
        return None, start, ("bad_json", str(error)[:120])
    good = isinstance(value, dict) and value.keys() == {"name", "arguments"}
    if not (good and isinstance(value["name"], str) and isinstance(value["arguments"], dict)):
        return None, end, ("bad_call", _short(value))
    return value, end + len(CALL_CLOSE), None


_SPACE = re.compile(r"\s*")


def match_calls(predicted, gold, tools=None):
    """Compare predicted with gold calls (lists of `{"name", "arguments"}`), in any order -> `Match`.

    Exact match: an optional argument spelled out with its default value is an extra argument, unless `spelled_defaults`
    says otherwise. If only the number of calls is right, the reason compares the first call left over with the closest
    gold call left over: same tool, then fewest faulty arguments, then text of the reason.
    `tools` are the JSON Schemas of the tools on offer; with None, no name counts as unknown.
    """
    if tools and DEFAULTS_RULE.get() == "same":
        predicted, gold = without_defaults(predicted, tools), without_defaults(gold, tools)
    listed = None if tools is None else {tool_name(tool) for tool in tools}
    unmatched, open_gold = [], list(gold)
    for call in predicted:
        if listed is not None and call["name"] not in listed:
            return Match(False, "unknown_tool", _short(call["name"]))
        # `same_value` is an equivalence, so striking out equal pairs one by one is the best assignment.
        hit = next((i for i, other in enumerate(open_gold) if same_value(call, other)), None)
        if hit is None:
            unmatched.append(call)
        else:
            del open_gold[hit]
    if not unmatched and not open_gold:
        return Match(True, "ok", "")
    if len(predicted) != len(gold):
        reason = "missing_call" if len(predicted) < len(gold) else "extra_call"
        return Match(False, reason, f"{len(predicted)} instead of {len(gold)}")
    return Match(False, *max(_difference(unmatched[0], other) for other in open_gold)[1:])


def _difference(call, gold):
    """(closeness, reason, detail) of the first difference; sorted, so that it is always the same one."""
    name, given, wanted = _short(call["name"]), call["arguments"], gold["arguments"]
    unequal = sorted(k for k in given.keys() & wanted.keys() if not same_value(given[k], wanted[k]))
    missing, extra = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    closeness = (call["name"] == gold["name"], -len(unequal + missing + extra))
    if call["name"] != gold["name"]:
        return closeness, "wrong_name", f"{name} instead of {_short(gold['name'])}"
    if missing:
        return closeness, "missing_argument", f"{name} without {_short(missing[0])}"
    if extra:
        return closeness, "extra_argument", f"{name} with {_short(extra[0])}"
    key = unequal[0]
    return closeness, "wrong_argument", f"{name}: {key!r} is {_short(given[key])}, not {_short(wanted[key])}"


def _plain_words(text):
    """Two different words at least, and nothing that may be meant as a call: no tag, no JSON, no code (our rule)."""
    words = text.rpartition(THINK_CLOSE)[2]
    return len(set(re.findall(r"[^\W\d_]+", words))) > 1 and not re.search(r"[<{\[`]|\w\(", words)


def _short(value):
    """`repr`, cut: details go to logs and tables, whatever the model wrote."""
    return f"{value!r:.60}"


def judge(completion, gold_calls, tools, think=True):
    """Completion (str or TRL messages), gold calls and tools on offer -> `Verdict`; `think` as in `parse_completion`.

    The reason is that of the format when it is at fault, else that of the calls. Without gold calls, thoughts and
    nothing after them are right, and without `think` plain words too; garbage is not, or a collapsed model would score.
    """
    parsed = parse_completion(text := completion_text(completion), think)
    abstains = parsed.reason == "no_call" and parsed.think is not None or not think and _plain_words(text)
    format_ok = parsed.reason == "ok" or (abstains and not gold_calls)
    match = match_calls(parsed.calls, gold_calls, tools)
    call_ok = match.ok and (format_ok or bool(gold_calls))
    told = match if format_ok else parsed
    return Verdict(format_ok, call_ok, told.reason, told.detail, parsed)
