"""The API world: what each tool does to the state, and tasks whose goals do not come from the tools."""

import threading

import pytest

from toolexpander_lite.base.errors import DataError
from toolexpander_lite.method.prompts import gold_completion, render_messages
from toolexpander_lite.method.samples import to_dataset, to_samples
from toolexpander_lite.worlds.api_tasks import CHAIN_PROMPT, FAMILIES, TOOLS_PER_TASK, api_tasks
from toolexpander_lite.worlds.api_world import DAYS, HOURS, TOOL_NAMES, World, convert, initial_state
from toolexpander_lite.worlds.nano_world import split_of

START = {
    "accounts": {"Alice": 100, "Zoë": 30},
    "events": {"dentist": ["Monday", 9], "yoga": ["Monday", 8]},
    "stock": {"rice": [10, "kg", 4]},
}


@pytest.fixture
def world(monkeypatch):
    monkeypatch.setattr("toolexpander_lite.worlds.api_world.initial_state", lambda seed: START)
    with World() as world:
        yield world


def run(world, name, **arguments):
    return world.tools.execute({"name": name, "arguments": arguments}, timeout=60)


def changed(**tables):
    return {name: rows | tables.get(name, {}) for name, rows in START.items()}


@pytest.mark.parametrize(
    ("name", "arguments", "value"),
    [
        ("get_balance", {"owner": "Zoë"}, {"owner": "Zoë", "balance": 30}),
        ("find_event", {"title": "yoga"}, {"title": "yoga", "day": "Monday", "hour": 8}),
        ("list_events", {"day": "Monday"},
         {"day": "Monday", "events": [{"title": "yoga", "hour": 8}, {"title": "dentist", "hour": 9}]}),
        ("list_events", {"day": "Friday"}, {"day": "Friday", "events": []}),
        ("check_stock", {"item": "rice"}, {"item": "rice", "quantity": 10, "unit": "kg", "price": 4}),
        ("convert_units", {"value": 5, "from_unit": "mi", "to_unit": "km"}, {"value": 8.0467, "unit": "km"}),
    ],
)  # fmt: skip
def test_a_question_is_answered_and_changes_nothing(world, name, arguments, value):
    result = run(world, name, **arguments)
    assert (result.reason, result.value) == ("ok", value)
    assert world.state() == START


@pytest.mark.parametrize(
    ("name", "arguments", "state"),
    [
        ("deposit_money", {"owner": "Zoë", "amount": 5}, changed(accounts={"Zoë": 35})),
        ("withdraw_money", {"owner": "Zoë", "amount": 30}, changed(accounts={"Zoë": 0})),
        ("transfer_money", {"sender": "Alice", "receiver": "Zoë", "amount": 1},
         changed(accounts={"Alice": 99, "Zoë": 31})),
        ("add_event", {"title": "Ünï", "day": "Monday", "hour": 10}, changed(events={"Ünï": ["Monday", 10]})),
        ("move_event", {"title": "yoga", "day": "Friday", "hour": 9}, changed(events={"yoga": ["Friday", 9]})),
        ("cancel_event", {"title": "yoga"}, START | {"events": {"dentist": ["Monday", 9]}}),
        ("restock_item", {"item": "rice", "quantity": 3.0}, changed(stock={"rice": [13, "kg", 4]})),
        ("sell_item", {"item": "rice", "quantity": 7, "buyer": "Zoë"},
         changed(stock={"rice": [3, "kg", 4]}, accounts={"Zoë": 2})),
    ],
)  # fmt: skip
def test_a_change_leaves_the_right_state(world, name, arguments, state):
    assert run(world, name, **arguments).reason == "ok"
    assert world.state() == state


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("get_balance", {"owner": "alice"}, "there is no 'alice' in the accounts"),
        ("withdraw_money", {"owner": "Zoë", "amount": 31}, "Zoë has only 30 euros"),
        ("transfer_money", {"sender": "Alice", "receiver": "Bob", "amount": 1}, "there is no 'Bob'"),
        ("transfer_money", {"sender": "Zoë", "receiver": "Alice", "amount": 31}, "only 30"),
        ("transfer_money", {"sender": "Zoë", "receiver": "Zoë", "amount": 1}, "the same account"),
        ("add_event", {"title": "new", "day": "Monday", "hour": 9}, "Monday at 9 is taken by 'dentist'"),
        ("add_event", {"title": "yoga", "day": "Friday", "hour": 9}, "'yoga' in the events already"),
        ("move_event", {"title": "yoga", "day": "Monday", "hour": 9}, "taken by 'dentist'"),
        ("cancel_event", {"title": ""}, "there is no ''"),
        ("sell_item", {"item": "rice", "quantity": 11, "buyer": "Alice"}, "only 10 kg"),
        ("sell_item", {"item": "rice", "quantity": 8, "buyer": "Zoë"}, "Zoë has only 30"),
        ("convert_units", {"value": 1, "from_unit": "kg", "to_unit": "l"}, "kg is a mass, l a volume"),
    ],
)
def test_a_refused_call_says_why_and_changes_nothing(world, name, arguments, error):
    result = run(world, name, **arguments)
    assert result.reason == "tool_error" and error in result.error
    assert world.state() == START


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("deposit_money", {"owner": "Zoë", "amount": -5}),
        ("deposit_money", {"owner": "Zoë", "amount": 0}),
        ("deposit_money", {"owner": "Zoë", "amount": 1.5}),
        ("deposit_money", {"owner": "Zoë", "amount": True}),
        ("deposit_money", {"owner": "Zoë", "amount": 10**30}),
        ("deposit_money", {"owner": "Zoë", "amount": float("nan")}),
        ("deposit_money", {"owner": "Zoë"}),
        ("deposit_money", {"owner": "Zoë", "amount": 1, "currency": "EUR"}),
        ("add_event", {"title": "", "day": "Monday", "hour": 10}),
        ("add_event", {"title": "t" * 41, "day": "Monday", "hour": 10}),
        ("add_event", {"title": "t", "day": "monday", "hour": 10}),
        ("add_event", {"title": "t", "day": "Monday", "hour": 18}),
        ("add_event", {"title": "\ud800", "day": "Monday", "hour": 10}),
        ("convert_units", {"value": float("inf"), "from_unit": "m", "to_unit": "km"}),
    ],
)
def test_the_schemas_are_strict(world, name, arguments):
    assert run(world, name, **arguments).reason == "bad_arguments"
    assert world.state() == START


def test_a_change_that_breaks_halfway_is_taken_back(world, monkeypatch):
    pay, paid = world._pay, []

    def second_fails(owner, amount):
        paid.append(owner)
        if len(paid) == 2:
            raise RuntimeError("the lights went out")
        return pay(owner, amount)

    monkeypatch.setattr(world, "_pay", second_fails)
    result = run(world, "transfer_money", sender="Alice", receiver="Zoë", amount=5)
    assert result.error == "RuntimeError: the lights went out" and paid == ["Alice", "Zoë"]
    assert world.state() == START


def test_text_of_a_model_is_a_name_and_nothing_else(world):
    title = "x'); DROP TABLE events; --"
    assert run(world, "add_event", title=title, day="Friday", hour=9).ok
    assert not run(world, "get_balance", owner="Alice' OR '1'='1").ok
    assert not run(world, "cancel_event", title="%").ok
    assert world.state() == changed(events={title: ["Friday", 9]})


def test_only_offered_tools_are_known_and_worlds_do_not_share_state():
    with World(0, ["deposit_money"]) as one, World(0) as other:
        assert run(one, "get_balance", owner="Alice").reason == "unknown_tool"
        assert run(one, "deposit_money", owner="Alice", amount=1).ok
        assert other.state() == initial_state(0) != one.state()
        assert len(other.tools.schemas()) == len(TOOL_NAMES) == 13


def test_calls_from_many_threads_are_all_counted(world):
    threads = [threading.Thread(target=run, args=(world, "deposit_money"), kwargs={"owner": "Zoë", "amount": 1})
               for _ in range(20)]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert world.state() == changed(accounts={"Zoë": 50})


def test_conversions_by_hand():
    assert convert(1, "mi", "ft") == 5280
    assert convert(16, "oz", "lb") == 1
    assert convert(2.5, "gal", "ml") == 9463.5295  # 2.5 * 3785.411784, rounded
    assert convert(0, "kg", "g") == 0


def test_the_state_follows_from_the_seed_and_is_sound():
    assert initial_state(3) == initial_state(3) != initial_state(4)
    for seed in range(20):
        slots = [tuple(slot) for slot in initial_state(seed)["events"].values()]
        assert len(set(slots)) == len(slots)
        assert all(day in DAYS and hour in HOURS for day, hour in slots)


def test_tasks_are_fixed_by_the_seed_and_cover_all_families_tools_and_templates():
    tasks = api_tasks()
    assert tasks == api_tasks() and tasks != api_tasks(1)
    assert len(tasks) == 4 * len(FAMILIES) == 88
    assert len({task.sample.id for task in tasks}) == 88
    assert {task.kind for task in tasks} == {"question", "change", "parallel", "chain"}
    assert {call["name"] for task in tasks for turn in task.turns for call in turn} == set(TOOL_NAMES)
    assert len(api_tasks(limit=7)) == 7 and api_tasks(limit=7) == api_tasks(limit=7)


def test_the_number_of_calls_fits_the_kind():
    for task in api_tasks():
        turns = [len(turn) for turn in task.turns]
        expected = {"question": [[1]], "change": [[1]], "parallel": [[2], [3]], "chain": [[1, 1], [1, 2], [1, 1, 1]]}
        assert turns in expected[task.kind]
        # A question leaves the state alone; anything else is a change of it, chains with an answer excepted.
        assert (task.goal == initial_state(0)) == (task.answer is not None)


def test_samples_can_be_rendered_stored_and_trained_on():
    tasks = api_tasks()
    samples = [task.sample for task in tasks]
    assert to_samples(to_dataset(samples)) == samples
    for task in tasks:
        assert task.sample.calls == task.turns[0] and gold_completion(task.sample)
        assert len(task.sample.tools) == TOOLS_PER_TASK
        offered = {tool["function"]["name"] for tool in task.sample.tools}
        assert {call["name"] for turn in task.turns for call in turn} <= offered
        assert (CHAIN_PROMPT in render_messages(task.sample)[0]["content"]) == (task.kind == "chain")


def test_no_request_is_in_both_splits():
    train, test = (
        {task.sample.messages[-1]["content"] for seed in range(3) for task in api_tasks(seed, split=split)}
        for split in ("train", "test")
    )
    assert train and test and not train & test
    assert all(split_of(task.sample.id) == task.sample.split for task in api_tasks())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "dev"}, "split is 'dev'"),
        ({"limit": 0}, "limit is 0"),
        ({"per_family": 1000}, "balance has too few different requests"),
    ],
)
def test_unfit_settings_are_refused(options, message):
    with pytest.raises(DataError, match=message):
        api_tasks(**options)
