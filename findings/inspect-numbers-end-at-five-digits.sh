#!/usr/bin/env bash
# Inspect's match(numeric=True) compares five digits of a number: 105,001 is right for 104,999, and one April day for every day since January.
#
# Guess before: a numeric match gives credit to the same number in another dress ("$1,200.00" for 1200), and to no other.
# What happens: inspect-ai 0.3.285 writes target and answer with five significant digits and compares the texts,
#   wherever it is told to look ("exact" too). From 100,000 on wrong numbers pass: of products with one digit wrong 9% of
#   those of six digits, a quarter of those of seven, half of those of ten. Order number 4711049 passes for 4711001, every
#   day of January to April for every other when dates are written as 20260115, and 3.14163 for 3.14159. The answer in the
#   log is the rounded one ("2.026e+07"), so reading the log does not show it. A policy that is trained or chosen by this
#   score is paid for a nearly right number from a tool or a sum. Inspect Evals scores GSM8K and MGSM by it, and AIME,
#   whose answers are too short to suffer. (Other faults of this scorer were reported and mended in 2026, issue 4742 and
#   pull request 3916 among them; of the five digits no report was found.)
# So: where answers can have more than five digits, compare numbers in a scorer of your own, as below.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check inspect-ai==0.3.285 2>>"$folder/noise" || { tail -3 "$folder/noise"; exit 1; }
cd "$folder"
"$folder/venv/bin/python" -W ignore - 2>>"$folder/noise" <<'PY' || { tail -5 "$folder/noise"; exit 1; }
import asyncio, random, re, sys
from importlib.metadata import version
from inspect_ai.model import ModelOutput
from inspect_ai.scorer import CORRECT, INCORRECT, Score, Target, accuracy, match, scorer
from inspect_ai.solver import TaskState

print("inspect-ai", version("inspect-ai"))


def scored(pairs, rule):
    """Inspect's score of each pair of a target and a model's answer."""
    async def one(target, text):
        state = TaskState(model="mock/model", sample_id=1, epoch=1, input="How much?", messages=[],
                          output=ModelOutput.from_content("mock/model", text))
        score = await rule(state, Target(target))
        return score.value == CORRECT, score.answer

    async def every():
        return [await one(*pair) for pair in pairs]

    return asyncio.run(every())


@scorer(metrics=[accuracy()])
def same_number():
    async def score(state, target):
        number, = re.findall(r"-?\d[\d,]*\.?\d*", state.output.completion)[-1:] or [""]
        number = number.replace(",", "").rstrip(".")
        return Score(value=CORRECT if number and float(number) == float(target.text.replace(",", "")) else INCORRECT, answer=number)
    return score


NAMED = [("1200", "That makes $1,200.00."), ("99999", "99998"), ("104,999", "In all 105,001 dollars."), ("104,999", "In all 104,998 dollars."),
         ("4711001", "Your order is 4711049."), ("20260115", "The flight leaves on 20260430."), ("3.14159", "3.14163"), ("3.14159", "3.1415")]
results = scored(NAMED, match(numeric=True))
for (target, text), (right, answer) in zip(NAMED, results):
    print(f"  target {target:9} answer {text!r:33} {'credited' if right else 'refused':9} in the log: {answer}")
named = [right for right, _ in results]
exact = scored([("104999", "105001")], match(location="exact", numeric=True))[0][0]
print('  location="exact", target 104999, answer 105001:', "credited" if exact else "refused")

draw = random.Random(0)
share, mended = {}, {}
for digits in range(4, 11):
    pairs = []
    while len(pairs) < 300:
        product = str(draw.randrange(2, 10 ** (digits // 2)) * draw.randrange(2, 10 ** (digits - digits // 2)))
        if len(product) == digits:
            place = draw.randrange(digits)
            wrong = product[:place] + draw.choice([digit for digit in "123456789" if digit != product[place]]) + product[place + 1:]
            pairs.append((product, f"The product is {int(wrong):,}."))
    share[digits] = sum(right for right, _ in scored(pairs, match(numeric=True))) / len(pairs)
    mended[digits] = sum(right for right, _ in scored(pairs, same_number())) / len(pairs)
    right = [(product, f"The product is {int(product):,}.") for product, _ in pairs]
    assert all(value for value, _ in scored(right, match(numeric=True)) + scored(right, same_number()))
print("products with one digit wrong that are credited, by their number of digits (300 each; all right ones are credited):")
print("  match(numeric=True):    ", ", ".join(f"{digits}: {value:.0%}" for digits, value in share.items()))
print("  compared as numbers:    ", ", ".join(f"{digits}: {value:.0%}" for digits, value in mended.items()))
sys.exit(0 if named == [True, False, True, True, True, True, True, False] and exact and share[4] == share[5] == 0
         and 0.04 < share[6] < 0.16 and 0.4 < share[10] < 0.6 and not any(mended.values()) else 1)
PY
