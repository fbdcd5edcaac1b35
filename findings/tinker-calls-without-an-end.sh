#!/usr/bin/env bash
# tinker-cookbook trains DeepSeek V3.1's tool calls without the token that ends them, and loses calls of tools named a.b or a-b.
#
# Guess before: a tool call that a renderer writes for training ends with one of its own stop sequences, and its own
#   parser reads the call back; so it is for Qwen3, Kimi K2, gpt-oss, GLM 5.3, Nemotron 3 and DeepSeek V4.1 there.
# What happens: tinker-cookbook 0.6.1 renders conversations by code of its own in place of chat templates. For DeepSeek
#   V3.1 the end of a turn is written only where the message has text, and a tool call mostly has none. So supervised
#   tuning on calls never trains the end token behind one: the policy calls and is not taught to stop, and what it then
#   samples up to a limit is "malformed", as is the renderer's own example. Under RL the end token that was sampled is
#   missing when the call is rendered into the next prompt, so the second turn does not continue what was sampled. (The
#   family's chat template puts the end token behind every call.) And the parser takes names of letters, digits and
#   underscores only: a call of math.factorial or get-weather, which the same renderer writes, comes back as text with a
#   clean end; no tool runs, nothing is said. Of BFCL's 3,152 gold calls 1,092 have such names. (No report was found. The
#   tokenizer here knows bytes and the special tokens, and the service is not asked: rendering and parsing are local.)
# So: give every call a text of its own, one blank will do; name tools by \w only; and look at the last trained token.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" install -q --disable-pip-version-check "$@" 2>>"$folder/noise" || { tail -3 "$folder/noise"; exit 1; }; }
pip torch==2.13.0 transformers==5.24.0 tinker==0.38.0 datasets==5.2.0 blobfile==3.3.0 chz==0.4.0 pillow==13.0.0
pip --no-deps tinker-cookbook==0.6.1 bfcl-eval==2026.3.23
cd "$folder"
TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" -W ignore - 2>>"$folder/noise" <<'PY' || { tail -5 "$folder/noise"; exit 1; }
import importlib.util, json, os, re, sys
from importlib.metadata import version
from tinker_cookbook.renderers import ToolCall, get_renderer
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

print(", ".join(f"{name} {version(name)}" for name in ("tinker-cookbook", "tinker", "transformers", "bfcl-eval")))
CHATML = "im_start im_end endoftext".split()
SPECIAL = {
    "deepseekv3": [f"<｜{name}｜>" for name in "begin▁of▁sentence end▁of▁sentence User Assistant tool▁calls▁begin tool▁calls▁end "
                   "tool▁call▁begin tool▁call▁end tool▁sep tool▁output▁begin tool▁output▁end".split()],
    "deepseekv4_1": [f"<｜{name}｜>" for name in "begin▁of▁sentence end▁of▁sentence User Assistant System".split()],
    "kimi_k2": [f"<|{name}|>" for name in "im_user im_assistant im_system im_middle im_end tool_calls_section_begin tool_calls_section_end "
                "tool_call_begin tool_call_end tool_call_argument_begin".split()],
    "gpt_oss_medium_reasoning": [f"<|{name}|>" for name in "start end message channel constrain return call".split()],
    "glm5_3_max_reasoning": ["[gMASK]", "<sop>", "<|endoftext|>"] + [f"<|{name}|>" for name in "system user assistant observation".split()],
}


def renderer(family):
    """tinker-cookbook's renderer of a family, over a tokenizer of single bytes with the family's special tokens."""
    plain = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>",
             "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"]
    letters = Tokenizer(models.BPE())
    letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters.decoder = decoders.ByteLevel()
    letters.train_from_iterator(["x"], trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    letters.add_tokens([AddedToken(token, normalized=False)
                        for token in SPECIAL.get(family, [f"<|{name}|>" for name in CHATML]) + plain])
    return get_renderer(family, PreTrainedTokenizerFast(tokenizer_object=letters))


def call(name, arguments, text=""):
    body = ToolCall.FunctionBody(name=name, arguments=json.dumps(arguments))
    return {"role": "assistant", "content": text, "tool_calls": [ToolCall(id="functions.weather:0", function=body)]}


def example(render, message):
    """What is trained of an answer, its tokens and its text, and the tokens before it."""
    model_input, weights = render.build_supervised_example([{"role": "user", "content": "Go."}, message])
    ids, first = model_input.to_ints(), next(i for i, weight in enumerate(weights.tolist()) if weight)
    return ids[first:], render.tokenizer.decode(ids[first:]), ids[:first]


print("is the last trained token of a call a stop token of its renderer?")
ends = {}
for family in ("qwen3", "qwen3_5", "qwen3_8_xhigh_reasoning", "nemotron3", "kimi_k2", "gpt_oss_medium_reasoning",
               "glm5_3_max_reasoning", "deepseekv4_1", "deepseekv3"):
    render = renderer(family)
    ids, text, _ = example(render, call("weather", {"city": "Rome"}))
    ends[family] = ids[-1] in render.get_stop_sequences()
    print(f"  {family:26} {ends[family]!s:6} ...{text[-32:]!r}")

deepseek = renderer("deepseekv3")
print("DeepSeek V3.1, the same call parsed by its renderer:")
parsed = {}
for title, text in (("no text", ""), ("a blank", " "), ("a sentence", "I look.")):
    ids, *_ = example(deepseek, call("weather", {"city": "Rome"}, text))
    message, end = deepseek.parse_response(ids)
    parsed[title] = len(message.get("tool_calls", []))
    print(f"  rendered with {title:11} calls {parsed[title]}, {end.value}")


def sampled(name):
    """A call as a model samples it, with the end token."""
    text = f'<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{{"city": "Rome"}}<｜tool▁call▁end｜><｜tool▁calls▁end｜>'
    return deepseek.tokenizer.encode(text + "<｜end▁of▁sentence｜>", add_special_tokens=False)


user, result = {"role": "user", "content": "Go."}, {"role": "tool", "content": "21", "tool_call_id": "0", "name": "weather"}
before = deepseek.build_generation_prompt([user]).to_ints()
message, _ = deepseek.parse_response(sampled("weather"))
after = deepseek.build_generation_prompt([user, message, result]).to_ints()
continues = after[:len(before) + len(sampled("weather"))] == before + sampled("weather")
print("the prompt of the second turn continues the prompt and the tokens sampled in the first:", continues)
print("  sampled:    ", repr(deepseek.tokenizer.decode(sampled("weather")[-4:])))
print("  second turn:", repr(deepseek.tokenizer.decode(after[len(before):])[-70:]))
names = {}
for name in ("weather", "get_weather", "math.factorial", "get-weather"):
    message, end = deepseek.parse_response(sampled(name))
    names[name] = len(message.get("tool_calls", []))
    print(f"  a call of {name:15} comes back as {names[name]} calls, {len(message.get('unparsed_tool_calls', []))} unparsed, {end.value}")

data = os.path.join(os.path.dirname(importlib.util.find_spec("bfcl_eval").origin), "data", "possible_answer")
gold = []
for category in ("simple_python", "multiple", "parallel", "parallel_multiple",
                 "live_simple", "live_multiple", "live_parallel", "live_parallel_multiple"):
    with open(os.path.join(data, f"BFCL_v4_{category}.json"), encoding="utf-8") as file:
        gold += [name for row in file for made in json.loads(row)["ground_truth"] for name in made]
lost = sum(not deepseek.parse_response(sampled(name))[0].get("tool_calls") for name in gold)
print(f"of BFCL's {len(gold)} gold calls {lost} are lost by their names")
sys.exit(0 if [family for family, right in ends.items() if not right] == ["deepseekv3"] and not continues
         and parsed == {"no text": 0, "a blank": 1, "a sentence": 1} and list(names.values()) == [1, 1, 0, 0]
         and (len(gold), lost) == (3152, 1092) and lost == sum(not re.fullmatch(r"\w+", name) for name in gold) else 1)
PY
