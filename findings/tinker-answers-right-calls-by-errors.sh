#!/usr/bin/env bash
# tinker-cookbook's tools answer a right call with "Input should be a valid string" when a text is all digits, with five families.
#
# Guess before: a tool `search(query: str)` that a policy calls with query "2024" runs; the schema says string, and the
#   call that the renderer wrote comes back as the same call, as with Qwen3, gpt-oss or DeepSeek V4.1, which write JSON.
# What happens: Qwen3.5, 3.6 and 3.8, Nemotron 3 and GLM 5.3 write an argument bare between tags, so only the schema says
#   what it is. tinker-cookbook 0.6.1 parses without the schema: what `json.loads` takes is JSON, "2024" an integer,
#   "true" a boolean, "null" nothing, the text of a JSON file an object. The tool, whose arguments pydantic checks,
#   answers the right call by an error. Quotation marks around the text help, which the template never writes and other
#   servers hand to the tool: in RL a policy is paid for those, or for avoiding such words. In the other direction
#   Qwen3.5 and Nemotron 3 write true and null as True and None, which come back as texts: an optional argument that is
#   null arrives as "None". Of BFCL's 3,152 gold calls 345 come back changed with Qwen3.5 and Nemotron 3 (most for a
#   boolean, which pydantic takes as text, too), 101 with Qwen3.8, 100 with GLM 5.3, none where JSON is written. Moreover
#   the tools stand otherwise in the prompt: with Qwen3.5 and 3.8 bare, where the family's template, given tools in
#   OpenAI's form as servers give them, has {"type": "function", "function": ...} around each; Qwen3's got that in
#   December 2025 (pull request 255). (Prime's `renderers` had the same fault and asks the schema since May 2026, its
#   pull request 28; no report was found for tinker-cookbook. The tokenizer here knows bytes and the special tokens; the
#   service is not asked.)
# So: annotate such arguments `Annotated[str, Field(coerce_numbers_to_str=True)]` (digits only), or convert the parsed
#   arguments by the schema before `handle_tool_call`; and send one call with "2024" through your tools before a run.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" install -q --disable-pip-version-check "$@" 2>>"$folder/noise" || { tail -3 "$folder/noise"; exit 1; }; }
pip torch==2.13.0 transformers==5.24.0 tinker==0.38.0 datasets==5.2.0 blobfile==3.3.0 chz==0.4.0 pillow==13.0.0
pip --no-deps tinker-cookbook==0.6.1 bfcl-eval==2026.3.23 trl==1.16.0
cd "$folder"
TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" -W ignore - 2>>"$folder/noise" <<'PY' || { tail -5 "$folder/noise"; exit 1; }
import asyncio, importlib.util, json, os, sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated
from pydantic import Field
from tinker_cookbook.renderers import ToolCall, get_renderer
from tinker_cookbook.tool_use.tools import handle_tool_call, simple_tool_result, tool
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

print(", ".join(f"{name} {version(name)}" for name in ("tinker-cookbook", "tinker", "transformers", "bfcl-eval", "trl")))
SPECIAL = ["[gMASK]", "<sop>"] + [f"<|{name}|>" for name in (
    "im_start", "im_end", "endoftext", "start", "end", "message", "channel", "constrain", "return", "call",
    "system", "user", "assistant", "observation")] + [f"<｜{name}｜>" for name in (
        "begin▁of▁sentence", "end▁of▁sentence", "User", "Assistant", "System")]
PLAIN = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>",
         "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"]
letters = Tokenizer(models.BPE())
letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
letters.decoder = decoders.ByteLevel()
letters.train_from_iterator(["x"], trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
letters.add_tokens([AddedToken(token, normalized=False) for token in SPECIAL + PLAIN])
tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters, eos_token="<|im_end|>")
JSON = ("qwen3", "gpt_oss_medium_reasoning", "deepseekv4_1")
BARE = ("qwen3_5", "nemotron3", "qwen3_8_xhigh_reasoning", "glm5_3_max_reasoning")
renderers = {family: get_renderer(family, tokenizer) for family in JSON + BARE}
USER = {"role": "user", "content": "Go."}


def there_and_back(family, name, arguments):
    """The call as the family's renderer writes it after its own prompt, parsed by the same renderer."""
    body = ToolCall.FunctionBody(name=name, arguments=json.dumps(arguments))
    message = {"role": "assistant", "content": "", "tool_calls": [ToolCall(id="call_0", function=body)]}
    ids, weights = renderers[family].build_supervised_example([USER, message])
    answer = ids.to_ints()[next(i for i, weight in enumerate(weights.tolist()) if weight):]
    (parsed,) = renderers[family].parse_response(answer)[0]["tool_calls"]
    return parsed


@tool
def search(query: Annotated[str, "What to look for."], since: Annotated[str | None, "A year."] = None):
    """Search."""
    return simple_tool_result(f"3 results for {query!r} since {since!r}")


@tool
def search_numbers(query: Annotated[str, Field(coerce_numbers_to_str=True)]):
    """Search."""
    return simple_tool_result(f"3 results for {query!r}")


def ran(family, arguments, of=search):
    parsed = there_and_back(family, of.name, arguments)
    answer = asyncio.run(handle_tool_call({of.name: of}, parsed)).messages[0]["content"]
    return json.loads(parsed.function.arguments), answer


CALLS = [{"query": "Rome"}, {"query": "2024"}, {"query": "true"}, {"query": '{"a": 1}'}, {"query": "Rome", "since": "2024"},
         {"query": "Rome", "since": None}]
answers = {}
for family in ("qwen3", "qwen3_5", "qwen3_8_xhigh_reasoning"):
    print(f"{family}, the tool is search(query: str, since: str | None = None):")
    for arguments in CALLS:
        parsed, answer = ran(family, arguments)
        answers[family, json.dumps(arguments)] = answer
        print(f"  {json.dumps(arguments):36} parsed as {json.dumps(parsed):34} -> {' '.join(answer.split())[:112]}")
quoted = '<tool_call>\n<function=search>\n<parameter=query>\n"2024"\n</parameter>\n</function>\n</tool_call><|im_end|>'
(parsed,) = renderers["qwen3_5"].parse_response(tokenizer.encode(quoted, add_special_tokens=False))[0]["tool_calls"]
quotes_help = json.loads(parsed.function.arguments) == {"query": "2024"}
print("with quotation marks around it, as no template writes it, the text stays a text:", quotes_help)
mended = ran("qwen3_5", {"query": "2024"}, search_numbers)[1]
print("with coerce_numbers_to_str:", mended)

data = os.path.join(os.path.dirname(importlib.util.find_spec("bfcl_eval").origin), "data", "possible_answer")


def plain(value):
    """An accepted value of the key as a model would write it: in objects the first choice of each field."""
    if isinstance(value, dict):
        return {name: plain(choices[0]) if isinstance(choices, list) else choices
                for name, choices in value.items() if choices != [""] and not (isinstance(choices, list) and choices[0] == "")}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


gold = []
for category in ("simple_python", "multiple", "parallel", "parallel_multiple",
                 "live_simple", "live_multiple", "live_parallel", "live_parallel_multiple"):
    with open(os.path.join(data, f"BFCL_v4_{category}.json"), encoding="utf-8") as file:
        gold += [(name, {key: plain(choices[0]) for key, choices in arguments.items() if choices and choices[0] != ""})
                 for row in file for call in json.loads(row)["ground_truth"] for name, arguments in call.items()]
print(f"of BFCL's {len(gold)} gold calls come back changed:")
changed = {}
for family in JSON + BARE:
    lost = [(value, back.get(key)) for name, arguments in gold
            for back in [json.loads(there_and_back(family, name, arguments).function.arguments)]
            if json.dumps(back) != json.dumps(arguments)
            for key, value in [next((key, value) for key, value in arguments.items() if json.dumps(back.get(key)) != json.dumps(value))]]
    changed[family] = len(lost)
    print(f"  {family:26} {len(lost):4}  " + ", ".join(list(dict.fromkeys(f"{before!r} as {after!r}" for before, after in lost))[:3]))

templates = Path(importlib.util.find_spec("trl").origin).parent / "chat_templates"
spec = search.to_spec()
same = {}
for family, name in (("qwen3", "qwen3"), ("qwen3_5", "qwen3_5_think"), ("qwen3_8_xhigh_reasoning", "qwen3_8")):
    messages = renderers[family].create_conversation_prefix_with_tools([spec], "")
    mine = tokenizer.decode(renderers[family].build_generation_prompt([*messages, USER]).to_ints())
    template = (templates / f"{name}.jinja").read_text(encoding="utf-8")
    given = {"conversation": [USER], "tokenize": False, "add_generation_prompt": True, "chat_template": template}
    same[family] = (mine == tokenizer.apply_chat_template(tools=[{"type": "function", "function": spec}], **given),
                    mine == tokenizer.apply_chat_template(tools=[spec], **given))
    print(f"{family}: the prompt is the template's with OpenAI's form of a tool: {same[family][0]}, with the bare function: {same[family][1]}")

refused = [family for family in renderers if "valid string" in ran(family, {"query": "2024"})[1]]
print("a right call with query \"2024\" is answered by an error with:", ", ".join(refused))
sys.exit(0 if refused == list(BARE) and quotes_help and changed == dict(zip(JSON + BARE, (0, 0, 0, 345, 345, 101, 100)))
         and "since 'None'" in answers["qwen3_5", json.dumps(CALLS[-1])] and "error" not in answers["qwen3", json.dumps(CALLS[3])]
         and all("valid string" in answers["qwen3_5", json.dumps(arguments)] for arguments in CALLS[1:5]) and "error" not in mended
         and same == {"qwen3": (True, False), "qwen3_5": (False, True), "qwen3_8_xhigh_reasoning": (False, True)} else 1)
PY
