"""Runs that take turns step by step in one process, so that a slow spell of the machine hits all of them.

Three runs: one that is measured, between two of the kind it is compared with. A step of the middle one is divided by
the mean of its two neighbours, the same step of the others just before and just after it. The first over the last is
the control: it should be 1, and how far it is from 1 tells what this machine can measure.

All are made anew in each round and begin in another order, since two equal trainers in one process differ by some
percent for as long as they live (by where in memory they came to lie, we think).
"""

import os
import random
import statistics
import sys
import threading
import time

import numpy as np
import torch

from toolexpander_lite.base.intervals import bootstrap_interval
from toolexpander_lite.studies.runner import ENVIRONMENT

WARM_UP = 2  # steps of a round
ROUNDS = 3
CLOCKS = ("wall", "processor")


def in_the_studies_environment():
    """Start this script again as the runs of a study are started: one thread, and freed memory is kept.

    And with one heap for all threads: else each of the three would have one of its own, of another kind.
    """
    wanted = {**ENVIRONMENT, "MALLOC_ARENA_MAX": "1"}
    if not wanted.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **wanted})


class Turns:
    """Lets threads run one at a time, in the order of their names, each for one step.

    A thread that gives up its turn takes its random numbers with it, so that each draws as if it were alone.
    """

    def __init__(self, names):
        self.names, self.turn, self.change = list(names), 0, threading.Condition()
        self.seconds = {name: {clock: [] for clock in CLOCKS} for name in names}
        self.lengths = {name: [] for name in names}
        self.began = None

    def wait(self, name):
        with self.change:
            self.change.wait_for(lambda: not self.names or self.names[self.turn] == name)
        self.began = time.perf_counter(), time.process_time()

    def note(self, name, row):
        """A row of the log: the first of a batch ends the step and the turn."""
        if "reward" not in row:  # the log of a second update on the same rollouts
            return
        wall, processor = self.began
        self.seconds[name]["wall"].append(time.perf_counter() - wall)
        self.seconds[name]["processor"].append(time.process_time() - processor)
        self.lengths[name].append(row["completions/mean_length"])
        state = random.getstate(), np.random.get_state(), torch.get_rng_state()
        with self.change:
            self.turn = (self.turn + 1) % len(self.names)
            self.change.notify_all()
        self.wait(name)
        random.setstate(state[0])
        np.random.set_state(state[1])
        torch.set_rng_state(state[2])

    def leave(self, name):
        """No more turns for this thread."""
        with self.change:
            place = self.names.index(name)
            self.names.remove(name)
            self.turn = place % max(1, len(self.names))
            self.change.notify_all()


def take_turns(make_sides, steps, rounds=ROUNDS, warm_up=WARM_UP, lengths=1e-3):
    """Three runs in turns, in each of several rounds -> [{clock: {name: seconds of each measured step}}] by round.

    Args:
        make_sides: number of the round -> {name: function that is given `note`, to be called with each row of its log},
            the measured one in the middle.
        steps: of each run, `warm_up` among them; what comes after (its last evaluation) is not counted.
        lengths: tokens by which the answers' mean lengths may differ; in bfloat16 no two orders of computing draw quite
            the same rollouts.
    """
    found = []
    for number in range(rounds):
        sides = make_sides(number)
        names = [*list(sides)[number:], *list(sides)[:number]]  # the neighbours in the circle stay the same
        turns = one_round({name: sides[name] for name in names}, lengths)
        found.append({
            clock: {name: turns.seconds[name][clock][warm_up:steps] for name in sides} for clock in CLOCKS
        })  # fmt: skip
        print(f"round {number + 1} of {rounds}", flush=True)
    return found


def one_round(sides, lengths=1e-3):
    """{name: run} -> `Turns`."""
    turns, failures = Turns(sides), []

    def side(name, run):
        turns.wait(name)
        try:
            run(lambda row: turns.note(name, row))
        except BaseException as error:  # it is raised again in the main thread
            failures.append(error)
        finally:
            turns.leave(name)

    threads = [threading.Thread(target=side, args=item, daemon=True) for item in sides.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    if any(max(abs(a - b) for a, b in zip(one, other)) > lengths  # logs have six digits
           for one in turns.lengths.values() for other in turns.lengths.values()):  # fmt: skip
        raise SystemExit("the runs did not draw the same rollouts, so their times cannot be compared")
    return turns


def ratio_of(above, below):
    """Mean of the quotients over all steps, its 95 % bootstrap interval, and the mean of each round -> dict."""
    quotients = [[a / b for a, b in zip(*pair)] for pair in zip(above, below)]
    every = [quotient for one in quotients for quotient in one]
    return {
        "ratio": round(statistics.mean(every), 4),
        "interval": [round(end, 4) for end in bootstrap_interval(every)],
        "by_round": [round(statistics.mean(one), 4) for one in quotients],
    }


def compare(rounds):
    """The middle run over its neighbours, by the clock and by the processor's time -> dict; prints it too."""
    found = {}
    for clock in rounds[0]:
        before, middle, after = ([one[clock][name] for one in rounds] for name in rounds[0][clock])
        around = [[(a + b) / 2 for a, b in zip(*pair)] for pair in zip(before, after)]
        means = {name: statistics.mean(sum((one[clock][name] for one in rounds), [])) for name in rounds[0][clock]}
        found[clock] = {
            "seconds_per_step": {name: round(mean, 4) for name, mean in means.items()},
            **ratio_of(middle, around), "control": ratio_of(before, after),
        }  # fmt: skip
        print(f"{clock} time:", ", ".join(f"{name} {mean:.3f} s per step" for name, mean in means.items()))
        for words, quotient in (("ratio", found[clock]), ("control", found[clock]["control"])):
            low, high = quotient["interval"]
            print(f"  {words} {quotient['ratio']:.3f} ({low:.3f}-{high:.3f}), by round {quotient['by_round']}")
    return {**found, "rounds": len(rounds), "steps": len(before[0]), "threads": torch.get_num_threads()}
