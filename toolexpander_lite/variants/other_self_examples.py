"""One self-written example, by the kit's own rule, and a bonus that need not ask for a right answer.

The kit's first reading of Self-Exemplifying Thinking, from before the paper's text was read, kept as a departure: one
`<example>` with a query of its own, one call to a listed tool that its schema allows, and a few words of analysis
(`judge_example`). The paper's rule is in `method.self_examples`. Nothing here raises on a completion either.
"""

import json
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from ..base.chat import CALL_CLOSE, CALL_OPEN
from ..base.split_words import words
from ..base.strict_json import same_value
from ..method.calls import parse_completion, read_call_block, whole_answer
from ..method.samples import from_json, tool_name
from ..method.self_examples import ExampleBonus, judge_examples_block, think_block

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
    text, parsed, unread = think_block(whole_answer(prompt, completion), EXAMPLE_OPEN)
    if unread:
        return ExampleVerdict(unread)
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
    read = {"query": query.strip()}
    if not block:
        return ExampleVerdict("no_call", **read)
    call, end, problem = read_call_block(body, len(query) + len(CALL_OPEN))
    if problem:  # cut short or not, inside a closed example it is a faulty block
        return ExampleVerdict("bad_call" if problem[0] == "bad_call" else "bad_json", **read)
    read |= {"call": call, "analysis": body[end:].strip()}
    if CALL_OPEN in read["analysis"] or CALL_CLOSE in read["analysis"]:
        return ExampleVerdict("extra_call", **read)
    if len(words(query)) < LEAST_WORDS:
        return ExampleVerdict("no_query", **read)
    if (reason := _call_reason(call, tools)) != "ok":
        return ExampleVerdict(reason, **read)
    if f" {' '.join(words(query))} " in _normal(prompt):
        return ExampleVerdict("copied_query", **read)
    if len(words(read["analysis"])) < LEAST_WORDS:
        return ExampleVerdict("no_analysis", **read)
    return ExampleVerdict("ok", **read)


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


class OneExampleBonus(ExampleBonus):
    """An `ExampleBonus` by the rule of `judge_example`, `strict` or not; `task_reward` None is ungated."""

    def __init__(self, bonus, task_reward=None, strict=False, answer=None):
        super().__init__(bonus, task_reward, answer=answer)
        self.strict = strict

    def _judge(self, prompts, completions, tools):
        return judge_examples(prompts, completions, tools, self.strict)

    def _shown(self, verdict):
        return [(verdict.query, verdict.call)]


def judge_examples(prompts, completions, tools, strict=False, needed=0):
    """Columns as the trainer hands them over (N each; tools as lists or JSON text) -> N verdicts.

    By `judge_example`; with `needed`, by the paper's rule, of so many distinct examples.
    """
    if needed:
        return [judge_examples_block(whole_answer(p, c), needed) for p, c in zip(prompts, completions)]
    return [
        judge_example(c, p if isinstance(p, str) else _prompt_text(p), from_json(t), strict)
        for p, c, t in zip(prompts, completions, tools, strict=True)
    ]


def _prompt_text(messages):
    """All that stands in a prompt of messages: a demonstration may be a turn of its own -> str."""
    return "\n".join(m["content"] for m in messages if isinstance(m.get("content"), str))


def trivial_share(prompts, completions):
    """Of the examples in blocks that can be read: those that show nothing new -> share, None where there are none.

    Such are repeats within the block, the prompt's own question or a demonstration's, and the very call that follows
    as the answer. By the paper's form, whether or not there are enough of them.
    """
    read = trivial = 0
    for prompt, completion in zip(prompts, completions):
        whole = whole_answer(prompt, completion)
        verdict = judge_examples_block(whole, 1)
        if not verdict.read:
            continue
        text = _normal(prompt if isinstance(prompt, str) else _prompt_text(prompt))
        calls = parse_completion(whole).calls
        old = sum(f" {' '.join(words(e['question']))} " in text or any(same_value(e["answer"], call) for call in calls)
                  for e in verdict.examples)  # fmt: skip
        read += verdict.read
        trivial += old + verdict.read - len(verdict.examples)
    return trivial / read if read else None


def example_reasons(prompts, completions, tools, needed=0):
    """Reason code -> number of completions: what became of the examples of a group."""
    return dict(Counter(v.reason for v in judge_examples(prompts, completions, tools, needed=needed)))
