"""Hard samples visit by visit, without scans: counted from the training groups, and asked plainly again (a re-test).

The kit's first rules, from before the paper's text was read: all our assumptions.
"""

import numpy as np

from ..base.errors import PoolError, unknown
from ..method.hard_pool import DEMONSTRATED, HARD_WINDOW, PLAIN, HardSamplePool

RETEST = 2
RETESTS = ("after_success", "round_end", "never")


class VisitPool(HardSamplePool):
    """A `HardSamplePool` that decides after each group.

    A sample starts *plain*. It is *hard* at `window` plain rollouts with none right, and served *demonstrated* from
    then on. With `retest="after_success"` a demonstrated visit with a right rollout makes the next visit a *retest*: a
    plain one, which ends in *plain* if anything was right, else in *demonstrated* again. With `retest="round_end"` all
    hard samples are re-tested when `end_round` is called.

    Args:
        retest: one of `RETESTS`.
        fresh: other demonstrations at each visit (the same again for the same visit, so that a resumed run sees the
            same prompts); False shows a sample the same ones for ever.
        Others as in `HardSamplePool`.

    Raises:
        PoolError: as `HardSamplePool`, or an unknown re-test.
    """

    MODES = (*HardSamplePool.MODES, "retest")
    STATES = (*HardSamplePool.STATES, "retest")
    ARRAYS = (*HardSamplePool.ARRAYS, "rollouts", "retest_from")

    def __init__(self, sample_ids, window=HARD_WINDOW, retest="after_success", content="", fresh=True):
        super().__init__(sample_ids, window, content)
        if retest not in RETESTS:
            raise PoolError(unknown("retest", retest, RETESTS))
        self.retest, self.fresh = retest, fresh
        self._rollouts = np.zeros(len(self), np.uint32)  # plain ones since the last decision, none of them right
        self._retest_from = np.zeros(len(self), np.uint32)  # first step whose prompts can know of such a re-test

    def mode(self, sample_id, step=None):
        """ "plain", "demonstrated" or "retest" (served plainly): how the sample is to be served next.

        `step`: the optimizer step the prompt is for. The trainer's loader renders prompts one step ahead, a resumed
        run's first ones do not: with `step`, both know of a round's end from the second step after it on.
        """
        i = self._where(sample_id)
        early = self._mode[i] == RETEST and step is not None and step < self._retest_from[i]
        return "demonstrated" if early else super().mode(sample_id)

    def occasion(self, sample_id):
        """Each visit, if demonstrations are to be `fresh`."""
        return self.visits(sample_id) if self.fresh else "always"

    def observe(self, sample_id, served, rollouts, correct, step, fallback=""):
        """Take in one group and decide how the sample is served next; arguments as in `HardSamplePool`.

        `served` may lag behind `mode`, since the trainer's loader fetches a batch ahead.
        """
        super().observe(sample_id, served, rollouts, correct, step, fallback)
        i = self._where(sample_id)
        if served == "demonstrated":
            if correct and self._mode[i] == DEMONSTRATED and self.retest == "after_success":
                self._decide(i, RETEST, step, f"{correct} of {rollouts} right with a demonstration")
            return
        self._rollouts[i] += rollouts
        self._solved[i] = correct > 0
        if correct:
            if self._mode[i] != PLAIN:
                self._decide(i, PLAIN, step, f"{correct} of {rollouts} right without a demonstration")
            self._rollouts[i] = 0
        elif self._mode[i] == RETEST or self._rollouts[i] >= self.window:
            if self._mode[i] != DEMONSTRATED:
                self._decide(i, DEMONSTRATED, step, f"0 of {self._rollouts[i]} right without a demonstration")
            self._rollouts[i] = 0

    def end_round(self, step):
        """Close a round; with `retest="round_end"` every hard sample is asked plainly next."""
        super().end_round(step)
        if self.retest == "round_end":
            for i in np.flatnonzero(self._mode == DEMONSTRATED):
                self._retest_from[i] = step + 2
                self._decide(i, RETEST, step, f"round {self.round} ended")

    def _state_codes(self):
        return np.where(self._mode == RETEST, len(self.STATES) - 1, super()._state_codes())
