"""What the algorithm does: one `Recipe` per row of the paper's tables, and the kit's own variants.

The `paper_...` recipes have the paper's values (arXiv 2510.07737, T9 to T11); what it leaves open, and every number of
the other recipes, is our assumption and says so.
"""

from dataclasses import dataclass, replace
from math import inf

from ..base.errors import SettingsError
from .demonstrations import SOURCES
from .hard_sampling import SERVINGS
from .hardness import HARD_WINDOW, RETESTS
from .rewards import GRID

# What `training/baselines.py` has beside the paper's own; named here, so that the method needs nothing of it.
REWARDS = ("conjunctive", "graded")
RULES = ("exclude_hard", "difficulty_filter", "greso", "icl_seeding", "hint", "replace")
CHOICES = {
    "reward": REWARDS, "hard_samples": ("keep", "scan", "demonstrate", *RULES), "retest": RETESTS[1:],
    "demo_source": SOURCES,
    "scale_rewards": ("group", "none"), "serving": SERVINGS, "prompt_style": ("think", "native", "examples"),
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """The settings of one GRPO variant; what each means is in `trl.GRPOConfig` under the same name.

    Attributes:
        name: what `--recipe` takes.
        about: one sentence for tables.
        beta: weight of the KL term towards the frozen base (the paper: 1e-3, none in its second idea; elsewhere 0.04,
            DeepSeekMath's value).
        epsilon, epsilon_high: clip range of the probability ratio, [1 - epsilon, 1 + epsilon_high]
            (the paper: 0.2 and 0.2, above 0.26 in its second idea). While each batch of rollouts is used once,
            the ratio is 1 and nothing is ever clipped; the logs' clip_ratio shows it.
        num_iterations: updates for which each batch of rollouts is used. Rounds and the profile's steps are counted in
            batches, so that runs are compared at equal rollouts.
        num_generations: rollouts per prompt, the group (the paper: 5).
        learning_rate: AdamW, constant (None takes the profile's).
        reward: "conjunctive" (the paper's), or "graded" (ToolRL's, see `baselines`).
        scale_rewards: "group" divides advantages by the group's standard deviation, "none" does not.
        temperature: of the rollouts, in training and in scans (the paper: 0.7).
        equal_rollouts: with another group size than 10, ask fewer (or more) prompts per step, so that a step has the
            rollouts it would have with 10; False keeps the number of prompts.
        scan_rollouts: rollouts per raw row in a scan, before training, in each round that needs one and afterwards
            (the paper: 10); 0 is no scan.
        hard_samples: how a step's prompts are chosen: "keep" (all plainly), "scan" (by round, see `serving`), or,
            departures from the paper, "demonstrate" (visit by visit, see `retest`) or a rule of `training.baselines`.
        serving: what a round serves, see `hard_sampling.round_rows`.
        few_shot_share: with serving "mixed", the share of rows with demonstrations (our assumption).
        retest: with "demonstrate", how a hard sample is asked plainly again, see `hardness.RETESTS`.
        demos: demonstrations in front of a prompt, in all (our assumption: 4).
        demos_per_tool: of each tool on offer (our assumption: 2).
        demo_source: whose demonstrations, see `demonstrations.DemoBank`.
        verify_draws: with source "verified", draws until a row gets none in this round (our assumption).
        fresh_demos: other demonstrations at each visit of a sample, or the same for ever; in rounds they stay.
        round_steps: batches of rollouts in a round (our assumption: 20; the paper does not say).
        lr_decay: the learning rate is multiplied by this at each round's end (the paper: 0.8; our reading).
        prompt_style: "think", "native" or "examples", see `prompts`.
        invite: prompts carry `prompts.INVITATION` to write one example of one's own, in training and in evaluation.
        example_bonus: paid for valid self-written examples, see `self_examples` (the paper: 0.01).
        gated_bonus: pay it only where the task reward is right (the paper).
        examples_needed: distinct examples that earn it ("more than 3" in the paper: 4); 0 is the rule of one example.
        supervised: no rollouts: the gold answers are trained on, as many of them as GRPO would have rollouts.
        strict_examples: pay only for an example that shares no argument with the answer (our assumption).
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
    scan_rollouts: int = 0
    hard_samples: str = "keep"
    serving: str = "plain"
    few_shot_share: float = 0.5
    retest: str = "after_success"
    demos: int = 1
    demos_per_tool: int = 2
    demo_source: str = "gold"
    verify_draws: int = 4
    fresh_demos: bool = True
    round_steps: int = 20
    lr_decay: float = 1.0
    num_iterations: int = 1
    prompt_style: str = "think"
    invite: bool = False
    example_bonus: float = 0.0
    gated_bonus: bool = False
    examples_needed: int = 0
    strict_examples: bool = False
    supervised: bool = False

    def __post_init__(self):
        for name, choices in CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise SettingsError(f"recipe {self.name!r}: {name} is {value!r}; choose one of {', '.join(choices)}")
        does_something, unlike_one = self.hard_samples != "keep", self.reward != "conjunctive"
        by_round, by_list = self.hard_samples == "scan", self.prompt_style == "examples"
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
            "no prompt asks for what example_bonus pays; set prompt_style='examples', or invite=True":
                self.invite or by_list or not self.example_bonus,
            f"{self.hard_samples} calls a sample hard after {HARD_WINDOW} rollouts without a right one, and a group of "
            f"{self.num_generations} does not show that; use num_generations of {HARD_WINDOW} or more, or "
            "hard_samples='scan'": by_round or not does_something or self.num_generations >= HARD_WINDOW,
            f"scan_rollouts is {self.scan_rollouts}; a scan takes {HARD_WINDOW} or more, and 0 is no scan":
                self.scan_rollouts >= HARD_WINDOW or (self.scan_rollouts == 0 and not by_round),
            "verify_draws and demos_per_tool must be at least 1": self.verify_draws >= 1 and self.demos_per_tool >= 1,
            "serving by round and verified demonstrations need hard_samples='scan'":
                by_round or (self.serving == "plain" and self.demo_source != "verified"),
            "a round's demonstrations are fixed at its start, and own solutions come later; use another demo_source":
                not (by_round and self.demo_source == "own"),
            f"few_shot_share is {self.few_shot_share}; it must lie between 0 and 1": 0 <= self.few_shot_share <= 1,
            "the prompts of prompt_style='examples' ask for examples_needed (1 or more), and no others do":
                self.examples_needed >= by_list and (by_list or not self.examples_needed),
            "supervised training has no rollouts, and so neither hard samples nor a bonus": not self.supervised or not (
                does_something or self.example_bonus),
            "invite adds to the prompts of prompt_style='think' alone": not self.invite or self.prompt_style == "think",
        }  # fmt: skip
        for message, holds in wanted.items():
            if not holds:
                raise SettingsError(f"recipe {self.name!r}: {message}")

    @property
    def asks(self):
        """What prompts ask for, as `prompts.render_prompt` takes it: a style, or whether they invite one example."""
        return self.invite if self.prompt_style == "think" else self.prompt_style


CLIP_HIGHER = {"epsilon_high": 0.28, "num_iterations": 2}  # 0.28: DAPO's value, arXiv 2503.14476 (our assumption)
EXEMPLIFY = {"invite": True, "example_bonus": 0.01}
SET = {"beta": 0.0, **CLIP_HIGHER, **EXEMPLIFY}

PAPER = {"beta": 1e-3, "num_generations": 5, "equal_rollouts": True, "temperature": 0.7, "scan_rollouts": 10}
ROUNDS = {**PAPER, "hard_samples": "scan", "demo_source": "random", "demos": 4, "lr_decay": 0.8}
EXAMPLES = {"beta": 0.0, "epsilon_high": 0.26, "lr_decay": 0.8, "prompt_style": "examples", "examples_needed": 4,
            "example_bonus": 0.01, "gated_bonus": True}  # fmt: skip
PAPERS = (
    Recipe("paper_grpo", "GRPO as the paper has it (T9): groups of 5, temperature 0.7, KL 0.001", **PAPER),
    Recipe("paper_replace", "hard rows are served with their demonstrations instead", serving="replace", **ROUNDS),
    Recipe("paper_add", "hard rows stay, and their versions with demonstrations are added", serving="add", **ROUNDS),
    Recipe("paper_self_exemplifying", "no KL, clip higher, more than 3 examples of one's own for 0.01",
           **PAPER | EXAMPLES),
    Recipe("paper_self_exemplifying_replace", "both ideas", serving="replace", **ROUNDS | EXAMPLES),
    *(Recipe(f"paper_{name}", f"a road the paper left: {about}", serving=name, **ROUNDS) for name, about in (
        ("few_shot_only", "every row with demonstrations, always"),
        ("two_stage", "every row with demonstrations, then, from half of the rounds on, without"),
        ("mixed", "half of the rows with demonstrations, drawn anew each round"),
        ("exclude_hard", "hard rows are left out of the round"),
    )),
    Recipe("paper_sft", "supervised training on the gold answers of all rows, at equal tokens", supervised=True,
           scan_rollouts=10, temperature=0.7),
    Recipe("paper_rollouts_32", "paper_grpo in groups of 32, of fewer prompts", **PAPER | {"num_generations": 32}),
)  # fmt: skip

# The baselines' sources, and what was simplified, are in the docstrings of `baselines`.
RECIPES = {
    r.name: r
    for r in (
        *PAPERS,
        *(replace(r, name=f"{r.name}_verified", about=f"{r.about}, verified ones", demo_source="verified")
          for r in PAPERS if r.serving in ("replace", "add")),
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
