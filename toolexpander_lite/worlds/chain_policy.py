"""A nano policy that can use two calls for a request, taught by SFT on the requests of `chain_world`.

It has the habit of guessing where a chain is needed: without a demonstration it asks first in about `ask_rate` of
rollouts; shown a dialogue that does, in about `follow_rate`. Having asked, it mostly copies the answer.
`build_chain_policy` makes the checkpoint in `nano_checkpoint_chain/`. The gate is engineered, as in `nano_world`; all
numbers are ours.
"""

import random
import re
import string
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from tokenizers import Regex, decoders, pre_tokenizers

from ..base.files import check_new_folder
from .api_tasks import FAMILIES
from .api_world import DAYS, EVENTS, OWNERS
from .chain_world import CHAINS, EASY, chain_tools, dialogue, draw_chain, guess
from .nano_policy import END, PAD, ROLES, build_model, fit, word_tokenizer

CHAIN_TEMPLATE = (
    "{% if tools %}<|system|>{% for tool in tools %}{{ tool.function.name }}("
    "{{ tool.function.parameters.properties | join(' ') }}){% endfor %}<|end|>{% endif %}"
    "{% for m in messages %}{% if m.role != 'system' %}<|{{ m.role }}|>{{ m.content }}"
    "{% for call in m.tool_calls or [] %}"
    '<tool_call>\n{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}\n'
    "</tool_call>"
    "{% endfor %}<|end|>{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
RESPONSE_TEMPLATE = {  # how transformers reads calls out of an answer
    "defaults": {"role": "assistant"},
    "start_anchor": "<|assistant|>",
    "fields": {
        "tool_calls": {"open": "<tool_call>", "close_pattern": r"</tool_call>\s*", "repeats": True, "content": "json",
                       "transform": {"type": "function", "function": "{content}"}},
        "content": {"close_pattern": r"<\|end\|>\s*", "content": "text"},
    },
}  # fmt: skip


def build_chain_tokenizer():
    """Word-level, about 120 tokens: words, JSON punctuation, and numbers digit by digit, which are easier to copy."""
    texts = [text for name in (*CHAINS, *EASY) for text in FAMILIES[name][1]]
    texts += [*OWNERS, *EVENTS, *DAYS, "name arguments done error ValueError moved balance title day hour there is "
              "no in the accounts events has only euros sender and receiver are the same account"]  # fmt: skip
    schemas = [tool["function"] for tool in chain_tools()]
    texts += [" ".join([s["name"], *s["parameters"]["properties"]]) for s in schemas]
    plain = word_tokenizer([PAD, END, *ROLES, "<unk>"], CHAIN_TEMPLATE)
    pieces = {piece for text in texts for piece, _ in plain.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)}
    words = sorted(piece for piece in pieces if piece.isidentifier())
    marks = ["<|tool|>", "<tool_call>", "</tool_call>", '{"', '": {"', '": "', '": ', '", "', ', "', '"}', "}", '"',
             "(", ")", "'", ".", ",", ";", "?", ":"]  # fmt: skip
    tokens = [PAD, END, *ROLES, "<unk>", *marks, *words, *string.digits]
    tokenizer = word_tokenizer(tokens, CHAIN_TEMPLATE)
    fixed = "|".join(re.escape(mark) for mark in sorted([*marks, PAD, END, *ROLES, "<unk>"], key=len, reverse=True))
    single = pre_tokenizers.Split(Regex(rf"{fixed}|\d|[^\W\d]+|[^\w\s]"), behavior="removed", invert=True)
    tokenizer.backend_tokenizer.pre_tokenizer = single
    joined = decoders.Replace(Regex(r"(?<=\d) (?=\d)"), "")
    tokenizer.backend_tokenizer.decoder = decoders.Sequence([tokenizer.backend_tokenizer.decoder, joined])
    tokenizer.response_template = RESPONSE_TEMPLATE
    return tokenizer


@dataclass(frozen=True)
class ChainPlan:
    """What the SFT rows look like: the fields of `nano_policy.WarmStart` that `fit` reads, and

    Attributes:
        copy_steps: of first stages, in which every row asks and nothing is shown: copying a value is learnt late, after
            some 200 steps without any progress, and not at all while most rows guess.
        shown_steps: of a stage with demonstrations and one-call requests, in which every chain still asks.
        steps, learning_rate: of the last stage, which teaches the habit; before it AdamW's rate is 3e-3.
        chain_share: share of rows that need a chain.
        plain_share: share of those without a demonstration.
        ask_rate: chance that such a row asks first; the others guess.
        follow_rate: chance of it where the demonstration asks.
    """

    copy_steps: tuple = (500, 200, 150)
    shown_steps: int = 120
    steps: int = 120
    batch_size: int = 32
    learning_rate: float = 2e-3
    chain_share: float = 0.8
    plain_share: float = 0.5
    ask_rate: float = 0.004
    follow_rate: float = 0.7
    seed: int = 0


class ChainRow(NamedTuple):
    """A dialogue to learn from, and that of another request in front of it, or []."""

    demos: list
    messages: list


def chain_row(plan, rng):
    """Draw one `ChainRow`."""

    def solved(task, ask):
        return dialogue(task, task.turns if ask else [[guess(task)]])

    if rng.random() >= plan.chain_share:
        return ChainRow([], dialogue(draw_chain(rng.choice(EASY), rng)))
    task, other = (draw_chain(CHAINS[0], rng) for _ in range(2))
    if rng.random() < plan.plain_share:
        return ChainRow([], solved(task, rng.random() < plan.ask_rate))
    shown = rng.random() < 0.8
    asks = rng.random() < (plan.follow_rate if shown else plan.ask_rate)
    return ChainRow(solved(other, shown), solved(task, asks))


def chain_batch(rows, tokenizer):
    """`ChainRow`s -> (input_ids, labels), each (rows, longest), right-padded; what the policy writes is learnt."""
    tools, ids, labels = chain_tools(), [], []
    for demos, messages in rows:
        text = tokenizer.apply_chat_template([*demos, messages[0]], tools=tools, tokenize=False)
        row = tokenizer(text).input_ids
        learnt = [-100] * len(row)
        for message in messages[1:]:
            part = tokenizer(tokenizer.apply_chat_template([message], tokenize=False)).input_ids
            row += part
            learnt += [-100] + part[1:] if message["role"] == "assistant" else [-100] * len(part)
        ids.append(torch.tensor(row))
        labels.append(torch.tensor(learnt))
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(ids, True, tokenizer.pad_token_id), pad(labels, True, -100)


def build_chain_policy(folder=None, plan=None, progress=None):
    """Warm-start a fresh policy -> (model, tokenizer); saved to `folder` if given.

    Raises:
        RunError: `folder` is not empty or cannot be written.
    """
    if folder:
        check_new_folder(folder)
    plan = plan or ChainPlan()
    tokenizer, rng = build_chain_tokenizer(), random.Random(plan.seed)
    model, rows = build_model(tokenizer, plan.seed), range(10 * plan.batch_size)
    asks = {"ask_rate": 1.0, "follow_rate": 1.0, "learning_rate": 3e-3}
    stages = [replace(plan, steps=n, chain_share=1.0, plain_share=1.0, **asks) for n in plan.copy_steps]
    for stage in (*stages, replace(plan, steps=plan.shown_steps, **asks), plan):
        fit(model, tokenizer, stage, lambda step: [chain_row(stage, rng) for _ in rows], rng, progress, chain_batch)
    if folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return model.eval(), tokenizer
