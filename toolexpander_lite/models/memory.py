"""How much memory weights and training state take, and how long a run, counted; no weights are loaded.

Activations and the cache of a sampling model come on top and depend on batch and lengths: `preflight` and
`benchmarks/gpu_fit.py` measure them. (The trainer scores answers in tiles and never holds the logits of a whole one;
a warm start does.)
"""

from types import SimpleNamespace

import pandas as pd
import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from ..base.colours import FILLS

# Qwen2.5's published sizes: hidden, intermediate, layers, heads, key-value heads, vocabulary, shared embeddings.
SIZES = {
    "0.5B": (896, 4864, 24, 14, 2, 151936, True),
    "1.5B": (1536, 8960, 28, 12, 2, 151936, True),
    "3B": (2048, 11008, 36, 16, 2, 151936, True),
    "7B": (3584, 18944, 28, 28, 4, 152064, False),
    "tiny": (64, 128, 2, 4, 2, 1024, True),
}
# NF4 with double quantisation: half a byte a weight, one byte for each block of 64, four for each 256 blocks.
NF4_BYTES = 1 / 2 + 1 / 64 + 4 / (64 * 256)
# The fields of a profile that `training_bytes` reads, as the profile "smol" has them.
FOUR_BIT_LORA = {"quantization": "4bit", "lora_rank": 16, "dtype": "bfloat16", "optim": "adamw_torch_fused"}
DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def qwen25_config(size, **options):
    """Configuration of a Qwen2.5 architecture, by a key of `SIZES`; `options` as `Qwen2Config` takes them."""
    hidden, intermediate, layers, heads, kv_heads, vocabulary, tied = SIZES[size]
    return Qwen2Config(
        hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv_heads, vocab_size=vocabulary, tie_word_embeddings=tied, max_position_embeddings=32768,
        **options,
    )  # fmt: skip


def count_parameters(config, rank=0):
    """Model configuration -> {"linear", "other", "lora"}, numbers of parameters.

    "linear": matrices of the linear layers but the output head, which 4-bit loading packs and LoRA adapts; "lora":
    their adapters of this rank, rank x (inputs + outputs) each.
    """
    with torch.device("meta"):  # shapes without numbers
        model = AutoModelForCausalLM.from_config(config)
    head = model.get_output_embeddings()
    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    packed = sum(m.weight.numel() for m in linear)
    adapters = sum(rank * (m.in_features + m.out_features) for m in linear)
    return {"linear": packed, "other": model.num_parameters() - packed, "lora": adapters}


def training_bytes(config, profile, reference=True):
    """What a run keeps in memory all the time, activations apart -> {part: bytes}.

    Trained weights (all, or the adapters) and their gradients are float32; AdamW keeps two more numbers for each, of
    four bytes, or of one with "paged_adamw_8bit".

    Args:
        config: the model's `transformers` configuration.
        profile: `quantization`, `lora_rank`, `dtype` and `optim` are used. A machine may compute in another dtype than
            the profile's, a CPU mostly in float32: `hardware.pick_dtype` says which.
        reference: with a KL term; full training then keeps a second copy of the weights. A model with adapters needs
            none, since it is its own reference without them.
    """
    count = count_parameters(config, profile.lora_rank)
    trained = count["lora"] if profile.lora_rank else count["linear"] + count["other"]
    state = {"gradients": 4 * trained, "optimizer": (2 if "8bit" in profile.optim else 8) * trained}
    if not profile.lora_rank:
        return {"weights": 4 * trained, "adapters": 0, **state, "reference": 4 * trained if reference else 0}
    plain = DTYPE_BYTES[profile.dtype]
    weights = count["linear"] * (NF4_BYTES if profile.quantization else plain) + count["other"] * plain
    return {"weights": round(weights), "adapters": 4 * trained, **state, "reference": 0}


def per_gpu(parts, gpus, sharing="ddp"):
    """What each of several GPUs holds of `training_bytes` -> {part: bytes}; gathered layers in flight not counted.

    `sharing`: "ddp" (all of it), "zero2" (a share of gradients and optimizer) or "zero3", as FSDP2 (of everything).
    """
    shared = {"ddp": (), "zero2": ("gradients", "optimizer"), "zero3": tuple(parts)}[sharing]
    return {part: held / gpus if part in shared else held for part, held in parts.items()}


def gpu_hours(parameters, rows, rollouts, prompt, answer, scans=0, reference=True, peak=312e12, used=0.2):
    """Hours on one GPU that a GRPO run's arithmetic takes -> (training, scans).

    Counted per rollout and parameter, over all tokens: 2 operations to sample, 2 for the sampler's log-probabilities,
    2 for the reference's, 6 to learn. Attention over the context, waiting and loading are in `used`.

    Args:
        rows: prompts served in all: rows of the data times epochs.
        rollouts: per prompt.
        prompt, answer: tokens, means.
        scans: rollouts of all scans together.
        peak: operations a second of the GPU (312e12: A100 and A800, bfloat16).
        used: share of the peak that is reached (0.2: our assumption).
    """
    token = parameters / (peak * used * 3600)
    tokens = prompt + answer
    return rows * rollouts * tokens * (12 if reference else 10) * token, scans * tokens * 2 * token


def plot_memory(sizes, ways, cards):
    """Bars of what a run holds all the time, in GiB, one for each size and way; counted, not measured -> figure.

    Args:
        sizes: keys of `SIZES`.
        ways: {label: what differs from `FOUR_BIT_LORA`}.
        cards: {label: GiB}, drawn as lines.
    """
    held = {
        f"{size}, {way}": training_bytes(qwen25_config(size), SimpleNamespace(**FOUR_BIT_LORA | fields))
        for size in sizes
        for way, fields in ways.items()
    }
    table = pd.DataFrame(held).T / 2**30
    end = 1.7 * max(cards.values())  # longer bars are cut, and say how long they are
    axis = table.iloc[::-1].plot.barh(stacked=True, figsize=(11, 4.6), width=0.75, color=FILLS)
    for place, total in enumerate(table.sum(axis=1)[::-1]):
        inside = total > 0.9 * end
        if inside:
            box = {"facecolor": "black", "edgecolor": "none", "pad": 2}
            axis.text(0.99 * end, place, f"{total:.1f} GiB in all →", va="center", ha="right", fontsize=8,
                      color="white", bbox=box)  # fmt: skip
        else:
            axis.text(total + 0.3, place, f"{total:.1f} GiB", va="center", fontsize=8)
    for card, gib in cards.items():
        axis.axvline(gib, color="black", linestyle="--", linewidth=1)
        axis.text(gib + 0.2, -1.2, card, fontsize=8)
    axis.set(xlim=(0, end), ylim=(-1.6, len(table) - 0.4), xlabel="GiB held all the time; activations come on top",
             title="What a run keeps in memory (counted, not measured)")  # fmt: skip
    axis.legend(loc="upper right", fontsize=8)
    axis.figure.tight_layout()
    return axis.figure


def held_bytes(model):
    """Bytes of a loaded model's parameters, and of the scales that belong to packed ones -> int."""
    total = 0
    for parameter in model.parameters():
        total += parameter.numel() * parameter.element_size()
        state = getattr(parameter, "quant_state", None)
        for part in (state, getattr(state, "state2", None)):
            if part is not None:
                total += part.absmax.numel() * part.absmax.element_size()
    return total
