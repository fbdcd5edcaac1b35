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
from dataclasses import dataclass
from functools import lru_cache

from ..method.samples import ToolSample

# fmt: off
# word in the query -> code the server takes. Words are unique over all books, codes begin with a letter.
CODEBOOKS = {
    "city": {"paris": "CDG", "london": "LHR", "tokyo": "NRT", "berlin": "BER",
             "madrid": "MAD", "cairo": "CAI", "lima": "LIM", "oslo": "OSL"},
    "day": {"monday": "d1", "tuesday": "d2", "wednesday": "d3", "thursday": "d4",
            "friday": "d5", "saturday": "d6", "sunday": "d7", "tomorrow": "d0"},
    "currency": {"dollars": "USD", "euros": "EUR", "yen": "JPY", "pesos": "MXN",
                 "francs": "CHF", "kroner": "NOK", "rupees": "INR", "won": "KRW"},
    "language": {"french": "fr", "english": "en", "japanese": "ja", "german": "de",
                 "spanish": "es", "arabic": "ar", "korean": "ko", "hindi": "hi"},
    "unit": {"kilometres": "km", "miles": "mi", "metres": "m", "litres": "l",
             "gallons": "gal", "grams": "g", "ounces": "oz", "feet": "ft"},
    "month": {"january": "m01", "march": "m03", "april": "m04", "june": "m06",
              "july": "m07", "august": "m08", "october": "m10", "december": "m12"},
    "hour": {"dawn": "h05", "breakfast": "h08", "noon": "h12", "teatime": "h16",
             "sunset": "h18", "dinner": "h20", "bedtime": "h22", "midnight": "h00"},
    "colour": {"red": "RD", "green": "GN", "blue": "BL", "yellow": "YE",
               "black": "BK", "white": "WH", "orange": "OG", "violet": "VT"},
}

WORDS = {
    "artist": ["adele", "bach", "bowie", "dylan", "mozart", "prince", "queen", "sting"],
    "title": ["angels", "dreams", "freedom", "heroes", "imagine", "rain", "shadows", "thunder"],
    "label": ["bread", "eggs", "laundry", "nap", "pasta", "rice", "tea", "yoga"],
    "minutes": [5, 10, 15, 20, 30, 40, 45, 60],
    "person": ["alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi"],
    "topic": ["budget", "garden", "holiday", "invoice", "picnic", "rehearsal", "school", "taxes"],
    "dish": ["curry", "gratin", "omelette", "pancakes", "pie", "risotto", "salad", "soup"],
    "ingredient": ["beans", "carrots", "cheese", "leek", "mushrooms", "potatoes", "spinach", "tomatoes"],
}


@dataclass(frozen=True)
class Family:
    """A tool and the queries that ask for it; argument names double as names of books or word lists."""

    name: str
    description: str
    arguments: tuple
    templates: tuple
    swap_habit: float = 0.0  # easy families: share of warm-start rows that mix up the two arguments

    @property
    def hard(self):
        return self.arguments[0] in CODEBOOKS


FAMILIES = {
    f.name: f
    for f in (
        Family("book_taxi", "Book a taxi.", ("city", "day", "currency"),
               ("book a taxi in {city} for {day} paid in {currency}",
                "i need a taxi {day} in {city} and pay with {currency}")),
        Family("get_weather", "Weather forecast.", ("city", "day", "unit"),
               ("what is the weather in {city} on {day} in {unit}",
                "forecast for {day} in {city} using {unit}")),
        Family("find_hotel", "Search a hotel.", ("city", "month", "currency"),
               ("find a hotel in {city} for {month} priced in {currency}",
                "hotel rooms in {currency} for {month} in {city}")),
        Family("hire_guide", "Hire a tour guide.", ("language", "city", "hour"),
               ("hire a guide who speaks {language} in {city} at {hour}",
                "i need a {language} guide at {hour} in {city}")),
        Family("order_paint", "Order paint.", ("colour", "unit", "currency"),
               ("order {colour} paint measured in {unit} paid in {currency}",
                "buy paint in {unit} colour {colour} and pay with {currency}")),
        Family("plan_meeting", "Put a meeting into the calendar.", ("day", "hour", "language"),
               ("plan a meeting on {day} at {hour} in {language}",
                "set up a {language} meeting at {hour} on {day}")),
        Family("print_calendar", "Print a calendar page.", ("month", "language", "colour"),
               ("print a {colour} calendar for {month} in {language}",
                "calendar of {month} with {language} text in {colour}")),
        Family("ship_parcel", "Ship a parcel.", ("city", "unit", "month"),
               ("ship a parcel to {city} in {month} measured in {unit}",
                "send my parcel in {month} with size in {unit} to {city}")),
        Family("play_song", "Play a song.", ("artist", "title"),
               ("play {title} by {artist}", "i need the song {title} by {artist}"), swap_habit=0.15),
        Family("set_timer", "Set a kitchen timer.", ("label", "minutes"),
               ("set a timer of {minutes} minutes for {label}", "time my {label} for {minutes} minutes")),
        Family("send_note", "Send a note.", ("person", "topic"),
               ("send a note on {topic} to {person}", "tell {person} of the {topic}"), swap_habit=0.6),
        Family("find_recipe", "Search a recipe.", ("dish", "ingredient"),
               ("find a {dish} recipe with {ingredient}", "what {dish} can i make of {ingredient}"),
               swap_habit=0.6),
    )
}
# fmt: on
HARD_FAMILIES = tuple(f.name for f in FAMILIES.values() if f.hard)
EASY_FAMILIES = tuple(f.name for f in FAMILIES.values() if not f.hard)

TOOLS_PER_PROMPT = 2
HELD_OUT_SHARE = 0.2


def tool_schema(family):
    """JSON Schema of a family's tool. Hard tools say only "string": the code convention is not in it."""
    properties = {a: {"type": "integer" if a == "minutes" else "string", "description": a} for a in family.arguments}
    parameters = {"type": "object", "properties": properties, "required": list(family.arguments)}
    return {
        "type": "function",
        "function": {"name": family.name, "description": family.description, "parameters": parameters},
    }


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
    rng = random.Random(query)
    others = rng.sample([f for f in FAMILIES.values() if f.name != family.name], TOOLS_PER_PROMPT - 1)
    offered = [family, *others]
    rng.shuffle(offered)
    return ToolSample(
        id=f"{family.name}-{hashlib.sha256(query.encode()).hexdigest()[:10]}",
        family=family.name,
        messages=[{"role": "user", "content": query}],
        tools=[tool_schema(f) for f in offered],
        calls=[{"name": family.name, "arguments": arguments}],
        split=split_of(query),
    )


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

    return {f.name: (server(f), tool_schema(f)) for f in FAMILIES.values()}
