"""Effects, verdicts and endings, against made-up runs whose answers are known."""


import matplotlib.pyplot as plt
import pytest
from test_studies import fake_run

from toolexpander_lite.base.runs import find_runs
from toolexpander_lite.studies.paper import NOT_RUN, Comparison, outcome
from toolexpander_lite.studies.statistics import EDGE, LITTLE, ROLLOUTS, verdict
from toolexpander_lite.studies.study_figures import plot_panels


def effect(tmp_path, ours, theirs, value="zero_shot_hard"):
    return outcome(tmp_path, Comparison(f"study/{ours}", f"study/{theirs}", value))


def test_an_effect_is_the_mean_of_paired_differences(tmp_path):
    study = tmp_path / "runs" / "study"
    for seed, (base, part) in enumerate([(0.0, 0.5), (0.2, 1.0), (0.1, 0.4)]):
        fake_run(study / "grpo", seed, base)
        fake_run(study / "part", seed, part)
    fake_run(study / "part", 7, 0.0)  # no partner: does not count
    fake_run(study / "other", 9, 0.0)  # no seed in common at all
    found = effect(tmp_path, "part", "grpo")
    assert found["seeds"] == 3 and found["ours"] == pytest.approx(1.9 / 3) and found["theirs"] == pytest.approx(0.1)
    # Differences .5, .8, .3: no resample of the three has a mean outside of .3 to .8.
    assert found["differences"] == pytest.approx((0.5, 0.8, 0.3)) and found["verdict"] == "leaning"
    assert found["gain"] == pytest.approx(1.6 / 3) and 0.3 <= found["low"] < found["gain"] < found["high"] < 0.81
    easy = effect(tmp_path, "part", "grpo", "zero_shot_easy")
    assert easy["gain"] == 0 and easy["verdict"] == "could not be tested here"
    assert effect(tmp_path, "other", "grpo")["verdict"] == effect(tmp_path, "not there", "grpo")["verdict"] == NOT_RUN


def test_rollouts_saved_are_a_gain_and_a_seed_that_never_arrives_counts_as_the_whole_run(tmp_path):
    study = tmp_path / "runs" / "study"
    for seed in range(5):
        fake_run(study / "paid", seed, 1.0, curve=[(0, 0.0), (4000, 0.95)])
        fake_run(study / "unpaid", seed, 0.2 if seed == 0 else 1.0, curve=[(0, 0.0), (9000, 0.9)][: 1 + (seed > 0)])
        fake_run(study / "never", seed, 0.2)
        fake_run(study / "nor-this", seed, 0.8)
    found = effect(tmp_path, "paid", "unpaid", ROLLOUTS)
    assert found["differences"] == (19200 - 4000, *[9000 - 4000] * 4)
    assert found["ours"] == 4000 and found["theirs"] == (19200 + 4 * 9000) / 5
    assert found["verdict"] == "seen" and effect(tmp_path, "unpaid", "paid", ROLLOUTS)["verdict"] == "reversed"
    assert effect(tmp_path, "nor-this", "never", ROLLOUTS)["verdict"] == "could not be tested here"


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
