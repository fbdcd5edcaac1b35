#!/usr/bin/env bash
# A GRPO run that is resumed between two generations samples the same prompts once more, and stays shifted for good.
#
# Guess before: with `steps_per_generation=4` a run resumed from its checkpoint of step 6 goes on with what is left of the
#   second generation batch (steps 7 and 8), then takes the third, like a run that was never cut.
# What happens: the rollouts of the batch are not in the checkpoint, and the trainer counts to four anew from where it
#   sets in. Step 7 samples the second batch's prompts again, all of them, and uses them for four more steps: prompts whose part had
#   been used already are trained twice. From there every generation comes two steps later than it would have, and when
#   the steps are over half of the last batch was sampled and never trained. Nothing is said; learning rate and step numbers go on as if nothing had happened.
# So: save where a generation ends (`save_steps` a multiple of `steps_per_generation * num_iterations`).
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 trl==1.16.0 transformers==5.24.0 \
  datasets==5.2.0 accelerate==1.15.0 2>/dev/null
cd "$folder"
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - 2>"$folder/noise" <<'PY' || { tail -5 "$folder/noise"; exit 1; }
import sys, tempfile
import datasets, torch, transformers, trl
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


def train(folder, steps, resume_from=None):
    """[(step, prompts sampled there)] of one session."""
    sampled = []
    def reward(prompts, completions, trainer_state, **columns):
        sampled.append((trainer_state.global_step + 1, " ".join(dict.fromkeys(prompts))))
        return [float(len(c) % 3) for c in completions]
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32,
                                         num_hidden_layers=2, num_attention_heads=2))
    config = GRPOConfig(output_dir=folder, use_cpu=True, bf16=False, report_to=[], max_steps=steps, beta=0.0, seed=3,
                        per_device_train_batch_size=4, num_generations=4, steps_per_generation=4, save_steps=2,
                        max_completion_length=4, logging_steps=1, disable_tqdm=True)
    rows = Dataset.from_list([{"prompt": f"p{n:02}"} for n in range(32)])
    trainer = GRPOTrainer(model=model, reward_funcs=reward, args=config, train_dataset=rows, processing_class=tokenizer)
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=resume_from)
    return sampled


whole = train(tempfile.mkdtemp(dir="."), 16)
folder = tempfile.mkdtemp(dir=".")
cut = train(folder, 6) + train(folder, 16, f"{folder}/checkpoint-6")
for name, log in (("never cut", whole), ("resumed at 6", cut)):
    for step, prompts in log:
        print(f"{name:13} step {step:2} samples {prompts}")
again = whole[1][1] == cut[1][1] == cut[2][1]
shifted = [step for step, _ in whole] == [1, 5, 9, 13] and [step for step, _ in cut] == [1, 5, 7, 11, 15]
sys.exit(0 if again and shifted else 1)
PY
