"""The notebooks' tables, on runs and completions made by hand, and on the committed ones."""

import json
import math
from dataclasses import asdict
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
import torch

from toolexpander_lite.method.prompts import gold_completion
from toolexpander_lite.models.policy import load_policy
from toolexpander_lite.studies.run_figures import LivePlot, plot_seeds
from toolexpander_lite.studies.tables import (
    before_and_after,
    completions_table,
    contents_table,
    example_rates,
    leftovers_table,
    price_table,
    profiles_table,
    real_runs_table,
    reward_cases,
    seeds_table,
)
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.worlds.nano_world import nano_samples


def write_run(folder, rates, hard, right=None, senseless=None, easy=1.0):
    """A run of one evaluation per step: example rates, and hard accuracies after 10, 20, ... rollouts."""
    folder.mkdir(parents=True)
    rows = []
    for step, (rate, accuracy) in enumerate(zip(rates, hard)):
        scores = {"zero_shot": 0.5, "zero_shot_hard": accuracy, "zero_shot_easy": easy, "examples": rate,
                  "uninvited": {"zero_shot_hard": accuracy / 2}}  # fmt: skip
        row = {"step": step, "rollouts": 10 * step, "examples/rate": rate, "completions/mean_length": 20.0,
               "completions/clipped_ratio": 0.0, "eval": scores}  # fmt: skip
        if right is not None:
            row |= {"examples/right": right, "examples/senseless": senseless}
        rows.append(json.dumps(row))
    (folder / "log.jsonl").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def runs(tmp_path):
    return {
        "paid": [write_run(tmp_path / "paid" / "seed-0", [0.0] * 5 + [0.8] * 10, [0.0, 0.95] + [1.0] * 13, 0.1, 0.9),
                 write_run(tmp_path / "paid" / "seed-7", [0.02] * 12, [0.0] * 12, 1.0, 0.0, easy=0.7)],
        "quiet": [write_run(tmp_path / "quiet" / "seed-1", [0.0] * 3, [0.0, 0.2, 0.9])],
    }  # fmt: skip


def test_seed_by_seed_who_solved_and_who_writes(runs):
    table = seeds_table(runs)
    assert table[["arm", "seed"]].values.tolist() == [["paid", 0], ["paid", 7], ["quiet", 1]]
    assert table["rollouts to 0.9"].fillna(-1).tolist() == [10, -1, 20]
    assert table["example rate"].tolist() == pytest.approx([0.8, 0.02, 0.0])


def test_contents_are_averaged_over_runs_that_write_examples_only(runs):
    paid, quiet = contents_table(runs).to_dict("records")
    assert (paid["seeds"], paid["seeds that write"], paid["seeds mostly senseless"]) == (2, 1, 1)
    assert (paid["right"], paid["senseless"]) == (0.1, 0.9), "seed 7 writes one now and then: it does not count"
    assert (paid["easy"], paid["easy, worst seed"]) == (0.85, 0.7), "but its easy families do"
    assert quiet["seeds that write"] == 0 and math.isnan(quiet["senseless"])


def test_price_is_what_was_spent_up_to_the_first_evaluation_that_shows_the_accuracy(tmp_path):
    def run(seed, hard, bare=None):
        folder = tmp_path / f"seed-{seed}"
        folder.mkdir()
        rows = []
        for n, accuracy in enumerate(hard):
            scores = {"zero_shot_hard": accuracy, "zero_shot_easy": 1 - n / 10, "few_shot_hard": 0.5}
            scores |= {} if bare is None else {"uninvited": {"zero_shot_hard": bare}}
            rows.append({"step": 2 * n, "rollouts": 100 * n, "prompt_tokens": 30 * n, "completion_tokens": 10 * n,
                         "seconds": 1.5 * n, "eval": scores})  # fmt: skip
        (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return folder

    never, both = price_table({
        "never": [run(0, [0.0, 0.8])], "both": [run(1, [0, 0.9, 0.1], 0.2), run(2, [0, 0.1, 0.2, 1.0], 0.6)],
    }).to_dict("records")  # fmt: skip
    assert never["reached"] == 0 and math.isnan(never["to: tokens"]) and math.isnan(never["not invited"])
    assert (both["to: rollouts"], both["to: updates"], both["to: tokens"], both["to: seconds"]) == (200, 4, 80, 3.0)
    assert (both["hard"], both["easy"], both["easy, worst"]) == pytest.approx((0.55, 0.75, 0.7))
    assert (both["not invited"], both["not invited, worst"], both["one demonstration"]) == (0.4, 0.2, 0.5)


def test_a_hostile_completion_is_shown_as_text():
    sample = nano_samples("test", 1)[0]
    table = completions_table([sample], ["a prompt"], ["<script>alert(1)</script>" + gold_completion(sample)])
    assert "<script>" not in table and "&lt;script&gt;" in table
    assert "<td style='text-align:left;vertical-align:top'>none</td>" in table


def test_rates_count_what_was_sampled():
    model, tokenizer = load_policy(get_profile("nano-common"), device="cpu")
    torch.manual_seed(0)
    rates = example_rates(model, tokenizer, nano_samples("train", 1), visits=2, begun_visits=2)
    assert rates["rollouts"] == rates["examples begun for it"] == 24
    assert 0 < rates["of these valid"] <= 24 and 0 <= rates["right, given a valid example"] <= 1
    assert rates["with an example of its own"] < 0.5, "it rarely writes one unless one is begun"


def logged(folder, rows, config=None, summary=None):
    """A run directory of these log rows."""
    folder.mkdir(parents=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "config.json").write_text(json.dumps(config or {}))
    (folder / "summary.json").write_text(json.dumps(summary or {}))
    return folder


def test_what_a_run_leaves_behind_is_read_from_its_last_look(tmp_path, monkeypatch):
    looks = [{"a": 0.0, "b": 0.9, "c": 0.0, "d": 0.9}, {"a": 0.9, "b": 0.1, "c": 0.0, "d": 0.2}]
    rows = [
        {"step": n, "rollouts": n, "examples/rate": 0.5, "examples/senseless": 0.25, "eval": {
            "families": look, "zero_shot_hard": 1.0, "zero_shot_easy": 0.5 + n / 4, "few_shot_hard": n,
            "uninvited": {"zero_shot_hard": 0.4 + n / 10}}}
        for n, look in enumerate(looks)
    ]  # fmt: skip
    logged(tmp_path / "study" / "arm" / "seed-3", rows)
    plan = SimpleNamespace(compare=[("beta", "", [("0", "study", "arm"), ("1", "study", "not run")])])
    monkeypatch.setattr("toolexpander_lite.studies.tables.read_plan", lambda name: plan)
    (row,) = leftovers_table("study", tmp_path).to_dict("records")
    assert row == {
        "field": "beta", "value": "0", "seed": "seed-3", "senseless examples": 0.25, "hard, not invited": 0.5,
        "hard, one demonstration": 1, "easy": 0.75, "families unlearnt": 0.25,
    }  # fmt: skip


def test_before_and_after_splits_the_questions_of_nano_runs(tmp_path):
    def scores(easy, hard, **more):
        families = dict.fromkeys(range(12), 0.0)
        return {"zero_shot": 0.5, "zero_shot_easy": easy, "zero_shot_hard": hard, "families": families, **more}

    log = [{"eval": scores(0.5, 0.0)}, {"eval": scores(0.75, 1.0)},
           {"eval": scores(1.0, 0.5, examples=0.9, uninvited=scores(1.0, 0.25)), "rollouts": 320,
            "completion_tokens": 7, "seconds": 2.4}]  # fmt: skip
    config = {"held_out_samples": 24, "profile": {"data": "nano"}}
    easy, hard = before_and_after({"set": logged(tmp_path / "nano", log, config)}).to_dict("records")
    assert easy["before"].startswith("4 of 8 ") and easy["after"].startswith("8 of 8 ")
    assert hard["after"].startswith("8 of 16 ") and hard["after, without the invitation"].startswith("4 of 16 ")
    assert (hard["best"], hard["rollouts"], hard["seconds, evaluations apart"]) == (1.0, 320, 2)
    real = logged(tmp_path / "real", log, {"held_out_samples": 24, "profile": {"data": "toolrl"}})
    (row,) = before_and_after({"grpo": real}).to_dict("records")
    assert row["questions"] == "all" and row["before"].startswith("12 of 24 ")


def test_batches_of_a_real_run_count_once_though_they_are_used_twice(tmp_path):
    log = [{"eval": {"zero_shot": 0.0}}]
    for n, reward in enumerate((0.0, 0.5, 1.0, 1.0)):
        log.append({"groups/all_fail": 1 - reward, "reward": 9.0, "task_reward": reward,
                    "completions/clipped_ratio": 0.5})  # fmt: skip
        log.append({"reward": 9.0, "rollouts": 10 * (n + 1), "seconds": 1800.0 * (n + 1)})
    log[-1]["eval"] = {"zero_shot": 0.25}
    logged(tmp_path / "study" / "set" / "seed-0", log, {"held_out_samples": 8})
    logged(tmp_path / "study" / "warm-start" / "seed-0", log)
    (row,) = real_runs_table(tmp_path, ["study", "not there"]).to_dict("records")
    assert (row["run"], row["batches"], row["rollouts"], row["hours"]) == ("set, seed-0", 4, 40, 2.0)
    assert row["after"].startswith("2 of 8 ") and row["groups all fail"] == pytest.approx(1.5 / 4)
    assert (row["reward, first third"], row["reward, last third"]) == (0.25, 1.0), "two batches of four each"


def test_runs_of_a_profile_are_counted_with_those_of_other_sizes(tmp_path):
    as_it_stands = asdict(get_profile("smol"))
    for seed, profile in enumerate((as_it_stands, as_it_stands | {"max_completion_length": 8})):
        logged(tmp_path / "study" / "grpo" / f"seed-{seed}", [], {"profile": profile, "recipe": {}})
    logged(tmp_path / "study" / "warm-start" / "seed-0", [], {"profile": as_it_stands})
    runs = profiles_table(tmp_path).set_index("profile")["committed runs"]
    assert runs["smol"] == "2, none on a GPU, 1 with other sizes" and runs["t4"] == "not run yet"


def test_every_seed_is_a_line_of_its_own_under_its_arm(runs):
    figure = plot_seeds(runs, {"examples/rate": "rate", "eval/zero_shot_hard": "hard"}, window=2)
    top, below = figure.axes[:2], figure.axes[2:]
    assert [axis.get_title() for axis in top] == ["paid", "quiet"]
    assert [len(axis.lines) for axis in top] == [2, 1]
    assert len({line.get_linestyle() for line in top[0].lines}) == 2
    assert below[1].lines[0].get_ydata().tolist() == [0.0, 0.2, 0.9], "evaluations are not smoothed"
    assert [text.get_text() for text in figure.legends[0].texts] == ["seed-0", "seed-7"]
    plt.close(figure)


def test_live_picture_says_which_step_it_shows(runs, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda figure, display_id: shown.append(figure))
    live = LivePlot(runs["paid"][0], {"examples/rate": "rate"}, every=5, window=2)
    live({"step": 4})
    live({"step": 10})
    LivePlot(runs["paid"][0], {"reward": "not logged yet"})({"step": 0})
    figure, _ = shown
    assert figure.legends[0].texts[0].get_text() == "this run, at step 10"
    assert figure.axes[0].get_title().endswith("(mean of 2 steps)")


def test_what_completions_earn():
    sample = nano_samples("test", 1, families=["book_taxi"])[0]
    gold = gold_completion(sample)
    table = reward_cases(sample, {"gold": gold, "no think": gold[gold.index("<tool_call>") :]})
    assert table.case.tolist() == ["gold", "no think"] and table.reward.tolist() == [1.0, 0.0]
    assert table.graded.tolist() == [4.0, 3.0] and table.reason.tolist() == ["ok", "no_think"]
