#!/usr/bin/env bash
# Axolotl trains GLM 4.5, the newest Gemma 4 and EXAONE 4 without any tool call, refuses gpt-oss's tool dialogues, and trains Command A's tool results.
#
# Guess before: `type: chat_template` trains every assistant turn of a dialogue, its calls among them, and no tool result.
# What happens: Axolotl 0.19.0 hands the template only those fields of a message that it finds by reading the template's
#   source. In 4 of 40 templates that write calls it does not find tool_calls (in GLM 4.5's it finds no field at all): the
#   calls are gone from the text, silently, with Gemma 4 the results, too: the model learns to answer from results that it
#   never asked for, or from none. In most older templates of Gemma 4, Axolotl's own copies among them, it misses `name`,
#   and the template fails. And to see where a turn stands Axolotl writes the dialogue once more with that turn replaced by
#   one without calls, the tool's result still behind it: gpt-oss's template ("no previous assistant message with a tool
#   call!") and two for Mistral refuse that, Command A's numbers its results anew, so that the result is part of the
#   difference and is trained. In all 14 of 40 go wrong, 7 of them Axolotl's own. (No report of this was found; issue 3824
#   tells of lost calls in DPO and takes SFT for right.)
# So: print one tokenized row before training. `message_property_mappings` with all six fields brings back the calls of GLM
#   and EXAONE; with the other way of finding turns as well, which Axolotl keeps for slow tokenizers (below), all are right.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" install -q --no-compile --disable-pip-version-check "$@" 2>>"$folder/noise" || { tail -3 "$folder/noise"; exit 1; }; }
pip torch==2.13.0 transformers==5.16.1 accelerate==1.13.0 datasets==4.8.4 pydantic==2.12.5 addict==2.4.0 colorama==0.4.6 jinja2==3.1.6
pip --no-deps axolotl==0.19.0 trl==1.16.0
cd "$folder"
OMP_NUM_THREADS=1 TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" -W ignore - 2>>noise <<'PY' || { tail -5 noise; exit 1; }
import importlib.util, json, sys
from importlib.metadata import version
from pathlib import Path
from axolotl.prompt_strategies.chat_template import load
from axolotl.utils.dict import DictDefault
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

print(", ".join(f"{name} {version(name)}" for name in ("axolotl", "transformers", "trl")))
letters = Tokenizer(models.BPE())
letters.pre_tokenizer, letters.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
letters.train_from_iterator(["x"], trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
                                                       special_tokens=["<eos>", "<bos>"]))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters, eos_token="<eos>", bos_token="<bos>", pad_token="<eos>")
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "description": "Where."}}, "required": ["city"]}}}]
FIELDS = ("role", "content", "tool_calls", "tool_call_id", "name", "reasoning_content")


def turns(city, result, number):
    call = {"id": f"call0000{number}", "type": "function", "function": {"name": "weather", "arguments": {"city": city}}}
    return [{"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "name": "weather", "tool_call_id": call["id"], "content": result}]


QUESTION = "Where is it dry?"
ROW = {"tools": TOOLS, "messages": [{"role": "user", "content": QUESTION}, *turns("ROME", "RAIN", 1), *turns("OSLO", "SNOW", 2),
                                    {"role": "assistant", "content": "Nowhere."}]}


def trained(template, mapped=False, slow=False):
    """The row as `type: chat_template` trains it, and the parts that have labels."""
    settings = {**template, "message_property_mappings": {field: field for field in FIELDS}} if mapped else template
    strategy = load(tokenizer, DictDefault({"train_on_inputs": False, "sequence_len": 8192}), settings)
    if slow:  # turns are found in the dialogue up to them
        strategy._build_turn_locator = lambda *_: None
    row = strategy.tokenize_prompt(json.loads(json.dumps(ROW)))
    marked = "".join(tokenizer.decode([token]) if label != -100 else "\0" for token, label in zip(row["input_ids"], row["labels"]))
    return tokenizer.decode(row["input_ids"]), [part for part in marked.split("\0") if part]


def verdict(template, **mends):
    try:
        text, parts = trained(template, **mends)
    except Exception as error:
        return "refused", f"{type(error).__name__}: {error}"
    parts = " | ".join(parts)
    if "ROME" not in text or "OSLO" not in text:
        return "calls gone", text[text.index(QUESTION):]
    if "RAIN" in parts or "SNOW" in parts:
        return "results trained", parts
    return ("right" if all(word in parts for word in ("ROME", "OSLO", "Nowhere.")) else "calls untrained"), parts


def written(jinja):
    """Does the template write the row's calls and results when transformers applies it?"""
    try:
        text = tokenizer.apply_chat_template(ROW["messages"], tools=TOOLS, chat_template=jinja, tokenize=False)
    except Exception:
        return False
    return all(word in text for word in ("ROME", "RAIN", "OSLO", "SNOW"))


templates = {}
for package, parts in (("trl", ["chat_templates"]), ("axolotl", ["utils", "chat_templates", "templates"])):
    for file in sorted(Path(importlib.util.find_spec(package).origin).parent.joinpath(*parts).glob("*.jinja")):
        jinja = file.read_text(encoding="utf-8")
        if not file.stem.endswith("_training") and written(jinja):
            own = package == "axolotl"
            templates[f"own {file.stem}" if own else file.stem] = (
                {"chat_template": file.stem} if own else {"chat_template": "jinja", "chat_template_jinja": jinja})
found = {name: verdict(template) for name, template in templates.items()}
kinds = {kind: sorted(name for name, seen in found.items() if seen[0] == kind) for kind in ("right", "calls gone", "refused", "results trained", "calls untrained")}
print(f"{len(templates)} templates (TRL's copies of the families' and Axolotl's own) write the calls and results of a dialogue; in training by Axolotl:")
for kind, names in kinds.items():
    print(f"  {kind} {len(names)}{': ' + ', '.join(names) if names and kind != 'right' else ''}")
for name in ("glm4moe", "own exaone4", "gptoss", "own gemma4", "own command_a_tool_use"):
    print(f"{name}, {found[name][0]}: {found[name][1][:330]!r}")
for name in ("qwen3", "glm4moe", "gemma4_v5", "gemma4_v4"):
    strategy = load(tokenizer, DictDefault({"train_on_inputs": False, "sequence_len": 8192}), templates[name])
    print(f"fields that Axolotl finds in {name}: {', '.join(sorted(strategy.prompter.chat_template_msg_variables & set(FIELDS))) or 'none'}")
mended = {}
for how, mends in (("six fields mapped", {"mapped": True}), ("turns found as for slow tokenizers", {"slow": True}), ("both", {"mapped": True, "slow": True})):
    mended[how] = [name for name, template in templates.items() if verdict(template, **mends)[0] == "right"]
    print(f"right with {how}: {len(mended[how])} of {len(templates)}")
sys.exit(0 if kinds["calls gone"] == ["diffusion_gemma", "gemma4_v5", "glm4moe", "own exaone4"] and not kinds["calls untrained"]
         and kinds["results trained"] == ["own command_a_rag", "own command_a_tool_use"]
         and kinds["refused"] == ["gemma4", "gemma4_v3", "gemma4_v4", "gptoss", "own gemma4", "own gemma4_unified", "own mistral_v2v3",
                                  "own mistral_v3_tekken"]
         and len(mended["both"]) == len(templates) == 40 and {"glm4moe", "own exaone4"} <= set(mended["six fields mapped"]) else 1)
PY
