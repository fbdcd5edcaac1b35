"""Requests to the API world for training a real model: what is held out is new in words, in values and in tools.

    train    `TRAINED_TOOLS`, the wordings of `api_tasks.FAMILIES`, names of `NAMES["train"]`, even numbers
    test     the same tools; wordings, names and numbers (odd ones) that no training request has
    unseen   `UNSEEN_TOOLS`, which are neither called nor on offer in training; otherwise as test
    fresh, fresh_unseen
             as test and unseen, in further wordings and names, written by another author, who saw no model's answers,
             after the recipes were fixed. Ask them of finished runs only: what is chosen by them is not tested by them.

Days, hours and units are lists that a tool's schema shows, and the same throughout. A task is drawn by `api_tasks`; its
names are then exchanged for those of the split, in the request, the calls, the state and the goal alike. Two requests
that concern different parts of the world make a *parallel* one. All names and wordings are ours.
"""

import copy
import hashlib
import random
import tomllib
from functools import lru_cache
from pathlib import Path

from ..method.samples import ToolSample
from .api_tasks import ASKED, FAMILIES, NEW_TITLES, Task
from .api_world import EVENTS, ITEMS, OWNERS, TOOLS, initial_state

SPLITS = ("train", "test", "unseen", "fresh", "fresh_unseen")
UNSEEN_TOOLS = ("withdraw_money", "list_events", "check_stock")  # of each part of the world one
TOOL_OF = {name: family["tool"] for name, family in ASKED.items() if "tool" in family}
HELD_OUT_WORDINGS = {"test": {name: ASKED[name]["held_out"] for name in TOOL_OF}}
NAMES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
HELD_OUT_WORDINGS["fresh"] = NAMES.pop("fresh_wordings")
TRAINED_TOOLS = tuple(tool for tool in TOOL_OF.values() if tool not in UNSEEN_TOOLS)
PARALLEL = (("deposit", "new_event"), ("transfer", "restock"), ("moved_event", "sale"), ("cancelled_event", "deposit"))
TOOLS_PER_REQUEST = 2
NUMBERS = ("amount", "quantity", "value")  # arguments that are even in training and odd in what is held out
SHOWN = ("type", "enum")  # of an argument's schema: prompts are short, and the tools check the rest


def families(split):
    """Families of a split, parallel ones last -> list of str; each is named by the tool, or tools, that it needs."""
    unseen = split.endswith("unseen")
    single = [f for f, tool in TOOL_OF.items() if (tool in UNSEEN_TOOLS) == unseen]
    return [(f,) for f in single] + ([] if unseen else list(PARALLEL))


@lru_cache(maxsize=16)
def request_tasks(split, per_family, seed=0):
    """The tasks of a split -> tuple of `api_tasks.Task`, the same for the same arguments, no request twice.

    Args:
        split: of `SPLITS`.
        per_family: tasks of each of its families.
        seed: of what is asked; held-out tasks of different seeds may be equal to one another, never to training ones.
    """
    tasks = []
    for parts in families(split):
        rng, made = random.Random(f"{seed}-{split}-{parts}"), {}
        for _ in range(1000):
            if len(made) == per_family:
                break
            if task := _draw(parts, split, rng, template=len(made)):
                made.setdefault(task.sample.id, task)
        tasks += made.values()
    return tuple(tasks)


def _draw(parts, split, rng, template):
    """One task that asks for `parts`, families of different parts of the world; None where a number is of the other
    kind or the parts disagree."""
    words_of = {"unseen": "test", "fresh_unseen": "fresh"}.get(split, split)
    held_out, seed = split != "train", rng.randrange(100)
    names = _exchange(NAMES[words_of], rng)
    goal, requests, calls = copy.deepcopy(initial_state(seed)), [], []
    for part in parts:
        kind, templates, draw = FAMILIES[part]
        words, [[call]], answer = draw(rng, goal)
        if any(_last_digit(call["arguments"][n]) % 2 != held_out for n in NUMBERS if n in call["arguments"]):
            return None
        templates = HELD_OUT_WORDINGS[words_of][part] if held_out else templates
        words = {name: names.get(word, word) for name, word in words.items()}
        requests.append(templates[template % len(templates)].format(**words))
        calls.append(_renamed(call, names))
    kind = kind if len(parts) == 1 else "parallel"
    query, start, goal = " ".join(requests), _renamed(initial_state(seed), names), _renamed(goal, names)
    id = f"request-{'+'.join(parts)}-{hashlib.sha256(query.encode()).hexdigest()[:10]}"
    others = [tool for tool in TRAINED_TOOLS if tool not in {call["name"] for call in calls}]
    offered = {call["name"] for call in calls} | set(rng.sample(others, max(0, TOOLS_PER_REQUEST - len(calls))))
    tools = [_as_shown(tool) for tool in TOOLS if tool["function"]["name"] in offered]
    rng.shuffle(tools)
    family, where = "+".join(call["name"] for call in calls), "test" if held_out else "train"
    sample = ToolSample(id, family, [{"role": "user", "content": query}], tools, calls, where)
    return Task(sample, kind, seed, [calls], goal, _renamed(answer, names), start)


def _exchange(names, rng):
    """{name of the API world: another one}"""
    pairs = ((OWNERS, "owners"), (EVENTS, "events"), (NEW_TITLES, "new"))
    exchanged = {old: new for olds, kind in pairs for old, new in zip(olds, rng.sample(names[kind], len(olds)))}
    return exchanged | dict(zip(ITEMS, names["items"]))  # an item keeps its unit: nothing is sold by the wrong one


def _renamed(value, names):
    """A JSON value with all names exchanged, keys of objects included."""
    if isinstance(value, dict):
        return {names.get(k, k): _renamed(v, names) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_renamed(v, names) for v in value]
    return names.get(value, value) if isinstance(value, str) else value


def _last_digit(number):
    return int(str(number).removesuffix(".0")[-1])


def _as_shown(tool):
    """A tool's schema with the `SHOWN` parts of each argument alone."""
    function = tool["function"]
    arguments = function["parameters"]["properties"].items()
    properties = {name: {k: rule[k] for k in SHOWN if k in rule} for name, rule in arguments}
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {**function, "parameters": parameters}}
