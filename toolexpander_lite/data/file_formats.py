"""The rows of a data set, one by one: out of a local file, or streamed from the Hugging Face Hub."""

import json
from datetime import date

import pyarrow
import pyarrow.parquet

from ..base.downloads import cache_folder
from ..base.errors import DataError


def read_rows(file):
    """Rows of a `.json`, `.jsonl`, `.parquet` or `.arrow` file, one by one; what cannot be read as one becomes None.

    A `.json` or `.jsonl` file holds a list of rows, or a row on each line.

    Raises:
        DataError: the file is absent, of another kind, damaged or cut short.
    """
    readers = {".json": _text_rows, ".jsonl": _text_rows, ".parquet": _parquet_rows, ".arrow": _arrow_rows}
    if not file.is_file():
        raise DataError(f"no file {file}; put it there, or give another path; without one the data set is fetched")
    if file.suffix not in readers:
        raise DataError(f"{file} is none of {', '.join(readers)}; give the data set's file as its owners publish it")
    try:
        yield from readers[file.suffix](file)
    except (OSError, UnicodeDecodeError, pyarrow.ArrowException) as error:
        raise _damaged(file, f"cannot be read ({error})") from None


def _damaged(file, problem):
    own = file.absolute().is_relative_to(cache_folder("data").absolute())
    mend = "it is the kit's own copy: delete it, and it is fetched again" if own else "get a whole copy of it"
    return DataError(f"{file} {problem}; {mend}")


def _text_rows(file):
    cut, first = False, True
    with file.open(encoding="utf-8-sig", newline="\n") as lines:  # some editors put a mark before the text
        for line in filter(str.strip, lines):
            if first and line.lstrip().startswith("["):
                yield from _list_rows(file, line + lines.read())
                return
            if cut:
                yield None
            first = False
            try:
                row, cut = json.loads(line, parse_int=_integer), False
            except (json.JSONDecodeError, RecursionError):
                cut = True
                continue
            yield row
    if cut:  # a broken line among others is a bad row, but the last one tells of a file that was cut
        raise _damaged(file, "ends in a line that is not JSON: it is cut short, or holds neither a list nor lines")


def _list_rows(file, text):
    try:
        yield from json.loads(text, parse_int=_integer)
    except (json.JSONDecodeError, RecursionError):
        raise _damaged(file, "is not a JSON list of rows; it may be cut short") from None


def _integer(digits):
    """An integer, or what is no JSON data where it has more digits than Python reads (4,300)."""
    return int(digits) if len(digits) < 4_300 else float("nan")


def _parquet_rows(file):
    for batch in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=256):
        yield from _batch_rows(batch)


def _arrow_rows(file):
    with pyarrow.memory_map(str(file)) as source:
        for batch in pyarrow.ipc.open_stream(source):
            yield from _batch_rows(batch)


def _batch_rows(batch):
    for row in batch.to_pylist():
        yield {field.name: _without_filling(row[field.name], field.type, json.loads) for field in batch.schema}


def _without_filling(value, kind, read_json):
    """A value out of Arrow as it stands in JSON lines: there a struct has all the keys of its kind, null for absent.

    Args:
        kind: its Arrow type.
        read_json: what makes data of a value of the type "json" (`datasets` keeps mixed objects so).
    """
    if value is None or kind is None:
        return value
    if getattr(kind, "extension_name", "") == "arrow.json":
        return read_json(value)
    if pyarrow.types.is_struct(kind):
        fields = ((field.name, _without_filling(value.get(field.name), field.type, read_json)) for field in kind)
        return {name: part for name, part in fields if part is not None}
    if pyarrow.types.is_map(kind):
        return {name: _without_filling(part, kind.item_type, read_json) for name, part in value}
    if pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind) or pyarrow.types.is_fixed_size_list(kind):
        return [_without_filling(part, kind.value_type, read_json) for part in value]
    return value


def _holds_time(value):
    """Is a date somewhere in a row's value? JSON has none: `datasets` made it of a text that looks like one."""
    if isinstance(value, dict | list):
        return any(map(_holds_time, value.values() if isinstance(value, dict) else value))
    return isinstance(value, date)


def hub_rows(name, revision, config=None):
    """Rows of the train split of a Hub data set at one commit; only as much is downloaded as is asked for.

    Raises:
        DataError: the Hub is out of reach, knows no such data set, or wants its licence accepted first.
    """
    import datasets  # late: it takes seconds, and a wrong name is to be refused before

    page = f"https://huggingface.co/datasets/{name}"
    try:
        rows = datasets.load_dataset(name, config, revision=revision, split="train", streaming=True)
        features = getattr(rows, "features", None)
        kinds = {field.name: field.type for field in features.arrow_schema} if features else {}
        for row in rows:  # its values of the type "json" are data already
            if _holds_time(row):
                dates = ", ".join(name for name, value in row.items() if _holds_time(value))
                raise TypeError(f"its reader makes times of dates, in {dates}, and loses their text")
            yield {n: _without_filling(v, kinds.get(n), lambda value: value) for n, v in row.items()} if kinds else row
    except Exception as error:  # the Hub client, its HTTP library and Arrow have no base class in common
        if "gated" in str(error).lower():
            problem = f"{name} is gated: accept its licence on {page}, then log in with `hf auth login` or set HF_TOKEN"
        elif isinstance(error, datasets.exceptions.DatasetNotFoundError):
            problem = f"the Hub has no {name} at commit {revision} ({error}); see {page}"
        else:
            problem = f"cannot stream {name} from the Hub ({type(error).__name__}: {error}); try again"
        raise DataError(f"{problem}; or give its file, downloaded from {page}, with --data-path (path=...)") from None
