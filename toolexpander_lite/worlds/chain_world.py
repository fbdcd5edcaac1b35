"""Requests that take two calls, the second of them with what the first one answers, for TRL's own tool loop.

Tasks are drawn by `api_tasks`, from many states of the API world. `ChainEnvironment` is the world as
`GRPOTrainer(environment_factory=...)` takes it; `dialogue` is a task's whole solution, as a demonstration shows it.
"""

import copy
import hashlib
import json
import random
from functools import lru_cache, wraps

from ..method.samples import ToolSample, tool_name
from .api_tasks import CHAIN_PROMPT, FAMILIES, Task
from .api_world import TOOLS, World, initial_state
from .nano_world import split_of

CHAINS = ("emptied_account",)  # of `api_tasks`; guessing an hour would be right once in ten, an amount never
EASY = ("balance", "event_time")  # one call
CHAIN_TOOLS = ("find_event", "get_balance", "transfer_money")  # in the order in which TRL lists methods
STATES = 200  # different initial states (our assumption)


def chain_tools():
    """The schemas of `CHAIN_TOOLS` as TRL makes them of `ChainEnvironment`'s methods -> list."""
    named = {tool_name(tool): tool for tool in TOOLS}
    return [copy.deepcopy(named[name]) for name in CHAIN_TOOLS]


@lru_cache(maxsize=8)
def chain_tasks(split, per_family, seed=0, families=(*CHAINS, *EASY)):
    """Tasks of a split -> tuple of `api_tasks.Task`, the same for the same arguments, no request and state twice.

    A task is in "train" or "test" by the hash of its request and state, whatever the seed.
    """
    tasks = []
    for name in families:
        rng, made = random.Random(f"{seed}-{name}-{split}"), {}
        while len(made) < per_family:
            task = draw_chain(name, rng, split)
            made.setdefault(task.sample.id, task)
        tasks += made.values()
    return tuple(tasks)


def draw_chain(name, rng, split="train"):
    """One task of a family and split -> `Task`; kind "chain", whatever the family: calls and answers up to the end.

    The sample's `calls` are those of the last turn: by them rows are found that show the whole chain.
    """
    state = rng.randrange(STATES)
    _, templates, draw = FAMILIES[name]
    goal = copy.deepcopy(initial_state(state))
    words, turns, answer = draw(rng, goal)
    query = rng.choice(templates).format(**words)
    id = f"chain-{name}-{state}-{hashlib.sha256(query.encode()).hexdigest()[:10]}"
    messages = [{"role": "system", "content": CHAIN_PROMPT}, {"role": "user", "content": query}]
    if split_of(id) != split:
        return draw_chain(name, rng, split)
    sample = ToolSample(id, name, messages, chain_tools(), turns[-1], split)
    return Task(sample, "chain", state, turns, goal, answer)


def guess(task):
    """The call that does without looking: the last of a chain, with an amount that is always the same -> dict."""
    [call] = copy.deepcopy(task.turns[-1])
    call["arguments"]["amount"] = 400 if call["arguments"]["amount"] == 500 else 500
    return call


def dialogue(task, turns=None):
    """A task's request and its calls with what the tools answer -> list of messages, the last one "done".

    `turns`: other calls than the gold ones. Calls are `tool_calls`, results JSON text.
    """
    messages = [m for m in task.sample.messages if m["role"] == "user"]
    with World(task.seed, (), task.start) as world:  # whose calls are ours: nothing is on offer, and none is checked
        for turn in turns or task.turns:
            calls = [{"type": "function", "function": copy.deepcopy(call)} for call in turn]
            messages.append({"role": "assistant", "content": "", "tool_calls": calls})
            for call in turn:
                try:
                    said = getattr(world, call["name"])(**call["arguments"])
                except ValueError as error:
                    said = {"error": f"ValueError: {error}"}
                content = json.dumps(said, ensure_ascii=False)
                messages.append({"role": "tool", "name": call["name"], "content": content})
    return [*messages, {"role": "assistant", "content": "done"}]


def tool(method):
    """A method that only says what a tool takes -> one that runs it in the world, whatever it is handed."""

    @wraps(method)
    def call(self, **arguments):
        result = self._world.tools.execute({"name": method.__name__, "arguments": arguments})
        self.calls.append(({"name": method.__name__, "arguments": arguments}, result))
        return json.dumps(result.value if result.ok else {"error": result.error}, ensure_ascii=False)

    return call


class ChainEnvironment:
    """The API world for `GRPOTrainer(environment_factory=lambda: ChainEnvironment(tasks))`; its methods are the tools.

    A row's `sample_id` tells the task; its world is made anew for each rollout. Results go back as JSON text, where TRL
    would write them as Python does; a refusal too, for nothing that a model writes raises.

    Attributes:
        calls: [(call, `ToolResult`)] of this rollout, arguments as TRL hands them on: in the signature's types.

    Args:
        tasks: {sample id: `Task`}.
    """

    def __init__(self, tasks):
        self._tasks, self._world, self.calls = tasks, None, []

    def reset(self, sample_id, **columns):
        """Begin the task of a row."""
        if self._world is not None:
            self._world.__exit__()
        task, self.calls = self._tasks[sample_id], []
        self._world = World(task.seed, CHAIN_TOOLS, task.start)

    def _at_goal(self, task):
        """Is the state the task's goal? (No tool: TRL offers the model every public method.)"""
        return self._world.state() == task.goal

    @tool
    def find_event(self, title: str) -> str:
        """Day and hour of an event in the calendar.

        Args:
            title: of the event
        """

    @tool
    def get_balance(self, owner: str) -> str:
        """Balance of an account, in euros.

        Args:
            owner: of the account
        """

    @tool
    def transfer_money(self, sender: str, receiver: str, amount: int) -> str:
        """Move euros to another account.

        Args:
            sender: pays
            receiver: is paid
            amount: in euros
        """
