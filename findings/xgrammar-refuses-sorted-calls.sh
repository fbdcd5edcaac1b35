#!/usr/bin/env bash
# XGrammar's own grammar for Gemma 4 refuses half of the right calls of BFCL as Gemma 4's own template writes them.
#
# Guess before: `get_model_structural_tag(family, tools)`, which serving engines put over a model's calls, takes every call
#   that obeys its schema in the form in which the family's chat template writes it; so it is for Qwen3, Llama and GLM.
# What happens: all five Gemma 4 templates that TRL ships write a call's arguments sorted by name (the tool's properties in
#   the prompt, too), so a policy is tuned on sorted calls and shown sorted tools. The grammar of XGrammar 0.2.9 wants the
#   order in which the schema was declared, which the prompt does not tell. Of 3,126 right calls of BFCL that obey their
#   schema it refuses 1,667; for Qwen3, Llama and GLM their grammars refuse 6. A required argument that is out of place
#   forces the policy onto a name that it would not sample next, so under RL sampler and trainer disagree. An optional
#   one can no longer be written at all: in 112 calls what stands before it is complete for the grammar, so a right call
#   can turn into another without a word. With Qwen3.5's first template 289 are refused, most for a boolean written True.
#   (That the declared order binds is known, issues 474 and 831 of XGrammar; no report was found of Gemma 4's templates.
#   No model was run.)
# So: hand over the schema with its properties sorted, inner ones too, as below. `any_order=True` takes these calls as well,
#   and one without its required argument. And try one rendered call on the grammar before sampling under it.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" install -q --disable-pip-version-check "$@" 2>>"$folder/noise" || { tail -3 "$folder/noise"; exit 1; }; }
pip torch==2.13.0 transformers==5.24.0 xgrammar==0.2.9 jsonschema==4.26.0
pip --no-deps trl==1.16.0 bfcl-eval==2026.3.23
cd "$folder"
OMP_NUM_THREADS=1 TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" - 2>>"$folder/noise" <<'PY' || { tail -5 "$folder/noise"; exit 1; }
import collections, importlib.util, json, os, sys
from importlib.metadata import version
import jsonschema, xgrammar
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

print(", ".join(f"{name} {version(name)}" for name in ("xgrammar", "trl", "transformers", "bfcl-eval")))
templates, data = (os.path.join(os.path.dirname(importlib.util.find_spec(name).origin), inner)
                   for name, inner in (("trl", "chat_templates"), ("bfcl_eval", "data")))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
compiler = xgrammar.GrammarCompiler(xgrammar.TokenizerInfo([]))
# Family in XGrammar's words, its template at TRL, where a call begins, what ends the turn behind it.
FAMILIES = [("qwen_3", "qwen3", "<tool_call>", "<|im_end|>\n"), ("llama", "llama3_1", '{"name"', "<|eot_id|>"),
            ("glm_4_7", "glm4moe", "<tool_call>", ""), ("qwen_3_5", "qwen3_5_nothink", "<tool_call>", "<|im_end|>\n"),
            *(("gemma_4", f"gemma4{v}", "<|tool_call>", "<turn|>\n" if v == "_v2" else "<|tool_response>")
              for v in ("", "_v2", "_v3", "_v4", "_v5"))]


def written(tool, arguments, begin, end):
    question = {"role": "user", "content": "Go."}
    call = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "act", "arguments": arguments}}]}
    asked, text = (tokenizer.apply_chat_template(talk, tools=[tool], tokenize=False) for talk in ([question], [question, call]))
    return text[text.index(begin, len(asked)):].removesuffix(end)


def takes(family, tool, text, **options):
    tag = xgrammar.get_model_structural_tag(family, tools=[tool], tool_choice="required", reasoning="disabled", **options)
    matcher = xgrammar.GrammarMatcher(compiler.compile_structural_tag(tag), terminate_without_stop_token=True)
    return matcher.accept_string(text) and matcher.is_completed()


def tool_of(schema):
    return {"type": "function", "function": {"name": "act", "description": "Act.", "parameters": schema}}


def in_json_schema(schema):
    out = {name: value for name, value in schema.items() if name not in ("type", "optional", "default")}
    kind = {"dict": "object", "float": "number", "tuple": "array"}.get(schema.get("type"), schema.get("type"))
    out |= {"type": kind} if kind and kind != "any" else {}
    out |= {"items": in_json_schema(schema["items"])} if "items" in schema else {}
    return out | ({"properties": {n: in_json_schema(s) for n, s in schema["properties"].items()}} if "properties" in schema else {})


def by_name(schema):
    """The schema with its properties sorted as the template sorts them, without regard to case."""
    out = schema | ({"items": by_name(schema["items"])} if "items" in schema else {})
    return out | ({"properties": {n: by_name(s) for n, s in sorted(schema["properties"].items(), key=lambda p: p[0].lower())}}
                  if "properties" in schema else {})


def plain(value):
    """An accepted value of BFCL's key as a model would write it: in objects the first choice of each field."""
    if isinstance(value, dict):
        return {n: plain(c[0]) if isinstance(c, list) else c for n, c in value.items() if not (isinstance(c, list) and c[0] == "")}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


calls = []
for category in ("simple_python", "multiple", "parallel", "parallel_multiple",
                 "live_simple", "live_multiple", "live_parallel", "live_parallel_multiple"):
    with open(f"{data}/BFCL_v4_{category}.json", encoding="utf-8") as asked, \
            open(f"{data}/possible_answer/BFCL_v4_{category}.json", encoding="utf-8") as key:
        for question, answer in ((json.loads(a), json.loads(b)) for a, b in zip(asked, key)):
            schemas = {tool["name"]: in_json_schema(tool["parameters"]) for tool in question["function"]}
            for name, gold in (pair for call in answer["ground_truth"] for pair in call.items() if pair[0] in schemas):
                right = {n: plain(gold[n][0]) for n in schemas[name]["properties"] if gold.get(n) and gold[n][0] != ""}
                if jsonschema.Draft202012Validator(schemas[name]).is_valid(right):
                    calls.append((schemas[name], right))
small = tool_of({"type": "object", "required": ["to"], "properties": {"to": {"type": "string"}, "day": {"type": "string"}}})
print(f"a tool that declares to, then day; and {len(calls)} right calls of BFCL that obey their schemas, in the declared order:")
taken, refused = {}, {}
for family, template, begin, end in FAMILIES:
    with open(f"{templates}/{template}.jinja", encoding="utf-8") as file:
        tokenizer.chat_template = file.read()
    text = written(small, {"to": "Rome", "day": "Friday"}, begin, end)
    refused[template] = not takes(family, small, text)
    print(f"  {template:16} {text!r}: {'REFUSED' if refused[template] else 'taken'}", flush=True)
    if family == "gemma_4" and template != "gemma4_v5":
        continue  # All five write calls alike.
    taken[template] = [(schema, right) for schema, right in calls if takes(family, tool_of(schema), written(tool_of(schema), right, begin, end))]
    print(f"  {'':16} of BFCL's calls it takes {len(taken[template])}", flush=True)

ways = collections.Counter()
for schema, right in calls:
    tool, order = tool_of(schema), sorted(right, key=str.lower)
    text = written(tool, right, begin, end)
    ways["taken with any_order=True"] += takes("gemma_4", tool, text, any_order=True)
    ways["taken with the schema's properties sorted by name"] += takes("gemma_4", tool_of(by_name(schema)), text)
    ways["refused, and complete before the refused argument"] += (schema, right) not in taken["gemma4_v5"] and any(
        takes("gemma_4", tool, written(tool, {n: right[n] for n in order[:k]}, begin, end)) for k in range(1, len(order)))
print("Gemma 4:", dict(ways))
lacking = '<|tool_call>call:act{day:<|"|>Friday<|"|>}<tool_call|>'
loose, strict = (takes("gemma_4", tool_of(by_name(small["function"]["parameters"])), lacking, any_order=any_order) for any_order in (True, False))
print(f"a call without its required argument, {lacking}: with any_order=True {loose}, with sorted properties {strict}")
few, right_for = len(taken["gemma4_v5"]), 0.99 * len(calls)
sys.exit(0 if (len(calls), few) == (3126, 1459) and all(refused[name] == name.startswith("gemma4") for name in refused) and loose and not strict
         and all(len(taken[name]) > right_for for name in ("qwen3", "llama3_1", "glm4moe")) and len(taken["qwen3_5_nothink"]) < right_for
         and ways["taken with the schema's properties sorted by name"] > right_for
         and ways["refused, and complete before the refused argument"] == 112 else 1)
PY
