#!/usr/bin/env bash
# With 17 of 25 chat templates that TRL ships with a tool parser, some valid argument does not come back as it was.
#
# Guess before: a call written by the template that TRL ships and read by the parser that TRL sets for it is the same call.
# What happens: Qwen3.5, 3.6, 3.8, Nemotron 3 and GLM 4.5 write a text bare between tags, and the parser strips it: an edit
#   tool gets code whose first line has lost its indentation and whose last has lost its newline. LFM2's parser ends a text
#   at its apostrophe and drops the rest; in two of its four versions line breaks come back as backslash and n. A Gemma 4
#   call with a null argument (four of five versions) is taken for plain text: no tool runs. JSON templates (Qwen2.5,
#   Qwen3, Llama 3, gpt-oss) are exact. No error, no warning. By its source `GRPOTrainer(tools=...)` runs what the parser
#   returns and hands that to the rewards; this script calls template and parser alone. A 26th template (a DeepSeek
#   distillation) writes no call at all here. (Stripped blanks are reported for other servers' parsers, vLLM's and
#   SGLang's among them; no report was found for TRL.)
# So: for tools that take code or prose choose a template that writes JSON, and send one hard text there and back before
#   training.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 trl==1.16.0 transformers==5.24.0 \
  datasets==5.2.0 accelerate==1.15.0 2>/dev/null
cd "$folder"
OMP_NUM_THREADS=1 TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" - 2>"$folder/noise" <<'PY' || { tail -5 "$folder/noise"; exit 1; }
import os, sys
import tokenizers, transformers, trl
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from trl import chat_template_utils as shipped

for package in (trl, transformers, tokenizers):
    print(package.__name__, package.__version__)
byte_level = Tokenizer(models.BPE())
byte_level.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
byte_level.decoder = decoders.ByteLevel()
byte_level.train_from_iterator(["x"], trainers.BpeTrainer(
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<pad>", "</s>"], show_progress=False))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level, eos_token="</s>", pad_token="<pad>")
tool = {"type": "function", "function": {"name": "write", "description": "Write a line.", "parameters": {
    "type": "object", "required": ["text"],
    "properties": {"text": {"type": "string"}, "where": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}}}
CALLS = {
    "plain": {"text": "hello"},
    "a number's text": {"text": "007"},
    "JSON's text": {"text": '{"a": 1}'},
    "two lines": {"text": "a\nb"},
    "code": {"text": "    if x:\n        return 1\n"},
    "apostrophe": {"text": "it's here"},
    "backslash": {"text": "C:\\new"},
    "null": {"text": "hello", "where": None},
}


def there_and_back(arguments):
    question = [{"role": "user", "content": "Go."}]
    call = {"role": "assistant", "content": "", "tool_calls": [
        {"type": "function", "function": {"name": "write", "arguments": arguments}}]}
    prompt = tokenizer.apply_chat_template(question, tools=[tool], add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template([*question, call], tools=[tool], tokenize=False)
    start = len(os.path.commonprefix([prompt, whole]))
    prompt, answer = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (whole[:start], whole[start:]))
    calls = shipped.parse_response(tokenizer, answer, prefix=prompt, tools=[tool]).get("tool_calls")
    return calls[0]["function"]["arguments"] if calls else None


changed, seen = {}, set()
for name in sorted(vars(shipped)):
    if not name.endswith("_chat_template") or "training" in name or not isinstance(getattr(shipped, name), str):
        continue
    tokenizer.chat_template = getattr(shipped, name)
    try:
        shipped.add_response_schema(tokenizer)
    except ValueError:  # TRL has no parser for this template
        continue
    back = {kind: there_and_back(arguments) for kind, arguments in CALLS.items()}
    if back["plain"] is None:  # writes no call with an empty text beside it (see sft-tool-calls-vanish.sh)
        print(f"{name.removesuffix('_chat_template'):24} writes no call")
        continue
    name = name.removesuffix("_chat_template")
    changed[name] = [kind for kind, arguments in CALLS.items() if back[kind] != arguments]
    print(f"{name:24} {'changed: ' + ', '.join(changed[name]) if changed[name] else 'all as they were'}")
    for kind in changed[name]:
        if (kind, str(back[kind])) not in seen:
            seen.add((kind, str(back[kind])))
            print(f"{'':24}   {CALLS[kind]} came back as {back[kind] or 'plain text, no call'}")
print(sum(map(bool, changed.values())), "of", len(changed), "templates change one of these calls")
groups = {"qwen3_5": ["code"], "qwen3_6": ["code"], "qwen3_8": ["code"], "nemotron": ["code"], "glm4moe": ["code"],
          "lfm2": ["apostrophe"], "qwen2": [], "qwen3_instruct": [], "qwen3_vl": [],
          "llama3": [], "gptoss": []}
as_told = all(set(kinds) <= set(changed[name]) if kinds else not changed[name]
              for start, kinds in groups.items() for name in changed if name.startswith(start))
null_lost = sum("null" in kinds for name, kinds in changed.items() if name.startswith("gemma4"))
sys.exit(0 if as_told and null_lost == 4 and sum(map(bool, changed.values())) == 17 and len(changed) == 25 else 1)
PY
