"""Write a file whole or not at all, and look before long work whether its result will have a place of its own."""

from pathlib import Path

from .errors import RunError


def write_whole(path, text):
    """Write `text` (UTF-8) beside `path`, then put it in its place; a reader sees the old file or the new one."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def check_new_file(path):
    """Refuse a file to come that would overwrite something or cannot be written.

    Raises:
        RunError: there is a file or a folder of this name, or none can be made.
    """
    path = Path(path)
    if path.is_dir():
        raise RunError(f"{path} is a folder; give --out a file in it, {path / 'episodes.jsonl'} for example")
    if path.exists():
        raise RunError(f"{path} is there already and would be overwritten; choose another file with --out")
    check_writable(path.parent)


def check_new_folder(folder):
    """Refuse a folder to come that holds anything or cannot be written.

    Raises:
        RunError: it holds something, is a file, or cannot be made.
    """
    folder = Path(folder)
    if folder.is_dir() and any(folder.iterdir()):
        raise RunError(f"{folder} is not empty, and its files might be overwritten; choose another folder with --out")
    check_writable(folder)


def check_writable(folder):
    """Make a folder and try to write into it.

    Raises:
        RunError: it cannot be made or written.
    """
    probe = Path(folder) / ".writable"
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise RunError(f"cannot write to {folder}: {error}; choose another folder with --out") from error
