"""Values and calls written as text, in JSON or in Python -> plain JSON data. The text is parsed, never evaluated."""

import ast
import json
import re
import warnings

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


def read_if_text(value):
    """A value that may be written as text -> the value; None for an empty text."""
    if not isinstance(value, str):
        return value
    return read_literal(value.strip()) if value.strip() else None


def read_python_calls(text, names=(), unescaped=False):
    """`[add(a=1, b="x"), Get News()]` -> calls, `{"name", "arguments"}`.

    Only values go to Python's parser: tool names may hold spaces and arguments may be called `from`, which no
    Python call may.

    Args:
        names: tools on offer, so that one with a bracket in its name is recognised.
        unescaped: the form of API-Bank's owners: one call, all values text, where quotes inside a value are not
            escaped, and those around it may be missing.

    Raises:
        ValueError, SyntaxError: it is not of that form, a value is no literal, or an argument comes twice.
    """
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")):
        raise ValueError("not a list of calls")
    calls = []
    for call in [text[1:-1]] if unescaped else split_outside(text[1:-1]):
        known = [name for name in names if call.startswith(name + "(")]
        name = max(known, key=len, default=call.partition("(")[0])
        rest = call[len(name) :]
        if not (name and rest.startswith("(") and rest.endswith(")")):
            raise ValueError(f"not a call: {call[:80]!r}")
        arguments = {}
        for part in split_outside(rest[1:-1], _UNESCAPED if unescaped else _ESCAPED):
            argument, equals, value = part.partition("=")
            if not equals or not argument.strip() or argument.strip() in arguments:
                raise ValueError(f"not one more NAME=VALUE: {part[:80]!r}")
            arguments[argument.strip()] = _unquoted(value) if unescaped else read_literal(value.strip())
        calls.append({"name": name.strip(), "arguments": arguments})
    return calls


def _unquoted(text):
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


# What tells a comma between two parts from one inside: strings, and brackets.
_ESCAPED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[][(){},|]""", re.DOTALL)
# A value that begins with a quote ends at one; what follows it is another key=, or nothing. Only after a quote may the
# space before the next key be missing: a value without quotes may hold a comma.
_UNESCAPED = re.compile(
    r"""(?<==)(?:'.*?'|".*?")(?=\s*(?:,\s*\w+=|\Z))|(?<=['"])\s*,\s*(?=\w+=)|,\s(?=\w+=)""", re.DOTALL
)


def split_outside(text, signs=_ESCAPED, at=","):
    """The parts of `text` between the commas outside all strings and brackets, stripped, without empty ones."""
    parts, start, depth = [], 0, 0
    for token in signs.finditer(text):
        depth += (token[0] in "([{") - (token[0] in ")]}")
        if token[0].strip() == at and depth == 0:
            parts.append(text[start : token.start()])
            start = token.end()
    return [part.strip() for part in [*parts, text[start:]] if part.strip()]
