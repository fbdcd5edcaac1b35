"""Effects, verdicts and endings, against made-up runs whose answers are known."""

import json

import matplotlib.pyplot as plt
import pytest
from test_studies import fake_run

from toolexpander_lite.base.errors import RunError
from toolexpander_lite.base.runs import find_runs
from toolexpander_lite.studies.statistics import (
    EDGE,
    LITTLE,
    ROLLOUTS,
    effects_table,
    effects_with_costs,
    endings_table,
    verdict,
)
from toolexpander_lite.studies.study_figures import IN_WORDS, plot_effects, plot_panels


def test_an_effect_is_the_mean_of_paired_differences(tmp_path):
    for seed, (base, part) in enumerate([(0.0, 0.5), (0.2, 1.0), (0.1, 0.4)]):
        fake_run(tmp_path / "grpo", seed, base)
        fake_run(tmp_path / "part", seed, part)
    fake_run(tmp_path / "part", 7, 0.0)  # no partner: does not count
    fake_run(tmp_path / "other", 9, 0.0)  # no seed in common at all
    table = effects_table(tmp_path, "grpo")
    assert list(table.variant) == ["part"]
    row = table.iloc[0]
    assert row.seeds == 3 and row.ours == pytest.approx(1.9 / 3) and row.theirs == pytest.approx(0.1)
    # Differences .5, .8, .3: no resample of the three has a mean outside of .3 to .8.
    assert row.differences == pytest.approx((0.5, 0.8, 0.3)) and row.verdict == "leaning"
    assert row.gain == pytest.approx(1.6 / 3) and 0.3 <= row.low < row.gain < row.high < 0.81
    assert effects_table(tmp_path, "grpo", []).empty
    easy = effects_table(tmp_path, "grpo", ["part", "not there"], "zero_shot_easy")
    assert len(easy) == 1 and easy.gain.iloc[0] == 0 and easy.verdict.iloc[0] == "could not be tested here"
    with pytest.raises(RunError, match="no complete run of 'set'"):
        effects_table(tmp_path, "set")


def test_a_row_has_its_price(tmp_path):
    for seed in range(3):
        fake_run(tmp_path / "study" / "grpo", seed, 0.2)
        summary = fake_run(tmp_path / "study" / "part", seed, 0.5) / "summary.json"
        summary.write_text(json.dumps(json.loads(summary.read_text()) | {"completion_tokens": 40}))
    fake_run(tmp_path / "study" / "part", 7, 0.9)  # no partner: its 30 tokens do not count
    table = effects_with_costs(tmp_path / "study", [("grpo", ["part", "not there"]), ("nowhere", ["part"])])
    row = table.iloc[0]
    assert len(table) == 1 and (row.arm, row.against, row.seeds) == ("part", "grpo", 3)
    assert row.tokens == 2.0, "20 + 40 against 20 + 10"
    assert row.gain == pytest.approx(0.3)


def test_rollouts_saved_are_a_gain_and_a_seed_that_never_arrives_counts_as_the_whole_run(tmp_path):
    for seed in range(5):
        fake_run(tmp_path / "paid", seed, 1.0, curve=[(0, 0.0), (4000, 0.95)])
        fake_run(tmp_path / "unpaid", seed, 0.2 if seed == 0 else 1.0, curve=[(0, 0.0), (9000, 0.9)][: 1 + (seed > 0)])
        fake_run(tmp_path / "never", seed, 0.2)
        fake_run(tmp_path / "nor-this", seed, 0.8)
    row = effects_table(tmp_path, "unpaid", ["paid"], ROLLOUTS).iloc[0]
    assert row.differences == (19200 - 4000, *[9000 - 4000] * 4)
    assert row.ours == 4000 and row.theirs == (19200 + 4 * 9000) / 5
    assert row.verdict == "seen" and effects_table(tmp_path, "paid", ["unpaid"], ROLLOUTS).verdict[0] == "reversed"
    assert effects_table(tmp_path, "never", ["nor-this"], ROLLOUTS).verdict[0] == "could not be tested here"


def test_forest_plot_draws_every_difference_and_colours_by_verdict(tmp_path):
    for seed in range(5):
        for name, hard in (("grpo", 0.5), ("better", 0.8 + seed / 50), ("worse", 0.1), ("same", 0.5)):
            fake_run(tmp_path / name, seed, hard)
    fake_run(tmp_path / "few", 0, 0.85)
    table = effects_table(tmp_path, "grpo")
    figure = plot_effects({"parts": table})
    axis = figure.axes[0]
    assert [t.get_text() for t in axis.get_yticklabels()] == ["few (1)", "better (5)", "same (5)", "worse (5)"]
    seeds = [line for line in axis.lines if line.get_marker() == "."]
    assert [tuple(line.get_xdata()) for line in seeds] == list(table.differences)
    means = {round(line.get_xdata()[0], 3): line for line in axis.lines if line.get_marker() == "o"}
    assert means[-0.4].get_color() != means[0.34].get_color() != means[0.0].get_color()
    hollow = [line for line in means.values() if line.get_markerfacecolor() == "white"]
    assert hollow == [means[0.35]], "one seed is no verdict"
    assert {t.get_text() for t in figure.legends[0].get_texts()} == {
        IN_WORDS.get(found, found) for found in table.verdict
    }
    plt.close(figure)


def test_panels_draw_what_moves_and_list_what_does_not(tmp_path):
    for seed in range(2):
        fake_run(tmp_path / "grpo", seed, 0.0)
        fake_run(tmp_path / "flat", seed, EDGE)
        fake_run(tmp_path / "learns", seed, seed, curve=[(0, 0.0), (100, 0.5)])
    figure = plot_panels(find_runs(tmp_path), "grpo")
    assert [axis.get_title() for axis in figure.axes if axis.axison] == ["learns (2 seeds)"]
    assert figure.texts[0].get_text() == "grey: grpo (2); not drawn, never above 0.05: flat (2)"
    drawn = {tuple(line.get_ydata()) for line in figure.axes[0].lines}
    assert {(0.0, 0.0), (0.0, 0.5, 1.0), (0.0, 0.5, 0.0)} <= drawn, "the baseline and both seeds"
    plt.close(figure)
    plt.close(plot_panels({name: find_runs(tmp_path)[name] for name in ("grpo", "flat")}, "grpo"))  # nothing moves


def test_endings_average_the_last_batches_and_skip_second_updates(tmp_path):
    run = fake_run(tmp_path / "set", 0, 0.0)
    rows = [
        {"step": n, "rollouts": 160 * n, "entropy": 0.1 * n, "format_rate": 1.0 - 0.1 * n, "groups/all_fail": 0.5,
         "groups/all_pass": 0.1 * n, "completions/mean_length": 10.0 + n} for n in (1, 2, 3)
    ]  # fmt: skip
    rows.insert(2, {"step": 2, "loss": 0.0, "clip_ratio/low_mean": 0.1})
    rows[0]["eval"], rows[-1]["eval"] = {"few_shot_hard": 1.0}, {"few_shot_hard": 0.4}
    (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = json.loads((run / "summary.json").read_text())
    summary |= {"stalled": True, "collapsed": False, "steps": 3}
    (run / "summary.json").write_text(json.dumps(summary))
    row = endings_table(tmp_path, window=2).iloc[0]
    assert (row.seeds, row.stalled, row.collapsed, row.lost) == (1, 1, 0, 1)
    assert row.entropy == pytest.approx(0.25) and row["format"] == pytest.approx(0.75)
    assert row.length == pytest.approx(12.5) and row.uniform == pytest.approx(0.75)


@pytest.mark.parametrize(
    "differences, expects, said",
    [
        ([], "gain", "not run yet"),
        ([0.5, 0.9], "gain", "too few seeds"),
        ([0.5, 0.6, 0.7], "gain", "leaning"),  # three of three: one time in four by chance
        ([0.5, 0.6, 0.7, 0.5], "gain", "leaning"),
        ([0.01, 0.6, 0.7, 0.5, 0.5], "gain", "seen"),
        ([0.0, 0.6, 0.7, 0.5, 0.5], "gain", "leaning"),  # one seed says nothing
        ([-0.1, 0.6, 0.7, 0.5, 0.5], "gain", "leaning"),
        ([-0.1, *[0.5] * 9], "gain", "seen"),  # nine of ten
        ([-0.1, -0.1, *[0.5] * 8], "gain", "leaning"),
        ([-0.5, 0.6, -0.1, 0.1, 0.2], "gain", "not seen"),
        ([0.0] * 5, "gain", "not seen"),
        ([-0.5] * 5, "gain", "reversed"),
        ([-0.5] * 4, "gain", "leaning against"),
        ([LITTLE / 2, -LITTLE / 2, 0.0, 0.0, 0.0], "little", "seen"),
        ([0.0] * 3, "little", "leaning"),
        ([0.2, 0.3, 0.5, 0.2, 0.2], "little", "reversed"),
        ([-0.3] * 5, "little", "reversed"),
        ([-0.3] * 3, "little", "leaning against"),
        ([-0.02, 0.5, 0.0, 0.3, 0.1], "little", "not seen"),
    ],
)
def test_verdicts_by_hand(differences, expects, said):
    assert verdict(differences, 0.6, 0.4, expects) == said


@pytest.mark.parametrize(
    "ours, theirs, tested",
    [(0.0, 0.0, False), (EDGE, 0.0, False), (1.0, 0.97, False), (0.06, 0.0, True), (1.0, 0.0, True), (0.9, 1.0, True)],
)
def test_at_a_floor_or_a_ceiling_nothing_could_be_tested(ours, theirs, tested):
    for expects in ("gain", "little"):
        found = verdict([ours - theirs] * 5, ours, theirs, expects)
        assert (found == "could not be tested here") != tested
    assert verdict([ours - theirs] * 2, ours, theirs) == "too few seeds"
