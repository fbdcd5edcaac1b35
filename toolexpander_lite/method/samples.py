"""The one data type of the kit: a `ToolSample`, and datasets of them.

A sample is one question to a tool-using model with its right answer: the chat so far, the tools on
offer (JSON Schema, in the `{"type": "function", "function": {...}}` wrapping that chat templates
take) and the gold calls (`{"name", "arguments"}`). Everything else in the kit reads this.
"""

import json
from dataclasses import asdict, dataclass, fields
from functools import lru_cache

from ..base.errors import DataError

COLUMNS = ("id", "family", "messages", "tools", "calls", "split")


@dataclass(frozen=True)
class ToolSample:
    """One tool-calling question with its gold answer.

    Attributes:
        id: unique within a data set; pools and logs are keyed by it, never by the prompt's text.
        family: the nano family, or the name of the source for real data.
        messages: chat as `{"role", "content"}` dicts, ending with a user turn.
        tools: JSON Schema of each tool on offer, `{"type": "function", "function": {...}}`; may be [] without calls.
        calls: gold calls, `{"name": str, "arguments": dict}`; order does not matter.
        split: "train" or "test".
    """

    id: str
    family: str
    messages: list
    tools: list
    calls: list
    split: str = "train"

    def __post_init__(self):
        where = f"sample {self.id!r}"
        if not self.id or not isinstance(self.id, str):
            raise DataError(f"{where}: every sample needs a non-empty string id")
        if self.split not in ("train", "test"):
            raise DataError(f"{where}: split is {self.split!r}; use 'train' or 'test'")
        if not self.messages or self.messages[-1].get("role") != "user":
            raise DataError(f"{where}: messages must end with a user turn")
        if self.calls and not self.tools:
            raise DataError(f"{where} lists no tools; give the JSON Schema of at least the tool its answer calls")
        listed = {tool_name(t) for t in self.tools}
        for call in self.calls:
            if set(call) != {"name", "arguments"} or not isinstance(call["arguments"], dict):
                raise DataError(f"{where}: a call is {{'name': str, 'arguments': dict}}, not {call!r}")
            if call["name"] not in listed:
                raise DataError(
                    f"{where} calls {call['name']!r}, a tool it does not list ({', '.join(sorted(listed))}); "
                    "add its schema to tools or drop the row"
                )


@dataclass(frozen=True)
class SolvedSample(ToolSample):
    """A sample with the completion by which a policy solved it, to be shown as a demonstration."""

    completion: str = ""

    @classmethod
    def of(cls, sample, completion):
        return cls(**{f.name: getattr(sample, f.name) for f in fields(ToolSample)}, completion=completion)


def tool_name(tool):
    """Name of a tool given as JSON Schema; raises `DataError` when it is not of that form."""
    try:
        return tool["function"]["name"]
    except (KeyError, TypeError):
        raise DataError(
            f"not a tool schema: {str(tool)[:80]}; expected "
            "{'type': 'function', 'function': {'name': ..., 'parameters': {...}}}"
        ) from None


def to_dataset(samples):
    """`ToolSample`s -> `datasets.Dataset` with the `COLUMNS`; ids must be unique.

    `tools` and `calls` become JSON text; `from_json` and `to_samples` read it back.

    Raises:
        DataError: no samples, or an id that appears twice.
    """
    rows = [asdict(s) for s in samples]
    if not rows:
        raise DataError("no samples: nothing to make a data set of")
    seen = set()
    for row in rows:
        if row["id"] in seen:
            raise DataError(f"sample id {row['id']!r} appears twice; ids must be unique")
        seen.add(row["id"])
        row["tools"], row["calls"] = (json.dumps(row[k], ensure_ascii=False) for k in ("tools", "calls"))
    from datasets import Dataset, Features, List, Value  # here, so that the method can be read without it

    # Tools and calls are JSON text: as Arrow structs every tool would get the argument names of all the others, and the
    # `Json` type of datasets 5.2 rounds floats (0.3 comes back as 0.30000000000000004).
    features = dict.fromkeys(COLUMNS, Value("string"))
    features["messages"] = List({"role": Value("string"), "content": Value("string")})
    return Dataset.from_list(rows, features=Features(features))


def to_samples(dataset):
    """The inverse of `to_dataset`: rows (dicts) -> list of `ToolSample`, extra columns ignored."""
    return [
        ToolSample(**{k: row[k] for k in COLUMNS} | {k: json.loads(row[k]) for k in ("tools", "calls")})
        for row in dataset
    ]


def training_columns(samples):
    """`ToolSample`s -> `Dataset` with what rewards need: sample_id, family, tools, calls; no prompt yet."""
    return to_dataset(samples).rename_column("id", "sample_id").remove_columns(["messages", "split"])


@lru_cache(maxsize=4096)
def _loads(text):
    return json.loads(text)


def from_json(value):
    """A `tools` or `calls` cell, as JSON text or as the list itself -> the list (shared: do not edit)."""
    return _loads(value) if isinstance(value, str) else value
