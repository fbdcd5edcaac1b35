"""Readers: a path, in any of the forms people have, to a `Log`.

Every text form ends in the same place: a list of {name: value}. Nothing is evaluated, and what is no number is left
out, so a log may be cut, mixed with other output, or hostile.
"""

import json
import math
import re
import sqlite3
import struct
from pathlib import Path

import numpy as np
import pandas as pd

from ..base.errors import RunError
from ..base.runs import has_file, read_json, read_jsonl
from .columns import is_metric, plain, standard_table
from .log import Log

MOST_ROWS = 50_000  # of longer logs, every k-th row is read
LONG = 20_000_000  # bytes of JSON that are parsed as one value
_PAIR_IN_DICT = re.compile(r"""["']([^"'\n]{1,80})["']\s*:\s*(?:"([^"]*)"|'([^']*)'|([^,}\s)]+))""")
_NUMBER = r"[-+]?(?:\d[\d_]*\.?\d*(?:[eE][-+]?\d+)?|\.\d+|nan|NaN|inf)"
_PAIR = re.compile(rf"([A-Za-z_][\w./@+-]*)\s?[=:]\s*({_NUMBER})(?:\s*(?:±|\+/-)\s*({_NUMBER}))?(?![\w.]\w)")
_STEP = re.compile(r"\[?\b(step|epoch|iteration)\b[ :=#]*(\d+(?:\.\d+)?)", re.I)
_NOISE = re.compile(r"\x1b\[[0-9;]*m|\((?:TaskRunner|WorkerDict|main_task)[^)]*\)|np\.float\d+\(")


def read(source):
    """Anything a log may be -> `Log`.

    Args:
        source: a `Log`; a DataFrame; a list of dicts; or the path of a run directory (the kit's, packed or not, or
            TRL's), trainer_state.json, a completions parquet or a folder of them, a JSON, JSON lines, CSV or parquet
            table, a trackio .db, a TensorBoard event file, or the console output of TRL, Unsloth, verl or your own.

    Raises:
        RunError: nothing there, or nothing in it that a GRPO run logs.
    """
    if isinstance(source, Log):
        return source
    if isinstance(source, pd.DataFrame):
        log = _log(source, "a table")
        for name, beside in (("loss", "learning_rate"), ("grad_norm", "learning_rate"), ("grad_norm", "loss")):
            if {name, beside} <= set(log.table):  # they are logged together: a gap beside the other was a NaN
                lost = log.table[name].isna() & np.isfinite(log.table[beside])
                log.table[name] = log.table[name].mask(lost, np.inf)
        return log
    if isinstance(source, list):
        return _log(_frame(source, "the list"), "a list of rows")
    path = Path(source)
    if has_file(path / "log.jsonl") and has_file(path / "config.json"):  # others name a log so, too
        return _kit_run(path)
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        raise RunError(f"there is nothing at {path}; give a run directory or the file of a log")
    if not path.stat().st_size:
        raise RunError(f"{path} is empty: nothing was logged yet, or it was cut")
    return _file(path)


def _kit_run(run):
    rows = read_jsonl(run / "log.jsonl")
    for row in rows:
        for name, value in row.get("eval", {}).items():
            if isinstance(value, (int, float)):
                row[f"eval/{name}"] = value
    config = read_json(run / "config.json") if has_file(run / "config.json") else {}
    known = config.get("profile", {}) | config.get("recipe", {}) | {"learning_rate": config.get("learning_rate")}
    rows = [row for row in rows if "loss" in row or "eval" in row]
    log = _log(_frame(rows, run), "a run of this kit", known)
    if has_file(run / "rollouts.jsonl"):
        log.groups = read_jsonl(run / "rollouts.jsonl")
    return log


def _folder(folder):
    """A run directory of TRL's, or any folder that holds one kind of log."""
    states = sorted(folder.glob("**/trainer_state.json"), key=lambda p: (p.stat().st_mtime, len(str(p))))
    events = sorted(folder.glob("**/events.out.tfevents*"))
    texts = sorted(folder.glob("**/completions_*.parquet"))
    log = None
    if states:
        log = _only(max(states, key=lambda p: p.stat().st_size), states)
    elif events:
        log = _log(_frame([row for file in events for row in _events(file)], folder), "TensorBoard events")
    elif tables := sorted(folder.glob("*.csv")):
        frames = [_csv(file) for file in tables]
        merged = frames[0]
        for frame in frames[1:]:
            key = next((c for c in frame if plain(c) == "step"), None)
            merged = merged.merge(frame, how="outer", on=key) if key in merged else merged
        log = _log(merged, f"{len(tables)} CSV files")
    elif files := [f for kind in "jsonl json db parquet log txt".split() for f in sorted(folder.glob(f"*.{kind}"))]:
        if not texts or files[0] not in texts:
            log = _only(files[0], files)
    if texts:
        found = pd.concat([pd.read_parquet(file) for file in texts], ignore_index=True)
        log = log or _log(_from_texts(found), "a folder of completions")
        log.texts = found
    if log is None:
        raise RunError(f"{folder} holds no log that the doctor knows (trainer_state.json, *.csv, events, ...)")
    return log


def _only(file, files):
    """One of several logs of a folder -> `Log`, which says so."""
    log = _file(file)
    if len(files) > 1:
        log.notes.append(f"The folder holds {len(files)} such files; this is {file}.")
    return log


def _file(path):
    with path.open("rb") as file:
        head = file.read(4096)
    if head[:4] == b"PAR1":
        return _parquet(path)
    if head[:15] == b"SQLite format 3":
        return _trackio(path)
    if "tfevents" in path.name:
        return _log(_frame(_events(path), path), "TensorBoard events")
    if path.suffix == ".wandb":
        raise RunError(f"{path} is wandb's own binary form; export the run's history as CSV and give that")
    if b"\0" in head:
        raise RunError(f"{path} is binary and of no kind the doctor knows; give a text log, CSV, JSON or parquet")
    names = head.split(b"\n", 1)[0].decode("utf-8", "replace").split(",")
    if path.suffix in (".csv", ".tsv") or len(names) > 2 and any(map(is_metric, names)):
        return _log(_csv(path), "a CSV table", path=path)
    rows, kind, notes = _rows_of_text(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    log = _log(_frame(rows, path), kind, path=path)
    log.notes += notes
    return log


def _rows_of_text(data):
    """Text of unknown form -> (rows, what it is, notes)."""
    if re.match(rb'\s*(\[\s*)?\{\s*"', data) and (rows := (found := _rows_of_json(data))[0]):
        return rows, "JSON (trainer_state.json, or an export)", found[1]
    lines = data.splitlines()
    every = -(-len(lines) // MOST_ROWS)
    last = lines[-1].strip() if lines else b""
    notes = ["It is cut: its last line has no end."] if last[:1] == b"{" and last[-1:] != b"}" else []
    if every > 1:
        notes.append(f"{len(lines):,} lines; one in {every} was read.")
        lines = lines[:5] + lines[5::every]  # a table's header, and evenly from there
    lines = [_NOISE.sub("", line.decode("utf-8", "replace")) for line in lines]
    if table := _table_rows(lines):
        return table, "a progress table", notes
    return _merged([row for line in lines if (row := _row_of_line(line))]), "console output or JSON lines", notes


def _rows_of_json(data):
    """One JSON value -> (rows, notes); of one that is cut, or long, the innermost objects; no rows if JSON lines."""
    try:
        json.loads(data.lstrip().split(b"\n", 1)[0])
        if b"\n" in data.strip():
            return [], []
    except (ValueError, RecursionError):
        pass
    try:
        value = json.loads(data) if len(data) < LONG else None
    except (ValueError, RecursionError):
        value = None
    if value is None:
        inner = re.findall(rb"\{[^{}]{5,}\}", data)
        every = -(-len(inner) // MOST_ROWS) or 1
        texts = (text.decode("utf-8", "replace").replace("\n", " ") for text in inner[::every])
        notes = ["It is long; not every row was read."] if every > 1 else []
        notes += [] if data.rstrip()[-1:] in b"]}" else ["It is cut: its end is missing."]
        return [row for text in texts if (row := _row_of_line(text))], notes
    if isinstance(value, dict) and not isinstance(value.get("log_history"), list):
        lists = {k: v for k, v in value.items() if isinstance(v, list) and v}
        if lists and len(set(map(len, lists.values()))) == 1 and not isinstance(next(iter(lists.values()))[0], dict):
            return [dict(zip(lists, row)) for row in zip(*lists.values())], []  # {"reward": [...], "loss": [...]}
        return next((v for v in lists.values() if isinstance(v[0], dict)), []), []
    return value["log_history"] if isinstance(value, dict) else value, []


def _row_of_line(line):
    """One line of a console or of JSON lines -> {name: value}; {} when it holds nothing of training."""
    row = {}
    if "{" in line:
        try:
            value = json.loads(line)
            row = value if isinstance(value, dict) else {}
        except (ValueError, RecursionError):
            pairs = _PAIR_IN_DICT.findall(line[line.index("{") :])
            row = {name: next((v for v in values if v), "") for name, *values in pairs}
    if not row:
        for name, value, spread in _PAIR.findall(line):
            row.setdefault(name, value)
            if spread:
                row[f"{name}_std"] = spread
    if row and (step := _STEP.search(line)) and not {plain(name) for name in row} & {"step", "epoch", "global_step"}:
        row[step[1].lower().replace("iteration", "step")] = step[2]
    return row if any(map(is_metric, row)) or sum("reward" in str(name) for name in row) else {}


def _table_rows(lines):
    """Unsloth's progress table, as text with | or tabs between cells, or as HTML -> rows; [] when there is none."""
    if any("<th" in line for line in lines[:2000]):
        html = re.sub(r"</t[hd]>\s*", "|", " ".join(lines))
        lines = [re.sub(r"<[^>]+>", "", row) for row in html.split("</tr>")]
    rows, header = [], None
    for line in lines:
        cells = [cell.strip() for cell in re.split(r"\||\t", line.strip().strip("|"))]
        if len(cells) < 3:
            continue
        if plain(cells[0]) in ("step", "epoch") and any(map(is_metric, cells)):
            header = cells
        elif header and len(cells) == len(header) and re.fullmatch(r"[\d./]+", cells[0]):
            rows.append(dict(zip(header, (cell.replace(",", "") for cell in cells))))
    return rows


def _merged(rows):
    """Neighbouring rows of one step that hold different things (verl's validation, say) are one row."""
    merged = []
    for row in rows:
        same = merged and "step" in row and str(merged[-1].get("step")) == str(row["step"])
        if same and not (merged[-1].keys() & row.keys()) - {"step", "epoch"}:
            merged[-1] |= row
        else:
            merged.append(row)
    return merged


def _csv(path):
    try:
        frame = pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", keep_default_na=False, na_values=[""],
                            on_bad_lines="skip", low_memory=False)  # fmt: skip
    except (ValueError, OSError) as error:
        raise RunError(f"{path} is no CSV table ({str(error).splitlines()[0]})") from error
    if {"Wall time", "Step", "Value"} <= set(frame.columns):  # TensorBoard's export of one curve, named by its file
        tag = re.split(r"tag[-_]", path.stem)[-1].replace("train_", "", 1)
        frame = frame[["Step", "Value"]].rename(columns={"Value": tag if is_metric(tag) else tag.replace("_", "/", 1)})
    return frame


def _parquet(path):
    try:
        frame = pd.read_parquet(path)
    except (ValueError, OSError) as error:
        raise RunError(f"{path} is no whole parquet file ({str(error).splitlines()[0]})") from error
    if {"completion", "advantage"} <= set(frame.columns):
        log = _log(_from_texts(frame), "completions that TRL logged")
        log.texts = frame
        return log
    if "metrics" in frame:
        frame = _frame([json.loads(text) for text in frame["metrics"].dropna()], path)
    return _log(frame, "a parquet table", path=path)


def _from_texts(texts):
    """Completions -> what the rewards alone tell of each step."""
    rewards = [c for c in texts.select_dtypes("number").columns if c not in ("step", "advantage")]
    frame = texts.groupby("step")[rewards].mean().reset_index()
    frame["reward"] = frame[rewards].sum(axis=1)
    return frame.rename(columns={name: f"rewards/{name}/mean" for name in rewards})


def _trackio(path):
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as base:
            rows = base.execute("SELECT run_name, step, metrics FROM metrics ORDER BY id").fetchall()
    except sqlite3.Error as error:
        raise RunError(f"{path} is no trackio project ({error})") from error
    runs = list(dict.fromkeys(name for name, _, _ in rows))
    kept = [json.loads(text) | {"_step": step} for name, step, text in rows if name == runs[-1]]
    log = _log(_frame(kept, path), "a trackio project", path=path)
    if len(runs) > 1:
        log.notes.append(f"It holds {len(runs)} runs; this is the last, {runs[-1]}.")
    return log


def _events(path):
    """A TensorBoard event file -> rows, one per step. Reads the records and the four fields needed, no more."""
    data, place, rows = path.read_bytes(), 0, {}
    while place + 12 <= len(data):
        size = struct.unpack_from("<Q", data, place)[0]
        record = data[place + 12 : place + 12 + size]
        place += 16 + size
        event = dict(_fields(record))
        for number, value in _fields(event.get(5, b"")):
            scalar = dict(_fields(value)) if number == 1 else {}
            if 1 in scalar and 2 in scalar:
                row = rows.setdefault(event.get(2, 0), {"step": event.get(2, 0)})
                row[scalar[1].decode("utf-8", "replace")] = struct.unpack("<f", scalar[2])[0]
    return list(rows.values())


def _fields(message):
    """Top-level fields of a protocol buffer -> (number, int or bytes); stops where the bytes end early."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        if kind == 0:
            value, place = _varint(message, place)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, place = message[place : place + size], place + size
        elif kind == 2:
            size, place = _varint(message, place)
            value, place = message[place : place + size], place + size
        else:
            return
        if place > len(message):
            return
        yield key >> 3, value


def _varint(message, place):
    value = shift = 0
    while place < len(message) and shift < 70:
        value |= (message[place] & 127) << shift
        place, shift = place + 1, shift + 7
        if message[place - 1] < 128:
            break
    return value, place


def _frame(rows, source):
    rows = [row for row in rows if isinstance(row, dict)]
    if not rows:
        raise RunError(f"{source} holds no row of a training log (nothing called reward, loss, kl, ...)")
    rows = [row for row in rows if "train_runtime" not in row]
    plain_values = ({k: v for k, v in row.items() if not isinstance(v, (dict, list))} for row in rows)
    return pd.DataFrame({k: math.inf if v != v else v for k, v in row.items()} for row in plain_values)  # it was logged


def _log(frame, kind, settings=None, path=None):
    """Anyone's names -> `Log`; rows without a number of training are left out."""
    notes = []
    if len(frame) > 2 * MOST_ROWS:
        every = -(-len(frame) // MOST_ROWS)
        notes.append(f"{len(frame):,} rows; one in {every} was read.")
        frame = frame.iloc[::every]
    table = standard_table(frame)
    metrics = [c for c in table if c not in ("step", "epoch", "tokens")]
    table = table.dropna(subset=metrics, how="all") if metrics else table.iloc[:0]
    if "reward" not in table and "loss" in table and "part/" not in " ".join(table) and len(table.columns) < 4:
        notes.append("Only a loss is logged: of a GRPO run that says next to nothing.")
    if not len(table) or not set(metrics) - {"eval"}:
        where = f"{path}: " if path else ""
        if named := [name for name in map(str, frame.columns) if is_metric(name)]:
            raise RunError(f"{where}no number stands under {', '.join(named[:6])}")
        names = ", ".join(ascii(str(name)[:40])[1:-1] for name in list(frame.columns)[:6]) or "none"
        raise RunError(f"{where}none of its columns is of a GRPO run (reward, loss, kl, ...); it has {names}")
    return Log(table, kind, {k: v for k, v in (settings or {}).items() if v is not None}, notes=notes)
