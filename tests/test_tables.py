"""The notebooks' tables, on runs and completions made by hand, and on the committed ones."""

import json
import math

import matplotlib.pyplot as plt
import pytest
import torch

from toolexpander_lite.base.runs import REPOSITORY
from toolexpander_lite.method.prompts import gold_completion
from toolexpander_lite.models.policy import load_policy
from toolexpander_lite.studies.run_figures import LivePlot, plot_seeds
from toolexpander_lite.studies.tables import (
    arguments_table,
    bonus_only,
    completions_table,
    contents_table,
    example_rates,
    halfway_table,
    invitation_table,
    is_silent,
    lines_agreeing,
    price_table,
    real_model_table,
    reward_cases,
    seeds_table,
    spikes_table,
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


def test_invitation_is_compared_at_the_last_evaluation(runs):
    paid, quiet = invitation_table(runs).to_dict("records")
    assert (paid["invited"], paid["not invited"]) == (0.5, 0.25)
    assert (quiet["invited"], quiet["answers with an example, invited"]) == (0.9, 0.0)


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


def test_groups_that_only_the_bonus_tells_apart():
    wrong, right = {"rewards": [0.0] * 3}, {"rewards": [1.0] * 3}
    told = [wrong | {"examples": {"ok": 1, "none": 2}}, right | {"examples": {"ok": 2, "none": 1}}]
    silent = [wrong | {"examples": {"none": 2, "unclosed": 1}}, right | {"examples": {"ok": 3}}]
    mixed = {"rewards": [1.0, 0.0, 0.0], "examples": {"ok": 3}}
    assert [is_silent(group) for group in [*told, *silent, mixed]] == [False, False, True, True, False]
    assert bonus_only(told + silent + [silent[0], mixed]) == pytest.approx(2 / 5)
    assert bonus_only(silent) == 0 and math.isnan(bonus_only([mixed]))


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


def test_real_model_table_starts_from_the_published_model():
    table = real_model_table(REPOSITORY / "assets" / "runs" / "smol")
    assert table.policy[0] == "as it comes" and table.right[0].startswith("0 of ")
    assert set(table["held-out rows"]) == {"toolrl", "seal-tools"}


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


def test_what_completions_earn_and_where_their_arguments_come_from():
    sample = nano_samples("test", 1, families=["book_taxi"])[0]
    gold = gold_completion(sample)
    city = sample.calls[0]["arguments"]["city"]
    table = reward_cases(sample, {"gold": gold, "no think": gold[gold.index("<tool_call>") :]})
    assert table.case.tolist() == ["gold", "no think"] and table.reward.tolist() == [1.0, 0.0]
    assert table.graded.tolist() == [4.0, 3.0] and table.reason.tolist() == ["ok", "no_think"]
    word = sample.messages[-1]["content"].split()[0]
    answers = {"right": [gold], "spoiled": [gold.replace(f'"{city}"', f'"{word}"')], "cut": [gold[:-9]]}
    shares = arguments_table([sample], answers)
    assert shares.loc["right"].tolist() == [1, 0, 0] and shares.loc["cut"].tolist() == [0, 0, 1]
    assert shares.loc["spoiled"].round(3).tolist() == [0.667, 0.333, 0]


def test_logs_laid_side_by_side(tmp_path):
    """Single batches beside the usual ones, the last evaluation within a budget, and where two logs part."""

    def write(name, kl, hard):
        folder = tmp_path / name
        folder.mkdir()
        rows = [{"step": 0}] + [
            {"step": n + 1, "rollouts": 10 * n + 10, "reward": 0.5, "format_rate": 1 - k, "kl": k,
             "eval": {"zero_shot_hard": h}}
            for n, (k, h) in enumerate(zip(kl, hard))
        ]  # fmt: skip
        (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return folder

    one, two = write("one", [0.1, 0.5, 0.2], [0.2, 0.9, 1.0]), write("two", [0.1, 0.5, 0.3], [0.4, 0.5, 0.0])
    spikes = spikes_table({"arm": [one, two]}).iloc[0]
    assert spikes["format rate: worst single batch"] == 0.5 and spikes["KL: largest single batch"] == 0.5
    assert spikes["median batch"] == pytest.approx(0.25) and spikes["last 20 steps"] == pytest.approx(4.3 / 6)
    half = halfway_table({"arm": [one, two]}, 20, 0.7).iloc[0]
    assert half["mean"] == pytest.approx(0.7) and half.worst == 0.5 and half["as good as hint at its end"]
    assert lines_agreeing(one, two) == 3 and lines_agreeing(one, one) == 4
