"""The policies of the graded world: `nano_policy`'s model and SFT loop, on rows that teach `Familiarity`.

`nano_checkpoint_graded/` is the stronger one, `nano_checkpoint_graded_weak/` the weaker. `_invited/` is the weaker one
taught further: in some of the answers to prompts that invite examples it writes one or two of its own, and
`_invited_four/` up to four. `_habit/` is the
stronger one taught further, to habits: what it does not know it does not guess, but writes in the wrong form.

What is engineered of those: how many there are (`OWN`), the share that is worthless (`REPEATED`, `COPIED`), and that
the policy knows more when it recalls an example than when it answers: `RECALL` is added to the log-odds of the right
form. That stands for the paper's premise, and without it own examples could not help here. Nothing tells the policy
which of its examples are right, and the forms that they show count as evidence just as a demonstration's do, so that
wrong ones mislead.
"""

import json
import math
import random
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoModelForCausalLM

from ..base.chat import THINK_OPEN
from ..base.files import check_new_folder
from ..method.prompts import gold_completion
from ..method.samples import SolvedSample
from ..method.self_examples import BLOCK_CLOSE, BLOCK_OPEN
from .graded_world import FORMS, PHRASES, TOOLS, Familiarity, make_sample, queries, written
from .nano_policy import END, PAD, PUNCTUATION, ROLES, Row, WarmStart, build_model, chat_template, fit, word_tokenizer
from .nano_world import CODEBOOKS


def _vocabulary():
    nouns = sorted({name.split("_")[1] for name in TOOLS})
    words = set(" ".join([*PHRASES.values(), *(t.opening for t in TOOLS.values())]).replace("{}", "").split())
    words |= {word for book in PHRASES for word in CODEBOOKS[book]}
    punctuation = [
        *PUNCTUATION, "id:", "ref:", "<examples>", "</examples>", '[{"tool": "', '", "question": "',
        '", "answer": {"name": "', '"}}}, {"tool": "', '"}}}]',
    ]  # fmt: skip
    words |= {*TOOLS, *nouns, *PHRASES, "call", "-"}
    # A key is two tokens, so that what all cities have in common is learnt once.
    keys = [*(f'"{noun}' for noun in nouns), *(f'-{book}": "' for book in PHRASES)]
    return [PAD, END, *ROLES, *punctuation, *keys, *sorted(words)]


def build_graded_tokenizer():
    """Word-level tokenizer of the graded world, some 450 tokens; "<examples>" in the system prompt is one token."""
    return word_tokenizer(_vocabulary(), chat_template("<examples>"))


@dataclass(frozen=True)
class GradedWarmStart:
    """The SFT rows of a graded policy; the loop is `nano_policy.fit`.

    How a query is read, from rows without demonstrations; to do as demonstrations of the same tool do, from rows in
    which they decide nearly everything (`SCHOOL`, in two stages); then `familiarity`, which the policy is to be.

    Attributes:
        familiarity: what is taught in the end.
        stages: ((SFT steps, AdamW's learning rate with linear decay, share of rows without demonstrations), ...).
        batch_size: rows per step.
        seed: of weights and rows.
        own: shares of answers with no, one, two, ... examples of their own, in the last stage's invited rows.
        start: folder of the policy to go on from, or None.
    """

    familiarity: Familiarity
    stages: tuple = ((420, 3e-3, 1.0), (600, 3e-3, 0.35), (600, 3e-3, 0.15), (500, 2e-3, 0.25))
    batch_size: int = 48
    seed: int = 0
    own: tuple = ()
    start: str | None = None


# Levels solved for 28, 72 and 28 % hard rows by `Familiarity.chance`, before training.
TAUGHT = {"strong": Familiarity(2.99), "weak": Familiarity(-2.21),
          "habit": Familiarity(5.52, word_spread=1.0, wrong=2.5)}  # fmt: skip
OWN = (0.3, 0.2, 0.5)  # of invited rows: shares with 0, 1, 2 examples; long rows weigh less in a batch's mean loss
OWN_UP_TO_FOUR = (0.25, 0.1, 0.1, 0.15, 0.4)
REPEATED, COPIED = 0.08, 0.08  # shares of own examples: the one before once more; the prompt's own question
RECALL = 2.0  # half of what a right demonstration adds to an answer
SCHOOL = Familiarity(level=-1.0, spread=0.5, word_spread=0.5, evidence=8.0)


def graded_plan(name):
    """The `GradedWarmStart` of "strong" or "weak", or of one that goes on from a committed policy: "habit", "invited",
    "invited-four".
    """
    if name in ("strong", "weak"):
        return GradedWarmStart(TAUGHT[name])
    if name == "habit":
        return GradedWarmStart(TAUGHT[name], ((500, 2e-3, 0.25),), start=_committed("nano_checkpoint_graded"))
    if name == "invited-four":
        invited = _committed("nano_checkpoint_graded_invited")
        return GradedWarmStart(TAUGHT["weak"], ((300, 2e-3, 0.6),), own=OWN_UP_TO_FOUR, start=invited)
    weak = _committed("nano_checkpoint_graded_weak")
    return GradedWarmStart(TAUGHT["weak"], ((500, 2e-3, 0.6),), own=OWN, start=weak)


def _committed(folder):
    return str(Path(__file__).with_name(folder))


def _draw(odds, rng):
    forms = list(odds)
    return rng.choices(forms, [math.exp(odds[f]) for f in forms])[0]


def _demonstration(tool, words, rng, wrong=False):
    """A demonstration of `tool` that shares no word with the row -> (sample, the forms it shows, as evidence).

    `wrong`: its values are those of any other calls.
    """
    query, other = rng.choice(queries(tool.name, "train"))
    while set(other) & set(words):
        query, other = rng.choice(queries(tool.name, "train"))
    forms = [(f if rng.random() < 0.7 else rng.choice(FORMS),) for f in tool.forms]
    if wrong:
        other = [rng.choice(list(CODEBOOKS[rng.choice(list(PHRASES))])) for _ in other]
        forms = [(rng.choice(FORMS[1:]),) for _ in forms]
    arguments = {a: written(w, f) for a, w, (f,) in zip(tool.arguments, other, forms)}
    return make_sample(tool, query, arguments), forms


def own_examples(familiarity, count, tool, query, shown, rng):
    """What a policy writes of its own before it answers -> ([example as dict], `shown` with what they show).

    `shown`: forms that stand in the prompt, as evidence, of each argument. Examples are worded as the query is.
    """
    examples, known = [], queries(tool.name, "train")
    place = {text: n for n, (text, _) in enumerate(known)}[query]
    for _ in range(count):
        if examples and rng.random() < REPEATED:
            examples.append(examples[-1])
            continue
        copied = rng.random() < COPIED
        question, words = known[place if copied else 2 * rng.randrange(len(known) // 2) + place % 2]
        odds = familiarity.log_odds(tool, words, shown)
        forms = [_draw(each | {f: each[f] + RECALL}, rng) for each, f in zip(odds, tool.forms)]
        shown = [tuple({*seen, form}) for seen, form in zip(shown, forms)]
        call = {"name": tool.name, "arguments": {a: written(w, f) for a, w, f in zip(tool.arguments, words, forms)}}
        examples.append({"tool": tool.name, "question": question, "answer": call})
    return examples, shown


def _after(sample, examples):
    """`sample`, its completion beginning with own examples, and with its question once more."""
    text = f"{THINK_OPEN}{BLOCK_OPEN}{json.dumps(examples)}{BLOCK_CLOSE}{sample.messages[0]['content']} "
    return SolvedSample.of(sample, gold_completion(sample).replace(THINK_OPEN, text, 1))


def graded_row(familiarity, plain_share, rng, varied=False, own=()):
    """Draw one `Row`: demonstrations of either tool on offer, and an answer that weighs what they show.

    `varied`: some demonstrations are of any two tools, and some have the values of any other calls. `own`: six
    rows in ten are invited to write examples, and these are the shares of those with none, one, two, ...
    """
    tool = rng.choice(list(TOOLS.values()))
    query, words = rng.choice(queries(tool.name, "train"))
    demos, examples, shown = [], [], [(), (), ()]
    offered = [t["function"]["name"] for t in make_sample(tool, query, {}).tools]
    if rng.random() >= plain_share:
        if varied and rng.random() < 0.3:
            offered = rng.sample(list(TOOLS), 2)
        for name in rng.choices(offered, k=rng.choice((1, 2, 2))):
            demo, forms = _demonstration(TOOLS[name], words, rng, varied and rng.random() < 0.3)
            demos.append(demo)
            if name == tool.name:  # more of the same is no more evidence
                shown = [tuple({*a, *b}) for a, b in zip(shown, forms)]
    invited = bool(own) and rng.random() < 0.6
    if invited:
        count = rng.choices(range(len(own)), own)[0]
        examples, shown = own_examples(familiarity, count, tool, query, shown, rng)
    odds = familiarity.log_odds(tool, words, shown)
    forms = [_draw(o, rng) for o in odds]
    arguments = {a: written(w, f) for a, w, f in zip(tool.arguments, words, forms)}
    sample = make_sample(tool, query, arguments)
    return Row(_after(sample, examples) if examples else sample, demos, "examples" if invited else False, False)


def build_graded_policy(plan, folder=None, progress=None):
    """Warm-start a graded policy on train queries only -> (model, tokenizer); saved to `folder` if given.

    About 10 minutes on a free core. Up to the last stage all policies of a seed are one, but for one with a `start`.

    Raises:
        RunError: `folder` is not empty or cannot be written.
    """
    if folder:
        check_new_folder(folder)
    tokenizer = build_graded_tokenizer()
    model = AutoModelForCausalLM.from_pretrained(plan.start) if plan.start else build_model(tokenizer, plan.seed)
    for stage, (steps, rate, plain_share) in enumerate(plan.stages):
        rng = random.Random(f"{plan.seed}-{stage}")
        last = stage == len(plan.stages) - 1
        drawn = (plan.familiarity if last else SCHOOL, plain_share, rng, last, plan.own if last else ())

        def rows_at(step, drawn=drawn):
            rows = [graded_row(*drawn) for _ in range(10 * plan.batch_size)]
            return sorted(rows, key=lambda row: len(getattr(row.sample, "completion", "")))  # less padding

        fit(model.train(), tokenizer, WarmStart(steps, plan.batch_size, rate), rows_at, rng, progress)
    if folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return model.eval(), tokenizer
