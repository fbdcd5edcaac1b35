"""Public tool-calling data sets -> `ToolSample`s.

The rows are fetched from where their owners publish them, pinned to one commit, or read from a local
file in the same format. A row that cannot be scored fairly is dropped and counted under its reason.

- **toolrl** (arXiv 2504.13958): `.json` of instruction, input, output, or the `.parquet` of its RL rows.
- **seal-tools** (arXiv 2405.08355): `dev.jsonl` with a `tool.jsonl` beside it.
"""

import hashlib
import json
import random
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from .data import ToolSample
from .errors import DataError
from .hardware import cache_folder, fetch

_TOOLRL = "https://raw.githubusercontent.com/qiancheng0/ToolRL/8cee13ec0ca72f0461da372a93a6fd8140dbb840/"
_SEAL = "https://raw.githubusercontent.com/fairyshine/Seal-Tools/{}/Seal-Tools_Dataset/"
# Where each source lives: the file of rows first, then the files it needs beside it.
ADDRESSES = {
    "toolrl": [_TOOLRL + "dataset/rlla_4k_raw/rlla_rl.json"],
    "seal-tools": [
        _SEAL.format("0ad3824f85b636905be61427b75fe139ff0b3036") + "dev.jsonl",
        _SEAL.format("91b8ad1d399129efd0e89437c594ecb9667c1151") + "tool.jsonl",
    ],
}
LICENCES = {
    "toolrl": "Apache-2.0 (its rows derive from ToolACE, Apache-2.0, and from xLAM and Hammer, CC BY 4.0)",
    "seal-tools": "Apache-2.0",
}
# Python's type names, as data sets write them -> JSON Schema's.
_TYPES = {"str": "string", "int": "integer", "float": "number", "double": "number", "bool": "boolean"}
_TYPES |= {"list": "array", "tuple": "array", "set": "array", "dict": "object"}
_TYPES |= {t: t for t in ("string", "integer", "number", "boolean", "array", "object", "null")}


@dataclass(frozen=True)
class LoadReport:
    """What `load_samples` found.

    Attributes:
        dropped: reason -> number of rows, over the whole file.
        source, licence: name of the data set and the licence its owners give.
        address: where the rows were read from, a web address or a local path.
    """

    samples: list
    dropped: dict
    source: str
    licence: str
    address: str

    def __str__(self):
        test = sum(s.split == "test" for s in self.samples)
        kept = f"{len(self.samples) - test} train + {test} test samples"
        lost = ", ".join(f"{n} {reason}" for reason, n in self.dropped.items()) or "none"
        return f"{self.source} ({self.licence}): {kept} from {self.address}; dropped: {lost}"


class _Drop(Exception):
    """Raised inside a row's conversion; its message is the reason that is counted."""


def load_samples(source, path=None, limit=None, seed=0):
    """Load one public data set -> `LoadReport`.

    Args:
        source: "toolrl" or "seal-tools".
        path: local file in the data set's own format; None fetches `ADDRESSES[source]` into the cache.
        limit: keep this many samples, drawn at random; None keeps all.
        seed: for that draw and for seal-tools' distractors; the split does not depend on it.

    Raises:
        DataError: unknown source, file absent or unreadable, address out of reach, or no row survived.
    """
    if source not in ADDRESSES:
        raise DataError(f"unknown data source {source!r}; choose one of {', '.join(ADDRESSES)}")
    if limit is not None and limit < 1:
        raise DataError(f"limit is {limit}; give the number of samples to keep, or None for all")
    address = ADDRESSES[source][0] if path is None else str(path)
    file = _fetch(source) if path is None else Path(path)
    rows = _read(file)
    if source == "seal-tools":
        catalogue = {tool["api_name"]: tool for tool in _read(file.with_name("tool.jsonl")) if tool}
    samples, dropped = [], Counter()
    for index, row in enumerate(rows):
        try:
            if source == "toolrl":
                query, tools, calls = _toolrl_row(row)
            else:
                # One generator per row: its distractors do not depend on the rows before it.
                query, tools, calls = _seal_row(row, catalogue, random.Random(f"{seed}-{index}"))
            _check_calls(tools, calls)
            id, messages = f"{source}-{index:06d}", [{"role": "user", "content": query}]
            samples.append(ToolSample(id, source, messages, tools, calls, split_of(query)))
        except _Drop as reason:
            dropped[str(reason)] += 1
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            dropped["unparsable row"] += 1
    if not samples:
        raise DataError(f"{address}: no usable row of {len(rows)} as {source}; dropped: {dict(dropped)}")
    if limit is not None and limit < len(samples):
        samples = sorted(random.Random(seed).sample(samples, limit), key=lambda s: s.id)
    return LoadReport(samples, dict(dropped), source, LICENCES[source], address)


def split_of(query):
    """ "train" or "test" (one in five) by a hash of the query's text alone.

    Equal queries fall on the same side, in every version of the data. The ratio is our assumption.
    """
    digest = hashlib.sha256(query.strip().encode()).digest()
    return "test" if int.from_bytes(digest[:8], "big") % 5 == 0 else "train"


def parameter_schema(parameters, required=None):
    """`{"name": {"type", "description", "default"}}` -> JSON Schema of an object.

    Python's type names become JSON Schema's ("float" -> number, "List[int]" -> array of integer, "str,
    optional" -> string); a type with no counterpart, and an empty default, are left out.

    Args:
        required: names; None takes the parameters written without a `default`. That marks none of ToolRL's:
            it writes `"default": ""` for required and optional ones alike, and gold calls leave one in
            seven of those out.
    """
    properties = {}
    for name, spec in parameters.items():
        prop = _json_type(spec.get("type"))
        prop |= {key: spec[key] for key in ("description", "default") if spec.get(key) not in (None, "")}
        properties[name] = prop
    if required is None:
        required = [n for n, s in parameters.items() if "default" not in s and "optional" not in str(s.get("type"))]
    # An empty list would say "all are optional", which the data does not.
    return {"type": "object", "properties": properties} | ({"required": required} if required else {})


def _json_type(written):
    """A type as the data set writes it -> the part of a JSON Schema that says so ({} if unknown)."""
    if isinstance(written, list):  # already JSON Schema's list of alternatives
        known = [_TYPES[w] for w in written if w in _TYPES]
        return {"type": known} if known else {}
    outer, _, inner = str(written).lower().replace(", optional", "").strip().partition("[")
    schema = {"type": _TYPES[outer]} if outer in _TYPES else {}
    if schema.get("type") == "array" and (items := _json_type(inner.removesuffix("]"))):
        schema["items"] = items
    return schema


def _tool(name, description, parameters, required=None):
    schema = parameter_schema(parameters, required)
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


def _toolrl_row(row):
    """One ToolRL row -> (query, tool schemas, calls)."""
    if "reward_model" in row:  # their RL parquet: the same three texts, nested
        system, user = (m["content"] for m in row["prompt"])
        row = {"instruction": system, "input": user, "output": row["reward_model"]["ground_truth"]}
    turns = re.findall(r"<user>(.*?)</user>", row["input"], re.DOTALL)
    if len(turns) != 1 or "<obs>" in row["input"]:
        raise _Drop("multi-turn row")  # our assumption: single turns only, as the nano data has
    listing = row["instruction"].split("**Available Tools**", 1)[1].split("**Steps for Each Turn**", 1)[0]
    tools = []
    for entry in re.split(r"^\d+\. Name: ", listing, flags=re.MULTILINE)[1:]:
        name, rest = entry.split("\nDescription: ", 1)
        about, parameters = rest.rsplit("\nParameters: ", 1)
        tools.append(_tool(name, about, json.loads(parameters)))
    # The thought before may quote the tags, so only what follows it counts.
    answer = re.search(r"<tool_call>(.*?)</tool_call>", row["output"].rpartition("</think>")[2], re.DOTALL)
    if answer is None:
        raise _Drop("row without a call")
    calls = [json.loads(line) for line in answer[1].splitlines() if line.strip()]
    return turns[0].strip(), tools, [{"name": c["name"], "arguments": c["parameters"]} for c in calls]


def _seal_row(row, catalogue, rng):
    """One Seal-Tools row -> (query, tool schemas, calls)."""
    calls = [{"name": c["api"], "arguments": c["parameters"]} for c in row["calling"]]
    if any(str(value).startswith("API_call_") for c in calls for value in c["arguments"].values()):
        raise _Drop("argument taken from another call's result")
    names = list(dict.fromkeys(c["name"] for c in calls))
    if any(name not in catalogue for name in names):
        raise _Drop("call to an unlisted tool")
    # 3 to 5 tools on offer, the wrong ones drawn from the whole catalogue (both our assumptions).
    others = [name for name in catalogue if name not in names]
    names += rng.sample(others, min(max(rng.randint(3, 5) - len(names), 0), len(others)))
    rng.shuffle(names)
    offered = [catalogue[name] for name in names]
    tools = [_tool(t["api_name"], t["api_description"], t["parameters"], t["required"]) for t in offered]
    return row["query"].strip(), tools, calls


def _check_calls(tools, calls):
    """Raise `_Drop` for a row whose gold no model could reach from what the prompt shows."""
    arguments = {t["function"]["name"]: t["function"]["parameters"]["properties"] for t in tools}
    if len(arguments) != len(tools):
        raise _Drop("two tools of one name")
    if not calls:
        raise _Drop("row without a call")
    for call in calls:
        if call["name"] not in arguments:
            raise _Drop("call to an unlisted tool")
        if not set(call["arguments"]) <= set(arguments[call["name"]]):
            raise _Drop("argument its tool does not list")


def _read(file):
    """Rows of a `.json` list, `.jsonl` or `.parquet` file -> list; a line that is not JSON becomes None."""
    if not file.is_file():
        raise DataError(f"no file {file}; put it there, or give another path (None fetches the data set)")
    if file.suffix == ".parquet":
        import pyarrow.parquet

        return pyarrow.parquet.read_table(file).to_pylist()
    text = file.read_text(encoding="utf-8")
    rows = [_parsed(line) for line in text.split("\n") if line.strip()] if file.suffix == ".jsonl" else _parsed(text)
    if not isinstance(rows, list):
        raise DataError(f"{file} is not a JSON list of rows; fetch it again, it may be cut short")
    return rows


def _parsed(text):
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None


def _fetch(source):
    """Download the files of a source into the cache -> path of the file of rows."""
    files = []
    for url in ADDRESSES[source]:
        try:
            files.append(fetch(url, cache_folder("data", source)))
        except OSError as error:
            raise DataError(
                f"cannot fetch {source} from {url} ({error}); download the file on a machine with internet "
                "and give it as path=..."
            ) from None
    return files[0]
