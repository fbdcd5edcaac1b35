"""The graded world: sixteen tools whose questions lie between certain and hopeless, to test the paper's tables in.

Every argument can be written in three forms: the query's word ("paris"), "id:paris" or "ref:paris". A tool's server
takes one of the last two, argument by argument, and its schema does not say which. What one tool takes says nothing
about another, and no two tools share an argument name.

What is engineered, all of it in `Familiarity`: the policies were taught to write the right form with a chance whose
log-odds are a level of the tool plus one of the word, spread so that pass rates run from 0 to 1; a demonstration of
the *same tool* adds a constant to the log-odds of the form that it *shows*, one of another tool does nothing. So
examples help as evidence does, a lot where the policy is near and little where it is far, and wrong values mislead.
Two levels make two policies, about as weak as the paper's two 1.5B models (28 and 72 % of its rows hard, Table 2).
And `NOISE` of the training rows have a gold call with another word in the other form, as public tool data has wrong
ones: nobody can solve these, and as demonstrations they mislead. The held-out rows have none. The paper trains on
real data.
"""

import hashlib
import itertools
import math
import random
from dataclasses import dataclass
from functools import cache

from .nano_world import CODEBOOKS, HELD_OUT_SHARE, sample_among, tool_schema

FORMS = ("word", "id", "ref")
OTHER = {"id": "ref", "ref": "id"}
NOISE = 0.08  # share of training rows with a wrong value in the gold call
PHRASES = {"city": "in {}", "day": "on {}", "currency": "paid in {}", "language": "speaking {}",
           "unit": "measured by {}", "month": "for {}", "hour": "at {}", "colour": "coloured {}"}  # fmt: skip


@dataclass(frozen=True)
class GradedTool:
    """A tool: name, how its queries open, the books of its three arguments and the form its server takes of each."""

    name: str
    opening: str
    books: tuple
    forms: tuple

    @property
    def arguments(self):
        return tuple(f"{self.name.split('_')[1]}-{book}" for book in self.books)

    @property
    def schema(self):
        """JSON Schema of the tool: three strings, in whatever form."""
        properties = {a: {"type": "string", "description": a} for a in self.arguments}
        return tool_schema(self.name, f"To {self.opening}.", **properties)


def _tools():
    openings = (
        "book a taxi", "find a hotel", "hire a guide", "order some paint", "plan a meeting", "print a calendar",
        "ship a parcel", "rent a car", "reserve a table", "buy a ticket", "send a courier", "charter a boat",
        "schedule a lesson", "request a quote", "deliver a cake", "arrange a tour",
    )  # fmt: skip
    books = list(itertools.combinations(PHRASES, 3))
    rng = random.Random("graded tools")
    rng.shuffle(books)
    for opening, chosen in zip(openings, books):
        verb, noun = opening.split()[0], opening.split()[-1]
        yield GradedTool(f"{verb}_{noun}", opening, chosen, tuple(rng.choice(FORMS[1:]) for _ in chosen))


TOOLS = {tool.name: tool for tool in _tools()}


def written(word, form):
    """A word in one of `FORMS` -> str."""
    return word if form == "word" else f"{form}:{word}"


def right_arguments(tool, words):
    """Words of a query in the tool's order -> the arguments its server takes."""
    return {a: written(w, f) for a, w, f in zip(tool.arguments, words, tool.forms)}


@cache
def queries(name, split):
    """Every (query, words) of a tool in a split; the words, in whatever order they are asked, lie in one split."""
    tool, found = TOOLS[name], []
    for words in itertools.product(*(CODEBOOKS[b] for b in tool.books)):
        held_out = hashlib.sha256(f"{name} {words}".encode()).digest()[0] < 256 * HELD_OUT_SHARE
        if held_out == (split == "test"):
            parts = [PHRASES[b].format(w) for b, w in zip(tool.books, words)]
            found += [(" ".join([tool.opening, *order]), words) for order in (parts, parts[::-1])]
    return tuple(found)


@cache
def _answers():
    return {
        query: {"name": name, "arguments": right_arguments(tool, words)}
        for name, tool in TOOLS.items() for split in ("train", "test") for query, words in queries(name, split)
    }  # fmt: skip


def right_call(query):
    """The call that answers a query of this world -> dict, or None when it is none of its queries."""
    return _answers().get(" ".join(query.split()))


def make_sample(tool, query, arguments, split="train"):
    """One `ToolSample`; the tools on offer (its own and a distractor, in random order) follow from the query."""
    return sample_among(TOOLS, tool, query, arguments, split)


def noisy_arguments(tool, words, rng):
    """The arguments of a wrong gold call: another word, in the form that the server does not take."""
    places = {rng.randrange(len(words))} if rng.random() < 0.5 else range(len(words))
    arguments = right_arguments(tool, words)
    for i in places:
        word = rng.choice([w for w in CODEBOOKS[tool.books[i]] if w != words[i]])
        arguments[tool.arguments[i]] = written(word, OTHER[tool.forms[i]])
    return arguments


def graded_samples(split, per_tool, seed=0):
    """Draw `per_tool` samples of each tool from one split; `NOISE` of those to train on have a wrong value.

    Raises:
        ValueError: a tool has fewer queries in this split than asked for.
    """
    samples = []
    for name, tool in TOOLS.items():
        rng = random.Random(f"{seed}-{name}-{split}")
        for query, words in rng.sample(queries(name, split), per_tool):
            noisy = split == "train" and random.Random(f"noise {query}").random() < NOISE
            arguments = noisy_arguments(tool, words, random.Random(query)) if noisy else right_arguments(tool, words)
            samples.append(make_sample(tool, query, arguments, split))
    return samples


@dataclass(frozen=True)
class Familiarity:
    """What a policy is taught: log-odds, per argument, of each of `FORMS`.

    Attributes:
        level: added to the right form of all; the two policies differ in nothing else.
        spread: half the range of the tools' levels, which lie evenly in it.
        word_spread: likewise of the words' levels, each tool's own.
        evidence: added to each form that a demonstration of the same tool shows.
        wrong: log-odds of the form that the tool does not take; above 0 it is a habit, and where the right form has
            less, sampling alone does not meet it.
    """

    level: float
    spread: float = 5.0
    word_spread: float = 2.0
    evidence: float = 4.0
    wrong: float = -1.5

    def log_odds(self, tool, words, shown=((), (), ())):
        """[{form: log-odds} of each argument]; `shown`: the forms that demonstrations show of each."""
        places = sorted(TOOLS, key=lambda name: hashlib.sha256(name.encode()).digest())
        own = self.level + self.spread * (2 * places.index(tool.name) / (len(TOOLS) - 1) - 1)
        odds = []
        for argument, word, form, forms in zip(tool.arguments, words, tool.forms, shown):
            known = random.Random(f"{argument} {word}").uniform(-self.word_spread, self.word_spread)
            odds.append({"word": 0.0, OTHER[form]: self.wrong, form: own + known})
            for f in set(forms):
                odds[-1][f] += self.evidence
        return odds

    def chance(self, tool, words, shown=((), (), ()), temperature=1.0):
        """Chance that a policy that learnt just this writes the right call."""
        chance = 1.0
        for odds, form in zip(self.log_odds(tool, words, shown), tool.forms):
            weights = {f: math.exp(o / temperature) for f, o in odds.items()}
            chance *= weights[form] / sum(weights.values())
        return chance
