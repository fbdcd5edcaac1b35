"""Tasks in the API world: a request in plain words, and the state or the answer that a right solution leaves.

Four kinds: a *question* (one call that reads), a *change* (one call that writes), *parallel* changes (two or
three calls that do not depend on one another, in one answer) and a *chain*, where the answer of one call is
needed for the next. The goal is worked out here from the initial state, not by running the gold calls, so a
broken tool cannot agree with itself. All wording is ours.
"""

import copy
import hashlib
import random
import tomllib
from dataclasses import dataclass
from pathlib import Path

from ..base.errors import DataError
from ..method.samples import ToolSample
from .api_world import DAYS, HOURS, TOOL_NAMES, TOOLS, UNITS, convert, initial_state
from .nano_world import split_of

TOOLS_PER_TASK = 3  # on offer: those of the gold calls and distractors; few, since a weak model's prompts are short
CHAIN_PROMPT = (
    "You may need the answer of one call for the next: write a call, wait for the tool's answer, then go on. "
    "When everything is done, write a thought and no call."
)
NEW_TITLES = ("budget review", "haircut", "café with Léa", "garden planning", "guitar class", "school visit")


@dataclass(frozen=True)
class Task:
    """One request with its goal.

    Attributes:
        sample: what the model is shown; its `calls` are the gold calls of the first turn.
        kind: "question", "change", "parallel" or "chain".
        seed: of `api_world.initial_state`, on a fresh copy of which the task is run.
        turns: gold calls, one list per turn; only a chain has more than one turn.
        goal: the state after a right solution, in the form of `World.state` (for a question the initial one).
        answer: for a question, what the last call must return; else None.
        start: the state it begins with, where that is not the seed's own.
    """

    sample: ToolSample
    kind: str
    seed: int
    turns: list
    goal: dict
    answer: dict | None
    start: dict | None = None


def _call(name, **arguments):
    return {"name": name, "arguments": arguments}


# One function per family of api_tasks.toml. It draws a request, changes `state` (a copy of the initial one) into the
# goal and returns the words of the request, the gold turns, and the answer of a question.


def _balance(rng, state):
    owner = rng.choice(list(state["accounts"]))
    answer = {"owner": owner, "balance": state["accounts"][owner]}
    return {"owner": owner}, [[_call("get_balance", owner=owner)]], answer


def _event_time(rng, state):
    title = rng.choice(list(state["events"]))
    day, hour = state["events"][title]
    return {"title": title}, [[_call("find_event", title=title)]], {"title": title, "day": day, "hour": hour}


def _day_plan(rng, state):
    day = rng.choice(DAYS)
    answer = {"day": day, "events": [{"title": title, "hour": hour} for title, hour in _on(day, state)]}
    return {"day": day}, [[_call("list_events", day=day)]], answer


def _stock(rng, state):
    item = rng.choice(list(state["stock"]))
    quantity, unit, price = state["stock"][item]
    answer = {"item": item, "quantity": quantity, "unit": unit, "price": price}
    return {"item": item}, [[_call("check_stock", item=item)]], answer


def _conversion(rng, state):
    source = rng.choice(list(UNITS))
    target = rng.choice(_other_units(source))
    value = rng.choice((rng.randrange(2, 500), rng.randrange(11, 99) / 10))
    call = _call("convert_units", value=value, from_unit=source, to_unit=target)
    answer = {"value": convert(value, source, target), "unit": target}
    return {"value": value, "source": source, "target": target}, [[call]], answer


def _deposit(rng, state):
    owner, amount = rng.choice(list(state["accounts"])), rng.randrange(10, 200)
    state["accounts"][owner] += amount
    return {"owner": owner, "amount": amount}, [[_call("deposit_money", owner=owner, amount=amount)]], None


def _withdrawal(rng, state):
    owner, amount = rng.choice(list(state["accounts"])), rng.randrange(10, 200)
    state["accounts"][owner] -= amount
    return {"owner": owner, "amount": amount}, [[_call("withdraw_money", owner=owner, amount=amount)]], None


def _transfer(rng, state):
    sender, receiver = rng.sample(list(state["accounts"]), 2)
    words = {"sender": sender, "receiver": receiver, "amount": rng.randrange(10, 200)}
    _move_money(state, **words)
    return words, [[_call("transfer_money", **words)]], None


def _new_event(rng, state):
    words = {"title": rng.choice(NEW_TITLES)} | _free_hour(rng, state)
    state["events"][words["title"]] = [words["day"], words["hour"]]
    return words, [[_call("add_event", **words)]], None


def _moved_event(rng, state):
    words = {"title": rng.choice(list(state["events"]))} | _free_hour(rng, state)
    state["events"][words["title"]] = [words["day"], words["hour"]]
    return words, [[_call("move_event", **words)]], None


def _cancelled_event(rng, state):
    title = rng.choice(list(state["events"]))
    del state["events"][title]
    return {"title": title}, [[_call("cancel_event", title=title)]], None


def _restock(rng, state):
    item, quantity = rng.choice(list(state["stock"])), rng.randrange(2, 40)
    state["stock"][item][0] += quantity
    words = {"item": item, "quantity": quantity, "unit": state["stock"][item][1]}
    return words, [[_call("restock_item", item=item, quantity=quantity)]], None


def _sale(rng, state):
    item, buyer, quantity = rng.choice(list(state["stock"])), rng.choice(list(state["accounts"])), rng.randrange(2, 9)
    _, unit, price = state["stock"][item]
    state["stock"][item][0] -= quantity
    state["accounts"][buyer] -= price * quantity
    call = _call("sell_item", item=item, quantity=quantity, buyer=buyer)
    return {"item": item, "quantity": quantity, "unit": unit, "buyer": buyer}, [[call]], None


def _two_changes(rng, state):
    return _changes(rng, state, rng.sample(("money", "calendar", "store"), 2))


def _three_changes(rng, state):
    return _changes(rng, state, rng.sample(("money", "calendar", "store"), 3))


def _changes(rng, state, parts):
    """One change in each part of the world, so that no order of the calls matters."""
    families = {"money": ("deposit", "withdrawal", "transfer"), "store": ("restock",)}
    families["calendar"] = ("new_event", "moved_event", "cancelled_event")
    requests, calls = [], []
    for part in parts:
        _, templates, draw = FAMILIES[rng.choice(families[part])]
        words, [[call]], _ = draw(rng, state)
        requests.append(rng.choice(templates).format(**words))
        calls.append(call)
    return {"requests": " ".join(requests)}, [calls], None


def _emptied_account(rng, state):
    sender, receiver = rng.sample(list(state["accounts"]), 2)
    words = {"sender": sender, "receiver": receiver, "amount": state["accounts"][sender]}
    _move_money(state, **words)
    return words, [[_call("get_balance", owner=sender)], [_call("transfer_money", **words)]], None


def _other_day(rng, state):
    title = rng.choice(list(state["events"]))
    day, hour = state["events"][title]
    free = [d for d in DAYS if d != day and [d, hour] not in state["events"].values()]
    words = {"title": title, "day": rng.choice(free)}
    state["events"][title] = [words["day"], hour]
    return words, [[_call("find_event", title=title)], [_call("move_event", **words, hour=hour)]], None


def _next_hour(rng, state):
    taken = list(state["events"].values())
    fitting = [t for t, (d, h) in state["events"].items() if h + 1 in HOURS and [d, h + 1] not in taken]
    title, new = rng.choice(fitting), rng.choice(NEW_TITLES)
    day, hour = state["events"][title]
    state["events"][new] = [day, hour + 1]
    turns = [[_call("find_event", title=title)], [_call("add_event", title=new, day=day, hour=hour + 1)]]
    return {"title": title, "new": new}, turns, None


def _cleared_day(rng, state):
    day = rng.choice([d for d in DAYS if len(_on(d, state)) == 2])
    titles = [title for title, _ in _on(day, state)]
    for title in titles:
        del state["events"][title]
    return {"day": day}, [[_call("list_events", day=day)], [_call("cancel_event", title=t) for t in titles]], None


def _filled_up(rng, state):
    item = rng.choice(list(state["stock"]))
    stored, unit, _ = state["stock"][item]
    wanted = stored + rng.randrange(5, 40)
    state["stock"][item][0] = wanted
    turns = [[_call("check_stock", item=item)], [_call("restock_item", item=item, quantity=wanted - stored)]]
    return {"item": item, "wanted": wanted, "unit": unit}, turns, None


def _converted_stock(rng, state):
    item = rng.choice(list(state["stock"]))
    stored, unit, _ = state["stock"][item]
    target = rng.choice(_other_units(unit))
    call = _call("convert_units", value=stored, from_unit=unit, to_unit=target)
    answer = {"value": convert(stored, unit, target), "unit": target}
    return {"item": item, "target": target}, [[_call("check_stock", item=item)], [call]], answer


def _sale_and_rest(rng, state):
    words, [[sale]], _ = _sale(rng, state)
    receiver = rng.choice([owner for owner in state["accounts"] if owner != words["buyer"]])
    rest = {"sender": words["buyer"], "receiver": receiver, "amount": state["accounts"][words["buyer"]]}
    _move_money(state, **rest)
    turns = [[sale], [_call("get_balance", owner=words["buyer"])], [_call("transfer_money", **rest)]]
    return words | {"receiver": receiver}, turns, None


def _on(day, state):
    """(title, hour) of the events of a day, earliest first."""
    return sorted(((t, h) for t, (d, h) in state["events"].items() if d == day), key=lambda event: event[1])


def _free_hour(rng, state):
    taken = list(state["events"].values())
    day, hour = rng.choice([(d, h) for d in DAYS for h in HOURS if [d, h] not in taken])
    return {"day": day, "hour": hour}


def _move_money(state, sender, receiver, amount):
    state["accounts"][sender] -= amount
    state["accounts"][receiver] += amount


def _other_units(unit):
    return [other for other in UNITS if other != unit and UNITS[other][0] == UNITS[unit][0]]


_DRAWS = (  # in the order of api_tasks.toml
    _balance, _event_time, _day_plan, _stock, _conversion, _deposit, _withdrawal, _transfer, _new_event, _moved_event,
    _cancelled_event, _restock, _sale, _two_changes, _three_changes, _emptied_account, _other_day, _next_hour,
    _cleared_day, _filled_up, _converted_stock, _sale_and_rest,
)  # fmt: skip
ASKED = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
FAMILIES = {  # name -> (kind, templates, function that draws)
    name: (family["kind"], tuple(family["templates"]), draw)
    for (name, family), draw in zip(ASKED.items(), _DRAWS, strict=True)
}


def api_tasks(seed=0, per_family=4, split=None, limit=None):
    """The tasks of one initial state -> list of `Task`, the same for the same arguments.

    Args:
        seed: of the initial state and of what is asked; the families and templates are always the same.
        per_family: tasks of each of the 22 families, no request twice.
        split: "train" or "test" keeps these alone; a request is in one of the two by its id's hash, whatever the seed.
        limit: keep so many, drawn at random by the seed; None keeps all.

    Raises:
        DataError: another split, a limit under 1, or a family cannot make so many different requests.
    """
    if split not in (None, "train", "test"):
        raise DataError(f"split is {split!r}; use 'train', 'test' or None for both")
    if limit is not None and limit < 1:
        raise DataError(f"limit is {limit}; give the number of tasks to keep, or none for all")
    tasks = []
    for name in FAMILIES:
        rng, made, repeats = random.Random(f"{seed}-{name}"), {}, 0
        while len(made) < per_family:
            task = _draw_task(name, rng, seed, template=len(made))
            repeats = repeats + 1 if task.sample.id in made else 0
            made[task.sample.id] = task
            if repeats == 200:
                raise DataError(f"{name} has too few different requests for per_family={per_family}; lower it")
        tasks += made.values()
    tasks = [task for task in tasks if split in (None, task.sample.split)]
    return tasks if limit is None else random.Random(seed).sample(tasks, min(limit, len(tasks)))


def _draw_task(name, rng, seed, template):
    """One task of a family; `template` counts through its templates."""
    kind, templates, draw = FAMILIES[name]
    goal = copy.deepcopy(initial_state(seed))
    words, turns, answer = draw(rng, goal)
    query = templates[template % len(templates)].format(**words)
    id = f"api-{name}-{hashlib.sha256(query.encode()).hexdigest()[:10]}"
    needed = {call["name"] for turn in turns for call in turn}
    distractors = random.Random(query).sample([n for n in TOOL_NAMES if n not in needed], TOOLS_PER_TASK - len(needed))
    offered = [tool for tool in TOOLS if tool["function"]["name"] in needed.union(distractors)]
    random.Random(query).shuffle(offered)
    system = [{"role": "system", "content": CHAIN_PROMPT}] if kind == "chain" else []
    messages = [*system, {"role": "user", "content": query}]
    sample = ToolSample(id, f"api-{kind}", messages, copy.deepcopy(offered), turns[0], split_of(id))
    return Task(sample, kind, seed, turns, goal, answer)
