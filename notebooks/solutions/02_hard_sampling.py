"""Notebook 02: a solution of each exercise, and what the checker says to a wrong answer. Try first."""

from toolexpander_lite.studies.exercises import Exercise

EXERCISES = {
    # What one tool takes says nothing about another, and wrong values teach wrong values.
    1: Exercise(
        points=3,
        solution="predicted_above = [True, False, False]",
        right=[True, False, False],
        prediction=True,
        blank="What does an example of one tool say about another tool's arguments?",
        mistakes=[
            (
                [True, True, False],
                "Other tools: it is not that any example helps. They take other arguments in other forms.",
            ),
            (
                [True, False, True],
                "Wrong values: often the wrong form is shown with them, and the model does as it is shown.",
            ),
            ([True, True, True], "It is not the longer prompt that helps. It matters what the examples show."),
            (
                [False, False, False],
                "Its own tools: the model knows how they are called, and an example brings it out.",
                lambda v: v[0] is False,
            ),
        ],
        otherwise="Three values, each True or False: above 0.2 or not.",
    ),
    # The third scan brings the row back, and back is for good.
    2: Exercise(
        points=4,
        solution='served = ["demonstrated", "demonstrated", "plain", "plain"]',
        right=["demonstrated", "demonstrated", "plain", "plain"],
        blank="What does the third scan decide, and for how long?",
        mistakes=[
            (
                ["demonstrated", "demonstrated", "plain", "demonstrated"],
                "The fourth: it is hard again, but it has come back once, and then gets no examples any more.",
            ),
            (
                ["plain", "demonstrated", "demonstrated", "plain"],
                "You are a round late: a scan comes at a round's start, and decides about that same round.",
            ),
            (
                ["plain", "plain", "demonstrated", "demonstrated"],
                "The wrong way round: the rows that fail are those that get examples.",
                lambda v: v[:3] == ["plain", "plain", "demonstrated"],
            ),
            (
                ["demonstrated", "plain", "plain", "plain"],
                "The second: having had examples is not enough. The row comes back when a plain scan finds it right.",
                lambda v: v[:2] == ["demonstrated", "plain"],
            ),
            (
                ["demonstrated", "demonstrated", "demonstrated", "demonstrated"],
                "The third: it was right in one of ten, so it is not hard. One success is enough for GRPO to compare.",
            ),
            (
                ["plain", "plain", "plain", "plain"],
                "The first: none of ten is right, so it is hard, and served with examples.",
                lambda v: v[0] == "plain",
            ),
            (
                ["demonstrated", "demonstrated", "demonstrated", "plain"],
                "The third: the scan itself finds it right, and it is served plainly at once, not a round later.",
            ),
        ],
        otherwise='Four words, each "plain" or "demonstrated".',
    ),
    # Add serves n plain rows and h n demonstrated ones, replace n. So replace is the quicker one, as the paper says.
    3: Exercise(
        points=3,
        solution="return 1 + h",
        right=[1.0, 1.375, 1.75],
        within=1e-6,
        blank="Count the rows that one_round serves.",
        mistakes=[
            (
                [0.0, 0.375, 0.75],
                "That is what add serves on top. The question asks for all its rows over those of replace.",
            ),
            ([2.0, 2.0, 2.0], "Only the hard rows are served twice, not all."),
            (
                [1.0, 1.75, 2.5],
                "A hard row is served twice by add: once plainly, once with examples. You counted it three times.",
            ),
            ([1.0, 1 / 1.375, 1 / 1.75], "That is replace over add: the other way round."),
            ([1.0, 0.625, 0.25], "That is the share of rows that are not hard. Add leaves nothing out."),
            ([1.0, 1.6, 4.0], "Replace serves the hard rows too, with examples: it serves every row once."),
            ([1.0, 1.0, 1.0], "Replace swaps a row for its version with examples. Add keeps both."),
        ],
        otherwise="Of n rows replace serves n. How many does add serve?",
    ),
}
