"""Solved examples to put in front of a prompt (few-shot demonstrations)."""

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from ..base.errors import DataError, PoolError, SettingsError
from ..base.files import write_whole
from .calls import match_calls
from .samples import SolvedSample, tool_name

SOURCES = ("gold", "own", "random", "corrupted")


class DemoBank:
    """Chooses demonstrations for a sample from the samples of the training split.

    Admissible for a sample: another query, other calls, and no call argument in common, so that a demonstration shows
    the form of an answer and never the answer. (So a sample whose answer is "no call" gets none that makes no call.)
    Samples that call a tool which the sample lists go first. The abstract says
    "high-quality few-shot demonstrations" and no more, so the sources are our assumptions:

        gold        same family, with the gold calls (the default)
        own         same family, with what the policy itself wrote when it first solved that sample in training
        random      any other family, with the gold calls (on real data a family is a source: none in a single one)
        corrupted   same family, each argument's value taken from another admissible sample: the right form, wrong
        values

    Args:
        samples: `ToolSample`s of the train split.
        source: one of `SOURCES`.

    Raises:
        DataError: a sample of another split, which would leak held-out answers.
        SettingsError: an unknown source.
    """

    def __init__(self, samples, source="gold"):
        if source not in SOURCES:
            raise SettingsError(f"unknown demonstration source {source!r}; choose one of {', '.join(SOURCES)}")
        self.source = source
        self._own = {}  # sample id -> (step, completion) of the first time it was solved
        self._by_family = defaultdict(list)
        for sample in samples:
            if sample.split != "train":
                raise DataError(f"sample {sample.id!r} is from split {sample.split!r}; demonstrations come from train")
            self._by_family[sample.family].append((sample, _argument_values(sample)))

    def choose(self, sample, count, rng, step=None):
        """Up to `count` admissible demonstrations, drawn with `rng` (a `random.Random`); [] when there is none.

        `step`: the optimizer step they are for. Own solutions count from the second step after they were found, as a
        loader that renders a batch ahead sees them, so that a resumed run chooses alike.
        """
        admissible = self._admissible(sample)
        if self.source == "own":
            known = ((s, self._own.get(s.id)) for s in admissible)
            admissible = [
                SolvedSample.of(s, own[1]) for s, own in known if own and (step is None or own[0] <= step - 2)
            ]
        listed = {tool_name(t) for t in sample.tools} if self.source != "random" else set()
        similar, others = [], []
        for s in admissible:
            (similar if any(call["name"] in listed for call in s.calls) else others).append(s)
        chosen = rng.sample(similar, min(count, len(similar)))
        chosen += rng.sample(others, min(count - len(chosen), len(others)))
        return [_corrupted(s, admissible, rng) for s in chosen] if self.source == "corrupted" else chosen

    def _admissible(self, sample):
        values, query = _argument_values(sample), sample.messages[-1]["content"]
        if self.source == "random":
            pool = [pair for family, pairs in self._by_family.items() if family != sample.family for pair in pairs]
        else:
            pool = self._by_family[sample.family]
        return [
            s for s, own in pool
            if s.id != sample.id and s.messages[-1]["content"] != query and not values & own
            and (own or not match_calls(s.calls, sample.calls).ok)  # with an argument left, the calls differ
        ]  # fmt: skip

    def without_demonstration(self, samples):
        """Ids of the samples that no demonstration is admissible for; they are asked plainly even when hard.

        With `source="own"` that depends on what the policy has solved, so the answer is [].
        """
        return [] if self.source == "own" else [s.id for s in samples if not self._admissible(s)]

    def learn(self, sample_id, completion, step):
        """Remember how the policy solved a sample, the first time it does."""
        self._own.setdefault(sample_id, (step, completion))

    def save(self, path):
        """Write the policy's own solutions as JSON."""
        write_whole(path, json.dumps(self._own))

    def load(self, path):
        """Restore what `save` wrote.

        Raises:
            PoolError: no such file, one that is cut or holds something else, or one of another data set.
        """
        try:
            own = {id: (int(step), str(text)) for id, (step, text) in json.loads(Path(path).read_text()).items()}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise PoolError(f"cannot read the demonstrations in {path}: {error}") from error
        known = {sample.id for pairs in self._by_family.values() for sample, _ in pairs}
        if unknown := sorted(set(own) - known):
            raise PoolError(f"the demonstrations in {path} are of another data set: no sample {unknown[0]!r} here")
        self._own = own


def _argument_values(sample):
    """{(name, value as text)}, with 1 and 1.0 alike, since the judge takes them for equal."""
    return {
        (name, repr(int(value) if isinstance(value, float) and value.is_integer() else value))
        for call in sample.calls for name, value in call["arguments"].items()
    }  # fmt: skip


def _corrupted(sample, others, rng):
    """`sample` with each argument's value taken from a call of another sample that has a different one there."""
    calls = []
    for call in sample.calls:
        arguments = {}
        for name, value in call["arguments"].items():
            values = [c["arguments"][name] for s in others for c in s.calls if name in c["arguments"]]
            wrong = [v for v in values if v != value]
            arguments[name] = rng.choice(wrong) if wrong else value
        calls.append({**call, "arguments": arguments})
    return replace(sample, calls=calls)
