"""What a run writes down while it goes: rollouts, one line per step, and where its rounds end."""

import ctypes
import errno
import json
import math
import os
import shlex
import sys
import time
from collections import Counter
from contextlib import contextmanager
from functools import wraps
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import TrainerCallback

from ..base.errors import RunError, RunStopped
from ..base.groups import group_outcomes
from ..base.processes import gather, is_first, on_first
from ..base.runs import append_jsonl, read_jsonl, software_versions, write_jsonl
from ..method.calls import whole_answers
from ..method.rewards import judge_all
from ..models.hardware import describe_hardware, processor_name
from ..variants.other_self_examples import example_reasons, trivial_share
from .distributed import shards_weights
from .resume import LOGS, step_of

# TRL's own metric names, plus ours ("format_rate", "groups/...", and the cumulative counts).
LOGGED = (
    "loss", "grad_norm", "learning_rate", "reward", "reward_std", "frac_reward_zero_std", "entropy", "kl",
    "completions/mean_length", "completions/clipped_ratio", "clip_ratio/low_mean", "clip_ratio/high_mean",
    "format_rate", "task_reward", "groups/all_fail", "groups/all_pass",
    "examples/rate", "examples/tried", "examples/right", "examples/senseless", "examples/trivial",
    "executed/tool_faults", "tools/call_frequency", "tools/failure_frequency", "tools/refused", "tools/no_room",
    "distil/rows", "distil/loss", "distil/replayed", "distil/withheld",
)  # fmt: skip
SERVED = ("sample_id", "served", "scheduled", "fallback")  # columns that say what a place of a batch was filled with
TEXT_KEPT = 4000  # characters of a prompt's end, and of a completion's beginning, that rollouts.jsonl keeps
STOP = "stop"  # a file of this name in the run directory ends the run after the step at hand


def is_step(logs):
    """Does TRL log an optimizer step here, and not its closing summary?"""
    return "loss" in logs


class RolloutRecorder:
    """The task reward, with a note of every group: what was asked, what came back, why it failed.

    A reward function in TRL's signature. It counts rollouts and completion tokens, reports the shares of
    all-fail and all-pass groups (`frac_reward_zero_std` mixes them), and appends one line per group to
    rollouts.jsonl: prompt, completions (cut at `TEXT_KEPT`), a reward and a reason code for each, and what bonuses
    paid that are `noted`. `completion_tokens` counts every rollout.

    Args:
        counts: {"rollouts", "completion_tokens"}, cumulative, shared with the log.
        examples, needed: also tell what became of self-written examples, by `other_self_examples.judge_examples`.
        think: as in `rewards.judge_all`.

    judge: function that tells the verdicts of the last batch, where the task reward has reached them itself.

    `also`: function (sample_id, served, completion_ids, rewards) that hears of each batch, or None.
    """

    also = None

    def __init__(self, reward, num_generations, path, counts, examples=False, needed=0, think=True,
                 judge=None):  # fmt: skip
        self.judge = judge
        self.reward, self.num_generations, self.path, self.counts = reward, num_generations, path, counts
        self.examples, self.needed, self.think = examples or needed > 0, needed, think
        self.__name__ = reward.__name__  # names the metric "rewards/<name>/mean"
        self.bonuses, self.lines, self.awaited = 0, [], 0

    def noted(self, bonus):
        """A bonus (a reward function, called after this one) -> the same, with its rewards beside the task's."""
        self.bonuses += 1

        @wraps(bonus)
        def paid(**columns):
            rewards = bonus(**columns)
            for n, line in enumerate(self.lines):
                here = rewards[n * self.num_generations : (n + 1) * self.num_generations]
                before = line.get("bonus", [0.0] * len(here))
                line["bonus"] = [x + (reward or 0.0) for x, reward in zip(before, here)]
            self._write()
            return rewards

        return paid

    def _write(self):
        """Write the lines of a batch when the last bonus is known."""
        self.awaited -= 1
        if self.awaited < 0:
            lines = gather(self.lines)
            if is_first():
                append_jsonl(self.path, *lines)

    def __call__(self, prompts, completions, completion_ids, calls, tools, trainer_state, log_metric, hint=None,
                 **columns):  # fmt: skip
        if hint:  # the policy was given the beginning of its answer, and is judged on the whole
            completions = [given + written for given, written in zip(hint, completions)]
        completions = whole_answers(prompts, completions)  # so is a think block that the prompt has opened
        rewards = self.reward(
            prompts=prompts, completions=completions, calls=calls, tools=tools, log_metric=log_metric,
            trainer_state=trainer_state, **{name: columns.get(name) for name in SERVED},
            **({"completion_ids": completion_ids, "environments": columns["environments"]} if self.judge else {}),
        )  # fmt: skip
        verdicts = self.judge() if self.judge else judge_all(completions, calls, tools, self.think)
        if self.judge:  # messages become JSON text, which fits any table
            prompts, completions = ([json.dumps(m, ensure_ascii=False) for m in c] for c in (prompts, completions))
        outcomes = group_outcomes([float(v.reason == "ok") for v in verdicts], self.num_generations)
        log_metric("task_reward", sum(rewards) / len(rewards))
        log_metric("groups/all_fail", outcomes["all_fail"])
        log_metric("groups/all_pass", outcomes["all_pass"])
        if self.needed and (share := trivial_share(prompts, completions)) is not None:
            log_metric("examples/trivial", share)
        self.counts["rollouts"] += sum(gather([len(completions)]))
        self.counts["completion_tokens"] += sum(gather([sum(map(len, completion_ids))]))
        self.lines, self.awaited = [], self.bonuses
        for start in range(0, len(completions), self.num_generations):
            group = slice(start, start + self.num_generations)
            place = {name: columns[name][start] for name in (*SERVED, "family") if columns.get(name)}
            reasons = [v.reason for v in verdicts[group]]
            line = {
                "step": trainer_state.global_step + 1, "sample_id": place["sample_id"], "family": place["family"],
                "served": place.get("served", "plain"), "rewards": rewards[group], "reasons": dict(Counter(reasons)),
                "prompt": prompts[start][-TEXT_KEPT:], "completions": [c[:TEXT_KEPT] for c in completions[group]],
                "verdicts": reasons,
            }  # fmt: skip
            if place.get("scheduled", place["sample_id"]) != place["sample_id"]:
                line["scheduled"] = place["scheduled"]  # the sample whose place this one fills
            if place.get("fallback"):
                line["fallback"] = place["fallback"]
            if self.examples:
                line["examples"] = example_reasons(prompts[group], completions[group], tools[group], self.needed)
            self.lines.append(line)
        self._write()
        if self.also:
            self.also(columns["sample_id"], columns["served"], completion_ids, rewards)
        return rewards


class RunLog(TrainerCallback):
    """Writes log.jsonl: TRL's metrics of each optimizer step, cumulative counts, the pool's, and evaluations.

    "seconds" is the time inside steps: sampling, rewards and updates. Evaluations, checkpoints and the rendering of
    prompts, which the loader does before a step begins, are not in it (a few hundredths of a nano step).

    `gold`: tokens of a supervised step, which are counted as completion tokens.
    """

    def __init__(self, path, counts, evaluate_policy, every, progress, pool=None, gold=0):
        self.path, self.counts, self.evaluate_policy, self.pool = path, counts, evaluate_policy, pool
        self.every, self.progress, self.gold = every, progress, gold

    def write(self, row, model, last=False):
        if self.pool is not None:
            row["pool"] = self.pool.counts()
            row["fallbacks"] = dict(self.pool.fallbacks)
        if row["step"] % self.every == 0 or last:
            row["eval"] = self.evaluate_policy(model)  # in every process: none may wait too long, or lacks a part
        row = _rounded(row)
        if is_first():
            append_jsonl(self.path, row)
        if is_first() and self.progress:
            self.progress(row)

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step == 0:
            self.write({"step": 0, **self.counts}, model)

    def on_step_begin(self, args, state, control, **kwargs):
        self.began, self.before = time.perf_counter(), (self.counts["rollouts"], state.num_input_tokens_seen)

    def on_step_end(self, args, state, control, **kwargs):
        self.counts["seconds"] += time.perf_counter() - self.began  # evaluations and checkpoints not counted
        self.counts["completion_tokens"] += self.gold

    def on_log(self, args, state, control, logs=None, model=None, **kwargs):
        if not is_step(logs):
            return
        if "num_tokens" in logs and "tools/call_frequency" in logs:  # TRL's tokens are without what the tools answered
            rollouts, seen = self.before
            written = round(logs["completions/mean_length"] * (self.counts["rollouts"] - rollouts))
            self.counts["prompt_tokens"] += int(logs["num_tokens"]) - seen - written
        elif "num_tokens" in logs:  # not in those of a further update on the same rollouts
            trained = self.counts["completion_tokens"] - self.counts.get("scan_tokens", 0)
            self.counts["prompt_tokens"] = int(logs["num_tokens"]) - trained
        metrics = {name: logs[name] for name in LOGGED if name in logs}
        row = {"step": state.global_step, **metrics, **self.counts}
        self.write(row, model, last=state.global_step == state.max_steps)


# How rounds.jsonl writes the states of a `HardSamplePool` or a `baselines.VisitHistory`.
STATE_LETTERS = {"unseen": ".", "plain": "p", "failed": "f", "demonstrated": "d", "retest": "t", "returned": "r",
                 "solved": "s"}  # fmt: skip


class RoundLog(TrainerCallback):
    """Closes the pool's rounds and writes rounds.jsonl; keeps pool and bank with each checkpoint.

    A line of rounds.jsonl: {"round", "step", "states": {family: a letter of `STATE_LETTERS` for each sample}}, as the
    round ends.
    """

    def __init__(self, pool, bank, round_steps, out, samples):
        self.pool, self.bank, self.round_steps, self.path = pool, bank, round_steps, out / "rounds.jsonl"
        self.families = [s.family for s in samples]

    def on_train_begin(self, args, state, control, **kwargs):
        """Drop the line of an unfinished round, which a shorter run wrote at its last step."""
        if not is_first():
            return
        rounds = read_jsonl(self.path) if self.path.exists() else []
        whole = [row for row in rounds if row["step"] % self.round_steps == 0 or row["step"] == state.max_steps]
        write_jsonl(self.path, whole)

    def on_log(self, args, state, control, logs=None, **kwargs):
        # Not `on_step_end`: all of those run before any log, and a step's row shows the pool before the round closes.
        if not is_step(logs) or (state.global_step % self.round_steps and state.global_step < state.max_steps):
            return
        states = dict.fromkeys(self.families, "")
        for family, name in zip(self.families, self.pool.states()):
            states[family] += STATE_LETTERS[name]
        line = {"round": -(-state.global_step // self.round_steps), "step": state.global_step, "states": states}
        if is_first():
            append_jsonl(self.path, line)
        if state.global_step % self.round_steps == 0:
            self.pool.end_round(state.global_step)

    def on_save(self, args, state, control, **kwargs):
        if not is_first():
            return
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        self.bank.save(checkpoint / "demonstrations.json")
        self.pool.save(checkpoint / "pool.json")


class WeightWatch(TrainerCallback):
    """Stops a run that trains nothing: there was a gradient, a step was made, and not one weight has changed.

    Compared are sums in float64, one per tensor that is trained. A gradient below 1e-6 is taken for rounding.

    Raises (when it is called):
        RunError: so it is, or the processes of a run hold different weights as it begins or ends.
    """

    LEAST_GRADIENT = 1e-6

    def __init__(self):
        self.before = None

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        if shards_weights():  # nobody sees them all
            return
        self.before = _weight_sums(model)
        self._check_alike(model)

    def on_train_end(self, args, state, control, model=None, **kwargs):
        if not shards_weights():
            self._check_alike(model)

    def _check_alike(self, model):
        sums = gather([_weight_sums(model)])
        if any(found != sums[0] for found in sums):
            raise RunError(
                "the processes of this run hold different weights, so it is no data-parallel run; start it by "
                "accelerate launch or torchrun, and with nothing but this kit in the script"
            )

    def on_log(self, args, state, control, logs=None, model=None, **kwargs):
        norm = logs.get("grad_norm", 0.0)
        if self.before is None or not is_step(logs) or not self.LEAST_GRADIENT < norm < math.inf:
            return
        if _weight_sums(model) == self.before:
            raise RunError(
                f"step {state.global_step} had a gradient of norm {norm:.3g} at learning rate "
                f"{logs.get('learning_rate', 0):.3g}, and no weight has changed: the optimizer does not hold the "
                "model's weights, they are frozen, or the step is lost in their rounding; raise the learning rate, or "
                "train in float32 or with adapters (lora_rank)"
            )
        self.before = None  # once is enough


class MemoryReturn(TrainerCallback):
    """Hands freed memory back to the system after each step that leaves much of it: on Linux, for training on a CPU.

    glibc keeps freed memory that lies below memory in use, and a process of SmolLM2-135M grew from step to step until
    the kernel ended it (looked at by hand, not benchmarked). What one step needs at its peak stays as it is.
    """

    def __init__(self, most=2 * 2**30):
        self.most, self.trim = most, getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None

    def on_step_end(self, args, state, control, **kwargs):
        statm = Path("/proc/self/statm")
        if self.trim and args.use_cpu and statm.exists():
            if int(statm.read_text().split()[1]) * os.sysconf("SC_PAGESIZE") > self.most:
                self.trim(0)


class StopOnRequest(TrainerCallback):
    """Ends training after the step at hand, with a checkpoint, when a file `STOP` is in the run directory.

    Whoever watches a run may ask: a button (`widgets.dashboard`), or `touch out/mine/stop` in another terminal.
    """

    def __init__(self, out):
        self.file = Path(out) / STOP

    def on_step_end(self, args, state, control, **kwargs):
        if on_first(self.file.exists):
            control.should_training_stop = control.should_save = True


def check_stopped(trainer, out):
    """Say that a run was stopped before its end, if it was, and take the request away.

    Raises:
        RunStopped: so it is; what is done is in the checkpoint.
    """
    step, steps = trainer.state.global_step, trainer.args.max_steps
    if step < steps:
        (Path(out) / STOP).unlink(missing_ok=True)
        raise RunStopped(f"{out} was stopped at step {step}, as asked; --resume (resume=True) goes on from there")


def _weight_sums(model):
    return [p.detach().sum(dtype=torch.float64).item() for p in model.parameters() if p.requires_grad]


def here():
    """What may differ between two runs of one identity, and is written down -> dict."""
    return {"machine": str(describe_hardware()), "processor": processor_name(), "versions": software_versions()}


def command_line():
    """The command line that started this run, its arguments as typed; from a notebook or script, just that."""
    called = Path(sys.argv[0]).stem in ("__main__", "toolexpander-lite")
    return f"python -m toolexpander_lite {shlex.join(sys.argv[1:])}" if called else "train() called from Python"


def _rounded(value):
    """Floats to 6 significant digits, recursively: logs stay small and diffs readable."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return value


def rewind(out, checkpoint, scans=False):
    """Cut the logs back to the checkpoint (or to nothing) -> the cumulative counts at that step.

    `scans`: those of scans and verification, which are in the other counts too, are kept apart as well. What was
    scanned before the first step stays.
    """
    step = step_of(checkpoint) if checkpoint else -1
    counts = {"rollouts": 0, "completion_tokens": 0, "prompt_tokens": 0, "seconds": 0.0}
    counts |= {"scan_rollouts": 0, "scan_tokens": 0} if scans else {}
    logs = {name: read_jsonl(out / name) for name in LOGS if (out / name).exists()}  # all, before one is written
    for name, rows in logs.items():
        kept = [row for row in rows if row["step"] <= (max(step, 0) if name == "scans.jsonl" else step)]
        write_jsonl(out / name, kept)
        if name == "log.jsonl" and kept:
            counts = {key: kept[-1][key] for key in counts}
    for name in ("summary.json", STOP):  # an old request to stop, too
        (out / name).unlink(missing_ok=True)
    return counts


@contextmanager
def disk_errors(out):
    """A full or unwritable disk becomes a `RunError` that says how to go on."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if not _could_not_write(error):
            raise
        raise RunError(
            f"cannot write the run to {out}: {error}. Free some space or choose another folder; what is on disk is "
            "kept and --resume (resume=True) goes on from the last checkpoint"
        ) from error


def _could_not_write(error):
    """Is this a full or unwritable disk? torch and safetensors say so in words only."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.EIO):
        return True
    return "No space left" in str(error) or "inline_container" in str(error) or "PytorchStreamWriter" in str(error)
