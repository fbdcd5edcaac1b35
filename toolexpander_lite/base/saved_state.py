"""State that belongs to a data set, kept beside a checkpoint as JSON and refused for another data set."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from .errors import PoolError
from .files import write_whole


def content_hash(samples):
    """First 16 hex digits of a sha256 over all that samples hold, in their order: ids name rows, this tells them."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(json.dumps(asdict(sample), sort_keys=True).encode())
    return digest.hexdigest()[:16]


def _fingerprint(ids):
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]


def write_state(path, ids, content, **state):
    """Write `state` with what tells its data set: the ids in their order, and a hash of what the rows hold (or "")."""
    write_whole(path, json.dumps({"ids": _fingerprint(ids), "content": content, **state}))


def read_state(path, what, ids, content, names):
    """What `write_state` wrote -> dict that has all of `names`; a file that does not tell of its rows' content passes.

    Raises:
        PoolError: no such file, one that holds something else than a `what`, or one of another data set.
    """
    try:
        state = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise PoolError(f"cannot read the {what} {path}: {error}") from error
    if not isinstance(state, dict) or not {"ids", *names} <= set(state):
        raise PoolError(f"{path} is not a {what}; give the file that `save` wrote")
    if state["ids"] != _fingerprint(ids):
        raise PoolError(f"the {what} {path} is of another data set: its sample ids differ")
    if content and state.get("content") not in (None, "", content):
        raise PoolError(f"{path} is of another data set: its ids are the same, but what the rows hold has changed")
    return state
