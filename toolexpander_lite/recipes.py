"""What the algorithm does: one `Recipe` per row of the ablation table.

The abstract of the paper (arXiv 2510.07737) fixes GRPO and, by second-hand notes, a conjunctive 0/1 reward
and 10 rollouts per prompt. Every other number here is our assumption and says so.
"""

from dataclasses import dataclass, replace

from .errors import SettingsError
from .hard_sampling import HARD_WINDOW, RETESTS
from .rewards import get_reward


@dataclass(frozen=True)
class Recipe:
    """The settings of one GRPO variant; what each means is in `trl.GRPOConfig` under the same name.

    Attributes:
        name: what `--recipe` takes.
        about: one sentence for tables.
        beta: weight of the KL term towards the frozen base (our assumption: 0.04, DeepSeekMath's value).
        epsilon, epsilon_high: clip range of the probability ratio, [1 - epsilon, 1 + epsilon_high]
            (our assumption: 0.2 on both sides, the PPO default). Each batch of rollouts is used for one update here, so
            that the ratio is 1 and nothing is ever clipped; the logs' clip_ratio shows it.
        num_generations: rollouts per prompt, the group (10: the paper's hardness window).
        learning_rate: AdamW, constant (None takes the profile's).
        reward: name of the task reward, see `rewards.REWARDS`.
        scale_rewards: "group" divides advantages by the group's standard deviation, "none" does not.
        temperature: of the rollouts.
        hard_sampling: serve hard samples with demonstrations, see `hard_sampling` (the paper's first idea).
        retest: how a hard sample is asked plainly again, see `hard_sampling.RETESTS` (our assumption).
        demos: demonstrations in front of a hard prompt (our assumption: 1).
        round_steps: optimizer steps in a round (our assumption: 20).
        lr_decay: the learning rate is multiplied by this at each round's end (the paper has an exponential decay; the
            value is our assumption). 1 is constant.
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
    hard_sampling: bool = False
    retest: str = "after_success"
    demos: int = 1
    round_steps: int = 20
    lr_decay: float = 1.0

    def __post_init__(self):
        get_reward(self.reward)
        if self.beta < 0 or self.temperature <= 0 or not 0 < self.epsilon < 1 or self.epsilon_high <= 0:
            raise SettingsError(
                f"recipe {self.name!r}: beta must not be negative, temperature and epsilon_high must be positive, and "
                "epsilon must lie between 0 and 1"
            )
        if self.scale_rewards not in ("group", "none"):
            raise SettingsError(f"recipe {self.name!r}: scale_rewards is {self.scale_rewards!r}; use 'group' or 'none'")
        if self.hard_sampling and self.reward != "conjunctive":
            raise SettingsError(f"recipe {self.name!r}: hard sampling counts right rollouts; use reward='conjunctive'")
        if self.num_generations < 2:
            raise SettingsError(
                f"recipe {self.name!r}: num_generations is {self.num_generations}; a group needs 2 or more"
            )
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise SettingsError(f"recipe {self.name!r}: learning_rate is {self.learning_rate}; it must be positive")
        if not 0 < self.lr_decay <= 1:
            raise SettingsError(f"recipe {self.name!r}: lr_decay is {self.lr_decay}; it must lie in (0, 1]")
        if self.retest not in RETESTS:
            raise SettingsError(
                f"recipe {self.name!r}: unknown retest {self.retest!r}; choose one of {', '.join(RETESTS)}"
            )
        if self.round_steps < 1 or self.demos < 1:
            raise SettingsError(f"recipe {self.name!r}: round_steps and demos must be at least 1")
        if self.hard_sampling and self.num_generations < HARD_WINDOW:
            raise SettingsError(
                f"recipe {self.name!r}: a sample is hard after {HARD_WINDOW} rollouts without a right one, and a group "
                f"of {self.num_generations} does not show that; use num_generations of {HARD_WINDOW} or more"
            )


RECIPES = {
    r.name: r
    for r in (
        Recipe("grpo", "vanilla GRPO: KL 0.04, clip 0.2 on both sides, constant learning rate, groups of 10"),
        Recipe(
            "hard_sampling", "grpo, and hard samples are served with a demonstration and re-tested", hard_sampling=True
        ),
        Recipe("lr_decay", "grpo, and the learning rate decays by 0.9 each round of 20 steps", lr_decay=0.9),
        Recipe(
            "hard_sampling_decay",
            "hard_sampling and lr_decay together: the paper's first idea as a whole",
            hard_sampling=True,
            lr_decay=0.9,
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
