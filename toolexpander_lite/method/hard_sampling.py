"""Dynamic Multi-Round Hard Sampling: what is served in a hard sample's place.

The paper's abstract: hard samples are substituted during training by high-quality few-shot demonstrations, in several
rounds. Here the sample keeps its query, with demonstrations in front: our assumption (the other reading, another
sample in its place, is `baselines.replace`).

Three pieces work with any `GRPOTrainer`, data set and model:

    pool = HardSamplePool(ids)                                # who is hard, see `sample_pool`
    dataset = dataset.with_transform(PromptServer(pool, ...)) # what a prompt looks like today
    reward_funcs = PoolReward(reward, pool)                   # what came of it
"""

import random
from collections import defaultdict

from accelerate.utils import gather_object

from ..base.errors import PoolError
from .prompts import render_prompt
from .rewards import quantise

NO_LIMIT = 10**9  # tokens; tokenizers that know of no limit name one far above
DRAWS = 8  # of demonstrations, until some fit into the prompt
PROMPTS_KEPT = 4096  # rendered prompts remembered, so that memory stays bounded


class PromptServer:
    """A data set transform: renders each sample plainly or with demonstrations, as the pool says.

    Use it as `dataset.with_transform(server)`; rows need a `sample_id` column. It adds `prompt`, `served`
    ("plain" or "demonstrated", the mode the prompt was really rendered in) and `fallback` (why a hard sample is not
    served as the pool says, or ""). Demonstrations that make a prompt too long are drawn anew; where no draw fits,
    fewer are shown, at last none.

    The transform has to run in the trainer's process: leave `dataloader_num_workers` at 0, for a worker would hold a
    copy of the pool that hears of nothing.

    Args:
        pool: `HardSamplePool`.
        bank: `demonstrations.DemoBank`.
        samples: `ToolSample`s of all rows.
        tokenizer: for `render_prompt`.
        demos: demonstrations per hard prompt.
        max_prompt_tokens: of a demonstrated prompt, which has to leave room for the completion in the model's context;
            None takes the tokenizer's `model_max_length`.
        seed: of the choice of demonstrations.
        fresh: other demonstrations at each visit (the same again for the same visit, so that a resumed run sees the
            same prompts); False shows a sample the same ones for ever.
        invite: as in `render_prompt`.

    Raises:
        PoolError: no `max_prompt_tokens`, and a tokenizer that names no limit of its own.
    """

    def __init__(
        self, pool, bank, samples, tokenizer, demos=1, max_prompt_tokens=None, seed=0, fresh=True, invite=False
    ):
        self.pool, self.bank, self.tokenizer = pool, bank, tokenizer
        self.max_prompt_tokens = max_prompt_tokens or tokenizer.model_max_length
        if self.max_prompt_tokens > NO_LIMIT:
            raise PoolError("the tokenizer does not say how long a prompt may be; give max_prompt_tokens")
        self.demos, self.seed, self.fresh, self.invite = demos, seed, fresh, invite
        self.samples = {s.id: s for s in samples}
        self._rendered = {}  # a group asks for the same prompt many times

    def __call__(self, batch):
        steps = batch.get("step") or [None] * len(batch["sample_id"])
        rows = [self.serve(sample_id, step) for sample_id, step in zip(batch["sample_id"], steps)]
        return {**batch, **{name: [row[name] for row in rows] for name in (rows[0] if rows else ())}}

    def serve(self, sample_id, step=None):
        """Columns of one sample at its next visit -> {"prompt", "served", "fallback"}."""
        mode = self.pool.mode(sample_id, step)
        return self._cached(
            (sample_id, mode, self.pool.visits(sample_id)), lambda: self._columns(sample_id, mode, step)
        )

    def _cached(self, key, make):
        if key not in self._rendered:
            if len(self._rendered) >= PROMPTS_KEPT:
                self._rendered.clear()
            self._rendered[key] = make()
        return self._rendered[key]

    def _columns(self, sample_id, mode, step):
        fallback = ""
        if mode == "demonstrated":
            prompt, fallback = self.demonstrate(self.samples[sample_id], step)
            if prompt:
                return {"prompt": prompt, "served": "demonstrated", "fallback": fallback}
        prompt = render_prompt(self.samples[sample_id], self.tokenizer, invite=self.invite)
        return {"prompt": prompt, "served": "plain", "fallback": fallback}

    def _visit(self, sample_id, step):
        """What tells this visit from the sample's others."""
        return self.pool.visits(sample_id)

    def demonstrate(self, sample, step=None):
        """A prompt with demonstrations -> (prompt, "" or "fewer_demonstrations"), or (None, why there is none)."""
        visit = self._visit(sample.id, step) if self.fresh else "always"
        rng = random.Random(f"{self.seed}-{sample.id}-{visit}")
        draws = [self.bank.choose(sample, self.demos, rng, step)]
        if not draws[0]:
            return None, "no_demonstration"
        for shown in range(len(draws[0]), 0, -1):
            for draw in range(DRAWS):
                if draw == len(draws):
                    draws.append(self.bank.choose(sample, self.demos, rng, step))
                prompt = render_prompt(sample, self.tokenizer, draws[draw][:shown], self.invite)
                if len(self.tokenizer(prompt).input_ids) <= self.max_prompt_tokens:
                    return prompt, "fewer_demonstrations" if shown < len(draws[0]) else ""
        return None, "prompt_too_long"


class PoolReward:
    """A reward function that also tells the pool (and the bank) what came of each prompt.

    The reward must be 1 for right and below 1 or None for anything else (bonuses belong into reward functions of
    their own); it gets all columns of the rows. Rows need `sample_id` and, from `PromptServer`, `served`. With several
    processes every one gets all outcomes, so that their pools stay equal.

    Who trains in a script of his own also calls `pool.end_round(step)` where a round ends, if re-tests are to come
    then (`retest="round_end"`), and `pool.save` beside each checkpoint, `pool.load` on resume:

        class Rounds(TrainerCallback):
            def on_step_end(self, args, state, control, **kwargs):
                if state.global_step % 20 == 0:
                    pool.end_round(state.global_step)

            def on_save(self, args, state, control, **kwargs):
                pool.save(f"{args.output_dir}/checkpoint-{state.global_step}/pool.json")

    Args:
        reward: the task reward, in TRL's signature.
        pool: `HardSamplePool`, or a `baselines.VisitHistory`.
        bank: a `DemoBank` that shows the policy's own solutions, and so has to hear of them.

    Raises (when it is called):
        PoolError: rows without `sample_id` or `served`.
    """

    def __init__(self, reward, pool, bank=None):
        self.reward, self.pool, self.bank = reward, pool, bank
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
        # `scheduled` tells groups apart when one sample fills two places of a batch, see `baselines`.
        fallback = columns.get("fallback") or [""] * len(served)
        places = zip(columns.get("scheduled") or sample_id, sample_id, served, fallback)
        right = [r is not None and r >= 1 for r in rewards]
        wanted = self.bank is not None and self.bank.source == "own"
        rows = gather_object(
            [(place, float(r), c if wanted and r else "") for place, r, c in zip(places, right, completions)]
        )
        groups = defaultdict(list)
        for place, right, completion in rows:
            groups[tuple(place)].append(right)
            if completion:
                self.bank.learn(place[1], completion, step)
        for (_, id, mode, why), rights in groups.items():
            self.pool.observe(id, mode, len(rights), int(sum(rights)), step, why)
        return [quantise(reward) for reward in rewards]
