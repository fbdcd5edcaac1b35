"""From a recipe to what `trl.GRPOTrainer` is handed: reward functions, and rows that change as the pool learns."""

from dataclasses import dataclass, field

from ..base.saved_state import content_hash
from .demonstrations import DemoBank
from .hard_pool import HardSamplePool
from .hard_sampling import PoolReward, PromptServer
from .prompts import wants_think
from .rewards import conjunctive_reward, native_reward
from .self_examples import ExampleBonus


@dataclass(frozen=True)
class Parts:
    """What a recipe adds to GRPO.

    Attributes:
        reward: the task reward, in TRL's signature; it tells the pool what came of each group.
        bonuses: further reward functions, whose rewards TRL adds.
        pool: who is hard, a `HardSamplePool`; None where nothing is done about hard samples, and so are the next two.
        bank: the demonstrations, a `DemoBank`.
        server: what a prompt looks like today: a transform for `Dataset.with_transform`.
    """

    reward: object
    bonuses: list = field(default_factory=list)
    pool: object = None
    bank: object = None
    server: object = None


def assemble(recipe, samples, tokenizer, max_prompt_tokens, seed=0, answer=None, *,
             reward=None, bonuses=None, bank=None, pool=None, server=None, learn=None):  # fmt: skip
    """A recipe and the samples to train on -> `Parts`.

    Args:
        recipe: `recipes.PaperRecipe`.
        samples: `ToolSample`s of the train split.
        tokenizer: renders prompts.
        max_prompt_tokens: of a prompt with demonstrations.
        seed: of the choice of demonstrations.
        answer: as in `ExampleBonus`.
        reward, bonuses, bank, pool, server, learn: in the place of the paper's, see `variants.assemble_any`.
    """
    reward = reward or (conjunctive_reward if wants_think(recipe.asks) else native_reward)
    if bonuses is None:
        paid = recipe.example_bonus, reward, recipe.examples_needed, answer
        bonuses = [ExampleBonus(*paid)] if recipe.examples_needed else []
    if recipe.hard_samples == "keep":
        return Parts(reward, bonuses)
    bank = bank or DemoBank(samples, recipe.demo_source, recipe.demos_per_tool)
    pool = pool or HardSamplePool([s.id for s in samples], content=content_hash(samples))
    shown = recipe.demos, max_prompt_tokens, seed, recipe.asks
    server = (server or PromptServer)(pool, bank, samples, tokenizer, *shown)
    return Parts(PoolReward(reward, pool, learn), bonuses, pool, bank, server)
