"""A study's runs in a few compressed tables, read as if each run were still a folder of its own.

    STUDY/<arm>/seed-<n>/log.jsonl   ->   STUDY/log.parquet, a row per line; its column `run` holds "<arm>/seed-<n>"

and so for each of `PACKED`; a `.json` file is one row. Any Parquet reader opens the tables (pandas, R, DuckDB). A field
that is a number, a text or a yes or no throughout the study is a column of that type; any other (an evaluation, a
recipe) is a column of JSON text. An empty cell is a field that the record does not have.
"""

import json
from functools import lru_cache
from pathlib import Path

from .errors import RunError

PACKED = ("config.json", "summary.json", "log.jsonl", "rounds.jsonl", "rollouts.jsonl", "scans.jsonl")


def packed_rows(path):
    """The records of STUDY/<arm>/seed-<n>/<file> in the study's table -> list of dicts; None when it holds none."""
    path = Path(path)
    if path.name not in PACKED or len(path.parts) < 4:
        return None
    table, places = _table(path.parents[2] / f"{path.stem}.parquet")
    place = places.get(f"{path.parents[1].name}/{path.parent.name}")
    return None if place is None else _records(table.slice(*place))


def packed_runs(study):
    """Complete runs in a study's tables -> list of paths STUDY/<arm>/seed-<n>, which need not be on the disk."""
    return [Path(study, name) for name in _table(Path(study) / "summary.parquet")[1]]


def pack_study(study):
    """Move the complete runs below a study's folder into its tables -> number of runs moved.

    Everything is read back and compared with the files before those are deleted. Weights, checkpoints and what else
    lies in a run's folder stay where they are; so do runs without a summary.

    Raises:
        RunError: a run is in the tables already with other values, a file is cut or empty, or a value does not
            survive the tables. The files are all still there.
    """
    study = Path(study)
    files = sorted(run / name for run in {s.parent for s in study.glob("*/seed-*/summary.json")} for name in PACKED)
    files = [file for file in files if file.exists()]
    for name in PACKED:
        new = {f"{f.parents[1].name}/{f.parent.name}": _file_rows(f) for f in files if f.name == name}
        target = study / f"{Path(name).stem}.parquet"
        table, places = _table(target)
        old = {run: _records(table.slice(*place)) for run, place in places.items()}
        for run in set(old) & set(new):
            if _canonical(old[run]) != _canonical(new[run]):
                raise RunError(
                    f"{study / run / name} differs from what {target} holds; rename the folder, and both are kept"
                )
        if new:
            _write(target, old | new)
    compare(files)
    for file in files:
        file.unlink()
    for run in {file.parent for file in files}:
        for folder in (run, run.parent):
            if not any(folder.iterdir()):
                folder.rmdir()
    return len({file.parent for file in files})


def compare(files, study=None):
    """Compare every value of runs' files with a study's tables.

    Args:
        files: .../<arm>/seed-<n>/<file> each.
        study: folder of the tables; None takes that of each file.

    Raises:
        RunError: a value differs, or its type (1, 1.0 and true are three values; NaN, null and an absent field, too).
    """
    for file in map(Path, files):
        place = Path(study or file.parents[2], *file.parts[-3:])
        if _canonical(packed_rows(place) or []) != _canonical(_file_rows(file)):
            raise RunError(f"the table of {place} does not hold what {file} holds")


def _file_rows(file):
    """Records of a file that is complete -> list of dicts, at least one."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.suffix == ".jsonl" else [file.read_bytes()]
    try:
        rows = [json.loads(line) for line in lines]
    except ValueError as error:
        raise RunError(f"{file} is cut or damaged ({error}); make this run again before it is packed") from error
    if not rows or not all(isinstance(row, dict) and "run" not in row for row in rows):
        raise RunError(f"{file} is empty or holds something else than records, and cannot be packed")
    return rows


def _canonical(rows):
    return json.dumps(rows, sort_keys=True)


def _write(target, runs):
    """{run: records} -> Parquet file at `target`, whole or not at all. The same runs give the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    runs = dict(sorted(runs.items(), key=lambda item: (item[0].rsplit("-", 1)[0], len(item[0]), item[0])))
    rows = [row for records in runs.values() for row in records]
    columns = [pa.array([run for run, records in runs.items() for _ in records], pa.string())]
    fields = [pa.field("run", pa.string())]
    for name in dict.fromkeys(name for row in rows for name in row):  # by name over all rows: not every row has all
        kind = _kind(row[name] for row in rows if name in row)
        if kind:
            values = [row.get(name) for row in rows]
        else:
            values = [json.dumps(row[name]) if name in row else None for row in rows]
        columns.append(pa.array(values, kind or pa.string()))
        fields.append(pa.field(name, columns[-1].type, metadata=None if kind else {"format": "json"}))
    part = target.with_name(target.name + ".part")
    table = pa.Table.from_arrays(columns, schema=pa.schema(fields))
    parquet.write_table(table, part, compression="zstd", compression_level=19)
    part.replace(target)


def _kind(values):
    """The Arrow type that holds all these values as they are; None when only JSON text does."""
    import pyarrow as pa

    values = list(values)
    types = set(map(type, values))
    kind = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}.get(types.pop())
    if kind is None or types:
        return None
    try:
        return pa.array(values, kind).type
    except (UnicodeEncodeError, OverflowError):  # half of a surrogate pair, which JSON can write; more than 64 bits
        return None


def _table(file):
    """A Parquet file -> (table, {run: (first row, number of rows)}); (None, {}) where there is none."""
    try:
        return _read(str(file), file.stat().st_mtime_ns)
    except (FileNotFoundError, NotADirectoryError):
        return None, {}


@lru_cache(maxsize=64)
def _read(file, changed):
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        table = parquet.read_table(file, partitioning=None).combine_chunks()
        names = table.column("run").to_pylist()
    except (pa.ArrowInvalid, KeyError, OSError) as error:
        raise RunError(f"{file} is not a table of runs ({error}); git checkout restores a committed one") from error
    places = {}
    for row, name in enumerate(names):
        first, count = places.get(name, (row, 0))
        places[name] = (first, count + 1)
    return table, places


def _records(table):
    rows = [{} for _ in range(table.num_rows)]
    for field, column in zip(table.schema, table.columns):
        if field.name == "run" or column.null_count == len(rows):
            continue
        decode = json.loads if field.metadata else None
        for row, value in zip(rows, column.to_pylist()):
            if value is not None:
                row[field.name] = decode(value) if decode else value
    return rows
