"""Is a GGUF file the model it was made of? Read back, and compared by what both say to a few prompts."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from ..base.errors import ModelError
from .policy import load_folder


def compare_gguf(folder, file, prompts):
    """The largest difference of the next token's log-probabilities, and how often the likeliest token is the same.

    Args:
        folder: a model folder, an adapter's too (it is merged).
        file: the GGUF file that a converter made of it, with any quantisation; transformers unpacks it.
        prompts: texts.

    Returns:
        {"difference": largest absolute one, in nats; "same_token": share of prompts}

    Raises:
        ModelError: the file cannot be read as a model.
    """
    (model, tokenizer), file = load_folder(folder, device="cpu"), Path(file)
    try:
        other = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    except Exception as error:  # of a stranger's file; readers have no common error
        raise ModelError(f"cannot read {file} as a model ({type(error).__name__}: {error}); convert it again") from None
    found = {"difference": 0.0, "same_token": 0.0}
    for prompt in prompts:
        ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False).input_ids
        with torch.no_grad():
            one, two = (m.eval()(input_ids=ids).logits[0, -1].float().log_softmax(-1) for m in (model, other))
        size = min(len(one), len(two))  # a converter may pad the vocabulary
        found["difference"] = max(found["difference"], (one[:size] - two[:size]).abs().max().item())
        found["same_token"] += float(one[:size].argmax() == two[:size].argmax()) / len(prompts)
    return found
