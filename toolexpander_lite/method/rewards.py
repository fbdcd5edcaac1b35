"""Reward functions in the signature of `trl.GRPOTrainer`, and what GRPO makes of their rewards.

A reward function is called once per generation batch of N completions, which are whole groups of
`num_generations` rollouts of one prompt, as `f(prompts, completions, **columns) -> N floats`. The
columns of the data set come as lists of length N (`calls` and `tools`, see `data.FEATURES`), together
with TRL's own `completion_ids`, `trainer_state`, `log_extra` and `log_metric`.
"""

from functools import lru_cache

import numpy as np

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

    The reward of the paper (section 3.3). It gives nothing for being nearly right, so a hard prompt yields groups that
    fail as a whole and teach nothing.
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


def _groups(rewards, num_generations):
    """Flat rewards, group after group -> float64 array (groups, num_generations)."""
    rewards = np.asarray(rewards, dtype=np.float64)
    if num_generations < 2:
        raise ValueError(f"GRPO compares rollouts of one prompt: it needs 2 or more, not {num_generations}")
    if rewards.ndim != 1 or not rewards.size or rewards.size % num_generations:
        raise ValueError(f"rewards of shape {rewards.shape} are not a list of groups of {num_generations}")
    return rewards.reshape(-1, num_generations)


def group_outcomes(rewards, num_generations):
    """Shares of groups where all fail, all pass, or some do; under a 0/1 reward only the last kind teaches.

    TRL's `frac_reward_zero_std` lumps the first two together, though one means "too hard" and the other
    "learned". Judge by the task reward alone: a bonus, however small, makes a failed group look mixed.

    Args:
        rewards: N task rewards, each 0 or 1, group after group.
        num_generations: rollouts per group, at least 2; divides N.

    Returns:
        dict: `{"all_fail", "all_pass", "mixed"}`, fractions that sum to 1.

    Raises:
        ValueError: rewards that are not 0 or 1, or do not come in whole groups.
    """
    groups = _groups(rewards, num_generations)
    if not np.isin(groups, (0.0, 1.0)).all():
        raise ValueError("group outcomes are judged on task rewards of 0 or 1; leave bonuses and grades out")
    passed = groups.mean(axis=1)
    all_fail, all_pass = float((passed == 0).mean()), float((passed == 1).mean())
    return {"all_fail": all_fail, "all_pass": all_pass, "mixed": float(((0 < passed) & (passed < 1)).mean())}


def group_advantages(rewards, num_generations, scale="group"):
    """GRPO's advantages, by the formula that TRL 1.16 uses -> float64 array (N,).

        scale="group":  (reward - mean) / (std + 1e-4)    scale="none":  reward - mean

    with the mean and the standard deviation (Bessel-corrected: over n - 1) of the reward's own group.
    In a group of equal rewards every advantage is 0, whether all passed or all failed. TRL computes in float32, where
    that holds for rewards that are `quantise`d alone.

    Args:
        rewards: N rewards, group after group.
        num_generations: rollouts per group, at least 2; divides N.
        scale: as `GRPOConfig.scale_rewards`, of which "batch" is not used here.

    Raises:
        ValueError: an unknown scale, or rewards that do not come in whole groups.
    """
    if scale not in ("group", "none"):
        raise ValueError(f"unknown scale {scale!r}; choose 'group' or 'none'")
    groups = _groups(rewards, num_generations)
    advantages = groups - groups.mean(axis=1, keepdims=True)
    if scale == "group":
        advantages /= groups.std(axis=1, ddof=1, keepdims=True) + 1e-4
    return advantages.ravel()
