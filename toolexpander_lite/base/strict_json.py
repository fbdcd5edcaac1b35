"""JSON as models write it, read strictly and in linear time: one value, no key twice, finite numbers, bounded depth."""

import json
import math
import re

MAX_DEPTH = 32  # of nested objects and lists; real calls use 2 or 3

# A string (its end may be missing, so that no input makes the match start over), or a bracket.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)


def read_json(text, start):
    """Strict JSON value at `start` -> (value, end). Raises `ValueError` for all that is not."""
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(text, start):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(token[0], 0)
        if depth > MAX_DEPTH:  # looked at first: the decoder recurses, and so does all later code
            raise ValueError(f"nested deeper than {MAX_DEPTH}")
        if depth <= 0:
            break
    value, end = _DECODER.raw_decode(text, start)
    # Refuses half a surrogate pair, which no log takes: it stands in the text as it is, or escaped.
    (text[start:end] if "\\u" not in text[start:end] else json.dumps(value, ensure_ascii=False)).encode("utf-8")
    return value, end


def _unique_keys(pairs):
    if len(dict(pairs)) != len(pairs):
        raise ValueError("an object gives the same key twice")
    return dict(pairs)


def _finite(text):
    if not math.isfinite(float(text)):  # also called for NaN and Infinity, which Python would take
        raise ValueError(f"{text[:40]} is not a finite number")
    return float(text)


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_float=_finite, parse_constant=_finite)


def same_value(a, b):
    """JSON equality: types must agree, except that 1 == 1.0; True is not 1, and "1" is not 1."""
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return a == b and isinstance(a, bool) == isinstance(b, bool)  # a bool is an int to Python
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_value(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same_value, a, b))
    return type(a) is type(b) and a == b
