"""Groups of equal rewards leave the weights alone: the stock trainer, a fresh AdamW, whatever the group's size."""

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from trl import GRPOConfig, GRPOTrainer

from toolexpander_lite.base.errors import SettingsError
from toolexpander_lite.base.groups import group_advantages
from toolexpander_lite.method.hard_sampling import PoolReward
from toolexpander_lite.method.rewards import GRID, quantise
from toolexpander_lite.models.policy import load_policy
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.splits import training_rows
from toolexpander_lite.variants.all_recipes import get_recipe
from toolexpander_lite.variants.other_self_examples import OneExampleBonus
from toolexpander_lite.variants.visit_pool import VisitPool
from toolexpander_lite.worlds.nano_world import EASY_FAMILIES, nano_samples

BONUS = OneExampleBonus(0.01).bonus
# Task reward and bonus of the groups of one batch: solved, failed and graded ones, paid and unpaid.
GROUPS = [(1.0, BONUS), (0.0, BONUS), (1.0, OneExampleBonus(0.2).bonus), (0.1 + 0.2, 0.0), (6 * 2 / 7 - 3, 0.0),
          (4.0, BONUS)]  # fmt: skip


def steps_of_the_stock_trainer(rewards, size, folder, micro_batch, scale="group"):
    """One optimizer step on len(GROUPS) groups -> (weights before, weights after, metrics)."""
    model, tokenizer = load_policy(get_profile("nano"))
    samples = nano_samples("train", 2, families=EASY_FAMILIES)[: len(GROUPS)]
    config = GRPOConfig(
        output_dir=str(folder), max_steps=1, per_device_train_batch_size=micro_batch, num_generations=size,
        gradient_accumulation_steps=len(GROUPS) * size // micro_batch, max_completion_length=6, beta=0.0,
        learning_rate=1e-3, scale_rewards=scale, logging_steps=1, report_to="none", use_cpu=True, bf16=False,
        gradient_checkpointing=False, disable_tqdm=True, save_strategy="no", lr_scheduler_type="constant",
    )  # fmt: skip
    trainer = GRPOTrainer(
        model=model, reward_funcs=rewards, args=config, train_dataset=training_rows(samples, tokenizer),
        processing_class=tokenizer,
    )  # fmt: skip
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer.train()
    return before, dict(model.named_parameters()), trainer.state.log_history[0]


def paid_by_group(part):
    """A reward function that gives each sample of a batch its own pair of `GROUPS`, and the part of it asked for."""

    def reward(sample_id, **columns):
        place = defaultdict(lambda: len(place))
        return [GROUPS[place[id]][part] for id in sample_id]

    return reward


@pytest.mark.parametrize(("size", "micro_batch"), [(2, 12), (5, 30), (10, 4), (10, 60), (32, 64)])
def test_equal_groups_leave_every_weight_as_it_was(size, micro_batch, tmp_path):
    samples = nano_samples("train", 2, families=EASY_FAMILIES)

    def task(**columns):
        return PoolReward(paid_by_group(0), VisitPool([s.id for s in samples]))(
            **{**columns, "served": ["plain"] * len(columns["prompts"])}
        )

    before, after, row = steps_of_the_stock_trainer([task, paid_by_group(1)], size, tmp_path, micro_batch)
    assert row["frac_reward_zero_std"] == 1 and row["loss"] == 0 and row["grad_norm"] == 0
    assert row["reward"] == pytest.approx(sum(map(sum, GROUPS)) / len(GROUPS), abs=1e-3), "the metrics stay true"
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_group_with_contrast_still_teaches(tmp_path):
    """The control: one rollout of one group is paid, and the weights move."""

    def one_paid(prompts, **columns):
        return [BONUS] + [0.0] * (len(prompts) - 1)

    before, after, row = steps_of_the_stock_trainer(one_paid, 10, tmp_path, 60)
    assert row["grad_norm"] > 0 and any(not torch.equal(before[name], after[name]) for name in before)


@given(st.floats(-5, 5), st.integers(2, 800))
def test_sums_and_means_in_float32_are_exact(reward, size):
    rewards = torch.full((size,), quantise(reward), dtype=torch.float32)
    assert (rewards - rewards.nanmean()).abs().max() == 0
    assert abs(quantise(reward) - reward) <= 0.5 / GRID


def test_mixed_groups_keep_the_advantages_of_the_formula():
    paid = [BONUS] * 3 + [0.0] * 7
    exact = group_advantages([0.01] * 3 + [0.0] * 7, 10)
    assert group_advantages(paid, 10) == pytest.approx(exact, rel=1e-4)


def test_every_reward_of_the_kit_is_a_multiple():
    def thirds(prompts, **columns):
        return [1 / 3, None]

    columns = {"sample_id": ["a", "a"], "served": ["plain"] * 2, "trainer_state": SimpleNamespace(global_step=0)}
    third, nothing = PoolReward(thirds, VisitPool(["a"]))(["q"] * 2, ["x"] * 2, **columns)
    assert (third * GRID).is_integer() and nothing is None
    assert (OneExampleBonus(0.01).bonus * GRID).is_integer()


def test_a_bonus_too_small_to_be_paid_exactly_is_refused():
    with pytest.raises(SettingsError, match="at least 1/4096"):
        get_recipe("exemplify", example_bonus=0.0001)
