#!/usr/bin/env bash
# TRL's tool loop writes every result as text, but a list: with Qwen3 the policy reads an empty answer for it.
#
# Guess before: whatever a tool returns, the policy reads `str(result)`; so it is for numbers, dicts, tuples and None.
# What happens: `GRPOTrainer(tools=...)` takes any list for blocks of pictures and text, and hands it to the chat
#   template as it is. A search that returns ["Rome", "Oslo"] or [{"id": 7}] is taken for such blocks, too. Qwen3's
#   three templates write nothing for it; Gemma 4's nothing for a list of dicts, one version nothing for any; GLM 4.5
#   drops the whole turn of an empty list; LFM2.5 sets the parts together, so [17, 23] reads 1723. Qwen2.5, Llama 3,
#   gpt-oss and Nemotron write the list; Qwen3.5 and later raise for most. The reward functions see the full list in
#   `completions`, so a reward that looks for it is paid, while the policy is trained to answer from nothing. Nothing
#   is logged, and the tool counts as called without a failure. (That Qwen3's template drops content that is no text
#   was reported, QwenLM/Qwen3 1533 and verl 3234; no report was found of TRL's loop, which turns every other result
#   into text.)
# So: let tools return text, json.dumps(result) for instance; and decode `completion_ids` in a reward function once.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 trl==1.16.0 transformers==5.24.0 \
  datasets==5.2.0 accelerate==1.15.0 2>/dev/null
cd "$folder"
OMP_NUM_THREADS=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1 TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" - 2>"$folder/noise" <<'PY' || { tail -5 "$folder/noise"; exit 1; }
import re, sys
import tokenizers, torch, transformers, trl
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, PrinterCallback
from trl import GRPOConfig, GRPOTrainer, chat_template_utils as shipped

for package in (trl, transformers, tokenizers, torch):
    print(package.__name__, package.__version__)
RESULTS = {"text": "Rome", "dict": {"id": 7}, "tuple": ("Rome", "Oslo"), "list of texts": ["Rome", "Oslo"],
           "list of numbers": [17, 23], "list of dicts": [{"id": 7}], "empty list": []}


def tokenizer_of(template, text="x"):
    byte_level = Tokenizer(models.BPE())
    byte_level.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    byte_level.decoder = decoders.ByteLevel()
    byte_level.train_from_iterator([text], trainers.BpeTrainer(
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), vocab_size=600, min_frequency=1, show_progress=False,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"]))
    return PreTrainedTokenizerFast(tokenizer_object=byte_level, eos_token="<|im_end|>", pad_token="<|endoftext|>",
                                   chat_template=template)


# 1. A real run: a small model that has learnt one call by heart, tools that return one of the results each.
def find() -> str:
    """Find towns."""
    return RESULTS[kind]


prompt = [{"role": "user", "content": "Go."}]
CALL = '<tool_call>\n{"name": "find", "arguments": {}}\n</tool_call><|im_end|>'
asked = tokenizer_of(shipped.qwen3_chat_template).apply_chat_template(prompt, tools=[find], add_generation_prompt=True, tokenize=False)
tokenizer = tokenizer_of(shipped.qwen3_chat_template, asked + CALL)
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                                     num_attention_heads=4))
start, whole = (tokenizer(text, return_tensors="pt")["input_ids"] for text in (asked, asked + CALL))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for _ in range(150):
    loss = model(input_ids=whole, labels=torch.where(torch.arange(whole.shape[1]) < start.shape[1], -100, whole)).loss
    optimizer.zero_grad(), loss.backward(), optimizer.step()
said, read, seen = {}, {}, {}


def reward(completions, completion_ids, **_):
    message = next(message for message in completions[0] if message["role"] == "tool")
    said[kind] = message["content"]
    read[kind] = re.search(r"<tool_response>\n(.*?)\n</tool_response>", tokenizer.decode(completion_ids[0]), re.S)[1]
    return [0.0] * len(completions)


for kind in RESULTS:
    trainer = GRPOTrainer(model=model, reward_funcs=reward, tools=[find], processing_class=tokenizer, train_dataset=Dataset.from_list([{"prompt": prompt}] * 2),
                          args=GRPOConfig(output_dir="out", use_cpu=True, bf16=False, report_to=[], max_steps=1, num_generations=2,
                                          per_device_train_batch_size=2, max_completion_length=80, top_k=1, learning_rate=0.0,
                                          max_tool_calling_iterations=1, disable_tqdm=True, save_strategy="no"))
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    seen[kind] = next(row["tools/failure_frequency"] for row in trainer.state.log_history if "tools/failure_frequency" in row)
    print(f"Qwen3, a run: the tool returned {RESULTS[kind]!r:17} rewards saw {said[kind]!r:19} "
          f"the policy read {read[kind]!r:19} failures {seen[kind]}")

# 2. The templates that TRL has a parser for: what stands in the tool's turn for the same content.
EMPTY, RAISES, JOINED = "NOTHING", "raises", "set together"
rows = {}
for name in sorted(vars(shipped)):
    if not name.endswith("_chat_template") or "training" in name or not isinstance(getattr(shipped, name), str):
        continue
    tokenizer = tokenizer_of(getattr(shipped, name))
    try:
        shipped.add_response_schema(tokenizer)
    except ValueError:
        continue

    def turn(content):
        call = {"type": "function", "function": {"name": "find", "arguments": {}}}
        chat = [*prompt, {"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "name": "find", "content": content}]
        try:
            return tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        except Exception:
            return None

    nothing, row = turn(""), {}
    for other in ("list of texts", "list of numbers", "list of dicts", "empty list"):
        text = turn(RESULTS[other])
        parts = re.findall(r"\w+", str(RESULTS[other]))
        if text is None:
            row[other] = RAISES
        elif text == nothing or other == "empty list" and "[]" not in text or not all(part in text for part in parts):
            row[other] = EMPTY
        elif len(parts) > 1 and "".join(parts) in text:
            row[other] = JOINED
    rows[name.removesuffix("_chat_template")] = row
    print(f"{name.removesuffix('_chat_template'):24}", ", ".join(f"{key}: {value}" for key, value in row.items()) or "all written")
silent = sum(bool({EMPTY, JOINED} & set(row.values())) for row in rows.values())
print(f"{silent} of {len(rows)} templates lose something without an error")
lists = [kind for kind in RESULTS if "list" in kind]
as_told = all(read[kind] == "" and said[kind] == RESULTS[kind] and seen[kind] == 0 for kind in lists)
as_told &= all(read[kind] == said[kind] == str(RESULTS[kind]) for kind in RESULTS if kind not in lists)
as_told &= all(set(rows[name].values()) == {EMPTY} and len(rows[name]) == 4 for name in ("qwen3", "qwen3_instruct_2507", "gemma4_v2"))
as_told &= rows["lfm2_2_5"]["list of numbers"] == JOINED and not rows["qwen2_5"] and rows["glm4moe"] == {"empty list": EMPTY}
sys.exit(0 if as_told else 1)
PY
