"""Effects, endings, sensitivity and verdicts, against made-up runs whose answers are known."""

import json
import math

import matplotlib.pyplot as plt
import pytest
from test_studies import fake_run

from toolexpander_lite.ablation import (
    CLAIMS,
    LITTLE,
    Claim,
    claims_table,
    effects_table,
    endings_table,
    plot_effects,
    plot_sensitivity,
    reproduce_command,
    sensitivity_table,
    verdict,
)
from toolexpander_lite.arms import STUDIES
from toolexpander_lite.errors import RunError
from toolexpander_lite.runs import REPOSITORY, find_runs


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
    assert row.gain == pytest.approx(1.6 / 3) and 0.3 <= row.low < row.gain < row.high < 0.81
    easy = effects_table(tmp_path, "grpo", ["part", "not there"], "zero_shot_easy")
    assert len(easy) == 1 and easy.gain.iloc[0] == 0
    with pytest.raises(RunError, match="no complete run of 'set'"):
        effects_table(tmp_path, "set")


def test_forest_plot_has_a_row_per_variant_coloured_by_its_interval(tmp_path):
    for seed in range(3):
        for name, hard in (("grpo", 0.5), ("better", 0.9), ("worse", 0.1), ("same", 0.5)):
            fake_run(tmp_path / name, seed, hard)
    fake_run(tmp_path / "few", 0, 0.9)
    figure = plot_effects({"parts": effects_table(tmp_path, "grpo")})
    axis = figure.axes[0]
    assert [t.get_text() for t in axis.get_yticklabels()] == ["better (3)", "few (1)", "same (3)", "worse (3)"]
    dots = {round(line.get_xdata()[0], 3): line for line in axis.lines if line.get_marker() == "o"}
    assert dots[-0.4].get_color() == "#c44e52"
    hollow = [line for line in axis.lines if line.get_marker() == "o" and line.get_markerfacecolor() == "white"]
    assert len(hollow) == 1 and hollow[0].get_color() == "#777777", "one seed is no verdict"
    plt.close(figure)


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
    assert row.length == pytest.approx(12.5) and row.no_gradient == pytest.approx(0.75)


def test_sensitivity_reads_field_and_value_from_the_names_the_study_uses(tmp_path):
    for arm in STUDIES["nano-sensitivity"]():
        fake_run(tmp_path / arm.variant, 0, 0.5)
    table = sensitivity_table(tmp_path)
    assert len(table) == len(STUDIES["nano-sensitivity"]())
    found = table.groupby("field")["value"].apply(set).to_dict()
    assert found["learning_rate"] == {"3e-4", "6e-4", "1e-3", "2e-3"} and found["num_generations"] == {"4", "10", "32"}
    figure = plot_sensitivity(table)
    rates = next(axis for axis in figure.axes if axis.get_title() == "learning_rate")
    assert [t.get_text() for t in rates.get_xticklabels()] == ["3e-4", "6e-4", "1e-3", "2e-3"], "in order of size"
    plt.close(figure)


@pytest.mark.parametrize(
    "seeds, low, high, expects, said",
    [
        (0, math.nan, math.nan, "gain", "not run yet"),
        (2, 0.5, 0.9, "gain", "too few seeds"),
        (5, 0.01, 0.9, "gain", "seen"),
        (5, -0.01, 0.9, "gain", "not seen"),
        (5, 0.0, 0.0, "gain", "not seen"),
        (5, -0.5, -0.1, "gain", "reversed"),
        (5, -LITTLE / 2, LITTLE / 2, "little", "seen"),
        (5, 0.2, 0.5, "little", "reversed"),
        (5, -0.5, -0.2, "little", "reversed"),
        (5, -0.02, 0.5, "little", "not seen"),
    ],
)
def test_verdicts_by_hand(seeds, low, high, expects, said):
    assert verdict(seeds, low, high, expects) == said


def test_claims_are_judged_by_their_comparison_and_only_when_it_was_run(tmp_path):
    for seed in range(3):
        fake_run(tmp_path / "study" / "with", seed, 0.9)
        fake_run(tmp_path / "study" / "without", seed, 0.2)
    fake_run(tmp_path / "study" / "elsewhere", 9, 0.9)
    compared = [("study", "with", "without"), ("none", "x", "y"), ("study", "without", "with"),
                ("study", "elsewhere", "with")]  # fmt: skip
    claims = [Claim("a sentence", "abstract", *names) for names in compared]
    table = claims_table(tmp_path, claims)
    assert list(table.verdict) == ["seen", "not run yet", "reversed", "not run yet"]
    assert table.gain[0] == pytest.approx(0.7) and math.isnan(table.gain[1])


def test_every_claim_names_arms_of_a_study():
    for claim in CLAIMS:
        assert {claim.ours, claim.theirs} <= {arm.variant for arm in STUDIES[claim.study]()}, claim.text


def test_the_command_of_a_row_is_the_one_on_record():
    folder = REPOSITORY / "assets" / "runs" / "nano-hard-sampling"
    for variant in find_runs(folder):
        assert f"--out assets/runs/nano-hard-sampling/{variant}/seed-" in reproduce_command(folder, variant)
