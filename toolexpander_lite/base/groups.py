"""What GRPO makes of a group's rewards: which groups have a contrast to learn from, and its advantages."""

import numpy as np

SCALES = ("group", "batch", "none")


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

    with the mean and the standard deviation (Bessel-corrected: over n - 1) of the reward's own group; scale="batch"
    divides by the standard deviation of all N rewards instead.
    In a group of equal rewards every advantage is 0, whether all passed or all failed. TRL computes in float32, where
    that holds for rewards that are `quantise`d alone.

    Args:
        rewards: N rewards, group after group.
        num_generations: rollouts per group, at least 2; divides N.
        scale: as `GRPOConfig.scale_rewards`.

    Raises:
        ValueError: an unknown scale, or rewards that do not come in whole groups.
    """
    if scale not in SCALES:
        raise ValueError(f"unknown scale {scale!r}; choose one of {', '.join(SCALES)}")
    groups = _groups(rewards, num_generations)
    advantages = groups - groups.mean(axis=1, keepdims=True)
    if scale != "none":
        advantages /= groups.std(axis=1 if scale == "group" else None, ddof=1, keepdims=True) + 1e-4
    return advantages.ravel()
