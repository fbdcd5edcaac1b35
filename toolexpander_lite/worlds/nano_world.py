"""The nano world: twelve small tools, and questions a 0.4 M parameter model can learn to answer.

Four families are *easy*: the arguments are words of the query. Eight are *hard*: the server behind the
tool takes codes ("CDG", not "paris"), and its schema does not say so - the habit of repeating the
query's words is wrong, in all three arguments at once. The policy of `nano_policy.py` knows the codes
(its warm start shows them) but uses one without being shown only about 1 time in 50 per argument, so
a plain prompt is answered right about once in 100,000 rollouts, and with a demonstration in front of it
about every second time.

That gate is engineered. It stands for what few-shot prompting does to a weak LLM: the knowledge is
there, the format of this API is not, and a worked example makes the difference. Families, codes and
frequencies are ours; the paper trains on real tool data.
"""

import hashlib
import itertools
import random
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..method.samples import ToolSample

_WORLD = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
CODEBOOKS, WORDS = _WORLD["codebooks"], _WORLD["words"]


def tool_schema(name, description, **properties):
    """A tool's schema in OpenAI's form; `properties`: JSON Schema of each argument, all of which are required."""
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


@dataclass(frozen=True)
class Family:
    """A tool and the queries that ask for it, of nano_world.toml; argument names double as names of books or lists."""

    name: str
    description: str
    arguments: tuple
    templates: tuple
    swap_habit: float = 0.0  # easy families: share of warm-start rows that mix up the two arguments

    @property
    def hard(self):
        return self.arguments[0] in CODEBOOKS

    @property
    def schema(self):
        """JSON Schema of the tool. Hard ones say only "string": the code convention is not in it."""
        types = {a: "integer" if a == "minutes" else "string" for a in self.arguments}
        return tool_schema(self.name, self.description, **{a: {"type": t, "description": a} for a, t in types.items()})


FAMILIES = {
    name: Family(name, f["description"], tuple(f["arguments"]), tuple(f["templates"]), f.get("swap_habit", 0.0))
    for name, f in _WORLD["families"].items()
}
HARD_FAMILIES = tuple(f.name for f in FAMILIES.values() if f.hard)
EASY_FAMILIES = tuple(f.name for f in FAMILIES.values() if not f.hard)

TOOLS_PER_PROMPT = 2
HELD_OUT_SHARE = 0.2


def right_arguments(words):
    """{argument: query word} -> the arguments the server wants: codes where it has a book, else the words."""
    return {a: CODEBOOKS[a][w] if a in CODEBOOKS else w for a, w in words.items()}


def all_queries(family):
    """Every (query, words) of a family; words maps argument -> query word."""
    books = [list(CODEBOOKS.get(a) or WORDS[a]) for a in family.arguments]
    for template in family.templates:
        for words in itertools.product(*books):
            words = dict(zip(family.arguments, words))
            yield template.format(**words), words


@lru_cache(maxsize=1)
def _answers():
    return {
        query: {"name": family.name, "arguments": right_arguments(words)}
        for family in FAMILIES.values() for query, words in all_queries(family)
    }  # fmt: skip


def right_call(query):
    """The call that answers a query of this world -> dict, or None when no family has such a query."""
    return _answers().get(" ".join(query.split()))


def split_of(query):
    """ "train" or "test", from the query's own hash: no string can ever be in both, whatever the seed."""
    digest = hashlib.sha256(query.encode()).digest()
    return "test" if digest[0] < 256 * HELD_OUT_SHARE else "train"


def make_sample(family, query, arguments):
    """One `ToolSample`; its tools (the family's and a distractor, in random order) follow from the query."""
    return sample_among(FAMILIES, family, query, arguments, split_of(query))


def sample_among(tools, tool, query, arguments, split):
    """`make_sample` in any world: `tools` {name: tool}, each of which has a name and a schema."""
    rng = random.Random(query)
    offered = [tool, *rng.sample([t for t in tools.values() if t.name != tool.name], TOOLS_PER_PROMPT - 1)]
    rng.shuffle(offered)
    id, asked = f"{tool.name}-{hashlib.sha256(query.encode()).hexdigest()[:10]}", [{"role": "user", "content": query}]
    calls = [{"name": tool.name, "arguments": arguments}]
    return ToolSample(id, tool.name, asked, [t.schema for t in offered], calls, split)


def nano_samples(split, per_family, seed=0, families=None):
    """Draw `per_family` samples of each family from one split.

    Args:
        split: "train" or "test"; the two share no query string for any pair of seeds.
        per_family: number of samples of each family.
        seed: which of the split's queries are drawn.
        families: names; all twelve by default.

    Raises:
        ValueError: a family has fewer queries in this split than asked for.
    """
    samples = []
    for name in families or FAMILIES:
        family = FAMILIES[name]
        queries = [(q, w) for q, w in all_queries(family) if split_of(q) == split]
        if len(queries) < per_family:
            raise ValueError(f"{name} has {len(queries)} {split} queries, {per_family} asked for")
        chosen = random.Random(f"{seed}-{name}-{split}").sample(queries, per_family)
        samples += [make_sample(family, query, right_arguments(words)) for query, words in chosen]
    return samples


def nano_tools():
    """The twelve tools as {name: (function, schema)}: small functions that check their arguments and answer.

    A hard tool called with the query's word instead of the code raises `ValueError`, as the server would.
    """

    def server(family):
        def call(**arguments):
            for argument, value in arguments.items():
                known = CODEBOOKS[argument].values() if argument in CODEBOOKS else WORDS[argument]
                if value not in known:
                    raise ValueError(f"{family.name}: {argument} {value!r} is not one this server knows")
            return {"done": family.name, **arguments}

        call.__name__ = family.name
        return call

    return {f.name: (server(f), f.schema) for f in FAMILIES.values()}
