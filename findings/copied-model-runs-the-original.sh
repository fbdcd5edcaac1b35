#!/usr/bin/env bash
# A deep copy of a model that GRPOTrainer has touched still runs the weights of the original.
#
# Guess before: `copy.deepcopy(trainer.model)` is a model of its own, a frozen snapshot to compare with later, say.
# What happens: TRL gives the model a `forward` that can score without keeping all logits (`fused_lm_head`). It is stored on the
#   instance and holds the original's bound `forward`, which a deep copy does not rebind. A plain call of the copy runs
#   the original's layers: the snapshot moves with the policy it was to be compared with, and the copy's own weights are
#   never read. `state_dict()` of the copy is right, so the two disagree; saved and loaded again it is a snapshot.
# So: keep snapshots as `{name: t.clone() for name, t in model.state_dict().items()}`, or delete `copy.forward` from the copy's `__dict__`.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 trl==1.16.0 transformers==5.24.0 \
  datasets==5.2.0 accelerate==1.15.0 2>/dev/null
cd "$folder"
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - 2>"$folder/noise" <<'PY' || { tail -5 "$folder/noise"; exit 1; }
import copy, sys, tempfile
import torch, transformers, trl
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, PrinterCallback
from trl import GRPOConfig, GRPOTrainer

for package in (torch, transformers, trl):
    print(package.__name__, package.__version__)
byte_level = Tokenizer(models.BPE())
byte_level.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
byte_level.decoder = decoders.ByteLevel()
byte_level.train_from_iterator(["x"], trainers.BpeTrainer(
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<pad>", "</s>"], show_progress=False))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level, eos_token="</s>", pad_token="<pad>")
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=2,
                                     num_attention_heads=2))
ids = torch.arange(8, 16)[None]
config = GRPOConfig(output_dir=tempfile.mkdtemp(dir="."), use_cpu=True, bf16=False, report_to=[], max_steps=5, beta=0.0,
                    per_device_train_batch_size=4, num_generations=4, max_completion_length=8, learning_rate=1e-2,
                    disable_tqdm=True)
before = copy.deepcopy(model)  # taken before the trainer is made
trainer = GRPOTrainer(model=model, reward_funcs=lambda completions, **_: [float(len(c)) for c in completions], args=config,
                      processing_class=tokenizer, train_dataset=Dataset.from_list([{"prompt": "ab"}] * 8))
trainer.remove_callback(PrinterCallback)
after = copy.deepcopy(model)  # taken after it, still before the first step
trainer.train()


@torch.no_grad()
def logits(of):
    return of.eval()(input_ids=ids).logits


def weights_differ(a, b):
    return any(not torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))


print("weights of both copies differ from the trained model's:", weights_differ(before, model), weights_differ(after, model))
results = {}
for name, snapshot in (("copied before the trainer was made", before), ("copied after", after)):
    results[name] = torch.equal(logits(snapshot), logits(model))
    print(f"{name:36} answers exactly as the trained model does: {results[name]}")
after.__dict__.pop("forward", None)
mended = torch.equal(logits(after), logits(before))
print("with the stored forward removed, the second copy answers as the first:", mended)
sys.exit(0 if list(results.values()) == [False, True] and mended and weights_differ(after, model) else 1)
PY
