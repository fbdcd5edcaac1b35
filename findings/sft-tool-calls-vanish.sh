#!/usr/bin/env bash
# SFT on tool calls, assistant tokens only: with six of TRL's own chat templates the call vanishes and an empty answer
# is trained.
#
# Guess before: a template that cannot write a tool call raises, or SFTTrainer refuses the row, as GRPOTrainer's
#   tools= does; at worst the row has nothing to train and is dropped (TRL drops fully masked examples).
# What happens: `SFTTrainer(assistant_only_loss=True)` on rows with `tools` and an assistant turn with `tool_calls`.
#   TRL swaps in its own training template. For Llama 3, Phi 3 and 3.5, LFM2 (first), Qwen2.5-VL and the DeepSeek R1
#   distillations that template has no place for `tool_calls`: the assistant turn is rendered empty, and since its end
#   token is inside the loss mask, the row is not "fully masked". The one thing the model learns is to answer a request
#   for a tool with the end of its turn. No error, no warning about it; the loss falls.
# So: look at what is trained, `tokenizer.decode(labels[labels != -100])`, before training on calls.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 trl==1.16.0 transformers==5.24.0 \
  datasets==5.2.0 accelerate==1.15.0 2>/dev/null
cd "$folder"
OMP_NUM_THREADS=1 TRANSFORMERS_VERBOSITY=error HF_DATASETS_DISABLE_PROGRESS_BARS=1 "$folder/venv/bin/python" - 2>"$folder/noise" <<'PY' || { tail -5 "$folder/noise"; exit 1; }
import os, sys
import datasets, torch, transformers, trl
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

for package in (torch, transformers, trl, datasets):
    print(package.__name__, package.__version__)
TEMPLATES = os.path.join(os.path.dirname(trl.__file__), "chat_templates")
ENDS = {"llama3": "<|eot_id|>", "phi3": "<|end|>", "phi3_5": "<|end|>", "lfm2": "<|im_end|>", "lfm2_v2": "<|im_end|>",
        "qwen2_5_vl": "<|im_end|>", "qwen2_5": "<|im_end|>", "qwen3": "<|im_end|>",
        "deepseek_r1_distill": "<｜end▁of▁sentence｜>"}
schema = {"type": "object", "properties": {"city": {"type": "string", "description": "Which city."}}, "required": ["city"]}
ROW = {
    "messages": [
        {"role": "user", "content": "What is the weather in Lima?"},
        {"role": "assistant", "content": "", "tool_calls": [
            {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Lima"}}}]},
    ],
    "tools": [{"type": "function", "function": {"name": "get_weather", "description": "Weather.", "parameters": schema}}],
}


def trained_text(name, end):
    """What SFTTrainer puts a loss on, for one row under one of TRL's templates, with a byte-level tokenizer."""
    bytes_only = Tokenizer(models.BPE())
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bytes_only.train_from_iterator(["x"], trainers.BpeTrainer(initial_alphabet=alphabet, special_tokens=["<pad>", end], show_progress=False))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytes_only, eos_token=end, pad_token="<pad>", bos_token=end)
    tokenizer.chat_template = open(os.path.join(TEMPLATES, name + ".jinja"), encoding="utf-8").read()
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16,
                                         num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=4096))
    config = SFTConfig(output_dir="out", assistant_only_loss=True, use_cpu=True, bf16=False, report_to=[], max_steps=1,
                       per_device_train_batch_size=1, max_length=4096, disable_tqdm=True)
    trainer = SFTTrainer(model=model, processing_class=tokenizer, train_dataset=Dataset.from_list([ROW]), args=config)
    labels = next(iter(trainer.get_train_dataloader()))["labels"][0]
    return tokenizer.decode(labels[labels != -100])


lost, kept = [], []
for name, end in ENDS.items():
    text = trained_text(name, end)
    (kept if "get_weather" in text and "Lima" in text else lost).append(name)
    print(f"{name:20} trained: {text!r}")
print("the call is lost with:", ", ".join(lost))
expected = ["llama3", "phi3", "phi3_5", "lfm2", "qwen2_5_vl", "deepseek_r1_distill"]
sys.exit(0 if lost == expected and kept == ["lfm2_v2", "qwen2_5", "qwen3"] else 1)
PY
