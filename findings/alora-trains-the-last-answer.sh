#!/usr/bin/env bash
# An activated LoRA (aLoRA) of PEFT learns one answer of each row in TRL: of 16 packed conversations it learns the last, the rest is base model.
#
# Guess before: with `LoraConfig(alora_invocation_tokens=...)` SFTTrainer trains what a LoRA trains, every answer that has
#   labels, packed or not; a turn of a tool loop is scored in training by the weights that sampled it.
# What happens: PEFT 0.21 looks for the invocation in the whole row and activates the adapter from its LAST occurrence. It
#   says so ("in each input") and advises the template's assistant prompt for chat histories, which occurs at every turn.
#   TRL 1.16 packs many conversations into one row and knows nothing of it: all of them count in the loss, only the last
#   answer has a gradient, and as rows are packed once, the same conversations are left out in every epoch, silently. The
#   loss falls a bit, and the model says what the base says. In one conversation of three turns (assistant_only_loss) the
#   first two are lost likewise. A dialogue of a tool loop that is scored in one row gives its first call the base model's
#   log-probability, not that of the adapter that wrote it; what GRPO makes of that was not run. (An aLoRA is IBM's
#   adapter for Granite, made for such chains; no report of this was found.)
# So: no packing with an aLoRA, and one row per answer, with the turns before it as prompt; a plain LoRA for tool loops.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-compile --disable-pip-version-check torch==2.13.0 transformers==5.24.0 trl==1.16.0 peft==0.21.2 datasets==5.2.0 \
  2>>"$folder/noise" || { tail -3 "$folder/noise"; exit 1; }
cd "$folder"
OMP_NUM_THREADS=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1 TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" -W ignore - 2>>noise <<'PY' || { tail -5 noise; exit 1; }
import random, sys, tempfile
from importlib.metadata import version
import torch
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

print(", ".join(f"{name} {version(name)}" for name in ("trl", "peft", "transformers", "torch")))
letters = Tokenizer(models.BPE())
letters.pre_tokenizer, letters.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
letters.train_from_iterator(["x"], trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
                                                       special_tokens=["<|im_end|>", "<|endoftext|>", "<|im_start|>"]))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters, eos_token="<|im_end|>", pad_token="<|endoftext|>")
tokenizer.chat_template = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}{% generation %}{{ m.content + '<|im_end|>' }}"
    "{% endgeneration %}{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
INVOCATION = tokenizer.encode("<|im_start|>assistant\n", add_special_tokens=False)
draw = random.Random(0)
CODES = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=8)) for _ in range(16)]


def turn(question, answer):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


SINGLE = [{"messages": turn(f"code {chr(65 + i)}", code)} for i, code in enumerate(CODES)]
CHAIN = [{"messages": turn("code A", CODES[0]) + turn("code B", CODES[1]) + turn("code C", CODES[2])}]


def trainer(rows, alora, steps, **how):
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
                                         num_key_value_heads=4, vocab_size=260, initializer_range=0.1))
    adapter = LoraConfig(r=32, lora_alpha=64, task_type="CAUSAL_LM", target_modules="all-linear",
                         alora_invocation_tokens=INVOCATION if alora else None)
    settings = SFTConfig(output_dir=tempfile.mkdtemp(dir="."), max_steps=steps, per_device_train_batch_size=len(rows), learning_rate=5e-3,
                         assistant_only_loss=True, max_length=1024, report_to="none", save_strategy="no", logging_steps=steps,
                         use_cpu=True, bf16=False, gradient_checkpointing=False, disable_tqdm=True, **how)
    return SFTTrainer(model, args=settings, train_dataset=Dataset.from_list(rows), processing_class=tokenizer, peft_config=adapter)


def gradients(rows, alora, **how):
    """Does the loss of each answer of the first batch reach the adapter?"""
    made = trainer(rows, alora, 1, **how)
    for name, weight in made.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    batch = dict(next(iter(made.get_train_dataloader())))
    labels = batch.pop("labels")[:, 1:]
    losses = torch.nn.functional.cross_entropy(made.model(**batch).logits[:, :-1].transpose(1, 2), labels, reduction="none")
    weights = [weight for weight in made.model.parameters() if weight.requires_grad]
    reached = []
    for row in range(len(labels)):
        taught = [place for place in range(labels.shape[1]) if labels[row, place] != -100]
        for first in [place for place in taught if place - 1 not in taught]:
            answer = losses[row, first:first + 8].sum()
            reached.append(any(part is not None and part.abs().sum() > 0 for part in
                               torch.autograd.grad(answer, weights, retain_graph=True, allow_unused=True)))
    return reached


def learnt(alora, **how):
    """How many of the codes does the trained model say?"""
    made = trainer(SINGLE, alora, 80, **how)
    loss = made.train().training_loss
    said = []
    for row in SINGLE:
        ids = tokenizer.apply_chat_template(row["messages"][:1], add_generation_prompt=True, return_tensors="pt", return_dict=True)
        out = made.model.generate(**ids, max_new_tokens=8, do_sample=False)
        said.append(tokenizer.decode(out[0, ids["input_ids"].shape[1]:]) == row["messages"][1]["content"])
    return said, loss, made.model


grads, codes = {}, {}
for name, alora in (("LoRA", False), ("aLoRA", True)):
    grads[name] = gradients(CHAIN, alora), gradients(SINGLE, alora, packing=True), gradients(SINGLE, alora)
    chain, packed, apart = (f"{sum(reached)} of {len(reached)}" for reached in grads[name])
    print(f"answers whose loss reaches the {name}: three turns of one conversation {chain}; 16 conversations, packed {packed}, one a row {apart}")
for name, alora, how in (("LoRA packed", False, {"packing": True}), ("aLoRA one a row", True, {}), ("aLoRA packed", True, {"packing": True})):
    said, loss, model = learnt(alora, **how)
    codes[name] = sum(said)
    print(f"{name:16} after 80 epochs: mean loss {loss:.2f}, codes said right: {sum(said)} of {len(said)}")

model.eval()  # the last one, an aLoRA: a turn of a tool loop as it was sampled, as training scores it, and by the base model
text = tokenizer.apply_chat_template(CHAIN[0]["messages"][:2], tokenize=True, return_dict=False)
whole = tokenizer.apply_chat_template(CHAIN[0]["messages"], tokenize=True, return_dict=False)


def score(ids):
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    first = len(tokenizer.apply_chat_template(CHAIN[0]["messages"][:1], add_generation_prompt=True, return_dict=False))
    return sum(logits[place - 1, ids[place]].item() for place in range(first, first + 8))


with model.disable_adapter():
    base = score(whole)
sampled, trained = score(text), score(whole)
print(f"log probability of a first answer: as sampled {sampled:.2f}, as scored once two turns follow {trained:.2f}, by the base model {base:.2f}")
sys.exit(0 if grads["LoRA"] == ([True] * 3, [True] * 16, [True] * 16) and [sum(part) for part in grads["aLoRA"]] == [1, 1, 16]
         and codes["LoRA packed"] > 12 and codes["aLoRA one a row"] > 12 and codes["aLoRA packed"] <= 2
         and abs(trained - base) < 1e-3 < abs(sampled - base) else 1)
PY
