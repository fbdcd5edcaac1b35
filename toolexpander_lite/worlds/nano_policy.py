"""The nano policy: a two-layer Llama with a word-level tokenizer, taught the nano world by SFT.

`build_nano_policy(folder)` makes the checkpoint that is committed in `nano_checkpoint/`; from then on it
is loaded like any Hub model. The warm start shows each hard tool both with the habit (the query's
words) and with the convention (codes), and mostly with the habit when no demonstration is given: see
`WarmStart` for the frequencies. Three more checkpoints, `nano_checkpoint_common/`, `_rare/` and `_rarest/`,
come from `example_rate` 0.05, 0.01 and 0.002: now and then they begin with an example of their own. The two rarer do
so as often when nobody invites one; `_invited/` (0.005, after an `early_example_rate` of 0.3) waits to be invited.
All numbers are ours.
"""

import random
import re
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ..base.errors import SettingsError
from ..base.files import check_new_folder
from ..base.settings import check_seed
from ..method.prompts import gold_completion, render_prompt, written_completion
from ..method.samples import SolvedSample, ToolSample
from ..variants.other_self_examples import EXAMPLE_CLOSE, EXAMPLE_OPEN, example_text
from .nano_world import CODEBOOKS, FAMILIES, WORDS, all_queries, make_sample, right_arguments, split_of

PAD, END = "<pad>", "<|end|>"
ROLES = ["<|system|>", "<|user|>", "<|assistant|>"]
PUNCTUATION = (
    "<think>", "</think>", "\n<tool_call>\n", "\n</tool_call>", '{"name": "', '", "arguments": {', '", ', ", ", '"}}',
    "}}", "(", ")", "<unk>",
)  # fmt: skip
ANALYSES = {True: "the tool takes codes", False: "the tool takes words"}  # of an example that is all codes, or is not


def _vocabulary(examples):
    """Every token, in a fixed order: markers, JSON punctuation, keys, names, words, codes; then those of examples."""
    arguments = sorted({a for f in FAMILIES.values() for a in f.arguments})
    words = {w for f in FAMILIES.values() for t in f.templates for w in re.sub(r"\{\w+\}", " ", t).split()}
    for book in CODEBOOKS.values():
        words |= set(book) | set(book.values())
    for values in WORDS.values():
        words |= {str(v) for v in values}
    words |= set(FAMILIES) | set(arguments) | {"call"}
    keys = [f'"{a}": ' if a == "minutes" else f'"{a}": "' for a in arguments]
    more = {word for analysis in ANALYSES.values() for word in analysis.split()} - words
    added = [EXAMPLE_OPEN, EXAMPLE_CLOSE, *sorted(more)] if examples else []
    return [PAD, END, *ROLES, *PUNCTUATION, *keys, *sorted(words), *added]


def chat_template(invitation=""):
    """The chat template of the kit's worlds.

    Tools are listed as name(arguments): a full JSON Schema would be ten times as many tokens. `invitation`: what in a
    system prompt invites to write examples; a paragraph to a real model, it is shown as one token here.
    """
    invited = f"{{% if '{invitation}' in messages[0].content %}}{invitation}{{% endif %}}" if invitation else ""
    return (
        "{% if tools %}<|system|>{% for tool in tools %}{{ tool.function.name }}("
        "{{ tool.function.parameters.properties | join(' ') }})"
        "{% endfor %}" + invited + "<|end|>{% endif %}"
        "{% for m in messages %}{% if m.role != 'system' %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )


def build_tokenizer(examples=False):
    """Word-level tokenizer, about 280 tokens: a JSON key with its punctuation is one token, so is a code.

    Text from outside the vocabulary becomes a visible "<unk>", never nothing: the token is an ordinary
    one, so decoding with `skip_special_tokens=True` keeps it. With `examples` it also has the tokens that
    self-written examples need, and its chat template shows the invitation to write one.
    """
    return word_tokenizer(_vocabulary(examples), chat_template("<example>" if examples else ""))


def word_tokenizer(tokens, template):
    """Tokenizer that knows these tokens, `PAD`, `END`, `ROLES` and "<unk>" among them; words are apart by blanks."""
    tokenizer = Tokenizer(models.WordLevel({t: i for i, t in enumerate(tokens)}, unk_token="<unk>"))
    fixed = [t for t in tokens if not re.fullmatch(r"\w+", t)]
    fixed = "|".join(re.escape(t) for t in sorted(fixed, key=len, reverse=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(
        Regex(rf"{fixed}|\w+|[^\w\s]"),
        behavior="removed",
        invert=True,  # drops the blanks between words
    )
    # Decoding puts one blank before each word, except after an opening quote, bracket, tag or blank.
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(Regex(r"^(?=\w)"), "\u2581"),
            decoders.Fuse(),
            decoders.Replace(Regex(r"""(^|(?<=["'>({\[:\s]))\u2581"""), ""),
            decoders.Replace("\u2581", " "),
        ]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=ROLES,
        padding_side="left",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = template
    return fast


def build_model(tokenizer, seed=0):
    """An untrained Llama of about 0.4 M parameters for `tokenizer`."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        attention_dropout=0.0,
    )
    return LlamaForCausalLM(config)


@dataclass(frozen=True)
class WarmStart:
    """What the SFT rows look like. The frequencies decide how hard the hard families are.

    Attributes:
        steps, batch_size, learning_rate: of the SFT loop (AdamW, linear decay).
        hard_share: share of rows from hard families.
        plain_share: share of hard rows without a demonstration.
        code_rate: chance, per argument, that a plain hard row uses the code.
        follow_rate: chance, per argument, that a row uses the code when its demonstrations do.
        all_code_share: share of demonstrated rows whose demonstrations use codes in every argument; of rows with a
            self-written example likewise.
        example_rate: chance that an invited row without a demonstration begins with an example of its own; 0 makes a
            policy that knows neither examples nor the invitation.
        early_example_rate: in place of `example_rate` for the first `early_share` of the steps; 0 is no such phase. A
            rare habit hardly pays for telling invited prompts from others; one that was frequent has learnt the
            difference, and keeps it when it becomes rare.
        early_share: share of the steps.
        opened_share: share of the other invited rows without a demonstration whose example is opened for the policy:
            they teach to write and to use an example, but not to begin one.
        invited_share: share of all rows with the invitation, if there are examples.
        seed: of weights and rows.
    """

    steps: int = 1500
    batch_size: int = 64
    learning_rate: float = 3e-3
    hard_share: float = 0.75
    plain_share: float = 0.45
    code_rate: float = 0.02
    follow_rate: float = 0.85
    all_code_share: float = 0.5
    example_rate: float = 0.0
    early_example_rate: float = 0.0
    early_share: float = 2 / 3
    opened_share: float = 0.3
    invited_share: float = 0.5
    seed: int = 0

    def __post_init__(self):
        check_seed(self.seed)
        for name in ("hard_share", "plain_share", "code_rate", "follow_rate", "all_code_share", "example_rate",
                     "early_example_rate", "early_share", "opened_share", "invited_share"):  # fmt: skip
            if not 0 <= getattr(self, name) <= 1:
                raise SettingsError(f"warm start: {name} is {getattr(self, name)}; it must lie between 0 and 1")


class Row(NamedTuple):
    """One SFT row: what is to be learnt, after which demonstrations, invited or not, and is its example opened?"""

    sample: ToolSample
    demos: list
    invited: bool
    opened: bool


def warm_start_row(plan, queries, rng):
    """Draw one `Row`.

    `queries`: {family name: list of (query, words)} to draw from. Demonstrations, and examples of its own, never share
    an argument with the sample, so they show the style and never the answer.
    """

    def styled(family, query, words, coded):
        codes = right_arguments(words)
        return make_sample(family, query, {a: codes[a] if coded[a] else words[a] for a in words})

    def another(family, words):
        query, other = rng.choice(queries[family.name])
        while any(other[a] == words[a] for a in words):
            query, other = rng.choice(queries[family.name])
        return query, other

    def style(words):
        all_code = rng.random() < plan.all_code_share
        return {a: all_code or rng.random() < 0.5 for a in words}

    def following(shown):
        return {a: rng.random() < (plan.follow_rate if shown[a] else plan.code_rate) for a in shown}

    hard = rng.random() < plan.hard_share
    family = rng.choice([f for f in FAMILIES.values() if f.hard == hard])
    query, words = rng.choice(queries[family.name])
    invited = plan.example_rate > 0 and rng.random() < plan.invited_share
    opened = invited and rng.random() < plan.opened_share
    with_example = opened or (invited and rng.random() < plan.example_rate)
    if not hard:
        answered = dict(zip(words, reversed(words.values()))) if rng.random() < family.swap_habit else words
        sample = make_sample(family, query, answered)
        if with_example:
            example = make_sample(family, *another(family, words))
            sample = _with_example(sample, example, ANALYSES[False])
        return Row(sample, [], invited, opened)
    if rng.random() < plan.plain_share:
        if not with_example:
            sample = styled(family, query, words, {a: rng.random() < plan.code_rate for a in words})
            return Row(sample, [], invited, False)
        shown = style(words)
        example = styled(family, *another(family, words), shown)
        sample = styled(family, query, words, following(shown))
        return Row(_with_example(sample, example, ANALYSES[all(shown.values())]), [], invited, opened)
    shown = style(words)
    demos = [styled(family, *another(family, words), shown) for _ in range(rng.choice((1, 2)))]
    return Row(styled(family, query, words, following(shown)), demos, invited, False)


def _with_example(sample, example, analysis):
    """`sample`, its completion beginning with `example` inside the think block."""
    text = example_text(example.messages[-1]["content"], example.calls[0], analysis)
    return SolvedSample.of(sample, gold_completion(sample).replace("<think>", f"<think>{text}", 1))


def sft_batch(rows, tokenizer):
    """`Row`s -> (input_ids, labels), each (rows, longest), right-padded.

    Prompts are not scored, nor is the beginning of an opened example.
    """
    ids, labels = [], []
    for sample, demos, invited, opened in rows:
        prompt = tokenizer(render_prompt(sample, tokenizer, demos, invited)).input_ids
        answer = tokenizer(written_completion(sample)).input_ids + [tokenizer.eos_token_id]
        ids.append(torch.tensor(prompt + answer))
        given = len(prompt) + (len(tokenizer(f"<think>{EXAMPLE_OPEN}").input_ids) if opened else 0)
        labels.append(torch.tensor([-100] * given + answer[given - len(prompt) :]))
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(ids, True, tokenizer.pad_token_id), pad(labels, True, -100)


def build_nano_policy(folder=None, plan=None, progress=None):
    """Warm-start a fresh nano policy on train queries only -> (model, tokenizer); saved to `folder` if given.

    Takes about 5 minutes on two cores. `progress(step, loss)` is called every 100 steps. On one machine and
    thread count the loop is deterministic; across machines weights differ by rounding, and the difficulty band
    (tests/test_nano_policy.py) is what is promised.

    Raises:
        RunError: `folder` is not empty or cannot be written.
    """
    if folder:
        check_new_folder(folder)
    plan = plan or WarmStart()
    tokenizer = build_tokenizer(examples=plan.example_rate > 0)
    model = build_model(tokenizer, plan.seed)
    rng = random.Random(plan.seed)
    queries = {f.name: [q for q in all_queries(f) if split_of(q[0]) == "train"] for f in FAMILIES.values()}
    def rows_at(step):
        early = plan.early_example_rate and step < plan.steps * plan.early_share
        now = replace(plan, example_rate=plan.early_example_rate) if early else plan
        return [warm_start_row(now, queries, rng) for _ in range(10 * plan.batch_size)]

    fit(model, tokenizer, plan, rows_at, rng, progress)
    if folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return model.eval(), tokenizer


def fit(model, tokenizer, plan, rows_at, rng, progress=None, to_batch=sft_batch):
    """The SFT loop of a warm start: AdamW, linear decay; `rows_at(step)` draws the `Row`s of the next ten batches."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.learning_rate, weight_decay=0.01)
    warm_up = 50
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm_up, (plan.steps - step) / (plan.steps - warm_up))
    )
    batches = []
    for step in range(plan.steps):
        if not batches:  # rows of like length share a batch: a third less padding to compute
            rows = sorted(rows_at(step), key=lambda row: len(row.demos))
            batches = [rows[i : i + plan.batch_size] for i in range(0, len(rows), plan.batch_size)]
            rng.shuffle(batches)
        input_ids, labels = to_batch(batches.pop(), tokenizer)
        # Right padding with causal attention: padded positions follow the answer and carry no loss.
        loss = model(input_ids=input_ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if progress and step % 100 == 99:
            progress(step + 1, loss.item())
