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

import copy
import functools
import logging
from contextlib import ExitStack
from inspect import signature
from types import MethodType, SimpleNamespace

import torch
from torch.nn.functional import pad
from transformers import DynamicCache, GenerationConfig
from transformers.modeling_outputs import BaseModelOutputWithPast as Output

FAMILIES = ("llama", "qwen2", "qwen3", "gemma3_text")  # who sees whom is all in their mask; each is tested
ATTENTIONS = ("sdpa", "eager")  # take any mask
CACHE = "cache" if "cache" in signature(Output).parameters else "past_key_values"  # before transformers 5.24
LEAST_SAVING = 0.1  # share of the work; with less to save a batch is computed as it is
ROWS = 16  # sampled side by side, since the keys that each looks through grow with them
GENERATE_TAKES = {"input_ids", "attention_mask", "logits_processor", "stopping_criteria", "streamer"}
_say_once = functools.cache(logging.getLogger(__name__).warning)


def share_prompts(model):
    """Let `model` compute equal beginnings of rows once, in place, where it samples, scores or learns.

    Before or after a `GRPOTrainer` is built on it; `trainer.ref_model`, if there is one, is another model. Full
    weights, LoRA (on or off) and 4 bits. What cannot be shared is computed as before: another family or attention,
    dropout, a call with a cache, beams, nothing in common. A call that shares returns no keys and values.

    Returns:
        a context manager that calls `unshare(model)` at its end; it may be ignored.
    """
    stack, (base, decoder) = ExitStack(), _parts(model)
    family = getattr(getattr(decoder, "config", None), "model_type", "this model")
    if family not in FAMILIES:
        _say_once(f"Prompts are not shared: {family} is none of {', '.join(FAMILIES)}.")
    elif "unshared_forward" not in vars(decoder):  # who began it ends it
        decoder.unshared_forward, decoder.forward = decoder.forward, MethodType(_decode, decoder)
        base.unshared_generate, base.generate = base.generate, MethodType(generate, base)
        before = base.register_forward_pre_hook(_score_labels, with_kwargs=True)
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
    return base, base.get_decoder() if hasattr(base, "get_decoder") else base


def _masks(decoder, sees, columns, key_columns):
    """(batch, queries, keys) booleans and positions -> an additive mask, or {kind of layer: mask} with windows."""
    seen, dtype = {"full_attention": sees}, decoder.get_input_embeddings().weight.dtype
    if "sliding_attention" in (getattr(decoder.config, "layer_types", None) or ()):
        seen["sliding_attention"] = sees & (columns[:, :, None] - key_columns[:, None] < decoder.config.sliding_window)
    for kind, each in seen.items():
        none = torch.zeros(each.shape, dtype=dtype, device=each.device)
        seen[kind] = none.masked_fill_(~each, torch.finfo(dtype).min)[:, None]
    return seen if len(seen) > 1 else seen["full_attention"]


def plan_rows(ids, mask, hidden=1):
    """Where each token of a batch is computed once.

    Args:
        ids, mask: (rows, columns) integers; the mask is 0 for padding. hidden: the model's width; a linear layer of a
            width h costs a token about what attention to 6 h tokens does.

    Returns:
        None if too little is shared, else tensors: `ids`, `columns` (bins, width), the distinct tokens and where they
        stood; `sees` (bins, width, width); `where` (rows, columns), each token's place in the flattened bins.
    """
    rows, back = torch.where(mask.bool(), ids, -1).unique(dim=0, return_inverse=True)  # sorted: neighbours begin alike
    (count, columns), real, device = rows.shape, rows >= 0, ids.device
    number, at = torch.arange(count, device=device)[:, None], torch.arange(columns, device=device)
    common = pad((rows[1:] == rows[:-1]).long().cumprod(1).sum(1), (1, 0), value=-1)  # columns, with the row before
    # A row with less in common than the cut begins a bin; the cut is chosen so that the bins cost least.
    fresh = common < common.clamp(min=0).unique()[:, None]
    begin, group = torch.where(fresh, 0, common), fresh.cumsum(1) - 1
    own = pad(real.flip(1).cumsum(1).flip(1), (0, 1))[number[:, 0], begin]  # (cuts, rows) tokens that a row adds
    widths = torch.zeros_like(own).scatter_add(1, group, own).amax(1)
    cost = (group[:, -1] + 1) * widths * (6 * hidden + widths)
    if cost.min() > (1 - LEAST_SAVING) * ids.numel() * (6 * hidden + columns):
        return None
    best = cost.argmin()
    begin, group, own, width = begin[best, :, None], group[best], own[best], int(widths[best])
    before = own.cumsum(0) - own
    before += group * width - before[fresh[best]][group]
    adds = at >= begin  # what is left of it was computed where a row before added it
    place = (before[:, None] + (real & adds).cumsum(1) - 1).clamp(min=0)
    place = place.gather(0, torch.where(adds, number, 0).cummax(0).values)
    size = int(group[-1]) + 1, width
    plan = SimpleNamespace(where=place[back], ids=ids.new_zeros(size), columns=ids.new_zeros(size))
    plan.ids.view(-1)[place[real]], plan.columns.view(-1)[place[real]] = rows[real], at.expand(count, -1)[real]
    plan.sees = torch.eye(width, dtype=torch.bool, device=device).repeat(size[0], 1, 1)  # unused places: no NaN
    for places, there, new in zip(place, real, own.tolist()):
        path = places[there]
        causal = torch.ones(new, len(path), dtype=torch.bool, device=device).tril(len(path) - new)
        plan.sees.view(-1, width)[path[len(path) - new :, None], path % width] = causal
    return plan


def _plan(decoder, input_ids=None, attention_mask=None, **other):
    """The plan of a call of the decoder, or None where it has to be computed as it is."""
    strange = any(value is not None and value is not False for value in other.values())  # a cache, other outputs, ..
    if strange or input_ids is None or decoder.config._attn_implementation not in ATTENTIONS:
        return None
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    drops = decoder.training and (  # rows would share what it draws
        decoder.config.attention_dropout or any(isinstance(m, torch.nn.Dropout) and m.p for m in decoder.modules())
    )
    whole = torch.is_tensor(mask) and mask.shape == input_ids.shape
    return plan_rows(input_ids, mask, decoder.config.hidden_size) if whole and not drops else None


def _decode(decoder, input_ids=None, attention_mask=None, scored=None, **other):
    """In place of the decoder's `forward`. `scored`, from `_score_labels`: the places that are wanted."""
    call = {"input_ids": input_ids, "attention_mask": attention_mask, **other}
    if isinstance(cache := other.get(CACHE), SharedCache):
        return (cache.go_on if cache.layers else cache.begin)(decoder, **call)
    if plan := _plan(decoder, **call):
        seen = _masks(decoder, plan.sees, plan.columns, plan.columns)
        call = {"input_ids": plan.ids, "attention_mask": seen, "position_ids": plan.columns, "use_cache": False}
    out = decoder.unshared_forward(**call)
    if scored is None and not plan:
        return out
    hidden = out.last_hidden_state.flatten(0, 1)
    where = plan.where if plan else torch.arange(len(hidden), device=hidden.device).view(input_ids.shape)
    where = where if scored is None else where[:, :-1][scored][None]
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
    config = copy.deepcopy(generation_config) if generation_config is not None else GenerationConfig()
    config.update(**model.generation_config.to_dict(), defaults_only=True, allow_custom_entries=True)
    strange = config.update(**options).keys() - GENERATE_TAKES  # what is left over
    strange = strange or config.return_dict_in_generate or config.cache_implementation or config.prefill_chunk_size
    plain = config.get_generation_mode() in ("greedy_search", "sample") and config.use_cache is not False
    if plain and not strange and model.get_decoder().config._attn_implementation in ATTENTIONS:
        options[CACHE] = SharedCache(config.eos_token_id)
    return model.unshared_generate(inputs, generation_config, **options)


class SharedCache(DynamicCache):
    """What one call of `generate` has computed, in bins: each holds up to `ROWS` rows of one prompt.

    In each step a bin has one query for each distinct text so far: rows that have said the same are computed once,
    until they part, and rows that have ended cost nothing. `going` (rows,): not ended. `bin`, `query` (rows,): where a
    row's last token was computed. `sees` (bins, queries, keys): what that query saw; `at` (bins, keys): where it stood.
    Made without the model's configuration, it keeps what a sliding window would drop.
    """

    def __init__(self, stops):
        super().__init__()
        self.stops = torch.as_tensor([] if stops is None else stops).view(-1)

    def begin(self, decoder, input_ids, position_ids, attention_mask=None, **other):
        """Reads each distinct prompt once -> hidden states of their ends, (rows, 1, hidden)."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        distinct, prompt = torch.where(mask.bool(), input_ids, -1).unique(dim=0, return_inverse=True)
        same, shared = prompt[:, None] == prompt, len(distinct) < len(prompt)
        first = same.int().argmax(1).unique() if shared else slice(None)  # a row of each prompt
        call = {"input_ids": input_ids[first], "attention_mask": mask[first], "position_ids": position_ids[first]}
        call[CACHE] = self if shared else DynamicCache(config=decoder.config)
        out = decoder.unshared_forward(**call, use_cache=True)
        if not shared:
            return out
        number = prompt[first].argsort()[prompt]  # of each row's prompt among those
        pieces, self.bin = (number * len(same) + same.tril(-1).sum(1) // ROWS).unique(return_inverse=True)
        self.batch_select_indices(bins := pieces // len(same))
        self.sees, self.at = call["attention_mask"][bins, None].bool(), call["position_ids"][bins]
        self.query, self.going = torch.zeros_like(prompt), torch.ones_like(prompt).bool()
        return Output(out.last_hidden_state[number, -1:], **{CACHE: self})

    def go_on(self, decoder, input_ids, position_ids, **other):
        """One token of each row -> hidden states, (rows, 1, hidden); of rows that have ended, 0."""
        tokens, positions = input_ids[:, 0], position_ids[:, 0]
        self.going &= ~torch.isin(tokens, self.stops.to(tokens))
        rows = (self.going if self.going.any() else ~self.going).nonzero()[:, 0]
        (count, parents, keys), words = self.sees.shape, int(tokens.max()) + 1
        parent = self.bin[rows] * parents + self.query[rows]
        said, back = (parent * words + tokens[rows]).unique(return_inverse=True)
        parent = said // words
        bins = parent // parents
        query = torch.arange(len(said), device=said.device) - torch.searchsorted(bins, bins)
        inputs, now = tokens.new_zeros(2, count, int(query.max()) + 1)
        inputs[bins, query], now[self.bin[rows], query[back]] = said % words, positions[rows]
        sees = self.sees.new_zeros(*inputs.shape, keys + inputs.shape[1])
        sees[bins, query, :keys] = self.sees.flatten(0, 1)[parent]
        sees[..., keys:].diagonal(dim1=1, dim2=2).fill_(True)
        self.sees, self.at, self.query[rows] = sees, torch.cat([self.at, now], 1), query[back]
        call = {"input_ids": inputs, "attention_mask": _masks(decoder, sees, now, self.at), "position_ids": now}
        hidden = decoder.unshared_forward(**call, **{CACHE: self}, use_cache=True).last_hidden_state
        out = hidden.new_zeros(len(tokens), 1, hidden.shape[2])
        out[rows, 0] = hidden[self.bin[rows], self.query[rows]]
        return Output(out, **{CACHE: self})
