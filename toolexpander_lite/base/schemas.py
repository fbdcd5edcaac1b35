"""JSON Schema: is it one, and what in it do arguments break? Bounded, whatever the schema and the arguments hold.

Schemas come from data files and arguments from models. Nothing is fetched from the network, a regular expression that
backtracks is given up, and so is a schema whose references multiply or lead back to themselves.
"""

import json
import re
import time
from collections import defaultdict
from contextvars import ContextVar
from functools import lru_cache
from itertools import count

import regex
from jsonschema import Draft202012Validator
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

MAX_REFERENCES = 2_000  # followed in one check, some 0.1 s (our assumption; real schemas follow a few)
PATTERN_SECONDS = 0.2  # for all regular expressions of one check (our assumption; real ones take microseconds)

# Where a schema holds further ones: one, several, and several by name.
ONE = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames", "unevaluatedItems",
       "unevaluatedProperties")  # fmt: skip
LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")
NAMED = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
_DATA = ("const", "enum", "default", "examples")  # hold values, not schemas


class SchemaFault(ValueError):
    """A schema that is none, or that cannot be followed to its end."""


def is_schema(schema):
    """Is this valid JSON Schema (draft 2020-12)?"""
    return _is_schema(json.dumps(schema))


@lru_cache(maxsize=16_384)  # a check takes about a millisecond, and rows share tools
def _is_schema(text):
    try:
        return Draft202012Validator(Draft202012Validator.META_SCHEMA).is_valid(json.loads(text))
    except RecursionError:
        return False


def fault(schema, arguments, choose=lambda errors: next(errors, None)):
    """What arguments (dict) break in a JSON Schema -> `jsonschema`'s error, the first in the schema's order; or None.

    Args:
        choose: another choice among the errors, `jsonschema.exceptions.best_match` for instance.

    Raises:
        SchemaFault: the schema is none, a reference leads nowhere or to another document, or the bounds above are met.
    """
    if not is_schema(schema):
        raise SchemaFault("not JSON Schema")
    _followed.set(count())
    try:
        # An empty registry: a "$ref" to another document fails instead of being fetched from the network.
        validator = _Validator(_without_patterns(schema, arguments), registry=Registry())
        return choose(validator.iter_errors(arguments))
    except (Unresolvable, RecursionError, OverflowError, TimeoutError, regex.error, re.error) as error:
        raise SchemaFault(f"{type(error).__name__}: {error}") from None


def broken_keyword(schema, arguments):
    """The first keyword of a JSON Schema that arguments break -> str, or None. Raises as `fault` does."""
    error = fault(schema, arguments)
    return error and error.validator


_followed = ContextVar("references followed in this check")


def _counted(keyword):
    follow = Draft202012Validator.VALIDATORS[keyword]

    def check(validator, reference, instance, schema):
        if next(_followed.get()) >= MAX_REFERENCES:
            raise SchemaFault(f"more than {MAX_REFERENCES} references")
        yield from follow(validator, reference, instance, schema)

    return check


_Validator = extend(Draft202012Validator, {keyword: _counted(keyword) for keyword in ("$ref", "$dynamicRef")})


def _without_patterns(schema, arguments):
    """A schema in whose stead of each regular expression stand the texts in `arguments` that it matches."""
    if '"pattern' not in json.dumps(schema):
        return schema
    texts, end = sorted(set(_texts(arguments))), time.monotonic() + PATTERN_SECONDS

    def matched(pattern):
        left = max(end - time.monotonic(), 1e-3)
        found = [re.escape(text) for text in texts if regex.search(pattern, text, timeout=left)]
        return rf"\A(?:{'|'.join(found)})\Z" if found else r"(?!)"

    def rewritten(part, named=False):
        if isinstance(part, list):
            return [rewritten(value) for value in part]
        if not isinstance(part, dict):
            return part
        part = {
            key: value if key in _DATA and not named else rewritten(value, key in NAMED and not named)
            for key, value in part.items()
        }
        if named:
            return part
        if "pattern" in part:
            part["pattern"] = matched(part["pattern"])
        if "patternProperties" in part:
            found = defaultdict(list)
            for pattern, value in part["patternProperties"].items():
                found[matched(pattern)].append(value)
            part["patternProperties"] = {pattern: {"allOf": values} for pattern, values in found.items()}
        return part

    return rewritten(schema)


def _texts(value):
    """All texts in plain JSON data, names included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for part in value:
            yield from _texts(part)
        for part in value.values() if isinstance(value, dict) else ():
            yield from _texts(part)
