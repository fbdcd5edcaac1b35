"""How a run ended: its summary, and whether it stalled or collapsed, and of what.

A run stalls or collapses by number, not by eye (our definitions):

    stalled    hard families: the last evaluation is no more than STALL_MARGIN above the first (real data, where
               no family is known to be hard: all of them)
    collapsed  the last zero-shot accuracy is below COLLAPSE_SHARE of the run's own peak

A run can be both: what collapses on everything has not gained on the hard families either.
"""

from .runs import evaluations, read_log

STALL_MARGIN = 0.05
COLLAPSE_SHARE = 0.5


def has_stalled(scores):
    """Hard-family accuracies in order -> True when the last is at most STALL_MARGIN above the first."""
    return scores[-1] <= scores[0] + STALL_MARGIN


def has_collapsed(scores):
    """Zero-shot accuracies in order -> True when the last is below COLLAPSE_SHARE of the peak."""
    return scores[-1] < COLLAPSE_SHARE * max(scores)


def summarize(run):
    """Where a run ended -> the contents of summary.json, except its wall time."""
    rows = read_log(run)
    evals = [e for _, e in evaluations(rows)]
    last = evals[-1]
    zero_shot = [e["zero_shot"] for e in evals]
    hard = [e.get("zero_shot_hard", e["zero_shot"]) for e in evals]
    return {
        **{k: rows[-1][k] for k in ("rollouts", "completion_tokens", "prompt_tokens", "seconds")},
        "steps": rows[-1]["step"],
        **{k: last[k] for k in ("zero_shot", "zero_shot_easy", "zero_shot_hard") if k in last},
        "peak_zero_shot": max(zero_shot),
        "stalled": has_stalled(hard),
        "collapsed": has_collapsed(zero_shot),
    }


def collapse_mechanism(run):
    """What a run fails of in the end that it did not at its peak -> (reason code, rise of its share).

    Compares the failure reasons of the last evaluation with those of the best one; see `calls.REASONS`.
    """
    evals = [e for _, e in evaluations(read_log(run))]
    best = max(evals, key=lambda e: e["zero_shot"])
    rises = {
        reason: share - best["reasons"].get(reason, 0.0)
        for reason, share in evals[-1]["reasons"].items()
        if reason != "ok"
    }
    return max(rises.items(), key=lambda item: item[1], default=("none", 0.0))
