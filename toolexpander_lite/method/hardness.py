"""Who is hard, and who has come back: the record that Dynamic Multi-Round Hard Sampling decides on.

The paper (section 3.2): a row with no right rollout in 10 is hard. Before training and again in every round the raw
rows are asked plainly, see `hard_sampling.begin_round`; the list of hard rows stands for the round, and a row that has
come back never gets demonstrations again. The kit's own rules count from the training groups, and ask a hard row
plainly again (a re-test) after a demonstrated success, or at each round's end: departures.

The pool is keyed by sample id, never by prompt text, and judges by the task reward alone: a bonus would make failed
groups look alive.
"""

import hashlib
import json
from collections import deque
from pathlib import Path

import numpy as np

from ..base.errors import PoolError
from ..base.files import write_whole

PLAIN, DEMONSTRATED, RETEST = 0, 1, 2
MODES = ("plain", "demonstrated", "retest")
HARD_WINDOW = 10  # rollouts without a right one that make a sample hard (the paper's abstract)
STATES = ("unseen", "solved", "returned", "plain", "demonstrated", "retest")
RETESTS = ("scan", "after_success", "round_end", "never")
EVENTS_KEPT = 100_000  # decisions remembered in all, the oldest dropped first, so that memory stays bounded
ARRAYS = ("mode", "visits", "seen", "right", "rollouts", "correct", "solved", "was_hard", "retest_from",
          "scanned", "freed")  # fmt: skip
FALLBACKS = ("no_demonstration", "not_verified", "prompt_too_long", "fewer_demonstrations")


def index_of_ids(sample_ids):
    """{id: its place} of a data set's ids.

    Raises:
        PoolError: an id that is missing or repeated, or none at all.
    """
    sample_ids = list(sample_ids)
    if any(not isinstance(i, str) or not i for i in sample_ids) or not sample_ids:
        raise PoolError("every sample needs a non-empty string id; add a sample_id column")
    index = {id: n for n, id in enumerate(sample_ids)}
    if len(index) < len(sample_ids):
        seen = set()
        twice = next(i for i in sample_ids if i in seen or seen.add(i))
        raise PoolError(f"sample id {twice!r} appears twice; ids must be unique")
    return index


class HardSamplePool:
    """Per sample: plain rollouts in the window, right ones among them, the mode it is served in, and why.

    A sample starts *plain*. With `retest="scan"` (the paper) `take_scan` alone decides, for a whole round. Else it is
    *hard* at `window` plain rollouts with none right, and served *demonstrated* from then on. With
    `retest="after_success"` a demonstrated visit with a right rollout makes the next visit a *retest*: a plain one,
    which ends in *plain* if anything was right, else in *demonstrated* again. With `retest="round_end"` all hard
    samples are re-tested when `end_round` is called.

    Args:
        sample_ids: all ids of the data set.
        window: rollouts without a right one that make a sample hard (10: the paper).
        retest: one of `RETESTS`.
        content: what the ids stand for, by `samples.content_hash`: a saved pool of edited rows is then refused.

    Attributes:
        draws: {id: which draw of demonstrations is shown}, set with each scan; None where no draw was verified.
        fallbacks: groups of hard samples that had to be asked plainly ("no_demonstration", "prompt_too_long") or with
            fewer demonstrations than wanted ("fewer_demonstrations") -> {reason: groups}.

    Raises:
        PoolError: ids missing or repeated, a window below 1, or an unknown re-test.
    """

    def __init__(self, sample_ids, window=HARD_WINDOW, retest="after_success", content=""):
        self._index = index_of_ids(sample_ids)
        if window < 1:
            raise PoolError(f"window is {window}; it must be at least 1 rollout")
        if retest not in RETESTS:
            raise PoolError(f"unknown retest {retest!r}; choose one of {', '.join(RETESTS)}")
        self.window, self.retest, self.round, self.content = window, retest, 0, content
        size = len(self._index)
        self._mode = np.zeros(size, np.uint8)
        self._visits = np.zeros(size, np.uint32)
        self._seen = np.zeros(size, np.uint32)  # rollouts in all, and the right ones among them
        self._right = np.zeros(size, np.uint32)
        self._rollouts = np.zeros(size, np.uint32)  # plain ones since the last decision
        self._correct = np.zeros(size, np.uint32)
        self._solved = np.zeros(size, bool)  # a plain visit had a right rollout, the last time it was asked plainly
        self._was_hard = np.zeros(size, bool)
        self._events = deque(maxlen=EVENTS_KEPT)  # (index, step, round, from, to, why)
        self._scanned = np.full(size, -1, np.int32)  # right rollouts in the last scan, -1 before the first
        self._freed = np.zeros(size, bool)  # was hard and came back in a scan
        self.draws = {}
        self._retest_from = np.zeros(size, np.uint32)  # first step whose prompts can know of a re-test by round_end
        self.fallbacks = dict.fromkeys(FALLBACKS, 0)
        self._last_fallback = {}  # id -> why the last visit was not served as its mode says

    def __len__(self):
        return len(self._index)

    def __iter__(self):
        return iter(self._index)

    def mode(self, sample_id, step=None):
        """ "plain", "demonstrated" or "retest" (served plainly): how the sample is to be served next.

        `step`: the optimizer step the prompt is for. The trainer's loader renders prompts one step ahead, a resumed
        run's first ones do not: with `step`, both know of a round's end from the second step after it on.
        """
        i = self._where(sample_id)
        mode = self._mode[i]
        if mode == RETEST and step is not None and step < self._retest_from[i]:
            mode = DEMONSTRATED
        return MODES[mode]

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

    def observe(self, sample_id, served, rollouts, correct, step, fallback=""):
        """Take in one group and decide how the sample is served next.

        Args:
            served: mode the prompt was *rendered* in, "plain" or "demonstrated"; it may lag behind `mode`, since
                the trainer's loader fetches a batch ahead.
            rollouts, correct: size of the group, and how many were right by the task reward.
            step: optimizer step, for the record.
            fallback: why a hard sample was not served as it should have been, one of `FALLBACKS`; else "".
        """
        i = self._where(sample_id)
        self._visits[i] += 1
        self._seen[i] += rollouts
        self._right[i] += correct
        self._last_fallback.pop(sample_id, None)
        if fallback:
            self.fallbacks[fallback] += 1
            self._last_fallback[sample_id] = fallback
        if self.retest == "scan":
            return
        if served == "demonstrated":
            if correct and self._mode[i] == DEMONSTRATED and self.retest == "after_success":
                self._decide(i, RETEST, step, f"{correct} of {rollouts} right with a demonstration")
            return
        self._rollouts[i] += rollouts
        self._correct[i] += correct
        self._solved[i] = correct > 0
        if correct:
            if self._mode[i] != PLAIN:
                self._decide(i, PLAIN, step, f"{correct} of {rollouts} right without a demonstration")
            self._rollouts[i] = self._correct[i] = 0
        elif self._mode[i] == RETEST or self._rollouts[i] >= self.window:
            if self._mode[i] != DEMONSTRATED:
                self._decide(i, DEMONSTRATED, step, f"0 of {self._rollouts[i]} right without a demonstration")
            self._rollouts[i] = self._correct[i] = 0

    def take_scan(self, right, rollouts, step):
        """Fix the hard rows of the round that begins -> their ids, in the order of the pool.

        Args:
            right: {id: right ones among its plain rollouts} of all samples.
            rollouts: rollouts per sample, at least `window`.

        Raises:
            PoolError: a sample was not scanned, or in too few rollouts to be called hard.
        """
        if missing := next((id for id in self._index if id not in right), None):
            raise PoolError(f"the scan has no result for {missing!r}; scan all {len(self)} samples")
        if rollouts < self.window:
            raise PoolError(f"a scan of {rollouts} rollouts calls nobody hard: the window is {self.window}")
        for id, i in self._index.items():
            self._scanned[i] = right[id]
            self._solved[i] = right[id] > 0
            self._freed[i] |= right[id] > 0 and self._was_hard[i]
            mode = DEMONSTRATED if right[id] == 0 and not self._freed[i] else PLAIN
            if mode != self._mode[i]:
                self._decide(i, mode, step, f"{right[id]} of {rollouts} right in the scan")
        return [id for id, i in self._index.items() if self._mode[i] == DEMONSTRATED]

    def end_round(self, step):
        """Close a round; with `retest="round_end"` every hard sample is asked plainly next."""
        self.round += 1
        if self.retest == "round_end":
            for i in np.flatnonzero(self._mode == DEMONSTRATED):
                self._retest_from[i] = step + 2
                self._decide(i, RETEST, step, f"round {self.round} ended")

    def _decide(self, i, mode, step, why):
        self._events.append((int(i), step, self.round, MODES[self._mode[i]], MODES[mode], why))
        self._mode[i] = mode
        self._was_hard[i] |= mode == DEMONSTRATED

    def explain(self, sample_id):
        """Why the sample is served as it is, in sentences -> str."""
        i = self._where(sample_id)
        seen = f"{self._visits[i]} visits, {self._right[i]} of {self._seen[i]} rollouts right"
        lines = [f"{sample_id}: served {self.mode(sample_id)} next, after {seen}."]
        if sample_id in self._last_fallback:
            lines.append(f"  its last visit was not served as planned: {self._last_fallback[sample_id]}")
        for where, step, round, before, after, why in self._events:
            if where == i:
                lines.append(f"  step {step} (round {round}): {before} -> {after}: {why}")
        return "\n".join(lines)

    def states(self):
        """State of every sample, in the order of the ids -> list of str.

        "unseen" (never visited nor scanned); "solved" (plain, something right the last time); "returned" (solved, and
        hard before); "plain" (nothing right the last time, too few rollouts to be hard); "demonstrated"; "retest".
        """
        return [STATES[code] for code in self._state_codes()]

    def counts(self):
        """Samples in each of the `states` -> {state: samples}, summing to all."""
        return dict(zip(STATES, np.bincount(self._state_codes(), minlength=len(STATES)).tolist()))

    def _state_codes(self):
        unseen, solved, returned, plain, demonstrated, retest = range(len(STATES))
        codes = np.where(self._solved, np.where(self._was_hard, returned, solved), plain)
        codes = np.where((self._visits == 0) & (self._scanned < 0), unseen, codes)
        codes = np.where(self._mode == DEMONSTRATED, demonstrated, codes)
        return np.where(self._mode == RETEST, retest, codes)

    def _fingerprint(self):
        return hashlib.sha256("\n".join(self._index).encode()).hexdigest()[:16]

    def save(self, path):
        """Write the whole state as JSON; `load` makes the identical next decisions from it."""
        state = {
            "ids": self._fingerprint(),
            "content": self.content,
            "window": self.window,
            "retest": self.retest,
            "round": self.round,
            "fallbacks": self.fallbacks,
            "last_fallback": self._last_fallback,
            "events": list(self._events),
            "draws": self.draws,
        }
        for name in ARRAYS:
            state[name] = getattr(self, f"_{name}").tolist()
        write_whole(path, json.dumps(state))

    def load(self, path):
        """Restore what `save` wrote.

        Raises:
            PoolError: no such file, not a pool file, or one of another data set or of other settings.
        """
        names = ("ids", "window", "retest", "round", "fallbacks", "events", *ARRAYS)
        state = read_state(path, "pool file", names)
        if state["ids"] != self._fingerprint():
            raise PoolError(f"the pool file {path} is of another data set: its sample ids differ")
        check_content(state, self.content, path)
        for name in ("window", "retest"):
            if state[name] != getattr(self, name):
                raise PoolError(
                    f"the pool file {path} was made with {name}={state[name]!r}, not {getattr(self, name)!r}"
                )
        self.round = state["round"]
        self.fallbacks.update(state["fallbacks"])
        self.draws = state.get("draws", {})  # pools saved before there were scans have none
        self._last_fallback = state.get("last_fallback", {})  # pools saved before it was kept have none
        self._events = deque(map(tuple, state["events"]), maxlen=EVENTS_KEPT)
        for name in ARRAYS:
            array = getattr(self, f"_{name}")
            array[:] = np.array(state[name], array.dtype)


def check_content(state, content, path):
    """Refuse a saved state of other rows under the same ids; one that does not tell of them passes.

    Raises:
        PoolError: so it is.
    """
    if content and state.get("content") not in (None, "", content):
        raise PoolError(f"{path} is of another data set: its ids are the same, but what the rows hold has changed")


def read_state(path, what, names):
    """What a pool or a record has saved -> dict that has all of `names`.

    Raises:
        PoolError: no such file, or one that holds something else.
    """
    try:
        state = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise PoolError(f"cannot read the {what} {path}: {error}") from error
    if not isinstance(state, dict) or not set(names) <= set(state):
        raise PoolError(f"{path} is not a {what}; give the file that `save` wrote")
    return state
