"""Scripted models: answers without weights, whose skill is known because it was written. They take judges apart."""

import json

from ..method.calls import parse_completion
from ..method.samples import tool_name
from ..worlds.api_world import World, initial_state
from .answers import calls_text

DONE = "<think>done</think>"


def told(calls):
    """Calls as a well-formed completion -> str."""
    return "<think>as I see it</think>\n" + calls_text(calls)


def solver(tasks, turns_of):
    """A model for `executed.run_episodes` that writes `turns_of(task)`, one list of calls per turn, and then is done.

    It knows a task by its request, so no two of `tasks` may have the same.
    """
    script = {task.sample.messages[-1]["content"]: turns_of(task) for task in tasks}

    def answer(chats):
        turns = [script[next(m["content"] for m in c["messages"] if m["role"] == "user")] for c in chats]
        said = [sum(m["role"] == "assistant" for m in c["messages"]) for c in chats]
        return [told(t[n]) if n < len(t) else DONE for t, n in zip(turns, said)]

    return answer


def state_changes(before, after):
    """What differs between two states of the world, in words -> str."""
    keys = [(table, key) for table in before for key in before[table] | after[table]]
    rows = [(key, before[table].get(key), after[table].get(key)) for table, key in keys]
    return "; ".join(f"{key}: {old} → {new}" for key, old, new in rows if old != new) or "nothing"


def step_by_step(task, turns, timeout=60):
    """Run the calls of `turns` on a fresh world of `task` -> rows {"step", "what", "state"}: request, calls, answers.

    The last row judges by the state alone, as for a task that asks for a change. `timeout`: seconds for each call.
    """
    start = initial_state(task.seed)
    goal = "goal: " + state_changes(start, task.goal)
    rows = [{"step": "asked", "what": task.sample.messages[-1]["content"], "state": goal}]
    with World(task.seed, [tool_name(tool) for tool in task.sample.tools]) as world:
        for call in (call for turn in turns for call in turn):
            before, result = world.state(), world.tools.execute(call, timeout)
            rows.append({"step": "call", "what": json.dumps(call, ensure_ascii=False), "state": ""})
            said = json.dumps(result.value, ensure_ascii=False) if result.ok else result.error
            changed = "changed: " + state_changes(before, world.state())
            rows.append({"step": "answer" if result.ok else "refused", "what": said, "state": changed})
        verdict, since = world.state() == task.goal, "since the start: " + state_changes(start, world.state())
    return [*rows, {"step": "judged", "what": "right" if verdict else "wrong", "state": since}]


def write_answers(file, answers):
    """(sample, completion) pairs as the file of answers that the scoring functions read; see `answers.py`."""
    rows = [{"id": s.id, "result": calls_text(parse_completion(text).calls), "completion": text} for s, text in answers]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
