#!/usr/bin/env bash
# transformers 5.24: a decoder whose forward takes `past_key_values` and `**kwargs` generates without context, silently.
#
# Guess before: model code written for 5.23 (it comes with many checkpoints, or as a subclass of one's own) either works, since the
#   old name is deprecated and still accepted, or fails on the unknown argument `cache`.
# What happens: 5.24 translates the old name where the *library's* forwards are called. In the other direction nothing
#   translates: `generate` passes `cache=`, which lands in the old forward's `**kwargs`, and it computes without one.
#   `generate` however counts on the cache and passes only the newest token: from the second token on the model sees one
#   token of context. Fluent for a moment, then nonsense; log-probabilities by forward stay right, so under RL sampling and scoring
#   disagree. The mirror image holds in 5.23: `cache=` to a library model is swallowed there, and so is any misspelt
#   name in both.
# So: compare `generate` with `use_cache=True` and `False` once after an upgrade; keep `**kwargs` out of a forward of one's own.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 transformers==5.24.0 2>/dev/null
"$folder/venv/bin/pip" install -q --disable-pip-version-check --no-deps --target "$folder/before" transformers==5.23.0 2>/dev/null
cd "$folder"
cat >compare.py <<'PY'
import sys
import torch, transformers
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

print("torch", torch.__version__, "transformers", transformers.__version__)
old_name, new_name = ("right", "swallowed") if transformers.__version__ == "5.23.0" else ("right", "right")
calls = []


class WrittenBefore(LlamaForCausalLM):
    """A decoder with the signature that was usual before the rename; what it does with it is the library's."""

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, past_key_values=None, use_cache=None, **kwargs):
        held = None if past_key_values is None else past_key_values.get_seq_length()
        calls.append((input_ids.shape[1], held, "cache" in kwargs))
        return super().forward(input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids,
                               past_key_values=past_key_values, use_cache=use_cache)


config = LlamaConfig(vocab_size=97, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                     initializer_range=0.5, eos_token_id=None)
ids = torch.arange(5, 10)[None]


def generated(model, use_cache):
    model.generation_config.eos_token_id = None
    calls.clear()
    return model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False,
                          pad_token_id=0, use_cache=use_cache)[0, ids.shape[1]:].tolist()


torch.manual_seed(0)
library = LlamaForCausalLM(config).eval()
before = WrittenBefore(config).eval()
before.load_state_dict(library.state_dict())
right = generated(library, False)
answers = {(name, use_cache): generated(model, use_cache)
           for name, model in (("library", library), ("written before", before)) for use_cache in (False, True)}
for (name, use_cache), answer in answers.items():
    print(f"{name:15} use_cache={use_cache!s:5} {answer} {'right' if answer == right else 'wrong'}")
print("its calls (tokens given, tokens held, `cache` among the rest):", calls[:3])


@torch.no_grad()
def with_cache(name):
    """Is the last token's score right when the tokens before it are only in a cache that is passed under this name?"""
    cache = DynamicCache(config=config)
    library(input_ids=ids[:, :-1], use_cache=True, **{name: cache})
    step = library(input_ids=ids[:, -1:], use_cache=True, **{name: cache}).logits[:, -1]
    return "right" if torch.allclose(step, library(input_ids=ids).logits[:, -1], atol=1e-3) else "swallowed"


names = {name: with_cache(name) for name in ("past_key_values", "cache", "past_keys")}
print("the library's own decoder, given a cache by name:", names)
wrong = [key for key, answer in answers.items() if answer != right]
expected = [] if transformers.__version__ == "5.23.0" else [("written before", True)]
sys.exit(0 if wrong == expected and names == {"past_key_values": old_name, "cache": new_name, "past_keys": "swallowed"} else 1)
PY
for before in "$folder/before" ""; do
  OMP_NUM_THREADS=1 PYTHONPATH="$before" "$folder/venv/bin/python" compare.py 2>"$folder/noise" || { tail -5 "$folder/noise"; exit 1; }
done
