"""Tools as data sets write them -> the tool schemas that chat templates take: JSON Schema in OpenAI's wrapping.

Read are JSON Schema and flat parameters (`{"name": {"type": "int"}}`), with or without the wrapping, as data or as
text, with the type names of Python, BFCL or OpenAPI. No keyword is lost: what a model is shown is what gold is
checked against.
"""

import itertools
import json

from jsonschema import Draft202012Validator

from ..base.schemas import LISTED, NAMED, ONE, is_schema
from .parse_values import plain, read_if_text, split_outside

# Type names as data sets write them, in small letters -> JSON Schema's.
TYPES = {"str": "string", "int": "integer", "float": "number", "double": "number", "bool": "boolean", "none": "null"}
TYPES |= {"list": "array", "tuple": "array", "set": "array", "dict": "object"}
TYPES |= {t: t for t in ("string", "integer", "number", "boolean", "array", "object", "null")}

NO_SCHEMA = "tool schema that is not JSON Schema"


class RowDropped(Exception):
    """Raised inside a row's conversion with the reason that is counted, and with more about this row, if there is."""


# What a conversion raises on a row that is not of its form at all.
UNPARSABLE = (KeyError, TypeError, ValueError, AttributeError, IndexError, SyntaxError, RecursionError)


def read_tools(written):
    """A list of tools, a single one, or either as text -> tool schemas."""
    while isinstance(written, str):
        written = read_if_text(written)
    return [read_tool(tool) for tool in (written if isinstance(written, list) else [written] if written else [])]


_PARAMETERS = ("parameters", "input_schema", "inputSchema")  # the last two: Anthropic's and MCP's word


def read_tool(written, types=TYPES):
    """One tool, `{"name", "description", "parameters"}`, wrapped in "function" or not -> tool schema.

    Raises:
        RowDropped: its parameters are not JSON Schema.
        KeyError and the like: it has no name.
    """
    written = read_if_text(written)
    written = written["function"] if isinstance(written.get("function"), dict) else written
    name, description = written["name"], written.get("description") or ""
    parameters = next((written[key] for key in _PARAMETERS if written.get(key) is not None), None)
    try:
        schema = plain(object_schema(read_if_text(parameters) or {}, written.get("required"), types))
    except (AttributeError, TypeError, ValueError, SyntaxError):
        raise RowDropped(NO_SCHEMA) from None
    named = name and isinstance(name, str) and isinstance(description, str)
    if not named or schema.get("type") != "object" or not is_schema(schema):
        raise RowDropped(NO_SCHEMA)
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


def object_schema(parameters, required=None, types=TYPES):
    """A tool's parameters, flat or as JSON Schema -> JSON Schema of an object.

    Args:
        required: names of the parameters that must be given, where the tool says so beside its parameters.
    """
    parameters = flat = {name: part for name, part in parameters.items() if part is not None}
    required = required if isinstance(required, list) else None
    if isinstance(flat.get("required"), list) and set(flat["required"]) <= flat.keys() - {"properties"}:
        flat = {name: spec for name, spec in parameters.items() if name != "required"}
        required = parameters["required"]
    if _is_flat(flat):
        return flat_schema(flat, required, types)
    if not parameters.keys() & Draft202012Validator.VALIDATORS.keys():
        raise ValueError("no keyword of JSON Schema")
    parameters = {key: value for key, value in parameters.items() if key != "nullable"}
    schema = json_schema(parameters, types)
    schema = {key: part for key, part in (("type", "object"), ("properties", {})) if key not in schema} | schema
    return schema | ({"required": required} if required and "required" not in schema else {})


def _is_flat(parameters):
    """Are these parameters by name, with a description each? A parameter may be called like a keyword."""
    for part in (parameters[key] for key in NAMED if isinstance(parameters.get(key), dict)):
        if all(isinstance(spec, (dict, bool)) for spec in part.values()):
            return False
    return all(isinstance(spec, dict) for spec in parameters.values())


def flat_schema(parameters, required=None, types=TYPES):
    """`{"name": {"type", "description", "default", ...}}` -> JSON Schema of an object; empty defaults are left out.

    Args:
        required: names; None takes what the parameters say of themselves (`"required": true`), or if none does, those
            written without a `default`, not as optional and not with `"required": false`. That marks none of ToolRL's:
            it writes `"default": ""` for required and optional ones alike, and gold calls leave one in seven of those
            out.
    """
    properties = {
        name: {
            key: spec[key] for key in dict.fromkeys(["type", "description", "default", *spec])
            if key in spec and not (key in ("description", "default") and spec[key] == "")
        } for name, spec in parameters.items()
    }  # fmt: skip
    schema = json_schema({"type": "object", "properties": properties}, types)
    if required is None and not (required := schema.get("required")):
        required = [name for name, spec in parameters.items() if not ("default" in spec or _is_optional(spec))]
    schema.pop("required", None)
    # An empty list would say "all are optional", which the data does not.
    return schema | ({"required": required} if required else {})


def _is_optional(spec):
    """ "str, optional", "Optional[str]", "str | None" are; "List[Optional[str]]" is not, only its items are."""
    if _switch(spec.get("required")) is False or _switch(spec.get("optional")):
        return True
    text = str(spec.get("type")).lower()
    if text.startswith("union["):
        text = text.removeprefix("union[").removesuffix("]").replace(",", "|")
    alternatives = split_outside(text, at="|")
    return text.startswith("optional[") or "optional" in text.rpartition("]")[2] or "none" in alternatives


def json_schema(written, types=TYPES):
    """A schema that is JSON Schema but for its dialect -> JSON Schema (draft 2020-12), level by level.

    Translated are type names ("dict", "List[int]", "OBJECT"; one with no counterpart, "any", is left out), an `enum`
    that is empty or holds texts for another type, OpenAPI's `nullable`, `"required": true` and `"optional": true`
    inside a property, and what older drafts write otherwise (exclusive limits, lists of `items`, `dependencies`).
    Keywords and properties that are null are left out, where null is not the value meant.
    """
    schema = {k: v for k, v in written.items() if k not in _DIALECT and (v is not None or k in ("const", "default"))}
    if written.get("type") is not None:
        kind = _json_type(written["type"], types)
        before = {key: schema[key] for key in itertools.takewhile(lambda key: key != "type", written) if key in schema}
        schema = before | kind | schema
    if "enum" in schema and not schema["enum"]:
        del schema["enum"]  # it would allow nothing
    if isinstance(schema.get("enum"), list):
        schema["enum"] = _of_type(schema["enum"], schema.get("type"))
    for limit in ("minimum", "maximum"):
        name = f"exclusive{limit.capitalize()}"
        if _switch(schema.get(name)) is not None and _switch(schema.pop(name)) and limit in schema:
            schema[name] = schema.pop(limit)
    if not isinstance(schema.get("examples", []), list):
        schema["examples"] = [schema["examples"]]
    if isinstance(schema.get("items"), list):
        schema["prefixItems"] = schema.pop("items")
        if "additionalItems" in schema:
            schema["items"] = schema.pop("additionalItems")
    for name, needed in schema.pop("dependencies", {}).items():
        key = "dependentRequired" if isinstance(needed, list) else "dependentSchemas"
        schema[key] = schema.get(key, {}) | {name: needed}
    if isinstance(schema.get("properties"), dict) and isinstance(schema.get("required", []), list):
        parts = schema["properties"].items()
        told = [name for name, part in parts if isinstance(part, dict) and _switch(part.get("required"))]
        schema |= {"required": list(dict.fromkeys([*schema.get("required", []), *told]))} if told else {}
    for key in schema.keys() & {*ONE, *LISTED, *NAMED}:
        value = schema[key]
        if key in ONE:
            schema[key] = _inner(value, types)
        elif key in LISTED:
            schema[key] = [_inner(part, types) for part in value]
        else:
            schema[key] = {name: _inner(spec, types) for name, spec in value.items() if spec is not None}
    return _or_null(schema) if _switch(written.get("nullable")) else schema


_DIALECT = ("type", "nullable", "optional")  # read, and not left in the schema


def _switch(value):
    """True and false, also as text -> bool; None for anything else."""
    return {"true": True, "false": False}.get(str(value).lower()) if isinstance(value, (bool, str)) else None


def _inner(written, types):
    """A schema inside another: true (anything), false (nothing), or one that may say of itself that it is required."""
    if isinstance(written, bool):
        return written
    if _switch(written.get("required")) is not None:
        written = {key: value for key, value in written.items() if key != "required"}
    return json_schema(written, types)


def _of_type(values, kind):
    """The values of an enum, read as its type where all are texts for numbers or switches, or numbers for texts."""
    if kind in ("integer", "number", "boolean") and all(isinstance(value, str) for value in values):
        try:
            read = [json.loads(value.lower() if kind == "boolean" else value) for value in values]
        except ValueError:
            return values
        right = bool if kind == "boolean" else int if kind == "integer" else (int, float)
        fits = all(isinstance(value, right) and isinstance(value, bool) == (right is bool) for value in read)
        return read if fits else values
    if kind == "string" and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        return [str(value) for value in values]
    return values


def _or_null(schema):
    """A schema that allows null besides what it allows."""
    if isinstance(schema.get("type"), str) and not schema.keys() & {"const", "$ref", "not", "if", *LISTED}:
        schema = schema | {"type": list(dict.fromkeys([schema["type"], "null"]))}
        if isinstance(schema.get("enum"), list) and None not in schema["enum"]:
            schema["enum"] = [*schema["enum"], None]
        return schema
    about = {key: schema[key] for key in ("title", "description", "default", "examples") if key in schema}
    rest = {key: value for key, value in schema.items() if key not in about}
    return about | ({"anyOf": [rest, {"type": "null"}]} if rest else {})


def _json_type(written, types):
    """A type as the data set writes it -> the part of a JSON Schema that says so ({} if unknown)."""
    if isinstance(written, list):  # already JSON Schema's list of alternatives
        return _union([_json_type(part, types) for part in written])
    text = str(written).lower().replace(", optional", "").replace("<", "[").replace(">", "]").strip()
    if text.endswith("[]"):
        items = _json_type(text.removesuffix("[]"), types)
        return {"type": "array", **({"items": items} if items else {})}
    outer, _, inner = text.partition("[")
    inner = inner.removesuffix("]")
    parts = split_outside(text, at="|")
    if outer in ("union", "optional") and len(parts) == 1:
        parts = [*split_outside(inner), *(["null"] if outer == "optional" else [])]
    if len(parts) > 1 or outer == "union":
        return _union([_json_type(part, types) for part in parts])
    schema = {"type": types[outer]} if outer in types else {}
    if schema.get("type") == "array" and (items := _json_type(inner, types)):
        schema["items"] = items
    return schema


def _union(parts):
    """What one of several types allows; {} where one of them is unknown."""
    if not parts or not all(parts):
        return {}
    richer = [part for part in parts if part.keys() != {"type"}]
    if len(richer) > 1 or any("type" not in part for part in richer):
        return {"anyOf": parts}
    kinds = [kind for part in parts for kind in (part["type"] if isinstance(part["type"], list) else [part["type"]])]
    kinds = list(dict.fromkeys(kinds))
    return (richer[0] if richer else {}) | {"type": kinds[0] if len(kinds) == 1 else kinds}
