"""Dynamic Multi-Round Hard Sampling: who is hard, and what is served in its place.

The paper's abstract: a sample with no correct output in 10 rollouts is hard; hard samples are substituted
during training by high-quality few-shot demonstrations, in several rounds. How a sample comes back is not
said; ours is a re-test: after a demonstrated success, or at each round's end, it is asked plainly again.

Three pieces work with any `GRPOTrainer`, data set and model:

    pool = HardSamplePool(ids)                                # who is hard
    dataset = dataset.with_transform(PromptServer(pool, ...)) # what a prompt looks like today
    reward_funcs = PoolReward(reward, pool)                   # what came of it

The pool is keyed by sample id, never by prompt text, and judges by the task reward alone: a bonus would make failed
groups look alive.
"""

import hashlib
import json
import random
from collections import defaultdict
from pathlib import Path

import numpy as np
from accelerate.utils import gather_object

from .errors import PoolError
from .prompts import render_prompt

PLAIN, DEMONSTRATED, RETEST = 0, 1, 2
MODES = ("plain", "demonstrated", "retest")
HARD_WINDOW = 10  # rollouts without a right one that make a sample hard (the paper's abstract)
RETESTS = ("after_success", "round_end", "never")
EVENTS_KEPT = 20  # decisions remembered per sample, so that memory stays bounded


class HardSamplePool:
    """Per sample: plain rollouts in the window, right ones among them, the mode it is served in, and why.

    A sample starts *plain*. At `window` plain rollouts with none right it is *hard*, and served *demonstrated* from
    then on. With `retest="after_success"` a demonstrated visit with a right rollout makes the next visit a
    *retest*: a plain one, which ends in *plain* if anything was right, else in *demonstrated* again. With
    `retest="round_end"` all hard samples are re-tested when `end_round` is called.

    Args:
        sample_ids: all ids of the data set.
        window: rollouts without a right one that make a sample hard (10: the paper).
        retest: one of `RETESTS` (our assumption: "after_success").

    Raises:
        PoolError: ids missing or repeated, a window below 1, or an unknown re-test.
    """

    def __init__(self, sample_ids, window=HARD_WINDOW, retest="after_success"):
        sample_ids = list(sample_ids)
        if any(not isinstance(i, str) or not i for i in sample_ids) or not sample_ids:
            raise PoolError("every sample needs a non-empty string id; add a sample_id column")
        self._index = {id: n for n, id in enumerate(sample_ids)}
        if len(self._index) < len(sample_ids):
            seen = set()
            twice = next(i for i in sample_ids if i in seen or seen.add(i))
            raise PoolError(f"sample id {twice!r} appears twice; ids must be unique")
        if window < 1:
            raise PoolError(f"window is {window}; it must be at least 1 rollout")
        if retest not in RETESTS:
            raise PoolError(f"unknown retest {retest!r}; choose one of {', '.join(RETESTS)}")
        self.window, self.retest, self.round = window, retest, 0
        size = len(sample_ids)
        self._mode = np.zeros(size, np.uint8)
        self._visits = np.zeros(size, np.uint32)
        self._rollouts = np.zeros(size, np.uint32)  # plain ones since the last decision
        self._correct = np.zeros(size, np.uint32)
        self._solved = np.zeros(size, bool)  # a plain visit had a right rollout, the last time it was asked plainly
        self._events = defaultdict(list)  # only for samples something was decided about

    def __len__(self):
        return len(self._index)

    def mode(self, sample_id):
        """ "plain", "demonstrated" or "retest" (served plainly): how the sample is to be served next."""
        return MODES[self._mode[self._where(sample_id)]]

    def visits(self, sample_id):
        """How many groups of this sample have been observed."""
        return int(self._visits[self._where(sample_id)])

    def _where(self, sample_id):
        try:
            return self._index[sample_id]
        except KeyError:
            raise PoolError(
                f"sample id {sample_id!r} is not in this pool; was it made from another data set?"
            ) from None

    def observe(self, sample_id, served, rollouts, correct, step):
        """Take in one group and decide how the sample is served next.

        Args:
            served: mode the prompt was *rendered* in, "plain" or "demonstrated"; it may lag behind `mode`, since
                the trainer's loader fetches a batch ahead.
            rollouts, correct: size of the group, and how many were right by the task reward.
            step: optimizer step, for the record.
        """
        i = self._where(sample_id)
        self._visits[i] += 1
        if served == "demonstrated":
            if correct and self._mode[i] == DEMONSTRATED and self.retest == "after_success":
                self._decide(i, sample_id, RETEST, step, f"{correct} of {rollouts} right with a demonstration")
            return
        self._rollouts[i] += rollouts
        self._correct[i] += correct
        self._solved[i] = correct > 0
        if correct:
            if self._mode[i] != PLAIN:
                self._decide(i, sample_id, PLAIN, step, f"{correct} of {rollouts} right without a demonstration")
            self._rollouts[i] = self._correct[i] = 0
        elif self._mode[i] == RETEST or self._rollouts[i] >= self.window:
            if self._mode[i] != DEMONSTRATED:
                self._decide(
                    i, sample_id, DEMONSTRATED, step, f"0 of {self._rollouts[i]} right without a demonstration"
                )
            self._rollouts[i] = self._correct[i] = 0

    def end_round(self, step):
        """Close a round; with `retest="round_end"` every hard sample is asked plainly next."""
        self.round += 1
        if self.retest == "round_end":
            for sample_id, i in self._index.items():
                if self._mode[i] == DEMONSTRATED:
                    self._decide(i, sample_id, RETEST, step, f"round {self.round} ended")

    def _decide(self, i, sample_id, mode, step, why):
        event = {"step": step, "round": self.round, "from": MODES[self._mode[i]], "to": MODES[mode], "why": why}
        self._mode[i] = mode
        self._events[sample_id] = [*self._events[sample_id], event][-EVENTS_KEPT:]

    def explain(self, sample_id):
        """Why the sample is served as it is, in sentences -> str."""
        i = self._where(sample_id)
        lines = [f"{sample_id}: served {self.mode(sample_id)} next, after {self._visits[i]} visits."]
        for event in self._events.get(sample_id, ()):
            lines.append(
                f"  step {event['step']} (round {event['round']}): {event['from']} -> {event['to']}: {event['why']}"
            )
        return "\n".join(lines)

    def counts(self):
        """Samples in each state -> {"unseen", "solved", "plain", "demonstrated", "retest"}, summing to all.

        "plain" are those asked plainly whose last plain group had nothing right, but too few rollouts to be hard.
        """
        unseen = self._visits == 0
        states = {
            "unseen": unseen,
            "solved": ~unseen & (self._mode == PLAIN) & self._solved,
            "plain": ~unseen & (self._mode == PLAIN) & ~self._solved,
            "demonstrated": self._mode == DEMONSTRATED,
            "retest": self._mode == RETEST,
        }
        return {name: int(which.sum()) for name, which in states.items()}

    def _fingerprint(self):
        return hashlib.sha256("\n".join(self._index).encode()).hexdigest()[:16]

    def save(self, path):
        """Write the whole state as JSON; `load` makes the identical next decisions from it."""
        state = {
            "ids": self._fingerprint(),
            "window": self.window,
            "retest": self.retest,
            "round": self.round,
            "events": dict(self._events),
        }
        for name in ("mode", "visits", "rollouts", "correct", "solved"):
            state[name] = getattr(self, f"_{name}").tolist()
        Path(path).write_text(json.dumps(state))

    def load(self, path):
        """Restore what `save` wrote.

        Raises:
            PoolError: no such file, or the file of another data set or of other settings.
        """
        try:
            state = json.loads(Path(path).read_text())
        except (OSError, json.JSONDecodeError) as error:
            raise PoolError(f"cannot read the pool file {path}: {error}") from error
        if state["ids"] != self._fingerprint():
            raise PoolError(f"the pool file {path} is of another data set: its sample ids differ")
        for name in ("window", "retest"):
            if state[name] != getattr(self, name):
                raise PoolError(
                    f"the pool file {path} was made with {name}={state[name]!r}, not {getattr(self, name)!r}"
                )
        self.round = state["round"]
        self._events = defaultdict(list, state["events"])
        for name in ("mode", "visits", "rollouts", "correct", "solved"):
            array = getattr(self, f"_{name}")
            array[:] = np.array(state[name], array.dtype)


class PromptServer:
    """A data set transform: renders each sample plainly or with demonstrations, as the pool says.

    Use it as `dataset.with_transform(server)`; rows need a `sample_id` column. It adds `prompt` and `served`
    ("plain" or "demonstrated"), the mode the prompt was really rendered in. Demonstrations are fresh at each
    visit, and the same again for the same visit, so a resumed run sees the same prompts.

    Args:
        pool: `HardSamplePool`.
        bank: `demonstrations.DemoBank`.
        samples: `ToolSample`s of all rows.
        tokenizer: for `render_prompt`.
        demos: demonstrations per hard prompt.
        max_prompt_tokens: a longer demonstrated prompt gets fewer demonstrations, at last none.
        seed: of the choice of demonstrations.

    Attributes:
        fallbacks: how often a hard sample had to be served plainly: {"no_demonstration", "prompt_too_long"}.
    """

    def __init__(self, pool, bank, samples, tokenizer, demos=1, max_prompt_tokens=None, seed=0):
        self.pool, self.bank, self.tokenizer = pool, bank, tokenizer
        self.demos, self.max_prompt_tokens, self.seed = demos, max_prompt_tokens, seed
        self.samples = {s.id: s for s in samples}
        self.fallbacks = {"no_demonstration": 0, "prompt_too_long": 0}
        self._rendered = {}  # sample id -> (mode, visit), (prompt, served): a group asks for the same prompt many times

    def __call__(self, batch):
        served = [self.serve(sample_id) for sample_id in batch["sample_id"]]
        return {**batch, "prompt": [prompt for prompt, _ in served], "served": [mode for _, mode in served]}

    def serve(self, sample_id):
        """(prompt, "plain" or "demonstrated") of one sample at its next visit."""
        key = self.pool.mode(sample_id), self.pool.visits(sample_id)
        if self._rendered.get(sample_id, (None,))[0] != key:
            self._rendered[sample_id] = key, self._render(sample_id, *key)
        return self._rendered[sample_id][1]

    def _render(self, sample_id, mode, visit):
        sample = self.samples[sample_id]
        if mode == "demonstrated":
            rng = random.Random(f"{self.seed}-{sample_id}-{visit}")
            chosen = self.bank.choose(sample, self.demos, rng)
            if not chosen:
                self.fallbacks["no_demonstration"] += 1
            while chosen:
                prompt = render_prompt(sample, self.tokenizer, chosen)
                if self.max_prompt_tokens is None or len(self.tokenizer(prompt).input_ids) <= self.max_prompt_tokens:
                    return prompt, "demonstrated"
                chosen = chosen[:-1]
                if not chosen:
                    self.fallbacks["prompt_too_long"] += 1
        return render_prompt(sample, self.tokenizer), "plain"


class PoolReward:
    """A reward function that also tells the pool what came of each prompt.

    The reward must be 1 for right and below 1 for anything else (bonuses belong into reward functions of their
    own). Rows need `sample_id` and, from `PromptServer`, `served`. With several processes every one gets all
    outcomes, so that their pools stay equal.
    """

    def __init__(self, reward, pool):
        self.reward, self.pool = reward, pool
        self.__name__ = reward.__name__

    def __call__(self, prompts, completions, sample_id, served, trainer_state, **columns):
        rewards = self.reward(prompts=prompts, completions=completions, trainer_state=trainer_state, **columns)
        rows = gather_object([(i, s, float(r >= 1)) for i, s, r in zip(sample_id, served, rewards)])
        groups = defaultdict(list)
        for id, mode, right in rows:
            groups[id, mode].append(right)
        for (id, mode), rights in groups.items():
            self.pool.observe(id, mode, len(rights), int(sum(rights)), trainer_state.global_step + 1)
        return rewards
