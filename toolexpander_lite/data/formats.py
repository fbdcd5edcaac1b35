"""One row of a public data set, in the data set's own format -> (query, tool schemas, gold calls).

Each source has its converter; `loaders.SOURCES` says which. What they share stands first: how types and
parameters written for Python become JSON Schema, and how values and calls written as text are read. That text
is parsed, never evaluated.

A converter raises `RowDropped` for a row that cannot be scored fairly, and `KeyError`, `ValueError` and the like
for one that does not have the format at all; `loaders.load_samples` counts both.
"""

import ast
import json
import re
import warnings
from functools import lru_cache
from itertools import takewhile

from jsonschema import Draft202012Validator

# Python's type names, as data sets write them -> JSON Schema's.
_TYPES = {"str": "string", "int": "integer", "float": "number", "double": "number", "bool": "boolean"}
_TYPES |= {"list": "array", "tuple": "array", "set": "array", "dict": "object"}
_TYPES |= {t: t for t in ("string", "integer", "number", "boolean", "array", "object", "null")}

NO_SCHEMA = "tool schema that is not JSON Schema"
_META_SCHEMA = Draft202012Validator(Draft202012Validator.META_SCHEMA)


class RowDropped(Exception):
    """Raised inside a row's conversion; its message is the reason that is counted."""


def parameter_schema(parameters, required=None):
    """`{"name": {"type", "description", "default"}}` -> JSON Schema of an object.

    Python's type names become JSON Schema's ("float" -> number, "List[int]" -> array of integer, "str,
    optional" -> string, "Optional[int]" -> integer or null); a type with no counterpart, and an empty default, are
    left out.

    Args:
        required: names; None takes the parameters written without a `default` and not as optional. That marks none
            of ToolRL's: it writes `"default": ""` for required and optional ones alike, and gold calls leave one in
            seven of those out.
    """
    properties = {}
    for name, spec in parameters.items():
        prop = _json_type(spec.get("type"))
        prop |= {key: spec[key] for key in ("description", "default") if spec.get(key) not in (None, "")}
        properties[name] = prop
    if required is None:
        required = [n for n, s in parameters.items() if "default" not in s and not _is_optional(s.get("type"))]
    # An empty list would say "all are optional", which the data does not.
    return {"type": "object", "properties": properties} | ({"required": required} if required else {})


def _is_optional(written):
    """ "str, optional" and "Optional[str]" are; "List[Optional[str]]" is not, only its items are."""
    text = str(written).lower()
    return text.startswith("optional[") or "optional" in text.rpartition("]")[2]


# Where a schema holds further ones: one, several, and several by name.
_ONE, _LIST = ("items", "additionalProperties", "not"), ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED = ("properties", "$defs", "definitions")


def json_schema(written):
    """A schema that is JSON Schema but for its type names ("dict", "float") -> JSON Schema, level by level.

    Keywords set to null are left out, and so is a type with no counterpart ("any"). A property that says of itself
    that it is `"required": true` is named in the list of its object instead.
    """
    schema = {key: value for key, value in written.items() if key != "type" and value is not None}
    schema = _json_type(written.get("type")) | schema
    for key in schema.keys() & _ONE:
        schema[key] = _json_schema_or_switch(schema[key])
    for key in schema.keys() & _LIST:
        schema[key] = [_json_schema_or_switch(part) for part in schema[key]]
    if isinstance(schema.get("properties"), dict):
        schema = _required_listed(schema)
    for key in schema.keys() & _NAMED:
        schema[key] = {name: _json_schema_or_switch(spec) for name, spec in schema[key].items()}
    return schema


def _json_schema_or_switch(written):
    """The same where JSON Schema also takes true (anything) and false (nothing)."""
    return written if isinstance(written, bool) else json_schema(written)


def _required_listed(schema):
    """`"required": true` inside a property -> the object's list; `"required": false` is left out."""
    told = {
        name: spec["required"]
        for name, spec in schema["properties"].items()
        if isinstance(spec, dict) and type(spec.get("required")) is bool
    }
    required = schema.get("required", [])
    if not told or not isinstance(required, list):
        return schema
    properties = {
        name: {key: value for key, value in spec.items() if key != "required"} if name in told else spec
        for name, spec in schema["properties"].items()
    }
    required = [*required, *(name for name, wanted in told.items() if wanted)]
    schema = schema | {"properties": properties}
    return schema | {"required": list(dict.fromkeys(required))} if required else schema


def _json_type(written):
    """A type as the data set writes it -> the part of a JSON Schema that says so ({} if unknown)."""
    if isinstance(written, list):  # already JSON Schema's list of alternatives
        known = [_TYPES[w] for w in written if w in _TYPES]
        return {"type": known} if known else {}
    outer, _, inner = str(written).lower().replace(", optional", "").strip().partition("[")
    if outer == "optional":
        inside = _json_type(inner.removesuffix("]"))
        return inside | {"type": [inside["type"], "null"]} if isinstance(inside.get("type"), str) else inside
    schema = {"type": _TYPES[outer]} if outer in _TYPES else {}
    if schema.get("type") == "array" and (items := _json_type(inner.removesuffix("]"))):
        schema["items"] = items
    return schema


def _flat_tool(name, description, parameters, required=None):
    """A tool whose parameters are written for `parameter_schema` -> tool schema."""
    try:
        return _tool(name, description, parameter_schema(parameters, required))
    except AttributeError:
        raise RowDropped(NO_SCHEMA) from None


def _nested_tool(written):
    """A tool whose `parameters` are written for `json_schema` (none: it takes no arguments) -> tool schema."""
    try:
        schema = {"type": "object", "properties": {}} | json_schema(written.get("parameters") or {})
    except AttributeError:
        raise RowDropped(NO_SCHEMA) from None
    if schema["type"] != "object":
        raise RowDropped(NO_SCHEMA)
    return _tool(written["name"], written.get("description") or "", schema)


def _tool(name, description, schema):
    named = name and isinstance(name, str) and isinstance(description, str)
    if not named or not _is_json_schema(json.dumps(schema)):
        raise RowDropped(NO_SCHEMA)
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


@lru_cache(maxsize=4096)  # a check takes about a millisecond, and rows share tools
def _is_json_schema(text):
    return _META_SCHEMA.is_valid(json.loads(text))


_JSON_NAMES = {"true": True, "false": False, "null": None}


class _JsonNames(ast.NodeTransformer):
    """Reads JSON's true, false and null where Python sees names."""

    def visit_Name(self, node):
        return ast.Constant(_JSON_NAMES[node.id]) if node.id in _JSON_NAMES else node


def read_literal(text):
    """A value written as JSON or as a Python literal, or as a mixture (`{'a': true}`) -> plain JSON data.

    Tuples become lists.

    Raises:
        ValueError, SyntaxError: it is neither, or holds what JSON does not know: a name, a set, NaN.
    """
    try:
        value = json.loads(text)
    except ValueError:
        try:
            with warnings.catch_warnings(action="ignore"):  # Python warns of a backslash that escapes nothing
                parsed = ast.parse(text.lstrip(" \t"), mode="eval")
        except MemoryError:  # what its parser says of thousands of signs in a row
            raise ValueError(f"no literal: {text[:80]!r}") from None
        value = ast.literal_eval(_JsonNames().visit(parsed))
    return plain(value)


def plain(value):
    """A copy of a value as JSON holds it.

    Raises:
        ValueError: it holds what JSON does not know, NaN for example, which no completion could match.
    """
    try:
        return json.loads(json.dumps(value, allow_nan=False, ensure_ascii=False).encode())
    except TypeError as error:
        raise ValueError(f"not JSON data: {error}") from None


def read_python_calls(text, names):
    """`[add(a=1, b="x"), Get News()]` -> calls, `{"name", "arguments"}`.

    Only values go to Python's parser: tool names may hold spaces and arguments may be called `from`, which no
    Python call may.

    Args:
        names: tools on offer, so that one with a bracket in its name is recognised.

    Raises:
        ValueError, SyntaxError: it is not of that form, a value is no literal, or an argument comes twice.
    """
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")):
        raise ValueError("not a list of calls")
    calls = []
    for call in _split_at_commas(text[1:-1]):
        known = [name for name in names if call.startswith(name + "(")]
        name = max(known, key=len, default=call.partition("(")[0])
        rest = call[len(name) :]
        if not (name and rest.startswith("(") and rest.endswith(")")):
            raise ValueError(f"not a call: {call[:80]!r}")
        arguments = {}
        for part in _split_at_commas(rest[1:-1]):
            argument, equals, value = part.partition("=")
            if not equals or not argument.strip() or argument.strip() in arguments:
                raise ValueError(f"not one more NAME=VALUE: {part[:80]!r}")
            arguments[argument.strip()] = read_literal(value.strip())
        calls.append({"name": name.strip(), "arguments": arguments})
    return calls


_STRING_BRACKET_OR_COMMA = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[][(){},]""", re.DOTALL)


def _split_at_commas(text):
    """The parts of `text` between the commas outside all strings and brackets, stripped, without empty ones."""
    parts, start, depth = [], 0, 0
    for token in _STRING_BRACKET_OR_COMMA.finditer(text):
        depth += (token[0] in "([{") - (token[0] in ")]}")
        if token[0] == "," and depth == 0:
            parts.append(text[start : token.start()])
            start = token.end()
    return [part.strip() for part in [*parts, text[start:]] if part.strip()]


def toolrl_row(row):
    """ToolRL: all three parts are text, under `instruction`, `input`, `output` or nested as its RL parquet has them."""
    if "reward_model" in row:
        system, user = (m["content"] for m in row["prompt"])
        row = {"instruction": system, "input": user, "output": row["reward_model"]["ground_truth"]}
    turns = re.findall(r"<user>(.*?)</user>", row["input"], re.DOTALL)
    if len(turns) != 1 or "<obs>" in row["input"]:
        raise RowDropped("multi-turn row")  # our assumption: single turns only, as the nano data has
    listing = row["instruction"].split("**Available Tools**", 1)[1].split("**Steps for Each Turn**", 1)[0]
    tools = []
    for entry in re.split(r"^\d+\. Name: ", listing, flags=re.MULTILINE)[1:]:
        name, rest = entry.split("\nDescription: ", 1)
        about, parameters = rest.rsplit("\nParameters: ", 1)
        tools.append(_flat_tool(name, about, json.loads(parameters)))
    # The thought before may quote the tags, so only what follows it counts.
    blocks = _call_blocks(row["output"].rpartition("</think>")[2])
    calls = [read_literal(line) for block in blocks for line in block.splitlines() if line.strip()]
    return turns[0].strip(), tools, [{"name": c["name"], "arguments": c["parameters"]} for c in calls]


def seal_row(row, catalogue, rng):
    """Seal-Tools: rows name only the right tools; wrong ones are drawn from `catalogue` (name -> entry) with `rng`."""
    calls = [{"name": c["api"], "arguments": plain(c["parameters"])} for c in row["calling"]]
    if any(str(value).startswith("API_call_") for c in calls for value in c["arguments"].values()):
        raise RowDropped("argument taken from another call's result")
    names = list(dict.fromkeys(c["name"] for c in calls))
    if any(name not in catalogue for name in names):
        raise RowDropped("call to an unlisted tool")
    # 3 to 5 tools on offer, the wrong ones drawn from the whole catalogue (both our assumptions).
    others = [name for name in catalogue if name not in names]
    names += rng.sample(others, min(max(rng.randint(3, 5) - len(names), 0), len(others)))
    rng.shuffle(names)
    offered = [catalogue[name] for name in names]
    tools = [_flat_tool(t["api_name"], t["api_description"], t["parameters"], t["required"]) for t in offered]
    return row["query"].strip(), tools, calls


def xlam_row(row):
    """xLAM and the irrelevance rows made from it: `query`, and `tools` and `answers` as JSON text, or as lists."""
    tools = [_flat_tool(t["name"], t["description"], t["parameters"]) for t in _listed(row["tools"])]
    calls = [{"name": c["name"], "arguments": c["arguments"]} for c in _listed(row["answers"])]
    return row["query"].strip(), tools, calls


def _listed(value):
    """A list, or one written as text -> list."""
    return read_literal(value) if isinstance(value, str) else plain(value)


def toolace_row(row):
    """ToolACE: a JSON list of tools inside `system`, `conversations` whose answers may be `[name(argument="x")]`."""
    query, answer, later = _opening(row["conversations"], "user", "assistant")
    start = row["system"].index("[", row["system"].index("invoke"))
    tools = [_nested_tool(t) for t in json.JSONDecoder().raw_decode(row["system"], start)[0]]
    if not answer.startswith("["):
        return query, tools, []
    if any(text.startswith("[") for text in later):
        raise RowDropped("calls in several steps")
    return query, tools, read_python_calls(answer, [t["function"]["name"] for t in tools])


def hermes_row(row):
    """Hermes: `tools` as JSON text, `conversations` whose answers hold `<tool_call>` blocks, in JSON or Python.

    What an answer says inside `<scratch_pad>` is a thought: a call there is none.
    """
    query, answer, later = _opening(row["conversations"], "human", "gpt")
    tools = [_nested_tool(t.get("function", t)) for t in _listed(row["tools"])]
    if any("<tool_call>" in _SCRATCH_PAD.sub("", text) for text in later):
        raise RowDropped("calls in several steps")
    calls = [read_literal(block.strip()) for block in _call_blocks(_SCRATCH_PAD.sub("", answer))]
    return query, tools, [{"name": c["name"], "arguments": c["arguments"]} for c in calls]


_SCRATCH_PAD = re.compile(r"<scratch_pad>.*?(?:</scratch_pad>|\Z)", re.DOTALL)
_CALL_BLOCK = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)


def _call_blocks(text):
    """What stands in the `<tool_call>` blocks of a gold answer -> strs."""
    if "<tool_call>" in _CALL_BLOCK.sub("", text):
        raise RowDropped("call that is not closed")
    return _CALL_BLOCK.findall(text)


def to_hermes(question, tools, calls):
    """One row of your own in Hermes' form: `json.dumps` of it is a line of a file that `load_samples("hermes")` reads.

    Args:
        tools: JSON Schema of the tools on offer, `{"type": "function", "function": {...}}`.
        calls: the right calls, `{"name", "arguments"}`. A row without any is dropped when it is read.
    """
    blocks = "\n".join(f"<tool_call>\n{json.dumps(call)}\n</tool_call>" for call in calls)
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": blocks or "No tool fits."}]
    return {"tools": json.dumps(tools), "conversations": turns}


def _opening(turns, user, assistant):
    """First question of a chat, the answer to it, and what the assistant adds before the user speaks again -> strs.

    Our assumption: one sample per conversation, its opening, since later turns hang on the results of earlier calls.
    """
    turns = [(t["from"], t["value"].strip()) for t in turns if t["from"] != "system"]
    if [role for role, _ in turns[:2]] != [user, assistant]:
        raise RowDropped("chat that does not open with a question and an answer")
    rest = takewhile(lambda turn: turn[0] != user, turns[2:])
    return turns[0][1], turns[1][1], [text for role, text in rest if role == assistant]
