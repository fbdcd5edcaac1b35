"""Self-Exemplifying Thinking: what counts as an example that the policy wrote for itself, and what it is paid.

The paper's second idea (section 4.2): inside the thinking and before the call, examples as JSON with tool, question and
answer, for the tools on offer; then an analysis of them together with the user's question:

    <think><examples>[{"tool": "book_taxi", "question": "a taxi in lima", "answer": {...}}, ...]</examples>
    what they show</think>
    <tool_call> ... the answer ... </tool_call>

The reward is 1.01 when result, format and examples are right, 1 without the examples, else 0: the hundredth is paid
only with a right answer, and only for *more than 3 distinct* examples that can be read as JSON. Nothing else about them
is asked (`judge_examples_block`).

The kit's first rule, from before the paper's text was read, is kept as a departure (`judge_example`): one `<example>`
with a query of its own, one call to a listed tool that its schema allows, and a few words of analysis. Whether a call
is *right* for its query no rule asks; where the world can tell, it is measured. Completions are hostile input: nothing
here raises on them, or takes longer than linear time.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from ..base.chat import CALL_CLOSE, CALL_OPEN, THINK_OPEN
from ..base.strict_json import read_json, same_value
from ..base.words import words
from .calls import completion_text, parse_completion, read_call_block, whole_answer
from .rewards import quantise
from .samples import from_json, tool_name

EXAMPLE_OPEN, EXAMPLE_CLOSE = "<example>", "</example>"
MAX_EXAMPLE_CHARS = 2_000  # our assumption: some 500 tokens, several times the longest real call
LEAST_WORDS = 3  # of a query, and of an analysis (our assumption)
BLOCK_OPEN, BLOCK_CLOSE = "<examples>", "</examples>"
EXAMPLES_NEEDED = 4  # "more than 3" (the paper)

EXAMPLE_REASONS = {
    "ok": "a query of its own, a call that its tool's schema allows, and an analysis",
    "none": "there is no <example> or <examples> in the think block",
    "unclosed": "the example is never closed inside the think block, or that block is never closed",
    "repeated": "there is a second example, or one inside the other",
    "too_long": f"the example has more than {MAX_EXAMPLE_CHARS} characters, or the completion too many to be read",
    "no_call": "there is no call block in the example",
    "bad_json": "the call block does not hold one strict JSON value",
    "bad_call": 'the call block holds JSON, but not {"name": string, "arguments": object}',
    "extra_call": "there is more than one call block in the example",
    "no_query": f"fewer than {LEAST_WORDS} words stand before the call",
    "unknown_tool": "the called tool is not on offer",
    "bad_arguments": "the tool's schema does not allow the arguments",
    "copied_query": "the query stands in the prompt already: it is the prompt's own or a demonstration's",
    "no_analysis": f"fewer than {LEAST_WORDS} words stand after the call",
    "tags": "list rule only: a tag stands inside the block, or a second block",
    "bad_example": 'list rule only: JSON that is not {"tool": string, "question": string, "answer": ...}',
    "too_few": "list rule only: there are fewer distinct examples than needed",
    "same_values": "strict rule only: the example shares an argument with the answer that follows it",
}


_UNREAD = {"truncated": "unclosed", "too_long": "too_long"}  # what became of a think block that was not read


@dataclass(frozen=True)
class ExampleVerdict:
    """Judgement of one think block: reason code (of `EXAMPLE_REASONS`), and the example's parts as far as read."""

    reason: str
    query: str = ""
    call: dict | list | None = None
    analysis: str = ""


_BETWEEN = re.compile(r"[\s,]*")


def judge_examples_block(completion, needed=EXAMPLES_NEEDED):
    """The paper's rule: are there `needed` distinct examples in the thinking's <examples> block? -> `ExampleVerdict`.

    The block holds JSON objects with tool, question and answer, one after the other or in a list; `call` is the list of
    the distinct ones. "too_long" is a completion beyond `calls.MAX_CHARS`.
    """
    whole = completion_text(completion)
    parsed = parse_completion(whole)
    if parsed.think is None:
        begun = whole.lstrip().startswith(THINK_OPEN) and BLOCK_OPEN in whole
        return ExampleVerdict(_UNREAD.get(parsed.reason, "none") if begun else "none")
    _, opened, rest = parsed.think.partition(BLOCK_OPEN)
    body, closed, after = rest.partition(BLOCK_CLOSE)
    if not opened:
        return ExampleVerdict("none")
    if BLOCK_OPEN in after or any(tag in body for tag in (BLOCK_OPEN, THINK_OPEN, CALL_OPEN, CALL_CLOSE)):
        return ExampleVerdict("tags")
    if not closed:
        return ExampleVerdict("unclosed")
    found, place = {}, 0
    try:
        while (place := _BETWEEN.match(body, place).end()) < len(body):
            value, place = read_json(body, place)
            for example in value if isinstance(value, list) else [value]:
                if not (isinstance(example, dict) and example.keys() >= {"tool", "question", "answer"}
                        and isinstance(example["tool"], str) and isinstance(example["question"], str)):  # fmt: skip
                    return ExampleVerdict("bad_example", call=list(found.values()))
                found[json.dumps(example, sort_keys=True)] = example
    except ValueError:
        return ExampleVerdict("bad_json", call=list(found.values()))
    return ExampleVerdict("ok" if len(found) >= needed else "too_few", call=list(found.values()))


def example_text(query, call, analysis):
    """An example in the form above -> str."""
    block = json.dumps(call, ensure_ascii=False)
    return f"{EXAMPLE_OPEN}\n{query}\n{CALL_OPEN}\n{block}\n{CALL_CLOSE}\n{analysis}\n{EXAMPLE_CLOSE}\n"


def judge_example(completion, prompt, tools, strict=False):
    """Is there a valid self-written example in the completion's think block? -> `ExampleVerdict`.

    Args:
        completion: str, or messages as TRL hands them over.
        prompt: the rendered prompt. A query that stands in it, be it the sample's own or a demonstration's, is copied.
        tools: JSON Schemas of the tools on offer.
        strict: also refuse an example that shares an argument with the answer that follows it (our
            assumption: what a policy would do that is paid for examples and not for their use).
    """
    whole = completion_text(whole_answer(prompt, completion))
    parsed = parse_completion(whole)
    text = parsed.think
    if text is None:  # no think block, or one that was not read
        begun = whole.lstrip().startswith(THINK_OPEN) and EXAMPLE_OPEN in whole
        return ExampleVerdict(_UNREAD.get(parsed.reason, "none") if begun else "none")
    start = text.find(EXAMPLE_OPEN)
    if start < 0:
        return ExampleVerdict("none")
    start += len(EXAMPLE_OPEN)
    end = text.find(EXAMPLE_CLOSE, start)
    if text.find(EXAMPLE_OPEN, start) >= 0:
        return ExampleVerdict("repeated")
    if end < 0:
        return ExampleVerdict("unclosed")
    if end - start > MAX_EXAMPLE_CHARS:
        return ExampleVerdict("too_long")
    verdict = _judge_inside(text[start:end], prompt, tools)
    if strict and verdict.reason == "ok" and _shared(verdict.call, parsed.calls):
        return ExampleVerdict("same_values", verdict.query, verdict.call, verdict.analysis)
    return verdict


def _judge_inside(body, prompt, tools):
    query, block, _ = body.partition(CALL_OPEN)
    told = {"query": query.strip()}
    if not block:
        return ExampleVerdict("no_call", **told)
    call, end, problem = read_call_block(body, len(query) + len(CALL_OPEN))
    if problem:  # cut short or not, inside a closed example it is a faulty block
        return ExampleVerdict("bad_call" if problem[0] == "bad_call" else "bad_json", **told)
    told |= {"call": call, "analysis": body[end:].strip()}
    if CALL_OPEN in told["analysis"] or CALL_CLOSE in told["analysis"]:
        return ExampleVerdict("extra_call", **told)
    if len(words(query)) < LEAST_WORDS:
        return ExampleVerdict("no_query", **told)
    if (reason := _call_reason(call, tools)) != "ok":
        return ExampleVerdict(reason, **told)
    if f" {' '.join(words(query))} " in _normal(prompt):
        return ExampleVerdict("copied_query", **told)
    if len(words(told["analysis"])) < LEAST_WORDS:
        return ExampleVerdict("no_analysis", **told)
    return ExampleVerdict("ok", **told)


def _call_reason(call, tools):
    for tool in tools:
        if tool_name(tool) == call["name"]:
            return "ok" if _allows(tool, call["arguments"]) else "bad_arguments"
    return "unknown_tool"


def _allows(tool, arguments):
    """Does a tool's schema allow the arguments? A schema that is faulty itself allows all: not the model's fault."""
    from ..base.schemas import SchemaFault, broken_keyword  # late: takes longer to import than all of the method

    try:
        return broken_keyword(tool["function"].get("parameters", {}), arguments) is None
    except SchemaFault:
        return True


def _shared(call, others):
    """Does a call have an argument in common with one of the others? Without arguments: is it the same call?"""
    own = call["arguments"]
    return any(
        any(name in own and same_value(own[name], value) for name, value in other["arguments"].items())
        or (call["name"] == other["name"] and not own and not other["arguments"])
        for other in others
    )


@lru_cache(maxsize=4096)
def _normal(text):
    return f" {' '.join(words(text))} "


class ExampleBonus:
    """A reward function of its own beside the task reward: `bonus` for valid examples, else 0.

    Kept apart, so that nothing that asks "was it right?" (a pool, the logs) ever sees the bonus. Logs "examples/rate",
    the share of rollouts with valid examples, and "examples/tried", the share with any; where `answer` is given, also
    "examples/right", the share of the valid ones whose call is right for their own query, and "examples/senseless",
    those whose query is none that the world knows (both left out while there is no valid one).

    Args:
        bonus: paid per answer with valid examples (0.01: the paper).
        gated: pay only where the task reward is right too (the paper).
        strict: the stricter rule of `judge_example`.
        task_reward: the reward function whose 1.0 means right; needed when gated.
        answer: function of a query that gives its right call, or None for a query the world does not know.
        needed: distinct examples by `judge_examples_block`; 0 takes the rule of `judge_example`.
    """

    def __init__(self, bonus, gated=False, strict=False, task_reward=None, answer=None, needed=0):
        self.bonus, self.gated, self.strict, self.needed = quantise(bonus), gated, strict, needed
        self.task_reward, self.answer = task_reward, answer
        self.__name__ = "example_bonus"

    def __call__(self, prompts, completions, calls, tools, log_metric=None, **columns):
        verdicts = judge_examples(prompts, completions, tools, self.strict, self.needed)
        if log_metric is not None and verdicts:
            self._log(verdicts, log_metric)
        paid = [self.bonus * (v.reason == "ok") for v in verdicts]
        if self.gated:
            right = self.task_reward(prompts=prompts, completions=completions, calls=calls, tools=tools, **columns)
            paid = [p * (r >= 1) for p, r in zip(paid, right)]
        return paid

    def _log(self, verdicts, log_metric):
        valid = [v for v in verdicts if v.reason == "ok"]
        log_metric("examples/rate", len(valid) / len(verdicts))
        log_metric("examples/tried", sum(v.reason != "none" for v in verdicts) / len(verdicts))
        shown = [(e["question"], e["answer"]) for v in valid for e in v.call] if self.needed else [
            (v.query, v.call) for v in valid]  # fmt: skip
        if shown and self.answer:
            answers = [self.answer(query) for query, _ in shown]
            log_metric("examples/right", sum(call == a for (_, call), a in zip(shown, answers)) / len(shown))
            log_metric("examples/senseless", sum(a is None for a in answers) / len(shown))


def judge_examples(prompts, completions, tools, strict=False, needed=0):
    """Columns as the trainer hands them over (N each; tools as lists or JSON text) -> N `ExampleVerdict`s."""
    if needed:
        return [judge_examples_block(whole_answer(p, c), needed) for p, c in zip(prompts, completions)]
    return [
        judge_example(c, p if isinstance(p, str) else _prompt_text(p), from_json(t), strict)
        for p, c, t in zip(prompts, completions, tools, strict=True)
    ]


def _prompt_text(messages):
    """All that stands in a prompt of messages: a demonstration may be a turn of its own -> str."""
    return "\n".join(m["content"] for m in messages if isinstance(m.get("content"), str))


def example_reasons(prompts, completions, tools, needed=0):
    """Reason code -> number of completions: what became of the examples of a group."""
    return dict(Counter(v.reason for v in judge_examples(prompts, completions, tools, needed=needed)))
