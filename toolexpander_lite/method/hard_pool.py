"""Who is hard, and who has come back: the record that Dynamic Multi-Round Hard Sampling decides on.

The paper (section 3.2): a row with no right rollout in 10 is hard. Before training and again in every round the raw
rows are asked plainly, see `hard_sampling.begin_round`; the list of hard rows stands for the round, and a row that has
come back never gets demonstrations again.

The pool is keyed by sample id, never by prompt text, and judges by the task reward alone: a bonus would make failed
groups look alive.
"""

from collections import deque

import numpy as np

from ..base.errors import PoolError
from ..base.saved_state import read_state, write_state

PLAIN, DEMONSTRATED = 0, 1
HARD_WINDOW = 10  # rollouts without a right one that make a sample hard (section 3.2)
EVENTS_KEPT = 100_000  # decisions remembered in all, the oldest dropped first, so that memory stays bounded
FALLBACKS = ("no_demonstration", "not_verified", "prompt_too_long", "fewer_demonstrations")


def index_of_ids(sample_ids):
    """{id: its place} of a data set's ids.

    Raises:
        PoolError: an id that is missing or repeated, or none at all.
    """
    sample_ids = list(sample_ids)
    if any(not isinstance(i, str) or not i for i in sample_ids) or not sample_ids:
        raise PoolError("every sample needs a non-empty string id; add a sample_id column")
    index = {}
    for n, id in enumerate(sample_ids):
        if index.setdefault(id, n) != n:
            raise PoolError(f"sample id {id!r} appears twice; ids must be unique")
    return index


class HardSamplePool:
    """Per sample: how it is served, "plain" or "demonstrated", and why. `take_scan` decides, for a whole round.

    Args:
        sample_ids: all ids of the data set.
        window: rollouts without a right one that make a sample hard (10: the paper).
        content: what the ids stand for, by `samples.content_hash`: a saved pool of edited rows is then refused.

    Attributes:
        draws: {id: which draw of demonstrations is shown}, set with each scan; None where no draw was verified.
        fallbacks: groups of hard samples that had to be asked plainly ("no_demonstration", "prompt_too_long") or with
            fewer demonstrations than wanted ("fewer_demonstrations") -> {reason: groups}.

    Raises:
        PoolError: ids missing or repeated, or a window below 1.
    """

    MODES = ("plain", "demonstrated")
    STATES = ("unseen", "solved", "returned", "plain", "demonstrated")
    ARRAYS = ("mode", "visits", "seen", "right", "solved", "was_hard", "scanned", "freed")  # what is saved
    retest = "scan"  # how a hard sample is asked plainly again

    def __init__(self, sample_ids, window=HARD_WINDOW, content=""):
        self._index = index_of_ids(sample_ids)
        if window < 1:
            raise PoolError(f"window is {window}; it must be at least 1 rollout")
        self.window, self.round, self.content = window, 0, content
        size = len(self._index)
        self._mode = np.zeros(size, np.uint8)
        self._visits = np.zeros(size, np.uint32)
        self._seen = np.zeros(size, np.uint32)  # rollouts in all, and the right ones among them
        self._right = np.zeros(size, np.uint32)
        self._solved = np.zeros(size, bool)  # something was right, the last time it was asked plainly
        self._was_hard = np.zeros(size, bool)
        self._scanned = np.full(size, -1, np.int32)  # right rollouts in the last scan, -1 before the first
        self._freed = np.zeros(size, bool)  # was hard and came back in a scan
        self._events = deque(maxlen=EVENTS_KEPT)  # (index, step, round, from, to, why)
        self.draws = {}
        self.fallbacks = dict.fromkeys(FALLBACKS, 0)
        self._last_fallback = {}  # id -> why the last visit was not served as its mode says

    def __len__(self):
        return len(self._index)

    def __iter__(self):
        return iter(self._index)

    def mode(self, sample_id, step=None):
        """How the sample is to be served next, of `MODES`; `step`, its optimizer step, says nothing within a round."""
        return self.MODES[self._mode[self._where(sample_id)]]

    def occasion(self, sample_id):
        """What tells this visit of a sample from others for the choice of demonstrations: the draw of the round."""
        return f"draw-{self.draws.get(sample_id, 0)}"

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

    def observe(self, sample_id, served, rollouts, correct, step, fallback=""):
        """Take note of one group; nothing is decided by it.

        Args:
            served: mode the prompt was *rendered* in.
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

    def end_round(self, step):
        """Close a round."""
        self.round += 1

    def _decide(self, i, mode, step, why):
        self._events.append((int(i), step, self.round, self.MODES[self._mode[i]], self.MODES[mode], why))
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
        hard before); "plain" (nothing right the last time, too few rollouts to be hard); "demonstrated".
        """
        return [self.STATES[code] for code in self._state_codes()]

    def counts(self):
        """Samples in each of the `STATES` -> {state: samples}, summing to all."""
        return dict(zip(self.STATES, np.bincount(self._state_codes(), minlength=len(self.STATES)).tolist()))

    def _state_codes(self):
        unseen, solved, returned, plain, demonstrated = range(5)
        codes = np.where(self._solved, np.where(self._was_hard, returned, solved), plain)
        codes = np.where((self._visits == 0) & (self._scanned < 0), unseen, codes)
        return np.where(self._mode == DEMONSTRATED, demonstrated, codes)

    def save(self, path):
        """Write the whole state as JSON; `load` makes the identical next decisions from it."""
        write_state(
            path, self._index, self.content, window=self.window, retest=self.retest, round=self.round,
            fallbacks=self.fallbacks, last_fallback=self._last_fallback, events=list(self._events), draws=self.draws,
            **{name: getattr(self, f"_{name}").tolist() for name in self.ARRAYS},
        )  # fmt: skip

    def load(self, path):
        """Restore what `save` wrote.

        Raises:
            PoolError: no such file, not a pool file, or one of another data set or of other settings.
        """
        names = ("window", "retest", "round", "fallbacks", "events", *self.ARRAYS)
        state = read_state(path, "pool file", self._index, self.content, names)
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
        for name in self.ARRAYS:
            array = getattr(self, f"_{name}")
            array[:] = np.array(state[name], array.dtype)
