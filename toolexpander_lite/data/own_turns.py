"""Your own tools through TRL's own tool loop: rows that take several turns, and the file of tools as an environment.

A row of `ROWS` may give a list of texts in place of a call, one for each turn:

    ("Empty Bob's jar into mine.", ["look(jar='Bob')", "pour(source='Bob', target='mine', beans=7)"])

The state starts anew for each row, and a rollout is judged by what it brings about, not by how. A row that is a dict
may name a picture, a file beside the Python file, as its "image": for a model that sees, in a script of your own.
"""

import inspect
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from ..base.errors import DataError
from ..method.prompts import gold_completion
from ..worlds.api_tasks import CHAIN_PROMPT, Task
from ..worlds.chain_world import ChainEnvironment, tool
from .own_rows import own_rows, read_turns
from .own_tools import load_tools
from .tool_schemas import RowDropped, read_tool

OWN = ("own", "own-turns")  # data that is a file of tools
TIMEOUT = 5.0  # seconds for a call (our assumption)
# Of calls that any others would equal:
UNSEEN = "return nothing and leave the state as it was; let a function return something, or keep state in a dict"
TAKEN = ("calls", "get_reward", "reset")  # names that an environment has for itself


class OwnEnvironment:
    """A file of tools for `GRPOTrainer(environment_factory=...)`; `own_environment` adds its functions as methods.

    Attributes:
        calls: as in `ChainEnvironment`: whatever a model writes is a result in JSON, and nothing is raised.
    """

    _at_goal = ChainEnvironment._at_goal

    def __init__(self, file, images=()):
        self._file, self._images, self._world, self.calls = file, dict(images), None, []

    def reset(self, sample_id=None, **columns):
        """Begin a row: the file is run anew. A picture goes behind the question, where no demonstration is."""
        self._world, self.calls = own_world(self._file), []
        if sample_id in self._images:
            return [{"type": "image", "image": read_image(self._images[sample_id])}]
        return None


def own_images(file, samples):
    """The pictures that rows of "own-turns" name -> {sample id: path}.

    Raises:
        DataError: one is no file.
    """
    rows = own_rows(file)
    named = {sample.id: rows[_place(sample)].get("image") for sample in samples}
    images = {id: Path(file).parent / str(name) for id, name in named.items() if name}
    for path in images.values():
        if not path.is_file():
            read_image(path)
    return images


def read_image(path):
    """A picture -> `PIL.Image` in RGB.

    Raises:
        DataError: no such file, or no picture.
    """
    from PIL import Image  # here, so that tools without pictures need none of it

    try:
        return Image.open(path).convert("RGB")
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the picture {path} ({error}); name a PNG or JPEG beside the tools file") from None


def _place(sample):
    return int(sample.id.rpartition("-")[2])  # of its row in the file


def own_world(file):
    """A fresh copy of a file of tools, in the form of `api_world.World` -> namespace of `tools` and `state`."""
    own = load_tools(file)
    return SimpleNamespace(
        tools=SimpleNamespace(execute=lambda call, timeout=None: own.registry.execute(call, TIMEOUT)), state=own.state
    )


def own_environment(file):
    """A file of tools -> the subclass of `OwnEnvironment` whose methods are its functions, as TRL wants them.

    Raises:
        DataError: the file cannot be used, or a tool has a name in `TAKEN` or one that TRL takes for hidden.
    """
    methods = {}
    for function in load_tools(file).functions:
        name = function.__name__
        if name in TAKEN or name[0] == "_":
            raise DataError(f"{file}: TRL's environments have no room for a tool {name!r}; rename the tool")
        inner = inspect.signature(function)
        types = inspect.get_annotations(getattr(function, "__func__", function), eval_str=True)
        methods[name] = method = tool(function)
        del method.__wrapped__  # or its signature would be the function's, of which Python takes the first for `self`
        first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        method.__signature__ = inner.replace(parameters=[first, *inner.parameters.values()])
        method.__annotations__ = {parameter: types[parameter] for parameter in inner.parameters}
    return type("OwnEnvironment", (OwnEnvironment,), methods)


def own_turn_row(file):
    """The converter of `sources.load_samples` for such rows: function of a row; the gold calls are the last turn's.

    The schemas are those that TRL makes of the environment's methods, in its order.
    """
    from transformers.utils import get_json_schema

    kind = own_environment(file)
    environment = kind(file)
    names = sorted(name for name in vars(kind) if inspect.isfunction(vars(kind)[name]))
    schemas = [read_tool(get_json_schema(getattr(environment, name))) for name in names]

    def convert(row):
        asked, _, turns = read_turns(row)
        if not turns:
            raise RowDropped("row without a call")
        asked = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
        return [{"role": "system", "content": CHAIN_PROMPT}, *asked], schemas, turns[-1]

    return convert


def own_tasks(file, samples):
    """Samples of "own-turns" -> {sample id: `Task`}: the goal is the state that the gold calls leave behind.

    Where they leave it as it was, the row is a question, and the last result its answer.

    Raises:
        DataError: a gold call fails, or all of them change and answer nothing that could be compared.
    """
    rows, before, tasks = own_rows(file), load_tools(file).state(), {}
    for sample in samples:
        turns = read_turns(rows[_place(sample)])[2]
        world, results = play(file, turns)
        for call, result in zip((call for turn in turns for call in turn), results, strict=True):
            if not result.ok:
                asked = sample.messages[-1]["content"]
                told = json.dumps(call, ensure_ascii=False)
                raise DataError(f"{file}: the right call {told} of the row {asked!r:.50} "
                                f"fails: {result.error}; mend row or function")  # fmt: skip
        goal = world.state()
        if goal == before and results[-1].value is None:
            raise DataError(f"{file}: the right calls of the row {sample.messages[-1]['content']!r:.50} {UNSEEN}")
        tasks[sample.id] = Task(sample, "chain", 0, turns, goal, results[-1].value if goal == before else None)
    return tasks


def play(file, turns):
    """Execute calls from the file's own state -> (the world afterwards, a `ToolResult` for each call)."""
    world = own_world(file)
    return world, [world.tools.execute(call) for turn in turns for call in turn]


def solved_dialogue(task, file, think=True):
    """A task's request, its calls with what the tools answer, and an end -> list of messages."""
    messages = [message for message in task.sample.messages if message["role"] != "system"]
    results = iter(play(file, task.turns)[1])
    for turn in task.turns:
        gold = gold_completion(replace(task.sample, calls=turn), think=think)
        messages.append({"role": "assistant", "content": gold})
        for call in turn:
            content = json.dumps(next(results).value, ensure_ascii=False)
            messages.append({"role": "tool", "name": call["name"], "content": content})
    end = gold_completion(replace(task.sample, calls=[]), think=think) or "done"
    return [*messages, {"role": "assistant", "content": end}]
