"""Demonstrations that are not the paper's: told by the answer, the policy's own, of other tools, or wrong ones."""

import json
from dataclasses import replace
from pathlib import Path

from ..base.errors import PoolError
from ..base.files import write_whole
from ..method.demonstrations import DemoBank, is_another
from ..method.samples import SolvedSample


class VariantBank(DemoBank):
    """A `DemoBank` with four more sources; all but "own" show gold calls.

        gold        only of tools that the answer calls, and with no argument in common with it: it tells the policy
                    which tool is right, and no value (the kit's first rule)
        own         as gold, with what the policy itself wrote when it first solved that row in training
        other_tool  of as many tools that are *not* on offer, whose schemas come along, see `offering` (a control)
        corrupted   as random, each argument's value taken from another call of the data: right names, wrong values

    Args:
        per_tool: `gold` and `own` know no such limit.
        Others as in `DemoBank`.
    """

    SOURCES = (*DemoBank.SOURCES, "other_tool", "corrupted", "gold", "own")

    def __init__(self, samples, source="gold", per_tool=2):
        super().__init__(samples, source, None if source in ("gold", "own") else per_tool)
        self._own = {}  # sample id -> (step, completion) of the first time it was solved
        self._ids = {sample.id for sample in samples}
        self._values = [(s.id, value) for s in samples for call in s.calls for value in call["arguments"].values()]

    def _tools(self, sample):
        if self.source in ("gold", "own"):
            return list(dict.fromkeys(call["name"] for call in sample.calls))
        offered = super()._tools(sample)
        return sorted(set(self._by_tool) - set(offered)) if self.source == "other_tool" else offered

    def _tools_drawn(self, sample, rng):
        tools = self._tools(sample)
        return rng.sample(tools, min(len(sample.tools), len(tools))) if self.source == "other_tool" else tools

    def _as_shown(self, row, sample, rng, step):
        # Own solutions count from the second step after they were found: a loader that renders a batch ahead, and a
        # resumed run, see the same ones then.
        if self.source == "own":
            solved, completion = self._own.get(row.id, (None, ""))
            if solved is None or (step is not None and solved > step - 2):
                return None
            return SolvedSample.of(row, completion)
        return self._corrupted(row, sample, rng) if self.source == "corrupted" else row

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
        if self.source in ("gold", "own"):
            return is_another(sample, row) and not _argument_values(sample) & _argument_values(row)
        return super()._admissible(sample, row)

    def _on_offer(self, sample, row):
        return super()._on_offer(row if self.source == "other_tool" else sample, row)

    def why_without(self, samples):
        """As in `DemoBank`; with "own" that depends on what the policy has solved, so the answer is {}."""
        return {} if self.source == "own" else super().why_without(samples)

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


def _argument_values(sample):
    """{(name, value as text)}, with 1 and 1.0 alike, since the judge takes them for equal."""
    return {
        (name, repr(int(value) if isinstance(value, float) and value.is_integer() else value))
        for call in sample.calls for name, value in call["arguments"].items()
    }  # fmt: skip
