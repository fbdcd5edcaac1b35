"""Dynamic Multi-Round Hard Sampling, round by round: the real pool decides, a toy policy learns.

The toy (our assumption, to look at, never to measure with): a row is a chance of a right answer, asked plainly, and a
larger one with examples. A group with right and wrong answers makes both larger, in log odds; what is learnt with
examples reaches the plain question at half the step. The last two rows have a wrong gold call: nothing helps them.
"""

import html

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np

from ..method.hard_pool import HARD_WINDOW, HardSamplePool
from ..method.hard_sampling import SERVINGS, round_rows
from ..studies.run_figures import STATE_COLOURS, ink
from .show import Live

CHANCES = (0.9, 0.6, 0.4, 0.25, 0.15, 0.08, 0.04, 0.02, 0.01, 0.004, 0.001, 3e-4, 0.0, 0.0)
GROUP, VISITS, STEP = 5, 4, 0.6  # rollouts in a group, groups of a row in a round, log odds won from a mixed group
WORDS = {"unseen": "not scanned", "solved": "right:\nplain", "demonstrated": "hard:\nwith examples",
         "returned": "has come back:\nplain for good", "plain": "hard again:\nplain still"}  # fmt: skip


class PoolStepper:
    """A `HardSamplePool` over the toy's rows. `serving`: one of `hard_sampling.SERVINGS`."""

    def __init__(self, serving="replace", seed=0):
        self.serving, self.rng = serving, np.random.default_rng(seed)
        self.ids = [f"row {n}" for n in range(1, len(CHANCES) + 1)]
        self.plain = dict(zip(self.ids, CHANCES))
        self.helped = {id: chance**0.35 if chance else 0.0 for id, chance in self.plain.items()}
        self.pool, self.rounds = HardSamplePool(self.ids), []  # a round: ({id: state}, {id: right in the scan})

    def next_round(self):
        """Scan every row, let the pool decide, train on the rows of the round."""
        right = {id: int(self.rng.binomial(HARD_WINDOW, self.plain[id])) for id in self.ids}
        number = len(self.rounds)
        self.pool.take_scan(right, HARD_WINDOW, number)
        self.rounds.append((dict(zip(self.ids, self.pool.states())), right))
        for id, mode in round_rows(self.serving, self.pool, number, number + 2):
            for _ in range(VISITS):
                chance = (self.helped if mode == "demonstrated" else self.plain)[id]
                correct = int(self.rng.binomial(GROUP, chance))
                self.pool.observe(id, mode, GROUP, correct, number)
                if 0 < correct < GROUP:
                    self._learn(id, mode)
        self.pool.end_round(number)

    def _learn(self, id, mode):
        for chances, step in ((self.plain, STEP / 2 if mode == "demonstrated" else STEP), (self.helped, STEP)):
            odds = chances[id] / (1 - chances[id]) * np.exp(step)
            chances[id] = odds / (1 + odds)

    def figure(self):
        """The static twin: where each row is now (left; moved since the last round: black edge), and the way there."""
        before = self.rounds[-2][0] if len(self.rounds) > 1 else {}
        now, _ = self.rounds[-1] if self.rounds else (dict.fromkeys(self.ids, "unseen"), None)
        figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.9), width_ratios=(5, 4))
        for column, state in enumerate(WORDS):
            here, colour = [id for id in self.ids if now[id] == state], STATE_COLOURS[state]
            for place, id in enumerate(here):
                moved = bool(before) and before[id] != state
                left.text(column, -place, id, ha="center", va="center", fontsize=9, color=ink(colour), bbox={
                    "boxstyle": "round", "facecolor": colour, "edgecolor": "black" if moved else "none",
                    "linewidth": 1.5})  # fmt: skip
        left.set(xlim=(-0.6, len(WORDS) - 0.4), ylim=(-len(self.ids) + 0.4, 0.9), yticks=[])
        left.set_xticks(range(len(WORDS)), WORDS.values(), fontsize=8)
        left.xaxis.tick_top()
        left.tick_params(length=0)
        left.set_xlabel(f"round {len(self.rounds)}, served by {self.serving!r}; black edge: moved")
        for n, (then, scan) in enumerate(self.rounds, start=1):
            for row, id in enumerate(self.ids):
                colour = STATE_COLOURS[then[id]]
                right.add_patch(plt.Rectangle((n - 0.48, row - 0.45), 0.96, 0.9, color=colour))
                right.text(n, row, scan[id], ha="center", va="center", fontsize=8, color=ink(colour))
        right.set(xlim=(0.4, max(6, len(self.rounds)) + 0.6), ylim=(len(self.ids) - 0.4, -0.6), xlabel="round",
                  title=f"right of {HARD_WINDOW} in the scan, asked plainly")  # fmt: skip
        right.xaxis.get_major_locator().set_params(integer=True)
        right.set_yticks(range(len(self.ids)), self.ids, fontsize=8)
        figure.tight_layout()
        return figure


def pool_figure(rounds=4, serving="replace", seed=0):
    """The static twin of `pool_stepper` after some rounds -> figure."""
    stepper = PoolStepper(serving, seed)
    for _ in range(rounds):
        stepper.next_round()
    return stepper.figure()


def pool_stepper(rounds=3, serving="replace", seed=0):
    """Press "next round": scan, decide, train. Choose a row, and the pool says why it is served as it is."""
    held = {}

    def start(*_):
        held["stepper"] = PoolStepper(serve.value, seed)
        for _ in range(rounds):
            held["stepper"].next_round()
        show()

    def step(*_):
        held["stepper"].next_round()
        show()

    def show(*_):
        words = html.escape(held["stepper"].pool.explain(row.value))
        why.value = f"<pre style='line-height:1.3;margin:0'>{words}</pre>"
        if "again" in held:
            held["again"]()

    further, anew = ipywidgets.Button(description="next round"), ipywidgets.Button(description="start again")
    serve = ipywidgets.Dropdown(options=SERVINGS, value=serving, description="serving")
    row = ipywidgets.Dropdown(options=PoolStepper().ids, value="row 9", description="why")
    why = ipywidgets.HTML()
    start()
    held["again"] = Live([[further, anew, serve, row], [why]], lambda: held["stepper"].figure())
    further.on_click(step)
    anew.on_click(start)
    serve.observe(start, "value")
    row.observe(show, "value")
