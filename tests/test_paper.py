"""The paper's claims and its Table 3 beside made-up runs whose answers are known by hand."""

import json

import pytest

from toolexpander_lite.base.runs import REPOSITORY, load_study
from toolexpander_lite.studies.claims import MEASURED_BY
from toolexpander_lite.studies.paper import (
    PAPER,
    Comparison,
    claims_lines,
    comparisons,
    hard_rows_lines,
    outcome,
)
from toolexpander_lite.studies.plan import has_plan, read_plan
from toolexpander_lite.studies.statistics import HARD_RISES, seed_values
from toolexpander_lite.variants.recipes import RECIPES

NO_RUNS = "not run yet"


def scanned_run(study, arm, seed, before, after, accuracy=0.5, rounds=(), **summary):
    """A run of 100 training rows that scans; `rounds`: hard rows in the scan before each."""
    run = study / arm / f"seed-{seed}"
    run.mkdir(parents=True)
    (run / "config.json").write_text(json.dumps({"seed": seed, "learning_rate": 1e-3, "train_samples": 100}))
    rows = [{"step": 0, "rollouts": 1000}, {"step": 100, "rollouts": 17000, "scan_rollouts": 1000, "task_reward": 0.25}]
    (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [{"states": {"a": "d" * (n - 1) + "p", "b": "s" * (100 - n)}} for n in rounds]
    (run / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = {"rollouts": 17000, "zero_shot": accuracy, "hard_rows_before": before, "hard_rows_after": after}
    (run / "summary.json").write_text(json.dumps(told | {"collapsed": False} | summary))
    return run


def test_the_list_is_the_papers_and_its_arms_can_be_run():
    assert len(PAPER["claims"]) == 15 and all(claim["tests"] for claim in PAPER["claims"])
    for test in [test for claim in PAPER["claims"] for test in comparisons(claim)]:
        for study, _, arm in (name.partition("/") for name in (test.ours, test.theirs) if name):
            if has_plan(study):
                assert arm in {arm.variant for arm in read_plan(study).arms}, test
            elif study.startswith("paper-"):
                assert arm.split("-")[0] in RECIPES, test
        assert test.value in MEASURED_BY and test.expects in ("gain", "little", "no gain", "often")


def test_without_runs_nothing_is_claimed(tmp_path):
    lines = claims_lines(tmp_path)[2:]
    assert len(lines) == sum(len(claim["tests"]) for claim in PAPER["claims"])
    assert all(f"|  | {NO_RUNS} |" in line for line in lines)


def test_fewer_hard_rows_are_a_gain_and_a_missing_arm_is_said_to_be_missing(tmp_path):
    study = tmp_path / "runs" / "paper-t3"
    for seed, (grpo, replace) in enumerate([(40, 20), (50, 30), (45, 30), (41, 25), (43, 20)]):
        scanned_run(study, "paper_grpo", seed, 60, grpo)
        scanned_run(study, "paper_replace", seed, 60, replace, 0.6, collapsed=seed == 0)
    better = outcome(tmp_path, Comparison("paper-t3/paper_replace", "paper-t3/paper_grpo"))
    assert better["gain"] == pytest.approx((20 + 20 + 15 + 16 + 23) / 500) and better["verdict"] == "seen"
    for ours, theirs, said in (("grpo", "replace", "reversed"), ("add", "grpo", NO_RUNS)):
        assert outcome(tmp_path, Comparison(f"paper-t3/paper_{ours}", f"paper-t3/paper_{theirs}"))["verdict"] == said
    third = [line for line in claims_lines(tmp_path) if "`paper_replace` against `paper_grpo`: rows left hard" in line]
    assert len(third) == 1 and "0.250 against 0.438, gain +0.188 (" in third[0] and "5 seeds | seen |" in third[0]
    often = outcome(tmp_path, Comparison("paper-t3/paper_grpo", value="collapsed", expects="often"))
    assert often["verdict"] == "not seen" and (often["ours"], often["seeds"]) == (0, 5)


@pytest.mark.parametrize(
    "differences, said", [([0.02, -0.3, 0.01, -0.2, 0.0], "seen"), ([0.4, 0.3, 0.5, 0.4, 0.45], "reversed")]
)
def test_to_hurt_is_not_to_help(tmp_path, differences, said):
    for seed, difference in enumerate(differences):
        scanned_run(tmp_path / "runs" / "s", "mixed", seed, 60, 40, 0.5 + difference)
        scanned_run(tmp_path / "runs" / "t", "grpo", seed, 60, 40, 0.5)
    assert outcome(tmp_path, Comparison("s/mixed", "t/grpo", "zero_shot", "no gain"))["verdict"] == said


def test_counts_without_training_are_shares_of_the_rows(tmp_path):
    (tmp_path / "benchmarks").mkdir()
    runs = {str(seed): {"rows": 200, "hard_raw": 100, "hard_random": n} for seed, n in enumerate((60, 40, 50))}
    (tmp_path / "benchmarks" / "hard_rows.json").write_text(json.dumps({"nano-graded": runs}))
    arms = (f"hard_rows.json/nano-graded/hard_{name}" for name in ("random", "raw"))
    found = outcome(tmp_path, Comparison(*arms))
    assert (found["ours"], found["theirs"], found["verdict"]) == (0.25, 0.5, "leaning")


def test_rises_between_scans_are_counted_and_falls_are_not(tmp_path):
    scanned_run(tmp_path, "replace", 0, 40, 25, rounds=(40, 30, 36, 20))  # then 25: +6 and +5 in four steps
    scanned_run(tmp_path, "replace", 1, 40, 10, rounds=(40, 30, 20, 10))
    rises = seed_values(load_study(tmp_path), HARD_RISES)
    assert rises == pytest.approx({0: (6 + 5) / 4 / 100, 1: 0.0})
    assert seed_values(load_study(tmp_path), "task_reward") == {0: 0.25, 1: 0.25}


def test_table_3_shows_the_papers_numbers_beside_ours(tmp_path):
    for seed, after in enumerate((20, 30)):
        scanned_run(tmp_path, "paper_grpo", seed, 60, after, 0.5)
        scanned_run(tmp_path, "paper_mine", seed, 60, after, 0.5)
    paper, mine = hard_rows_lines(tmp_path)[2:]
    assert paper == (
        "| `paper_grpo` | 2 | 0.001 | 17,000 (1,000) | 60.0 | 25.0 (20.0-30.0) | 25.0% of 100 | "
        "0.500 (0.500-0.500) | 0 of 2 | "
        "17,455, then 12,211 (19.5% of 62,687) |"
    )
    assert mine.endswith("| not given |")
    assert PAPER["table3"].keys() - {"rows"} <= {arm.variant for arm in read_plan("paper-t3").arms}


def test_the_page_has_every_claim():
    page = (REPOSITORY / "docs" / "results.md").read_text(encoding="utf-8")
    assert all(f"| {n}. {claim['text']} ({claim['where']}) |" in page for n, claim in enumerate(PAPER["claims"], 1))
