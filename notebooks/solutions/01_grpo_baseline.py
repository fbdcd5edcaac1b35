"""Notebook 01: a solution of each exercise, and what the checker says to a wrong answer. Try first."""

from math import exp

from toolexpander_lite.studies.exercises import Exercise

EXERCISES = {
    # 1, 0, 0, 0: mean 1/4, deviation 1/2 (n - 1 below), so 0.75 / 0.5. Equal rewards leave nothing above the line.
    1: Exercise(
        points=3,
        solution="predicted = [1.5, 0.5, 0, 0]",
        right=[1.5, 0.5, 0, 0],
        within=0.15,
        prediction=True,
        blank="Which of the four groups have nothing to compare?",
        mistakes=[
            (
                [1.73, 0.58, 0, 0],
                "You divided by n in the deviation. TRL and torch divide by n - 1: it is 1/2 in both groups.",
            ),
            ([0.75, 0.25, 0, 0], "You took the mean away, but did not divide by the standard deviation."),
            (
                [2, 2, 0, 2],
                "You divided by the standard deviation, but did not take the mean away first.",
                lambda v: abs(v[0] - 2) < 0.15 and abs(v[1] - 2) < 0.15,
            ),
            ([1, 1, 0, 1], "These are the rewards. An advantage says how far a reward is from its group's mean."),
            ([3, 1, 0, 0], "You divided by the variance, not by its square root."),
            (
                [1.5, -0.5, 0, 0],
                "The second group's first rollout is right, and above the mean: its advantage is positive.",
                lambda v: v[1] < 0,
            ),
            ([0.5, 1.5, 0, 0], "The first two are swapped: a success is worth more the rarer it is in its group."),
            (
                [1.5, 0.5, -1, 0],
                "All fail: each reward is the mean, so the advantage is 0. Being wrong together is no minus.",
                lambda v: abs(v[2]) > 0.15,
            ),
            (
                [1.5, 0.5, 0, 1],
                "All pass: each reward is the mean, so the advantage is 0. Being right together is no plus.",
                lambda v: abs(v[3]) > 0.15,
            ),
            (
                [1, 1, 0, 0],
                "The first two are not equal: one success among four stands out more than three among four.",
                lambda v: abs(v[0] - v[1]) < 0.15,
            ),
        ],
        otherwise="Take the mean of each group away, then divide by its standard deviation.",
    ),
    # The ratio ends at 1.2 for a good token and at 0.8 for a bad one. A rare good token may gain 0.004 per batch.
    # Notebook 03 comes back to that: the paper's second idea widens the upper end.
    2: Exercise(
        points=2,
        solution="good_stops, bad_stops = 0.02 * 1.2, 0.02 * 0.8",
        right=[0.024, 0.016],
        within=2e-4,
        blank="The clip limits the ratio, not the difference.",
        mistakes=[
            (
                [0.22, -0.18],
                "You added epsilon. The clip limits the ratio new / old: multiply.",
                lambda v: abs(v[0] - 0.22) < 0.01,
            ),
            ([1.2, 0.8], "These are the ratios. The question asks for the probabilities there."),
            ([0.016, 0.024], "The ends are swapped: a good token is pushed up until it stops, a bad one down."),
            (
                [0.024, 0.024],
                "The good one is right. A bad rollout's token is pushed down, and stops at the lower end.",
            ),
            ([0.024, 0.02 / 1.2], "The lower end is 1 - epsilon, not 1 / (1 + epsilon)."),
            (
                [0.024, 0.0],
                "The good one is right. The bad one does not fall to 0 in one batch: there is a lower end.",
                lambda v: abs(v[0] - 0.024) < 2e-4 and v[1] < 0.01,
            ),
            (
                [0.024, None],
                "The good one is right. Bad tokens are clipped too: their push ends at the lower end.",
                lambda v: abs(v[0] - 0.024) < 2e-4 and v[1] in (None, float("inf")),
            ),
            ([0.02, 0.02], "That is where both begin. The clip lets the ratio go from 1 to 1.2, or to 0.8."),
        ],
        otherwise="The pushing stops where the ratio new / old leaves 1 - 0.2 to 1 + 0.2.",
    ),
    # No rollout is right, so every group is silent. The KL term is at its minimum at the start: no gradient either.
    3: Exercise(
        points=2,
        solution="predicted_share, predicted_norm = 0.0, 0.0",
        right=[0.0, 0.0],
        within=0.01,
        prediction=True,
        blank="Predict first: which kind of group will all groups be?",
        mistakes=[
            (
                [0.5, 0.0],
                "With a gradient of 0 nothing is learnt, so the share cannot rise: your two numbers disagree.",
                lambda v: v[0] > 0.01 and abs(v[1]) <= 0.01,
            ),
            (
                [0.9, 0.5],
                "Not like the easy tool: three codes have to be right at once, and no rollout ever is. There is "
                "nothing to make likelier.",
                lambda v: v[0] > 0.01,
            ),
            (
                [0.0, 0.5],
                "The share is right. But in all-fail groups advantages are 0, and the KL term is flat at the start.",
                lambda v: abs(v[0]) <= 0.01 and v[1] > 0.01,
            ),
        ],
        otherwise="Both are numbers of 0 or more: a share, and a norm.",
    ),
    # Rollouts are independent: multiply. 32 rollouts reach the rows near p = 0.1.
    # At 1e-5 they are three times the price for nothing.
    4: Exercise(
        points=3,
        solution="return (1 - p) ** rollouts",
        right=[0.9**10, 0.9**32, (1 - 1e-5) ** 32],
        within=1e-6,
        blank="One rollout fails with probability 1 - p.",
        mistakes=[
            (
                [1 - 0.9**10, 1 - 0.9**32, 1 - (1 - 1e-5) ** 32],
                "That is the chance that at least one is right: the opposite.",
            ),
            ([0.1**10, 0.1**32, 1e-5**32], "That is the chance that all are right."),
            (
                [1 - 0.1**10, 1 - 0.1**32, 1 - 1e-5**32],
                "That is the chance that not all are right. All fail is less likely.",
            ),
            (
                [1 - 0.1 * 10, 1 - 0.1 * 32, 1 - 1e-5 * 32],
                "You added chances up: with 32 rollouts of 0.1 it falls below 0. Multiply.",
            ),
            ([0.9 * 10, 0.9 * 32, (1 - 1e-5) * 32], "You multiplied by the number of rollouts. It is a power."),
            ([0.9, 0.9, 1 - 1e-5], "That is one rollout. All of them have to fail."),
            ([0.9**10, 0.9**10, (1 - 1e-5) ** 10], "That is for ten rollouts. Their number is an argument."),
            (
                [p * n * (1 - p) ** (n - 1) for p, n in ((0.1, 10), (0.1, 32), (1e-5, 32))],
                "That is the chance that exactly one is right.",
            ),
            (
                [exp(-1), exp(-3.2), exp(-32e-5)],
                "Close for small p only: exp(-p) stands for 1 - p. Take 1 - p itself.",
                lambda v: abs(v[0] - exp(-1)) < 1e-6,
            ),
        ],
        otherwise="The rollouts are independent, and each fails with probability 1 - p.",
    ),
}
