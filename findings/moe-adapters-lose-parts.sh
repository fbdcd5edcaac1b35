#!/usr/bin/env bash
# PEFT 0.21 with transformers 5: a LoRA of a mixture of experts that was saved with transformers 4 loads in part, silently.
#
# Guess before: such an adapter gives the logits that it gave, or an error; and the usual list of targets, `gate_proj`,
#   `up_proj` and `down_proj` among them, reaches the layers that it reached.
# What happens: transformers 5 keeps all experts of a layer in two tensors, and PEFT rewrites an adapter's targets for
#   them, by a list of families. Qwen2-MoE, Phi-3.5-MoE and Jamba are not on it: all that was learned in the experts is
#   dropped. For DeepSeek V2 and V3, GLM 4.5, dots.1, ERNIE 4.5 and Hunyuan the three names now mean the routed experts
#   only: what the shared expert and the dense first layers had learned is dropped. In 9 of 13 families the loaded model
#   is another, at the size of the adapter's whole effect; Mixtral, MiniMax, OLMoE and Qwen3-MoE are exact. No error, and
#   the warnings mislead: of the three without their experts nothing is said, while PEFT warns of all converted ones, the
#   exact four among them, that rank patterns "were ignored", which it made itself and which hold. A new adapter has the
#   same gaps, so a recipe that trained all layers in 2025 trains some of them now; with Qwen3.5's MoE no expert at all.
#   (All weights are random here. Issue 3711 of PEFT reports shared experts named in full, and NeMo Automodel's 1755 says
#   that families off the list load without effect; no report was found of short names, or of saved adapters of these.)
# So: merge such an adapter where it was made, `merge_and_unload` with transformers 4; after loading one, load it once more
#   by `model.load_adapter(folder, "again")` and see that `unexpected_keys` of its result is empty; and before training
#   look at the names of what has `lora_` in it.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
pip() { "$folder/$1/bin/pip" install -q --disable-pip-version-check "${@:2}" 2>>"$folder/noise" || { tail -3 "$folder/noise"; exit 1; }; }
python3 -m venv "$folder/then"; pip then torch==2.13.0 transformers==4.57.6 peft==0.18.1 safetensors==0.8.0
python3 -m venv "$folder/now"; pip now torch==2.13.0 transformers==5.24.0 peft==0.21.2 safetensors==0.8.0
cd "$folder"
cat >families.py <<'PY'
import torch
import transformers as t

SMALL = dict(vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
             num_key_value_heads=2)
LATENT = dict(q_lora_rank=8, kv_lora_rank=8, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8)
ROUTED = dict(moe_intermediate_size=16, num_experts_per_tok=2)
SHARED = dict(n_routed_experts=4, n_shared_experts=1, first_k_dense_replace=1)
ONE_GROUP = dict(n_group=1, topk_group=1)
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
GATED, NUMBERED = [*ATTENTION, "gate_proj", "up_proj", "down_proj"], [*ATTENTION, "w1", "w2", "w3"]
FAMILIES = {
    "mixtral": (lambda: t.MixtralConfig(**SMALL, num_local_experts=4), NUMBERED),
    "minimax": (lambda: t.MiniMaxConfig(**SMALL, head_dim=16, num_local_experts=4, layer_types=["full_attention"] * 2), NUMBERED),
    "olmoe": (lambda: t.OlmoeConfig(**SMALL, num_experts=4, num_experts_per_tok=2), GATED),
    "qwen3_moe": (lambda: t.Qwen3MoeConfig(**SMALL, **ROUTED, num_experts=4, head_dim=16), GATED),
    "qwen2_moe": (lambda: t.Qwen2MoeConfig(**SMALL, **ROUTED, num_experts=4, shared_expert_intermediate_size=16), GATED),
    "phimoe": (lambda: t.PhimoeConfig(**SMALL, num_local_experts=4), NUMBERED),
    "jamba": (lambda: t.JambaConfig(**SMALL, num_experts=4, use_mamba_kernels=False, attn_layer_period=1, attn_layer_offset=0,
                                    expert_layer_period=1, expert_layer_offset=0), GATED),
    "deepseek_v2": (lambda: t.DeepseekV2Config(**SMALL, **LATENT, **ROUTED, **SHARED), GATED),
    "deepseek_v3": (lambda: t.DeepseekV3Config(**SMALL, **LATENT, **ROUTED, **SHARED, **ONE_GROUP), GATED),
    "glm4_moe": (lambda: t.Glm4MoeConfig(**SMALL, **ROUTED, **SHARED, **ONE_GROUP, head_dim=16), GATED),
    "dots1": (lambda: t.Dots1Config(**SMALL, **ROUTED, **SHARED, **ONE_GROUP), GATED),
    "ernie4_5_moe": (lambda: t.Ernie4_5_MoeConfig(**SMALL, moe_intermediate_size=16, moe_num_experts=4, moe_k=2,
                                                  moe_num_shared_experts=1), GATED),
    "hunyuan_v1_moe": (lambda: t.HunYuanMoEV1Config(**SMALL, head_dim=16, num_experts=4, moe_topk=2), GATED),
}
IDS = torch.arange(1, 20)[None]


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


def parts(names):
    """Which parts of the layers these adapter weights belong to."""
    found = {"attention" if "attn" in name or "attention" in name else
             "shared expert" if "shared" in name else "experts" if ".experts." in name else "dense layer"
             for name in names if "lora_" in name}
    return [part for part in ("attention", "experts", "shared expert", "dense layer") if part in found]
PY
cat >then.py <<'PY'
import warnings
import torch, transformers
from importlib.metadata import version
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
from families import FAMILIES, logits

warnings.simplefilter("ignore")
print(f"made with transformers {transformers.__version__}, peft {version('peft')}")
for name, (config, targets) in FAMILIES.items():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config()).eval()
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.15)
    model.save_pretrained(name)
    before = logits(model)
    # a random adapter in place of a trained one
    tuned = get_peft_model(model, LoraConfig(r=4, target_modules=targets, init_lora_weights=False, task_type="CAUSAL_LM")).eval()
    tuned.save_pretrained(f"{name}_lora")
    torch.save((before, logits(tuned)), f"{name}.pt")
PY
cat >now.py <<'PY'
import sys, warnings
import torch, transformers
from importlib.metadata import version
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from families import FAMILIES, GATED, ROUTED, SMALL, logits, parts

print(f"loaded with transformers {transformers.__version__}, peft {version('peft')}, torch {torch.__version__}")
print(f"{'':15} {'effect':>6} {'error':>6} {'unexpected':>10}  lost of the file" + " " * 20 + "not reached by a new adapter with the same targets")
lost, unreached, told, unexpected = {}, {}, {}, {}
for name, (_, targets) in FAMILIES.items():
    before, after = torch.load(f"{name}.pt")
    model = AutoModelForCausalLM.from_pretrained(name).eval()
    assert torch.allclose(logits(model), before, atol=1e-5), "the base model itself is another"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        tuned = PeftModel.from_pretrained(model, f"{name}_lora").eval()
    told[name] = sorted({str(warning.message) for warning in said if not issubclass(warning.category, FutureWarning)})
    error = (logits(tuned) - after).abs().max().item()
    held = parts(load_file(f"{name}_lora/adapter_model.safetensors"))
    there = parts(key for key, _ in tuned.named_parameters())
    unexpected[name] = len(tuned.load_adapter(f"{name}_lora", "again").unexpected_keys)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fresh = get_peft_model(AutoModelForCausalLM.from_pretrained(name), LoraConfig(r=4, target_modules=list(targets)))
    reached = parts(key for key, _ in fresh.named_parameters())
    lost[name], unreached[name] = [p for p in held if p not in there], [p for p in held if p not in reached]
    assert (error < 1e-4) == (not lost[name])
    print(f"{name:15} {(after - before).abs().max():6.2f} {error:6.2f} {unexpected[name]:10}  {', '.join(lost[name]) or '-':35} {', '.join(unreached[name]) or '-'}")
for text in sorted({text for texts in told.values() for text in texts}):
    print(f"said for {', '.join(name for name in told if text in told[name])}:\n  {text}")
new = transformers.Qwen3_5MoeTextConfig(**SMALL, **ROUTED, head_dim=16, num_experts=4, shared_expert_intermediate_size=16,
                                       layer_types=["full_attention"] * 2)
fresh = get_peft_model(AutoModelForCausalLM.from_config(new), LoraConfig(r=4, target_modules=GATED))
newest = parts(key for key, _ in fresh.named_parameters())
print(f"a new adapter with the same targets on Qwen3.5's mixture reaches: {', '.join(newest)}")
silent = [name for name in FAMILIES if lost[name] and not any("ignored" in text for text in told[name])]
print(f"nothing said at all, and a part lost: {', '.join(silent)}")
whole = [name for name in FAMILIES if not lost[name]]
sys.exit(0 if whole == ["mixtral", "minimax", "olmoe", "qwen3_moe"] and unreached == lost
         and [name for name in FAMILIES if "experts" in lost[name]] == ["qwen2_moe", "phimoe", "jamba"]
         and all(bool(unexpected[name]) == bool(lost[name]) for name in lost) and newest == ["attention", "shared expert"]
         and not any("missing" in text or "unexpected" in text for texts in told.values() for text in texts) else 1)
PY
export OMP_NUM_THREADS=1 TRANSFORMERS_VERBOSITY=error HF_HUB_OFFLINE=1
then/bin/python then.py 2>>noise || { tail -5 noise; exit 1; }
now/bin/python now.py 2>>noise || { tail -5 noise; exit 1; }
