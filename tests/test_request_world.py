"""Requests that are executed: what is held out is new, the gold calls bring about the goal, and rewards say so."""

import json
import re

import pytest
import torch

from toolexpander_lite.__main__ import main
from toolexpander_lite.base.errors import RunError
from toolexpander_lite.evaluation import executed
from toolexpander_lite.evaluation.executed import ExecutedReward, run_episodes, solver
from toolexpander_lite.evaluation.tool_caller import style_in
from toolexpander_lite.method.calls import judge
from toolexpander_lite.method.prompts import gold_completion, wants_think
from toolexpander_lite.method.samples import tool_name
from toolexpander_lite.training import splits
from toolexpander_lite.worlds.api_tasks import FAMILIES
from toolexpander_lite.worlds.api_world import DAYS, TOOL_NAMES, UNITS, World
from toolexpander_lite.worlds.request_world import (
    HELD_OUT_WORDINGS,
    NAMES,
    SPLITS,
    TRAINED_TOOLS,
    UNSEEN_TOOLS,
    request_tasks,
)

TRAIN, TEST, UNSEEN, FRESH, FRESH_UNSEEN = (request_tasks(split, 6, seed=1) for split in SPLITS)


def open_values(tasks):
    """Values of the gold calls that no schema lists and no clock does."""
    calls = [call for task in tasks for call in task.sample.calls]
    pairs = [(k, v) for call in calls for k, v in call["arguments"].items() if k != "hour"]
    return {v for _, v in pairs if v not in (*DAYS, *UNITS)}


@pytest.mark.parametrize("tasks", [TRAIN, TEST, UNSEEN, FRESH, FRESH_UNSEEN], ids=SPLITS)
def test_the_gold_calls_of_every_task_bring_about_its_goal_and_no_call_does_not(tasks):
    gold = run_episodes(solver(tasks, lambda task: task.turns), tasks)
    assert {episode.reason for episode in gold} == {"ok"}
    idle = run_episodes(lambda chats: ["<think>no</think>"] * len(chats), tasks)
    assert {episode.reason for episode in idle} == {"no_call"}


def test_held_out_requests_share_no_value_and_no_wording_with_training_ones():
    drawn = [TRAIN, TEST, UNSEEN, FRESH, FRESH_UNSEEN]
    assert len({task.sample.id for tasks in drawn for task in tasks}) == sum(map(len, drawn))
    assert [len(tasks) for tasks in drawn] == [14 * 6, 14 * 6, 3 * 6, 14 * 6, 3 * 6]
    many = request_tasks("train", 12, seed=5)
    for held_out in (TEST, UNSEEN, FRESH, FRESH_UNSEEN):
        assert not open_values(held_out) & open_values((*TRAIN, *many))
    for kind in NAMES["train"]:
        names = [name for group in NAMES.values() for name in group[kind]]
        assert len(set(names)) == len(names)
    for family, (_, templates, _) in FAMILIES.items():
        held_out = [text for words in HELD_OUT_WORDINGS.values() for text in words.get(family, ())]
        plain = [re.sub(r"{\w+}", "", text) for text in (*templates, *held_out)]
        assert len(set(plain)) == len(plain)


def test_fresh_wordings_have_the_values_of_the_training_ones_and_share_no_four_words_with_others():
    def runs(text):
        words = re.findall(r"[a-z']+", re.sub(r"{\w+}", " . ", text.lower()))
        return {tuple(words[n : n + 4]) for n in range(len(words) - 3)}

    for family, fresh in HELD_OUT_WORDINGS["fresh"].items():
        known = [*FAMILIES[family][1], *HELD_OUT_WORDINGS["test"][family]]
        values = {frozenset(re.findall(r"{\w+}", text)) for text in known}
        assert len(fresh) == 10 and {frozenset(re.findall(r"{\w+}", text)) for text in fresh} <= values
        assert not set().union(*map(runs, fresh)) & set().union(*map(runs, known))


def test_unseen_tools_are_neither_called_nor_on_offer_in_training_nor_beside_other_held_out_tools():
    assert set(UNSEEN_TOOLS) | set(TRAINED_TOOLS) == set(TOOL_NAMES) and len(UNSEEN_TOOLS) == 3
    for tasks in (TRAIN, TEST, FRESH):
        assert not {tool_name(tool) for task in tasks for tool in task.sample.tools} & set(UNSEEN_TOOLS)
    for tasks in (UNSEEN, FRESH_UNSEEN):
        assert {task.sample.family for task in tasks} == set(UNSEEN_TOOLS)
    for task in (*TRAIN, *TEST, *UNSEEN, *FRESH, *FRESH_UNSEEN):
        assert len(task.sample.tools) == 2


def test_the_same_request_has_the_same_task_and_seeds_differ():
    assert request_tasks("train", 3, 7) == request_tasks("train", 3, 7)
    assert {t.sample.id for t in request_tasks("train", 3, 7)} != {t.sample.id for t in request_tasks("train", 3, 8)}


def rewards_of(task, *texts, log_metric=None, think=True):
    n, sample = len(texts), task.sample
    columns = {"calls": [json.dumps(sample.calls)] * n, "tools": [json.dumps(sample.tools)] * n}
    reward = ExecutedReward({sample.id: task}, think)
    return reward(["?"] * n, list(texts), sample_id=[sample.id] * n, log_metric=log_metric, **columns)


def test_a_reward_is_one_for_the_right_state_in_the_right_format():
    task = next(t for t in TRAIN if t.sample.family == "deposit_money")
    [call] = task.sample.calls
    gold = gold_completion(task.sample)
    more = gold.replace(str(call["arguments"]["amount"]), str(call["arguments"]["amount"] + 1))
    assert rewards_of(task, gold, more, gold + " done", gold + gold.split("\n", 1)[1], "", "<tool_call>" * 9) == [
        1, 0, 0, 0, 0, 0]  # fmt: skip
    plain = gold_completion(task.sample, think=False)
    assert rewards_of(task, plain) == [0] and rewards_of(task, plain, think=False) == [1]
    halves = [dict(call, arguments={**call["arguments"], "amount": call["arguments"]["amount"] // 2})] * 2
    twice = "<think>in two</think>" + "".join(f"<tool_call>{json.dumps(half)}</tool_call>" for half in halves)
    assert rewards_of(task, twice) == [1], "what counts is what the account holds"


def test_a_tool_at_fault_is_counted_and_the_calls_are_compared_instead(monkeypatch):
    task = next(t for t in TRAIN if t.sample.family == "deposit_money")
    gold, logged = gold_completion(task.sample), {}
    wrong = gold.replace("deposit_money", "transfer_money")
    monkeypatch.setattr(World, "deposit_money", lambda self, **arguments: {1, 2})  # no JSON
    assert rewards_of(task, gold, wrong, log_metric=logged.__setitem__) == [1, 0]
    assert logged["executed/tool_faults"] == 0.5


@pytest.mark.parametrize(
    "recipe, asked", [({"prompt_style": "native"}, "native"), ({"invite": True}, "example"), ({}, "think")]
)
def test_evaluate_executes_and_asks_as_in_the_training_of_the_run(tmp_path, monkeypatch, capsys, recipe, asked):
    data = splits.Splits(TRAIN, [t.sample for t in TEST], (), {}, tasks={t.sample.id: t for t in TEST})

    def answer(model, tokenizer, samples, length, invite):
        """Right calls without a thought, and of every other request none."""
        styles.append(invite)
        texts = [gold_completion(s, think=False) if i % 2 else "I cannot." for i, s in enumerate(samples)]
        return None, texts, [judge(t, s.calls, s.tools, wants_think(invite)) for t, s in zip(texts, samples)]

    monkeypatch.setattr("toolexpander_lite.__main__.policy_of", lambda profile: (None, None))
    monkeypatch.setattr(splits, "load_splits", lambda *a: data)
    monkeypatch.setattr(executed, "ask_and_judge", answer)
    monkeypatch.setattr(executed, "gold_logprobs", lambda *a, **k: torch.zeros(1))
    (tmp_path / "run" / "final").mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text(json.dumps({"recipe": recipe}))
    evaluate, styles = ["evaluate", "--profile", "smol-world", "--model", str(tmp_path / "run" / "final")], []
    for more in ([], ["--style", "native"]):
        assert main([*evaluate, *more]) == 0
    first, native = map(json.loads, re.findall(r"^{.*?^}$", capsys.readouterr().out, re.MULTILINE | re.DOTALL))
    assert styles == [asked, "native"] and native["questions"] == len(TEST)
    assert first["zero_shot"] == (0.5 if asked == "native" else 0) and native["zero_shot"] == 0.5


@pytest.mark.parametrize(
    "config, told", [('{"recipe": "of another program"}', "think"), ("{}", "think"), ("[1, 2]", "no JSON object")]
)
def test_a_config_of_another_program_beside_final_is_no_traceback(tmp_path, config, told):
    (tmp_path / "final").mkdir()
    (tmp_path / "config.json").write_text(config)
    if told == "think":
        assert style_in(tmp_path / "final") == "think"
    else:
        with pytest.raises(RunError, match=r"config.json cannot be read as a JSON object \(.*\[1, 2\]"):
            style_in(tmp_path / "final")
