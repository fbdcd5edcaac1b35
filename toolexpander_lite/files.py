"""Write a file whole or not at all, so that a run that is killed leaves no half of one behind."""

from pathlib import Path


def write_whole(path, text):
    """Write `text` (UTF-8) beside `path`, then put it in its place; a reader sees the old file or the new one."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
