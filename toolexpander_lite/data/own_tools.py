"""Your own Python functions as tools: one Python file is the whole data set; `own_rows` reads its example rows.

The file holds functions with type annotations and Google docstrings, or a class of such methods with state. `TOOLS =
[...]` names the tools where they are not all public functions of the file, or a class. The file is run as it is: it is
your program, not a data file. All names are our assumptions.
"""

import ast
import importlib.util
import inspect
import json
import shutil
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

from ..base.errors import DataError
from ..base.files import write_whole
from ..method.prompts import STYLES, style_of
from ..worlds.run_calls import ToolRegistry
from .tool_schemas import read_tool

PACKED = "own_tools.py"  # the file of functions in a model's folder
ROWS_OF = ("ROWS", "TEMPLATES", "TOOLS")  # what a file says beside its functions
_TYPES = "use int, float, str, bool, Literal[...], list[...], dict, or one of them | None"


@dataclass(frozen=True)
class OwnTools:
    """A file of tools, freshly run: each `load_tools` begins with the file's own state.

    Attributes:
        registry: `ToolRegistry` that executes calls.
        module: the file as a module.
        functions: the tools themselves.
        owner: the object whose methods the tools are, or None.
    """

    registry: ToolRegistry
    module: ModuleType
    functions: list
    owner: Any = None

    def state(self):
        """What calls may have changed, as JSON holds it: the object's attributes or the file's variables, sets too."""
        found = {}
        for name, value in vars(self.owner or self.module).items():
            if not name.startswith("__") and name not in ROWS_OF:
                with suppress(TypeError, ValueError, RecursionError):  # functions, modules, objects
                    found[name] = json.loads(json.dumps(value, default=_set_as_list))
        return found


def _set_as_list(value):
    if not isinstance(value, set | frozenset):
        raise TypeError
    return sorted(map(repr, value))


def load_tools(file):
    """Run a Python file of tools -> `OwnTools`.

    Tools are what `TOOLS` of the file lists, or the methods of the class it names; without it all public functions, or
    if there are none, the public methods of its one public class.

    Raises:
        DataError: no such file, one that does not run alone, no tool in it, two of one name, or a function of which no
            schema can be made; the message names file, function and parameter.
    """
    file = Path(file)
    module = _run(file)
    own = [v for k, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__ and k[0] != "_"]
    tools = getattr(module, "TOOLS", None) or [value for value in own if inspect.isfunction(value)]
    classes = [v for v in own if inspect.isclass(v) and not issubclass(v, Enum)]
    if not tools and len(classes) == 1:
        [tools] = classes
    owner = None
    if inspect.isclass(tools):
        try:
            owner = tools()
        except Exception as error:
            raise DataError(f"{file}: {tools.__name__}() fails ({type(error).__name__}: {error}); give every parameter "
                            "of its __init__ a default") from None  # fmt: skip
        names = [name for name in dir(tools) if name[0] != "_" and callable(getattr(owner, name))]
        tools = [getattr(owner, name) for name in names]
    if not isinstance(tools, list | tuple) or not tools or not all(map(callable, tools)):
        raise DataError(f"{file} has no tools; write a function with type annotations and a docstring, or "
                        "TOOLS = [function, ...] or TOOLS = Class")  # fmt: skip
    registry = ToolRegistry()
    for function in tools:
        try:
            registry.register(function, tool_schema(function, file.name))
        except ValueError as error:
            told = f"{error}. The name of a function that is no tool begins with _"
            raise DataError(told if isinstance(error, DataError) else f"{file}: {error}; rename one") from None
    return OwnTools(registry, module, tools, owner)


def _run(file):
    """The Python file as a fresh module; a name that is defined twice would hide a tool, so it is refused."""
    if not file.exists() or file.suffix != ".py":
        wrong = "its name must end in .py" if file.exists() else "there is no such file"
        raise DataError(f"own tools are a Python file, and {file} is none: {wrong}")
    try:
        parts = [ast.parse(file.read_text(encoding="utf-8"))]
        parts += [part for part in parts[0].body if isinstance(part, ast.ClassDef)]
        for part in parts:
            names = Counter(f.name for f in part.body if isinstance(f, ast.FunctionDef) and not f.decorator_list)
            for name in (name for name, count in names.items() if count > 1):
                raise DataError(f"{file} defines {name!r} twice, and the second hides the first; rename one")
        spec = importlib.util.spec_from_file_location(f"own_tools_{file.stem}", file)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look their module up there
        spec.loader.exec_module(module)
    except DataError:
        raise
    except (Exception, SystemExit) as error:  # of a stranger's file
        raise DataError(f"cannot run the tools file {file} ({type(error).__name__}: {error}); give a Python file "
                        "that runs alone: what it imports must be installed") from None  # fmt: skip
    return module


def tool_schema(function, file=""):
    """A typed, documented function or method -> its tool schema, by `transformers.utils.get_json_schema`.

    As TRL's `tools=` makes it, and besides strict: no argument that the function does not list is taken, `| None`
    allows null, and what it returns is left out.

    Raises:
        DataError: names the function, the parameter and the mend.
    """
    from transformers.utils import get_json_schema

    name = getattr(function, "__name__", "?")
    where = f"{file}: function {name!r}" if file else f"function {name!r}"
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise DataError(f"{where} is async or a generator; return the whole result from a plain function")
    try:
        parameters = list(inspect.signature(function).parameters.values())
        hints = inspect.get_annotations(getattr(function, "__func__", function), eval_str=True)
    except (NameError, TypeError, ValueError, SyntaxError, AttributeError) as error:
        raise DataError(f"{where}: its annotations cannot be read ({error}); import or define that name") from None
    for parameter in parameters:
        told = f"{where}, parameter {parameter.name!r}"
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise DataError(f"{told} ({parameter}) has no single name; write one named parameter for each argument")
        if parameter.name not in hints:
            raise DataError(f"{told} has no type; write {parameter.name}: str for example ({_TYPES})")
        if not _has_schema(hints[parameter.name], get_json_schema):
            kind = hints[parameter.name]
            raise DataError(f"{told} has the type {getattr(kind, '__name__', kind)}, which JSON has no schema for; "
                            f"{_TYPES}")  # fmt: skip
    docs = (inspect.getdoc(function) or "").strip()
    if not docs or docs.startswith(("Args:", "Returns:")):
        missing = "no docstring" if not docs else "a docstring that does not say what the tool does"
        raise DataError(f"{where} has {missing}; begin it with a line that says so")
    try:
        schema = get_json_schema(function)["function"]
    except Exception as error:  # its exceptions have no base class of their own
        missing = next((p.name for p in parameters if f"'{p.name}'" in str(error)), None)
        if missing is None:
            raise DataError(f"{where}: {error}") from None
        raise DataError(f"{where}, parameter {missing!r} is not described; add a line \"{missing}: what it is\" under "
                        "\"Args:\" of its docstring (Google style)") from None  # fmt: skip
    schema["parameters"]["additionalProperties"] = False
    return read_tool(schema)


def _has_schema(kind, get_json_schema):
    """Does this one annotation become JSON Schema? Enums do, but the function would be handed plain text."""
    if inspect.isclass(kind) and issubclass(kind, Enum):
        return False

    def probe(x):
        """Probe.

        Args:
            x: x
        """

    probe.__annotations__ = {"x": kind}
    try:
        read_tool(get_json_schema(probe))
    except Exception:
        return False
    return True


def pack_tools(file, folder, invite, max_new_tokens, rounds=1, told=()):
    """Put into a model's folder what `evaluation.tool_caller.ToolCaller` needs: the file of tools, and `tools.json`.

    That says how to ask: {"style", "system", "tools", "max_new_tokens", "rounds"}; a server is to be sent the same.

    Args:
        rounds: completions for a question at most.
        told: further system text.
    """
    style = style_of(invite)
    system = "\n\n".join([*STYLES[style], *told])
    asked = {"style": style, "system": system, "tools": load_tools(file).registry.schemas(),
             "max_new_tokens": max_new_tokens, "rounds": rounds}  # fmt: skip
    shutil.copyfile(file, Path(folder, PACKED))
    write_whole(Path(folder, "tools.json"), json.dumps(asked, indent=1, ensure_ascii=False) + "\n")
