#!/usr/bin/env bash
# TRL's GRPO, RLOO and distillation drop the `tools` and `chat_template_kwargs` columns that SFT, DPO, KTO and reward training read.
#
# Guess before: a data set with a `tools` column, as TRL's dataset formats describe it, gives the policy its tools in every
#   trainer that renders conversations, or a trainer that cannot do it says so.
# What happens: in TRL 1.16 the trainers that learn from written answers put each row's tools into the prompt and render
#   it with the row's `chat_template_kwargs`. Those that sample the answers take neither. So a policy that was tuned on a
#   tool-calling set and goes on with GRPO on the same rows no longer sees a tool, and thinks where the row says that it
#   should not. Rows that differ in their tools alone become one prompt with several right answers. The reward function
#   gets the `tools` column all the same, so it scores calls by tools that the policy was not shown; a score that stays
#   low looks like a hard task. With `tools=[...]`, functions, every row shows all of them, whatever its column says.
#   Nothing is said. (Partly known: KTO did the same until pull request 6259 mended it as a fault; issue 4859 and the open
#   pull request 5398 ask for schemas and for names of tools per row in GRPO. Of RLOO, distillation and of
#   `chat_template_kwargs` no report was found.)
# So: render the prompt yourself, with the row's tools, and hand it over as text, as below (without a BOS that the tokenizer
#   puts in front anyway); and decode the first prompt of every new trainer once.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 trl==1.16.0 transformers==5.24.0 \
  datasets==5.2.0 accelerate==1.15.0 2>>"$folder/noise" || { tail -3 "$folder/noise"; exit 1; }
cd "$folder"
OMP_NUM_THREADS=1 TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" -W ignore - 2>>"$folder/noise" <<'PY' || { tail -5 "$folder/noise"; exit 1; }
import json, os, sys, tempfile
import torch, transformers, trl
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (AutoModelForCausalLM, AutoModelForSequenceClassification, LlamaConfig, LlamaForCausalLM,
                          LlamaForSequenceClassification, PreTrainedTokenizerFast, PrinterCallback)
from trl import (DistillationConfig, DistillationTrainer, DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, KTOConfig, KTOTrainer,
                 RewardConfig, RewardTrainer, RLOOConfig, RLOOTrainer, SFTConfig, SFTTrainer)

for package in (torch, transformers, trl):
    print(package.__name__, package.__version__)
letters = Tokenizer(models.BPE())
letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
letters.decoder = decoders.ByteLevel()
letters.train_from_iterator(["x"], trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
                                                       special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"]))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters, eos_token="<|im_end|>", pad_token="<|endoftext|>")
with open(os.path.join(os.path.dirname(trl.__file__), "chat_templates", "qwen3.jinja"), encoding="utf-8") as file:
    tokenizer.chat_template = file.read()
config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
                     num_key_value_heads=2, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
                     bos_token_id=None, num_labels=1)
LlamaForCausalLM(config).save_pretrained("policy")
LlamaForSequenceClassification(config).save_pretrained("judge")


def schema(name):
    return {"type": "function", "function": {"name": name, "description": "Books a table.", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}


def call(name):
    return [{"role": "assistant", "content": "", "tool_calls": [
        {"type": "function", "function": {"name": name, "arguments": {"city": "Rome"}}}]}]


def book_table(city: str) -> str:
    """
    Books a table.

    Args:
        city: where
    """
    return "done"


# two rows with the same question, each with a tool of its own, and no thinking
QUESTION = [{"role": "user", "content": "A table in Rome, please."}]
ROWS = [{"prompt": QUESTION, "tools": json.dumps([schema(name)]), "chat_template_kwargs": {"enable_thinking": False}, "gold": name}
        for name in ("book_table", "reserve_seats")]
NO_THINKING = "<think>\n\n</think>"


def seen(trainer, settings, rows, folder="policy", **more):
    """The texts that the model is given in one step of training."""
    kind = AutoModelForSequenceClassification if folder == "judge" else AutoModelForCausalLM
    model, texts = kind.from_pretrained(folder), []

    def look(_, args, kwargs):
        ids = kwargs.get("input_ids", args[0] if args else None)
        if isinstance(ids, torch.Tensor) and ids.shape[-1] > 3:
            texts.extend(tokenizer.batch_decode(ids))

    model.register_forward_pre_hook(look, with_kwargs=True)
    arguments = settings(output_dir=tempfile.mkdtemp(dir="."), use_cpu=True, bf16=False, report_to=[], max_steps=1,
                         per_device_train_batch_size=4, gradient_checkpointing=False, disable_tqdm=True,
                         **({} if "Distil" in trainer.__name__ or "completion" in rows[0] or "chosen" in rows[0] else {"num_generations": 2}),
                         **({} if "completion" in rows[0] or "chosen" in rows[0] else {"max_completion_length": 4}))
    made = trainer(model=model, args=arguments, train_dataset=Dataset.from_list(rows * 2), processing_class=tokenizer, **more)
    made.remove_callback(PrinterCallback)
    made.train()
    return texts


given = {}


def reward(completions, gold, tools=None, **_):
    given["tools"] = sorted({json.loads(each)[0]["function"]["name"] for each in tools}) if tools else []
    return [float(name in str(text)) for text, name in zip(completions, gold)]


def show(name, texts):
    shown = sorted({tool for text in texts for tool in ("book_table", "reserve_seats") if f'"name": "{tool}", "description"' in text})
    kwargs = any(NO_THINKING in text for text in texts)
    prompts = {text.split("<|im_start|>assistant")[0].replace("<|endoftext|>", "") for text in texts}
    print(f"  {name:32} shows the tools {', '.join(shown) or 'none':27} {len(prompts)} prompts, the row's no-thinking {'kept' if kwargs else 'lost'}")
    return len(shown), kwargs, len(prompts)


print("two rows, one question, a tool each; what the model is given:")
answered = {"SFT": (SFTTrainer, SFTConfig, [row | {"completion": call(row["gold"])} for row in ROWS]),
            "DPO": (DPOTrainer, DPOConfig, [row | {"chosen": call(row["gold"]), "rejected": call("cancel")} for row in ROWS]),
            "KTO": (KTOTrainer, KTOConfig, [row | {"completion": call(row["gold"]), "label": right} for row in ROWS for right in (True, False)])}
result = {name: show(name, seen(*kinds)) for name, kinds in answered.items()}
result["reward model"] = show("reward model", seen(RewardTrainer, RewardConfig, answered["DPO"][2], folder="judge"))
result["GRPO"] = show("GRPO", seen(GRPOTrainer, GRPOConfig, ROWS, reward_funcs=reward))
print("    its reward function is handed the tools", ", ".join(given["tools"]))
result["RLOO"] = show("RLOO", seen(RLOOTrainer, RLOOConfig, ROWS, reward_funcs=reward))
result["distillation"] = show("distillation", seen(DistillationTrainer, DistillationConfig, ROWS,
                                                   teacher_model=AutoModelForCausalLM.from_pretrained("policy")))
result["GRPO, tools=[book_table]"] = show("GRPO, tools=[book_table]", seen(GRPOTrainer, GRPOConfig, ROWS, reward_funcs=reward, tools=[book_table]))
TEXTS = [row | {"prompt": tokenizer.apply_chat_template(row["prompt"], tools=json.loads(row["tools"]), tokenize=False,
                                                        add_generation_prompt=True, **row["chat_template_kwargs"])} for row in ROWS]
result["rendered"] = show("GRPO, prompts rendered before", seen(GRPOTrainer, GRPOConfig, TEXTS, reward_funcs=reward))
sys.exit(0 if all(result[name] == (2, True, 2) for name in ("SFT", "DPO", "KTO", "reward model", "rendered"))
         and all(result[name] == (0, False, 1) for name in ("GRPO", "RLOO", "distillation"))
         and result["GRPO, tools=[book_table]"][::2] == (1, 1) and given["tools"] == ["book_table", "reserve_seats"] else 1)
PY
