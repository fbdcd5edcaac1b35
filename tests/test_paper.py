"""The paper's claims and its Table 3 beside made-up runs whose answers are known by hand."""

import json
import re
import shlex
from functools import lru_cache

import matplotlib.pyplot as plt
import pytest
from test_studies import fake_run

from toolexpander_lite.__main__ import main
from toolexpander_lite.base.runs import REPOSITORY, find_runs, load_study, read_json, write_json
from toolexpander_lite.studies.front_page import verdicts_markdown
from toolexpander_lite.studies.paper import (
    MEASURED_BY,
    PAPER,
    Comparison,
    claims_lines,
    claims_table,
    comparison_lines,
    comparisons,
    hard_rows_by_tool_lines,
    hard_rows_lines,
    outcome,
    plan_comparisons,
    result,
    theirs_left,
)
from toolexpander_lite.studies.plan import has_plan, plan_names, read_plan
from toolexpander_lite.studies.statistics import HARD_RISES, ROLLOUTS, TURNED_HARD, seed_values, turned_hard
from toolexpander_lite.studies.study_figures import plot_claim
from toolexpander_lite.studies.texts import say
from toolexpander_lite.variants.all_recipes import RECIPES

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
        for study, arm, *_ in (name.split("/") for name in (test.ours, test.theirs) if name):
            if has_plan(study):
                assert arm in {arm.variant for arm in read_plan(study).arms}, test
            elif study.startswith("paper-"):
                assert arm.split("-")[0] in RECIPES, test
        assert test.value in MEASURED_BY and test.expects in ("gain", "little", "no gain", "often")


def test_without_runs_nothing_is_claimed(tmp_path):
    table = claims_table(tmp_path)
    lines, halves = claims_lines(table)[2:], sum(len(claim.get("not_tested", ())) for claim in PAPER["claims"])
    assert len(table) == sum(len(claim["tests"]) for claim in PAPER["claims"]) == len(lines) - halves and halves == 2
    assert set(table.verdict) == {NO_RUNS}
    assert sum(f"| {NO_RUNS} |" in line for line in lines) == len(table)
    assert sum(line.endswith("|  |  | not tested |  |") for line in lines) == halves
    assert all(plot_claim(tmp_path, claim) is None for claim in PAPER["claims"])


def test_fewer_hard_rows_are_a_gain_and_a_missing_arm_is_said_to_be_missing(tmp_path):
    study = tmp_path / "runs" / "paper-t3"
    for seed, (grpo, replace) in enumerate([(40, 20), (50, 30), (45, 30), (41, 25), (43, 20)]):
        scanned_run(study, "paper_grpo", seed, 60, grpo)
        scanned_run(study, "paper_replace", seed, 60, replace, 0.6, collapsed=seed == 0)
    better = outcome(tmp_path, Comparison("paper-t3/paper_replace", "paper-t3/paper_grpo"))
    assert better["gain"] == pytest.approx((20 + 20 + 15 + 16 + 23) / 500) and better["verdict"] == "seen"
    for ours, theirs, said in (("grpo", "replace", "reversed"), ("add", "grpo", NO_RUNS)):
        assert outcome(tmp_path, Comparison(f"paper-t3/paper_{ours}", f"paper-t3/paper_{theirs}"))["verdict"] == said
    lines = claims_lines(claims_table(tmp_path))
    third = [line for line in lines if "`paper_replace` against `paper_grpo`: rows left hard" in line]
    assert len(third) == 1 and "0.250 against 0.438, gain +0.188 (" in third[0]
    assert "5 seeds | 0.001 | seen |" in third[0]
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
        scanned_run(tmp_path / "paper-t3", "paper_grpo", seed, 60, after, 0.5)
        scanned_run(tmp_path / "paper-t3", "paper_mine", seed, 60, after, 0.5)
    paper, mine = hard_rows_lines(tmp_path / "paper-t3")[2:]
    assert paper == (
        "| `paper_grpo` | 2 | 0.001 | 17,000 (1,000) | 60.0 | 25.0 (20.0-30.0) | 25.0% of 100 | "
        "0.500 (0.500-0.500) | 0 of 2 | "
        "17,455, then 12,211 (19.5% of 62,687) |"
    )
    assert mine.endswith("| not given |")
    scanned_run(tmp_path / "another", "paper_grpo", 0, 60, float("nan"), 0.5)
    (unscanned,) = hard_rows_lines(tmp_path / "another")[2:]
    assert "| not scanned | not scanned |  | 0.500" in unscanned and unscanned.endswith("| 0 of 1 |")
    assert PAPER["table3"].keys() - {"rows"} <= {arm.variant for arm in read_plan("paper-t3").arms}


def test_arms_that_learn_gold_answers_say_how_many(tmp_path):
    """Twenty answers a step: sixty supervised steps; a start of four, then vanilla GRPO; none at all."""
    for arm in ("sft", "grpo_70", "paper_grpo"):
        run = scanned_run(tmp_path / "real-requests", arm, 0, 60, 30, 0.5)
        config = read_json(run / "config.json") | {
            "trainer": {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 5},
            "recipe": {"supervised": arm == "sft"}, "profile": {"steps": 60},
        }  # fmt: skip
        write_json(run / "config.json", config)
    header, _, *rows = hard_rows_lines(tmp_path / "real-requests")
    place = header.split(" | ").index("gold answers learnt")
    assert {row.split(" | ")[0].strip("| `"): row.split(" | ")[place] for row in rows} == {
        "sft": "1,200", "grpo_70": "80", "paper_grpo": "0"}  # fmt: skip
    scanned_run(tmp_path / "another", "paper_grpo", 0, 60, 30, 0.5)
    assert "gold answers" not in hard_rows_lines(tmp_path / "another")[0]


def test_the_front_page_says_what_each_real_run_got_and_what_it_took(tmp_path):
    for seed, share in enumerate((0.5, 0.6)):
        scanned_run(tmp_path / "runs" / "real-requests", "other_tools", seed, 60, 30, share)
    asked = {"as it comes": {"test": {"right": 0, "asked": 100}}}
    asked["other_tools/seed-1"] = {"fresh": {"right": 6, "asked": 9}}
    (tmp_path / "benchmarks").mkdir()
    write_json(tmp_path / "benchmarks" / "heldout_requests.json", {"policies": asked})
    lines = verdicts_markdown(tmp_path / "runs").splitlines()
    assert "| as it comes | | | | 0% | not asked | not asked |" in lines
    assert "| likewise, each time with other tools on offer | 2 | 17,000 | 0 | 50%, 60% | 67% | not asked |" in lines
    assert not any("supervised training" in line for line in lines), "no run of it, no row"


def test_rows_left_hard_by_tool_are_those_of_the_last_scan(tmp_path):
    """Two seeds: of call_a's two rows 2 and 1 stay hard in `few`, none in `more`; call_b's stay hard everywhere."""
    assert hard_rows_by_tool_lines(tmp_path) == []
    for arm, seeds in {"few": ((0, 0), (0, 3)), "more": ((1, 1), (1, 1))}.items():
        for seed, right in enumerate(seeds):
            run = scanned_run(tmp_path, arm, seed, 3, 2)
            rows = [("scan", 0, "call_a-0", 9), ("scan", 0, "call_a-1", 9), ("scan", 20, "call_b-0", 0)]
            rows += [("scan", 20, f"call_a-{n}", count) for n, count in enumerate(right)]
            rows.append(("verification", 20, "call_a-0", 9))
            lines = [dict(zip(("kind", "step", "sample_id", "right"), row)) for row in rows]
            (run / "scans.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    about, _, *table = hard_rows_by_tool_lines(tmp_path)
    assert "Left out: 1 tools" in about
    assert table[0] == "| arm | `call_a` |" and table[2:] == ["| `few` | 0.75 |", "| `more` | 0.00 |"]


def test_the_page_has_every_claim():
    page = (REPOSITORY / "docs" / "results.md").read_text(encoding="utf-8")
    assert all(f"| {n}. {claim['text']} ({claim['where']}) |" in page for n, claim in enumerate(PAPER["claims"], 1))


def test_near_the_wrong_gold_calls_there_is_nothing_left_to_win(tmp_path):
    """8 of 100 rows have one: of the 52 others that are hard at first, 2 and 1 are left, or 5 and 1."""
    for seed in range(5):
        for arm, after in (("few", 9), ("fewer", 10), ("more", 13)):
            scanned_run(tmp_path / "runs" / "s", arm, seed, 60, after)
    assert outcome(tmp_path, Comparison("s/few", "s/fewer"))["verdict"] == "could not be tested here"
    assert outcome(tmp_path, Comparison("s/few", "s/more"))["verdict"] == "seen"


def test_runs_without_a_value_are_no_missing_runs(tmp_path):
    """Shares of trivial examples, of runs that write none: run, and nothing to compare; a figure leaves them out."""
    for seed in range(3):
        for arm in ("few", "more"):
            scanned_run(tmp_path / "runs" / "s", arm, seed, 40, 20)
    test = {"ours": "s/few", "theirs": "s/more", "value": "examples/trivial"}
    assert outcome(tmp_path, Comparison(**test))["verdict"] == "could not be tested here"
    assert plot_claim(tmp_path, {"text": "x", "where": "y", "tests": [test]}) is None


def test_a_swing_has_no_floor(tmp_path):
    for seed in range(5):
        scanned_run(tmp_path / "runs" / "s", "steady", seed, 40, 20, rounds=(40, 20))
        scanned_run(tmp_path / "runs" / "s", "swings", seed, 40, 22, rounds=(40, 20))
    found = outcome(tmp_path, Comparison("s/steady", "s/swings", HARD_RISES))
    assert found["gain"] == pytest.approx(0.01) and found["verdict"] == "seen"


def test_an_arm_is_compared_with_itself_before_training(tmp_path):
    for seed in range(5):
        run = scanned_run(tmp_path / "runs" / "s", "paper_sft", seed, 40, 20, accuracy=0.2)
        rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        rows[0]["eval"] = {"zero_shot": 0.7}
        (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = outcome(tmp_path, Comparison("s/paper_sft/start", "s/paper_sft", "zero_shot"))
    assert (found["ours"], found["theirs"], found["verdict"]) == (pytest.approx(0.7), pytest.approx(0.2), "seen")


def test_rates_stand_beside_a_comparison_whose_sides_differ_in_them(tmp_path):
    for seed in range(3):
        for arm, rate in (("with", 1e-3), ("without", 6e-4)):
            fake_run(tmp_path / "runs" / "study" / arm, seed, 0.5, rate=rate)
    found = outcome(tmp_path, Comparison("study/with", "study/without", "zero_shot_hard"))
    assert found["rates"] == "0.001 against 0.0006"
    assert outcome(tmp_path, Comparison("study/with", "study/with", "zero_shot_hard"))["rates"] == "0.001"


def collapsing(folder, variant, outcomes, rollouts=1):
    for seed, collapsed in enumerate(outcomes):
        file = fake_run(folder / variant, seed, 0.0) / "summary.json"
        told = json.loads(file.read_text())
        file.write_text(json.dumps(told | {"collapsed": collapsed, "rollouts": rollouts * told["rollouts"]}))


@pytest.mark.parametrize(
    "outcomes, said",
    [
        ([True] * 4 + [False], "seen"),
        ([True] + [False] * 5, "leaning"),  # 1 of 6 is above 0.1, its interval is not
        ([False] * 5, "not seen"),
        ([True] * 2, "too few seeds"),
    ],
)
def test_how_often_counts_the_runs_of_all_rates(tmp_path, outcomes, said):
    study = tmp_path / "runs" / "study"
    collapsing(study, "grpo-lr1e-3", outcomes[:2])
    collapsing(study, "grpo-lr2e-3", outcomes[2:])
    collapsing(study, "grpo_like", [True] * 9)  # another arm
    found = outcome(tmp_path, Comparison("study/grpo", value="collapsed", expects="often"))
    assert (found["verdict"], found["seeds"], found["ours"]) == (said, len(outcomes), sum(outcomes) / len(outcomes))
    assert found["low"] <= found["ours"] <= found["high"]


def test_a_run_and_its_continuation_count_once(tmp_path):
    collapsing(tmp_path / "runs" / "study", "grpo-lr1e-3", [False] * 3)
    collapsing(tmp_path / "runs" / "study", "grpo-lr1e-3-long", [True] * 3, rollouts=5)
    found = outcome(tmp_path, Comparison("study/grpo", value="collapsed", expects="often"))
    assert (found["seeds"], found["ours"]) == (3, 1.0)


@pytest.mark.parametrize("name", plan_names())
def test_what_a_plan_asks_is_asked_of_its_arms(name, tmp_path):
    plan = read_plan(name)
    arms = {arm.variant for arm in plan.arms}
    for test in plan_comparisons(plan):
        sides = [side.removeprefix(f"{name}/") for side in (test.ours, test.theirs) if side]
        if test.expects == "often":
            assert any(f"{arm}-".startswith(f"{sides[0]}-") for arm in arms)
        else:
            assert set(sides) <= arms, test
        assert test.asks and test.value in MEASURED_BY and test.claim <= len(PAPER["claims"])
    assert all(f"|  |  | {NO_RUNS} |" in line for line in comparison_lines(tmp_path, plan)[2:])


def test_rollouts_are_told_as_whole_numbers(tmp_path):
    plan = read_plan("nano-examples")
    for seed in range(3):
        for arm, reached in (("exemplify", 3200), ("invitation", 8000)):
            folder = tmp_path / "runs" / plan.name / f"nano-rare-{arm}"
            fake_run(folder, seed, 1.0, curve=[(0, 0.0), (reached, 0.95)])
    lines = [line for line in comparison_lines(tmp_path, plan) if MEASURED_BY[ROLLOUTS] in line]
    (line,) = [line for line in lines if "rare-exemplify" in line]
    assert "3,200 against 8,000, gain +4,800 (+4,800 to +4,800), 3 seeds | 0.001 | leaning |" in line


def test_the_commands_make_the_runs_of_both_sides_elsewhere(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("toolexpander_lite.studies.runner.read_plan", lru_cache(read_plan))  # each plan once
    commands = claims_table(tmp_path).command
    for command in sorted(set(re.findall(r"`python -m toolexpander_lite ([^`]+)`", " ".join(commands)))):
        words = shlex.split(command)
        assert main([*words, "--dry-run"]) == 0
        lines = capsys.readouterr().out.splitlines()
        outs = [line.split("--out ")[-1] for line in lines if "--out" in line]
        waiting = {line.split()[1] for line in lines if line.startswith("# ")}  # for a search of their rate
        assert all(out.startswith(f"out/again/{words[1]}/") for out in outs)
        assert {out.split("/")[3] for out in outs} | waiting == set(words[3].split(",")), command


def test_a_claim_is_drawn_with_every_seed_and_the_papers_number(tmp_path):
    study = tmp_path / "runs" / "paper-t3"
    for seed, (grpo, replace) in enumerate([(40, 20), (50, 30), (45, 30)]):
        scanned_run(study, "paper_grpo", seed, 60, grpo)
        scanned_run(study, "paper_replace", seed, 60, replace)
    figure = plot_claim(tmp_path, PAPER["claims"][2])
    left, accuracy = figure.axes
    dots = [list(line.get_xdata()) for line in left.lines if line.get_marker() == "o"]
    assert dots == [[0.4, 0.5, 0.45], [0.2, 0.3, 0.3]]
    diamonds = [float(line.get_xdata()[0]) for line in left.lines if line.get_marker() == "D"]
    assert diamonds == pytest.approx([12211 / 62687, 10458 / 62687])
    assert [label.get_text() for label in left.get_yticklabels()] == ["grpo, rate 0.001 (3)", "replace, rate 0.001 (3)"]
    assert "accuracy" in accuracy.get_xlabel()
    plt.close(figure)
    scanned_run(study, "paper_replace", 3, 60, 0)
    figure = plot_claim(tmp_path, PAPER["claims"][2], shared=True)
    again = [list(line.get_xdata()) for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert again == dots, "grpo has no fourth seed"
    plt.close(figure)
    assert theirs_left("hard_rows.json/nano-graded-weak/hard_raw") == 45362 / 62687
    assert theirs_left("paper-roads/paper_sft") is None


def test_swings_are_drawn_scan_by_scan(tmp_path):
    for seed in range(2):
        scanned_run(tmp_path / "runs" / "paper-t3", "paper_replace-weak", seed, 40, 20, rounds=(40, 30 + seed))
        assert plot_claim(tmp_path, PAPER["claims"][8]) is None, "one side only"
    scanned_run(tmp_path / "runs" / "paper-roads", "paper_replace-decay1.0", 0, 40, 25, rounds=(40, 35))
    figure = plot_claim(tmp_path, PAPER["claims"][8])
    lines = [list(line.get_ydata()) for line in figure.axes[0].lines]
    assert lines == [[40, 35, 25], [40, 35, 25], [40, 30, 20], [40, 31, 20], [40, 30.5, 20]]
    plt.close(figure)


def with_examples(study, arm, shares, after=20):
    """Runs, one per share: so many of the answers of the last step hold valid examples; None: none are logged."""
    for seed, share in enumerate(shares):
        run = scanned_run(study, arm, seed, 60, after)
        lines = [{"step": 100, "rollouts": 17000} | ({} if share is None else {"examples/rate": share})]
        (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize(
    "shares, theirs, said, lacks",
    [
        ([0.4, 0.0, 0.05, 0.0, 0.0], None, "could not be tested here", "valid examples at the end in 1 of 5 runs"),
        ([0.4, 0.5, 0.06, 0.0, 0.0], None, "seen", None),
        ([0.4] * 5, 0.0, "could not be tested here", "valid examples at the end in 5 of 5 and 0 of 5 runs"),
        ([None] * 5, None, "could not be tested here", "valid examples at the end in no runs"),
    ],
)
def test_where_no_examples_are_written_a_claim_of_them_is_not_tested(tmp_path, shares, theirs, said, lacks):
    with_examples(tmp_path / "runs" / "s", "self", shares)
    with_examples(tmp_path / "runs" / "s", "plain", [theirs] * 5, after=40)
    test = Comparison("s/self", "s/plain", needs="examples/rate")
    found = outcome(tmp_path, test)
    assert (found["verdict"], found.get("lacks")) == (said, lacks) and found["seeds"] == 5
    told = result(test, found)
    assert told.startswith("0.200 against 0.400, gain +0.200") and (lacks or "seeds") in told
    assert outcome(tmp_path, Comparison("s/self", "s/plain"))["verdict"] == "seen"


def test_another_test_than_the_papers_keeps_its_numbers_and_has_no_verdict(tmp_path):
    for seed in range(5):
        scanned_run(tmp_path / "runs" / "s", "ours", seed, 60, 20)
        scanned_run(tmp_path / "runs" / "s", "theirs", seed, 60, 40)
    test = Comparison("s/ours", "s/theirs", differs="gold calls")
    found = outcome(tmp_path, test)
    assert found["verdict"] == "could not be tested here"
    assert result(test, found).endswith("5 seeds; another test than the paper's: gold calls")
    assert outcome(tmp_path, Comparison("s/ours", "s/not there", differs="gold calls"))["verdict"] == NO_RUNS


def test_easier_rows_that_turn_hard_are_counted(tmp_path):
    """Row a is hard before and stays so, b turns hard, c does not; a verification tells nothing."""
    test = Comparison("s/left_out", value=TURNED_HARD, expects="often")
    for seed in range(3):
        run = scanned_run(tmp_path / "runs" / "s", "left_out", seed, 60, 20)
    assert outcome(tmp_path, test)["verdict"] == "could not be tested here", "no scans"
    for run in find_runs(tmp_path / "runs" / "s")["left_out"]:
        rows = [("scan", 0, "a", 0), ("scan", 0, "b", 3), ("scan", 0, "c", 1), ("verification", 0, "a", 5)]
        rows += [("scan", 9, "a", 0), ("scan", 9, "b", 0), ("scan", 9, "c", 2)]
        lines = [dict(zip(("kind", "step", "sample_id", "right"), row)) for row in rows]
        (run / "scans.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert turned_hard(run) == (1, 2)
    found = outcome(tmp_path, test)
    assert (found["verdict"], result(test, found)) == ("seen", "3 of 6 rows, 3 runs")


def test_a_pair_that_stands_under_two_claims_counts_once(tmp_path):
    table = claims_table(tmp_path)
    again = table[table.pair != table.index]
    assert set(again.number) == {4} and set(table.number[again.pair]) == {3}
    assert all("the pair of claim 3, sides exchanged" in told for told in again.result)
    once = len(table) - len(again)
    assert f"Of {once}: {once} not run yet." in say("counted", table) and "2 of them compare" in say("counted", table)


def test_the_page_tells_the_rules_of_the_claims_that_are_not_of_a_gain(tmp_path):
    told = say("expected", claims_table(tmp_path), 0.1)
    assert "(of claims 2, 6, 11 and 15)" in told and "(of claim 7)" in told and "(of claims 8 and 10)" in told


def test_a_collapse_tells_from_what_to_what(tmp_path):
    run = scanned_run(tmp_path, "arm", 0, 40, 20, accuracy=0.1, collapsed=True)
    write_json(run / "config.json", read_json(run / "config.json") | {"held_out_samples": 20})
    lines = [{"step": n, "rollouts": n, "eval": {"zero_shot": share}} for n, share in enumerate((0.0, 0.25, 0.1))]
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "| 1 of 1 (5, then 2 of 20) |" in hard_rows_lines(tmp_path)[2]
