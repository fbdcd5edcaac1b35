"""Real GRPO steps at learning rate 0: what they cost in seconds and memory, and what came of their groups."""

import importlib.util
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import psutil
import torch
from transformers import TrainerCallback

from ..base.spelled_defaults import spelled_defaults
from ..method.samples import training_columns
from ..models.hardware import describe_hardware
from ..models.policy import free_memory
from .record import RolloutRecorder
from .splits import in_training_order, training_rows
from .train import batch_shape, grpo_config, recipe_parts, stock_trainer


class StepClock(TrainerCallback):
    """Seconds of each optimizer step: sampling, scoring, learning."""

    def __init__(self):
        self.seconds = []

    def on_step_begin(self, args, state, control, **kwargs):
        self.began = _now()

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds.append(_now() - self.began)


def _now():
    if torch.cuda.is_available():
        torch.cuda.synchronize()  # the GPU works on behind Python's back
    return time.perf_counter()


def peak_memory():
    """GiB since the process began -> {"rss"}, or since `reset_peak_memory_stats` on a GPU -> {"allocated", "reserved"}.

    torch keeps what it once reserved, so the need lies between its two numbers.
    """
    if torch.cuda.is_available():
        peaks = {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}
    elif importlib.util.find_spec("resource"):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peaks = {"rss": peak if sys.platform == "darwin" else peak * 1024}
    else:  # Windows tells another name
        peaks = {"rss": psutil.Process().memory_info().peak_wset}
    return {name: round(peak / 2**30, 3) for name, peak in peaks.items()}


def trial_rows(samples, tokenizer, recipe, profile, steps, parts, longest, seed):
    """The rows of trial steps -> `Dataset`; of those with a demonstration the longest, if so asked for."""
    count, server = steps * batch_shape(recipe, profile)[0], parts.server
    rows = training_columns(samples) if server else training_rows(samples, tokenizer, recipe.asks)
    if longest:
        if server:
            rows = rows.add_column("wanted", ["demonstrated"] * len(samples))
        prompts = (server(rows[:]) if server else rows)["prompt"]
        lengths = [len(ids) for ids in tokenizer(list(prompts), add_special_tokens=False).input_ids]
        order = sorted(range(len(samples)), key=lambda i: -lengths[i])
        rows = rows.select([order[i % len(order)] for i in range(count)])
    else:
        rows = in_training_order(rows, count, seed)
    return rows.with_transform(server) if server else rows


def measure_steps(model, tokenizer, samples, recipe, profile, steps, *, longest=False, bank=None, seed=0):
    """Real steps of the stock trainer at learning rate 0 -> what they took.

    Args:
        samples: `ToolSample`s, more or fewer than the steps need.
        longest: take the longest prompts (a recipe with demonstrations: with one in front, as if all were hard), and
            let every completion be as long as it may.
        bank: `DemoBank`; None makes one of `samples`.

    Returns:
        dict: "seconds" [float] and "log" [the trainer's metrics], one per batch of rollouts; "memory" as `peak_memory`;
        "prompt_tokens" and "completion_tokens", means per rollout.
    """
    if recipe.hard_samples not in ("keep", "demonstrate", "scan"):
        recipe = replace(recipe, hard_samples="keep")  # a rule has nothing to say before a sample's second visit
    parts = recipe_parts(recipe, profile, seed, samples, tokenizer, bank)
    rows = trial_rows(samples, tokenizer, recipe, profile, steps, parts, longest, seed)
    with tempfile.TemporaryDirectory() as folder:
        arguments = grpo_config(recipe, profile, seed, Path(folder), describe_hardware())
        updates = recipe.num_iterations
        arguments.learning_rate, arguments.max_steps, arguments.save_strategy = 0.0, steps * updates, "no"
        arguments.report_to = []
        if longest:
            shortest = "min_tokens" if profile.vllm else "min_new_tokens"
            arguments.generation_kwargs = {shortest: profile.max_completion_length}
        counts, clock = {"rollouts": 0, "completion_tokens": 0}, StepClock()
        recorder = RolloutRecorder(parts.reward, recipe.num_generations, Path(folder) / "rollouts.jsonl", counts)
        free_memory()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        with spelled_defaults(profile.spelled_defaults):
            trainer = stock_trainer(recipe, profile, model, tokenizer, arguments, rows, [recorder], [clock])
            trainer.train()
    if "ref" in getattr(model, "peft_config", {}):
        model.delete_adapter("ref")  # TRL's copy for the KL term, which the next trainer would refuse to overwrite
    # A further update on the same rollouts logs none.
    batches = [row for row in trainer.state.log_history if "reward" in row and "num_tokens" in row]
    # TRL's lengths, in which what tools answer has no part, as it has none in `num_tokens`.
    written = round(sum(row["completions/mean_length"] for row in batches) * counts["rollouts"] / len(batches))
    prompt_tokens = batches[-1]["num_tokens"] - written
    seconds = [sum(clock.seconds[i : i + updates]) for i in range(0, len(clock.seconds), updates)]
    return {
        "seconds": seconds, "log": batches, "memory": peak_memory(),
        "prompt_tokens": prompt_tokens / counts["rollouts"],
        "completion_tokens": counts["completion_tokens"] / counts["rollouts"],
    }  # fmt: skip
