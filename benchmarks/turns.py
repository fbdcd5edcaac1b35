"""Runs that take turns step by step in one process, so that a slow spell of the machine hits all of them.

Three runs: one that is measured, between two of the kind it is compared with. A step of the middle one is divided by
the mean of its two neighbours, the same step of the others just before and just after it. The first over the last is
the control: it should be 1, and how far it is from 1 tells what this machine can measure.
"""

import random
import statistics
import threading
import time

import numpy as np
import torch

from toolexpander_lite.intervals import bootstrap_interval

WARM_UP = 2  # steps


class Turns:
    """Lets threads run one at a time, in the order of their names, each for one step.

    A thread that gives up its turn takes its random numbers with it, so that each draws as if it were alone.
    """

    def __init__(self, names):
        self.names, self.turn, self.change = list(names), 0, threading.Condition()
        self.seconds = {name: {"wall": [], "processor": []} for name in names}
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


def take_turns(sides):
    """Run {name: function that is given `note`, to be called with each row of its log} -> `Turns`."""
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
    if any(max(abs(a - b) for a, b in zip(one, other)) > 1e-3  # logs have six digits
           for one in turns.lengths.values() for other in turns.lengths.values()):  # fmt: skip
        raise SystemExit("the runs did not draw the same rollouts, so their times cannot be compared")
    return turns


def ratio_of(above, below):
    """Mean of the quotients and its 95 % bootstrap interval over the steps -> dict."""
    quotients = [a / b for a, b in zip(above, below)]
    interval = [round(end, 4) for end in bootstrap_interval(quotients)]
    return {"ratio": round(statistics.mean(quotients), 4), "interval": interval}


def compare(turns, steps):
    """The middle run over its neighbours, by the clock and by the processor's time -> dict; prints it too."""
    found = {}
    for clock in ("wall", "processor"):
        seconds = {name: times[clock][WARM_UP:steps] for name, times in turns.seconds.items()}
        before, middle, after = seconds.values()
        around = [(a + b) / 2 for a, b in zip(before, after)]
        means = {name: round(statistics.mean(times), 4) for name, times in seconds.items()}
        found[clock] = {"seconds_per_step": means, **ratio_of(middle, around), "control": ratio_of(before, after)}
        print(f"{clock} time:", ", ".join(f"{name} {mean:.3f} s per step" for name, mean in means.items()))
        for words, quotient in (("ratio", found[clock]), ("control", found[clock]["control"])):
            print(f"  {words} {quotient['ratio']:.3f} ({quotient['interval'][0]:.3f}-{quotient['interval'][1]:.3f})")
    return {**found, "steps": steps - WARM_UP, "threads": torch.get_num_threads()}
