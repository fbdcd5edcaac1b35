"""What the algorithm does: one `Recipe` per row of the ablation table.

The abstract of the paper (arXiv 2510.07737) fixes GRPO and, by second-hand notes, a conjunctive 0/1 reward
and 10 rollouts per prompt. Every other number here is our assumption and says so.
"""

from dataclasses import dataclass, replace

from .rewards import get_reward


@dataclass(frozen=True)
class Recipe:
    """The settings of one GRPO variant; what each means is in `trl.GRPOConfig` under the same name.

    Attributes:
        name: what `--recipe` takes.
        about: one sentence for tables.
        beta: weight of the KL term towards the frozen base (our assumption: 0.04, DeepSeekMath's value).
        epsilon, epsilon_high: clip range of the probability ratio, [1 - epsilon, 1 + epsilon_high]
            (our assumption: 0.2 on both sides, the PPO default).
        num_generations: rollouts per prompt, the group (10: the paper's hardness window).
        learning_rate: AdamW, constant (None takes the profile's).
        reward: name of the task reward, see `rewards.REWARDS`.
        scale_rewards: "group" divides advantages by the group's standard deviation, "none" does not.
        temperature: of the rollouts.
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

    def __post_init__(self):
        get_reward(self.reward)
        if self.num_generations < 2:
            raise ValueError(f"recipe {self.name!r}: num_generations is {self.num_generations}; a group needs 2 or more")
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise ValueError(f"recipe {self.name!r}: learning_rate is {self.learning_rate}; it must be positive")


RECIPES = {
    r.name: r
    for r in (
        Recipe("grpo", "vanilla GRPO: KL 0.04, clip 0.2 on both sides, constant learning rate, groups of 10"),
    )
}


def get_recipe(name, **changes):
    """The recipe called `name` (or `name` itself, when it is a `Recipe`), with fields replaced.

    Raises:
        ValueError: no such recipe, no such field, or a value that cannot be trained with.
    """
    if not isinstance(name, Recipe):
        if name not in RECIPES:
            raise ValueError(f"unknown recipe {name!r}; choose one of {', '.join(RECIPES)}")
        name = RECIPES[name]
    try:
        return replace(name, **changes)
    except TypeError as error:
        raise ValueError(f"recipe {name.name!r}: {error}") from None
