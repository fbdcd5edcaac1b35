#!/usr/bin/env bash
# Unsloth's `train_on_responses_only` trains the tool's results with Gemma 4 and GLM 4.5, and never the tool call with gpt-oss.
#
# Guess before: of a conversation with a tool call it leaves the assistant's own tokens in the loss, the call among them,
#   and masks the user's text and the tool's result.
# What happens: it finds the text between two markers and knows where another role starts only if all roles start with one
#   special token. That holds for Qwen, Llama 3 and Nemotron. GLM opens a result with `<|observation|>`, Gemma 4 writes it
#   inside the model's turn (Unsloth's own Gemma 4 template too): the result is part of the loss, and a policy learns to
#   make up what the tool said. With gpt-oss the marker found is the final channel, calls go through another one: they are
#   masked, and nothing of the calling is trained. No error. TRL's mask (`assistant_only_loss` with the training templates
#   that it ships) is right for each of these that it has a template for. (No report was found.)
# So: decode the trained tokens of one row with a call before a run, and look for the tool's words in it.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" install -q --disable-pip-version-check "$@" 2>>"$folder/noise" || { tail -3 "$folder/noise"; exit 1; }; }
pip torch==2.13.0 trl==1.15.0 transformers==5.17.0 datasets==4.8.5 accelerate==1.15.0 peft==0.21.0 \
  protobuf regex pillow psutil structlog requests einops
pip --no-deps unsloth==2026.10.9 unsloth_zoo==2026.10.9
cd "$folder"
OMP_NUM_THREADS=1 TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" - 2>>"$folder/noise" <<'PY' || { tail -5 "$folder/noise"; exit 1; }
import contextlib, io, re, sys
from importlib.metadata import version
with contextlib.redirect_stdout(io.StringIO()):  # it greets
    import unsloth
    from unsloth.chat_templates import CHAT_TEMPLATES, train_on_responses_only
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from trl import chat_template_utils as shipped

print(", ".join(f"{name} {version(name)}" for name in ("unsloth", "unsloth_zoo", "trl", "transformers")))
tool = {"type": "function", "function": {"name": "weather", "description": "Weather of a city.", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}
PARTS = {"question": "Is it warm?", "call": "Lisbon", "result": "31 degrees", "answer": "It is hot."}
conversation = [
    {"role": "user", "content": PARTS["question"]},
    {"role": "assistant", "content": "", "tool_calls": [
        {"type": "function", "function": {"name": "weather", "arguments": {"city": PARTS["call"]}}}]},
    {"role": "tool", "name": "weather", "content": PARTS["result"]},
    {"role": "assistant", "content": PARTS["answer"]},
]
SPECIAL = re.compile(r"<\|[a-z_]+\|>|<\|[a-z_]+>|<[a-z_]+\|>|</?(?:think|tool_call|tool_response|arg_key|arg_value)>")


def tokenizer_of(template, eos):
    """Bytes, and each marker of the template as one special token, as these models have them."""
    byte_level = Tokenizer(models.BPE())
    byte_level.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    byte_level.decoder = decoders.ByteLevel()
    byte_level.train_from_iterator(["x"], trainers.BpeTrainer(
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
        special_tokens=sorted({"<pad>", "<bos>", eos, *SPECIAL.findall(template)})))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level, bos_token="<bos>", eos_token=eos, pad_token="<pad>")
    tokenizer.chat_template = template
    return tokenizer


def trained_parts(tokenizer, ids, kept):
    text = tokenizer.decode([i for i, k in zip(ids, kept) if k])
    return {part for part, words in PARTS.items() if words in text}


def unsloths(template, eos):
    tokenizer = tokenizer_of(template, eos)
    text = tokenizer.apply_chat_template(conversation, tools=[tool], tokenize=False)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert all(words in text for words in PARTS.values()), text
    with contextlib.redirect_stdout(io.StringIO()):
        mask = train_on_responses_only(None, tokenizer=tokenizer, return_function=True)  # finds the markers itself
    labels = mask({"input_ids": [ids]})["labels"][0]
    return trained_parts(tokenizer, ids, [label != -100 for label in labels])


def trls(template, eos):
    tokenizer = tokenizer_of(template, eos)
    row = tokenizer.apply_chat_template(conversation, tools=[tool], return_dict=True, return_assistant_tokens_mask=True)
    return trained_parts(tokenizer, row["input_ids"], row["assistant_masks"])


TEMPLATES = {  # name: template, end of a turn, TRL's training template
    "Qwen3": (shipped.qwen3_chat_template, "<|im_end|>", shipped.qwen3_training_chat_template),
    "Llama 3.1": (shipped.llama3_1_chat_template, "<|eot_id|>", None),
    "Nemotron 3": (shipped.nemotron_3_nano_chat_template, "<|im_end|>", shipped.nemotron_3_nano_training_chat_template),
    "GLM 4.5": (shipped.glm4moe_chat_template, "<|endoftext|>", shipped.glm4moe_training_chat_template),
    "Gemma 4": (shipped.gemma4_chat_template, "<turn|>", None),
    "Gemma 4, Unsloth's": (CHAT_TEMPLATES["gemma-4"][0], "<turn|>", None),
    "gpt-oss": (shipped.gptoss_chat_template, "<|return|>", shipped.gptoss_training_chat_template),
}
found = {}
for name, (template, eos, training) in TEMPLATES.items():
    found[name] = unsloths(template, eos)
    own = ", ".join(part for part in PARTS if part in trls(training, eos)) if training else "no such template"
    print(f"{name:20} trained: {', '.join(part for part in PARTS if part in found[name]):24} by TRL's mask: {own}")
right, with_result, no_call = {"call", "answer"}, {"call", "result", "answer"}, {"answer"}
expected = {**dict.fromkeys(("Qwen3", "Llama 3.1", "Nemotron 3"), right),
            **dict.fromkeys(("GLM 4.5", "Gemma 4", "Gemma 4, Unsloth's"), with_result), "gpt-oss": no_call}
sys.exit(0 if found == expected else 1)
PY
