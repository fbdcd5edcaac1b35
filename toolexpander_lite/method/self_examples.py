"""Self-Exemplifying Thinking: what counts as examples that the policy wrote for itself, and what they are paid.

The paper's second idea (section 4.2): before the thinking, examples as JSON with tool, question and answer, for the
tools on offer; then an analysis of them and the user's question. Here both stand inside the think block (ours):

    <think><examples>[{"tool": "book_taxi", "question": "a taxi in lima", "answer": {...}}, ...]</examples>
    what they show</think>
    <tool_call> ... the answer ... </tool_call>

The reward is 1.01 when result, format and examples are right, 1 without the examples, else 0: the hundredth is paid
only with a right answer, and only for *more than 3 distinct* examples that can be read as JSON. Nothing else about them
is asked. Whether an answer is *right* for its question no rule asks; where the world can tell, it is measured.
Completions are hostile input: nothing here raises on them, or takes longer than linear time.
"""

import json
import re
from dataclasses import dataclass

from ..base.chat import CALL_CLOSE, CALL_OPEN, THINK_OPEN
from ..base.strict_json import read_json
from .calls import completion_text, parse_completion, whole_answer
from .rewards import quantise

BLOCK_OPEN, BLOCK_CLOSE = "<examples>", "</examples>"
EXAMPLES_NEEDED = 4  # "more than 3" (section 4.2)

REASONS = {
    "ok": "enough distinct examples, each with tool, question and answer",
    "none": "there is no <examples> block in the think block",
    "unclosed": "the block is never closed inside the think block, or that is never closed",
    "too_long": "the completion has too many characters to be read",
    "bad_json": "the block does not hold strict JSON values",
    "tags": "a tag stands inside the block, or there is a second block",
    "bad_example": 'JSON that is not {"tool": string, "question": string, "answer": ...}',
    "too_few": "there are fewer distinct examples than needed",
}
_UNREAD = {"truncated": "unclosed", "too_long": "too_long"}  # what became of a think block that was not read
_BETWEEN = re.compile(r"[\s,]*")


@dataclass(frozen=True)
class ExamplesVerdict:
    """Judgement of a think block: reason code (of `REASONS`), distinct examples as far as read, number with repeats."""

    reason: str
    examples: list = ()
    read: int = 0


def think_block(completion, opening):
    """The think block of a completion that may hold examples in a tag -> (its text or None, `ParsedCompletion`, why).

    Why there is no text: "none", "unclosed" or "too_long"; "" where there is one.
    """
    whole = completion_text(completion)
    parsed = parse_completion(whole)
    if parsed.think is not None:
        return parsed.think, parsed, ""
    begun = whole.lstrip().startswith(THINK_OPEN) and opening in whole
    return None, parsed, _UNREAD.get(parsed.reason, "none") if begun else "none"


def judge_examples_block(completion, needed=EXAMPLES_NEEDED):
    """The paper's rule: are there `needed` distinct examples in the thinking's <examples> block? -> `ExamplesVerdict`.

    The block holds JSON objects with tool, question and answer, one after the other or in a list.
    """
    think, _, unread = think_block(completion, BLOCK_OPEN)
    if unread:
        return ExamplesVerdict(unread)
    _, opened, rest = think.partition(BLOCK_OPEN)
    body, closed, after = rest.partition(BLOCK_CLOSE)
    if not opened:
        return ExamplesVerdict("none")
    if BLOCK_OPEN in after or any(tag in body for tag in (BLOCK_OPEN, THINK_OPEN, CALL_OPEN, CALL_CLOSE)):
        return ExamplesVerdict("tags")
    if not closed:
        return ExamplesVerdict("unclosed")
    found, place, read = {}, 0, 0
    try:
        while (place := _BETWEEN.match(body, place).end()) < len(body):
            value, place = read_json(body, place)
            for example in value if isinstance(value, list) else [value]:
                if not (isinstance(example, dict) and example.keys() >= {"tool", "question", "answer"}
                        and isinstance(example["tool"], str) and isinstance(example["question"], str)):  # fmt: skip
                    return ExamplesVerdict("bad_example", list(found.values()))
                found[json.dumps(example, sort_keys=True)] = example
                read += 1
    except ValueError:
        return ExamplesVerdict("bad_json", list(found.values()))
    return ExamplesVerdict("ok" if len(found) >= needed else "too_few", list(found.values()), read)


class ExampleBonus:
    """A reward function of its own beside the task reward: `bonus` for valid examples with a right answer, else 0.

    Kept apart, so that nothing that asks "was it right?" (a pool, the logs) ever sees the bonus. Logs "examples/rate",
    the share of rollouts with valid examples, and "examples/tried", the share with any; where `answer` is given, also
    "examples/right", the share of the valid ones whose answer is right for their own question, and
    "examples/senseless", those whose question is none that the world knows (left out while there is no valid one).

    Args:
        bonus: paid per answer with valid examples (section 4.2: 0.01).
        task_reward: the reward function whose 1.0 means right (the gate); None pays whatever the answer.
        needed: distinct examples.
        answer: function of a question that gives its right call, or None for a question the world does not know.
    """

    def __init__(self, bonus, task_reward, needed=EXAMPLES_NEEDED, answer=None):
        self.bonus, self.task_reward, self.needed, self.answer = quantise(bonus), task_reward, needed, answer
        self.__name__ = "example_bonus"

    def __call__(self, prompts, completions, calls, tools, log_metric=None, **columns):
        verdicts = self._judge(prompts, completions, tools)
        if log_metric is not None and verdicts:
            self._log(verdicts, log_metric)
        paid = [self.bonus * (v.reason == "ok") for v in verdicts]
        if self.task_reward is None:
            return paid
        right = self.task_reward(prompts=prompts, completions=completions, calls=calls, tools=tools, **columns)
        return [p * (r >= 1) for p, r in zip(paid, right)]

    def _judge(self, prompts, completions, tools):
        return [judge_examples_block(whole_answer(p, c), self.needed) for p, c in zip(prompts, completions)]

    def _shown(self, verdict):
        """[(question, answer)] of a verdict's examples."""
        return [(example["question"], example["answer"]) for example in verdict.examples]

    def _log(self, verdicts, log_metric):
        valid = [v for v in verdicts if v.reason == "ok"]
        log_metric("examples/rate", len(valid) / len(verdicts))
        log_metric("examples/tried", sum(v.reason != "none" for v in verdicts) / len(verdicts))
        shown = [pair for v in valid for pair in self._shown(v)]
        if shown and self.answer:
            answers = [self.answer(question) for question, _ in shown]
            log_metric("examples/right", sum(call == a for (_, call), a in zip(shown, answers)) / len(shown))
            log_metric("examples/senseless", sum(a is None for a in answers) / len(shown))
