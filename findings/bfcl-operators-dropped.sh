#!/usr/bin/env bash
# BFCL's official checker takes x/2 for x**2, exp(x**2) for exp(-x**2), host 19.216.80.10 for 192.168.0.10.
#
# Guess before: text arguments are compared with case and spaces aside; an arithmetic sign or a digit group that changes
#   the meaning makes an answer wrong.
# What happens: the checker removes blanks and , . / - _ * ^ from both sides before it compares (meant for "April 1,
#   2024"). In questions on calculus that removes the operators, in hosts and versions the dots. Answers to
#   the benchmark's own questions that are plainly wrong are valid.
# So: a "right" share of the categories with such arguments is an upper bound; a training reward should not copy the rule.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --no-deps bfcl-eval==2026.3.23 2>/dev/null
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import importlib.util, json, os, sys, types
from importlib.metadata import version

# The checker asks its table of models one question: are dots in names written as underscores? The table imports dozens
# of API clients, so a table of one stands in for it.
table = types.ModuleType("bfcl_eval.constants.model_config")
table.MODEL_CONFIG_MAPPING = {"any": types.SimpleNamespace(underscore_to_dot=False)}
sys.modules[table.__name__] = table
from bfcl_eval.constants.enums import Language
from bfcl_eval.eval_checker.ast_eval.ast_checker import ast_checker

print("bfcl-eval", version("bfcl-eval"))
data = os.path.join(os.path.dirname(importlib.util.find_spec("bfcl_eval").origin), "data")


def rows(path):
    return {row["id"]: row for row in map(json.loads, open(os.path.join(data, path), encoding="utf-8"))}


def changed(category, id, argument, wrong):
    """The official verdict on the gold answer of a question, and on the same with one argument replaced."""
    name = f"BFCL_v4_{category}.json"
    question, gold = rows(name)[id], rows(os.path.join("possible_answer", name))[id]["ground_truth"]
    calls = [{tool: {p: options[0] for p, options in arguments.items()} for tool, arguments in call.items()} for call in gold]
    def verdict():
        return ast_checker(question["function"], calls, gold, Language.PYTHON, category, "any")["valid"]
    right = verdict()
    tool = next(iter(calls[0]))
    was, calls[0][tool][argument] = calls[0][tool][argument], wrong
    wrong_valid = verdict()
    print(f"{id:22} {tool}({argument}=): gold {was!r} valid {right}; {wrong!r} valid {wrong_valid}")
    return right and wrong_valid


found = [
    changed("simple_python", "simple_python_13", "function", "x/2"),
    changed("simple_python", "simple_python_15", "function", "x-3"),
    changed("simple_python", "simple_python_16", "function", "lambda x: 2x-2"),
    changed("parallel_multiple", "parallel_multiple_19", "function", "exp(x**2)"),
    changed("live_multiple", "live_multiple_72-32-0", "host", "19.216.80.10"),
    changed("live_multiple", "live_multiple_258-122-0", "version", "21.3"),
]
control = changed("simple_python", "simple_python_13", "function", "x+2")
print(f"{sum(found)} of {len(found)} wrong answers are valid; the one control (a plus sign, which is kept) is {'valid' if control else 'refused'}")
sys.exit(0 if all(found) and not control else 1)
PY
