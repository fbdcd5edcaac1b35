"""What the algorithm does: one `PaperRecipe` per row of the paper's tables.

Values are the paper's (arXiv 2510.07737, T9 to T11); what it leaves open is our assumption and says so. The trainer
takes a recipe of `variants.all_recipes`, which has these and more.
"""

from dataclasses import dataclass, replace
from math import inf

from ..base.errors import SettingsError
from .demonstrations import DemoBank
from .hard_pool import HARD_WINDOW
from .hard_sampling import SERVINGS
from .rewards import GRID


@dataclass(frozen=True)
class PaperRecipe:
    """The settings of one GRPO variant; what each means is in `trl.GRPOConfig` under the same name.

    Attributes:
        name: what `--recipe` takes.
        about: one sentence for tables.
        beta: weight of the KL term towards the frozen base (T9: 1e-3; section 4.1: none in the second idea).
        use_bias_correction_kl: multiply its estimate by the ratio (TRL's default; the paper does not say).
        epsilon, epsilon_high: clip range of the probability ratio, [1 - epsilon, 1 + epsilon_high] (T9: 0.2 and 0.2;
            T11: above 0.26). While each batch is used once, the ratio is 1 and nothing is clipped (see clip_ratio).
        num_generations: rollouts per prompt, the group (T9: 5).
        learning_rate: AdamW, constant but for `lr_decay` (None takes the profile's; T9: 1e-6 at 7B and 1.5B).
        temperature: of the rollouts, in training and in scans (T9: 0.7).
        equal_rollouts: another group size than 10 asks other numbers of prompts, so that a step has as many rollouts.
        scan_rollouts: rollouts per raw row in a scan, before training, in each round that needs one and afterwards
            (section 3.2: 10); 0 is no scan.
        hard_samples: "keep" (nothing is done about them) or "scan" (by round, see `serving`).
        serving: what a round serves, see `hard_sampling.round_rows` (section 3.2).
        few_shot_share: with serving "mixed", the share of rows with demonstrations (our assumption).
        demos: demonstrations in front of a prompt, in all (our assumption: 4).
        demos_per_tool: of each tool on offer (our assumption: 2).
        demo_source: whose demonstrations, see `demonstrations.DemoBank`.
        verify_draws: with source "verified", draws until a row gets none in this round (our assumption).
        round_steps: batches of rollouts in a round (our assumption: 20; the paper does not say).
        lr_decay: the learning rate is multiplied by this at each round's end (T10: 0.8; per round is our reading).
        prompt_style: "think", "native" or "examples", see `prompts`.
        example_bonus: paid, with a right answer, for valid self-written examples (section 4.2: 0.01).
        examples_needed: distinct examples that earn it (section 4.2, "more than 3": 4).
        supervised: no rollouts: the gold answers are trained on, as many of them as GRPO would have rollouts.
    """

    name: str
    about: str
    beta: float = 1e-3
    use_bias_correction_kl: bool = True
    epsilon: float = 0.2
    epsilon_high: float = 0.2
    num_generations: int = 5
    learning_rate: float | None = None
    temperature: float = 0.7
    equal_rollouts: bool = True
    scan_rollouts: int = 10
    hard_samples: str = "keep"
    serving: str = "plain"
    few_shot_share: float = 0.5
    demos: int = 4
    demos_per_tool: int = 2
    demo_source: str = "random"
    verify_draws: int = 4
    round_steps: int = 20
    lr_decay: float = 1.0
    prompt_style: str = "think"
    example_bonus: float = 0.0
    examples_needed: int = 0
    supervised: bool = False

    CHOICES = {"hard_samples": ("keep", "scan"), "serving": SERVINGS, "demo_source": DemoBank.SOURCES,
               "prompt_style": ("think", "native", "examples")}  # fmt: skip

    def __post_init__(self):
        for name, choices in self.CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise SettingsError(f"recipe {self.name!r}: {name} is {value!r}; choose one of {', '.join(choices)}")
        for message, holds in self._conditions().items():
            if not holds:
                raise SettingsError(f"recipe {self.name!r}: {message}")

    @property
    def asks(self):
        """What prompts ask for, as `prompts.render_prompt` takes it."""
        return self.prompt_style

    def _conditions(self):
        """{what is wrong, and the mend: does it hold that it is not?}"""
        by_round, by_list = self.hard_samples == "scan", self.prompt_style == "examples"
        # Bounds on both sides refuse infinity, and NaN, which compares with nothing.
        return {
            "beta must not be negative, temperature and epsilon_high must be positive, all three finite, and epsilon "
            "must lie between 0 and 1": 0 <= self.beta < inf and 0 < self.temperature < inf and 0 < self.epsilon < 1
            and 0 < self.epsilon_high < inf,
            f"num_generations is {self.num_generations}; a group needs 2 or more": self.num_generations >= 2,
            f"learning_rate is {self.learning_rate}; it must be positive and finite":
                self.learning_rate is None or 0 < self.learning_rate < inf,
            f"lr_decay is {self.lr_decay}; it must lie in (0, 1]": 0 < self.lr_decay <= 1,
            "round_steps and demos must be at least 1": self.round_steps >= 1 and self.demos >= 1,
            f"example_bonus is {self.example_bonus}; it must be 0, or at least 1/{GRID}, of which rewards are "
            "multiples (see rewards.quantise), and below the 1 of the task reward":
                self.example_bonus == 0 or 1 / GRID <= self.example_bonus < 1,
            "no prompt asks for what example_bonus pays; set prompt_style='examples', or invite=True":
                self.asks not in ("think", "native", False) or not self.example_bonus,
            f"scan_rollouts is {self.scan_rollouts}; a scan takes {HARD_WINDOW} or more, and 0 is no scan":
                self.scan_rollouts >= HARD_WINDOW or (self.scan_rollouts == 0 and not by_round),
            "verify_draws and demos_per_tool must be at least 1": self.verify_draws >= 1 and self.demos_per_tool >= 1,
            "serving by round and verified demonstrations need hard_samples='scan'":
                by_round or (self.serving == "plain" and self.demo_source != "verified"),
            f"few_shot_share is {self.few_shot_share}; it must lie between 0 and 1": 0 <= self.few_shot_share <= 1,
            "the prompts of prompt_style='examples' ask for examples_needed (1 or more), and no others do":
                self.examples_needed >= by_list and (by_list or not self.examples_needed),
            "supervised training has no rollouts, and so neither hard samples nor a bonus":
                not self.supervised or (self.hard_samples == "keep" and not self.example_bonus),
        }  # fmt: skip


ROUNDS = {"hard_samples": "scan", "lr_decay": 0.8}
EXAMPLES = {"beta": 0.0, "epsilon_high": 0.26, "lr_decay": 0.8, "prompt_style": "examples", "examples_needed": 4,
            "example_bonus": 0.01}  # fmt: skip
_RECIPES = (
    PaperRecipe("paper_grpo", "GRPO as the paper has it (T9): groups of 5, temperature 0.7, KL 0.001"),
    PaperRecipe("paper_replace", "hard rows are served with their demonstrations instead", serving="replace", **ROUNDS),
    PaperRecipe("paper_add", "hard rows stay, and are added with demonstrations, too", serving="add", **ROUNDS),
    PaperRecipe("paper_self_exemplifying", "no KL, clip higher, 0.01 for more than 3 own examples", **EXAMPLES),
    PaperRecipe("paper_self_exemplifying_replace", "both ideas", serving="replace", **ROUNDS | EXAMPLES),
    *(PaperRecipe(f"paper_{name}", f"a road the paper left: {about}", serving=name, **ROUNDS) for name, about in (
        ("few_shot_only", "every row with demonstrations, always"),
        ("two_stage", "every row with demonstrations, then, from half of the rounds on, without"),
        ("mixed", "half of the rows with demonstrations, drawn anew each round"),
        ("exclude_hard", "hard rows are left out of the round"),
    )),
    PaperRecipe("paper_sft", "supervised training on the gold answers of all rows, at equal tokens", supervised=True,
                num_generations=10),
    PaperRecipe("paper_rollouts_32", "paper_grpo in groups of 32, of fewer prompts", num_generations=32),
)  # fmt: skip
PAPER_RECIPES = (
    *_RECIPES,
    *(replace(r, name=f"{r.name}_verified", about=f"{r.about}, verified ones", demo_source="verified")
      for r in _RECIPES if r.serving in ("replace", "add")),
)  # fmt: skip
