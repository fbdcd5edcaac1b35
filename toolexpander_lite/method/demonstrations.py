"""Solved examples to put in front of a hard row: for each tool it offers, other rows that use that tool.

The paper (section 3.1): question and answer of other rows, never the row's own answer; rows whose tools are used
nowhere else get none (6,574 of its 62,687). How many per tool is not said.
"""

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from ..base.errors import DataError, PoolError, SettingsError
from ..base.files import write_whole
from .calls import match_calls
from .samples import SolvedSample, tool_name

SOURCES = ("random", "verified", "other_tool", "corrupted", "gold", "own")
MISSING = ("no_other_row", "same_answer")  # why a row has no demonstration


class DemoBank:
    """Chooses demonstrations for a sample from the samples of the training split.

    Never shown: the row itself, its query, its answer, and a row that calls a tool which the sample does not offer.

        random      of each tool on offer, with the gold calls (the paper)
        verified    as random; `hard_sampling.draw_demonstrations` draws anew until the policy is right (the paper's
                    "cautious" examples, Table 4)
        other_tool  of as many tools that are *not* on offer, whose schemas come along, see `offering` (a control)
        corrupted   as random, each argument's value taken from another call of the data: right names, wrong values
        gold        only of tools that the answer calls, and with no argument in common with it: it tells the policy
                    which tool is right, and no value (the kit's first rule, a departure)
        own         as gold, with what the policy itself wrote when it first solved that row in training

    Args:
        samples: `ToolSample`s of the train split.
        source: one of `SOURCES`.
        per_tool: demonstrations of each tool at most (our assumption: 2); `gold` and `own` know no such limit.

    Raises:
        DataError: a sample of another split, which would leak held-out answers.
        SettingsError: an unknown source.
    """

    def __init__(self, samples, source="gold", per_tool=2):
        if source not in SOURCES:
            raise SettingsError(f"unknown demonstration source {source!r}; choose one of {', '.join(SOURCES)}")
        self.source, self.per_tool = source, per_tool
        self._own = {}  # sample id -> (step, completion) of the first time it was solved
        self._by_tool = defaultdict(list)
        self._ids, self._values = set(), []
        for sample in samples:
            if sample.split != "train":
                raise DataError(f"sample {sample.id!r} is from split {sample.split!r}; demonstrations come from train")
            self._ids.add(sample.id)
            self._values += [(sample.id, value) for call in sample.calls for value in call["arguments"].values()]
            for name in {call["name"]: None for call in sample.calls}:
                self._by_tool[name].append(sample)

    def choose(self, sample, count, rng, step=None):
        """Up to `count` demonstrations, drawn with `rng` (a `random.Random`), the tools taken in turn -> list.

        `step`: the optimizer step they are for. Own solutions count from the second step after they were found, as a
        loader that renders a batch ahead sees them, so that a resumed run chooses alike.
        """
        tools = self._tools(sample)
        if self.source == "other_tool":
            others = sorted(set(self._by_tool) - set(tools))
            tools = rng.sample(others, min(len(tools), len(others)))
        tools = rng.sample(tools, len(tools))  # where not all fit, no tool is favoured
        most = count if self.source in ("gold", "own") else self.per_tool
        drawn = [self._draw(sample, name, most, rng, step) for name in tools]
        chosen = {}
        for turn in range(most):
            for shown in drawn:
                if turn < len(shown) and len(chosen) < count:
                    chosen.setdefault(shown[turn].id, shown[turn])  # a row that calls two tools is shown once
        return list(chosen.values())

    def _tools(self, sample):
        if self.source in ("gold", "own"):
            return list(dict.fromkeys(call["name"] for call in sample.calls))
        return [tool_name(t) for t in sample.tools]

    def _draw(self, sample, name, most, rng, step):
        rows, shown = self._by_tool.get(name, ()), []
        for row in rng.sample(rows, len(rows)):
            if len(shown) == most:
                break
            if not self._admissible(sample, row):
                continue
            if self.source == "own":
                solved, completion = self._own.get(row.id, (None, ""))
                if solved is None or (step is not None and solved > step - 2):
                    continue
                row = SolvedSample.of(row, completion)
            if self.source == "corrupted":
                row = self._corrupted(row, sample, rng)
            shown.append(row)
        return shown

    def _corrupted(self, row, sample, rng):
        """`row` with each argument's value taken from another call, but for `sample`'s, as far as there are others."""
        calls = []
        for call in row.calls:
            arguments = {}
            for name, value in call["arguments"].items():
                drawn = (rng.choice(self._values) for _ in range(20))
                wrong = (other for id, other in drawn if id != sample.id and other != value)
                arguments[name] = next(wrong, value)
            calls.append({**call, "arguments": arguments})
        return replace(row, calls=calls)

    def _admissible(self, sample, row):
        if row.id == sample.id or row.messages[-1]["content"] == sample.messages[-1]["content"]:
            return False
        if match_calls(row.calls, sample.calls).ok:
            return False
        if self.source in ("gold", "own"):
            return not _argument_values(sample) & _argument_values(row)
        offered = {tool_name(t) for t in (row.tools if self.source == "other_tool" else sample.tools)}
        return all(call["name"] in offered for call in row.calls)

    def without_demonstration(self, samples):
        """Ids of the samples that none can be shown for; they are asked plainly even when hard -> list."""
        return list(self.why_without(samples))

    def why_without(self, samples):
        """{id: why} of the samples that get none, "no_other_row" (their tools are used nowhere else) or "same_answer".

        With `source="own"` that depends on what the policy has solved, so the answer is {}.
        """
        found = {}
        for sample in samples if self.source != "own" else ():
            tools = set(self._tools(sample))
            tools = set(self._by_tool) - tools if self.source == "other_tool" else tools
            rows = [row for name in tools for row in self._by_tool.get(name, ()) if row.id != sample.id]
            if not any(self._admissible(sample, row) for row in rows):
                found[sample.id] = "same_answer" if rows else "no_other_row"
        return found

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
        if unknown := sorted(set(own) - self._ids):
            raise PoolError(f"the demonstrations in {path} are of another data set: no sample {unknown[0]!r} here")
        self._own = own


def offering(sample, demos):
    """`sample` with the schemas of the tools that `demos` call and it does not offer itself, after its own."""
    own = {tool_name(t) for t in sample.tools}
    called = {call["name"] for demo in demos for call in demo.calls} - own
    more = {tool_name(t): t for demo in demos for t in demo.tools if tool_name(t) in called}
    return replace(sample, tools=[*sample.tools, *more.values()]) if more else sample


def _argument_values(sample):
    """{(name, value as text)}, with 1 and 1.0 alike, since the judge takes them for equal."""
    return {
        (name, repr(int(value) if isinstance(value, float) and value.is_integer() else value))
        for call in sample.calls for name, value in call["arguments"].items()
    }  # fmt: skip
