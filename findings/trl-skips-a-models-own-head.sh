#!/usr/bin/env bash
# TRL computes the loss of every trainer without the model's head: a ModernBERT decoder, Dory or Inkling is trained as another model.
#
# Guess before: `SFTTrainer`'s loss is the loss that the model itself gives for the same tokens, and `eval_loss` is that
#   of the model which is saved; a family that the trainer cannot score rightly is refused.
# What happens: TRL 1.16 calls the backbone and multiplies its last hidden states by the weight of the output embedding,
#   in tiles, to save memory (so does 1.15). Scales and caps on the logits it takes from the config by name, so Gemma,
#   Granite, Cohere, Falcon-H1 are exact. What lies elsewhere is left out: the dense layer and norm in front of a
#   ModernBERT decoder's vocabulary (Ettin), Dory's learned scale of each token, Inkling's division by 24,
#   RecurrentGemma's cap (which has another name). The trainer tunes the network without its head until that fits: the
#   loss falls, `eval_loss` falls with it, and the model that is saved has hardly learned; the head gets no gradient at
#   all. Under GRPO a policy is sampled from one model and scored and pushed as another: where a Llama learns to write a
#   letter that is paid, these do not (RLOO, DPO and KTO take the same path by their source). Nothing is said. (Weights
#   are random here; how far apart the two are with trained ones was not measured. An adapter on the output embedding,
#   the other thing that this path cannot see, is refused, issue 4612. The like is reported of vLLM's Transformers
#   backend, pull request 52158, and of Unsloth, 11277; for TRL no report was found of these families.)
# So: for SFT hand over `compute_loss_func`, as below, which gets the model's own logits; for Inkling and RecurrentGemma
#   set `logit_scale` or `final_logit_softcapping` in the config. And compare `eval_loss` with `model(**batch).loss`
#   once.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 trl==1.16.0 transformers==5.24.0 \
  datasets==5.2.0 accelerate==1.15.0 2>>"$folder/noise" || { tail -3 "$folder/noise"; exit 1; }
cd "$folder"
OMP_NUM_THREADS=1 TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" -W ignore - 2>>"$folder/noise" <<'PY' || { tail -5 "$folder/noise"; exit 1; }
import sys, tempfile
import torch, transformers, trl
import torch.nn.functional as F
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast, PrinterCallback
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer
from trl.trainer.utils import add_fused_lm_head

for package in (torch, transformers, trl):
    print(package.__name__, package.__version__)
byte_level = Tokenizer(models.BPE())
byte_level.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
byte_level.decoder = decoders.ByteLevel()
byte_level.train_from_iterator(["x"], trainers.BpeTrainer(
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<pad>", "</s>"], show_progress=False))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level, eos_token="</s>", pad_token="<pad>")
SMALL = dict(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
             num_key_value_heads=2, head_dim=8, pad_token_id=0, bos_token_id=1, eos_token_id=1)
MORE = {"modernbert-decoder": dict(cls_token_id=1, sep_token_id=1), "recurrent_gemma": dict(lru_width=32, attention_window_size=8),
        "dory": dict(n_input_layers=1, n_output_layers=1),
        "falcon_h1": dict(mamba_d_ssm=64, mamba_n_heads=8, mamba_d_head=8, mamba_d_state=8)}


def tiny(family, spread=0.02, **config):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SMALL, **MORE.get(family, {}))).float().eval()
    model.config.update(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(spread * torch.randn_like(weight))
    return model


@torch.no_grad()
def gap(model):
    """How far TRL's log-probabilities are from the model's own, on average over 30 tokens."""
    ids = torch.arange(10, 40)[None]
    own = model(input_ids=ids).logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    add_fused_lm_head(model)  # what every trainer does to its model
    return (model(input_ids=ids, labels=ids, fused_lm_head=True).log_probs - own).abs().mean().item()


EXACT = ("llama", "qwen3", "gemma2", "cohere", "granite", "nanochat", "falcon_h1")
WRONG = ("modernbert-decoder", "dory", "inkling_text", "recurrent_gemma")
gaps = {family: gap(tiny(family, 0.1)) for family in EXACT + WRONG}
print("TRL's log-probability of a token against the model's own, mean distance:")
for family, value in gaps.items():
    print(f"  {family:20} {value:.6f}")
named = {"inkling_text": gap(tiny("inkling_text", 0.1, logit_scale=1 / tiny("inkling_text").config.logits_mup_width_multiplier)),
         "recurrent_gemma": gap(tiny("recurrent_gemma", 0.1, final_logit_softcapping=tiny("recurrent_gemma").config.logits_soft_cap))}
print("with the scale or cap under the name that TRL looks for:", {family: round(value, 6) for family, value in named.items()})

ROWS = [{"text": text} for text in ("call weather(city='Rome')", "call weather(city='Oslo')", "call time(zone='UTC')", "no call")]


@torch.no_grad()
def own_loss(model):
    losses = []
    for row in ROWS:
        ids = torch.tensor([tokenizer(row["text"])["input_ids"] + [tokenizer.eos_token_id]])
        losses.append(model.eval()(input_ids=ids, labels=ids).loss.item())
    return sum(losses) / len(losses)


def by_the_models_logits(outputs, labels, num_items_in_batch=None):
    labels = labels[:, 1:]
    total = F.cross_entropy(outputs.logits[:, :-1].flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum")
    return total / ((labels != -100).sum() if num_items_in_batch is None else num_items_in_batch)


def tuned(family, loss=None):
    """Four rows by heart in 60 steps: TRL's loss and the model's own before and after, and what did not move."""
    model = tiny(family)
    first = {name: weight.clone() for name, weight in model.named_parameters()}
    data = Dataset.from_list(ROWS)
    config = SFTConfig(output_dir=tempfile.mkdtemp(dir="."), use_cpu=True, bf16=False, report_to=[], max_steps=60, learning_rate=5e-3,
                       per_device_train_batch_size=4, per_device_eval_batch_size=1, gradient_checkpointing=False, disable_tqdm=True)
    trainer = SFTTrainer(model=model, args=config, train_dataset=data, eval_dataset=data, processing_class=tokenizer,
                         compute_loss_func=loss)
    trainer.remove_callback(PrinterCallback)
    before = trainer.evaluate()["eval_loss"], own_loss(model)
    trainer.train()
    after = trainer.evaluate()["eval_loss"], own_loss(model)
    saved = tempfile.mkdtemp(dir=".")
    model.save_pretrained(saved)
    again = own_loss(AutoModelForCausalLM.from_pretrained(saved))
    still = [name for name, weight in model.named_parameters() if torch.equal(weight, first[name])]
    print(f"  {family:20} TRL's eval_loss {before[0]:.2f} -> {after[0]:.2f}, the model's own {before[1]:.2f} -> {after[1]:.2f}, "
          f"saved and loaded {again:.2f}; not moved: {', '.join(still) or 'nothing'}")
    return *after, still


print("four rows, 60 steps of SFT:")
llama, bert, dory = (tuned(family) for family in ("llama", "modernbert-decoder", "dory"))
print("the same with compute_loss_func on the model's own logits:")
mended = [tuned(family, by_the_models_logits) for family in ("modernbert-decoder", "dory")]


def rewarded(family):
    """60 steps of GRPO, a reward for each "a" among 8 tokens: the mean reward of the first and the last ten steps."""
    seen = []

    def letters(completions, **_):
        values = [text.count("a") / 8 for text in completions]
        seen.append(sum(values) / len(values))
        return values

    config = GRPOConfig(output_dir=tempfile.mkdtemp(dir="."), use_cpu=True, bf16=False, report_to=[], max_steps=60, beta=0.0,
                        learning_rate=5e-3, per_device_train_batch_size=16, num_generations=16, max_completion_length=8,
                        generation_kwargs={"min_new_tokens": 8}, gradient_checkpointing=False, disable_tqdm=True)
    trainer = GRPOTrainer(model=tiny(family), reward_funcs=letters, args=config, processing_class=tokenizer,
                          train_dataset=Dataset.from_list([{"prompt": "ab"}] * 64))
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    first, last = sum(seen[:10]) / 10, sum(seen[-10:]) / 10
    print(f"  {family:20} mean reward {first:.3f} -> {last:.3f}")
    return last


print('60 steps of GRPO, paid by the letter "a":')
learned = {family: rewarded(family) for family in ("llama", "modernbert-decoder", "dory")}
sys.exit(0 if all(gaps[family] < 1e-5 for family in EXACT) and all(gaps[family] > 1e-4 for family in WRONG)
         and all(value < 1e-5 for value in named.values())
         and abs(llama[0] - llama[1]) < 1e-3 and not llama[2] and llama[1] < 1.5
         and bert[0] < 2.5 and bert[1] > 4 and bert[2] == ["lm_head.dense.weight", "lm_head.norm.weight"]
         and dory[1] > 3.5 and dory[2] == ["lm_head.logit_scale"]
         and learned["llama"] > 0.2 and max(learned["modernbert-decoder"], learned["dory"]) < 0.05
         and all(abs(eval_loss - own) < 1e-3 and own < 1.5 and not still for eval_loss, own, still in mended) else 1)
PY
