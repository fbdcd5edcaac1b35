"""Errors of the user's making. Each message names what is wrong and what to do; the command line shows it alone."""

from difflib import get_close_matches


class KitError(Exception):
    """Base of all errors this package raises on purpose."""


class SettingsError(KitError, ValueError):
    """A recipe, profile or argument that cannot be run."""


class DataError(KitError, ValueError):
    """A row that cannot be trained or scored on, or a source that cannot be read."""


class ModelError(KitError, ValueError):
    """A model or tokenizer that cannot be used as it is."""


class PoolError(KitError, ValueError):
    """A hard sample pool that cannot be made or restored."""


class RunError(KitError, RuntimeError):
    """A run directory that cannot be written, read or resumed."""


class RunStopped(RunError):
    """A run that ended before its last step because it was asked to. In a notebook it is one line, no traceback."""

    def _render_traceback_(self):  # IPython's hook
        return [str(self)]


class NotebookError(KitError, RuntimeError):
    """A notebook that did not run to its end."""


def meant(name, choices):
    """The choice that a misspelt name may stand for -> "did you mean ... ", "" if none is near."""
    near = get_close_matches(str(name), choices, 1)
    return f"did you mean {near[0]}? " if near else ""


def unknown(what, name, choices):
    """What is said of a name that is none of `choices` -> "unknown WHAT NAME; did you mean ...; choose one of ..."."""
    return f"unknown {what} {name!r}; {meant(name, choices)}choose one of {', '.join(choices)}"
