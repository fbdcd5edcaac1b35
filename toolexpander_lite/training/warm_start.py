"""A few supervised steps that teach a model the form of an answer, before GRPO.

GRPO learns from differences between rewards. A model that never writes a tool call earns nothing
anywhere, so it has nothing to learn from; some dozen steps on gold answers get it started. A plain
loop: next-token loss on the completion only, AdamW, constant learning rate. All numbers are our
assumptions.
"""

import logging
import math
import random
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pad_sequence

from ..base.chat import render_chat
from ..base.errors import ModelError, SettingsError
from ..base.runs import write_json, write_jsonl
from ..base.settings import check_seed
from ..base.spelled_defaults import spelled_defaults
from ..evaluation.accuracy import evaluate
from ..evaluation.executed import evaluate_dialogues
from ..method.hard_sampling import PromptServer
from ..method.prompts import gold_completion, render_prompt
from ..models.hardware import pick_dtype
from ..models.policy import load_policy, model_hash
from ..variants.other_demonstrations import VariantBank
from ..variants.visit_pool import VisitPool
from .dialogues import dialogues_of, pack_own
from .record import command_line, here
from .resume import check_folder
from .splits import load_splits

logger = logging.getLogger(__name__)
IGNORED = -100  # the label that cross-entropy skips


def encode_row(sample, tokenizer, prompt=None):
    """One sample -> (input ids, labels), two lists of equal length.

    `prompt`: as it is shown, rendered; None asks the sample alone. Prompt and completion are tokenised apart, as they
    are in sampling, and the completion ends with the end-of-turn token, so that stopping is learnt too. Prompt tokens
    have the label `IGNORED`.
    """
    prompt = prompt or render_prompt(sample, tokenizer)
    completion = tokenizer(gold_completion(sample, prompt), add_special_tokens=False).input_ids
    prompt = tokenizer(prompt, add_special_tokens=False).input_ids
    completion = completion + [tokenizer.eos_token_id]
    return prompt + completion, [IGNORED] * len(prompt) + completion


def rows_that_fit(samples, tokenizer, max_tokens, prompts=None):
    """`encode_row` of every sample, less those longer than `max_tokens` -> list of (input ids, labels)."""
    prompts = prompts or [None] * len(samples)
    rows = [encode_row(sample, tokenizer, prompt) for sample, prompt in zip(samples, prompts, strict=True)]
    fitting = [row for row in rows if len(row[0]) <= max_tokens]
    if not fitting:
        shortest = min((len(ids) for ids, _ in rows), default=0)
        raise ValueError(
            f"none of {len(rows)} rows fits into max_tokens={max_tokens}; the shortest has {shortest} tokens"
        )
    if len(fitting) < len(rows):
        logger.warning("Warm start: %d of %d rows are longer than %d tokens and are left out.",
                       len(rows) - len(fitting), len(rows), max_tokens)  # fmt: skip
    return fitting


def _taught(row):
    """Tokens of a row that have a label."""
    return sum(label != IGNORED for label in row[1])


def _padded(rows, pad_token_id, device):
    """Rows of `encode_row` -> what a model takes, padded on the right."""
    ids, labels = (
        pad_sequence([torch.tensor(row[part], device=device) for row in rows], True, filler)
        for part, filler in ((0, pad_token_id), (1, IGNORED))
    )
    lengths = torch.tensor([len(row[0]) for row in rows], device=device)
    mask = (torch.arange(ids.shape[1], device=device) < lengths[:, None]).long()
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def sft_warm_start(model, tokenizer, samples, steps, batch_size=8, learning_rate=None, seed=0, max_tokens=512,
                   dtype="float32", progress=None, prompts=None, rows_at_once=1):  # fmt: skip
    """Train `model` in place on the gold answers of `samples` -> list of losses, one per step.

    Args:
        prompts: a rendered prompt per sample, None for those that are asked alone; None asks all of them so.
        steps: optimizer steps; rows are drawn in a new random order each time all have been seen.
        batch_size: rows per step.
        learning_rate: None is 3e-5 for full weights and 2e-4 for LoRA adapters.
        max_tokens: rows longer than this, prompt and answer together, are left out, never cut: a cut
            answer would teach to stop early.
        dtype: precision of the arithmetic, as `pick_dtype` gives it.
        progress: called as `progress(step, loss)` after each step; loss in nats per completion token.
        rows_at_once: rows per forward pass. The scores of all words of a vocabulary take most of the memory: at
            SmolLM2's 49,152 words and 640 tokens 0.12 GB a row, several times over.

    Raises:
        ValueError: no row fits into `max_tokens`, or the loss is not finite.
    """
    fitting = rows_that_fit(samples, tokenizer, max_tokens, prompts)
    weights = [p for p in model.parameters() if p.requires_grad]
    adapters = len(weights) < sum(1 for _ in model.parameters())
    optimizer = torch.optim.AdamW(weights, lr=learning_rate or (2e-4 if adapters else 3e-5), weight_decay=0.0)
    device = next(model.parameters()).device
    autocast = torch.autocast(device.type, getattr(torch, dtype), enabled=dtype != "float32")
    # float16 has little range: the loss is scaled up, or small gradients would become 0.
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == "float16")
    rng, queue, losses = random.Random(seed), [], []
    was_training = model.training
    model.train()
    for step in range(1, steps + 1):
        while len(queue) < batch_size:
            queue += rng.sample(fitting, len(fitting))
        batch, queue = queue[:batch_size], queue[batch_size:]
        total, losses = sum(_taught(row) for row in batch), [*losses, 0.0]
        for start in range(0, len(batch), rows_at_once):
            part = batch[start : start + rows_at_once]
            with autocast:
                loss = model(**_padded(part, tokenizer.pad_token_id, device)).loss
            loss = loss * (sum(_taught(row) for row in part) / total)  # the mean over all tokens of the step
            scaler.scale(loss).backward()
            losses[-1] += loss.item()
        if not math.isfinite(losses[-1]):
            raise ValueError(f"warm start: the loss is {losses[-1]} at step {step}; lower the learning rate")
        scaler.unscale_(optimizer)
        clip_grad_norm_(weights, 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        if progress is not None:
            progress(step, losses[-1])
    model.train(was_training)
    return losses


def check_warmable(profile):
    """Refuse a profile without a warm start, or with an adapter for a model."""
    if not profile.warm_start_steps:
        raise SettingsError(f"profile {profile.name!r} has no warm start; set warm_start_steps")
    if Path(profile.model, "adapter_config.json").is_file():
        raise ModelError(
            f"{profile.model} is an adapter, and a warm start trains all weights of a whole model: warm-start the base "
            "that its adapter_config.json names, or go on from the adapter with `train`, which needs no warm start"
        )


def rows_to_teach(data, profile, tokenizer, seed, demonstrations, talks=None):
    """What a warm start learns from -> (samples, a prompt or None for each, tokens of the longest prompt).

    A row of several turns (`talks`: `dialogues.Dialogues`) becomes one for each turn, the end included. With
    `demonstrations` each comes once more, as hard sampling would show it, uninvited, if one is admissible and fits.
    """
    taught = data.set_aside or data.train
    prompts, longest = [None] * len(taught), profile.max_prompt_tokens
    if talks is not None and demonstrations:
        raise SettingsError("a warm start with demonstrations is for rows of single turns")
    if talks is not None:
        taught, prompts = zip(*(row for sample in taught for row in turns_to_teach(talks, sample, tokenizer)))
        longest += profile.max_completion_length
    elif demonstrations:
        longest += profile.demo_room
        pool = VisitPool([sample.id for sample in taught], fresh=False)
        server = PromptServer(pool, VariantBank(taught), taught, tokenizer, max_prompt_tokens=longest, seed=seed)
        shown = [(sample, prompt) for sample in taught if (prompt := server.demonstrate(sample)[0])]
        taught, prompts = [*taught, *(s for s, _ in shown)], [*prompts, *(p for _, p in shown)]
    return taught, prompts, longest


def turns_to_teach(talks, sample, tokenizer):
    """Each turn of a solved dialogue -> [(the sample with that turn's calls, the prompt before it)]; last no call."""
    task = talks.tasks[sample.id]
    messages = [*talks.opened(sample)[:-1], *talks.solved(task)]
    places = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    prompts = [render_chat(messages[:place], sample.tools, tokenizer) for place in places]
    return [(replace(sample, calls=calls), prompt) for calls, prompt in zip([*task.turns, []], prompts, strict=True)]


def build_warm_start(profile, out, seed=0, progress=None, demonstrations=False):
    """Warm-start a profile's model on training rows -> folder of the new model, `out/final`.

    The rows are those that the profile sets aside for this, so that the run that follows begins on rows it has not
    learnt by heart; where none are set aside, those that a run of this seed trains on. `config.json` says which.

    All weights are trained, unquantised (the adapters of the run that follows sit on top of the result), for
    `profile.warm_start_steps` steps. `out` becomes a run directory like those of `train`, with the held-out
    accuracy before and after, so that the share of a final score that is owed to this step can be shown.

    `demonstrations`: each row is there a second time, with another row of them as a demonstration in front, so that the
    policy learns what hard sampling takes for granted: to read a demonstration without copying it (our assumption).

    Raises:
        SettingsError: the profile has no warm start, or an impossible seed.
        ModelError: its model is an adapter, whose base is frozen.
        RunError: `out` cannot be written or holds a run already.
    """
    check_seed(seed)
    check_warmable(profile)
    out = Path(out)
    check_folder(out, identity={}, resume=False)
    began = time.perf_counter()
    torch.manual_seed(seed)
    model, tokenizer = load_policy(replace(profile, quantization=None, lora_rank=0))
    data = load_splits(profile, seed, tokenizer)
    talks, dtype = dialogues_of(profile, data.tasks), pick_dtype(profile.dtype)
    taught, prompts, longest = rows_to_teach(data, profile, tokenizer, seed, demonstrations, talks)

    def held_out_scores():
        autocast = torch.autocast(model.device.type, getattr(torch, dtype), enabled=dtype != "float32")
        with autocast, spelled_defaults(profile.spelled_defaults):
            if talks is not None:
                return evaluate_dialogues(model, tokenizer, data, profile.max_completion_length, talks.episodes)
            return evaluate(model, tokenizer, data.held_out, profile.max_completion_length)

    write_json(out / "config.json", {
        "command": command_line(), "profile": asdict(profile), "seed": seed, "learning_rate": 3e-5, "rows_per_step": 8,
        "base_model_hash": model_hash(model), **here(),
        "trained_on": len(taught), "own_rows_of_the_run": not data.set_aside, "held_out_samples": len(data.held_out),
        "left_out": data.left_out, "with_a_demonstration": len(prompts) - prompts.count(None),
    })  # fmt: skip
    before = held_out_scores()
    trained = time.perf_counter()
    losses = sft_warm_start(
        model, tokenizer, taught, profile.warm_start_steps, learning_rate=3e-5, seed=seed, dtype=dtype,
        progress=progress, max_tokens=longest + profile.max_completion_length, prompts=prompts,
    )  # fmt: skip
    seconds = round(time.perf_counter() - trained, 1)
    rows = [{"step": 0, "eval": before}, *({"step": i + 1, "loss": round(x, 5)} for i, x in enumerate(losses))]
    rows[-1]["eval"] = held_out_scores()
    write_jsonl(out / "log.jsonl", rows)
    model.save_pretrained(out / "final")
    tokenizer.save_pretrained(out / "final")
    pack_own(profile, out / "final", False)
    write_json(out / "summary.json", {
        "steps": len(losses), "rows_per_step": 8, "seconds": seconds, "zero_shot_before": before["zero_shot"],
        "zero_shot": rows[-1]["eval"]["zero_shot"], "wall_seconds": round(time.perf_counter() - began, 1),
    })  # fmt: skip
    return out / "final"
