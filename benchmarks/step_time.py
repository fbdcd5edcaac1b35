"""Seconds per step: the stock `GRPOTrainer` against `train()`, step by step in one process, at the same tokens.

    python benchmarks/step_time.py [--steps 16] [--out assets/benchmarks/step_time.json]
    python benchmarks/step_time.py --recipe toolexpander --profile nano-rare --steps 20

The stock trainer, `train()`, and the stock trainer once more take turns, see `turns.py`. All have the same base, seed
and trainer settings. `train()` goes once before, without being measured; the stock trainers are handed the very prompts
that were served there, demonstrations included, and the task reward. The learning rate is next to nothing, so all draw
the same rollouts, and the lengths in their logs are compared to make sure. What `train()` adds is the pool, the choice
of demonstrations, the judging of examples, the record of rollouts and the run log. Evaluations and checkpoints are
switched off. A step is one batch of rollouts with all its updates.
"""

import argparse
import functools
import json
import tempfile
from pathlib import Path

from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback, set_seed
from trl import GRPOTrainer
from turns import compare, in_the_studies_environment, take_turns

from toolexpander_lite.base.runs import software_versions, write_json
from toolexpander_lite.method.rewards import conjunctive_reward
from toolexpander_lite.models.hardware import describe_hardware
from toolexpander_lite.models.policy import load_policy
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.record import RolloutRecorder
from toolexpander_lite.training.train import grpo_config, train
from toolexpander_lite.variants.all_recipes import get_recipe


class Note(TrainerCallback):
    """Calls `note` with each row of the trainer's log."""

    def __init__(self, note):
        self.note = note

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.note(logs)


def served_rows(recipe, profile, folder):
    """One run of `train()` -> (rows as they were served, share of them with a demonstration)."""
    rows, record = [], RolloutRecorder.__call__

    def spy(self, prompts, completions, calls, tools, **columns):
        n = self.num_generations
        rows.extend({"prompt": p, "calls": c, "tools": t} for p, c, t in zip(prompts[::n], calls[::n], tools[::n]))
        return record(self, prompts=prompts, completions=completions, calls=calls, tools=tools, **columns)

    RolloutRecorder.__call__ = spy
    try:
        train(recipe, profile, 0, folder)
    finally:
        RolloutRecorder.__call__ = record
    served = [json.loads(line)["served"] for line in (folder / "rollouts.jsonl").open()]
    return rows, sum(mode != "plain" for mode in served) / len(served)


def stock(recipe, profile, folder, rows, note):
    set_seed(0)
    model, tokenizer = load_policy(profile)
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=conjunctive_reward,
        args=grpo_config(recipe, profile, 0, folder, describe_hardware()),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[Note(note)],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--recipe", default="grpo")
    parser.add_argument("--profile", default="nano")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    recipe = get_recipe(arguments.recipe, learning_rate=1e-12)
    # One evaluation and checkpoint at the very end, after the last measured step.
    profile = get_profile(arguments.profile, steps=arguments.steps + 1, eval_every=arguments.steps + 1)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        rows, demonstrated = served_rows(recipe, profile, folder / "first")

        def sides(number):
            out = folder / str(number)
            return {
                "stock GRPOTrainer": functools.partial(stock, recipe, profile, out / "before", rows),
                f"train({recipe.name!r})": lambda note: train(recipe, profile, 0, out / "ours", progress=note),
                "stock GRPOTrainer, again": functools.partial(stock, recipe, profile, out / "after", rows),
            }

        found = compare(take_turns(sides, arguments.steps))
    print(f"{demonstrated:.0%} of the groups were served with a demonstration")
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(arguments.out, {
            "recipe": recipe.name, "profile": arguments.profile, "demonstrated": round(demonstrated, 3), **found,
            "machine": str(describe_hardware()), "versions": software_versions(),
        })  # fmt: skip


if __name__ == "__main__":
    in_the_studies_environment()
    main()
