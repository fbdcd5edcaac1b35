"""Scores of several models side by side: what is read, how arms are compared, what is missing."""

import json

import matplotlib.pyplot as plt
import pytest

from toolexpander_lite.base.errors import RunError
from toolexpander_lite.base.intervals import share_interval
from toolexpander_lite.studies.scoreboard import (
    difference,
    load_scores,
    over_warm_start,
    plot_scoreboard,
    scoreboard,
    scoreboard_lines,
    warm_start_lines,
)

IDS = [f"q{n}" for n in range(10)]


def put(folder, model, right=(), asked=10, held_out=None, executed=None, irrelevance=None, formed=1.0):
    """Leave what an evaluation leaves."""
    place = folder / "evaluations" / model
    (place / "bfcl").mkdir(parents=True)
    scores = {"answered": asked, "correct": len(right), "items_per_second": 2.0, "well_formed": formed,
              "right": sorted(right)}  # fmt: skip
    parts = {"simple_python": scores}
    if irrelevance is not None:
        parts["irrelevance"] = scores | {"correct": len(irrelevance), "right": sorted(irrelevance)}
    (place / "bfcl" / "scores.json").write_text(json.dumps(parts))
    if held_out:
        told = {"questions": held_out[1], "zero_shot": held_out[0] / held_out[1]}
        (place / "held_out.json").write_text(json.dumps(told))
    if executed:
        rows = ({"id": f"t{n}", "reason": reason} for n, reason in enumerate(executed))
        (place / "executed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def folder(tmp_path):
    put(tmp_path, "base", held_out=(1, 3), executed=["ok", "no_call"])
    put(tmp_path, "warm-start-seed-0", IDS[:2])
    put(tmp_path, "grpo-seed-0", IDS[:3])
    put(tmp_path, "grpo-seed-1", IDS[:2])
    put(tmp_path, "toolexpander-seed-0", IDS[:8])
    put(tmp_path, "toolexpander-seed-1", IDS[1:9])
    put(tmp_path, "toolexpander-seed-0-plain", IDS[:1])
    return tmp_path


def test_form_stands_beside_irrelevance(tmp_path):
    """A model that has fallen apart is right wherever no call is wanted; the last column gives it away."""
    put(tmp_path, "grpo-seed-0", right=IDS[:2], irrelevance=IDS[:3], formed=0.9)
    put(tmp_path, "grpo-seed-1", right=(), irrelevance=IDS, formed=0.05)
    table = scoreboard(load_scores(tmp_path)).set_index("model")
    assert list(table["well formed"]) == ["90%", "5%"]
    assert table["BFCL irrelevance"]["grpo-seed-1"].startswith("10 of 10")


def test_names_tell_arm_seed_and_invitation(folder):
    scores = load_scores(folder)
    told = {s.model: (s.arm, s.seed) for s in scores.itertuples()}
    assert told == {
        "base": ("base", -1), "warm-start-seed-0": ("warm-start", 0), "grpo-seed-0": ("grpo", 0),
        "grpo-seed-1": ("grpo", 1), "toolexpander-seed-0": ("toolexpander", 0),
        "toolexpander-seed-1": ("toolexpander", 1), "toolexpander-seed-0-plain": ("toolexpander-plain", 0),
    }  # fmt: skip
    row = scores[(scores.model == "grpo-seed-0") & (scores.part == "BFCL simple_python")].iloc[0]
    assert (row.correct, row.asked, row.low, row.high) == (3, 10, *share_interval(3, 10))
    parts = scores[scores.model == "base"].set_index("part")
    assert parts.correct.to_dict() == {"held out": 1, "BFCL simple_python": 0, "executed": 1}
    assert parts.asked.to_dict() == {"held out": 3, "BFCL simple_python": 10, "executed": 2}


def test_the_table_has_every_model_in_order_and_says_what_was_not_run(folder):
    table = scoreboard(load_scores(folder)).set_index("model")
    assert list(table.index[:3]) == ["base", "warm-start-seed-0", "grpo-seed-0"] and len(table) == 7
    assert table.loc["grpo-seed-0", "executed"] == "not run"
    assert table.loc["toolexpander-seed-0", "BFCL simple_python"] == "8 of 10 (0.49-0.94)"


def test_a_difference_is_taken_question_by_question(folder):
    found = difference(load_scores(folder), "BFCL simple_python", "toolexpander", "grpo")
    # By question, seeds averaged: q0 -1/2, q1 0, q2 1/2, q3-q7 1, q8 1/2, q9 0; mean (5 + 1/2) / 10.
    assert found["mean"] == pytest.approx(0.55) and found["seeds"] == 2
    assert (found["ours"], found["theirs"]) == pytest.approx((0.8, 0.25))
    assert 0.1 < found["low"] < 0.4 < 0.7 < found["high"] <= 1
    reverse = difference(load_scores(folder), "BFCL simple_python", "grpo", "toolexpander")
    assert reverse["mean"] == -found["mean"] and reverse["low"] == pytest.approx(-found["high"], abs=0.05)
    only = difference(load_scores(folder), "BFCL simple_python", "toolexpander-plain", "grpo")
    assert only["seeds"] == 1 and only["mean"] == pytest.approx(-0.2)


def test_the_lines_tell_the_runs_the_difference_and_the_speed(folder, tmp_path):
    lines = scoreboard_lines(folder)
    assert "no trained arm yet" in lines[0] and "difference +55.0 points" in lines[0] and "aim was +5" in lines[0]
    assert "Answered: 2.00 to 2.00 questions a second" in lines[0]
    table = [line for line in lines if line.startswith("| ")][2:]  # after the one over the warm start
    assert (
        len(table) == 1 + 7 and table[0].startswith("| model | held out |") and table[1].startswith("| `base` | 1 of")
    )
    pairs = {"all rows against bfcl:multiple": {"rows": [90, 200], "exact": [1, 2], "near": [3, 4]}}
    (folder / "contamination.json").write_text(json.dumps({"source": "toolrl", "twins": pairs}))
    twins = "- Questions with a twin among the rows of `toolrl`: bfcl:multiple: 2 exact, 4 near of 200."
    assert scoreboard_lines(folder)[:3] == [lines[0], twins, ""]
    for seed, seconds in ((0, 3600), (1, 7200)):
        run = folder / "grpo" / f"seed-{seed}"
        run.mkdir(parents=True)
        (run / "config.json").write_text(json.dumps({"seed": seed}))
        (run / "summary.json").write_text(json.dumps({"steps": 60, "rollouts": 1200, "seconds": seconds}))
    assert "`grpo`: 2 seeds, 1,200 rollouts, 1.5 h each)" in scoreboard_lines(folder)[0]
    for file in folder.glob("evaluations/toolexpander*/bfcl/scores.json"):
        file.unlink()
    assert "against `grpo` on BFCL simple_python: not measured yet" in scoreboard_lines(folder)[0]


def test_irrelevance_stands_beside_call_accuracy_in_the_sentence(folder, tmp_path):
    assert "`toolexpander` against `grpo` on BFCL irrelevance: not measured yet" in scoreboard_lines(folder)[0]
    put(tmp_path / "both", "grpo-seed-0", IDS[:3], irrelevance=IDS)
    put(tmp_path / "both", "toolexpander-seed-0", IDS[:8], irrelevance=IDS[:6])
    told = scoreboard_lines(tmp_path / "both")[0]
    calls, quiet = told.index("BFCL simple_python, mean over 1 seed"), told.index("BFCL irrelevance, mean over 1 seed")
    assert "`grpo` 30.0% (30%), `toolexpander` 80.0% (80%)" in told[calls:quiet] and "aim was +5" in told[calls:quiet]
    assert "`grpo` 100.0% (100%), `toolexpander` 60.0% (60%), difference -40.0 points" in told[quiet:]
    assert "to call nothing" in told[quiet:] and "aim" not in told[quiet:]


def test_the_share_of_the_warm_start_is_told(folder, tmp_path):
    """Of the fixture: nothing as it comes, 2 of 10 warm-started, grpo (3 + 2) / 2, toolexpander 8, plain 1."""
    (row,) = over_warm_start(load_scores(folder)).to_dict("records")  # the other parts were not asked of both
    assert (row["part"], row["base"], row["warm-start"]) == ("BFCL simple_python", "0.0%", "20.0%")
    assert row["grpo"].startswith("25.0% (+5.0, +0.0 to ") and row["toolexpander"].startswith("80.0% (+60.0, +")
    assert row["toolexpander-plain"].startswith("10.0% (-10.0, -") and row["toolexpander-plain"].endswith(" to +0.0)")
    lines = warm_start_lines(folder)
    assert lines[2] == "| part | base | warm-start | grpo | toolexpander | toolexpander-plain |"
    assert lines[4].startswith("| `BFCL simple_python` | 0.0% | 20.0% | 25.0% (+5.0, ") and lines[
        0
    ] in scoreboard_lines(folder)
    put(folder, "hint-seed-0", IDS[:3], asked=6)
    (row,) = over_warm_start(load_scores(folder)).to_dict("records")
    assert row["hint"] == "50.0% (+30.0)", "other questions: no interval of a difference by question"
    put(tmp_path / "alone", "grpo-seed-0", IDS[:3])
    assert warm_start_lines(tmp_path / "alone") == warm_start_lines(tmp_path / "none") == []
    for model, right in (("base", 0), ("warm-start-seed-0", 6), ("grpo-seed-0", 9)):
        put(tmp_path / "held", model, held_out=(right, 12))
    told = over_warm_start(load_scores(tmp_path / "held")).set_index("part")
    assert told.loc["held out", "grpo"] == "75.0% (+25.0)", "which ones were right is not on record"


@pytest.mark.parametrize(
    "file, kept",
    [
        ("base/held_out.json", 20),
        ("base/bfcl/scores.json", 20),
        ("base/executed.jsonl", -8),  # within the last line: one task fewer would pass for another benchmark
    ],
)
def test_a_file_that_is_cut_is_named(folder, file, kept):
    path = folder / "evaluations" / file
    path.write_bytes(path.read_bytes()[:kept])
    for read in (load_scores, scoreboard_lines):
        with pytest.raises(RunError, match=f"{file} is cut or holds something else .*score the model again"):
            read(folder)
    path.write_text('{"simple_python": 3}\n')
    with pytest.raises(RunError, match=f"{file} is cut or holds something else"):
        load_scores(folder)


def test_a_category_that_was_asked_as_a_whole_stands_beside_its_draw(tmp_path):
    for arm, drawn, whole in (("grpo", IDS[:3], IDS[:4]), ("toolexpander", IDS[:5], IDS[:5])):
        put(tmp_path, f"{arm}-seed-0", drawn, asked=6)
        file = tmp_path / "evaluations" / f"{arm}-seed-0" / "bfcl" / "scores.json"
        scores = json.loads(file.read_text())["simple_python"] | {"answered": 10, "correct": len(whole), "right": whole}
        (tmp_path / "evaluations" / f"{arm}-seed-0" / "bfcl-whole").mkdir()
        file = tmp_path / "evaluations" / f"{arm}-seed-0" / "bfcl-whole" / "scores.json"
        file.write_text(json.dumps({"simple_python": scores}))
    told = scoreboard_lines(tmp_path)[0]
    drawn, whole = told.index(" BFCL simple_python, mean"), told.index(" BFCL, all of simple_python, mean")
    assert "`grpo` 50.0%" in told[drawn:whole] and "difference +33.3 points" in told[drawn:whole]
    assert "`grpo` 40.0%" in told[whole:] and "difference +10.0 points" in told[whole:] and "a draw of them" in told


def test_a_study_that_has_only_begun_says_nothing(tmp_path):
    assert scoreboard_lines(tmp_path / "none") == []
    (tmp_path / "evaluations" / "base" / "bfcl").mkdir(parents=True)
    assert scoreboard_lines(tmp_path) == []


def test_what_cannot_be_compared_is_one_clear_error(folder, tmp_path):
    scores = load_scores(folder)
    with pytest.raises(RunError, match="no seed of both 'toolexpander' and 'hint'"):
        difference(scores, "BFCL simple_python", "toolexpander", "hint")
    with pytest.raises(RunError, match="no seed of both"):
        difference(scores, "held out", "base", "base")  # which were right is not on record there
    put(folder, "hint-seed-0", IDS[:1], asked=9)
    with pytest.raises(RunError, match="different numbers of questions"):
        difference(load_scores(folder), "BFCL simple_python", "toolexpander", "hint")
    with pytest.raises(RunError, match="no scores below .*smol_runs.py makes them"):
        load_scores(tmp_path / "none")


def test_the_picture_has_a_dot_for_every_score(folder):
    scores = load_scores(folder)
    figure = plot_scoreboard(scores)
    dots = [line for axis in figure.axes for line in axis.lines if line.get_marker() == "o"]
    assert len(dots) == len(scores)
    first = figure.axes[0]
    assert [t.get_text() for t in first.get_yticklabels()][-1] == "base"
    plt.close(figure)
