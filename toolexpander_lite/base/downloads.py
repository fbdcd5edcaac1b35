"""Where this machine keeps what was fetched, and how a fetched file comes there whole or not at all."""

import errno
import os
import tempfile
import urllib.request
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

from .errors import DataError, SettingsError


def cache_folder(*parts):
    """Folder for fetched data and unpacked models, made if missing -> `Path`.

    It is `$TOOLEXPANDER_CACHE`, else `.cache/toolexpander_lite` in the home folder.

    Raises:
        SettingsError: it cannot be made.
    """
    root = os.environ.get("TOOLEXPANDER_CACHE") or Path.home() / ".cache" / "toolexpander_lite"
    folder = Path(root, *parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from None
    return folder


def _unwritable(folder, error):
    return SettingsError(
        f"cannot write to the cache folder {folder} ({error.strerror or error}); set TOOLEXPANDER_CACHE to a folder "
        "that can be written to"
    )


@contextmanager
def beside(folder):
    """A folder within the cache folder `folder`, on its disk, gone at the end -> `Path`; for `put_in_place`.

    Raises:
        SettingsError: `folder` cannot be written to, or its disk is full.
    """
    try:
        with tempfile.TemporaryDirectory(dir=folder) as made:
            yield Path(made)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOENT):
            raise  # what is done in the folder went wrong otherwise
        raise _unwritable(folder, error) from None


def fetch(url, folder):
    """Download one file into the cache folder `folder` unless it is there -> its `Path`.

    Raises:
        DataError: out of reach.
        SettingsError: `folder` cannot be written to.
    """
    file = Path(folder, url.rpartition("/")[2])
    if not file.is_file():
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                content = answer.read()
        except (OSError, HTTPException) as error:
            raise DataError(f"cannot fetch {Path(folder).name} from {url} ({error}); download the file on a machine "
                            "with internet and give it with --data-path (path=...)") from None  # fmt: skip
        # Whole or not at all: a cut download must never be taken for the file.
        with beside(folder) as made:
            part = made / file.name
            part.write_bytes(content)
            put_in_place(part, file)
    return file


def put_in_place(made, place):
    """Move a finished file or folder to `place`; what another process has put there in the meantime is used instead."""
    try:
        made.replace(place)
    except OSError:
        if not place.exists():
            raise
