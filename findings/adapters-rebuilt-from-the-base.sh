#!/usr/bin/env bash
# PEFT 0.21: FRoD, AdaMSS and low-rank PSOFT adapters lose what they learned when the base is loaded in another dtype, FRoD even by another thread count.
#
# Guess before: an adapter that was saved and is loaded on the same base weights gives the same model; in another dtype of
#   the base up to rounding, as for LoRA and some forty other settings of PEFT's tuners that were tried.
# What happens: these three do not store all that their trained numbers refer to. On load they work it out anew from the
#   base weights: FRoD its left basis (the right one is in the file, and is put beside the new left one), AdaMSS which
#   rows belong to which cluster, PSOFT the two factors around its rotation (a little is lost with its full SVD, all with
#   psoft_svd="lowrank"). Decompositions are not unique, and a rounding is enough for another order or another sign. So an
#   adapter tuned on a float32 base and served in bfloat16, or tuned in bfloat16 and evaluated in float32, multiplies its
#   numbers with axes that they were not trained for: the loss goes most or all of the way back to that of the untuned
#   model, and nothing is said. With FRoD the number of threads of the process that loads can be enough, as its
#   eigenvectors come from LAPACK; its `save_projection=True` is there so that a checkpoint does not depend on that.
#   (AdaMSS and PSOFT drew random numbers there and were seeded, AdaMSS in pull request 3310; that mends the same dtype
#   only. No report of FRoD was found. The base here is small and random; how much is lost depends on how near to each
#   other its singular values are.)
# So: save the merged model, or load the base in the dtype that was trained; for FRoD compute the left basis again from
#   the right one of the file, as below; and compare the loss once after loading.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 peft==0.21.2 transformers==5.24.0 accelerate==1.15.0 \
  scikit-learn==1.9.1 2>>"$folder/noise" || { tail -3 "$folder/noise"; exit 1; }
cd "$folder"
cat >look.py <<'PY'
import sys
import peft, sklearn, torch, transformers
from peft import AdamssConfig, FrodConfig, LoraConfig, PeftModel, PsoftConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

TEXT = torch.tensor([list(b'<tool_call>{"name": "book", "arguments": {"city": "LIM"}}</tool_call>')])
SHARED = dict(target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")
TUNERS = {"LoRA": lambda: LoraConfig(**SHARED), "PSOFT, full SVD": lambda: PsoftConfig(r=16, **SHARED),
          "PSOFT, low rank": lambda: PsoftConfig(r=16, psoft_svd="lowrank", **SHARED),
          "AdaMSS": lambda: AdamssConfig(r=64, **SHARED), "FRoD": lambda: FrodConfig(progressbar=False, **SHARED)}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def base(dtype):
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=256, hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=4, head_dim=64)
    return LlamaForCausalLM(config).eval().to(DTYPES[dtype])


@torch.no_grad()
def loss(model):
    return model(input_ids=TEXT, labels=TEXT).loss.item()


def loaded(folder, dtype):
    return PeftModel.from_pretrained(base(dtype), folder).eval()


def tuned(config, dtype):
    torch.manual_seed(1)
    model = get_peft_model(base(dtype), config)
    optimizer = torch.optim.Adam([weight for weight in model.parameters() if weight.requires_grad], lr=2e-2)
    for _ in range(60):
        model.train()(input_ids=TEXT, labels=TEXT).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def with_the_stored_basis(model):
    """FRoD's left basis for the right one that came from the file."""
    for module in model.modules():
        if hasattr(module, "frod_U"):
            right, weight = module.frod_V["default"], module.get_base_layer().weight
            module.frod_U["default"] = module._calculate_frod_u_and_lambda(right, weight)[0].to(weight.dtype)
    return model


if sys.argv[1] == "again":
    print(f"the same folders in a process of {torch.get_num_threads()} threads, the base as trained:")
    for name in TUNERS:
        print(f"  {name:16}", ", ".join(f"{dtype} {loss(loaded(f'{name} {dtype}', dtype)):.2f}" for dtype in DTYPES))
    mended = [loss(with_the_stored_basis(loaded(f"FRoD {dtype}", dtype))) for dtype in DTYPES]
    print("  FRoD, left basis computed again:", ", ".join(f"{value:.2f}" for value in mended))
    sys.exit(0 if max(mended) < 2.5 else 1)

print(", ".join(f"{package.__name__} {package.__version__}" for package in (torch, peft, transformers, sklearn)))
print(f"loss on one tool call, of the base {loss(base('float32')):.2f}, one thread:")
kept, lost, merged = {}, {}, {}
for name, config in TUNERS.items():
    for dtype in DTYPES:
        other = next(each for each in DTYPES if each != dtype)
        model = tuned(config(), dtype)
        model.save_pretrained(f"{name} {dtype}")
        after, same, crossed = loss(model), loss(loaded(f"{name} {dtype}", dtype)), loss(loaded(f"{name} {dtype}", other))
        whole = loss(model.merge_and_unload().to(DTYPES[other]))
        print(f"  {name:16} tuned in {dtype:8} {after:.2f}, loaded {same:.2f}, loaded on a {other} base {crossed:.2f}; "
              f"merged, then {other} {whole:.2f}")
        kept[name, dtype], lost[name, dtype], merged[name, dtype] = abs(same - after), crossed - after, abs(whole - after)
mended = [loss(with_the_stored_basis(loaded(f"FRoD {dtype}", other))) for dtype, other in zip(DTYPES, reversed(DTYPES))]
print("  FRoD on a base of the other dtype, left basis computed again:", ", ".join(f"{value:.2f}" for value in mended))
LOST = {"LoRA": (-0.1, 0.1), "PSOFT, full SVD": (0.05, 0.5), "PSOFT, low rank": (0.5, 9), "AdaMSS": (0.5, 9), "FRoD": (1.5, 9)}
sys.exit(0 if max(kept.values()) < 0.01 and max(merged.values()) < 0.15 and max(mended) < 2.5
         and all(LOST[name][0] < value < LOST[name][1] for (name, _), value in lost.items()) else 1)
PY
for run in "1 train" "2 again"; do
  OMP_NUM_THREADS=${run% *} TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" -W ignore look.py "${run#* }" 2>>"$folder/noise" || { tail -5 "$folder/noise"; exit 1; }
done
