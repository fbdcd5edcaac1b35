"""Reward functions in the signature of `trl.GRPOTrainer`.

A reward function is called once per generation batch of N completions, which are whole groups of
`num_generations` rollouts of one prompt, as `f(prompts, completions, **columns) -> N floats`. The
columns of the data set come as lists of length N (`calls` and `tools`, see `samples.to_dataset`), together
with TRL's own `completion_ids`, `trainer_state`, `log_extra` and `log_metric`.
"""

from functools import lru_cache

from ..base.spelled_defaults import DEFAULTS_RULE
from .calls import judge, whole_answers
from .samples import from_json

GRID = 2**12  # rewards are multiples of 1/GRID, see `quantise`


def quantise(reward):
    """A reward -> the nearest multiple of 1/4096 (float), or None for None. Every reward function of the kit does this.

    TRL takes a group's mean in float32. Of ten rewards of 1.01 the rounded sum is not ten times one of them: all ten
    get the advantage -0.0012 (1e-7 over std + 1e-4), Adam divides its size away, and a group without contrast moves the
    weights by the whole learning rate. Multiples of 1/4096 have exact sums in float32, up to 800 rewards of 5, so that
    equal rewards have their own value as the mean, and the advantage 0. A bonus of 0.01 pays 41/4096 = 0.01001.
    """
    return None if reward is None else round(reward * GRID) / GRID


def conjunctive_reward(prompts, completions, calls, tools, log_metric=None, **columns):
    """1.0 for a completion whose format and calls are both right, else 0.0 -> list of N floats.

    The paper's (section 3.3): nothing for being nearly right, so groups of a hard prompt fail whole and teach nothing.
    """
    verdicts = judge_and_log(whole_answers(prompts, completions), calls, tools, log_metric)
    return [float(verdict.format_ok and verdict.call_ok) for verdict in verdicts]


def native_reward(prompts, completions, calls, tools, log_metric=None, **columns):
    """`conjunctive_reward` where no think block is asked for: the paper's first idea, in the model's own format."""
    verdicts = judge_and_log(completions, calls, tools, log_metric, think=False)
    return [float(verdict.format_ok and verdict.call_ok) for verdict in verdicts]


def judge_and_log(completions, calls, tools, log_metric, think=True):
    """One `Verdict` per completion; logs the share of well-formed ones as "format_rate"."""
    verdicts = judge_all(completions, calls, tools, think)
    if log_metric is not None and verdicts:
        log_metric("format_rate", sum(verdict.format_ok for verdict in verdicts) / len(verdicts))
    return verdicts


def judge_all(completions, calls, tools, think=True):
    """Columns as the trainer hands them over (N each; calls and tools as lists or JSON text) -> N `calls.Verdict`s.

    Equal rollouts of a prompt share one verdict: a peaked policy writes the same text again and again, and the reward
    is not the only one who asks.
    """
    rule = DEFAULTS_RULE.get()
    return [
        _judge_text(c, g, t, think, rule) if isinstance(c, str) and isinstance(g, str) and isinstance(t, str)
        else judge(c, from_json(g), from_json(t), think)
        for c, g, t in zip(completions, calls, tools, strict=True)
    ]  # fmt: skip


@lru_cache(maxsize=4096)
def _judge_text(completion, calls, tools, think, rule):
    return judge(completion, from_json(calls), from_json(tools), think)
