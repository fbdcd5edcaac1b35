"""Checks a learner's answers: a wrong one gets a sentence that says which mistake it is, a right one gets points.

The exercises of notebook NN, with solutions and mistakes, are in `notebooks/solutions/NN_*.py`.
"""

import runpy
from dataclasses import dataclass

from ..base.errors import NotebookError
from .notebooks import NOTEBOOKS

ORDINALS = "first", "second", "third", "fourth"


@dataclass(frozen=True)
class Exercise:
    """What an answer is compared with.

    solution: the code that belongs in place of the blank. right: the value of a right answer (numbers, texts, lists).
    blank: the nudge for who has not answered yet. otherwise: the sentence for a mistake that is not listed.
    mistakes: [(a wrong value, its sentence)], the first that fits counts; a third entry, a function of the answer,
        says in place of equality whether this mistake was made. within: by how much a number, or each of a list, may be
        off.
    prediction: whether the cell shows the truth when it runs. A right answer to a later run then earns one point only.
    """

    points: int
    solution: str
    right: object
    blank: str
    mistakes: list
    otherwise: str
    within: float | list = 0.0
    prediction: bool = False

    def comment(self, answer, typed=True):
        """What is wrong with an answer -> a sentence, "" for a right one. `typed`: not what a function returned."""
        if _same(answer, self.right, self.within):
            return ""
        if isinstance(self.right, list) and not (isinstance(answer, list) and len(answer) == len(self.right)):
            return f"This asks for {len(self.right)} values, in a list."
        found = (words for wrong, words, *when in self.mistakes if self._fits(answer, wrong, *when))
        return next(found, self._unlisted(answer, typed))

    def _unlisted(self, answer, typed):
        """A mistake that is not listed: the kind of value, else which of several values is wrong."""
        if not isinstance(self.right, list):
            return self.otherwise
        if any(isinstance(a, str) and isinstance(r, (int, float)) for a, r in zip(answer, self.right)):
            return f"Without quotation marks. {self.otherwise}"
        if all(a is None for a in answer):
            return "Your function gives None: a return is missing." if not typed else self.otherwise
        judged = zip(ORDINALS, answer, self.right, _each(self.within, self.right))
        wrong = [word for word, *judged in judged if not _same(*judged)]
        return f"Not right: the {' and the '.join(wrong)}. {self.otherwise}" if typed else self.otherwise

    def _fits(self, answer, wrong, when=None):
        try:
            return bool(when(answer)) if when else _same(answer, wrong, self.within)
        except (TypeError, ValueError, AttributeError):  # an answer of another kind than this mistake is about
            return False


def _plain(value):
    """Arrays, tensors and tuples as lists."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def _each(within, values):
    """The tolerance of each of several values -> list."""
    return within if isinstance(within, list) else [within] * len(values)


def _same(answer, value, within):
    if isinstance(value, list):
        return isinstance(answer, list) and len(answer) == len(value) and all(
            _same(*judged) for judged in zip(answer, value, _each(within, value)))  # fmt: skip
    numbers = isinstance(answer, (int, float)) and isinstance(value, (int, float))
    return abs(answer - value) <= within if numbers else type(answer) is type(value) and answer == value


class Exercises:
    """`check = Exercises("01")`, then `check(1, answer)` prints what became of it. No answer raises."""

    def __init__(self, notebook):
        paths = sorted((NOTEBOOKS / "solutions").glob(f"{notebook}_*.py"))
        if not paths:
            raise NotebookError(f"notebook {notebook!r} has no file in notebooks/solutions")
        self.exercises, self.earned = runpy.run_path(str(paths[0]))["EXERCISES"], {}
        self.shown = set()  # predictions whose cell has run, and has shown the truth

    def __call__(self, number, answer, read=None):
        """`read`: a function of the answer that gives what is compared, for answers that are functions or texts."""
        exercise = self.exercises[number]
        late = number in self.shown and number not in self.earned
        self.shown |= {number} if exercise.prediction else set()
        try:
            found = _plain(answer if answer is ... or read is None else read(answer))
            blank = found is ... or isinstance(found, list) and any(part is ... for part in found)
            words = "" if blank else exercise.comment(found, typed=read is None)
        except Exception as error:  # whatever a learner's answer is, or does when it is called
            return print(f"Not yet right. Your answer fails with {type(error).__name__}: {error}")
        if blank or words:
            return print(f"Not yet right. {words}" if words else f"Not answered yet. {exercise.blank}")
        points = self.earned.setdefault(number, 1 if late else exercise.points)
        whole = sum(e.points for e in self.exercises.values())
        words = "Right, after the cell has shown it" if points < exercise.points else "Right"
        print(f"{words}: {points} point{'s' * (points > 1)}. {sum(self.earned.values())} of {whole} in this notebook.")
