"""One prompt, computed once: rows that begin alike share what is computed of their beginning.

A GRPO batch is G groups of R rows, a prompt of P tokens and an answer of C each. The stock trainer computes
G * R * (P + C) tokens, padding included, whenever it samples, scores or learns. Here each distinct prompt goes through
the decoder once, its keys and values kept with their gradients, and then the answers: G * P + G * R * C tokens at most.
With R = 10, P = 600 and C = 60 that is 1,200 a group in place of 6,600.

`shared_rows` finds the sharing in the token ids, so rows may be shuffled and of several groups. First pass,
(groups, cut): each distinct beginning. Second pass, (bins, width): the rests of the rows, side by side; a mask
(bins, 1, width, cut + width) shows each token its own row only. Numbers are the stock ones but for rounding, at all
places but padding; positions are the stock ones. With gradient checkpointing, which forbids a cache, all is done in one
pass. TRL's head scores every place of a batch on a CPU; here it gets only those with a label, each once.
`shared_sampling` samples.
"""

import functools
import logging
from contextlib import ExitStack
from types import MethodType, SimpleNamespace

import torch
from transformers import DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPast

from .shared_rows import plan_rows
from .shared_sampling import CACHE, attention_masks, generate, may_share

logger = logging.getLogger(__name__)

FAMILIES = ("llama", "qwen2", "qwen3", "gemma3_text")  # who sees whom is all in their mask; each is tested


def share_prompts(model):
    """Let `model` compute equal beginnings of rows once, in place, where it samples, scores or learns.

    Before or after a `GRPOTrainer` is built on it; `trainer.ref_model`, if there is one, is another model. Full
    weights, LoRA (on or off) and 4 bits; SDPA and eager attention. What cannot be shared is computed as before: another
    family, dropout, a call with a cache, nothing in common. A call that shares returns no keys and values.

    Returns:
        a context manager that calls `unshare(model)` at its end; it may be ignored.
    """
    stack, (base, decoder) = ExitStack(), _parts(model)
    if "unshared_forward" in vars(decoder):  # who began it ends it
        return stack
    family = getattr(getattr(decoder, "config", None), "model_type", "this model")
    if family not in FAMILIES:
        _say_once(f"Prompts are not shared: {family} is none of {', '.join(FAMILIES)}.")
        return stack
    decoder.unshared_forward, decoder.forward = decoder.forward, MethodType(_decode, decoder)
    base.unshared_generate, base.generate = base.generate, MethodType(generate, base)
    before = base.register_forward_pre_hook(_score_once, with_kwargs=True)
    base.sharing_hooks = [before, base.register_forward_hook(_spread_scores, with_kwargs=True)]
    stack.callback(unshare, model)
    return stack


def unshare(model):
    """Undo `share_prompts`; nothing happens to a model that does not share."""
    base, decoder = _parts(model)
    if "unshared_forward" in vars(decoder):
        decoder.forward, base.generate = vars(decoder).pop("unshared_forward"), vars(base).pop("unshared_generate")
        for hook in vars(base).pop("sharing_hooks"):
            hook.remove()


_say_once = functools.cache(logger.warning)


def _parts(model):
    """The causal language model, inside adapters if there are any, and its decoder."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return base, base.get_decoder() if hasattr(base, "get_decoder") else base


def _plan(decoder, input_ids=None, attention_mask=None, **other):
    """The plan of a call of the decoder, or None where it has to be computed as it is."""
    mask = torch.ones_like(input_ids) if attention_mask is None and input_ids is not None else attention_mask
    strange = any(value is not None and value is not False for value in other.values())  # a cache, other outputs, ..
    if strange or input_ids is None or not may_share(decoder, input_ids, mask):
        return None
    modules = list(decoder.modules()) if decoder.training else []  # only now: sampling comes here for each token
    drops = modules and getattr(decoder.config, "attention_dropout", 0)  # rows would share what it draws
    if drops or any(isinstance(m, torch.nn.Dropout) and m.p for m in modules):
        return None
    one_pass = torch.is_grad_enabled() and any(getattr(m, "gradient_checkpointing", False) for m in modules)
    return plan_rows(input_ids.cpu().numpy(), mask.cpu().numpy(), one_pass)


def _compute(decoder, plan, ids, mask):
    """Hidden states of both passes, flattened one after the other: (places, hidden)."""
    tensor = functools.partial(torch.as_tensor, device=ids.device)
    hidden, cache, first = [], None, ids[plan.first, plan.left : plan.cut]
    real = torch.ones_like(first) if mask is None else mask[plan.first, plan.left : plan.cut]
    before = torch.arange(plan.left, plan.cut, device=ids.device)[None]
    if plan.cut > plan.left:
        cache = DynamicCache()  # made without the configuration, it keeps what a sliding window would drop
        call = {"input_ids": first, "attention_mask": real, "position_ids": before, CACHE: cache, "use_cache": True}
        hidden.append(decoder.unshared_forward(**call).last_hidden_state.flatten(0, 1))
    if len(plan.owner):
        owner, columns, sees = tensor(plan.owner), tensor(plan.columns), tensor(plan.sees)
        for layer in cache.layers if cache else ():
            layer.keys, layer.values = layer.keys.index_select(0, owner), layer.values.index_select(0, owner)
        sees = torch.cat([real.bool()[owner, None].expand(-1, sees.shape[1], -1), sees], -1)
        masks = attention_masks(decoder, sees, columns, torch.cat([before.expand(len(owner), -1), columns], 1))
        call = {"input_ids": tensor(plan.ids), "attention_mask": masks, "position_ids": columns, CACHE: cache}
        hidden.append(decoder.unshared_forward(**call, use_cache=bool(cache)).last_hidden_state.flatten(0, 1))
    return torch.cat(hidden)


def _decode(decoder, input_ids=None, attention_mask=None, scored=None, **other):
    """In place of the decoder's `forward`. `scored`, from `_score_once`, wants some places only."""
    plan = scored.plan if scored else _plan(decoder, input_ids, attention_mask, **other)
    if plan:
        hidden = _compute(decoder, plan, input_ids, attention_mask)
    else:
        out = decoder.unshared_forward(input_ids=input_ids, attention_mask=attention_mask, **other)
        if not scored:
            return out
        hidden = out.last_hidden_state.flatten(0, 1)
    places = scored.places if scored else torch.as_tensor(plan.where, device=hidden.device)
    return BaseModelOutputWithPast(last_hidden_state=hidden[places])


def _score_once(base, args, kwargs):
    """Before TRL's fused head: hand it each place with the token after it once, and only where there is a label."""
    ids, labels = kwargs.get("input_ids"), kwargs.get("labels")
    mask = None if labels is None else labels[:, 1:] != -100
    if ids is None or mask is None or not kwargs.get("fused_lm_head") or not mask.any():
        return None
    at = mask.nonzero(as_tuple=True)
    plan = _plan(base.get_decoder(), **{k: v for k, v in kwargs.items() if k not in ("labels", "fused_lm_head")})
    where = torch.arange(ids.numel()).view(ids.shape) if plan is None else torch.as_tensor(plan.where)
    pairs = torch.stack([where.to(ids.device)[at], labels[:, 1:][at]])
    (places, targets), back = pairs.unique(dim=1, return_inverse=True)
    scored = SimpleNamespace(plan=plan, places=places[None], mask=mask, at=at, back=back)
    return args, {**kwargs, "labels": None, "shift_labels": targets[None], "scored": scored}


def _spread_scores(base, args, kwargs, output):
    """After TRL's fused head: what it says of (1, pairs) back to (rows, columns - 1), 0 where there is no label."""
    if scored := kwargs.get("scored"):
        for name, value in list(output.items()):
            if torch.is_tensor(value) and value.ndim == 2:
                spread = value.new_zeros(scored.mask.shape).index_put(scored.at, value[0, scored.back])
                output[name] = scored.mask if name == "label_mask" else spread
