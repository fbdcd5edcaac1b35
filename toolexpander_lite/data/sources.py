"""Public tool-calling data sets -> `ToolSample`s.

The rows come from where their owners publish them, GitHub or the Hugging Face Hub, pinned to one commit, or from
a local file in the same format. They are read one by one, so that the first samples of a large set can be had
without the rest of it. A row that cannot be scored fairly is dropped and counted under its reason.

`row_files` reads the rows, `row_formats` knows the format of each source.
"""

import hashlib
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.exceptions import Unresolvable

from ..base.downloads import cache_folder, fetch
from ..base.errors import DataError
from ..method.samples import ToolSample
from .formats import NO_SCHEMA, RowDropped, hermes_row, seal_row, toolace_row, toolrl_row, xlam_row
from .row_files import hub_rows, read_rows


@dataclass(frozen=True)
class Source:
    """Where a data set lives and how it is read.

    Attributes:
        convert: converter of `row_formats`.
        licence: what its owners give it under.
        files: pinned web addresses: the file of rows, then the files it needs beside it. Or else:
        hub, revision, config: id on the Hugging Face Hub, commit, and name of the subset if there are several.
        calls: False for a source whose right answer is to call nothing.
    """

    convert: Callable
    licence: str
    files: tuple = ()
    hub: str = ""
    revision: str = ""
    config: str | None = None
    calls: bool = True

    @property
    def address(self):
        return self.files[0] if self.files else f"https://huggingface.co/datasets/{self.hub}/tree/{self.revision}"


_TOOLRL = "https://raw.githubusercontent.com/qiancheng0/ToolRL/8cee13ec0ca72f0461da372a93a6fd8140dbb840/"
_SEAL = "https://raw.githubusercontent.com/fairyshine/Seal-Tools/{}/Seal-Tools_Dataset/"
SOURCES = {
    "toolrl": Source(  # arXiv 2504.13958
        toolrl_row,
        "Apache-2.0 (its rows derive from ToolACE, Apache-2.0, and from xLAM and Hammer, CC BY 4.0)",
        files=(_TOOLRL + "dataset/rlla_4k_raw/rlla_rl.json",),
    ),
    "seal-tools": Source(  # arXiv 2405.08355
        seal_row,
        "Apache-2.0",
        files=(
            _SEAL.format("0ad3824f85b636905be61427b75fe139ff0b3036") + "dev.jsonl",
            _SEAL.format("91b8ad1d399129efd0e89437c594ecb9667c1151") + "tool.jsonl",
        ),
    ),
    "toolace": Source(  # arXiv 2409.00920
        toolace_row, "Apache-2.0", hub="Team-ACE/ToolACE", revision="6bda777c88d21e5a204703c1ee45597a8fa4f734"
    ),
    "xlam": Source(  # arXiv 2406.18518; gated
        xlam_row,
        "CC BY 4.0",
        hub="Salesforce/xlam-function-calling-60k",
        revision="26d14ebfe18b1f7b524bd39b404b50af5dc97866",
    ),
    "xlam-irrelevance": Source(  # arXiv 2410.04587
        xlam_row,
        "CC BY 4.0",
        hub="MadeAgents/xlam-irrelevance-7.5k",
        revision="34323bf09efc7e4a394998a0fa91ff997617c369",
        calls=False,
    ),
    "hermes": Source(
        hermes_row,
        "Apache-2.0",
        hub="NousResearch/hermes-function-calling-v1",
        revision="8f025148382537ba84cd325e1834b706e1461692",
        config="func_calling_singleturn",
    ),
}


@dataclass(frozen=True)
class LoadReport:
    """What `load_samples` found.

    Attributes:
        dropped: reason -> number of rows, of those that were read.
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


def load_samples(source, path=None, limit=None, seed=0):
    """Load one public data set -> `LoadReport`.

    Args:
        source: a name in `SOURCES`.
        path: local file in the data set's own format (`.json`, `.jsonl` or `.parquet`); None fetches the files of
            a GitHub source into the cache, and streams a Hub source.
        limit: stop at this many samples, the first ones of the source; None reads all of it.
        seed: for seal-tools' distractors; the split does not depend on it.

    Raises:
        DataError: unknown source, file absent or unreadable, address out of reach, or no row survived.
    """
    if source not in SOURCES:
        raise DataError(f"unknown data source {source!r}; choose one of {', '.join(SOURCES)}")
    if limit is not None and limit < 1:
        raise DataError(f"limit is {limit}; give the number of samples to keep, or None for all")
    spec = SOURCES[source]
    file = Path(path) if path is not None else _fetch(source) if spec.files else None
    address = spec.address if path is None else str(path)
    if source == "seal-tools":
        try:
            catalogue = {tool["api_name"]: tool for tool in read_rows(file.with_name("tool.jsonl")) if tool}
        except (KeyError, TypeError):
            raise DataError(f"{file.with_name('tool.jsonl')}: a row is no tool with an api_name") from None
    rows = read_rows(file) if file else hub_rows(spec.hub, spec.revision, spec.config)
    samples, dropped = [], Counter()
    for index, row in enumerate(rows):
        # One generator per row: its distractors do not depend on the rows before it.
        extra = (catalogue, random.Random(f"{seed}-{index}")) if source == "seal-tools" else ()
        try:
            query, tools, calls = spec.convert(row, *extra)
            _check_calls(tools, calls, spec.calls)
            id, messages = f"{source}-{index:06d}", [{"role": "user", "content": query}]
            samples.append(ToolSample(id, source, messages, tools, calls, split_of(query)))
        except RowDropped as reason:
            dropped[str(reason)] += 1
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, SyntaxError, RecursionError):
            dropped["unparsable row"] += 1
        if len(samples) == limit:
            break
    if not samples:
        raise DataError(f"{address}: no usable row of {sum(dropped.values())} as {source}; dropped: {dict(dropped)}")
    return LoadReport(samples, dict(dropped), source, spec.licence, address)


def split_of(query):
    """ "train" or "test" (one in five) by a hash of the query's text alone.

    Equal queries fall on the same side, in every version of the data. The ratio is our assumption.
    """
    digest = hashlib.sha256(query.strip().encode()).digest()
    return "test" if int.from_bytes(digest[:8], "big") % 5 == 0 else "train"


def _check_calls(tools, calls, wanted):
    """Raise `RowDropped` for a row whose gold no model could reach from what the prompt shows."""
    if not tools:
        raise RowDropped("row without tools")
    parameters = {t["function"]["name"]: t["function"]["parameters"] for t in tools}
    if len(parameters) != len(tools):
        raise RowDropped("two tools of one name")
    if bool(calls) != wanted:
        raise RowDropped("row without a call" if wanted else "row with a call")
    for call in calls:
        if call["name"] not in parameters:
            raise RowDropped("call to an unlisted tool")
        if not set(call["arguments"]) <= set(parameters[call["name"]]["properties"]):
            raise RowDropped("argument its tool does not list")
        if not _allowed(call["arguments"], parameters[call["name"]]):
            raise RowDropped("argument that breaks its tool's schema")


def _allowed(arguments, parameters):
    """Is each value one that the schema allows? If not ("1" for an integer), a model that follows it would be wrong.

    What is required is not asked: the gold of several sets leaves such arguments out.
    """
    schema = {key: parameters[key] for key in ("properties", "$defs", "definitions") if key in parameters}
    try:
        # An empty registry: a "$ref" to another document fails instead of being fetched from the network.
        return Draft202012Validator(schema, registry=Registry()).is_valid(arguments)
    except (Unresolvable, re.error, OverflowError):  # a reference that leads nowhere, a pattern or bound that is none
        raise RowDropped(NO_SCHEMA) from None


def _fetch(source):
    """Download the files of a source into the cache -> path of the file of rows."""
    files = []
    for url in SOURCES[source].files:
        try:
            files.append(fetch(url, cache_folder("data", source)))
        except (OSError, HTTPException) as error:
            raise DataError(
                f"cannot fetch {source} from {url} ({error}); download the file on a machine with internet "
                "and give it as path=..."
            ) from None
    return files[0]
