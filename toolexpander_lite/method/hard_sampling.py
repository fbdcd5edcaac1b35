"""Dynamic Multi-Round Hard Sampling: the scan, what is served in a hard row's place, and what came of it.

The paper (sections 3.1 and 3.2), for each round:

    begin_round   ask every raw row plainly; none right in 10 rollouts is hard; find demonstrations for the hard ones
    round_rows    the rows of the round: each hard one with its demonstrations ("replace"), or also with them ("add")

and three pieces that work with any `GRPOTrainer`, data set and model:

    pool = HardSamplePool(ids)                                # who is hard, see `hard_pool`
    dataset = dataset.with_transform(PromptServer(pool, ...)) # what a prompt looks like in this round
    reward_funcs = PoolReward(reward, pool)                   # what came of it
"""

import random
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from ..base.errors import PoolError
from ..base.processes import gather, on_first, processes
from ..base.progress import bar
from ..base.runs import append_jsonl, read_jsonl, write_jsonl
from .calls import judge, whole_answer, whole_answers
from .demonstrations import offering
from .prompts import render_prompt, wants_think
from .rewards import quantise

NO_LIMIT = 10**9  # tokens; tokenizers that know of no limit name one far above
DRAWS = 8  # of demonstrations, until some fit into the prompt
PROMPTS_KEPT = 4096  # rendered prompts remembered, so that memory stays bounded
CHUNK = 64  # rows asked before their results are written down
SERVINGS = ("plain", "replace", "add", "exclude_hard", "few_shot_only", "two_stage", "mixed")


class Counted(NamedTuple):
    """What a scan found and cost: {sample id: right rollouts}, rollouts, completion tokens, seconds."""

    right: dict
    rollouts: int
    tokens: int
    seconds: float


def count_right(ask, rows, rollouts, seed, note, file=None, think=True, chunk=CHUNK):
    """Ask rendered rows, `rollouts` times each, and judge the answers -> `Counted`.

    With several processes each asks its share of a chunk, and all get all results.

    Args:
        ask: function (prompts, seed as text) -> [(completion, tokens)], sampling at the recipe's temperature.
        rows: [(`ToolSample`, prompt)].
        note: dict that tells this scan's lines in `file` from others', such as round and step.
        think: as in `calls.judge`.
        file: a line per row is kept there; rows of whole chunks that stand in it are not asked again.

    Raises:
        PoolError: no rows, or no rollouts.
    """
    if not rows or rollouts < 1:
        raise PoolError(f"a scan of {len(rows)} rows, {rollouts} rollouts each: there is nothing to ask")
    logged = on_first(read_jsonl, file) if file and on_first(Path(file).exists) else []
    known = {line["sample_id"]: line for line in logged if note.items() <= line.items()}
    rank, world = processes()
    parts = {start: rows[start : start + chunk] for start in range(0, len(rows), chunk)}
    whole = {s.id for part in parts.values() if all(s.id in known for s, _ in part) for s, _ in part}
    if rank == 0 and known.keys() - whole:  # a chunk that was cut while it was written
        kept = [line for line in logged if not note.items() <= line.items() or line["sample_id"] in whole]
        write_jsonl(file, kept)
    for start, part in bar(parts.items(), f"{note.get('kind', 'scan')}, {CHUNK} rows at a time"):
        if part[0][0].id in whole:
            continue
        began, mine = time.perf_counter(), part[rank::world]
        answers = ask([prompt for _, prompt in mine for _ in range(rollouts)], f"{seed}-{note}-{start}-{rank}")
        lines = []
        for n, (sample, prompt) in enumerate(mine):
            group = answers[n * rollouts : (n + 1) * rollouts]
            texts = [whole_answer(prompt, text) for text, _ in group]
            right = sum(judge(text, sample.calls, sample.tools, think).reason == "ok" for text in texts)
            lines.append({**note, "sample_id": sample.id, "right": right, "rollouts": rollouts,
                          "tokens": sum(tokens for _, tokens in group)})  # fmt: skip
        found = {line["sample_id"]: line for line in gather(lines)}
        seconds = round((time.perf_counter() - began) / len(part), 5)
        lines = [found[sample.id] | {"seconds": seconds} for sample, _ in part]
        if file and rank == 0:
            append_jsonl(file, *lines)
        known |= {line["sample_id"]: line for line in lines}
    lines = [known[sample.id] for sample, _ in rows]
    sums = (sum(line[name] for line in lines) for name in ("rollouts", "tokens", "seconds"))
    return Counted({line["sample_id"]: line["right"] for line in lines}, *sums)


def begin_round(pool, server, ask, rollouts, step, seed, file=None, draws=4):
    """Scan all rows, fix the round's hard ones and find demonstrations for them -> [`Counted`], the scan's first.

    The bank's source "verified" draws anew, up to `draws` times, until the policy is right in at least one of as many
    rollouts; a set that has been found is kept. Every draw's rollouts are a `Counted` of their own. Afterwards
    `pool.draws` says which draw each hard row is shown, None where none was verified.
    """
    note = {"step": step, "kind": "scan"}
    plain = [(sample, server.render(sample)) for sample in server.samples.values()]
    think = wants_think(server.invite)
    spent = [count_right(ask, plain, rollouts, seed, note, file, think)]
    hard = pool.take_scan(spent[0].right, rollouts, step)
    found = {id: pool.draws[id] for id in hard if pool.draws.get(id) is not None}
    if server.bank.source != "verified":
        pool.draws = dict.fromkeys(hard, 0)
        return spent
    unverifiable = set()
    for draw in range(draws):
        rows = []
        for id in hard:
            if id not in found:
                prompt, _ = server.demonstrate(server.samples[id], draw=draw)
                unverifiable |= set() if prompt else {id}
                rows += [(server.samples[id], prompt)] if prompt else []
        if not rows:
            break
        note = {"step": step, "kind": "verify", "draw": draw}
        spent.append(count_right(ask, rows, rollouts, seed, note, file, think))
        found |= {id: draw for id, right in spent[-1].right.items() if right}
    # Of a row that has no demonstrations at all the server says so itself, whatever the draw.
    pool.draws = {id: 0 if id in unverifiable else found.get(id) for id in hard}
    return spent


def round_rows(serving, pool, round, rounds, seed=0, share=0.5):
    """The rows of a round -> [(sample id, "plain" or "demonstrated")], in the order of the pool.

        plain          every row as it is (GRPO)
        replace        a hard row is served with its demonstrations instead (the paper)
        add            it stays, and its version with demonstrations is added (the paper)
        exclude_hard   hard rows are left out of the round
        few_shot_only  every row with demonstrations
        two_stage      likewise in the first half of the rounds, then every row as it is
        mixed          a fixed `share` of the rows, drawn anew each round, with demonstrations

    The last four are roads that the paper tried and left (section 3.2).
    """
    ids, modes = list(pool), {id: pool.mode(id) for id in pool}
    hard = [id for id in ids if modes[id] == "demonstrated"]
    if serving == "exclude_hard":
        return [(id, "plain") for id in ids if modes[id] == "plain"] or [(id, "plain") for id in ids]
    if serving == "add":
        shown = [(id, "demonstrated") for id in hard if pool.draws.get(id, 0) is not None]
        return [(id, "plain") for id in ids] + shown
    if serving == "replace":
        return [(id, modes[id]) for id in ids]
    if serving == "mixed":
        chosen = set(random.Random(f"{seed}-mixed-{round}").sample(ids, int(share * len(ids))))
    else:
        chosen = set(ids) if serving == "few_shot_only" or (serving == "two_stage" and 2 * round < rounds) else set()
    return [(id, "demonstrated" if id in chosen else "plain") for id in ids]


class PromptServer:
    """A data set transform: renders each sample plainly or with demonstrations, as the pool says.

    Use it as `dataset.with_transform(server)`; rows need a `sample_id` column, and may say how they are to be served in
    one called `wanted` (see `round_rows`), whatever the pool says. It adds `prompt`, `served`
    ("plain" or "demonstrated", the mode the prompt was really rendered in) and `fallback` (why a hard sample is not
    served as the pool says, or ""). Demonstrations that make a prompt too long are drawn anew; where no draw fits,
    fewer are shown, at last none.

    It has to run in the trainer's process: leave `dataloader_num_workers` at 0, for a worker's pool hears of nothing.

    Args:
        pool: `HardSamplePool`.
        bank: `demonstrations.DemoBank`.
        samples: `ToolSample`s of all rows.
        tokenizer: for `render_prompt`.
        demos: demonstrations per hard prompt.
        max_prompt_tokens: of a demonstrated prompt, which has to leave room for the completion in the model's context;
            None takes the tokenizer's `model_max_length`.
        seed: of the choice of demonstrations.
        invite: as in `render_prompt`.

    Raises:
        PoolError: no `max_prompt_tokens`, and a tokenizer that names no limit of its own.
    """

    def __init__(self, pool, bank, samples, tokenizer, demos=1, max_prompt_tokens=None, seed=0, invite=False):
        self.pool, self.bank, self.tokenizer = pool, bank, tokenizer
        self.max_prompt_tokens = max_prompt_tokens or tokenizer.model_max_length
        if self.max_prompt_tokens > NO_LIMIT:
            raise PoolError("the tokenizer does not say how long a prompt may be; give max_prompt_tokens")
        self.demos, self.seed, self.invite = demos, seed, invite
        self.samples = {s.id: s for s in samples}
        self._rendered = {}  # a group asks for the same prompt many times

    def __call__(self, batch):
        unsaid = [None] * len(batch["sample_id"])
        asked = zip(batch["sample_id"], batch.get("step") or unsaid, batch.get("wanted") or unsaid)
        rows = [self.serve(*place) for place in asked]
        return {**batch, **{name: [row[name] for row in rows] for name in (rows[0] if rows else ())}}

    def serve(self, sample_id, step=None, wanted=None):
        """Columns of one sample at its next visit -> {"prompt", "served", "fallback"}."""
        mode = wanted or self.pool.mode(sample_id, step)
        key = sample_id, mode, self._visit(sample_id, step)
        return self._cached(key, lambda: self._columns(sample_id, mode, step))

    def _cached(self, key, make):
        if key not in self._rendered:
            if len(self._rendered) >= PROMPTS_KEPT:
                self._rendered.clear()
            self._rendered[key] = make()
        return self._rendered[key]

    def _columns(self, sample_id, mode, step):
        prompt, fallback = self.demonstrate(self.samples[sample_id], step) if mode == "demonstrated" else (None, "")
        served = "demonstrated" if prompt else "plain"
        return {"prompt": prompt or self.render(self.samples[sample_id]), "served": served, "fallback": fallback}

    def render(self, sample, demos=()):
        """The prompt of a sample -> str; tools that demonstrations bring along are on offer too."""
        return render_prompt(offering(sample, demos), self.tokenizer, demos, self.invite)

    def length(self, prompt):
        """Tokens of a rendered prompt."""
        return len(self.tokenizer(prompt).input_ids)

    def _visit(self, sample_id, step):
        return self.pool.occasion(sample_id)

    def demonstrate(self, sample, step=None, draw=None, demos=None, per_tool=None):
        """A prompt with demonstrations -> (prompt, "" or "fewer_demonstrations"), or (None, why there is none)."""
        count = demos or self.demos
        visit = self._visit(sample.id, step) if draw is None else f"draw-{draw}"
        if visit == "draw-None":
            return None, "not_verified"
        rng = random.Random(f"{self.seed}-{sample.id}-{visit}")
        draws = [self.bank.choose(sample, count, rng, step, per_tool)]
        if not draws[0]:
            return None, "no_demonstration"
        for shown in range(len(draws[0]), 0, -1):
            for attempt in range(DRAWS):
                if attempt == len(draws):
                    draws.append(self.bank.choose(sample, count, rng, step, per_tool))
                prompt = self.render(sample, draws[attempt][:shown])
                if self.length(prompt) <= self.max_prompt_tokens:
                    return prompt, "fewer_demonstrations" if shown < len(draws[0]) else ""
        return None, "prompt_too_long"


class PoolReward:
    """A reward function that also tells the pool (and the bank) what came of each prompt.

    The reward must be 1 for right and below 1 or None for anything else (bonuses belong into reward functions of
    their own); it gets all columns of the rows. Rows need `sample_id` and, from `PromptServer`, `served`. With several
    processes every one gets all outcomes, so that their pools stay equal.

    Who trains in a script of his own also calls `pool.save` beside each checkpoint, and `pool.load` on resume
    (docs/use-in-trl.md).

    Args:
        reward: the task reward, in TRL's signature.
        pool: `HardSamplePool`, or what takes its place.
        learn: function (sample id, completion, step) that hears of each right answer, or None.

    Raises (when it is called):
        PoolError: rows without `sample_id` or `served`.
    """

    def __init__(self, reward, pool, learn=None):
        self.reward, self.pool, self.learn = reward, pool, learn
        self.__name__ = reward.__name__

    def __call__(self, prompts, completions, trainer_state, **columns):
        sample_id, served = columns.get("sample_id"), columns.get("served")
        if sample_id is None or served is None:
            raise PoolError(
                "the rows have no `sample_id` or no `served`: add a sample_id column to the data set, and a "
                "PromptServer with dataset.with_transform(...)"
            )
        rewards = self.reward(prompts=prompts, completions=completions, trainer_state=trainer_state, **columns)
        step = trainer_state.global_step + 1
        # `scheduled` tells groups apart when one sample fills two places of a batch.
        fallback = columns.get("fallback") or [""] * len(served)
        places = zip(columns.get("scheduled") or sample_id, sample_id, served, fallback)
        right = [r is not None and r >= 1 for r in rewards]
        answers = zip(places, right, whole_answers(prompts, completions))
        rows = gather([(place, float(r), text if self.learn and r else "") for place, r, text in answers])
        groups = defaultdict(list)
        for place, right, completion in rows:
            groups[tuple(place)].append(right)
            if completion:
                self.learn(place[1], completion, step)
        for (_, id, mode, why), rights in groups.items():
            self.pool.observe(id, mode, len(rights), int(sum(rights)), step, why)
        return [quantise(reward) for reward in rewards]
