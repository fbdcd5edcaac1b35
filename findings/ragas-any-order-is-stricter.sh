#!/usr/bin/env bash
# ragas: tool calls with an invented argument score 1.0, and "any order" gives less for the same calls than "strict order".
#
# Guess before: `ToolCallAccuracy` is below 1 for a call that is not the reference's; `strict_order=False` never gives less
#   than `strict_order=True`; and `ToolCallF1` of a right answer is 1, no call where none is asked for among them.
# What happens: ToolCallAccuracy of ragas 0.4.3 looks at the reference's arguments only, and at each as text. A call with
#   `"confirm": true` invented on top scores 1.0, for all 2,321 right answers of BFCL with arguments; so do the 934 with
#   every number quoted ("days": "3"). A right object whose keys stand in another order scores 0: none of 38 such answers
#   has 1.0. `strict_order=False` sorts both lists by their arguments and compares place by place, so one wrong value
#   moves its call and right calls stand against wrong ones: for Rome, Oslo, Lima answered by Rome, Oslo, Zurich strict
#   gives 0.83 and any order 0.50, and 20 of 66 such answers of BFCL get less where the order is free. ToolCallF1 takes
#   the other side in all of that (an invented argument: 0.0), counts a call made three times once, and gives 0.0 for "no
#   call" where none is right, so all 884 questions of live_irrelevance are lost, whatever is answered. (Issues 1893 and
#   2079 of ragas are of extra calls, which now make the accuracy 0; no report was found of these.)
# So: rank no models by one of them alone, and use neither as a reward: in the first an argument more costs nothing.
#   Compare the arguments with `==` and the calls as a multiset.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" install -q --disable-pip-version-check "$@" 2>>"$folder/noise" || { tail -3 "$folder/noise"; exit 1; }; }
pip ragas==0.4.3 langchain-community==0.4.1 langchain-openai==1.1.9 datasets==5.2.0
pip --no-deps bfcl-eval==2026.3.23
cd "$folder"
RAGAS_DO_NOT_TRACK=true "$folder/venv/bin/python" -W ignore - 2>>"$folder/noise" <<'PY' || { tail -5 "$folder/noise"; exit 1; }
import asyncio, importlib.util, json, os, sys
from importlib.metadata import version
from ragas.messages import AIMessage, HumanMessage, ToolCall
from ragas.metrics.collections import ToolCallAccuracy, ToolCallF1

print(", ".join(f"{name} {version(name)}" for name in ("ragas", "bfcl-eval")))
METRICS = {"accuracy": ToolCallAccuracy(), "any order": ToolCallAccuracy(strict_order=False), "F1": ToolCallF1()}


def scored(calls, reference):
    def made(pairs):
        return [ToolCall(name=name, args=arguments) for name, arguments in pairs]

    said = [HumanMessage(content="?"), AIMessage(content="", tool_calls=made(calls))]
    return {name: asyncio.run(metric.ascore(user_input=said, reference_tool_calls=made(reference))).value
            for name, metric in METRICS.items()}


def line(title, score):
    print(f"  {title:62}" + "".join(f"{name} {value:.2f}   " for name, value in score.items()))
    return score


def go(*cities):
    return [("weather", {"city": city, "days": 3}) for city in cities]


one = go("Rome")
nested = [("book", {"who": {"name": "Ann", "age": 3}})]
print("small cases:")
cases = {
    "the reference itself": scored(one, one),
    "an argument invented": scored([("weather", {"city": "Rome", "days": 3, "confirm": True})], one),
    'the number as a text, "3"': scored([("weather", {"city": "Rome", "days": "3"})], one),
    "the number as 3.0": scored([("weather", {"city": "Rome", "days": 3.0})], one),
    "an object with its keys in another order": scored([("book", {"who": {"age": 3, "name": "Ann"}})], nested),
    "made three times": scored(one * 3, one),
    "Rome, Oslo, Zurich for Rome, Oslo, Lima": scored(go("Rome", "Oslo", "Zurich"), go("Rome", "Oslo", "Lima")),
    "no call where none is right": scored([], []),
}
for title, score in cases.items():
    line(title, score)

data = os.path.join(os.path.dirname(importlib.util.find_spec("bfcl_eval").origin), "data")
CATEGORIES = ("simple_python", "multiple", "parallel", "parallel_multiple",
              "live_simple", "live_multiple", "live_parallel", "live_parallel_multiple")


def plain(value):
    """An accepted value of the key as a model would write it: in objects the first choice of each field."""
    if isinstance(value, dict):
        return {name: plain(choices[0]) if isinstance(choices, list) else choices
                for name, choices in value.items() if choices != [""] and not (isinstance(choices, list) and choices[0] == "")}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def changed(value, number=lambda n: n, order=list):
    """The value with every number put through `number` and every object's keys through `order`."""
    if isinstance(value, dict):
        return {name: changed(value[name], number, order) for name in order(value)}
    if isinstance(value, list):
        return [changed(inner, number, order) for inner in value]
    return number(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def backwards(names):
    return list(names)[::-1]


answers = []
for category in CATEGORIES:
    with open(os.path.join(data, "possible_answer", f"BFCL_v4_{category}.json"), encoding="utf-8") as file:
        for gold in (json.loads(row)["ground_truth"] for row in file):
            answers.append([(tool, {name: plain(choices[0]) for name, choices in arguments.items() if choices and choices[0] != ""})
                            for call in gold for tool, arguments in call.items()])


def share(title, change, which=lambda calls: True):
    """The mean scores of the changed right answers, over the answers that the change changes."""
    rows = [(calls, changes) for calls in answers if which(calls) and (changes := change(calls)) is not None]
    means = {name: 0.0 for name in METRICS}
    full = {name: 0 for name in METRICS}
    less = 0
    for calls, changes in rows:
        score = scored(changes, calls)
        less += score["any order"] < score["accuracy"] - 1e-9
        for name, value in score.items():
            means[name] += value / len(rows)
            full[name] += value > 1 - 1e-9
    print(f"  {title}, {len(rows)} answers; any order below strict: {less}")
    line("    mean", means)
    print(f"    scored 1.0: {full}")
    return len(rows), full, less, means


def invented(calls):
    return [(tool, {**arguments, "confirm": True}) for tool, arguments in calls]


def quoted(calls):
    new = [(tool, {name: str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value
                   for name, value in arguments.items()}) for tool, arguments in calls]
    return new if new != calls else None


def reordered(calls):
    new = [(tool, {name: changed(value, order=backwards) for name, value in arguments.items()}) for tool, arguments in calls]
    return new if json.dumps(new) != json.dumps(calls) else None


def last_wrong(calls):
    """The first text argument of the last call is another."""
    tool, arguments = calls[-1]
    texts = [name for name, value in arguments.items() if isinstance(value, str)]
    return [*calls[:-1], (tool, {**arguments, texts[0]: "Zzz"})] if texts else None


print(f"over {len(answers)} right answers of BFCL:")
more = share("an argument invented in each call", invented, lambda calls: all(arguments for _, arguments in calls))
text = share("every number as a text", quoted)
keys = share("objects with their keys backwards (right)", reordered)
wrong = share("the last of three or more calls of one tool wrong in one text", last_wrong,
              lambda calls: len(calls) > 2 and len({tool for tool, _ in calls}) == 1)
with open(os.path.join(data, "BFCL_v4_live_irrelevance.json"), encoding="utf-8") as file:
    print(f"  questions of live_irrelevance, for which F1 knows no right answer: {sum(1 for _ in file)}")
sys.exit(0 if more[0] == 2321 == more[1]["accuracy"] and more[1]["F1"] == 0 and text[0] == 934 == text[1]["accuracy"] and text[1]["F1"] == 0
         and keys[0] == 38 and keys[1]["accuracy"] == 0 and keys[1]["F1"] == keys[0] and wrong[0] == 66 and wrong[2] == 20
         and cases["Rome, Oslo, Zurich for Rome, Oslo, Lima"]["any order"] == 0.5
         and cases["Rome, Oslo, Zurich for Rome, Oslo, Lima"]["accuracy"] > 0.8
         and cases["no call where none is right"]["F1"] == 0 and cases["made three times"]["F1"] == 1 else 1)
PY
