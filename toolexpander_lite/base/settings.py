"""Settings that are checked wherever they come in."""

from dataclasses import fields

from .errors import SettingsError, meant

LARGEST_SEED = 2**32 - 1  # what numpy takes


def check_seed(seed):
    """Refuse what cannot seed a run.

    Raises:
        SettingsError: not a whole number from 0 to `LARGEST_SEED`.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= LARGEST_SEED:
        raise SettingsError(f"seed is {seed!r}; it must be a whole number from 0 to {LARGEST_SEED}")


def parse_settings(kind, texts):
    """["beta=0.01", "retest=never"] -> {"beta": 0.01, "retest": "never"}, typed as the fields of `kind` are.

    Where a text may be missing, "none" is None.

    Raises:
        SettingsError: not NAME=VALUE, no such field, or a value of another type.
    """
    types = {f.name: f.type for f in fields(kind) if f.name not in ("name", "about")}
    changes = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in types:
            near = meant(name, types) if equals else ""
            raise SettingsError(f"{near}{text!r} is not NAME=VALUE with a NAME of {', '.join(types)}")
        try:
            if types[name] is bool:
                changes[name] = {"true": True, "false": False}[value.lower()]
            elif types[name] == str | None:
                changes[name] = None if value == "none" else value
            else:
                changes[name] = value if types[name] is str else (int if types[name] is int else float)(value)
        except (KeyError, ValueError):
            wanted = {int: "a whole number", bool: "true or false"}.get(types[name], "a number")
            raise SettingsError(f"{text!r}: {name} takes {wanted}, not {value!r}") from None
    return changes
