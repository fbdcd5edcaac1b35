"""A few supervised steps that teach a model the form of an answer, before GRPO.

GRPO learns from differences between rewards. A model that never writes a tool call earns nothing
anywhere, so it has nothing to learn from; some dozen steps on gold answers get it started. A plain
loop: next-token loss on the completion only, AdamW, constant learning rate. All numbers are our
assumptions.
"""

import logging
import random

import torch
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pad_sequence

from .prompts import gold_completion, render_prompt

logger = logging.getLogger(__name__)
IGNORED = -100  # the label that cross-entropy skips


def encode_row(sample, tokenizer):
    """One sample -> (input ids, labels), two lists of equal length.

    Prompt and completion are tokenised apart, as they are in sampling, and the completion ends with the
    end-of-turn token, so that stopping is learnt too. Prompt tokens have the label `IGNORED`.
    """
    prompt = tokenizer(render_prompt(sample, tokenizer), add_special_tokens=False).input_ids
    completion = tokenizer(gold_completion(sample), add_special_tokens=False).input_ids
    completion = completion + [tokenizer.eos_token_id]
    return prompt + completion, [IGNORED] * len(prompt) + completion


def sft_warm_start(model, tokenizer, samples, steps, batch_size=8, learning_rate=None, seed=0, max_tokens=512,
                   dtype="float32", progress=None):  # fmt: skip
    """Train `model` in place on the gold answers of `samples` -> list of losses, one per step.

    Args:
        steps: optimizer steps; rows are drawn in a new random order each time all have been seen.
        batch_size: rows per step, in one forward pass.
        learning_rate: None is 3e-5 for full weights and 2e-4 for LoRA adapters.
        max_tokens: rows longer than this, prompt and answer together, are left out, never cut: a cut
            answer would teach to stop early.
        dtype: precision of the arithmetic, as `pick_dtype` gives it.
        progress: called as `progress(step, loss)` after each step; loss in nats per completion token.

    Raises:
        ValueError: no row fits into `max_tokens`, or the loss is not finite.
    """
    rows = [encode_row(sample, tokenizer) for sample in samples]
    fitting = [row for row in rows if len(row[0]) <= max_tokens]
    if not fitting:
        shortest = min((len(ids) for ids, _ in rows), default=0)
        raise ValueError(
            f"none of {len(rows)} rows fits into max_tokens={max_tokens}; the shortest has {shortest} tokens"
        )
    if len(fitting) < len(rows):
        logger.warning("Warm start: %d of %d rows are longer than %d tokens and are left out.",
                       len(rows) - len(fitting), len(rows), max_tokens)  # fmt: skip
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
        ids, labels = (
            pad_sequence([torch.tensor(row[part], device=device) for row in batch], True, filler)
            for part, filler in ((0, tokenizer.pad_token_id), (1, IGNORED))
        )
        lengths = torch.tensor([len(row[0]) for row in batch], device=device)
        mask = (torch.arange(ids.shape[1], device=device) < lengths[:, None]).long()
        with autocast:
            loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        if not torch.isfinite(loss):
            raise ValueError(f"warm start: the loss is {loss.item()} at step {step}; lower the learning rate")
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        clip_grad_norm_(weights, 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        losses.append(loss.item())
        if progress is not None:
            progress(step, losses[-1])
    model.train(was_training)
    return losses
