"""Self-Exemplifying Thinking: what counts as an example that the policy wrote for itself, and what it is paid.

The paper's second idea: 0.01 for a model that writes and analyses its own few-shot example before it answers. The
abstract gives the sum and no more; the form is our assumption, with the call blocks of `calls.py`:

    <think><example>
    book a taxi in lima for friday paid in yen
    <tool_call>
    {"name": "book_taxi", "arguments": {"city": "LIM", "day": "d5", "currency": "JPY"}}
    </tool_call>
    the tool takes codes
    </example>
    call book_taxi</think>
    <tool_call> ... the answer ... </tool_call>

A query of its own, one call to a listed tool that its schema allows, and a few words of analysis, all in the think
block. Whether the call is *right* for its query is not asked, as the paper does not pay for it; where the world can
tell, it is measured. Completions are hostile input: nothing here raises on them, or takes longer than linear time.
"""

import json
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from ..base.schemas import SchemaFault, broken_keyword
from ..base.words import words
from .calls import CALL_CLOSE, CALL_OPEN, THINK_OPEN, completion_text, parse_completion, read_call_block, same_value
from .rewards import quantise
from .samples import from_json, tool_name

EXAMPLE_OPEN, EXAMPLE_CLOSE = "<example>", "</example>"
MAX_EXAMPLE_CHARS = 2_000  # our assumption: some 500 tokens, several times the longest real call
LEAST_WORDS = 3  # of a query, and of an analysis (our assumption)

EXAMPLE_REASONS = {
    "ok": "a query of its own, a call that its tool's schema allows, and an analysis",
    "none": "there is no <example> in the think block",
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
    "same_values": "strict rule only: the example shares an argument with the answer that follows it",
}


@dataclass(frozen=True)
class ExampleVerdict:
    """Judgement of one think block: reason code (of `EXAMPLE_REASONS`), and the example's parts as far as read."""

    reason: str
    query: str = ""
    call: dict | None = None
    analysis: str = ""


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
    whole = completion_text(completion)
    parsed = parse_completion(whole)
    text = parsed.think
    if text is None:  # no think block, or one that was not read
        begun = whole.lstrip().startswith(THINK_OPEN) and EXAMPLE_OPEN in whole
        unread = {"truncated": "unclosed", "too_long": "too_long"}
        return ExampleVerdict(unread.get(parsed.reason, "none") if begun else "none")
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
    """A reward function of its own beside the task reward: `bonus` for a valid example, else 0.

    Kept apart, so that nothing that asks "was it right?" (a pool, the logs) ever sees the bonus. Logs "examples/rate",
    the share of rollouts with a valid example, and "examples/tried", the share with any; where `answer` is given, also
    "examples/right", the share of the valid ones whose call is right for their own query, and "examples/senseless",
    those whose query is none that the world knows (both left out while there is no valid one).

    Args:
        bonus: paid per valid example (0.01: the paper's abstract), quantised as all rewards are.
        gated: pay only where the task reward is right too.
        strict: the stricter rule of `judge_example`.
        task_reward: the reward function whose 1.0 means right; needed when gated.
        answer: function of a query that gives its right call, or None for a query the world does not know.
    """

    def __init__(self, bonus, gated=False, strict=False, task_reward=None, answer=None):
        self.bonus, self.gated, self.strict = quantise(bonus), gated, strict
        self.task_reward, self.answer = task_reward, answer
        self.__name__ = "example_bonus"

    def __call__(self, prompts, completions, calls, tools, log_metric=None, **columns):
        verdicts = judge_examples(prompts, completions, tools, self.strict)
        valid = [v for v in verdicts if v.reason == "ok"]
        if log_metric is not None and verdicts:
            log_metric("examples/rate", len(valid) / len(verdicts))
            log_metric("examples/tried", sum(v.reason != "none" for v in verdicts) / len(verdicts))
            if valid and self.answer:
                answers = [self.answer(v.query) for v in valid]
                log_metric("examples/right", sum(v.call == a for v, a in zip(valid, answers)) / len(valid))
                log_metric("examples/senseless", sum(a is None for a in answers) / len(valid))
        paid = [self.bonus * (v.reason == "ok") for v in verdicts]
        if self.gated:
            right = self.task_reward(prompts=prompts, completions=completions, calls=calls, tools=tools)
            paid = [p * (r >= 1) for p, r in zip(paid, right)]
        return paid


def judge_examples(prompts, completions, tools, strict=False):
    """Columns as the trainer hands them over (N each; tools as lists or JSON text) -> N `ExampleVerdict`s."""
    return [
        judge_example(c, p if isinstance(p, str) else _prompt_text(p), from_json(t), strict)
        for p, c, t in zip(prompts, completions, tools, strict=True)
    ]


def _prompt_text(messages):
    """All that stands in a prompt of messages: a demonstration may be a turn of its own -> str."""
    return "\n".join(m["content"] for m in messages if isinstance(m.get("content"), str))


def example_reasons(prompts, completions, tools):
    """Reason code -> number of completions: what became of the examples of a group."""
    return dict(Counter(v.reason for v in judge_examples(prompts, completions, tools)))
