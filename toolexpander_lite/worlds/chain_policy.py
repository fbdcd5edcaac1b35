"""A nano policy that can use two calls for a request, taught by SFT on the requests of `chain_world`.

It is meant to have the habit of guessing where a chain is needed: without a demonstration it asks first in about
`ask_rate` of rollouts, and uses the answer in about `use_rate`; shown a dialogue that does, it does so in most. With
the steps below the first half is learnt, and copying the answer is not yet, so no checkpoint is committed. The gate is
engineered, as in `nano_world`; all numbers are ours.
"""

import random
import re
import string
from dataclasses import dataclass
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
        chain_share: share of rows that need a chain.
        plain_share: share of those without a demonstration.
        ask_rate, use_rate: chance that such a row asks first, and that it uses the answer.
        follow_rate: chance, of each, where the demonstrations do so.
        asked_share: share of the plain rows whose question to the tool is given, so that what comes after is learnt.
    """

    steps: int = 500
    batch_size: int = 32
    learning_rate: float = 3e-3
    chain_share: float = 0.85
    plain_share: float = 0.45
    ask_rate: float = 0.03
    use_rate: float = 0.03
    follow_rate: float = 0.85
    asked_share: float = 0.4
    seed: int = 0


class ChainRow(NamedTuple):
    """A dialogue to learn from: demonstrations (messages) in front, and how many of its own first turns are given."""

    demos: list
    messages: list
    given: int


def chain_row(plan, rng):
    """Draw one `ChainRow`."""

    def solved(task, ask, use):
        """Turns of calls of a task, as the two habits have it."""
        last = task.turns[-1] if use else [guess(task, rng)]
        return [task.turns[0], last] if ask else [[guess(task, rng)]]

    if rng.random() >= plan.chain_share:
        return ChainRow([], dialogue(draw_chain(rng.choice(EASY), rng)), 0)
    name = rng.choice(CHAINS)
    task = draw_chain(name, rng)
    if rng.random() < plan.plain_share:
        given = rng.random() < plan.asked_share
        ask = given or rng.random() < plan.ask_rate
        return ChainRow([], dialogue(task, solved(task, ask, rng.random() < plan.use_rate)), int(given))
    shown = rng.choice(((True, True), (True, True), (True, False), (False, False)))
    others = [draw_chain(name, rng) for _ in range(rng.choice((1, 2)))]
    demos = [message for other in others for message in dialogue(other, solved(other, *shown))]
    does = [rng.random() < (plan.follow_rate if s else rate) for s, rate in zip(shown, (plan.ask_rate, plan.use_rate))]
    return ChainRow(demos, dialogue(task, solved(task, *does)), 0)


def chain_batch(rows, tokenizer):
    """`ChainRow`s -> (input_ids, labels), each (rows, longest), right-padded; what the policy writes is learnt."""
    tools, ids, labels = chain_tools(), [], []
    for demos, messages, given in rows:
        text = tokenizer.apply_chat_template([*demos, messages[0]], tools=tools, tokenize=False)
        row, learnt, said = tokenizer(text).input_ids, [], 0
        learnt = [-100] * len(row)
        for message in messages[1:]:
            part = tokenizer(tokenizer.apply_chat_template([message], tokenize=False)).input_ids
            own = message["role"] == "assistant"
            row += part
            learnt += [-100] + part[1:] if own and said >= given else [-100] * len(part)
            said += own
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
    model = build_model(tokenizer, plan.seed)

    def rows_at(step):
        return [chain_row(plan, rng) for _ in range(10 * plan.batch_size)]

    fit(model, tokenizer, plan, rows_at, rng, progress, chain_batch)
    if folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return model.eval(), tokenizer
