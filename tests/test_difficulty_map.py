"""The map over bases of many difficulties: where a base lies, and how each recipe ends on it."""

import json

import pytest

from toolexpander_lite.base.errors import RunError
from toolexpander_lite.studies.report import map_lines
from toolexpander_lite.studies.statistics import map_cells, map_table
from toolexpander_lite.studies.study_figures import plot_map


def a_run(folder, variant, seed, alone, helped, hard):
    run = folder / variant / f"seed-{seed}"
    run.mkdir(parents=True)
    before = {"gold_prob_hard": alone, "few_shot_prob_hard": helped, "zero_shot_hard": 0.0}
    rows = [{"step": 0, "eval": before}, {"step": 1, "rollouts": 1200, "eval": {**before, "zero_shot_hard": hard}}]
    (run / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (run / "config.json").write_text(json.dumps({"seed": seed, "learning_rate": 1e-3}))
    (run / "summary.json").write_text(json.dumps({"rollouts": 1200, "zero_shot_hard": hard}))


@pytest.fixture
def drawn(tmp_path):
    for seed, hard in enumerate((0.0, 0.5, 1.0)):
        a_run(tmp_path, "grpo-code0.02-follow0.9", seed, 1e-3, 0.8, 0.0)
        a_run(tmp_path, "hard_sampling-code0.02-follow0.9", seed, 1e-3, 0.8, hard)
        a_run(tmp_path, "grpo-code0.2-follow0.9", seed, 1e-2, 0.9, 1.0)
    return tmp_path


def test_bases_from_easy_to_hopeless_with_the_lucky_successes_to_expect(drawn):
    cells = map_cells(map_table(drawn))
    assert list(cells.base) == ["code0.2-follow0.9", "code0.02-follow0.9"]
    # 1200 rollouts, 8 of 12 families hard: 800 of them, so 800 * P(gold) right ones by luck.
    assert list(cells.lucky) == pytest.approx([8.0, 0.8])
    easy, hard = cells.to_dict("records")
    assert (easy["grpo"], hard["grpo"], hard["hard_sampling"], hard["seeds"]) == (1.0, 0.0, 0.5, 3)
    assert hard["hard_sampling_low"] == 0.0 and hard["hard_sampling_high"] == 1.0
    assert easy["hard_sampling"] != easy["hard_sampling"]  # not run there: nan, not 0


def test_the_picture_puts_each_base_where_it_was_measured(drawn):
    figure = plot_map(map_table(drawn))
    left, right = figure.axes[:2]
    assert (left.get_title(), right.get_title()) == ("grpo", "hard_sampling")
    shown = {text.get_text(): text.get_position() for text in left.texts}
    assert shown == {"1.00": pytest.approx((1e-2, 0.9)), "0.00": pytest.approx((1e-3, 0.8))}
    assert [text.get_text() for text in right.texts] == ["0.50"]


def test_markdown_has_a_row_per_base_and_says_what_was_not_run(drawn):
    lines = map_lines(drawn)
    assert lines[0].endswith("| grpo | hard_sampling |")
    assert lines[2] == "| `code0.2-follow0.9` | 1e-02 | 0.9 | 8 | 1.00 (1.00-1.00) | not run |"
    assert lines[3] == "| `code0.02-follow0.9` | 1e-03 | 0.8 | 0.8 | 0.00 (0.00-0.00) | 0.50 (0.00-1.00) |"


def test_a_map_without_runs_is_an_error(tmp_path):
    with pytest.raises(RunError, match="no complete run"):
        map_table(tmp_path)
