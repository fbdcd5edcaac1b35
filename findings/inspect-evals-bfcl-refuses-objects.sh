#!/usr/bin/env bash
# Inspect Evals' BFCL scores every right answer as wrong where an argument holds an object: 18 of live_simple's 258 questions.
#
# Guess before: a second implementation of BFCL's checker gives the official verdicts, up to the changes that it names.
# What happens: BFCL's key lists the accepted values of each field inside an object too, {"min": [300000], "max": [400000]}.
#   The official checker looks into them, the scorer of inspect-evals compares the model's object with that as it stands,
#   and no object is equal to it. Of the key's own first answers, which the official checker takes, all with an object or a
#   list of objects are refused, and no other. A model that writes nested arguments well is ranked by what it cannot show.
#   (0.28.0 does the same. No report was found; of other ports of BFCL other faults are reported, AU-Harness issue 31.)
# So: do not set a number of inspect-evals beside one of bfcl-eval; score the logs again with the official checker.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" install -q --disable-pip-version-check "$@" 2>>"$folder/noise" || { tail -3 "$folder/noise"; exit 1; }; }
pip inspect-evals==0.26.0 inspect-ai==0.3.285
pip --no-deps bfcl-eval==2026.3.23
cd "$folder"
"$folder/venv/bin/python" - 2>>"$folder/noise" <<'PY' || { tail -5 "$folder/noise"; exit 1; }
import importlib.util, json, os, sys, types
from importlib.metadata import version

# The official checker asks its table of models one question: are dots in names written as underscores? The table imports
# dozens of API clients, so a table of one stands in for it.
table = types.ModuleType("bfcl_eval.constants.model_config")
table.MODEL_CONFIG_MAPPING = {"any": types.SimpleNamespace(underscore_to_dot=False)}
sys.modules[table.__name__] = table
from bfcl_eval.constants.enums import Language
from bfcl_eval.eval_checker.ast_eval.ast_checker import ast_checker
from inspect_ai.model import ChatMessageAssistant
from inspect_ai.scorer import Target
from inspect_ai.solver import TaskState
from inspect_ai.tool import ToolCall
from inspect_evals.bfcl.bfcl import single_turn_record_to_sample
from inspect_evals.bfcl.data import BFCLRecord
from inspect_evals.bfcl.score.scorer import ast_match
from inspect_evals.bfcl.utils import CATEGORIES as categories

print(", ".join(f"{name} {version(name)}" for name in ("inspect-evals", "inspect-ai", "bfcl-eval")))
data = os.path.join(os.path.dirname(importlib.util.find_spec("bfcl_eval").origin), "data")
CATEGORIES = ("simple_python", "multiple", "parallel", "parallel_multiple",
              "live_simple", "live_multiple", "live_parallel", "live_parallel_multiple")


def rows(path):
    with open(os.path.join(data, path), encoding="utf-8") as lines:
        return {row["id"]: row for row in map(json.loads, lines)}


def plain(value):
    """An accepted value of the key as a model would write it: in objects the first choice of each field."""
    if isinstance(value, dict):
        return {name: plain(choices[0]) if isinstance(choices, list) else choices
                for name, choices in value.items() if choices != [""] and not (isinstance(choices, list) and choices[0] == "")}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def has_object(value):
    return isinstance(value, dict) or isinstance(value, list) and any(map(has_object, value))


def by_inspect(category, question, gold, calls):
    record = BFCLRecord(id=question["id"], category_name=category, question=question["question"], ground_truth=gold,
                        function=question["function"], turns=1, language="python")
    sample = single_turn_record_to_sample(record)
    told = [ToolCall(id=str(i), function=name, arguments=arguments)
            for i, (name, arguments) in enumerate((name, arguments) for call in calls for name, arguments in call.items())]
    state = TaskState(model="none/none", sample_id=sample.id, epoch=1, input=sample.input, metadata=sample.metadata,
                      messages=[ChatMessageAssistant(content="", tool_calls=told)])
    return bool(ast_match(state, Target(sample.target), categories[category]).value)


refused, refused_other, accepted_objects, taken = {}, 0, 0, 0
for category in CATEGORIES:
    questions, keys = rows(f"BFCL_v4_{category}.json"), rows(f"possible_answer/BFCL_v4_{category}.json")
    for id, question in questions.items():
        gold = keys[id]["ground_truth"]
        calls = [{tool: {name: plain(choices[0]) for name, choices in arguments.items() if choices and choices[0] != ""}
                  for tool, arguments in call.items()} for call in gold]
        right = ast_checker(question["function"], calls, gold, Language.PYTHON, category, "any")["valid"]
        theirs = by_inspect(category, question, gold, calls)
        nested = any(has_object(value) for call in calls for arguments in call.values() for value in arguments.values())
        if right and not theirs:
            refused.setdefault(category, []).append((id, calls))
            refused_other += not nested
        accepted_objects += right and theirs and nested
        taken += theirs and not right
    print(f"{category:23} {len(refused.get(category, [])):2} of {len(questions):4} right answers are refused")
id, calls = refused["multiple"][0]
print(f"for example {id}: {json.dumps(calls[0])}\n  key: {json.dumps(rows('possible_answer/BFCL_v4_multiple.json')[id]['ground_truth'][0])}")
print(f"in all {sum(map(len, refused.values()))}, without an object in an argument {refused_other}; "
      f"right answers with an object that pass: {accepted_objects}; wrong by the official checker and passed: {taken}")
sys.exit(0 if sum(map(len, refused.values())) == 42 and len(refused["live_simple"]) == 18
         and not refused_other and not accepted_objects else 1)
PY
