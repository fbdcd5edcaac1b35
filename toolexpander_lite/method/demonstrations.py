"""Solved examples to put in front of a hard row: for each tool it offers, other rows that use that tool.

The paper (section 3.1): question and answer of other rows, never the row's own answer; rows whose tools are used
nowhere else get none (T1: 6,574 of its 62,687). How many per tool is not said.
"""

from collections import defaultdict
from dataclasses import replace

from ..base.errors import DataError, SettingsError, unknown
from .calls import match_calls
from .samples import tool_name


class DemoBank:
    """Chooses demonstrations for a sample from the samples of the training split, with their gold calls.

    Never shown: the row itself, its query, its answer, and a row that calls a tool which the sample does not offer.

    Args:
        samples: `ToolSample`s of the train split.
        source: "random", or "verified": `hard_sampling.begin_round` draws anew until the policy is right (T4).
        per_tool: demonstrations of each tool at most (our assumption: 2); None is no limit.

    Raises:
        DataError: a sample of another split, which would leak held-out answers.
        SettingsError: an unknown source.
    """

    SOURCES = ("random", "verified")

    def __init__(self, samples, source="random", per_tool=2):
        if source not in self.SOURCES:
            raise SettingsError(unknown("demonstration source", source, self.SOURCES))
        self.source, self.per_tool = source, per_tool
        self._by_tool = defaultdict(list)
        for sample in samples:
            if sample.split != "train":
                raise DataError(f"sample {sample.id!r} is from split {sample.split!r}; demonstrations come from train")
            for name in {call["name"]: None for call in sample.calls}:
                self._by_tool[name].append(sample)

    def choose(self, sample, count, rng, step=None, per_tool=None):
        """Up to `count` demonstrations, drawn with `rng` (a `random.Random`), the tools taken in turn -> list.

        `step`: the optimizer step they are for (`variants.other_demonstrations`). `per_tool`: instead of the bank's.
        """
        tools, most = self._tools_drawn(sample, rng), per_tool or self.per_tool or count
        tools = rng.sample(tools, len(tools))  # where not all fit, no tool is favoured
        drawn = [self._draw(sample, name, most, rng, step) for name in tools]
        chosen = {}
        for turn in range(most):
            for shown in drawn:
                if turn < len(shown) and len(chosen) < count:
                    chosen.setdefault(shown[turn].id, shown[turn])  # a row that calls two tools is shown once
        return list(chosen.values())

    def _draw(self, sample, name, most, rng, step):
        rows, shown = self._by_tool.get(name, ()), []
        for row in rng.sample(rows, len(rows)):
            if len(shown) == most:
                break
            if self._admissible(sample, row) and (row := self._as_shown(row, sample, rng, step)):
                shown.append(row)
        return shown

    def _tools(self, sample):
        """Tools whose rows may be shown: those on offer, and none where no call is right (our assumption)."""
        return [tool_name(t) for t in sample.tools] if sample.calls else []

    def _tools_drawn(self, sample, rng):
        return self._tools(sample)

    def _as_shown(self, row, sample, rng, step):
        return row

    def _admissible(self, sample, row):
        return is_another(sample, row) and self._on_offer(sample, row)

    def _on_offer(self, sample, row):
        offered = {tool_name(t) for t in sample.tools}
        return all(call["name"] in offered for call in row.calls)

    def why_without(self, samples):
        """{id: why none can be shown}: "no_other_row" (the tools are used nowhere else) or "same_answer"."""
        found = {}
        for sample in samples:
            rows = [row for name in set(self._tools(sample)) for row in self._by_tool.get(name, ())]
            rows = [row for row in rows if row.id != sample.id]
            if not any(self._admissible(sample, row) for row in rows):
                found[sample.id] = "same_answer" if rows else "no_other_row"
        return found


def is_another(sample, row):
    """May a row be shown without telling the sample's answer? Another one, of another query and another answer."""
    if row.id == sample.id or row.messages[-1]["content"] == sample.messages[-1]["content"]:
        return False
    return not match_calls(row.calls, sample.calls).ok


def offering(sample, demos):
    """`sample` with the schemas of the tools that `demos` call and it does not offer itself, after its own."""
    own = {tool_name(t) for t in sample.tools}
    called = {call["name"] for demo in demos for call in demo.calls} - own
    more = {tool_name(t): t for demo in demos for t in demo.tools if tool_name(t) in called}
    return replace(sample, tools=[*sample.tools, *more.values()]) if more else sample
