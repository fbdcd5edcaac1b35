#!/usr/bin/env bash
# ACEBench's checker, and evalscope's port of it, compare no number and no boolean: every wrong one is right.
#
# Guess before: a benchmark of function calls, with a category for booleans and one for numbers, refuses `hour=19` where the
#   key says 7 and `repeat=False` where it says True; at worst a wrong value of a rare type name ("enum") slips through.
# What happens: the checker looks at the type of each argument and then calls a comparison for texts, for lists and for
#   objects. There is none for integers, numbers and booleans: any value of the type is right. Below, answers to BFCL's
#   own single-call questions are given to BFCL's checker and to ACEBench's, in the form that ACEBench asks for: of 1,207
#   wrong numbers and booleans that the first refuses the second takes all, of 3,141 wrong texts one. (But a text passes
#   that holds the key's text, "not Paris" too, and a number in an object that holds the key's digits, 120 for 20; lists
#   are compared.) On ACEBench's own English data, its repository at e6db74b, all 211 wrong numbers and booleans pass, by
#   its own model_eval/checker.py as well as by the port in evalscope 1.14.1, 44 in the category atom_bool and 62 in
#   atom_number, which are there to test just these. The port is faithful by intent; its notes name other surprising rules
#   and not this one. (`ACEBENCH=folder` of a checkout counts the port there again. No report was found.)
# So: such a score says that a number stood there, not which; compare these arguments by `==` yourself, and never let the
#   verdict be a reward: a policy is paid as much for `amount=1` as for the amount that was asked for.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" install -q --no-compile --disable-pip-version-check "$@" 2>>"$folder/noise" || { tail -3 "$folder/noise"; exit 1; }; }
pip --no-deps evalscope==1.14.1 bfcl-eval==2026.3.23
pip tree_sitter==0.21.3 tree-sitter-java==0.21.0 tree-sitter-javascript==0.21.4
export ACEBENCH=${ACEBENCH:+$(realpath "$ACEBENCH")}
cd "$folder"
"$folder/venv/bin/python" -W ignore - 2>>"$folder/noise" <<'PY' || { tail -5 "$folder/noise"; exit 1; }
import importlib.util, json, os, sys, types
from collections import Counter
from importlib.metadata import version
from pathlib import Path

# The official checker asks its table of models one question: are dots in names written as underscores? The table imports
# dozens of API clients, so a table of one stands in for it.
table = types.ModuleType("bfcl_eval.constants.model_config")
table.MODEL_CONFIG_MAPPING = {"any": types.SimpleNamespace(underscore_to_dot=False)}
sys.modules[table.__name__] = table
from bfcl_eval.constants.enums import Language
from bfcl_eval.eval_checker.ast_eval.ast_checker import ast_checker

# evalscope's two modules that score, without the rest of evalscope, which wants torch and much more.
ace = types.ModuleType("acebench")
ace.__path__ = [str(Path(importlib.util.find_spec("evalscope").origin).parent / "benchmarks" / "acebench")]
sys.modules["acebench"] = ace
from acebench.checker import check_normal_answer, strip_answer_index
from acebench.parser import decode_calls

print(", ".join(f"{name} {version(name)}" for name in ("evalscope", "bfcl-eval")))
data = Path(importlib.util.find_spec("bfcl_eval").origin).parent / "data"


def rows(path):
    return {row["id"]: row for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())}


def written(calls):
    """Calls as ACEBench wants them to be written."""
    return "[" + ", ".join(f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
                           for call in calls for name, arguments in call.items()) + "]"


def by_ace(functions, calls, key, category="normal_atom_number"):
    return check_normal_answer(functions, decode_calls(written(calls), category), key, category)["valid"]


def wrong(value):
    """Another value of the same type, and what to count it as."""
    if isinstance(value, bool):
        return "boolean", not value
    if isinstance(value, (int, float)):
        return ("integer", value + 1000) if isinstance(value, int) else ("decimal", value + 1000.25)
    if isinstance(value, str) and value:
        return "text", "something else"
    if isinstance(value, list) and value and all(type(inner) in (int, float) for inner in value):
        return "list of numbers", [inner + 1000 for inner in value]
    return None, None


def plain(value):
    if isinstance(value, dict):
        return {name: plain(choices[0]) if isinstance(choices, list) else choices
                for name, choices in value.items() if not isinstance(choices, list) or choices[0] != ""}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


tried, taken, examples, right, longer = Counter(), Counter(), {}, Counter(), Counter()
for category in ("simple_python", "multiple", "live_simple", "live_multiple"):
    keys = rows(data / "possible_answer" / f"BFCL_v4_{category}.json")
    for id, question in rows(data / f"BFCL_v4_{category}.json").items():
        (name, choices), = keys[id]["ground_truth"][0].items()
        arguments = {key: plain(values[0]) for key, values in choices.items() if values and values[0] != ""}

        def both(arguments):
            bfcl = ast_checker(question["function"], [{name: arguments}], keys[id]["ground_truth"], Language.PYTHON, category, "any")
            return bfcl["valid"], by_ace(question["function"], [{name: arguments}], gold)

        gold = {name: dict(arguments)}
        if not arguments or both(arguments) != (True, True):
            continue
        right[category] += 1
        for key, value in arguments.items():
            kind, other = wrong(value)
            if kind:
                bfcl, ours = both({**arguments, key: other})
                if not bfcl:
                    tried[kind] += 1
                    taken[kind] += ours
                    if ours:
                        examples.setdefault(kind, (id, name, key, value, other))
            if kind == "text":
                bfcl, ours = both({**arguments, key: "not " + value})
                longer["tried"] += not bfcl
                longer["taken"] += ours and not bfcl
print(f"{sum(right.values())} right answers of BFCL's single-call questions pass both checkers; one wrong argument each, refused by BFCL's:")
for kind in sorted(tried):
    print(f"  {kind:15} ACEBench's takes {taken[kind]:4} of {tried[kind]}" + (
        "; {}: {}(... {}={!r} ...) is right, the key says {!r}".format(*(examples[kind][i] for i in (0, 1, 2, 4, 3))) if kind in examples else ""))
print(f'  "not " + text    ACEBench\'s takes {longer["taken"]} of {longer["tried"]}')

alarm = [{"name": "set_alarm", "parameters": {"type": "object", "required": ["hour", "repeat", "snooze"], "properties": {
    "hour": {"type": "integer"}, "repeat": {"type": "boolean"}, "snooze": {"type": "object", "properties": {"minutes": {"type": "integer"}}}}}}]
key = {"set_alarm": {"hour": 7, "repeat": True, "snooze": {"minutes": 20}}}
answers = [{"hour": 7, "repeat": True, "snooze": {"minutes": 20}}, {"hour": 19, "repeat": False, "snooze": {"minutes": 20}},
           {"hour": 7, "repeat": True, "snooze": {"minutes": 120}}, {"hour": 7, "repeat": True, "snooze": {"minutes": 5}},
           {"hour": "7", "repeat": True, "snooze": {"minutes": 20}}]
verdicts = [by_ace(alarm, [{"set_alarm": answer}], key) for answer in answers]
for answer, verdict in zip(answers, verdicts):
    print(f"  {'right' if verdict else 'wrong'}: {written([{'set_alarm': answer}])}")

if os.environ.get("ACEBENCH"):
    own, found = Path(os.environ["ACEBENCH"]) / "data_all" / "data_en", Counter()
    for file in sorted((own / "possible_answer").glob("data_normal_*.json")):
        questions, category = rows(own / file.name), file.stem.removeprefix("data_")
        for id, row in rows(file).items():
            candidates = row["ground_truth"] if isinstance(row["ground_truth"], list) else [row["ground_truth"]]
            calls = [{strip_answer_index(name): arguments} for name, arguments in candidates[0].items()]
            if not check_normal_answer(questions[id]["function"], calls, row["ground_truth"], category)["valid"]:
                continue
            for i, call in enumerate(calls):
                for name, arguments in call.items():
                    for key_, value in arguments.items():
                        kind, other = wrong(value)
                        if kind in ("boolean", "integer", "decimal"):
                            changed = [*calls[:i], {name: {**arguments, key_: other}}, *calls[i + 1:]]
                            found[category, "tried"] += 1
                            found[category, "taken"] += check_normal_answer(questions[id]["function"], changed, row["ground_truth"], category)["valid"]
    for category in sorted({category for category, _ in found}):
        print(f"  ACEBench's {category}: takes {found[category, 'taken']} of {found[category, 'tried']} wrong numbers and booleans")
sys.exit(0 if all(taken[kind] == tried[kind] > 100 for kind in ("integer", "boolean", "decimal")) and not taken["list of numbers"]
         and taken["text"] < tried["text"] / 50 and longer["taken"] > longer["tried"] * 0.9
         and verdicts == [True, True, True, False, False] else 1)
PY
