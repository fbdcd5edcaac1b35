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
    score_table,
    scoreboard_lines,
)

IDS = [f"q{n}" for n in range(10)]


def put(folder, model, right=(), asked=10, held_out=None, executed=None, irrelevance=None, formed=1.0):
    """Leave what an evaluation leaves. `irrelevance`: {kind of answer: ids that BFCL credits where no tool fits}."""
    place = folder / "evaluations" / model
    (place / "bfcl").mkdir(parents=True)
    scores = {"answered": asked, "correct": len(right), "items_per_second": 2.0, "well_formed": formed,
              "right": sorted(right)}  # fmt: skip
    parts = {"simple_python": scores}
    if irrelevance is not None:
        ids = sorted(id for credited in irrelevance.values() for id in credited)
        parts["irrelevance"] = scores | {"correct": len(ids), "right": ids, "earned": irrelevance}
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


def test_what_earned_a_score_stands_beside_it(tmp_path):
    """Of two models that BFCL credits alike where no tool fits one abstains and one has fallen apart."""
    put(tmp_path, "grpo-seed-0", right=IDS[:2], irrelevance={"abstained": IDS[:9], "cut": IDS[9:]}, formed=0.9)
    put(tmp_path, "grpo-seed-1", right=(), irrelevance={"unreadable": IDS[:4], "garbage": IDS[4:]}, formed=0.05)
    table = score_table(load_scores(tmp_path)).set_index("model")
    assert list(table["well formed"]) == ["90%", "5%"]
    assert list(table["BFCL irrelevance"]) == [
        "10 of 10 (0.72-1.00): 9 abstained, 1 cut", "10 of 10 (0.72-1.00): 0 abstained, 4 unreadable, 6 garbage"
    ]  # fmt: skip
    assert not any(column.endswith("abstained") for column in table), "the split is in the cell"
    assert table["BFCL simple_python"]["grpo-seed-0"] == "2 of 10 (0.06-0.51)", "earned by calls: nothing to split"


def test_a_gain_that_is_no_abstention_is_none(tmp_path):
    """The arm that writes more unreadable calls is credited more; its gain in abstentions is a loss."""
    put(tmp_path, "base", irrelevance={"abstained": IDS})
    put(tmp_path, "warm-start-seed-0", irrelevance={"abstained": IDS[:1]})
    put(tmp_path, "grpo-seed-0", irrelevance={"abstained": IDS[:2], "cut": IDS[2:4]})
    put(tmp_path, "toolexpander-seed-0", irrelevance={"unreadable": IDS[:8]})
    scores = load_scores(tmp_path)
    with pytest.raises(RunError, match="not earned by readable calls alone; compare 'BFCL irrelevance, abstained'"):
        difference(scores, "BFCL irrelevance", "toolexpander", "grpo")
    found = difference(scores, "BFCL irrelevance, abstained", "toolexpander", "grpo")
    assert (found["ours"], found["theirs"], found["mean"]) == (0, 0.2, pytest.approx(-0.2))
    rows = over_warm_start(scores).set_index("part")
    assert rows.loc["BFCL irrelevance", "toolexpander"] == "80.0%: 0 abstained, 80.0 unreadable"
    assert rows.loc["BFCL irrelevance", "grpo"] == "40.0%: 20.0 abstained, 20.0 cut"
    assert rows.loc["BFCL irrelevance, abstained", "toolexpander"].startswith("0.0% (-10.0, ")
    told = next(line for line in scoreboard_lines(tmp_path) if "irrelevance" in line)
    assert told.startswith("- **After the warm start fewer answers abstain**")
    assert "`base` 10 of 10 (10 abstained); `warm-start` 1 of 10 (1 abstained)" in told
    assert "`grpo` 4 of 10 (2 abstained, 2 cut); `toolexpander` 8 of 10 (0 abstained, 8 unreadable)" in told
    assert "100% abstain before the warm start, 10% after it, 20% in the best trained arm" in told
    assert "where a call is wanted `base` is right in 0 of 10 (simple_python)" in told
    put(tmp_path / "kept", "base", irrelevance={"abstained": IDS[:3]})
    put(tmp_path / "kept", "warm-start-seed-0", irrelevance={"abstained": IDS[:3]})
    told = next(line for line in scoreboard_lines(tmp_path / "kept") if "irrelevance" in line)
    assert told.startswith("- **Calling nothing where no tool fits**") and "before the warm start" not in told


def test_a_score_without_a_record_of_what_earned_it_says_so(tmp_path):
    for arm in ("grpo", "toolexpander"):
        put(tmp_path, f"{arm}-seed-0", irrelevance={"cut": IDS[:5]})
        file = tmp_path / "evaluations" / f"{arm}-seed-0" / "bfcl" / "scores.json"
        scores = json.loads(file.read_text())
        del scores["irrelevance"]["earned"]  # as the kit wrote it before
        file.write_text(json.dumps(scores))
    scores = load_scores(tmp_path)
    assert set(score_table(scores)["BFCL irrelevance"]) == {"5 of 10 (0.24-0.76): what earned it is not on record"}
    with pytest.raises(RunError, match="not earned by readable calls alone"):
        difference(scores, "BFCL irrelevance", "toolexpander", "grpo")
    assert not any("irrelevance" in line for line in scoreboard_lines(tmp_path)[:2])


def test_other_credit_without_a_call_is_split_too(tmp_path):
    """Held-out rows whose gold is no call, calls of no tool on offer in `live_relevance`, a task solved by nothing."""
    put(tmp_path, "base", held_out=(5, 10), executed=["ok", "ok"])
    place = tmp_path / "evaluations" / "base"
    told = json.loads((place / "held_out.json").read_text())
    (place / "held_out.json").write_text(json.dumps(told | {"no_call": {"rows": 4, "right": 0.75}}))
    scores = json.loads((place / "bfcl" / "scores.json").read_text())
    earned = {"called": IDS[:2], "unknown_tool": IDS[2:3]}
    scores["live_relevance"] = scores["simple_python"] | {"correct": 3, "right": IDS[:3], "earned": earned}
    (place / "bfcl" / "scores.json").write_text(json.dumps(scores))
    said = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "<think>done</think>"}]
    episodes = [{"id": f"t{n}", "reason": "ok", "messages": said, "calls": calls}
                for n, calls in enumerate(([{"reason": "ok"}], []))]  # fmt: skip
    (place / "executed.jsonl").write_text("".join(json.dumps(episode) + "\n" for episode in episodes))
    (row,) = score_table(load_scores(tmp_path)).to_dict("records")
    assert row["held out"].endswith(": 2 called, 3 abstained")
    assert row["BFCL live_relevance"].endswith(": 2 called, 1 unknown tool")
    assert row["executed"].endswith(": 1 called, 1 abstained")


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
    table = score_table(load_scores(folder)).set_index("model")
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
    pairs = {"all rows against bfcl:multiple": {"rows": [90, 200], "exact": [1, 2], "near": [3, 4]},
             "all rows against bfcl:irrelevance": {"rows": [90, 240], "exact": [0, 0], "near": [0, 0]},
             "train split against test split": {"rows": [90, 10], "exact": [0, 0], "near": [0, 0]}}  # fmt: skip
    (folder / "contamination.json").write_text(json.dumps({"source": "toolrl", "twins": pairs}))
    twins = "- Questions with a twin among the rows of `toolrl`: bfcl:multiple: 2 exact, 4 near of 200; "
    twins += "none, exact or near, "
    twins += "of 250 of bfcl:irrelevance, train split against test split."
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


def test_the_share_of_the_warm_start_is_told(folder, tmp_path):
    """Of the fixture: nothing as it comes, 2 of 10 warm-started, grpo (3 + 2) / 2, toolexpander 8, plain 1."""
    (row,) = over_warm_start(load_scores(folder)).to_dict("records")  # the other parts were not asked of both
    assert (row["part"], row["base"], row["warm-start"]) == ("BFCL simple_python", "0.0%", "20.0%")
    assert row["grpo"].startswith("25.0% (+5.0, +0.0 to ") and row["toolexpander"].startswith("80.0% (+60.0, +")
    assert row["toolexpander-plain"].startswith("10.0% (-10.0, -") and row["toolexpander-plain"].endswith(" to +0.0)")
    lines = scoreboard_lines(folder)
    lines = lines[lines.index("") + 1 :]
    assert lines[2] == "| part | base | warm-start | grpo | toolexpander | toolexpander-plain |"
    assert lines[4].startswith("| `BFCL simple_python` | 0.0% | 20.0% | 25.0% (+5.0, ")
    put(folder, "hint-seed-0", IDS[:3], asked=6)
    (row,) = over_warm_start(load_scores(folder)).to_dict("records")
    assert row["hint"] == "50.0% (+30.0)", "other questions: no interval of a difference by question"
    put(tmp_path / "alone", "grpo-seed-0", IDS[:3])
    assert not any("to the warm start" in line for line in scoreboard_lines(tmp_path / "alone"))
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
    put(folder, "hint-seed-0", IDS[:1], irrelevance={"abstained": IDS[:2], "cut": IDS[2:4]})
    scores = load_scores(folder)
    figure = plot_scoreboard(scores)
    dots = [line for axis in figure.axes for line in axis.lines if line.get_marker() == "o"]
    assert len(dots) == len(scores) - 1, "not the one that says little before it is split"
    first = figure.axes[0]
    assert [t.get_text() for t in first.get_yticklabels()][-1] == "base"
    plt.close(figure)
