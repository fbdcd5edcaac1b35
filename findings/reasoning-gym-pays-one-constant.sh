#!/usr/bin/env bash
# reasoning-gym: in three of its task sets one constant text is paid in full for nearly every question.
#
# Guess before: `score_answer` pays 1.0 for a right answer only; that is what "verifiable reward" says.
# What happens: game_of_life_halting compares `bool(answer)` with `bool("False")`; a text that is not empty is true, so
#   anything is right, "False" for "True" among it. puzzle24 asks for four numbers and their result 24, and never looks
#   whether they are the question's: (3*8)*1*1 solves every puzzle, and a result of 24.5 is cut to 24. coin_flip pays by
#   the digits that agree from the left, over the shorter of both texts: "0" is a full answer to every probability below
#   1, and a wrong 0.9 has 0.67. Beside it gsm_symbolic drops a minus sign and does not know a comma (1,687.5 has 0.01).
#   Once a policy writes such a text all rewards are equal: the curve stands at 1.0, the gradient at 0, and an evaluation
#   by the same scorer says that the task is solved. (No training was run.) (Found by giving all 105 sets other
#   questions' answers and changed ones; the rest gave no such text. Sokoban and others pay near misses by design. No
#   report was found. game_of_life pays each cell, so a board without life has over 0.9; that is partly meant.)
# So: leave these out of a mixture, or replace their scorers; and score one constant text before a task set is used.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check reasoning-gym==0.1.25 sympy==1.14.0 2>"$folder/noise" \
  || { tail -3 "$folder/noise"; exit 1; }
cd "$folder"
"$folder/venv/bin/python" - 2>>"$folder/noise" <<'PY' || { tail -5 "$folder/noise"; exit 1; }
import json, re, sys
from fractions import Fraction
from importlib.metadata import version
import reasoning_gym

print("reasoning-gym", version("reasoning-gym"), "sympy", version("sympy"))
N = 200


def scored(name, answer, wrong):
    """Mean score of an answer (or of a function of the question) where it is wrong -> (questions, full, mean)."""
    data = reasoning_gym.create_dataset(name, size=N, seed=7)
    scores = []
    for entry in (data[i] for i in range(N)):
        text = answer(entry) if callable(answer) else answer
        if wrong(entry, text):
            scores.append(data.score_answer(text, entry))
    full, mean = sum(score >= 1 for score in scores), sum(scores) / len(scores)
    shown = answer.__doc__ if callable(answer) else repr(answer)
    print(f"{name:21} {shown:26} wrong for {len(scores):3} of {N} questions, paid in full for {full:3}, {mean:.2f} on average")
    return len(scores), full, mean


def other_numbers(entry, text):
    asked = re.search(r"Make 24 using ([\d, ]+)\.", entry["question"])[1]
    return sorted(map(int, re.findall(r"\d+", text))) != sorted(map(int, asked.split(", ")))


def other_value(entry, text):
    return abs(Fraction(text) - Fraction(entry["answer"])) > Fraction(1, 1000)


def other_text(entry, text):
    return text != entry["answer"]


def negated(entry):
    """the gold answer, negated"""
    return "-" + entry["answer"]


def no_life(entry):
    """a board without life"""
    return json.dumps([[0] * 10] * 10, separators=(",", ":"))


halting = [scored("game_of_life_halting", text, other_text) for text in ("True", "False", "I do not know.")]
puzzle = [scored("puzzle24", text, other_numbers) for text in ("(3*8)*1*1", "9*5/2 + 2", "24")]
coins = [scored("coin_flip", text, other_value) for text in ("0", "0.9", "9")]
minus = scored("gsm_symbolic", negated, other_text)
board = scored("game_of_life", no_life, other_text)
right = reasoning_gym.create_dataset("gsm_symbolic", size=1, seed=7)
print("gsm_symbolic, right answer", right[0]["answer"], "written 1,687.5:", right.score_answer("1,687.5", right[0]))
as_told = all(full == n and n > 80 for n, full, _ in [*halting, *puzzle[:2], minus]) and halting[2][0] == N
as_told &= puzzle[2][1] == 0 and coins[2][1] == 0 and 0.9 * coins[0][0] < coins[0][1] < coins[0][0]
as_told &= 0.6 < coins[1][2] < 0.8 and 0.9 < board[2] < 1 and right[0]["answer"] == "1687.5"
sys.exit(0 if as_told and right.score_answer("1,687.5", right[0]) < 0.1 else 1)
PY
