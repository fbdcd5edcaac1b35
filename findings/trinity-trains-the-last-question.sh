#!/usr/bin/env bash
# Trinity-RFT trains only what follows the last user message where the template knows <think>: of 228 turns 67, of an episode its last action.
#
# Guess before: of a dialogue with `enable_concatenated_multi_turn` every call and answer of the assistant is trained and
#   nothing else; so it is for Qwen2.5 and for Qwen3 of July 2025.
# What happens: Trinity-RFT 0.6.0 (Alibaba's, June 2026) finds the assistant's tokens by rendering the dialogue once more
#   up to each turn. If "<think>" stands anywhere in the template it begins at the last user message, as Qwen3 drops
#   earlier thoughts. All calls before that are out of the loss, in rows that hold no thought as well, and with Qwen3.8,
#   which keeps every thought. Of 228 turns in 25 of BFCL's multi-turn dialogues 67 are trained, with seven of nine
#   templates. Trinity's workflows for ALFWorld, SciWorld, WebShop and others ask the same function, and keep what the
#   world says as user messages: of an episode of ten actions the last alone is reinforced. And Qwen3's template writes
#   an empty thought into a turn that comes last, and into no other. So a call is measured longer than it is, and the mask
#   runs on behind its end token and trains the opening of the tool's result, 42 times of 67. Nothing is said. (A note in
#   the source says that results "may" be incorrect where an earlier turn is no prefix of the next; it names neither. Pull
#   request 316, October 2025, mended another shift, of prompts without thinking; no report of these was found. What is
#   called here is the function that its SFT and its workflows call. No model is trained. Real Qwen tokens differ from the
#   bytes here, so the stretch behind the end is a token longer or shorter there.)
# So: set `chat_template` to one with {% generation %} marks, TRL's training templates for instance, which Trinity then
#   reads by another way: 228 of 228, none past its end. And decode what is trained of one row.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() {
  "$folder/venv/bin/pip" install -q --no-compile --disable-pip-version-check "$@" 2>>"$folder/noise" ||
    { tail -3 "$folder/noise"; exit 1; }
}
pip torch==2.13.0 transformers==5.24.0 jinja2==3.1.6
pip --no-deps trinity-rft==0.6.0 trl==1.16.0 bfcl-eval==2026.3.23
cd "$folder"
export OMP_NUM_THREADS=1 TRANSFORMERS_VERBOSITY=error
"$folder/venv/bin/python" -W ignore - 2>>noise <<'PY' || { tail -5 noise; exit 1; }
import ast, importlib.util, json, re, sys, types
from importlib.metadata import version
from pathlib import Path
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
sys.modules["ray"] = types.ModuleType("ray")  # only its log asks for it
from trinity.common.models.utils import get_action_mask_method

print(", ".join(f"{name} {version(name)}" for name in ("trinity-rft", "transformers", "trl", "bfcl-eval")))
templates = Path(importlib.util.find_spec("trl").origin).parent / "chat_templates"
data = Path(importlib.util.find_spec("bfcl_eval").origin).parent / "data"
MARKS = ("<|im_start|>", "<|im_end|>", "<think>", "</think>", "<|user|>", "<|assistant|>", "<|observation|>")


def tokenizer(name):
    """A tokenizer of bytes and a few marks, with a chat template that TRL ships."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(mark, normalized=False) for mark in MARKS])
    made = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|im_end|>", bos_token="<s>")
    made.chat_template = (templates / f"{name}.jinja").read_text(encoding="utf-8")
    return made


def trained(tokens, template, messages):
    """The texts that are trained, one for each unbroken stretch of the mask, asked for as Trinity's SFT does."""
    row = get_action_mask_method(template)(tokenizer=tokens, messages=messages, tools=None, chat_template=template,
                                           enable_thinking=None)
    texts, stretch = [], []
    for token, on in zip([*row["input_ids"][0].tolist(), 0], [*torch.as_tensor(row["assistant_masks"])[0].tolist(), 0]):
        if on:
            stretch.append(token)
        elif stretch:
            texts.append(tokens.decode(stretch))
            stretch = []
    return texts


def call(text):
    """A call of BFCL's reference, written in Python, as a message."""
    node = ast.parse(text, mode="eval").body
    arguments = {f"value{i}": ast.literal_eval(value) for i, value in enumerate(node.args)}
    arguments |= {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords}
    return {"role": "assistant", "content": "", "tool_calls": [
        {"type": "function", "function": {"name": ast.unparse(node.func), "arguments": arguments}}]}


def rows(path):
    text = (data / path / "BFCL_v4_multi_turn_base.json").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


keys = {row["id"]: row["ground_truth"] for row in rows("possible_answer")}
dialogues = []
for row in rows("")[::8]:
    messages = []
    for question, calls in zip(row["question"], keys[row["id"]]):
        messages += question
        for text in calls:
            messages += [call(text), {"role": "tool", "content": "ok"}]
        messages.append({"role": "assistant", "content": "Done."})
    dialogues.append(messages)
total = sum(message["role"] == "assistant" for messages in dialogues for message in messages)
after = sum(message["role"] == "assistant" for messages in dialogues
            for message in messages[max(i for i, other in enumerate(messages) if other["role"] == "user"):])
print(f"{len(dialogues)} dialogues from BFCL's multi-turn tasks and their references: {total} turns of the assistant, "
      f"{after} after the last question")
print(f"{'template':20} turns trained, of them past their end; with TRL's training template; of an episode of 10 actions")
# As Trinity's workflows for ALFWorld, SciWorld and WebShop keep an episode: what the world answers is a user message.
episode = []
for i in range(10):
    episode += [{"role": "user", "content": f"You see room {i}."},
                {"role": "assistant", "content": f"<think>\nOn.\n</think>\n\ngo to {i + 1}"}]
counts = {}
NAMES = ("qwen2_5", "qwen3_instruct_2507", "qwen3", "qwen3_5_think", "qwen3_5_nothink", "qwen3_6", "qwen3_8", "glm4moe",
         "nemotron_3_nano")
for name in NAMES:
    tokens = tokenizer(name)
    marked = (templates / f"{name}_training.jinja").read_text(encoding="utf-8")
    texts = [text for messages in dialogues for text in trained(tokens, None, messages)]
    past = [text for text in texts if re.search(r"<\|im_end\|>\s*\S|<\|observation\|>\s*\S|<\|user\|>", text)]
    right = sum(len(trained(tokens, marked, messages)) for messages in dialogues)
    steps = len(trained(tokens, None, episode))
    counts[name] = (len(texts), len(past), right, steps)
    print(f"{name:20} {len(texts):13} {len(past):24} {right:30} {steps:28}")
    if past:
        print(f"    ends {past[0][-70:]!r}")
sys.exit(0 if all(counts[name] == (total, 0, total, 10) for name in NAMES[:2])
         and counts["qwen3"] == (after, 42, total, 1)
         and all(counts[name] == (after, 0, total, 1) for name in NAMES[3:]) else 1)
PY
