#!/usr/bin/env bash
# LLaMA-Factory tunes Gemma 4's tool calls in the brackets of tool declarations and without an end; Seed-OSS's lose a bracket.
#
# Guess before: a conversation with a tool call is trained as the family's own chat template writes it, and the answer
#   ends with one of the template's stop words, as with Qwen3 there.
# What happens: LLaMA-Factory 0.9.5 has templates of its own. Gemma 4 declares tools in <|tool>...<tool|> and calls in
#   <|tool_call>...<tool_call|>. Here the tools stand bare in the system prompt and the call is put into the
#   declaration's brackets: what is trained is <|tool><|tool_call>call:...<tool_call|><tool|>, so the policy learns to
#   open a declaration where it called before. Behind it no token is trained, neither <turn|> nor the family's
#   <|tool_response>: the policy is not taught to stop, while text answers do end with <turn|>. The declarations keep
#   types and descriptions only: of BFCL's 2,405 tools 1,381 say more (an enum, a default, what a list holds), and of 958
#   the family's template shows it. Seed-OSS's calls begin with a second <seed:bos> and say <function=name without the
#   closing bracket that the prompt beside them shows. All 3,152 gold calls of BFCL come out so. No error;
#   LLaMA-Factory's own extractor reads both, so its chat shows nothing. (A comment in its source says that the tool's
#   result, which opens a turn of its own, "seems not consistent" for Gemma 4. Open pull requests mend the like for GLM
#   4.5, MiniMax-M2 and LFM2: 10650, 10586, 10654; no report was found of these two. The tokenizer here knows bytes and
#   the special tokens; torchaudio has no build for this torch, an empty module stands in for it. No model is trained.)
# So: render the rows by the tokenizer's chat template and train them as text, or with another trainer; and decode what
#   is trained of one row with a call.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" install -q --disable-pip-version-check "$@" 2>>"$folder/noise" || { tail -3 "$folder/noise"; exit 1; }; }
pip torch==2.13.0 transformers==5.6.0 datasets==4.0.0 accelerate==1.11.0 peft==0.18.1 pillow==11.3.0 omegaconf==2.3.0 jinja2==3.1.6
pip --no-deps llamafactory==0.9.5 trl==1.16.0 bfcl-eval==2026.3.23
cd "$folder"
TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" -W ignore - 2>>"$folder/noise" <<'PY' || { tail -5 "$folder/noise"; exit 1; }
import importlib.util, json, os, re, sys, types
from importlib.metadata import version
from pathlib import Path
import peft, transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

sys.modules["torchaudio"] = types.ModuleType("torchaudio")  # no audio is read here
from llamafactory.data.template import TEMPLATES

print(", ".join(f"{name} {version(name)}" for name in ("llamafactory", "transformers", "trl", "bfcl-eval")))
SPECIAL = ["<bos>", "<eos>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>", "<think>", "</think>", "<|turn>", "<turn|>",
           "<|tool>", "<tool|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", "<|channel>", "<channel|>",
           "<|think|>", '<|"|>', "<seed:bos>", "<seed:eos>", "<seed:tool_call>", "</seed:tool_call>", "<seed:think>", "</seed:think>"]
ENDS = {"gemma4": ("<bos>", "<turn|>"), "seed_oss": ("<seed:bos>", "<seed:eos>"), "qwen3": (None, "<|im_end|>")}
templates = Path(importlib.util.find_spec("trl").origin).parent / "chat_templates"


def tokenizer(family):
    letters = Tokenizer(models.BPE())
    letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters.decoder = decoders.ByteLevel()
    letters.train_from_iterator(["x"], trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    letters.add_tokens([AddedToken(token, normalized=False) for token in SPECIAL])
    first, last = ENDS[family]
    return transformers.PreTrainedTokenizerFast(tokenizer_object=letters, bos_token=first, eos_token=last, pad_token="<eos>")


TOKENIZERS = {family: tokenizer(family) for family in ENDS}


def rows(family, name, arguments, tools, answer):
    """A row by LLaMA-Factory's template, as its supervised training encodes it: the prompt, and what is trained behind it."""
    template = TEMPLATES[family]
    call = {"role": "function", "content": json.dumps([{"name": name, "arguments": arguments}])}
    ((prompt, response),) = template.encode_multiturn(
        TOKENIZERS[family], [{"role": "user", "content": "Go."}, answer or call], "Be brief.", json.dumps(tools) if tools else "")
    assert not template.efficient_eos  # else the trainer would put an end token behind the row
    return TOKENIZERS[family].decode(prompt), TOKENIZERS[family].decode(response)


def by_template(file, name, arguments, tools):
    """The same by the family's chat template."""
    call = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": name, "arguments": arguments}}]}
    conversation = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Go."}, call]
    return TOKENIZERS["gemma4"].apply_chat_template(
        conversation, tools=tools, tokenize=False, chat_template=(templates / file).read_text(encoding="utf-8"))


book = {"type": "function", "function": {"name": "book", "description": "Book a trip.", "parameters": {
    "type": "object", "required": ["city"], "properties": {
        "city": {"type": "string", "description": "Where."}, "kind": {"type": "string", "enum": ["car", "train"]}}}}}
arguments = {"city": "Rome", "kind": "car"}
said = {"role": "assistant", "content": "Done."}
trained = {}
for family, (_, end) in ENDS.items():
    trained[family] = rows(family, "book", arguments, [book], None)[1], rows(family, "book", arguments, [book], said)[1]
    print(f"{family}: trained of a call {trained[family][0]!r}")
    print(f"  ends with {end}: {trained[family][0].rstrip().endswith(end)}; a text answer does: {trained[family][1].rstrip().endswith(end)}; "
          f"read by LLaMA-Factory: {TEMPLATES[family].extract_tool(trained[family][0].split('</think>')[-1].rstrip().removesuffix(end))}")
whole = "".join(rows("gemma4", "book", arguments, [book], None))
print("gemma4, LLaMA-Factory:     ", repr(whole))
for file in ("gemma4.jinja", "gemma4_v5.jinja"):
    print(f"gemma4, TRL's {file:15}:", repr(by_template(file, "book", arguments, [book])))

data = Path(importlib.util.find_spec("bfcl_eval").origin).parent / "data"
NAMES = {"dict": "object", "float": "number", "tuple": "array", "any": "string"}  # BFCL's types in JSON Schema's words


def in_json_schema(schema):
    out = {key: value for key, value in schema.items() if key != "optional"}
    if "type" in out:
        out["type"] = NAMES.get(out["type"], out["type"])
    if "items" in out:
        out["items"] = in_json_schema(out["items"])
    if "properties" in out:
        out["properties"] = {name: in_json_schema(inner) for name, inner in out["properties"].items()}
    return out


def plain(value):
    """An accepted value of the key as a model would write it: in objects the first choice of each field."""
    if isinstance(value, dict):
        return {name: plain(choices[0]) if isinstance(choices, list) else choices
                for name, choices in value.items() if choices != [""] and not (isinstance(choices, list) and choices[0] == "")}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


tools, gold = {}, []
for category in ("simple_python", "multiple", "parallel", "parallel_multiple",
                 "live_simple", "live_multiple", "live_parallel", "live_parallel_multiple"):
    for line in (data / f"BFCL_v4_{category}.json").read_text(encoding="utf-8").splitlines():
        for tool in json.loads(line)["function"]:
            tools[json.dumps(tool, sort_keys=True)] = {**tool, "parameters": in_json_schema(tool["parameters"])}
    for line in (data / "possible_answer" / f"BFCL_v4_{category}.json").read_text(encoding="utf-8").splitlines():
        gold += [(name, {key: plain(choices[0]) for key, choices in arguments.items() if choices and choices[0] != ""})
                 for call in json.loads(line)["ground_truth"] for name, arguments in call.items()]
calls = {family: [rows(family, name, arguments, None, None)[1] for name, arguments in gold] for family in ("gemma4", "seed_oss")}
bracketed = sum(text.split("<channel|>")[1].startswith("<|tool><|tool_call>") and text.endswith("<tool_call|><tool|>") for text in calls["gemma4"])
open_name = sum("<seed:bos>" in text and not re.search(r"<function=[^\s<>]+>", text) for text in calls["seed_oss"])
print(f"of BFCL's {len(gold)} gold calls Gemma 4's are in the tools' brackets and without an end: {bracketed}, "
      f"Seed-OSS's with <seed:bos> and an open <function=: {open_name}")


def bare(schema):
    return {key: {name: {k: v for k, v in inner.items() if k in ("type", "description")} for name, inner in value.items()}
            if key == "properties" else value for key, value in schema.items() if key in ("type", "properties", "required")}


shown = {key: TEMPLATES["gemma4"].format_tools.apply(content=json.dumps([tool]))[0] for key, tool in tools.items()}
less = {key: TEMPLATES["gemma4"].format_tools.apply(content=json.dumps([{**tool, "parameters": bare(tool["parameters"])}]))[0]
        for key, tool in tools.items()}
by_family = sum(by_template("gemma4_v5.jinja", "book", {}, [{"type": "function", "function": tool}])
                != by_template("gemma4_v5.jinja", "book", {}, [{"type": "function", "function": {**tool, "parameters": bare(tool["parameters"])}}])
                for tool in tools.values())
kept = sum(tool["parameters"] == bare(tool["parameters"]) for tool in tools.values())
print(f"of its {len(tools)} tools {len(tools) - kept} say more than types and descriptions; "
      f"declared as if they did not: {sum(shown[key] == less[key] for key in tools) - kept}; the family's template shows more of: {by_family}")
sys.exit(0 if trained["qwen3"][0].rstrip().endswith("<|im_end|>") and trained["gemma4"][1].rstrip().endswith("<turn|>")
         and "<|tool>declaration" not in whole and all("<|tool>declaration" in by_template(file, "book", arguments, [book])
                                                       for file in ("gemma4.jinja", "gemma4_v5.jinja"))
         and len(gold) == bracketed == open_name == 3152 and all(shown[key] == less[key] for key in tools)
         and (len(tools), len(tools) - kept, by_family) == (2405, 1381, 958) else 1)
PY
