#!/usr/bin/env bash
# `transformers serve`: a tool call that max_tokens cuts, or whose JSON the model gets wrong, is answered by 500.
#
# Guess before: a request whose answer is cut inside a tool call comes back with finish_reason "length" and what was
#   written; a call that is no JSON stays text, or comes back with its arguments as they were written.
# What happens: the answer is parsed with nobody to catch what the parser raises, so the client gets "500 Internal
#   Server Error", without a text, and the log a traceback ("json parser could not parse region as JSON"). By default
#   that is so for Qwen 2, 2.5 and 3, whose parser is built in. A missing comma or a small max_tokens is ordinary
#   model output, not a fault of the server's, and a client that retries on 5xx pays for the same answer again.
# So: give max_tokens room, treat a 500 as a wrong answer, and when you measure, count it as one.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 "transformers[serving]==5.24.0" \
  accelerate==1.15.0 2>/dev/null
cd "$folder"
export PATH="$folder/venv/bin:$PATH" OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1
TRANSFORMERS_VERBOSITY=error python - 2>"$folder/noise" <<'PY' || { tail -5 "$folder/noise"; exit 1; }
import json, subprocess, sys, time
from urllib import error, request
import tokenizers, torch, transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

for package in (torch, transformers, tokenizers):
    print(package.__name__, package.__version__)
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Lima"}}\n</tool_call>'
ANSWERS = {"Good": CALL, "Bad": CALL.replace("}}", "}")}  # a tiny Qwen2 learns both by heart
plain = Tokenizer(models.BPE())
plain.pre_tokenizer, plain.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
plain.train_from_iterator(["x"], trainers.BpeTrainer(
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<pad>", "<|im_start|>", "<|im_end|>"]))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<|im_end|>", pad_token="<pad>")
tokenizer.chat_template = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
torch.manual_seed(0)
model = Qwen2ForCausalLM(Qwen2Config(
    vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=4, max_position_embeddings=512, eos_token_id=tokenizer.eos_token_id, pad_token_id=0))
rows = []
for question, answer in ANSWERS.items():
    chat = [{"role": "user", "content": question}]
    prompt = tokenizer(tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)).input_ids
    rows.append((prompt, tokenizer(answer + "<|im_end|>").input_ids))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for step in range(250):
    prompt, answer = rows[step % 2]
    ids = torch.tensor([prompt + answer])
    model(input_ids=ids, labels=torch.tensor([[-100] * len(prompt) + answer])).loss.backward()
    optimizer.step(), optimizer.zero_grad()
model.save_pretrained("tiny")
tokenizer.save_pretrained("tiny")


def ask(question, max_tokens):
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}
    body = {"model": "tiny", "messages": [{"role": "user", "content": question}], "tools": [tool], "max_tokens": max_tokens, "temperature": 0}
    sent = request.Request("http://127.0.0.1:8765/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        choice = json.loads(request.urlopen(sent, timeout=500).read())["choices"][0]
        return choice["finish_reason"], choice["message"].get("tool_calls") or choice["message"]["content"]
    except error.HTTPError as failed:
        return failed.code, failed.read().decode()


with open("server.log", "w") as log:
    server = subprocess.Popen(["transformers", "serve", "tiny", "--host", "127.0.0.1", "--port", "8765"], stdout=log, stderr=log)
try:
    for _ in range(120):
        time.sleep(2)
        if "running on" in open("server.log").read():
            break
    seen = {case: ask(*case) for case in (("Good", 200), ("Good", 20), ("Bad", 200))}
finally:
    server.terminate()
for (question, tokens), (status, told) in seen.items():
    print(f"{question}, max_tokens {tokens}: {status}: {told}")
print("in the server's log:", [line for line in open("server.log").read().splitlines() if "ValueError" in line])
statuses = [status for status, _ in seen.values()]
sys.exit(0 if statuses == ["tool_calls", 500, 500] else 1)
PY
