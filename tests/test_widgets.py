"""What the widgets show, by value and without a browser (tests/test_browser.py has one)."""

import asyncio
import re
import time
from types import SimpleNamespace

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from toolexpander_lite.base.errors import RunError, SettingsError
from toolexpander_lite.base.runs import read_jsonl, write_json, write_jsonl
from toolexpander_lite.models.policy import load_policy
from toolexpander_lite.training.objective import kl_pull, push
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.splits import load_splits
from toolexpander_lite.training.train import train
from toolexpander_lite.variants.all_recipes import get_recipe
from toolexpander_lite.variants.visit_pool import VisitPool
from toolexpander_lite.widgets import show
from toolexpander_lite.widgets.dashboard import Dashboard, dashboard_figure, hard_rows, last_rollouts, progress_words
from toolexpander_lite.widgets.playgrounds import (
    advantage_figure,
    advantage_playground,
    clip_figure,
    clip_playground,
    paid_rewards,
    read_rewards,
)
from toolexpander_lite.widgets.pool_stepper import PoolStepper, pool_figure, pool_stepper
from toolexpander_lite.widgets.rollouts import (
    RolloutBrowser,
    chosen,
    group_html,
    marked,
    read_groups,
    why_served,
)

TINY = dict(prompts_per_step=6, micro_batch=60, train_prompts=1, eval_every=2, eval_prompts=2)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs whose rows a scan serves, whose rows visits serve, and whose examples are paid for."""
    folder = tmp_path_factory.mktemp("runs")
    scan = get_recipe("paper_replace", round_steps=2, demos=1, demos_per_tool=1, learning_rate=1e-3)
    made = {"scan": (scan, "nano", 5), "visits": (get_recipe("hard_sampling", round_steps=2), "nano", 5),
            "paid": (get_recipe("exemplify"), "nano-common", 3)}  # fmt: skip
    return {name: train(recipe, get_profile(profile, **TINY, steps=steps), 0, folder / name)
            for name, (recipe, profile, steps) in made.items()}  # fmt: skip


@pytest.fixture
def shown(monkeypatch):
    """What is displayed, in place of a notebook: [widgets or data], a later drawing in the place of an earlier one."""
    out = []

    def display(thing, raw=False, display_id=False, **_):
        out.append(thing)
        place = len(out) - 1
        return SimpleNamespace(update=lambda data, **_: out.__setitem__(place, data))

    monkeypatch.setattr(show, "display", display)
    return out


def controls(box):
    """{description: control} of a widget."""
    found = {box.description: box} if getattr(box, "description", "") else {}
    for child in getattr(box, "children", ()):
        found |= controls(child)
    return found


def titles(figure):
    words = [axis.get_title() for axis in figure.axes]
    plt.close(figure)
    return words


def test_typed_rewards_are_read_and_nothing_is_evaluated():
    rewards, wrote = read_rewards(" 1, 0+ ; -0.5 2+;")
    assert rewards.tolist() == [[1, 0], [-0.5, 2]] and wrote.tolist() == [[False, True], [False, True]]
    for text in ("", "1", "1 0; 1", "1 nan", "1 __import__('os')", "1 2e9", " ".join(["1"] * 65)):
        with pytest.raises(SettingsError, match="type "):
            read_rewards(text)


def test_a_hundredth_in_a_group_that_passes_becomes_an_advantage_of_full_size():
    rewards, wrote = read_rewards("1+ 1; 0+ 0")
    for bonus, right, wrong in (("none", 1, 0), ("gated", 1.01, 0), ("ungated", 1.01, 0.01)):
        assert paid_rewards(rewards, wrote, bonus) == pytest.approx(np.array([[right, 1], [wrong, 0]]), abs=2e-5)
    figure = advantage_figure("1+ 1; 0+ 0", "group", "gated")
    # 41/4096 apart: half of it over the deviation 41/4096/sqrt(2), and 1e-4.
    first = figure.axes[0].patches[0].get_height()
    assert first == pytest.approx(41 / 8192 / (41 / 4096 / 2**0.5 + 1e-4))
    assert titles(figure) == ["all pass", "all fail: silent"]
    assert titles(advantage_figure("1+ 1; 0+ 0", "group", "ungated")) == ["all pass", "all fail"]


def test_the_push_is_the_gradient_of_the_objective_with_the_kl_term():
    old, base = torch.tensor(0.2, dtype=torch.float64).log(), torch.tensor(0.1, dtype=torch.float64).log()
    for ratio in (0.5, 0.9, 1.1, 1.5):
        for advantage in (1.0, -0.6):
            new = (old + np.log(ratio)).clone().requires_grad_()
            rho, d = (new - old).exp(), base - new
            gain = torch.min(rho * advantage, rho.clamp(0.8, 1.26) * advantage) - 0.3 * rho * (d.exp() - d - 1)
            (slope,) = torch.autograd.grad(gain, new)
            assert push(ratio, advantage, 0.2, 0.26, 0.3, drift=2.0) == pytest.approx(slope.item())
    assert kl_pull(4.0, corrected=False) == 0.75 and kl_pull(1.0) == 0
    figure = clip_figure(ratio=1.3, beta=0.0)
    assert figure._suptitle.get_text().startswith("push on log p in all: +0.000 for the good token, -1.300")
    plt.close(figure)


def test_the_stepper_serves_what_the_real_pool_says():
    stepper = PoolStepper("replace")
    for _ in range(12):
        stepper.next_round()
        for id, state in stepper.rounds[-1][0].items():
            assert (stepper.pool.mode(id) == "demonstrated") is (state == "demonstrated")
    states = [states for states, _ in stepper.rounds]
    assert {s["row 14"] for s in states} == {"demonstrated"}, "a wrong gold call is hard for ever"
    back = [id for id in stepper.ids if any(s[id] == "returned" for s in states)]
    assert back, "somebody came back"
    for id in back:
        first = next(n for n, s in enumerate(states) if s[id] == "returned")
        assert "demonstrated" not in {s[id] for s in states[first:]}, "and never gets examples again"
    alone = PoolStepper("plain")
    for _ in range(12):
        alone.next_round()
    assert sum(r == 0 for r in alone.rounds[-1][1].values()) > sum(r == 0 for r in stepper.rounds[-1][1].values())
    figure = pool_figure(2)
    assert "round 2" in figure.axes[0].get_xlabel()
    plt.close(figure)


def test_groups_are_read_with_the_advantages_that_grpo_gave(runs):
    groups = read_groups(runs["paid"])
    assert all(len(group.completions) == len(group.reasons) == len(group.right) == 10 for group in groups)
    lines = read_jsonl(runs["paid"] / "rollouts.jsonl")
    for group, line in zip(groups, lines):
        assert group.paid == [r + b for r, b in zip(line["rewards"], line["bonus"])]
        assert np.mean(group.advantages) == pytest.approx(0, abs=1e-9)
        assert line["bonus"].count(41 / 4096) == line["examples"].get("ok", 0) == 10 - line["bonus"].count(0.0)
    assert any(any(line["bonus"]) for line in lines)


def test_filters_choose_by_hand():
    def group(name, *right, served="plain"):
        return SimpleNamespace(name=name, right=right, served=served, kind=None)

    first, later = group("a", 0, 0), group("a", 1, 0, served="demonstrated")
    groups = [first, group("b", 1, 1), later, group("a", 1, 1), group("b", 0, 0)]
    assert chosen(groups, "first success") == [later] == chosen(groups, "with demonstrations")
    assert len(chosen(groups, "all")) == 5


def test_kinds_of_groups_agree_with_the_log(runs):
    groups = read_groups(runs["visits"])
    for row in read_jsonl(runs["visits"] / "log.jsonl")[1:]:
        here = [g for g in groups if g.step == row["step"]]
        assert row["groups/all_fail"] == pytest.approx(len(chosen(here, "all fail")) / len(here), abs=1e-5)
        assert row["groups/all_pass"] == pytest.approx(len(chosen(here, "all pass")) / len(here), abs=1e-5)


def test_why_is_what_the_pool_of_the_run_decided(runs):
    groups = read_groups(runs["scan"])
    for group in groups[:: len(groups) // 12]:
        words = why_served(runs["scan"], group, groups)
        assert f"{group.name}: served {group.served} next" in words
        assert ("0 of 10 right in the scan" in words) is (group.served == "demonstrated")
    # Decisions of visits are the same as those in the checkpoint that the run left.
    run, profile = runs["visits"], get_profile("nano", **TINY, steps=5)
    pool = VisitPool([s.id for s in load_splits(profile, 0, load_policy(profile)[1]).train], retest="after_success")
    pool.load(run / "checkpoints" / "checkpoint-5" / "pool.json")
    groups, decided = read_groups(run), 0
    for group in {g.name: g for g in groups if g.step == 5}.values():
        kept, said = (
            [line for line in words.splitlines() if line.startswith("  step ") and not line.startswith("  step 5")]
            for words in (pool.explain(group.name), why_served(run, group, groups))
        )
        assert said == kept
        decided += len(kept)
    assert decided
    assert "every row is asked plainly" in why_served(runs["paid"], read_groups(runs["paid"])[0], [])


def test_html_is_safe_whatever_the_model_wrote(runs):
    bad = "<think></think><script>alert(1)</script>\n<tool_call>\n{\"name\": \"<img src=x>\"" + "x" * 9000
    words = marked(bad)
    assert "<script" not in words and "<img" not in words and len(words) < 2000
    assert words.count("<mark") == 1 and words.endswith("…</b></mark>"), "an open call is marked to the end"
    group = read_groups(runs["scan"])[0]
    text = group_html(group, "<b>why</b>")
    assert text.count("<tr>") <= 6 and "&lt;b&gt;why" in text
    assert sum(map(int, re.findall(r">(\d+)&nbsp;×</td>", text))) == 5, "equal completions share a line"


def test_trl_completions_are_read_group_by_group(tmp_path):
    """As TRL 1.16 writes them with log_completions=True; one prompt twice in a batch is two groups."""
    call = "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>"
    rows = {"step": [1] * 6 + [2] * 2, "prompt": ["p"] * 4 + [[{"role": "user", "content": "q"}]] * 2 + ["p"] * 2,
            "completion": [call, "no", call, call, "a", "b", call, call], "exact": [1.0, 0, 1, 1, 0, 0, 1, 1],
            "format": [0.5, 0, 0.5, 0.5, 0, 0, 0.5, 0.5], "advantage": [1.0, -1, 0, 0, 0, 0, 0, 0]}  # fmt: skip
    (tmp_path / "completions").mkdir()
    for step in (1, 2):
        file = tmp_path / "completions" / f"completions_{step:05d}.parquet"
        pd.DataFrame(rows)[lambda t, step=step: t.step == step].astype({"prompt": str}).to_parquet(file)
    groups = read_groups(tmp_path)
    assert [(g.step, g.kind, g.paid) for g in groups] == [
        (1, "mixed", [1.5, 0]), (1, "all pass", [1.5, 1.5]), (1, "all fail", [0, 0]),
        (2, "all pass", [1.5, 1.5])]  # fmt: skip
    assert groups[0].advantages == [1, -1] and groups[0].reasons == ["ok", "extra_text"]
    assert "1.5" in RolloutBrowser(tmp_path).html(1) and "No group" in RolloutBrowser(tmp_path).html(1, "first success")
    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "completions" / "completions_00003.parquet")
    with pytest.raises(RunError, match="no completions parquet"):
        read_groups(tmp_path)
    with pytest.raises(RunError, match="not committed .* log_completions=True"):
        read_groups(tmp_path / "nothing")


def test_packed_runs_of_old_show_what_they_kept():
    from toolexpander_lite.base.runs import REPOSITORY, find_runs

    run = find_runs(REPOSITORY / "assets" / "runs" / "smol-cpu-arms")["toolexpander"][0]
    text = RolloutBrowser(run).html(1)
    assert "(not kept)" in text and "reward" in text


def test_the_dashboard_tells_how_far_a_run_is(runs, tmp_path):
    scans = read_jsonl(runs["scan"] / "scans.jsonl")
    hard = dict(hard_rows(runs["scan"]))
    assert hard == {s: sum(x["right"] == 0 for x in scans if x["step"] == s) for s in (0, 2, 4, 5)}
    assert dict(hard_rows(runs["visits"])).keys() == {2, 4, 5} and hard_rows(runs["paid"]) == []
    assert progress_words(runs["scan"]).startswith("step 5 of 5; done in ")
    run = tmp_path / "run"
    with pytest.raises(RunError, match="no log yet"):
        dashboard_figure(run)
    run.mkdir()
    write_json(run / "config.json", {"profile": {"steps": 50}, "recipe": {"num_iterations": 2}})
    write_jsonl(run / "log.jsonl", [{"step": 0, "seconds": 0.0}, {"step": 40, "seconds": 20.0, "reward": 0.5}])
    assert progress_words(run) == "step 40 of 100; about 30 s of steps left"
    assert last_rollouts(run) == [] and len(last_rollouts(runs["scan"])) == 4
    figure = dashboard_figure(run)
    assert titles(figure)[-1] == "hard rows, round by round"


def test_the_button_stops_a_run_and_leaves_a_complete_one_alone(runs, tmp_path, shown):
    run = tmp_path / "run"
    run.mkdir()
    board = Dashboard(run, every=5)
    board.button.click()
    assert (run / "stop").exists() and board.button.description == "will stop"
    (run / "stop").unlink()
    write_json(run / "config.json", {"profile": {"steps": 50}, "recipe": {}})
    write_jsonl(run / "log.jsonl", [{"step": 5, "seconds": 2.0}])
    board({"step": 4})
    assert not shown
    board({"step": 5})
    first = shown[1]["image/png"]
    write_jsonl(run / "log.jsonl", [{"step": 5, "seconds": 2.0}, {"step": 10, "seconds": 4.0}])
    board({"step": 10})
    assert len(shown) == 2 and shown[1]["image/png"] != first
    assert board.watch(0.01).join(20) is None, "stopped: the thread ends"
    done = Dashboard(runs["paid"])
    done.button.click()
    assert not (runs["paid"] / "stop").exists()


def test_an_interrupted_cell_stops_the_run_it_follows(tmp_path, shown):
    board = Dashboard(tmp_path)

    def work(words, progress):
        while not (tmp_path / "stop").exists():
            time.sleep(0.01)
        assert progress is board
        return words

    async def cell():
        following = asyncio.create_task(board.follow(work, "stopped"))
        await asyncio.sleep(0.1)
        following.cancel()
        return await following

    assert asyncio.run(cell()) == "stopped"


def test_controls_draw_anew_and_an_error_is_one_line(shown):
    advantage_playground()
    box = controls(shown[0])
    first = shown[1]["image/png"]
    box["scale by"].value = "batch"
    assert shown[1]["image/png"] != first and "batch" in shown[1]["text/plain"]
    box["rewards"].value = "1 0 x"
    assert "image/png" not in shown[1] and "could not convert" in shown[1]["text/plain"]
    assert shown[0]._repr_mimebundle_()["text/plain"] == "Controls, in a notebook that is run."


def test_every_control_of_the_clip_playground_moves_the_picture(shown):
    clip_playground()
    for name, slider in controls(shown[0]).items():
        before = shown[1]["image/png"]
        slider.value = slider.value * 0.8
        assert shown[1]["image/png"] != before, name


def test_the_stepper_steps(shown):
    pool_stepper(rounds=2)
    box = controls(shown[0])
    assert "round 2" in shown[1]["text/plain"]
    box["next round"].click()
    assert "round 3" in shown[1]["text/plain"]
    box["serving"].value = "plain"
    assert "round 2, served by plain" in shown[1]["text/plain"].replace("'", "")
    (why,) = (w for row in shown[0].children for w in row.children if isinstance(w, ipywidgets.HTML))
    assert why.value.startswith("<pre") and "row 9: served" in why.value


def test_the_browser_turns_pages(runs, shown):
    RolloutBrowser(runs["scan"])._ipython_display_()
    box = controls(shown[0])
    first = shown[1]["text/html"]
    box["next ▶"].click()
    second = shown[1]["text/html"]
    box["◀ before"].click()
    assert second != first == shown[1]["text/html"]
    box["groups"].value = "with demonstrations"
    assert "served demonstrated" in shown[1]["text/html"]
    assert box["number"].max == len(chosen(read_groups(runs["scan"]), "with demonstrations"))
