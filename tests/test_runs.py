import json

import matplotlib.pyplot as plt
import numpy as np
import pytest

from toolexpander_lite.base.collapse import collapse_mechanism, has_collapsed, has_stalled, summarize
from toolexpander_lite.base.runs import RunError, find_runs, load_study, read_log
from toolexpander_lite.evaluation.executed import EPISODE_REASONS
from toolexpander_lite.method.calls import REASONS
from toolexpander_lite.studies.run_figures import (
    REASON_LOOKS,
    curve,
    on_one_grid,
    plot_groups,
    plot_training,
    smooth,
)
from toolexpander_lite.studies.study_figures import draw_race
from toolexpander_lite.training.resume import LEFT_BY_A_RUN, check_folder


def write_run(folder, zero_shot, hard=None, reasons=None):
    """A run directory by hand: one evaluation per step."""
    folder.mkdir(parents=True)
    rows = []
    for step, score in enumerate(zero_shot):
        rows.append({
            "step": step, "reward": score, "groups/all_fail": 0.5, "groups/all_pass": 0.25, "rollouts": 10 * step,
            "completion_tokens": step, "prompt_tokens": step, "seconds": float(step),
            "eval": {"zero_shot": score, "zero_shot_hard": (hard or zero_shot)[step],
                     "families": {"a": score, "b": 0.0}, "reasons": (reasons or [{}] * 99)[step]},
        })  # fmt: skip
    (folder / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "config.json").write_text(json.dumps({"seed": int(folder.name[5:]), "learning_rate": 1e-3}))
    (folder / "summary.json").write_text(json.dumps(summarize(folder)))
    return folder


@pytest.mark.parametrize(
    "scores, stalled", [([0, 0.5], False), ([0, 0.04], True), ([0.2, 0.6, 0.2], True), ([0.3, 0.36], False)]
)
def test_stall_is_no_gain_from_first_to_last(scores, stalled):
    assert has_stalled(scores) is stalled


@pytest.mark.parametrize("scores, collapsed", [([0.2, 0.6, 0.29], True), ([0.2, 0.6, 0.31], False), ([0, 0], False)])
def test_collapse_is_half_of_the_own_peak(scores, collapsed):
    assert has_collapsed(scores) is collapsed


def test_summary_of_a_hand_made_run(tmp_path):
    run = write_run(tmp_path / "grpo" / "seed-3", [0.2, 0.6, 0.2], hard=[0.0, 0.0, 0.02])
    summary = json.loads((run / "summary.json").read_text())
    assert summary == {
        "rollouts": 20,
        "completion_tokens": 2,
        "prompt_tokens": 2,
        "seconds": 2.0,
        "steps": 2,
        "zero_shot": 0.2,
        "zero_shot_hard": 0.02,
        "peak_zero_shot": 0.6,
        "stalled": True,
        "collapsed": True,
    }


def test_mechanism_names_the_reason_that_grew_most(tmp_path):
    reasons = [{"ok": 0.2}, {"ok": 0.6, "wrong_argument": 0.4}, {"ok": 0.1, "wrong_argument": 0.3, "truncated": 0.6}]
    run = write_run(tmp_path / "grpo" / "seed-0", [0.2, 0.6, 0.1], reasons=reasons)
    assert collapse_mechanism(run) == ("truncated", pytest.approx(0.6))


def test_study_table_keeps_every_seed_in_order(tmp_path):
    for seed in (10, 2):
        write_run(tmp_path / "grpo" / f"seed-{seed}", [0.1, 0.2])
    write_run(tmp_path / "other" / "seed-0", [0.1, 0.2])
    (tmp_path / "grpo" / "seed-99").mkdir()  # in progress: no summary yet
    table = load_study(tmp_path)
    assert table["variant"].tolist() == ["grpo", "grpo", "other"] and table["seed"].tolist() == [2, 10, 0]
    assert [f.name for f in find_runs(tmp_path)["grpo"]] == ["seed-2", "seed-10"]
    with pytest.raises(RunError, match="no complete run"):
        load_study(tmp_path / "grpo" / "seed-99")


def test_half_written_line_is_left_out(tmp_path):
    run = write_run(tmp_path / "grpo" / "seed-0", [0.1, 0.2])
    with (run / "log.jsonl").open("a") as file:
        file.write('{"step": 2, "rew')
    assert [row["step"] for row in read_log(run)] == [0, 1]


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("name", LEFT_BY_A_RUN)
def test_what_is_left_of_a_run_without_its_config_is_not_overwritten(name, resume, tmp_path):
    (tmp_path / name).write_text("precious")
    with pytest.raises(RunError, match=f"holds {name} of a run, but not its config.json.*choose another folder"):
        check_folder(tmp_path, {}, resume)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(name, "precious")]


def test_files_of_ones_own_do_not_keep_a_run_away(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    check_folder(tmp_path, {}, resume=False)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_smooth_is_a_running_mean():
    assert smooth([1.0, 2.0, 6.0, 4.0], 2).tolist() == [1.0, 1.5, 4.0, 5.0]


def test_plots_draw_the_numbers_of_the_log(tmp_path):
    one = write_run(tmp_path / "grpo" / "seed-0", [0.1, 0.3, 0.5])
    two = write_run(tmp_path / "grpo" / "seed-1", [0.3, 0.5])  # a run that is still going
    assert curve(one, "eval/zero_shot")[1].tolist() == [0.1, 0.3, 0.5]
    assert curve(one, "reward", x="rollouts")[0].tolist() == [0, 10, 20]
    figure = plot_training({"grpo": [one, two]}, {"eval/zero_shot": "zero-shot"})
    mean = [line for line in figure.axes[0].lines if line.get_linewidth() == 2][0]
    assert mean.get_ydata().tolist() == pytest.approx([0.2, 0.4, 0.5])
    assert plot_groups({"grpo": [one, two]}).axes[0].get_title() == "grpo (2 seeds)"


def test_means_over_seconds_keep_the_last_value_of_a_seed_that_has_ended():
    curves = [(np.array([0, 2]), np.array([0.0, 1.0])), (np.array([0, 4]), np.array([0.0, 0.5]))]
    grid, table = on_one_grid(curves, "seconds")
    assert grid.tolist() == [0, 2, 4] and table.mean(0).tolist() == [0, 0.625, 0.75]
    assert np.isnan(on_one_grid(curves, "step")[1][0, 2]), "over steps it is left out"


def test_each_reason_has_a_look_of_its_own():
    assert set(REASON_LOOKS) == REASONS.keys() | EPISODE_REASONS.keys()
    assert len(set(REASON_LOOKS.values())) == len(REASON_LOOKS)


def test_race_has_a_dot_where_a_seed_arrives_and_a_cross_past_the_end_where_it_never_does(tmp_path):
    fast = write_run(tmp_path / "a" / "seed-0", [0.0, 0.9, 0.2])  # the first time counts
    slow = write_run(tmp_path / "a" / "seed-1", [0.0, 0.1, 0.95])
    never = write_run(tmp_path / "b" / "seed-0", [0.0, 0.1, 0.8])
    axis = plt.figure().subplots()
    draw_race(axis, {"a": [fast, slow], "b": [never]})
    marks = {line.get_marker(): list(line.get_xdata()) for line in axis.lines if len(line.get_xdata())}
    assert marks["o"] == [10, 20]
    assert len(marks["x"]) == 1 and marks["x"][0] > 20
    assert [label.get_text() for label in axis.get_yticklabels()] == ["b", "a"], "the first on top"
