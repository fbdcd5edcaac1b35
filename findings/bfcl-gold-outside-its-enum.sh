#!/usr/bin/env bash
# BFCL v4, live part: thirteen questions can only be answered right by breaking the schema that they show.
#
# Guess before: none; the live part was cleaned several times and its answers pass the official checker.
# What happens: in 12 of 1,053 live_multiple questions and 1 of 24 live_parallel_multiple an argument that may not be left
#   out has only gold values outside the `enum` of the question's own tool. In some the schema contradicts itself
#   (a boolean or integer whose enum lists texts), so that no value at all obeys it. The six other Python categories, 1,274
#   questions, have none. A first count, which forgot that many arguments may be left out ("" among the options), said 41.
# So: a server that enforces schemas (structured outputs, "strict": true, a grammar) is wrong there by construction, or
#   refuses the tool; and gold has to be checked against its enum before such rows become training rewards.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --no-deps bfcl-eval==2026.3.23 2>/dev/null
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import importlib.util, json, os, sys
from importlib.metadata import version

print("bfcl-eval", version("bfcl-eval"))
data = os.path.join(os.path.dirname(importlib.util.find_spec("bfcl_eval").origin), "data")
EXPECTED = {"live_multiple": 12, "live_parallel_multiple": 1}  # questions; none in the other categories


def rows(path):
    return [json.loads(line) for line in open(os.path.join(data, path), encoding="utf-8")]


counts, examples = {}, []
for category in ("simple_python", "multiple", "parallel", "parallel_multiple", "live_simple", "live_multiple", "live_parallel", "live_parallel_multiple"):
    name = f"BFCL_v4_{category}.json"
    tools = {row["id"]: {tool["name"]: tool["parameters"]["properties"] for tool in row["function"]} for row in rows(name)}
    impossible = set()
    for row in rows(os.path.join("possible_answer", name)):
        for call in row["ground_truth"]:
            for tool, arguments in call.items():
                for argument, options in arguments.items():
                    allowed = tools[row["id"]].get(tool, {}).get(argument, {}).get("enum")
                    # "" among the options means: may be left out. Lists are compared element by element elsewhere.
                    if allowed is None or "" in options or any(isinstance(o, (list, dict)) for o in options):
                        continue
                    if not any(option in allowed for option in options):
                        impossible.add(row["id"])
                        examples.append((row["id"], argument, options, allowed))
    counts[category] = len(impossible)
    print(f"{category:24} {len(impossible):3} of {len(tools):4} questions")
for id, argument, options, allowed in examples[:4] + examples[-2:]:
    print(f"  {id}: {argument} must be {options}, its enum is {str(allowed)[:90]}")
sys.exit(0 if {name: n for name, n in counts.items() if n} == EXPECTED else 1)
PY
