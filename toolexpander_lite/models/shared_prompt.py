"""One prompt, computed once: rows that begin alike share what is computed of their beginning.

A GRPO batch is G groups of R rows, a prompt of P tokens and an answer of C each. The stock trainer computes
G * R * (P + C) tokens, padding included, whenever it samples, scores or learns. Here each distinct prompt goes through
the decoder once, its keys and values kept with their gradients, and then the answers: G * P + G * R * C tokens at most.
With R = 10, P = 600 and C = 60 that is 1,200 a group in place of 6,600.

`plan_rows` finds the sharing in the token ids, so rows may be shuffled and of several groups. It sorts the rows and
chooses a column, the cut, so that fewest tokens are computed. First pass, (groups, cut): each distinct beginning.
Second pass, (bins, width): a bin holds the rests of rows of one group, one after another without padding; a rest that
begins as the one before takes those tokens from there. A mask (bins, 1, width, cut + width) shows each token its own
row only. Numbers are the stock ones but for rounding, at all places but padding; positions are the stock ones.

A bin is about as long as the prompt, so that attention costs little more than the prompt's. With gradient
checkpointing, which forbids a cache, a bin holds whole rows of a group, in one pass. `shared_sampling` samples.
"""

import functools
import logging
import math
from contextlib import ExitStack
from types import MethodType, SimpleNamespace

import numpy as np
import torch
from transformers import DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPast

from .shared_sampling import attention_masks, generate, may_share

logger = logging.getLogger(__name__)

FAMILIES = ("llama", "qwen2", "qwen3", "gemma3_text")  # who sees whom is all in their mask; each is tested
LEAST_SAVING = 0.1  # share of the tokens; with less to save a batch is computed as it is


def share_prompts(model):
    """Let `model` compute equal beginnings of rows once, in place, where it samples, scores or learns.

    Before or after a `GRPOTrainer` is built on it; `trainer.ref_model`, if there is one, is another model. Full
    weights, LoRA (on or off) and 4 bits; SDPA and eager attention. What cannot be shared is computed as before: another
    family, dropout, a call with a cache, nothing in common. A call that shares returns no keys and values.

    Returns:
        a context manager that calls `unshare(model)` at its end; it may be ignored.
    """
    unshare(model)
    stack, (base, decoder) = ExitStack(), _parts(model)
    if decoder.config.model_type not in FAMILIES:
        logger.warning("Prompts are not shared: %s is none of %s.", decoder.config.model_type, ", ".join(FAMILIES))
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


def _parts(model):
    """The causal language model, inside adapters if there are any, and its decoder."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return base, base.get_decoder()


def plan_rows(ids, mask, one_pass=False):
    """Where each token of a batch is computed.

    Args:
        ids, mask: (rows, columns) integers; the mask is 0 for padding. one_pass: no first pass, whole rows in bins.

    Returns:
        None if too little is shared, else arrays. `first` (groups,): a row of each group. `left`, `cut`: columns of the
        first pass. `ids`, `columns` (bins, width), `sees` (bins, width, width): the second pass. `owner` (bins,): the
        bins' groups. `where` (rows, columns): each token's place in both passes, flattened one after the other.
    """
    rows, columns = ids.shape
    real = mask.astype(bool)
    keys = np.where(real, ids + 1, 0)
    order = np.array(sorted(range(rows), key=[row.tobytes() for row in keys.astype(">u4")].__getitem__))  # as numbers
    keys, all_ends = keys[order], np.where(real.any(1), columns - real[:, ::-1].argmax(1), 0)
    ends, left = all_ends[order], int(np.where(real.any(1), real.argmax(1), columns).min())
    differs = keys[1:] != keys[:-1]
    shared = np.where(differs.any(1), differs.argmax(1), columns)  # columns in common with the row before
    shared = np.append(0, np.minimum(shared, np.minimum(ends[1:], ends[:-1])))
    cuts = np.unique(shared[shared > left])
    groups = (shared < cuts[:, None]).sum(1)
    # At best, rests share all that they have in common with the one before; `_bins` knows what they do share.
    least = groups * (cuts - left) + np.maximum(ends - np.maximum(shared, cuts[:, None]), 0).sum(1)
    best, cut = int((1 - LEAST_SAVING) * rows * columns), None
    for i in np.argsort(least, kind="stable"):
        if least[i] < best:
            bins, width = _bins(shared.tolist(), ends.tolist(), left, int(cuts[i]), one_pass)
            tokens = len(bins) * width + (0 if one_pass else int(groups[i] * (cuts[i] - left)))
            best, cut = (tokens, int(cuts[i])) if tokens < best else (best, cut)
    if cut is None:
        return None
    bins, width = _bins(shared.tolist(), ends.tolist(), left, cut, one_pass)
    group, start = np.cumsum(shared < cut) - 1, left if one_pass else cut
    first, size = order[np.flatnonzero(np.diff(group, prepend=-1))], (len(bins), width)
    plan = SimpleNamespace(
        first=first, left=left, cut=start, owner=np.array([group[b[0]] for b in bins], int), where=np.zeros_like(ids),
        ids=np.zeros(size, int), columns=np.full(size, start), sees=np.zeros((*size, width), bool),
    )  # fmt: skip
    plan.where[order, left:start] = (group * (start - left))[:, None] + np.arange(start - left)
    for b, box in enumerate(bins):
        path, used = np.zeros(0, int), 0
        for i in box:
            row, at = order[i], np.arange(start, ends[i])
            kept = max(shared[i] - start, 0) if used else 0
            path = np.append(path[:kept], np.arange(used, used + len(at) - kept))
            used += len(at) - kept
            plan.where[row, at] = len(first) * (start - left) + b * width + path
            plan.ids[b, path], plan.columns[b, path] = ids[row, at], at
            plan.sees[b, path[kept:, None], path] = (np.tri(len(path), dtype=bool) & real[row, at])[kept:]
    return plan


def _bins(shared, ends, left, cut, one_pass):
    """Rows, in sorted order, by bin -> (list of lists of their numbers; tokens in the fullest)."""
    start = left if one_pass else cut
    room = math.inf if one_pass else max(max(ends) - cut, cut - left)
    firsts = [i for i, common in enumerate(shared) if common < cut] + [len(shared)]
    bins, width = [], 0
    for a, b in zip(firsts, firsts[1:]):
        rests = [i for i in range(a, b) if ends[i] > start]
        total = sum(ends[i] - max(shared[i], start) for i in rests)
        target = size = total / max(1, math.ceil(total / room))  # the bins of a group are about equally full
        for i in rests:
            if size >= target:
                bins.append([])
                size = 0
            size += ends[i] - (max(shared[i], start) if bins[-1] else start)
            bins[-1].append(i)
            width = max(width, size)
    return bins, width


def _plan(decoder, input_ids=None, attention_mask=None, **other):
    """The plan of a call of the decoder, or None where it has to be computed as it is."""
    mask = torch.ones_like(input_ids) if attention_mask is None and input_ids is not None else attention_mask
    strange = any(value is not None and value is not False for value in other.values())  # a cache, other outputs, ..
    modules = list(decoder.modules()) if decoder.training else []
    drops = modules and getattr(decoder.config, "attention_dropout", 0)  # rows would share what it draws
    drops = drops or any(isinstance(m, torch.nn.Dropout) and m.p for m in modules)
    if strange or drops or input_ids is None or not may_share(decoder, input_ids, mask):
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
        call = {"input_ids": first, "attention_mask": real, "position_ids": before, "cache": cache, "use_cache": True}
        hidden.append(decoder.unshared_forward(**call).last_hidden_state.flatten(0, 1))
    if len(plan.owner):
        owner, columns, sees = tensor(plan.owner), tensor(plan.columns), tensor(plan.sees)
        for layer in cache.layers if cache else ():
            layer.keys, layer.values = layer.keys.index_select(0, owner), layer.values.index_select(0, owner)
        sees = torch.cat([real.bool()[owner, None].expand(-1, sees.shape[1], -1), sees], -1)
        masks = attention_masks(decoder, sees, columns, torch.cat([before.expand(len(owner), -1), columns], 1))
        call = {"input_ids": tensor(plan.ids), "attention_mask": masks, "position_ids": columns, "cache": cache}
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
