"""From a recipe to what `trl.GRPOTrainer` is handed: reward functions, and rows that change as the pool learns."""

from dataclasses import dataclass, field
from pathlib import Path

from .demonstrations import DemoBank
from .hard_sampling import PoolReward, PromptServer
from .hardness import HardSamplePool
from .prompts import wants_think
from .rewards import conjunctive_reward, native_reward
from .samples import content_hash
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

    def load(self, checkpoint):
        """Restore what a checkpoint kept of pool and bank, if there are any."""
        if self.pool is not None:
            self.pool.load(Path(checkpoint) / "pool.json")
            self.bank.load(Path(checkpoint) / "demonstrations.json")


def assemble(
    recipe, samples, tokenizer, max_prompt_tokens, seed=0, task_reward=conjunctive_reward, serve=None, answer=None,
    bank=None,
):  # fmt: skip
    """A recipe and the samples to train on -> `Parts`.

    Args:
        recipe: `recipes.Recipe`.
        samples: `ToolSample`s of the train split.
        tokenizer: renders prompts.
        max_prompt_tokens: of a prompt with demonstrations.
        seed: of the choice of demonstrations.
        task_reward: the function that `recipe.reward` names.
        serve: for a recipe whose `hard_samples` is one of `recipes.RULES`, `baselines.serve_by_rule`.
        answer: as in `ExampleBonus`.
        bank: `DemoBank`; None makes one of `samples`.
    """
    task_reward = task_reward if wants_think(recipe.asks) else native_reward
    bonuses = []
    if recipe.invite or recipe.examples_needed:
        rules = recipe.gated_bonus, recipe.strict_examples, task_reward, answer, recipe.examples_needed
        bonuses = [ExampleBonus(recipe.example_bonus, *rules)]
    if recipe.hard_samples == "keep":
        return Parts(task_reward, bonuses)
    bank = bank or DemoBank(samples, recipe.demo_source, recipe.demos_per_tool)
    options = {
        "demos": recipe.demos, "max_prompt_tokens": max_prompt_tokens, "seed": seed, "fresh": recipe.fresh_demos,
        "invite": recipe.asks,
    }  # fmt: skip
    if recipe.hard_samples in ("scan", "demonstrate"):
        retest = "scan" if recipe.hard_samples == "scan" else recipe.retest
        pool = HardSamplePool([s.id for s in samples], retest=retest, content=content_hash(samples))
        server = PromptServer(pool, bank, samples, tokenizer, **options)
    else:
        pool, server = serve(recipe, samples, bank, tokenizer, **options)
    return Parts(PoolReward(task_reward, pool, bank), bonuses, pool, bank, server)
