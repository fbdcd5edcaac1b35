#!/usr/bin/env bash
# PEFT 0.21 with transformers 5.24: `generate` drops a learned prefix, and puts a learned prompt before every new token.
#
# Guess before: greedy `generate` of a PEFT model gives the tokens that its forward pass gives one at a time, for prompt
#   tuning, p-tuning and prefix tuning, as it does with transformers 5.23.
# What happens: transformers 5.24 renamed `past_key_values` to `cache` and translates the old name where a model is
#   called. PEFT steps in one level deeper, where generation hands the cache on as a dictionary, and finds no
#   `past_key_values` there. Prefix tuning: its prefix goes under the old name, next to the new one, and is ignored; the answer is exactly the
#   base model's, as if nothing had been tuned (a FutureWarning says that one of two names is ignored). Prompt and
#   p-tuning: at every step the cache looks empty, so the prompt is inserted anew before each token; only the first
#   token is right, and no warning is given. Training and scoring, which call forward, are right: evaluation loss looks
#   fine and answers are bad. LoRA is not touched.
# So: pin transformers below 5.24 for these methods until PEFT follows, or (prompt and p-tuning) generate with
#   `use_cache=False`; and compare one greedy answer with forward.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 transformers==5.24.0 peft==0.21.2 accelerate==1.15.0 2>/dev/null
"$folder/venv/bin/pip" install -q --disable-pip-version-check --no-deps --target "$folder/before" transformers==5.23.0 2>/dev/null
cd "$folder"
cat >compare.py <<'PY'
import sys
import peft, torch, transformers
from peft import LoraConfig, PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

print("torch", torch.__version__, "transformers", transformers.__version__, "peft", peft.__version__)
VIRTUAL, NEW = 6, 8
common = {"task_type": "CAUSAL_LM", "num_virtual_tokens": VIRTUAL}
METHODS = {
    "lora": LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=4, init_lora_weights=False),
    "prompt tuning": PromptTuningConfig(**common),
    "p-tuning": PromptEncoderConfig(**common, encoder_hidden_size=32),
    "prefix tuning": PrefixTuningConfig(**common),
}
ids = torch.tensor([[5, 9, 11, 30]])
settings = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "pad_token_id": 0}


@torch.no_grad()
def by_forward(model):
    text = ids
    for _ in range(NEW):
        logits = model(input_ids=text, attention_mask=torch.ones_like(text), use_cache=False).logits
        text = torch.cat([text, logits[:, -1:].argmax(-1)], 1)
    return text[0, ids.shape[1]:].tolist()


def generated(model, **more):
    return model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **settings, **more)[0, ids.shape[1]:].tolist()


found = {}
for name, method in METHODS.items():
    torch.manual_seed(0)
    # No end token, so that forward's greedy choice and generate's are over the same tokens.
    base = LlamaForCausalLM(LlamaConfig(vocab_size=97, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                                        num_attention_heads=2, initializer_range=0.5, eos_token_id=None)).eval()
    base.generation_config.eos_token_id = None
    untuned = generated(base)
    model = get_peft_model(base, method).eval()
    if name != "lora":
        for weight in model.prompt_encoder.parameters():  # a learned prompt has some size
            torch.nn.init.normal_(weight, std=2.0)
    positions = []
    layer = next(m for n, m in model.named_modules() if n.endswith("layers.0.input_layernorm"))
    hook = layer.register_forward_hook(lambda module, inputs, output: positions.append(inputs[0].shape[1]))
    answer = generated(model)
    hook.remove()
    expected = by_forward(model)
    if answer == expected:
        found[name] = "right"
    elif answer == untuned:
        found[name] = "the base model's"
    else:
        found[name] = "wrong" + (" from the second token on" if answer[0] == expected[0] else "")
    print(f"{name:13} forward {expected}\n{'':13} generate {answer}: {found[name]}; positions run per step {positions}")
    if name in ("prompt tuning", "p-tuning"):
        print(f"{'':13} with use_cache=False: {'right' if generated(model, use_cache=False) == expected else 'wrong'}")
if transformers.__version__ == "5.23.0":
    expected = dict.fromkeys(METHODS, "right")
else:
    late = "wrong from the second token on"
    expected = {"lora": "right", "prompt tuning": late, "p-tuning": late, "prefix tuning": "the base model's"}
sys.exit(0 if found == expected else 1)
PY
for before in "$folder/before" ""; do
  OMP_NUM_THREADS=1 PYTHONPATH="$before" "$folder/venv/bin/python" compare.py 2>"$folder/noise" || { tail -5 "$folder/noise"; exit 1; }
done
