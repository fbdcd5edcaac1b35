"""Answers to one prompt, sampled together: the prompt is read once, and its keys and values serve all its rows.

Stands in for `generate`. A bin holds rows of one prompt and is one row of the model's batch. In each step it has one
query per distinct text so far: rows that have said the same are computed once, until they part. A mask (bins, 1,
queries, keys) lets each query see the prompt and its own past, so no step copies keys and values, and rows that have
ended cost nothing. Logits go through transformers' own processors and one `torch.multinomial` over all rows in their
old order: the same seed draws the same tokens as `generate` does, but for rounding.
"""

import copy
from inspect import signature
from types import SimpleNamespace

import torch
from transformers import Cache, DynamicCache, GenerationConfig, LogitsProcessorList
from transformers.cache_utils import DynamicLayer
from transformers.generation.logits_process import (
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.models.llama.modeling_llama import LlamaModel

# What is understood, with what `generate` takes for None; with any other setting it is left to `generate`.
DEFAULTS = {"max_length": 20, "max_new_tokens": None, "do_sample": False, "temperature": 1.0, "top_k": 50, "top_p": 1.0,
            "min_p": None, "min_new_tokens": None, "eos_token_id": None, "pad_token_id": None}  # fmt: skip
NEUTRAL = {"num_beams": 1, "num_return_sequences": 1, "min_length": 0, "typical_p": 1.0, "length_penalty": 1.0,
           "no_repeat_ngram_size": 0, "repetition_penalty": 1.0, "use_cache": True, "disable_compile": True}
UNUSED = ("bos_token_id", "decoder_start_token_id", "transformers_version", "_from_model_config")
CACHE = "cache" if "cache" in signature(LlamaModel.forward).parameters else "past_key_values"  # before 5.24
SQUEEZE = 0.75  # bins without a row are dropped when so few have one
CHEAP_KEYS = 512  # attention to so many costs little beside the rest of a model


def may_share(decoder, ids, mask):
    """Is the attention one that takes any mask, and are ids and mask plain (rows, columns)?"""
    plain = torch.is_tensor(mask) and ids.ndim == 2 and mask.shape == ids.shape
    return plain and decoder.config._attn_implementation in ("sdpa", "eager")


def attention_masks(decoder, sees, columns, key_columns):
    """Who sees whom, as `decoder` takes it.

    Args:
        sees: (batch, queries, keys) booleans. columns: (batch, queries) and key_columns: (batch, keys), positions.

    Returns:
        additive (batch, 1, queries, keys), or {kind of layer: such a mask} when some layers have a sliding window.
    """
    masks = {"full_attention": sees}
    if "sliding_attention" in (getattr(decoder.config, "layer_types", None) or ()):
        near = columns[:, :, None] - key_columns[:, None] < decoder.config.sliding_window
        masks["sliding_attention"] = sees & near
    dtype = decoder.get_input_embeddings().weight.dtype
    for kind, seen in masks.items():
        none = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
        masks[kind] = none.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]
    return masks if len(masks) > 1 else masks["full_attention"]


def generate(model, inputs=None, generation_config=None, **options):
    """In place of `generate` of a model that shares; what cannot be shared is still left to that."""
    other = {name: value for name, value in options.items() if name not in ("input_ids", "attention_mask")}
    asked, ids = _understood(model, generation_config, other), options.get("input_ids", inputs)
    if asked is not None and ids is not None and (asked.max_new_tokens or asked.max_length - ids.shape[-1]) > 0:
        real = options.get("attention_mask", torch.ones_like(ids))
        if may_share(model.get_decoder(), ids, real) and real[:, -1].all():
            keys = torch.where(real.bool(), ids, -1)
            distinct, prompt = keys.unique(dim=0, return_inverse=True)
            if len(distinct) < len(ids):
                return sample(model, ids, real, prompt, asked)
    return model.unshared_generate(inputs, generation_config, **options)


def _understood(model, config, options):
    """The settings of a call of `generate` as a namespace with the names of `DEFAULTS`, or None."""
    config = copy.deepcopy(config) if config is not None else GenerationConfig()
    config.update(**model.generation_config.to_dict(), defaults_only=True, allow_custom_entries=True)
    left = config.update(**options)
    asked = {name: value for name, value in config.to_dict().items() if value is not None and name not in UNUSED}
    for name in asked.keys() - DEFAULTS.keys():
        if asked[name] is not False and (name not in NEUTRAL or asked[name] != NEUTRAL[name]):
            return None
    asked = SimpleNamespace(**{name: asked.get(name, default) for name, default in DEFAULTS.items()})
    return None if left or asked.pad_token_id is None or asked.eos_token_id is None else asked


def _processors(asked, columns, stops):
    """What shapes the distribution, in the order of `generate`. `columns`: of the prompts. `stops`: tokens that end."""
    found = LogitsProcessorList()
    if asked.min_new_tokens:
        found.append(MinNewTokensLengthLogitsProcessor(columns, asked.min_new_tokens, stops.tolist(), stops.device))
    if asked.do_sample and asked.temperature != 1.0:
        found.append(TemperatureLogitsWarper(asked.temperature))
    if asked.do_sample and asked.top_k:
        found.append(TopKLogitsWarper(asked.top_k))
    if asked.do_sample and asked.top_p < 1.0:
        found.append(TopPLogitsWarper(asked.top_p))
    if asked.do_sample and asked.min_p is not None:
        found.append(MinPLogitsWarper(asked.min_p))
    return found


class _Places(DynamicLayer):
    """Keys and values of one layer, with room for what is still to come: (bins, heads, places, width of a head)."""

    def __init__(self, keys, values, room):
        super().__init__()
        self.filled, self.is_initialized = keys.shape[2], True
        shape = (*keys.shape[:2], keys.shape[2] + room, keys.shape[3])
        self.all_keys, self.all_values = keys.new_empty(shape), values.new_empty((*shape[:3], values.shape[3]))
        self.all_keys[:, :, : self.filled], self.all_values[:, :, : self.filled] = keys, values

    def update(self, keys, values, *args, **kwargs):
        begin, self.filled = self.filled, self.filled + keys.shape[2]
        self.all_keys[:, :, begin : self.filled], self.all_values[:, :, begin : self.filled] = keys, values
        self.keys, self.values = self.all_keys[:, :, : self.filled], self.all_values[:, :, : self.filled]
        return self.keys, self.values

    def keep(self, bins):
        self.all_keys, self.all_values = self.all_keys[bins], self.all_values[bins]


@torch.no_grad()
def sample(model, ids, real, prompt, asked):
    """Prompts and answers (rows, columns + new), as `generate` returns them.

    Args:
        ids, real: (rows, columns) prompts, padded left, and their mask. prompt: (rows,) which of the distinct ones.
        asked: settings from `_understood`.
    """
    rows, columns = ids.shape
    new = asked.max_new_tokens if asked.max_new_tokens is not None else asked.max_length - columns
    stops = torch.as_tensor(asked.eos_token_id, device=ids.device).view(-1)
    out = torch.cat([ids, ids.new_full((rows, new), asked.pad_token_id)], 1)
    going = torch.ones(rows, dtype=torch.bool, device=ids.device)
    process, bins = _processors(asked, columns, stops), _Bins(model, ids, real, prompt, new)
    for column in range(columns, columns + new):
        scores = process(out[:, :column], bins.logits)
        tokens = torch.multinomial(scores.softmax(-1), 1)[:, 0] if asked.do_sample else scores.argmax(-1)
        out[:, column] = tokens.masked_fill(~going, asked.pad_token_id)
        going &= ~torch.isin(tokens, stops)
        if column + 1 == columns + new or not going.any():
            return out[:, : column + 1]
        bins.read(tokens, going.nonzero()[:, 0])
    return out


class _Bins:
    """Rows of one prompt side by side.

    Attributes:
        bin, query: (rows,) where a row's last token was computed. logits: (rows, vocabulary) of its next token; of rows
            that have ended, old ones.
        sees: (bins, queries, keys) what each query sees. at: (bins, keys) positions of the keys. next: (bins,) of the
            next query.
    """

    def __init__(self, model, ids, real, prompt, new):
        self.model, self.decoder, columns, device = model, model.get_decoder(), ids.shape[1], ids.device
        groups = [(prompt == n).nonzero()[:, 0] for n in range(int(prompt.max()) + 1)]
        first, position = torch.stack([group[0] for group in groups]), (real.cumsum(-1) - 1).clamp(min=0)
        cache = DynamicCache()  # made without the configuration, it keeps what a sliding window would drop
        call = {"input_ids": ids[first], "attention_mask": real[first], "position_ids": position[first], CACHE: cache}
        self.logits = model(**call, use_cache=True, logits_to_keep=1).logits[:, -1].float()[prompt]
        size = max(1, max(columns, CHEAP_KEYS) // new)  # so that keys are at most about twice the prompt's
        bins = [piece for group in groups for piece in group.tensor_split(-(-len(group) // size))]
        self.bin, self.query = torch.zeros_like(prompt), torch.zeros_like(prompt)
        for number, piece in enumerate(bins):
            self.bin[piece] = number
        lead, room = torch.stack([piece[0] for piece in bins]), max(map(len, bins)) * new
        cache = [_Places(layer.keys[prompt[lead]], layer.values[prompt[lead]], room) for layer in cache.layers]
        self.cache, self.filled = Cache(layers=cache), columns
        unseen = torch.zeros(len(bins), 1, room, dtype=torch.bool, device=device)
        self.sees = torch.cat([real[lead, None].bool(), unseen], 2)
        self.at = torch.cat([position[lead], position.new_zeros(len(bins), room)], 1)
        self.next = position[lead, -1] + 1

    def read(self, tokens, rows):
        """The last tokens (of all rows) of `rows`, those that go on -> their `logits`."""
        if len(some := self.bin[rows].unique()) <= SQUEEZE * len(self.sees):  # not at once: it moves keys and values
            self.sees, self.at, self.next = self.sees[some], self.at[some], self.next[some]
            self.bin = torch.searchsorted(some, self.bin).clamp(max=len(some) - 1)
            for layer in self.cache.layers:
                layer.keep(some)
        (count, parents), words = self.sees.shape[:2], self.logits.shape[1]
        said = (self.bin[rows] * parents + self.query[rows]) * words + tokens[rows]
        said, back = said.unique(return_inverse=True)
        bins, parent, token = said // words // parents, said // words % parents, said % words
        query = torch.arange(len(said), device=said.device) - torch.searchsorted(bins, bins)
        width = int(query.max()) + 1
        sees, inputs = self.sees.new_zeros(count, width, self.sees.shape[2]), token.new_zeros(count, width)
        sees[bins, query], inputs[bins, query] = self.sees[bins, parent], token
        sees[..., self.filled : self.filled + width].diagonal(dim1=1, dim2=2).fill_(True)
        self.sees, self.at[:, self.filled : self.filled + width] = sees, self.next[:, None]
        self.filled, now, self.next = self.filled + width, self.next[:, None].expand(-1, width), self.next + 1
        seen = attention_masks(self.decoder, sees[..., : self.filled], now, self.at[:, : self.filled])
        call = {"input_ids": inputs, "attention_mask": seen, "position_ids": now, CACHE: self.cache}
        logits = self.model(**call, use_cache=True).logits
        self.query[rows] = query[back]
        self.logits[rows] = logits[self.bin[rows], self.query[rows]].float()
