"""`train(recipe, profile, seed)`: one run of the stock `trl.GRPOTrainer`, and its run directory.

Nothing of the trainer is changed: we hand it a data set, a reward function and a callback. The run
directory it leaves is the contract every table and figure reads:

    config.json     what was run: command, recipe, profile, seed, hyper-parameters, versions, git commit
    log.jsonl       one JSON object per optimizer step, evaluations inside; step 0 is the base policy
    summary.json    where it ended (written only when the run is complete)
    rollouts.jsonl  one line per group: sample id, rewards, reason codes    (not committed)
    checkpoints/    for --resume                                            (not committed)
    final/          the weights or the adapter                              (not committed)
"""

import json
import random
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from transformers import PrinterCallback, TrainerCallback, set_seed
from transformers.trainer_utils import get_last_checkpoint
from trl import GRPOConfig, GRPOTrainer

from .data import DataError, to_dataset
from .demonstrations import DemoBank
from .evaluate import evaluate
from .hardware import pick_dtype
from .loaders import load_samples
from .models import adapters_to_float32, load_policy, model_hash
from .nano_world import HARD_FAMILIES, nano_samples
from .profiles import get_profile
from .prompts import gold_completion, render_prompt
from .recipes import get_recipe
from .rewards import get_reward, group_outcomes, judge_all
from .runs import RunError, check_folder, read_jsonl, software_versions, summarize, write_json

# TRL's own metric names, plus ours ("format_rate", "groups/...", and the cumulative counts).
LOGGED = (
    "loss", "grad_norm", "learning_rate", "reward", "reward_std", "frac_reward_zero_std", "entropy", "kl",
    "completions/mean_length", "completions/clipped_ratio", "clip_ratio/low_mean", "clip_ratio/high_mean",
    "format_rate", "groups/all_fail", "groups/all_pass",
)


@dataclass(frozen=True)
class Splits:
    """The samples of a run: to train on, held out, the names of hard families, and rows left out by reason."""

    train: list
    held_out: list
    hard_families: tuple
    left_out: dict


def load_splits(profile, seed, tokenizer):
    """The samples a profile asks for -> `Splits`. The held-out ones are the same for all seeds.

    Raises:
        DataError: no row of a split fits into the profile's lengths.
    """
    if profile.data == "nano":
        train_samples, held_out = nano_samples("train", profile.train_prompts, seed), nano_samples("test", profile.eval_prompts)
        return Splits(train_samples, held_out, HARD_FAMILIES, {})
    report = load_samples(profile.data, path=profile.data_path)
    fitting, left_out = {"train": [], "test": []}, Counter(report.dropped)
    for sample in report.samples:
        if len(tokenizer(render_prompt(sample, tokenizer)).input_ids) > profile.max_prompt_tokens:
            left_out["prompt_too_long"] += 1
        elif len(tokenizer(gold_completion(sample)).input_ids) >= profile.max_completion_length:
            left_out["answer_too_long"] += 1
        else:
            fitting[sample.split].append(sample)
    for split, samples in fitting.items():
        if not samples:
            raise DataError(
                f"no {split} row of {profile.data!r} has a prompt of at most {profile.max_prompt_tokens} tokens and an answer "
                f"below {profile.max_completion_length}; raise max_prompt_tokens or max_completion_length"
            )
    random.Random(seed).shuffle(fitting["train"])
    random.Random(0).shuffle(fitting["test"])
    return Splits(fitting["train"][: profile.train_prompts], fitting["test"][: profile.eval_prompts], (), dict(left_out))


def training_rows(samples, tokenizer):
    """`ToolSample`s -> the `Dataset` that `GRPOTrainer` reads: rendered prompts, and the columns rewards need.

    The prompt is rendered here, not by the trainer: each sample offers its own tools, and the trainer's own
    rendering knows only one list of tools for all.
    """
    rows = to_dataset(samples).rename_column("id", "sample_id").remove_columns(["messages", "split"])
    rows = rows.add_column("prompt", [render_prompt(s, tokenizer) for s in samples])
    return rows


class RolloutRecorder:
    """The task reward, with a note of every group: what was asked, what came back, why it failed.

    A reward function in TRL's signature. It counts rollouts and completion tokens, reports the shares of
    all-fail and all-pass groups (`frac_reward_zero_std` mixes them), and appends one line per group to
    rollouts.jsonl.
    """

    def __init__(self, reward, num_generations, path, counts):
        self.reward, self.num_generations, self.path = reward, num_generations, path
        self.counts = counts  # {"rollouts", "completion_tokens"}, cumulative, shared with the log
        self.__name__ = reward.__name__  # names the metric "rewards/<name>/mean"

    def __call__(self, prompts, completions, sample_id, family, calls, tools, completion_ids, trainer_state,
                 log_metric, **columns):
        rewards = self.reward(prompts=prompts, completions=completions, calls=calls, tools=tools, log_metric=log_metric)
        verdicts = judge_all(completions, calls, tools)
        outcomes = group_outcomes([float(v.reason == "ok") for v in verdicts], self.num_generations)
        log_metric("groups/all_fail", outcomes["all_fail"])
        log_metric("groups/all_pass", outcomes["all_pass"])
        self.counts["rollouts"] += len(completions)
        self.counts["completion_tokens"] += sum(map(len, completion_ids))
        with self.path.open("a") as file:
            for start in range(0, len(completions), self.num_generations):
                group = slice(start, start + self.num_generations)
                line = {
                    "step": trainer_state.global_step + 1, "sample_id": sample_id[start], "family": family[start],
                    "rewards": rewards[group],
                    "reasons": dict(Counter(v.reason for v in verdicts[group])), "example": completions[start][:400],
                }
                file.write(json.dumps(line) + "\n")
        return rewards


class RunLog(TrainerCallback):
    """Writes log.jsonl: TRL's metrics of each optimizer step, cumulative counts, and evaluations."""

    def __init__(self, path, counts, evaluate_policy, every, progress):
        self.path, self.counts, self.evaluate_policy = path, counts, evaluate_policy
        self.every, self.progress = every, progress

    def write(self, row, model):
        if row["step"] % self.every == 0:
            row["eval"] = self.evaluate_policy(model)
        row = _rounded(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        if self.progress:
            self.progress(row)

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step == 0:
            self.write({"step": 0, **self.counts}, model)

    def on_step_begin(self, args, state, control, **kwargs):
        self.began = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        self.counts["seconds"] += time.perf_counter() - self.began  # evaluations and checkpoints not counted

    def on_log(self, args, state, control, logs=None, model=None, **kwargs):
        if "reward" not in logs:  # the trainer's closing summary
            return
        self.counts["prompt_tokens"] = int(logs["num_tokens"]) - self.counts["completion_tokens"]
        metrics = {name: logs[name] for name in LOGGED if name in logs}
        self.write({"step": state.global_step, **metrics, **self.counts}, model)


def command_line():
    """The command line that started this run, without this machine's paths; from a notebook or script, just that."""
    called = Path(sys.argv[0]).name == "__main__.py"
    return " ".join(["python -m toolexpander_lite", *sys.argv[1:]]) if called else "train() called from Python"


def _rounded(value):
    """Floats to 6 significant digits, recursively: logs stay small and diffs readable."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return value


def _rewind(out, checkpoint):
    """Cut the logs back to the checkpoint (or to nothing) -> the cumulative counts at that step."""
    step = int(Path(checkpoint).name.split("-")[-1]) if checkpoint else -1
    counts = {"rollouts": 0, "completion_tokens": 0, "prompt_tokens": 0, "seconds": 0.0}
    for name in ("log.jsonl", "rollouts.jsonl"):
        if (out / name).exists():
            kept = [row for row in read_jsonl(out / name) if row["step"] <= step]
            (out / name).write_text("".join(json.dumps(row) + "\n" for row in kept))
            if name == "log.jsonl" and kept:
                counts = {key: kept[-1][key] for key in counts}
    (out / "summary.json").unlink(missing_ok=True)
    return counts


def grpo_config(recipe, profile, seed, out, device):
    """Recipe x profile x seed -> `trl.GRPOConfig`.

    Raises:
        ValueError: `micro_batch` does not divide the rollouts of one step.
    """
    rollouts = profile.prompts_per_step * recipe.num_generations
    if rollouts % profile.micro_batch:
        raise ValueError(
            f"a step has prompts_per_step x num_generations = {profile.prompts_per_step} x {recipe.num_generations} "
            f"= {rollouts} rollouts, which micro_batch {profile.micro_batch} does not divide; change one of the three"
        )
    dtype = pick_dtype(profile.dtype)
    return GRPOConfig(
        output_dir=str(out / "checkpoints"),
        seed=seed,
        max_steps=profile.steps,
        learning_rate=recipe.learning_rate or profile.learning_rate,
        lr_scheduler_type="constant",
        beta=recipe.beta,
        epsilon=recipe.epsilon,
        epsilon_high=recipe.epsilon_high,
        loss_type="grpo",
        scale_rewards=recipe.scale_rewards,
        temperature=recipe.temperature,
        num_generations=recipe.num_generations,
        per_device_train_batch_size=profile.micro_batch,
        gradient_accumulation_steps=rollouts // profile.micro_batch,
        max_completion_length=profile.max_completion_length,
        bf16=dtype == "bfloat16",
        fp16=dtype == "float16",
        gradient_checkpointing=device != "cpu",
        use_cpu=device == "cpu",
        logging_steps=1,
        save_steps=profile.eval_every,
        save_total_limit=1,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=device != "cpu",
    )


def train(recipe="grpo", profile="nano", seed=0, out=None, resume=False, progress=None):
    """Train one policy with GRPO -> path of the run directory.

    Args:
        recipe: name or `Recipe`; `get_recipe("grpo", learning_rate=1e-3)` changes one thing.
        profile: name or `Profile`; `get_profile("nano", steps=20)` likewise.
        seed: of the prompts drawn, their order and the rollouts. The base policy is the same for all seeds.
        out: the run directory; default `out/<recipe>/seed-<seed>`.
        resume: go on from the last checkpoint in `out`; the log is then the same as an uninterrupted run's.
        progress: called with each row of the log as it is written.

    Raises:
        ValueError: unknown recipe or profile, or settings that do not fit together.
        RunError: `out` cannot be written, holds a run already, or holds another run than the one to resume.
    """
    recipe, profile = get_recipe(recipe), get_profile(profile)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be a non-negative int, not {seed!r}")
    out = Path(out or Path("out") / recipe.name / f"seed-{seed}")
    identity = {"recipe": asdict(recipe), "profile": asdict(profile), "seed": seed}
    check_folder(out, identity, resume)
    began = time.perf_counter()
    try:
        set_seed(seed)
        model, tokenizer = load_policy(profile)
        arguments = grpo_config(recipe, profile, seed, out, model.device.type)
        checkpoint = get_last_checkpoint(arguments.output_dir) if resume and (out / "checkpoints").exists() else None
        counts = _rewind(out, checkpoint)
        data = load_splits(profile, seed, tokenizer)
        bank = DemoBank(data.train) if data.hard_families else None
        rows = training_rows(data.train, tokenizer)
        recorder = RolloutRecorder(get_reward(recipe.reward), recipe.num_generations, out / "rollouts.jsonl", counts)
        log = RunLog(
            out / "log.jsonl", counts, every=profile.eval_every, progress=progress,
            evaluate_policy=lambda policy: evaluate(
                policy, tokenizer, data.held_out, profile.max_completion_length, bank, data.hard_families
            ),
        )
        config = {
            "command": command_line(), **identity, "learning_rate": arguments.learning_rate,
            "base_model_hash": model_hash(model), "device": model.device.type, "versions": software_versions(),
            "train_samples": len(data.train), "held_out_samples": len(data.held_out), "left_out": data.left_out,
        }
        write_json(out / "config.json", config)
        trainer = GRPOTrainer(
            model=model, reward_funcs=recorder, args=arguments, train_dataset=rows, processing_class=tokenizer,
            callbacks=[log],
        )
        adapters_to_float32(trainer.model)  # TRL rounds QLoRA adapters to bfloat16: small updates would vanish
        trainer.remove_callback(PrinterCallback)  # `progress` shows the log instead
        trainer.train(resume_from_checkpoint=checkpoint)
        trainer.save_model(str(out / "final"))
        write_json(out / "summary.json", {**summarize(out), "wall_seconds": round(time.perf_counter() - began, 1)})
    except OSError as error:
        raise RunError(
            f"cannot write the run to {out}: {error}. Free some space or choose another folder; what is on disk is kept "
            "and resume=True goes on from the last checkpoint"
        ) from error
    return out
