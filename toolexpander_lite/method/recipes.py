"""What the algorithm does: one `Recipe` per row of the ablation table.

The abstract of the paper (arXiv 2510.07737) fixes GRPO and, by second-hand notes, a conjunctive 0/1 reward
and 10 rollouts per prompt. Every other number here is our assumption and says so.
"""

from dataclasses import dataclass, fields, replace
from math import inf

from ..base.errors import SettingsError
from .demonstrations import SOURCES
from .pool import HARD_WINDOW, RETESTS
from .rewards import GRID

# What `training/baselines.py` has beside the paper's own; named here, so that the method needs nothing of it.
REWARDS = ("conjunctive", "graded")
RULES = ("exclude_hard", "difficulty_filter", "greso", "icl_seeding", "hint", "replace")
CHOICES = {
    "reward": REWARDS, "hard_samples": ("keep", "demonstrate", *RULES), "retest": RETESTS, "demo_source": SOURCES,
    "scale_rewards": ("group", "none"),
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """The settings of one GRPO variant; what each means is in `trl.GRPOConfig` under the same name.

    Attributes:
        name: what `--recipe` takes.
        about: one sentence for tables.
        beta: weight of the KL term towards the frozen base (our assumption: 0.04, DeepSeekMath's value).
        epsilon, epsilon_high: clip range of the probability ratio, [1 - epsilon, 1 + epsilon_high]
            (our assumption: 0.2 on both sides, the PPO default). While each batch of rollouts is used for one update,
            the ratio is 1 and nothing is ever clipped; the logs' clip_ratio shows it.
        num_iterations: updates for which each batch of rollouts is used. Rounds and the profile's steps are counted in
            batches, so that runs are compared at equal rollouts.
        num_generations: rollouts per prompt, the group (10: the paper's hardness window).
        learning_rate: AdamW, constant (None takes the profile's).
        reward: "conjunctive" (the paper's), or "graded" (ToolRL's, see `baselines`).
        scale_rewards: "group" divides advantages by the group's standard deviation, "none" does not.
        temperature: of the rollouts.
        equal_rollouts: with another group size than 10, ask fewer (or more) prompts per step, so that a step has the
            rollouts it would have with 10; False keeps the number of prompts.
        hard_samples: what is done about hard samples: "keep" (nothing), "demonstrate" (the paper's first idea, see
            `hard_sampling`), or one of `RULES`, see `baselines`.
        retest: how a hard sample is asked plainly again, see `hard_sampling.RETESTS` (our assumption).
        demos: demonstrations in front of a hard prompt (our assumption: 1).
        demo_source: whose demonstrations, see `demonstrations.DemoBank` (our assumption: gold).
        fresh_demos: other demonstrations at each visit of a sample (our assumption), or the same for ever.
        round_steps: optimizer steps in a round (our assumption: 20).
        lr_decay: the learning rate is multiplied by this at each round's end (the paper has an exponential decay; the
            value is our assumption). 1 is constant.
        invite: prompts carry `prompts.INVITATION` to write an example of one's own, in training and in evaluation.
        example_bonus: paid for a valid self-written example, see `self_examples` (0.01: the paper's abstract).
        gated_bonus: pay it only where the task reward is right.
        strict_examples: pay only for examples that share no argument with the answer (our assumption).
    """

    name: str
    about: str
    beta: float = 0.04
    epsilon: float = 0.2
    epsilon_high: float = 0.2
    num_generations: int = 10
    learning_rate: float | None = None
    reward: str = "conjunctive"
    scale_rewards: str = "group"
    temperature: float = 1.0
    equal_rollouts: bool = False
    hard_samples: str = "keep"
    retest: str = "after_success"
    demos: int = 1
    demo_source: str = "gold"
    fresh_demos: bool = True
    round_steps: int = 20
    lr_decay: float = 1.0
    num_iterations: int = 1
    invite: bool = False
    example_bonus: float = 0.0
    gated_bonus: bool = False
    strict_examples: bool = False

    def __post_init__(self):
        for name, choices in CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise SettingsError(f"recipe {self.name!r}: {name} is {value!r}; choose one of {', '.join(choices)}")
        does_something, unlike_one = self.hard_samples != "keep", self.reward != "conjunctive"
        # Bounds on both sides refuse infinity, and NaN, which compares with nothing.
        wanted = {
            "beta must not be negative, temperature and epsilon_high must be positive, all three finite, and epsilon "
            "must lie between 0 and 1": 0 <= self.beta < inf and 0 < self.temperature < inf and 0 < self.epsilon < 1
            and 0 < self.epsilon_high < inf,
            f"{self.hard_samples} counts right rollouts; use reward='conjunctive'": not (does_something and unlike_one),
            "gated_bonus asks whether a call is right; use reward='conjunctive'": not (self.gated_bonus and unlike_one),
            "a hint begins the answer and leaves no room for an example; set invite=False":
                not (self.hard_samples == "hint" and self.invite),
            f"num_generations is {self.num_generations}; a group needs 2 or more": self.num_generations >= 2,
            f"learning_rate is {self.learning_rate}; it must be positive and finite":
                self.learning_rate is None or 0 < self.learning_rate < inf,
            f"lr_decay is {self.lr_decay}; it must lie in (0, 1]": 0 < self.lr_decay <= 1,
            "round_steps, demos and num_iterations must be at least 1":
                self.round_steps >= 1 and self.demos >= 1 and self.num_iterations >= 1,
            f"example_bonus is {self.example_bonus}; it must be 0, or at least 1/{GRID}, of which rewards are "
            "multiples (see rewards.quantise), and below the 1 of the task reward":
                self.example_bonus == 0 or 1 / GRID <= self.example_bonus < 1,
            "no prompt asks for what example_bonus pays; set invite=True": self.invite or not self.example_bonus,
            f"a sample is hard after {HARD_WINDOW} rollouts without a right one, and a group of "
            f"{self.num_generations} does not show that; use num_generations of {HARD_WINDOW} or more":
                not does_something or self.num_generations >= HARD_WINDOW,
        }  # fmt: skip
        for message, holds in wanted.items():
            if not holds:
                raise SettingsError(f"recipe {self.name!r}: {message}")


CLIP_HIGHER = {"epsilon_high": 0.28, "num_iterations": 2}  # 0.28: DAPO's value, arXiv 2503.14476 (our assumption)
EXEMPLIFY = {"invite": True, "example_bonus": 0.01}
SET = {"beta": 0.0, **CLIP_HIGHER, **EXEMPLIFY}

# The baselines' sources, and what was simplified, are in the docstrings of `baselines`.
RECIPES = {
    r.name: r
    for r in (
        Recipe("grpo", "vanilla GRPO: KL 0.04, clip 0.2 on both sides, constant learning rate, groups of 10"),
        Recipe(
            "hard_sampling",
            "grpo, and hard samples are served with a demonstration (abstract) and re-tested (our assumption)",
            hard_samples="demonstrate",
        ),
        Recipe(
            "lr_decay",
            "grpo, and the learning rate decays exponentially (abstract), by 0.9 each round of 20 steps (ours)",
            lr_decay=0.9,
        ),
        Recipe(
            "hard_sampling_decay",
            "hard_sampling and lr_decay together: the paper's first idea as a whole",
            hard_samples="demonstrate",
            lr_decay=0.9,
        ),
        Recipe(
            "exclude_hard",
            "grpo, and hard samples are dropped for good (what backfired, by second-hand notes)",
            hard_samples="exclude_hard",
        ),
        Recipe(
            "rollouts_32",
            "grpo in groups of 32 (second-hand notes), fewer prompts per step so that the rollouts are as many",
            num_generations=32,
            equal_rollouts=True,
        ),
        Recipe(
            "rollouts_32_equal_prompts",
            "grpo in groups of 32 (second-hand notes) at 3.2 times the rollouts",
            num_generations=32,
        ),
        Recipe(
            "difficulty_filter",
            "grpo on samples of middling pass rate only (after arXiv 2504.03380)",
            hard_samples="difficulty_filter",
        ),
        Recipe(
            "greso",
            "grpo, skipping with growing probability what taught nothing (after GRESO, arXiv 2506.02177)",
            hard_samples="greso",
        ),
        Recipe(
            "icl_seeding",
            "grpo, seeding failed prompts with own solutions (after XRPO, arXiv 2510.06672)",
            hard_samples="icl_seeding",
            demo_source="own",
        ),
        Recipe(
            "hint",
            "grpo, continuing failed prompts from a prefix of the solution (after SEELE, arXiv 2509.06923)",
            hard_samples="hint",
        ),
        Recipe(
            "replace",
            "the abstract's other reading: solved samples take the place of hard ones",
            hard_samples="replace",
        ),
        Recipe("no_kl", "grpo without the KL term", beta=0.0),
        Recipe(
            "clip_higher",
            "grpo with clip range 0.8 to 1.28, each batch used for two updates so that it acts",
            **CLIP_HIGHER,
        ),
        Recipe("clip_symmetric", "clip_higher's control: as many updates, clip range 0.8 to 1.2", num_iterations=2),
        Recipe("invitation", "grpo, and prompts invite an example that earns nothing: the control", invite=True),
        Recipe("exemplify", "grpo, and prompts invite an example of one's own that earns 0.01", **EXEMPLIFY),
        Recipe("exemplify_gated", "exemplify, paid only where the answer is right too", gated_bonus=True, **EXEMPLIFY),
        Recipe(
            "exemplify_unscaled",
            "exemplify, advantages not divided by the group's standard deviation",
            scale_rewards="none",
            **EXEMPLIFY,
        ),
        Recipe(
            "exemplify_strict",
            "exemplify, paid only for examples that share no argument with the answer",
            strict_examples=True,
            **EXEMPLIFY,
        ),
        Recipe("set", "Self-Exemplifying Thinking, the paper's second idea: no KL, clip higher, paid examples", **SET),
        Recipe(
            "toolexpander",
            "hard sampling with decay and Self-Exemplifying Thinking: the paper's whole",
            hard_samples="demonstrate",
            lr_decay=0.9,
            **SET,
        ),
    )
}


def get_recipe(name, **changes):
    """The recipe called `name` (or `name` itself, when it is a `Recipe`), with fields replaced.

    Raises:
        SettingsError: no such recipe, no such field, or a value that cannot be trained with.
    """
    if not isinstance(name, Recipe):
        if name not in RECIPES:
            raise SettingsError(f"unknown recipe {name!r}; choose one of {', '.join(RECIPES)}")
        name = RECIPES[name]
    try:
        return replace(name, **changes)
    except TypeError as error:
        raise SettingsError(f"recipe {name.name!r}: {error}") from None


def parse_settings(kind, texts):
    """["beta=0.01", "retest=never"] -> {"beta": 0.01, "retest": "never"}, typed as the fields of `kind` are.

    Where a text may be missing, "none" is None.

    Raises:
        SettingsError: not NAME=VALUE, no such field, or a value of another type.
    """
    types = {f.name: f.type for f in fields(kind) if f.name not in ("name", "about")}
    changes = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in types:
            raise SettingsError(f"{text!r} is not NAME=VALUE with a NAME of {', '.join(types)}")
        try:
            if types[name] is bool:
                changes[name] = {"true": True, "false": False}[value.lower()]
            elif types[name] == str | None:
                changes[name] = None if value == "none" else value
            else:
                changes[name] = value if types[name] is str else (int if types[name] is int else float)(value)
        except (KeyError, ValueError):
            wanted = getattr(types[name], "__name__", "number")
            raise SettingsError(f"{text!r}: {name} takes a {wanted}, not {value!r}") from None
    return changes
