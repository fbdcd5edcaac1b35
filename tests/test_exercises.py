"""The checker of the exercises: a right answer earns its points, each mistake gets its own sentence, nothing raises."""

import re

import nbformat
import numpy as np
import pytest
import torch

from toolexpander_lite.base.groups import group_advantages
from toolexpander_lite.base.runs import REPOSITORY
from toolexpander_lite.method.calls import judge
from toolexpander_lite.method.prompts import gold_completion
from toolexpander_lite.method.self_examples import judge_examples_block
from toolexpander_lite.studies.exercises import Exercises
from toolexpander_lite.studies.notebooks import NOTEBOOKS, NotebookError, found_lines
from toolexpander_lite.worlds.nano_world import nano_samples

NUMBERS = ("00", "01", "02", "03")
KEYS = {number: Exercises(number).exercises for number in NUMBERS}
MISTAKES = [
    pytest.param(number, n, wrong, words, id=f"{number}-{n}-{place}")
    for number, exercises in KEYS.items()
    for n, exercise in exercises.items()
    for place, (wrong, words, *_) in enumerate(exercise.mistakes)
]


@pytest.fixture
def say(capsys):
    """What the checker prints."""

    def said(check, *arguments):
        assert check(*arguments) is None
        return capsys.readouterr().out.strip()

    return said


def solved(number, n, **names):
    """The value that the solution's code gives; a function's body becomes a function of what it is called with."""
    code = KEYS[number][n].solution
    if code.startswith("return"):
        takes = {"01": "p, rollouts", "02": "h"}[number]
        return eval(f"lambda {takes}: {code.removeprefix('return')}")
    exec(code, names)
    return tuple(names[name.strip()] for name in code.split(" = ")[0].split(","))


@pytest.mark.parametrize("number", NUMBERS)
def test_right_answers_earn_ten_points(number, say):
    check = Exercises(number)
    for n, exercise in check.exercises.items():
        said = say(check, n, exercise.right)
    assert said.endswith("10 of 10 in this notebook.") and len(check.exercises) >= 3
    assert "10 of 10" in say(check, 1, check.exercises[1].right), "a second time earns nothing more"
    say(check, 1, None)
    assert "10 of 10" in say(check, 1, check.exercises[1].right), "nor does a mistake cost what was earned"


@pytest.mark.parametrize("number, n, wrong, words", MISTAKES)
def test_a_mistake_gets_its_own_sentence(number, n, wrong, words, say):
    check = Exercises(number)
    assert say(check, n, wrong) == f"Not yet right. {words}" and not check.earned
    assert sum(words == other for _, other, *_ in check.exercises[n].mistakes) == 1
    assert words != check.exercises[n].otherwise


@pytest.mark.parametrize("number, n", [(number, n) for number, key in KEYS.items() for n in key])
def test_no_answer_raises(number, n, say):
    check = Exercises(number)
    key = check.exercises[n]
    assert say(check, n, ...) == f"Not answered yet. {key.blank}"
    lists = [], [[]], [None] * 9, ["x"] * 2, ["x"] * 3, ["x"] * 4
    for odd in (None, "", 7, -(10**400), float("nan"), {}, object, *lists):
        assert say(check, n, odd).startswith("Not yet right. ")
    assert "ZeroDivisionError" in say(check, n, 0, lambda x: 1 / x) and not check.earned
    if isinstance(key.right, list):
        assert say(check, n, [..., *key.right[1:]]) == f"Not answered yet. {key.blank}"
        assert say(check, n, key.right[:-1]) == f"Not yet right. This asks for {len(key.right)} values, in a list."


def test_a_prediction_counts_in_full_before_its_cell_has_shown_the_truth(say):
    for number, key in KEYS.items():
        for n, exercise in key.items():
            for first in (..., "nonsense"):
                check = Exercises(number)
                say(check, n, first)
                said = say(check, n, exercise.right)
                late = "Right, after the cell has shown it: 1 point. 1 of 10"
                assert said.startswith(late if exercise.prediction else f"Right: {exercise.points} points."), said
                assert say(check, n, exercise.right) == said, "and is not worth more, or less, a third time"
    assert sum(e.prediction for key in KEYS.values() for e in key.values()) == 5


def test_what_is_wrong_is_named_where_no_mistake_is_known(say):
    assert say(Exercises("03"), 2, (19, 14)).startswith("Not yet right. Not right: the first. 0.02 times")
    assert "the first and the second" in say(Exercises("01"), 2, (0.022, 0.018))
    assert "Without quotation marks" in say(Exercises("01"), 2, ("0.024", "0.016"))
    assert "a return is missing" in say(Exercises("02"), 3, lambda h: None, lambda f: [f(0), f(3 / 8), f(3 / 4)])
    assert "So the share cannot" in say(Exercises("01"), 3, (0.05, 0)).replace("so", "So")
    for words in ("ddpd dpdp dppp dddp pppp pdpd ppdd ppdp pddd pddp dppd pppd dpdd ppdp pdpp dddd").split():
        served = ["demonstrated" if w == "d" else "plain" for w in words]
        assert "Four words" not in say(Exercises("02"), 2, served), "every wrong row of the two words has its sentence"


def test_each_of_several_numbers_may_be_off_by_its_own_size(say):
    assert say(Exercises("03"), 1, [0, 0.02, 1.8]).startswith("Right: 4 points")
    assert "Not right: the second." in say(Exercises("03"), 1, [0, 0, 1.8])
    assert say(Exercises("03"), 1, [0, 0.018, 1.9]).startswith("Right: 4 points")


def test_arrays_tensors_and_tuples_are_answers(say):
    mixed = 1.5, np.float32(0.5), 0, torch.tensor(0)
    for answer in (np.array([1.5, 0.5, 0, 0]), torch.tensor([1.5, 0.5, 0, 0]), mixed):
        assert say(Exercises("01"), 1, answer) == "Right: 3 points. 3 of 10 in this notebook."


def test_dividing_by_n_is_not_forgetting_the_deviation(say):
    rewards = np.array([[1, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1.0]])
    centred = rewards - rewards.mean(1, keepdims=True)
    assert say(Exercises("01"), 1, group_advantages(rewards.flatten(), 4)[::4]).startswith("Right")
    assert "divide by n - 1" in say(Exercises("01"), 1, (centred / (rewards.std(1, keepdims=True) + 1e-4))[:, 0])
    assert "did not divide" in say(Exercises("01"), 1, centred[:, 0])


def test_functions_are_told_apart_by_what_they_return(say):
    def chance(function):
        return say(Exercises("01"), 4, function, lambda f: [f(0.1, 10), f(0.1, 32), f(1e-5, 32)])

    assert chance(solved("01", 4)).startswith("Right")
    assert "at least one" in chance(lambda p, n: 1 - (1 - p) ** n) and "all are right" in chance(lambda p, n: p**n)
    assert "added chances" in chance(lambda p, n: 1 - p * n) and "TypeError" in chance(lambda p: p)

    def longer(function):
        return say(Exercises("02"), 3, function, lambda f: [f(0), f(3 / 8), f(3 / 4)])

    assert longer(solved("02", 3)).startswith("Right") and "on top" in longer(lambda h: h)
    assert "other way round" in longer(lambda h: 1 / (1 + h)) and "every row once" in longer(lambda h: 1 / (1 - h))


def test_texts_are_judged_by_the_package(say):
    """Each broken call of notebook 00, and each block of notebook 03, gets the sentence of its reason code."""
    hard = nano_samples("test", 1, families=["book_taxi"])[0]
    right = gold_completion(hard)

    def call(text):
        return say(Exercises("00"), 3, text, lambda t: judge(t, hard.calls, hard.tools).reason)

    assert call(solved("00", 3, right=right)[0]).startswith("Right") and "still a right answer" in call(right)
    assert "beside" in call(right.replace('"arguments"', '"tip": 1, "arguments"'))
    assert "rename" in call(right.replace('"city"', '"town"'))
    assert "second call" in call(right + right.split("</think>")[1])
    assert "comma" in call(right.replace('"city"', "city")) and "changed a value" in call(right.replace("CDG", "cdg"))
    assert "outside" in call(right + "!") and "AttributeError" not in call(7)

    def block(text):
        whole = f"<think><examples>{text}</examples></think>\n{right.split('</think>')[1]}"
        reason = judge_examples_block(whole).reason
        paid = (judge(whole, hard.calls, hard.tools).reason == "ok") * (1.01 if reason == "ok" else 1.0)
        return say(Exercises("03"), 3, text, lambda _: (paid, reason, len(text) <= 200))

    assert block(solved("03", 3)[0]).startswith("Right") and "Too few" in block("[]") and "Not JSON" in block("nothing")
    assert "lacks" in block('{"tool": ""}') and "A tag" in block("<tool_call>")


def test_keys_agree_with_hand_computation_and_with_the_committed_runs(say):
    found = {number: "\n".join(found_lines(nbformat.read(next(NOTEBOOKS.glob(f"{number}_*.ipynb")), as_version=4)))
             for number in NUMBERS}  # fmt: skip
    assert "answered 'wrong_argument' zero-shot" in found["00"]
    assert "largest gradient norm of all steps is 0.0e+00" in found["01"]
    shares = re.findall(r"examples of [\w ]+: ([\d.]+) of the hard rows", found["02"])
    assert KEYS["02"][1].right == [float(share) > 0.2 for share in shares]
    assert [0.02 * 1.2**n >= 0.5 for n in (17, 18)] == [0.02 * 1.26**n >= 0.5 for n in (13, 14)] == [False, True]
    gaps = []
    for task in ([0, 0, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1]):
        paid = group_advantages(np.array(task) * (1 + 0.01 * np.array([1, 0, 0, 1, 0])), 5)
        gaps.append(paid[0] - paid[1])
    assert say(Exercises("03"), 1, gaps).startswith("Right") and gaps == pytest.approx([0, 0.018, 1.793], abs=1e-3)


def test_solutions_of_values_are_right(say):
    for place in ("00 1", "00 2", "01 1", "01 2", "01 3", "02 1", "02 2", "03 1", "03 2"):
        number, n = place.split()[0], int(place.split()[1])
        values = solved(number, n)
        assert say(Exercises(number), n, values if len(values) > 1 else values[0]).startswith("Right"), (number, n)


def test_an_unknown_notebook_is_refused():
    with pytest.raises(NotebookError, match="notebooks/solutions"):
        Exercises("42")


def test_the_quiz_has_one_right_answer_each_and_a_misconception_behind_each_wrong_one():
    text = (REPOSITORY / "docs" / "teach.md").read_text(encoding="utf-8")
    questions = re.split(r"^\*\*\d+\. ", text.split("## A quiz")[1], flags=re.M)[1:]
    assert len(questions) == 10
    for question in questions:
        options = re.findall(r"^- \(([a-d])\) \S", question, re.M)
        (answers,) = re.findall(r"<details>.*?</details>", question, re.S)
        comments = dict(re.findall(r"^- \(([a-d])\) (.+)$", answers, re.M))
        assert options == [*comments, *comments] and len(comments) >= 3
        assert sum(words.startswith("**right**") for words in comments.values()) == 1


def test_the_pictures_of_the_class_are_those_of_the_notebooks():
    text = (REPOSITORY / "docs" / "teach.md").read_text(encoding="utf-8")
    named = re.findall(r"`0(\d)_\w+-(\d+)\.png`", text)
    drawn_by = {  # what stands in the cell that draws the picture of that name
        "0-1": "one demonstration in front",
        "1-1": "check(1, predicted)", "1-3": "clip_playground(", "1-4": 'learn("book_taxi")', "1-5": "scan(policy",
        "2-1": "check(1, predicted_above)", "2-2": "PAPER_T2", "2-6": 'x="rollouts"',
        "3-1": "0.01 * wrote * task,", "3-5": "right or wrong",
        "5-1": 'KINDS = [("same_tool"', "5-2": "DRAWN = (", "5-3": "plot_live(made)", "5-4": 'plot_study(["paper_grpo"',
        "5-10": "MIXED = [", "6-2": "EARNED_BY = {", "7-4": "stackplot(",
    }  # fmt: skip
    assert {f"{notebook}-{number}" for notebook, number in named} == set(drawn_by)
    for picture, words in drawn_by.items():
        notebook, number = picture.split("-")
        cells = nbformat.read(next(NOTEBOOKS.glob(f"0{notebook}_*.ipynb")), as_version=4).cells
        pictures = [c for c in cells for o in c.get("outputs", []) if "image/png" in o.get("data", {})]
        assert words in pictures[int(number) - 1].source, picture
