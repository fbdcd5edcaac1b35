"""From any recipe to what `trl.GRPOTrainer` is handed: `method.assemble`, with what is not the paper's put in."""

from ..base.saved_state import content_hash
from ..method.assemble import assemble as assemble_paper
from ..method.prompts import wants_think
from ..method.rewards import native_reward
from ..method.samples import training_columns
from ..method.self_examples import ExampleBonus
from .baselines import BY_FAMILY, REWARDS, RULES, BaselineServer, VisitHistory
from .other_demonstrations import VariantBank
from .other_self_examples import OneExampleBonus
from .visit_pool import VisitPool


def assemble(recipe, samples, tokenizer, max_prompt_tokens, seed=0, answer=None, bank=None,
             reward=None, server=None):  # fmt: skip
    """A recipe (`recipes.Recipe`) and the samples to train on -> `method.assemble.Parts`; arguments as there."""
    reward = reward or (REWARDS[recipe.reward] if wants_think(recipe.asks) else native_reward)
    own = {"reward": reward, "bonuses": [], "server": server}
    gate = own["reward"] if recipe.gated_bonus else None
    if recipe.invite:
        own["bonuses"] = [OneExampleBonus(recipe.example_bonus, gate, recipe.strict_examples, answer)]
    elif recipe.examples_needed:
        own["bonuses"] = [ExampleBonus(recipe.example_bonus, gate, recipe.examples_needed, answer)]
    if recipe.hard_samples != "keep":
        own["bank"] = bank = bank or VariantBank(samples, recipe.demo_source, recipe.demos_per_tool)
        own["learn"] = bank.learn if bank.source == "own" else None
    ids, content = [s.id for s in samples], content_hash(samples)
    if recipe.hard_samples == "demonstrate":
        own["pool"] = VisitPool(ids, retest=recipe.retest, content=content, fresh=recipe.fresh_demos)
    elif recipe.hard_samples in RULES:
        families = {s.id: s.family for s in samples} if recipe.hard_samples in BY_FAMILY else None
        own["pool"] = VisitHistory(ids, content, families)
        rows, round_steps = training_columns(samples), recipe.round_steps * recipe.num_iterations

        def server(history, *rest):
            return BaselineServer(RULES[recipe.hard_samples], history, rows, round_steps, *rest)

        own["server"] = server
    return assemble_paper(recipe, samples, tokenizer, max_prompt_tokens, seed, answer, **own)
