"""A log as the rules see it: one table of standard columns, and a few robust statistics over it.

Logs are noisy, short, and differ in scale, so nothing here assumes a distribution: levels are means over the first and
the last fifth, and noise is estimated from the differences of neighbours, which a trend hardly touches.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from .columns import kind_of_part

FLAT = 1e-6  # what counts as 0 in a printed log


@dataclass
class Log:
    """One run.

    Attributes:
        table: DataFrame with the columns of `columns.py`, a row per logged step, in the order of the log.
        source: what was read, in words.
        settings: what is known of the run's settings, by TRL's names.
        texts: DataFrame of completions (step, prompt, completion, advantage, a column per reward), or None.
        groups: lines of a kit run's rollouts.jsonl.
        notes: what the reader had to leave out, sentences.
    """

    table: pd.DataFrame
    source: str = "a table"
    settings: dict = field(default_factory=dict)
    texts: pd.DataFrame | None = None
    groups: list = field(default_factory=list)
    notes: list = field(default_factory=list)

    def __post_init__(self):
        self.table = self.table.reset_index(drop=True)
        self.unit, self.labels = "line", pd.Series(range(1, len(self.table) + 1), dtype=float)
        for unit, least in (("step", 0), ("epoch", 0.01)):
            if unit in self.table and self.table[unit].nunique() > 0.5 * len(self) and self.table[unit].min() >= least:
                self.unit, self.labels = unit, self.table[unit].ffill()
                break

    def at(self, row):
        """The step (or epoch, or line from 1) of a row of the table, in words."""
        return f"{self.unit} {self.labels.iloc[row]:g}"

    def rows_of(self, steps):
        """The rows of these steps -> Series of their labels."""
        return self.labels[self.labels.isin(set(steps))]

    def __len__(self):
        return len(self.table)

    def has(self, *names):
        return all(len(self[name]) for name in names)

    def __getitem__(self, name):
        """The finite values of a column -> Series by row of the table, empty when there is no such column."""
        if name not in self.table:
            return pd.Series(dtype=float)
        column = self.table[name]
        return column[np.isfinite(column)]

    def not_finite(self, name):
        """Where the log holds a value that is no number -> bool Series over the rows that hold the column."""
        column = self.table[name].dropna() if name in self.table else pd.Series(dtype=float)
        return np.isinf(column)

    @cached_property
    def parts(self):
        """{reward function's name: Series}, without those never logged."""
        names = [c.removeprefix("part/") for c in self.table if c.startswith("part/")]
        return {name: self[f"part/{name}"] for name in names if self.has(f"part/{name}")}

    def kind(self, kind):
        """{name: Series} of the parts of one kind of `kind_of_part`."""
        return {name: s for name, s in self.parts.items() if kind_of_part(name) == kind}

    @cached_property
    def floor(self):
        """The lowest reward known to be possible, but for outliers."""
        low = min([s.min() for s in (smooth(self["reward"]), self["reward_min"]) if len(s)], default=0.0)
        return 0.0 if 0 <= low and self._unit_scale else low

    @cached_property
    def ceiling(self):
        """The highest reward known to be possible; 1 when all rewards lie within [0, 1]."""
        high = max([s.max() for s in (self["reward"], self["reward_max"]) if len(s)], default=1.0)
        return 1.0 if self._unit_scale else high

    @cached_property
    def _unit_scale(self):
        values = pd.concat([self[n] for n in ("reward", "reward_min", "reward_max")])
        return bool(len(values)) and values.min() >= 0 and values.max() <= 1

    @cached_property
    def scale(self):
        return max(self.ceiling - self.floor, FLAT)

    @cached_property
    def all_fail(self):
        """Share of groups that fail as a whole; estimated where not logged: groups without spread at a low reward."""
        if self.has("all_fail"):
            return self._share("all_fail")
        low = self["reward"] < self.floor + 0.25 * self.scale
        if not self.has("zero_std") or not len(low) or tail(low).mean() < 0.7:
            return pd.Series(dtype=float)
        return self.zero_std.where(low.reindex(self.zero_std.index, fill_value=False), 0)

    @cached_property
    def zero_std(self):
        """Share of groups without spread; where only a spread is logged, 1 in rows where it is 0 (a lower bound)."""
        if self.has("zero_std"):
            return self["zero_std"]
        if self.has("all_fail") or self.has("all_pass"):
            return self._share("all_fail").add(self._share("all_pass"), fill_value=0)
        return (self["reward_std"] < FLAT).astype(float)

    def _share(self, name):
        """Counts of groups (rllm) as shares of the most that a row shows."""
        both = self["all_fail"].add(self["all_pass"], fill_value=0)
        return self[name] / max(1, both.max())

    @cached_property
    def cap(self):
        """Tokens at which completions are cut: from the settings, or the length several longest rows share; None."""
        if known := self.settings.get("max_completion_length"):
            return float(known)
        for name in ("length_max", "length"):
            longest = self[name]
            times, most = (longest >= longest.max() - 0.5).sum(), longest.max()
            if most < 16:  # nobody cuts there
                continue
            if times >= max(3, 0.02 * len(longest)) or times > 1 and (most % 64 == 0 or most % 100 == 0):
                return float(most)
        return None

    @cached_property
    def clipped(self):
        """Share of completions cut at the cap, row by row; where it is not logged, 1 where the mean is at the cap."""
        if self.has("clipped"):
            return self["clipped"]
        if self.cap and self.has("length"):
            return (self["length"] >= 0.97 * self.cap).astype(float)
        return pd.Series(dtype=float)

    @cached_property
    def improves(self):
        """Does the reward rise beyond its noise?"""
        return rises(self["reward"], least=0.05 * self.scale)

    @cached_property
    def solved(self):
        """Is the reward near its ceiling at the end, on a scale that is known?"""
        return self.has("reward") and self.ceiling > 0 and last(self["reward"]) >= self.floor + 0.85 * self.scale


def fifth(series):
    """How many rows make an end of a log: a fifth of a long one, a third of a short one."""
    return max(1, len(series) // (5 if len(series) >= 15 else 3))


def first(series):
    return float(series.iloc[: fifth(series)].mean()) if len(series) else np.nan


def last(series):
    return float(series.iloc[-fifth(series) :].mean()) if len(series) else np.nan


def tail(series, share=1 / 3):
    """The last part of a log, at least a row."""
    return series.iloc[-max(1, round(share * len(series))) :]


def mid(series):
    """Mean of the second and third fifth, where a run is neither new nor at its end."""
    return float(series.iloc[len(series) // 5 : 3 * len(series) // 5].mean())


def noise(series):
    """Standard deviation of one row, from the differences of neighbours."""
    return float(np.sqrt(np.square(np.diff(series)).mean() / 2))


def surprise(series):
    """Rise from the first to the last end, in standard errors of that difference; 0 when it cannot be told."""
    if len(series) < 4:
        return 0.0
    return (last(series) - first(series)) / max(noise(series) * np.sqrt(2 / fifth(series)), 1e-12)


def rises(series, errors=3.0, least=0.0):
    return len(series) >= 4 and last(series) - first(series) > least and surprise(series) > errors


def smooth(series):
    """Rolling median over a tenth of the log, at least three rows."""
    return series.rolling(max(3, len(series) // 10), center=True, min_periods=1).median()


def since(mask, share=0.8):
    """The row from which a condition holds to the end (in `share` of the rows after it); None when it does not."""
    values = mask.to_numpy(dtype=float)
    if not len(values) or not values[-1] and values[-fifth(mask) :].mean() < share:
        return None
    after = np.cumsum(values[::-1])[::-1] / np.arange(len(values), 0, -1)
    good = np.flatnonzero((values > 0) & (after >= share))
    return mask.index[good[0]] if len(good) else None


def text_of(completion):
    """A logged prompt or completion, text or messages -> text."""
    if isinstance(completion, (list, tuple, np.ndarray)):
        return "\n".join(str(m.get("content") or "") for m in completion if isinstance(m, dict))
    return completion if isinstance(completion, str) else ""


def text_rewards(texts):
    """Logged completions -> the sum of their rewards."""
    known = ("step", "advantage", "answer", "solution", "gold", "target", "ground_truth")
    return texts[[c for c in texts.select_dtypes("number").columns if c not in known]].sum(axis=1)


def by_prompt(texts, values):
    """Values of logged completions, grouped by step and prompt."""
    return values.groupby([texts["step"], texts["prompt"].map(str)])
