"""Scripted models: what they write is what they are told to, and the judges see it."""

from test_executed import TASKS

from toolexpander_lite.evaluation.api_bank import score_api_bank
from toolexpander_lite.evaluation.executed import run_episodes
from toolexpander_lite.evaluation.scripted import solver, state_changes, step_by_step, told, write_answers
from toolexpander_lite.method.calls import judge


def test_a_solver_writes_its_turns_and_is_done():
    tasks = list(TASKS.values())
    gold = run_episodes(solver(tasks, lambda task: task.turns), tasks, timeout=60)
    assert [e.reason for e in gold] == ["ok"] * len(tasks)
    silent = run_episodes(solver(tasks, lambda task: []), tasks, timeout=60)
    assert {e.reason for e in silent} == {"no_call"}


def test_step_by_step_tells_calls_answers_and_the_judgement():
    task = next(t for t in TASKS.values() if t.kind == "change")
    asked, call, answer, judged = step_by_step(task, task.turns)
    assert (asked["step"], call["step"], answer["step"], judged["what"]) == ("asked", "call", "answer", "right")
    assert asked["state"].removeprefix("goal: ") == judged["state"].removeprefix("since the start: ") != "nothing"
    *_, refused, judged = step_by_step(task, [[{"name": "rob_bank", "arguments": {}}]])
    assert (refused["step"], judged["what"]) == ("refused", "wrong") and "rob_bank" in refused["what"]
    assert judged["state"] == "since the start: nothing"


def test_changes_of_a_state_are_named():
    before = {"accounts": {"Bob": 5, "Zoë": 1}, "stock": {}}
    after = {"accounts": {"Bob": 7, "Zoë": 1}, "stock": {"rice": [1, 2]}}
    assert state_changes(before, after) == "Bob: 5 → 7; rice: None → [1, 2]"
    assert state_changes(before, before) == "nothing"


def test_written_answers_are_scored(tmp_path):
    sample = next(t for t in TASKS.values() if t.kind == "change").sample
    assert judge(told(sample.calls), sample.calls, sample.tools).reason == "ok"
    write_answers(tmp_path / "new" / "a.jsonl", [(sample, told(sample.calls))])
    [scores] = score_api_bank([sample], tmp_path / "new" / "a.jsonl").values()
    assert (scores["correct"], scores["answered"], scores["well_formed"]) == (1, 1, 1.0)
