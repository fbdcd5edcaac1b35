"""One prompt, computed once: rows that begin alike share what is computed of their beginning.

A GRPO batch is G groups of R rows, a prompt of P tokens and an answer of C each. The stock trainer computes
G * R * (P + C) tokens, padding included, whenever it samples, scores or learns. Here each distinct beginning is
computed once: G * (P + R * C) tokens at most. With R = 10, P = 600, C = 60 that is 1,200 a group in place of 6,600.

The sharing is found in the token ids, so rows may be shuffled and of several groups. The distinct tokens of a group lie
in one bin, (bins, width), at their stock positions; a mask (bins, 1, width, width) shows each what stands before it in
its own row. All is one ordinary pass, so gradient checkpointing works, and numbers are the stock ones but for rounding,
at all places but padding. TRL's head, which on a CPU scores every place of a batch, gets only those with a label.
Sampling is stock `generate` with a cache in which equal texts stand once.
"""

from contextlib import ExitStack
from copy import deepcopy
from types import MethodType, SimpleNamespace

import numpy as np
import torch
from transformers import DynamicCache, GenerationConfig
from transformers.modeling_outputs import BaseModelOutputWithPast as Output
from transformers.utils import logging

FAMILIES = ("llama", "qwen2", "qwen3", "gemma3_text")  # who sees whom is all in their mask; each is tested
ATTENTIONS = ("sdpa", "eager")  # take any mask
CACHE = "cache" if hasattr(Output, "cache") else "past_key_values"  # before transformers 5.24
LEAST_SAVING = 0.1  # share of the work; with less to save a batch is computed as it is
ROWS = 16  # sampled side by side, since the keys that each looks through grow with them
GENERATE_TAKES = {"input_ids", "attention_mask", "logits_processor", "stopping_criteria", "streamer"}


def share_prompts(model):
    """Let `model` compute equal beginnings of rows once, in place, where it samples, scores or learns.

    Before or after a `GRPOTrainer` is built on it; `trainer.ref_model`, if there is one, is another model. Full
    weights, LoRA (on or off) and 4 bits. What cannot be shared is computed as before: another family or attention,
    dropout, a call with a cache, beams, nothing in common. A call that shares returns no keys and values.
    Returns a context manager that calls `unshare(model)` at its end; it may be ignored.
    """
    base = getattr(model, "get_base_model", lambda: model)()  # inside adapters, if there are any
    stack, decoder = ExitStack(), base.get_decoder()
    if (family := decoder.config.model_type) not in FAMILIES:
        logging.get_logger(__name__).warning_once(f"Prompts are not shared: {family} is none of {', '.join(FAMILIES)}.")
    elif "unshared_forward" not in vars(decoder):  # who began it ends it
        decoder.unshared_forward, decoder.forward = decoder.forward, MethodType(_decode, decoder)
        base.unshared_generate, base.generate = base.generate, MethodType(generate, base)
        before = base.register_forward_pre_hook(_score_labels, with_kwargs=True)
        base.sharing_hooks = [before, base.register_forward_hook(_spread_scores, with_kwargs=True)]
        stack.callback(unshare, model)
    return stack


def unshare(model):
    """Undo `share_prompts`; nothing happens to a model that does not share."""
    base, decoder = getattr(model, "get_base_model", lambda: model)(), model.get_decoder()
    if "unshared_forward" in vars(decoder):
        decoder.forward, base.generate = vars(decoder).pop("unshared_forward"), vars(base).pop("unshared_generate")
        for hook in vars(base).pop("sharing_hooks"):
            hook.remove()


def _masks(decoder, sees, columns, key_columns):
    """(batch, queries, keys) booleans and positions -> an additive mask, or {kind of layer: mask} with windows."""
    masks, dtype = {"full_attention": sees}, decoder.get_input_embeddings().weight.dtype
    if "sliding_attention" in (getattr(decoder.config, "layer_types", None) or ()):
        masks["sliding_attention"] = sees & (columns[:, :, None] - key_columns[:, None] < decoder.config.sliding_window)
    for kind, seen in masks.items():
        masks[kind] = torch.zeros_like(seen, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min)[:, None]
    return masks if len(masks) > 1 else masks["full_attention"]


def plan_rows(ids, mask, hidden=1):
    """Where each token of a batch is computed once.

    Args:
        ids, mask: (rows, columns) integers, the mask 0 for padding. hidden: the width of the model.

    Returns:
        None if too little is shared, else tensors: `ids`, `columns` (bins, width), the distinct tokens and where they
        stood; `sees` (bins, width, width); `where` (rows, columns), each token's place in the flattened bins.
    """
    rows, back = map(torch.Tensor.numpy, torch.where(mask.bool(), ids, -1).cpu().unique(dim=0, return_inverse=True))
    real = rows >= 0  # the rows are sorted: neighbours begin alike
    common = np.append(-1, (rows[1:] == rows[:-1]).cumprod(1).sum(1))  # columns, with the row before
    # A row with less in common than the cut begins a bin; the cut is chosen so that the bins cost least.
    begins = common < np.unique(common.clip(0))[:, None]  # (cuts, rows)
    rest = np.pad(real[:, ::-1].cumsum(1)[:, ::-1], ((0, 0), (0, 1)))  # tokens from a column on
    own = rest[np.arange(len(rows)), np.where(begins, 0, common)]  # (cuts, rows) tokens that a row adds
    bins, sizes = begins.sum(1), np.add.reduceat(own.ravel(), np.flatnonzero(begins))
    widths = np.maximum.reduceat(sizes, bins.cumsum() - bins)
    cost = bins * widths * (6 * hidden + widths)  # linear layers cost what attention to 6 * hidden tokens does
    best = cost.argmin()
    if cost[best] > (1 - LEAST_SAVING) * ids.numel() * (6 * hidden + ids.shape[1]):
        return None
    size = bins[best], widths[best]
    tokens, columns, where = np.zeros(size, int), np.zeros(size, int), np.zeros(rows.shape, int)
    sees = np.tile(np.eye(size[1], dtype=bool), (size[0], 1, 1))  # unused places see themselves: no NaN
    bin = -1
    for row, place, there, first, new in zip(rows, where, real, begins[best], own[best]):
        if first:
            bin, used, path = bin + 1, 0, np.arange(0)  # of the bin; `path`: the places of the row's tokens
        old = there.sum() - new
        path = np.append(path[:old], np.arange(used, used + new))
        tokens[bin, path], columns[bin, path], place[there] = row[there], there.nonzero()[0], bin * size[1] + path
        sees[bin, used : used + new][:, path] = np.tri(new, len(path), old)
        used += new
    plan = {"ids": tokens, "columns": columns, "sees": sees, "where": where[back]}
    return SimpleNamespace(**{name: torch.from_numpy(part).to(ids.device) for name, part in plan.items()})


def _decode(decoder, input_ids=None, attention_mask=None, scored=None, **other):
    """In place of the decoder's `forward`. `scored`, from `_score_labels`: the places that are wanted."""
    call = {"input_ids": input_ids, "attention_mask": attention_mask, **other}
    if isinstance(cache := other.get(CACHE), SharedCache):
        return (cache.go_on if cache.layers else cache.begin)(decoder, **call)
    strange = input_ids is None or any(value is not None and value is not False for value in other.values())
    drops = decoder.training and any(getattr(m, "attention_dropout", getattr(m, "p", 0)) for m in decoder.modules())
    plain = not (strange or drops) and decoder.config._attn_implementation in ATTENTIONS
    mask = torch.ones_like(input_ids) if plain and attention_mask is None else attention_mask
    whole = plain and torch.is_tensor(mask) and mask.shape == input_ids.shape
    plan = plan_rows(input_ids, mask, decoder.config.hidden_size) if whole else None
    if plan is None:
        out = decoder.unshared_forward(**call)
        return out if scored is None else Output(out.last_hidden_state[:, :-1][scored][None])
    seen = _masks(decoder, plan.sees, plan.columns, plan.columns)
    call = {"input_ids": plan.ids, "attention_mask": seen, "position_ids": plan.columns, "use_cache": False}
    hidden = decoder.unshared_forward(**call).last_hidden_state.flatten(0, 1)
    where = plan.where if scored is None else plan.where[:, :-1][scored][None]
    # Not `hidden[where]`: with several threads its gradient adds up in any order, and no two runs would be alike.
    return Output(hidden.index_select(0, where.flatten()).unflatten(0, where.shape))


def _score_labels(base, args, kwargs):
    """Before TRL's fused head: hand it only the places with a label."""
    labels = kwargs.get("labels")
    if kwargs.get("fused_lm_head") and labels is not None and (scored := labels[:, 1:] != -100).any():
        return args, {**kwargs, "labels": None, "shift_labels": labels[:, 1:][scored][None], "scored": scored}


def _spread_scores(base, args, kwargs, output):
    """After it: from (1, labels) back to (rows, columns - 1), 0 where there is no label."""
    if (scored := kwargs.get("scored")) is not None:
        for name, value in output.items():
            if torch.is_tensor(value) and value.ndim == 2:
                output[name] = value.new_zeros(scored.shape).masked_scatter(scored, value)


def generate(model, inputs=None, generation_config=None, **options):
    """In place of `generate`: hands it a `SharedCache`, where it will sample or take the likeliest token."""
    config = GenerationConfig() if generation_config is None else deepcopy(generation_config)
    config.update(**model.generation_config.to_dict(), defaults_only=True, allow_custom_entries=True)
    strange = config.update(**options).keys() - GENERATE_TAKES  # what is left over
    strange = strange or config.return_dict_in_generate or config.cache_implementation or config.prefill_chunk_size
    plain = config.get_generation_mode() in ("greedy_search", "sample") and config.use_cache is not False
    ids = options.get("input_ids", inputs)
    shared = ids is not None and len(ids.unique(dim=0)) < len(ids) * (config.num_return_sequences or 1)
    if shared and plain and not strange and model.get_decoder().config._attn_implementation in ATTENTIONS:
        options[CACHE] = SharedCache()
        options[CACHE].stops = torch.as_tensor([] if config.eos_token_id is None else config.eos_token_id).view(-1)
    return model.unshared_generate(inputs, generation_config, **options)


class SharedCache(DynamicCache):
    """What one call of `generate` has computed, in bins: each holds up to `ROWS` rows of one prompt.

    Each distinct text is computed once, until its rows part; rows that have ended cost nothing. `text` (rows,): the
    number of a row's text, -1 at its end. `bin` (texts,), `sees` (texts, keys): where it is computed, what its last
    token saw; `at` (bins, keys): where that stood. It has no configuration, so it keeps what a sliding window drops.
    """

    def begin(self, decoder, input_ids, position_ids, attention_mask=None, **other):
        """Reads each distinct prompt once -> hidden states of their ends, (rows, 1, hidden)."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        prompt = torch.where(mask.bool(), input_ids, -1).unique(dim=0, return_inverse=True)[1]
        same = prompt[:, None] == prompt
        first, prompt = same.int().argmax(1).unique(return_inverse=True)  # a row of each prompt; each row's prompt
        ids, mask, positions = (part[first] for part in (input_ids, mask, position_ids))
        hidden = decoder.unshared_forward(ids, mask, positions, use_cache=True, **{CACHE: self}).last_hidden_state
        pieces, self.text = (prompt * len(same) + same.tril(-1).sum(1) // ROWS).unique(return_inverse=True)
        self.batch_select_indices(piece_of := pieces // len(same))
        self.bin, self.sees, self.at = pieces.argsort(), mask[piece_of].bool(), positions[piece_of]
        return Output(hidden[prompt, -1:], **{CACHE: self})

    def go_on(self, decoder, input_ids, **other):
        """One token of each row -> hidden states, (rows, 1, hidden); of rows that have ended, any."""
        tokens, words = input_ids[:, 0], decoder.config.vocab_size
        going = (self.text >= 0) & ~torch.isin(tokens, self.stops.to(tokens))
        texts, number = (self.text * words + tokens)[going].unique(return_inverse=True)
        self.text = torch.full_like(self.text, -1).masked_scatter(going, number)
        bin, seen = self.bin[texts // words], self.sees[texts // words]
        query = torch.arange(len(bin), device=bin.device) - torch.searchsorted(bin, bin)
        inputs, now = tokens.new_zeros(2, len(self.at), int(query.max()) + 1)
        inputs[bin, query], now[bin, query] = texts % words, seen.sum(1)
        sees = seen.new_zeros(*inputs.shape, seen.shape[1] + inputs.shape[1])
        sees[bin, query, : seen.shape[1]] = seen
        sees[..., seen.shape[1] :].diagonal(dim1=1, dim2=2).fill_(True)
        self.bin, self.sees, self.at = bin, sees[bin, query], torch.cat([self.at, now], 1)
        call = {"input_ids": inputs, "attention_mask": _masks(decoder, sees, now, self.at), "position_ids": now}
        hidden = decoder.unshared_forward(**call, **{CACHE: self}, use_cache=True).last_hidden_state
        return Output(hidden[bin, query][self.text][:, None], **{CACHE: self})
