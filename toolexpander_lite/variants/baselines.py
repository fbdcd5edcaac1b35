"""What others do: a graded reward, and prompts that teach nothing skipped, filtered, seeded, or hinted at.

Each baseline of the second kind is a rule: a function of what became of a sample's earlier visits that says how it is
served next,

    rule(visits, place) -> "plain" | "demonstrated" | "demonstrated-1" ... | "skip" | "hint-1" ... "hint-7"

and nothing else: no state of its own, so that every decision can be read off the record. `VisitHistory` keeps the
record (it takes the pool's place in `PoolReward`), `BaselineServer` renders what the rule says. A skipped sample's
place is filled by another one drawn at random, so that all recipes spend the same rollouts. The rules are our short
readings of longer papers; each says what was left out.
"""

import random
from collections import Counter
from typing import NamedTuple

import numpy as np

from ..base.errors import PoolError
from ..base.saved_state import read_state, write_state
from ..base.spelled_defaults import DEFAULTS_RULE, without_defaults
from ..base.strict_json import same_value
from ..method.calls import opened_think, whole_answers
from ..method.hard_pool import FALLBACKS, HARD_WINDOW, index_of_ids
from ..method.hard_sampling import PromptServer
from ..method.prompts import gold_completion, render_prompt, wants_think
from ..method.rewards import conjunctive_reward, judge_and_log, quantise
from ..method.samples import from_json

VISITS_KEPT = 12  # per sample: what the longest-remembering rule (`greso`) can tell apart
SUBSTITUTES_TRIED = 1000
HINT_PARTS = 8  # hints come in eighths of the gold completion


class Visit(NamedTuple):
    """One group of rollouts of a sample: when, how it was served, how many, how many right."""

    step: int
    served: str
    rollouts: int
    correct: int


class Place(NamedTuple):
    """A place in training to be filled: for which sample, at which optimizer step, in which round, by which seed.

    `most`: demonstrations that each tool on offer may have, or, of a bank without such a limit, all in all.
    """

    sample_id: str
    step: int
    round_steps: int
    seed: int
    most: int = 2

    def rng(self):
        return random.Random(f"{self.seed}-{self.step}-{self.sample_id}")


def _is_hard(visit):
    return visit.served == "plain" and visit.rollouts >= HARD_WINDOW and visit.correct == 0


def exclude_hard(visits, place):
    """A sample that was hard once (10 rollouts, none right) is never asked again.

    What the paper reports to have backfired (sections 3.2 and 5.3); there, hard rows are left out round by round.
    """
    return "skip" if any(map(_is_hard, visits)) else "plain"


def difficulty_filter(visits, place, low=0.1, high=0.9):
    """After arXiv 2504.03380 (online difficulty filtering): train on samples of middling pass rate.

    A sample whose last visit in the previous round had a pass rate outside [low, high] sits this round out.
    Simplified: the paper filters rollouts batch by batch; here the filter acts between rounds. Bounds: our
    assumption.
    """
    this_round = (place.step - 1) // place.round_steps
    last = [v for v in visits if (v.step - 1) // place.round_steps == this_round - 1][-1:]
    return "plain" if all(low <= v.correct / v.rollouts <= high for v in last) else "skip"


def greso(visits, place, explore=0.5):
    """After GRESO, arXiv 2506.02177: the longer a sample has taught nothing, the likelier it is skipped.

    Skipped with probability 1 - explore^z, where z counts the visits in a row, up to the last, whose rollouts were
    all right or all wrong. Simplified: the paper adapts `explore`, apart for easy and hard samples; here it is
    constant (our assumption).
    """
    zero_variance = 0
    for visit in reversed(visits):
        if 0 < visit.correct < visit.rollouts:
            break
        zero_variance += 1
    return "skip" if place.rng().random() < 1 - explore**zero_variance else "plain"


def icl_seeding(visits, place):
    """After XRPO, arXiv 2510.06672: a prompt whose rollouts all failed is next shown with solved examples.

    The examples are the policy's own verified solutions of similar samples (demonstration source "own"); without one it
    stays plain. Simplified: the paper seeds within the step, and has an allocation of rollouts and a novelty bonus
    besides.
    """
    return "demonstrated" if visits and visits[-1].served == "plain" and visits[-1].correct == 0 else "plain"


def hint(visits, place):
    """After SEELE, arXiv 2509.06923: a failing prompt is continued from a prefix of its solution.

    With fewer than a quarter of the rollouts right, half of what was hidden is added to the prefix at the next visit;
    with more than three quarters, an eighth of the completion is taken away. Simplified: the paper finds the length
    for a pass rate of one half by an item response model, in several rounds of rollouts within a step.
    """
    if not visits:
        return "plain"
    last = visits[-1]
    part = int(last.served.removeprefix("hint-")) if last.served != "plain" else 0
    rate = last.correct / last.rollouts
    if rate < 0.25:
        part = min(part + max(1, (HINT_PARTS - part) // 2), HINT_PARTS - 1)
    elif rate > 0.75:
        part = max(part - 1, 0)
    return f"hint-{part}" if part else "plain"


def replace(visits, place):
    """A hard sample's place is taken by a solved one; it is asked again at its first visit in each round.

    Our assumption, from before the paper's text was read, which rules this reading of "replace" out (section 3.2).
    """
    this_round = (place.step - 1) // place.round_steps
    last = visits[-1:]
    return "skip" if last and _is_hard(last[0]) and (last[0].step - 1) // place.round_steps == this_round else "plain"


def ladder(visits, place):
    """Demonstrations are withdrawn one of each tool at a time, and given back (our assumption).

    "demonstrated-n" shows n of each tool on offer, see `Place`. All begin with the most there may be; half of a visit's
    rollouts right takes one away, none right brings one back. The visits are those of all rows of a family: in a short
    run no row comes round often enough to climb down by itself.
    """
    if not visits:
        return f"demonstrated-{place.most}"
    last = visits[-1]
    rung = int(last.served.removeprefix("demonstrated-")) if last.served != "plain" else 0
    if 2 * last.correct >= last.rollouts:
        rung = max(rung - 1, 0)
    elif last.correct == 0:
        rung = min(rung + 1, place.most)
    return f"demonstrated-{rung}" if rung else "plain"


RULES = {rule.__name__: rule for rule in (exclude_hard, difficulty_filter, greso, icl_seeding, hint, replace, ladder)}
BY_FAMILY = ("ladder",)  # rules that see the visits of a whole family


class VisitHistory:
    """The record a rule decides on; stands where a `HardSamplePool` does.

    It remembers `VISITS_KEPT` visits of a sample, about 1.5 KiB with all of them: for comparisons, not for millions of
    samples.

    Args:
        sample_ids, content: as in `HardSamplePool`.
        families: {id: name} of samples that share their visits; None, each has its own.

    Attributes:
        fallbacks: groups that could not be served as the rule said, by reason.

    Raises:
        PoolError: ids missing or repeated.
    """

    def __init__(self, sample_ids, content="", families=None):
        self.content = content
        self._family = {id: (families or {}).get(id, id) for id in index_of_ids(sample_ids)}
        self._visits = {family: [] for family in self._family.values()}
        self.fallbacks = dict.fromkeys(FALLBACKS, 0)

    def visits(self, sample_id, before=None):
        """The sample's last visits, oldest first -> list of `Visit`; with `before`, those of earlier steps."""
        return [v for v in self._of(sample_id) if before is None or v.step < before]

    def _of(self, sample_id):
        if sample_id not in self._family:
            raise PoolError(f"sample id {sample_id!r} is not in this record; is it of another data set?")
        return self._visits[self._family[sample_id]]

    def observe(self, sample_id, served, rollouts, correct, step, fallback=""):
        if fallback:
            self.fallbacks[fallback] += 1
        visits = self._of(sample_id)
        visits.append(Visit(step, served, rollouts, correct))
        del visits[:-VISITS_KEPT]

    def explain(self, sample_id):
        """The visits that a rule decides on, in sentences -> str."""
        visits = self._of(sample_id)
        told = [f"  step {v.step}: served {v.served}, {v.correct} of {v.rollouts} right" for v in visits]
        return "\n".join([f"{sample_id}: {len(visits)} visits on record.", *told])

    def end_round(self, step):
        """Nothing to close: rules see the round from the step."""

    def states(self):
        """State of every sample in the order of the ids -> list of str: "unseen", "failed" or "solved".

        "solved" means something right at the last visit, however it was served.
        """
        seen = map(self._of, self._family)
        return [("solved" if v[-1].correct else "failed") if v else "unseen" for v in seen]

    def counts(self):
        """Samples in each of the `states`."""
        counts = Counter(self.states())
        return {name: counts[name] for name in ("unseen", "solved", "failed")}

    def save(self, path):
        """Write the record as JSON."""
        write_state(path, self._family, self.content, visits=list(self._visits.values()), fallbacks=self.fallbacks)

    def load(self, path):
        """Restore what `save` wrote; raises `PoolError` for what is none, or of another data set."""
        state = read_state(path, "record of visits", self._family, self.content, ("visits", "fallbacks"))
        self._visits = {name: [Visit(*v) for v in visits] for name, visits in zip(self._visits, state["visits"])}
        self.fallbacks.update(state["fallbacks"])


class BaselineServer(PromptServer):
    """A `PromptServer` that serves what a rule says.

    Rows need `sample_id` and `step` (the optimizer step they are for). Decisions for step t rest on the visits up to
    t - 2: the trainer's loader renders a batch ahead, and a resumed run must decide alike. Of a filled place, all
    columns are the substitute's, and `scheduled` is the id of the sample it stands for.

    Args:
        rule: one of `RULES`' functions.
        rows: the training `Dataset`, which the columns of substitutes come from.
        round_steps: optimizer steps in a round.
        Others as in `PromptServer`.
    """

    def __init__(self, rule, history, rows, round_steps, bank, samples, tokenizer, *options, **named):
        super().__init__(history, bank, samples, tokenizer, *options, **named)
        self.rule, self.round_steps = rule, round_steps
        self.rows = {row["sample_id"]: row for row in rows}
        self.ids = list(self.rows)
        self.most = self.bank.per_tool or self.demos

    def serve(self, sample_id, step, wanted=None):
        """Columns of what fills the place of `sample_id` at `step` -> dict."""
        return self._cached((sample_id, step), lambda: self._fill(sample_id, step))

    def _decide(self, sample_id, step):
        place = Place(sample_id, step, self.round_steps, self.seed, self.most)
        return self.rule(self.pool.visits(sample_id, step - 1), place)

    def _fill(self, scheduled, step):
        chosen, mode = scheduled, self._decide(scheduled, step)
        if mode == "skip":
            chosen, mode = self._substitute(scheduled, step)
        sample, fallback, prefix = self.samples[chosen], "", ""
        prompt = render_prompt(sample, self.tokenizer, invite=self.invite)
        if mode.startswith("demonstrated"):
            rung = int(mode.removeprefix("demonstrated").removeprefix("-") or 0)  # of each tool, where that is limited
            many = (rung * len(sample.tools), rung) if self.bank.per_tool else (rung, None)
            demonstrated, fallback = self.demonstrate(sample, step, None, *many)
            prompt, mode = (demonstrated, mode) if demonstrated else (prompt, "plain")
        elif mode.startswith("hint-"):
            gold = gold_completion(sample, prompt, wants_think(self.invite))
            given = hint_prefix(gold, int(mode.removeprefix("hint-")), self.tokenizer)
            prefix = opened_think(prompt) + given
            prompt += given
        return {**self.rows[chosen], "scheduled": scheduled, "prompt": prompt, "served": mode,
                "fallback": fallback, "hint": prefix}  # fmt: skip

    def _visit(self, sample_id, step):
        return self.pool.visits(sample_id, step - 1)

    def _substitute(self, scheduled, step):
        """(id, mode) of the first sample drawn for this place that the rule does not skip."""
        rng = random.Random(f"{self.seed}-{step}-{scheduled}-substitute")
        for _ in range(SUBSTITUTES_TRIED):
            id = rng.choice(self.ids)
            mode = self._decide(id, step)
            if mode != "skip" and (self.rule is not replace or self._solved(id, step)):
                return id, mode
        return scheduled, "plain"  # (nearly) everything is skipped: ask as scheduled

    def _solved(self, sample_id, step):
        return any(visit.correct for visit in self.pool.visits(sample_id, step - 1)[-1:])


def hint_prefix(completion, part, tokenizer):
    """The first `part` of `HINT_PARTS` of a completion's tokens, as text that is tokenised like the whole.

    It may be a few tokens shorter where a cut would fall into the middle of a word; "" when nothing fits.
    """
    ids = tokenizer(completion, add_special_tokens=False).input_ids
    for length in range(len(ids) * part // HINT_PARTS, 0, -1):
        text = tokenizer.decode(ids[:length], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        rest = tokenizer.decode(ids[length:], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if text + rest == completion and tokenizer(text, add_special_tokens=False).input_ids == ids[:length]:
            return text
    return ""


def graded_reward(prompts, completions, calls, tools, log_metric=None, **columns):
    """Format part (0 or 1) plus `correctness` (-3 to 3), quantised -> list of N floats in [-3, 4].

    The reward of ToolRL (arXiv 2504.13958, section 3.3). Simplified: the format is that of `calls.py` (ToolRL has a
    response block too), and unreadable calls count as no calls.
    """
    verdicts = judge_and_log(whole_answers(prompts, completions), calls, tools, log_metric)
    rewards = []
    for verdict, gold, listed in zip(verdicts, calls, tools, strict=True):
        given, gold = verdict.parsed.calls, from_json(gold)
        if DEFAULTS_RULE.get() == "same":
            given, gold = (without_defaults(side, from_json(listed)) for side in (given, gold))
        # Garbage holds no calls, but must not count as the right answer to a sample that wants none.
        garbage = not given and not verdict.format_ok
        rewards.append(verdict.format_ok + (-3.0 if garbage else correctness(given, gold)))
    return [quantise(reward) for reward in rewards]


def correctness(predicted, gold):
    """ToolRL's correctness of predicted calls P against gold calls G (lists of calls) -> float in [-3, 3].

        6 * R_max / S_max - 3    R_max = r_name + max over assignments of sum over pairs (r_param + r_value)
                                 S_max = 1 + |G| + number of all gold arguments

    r_name is |names(G) & names(P)| / |names(G) | names(P)|. A gold call paired with a predicted call of
    the same tool earns r_param, the same ratio of their argument names, and r_value, the number of gold
    arguments whose value is right (`same_value`). A ratio of nothing to nothing is 1.

    Two readings follow ToolRL's released code where the paper is open: names are counted as often as they occur (with
    sets, a call made twice would cost nothing), and calls of different tools never pair. The assignment is the best,
    as in the paper; the code is greedy. Without gold calls: 3 for no call, else -3 (our reading; the code gives 0).
    """
    from scipy.optimize import linear_sum_assignment  # late: who asks for a recipe need not wait for it

    scores = np.zeros((len(gold), len(predicted)))
    for i, wanted in enumerate(gold):
        for j, given in enumerate(predicted):
            if wanted["name"] == given["name"]:
                have, want = given["arguments"], wanted["arguments"]
                r_value = sum(key in have and same_value(have[key], want[key]) for key in want)
                scores[i, j] = _overlap(want, have) + r_value
    r_name = _overlap([call["name"] for call in gold], [call["name"] for call in predicted])
    s_max = 1 + len(gold) + sum(len(call["arguments"]) for call in gold)
    best = scores[linear_sum_assignment(scores, maximize=True)].sum()
    return float(6 * (r_name + best) / s_max - 3)


def _overlap(a, b):
    """|a & b| / |a | b| of two collections of names, counted as often as they occur."""
    a, b = Counter(list(a)), Counter(list(b))  # of a dict, the keys
    return (a & b).total() / (a | b).total() if a or b else 1.0


REWARDS = {"conjunctive": conjunctive_reward, "graded": graded_reward}
