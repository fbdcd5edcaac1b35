"""Pictures of what our assumptions do, against made-up runs."""

import matplotlib.pyplot as plt
import pytest
from test_studies import fake_run

from toolexpander_lite.studies.plan import read_plan
from toolexpander_lite.studies.statistics import sensitivity_table
from toolexpander_lite.studies.study_figures import assumption_figures, plot_sensitivity
from toolexpander_lite.variants.all_recipes import get_recipe

WORKS = "hard_sampling-kl0"  # what the switches of nano-hard-sampling are switches of
SET = read_plan("nano-sensitivity")


def ticks(figure):
    return [t.get_text() for t in figure.axes[-1].get_xticklabels()]


def test_the_table_reads_field_and_value_from_the_names_the_studies_use(tmp_path):
    for arm in SET.arms:
        fake_run(tmp_path / "nano-sensitivity" / arm.variant, 0, 0.5)
    fake_run(tmp_path / "nano-ablation" / "set", 0, 0.7)
    fake_run(tmp_path / "nano-ablation" / "set-no-bonus", 0, 0.6)
    fake_run(tmp_path / "nano-hard-sampling" / WORKS, 0, 1.0, curve=[(0, 0.0), (8000, 0.9)])
    fake_run(tmp_path / "nano-hard-sampling" / f"{WORKS}-2-demos", 0, 0.2)
    table = sensitivity_table(tmp_path)
    values = {field: list(dict.fromkeys(part["value"])) for (_, field), part in table.groupby(["study", "field"])}
    assert values["learning_rate"] == ["3e-4", "6e-4", "1e-3", "2e-3"], "in order of size"
    assert values["num_generations"] == ["4", "10", "32"] and values["demos"] == ["1", "2"]
    assert values["example_bonus"] == ["0.0", "0.001", "0.01", "0.1"] and values["temperature"] == ["0.7", "1.0", "1.3"]
    ours = table[table.study == "nano-sensitivity"].set_index(["field", "value"]).hard
    as_it_is = [("learning_rate", "6e-4"), ("example_bonus", "0.01"), ("epsilon_high", "0.28"), ("beta", "0.0"),
                ("num_generations", "10"), ("temperature", "1.0")]  # fmt: skip
    assert list(ours[as_it_is]) == [0.7] * 6, "`set` as it is, from the ablation"
    assert ours["example_bonus", "0.0"] == 0.6 and (ours.drop(as_it_is) <= 0.6).all()
    assert len(table) == sum(len(arms) for _, _, arms in SET.compare) + 2, "a field with one value shows nothing"
    one, two = table[table.field == "demos"].itertuples()
    assert (one.hard, one.spent, one.reached) == (1.0, 8000, True)
    assert (two.hard, two.spent, two.reached) == (0.2, 19200, False), "it never reaches 0.9"


def test_the_values_of_set_itself_are_rows_of_the_ablation():
    ablation = {arm.variant: arm for arm in read_plan("nano-ablation").arms}
    assert ablation["set"].set == {} and ablation["set-no-bonus"].set == {"example_bonus": 0.0}
    theirs = {arm for _, _, arms in SET.compare for _, study, arm in arms if study == "nano-ablation"}
    assert theirs == {"set", "set-no-bonus"}
    usual = get_recipe("set")
    for arm in SET.arms:
        same = {**ablation["set"].options, "--learning-rate": arm.options["--learning-rate"]}
        assert arm.options == same and arm.profile == ablation["set"].profile
        changed = {name for name, value in arm.set.items() if value != getattr(usual, name)}
        rate = float(arm.options["--learning-rate"]) != float(ablation["set"].options["--learning-rate"])
        assert len(changed - {"equal_rollouts"}) + rate == 1, "one thing at a time, and never none"


def test_what_is_compared_are_arms_of_the_study():
    plan = read_plan("nano-hard-sampling")
    assert {arm for _, _, arms in plan.compare for _, _, arm in arms} <= {arm.variant for arm in plan.arms}


def test_a_figure_for_each_assumption_that_has_runs(tmp_path):
    assert assumption_figures(tmp_path) == {} and sensitivity_table(tmp_path).empty
    for seed in range(3):
        for variant, rate in ((WORKS, 1e-3), ("hard_sampling-kl0.01", 1e-3), ("hard_sampling", 2e-3)):
            fake_run(tmp_path / "nano-hard-sampling" / variant, seed, 0.5 + seed / 10, rate)
        fake_run(tmp_path / "nano-hard-sampling" / f"{WORKS}-own-demos", seed, 0.0)
        fake_run(tmp_path / "nano-ablation" / "set", seed, 0.9)
        fake_run(tmp_path / "nano-sensitivity" / "set-example_bonus-0.001", seed, 0.9)
    for seed in (100, 101):
        for rate in ("6e-4", "1e-3", "2e-3"):
            fake_run(tmp_path / "nano-lr-search" / f"grpo-lr{rate}", seed, float(rate) * 100, float(rate))
    fake_run(tmp_path / "nano-lr-search" / "hint-lr2e-3", 100, 1.0, 2e-3)  # a search that is not done
    figures = {name: figure for own in assumption_figures(tmp_path).values() for name, figure in own.items()}
    assert set(figures) == {
        "assumption-demo_source", "assumption-beta", "assumption-set-example_bonus", "assumption-learning_rate"
    }  # fmt: skip
    assert ticks(figures["assumption-demo_source"]) == ["gold", "own"]
    assert ticks(figures["assumption-beta"]) == ["0\n(rate 0.001)", "0.01\n(rate 0.001)", "0.04\n(rate 0.002)"]
    assert ticks(figures["assumption-set-example_bonus"]) == ["0.001", "0.01"]
    search = figures["assumption-learning_rate"].axes[0]
    assert [t.get_text() for t in search.get_yticklabels()] == ["grpo"]
    for figure in figures.values():
        width, height = figure.get_size_inches()
        assert width <= 4.5 and height <= 6, "of README size"
        plt.close(figure)


def test_dots_are_seeds_and_crosses_are_seeds_that_never_arrive(tmp_path):
    for seed, late in enumerate((4000, 6000, None)):
        for value in (1, 2):
            variant = WORKS if value == 1 else f"{WORKS}-2-demos"
            reached = [(late, 0.95)] if late else []
            fake_run(tmp_path / "nano-hard-sampling" / variant, seed, 1.0 if late else 0.3, curve=[(0, 0.0), *reached])
    figure = plot_sensitivity(sensitivity_table(tmp_path))
    above, below = figure.axes
    shown = {
        (axis is below, mark): sorted(y for line in axis.lines if line.get_marker() == mark for y in line.get_ydata())
        for axis in (above, below) for mark in ("o", "x")
    }  # fmt: skip
    assert shown[False, "o"] == [0.3, 0.3, 1.0, 1.0, 1.0, 1.0] and shown[False, "x"] == []
    assert shown[True, "o"] == [4.0, 4.0, 6.0, 6.0] and shown[True, "x"] == pytest.approx([19.2, 19.2])
    plt.close(figure)
