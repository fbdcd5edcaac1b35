"""The example rows of a file of your own tools, and their split: no argument value is trained on and held out.

Beside its functions (`own_tools`) the file holds one or both of

    TEMPLATES = [("Set a timer for {minutes} minutes.", set_timer, {"minutes": [3, 5, 10]}), ...]
    ROWS = "questions.csv"  # columns question and call; or JSONL, chats in OpenAI's form, or a list of such rows

All names, numbers and the split are our assumptions.
"""

import csv
import hashlib
import json
import math
import random
import re
from collections import Counter
from pathlib import Path

from ..base.errors import DataError
from .file_formats import read_rows
from .own_tools import load_tools
from .row_formats import openai_row, read_calls
from .tool_schemas import UNPARSABLE, RowDropped, read_tools

ROWS_DRAWN = {"train": 40, "test": 10}  # of each template, as far as its values make so many different questions


def own_row(row):
    """One row of `own_rows` -> (what is asked, tool schemas, gold calls), as the converters of `row_formats`."""
    asked, tools, turns = read_turns(row)
    if len(turns) > 1:
        raise RowDropped("calls in several turns, which data own-turns takes")
    return asked, tools, [call for turn in turns for call in turn]


def read_turns(row):
    """One row of `own_rows` -> (what is asked, tool schemas, the gold calls of each turn); no turn where none fits.

    Several turns are a list of texts, or JSON text of one.
    """
    if "messages" in row:
        asked, tools, calls = openai_row(row)
        return asked, tools, [calls] if calls else []
    tools, call = read_tools(row["tools"]), row.get("calls", row.get("call"))
    if isinstance(call, str) and call.lstrip().startswith('["'):
        call = json.loads(call)
    several = isinstance(call, list) and call and all(isinstance(turn, str) for turn in call)
    names, turns = [tool["function"]["name"] for tool in tools], []
    for written in call if several else [call]:
        if isinstance(written, str) and re.match(r"\s*\w[\w.]*\(", written):
            written = f"[{written}]"  # set_timer(minutes=5), as people write it into a table
        turns.append(read_calls(written, names))
    return row["question"].strip(), tools, [turn for turn in turns if turn]


def own_rows(file):
    """The example rows of a file of tools -> list of dicts {"question", "call", "tools", "split"}, or of chats.

    Every row offers all tools. No argument value is in both splits, a fifth of the values is held out; values of an
    `enum` and yes or no, which no split could part, are in both, though no question is. Given rows that have values in
    common stay together; if that makes them one cluster, they are split by question alone, and a row may say its own
    "split".

    Raises:
        DataError: neither TEMPLATES nor ROWS, a template whose slots and values do not fit, or too few values.
    """
    file = Path(file)
    tools = load_tools(file)
    schemas = tools.registry.schemas()
    templates = [_template(file, t, schemas) for t in getattr(tools.module, "TEMPLATES", None) or ()]
    given = _given(file, getattr(tools.module, "ROWS", None))
    if not templates and not given:
        raise DataError(f"{file} has no example rows; add TEMPLATES = [(question, function, values), ...] or "
                        'ROWS = "questions.csv"')  # fmt: skip
    given = [row | {"tools": schemas} if isinstance(row, dict) else row for row in given]
    values = [_free_values(row, schemas) for row in given]
    held, kept, root = _parted([slot for t in templates for slot in t["free"].values()], values)
    rows = [row for template in templates for row in _drawn(file, template, held, root, schemas)]
    for row, own in zip(given, values):
        if isinstance(row, dict) and own and "split" not in row and root(min(own)) in held | kept:
            row["split"] = "test" if root(min(own)) in held else "train"
        rows.append(row)
    return rows


def _given(file, rows):
    """What `ROWS` holds, or the file that it names beside the tools -> list of rows."""
    if isinstance(rows, str) and not rows.endswith(".csv"):
        rows = list(read_rows(file.parent / rows))
    elif isinstance(rows, str):
        path = file.parent / rows
        try:
            with path.open(encoding="utf-8-sig", newline="") as table:
                rows = list(csv.DictReader(table))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"cannot read {path} ({error}); write a table with the columns question and call") from None
        if not rows or not {"question", "call"} <= rows[0].keys():
            found = ", ".join(map(str, rows[0])) if rows else "none"
            raise DataError(f"{path} needs the columns question and call; it has {found}")
    if not isinstance(rows, list | tuple | None):
        raise DataError(f"{file}: ROWS is a {type(rows).__name__}; give a list of rows, or the name of their file")
    names = "question", "call"
    rows = [dict(zip(names, row)) if isinstance(row, list | tuple) else row for row in rows or ()]
    for place, row in enumerate(rows, 1):  # an answer that is missing is not one that calls nothing
        if isinstance(row, dict) and not row.keys() & {"messages", "call", "calls"}:
            found = ", ".join(map(repr, row))
            raise DataError(f'{file}: row {place} of ROWS has no "call", only {found}; give it one, or None (null) '
                            "where no tool fits")  # fmt: skip
    return rows


def _template(file, template, schemas):
    """One of `TEMPLATES`, checked -> {"question", "name" or None, "slots": {slot: {word: value}}, "free"}."""
    try:
        question, tool, values = template
        name = tool if isinstance(tool, str | None) else tool.__name__
        slots = {slot: v if isinstance(v, dict) else {str(x): x for x in v} for slot, v in values.items()}
        asked = set(re.findall(r"{(\w+)}", question))
    except (TypeError, ValueError, AttributeError):
        raise DataError(f"{file}: {template!r:.80} is no template; write (question with {{slots}}, function or None, "
                        "{slot: [values] or {word: value}})") from None  # fmt: skip
    told = f"{file}: template {question!r:.60}"
    properties = {s["function"]["name"]: s["function"]["parameters"].get("properties", {}) for s in schemas}
    if name is not None and name not in properties:
        raise DataError(f"{told} calls {name!r}, which is no tool of the file; choose one of {', '.join(properties)}")
    if unknown := sorted(set(slots) - asked if name is None else set(slots) - set(properties[name])):
        raise DataError(f"{told} has values for {unknown[0]!r}, which its {'question' if name is None else name} "
                        "does not have; rename or remove it")  # fmt: skip
    if missing := sorted(asked - set(slots)):
        raise DataError(f"{told} has no values for its slot {missing[0]!r}; add them")
    if unsaid := sorted(slot for slot in set(slots) - asked if len(slots[slot]) > 1):
        raise DataError(f"{told} does not say which {unsaid[0]!r} is meant; put {{{unsaid[0]}}} into it")
    free = {slot: {_key(v) for v in words.values()} for slot, words in slots.items()
            if name is None or not _closed(properties[name][slot])}  # fmt: skip
    if few := [slot for slot, found in free.items() if len(found) < 2]:
        raise DataError(f"{told}: slot {few[0]!r} has fewer than two values, and one is held out; give it more")
    return {"question": question, "name": name, "slots": slots, "free": free}


def _closed(schema):
    """Has a parameter so few values, by its schema, that both splits must share them?"""
    return "enum" in schema or schema.get("type") in ("boolean", ["boolean", "null"])


def _key(value):
    return json.dumps(value, sort_keys=True, default=str).lower()


def _free_values(row, schemas):
    """The argument values of a row that are not to be in both splits -> set; of one that cannot be read, none."""
    try:
        calls = [call for turn in read_turns(row)[2] for call in turn]
    except (RowDropped, *UNPARSABLE):
        return set()  # `load_samples` reads it again, and counts the reason
    properties = {s["function"]["name"]: s["function"]["parameters"].get("properties", {}) for s in schemas}
    return {_key(part) for call in calls for name, value in call["arguments"].items()
            if not _closed(properties.get(call["name"], {}).get(name, {}))
            for part in (value if isinstance(value, list) else [value])}  # fmt: skip


def _parted(slots, rows):
    """Hold out about a fifth of the values -> (held out, kept, root), the first two sets of roots of classes.

    Values that meet in a given row are one class; `root` of a value is its class.

    Args:
        slots: the set of values of each template's slot; each gets one on either side, if it can.
        rows: the set of values of each given row.
    """
    above = {}

    def root(value):
        while above.get(value, value) != value:
            value = above[value]
        return value

    for values in rows:
        for value in values:
            above[root(value)] = root(min(values))
    held, kept = set(), set()
    for values in sorted(slots, key=len):
        classes = sorted({root(value) for value in values}, key=_hash)
        for one in classes:
            if one not in held | kept:
                (held if len(held & set(classes)) < max(1, round(len(classes) / 5)) else kept).add(one)
    sizes = Counter(root(min(values)) for values in rows if values)
    wanted = max(1, round(sum(sizes.values()) / 5)) - sum(sizes[one] for one in held)
    for one in sorted(sizes.keys() - held - kept, key=_hash):
        if sizes[one] <= wanted:
            held.add(one)
            wanted -= sizes[one]
        elif len(sizes) > 1:
            kept.add(one)
    return held, kept, root


def _hash(text):
    return hashlib.sha256(text.encode()).hexdigest()


def _drawn(file, template, held, root, schemas):
    """Different rows of one template, drawn from the values of each split, no question in both -> list.

    Where all values are in both splits the questions are parted: about a fifth of them is held out.
    """
    rows, asked_in_test = {}, set()
    for split in ("test", "train"):
        most, words = ROWS_DRAWN[split], {}
        for slot, values in template["slots"].items():
            free = slot in template["free"]
            words[slot] = [w for w, v in values.items() if not free or (root(_key(v)) in held) == (split == "test")]
            if not words[slot]:
                raise DataError(f"{file}: template {template['question']!r:.60}: all values of its slot {slot!r} are "
                                f"on the other side of the split; give it more values of its own")  # fmt: skip
        if split == "test" and not template["free"]:
            questions = math.prod(map(len, words.values()))
            most = min(most, max(questions > 1, questions // 5))
        rng, seen = random.Random(template["question"] + split), {}
        for _ in range(20 * most):
            if len(seen) == most:
                break
            drawn = {slot: rng.choice(found) for slot, found in words.items()}
            asked = re.sub(r"{(\w+)}", lambda slot: drawn[slot[1]], template["question"])
            arguments = {slot: template["slots"][slot][word] for slot, word in drawn.items()}
            call = None if template["name"] is None else {"name": template["name"], "arguments": arguments}
            if asked not in asked_in_test:
                seen[asked, _key(call)] = {"question": asked, "call": call, "tools": schemas, "split": split}
        asked_in_test = {asked for asked, _ in seen}
        rows[split] = [*seen.values()]
    return rows["train"] + rows["test"]
