"""Notebook 03: a solution of each exercise, and what the checker says to a wrong answer. Try first."""

from math import log

from toolexpander_lite.studies.exercises import Exercise

EXERCISES = {
    # The gap of 0.01 over the group's deviation: none is paid; 0.01 / 0.55; 0.01 / (0.0055 + 0.0001).
    1: Exercise(
        points=4,
        solution="predicted = [0, 0.02, 1.8]",
        right=[0, 0.018, 1.793],
        within=[0, 0.005, 0.15],
        prediction=True,
        blank="Which of the three groups has a spread of its own, and how large?",
        mistakes=[
            (
                [0, 0.02, 2.0],
                "The size is right, but you divided by n in the deviation. TRL and torch divide by n - 1.",
            ),
            (
                [0.01, 0.01, 0.01],
                "That is the gap in reward. An advantage divides it by the group's own standard deviation.",
                lambda v: max(map(abs, v)) < 0.15 and abs(v[0]) > 0.005,
            ),
            (
                [0, 0.02, 0.02],
                "All pass: the hundredth is all the spread there is. Divided by itself it does not stay small.",
                lambda v: max(map(abs, v)) < 0.15,
            ),
            (
                [1.8, 0.02, 1.8],
                "All fail: the hundredth is paid only with a right answer, so nothing is paid here.",
                lambda v: abs(v[0]) > 0.15,
            ),
            (
                [0, 1.8, 1.8],
                "Mixed: right and wrong already spread by about 0.55, and the gap of 0.01 is divided by that.",
                lambda v: abs(v[1]) > 0.15,
            ),
            (
                [0, 0.02, -1.8],
                "All pass: the sign. Rollouts with examples earn more, so they stand above the others.",
                lambda v: v[2] < -0.15,
            ),
            (
                [0, 0.02, 100],
                "All pass: you divided by the 0.0001 alone, or by the variance. The deviation is 0.0055.",
                lambda v: v[2] > 10,
            ),
        ],
        otherwise="All pass: two rewards of 1.01 and three of 1 have a standard deviation of 0.0055.",
    ),
    # log(25) / log(1 + epsilon), rounded up.
    2: Exercise(
        points=3,
        solution="batches_020, batches_026 = 18, 14",
        right=[18, 14],
        blank="Each batch multiplies by 1 + epsilon_high.",
        mistakes=[
            ([17, 13], "One batch too few: after 17 batches of 0.2 it is at 0.44. Round up."),
            (
                [17.66, 13.93],
                "Batches are whole ones: round up.",
                lambda v: v[0] % 1 and abs(v[0] - log(25) / log(1.2)) < 0.1,
            ),
            (
                [120, 93],
                "You added 0.2 of the first probability each time. The next batch starts from the new one.",
                lambda v: v[0] > 100,
            ),
            (
                [3, 2],
                "You added epsilon itself. The clip limits the ratio, so each batch multiplies.",
                lambda v: v[0] <= 3,
            ),
            ([14, 18], "The two are swapped: with more room it goes quicker."),
            ([18, 18], "The first is right. With 0.26 each step is longer, so fewer will do."),
            (
                [18, 13],
                "The first is right. After 13 batches of 0.26 it is at 0.40: how many are missing?",
                lambda v: v[0] == 18 and v[1] < 14,
            ),
            (
                [21, 20],
                "You divided 25 by 1.2 once. Each batch multiplies what the last one left.",
                lambda v: 20 < v[0] <= 21,
            ),
            ([17, 14], "0.02 * 1.2**17 is 0.44: one more with 0.2.", lambda v: v[0] == 17),
            (
                [25, 25],
                "The probability has to grow 25 times. How often do you multiply by 1.2 until you have 25?",
                lambda v: v[0] == 25,
            ),
        ],
        otherwise="0.02 times 1.2, again and again, until it is 0.5 or more. Then the same with 1.26.",
    ),
    # Nothing asks for sense: four objects that differ in a number are four examples.
    3: Exercise(
        points=3,
        solution="""block = ",".join('{"tool":"","question":"","answer":%d}' % n for n in range(4))""",
        right=[1.01, "ok", True],
        blank="Four distinct objects with tool, question and answer.",
        mistakes=[
            ([1.01, "ok", False], "It is paid, but has more than 200 characters. Do the texts have to say anything?"),
            (
                [1.0, "too_few", True],
                "Too few that differ: more than three distinct ones are needed.",
                lambda v: v[1] == "too_few",
            ),
            (
                [1.0, "bad_json", True],
                "Not JSON: double quotation marks, and commas between the keys.",
                lambda v: v[1] == "bad_json",
            ),
            (
                [1.0, "bad_example", True],
                "JSON, but an object lacks tool, question or answer, or the first two are not text.",
                lambda v: v[1] == "bad_example",
            ),
            (
                [1.0, "tags", True],
                "A tag inside the block breaks it: write only what stands between <examples> and </examples>.",
                lambda v: v[1] in ("tags", "unclosed"),
            ),
        ],
        otherwise="The answer itself was not read as right: the block must not break the text around it.",
    ),
}
