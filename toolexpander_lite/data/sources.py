"""Public tool-calling data sets -> `ToolSample`s.

The rows come from where their owners publish them, GitHub or the Hugging Face Hub, pinned to one commit, or from
a local file in the same format. They are read one by one, so that the first samples of a large set can be had
without the rest of it. A row that cannot be scored fairly is dropped and counted under its reason.

`file_formats` reads files and the Hub, `row_formats` knows what a row of each source looks like.
"""

import hashlib
import random
import tomllib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..base.downloads import cache_folder, fetch
from ..base.errors import DataError, unknown
from ..base.progress import bar
from ..base.schemas import SchemaFault, fault
from ..method.samples import ToolSample, tool_name
from .file_formats import hub_rows, read_rows
from .own_rows import own_row, own_rows
from .own_turns import OWN, own_turn_row
from .row_formats import hermes_row, openai_row, seal_row, toolace_row, toolrl_row, xlam_row
from .tool_schemas import NO_SCHEMA, UNPARSABLE, RowDropped


@dataclass(frozen=True)
class Source:
    """Where a data set lives and how it is read; its entry in sources.toml.

    Attributes:
        convert: converter of `row_formats`.
        licence: what its owners give it under.
        files: pinned web addresses: the file of rows, then the files it needs beside it. Or else:
        hub, revision, config: id on the Hugging Face Hub, commit, and name of the subset if there are several.
            A source with neither files nor hub is a format for files of one's own.
        calls: False for a source whose right answer is to call nothing.
    """

    convert: Callable
    licence: str
    files: list = ()
    hub: str = ""
    revision: str = ""
    config: str | None = None
    calls: bool = True

    @property
    def address(self):
        return self.files[0] if self.files else f"https://huggingface.co/datasets/{self.hub}/tree/{self.revision}"


CONVERTERS = {
    "toolrl": toolrl_row, "seal-tools": seal_row, "toolace": toolace_row, "xlam": xlam_row,
    "xlam-irrelevance": xlam_row, "hermes": hermes_row, "openai": openai_row, "own": own_row, "own-turns": own_turn_row,
}  # fmt: skip
_LISTED = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
SOURCES = {name: Source(convert, **_LISTED[name]) for name, convert in CONVERTERS.items()}


@dataclass(frozen=True)
class LoadReport:
    """What `load_samples` found.

    Attributes:
        dropped: reason -> number of rows, of those that were read.
        source, licence: name of the data set and the licence its owners give.
        address: where the rows were read from, a web address or a local path.
        first: reason -> the first row dropped for it, in short.
    """

    samples: list
    dropped: dict
    source: str
    licence: str
    address: str
    first: dict = field(default_factory=dict)

    def __str__(self):
        test = sum(s.split == "test" for s in self.samples)
        kept = f"{len(self.samples) - test} train + {test} test samples"
        lost = _told(self.dropped, self.first)
        return f"{self.source} ({self.licence}): {kept} from {self.address}; dropped: {lost}"


def _told(dropped, first):
    return ", ".join(f"{n} {why} (first: {first[why]})" for why, n in dropped.items()) or "none"


def load_samples(source, path=None, limit=None, seed=0, no_call=False):
    """Load one public data set, or a file of your own in its form -> `LoadReport`.

    Gold calls are checked against the whole of their tools' schemas; a row that breaks one is dropped under the first
    keyword it breaks. Of the rows of ToolRL and Seal-Tools that break none in a single argument, no keyword over
    several (`required`, `oneOf`, ...) dropped any of 1,180 tried.

    Args:
        source: a name in `SOURCES`.
        path: local file in the data set's own format (`.json`, `.jsonl` or `.parquet`; of "own" the Python file of the
            tools); None fetches the files of a GitHub source into the cache, and streams a Hub source.
        limit: stop at this many samples, the first ones of the source; None reads all of it.
        seed: for seal-tools' distractors; the split does not depend on it.
        no_call: also keep rows that list tools and whose answer calls none, as the family "no-call": there it is right
            to call nothing.

    Raises:
        DataError: unknown source, file absent or unreadable, address out of reach, or no row survived.
    """
    if source not in SOURCES:
        raise DataError(unknown("data source", source, SOURCES))
    if limit is not None and limit < 1:
        raise DataError(f"limit is {limit}; give the number of samples to keep, or none for all")
    spec = SOURCES[source]
    if path is None and not (spec.files or spec.hub):
        raise DataError(f"{source!r} is a form for rows of your own; give their file with --data-path (path=...)")
    file = Path(path) if path is not None else None
    if file is None and spec.files:
        file, *_ = [fetch(url, cache_folder("data", source)) for url in spec.files]
    address = spec.address if path is None else str(path)
    if source == "seal-tools":
        try:
            catalogue = {tool["api_name"]: tool for tool in read_rows(file.with_name("tool.jsonl")) if tool}
        except (KeyError, TypeError):
            raise DataError(f"{file.with_name('tool.jsonl')}: a row is no tool with an api_name") from None
    rows = read_rows(file) if file else hub_rows(spec.hub, spec.revision, spec.config)
    convert, own = spec.convert, source in OWN
    if own:
        rows, no_call = own_rows(file), True  # who writes a row without a call means it
    if source == "own-turns":
        convert = own_turn_row(file)

    def sample(index, row):
        # One generator per row: its distractors do not depend on the rows before it.
        extra = (catalogue, random.Random(f"{seed}-{index}")) if source == "seal-tools" else ()
        asked, tools, calls = convert(row, *extra)
        _check_calls(tools, calls, spec.calls, no_call)
        messages = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
        if not messages[-1]["content"].strip():
            raise RowDropped("empty question")
        split = split_of("\n".join(m["content"] for m in messages if m["role"] == "user"))
        split = row.get("split", split) if own else split
        family = source if calls or not spec.calls else "no-call"
        return ToolSample(f"{source}-{index:06d}", family, messages, tools, calls, split)

    samples, dropped, first = convert_rows(bar(rows, f"rows of {source}"), sample, address, source, limit)
    return LoadReport(samples, dropped, source, spec.licence, address, first)


def convert_rows(rows, convert, address, source, limit=None):
    """The rows that can be used -> (samples, {reason: number of rows dropped}, {reason: its first row, in short}).

    Args:
        convert: function (index, row) -> `ToolSample`; it may raise `RowDropped`, or any of `UNPARSABLE`.
        address, source: named if there is none.
        limit: stop at so many samples.

    Raises:
        DataError: no row can be used.
    """
    samples, dropped, first = [], Counter(), {}
    for index, row in enumerate(rows):
        try:
            samples.append(convert(index, row))
        except (RowDropped, *UNPARSABLE) as error:
            reason, *more = error.args if isinstance(error, RowDropped) else ["unparsable row"]
            dropped[reason] += 1
            shown = [*more, "not JSON" if row is None else f"{row!r:.90}"]
            first.setdefault(reason, f"row {index + 1}, {': '.join(shown)}")
        if len(samples) == limit:
            break
    if not samples:
        told = f"dropped: {_told(dropped, first)}" if dropped else "it is empty"
        raise DataError(f"{address}: no usable row of {sum(dropped.values())} as {source}; {told}")
    return samples, dict(dropped), first


def no_call_sample(sample, others, rng):
    """The same question with tools that do not fit it -> `ToolSample` whose right answer is to call nothing, or None.

    It offers as many tools as before, drawn with `rng` from those of `others`; none has the name of a tool that the
    sample offered. (A tool of another name that could answer all the same is not recognised.) Its id ends in
    "-no-call" and its family is "no-call", so that logs count it apart.

    Args:
        others: samples of the same split. None is returned where their tools have too few other names.
    """
    own, tools = {tool_name(tool) for tool in sample.tools}, {}
    for _ in range(30 * len(sample.tools)):
        tool = rng.choice(rng.choice(others).tools)
        if tool_name(tool) not in own:
            tools.setdefault(tool_name(tool), tool)
        if len(tools) == len(sample.tools):
            name = f"{sample.id}-no-call"
            return replace(sample, id=name, family="no-call", tools=list(tools.values()), calls=[])
    return None


def split_of(query):
    """ "train" or "test" (one in five) by a hash of the query's text alone.

    Equal queries fall on the same side, in every version of the data. The ratio is our assumption.
    """
    digest = hashlib.sha256(query.strip().encode()).digest()
    return "test" if int.from_bytes(digest[:8], "big") % 5 == 0 else "train"


def _check_calls(tools, calls, wanted, no_call):
    """Raise `RowDropped` for a row whose gold no model could reach that keeps to what the prompt shows."""
    if not tools:
        raise RowDropped("row without tools")
    parameters = {t["function"]["name"]: t["function"]["parameters"] for t in tools}
    if len(parameters) != len(tools):
        raise RowDropped("two tools of one name")
    if bool(calls) != wanted and (calls or not no_call):
        raise RowDropped("row without a call" if wanted else "row with a call")
    for call in calls:
        if call["name"] not in parameters:
            raise RowDropped("call to an unlisted tool", unknown("tool", call["name"], parameters))
        schema = parameters[call["name"]]
        if "additionalProperties" not in schema:  # then an argument that no part of it lists is none of the tool's
            schema = {"unevaluatedProperties": False} | schema
        if error := _broken(schema, call["arguments"]):
            told, keyword = f"{call['name']}: {error.message:.120}", error.validator
            if keyword == "unevaluatedProperties":
                raise RowDropped("argument its tool does not list", told)
            raise RowDropped(f"gold that breaks its tool's schema: {keyword}", told)


def _broken(schema, arguments):
    """The first error of arguments, or None; a null at fault is taken out of them, in place.

    Arrow's rows, exported as JSON, give every struct the keys of all others, with null for absent. Where the schema
    allows null, it stays, and so it does where a call gives it to an argument of its tool: somebody may have meant it.
    """
    try:
        while (error := fault(schema, arguments)) and _took_null_out(error, arguments):
            pass
    except SchemaFault:
        raise RowDropped(NO_SCHEMA) from None
    return error


def _took_null_out(error, arguments):
    """Take the nulls at which an error of the schema points out of the object that holds them -> were there any?"""
    place, path = arguments, list(error.absolute_path)
    for step in path[:-1] if error.instance is None else path:
        place = place[step]
    if error.instance is None:
        nulls = path[-1:]
    elif error.validator in ("additionalProperties", "unevaluatedProperties"):
        listed = error.schema.get("properties", {})
        nulls = [name for name, value in place.items() if value is None and name not in listed]
    else:
        return False
    if not isinstance(place, dict) or (place is arguments and error.instance is None):
        return False
    for name in nulls:
        del place[name]
    return bool(nulls)
