"""How sure is a mean over seeds? Bootstrap intervals; the seed is the unit, since families flip nearly together."""

import numpy as np

LEVEL = 0.95


def mean(values):
    """Mean of any iterable of numbers -> float; nan of none."""
    values = list(values)
    return float(sum(values) / len(values)) if values else float("nan")


def bootstrap_interval(values, level=LEVEL):
    """Percentile bootstrap interval of the mean of `values`, one number per seed -> (low, high).

    9999 resamples with a fixed generator, so that a table is the same each time it is made. With fewer than two
    values there is nothing to resample: (nan, nan). Few seeds that agree give an interval of no width, which means "all
    seeds alike" and not "certain".
    """
    values = np.asarray(list(values), dtype=float)
    if len(values) < 2:
        return float("nan"), float("nan")
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    from scipy.stats import bootstrap  # late, as below: who only checks a name need not wait for it

    found = bootstrap(
        (values,), np.mean, confidence_level=level, n_resamples=9999, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return float(found.low), float(found.high)


def paired_difference(ours, theirs):
    """Mean of ours - theirs over the seeds both have -> (mean, low, high, number of seeds).

    Args:
        ours, theirs: {seed: value}. Runs of one seed and one group size see the same prompts in the same order, so
            their difference is less noisy than the two means.

    Raises:
        ValueError: no common seed.
    """
    seeds = sorted(set(ours) & set(theirs))
    if not seeds:
        raise ValueError("the two sides have no seed in common, so there is nothing to pair")
    differences = [ours[s] - theirs[s] for s in seeds]
    return (float(np.mean(differences)), *bootstrap_interval(differences), len(seeds))


def share_interval(hits, count):
    """Wilson's interval of the share `hits` of `count`, for accuracies over questions -> (low, high)."""
    from scipy.stats import binomtest

    found = binomtest(hits, count).proportion_ci(LEVEL, method="wilson")
    return float(found.low), float(found.high)
