"""Packed runs hold what the plain ones held, to the last value and its type, and are read by the same functions."""

import json
import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolexpander_lite.__main__ import main
from toolexpander_lite.base import run_tables
from toolexpander_lite.base.errors import RunError
from toolexpander_lite.base.run_tables import compare, pack_study
from toolexpander_lite.base.runs import find_runs, has_file, load_study, read_json, read_jsonl, read_log

LOG = [
    {"step": 0, "eval": {"zero_shot": 0.5, "families": {"a": None}}, "seconds": 0.0},
    {"step": 1, "loss": math.nan, "reward": 0.1 + 0.2, "grad": 1e-323, "lr": 0.0, "note": "tab\tand \U0001f600"},
    {"step": 2, "loss": None, "reward": -0.0, "grad": math.inf, "lr": 1, "flag": True, "id": 2**53 + 1},
    {"step": 3, "reward": 5.0, "lr": True, "flag": False, "id": 2**70, "half": "\ud800", "list": [1, 1.0, True, None]},
]


def write_run(study, arm="a", seed=0, log=LOG, **summary):
    run = study / arm / f"seed-{seed}"
    run.mkdir(parents=True)
    (run / "config.json").write_text(json.dumps({"seed": seed, "learning_rate": 1e-3, "recipe": {"beta": 0.0}}))
    (run / "summary.json").write_text(json.dumps({"zero_shot": 0.5, "stalled": False, **summary}))
    (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log))
    return run


def exact(value):
    """A value with its type; NaN equals NaN, and 1, 1.0 and True are three values."""
    if isinstance(value, dict):
        return {name: exact(part) for name, part in value.items()}
    return [exact(part) for part in value] if isinstance(value, list) else (type(value), repr(value))


def test_runs_of_ones_own_are_a_table_too(tmp_path):
    write_run(tmp_path / "out", "again", 3).rename(tmp_path / "out" / "mine")
    table = load_study(tmp_path / "out")
    assert table["variant"].tolist() == ["mine"] and table["seed"].tolist() == [3]
    with pytest.raises(RunError, match="no complete run below .*absent"):
        load_study(tmp_path / "absent")


def test_every_value_comes_back_as_it_was(tmp_path):
    runs = [write_run(tmp_path / "study", arm, seed) for arm, seed in (("b", 10), ("b", 2), ("a", 0))]
    (runs[0] / "rounds.jsonl").write_text('{"round": 1, "states": {"f": "hs"}}\n')
    (runs[1] / "final").mkdir()
    (runs[1] / "final" / "model.safetensors").write_text("weights")
    before, table = find_runs(tmp_path / "study"), load_study(tmp_path / "study")
    assert pack_study(tmp_path / "study") == 3
    assert not runs[0].exists() and (runs[1] / "final" / "model.safetensors").exists(), "what is no log stays"
    assert find_runs(tmp_path / "study") == before and [run.name for run in before["b"]] == ["seed-2", "seed-10"]
    pd.testing.assert_frame_equal(load_study(tmp_path / "study"), table)
    for run in runs:
        assert exact(read_log(run)) == exact(LOG)
        assert exact(read_json(run / "summary.json")) == exact({"zero_shot": 0.5, "stalled": False})
    assert has_file(runs[0] / "rounds.jsonl") and not has_file(runs[2] / "rounds.jsonl")
    assert read_jsonl(runs[0] / "rounds.jsonl") == [{"round": 1, "states": {"f": "hs"}}]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)
names = st.sampled_from(["step", "x", "eval/y", ""])


@given(st.lists(st.dictionaries(names, values), min_size=1, max_size=4))
def test_any_record_that_json_can_write_survives(tmp_path_factory, log):
    run = write_run(tmp_path_factory.mktemp("any"), log=log)
    plain = read_log(run)
    pack_study(run.parents[1])
    assert exact(read_log(run)) == exact(plain)


def test_columns_are_of_their_type_for_other_readers(tmp_path):
    write_run(tmp_path / "study")
    pack_study(tmp_path / "study")
    table = pd.read_parquet(tmp_path / "study" / "log.parquet")
    assert table["run"].tolist() == ["a/seed-0"] * 4 and table["step"].dtype == "int64"
    assert table["reward"].dtype == "float64" and json.loads(table["eval"][0])["zero_shot"] == 0.5


def test_later_runs_join_those_that_are_packed(tmp_path):
    first = write_run(tmp_path / "study", seed=0)
    pack_study(tmp_path / "study")
    second = write_run(tmp_path / "study", seed=1, log=[{"step": 0, "new": 1}], collapsed=True)
    assert find_runs(tmp_path / "study") == {"a": [first, second]}, "one packed, one plain"
    assert pack_study(tmp_path / "study") == 1 and pack_study(tmp_path / "study") == 0
    assert exact(read_log(first)) == exact(LOG) and read_log(second) == [{"step": 0, "new": 1}]
    assert "collapsed" not in read_json(first / "summary.json")


def test_a_packed_run_is_not_overwritten_by_another_of_its_name(tmp_path):
    run = write_run(tmp_path / "study")
    pack_study(tmp_path / "study")
    write_run(tmp_path / "study", zero_shot=0.9)
    with pytest.raises(RunError, match="seed-0/summary.json differs from what .*summary.parquet holds"):
        pack_study(tmp_path / "study")
    assert read_json(run / "summary.json")["zero_shot"] == 0.9, "the folder is still there, and read first"
    assert main(["pack", str(tmp_path / "study")]) == 2


@pytest.mark.parametrize("text", ['{"step": 0}\n{"st', "", "[1]\n", '{"run": 1}\n'])
def test_a_cut_log_is_not_packed(tmp_path, text):
    run = write_run(tmp_path / "study")
    (run / "log.jsonl").write_text(text)
    with pytest.raises(RunError, match="log.jsonl is"):
        pack_study(tmp_path / "study")
    assert (run / "log.jsonl").read_text() == text and (run / "config.json").exists()


def test_files_go_only_when_the_tables_hold_them(tmp_path, monkeypatch):
    run = write_run(tmp_path / "study")
    real = run_tables._records
    monkeypatch.setattr(run_tables, "_records", lambda table: [row | {"step": 7} for row in real(table)])
    with pytest.raises(RunError, match="does not hold what .*config.json holds"):
        pack_study(tmp_path / "study")
    assert {file.name for file in run.iterdir()} == {"config.json", "summary.json", "log.jsonl"}


def test_one_changed_digit_is_found(tmp_path, capsys):
    for folder in ("old", "new"):
        write_run(tmp_path / folder / "study", log=[{"step": 1, "reward": 0.1}])
    pack_study(tmp_path / "new" / "study")
    words = ["pack", str(tmp_path / "new" / "study"), "--compare", str(tmp_path / "old")]
    assert main(words) == 0 and "3 files, every value as in" in capsys.readouterr().out
    for other in ("0.10000000000000002", "null", "NaN"):
        log = tmp_path / "old" / "study" / "a" / "seed-0" / "log.jsonl"
        log.write_text(f'{{"step": 1, "reward": {other}}}\n')
        with pytest.raises(RunError, match="log.jsonl does not hold"):
            compare([log], tmp_path / "new" / "study")


def test_a_damaged_table_is_named(tmp_path):
    run = write_run(tmp_path / "study")
    pack_study(tmp_path / "study")
    (tmp_path / "study" / "log.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(RunError, match="log.parquet is not a table of runs"):
        read_log(run)
