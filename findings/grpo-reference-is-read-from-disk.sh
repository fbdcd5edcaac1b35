#!/usr/bin/env bash
# GRPOTrainer's reference policy is not the model that it is handed, but what lies on disk under that model's name.
#
# Guess before: `GRPOTrainer(model=model, beta=0.1)` keeps the policy close to `model` as it is handed over, so `kl` is 0 in
#   the first step.
# What happens: without adapters the reference is loaded anew from `model.config._name_or_path`. A model that was changed
#   in memory (a warm start, a merge, a reset head) is pulled back to the weights on disk: `kl` is above 0 before
#   anything was learned. With an adapter (PEFT) the reference is the model in memory with the adapter off, or a copy
#   of the adapter as it came: `kl` starts at 0, also on a changed base. The same code keeps to two different policies.
# So: save a warm start and load it again before GRPO, and look at `kl` in the first step: it must be 0.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 trl==1.16.0 transformers==5.24.0 \
  datasets==5.2.0 accelerate==1.15.0 peft==0.21.2 2>/dev/null
cd "$folder"
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - 2>"$folder/noise" <<'PY' || { tail -5 "$folder/noise"; exit 1; }
import sys, tempfile
import datasets, peft, torch, transformers, trl
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, PrinterCallback
from trl import GRPOConfig, GRPOTrainer

for package in (torch, transformers, trl, peft):
    print(package.__name__, package.__version__)
byte_level = Tokenizer(models.BPE())
byte_level.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
byte_level.decoder = decoders.ByteLevel()
byte_level.train_from_iterator(["x"], trainers.BpeTrainer(
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<pad>", "</s>"], show_progress=False))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level, eos_token="</s>", pad_token="<pad>")
torch.manual_seed(0)
disk = tempfile.mkdtemp(dir=".")
LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=2,
                             num_attention_heads=2)).save_pretrained(disk)


def load(changed=False):
    model = AutoModelForCausalLM.from_pretrained(disk, dtype=torch.float32)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters() if changed else ():
            if weight.dim() == 2:
                weight.add_(0.3 * weight.std() * torch.randn_like(weight))
    return model


def first_kl(name, model):
    config = GRPOConfig(output_dir=tempfile.mkdtemp(dir="."), use_cpu=True, bf16=False, report_to=[], max_steps=1, beta=0.1,
                        per_device_train_batch_size=4, num_generations=4, max_completion_length=8, learning_rate=1e-9,
                        logging_steps=1, disable_tqdm=True)
    trainer = GRPOTrainer(model=model, reward_funcs=lambda completions, **_: [float(len(c) % 3) for c in completions],
                          args=config, processing_class=tokenizer, train_dataset=Dataset.from_list([{"prompt": "ab"}] * 8))
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    kl = next(row["kl"] for row in trainer.state.log_history if "kl" in row)
    print(f"{name:46} kl in step 1: {kl:.6f}   reference model of its own: {trainer.ref_model is not None}")
    return kl


lora = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=4)
same = first_kl("as it is on disk", load())
changed = first_kl("changed in memory", load(changed=True))
adapter = first_kl("changed in memory, with a fresh adapter", get_peft_model(load(changed=True), lora))
sys.exit(0 if same == 0 and adapter == 0 and changed > 1e-4 else 1)
PY
