"""Is an optional argument that is written with its schema's default another call than the one without it?"""

from contextlib import contextmanager
from contextvars import ContextVar

from .errors import SettingsError
from .strict_json import same_value

SPELLED_DEFAULTS = ("extra", "same")
DEFAULTS_RULE = ContextVar("spelled_defaults", default="extra")


@contextmanager
def spelled_defaults(rule):
    """How the judge takes an optional argument that is written with its schema's default, while the block runs.

    "extra", the paper's exact match and what holds otherwise: it is another call than the one without it. "same": it is
    the same call. One switch for rewards, pools, evaluations and `ToolRegistry`; a profile's field `spelled_defaults`.

    Raises:
        SettingsError: an unknown rule.
    """
    if rule not in SPELLED_DEFAULTS:
        raise SettingsError(f"spelled_defaults is {rule!r}; use {' or '.join(map(repr, SPELLED_DEFAULTS))}")
    token = DEFAULTS_RULE.set(rule)
    try:
        yield
    finally:
        DEFAULTS_RULE.reset(token)


def without_defaults(calls, tools):
    """Calls less their optional arguments whose value is the schema's default, nested ones too -> list of calls."""
    schemas = {tool["function"]["name"]: tool["function"].get("parameters") for tool in tools}
    return [{**call, "arguments": _less_defaults(call["arguments"], schemas.get(call["name"]))} for call in calls]


def _less_defaults(value, schema):
    schema = schema if isinstance(schema, dict) else {}
    if isinstance(value, list):
        return [_less_defaults(part, schema.get("items")) for part in value]
    if not isinstance(value, dict):
        return value
    known, required, kept = schema.get("properties") or {}, schema.get("required") or (), {}
    for name, part in value.items():
        inner = known.get(name)
        part = _less_defaults(part, inner)
        optional = name not in required and isinstance(inner, dict) and "default" in inner
        if not (optional and same_value(part, _less_defaults(inner["default"], inner))):
            kept[name] = part
    return kept
