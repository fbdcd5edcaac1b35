#!/usr/bin/env bash
# The Jinja of transformers.js renders LFM2.5's, Nemotron 3's and Qwen3.5's calls as another text than Python does, and refuses an argument called items.
#
# Guess before: the chat template of a model writes the same prompt in JavaScript as in Python, where it was trained, but
#   for numbers such as 10.0, which JavaScript does not know; so it is for Qwen3, Qwen3.6, Llama 3.1 and Gemma 4.
# What happens: transformers.js 4.3 renders by @huggingface/jinja (node-llama-cpp has it, too). That writes a boolean
#   as `true` where Python's Jinja writes `True`, and has no text for null. Qwen3.5's, LFM2.5's and Nemotron 3's
#   templates write a call's plain values so. Of 736 of BFCL's calls, none with such a number, 68, 121 and 68 become
#   another text, without a word. In LFM2.5's, which are Python, `formatted=true` is an unknown name, and a list's texts
#   change their quotes. The model reads its own earlier calls in a form that it was not tuned on, and is shown to go on
#   so. Nemotron's prompt holds the tools' defaults: for 64 of 736 tools it is another text before anything is called,
#   and for 33, with null as a default, there is none at all ("Cannot apply filter "string" to type: NullValue"). And
#   `arguments.items()` is a method in Python, but in JavaScript it is the argument of that name, if there is one ("not
#   a function: got ArrayValue"): GLM 4.5, LFM2.5 and Muse Glimmer can't render what comes after order(items=[...]), so
#   an agent ends behind its first call.
#   (Transformers' docs advise authors of templates, in general, to keep to what all Jinjas share, and to use tojson; no
#   report of these was found. No model was run: what it costs in right calls is not known here.)
# So: name no argument items. In the template write `'True' if v is true else 'False' if v is false else 'None' if v is none
#   else v | string` for `v | string`: then both write Qwen3.5's and Nemotron's calls alike (tried by hand). LFM2.5's lists
#   and Nemotron's tools need a prompt that Python rendered. Compare one tool and one call before a model is shipped.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() {
  "$folder/venv/bin/pip" install -q --no-compile --disable-pip-version-check "$@" 2>>"$folder/noise" ||
    { tail -3 "$folder/noise"; exit 1; }
}
pip transformers==5.24.0 jinja2==3.1.6
pip --no-deps trl==1.16.0 bfcl-eval==2026.3.23
cd "$folder"
npm install --silent --no-save --prefix . @huggingface/jinja@0.5.11 >>noise 2>&1 || { tail -3 noise; exit 1; }
cat > render.mjs <<'JS'
import fs from "fs";
import { Template } from "@huggingface/jinja";
const cases = JSON.parse(fs.readFileSync("cases.json", "utf8")), out = {};
for (const [name, source] of Object.entries(JSON.parse(fs.readFileSync("templates.json", "utf8")))) {
  const template = new Template(source);
  out[name] = cases.map((given) => {
    try { return template.render(given); } catch (error) { return { error: String(error.message) }; }
  });
}
fs.writeFileSync("rendered.json", JSON.stringify(out));
JS
export OMP_NUM_THREADS=1 TRANSFORMERS_VERBOSITY=error
"$folder/venv/bin/python" -W ignore - 2>>noise <<'PY' || { tail -5 noise; exit 1; }
import collections, importlib.util, json, os, subprocess, sys
from importlib.metadata import version
from pathlib import Path
from transformers.utils.chat_template_utils import _compile_jinja_template

jinja = json.loads(Path("node_modules/@huggingface/jinja/package.json").read_text(encoding="utf-8"))["version"]
versions = {name: version(name) for name in ("transformers", "jinja2", "trl", "bfcl-eval")} | {"@huggingface/jinja": jinja}
print(", ".join(f"{name} {number}" for name, number in versions.items()))
folder = Path(importlib.util.find_spec("trl").origin).parent / "chat_templates"
data = Path(importlib.util.find_spec("bfcl_eval").origin).parent / "data"
NAMES = ("qwen3", "qwen3_6", "llama3_1", "gemma4_v5", "glm4moe", "muse_glimmer", "qwen3_5_think", "lfm2_2_5_v2",
         "nemotron_3_nano")
KINDS = {"dict": "object", "float": "number", "tuple": "array"}


def plain(value):
    """An accepted value of the key as a model would write it: in objects the first choice of each field."""
    if isinstance(value, dict):
        return {name: plain(choices[0]) if isinstance(choices, list) else choices for name, choices in value.items()
                if choices != [""] and not (isinstance(choices, list) and choices[0] == "")}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def schema(value):
    """BFCL's schema with the names that JSON Schema has for its types."""
    if not isinstance(value, dict):
        return value
    value = {name: schema(inner) for name, inner in value.items()}
    if isinstance(value.get("type"), str):
        value["type"] = KINDS.get(value["type"], value["type"])
    return value


def same_in_both(value):
    """JavaScript has one kind of number: what holds 10.0 or 1e-07 is left out, as it can't come out the same."""
    if isinstance(value, float):
        return value != int(value) and "e" not in repr(value)
    if isinstance(value, dict):
        return all(map(same_in_both, value.values()))
    return all(map(same_in_both, value)) if isinstance(value, list) else True


gold = []
for category in ("simple_python", "multiple", "parallel", "parallel_multiple",
                 "live_simple", "live_multiple", "live_parallel", "live_parallel_multiple"):
    rows, answers = ([json.loads(line) for line in text.splitlines()] for text in (
        (data / path / f"BFCL_v4_{category}.json").read_text(encoding="utf-8") for path in ("", "possible_answer")))
    keys = {row["id"]: row["ground_truth"] for row in answers}
    for row in rows:
        for call in keys[row["id"]]:
            (name, arguments), = call.items()
            tools = [{"type": "function", "function": {**tool, "parameters": schema(tool["parameters"])}}
                     for tool in row["function"] if tool["name"] == name]
            arguments = {key: plain(choices[0]) for key, choices in arguments.items() if choices and choices[0] != ""}
            if same_in_both([tools, arguments]):
                gold.append((tools, name, arguments))
gold = gold[::4]
fixed = {"bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True}
question = {"role": "user", "content": "Please do it."}
cases = [{"messages": [question], "tools": tools, **fixed} for tools, _, _ in gold]
for _, name, arguments in gold:
    call = {"id": "call00001", "type": "function", "function": {"name": name, "arguments": arguments}}
    cases.append({"messages": [question, {"role": "assistant", "content": "", "tool_calls": [call]},
                               {"role": "tool", "name": name, "tool_call_id": "call00001", "content": "ok"}], **fixed})
templates = {name: (folder / f"{name}.jinja").read_text(encoding="utf-8") for name in NAMES}
Path("cases.json").write_text(json.dumps(cases), encoding="utf-8")
Path("templates.json").write_text(json.dumps(templates), encoding="utf-8")
subprocess.run(["node", "render.mjs"], check=True)
rendered = json.loads(Path("rendered.json").read_text(encoding="utf-8"))
print(f"{len(gold)} tools and calls of BFCL; in JavaScript\n{'':18} tool: other text, refused; call: other text, refused")
counts, examples = {}, {}
for name, source in templates.items():
    template, count = _compile_jinja_template(source), collections.Counter()
    for i, (case, there) in enumerate(zip(cases, rendered[name])):
        here, part = template.render(**case), "call" if i >= len(gold) else "tool"
        if isinstance(there, dict):
            count[part, "refused"] += 1
            if part == "call":
                examples.setdefault(there["error"], f"{name}, {json.dumps(gold[i - len(gold)][2])[:90]}")
        elif here != there:
            count[part, "other"] += 1
            at = len(os.path.commonprefix([here, there]))
            texts = [text[max(0, at - 25):at + 12] for text in (here, there)]
            examples.setdefault(f"{name}, {part}", "{!r} in Python, {!r} in JavaScript".format(*texts))
    counts[name] = tuple(count[part, kind] for part in ("tool", "call") for kind in ("other", "refused"))
    print(f"{name:18}", *(f"{number:6}" for number in counts[name]))
for what, example in examples.items():
    print(f"{what}: {example}")
expected = {"glm4moe": (0, 0, 0, 6), "muse_glimmer": (0, 0, 0, 6), "qwen3_5_think": (0, 0, 68, 1),
            "lfm2_2_5_v2": (0, 0, 121, 7), "nemotron_3_nano": (64, 33, 68, 1)}
sys.exit(0 if all(counts[name] == expected.get(name, (0, 0, 0, 0)) for name in NAMES) else 1)
PY
