"""Are evaluation questions among the training rows? Exact twins and near ones, by the words of the questions.

Two questions are exact twins when they are the same words in the same order, whatever the case, spacing and
punctuation; near twins when the sets of their three-word sequences overlap by at least half (Jaccard index:
common / all). Both limits are our assumption: two words changed in a question of twenty are still found, a new
question built on the same phrase ("what is the weather in ...") may be found too, so look at the examples.
Tools and answers are not compared, nor are translations and free rewordings found.
"""

import math
from collections import Counter, defaultdict
from dataclasses import dataclass

from ..base.split_words import words
from ..method.samples import ToolSample

NEAR = 0.5  # Jaccard index from which two questions are near twins
GRAM = 3  # words in a sequence


@dataclass(frozen=True)
class Twins:
    """A training row and an evaluation row that ask (nearly) the same.

    Attributes:
        similarity: Jaccard index of their word sequences, 1.0 for exact twins.
    """

    trained: ToolSample
    held_out: ToolSample
    similarity: float
    exact: bool


@dataclass(frozen=True)
class Contamination:
    """What `contamination` found.

    Attributes:
        twins: all pairs, most similar first.
        trained, held_out: number of rows that were compared.
    """

    twins: list
    trained: int
    held_out: int

    def counts(self):
        """Rows that have a twin, each counted once -> {"exact": ..., "near": ...} of (training, evaluation) rows.

        A row with an exact twin is not counted among the near ones.
        """
        result, seen = {}, (set(), set())
        for kind in ("exact", "near"):
            pairs = [t for t in self.twins if t.exact == (kind == "exact")]
            new = {t.trained.id for t in pairs} - seen[0], {t.held_out.id for t in pairs} - seen[1]
            result[kind] = len(new[0]), len(new[1])
            seen = seen[0] | new[0], seen[1] | new[1]
        return result

    def __str__(self):
        (exact, exact_asked), (near, near_asked) = self.counts().values()
        text = f"{exact} of {self.trained} training rows have an exact twin, {near} a near one; "
        text += f"of {self.held_out} evaluation rows {exact_asked} and {near_asked}"
        for twins in self.twins[:3]:
            text += "\n  " + ("exact:" if twins.exact else f"{twins.similarity:.2f}:")
            text += "".join(f"\n    {s.id} {question(s)[:150]!r}" for s in (twins.trained, twins.held_out))
        return text


def question(sample):
    """What the user says in a sample, all turns -> str."""
    return "\n".join(m["content"] for m in sample.messages if m["role"] == "user")


def contamination(trained, held_out, near=NEAR, gram=GRAM):
    """Compare the questions of all training rows with those of all evaluation rows -> `Contamination`.

    Finds every pair that reaches `near`, and looks at few others: of two sets that overlap enough, each must hold
    one of the other's rarest sequences, so only those are looked up (the prefix filter of Bayardo et al. 2007).

    Args:
        trained, held_out: `ToolSample`s.
        near: smallest Jaccard index of near twins, in (0, 1].
        gram: words in a sequence; a shorter question is one sequence.
    """
    asked = [words(question(s)) for s in held_out]
    asked_grams = [_grams(w, gram) for w in asked]
    frequency = Counter(g for grams in asked_grams for g in grams)

    def rarest(grams):
        """The sequences of which a set must share at least one with any set that overlaps with it enough."""
        least_common = math.ceil(near * len(grams) - 1e-9)  # without the nudge 0.56 * 25 would round up to 15
        return sorted(grams, key=lambda g: (frequency[g], g))[: len(grams) - least_common + 1]

    index = defaultdict(list)
    for place, grams in enumerate(asked_grams):
        for g in rarest(grams):
            index[g].append(place)
    twins = []
    for sample in trained:
        own = words(question(sample))
        grams = _grams(own, gram)
        for place in sorted({place for g in rarest(grams) for place in index.get(g, ())}):
            similarity = len(grams & asked_grams[place]) / len(grams | asked_grams[place])
            if similarity >= near:
                twins.append(Twins(sample, held_out[place], similarity, own == asked[place]))
    twins.sort(key=lambda t: (not t.exact, -t.similarity))
    return Contamination(twins, len(trained), len(held_out))


def _grams(words, size):
    """Sequences of `size` words -> set of tuples; of fewer words, the one sequence they are."""
    return {tuple(words[i : i + size]) for i in range(max(len(words) - size, 0) + 1)} if words else set()
