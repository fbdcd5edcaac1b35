"""The rows of a data set, one by one: out of a local file, or streamed from the Hugging Face Hub."""

import json

import datasets
import pyarrow
import pyarrow.parquet

from ..base.errors import DataError


def read_rows(file):
    """Rows of a `.json` list, `.jsonl` or `.parquet` file, one by one; what cannot be read as one becomes None.

    Raises:
        DataError: the file is absent, of another kind, damaged or cut short.
    """
    readers = {".json": _json_rows, ".jsonl": _jsonl_rows, ".parquet": _parquet_rows}
    if not file.is_file():
        raise DataError(f"no file {file}; put it there, or give another path (None fetches the data set)")
    if file.suffix not in readers:
        raise DataError(f"{file} is none of {', '.join(readers)}; give the data set's file as its owners publish it")
    try:
        yield from readers[file.suffix](file)
    except (OSError, UnicodeDecodeError, pyarrow.ArrowException) as error:
        raise DataError(f"cannot read {file} ({error}); it is damaged: delete it, fetch it again") from None


def _json_rows(file):
    text = file.read_text(encoding="utf-8-sig")  # some editors of Windows put a mark before the text
    try:
        rows = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        rows = None
    except ValueError:
        rows = _rows_without_long_integers(text)
    if not isinstance(rows, list):
        raise DataError(f"{file} is not a JSON list of rows; it may be cut short: delete it, fetch it again")
    yield from rows


def _rows_without_long_integers(text):
    """A JSON list in which an integer has more digits than Python reads (4,300); a row with such a one becomes None."""
    try:
        rows = json.loads(text, parse_int=_integer)
    except (json.JSONDecodeError, RecursionError):  # cut short on top of that
        return None
    return [row if _is_json(row) else None for row in rows] if isinstance(rows, list) else None


def _integer(digits):
    try:
        return int(digits)
    except ValueError:
        return object()  # which is no JSON data


def _is_json(row):
    try:
        json.dumps(row)
    except TypeError:
        return False
    return True


def _jsonl_rows(file):
    cut = False
    with file.open(encoding="utf-8-sig", newline="\n") as lines:
        for line in filter(str.strip, lines):
            if cut:
                yield None
            try:
                row, cut = json.loads(line), False
            except (json.JSONDecodeError, RecursionError):
                cut = True
                continue
            except ValueError:  # an integer of more digits than Python reads
                row, cut = None, False
            yield row
    if cut:  # a broken line among others is a bad row, but the last one tells of a download that stopped
        raise DataError(f"{file} is cut short: its last line is not JSON; delete it, fetch it again")


def _parquet_rows(file):
    for batch in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=256):
        yield from batch.to_pylist()


def hub_rows(name, revision, config=None):
    """Rows of the train split of a Hub data set at one commit; only as much is downloaded as is asked for.

    Raises:
        DataError: the Hub is out of reach, knows no such data set, or wants its licence accepted first.
    """
    page = f"https://huggingface.co/datasets/{name}"
    try:
        yield from datasets.load_dataset(name, config, revision=revision, split="train", streaming=True)
    except Exception as error:  # the Hub client, its HTTP library and Arrow have no base class in common
        if "gated" in str(error).lower():
            problem = f"{name} is gated: accept its licence on {page}, then log in with `hf auth login` or set HF_TOKEN"
        elif isinstance(error, datasets.exceptions.DatasetNotFoundError):
            problem = f"the Hub has no {name} at commit {revision} ({error}); see {page}"
        else:
            problem = f"cannot stream {name} from the Hub ({type(error).__name__}: {error}); try again"
        raise DataError(f"{problem}; or give its file, downloaded from {page}, as path=...") from None
