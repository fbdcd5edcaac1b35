"""Every recipe by name: the paper's (`method.recipes`), the kit's own variants of it, and the baselines.

Numbers that are not the paper's are our assumption, and say so.
"""

from dataclasses import asdict, dataclass, replace
from math import inf

from ..base.errors import SettingsError, unknown
from ..method.hard_pool import HARD_WINDOW
from ..method.recipes import PAPER_RECIPES, PaperRecipe
from .baselines import REWARDS, RULES
from .other_demonstrations import VariantBank
from .visit_pool import RETESTS


@dataclass(frozen=True)
class Recipe(PaperRecipe):
    """A recipe of the paper, or one that departs from it. Where nothing is said, defaults are the kit's first ones.

    Attributes:
        beta: 0.04, DeepSeekMath's value.
        hard_samples: also "demonstrate" (visit by visit, see `retest`), or a rule of `baselines`.
        demo_source: also the sources of `demonstrations.VariantBank`.
        num_iterations: updates for which each batch of rollouts is used. Rounds and the profile's steps are counted in
            batches, so that runs are compared at equal rollouts.
        reward: "conjunctive" (the paper's), or "graded" (ToolRL's, see `baselines`).
        scale_rewards: "group" divides advantages by the group's standard deviation, "none" does not.
        retest: with "demonstrate", how a hard sample is asked plainly again, see `visit_pool.RETESTS`.
        fresh_demos: other demonstrations at each visit of a sample, or the same for ever; in rounds they stay.
        invite: prompts carry `prompts.INVITATION` to write one example of one's own, in training and in evaluation.
        gated_bonus: pay the bonus only where the task reward is right (the paper).
        examples_needed: 0 is the rule of one example, see `other_self_examples.judge_example`.
        strict_examples: pay only for an example that shares no argument with the answer (our assumption).
        distil_weight: of the second loss of context distillation (see `training.distil`); 0 is none (our assumption:
            0.5).
        distil_per_group: right answers of a group that enter it at most (our assumption: 3).
        distil_replay: right answers of earlier steps that are learnt again in each step, at most (our assumption: 16).
        other_tools: the plain prompt of an answer that is distilled, or of a supervised one, offers other tools at
            each visit beside those that the answer calls, in a random order.
        distil_withheld: the policy's own plain words that are learnt in each step, at most, each behind the prompt of a
            row whose tool is not on offer (see `training.distil`; our assumption: 8).
        distil_withheld_words: "own", as above, or "gold": one sentence for all rows, which says that no tool fits.
        distil_first_token: weight of an answer's first token, a tag or a word, on top of the mean (1 in our arms).
        Others as in `method.recipes.PaperRecipe`.
    """

    beta: float = 0.04
    num_generations: int = 10
    temperature: float = 1.0
    equal_rollouts: bool = False
    scan_rollouts: int = 0
    demos: int = 1
    demo_source: str = "gold"
    num_iterations: int = 1
    reward: str = "conjunctive"
    scale_rewards: str = "group"
    retest: str = "after_success"
    fresh_demos: bool = True
    invite: bool = False
    gated_bonus: bool = False
    strict_examples: bool = False
    distil_weight: float = 0.0
    distil_per_group: int = 3
    distil_replay: int = 0
    other_tools: bool = False
    distil_withheld: int = 0
    distil_withheld_words: str = "own"
    distil_first_token: float = 0.0

    CHOICES = PaperRecipe.CHOICES | {
        "reward": tuple(REWARDS), "hard_samples": ("keep", "scan", "demonstrate", *RULES), "retest": RETESTS,
        "demo_source": VariantBank.SOURCES, "scale_rewards": ("group", "none"),
        "distil_withheld_words": ("own", "gold"),
    }  # fmt: skip

    @classmethod
    def of(cls, paper):
        """The paper's recipe as one of these; what does not act in it keeps the default, as logged runs have it."""
        acts = asdict(paper)
        for name in ("demos", "demo_source") if paper.hard_samples == "keep" else ():
            del acts[name]
        for name in ("beta", "equal_rollouts") if paper.supervised else ():
            del acts[name]
        return cls(**acts, gated_bonus=paper.example_bonus > 0)

    @property
    def asks(self):
        """What prompts ask for: a style, or whether they invite one example."""
        return self.invite if self.prompt_style == "think" else self.prompt_style

    def _conditions(self):
        does_something, unlike_one = self.hard_samples != "keep", self.reward != "conjunctive"
        by_round = self.hard_samples == "scan"
        return super()._conditions() | {
            "num_iterations must be at least 1": self.num_iterations >= 1,
            f"{self.hard_samples} counts right rollouts; use reward='conjunctive'": not (does_something and unlike_one),
            "gated_bonus asks whether a call is right; use reward='conjunctive'": not (self.gated_bonus and unlike_one),
            "a hint begins the answer and leaves no room for an example; set invite=False":
                not (self.hard_samples == "hint" and self.invite),
            f"{self.hard_samples} calls a sample hard after {HARD_WINDOW} rollouts without a right one, and a group of "
            f"{self.num_generations} does not show that; use num_generations of {HARD_WINDOW} or more, or "
            "hard_samples='scan'": by_round or not does_something or self.num_generations >= HARD_WINDOW,
            "a round's demonstrations are fixed at its start, and own solutions come later; use another demo_source":
                not (by_round and self.demo_source == "own"),
            "only answers to prompts with demonstrations are distilled: set hard_samples, or distil_weight=0":
                does_something or not self.distil_weight,
            f"distil_weight is {self.distil_weight} and distil_per_group {self.distil_per_group}; they must be finite "
            "and at least 0 and 1": 0 <= self.distil_weight < inf and self.distil_per_group >= 1,
            "distil_replay must be at least 0, and has nothing to learn again with distil_weight=0":
                self.distil_replay >= 0 and (self.distil_weight > 0 or not self.distil_replay),
            "other_tools changes the prompts of distilled and of supervised answers: set distil_weight, or False":
                not self.other_tools or self.supervised or self.distil_weight > 0,
            "distil_withheld must be at least 0, and offers other tools; set distil_weight and other_tools, or 0":
                self.distil_withheld == 0 or self.distil_withheld > 0 and self.distil_weight > 0 and self.other_tools,
            "distil_withheld_words='gold' has no words to replace with distil_withheld=0; set it, or 'own'":
                self.distil_withheld > 0 or self.distil_withheld_words == "own",
            f"distil_first_token is {self.distil_first_token}; it must be finite, at least 0, and needs distil_weight":
                0 <= self.distil_first_token < inf and (self.distil_weight > 0 or not self.distil_first_token),
            "invite adds to the prompts of prompt_style='think' alone": not self.invite or self.prompt_style == "think",
        }  # fmt: skip


CLIP_HIGHER = {"epsilon_high": 0.28, "num_iterations": 2}  # 0.28: DAPO's value, arXiv 2503.14476 (our assumption)
EXEMPLIFY = {"invite": True, "example_bonus": 0.01}
SET = {"beta": 0.0, **CLIP_HIGHER, **EXEMPLIFY}

_PAPER = {r.name: Recipe.of(r) for r in PAPER_RECIPES}
DISTIL = "and what the policy got right with demonstrations is also learnt under the plain prompt"
_DISTIL = replace(_PAPER["paper_replace"], name="context_distillation", distil_weight=0.5,
                  about=f"paper_replace, {DISTIL}")  # fmt: skip
_LADDER = replace(_PAPER["paper_replace"], name="ladder", hard_samples="ladder", serving="plain", num_generations=10,
                  about="every row with demonstrations, withdrawn one by one, down after success, up after failure")

# "First reading": from before the paper's text was read. The baselines' sources, and what was simplified, are in
# `baselines`; "section", "T": the paper's.
_RECIPES = (
    *_PAPER.values(),
    _DISTIL,
    replace(_DISTIL, name="distil_replay", distil_replay=16, about=f"{_DISTIL.about}; earlier ones again"),
    replace(_DISTIL, name="distil_other_tools", distil_replay=16, other_tools=True,
            about=f"{_DISTIL.about}; earlier ones again, each time with other tools on offer beside those called"),
    replace(_DISTIL, name="distil_withheld", distil_replay=16, other_tools=True, distil_withheld=8,
            about="distil_other_tools, and what the policy first said to rows without their tool is learnt so, too"),
    _LADDER,
    replace(_LADDER, name="ladder_distillation", distil_weight=0.5, about=f"ladder, {DISTIL}"),
    Recipe("grpo", "vanilla GRPO: KL 0.04, clip 0.2 on both sides, constant learning rate, groups of 10"),
    Recipe("hard_sampling", "grpo, and hard samples are served with a demonstration and re-tested (first reading)",
           hard_samples="demonstrate"),
    Recipe("lr_decay", "grpo, and the learning rate decays, by 0.9 each round of 20 steps (T10: 0.8)", lr_decay=0.9),
    Recipe("hard_sampling_decay", "hard_sampling and lr_decay together (first reading of the paper's first idea)",
           hard_samples="demonstrate", lr_decay=0.9),
    Recipe("exclude_hard", "grpo, and hard samples are dropped for good (section 3.2: round by round)",
           hard_samples="exclude_hard"),
    Recipe("rollouts_32", "grpo in groups of 32 (section 1), fewer prompts per step so that the rollouts are as many",
           num_generations=32, equal_rollouts=True),
    Recipe("rollouts_32_equal_prompts", "grpo in groups of 32 (section 1) at 3.2 times the rollouts",
           num_generations=32),
    Recipe("difficulty_filter", "grpo on samples of middling pass rate only (after arXiv 2504.03380)",
           hard_samples="difficulty_filter"),
    Recipe("greso", "grpo, skipping with growing probability what taught nothing (after GRESO, arXiv 2506.02177)",
           hard_samples="greso"),
    Recipe("icl_seeding", "grpo, seeding failed prompts with own solutions (after XRPO, arXiv 2510.06672)",
           hard_samples="icl_seeding", demo_source="own"),
    Recipe("hint", "grpo, continuing failed prompts from a prefix of the solution (after SEELE, arXiv 2509.06923)",
           hard_samples="hint"),
    Recipe("replace", "grpo, and solved samples take the place of hard ones (our assumption; not the paper's replace)",
           hard_samples="replace"),
    Recipe("no_kl", "grpo without the KL term", beta=0.0),
    Recipe("clip_higher", "grpo with clip range 0.8 to 1.28, each batch used for two updates so that it acts",
           **CLIP_HIGHER),
    Recipe("clip_symmetric", "clip_higher's control: as many updates, clip range 0.8 to 1.2", num_iterations=2),
    Recipe("invitation", "grpo, and prompts invite an example that earns nothing: the control", invite=True),
    Recipe("exemplify", "grpo, and prompts invite an example of one's own that earns 0.01", **EXEMPLIFY),
    Recipe("exemplify_gated", "exemplify, paid only where the answer is right too", gated_bonus=True, **EXEMPLIFY),
    Recipe("exemplify_unscaled", "exemplify, advantages not divided by the group's standard deviation",
           scale_rewards="none", **EXEMPLIFY),
    Recipe("exemplify_strict", "exemplify, paid only for examples that share no argument with the answer",
           strict_examples=True, **EXEMPLIFY),
    Recipe("set", "no KL, clip higher, one paid example (first reading of the paper's second idea)", **SET),
    Recipe("toolexpander", "hard sampling with decay and set (first reading of both ideas)",
           hard_samples="demonstrate", lr_decay=0.9, **SET),
)  # fmt: skip
RECIPES = {recipe.name: recipe for recipe in _RECIPES}


def get_recipe(name, **changes):
    """The recipe called `name` (or `name` itself, when it is a `Recipe`), with fields replaced.

    Raises:
        SettingsError: no such recipe, no such field, or a value that cannot be trained with.
    """
    if not isinstance(name, Recipe):
        if name not in RECIPES:
            raise SettingsError(unknown("recipe", name, RECIPES))
        name = RECIPES[name]
    try:
        return replace(name, **changes)
    except TypeError as error:
        raise SettingsError(f"recipe {name.name!r}: {error}") from None
