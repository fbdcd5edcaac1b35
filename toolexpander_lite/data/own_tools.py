"""Your own Python functions as tools, and example rows for them: one Python file is the whole data set.

The file holds functions with type annotations and Google docstrings, or a class of such methods with state, and

    TEMPLATES = [("Set a timer for {minutes} minutes.", set_timer, {"minutes": [3, 5, 10]}), ...]
    ROWS = "questions.csv"  # columns question and call; or JSONL, chats in OpenAI's form, or a list of such rows

one or both. `TOOLS = [...]` names the tools where they are not all public functions of the file, or a class.
The file is run as it is: it is your program, not a data file. All names, numbers and the split are our assumptions.
"""

import ast
import csv
import hashlib
import importlib.util
import inspect
import json
import random
import re
import shutil
import sys
from collections import Counter
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

from ..base.errors import DataError
from ..base.files import write_whole
from ..method.prompts import STYLES, style_of
from ..worlds.run_calls import ToolRegistry
from .formats import openai_row, read_calls
from .row_files import read_rows
from .tool_schemas import RowDropped, read_tool, read_tools

ROWS_DRAWN = {"train": 40, "test": 10}  # of each template, as far as its values make so many different questions
PACKED = "own_tools.py"  # the file of functions in a model's folder
_TYPES = "use int, float, str, bool, Literal[...], list[...], dict, or one of them | None"


@dataclass(frozen=True)
class OwnTools:
    """A file of tools, freshly run: each `load_tools` begins with the file's own state.

    Attributes:
        registry: `ToolRegistry` that executes calls.
        module: the file as a module.
        owner: the object whose methods the tools are, or None.
    """

    registry: ToolRegistry
    module: ModuleType
    owner: Any = None

    def state(self):
        """What calls may have changed, as far as JSON holds it: the object's attributes or the file's variables."""
        return {name: value for name, value in vars(self.owner or self.module).items()
                if not name.startswith("__") and _as_json(value) is not None}  # fmt: skip


def _as_json(value):
    try:
        return json.dumps(value, sort_keys=True)
    except (TypeError, ValueError, RecursionError):
        return None


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
            raise error if isinstance(error, DataError) else DataError(f"{file}: {error}; rename one") from None
    return OwnTools(registry, module, owner)


def _run(file):
    """The Python file as a fresh module; a name that is defined twice would hide a tool, so it is refused."""
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
    except (Exception, SystemExit) as error:  # of a stranger's file; AttributeError: no ending .py
        if isinstance(error, AttributeError) and file.suffix != ".py":
            error = "its name must end in .py"
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


def own_row(row):
    """One row of `own_rows` -> (what is asked, tool schemas, gold calls), as the converters of `formats`."""
    if "messages" in row:
        return openai_row(row)
    tools, call = read_tools(row["tools"]), row.get("calls", row.get("call"))
    if isinstance(call, str) and re.match(r"\s*\w[\w.]*\(", call):
        call = f"[{call}]"  # set_timer(minutes=5), as people write it into a table
    return row["question"].strip(), tools, read_calls(call, [tool["function"]["name"] for tool in tools])


def own_rows(file):
    """The example rows of a file of tools -> list of dicts {"question", "call", "tools", "split"}, or of chats.

    Every row offers all tools. No argument value is in both splits, a fifth of the values is held out; values of an
    `enum` and yes or no, which no split could part, are in both. Given rows that have values in common stay together;
    if that makes them one lump, they are split by question alone, and a row may say its own "split".

    Raises:
        DataError: neither TEMPLATES nor ROWS, a template whose slots and values do not fit, or too few values.
    """
    file = Path(file)
    tools = load_tools(file)
    schemas = tools.registry.schemas()
    templates = [_template(file, t, schemas) for t in getattr(tools.module, "TEMPLATES", None) or ()]
    given = _given(file, getattr(tools.module, "ROWS", None))
    if not templates and not given:
        raise DataError(f"{file} has no example rows; add TEMPLATES = [(question, function, values), ...] or "
                        'ROWS = "questions.csv"')  # fmt: skip
    given = [row | {"tools": schemas} if isinstance(row, dict) else row for row in given]
    values = [_free_values(row, schemas) for row in given]
    held, kept, root = _parted([slot for t in templates for slot in t["free"].values()], values)
    rows = [row for template in templates for row in _drawn(file, template, held, root, schemas)]
    for row, own in zip(given, values):
        if isinstance(row, dict) and own and "split" not in row and root(min(own)) in held | kept:
            row["split"] = "test" if root(min(own)) in held else "train"
        rows.append(row)
    return rows


def _given(file, rows):
    """What `ROWS` holds, or the file that it names beside the tools -> list of rows."""
    if isinstance(rows, str):
        path = file.parent / rows
        if path.suffix != ".csv":
            return list(read_rows(path))
        try:
            with path.open(encoding="utf-8-sig", newline="") as table:
                rows = list(csv.DictReader(table))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"cannot read {path} ({error}); write a table with the columns question and call") from None
        if not rows or not {"question", "call"} <= rows[0].keys():
            found = ", ".join(map(str, rows[0])) if rows else "none"
            raise DataError(f"{path} needs the columns question and call; it has {found}")
    if not isinstance(rows, list | tuple | None):
        raise DataError(f"{file}: ROWS is a {type(rows).__name__}; give a list of rows, or the name of their file")
    names = "question", "call"
    return [dict(zip(names, row)) if isinstance(row, list | tuple) else row for row in rows or ()]


def _template(file, template, schemas):
    """One of `TEMPLATES`, checked -> {"question", "name" or None, "slots": {slot: {word: value}}, "free"}."""
    try:
        question, tool, values = template
        name = tool if isinstance(tool, str | None) else tool.__name__
        slots = {slot: v if isinstance(v, dict) else {str(x): x for x in v} for slot, v in values.items()}
        asked = set(re.findall(r"{(\w+)}", question))
    except (TypeError, ValueError, AttributeError):
        raise DataError(f"{file}: {template!r:.80} is no template; write (question with {{slots}}, function or None, "
                        "{slot: [values] or {word: value}})") from None  # fmt: skip
    told = f"{file}: template {question!r:.60}"
    properties = {s["function"]["name"]: s["function"]["parameters"].get("properties", {}) for s in schemas}
    if name is not None and name not in properties:
        raise DataError(f"{told} calls {name!r}, which is no tool of the file; choose one of {', '.join(properties)}")
    if unknown := sorted(set(slots) - asked if name is None else set(slots) - set(properties[name])):
        raise DataError(f"{told} has values for {unknown[0]!r}, which its {'question' if name is None else name} "
                        "does not have; rename or remove it")  # fmt: skip
    if missing := sorted(asked - set(slots)):
        raise DataError(f"{told} has no values for its slot {missing[0]!r}; add them")
    free = {slot: {_key(v) for v in words.values()} for slot, words in slots.items()
            if name is None or not _closed(properties[name][slot])}  # fmt: skip
    if few := [slot for slot, found in free.items() if len(found) < 2]:
        raise DataError(f"{told}: slot {few[0]!r} has fewer than two values, and one is held out; give it more")
    return {"question": question, "name": name, "slots": slots, "free": free}


def _closed(schema):
    """Has a parameter so few values, by its schema, that both splits must share them?"""
    return "enum" in schema or schema.get("type") in ("boolean", ["boolean", "null"])


def _key(value):
    return json.dumps(value, sort_keys=True, default=str).lower()


def _free_values(row, schemas):
    """The argument values of a row that are not to be in both splits -> set; of one that cannot be read, none."""
    try:
        calls = own_row(row)[2]
    except (RowDropped, KeyError, TypeError, ValueError, AttributeError, IndexError, SyntaxError, RecursionError):
        return set()  # `load_samples` reads it again, and counts the reason
    properties = {s["function"]["name"]: s["function"]["parameters"].get("properties", {}) for s in schemas}
    return {_key(part) for call in calls for name, value in call["arguments"].items()
            if not _closed(properties.get(call["name"], {}).get(name, {}))
            for part in (value if isinstance(value, list) else [value])}  # fmt: skip


def _parted(slots, rows):
    """Hold out about a fifth of the values -> (held out, kept, root), the first two sets of roots of classes.

    Values that meet in a given row are one class; `root` of a value is its class.

    Args:
        slots: the set of values of each template's slot; each gets one on either side, if it can.
        rows: the set of values of each given row.
    """
    above = {}

    def root(value):
        while above.get(value, value) != value:
            value = above[value]
        return value

    for values in rows:
        for value in values:
            above[root(value)] = root(min(values))
    held, kept = set(), set()
    for values in sorted(slots, key=len):
        classes = sorted({root(value) for value in values}, key=_hash)
        for one in classes:
            if one not in held | kept:
                (held if len(held & set(classes)) < max(1, round(len(classes) / 5)) else kept).add(one)
    sizes = Counter(root(min(values)) for values in rows if values)
    wanted = max(1, round(sum(sizes.values()) / 5)) - sum(sizes[one] for one in held)
    for one in sorted(sizes.keys() - held - kept, key=_hash):
        if sizes[one] <= wanted:
            held.add(one)
            wanted -= sizes[one]
        elif len(sizes) > 1:
            kept.add(one)
    return held, kept, root


def _hash(text):
    return hashlib.sha256(text.encode()).hexdigest()


def _drawn(file, template, held, root, schemas):
    """Different rows of one template, drawn from the values of each split -> iterator."""
    for split, most in ROWS_DRAWN.items():
        words = {}
        for slot, values in template["slots"].items():
            free = slot in template["free"]
            words[slot] = [w for w, v in values.items() if not free or (root(_key(v)) in held) == (split == "test")]
            if not words[slot]:
                raise DataError(f"{file}: template {template['question']!r:.60}: all values of its slot {slot!r} are "
                                f"on the other side of the split; give it more values of its own")  # fmt: skip
        rng, seen = random.Random(template["question"] + split), {}
        for _ in range(20 * most):
            if len(seen) == most:
                break
            drawn = {slot: rng.choice(found) for slot, found in words.items()}
            asked = re.sub(r"{(\w+)}", lambda slot: drawn[slot[1]], template["question"])
            arguments = {slot: template["slots"][slot][word] for slot, word in drawn.items()}
            call = None if template["name"] is None else {"name": template["name"], "arguments": arguments}
            seen[asked, _key(call)] = {"question": asked, "call": call, "tools": schemas, "split": split}
        yield from seen.values()


def pack_tools(file, folder, invite, max_new_tokens):
    """Put into a model's folder what `evaluation.tool_caller.ToolCaller` needs: the file of tools, and `tools.json`.

    That says how to ask: {"style", "system", "tools", "max_new_tokens"}; a server is to be sent the same.
    """
    style = style_of(invite)
    asked = {"style": style, "system": "\n\n".join(STYLES[style]), "tools": load_tools(file).registry.schemas(),
             "max_new_tokens": max_new_tokens}  # fmt: skip
    shutil.copyfile(file, Path(folder, PACKED))
    write_whole(Path(folder, "tools.json"), json.dumps(asked, indent=1, ensure_ascii=False) + "\n")
