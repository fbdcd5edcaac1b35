"""One name for each quantity, whatever the framework calls it.

A table of this room has the columns of columns.toml, as far as the log has them, and for each reward function NAME
`part/NAME` (mean) and `part_std/NAME`. A missing value is NaN; a value that was logged and is not finite is inf.
"""

import re
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd

_NAMES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
_KNOWN = {alias: (name, rank) for name, known in _NAMES["standard"].items() for rank, alias in enumerate(known)}
MAIN, SIDE, _INDICATORS = (set(_NAMES["parts"][kind]) for kind in ("main", "side", "indicators"))
_PART = re.compile(r"rewards?/(.+?)(?:/(mean|std))?$|((?:.+_)?(?:reward|rew)(?:_(?:func|fn|\w+))?)$")


def plain(name):
    """A column's name without what dashboards put around it: "run-a - train/rewards / x" -> "rewards/x"."""
    name = re.sub(r"\s*/\s*", "/", str(name)).strip().rsplit(" - ", 1)[-1].lower()
    return re.sub(r"^(train|metrics|trainer)/", "", re.sub(r"\s+", "_", name))


def known(name):
    """A plain name -> (standard name, rank: the lower the better), or None.

    Unlisted names are read by their last word, without "avg" or "mean": policy/entropy_avg is an entropy. Not those of
    evaluations and rewards.
    """
    if name in _KNOWN or re.match(r"(eval|val|test|rewards?)[/_-]", name):
        return _KNOWN.get(name)
    bare = re.sub(r"^(avg|mean|average)_|[_/](avg|mean|average)$", "", name)
    found = _KNOWN.get(bare) or _KNOWN.get(bare.rsplit("/", 1)[-1])
    return (found[0], found[1] + 50) if found and found[0] not in ("step", "epoch", "eval") else None


def is_metric(name):
    """Does anything of training go by this name (steps and epochs do not count)? -> bool"""
    return (known(plain(name)) or ("step",))[0] not in ("step", "epoch")


def kind_of_part(name):
    """ "side" for a reward of form (format, length, language), "main" for one of right answers, or "other"."""
    words = set(re.findall(r"[a-z]+", name.lower()))
    return "side" if words & SIDE else "main" if words & MAIN else "other"


def standard_table(table):
    """DataFrame with anyone's names -> one with standard names, numbers only, in the order of the log."""
    found, parts, ranges = {}, {}, {}
    for column in table.columns:
        name = plain(column)
        if name.endswith(("__min", "__max")):  # of a wandb chart's export
            continue
        if found_as := known(name):
            target, rank = found_as
            if target not in found or rank < found[target][0]:
                found[target] = (rank, column)
        elif end := re.match(r"(.+)_(min|max)$", name):
            if end[1] in _KNOWN:
                ranges.setdefault(_KNOWN[end[1]][0], []).append(column)
        elif name.startswith(("val-core/", "val/", "val-aux/")):
            found.setdefault("eval", (99, column))
        elif part := _part(name):
            parts.setdefault(part, column)
    columns = {name: numbers(table[column]) for name, (_, column) in found.items()}
    columns |= {part: numbers(table[column]) for part, column in parts.items()}
    for name, ends in ranges.items():  # a log that gives only a range: its middle, where there is nothing better
        middle = pd.concat([numbers(table[column]) for column in ends], axis=1).mean(axis=1)
        columns[name] = columns[name].fillna(middle) if name in columns else middle
    return pd.DataFrame(columns, index=table.index)


def _part(name):
    if name in _INDICATORS:
        return f"part/{name}"
    match = _PART.match(name)
    if not match or name.startswith(("eval", "val")):
        return None
    part, end = (match[1], match[2]) if match[1] else (match[3], None)
    if part.endswith("_std"):
        part, end = part.removesuffix("_std"), "std"
    if part in ("mean", "std", "min", "max", "reward", "rewards"):
        return None
    return f"part_std/{part}" if end == "std" else f"part/{part}"


def numbers(values):
    """A column -> float Series: NaN where nothing was logged, inf where what was logged is not finite."""
    if not pd.api.types.is_numeric_dtype(values):
        values = values.map(_number)
    return values.astype(float).replace(-np.inf, np.inf)


def _number(value):
    if value is None or isinstance(value, float):
        return value
    try:
        number = float(value)
    except OverflowError:
        return np.inf
    except (TypeError, ValueError):
        return np.nan
    return np.inf if number != number else number  # a text that says NaN
