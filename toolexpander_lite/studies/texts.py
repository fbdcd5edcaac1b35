"""Prose with numbers in it: sentences.md.j2 has a macro per sentence or list item, results.md.j2 is docs/results.md."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..training.profiles import tools_offered
from .statistics import hits


def markdown_table(header, rows):
    """A Markdown table -> lines."""
    head, *body = (f"| {' | '.join(map(str, row))} |" for row in (header, *rows))
    return [head, "|---" * len(header) + "|", *body]


TEXTS = Environment(loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True,
                    lstrip_blocks=True, keep_trailing_newline=True)  # fmt: skip
TEXTS.globals.update(hits=hits, tools_offered=tools_offered, markdown_table=markdown_table)
SENTENCES = TEXTS.get_template("sentences.md.j2").module


def say(name, *values, **named):
    """What the macro `name` says of these values, on one line -> str."""
    return " ".join(getattr(SENTENCES, name)(*values, **named).split())


TEXTS.globals["say"] = say
