"""Solved examples to put in front of a prompt (few-shot demonstrations)."""

from collections import defaultdict


class DemoBank:
    """Chooses demonstrations for a sample from solved samples of the training split.

    Admissible for a sample: same family, another query, and no call argument in common, so that a
    demonstration shows the form of an answer and never the answer (our assumption: the abstract says
    "high-quality few-shot demonstrations" and no more).

    Args:
        samples: `ToolSample`s of the train split; their gold calls are the demonstrations.

    Raises:
        ValueError: a sample of another split, which would leak held-out answers.
    """

    def __init__(self, samples):
        self._by_family = defaultdict(list)
        for sample in samples:
            if sample.split != "train":
                raise ValueError(f"sample {sample.id!r} is from split {sample.split!r}; demonstrations come from train")
            self._by_family[sample.family].append(sample)

    def choose(self, sample, count, rng):
        """Up to `count` admissible demonstrations, drawn with `rng` (a `random.Random`); [] when there is none."""
        values = _argument_values(sample)
        query = sample.messages[-1]["content"]
        admissible = [
            s
            for s in self._by_family[sample.family]
            if s.id != sample.id and s.messages[-1]["content"] != query and not values & _argument_values(s)
        ]
        return rng.sample(admissible, min(count, len(admissible)))


def _argument_values(sample):
    return {(name, repr(value)) for call in sample.calls for name, value in call["arguments"].items()}
