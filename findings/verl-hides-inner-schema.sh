#!/usr/bin/env bash
# verl shows the policy a tool without what its lists and objects hold, and without the default of any argument.
#
# Guess before: the schema that verl makes of a function, or reads from a tool's YAML file, is what the chat template writes.
# What happens: verl keeps a tool as a pydantic model whose arguments have a type, a description and an enum. All else is
#   dropped without a word: `items`, inner `properties` and `required`, `additionalProperties`, `default`, `format`, bounds.
#   A policy is told "legs: array" where the tool wants objects with two given names, so it can only guess them, and is
#   rewarded or not for the guess. The schema that transformers makes of the same function is whole. Of BFCL's own tools
#   (single turn, Python) every second loses something, mostly defaults; 288 lose what a list holds and 56 lose names.
#   By its source verl's `ToolAgentLoop` hands the template exactly the dump that is made here; the loop itself is not run.
#   (The same fault is known of other packages' schema classes, mlflow's and ollama's; no report was found for verl.)
# So: say inner names and defaults in the description, or allow extra fields on the class as below, and print one prompt.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" install -q --disable-pip-version-check "$@" 2>>"$folder/noise" || { tail -3 "$folder/noise"; exit 1; }; }
pip torch==2.13.0 transformers==5.10.2 ray==2.60.0 tensordict==0.10.0 hydra-core==1.3.8 omegaconf==2.3.0 \
  codetiming==1.4.0 pandas==2.3.3 jinja2==3.1.6
pip --no-deps verl==0.9.1 bfcl-eval==2026.3.23
cd "$folder"
OMP_NUM_THREADS=1 TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" - 2>>"$folder/noise" <<'PY' || { tail -5 "$folder/noise"; exit 1; }
import collections, importlib.util, json, os, sys
from importlib.metadata import version
from transformers.utils import get_json_schema
from verl.tools import schemas
from verl.tools.function_tool import function_tool, get_function_tool

print(", ".join(f"{name} {version(name)}" for name in ("verl", "transformers", "pydantic", "bfcl-eval")))


def shown(schema):
    """What verl's tool agent loop puts into the prompt."""
    return schema.model_dump(exclude_unset=True, exclude_none=True)["function"]["parameters"]["properties"]


@function_tool
def book(cities: list[str], guests: dict[str, int]) -> str:
    """Book a journey.

    Args:
        cities: Where to go.
        guests: Who comes.
    """


whole = get_json_schema(book)["function"]["parameters"]["properties"]
seen = shown(get_function_tool("book").tool_schema)
print("a function's schema by transformers:", json.dumps(whole))
print("                      shown by verl:", json.dumps(seen))

legs = {"type": "array", "description": "The legs.", "items": {"type": "object", "required": ["from_city", "to_city"],
        "properties": {"from_city": {"type": "string"}, "to_city": {"type": "string"}}}}
tool = {"type": "function", "function": {"name": "route", "description": "Plan.", "parameters": {
    "type": "object", "required": ["legs"],
    "properties": {"legs": legs, "limit": {"type": "integer", "default": 10, "description": "At most."}}}}}
print("a written schema:", json.dumps(tool["function"]["parameters"]["properties"]))
print("   shown by verl:", json.dumps(shown(schemas.OpenAIFunctionToolSchema.model_validate(tool))))

NAMES = {"dict": "object", "float": "number", "tuple": "array", "any": "string"}  # BFCL's types in JSON Schema's words


def in_json_schema(schema):
    out = dict(schema)
    if "type" in out:
        out["type"] = NAMES.get(out["type"], out["type"])
    if "items" in out:
        out["items"] = in_json_schema(out["items"])
    if "properties" in out:
        out["properties"] = {name: in_json_schema(inner) for name, inner in out["properties"].items()}
    out.pop("optional", None)  # no keyword of JSON Schema
    return out


data = os.path.join(os.path.dirname(importlib.util.find_spec("bfcl_eval").origin), "data")
categories = ("simple_python", "multiple", "parallel", "parallel_multiple",
              "live_simple", "live_multiple", "live_parallel", "live_parallel_multiple")
tools = {}
for category in categories:
    with open(os.path.join(data, f"BFCL_v4_{category}.json"), encoding="utf-8") as lines:
        for tool_ in (tool_ for line in lines for tool_ in json.loads(line)["function"]):
            tools[json.dumps(tool_, sort_keys=True)] = {**tool_, "parameters": in_json_schema(tool_["parameters"])}


def losses():
    lost = collections.Counter()
    for tool_ in tools.values():
        before = tool_["parameters"]["properties"]
        after = shown(schemas.OpenAIFunctionToolSchema.model_validate({"type": "function", "function": tool_}))
        gone = {key for name, argument in before.items() for key, value in argument.items()
                if value is not None and key not in after[name]}
        lost["anything"] += bool(gone)
        lost["inner names"] += any("properties" in argument and "properties" not in after[name]
                                   or "properties" in argument.get("items", {}) and "items" not in after[name]
                                   for name, argument in before.items())
        lost.update(gone)
    return lost


lost = losses()
print(f"of {len(tools)} tools of BFCL lose", ", ".join(f"{key}: {n}" for key, n in lost.most_common()))

argument = schemas.OpenAIFunctionPropertySchema
argument.model_config["extra"] = "allow"
for model in (argument, schemas.OpenAIFunctionParametersSchema, schemas.OpenAIFunctionSchema, schemas.OpenAIFunctionToolSchema):
    model.model_rebuild(force=True)
mended = losses()
print(f"with extra fields allowed on {argument.__name__}: {mended['anything']}")
bare = {name: {key: value for key, value in argument.items() if key in ("type", "description")} for name, argument in whole.items()}
sys.exit(0 if seen == bare != whole and (lost["anything"], lost["items"], lost["inner names"]) == (1226, 288, 56)
         and not mended["anything"] else 1)
PY
