"""Tiny runs, each made to have one fault: what the doctor is tried on (`assets/doctor/RULE.jsonl`, TRL's own log rows).

    python benchmarks/doctor_runs.py --out assets/doctor [--only cut_at_cap]

The stock `GRPOTrainer` trains the nano policy for some 30 steps, 8 prompts of 4 rollouts each, on a CPU. A file's name
is the rule that should come first, up to a hyphen; `healthy-<seed>` are runs without a fault. About 20 s a run.
"""

import argparse
import json
import tempfile
from pathlib import Path

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from toolexpander_lite.method.prompts import render_prompt
from toolexpander_lite.method.rewards import conjunctive_reward
from toolexpander_lite.models.policy import load_policy
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.worlds.nano_world import nano_samples

HARD, EASY = ["book_taxi", "get_weather", "find_hotel", "hire_guide"], ["play_song", "set_timer"]
MIXED = ["play_song", "send_note", "find_recipe"]
LEFT_OUT = ("terminated", "clip_ratio/low", "clip_ratio/high", "num_tokens", "step_time", "epoch")


def correctness(prompts, completions, calls, tools, **columns):
    return conjunctive_reward(prompts, completions, calls=calls, tools=tools)


def broken_scorer(completions, **columns):
    """Looks for a field that the data do not have."""
    return [0.0] * len(completions)


def strict_format(completions, **columns):
    """A form that this model's template never writes."""
    return [0.5 * completion.startswith("<reasoning>\n") for completion in completions]


def length_bonus(completions, **columns):
    """Pays for long answers."""
    return [min(1.0, len(completion) / 200) for completion in completions]


def brevity(completions, **columns):
    """Pays more for an empty answer than `correctness` for a right one."""
    return [3.0 - min(3.0, len(completion) / 20) for completion in completions]


def of_the_prompt(prompts, **columns):
    """Reads the row and not the completion."""
    return [len(prompt) % 7 / 7 for prompt in prompts]


# rule: (families, reward functions, what differs in the configuration)
CASES = {
    "healthy-0": (MIXED, [correctness], {"seed": 0}),
    "healthy-1": (MIXED, [correctness], {"seed": 1}),
    "healthy-2": (MIXED, [correctness], {"seed": 2}),
    "never_stops": (MIXED, [correctness], {"max_completion_length": 8}),
    "reward_never_paid": (MIXED, [broken_scorer], {}),
    "format_never_met": (MIXED, [correctness, strict_format], {}),
    "dead_reward_part": (MIXED, [correctness, broken_scorer], {}),
    "only_side_rewards": (HARD, [correctness, length_bonus], {}),
    "side_eats_main": (MIXED, [correctness, brevity], {"learning_rate": 2e-3, "max_steps": 60}),
    "spread_between_prompts": (MIXED, [of_the_prompt], {}),
    "identical_completions": (MIXED, [correctness], {"temperature": 0.01}),
    "all_fail_groups": (HARD + ["send_note"], [correctness], {}),
    "solved_already": (EASY, [correctness], {}),
    "reward_collapse": (MIXED, [correctness], {"learning_rate": 5e-3, "max_steps": 80}),
    "reward_collapse-at-once": (MIXED, [correctness], {"learning_rate": 2e-2, "max_steps": 60}),
    "learning_rate_zero": (MIXED, [correctness], {"learning_rate": 0.0}),
}  # fmt: skip


def run(families, rewards, changes):
    """One run -> TRL's log rows, without the columns of `LEFT_OUT`, six digits."""
    model, tokenizer = load_policy(get_profile("nano"), device="cpu")
    samples = nano_samples("train", 16, families=families)
    rows = Dataset.from_list([
        {"prompt": render_prompt(s, tokenizer), "calls": json.dumps(s.calls), "tools": json.dumps(s.tools)}
        for s in samples
    ])  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "output_dir": folder, "max_steps": 30, "num_generations": 4, "per_device_train_batch_size": 32,
            "max_completion_length": 48, "learning_rate": 6e-4, "lr_scheduler_type": "constant", "beta": 0.0,
            "temperature": 1.0, "logging_steps": 1, "report_to": "none", "save_strategy": "no", "disable_tqdm": True,
            "bf16": False, "gradient_checkpointing": False, "use_cpu": True,
        }  # fmt: skip
        config = GRPOConfig(**settings | changes)
        trainer = GRPOTrainer(model, rewards, config, rows, processing_class=tokenizer)
        trainer.train()
    return [
        {name: float(f"{value:.6g}") for name, value in row.items() if not any(part in name for part in LEFT_OUT)}
        for row in trainer.state.log_history if "loss" in row
    ]  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("assets/doctor"))
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.only:
        rows = run(*CASES[name])
        (arguments.out / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        print(name, len(rows), "rows; reward", rows[0].get("reward"), "to", rows[-1].get("reward"), flush=True)


if __name__ == "__main__":
    main()
