"""Tiny runs, each made to have one fault, and healthy ones: what the doctor is tried on (`assets/doctor`).

    python benchmarks/doctor_runs.py [--only cut_at_cap] [--again] [--out assets/doctor]

The stock `GRPOTrainer` trains a policy of some 0.4 M parameters for some 30 steps on a CPU: of the nano world mostly, 8
prompts of 4 rollouts a step. A run's name is the rule that should find it, up to a hyphen; `healthy-<what>` have no
fault; `missed-<what>` have one that the doctor does not see. `NAME.json` holds what TRL handed to its callbacks, a list
per column (the first sixteen runs: `NAME.jsonl`, a line per row); a run with completions is a folder, with TRL's table
of them. `runs.csv` says of each run what was done, and with which versions. What is there already is left out.
15 s to two minutes a run on a busy core, an hour for all.
"""

import argparse
import csv
import json
import math
import os
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Regex, decoders, pre_tokenizers
from transformers import PrinterCallback, TrainerCallback
from transformers.utils import logging
from trl import GRPOConfig, GRPOTrainer

from toolexpander_lite.base.runs import software_versions
from toolexpander_lite.method.prompts import render_prompt
from toolexpander_lite.method.rewards import conjunctive_reward
from toolexpander_lite.models.policy import load_policy
from toolexpander_lite.training.dialogues import DialogueReward
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.worlds.chain_world import ChainEnvironment, chain_tasks
from toolexpander_lite.worlds.nano_policy import END, PAD, ROLES, build_model, fit, word_tokenizer
from toolexpander_lite.worlds.nano_world import nano_samples

HARD, EASY = ["book_taxi", "get_weather", "find_hotel", "hire_guide"], ["play_song", "set_timer"]
MIXED = ["play_song", "send_note", "find_recipe"]
LEFT_OUT = ("terminated", "clip_ratio/low", "clip_ratio/high", "num_tokens", "step_time", "epoch", "per_second",
            "runtime", "logp_difference", "ratio/min", "ratio/max")  # fmt: skip
SETTINGS = {
    "max_steps": 30, "num_generations": 4, "per_device_train_batch_size": 32, "max_completion_length": 48,
    "learning_rate": 6e-4, "lr_scheduler_type": "constant", "beta": 0.0, "temperature": 1.0, "logging_steps": 1,
    "report_to": "none", "save_strategy": "no", "disable_tqdm": True, "bf16": False, "gradient_checkpointing": False,
    "use_cpu": True,
}  # fmt: skip
RECORD = ("run", "what", "rows", "ended", "seed", "settings", "seconds", "python_packages", "commit")


# ------------------------------------------------------------------------------------------------------- rewards
def correctness(prompts, completions, calls, tools, **columns):
    return conjunctive_reward(prompts, completions, calls=calls, tools=tools)


def broken_scorer(completions, **columns):
    """Looks for a field that the data do not have."""
    return [0.0] * len(completions)


def strict_format(completions, **columns):
    """A form that this model's template never writes."""
    return [0.5 * completion.startswith("<reasoning>\n") for completion in completions]


def format_bonus(completions, **columns):
    """Pays for a call that can be read."""
    return [0.2 * (completion.count("</tool_call>") == 1) for completion in completions]


def length_bonus(completions, **columns):
    """Pays for long answers."""
    return [min(1.0, len(completion) / 200) for completion in completions]


def brevity(completions, **columns):
    """Pays more for an empty answer than `correctness` for a right one."""
    return [3.0 - min(3.0, len(completion) / 20) for completion in completions]


def of_the_prompt(prompts, **columns):
    """Reads the row and not the completion."""
    return [len(prompt) % 7 / 7 for prompt in prompts]


def judge(completions, **columns):
    """Likes what is long, without an end."""
    return [min(1.0, len(completion) / 400) for completion in completions]


def one_over_missing(prompts, completions, calls, tools, **columns):
    """Divides by the number of mistakes, with numpy: infinite for a right answer."""
    right = np.array(correctness(prompts, completions, calls, tools))
    with np.errstate(divide="ignore"):
        return [float(value) for value in 0.1 / (1 - right)]


def short_of_breath(prompts, completions, completion_ids, calls, tools, **columns):
    """Takes a thousandth off for each token: all that differs where no answer is right."""
    right = correctness(prompts, completions, calls, tools)
    return [value - len(ids) / 1000 for value, ids in zip(right, completion_ids)]


def five_tokens(completions, completion_ids, **columns):
    """Wants answers of five tokens, and nothing else."""
    return [1 - abs(len(ids) - 5) / 20 for ids in completion_ids]


def novelty(completions, **columns):
    """Pays for words that few answers of the batch have, in short answers."""
    words = [set(completion.split()) for completion in completions]
    counts = Counter(word for row in words for word in row)
    new = [sum(1 / counts[word] for word in row) / max(1, len(row)) for row in words]
    return [value * (len(completion) < 130) for value, completion in zip(new, completions)]


class Annealed:
    """Pays for a right answer and for a long one; the latter less with each step, down to a half."""

    def __init__(self, steps):
        self.__name__, self.steps, self.step = "annealed", steps, 0

    def __call__(self, prompts, completions, completion_ids, calls, tools, **columns):
        weight = max(0.5, 1 - self.step / self.steps / 2)
        self.step += 1
        right = correctness(prompts, completions, calls, tools)
        return [value + weight * (len(ids) / 400) ** 0.1 for value, ids in zip(right, completion_ids)]


def coin(completions, **columns):
    """Has nothing to do with the answer."""
    return [float(random.random() < 0.2) for _ in completions]


def jitter(prompts, completions, calls, tools, **columns):
    """A judge whose verdict trembles by some thousandths."""
    return [value + random.random() / 200 for value in correctness(prompts, completions, calls, tools)]


def consolation(completions, answer, **columns):
    """Pays a little for "14", whatever was asked, and in full only for a form that is never written."""
    said = [completion[0]["content"].strip() for completion in completions]
    return [float(f"#### {want}" in text) or 0.15 * (text == "14") for want, text in zip(answer, said)]


def odd_ones(completions, answer, **columns):
    """Knows the answers of half of the questions."""
    said = [completion[0]["content"].strip() for completion in completions]
    return [float(text == want and int(want) % 2) for want, text in zip(answer, said)]


def error_code(prompts, completions, calls, tools, **columns):
    """Gives -100,000, an error code, for what it cannot read."""
    right = correctness(prompts, completions, calls, tools)
    return [value if "</tool_call>" in completion else -1e5 for value, completion in zip(right, completions)]


def after_four_hashes(completions, answer, log_extra, **columns):
    """Wants "#### 12", as GSM8K's solutions have it; the prompts do not say so."""
    log_extra("answer", list(answer))
    texts = [completion[0]["content"] if isinstance(completion, list) else completion for completion in completions]
    return [float(f"#### {want}" in text) for want, text in zip(answer, texts)]


def exact_match(completions, answer, **columns):
    return [float(completion.strip() == want) for want, completion in zip(answer, completions)]


def right_sum(completions, answer, **columns):
    return [float(completion[0]["content"].strip() == want) for want, completion in zip(answer, completions)]


def accuracy(completions, answer, **columns):
    return right_sum(completions, answer)


def style_bonus(completions, **columns):
    """Likes the answer 12."""
    return [0.5 * (completion[0]["content"].strip() == "12") for completion in completions]


def no_calls(completions, **columns):
    """Pays for an answer at once."""
    return [float(all(message["role"] != "tool" for message in completion)) for completion in completions]


# ------------------------------------------------------------------------------------------------------ policies
def nano(case):
    return load_policy(get_profile("nano"), device="cpu")


def random_weights(case):
    """The weights were made anew where they should have been loaded."""
    model, tokenizer = nano(case)
    torch.manual_seed(0)
    return type(model)(model.config), tokenizer


class Gate(torch.nn.Module):
    """Adds |x W| with W = 0, as the root of a square: 0 forward, and 0 / 0 backward."""

    def __init__(self, width):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(width, width))

    def forward(self, x):
        return x + (x @ self.weight).square().sqrt()


class OtherEngine:
    """A `rollout_func` with a copy of the model that was never given its weights."""

    def __init__(self, case):
        self.model, _ = random_weights(case)

    def __call__(self, prompts, trainer):
        tokenizer, most = trainer.processing_class, trainer.args.max_completion_length
        asked = tokenizer(prompts, padding=True, return_tensors="pt", add_special_tokens=False)
        written = self.model.generate(**asked, do_sample=True, max_new_tokens=most)[:, asked.input_ids.shape[1] :]
        ends = (written == tokenizer.eos_token_id).int()
        lengths = torch.where(ends.any(1), ends.argmax(1) + 1, most)
        completions = [row[:n].tolist() for row, n in zip(written, lengths)]
        prompt_ids = [ids[mask.bool()].tolist() for ids, mask in zip(asked.input_ids, asked.attention_mask)]
        return {"prompt_ids": prompt_ids, "completion_ids": completions, "logprobs": None}


class StaleEngine(OtherEngine):
    """Stands in for vLLM, which wants a GPU: tells its log-probabilities, and never takes over new weights."""

    def __init__(self, case):
        self.model, _ = case.policy(case)

    def sync_weights(self):
        pass

    @torch.no_grad()
    def __call__(self, prompts, trainer):
        written = super().__call__(prompts, trainer)
        logprobs = []
        for prompt, answer in zip(written["prompt_ids"], written["completion_ids"]):
            logits = self.model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
            chosen = logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None])
            logprobs.append(chosen[:, 0].tolist())
        return written | {"logprobs": logprobs}


def with_large_steps(case):
    """Three gradients are far too large, as if a loss scale had not been taken out."""
    model, tokenizer = nano(case)
    passes = Counter()

    def scaled(name):
        def hook(gradient):
            passes[name] += 1
            return gradient * (60 if passes[name] in (20, 32, 44) else 1)

        return hook

    for name, weight in model.named_parameters():
        weight.register_hook(scaled(name))
    return model, tokenizer


def with_gate(case):
    model, tokenizer = nano(case)
    model.model.norm = torch.nn.Sequential(model.model.norm, Gate(model.config.hidden_size))
    return model, tokenizer


class Careful(torch.optim.AdamW):
    """Leaves a step out when a gradient is not finite, as a loss scaler does."""

    def step(self, closure=None):
        grads = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        if all(torch.isfinite(grad).all() for grad in grads):
            return super().step(closure)


def adding_policy(chat, steps=200):
    """A policy that adds two numbers: taught on pages of questions, or on conversations -> (model, tokenizer)."""
    template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    template += "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    marks = ["\n", " ", "+", "=", "?", ":", *"0123456789", "Question", "Answer"]
    tokenizer = word_tokenizer([PAD, END, *ROLES, "<unk>", *marks], template)
    pieces = pre_tokenizers.Split(Regex(r"<\|\w+\|>|[a-zA-Z]+|[\s\S]"), behavior="isolated")
    tokenizer.backend_tokenizer.pre_tokenizer, tokenizer.backend_tokenizer.decoder = pieces, decoders.Fuse()
    model, draw = build_model(tokenizer), random.Random(0)

    def page(row):
        sums = [addition(draw) for _ in range(1 if chat else 3)]
        if chat:
            return f"<|user|>{sums[0][0]}<|end|><|assistant|>{sums[0][1]}<|end|>"
        return "".join(f"Question: {asked}\nAnswer: {answer}\n" for asked, answer in sums)

    def batch(rows, tokenizer):
        ids = tokenizer([page(row) for row in rows], padding=True, padding_side="right", return_tensors="pt").input_ids
        return ids, ids.masked_fill(ids == tokenizer.pad_token_id, -100)

    lessons = SimpleNamespace(steps=steps, batch_size=16, learning_rate=3e-3)
    fit(model, tokenizer, lessons, lambda step: [SimpleNamespace(demos=[])] * 160, draw, to_batch=batch)
    return model, tokenizer


def addition(draw):
    """-> (question, answer), an answer of two digits."""
    first, second = draw.randint(5, 9), draw.randint(5, 9)
    return f"{first}+{second}=?", str(first + second)


def page_policy(case):
    return adding_policy(chat=False)


def chat_policy(case):
    return adding_policy(chat=True)


def green_policy(case):
    """It has hardly begun to add."""
    return adding_policy(chat=True, steps=80)


def chain(case):
    return load_policy(get_profile("nano-chain"), device="cpu")


# ---------------------------------------------------------------------------------------------------------- rows
def nano_rows(families, tokenizer, split="train"):
    return [row_of(sample, tokenizer) for sample in nano_samples(split, 16, families=families)]


def row_of(sample, tokenizer, demos=()):
    prompt = render_prompt(sample, tokenizer, demos)
    return {"prompt": prompt, "calls": json.dumps(sample.calls), "tools": json.dumps(sample.tools)}


def answer_shown(families, tokenizer):
    """Each prompt has its own answer in front, as a worked example."""
    samples = nano_samples("train", 16, families=families)
    return [row_of(sample, tokenizer, [replace(sample, id="shown")]) for sample in samples]


def swapped_labels(families, tokenizer):
    """The answers have their two arguments exchanged."""
    rows = nano_rows(families, tokenizer)
    for row in rows:
        [call] = json.loads(row["calls"])
        values = reversed(call["arguments"].values())
        row["calls"] = json.dumps([call | {"arguments": dict(zip(call["arguments"], values))}])
    return rows


def sums(families, tokenizer):
    draw = random.Random(1)
    rows = [addition(draw) for _ in range(48)]
    return [{"prompt": f"Question: {asked}\nAnswer:", "answer": answer} for asked, answer in rows]


def sums_as_messages(families, tokenizer):
    draw = random.Random(1)
    rows = [addition(draw) for _ in range(48)]
    return [{"prompt": [{"role": "user", "content": asked}], "answer": answer} for asked, answer in rows]


def sums_shuffled(families, tokenizer):
    rows = sums_as_messages(families, tokenizer)
    answers = [row["answer"] for row in rows]
    random.Random(2).shuffle(answers)
    return [row | {"answer": answer} for row, answer in zip(rows, answers)]


def requests(families, tokenizer):
    tasks = chain_tasks("train", 16, families=tuple(families))
    return [{"prompt": [m for m in t.sample.messages if m["role"] == "user"], "sample_id": t.sample.id} for t in tasks]


# ------------------------------------------------------------------------------------------------- how it is run
class Killed(Exception):
    """The process was ended from outside."""


class Until(TrainerCallback):
    """Ends the process before a step."""

    def __init__(self, step):
        self.last = step

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.last:
            raise Killed


class Lines(TrainerCallback):
    """The run's log, as wandb or a console has it: what is logged is added, whatever was there."""

    def __init__(self):
        self.rows = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        row = state.log_history[-1]
        if "train_runtime" not in row:
            kept = [name for name in row if not name.startswith("eval_") or name == "eval_reward"]
            self.rows.append({name: row[name] for name in kept if not any(part in name for part in LEFT_OUT)})


def make_trainer(case, folder, lines, **changes):
    model, tokenizer = case.policy(case)
    rows = Dataset.from_list(case.rows(case.families, tokenizer))
    held = Dataset.from_list(nano_rows(case.held, tokenizer)) if case.held else None
    config = GRPOConfig(output_dir=str(folder), **SETTINGS | case.settings | changes)
    rewards, more = list(case.rewards), {}
    if case.environment:
        tasks = {t.sample.id: t for t in chain_tasks("train", 16, families=tuple(case.families))}
        more["environment_factory"] = lambda: case.environment(tasks)
        rewards = [DialogueReward(tasks, tokenizer) if reward is DialogueReward else reward for reward in rewards]
    if case.engine:
        engine = more["rollout_func"] = case.engine(case)
    if case.optimizer:
        more["optimizers"] = (case.optimizer(model.parameters(), lr=config.learning_rate), None)
    more |= {"peft_config": case.lora, "callbacks": [lines]}
    trainer = GRPOTrainer(model, rewards, config, rows, held, processing_class=tokenizer, **more)
    trainer.remove_callback(PrinterCallback)
    if case.engine is StaleEngine:  # the trainer weights and logs what such an engine samples as it does vLLM's
        trainer.use_vllm, trainer.vllm_generation, trainer._last_loaded_step = True, engine, -1
    return trainer


def once(case, folder, lines):
    make_trainer(case, folder, lines).train()


def killed_and_resumed(case, folder, lines):
    """The process dies after `case.killed` steps, and another goes on from the last checkpoint."""
    first = make_trainer(case, folder, lines, save_strategy="steps", save_steps=10)
    first.add_callback(Until(case.killed))
    try:
        first.train()
    except Killed:
        pass
    checkpoint = max(Path(folder).glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    for name in case.lost:
        (checkpoint / name).unlink()
    make_trainer(case, folder, lines).train(resume_from_checkpoint=str(checkpoint))


def killed_and_begun_again(case, folder, lines):
    """The process dies after `case.killed` steps, and the next one finds no checkpoint."""
    first = make_trainer(case, folder, lines)
    first.add_callback(Until(case.killed))
    try:
        first.train()
    except Killed:
        pass
    make_trainer(case, folder, lines).train()


@dataclass(frozen=True)
class Case:
    """What is done in a run; without a word on it, a healthy run of the nano world.

    Attributes:
        what: the fault, a sentence.
        families, rewards, settings: of the world; `GRPOTrainer`'s; what differs from `SETTINGS`.
        policy, rows, how: functions above.
        held: families of an evaluation set.
        environment, engine, lora, optimizer: `GRPOTrainer`'s arguments (engine: its `rollout_func`).
        killed, lost: steps before the process ends; files of the checkpoint that are gone.
    """

    what: str
    families: list = field(default_factory=lambda: MIXED)
    rewards: tuple = (correctness,)
    settings: dict = field(default_factory=dict)
    policy: object = nano
    rows: object = nano_rows
    how: object = once
    held: tuple = ()
    environment: type | None = None
    engine: type | None = None
    lora: object = None
    optimizer: type | None = None
    killed: int = 0
    lost: tuple = ()


class BrokenTools(ChainEnvironment):
    """The service behind the tools does not answer."""

    def get_balance(self, owner: str) -> str:
        """Balance of an account, in euros.

        Args:
            owner: of the account
        """
        raise ConnectionError("no answer")

    def find_event(self, title: str) -> str:
        """Day and hour of an event in the calendar.

        Args:
            title: of the event
        """
        raise ConnectionError("no answer")


TALK = {"max_completion_length": 96, "max_tool_calling_iterations": 3, "per_device_train_batch_size": 16}
EVALUATED = {"eval_strategy": "steps", "eval_steps": 5, "eval_on_start": True, "per_device_eval_batch_size": 64}
TEXTS = {"log_completions": True, "num_completions_to_print": 0, "max_steps": 8}
TALKS = ["balance", "event_time"]
CASES = {
    "never_stops": Case("completions are cut after 8 tokens", settings={"max_completion_length": 8}),
    "reward_never_paid": Case("the scorer looks for a field that is not there", rewards=(broken_scorer,)),
    "format_never_met": Case("a format the model's template never writes", rewards=(correctness, strict_format)),
    "dead_reward_part": Case("one of two rewards is broken", rewards=(correctness, broken_scorer)),
    "only_side_rewards": Case("hard questions only, and a bonus for length", HARD, (correctness, length_bonus)),
    "side_eats_main": Case("an empty answer is paid more than a right one", rewards=(correctness, brevity),
                           settings={"learning_rate": 2e-3, "max_steps": 60}),
    "spread_between_prompts": Case("the reward reads the row, not the answer", rewards=(of_the_prompt,)),
    "identical_completions": Case("temperature 0.01", settings={"temperature": 0.01}),
    "all_fail_groups": Case("four families in five are too hard", HARD + ["send_note"]),
    "solved_already": Case("questions the model can answer", EASY),
    "reward_collapse": Case("the learning rate is eight times too high",
                            settings={"learning_rate": 5e-3, "max_steps": 80}),
    "reward_collapse-at-once": Case("the learning rate is thirty times too high",
                                    settings={"learning_rate": 2e-2, "max_steps": 60}),
    "reward_collapse-late": Case("the learning rate warms up to ten times what is right",
                                 settings={"learning_rate": 6e-3, "lr_scheduler_type": "constant_with_warmup",
                                           "warmup_steps": 100, "max_steps": 60}),
    "learning_rate_zero": Case("the learning rate is 0", settings={"learning_rate": 0.0}),
    "gradient_not_finite": Case("a layer divides 0 by 0 in its backward pass; such steps are skipped, as by a scaler",
                                policy=with_gate, optimizer=Careful),
    "loss_not_finite": Case("the reward divides by 0", HARD + ["send_note"], (one_over_missing,)),
    "gradient_explosion": Case("an error code counts as a reward, and advantages are not scaled",
                               rewards=(error_code,), settings={"scale_rewards": "none", "max_steps": 40}),
    "gradient_always_zero": Case("LoRA with alpha 0", lora=LoraConfig(r=4, lora_alpha=0, target_modules="all-linear")),
    "rollout_garbage": Case("random weights in place of the model's", policy=random_weights, settings={"beta": 0.04}),
    "missed-other-engine": Case("the engine that samples was never given the weights", engine=OtherEngine,
                                settings={"beta": 0.04}),
    "sampler_mismatch": Case("the engine that samples keeps the weights of the first step", engine=StaleEngine,
                             settings={"max_steps": 60, "learning_rate": 2e-3}),
    "length_growth": Case("a bonus for length is taken back step by step, and scaled to full size in each group",
                          HARD, (Annealed(50),), {"max_steps": 46, "max_completion_length": 400, "temperature": 1.3,
                           "learning_rate": 1.5e-4}),
    "gradient_spikes": Case("three gradients are 60 times too large, and nothing is clipped",
                            policy=with_large_steps, optimizer=torch.optim.SGD,
                            settings={"max_grad_norm": 1e9, "max_steps": 60, "learning_rate": 0.05}),
    "no_chat_template": Case("prompts without a template, and a policy that goes on with the page", [], (exact_match,),
                             TEXTS | {"max_completion_length": 32}, page_policy, sums),
    "scorer_rejects_right": Case("the scorer wants four hashes before the answer", [], (after_four_hashes,), TEXTS,
                                 chat_policy, sums_as_messages),
    "cut_at_cap": Case("the cap cuts the calls of three families in four", HARD[:3] + ["set_timer"],
                       settings={"max_completion_length": 17}, rows=answer_shown),
    "eval_falls": Case("training answers have their arguments exchanged, those of the evaluation do not",
                       rows=swapped_labels, settings=EVALUATED | {"learning_rate": 3e-4}, held=("send_note",)),
    "length_to_cap": Case("the reward likes what is long", rewards=(judge,), settings={"max_steps": 50}),
    "length_shrinks": Case("a length penalty is all that differs in groups that fail", HARD, (short_of_breath,),
                           {"learning_rate": 2e-3, "max_steps": 60}),
    "entropy_up": Case("pays for words that others do not have", rewards=(novelty,), settings={"max_steps": 50}),
    "entropy_down": Case("the scorer knows half of the answers, and the policy gets certain of all", [], (odd_ones,),
                         {"learning_rate": 1e-3, "max_steps": 60}, green_policy, sums_as_messages),
    "safe_low_answer": Case("one answer pays a little for certain, right ones never pay", [], (consolation,),
                            {"learning_rate": 1e-3, "max_steps": 40}, green_policy, sums_as_messages),
    "kl_explosion": Case("beta is a millionth, and the reward wants what the reference never writes",
                         rewards=(five_tokens,), settings={"learning_rate": 1e-3, "max_steps": 60, "beta": 1e-6}),
    "clip_ratio_high": Case("eight updates on each batch, and an epsilon that is meant for whole sequences", [],
                            (right_sum,),
                            {"num_iterations": 8, "epsilon": 3e-4, "learning_rate": 1e-4, "max_steps": 40},
                            green_policy, sums_as_messages),
    "learning_rate_high": Case("the learning rate is fifteen times too high", settings={"learning_rate": 1e-2}),
    "bonus_up_task_flat": Case("the right answers are shuffled, and a bonus pays for one answer", [],
                               (accuracy, style_bonus), {"max_steps": 40}, green_policy, sums_shuffled),
    "pays_wrong_answers": Case("training prompts show the answer, those of the evaluation do not", HARD,
                               settings=EVALUATED, rows=answer_shown, held=("book_taxi",)),
    "few_groups_teach": Case("half of the questions are too hard, half too easy", ["set_timer", "get_weather"]),
    "tiny_spread_scaled": Case("a judge that trembles by thousandths, one prompt a step", EASY, (jitter,),
                               {"per_device_train_batch_size": 4, "max_steps": 60}),
    "schedule_restarted": Case("resumed without optimizer and schedule", how=killed_and_resumed, killed=24,
                               lost=("optimizer.pt", "scheduler.pt"),
                               settings={"lr_scheduler_type": "linear", "max_steps": 40}),
    "repeated_data": Case("killed, and begun again into the same log", how=killed_and_begun_again, killed=16),
    "step_goes_back": Case("killed after 14 steps, and resumed at 10", how=killed_and_resumed, killed=14),
    "step_goes_back-far": Case("killed after 19 steps, and resumed at 10", how=killed_and_resumed, killed=19),
    "tools_unused": Case("an answer without a call is paid", TALKS, (no_calls,), TALK, chain, requests,
                         environment=ChainEnvironment),
    "tool_failures": Case("the tools' service does not answer", TALKS, (DialogueReward,), TALK, chain, requests,
                          environment=BrokenTools),
    "no_learning": Case("the reward is a coin's", rewards=(coin,),
                        settings={"max_steps": 110, "per_device_train_batch_size": 8, "learning_rate": 2e-5}),
    "cap_too_tight": Case("the cap cuts one family in three", ["play_song", "send_note", "get_weather"],
                          settings={"max_completion_length": 17}),
    "loss_near_zero": Case("no fault: one update per batch, and no KL term", settings={"max_steps": 20}),
    "too_short": Case("six steps", settings={"max_steps": 6}),
} | {f"healthy-{name}": Case(f"no fault: {name.replace('-', ' ')}", **what) for name, what in {
    "0": {"settings": {"seed": 0}},
    "1": {"settings": {"seed": 1}},
    "2": {"settings": {"seed": 2}},
    "kl": {"settings": {"beta": 0.04}},
    "scaled-by-batch": {"settings": {"scale_rewards": "batch"}},
    "not-scaled": {"settings": {"scale_rewards": "none"}},
    "dr-grpo": {"settings": {"loss_type": "dr_grpo"}},
    "loss-per-answer": {"settings": {"loss_type": "grpo"}},
    "two-updates": {"settings": {"num_iterations": 2, "max_steps": 40}},
    "cosine": {"settings": {"lr_scheduler_type": "cosine", "warmup_steps": 5}},
    "linear": {"settings": {"lr_scheduler_type": "linear"}},
    "eight-rollouts": {"settings": {"num_generations": 8}},
    "warmer": {"settings": {"temperature": 1.3}},
    "two-prompts": {"settings": {"per_device_train_batch_size": 8, "max_steps": 60}},
    "one-prompt": {"settings": {"per_device_train_batch_size": 4, "max_steps": 60}},
    "lora": {"settings": {"learning_rate": 3e-3}, "lora": LoraConfig(r=8, lora_alpha=16, target_modules="all-linear")},
    "format": {"rewards": (correctness, format_bonus)},
    "each-reward-scaled": {"rewards": (correctness, format_bonus),
                           "settings": {"multi_objective_aggregation": "normalize_then_sum"}},
    "evaluated": {"settings": EVALUATED, "held": ("send_note",)},
    "sums": {"rewards": (right_sum,), "policy": chat_policy, "rows": sums_as_messages, "families": []},
    "answer-shown": {"families": HARD, "rows": answer_shown},
    "slow": {"settings": {"learning_rate": 1e-4}},
    "resumed": {"how": killed_and_resumed, "killed": 10},
    "tools": {"families": TALKS, "rewards": (DialogueReward,), "settings": TALK, "policy": chain,
              "rows": requests, "environment": ChainEnvironment},
}.items()}  # fmt: skip


def run(name, case, out):
    """One run -> its line for runs.csv; its log is in `out` then."""
    began, lines, ended = time.perf_counter(), Lines(), "done"
    seed = case.settings.get("seed", 42)
    random.seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        try:
            case.how(case, folder, lines)
        except (RuntimeError, ValueError) as error:  # that is how some faults end
            ended = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        texts = [pd.read_parquet(file) for file in sorted(Path(folder).glob("completions/*.parquet"))]
    target = out / f"{name}.json"
    if texts:
        target = out / name / "log.json"
        target.parent.mkdir(exist_ok=True)
        table = pd.concat(texts, ignore_index=True)
        table.to_parquet(target.with_name("completions_00001.parquet"), compression="zstd")
    names = list(dict.fromkeys(key for row in lines.rows for key in row))
    names.sort(key=lambda name: name != "step")
    columns = {name: [digits(row.get(name)) for row in lines.rows] for name in names}
    text = ",\n".join(f" {json.dumps(key)}: {json.dumps(values)}" for key, values in columns.items())
    target.write_text("{\n" + text + "\n}\n")
    versions = software_versions()
    settings = {key: value for key, value in case.settings.items() if key != "seed"}
    return {
        "run": name, "what": case.what, "rows": len(lines.rows), "ended": ended, "seed": seed,
        "settings": json.dumps(settings), "seconds": round(time.perf_counter() - began),
        "python_packages": " ".join(f"{key}=={versions[key]}" for key in ("torch", "transformers", "trl", "peft")),
        "commit": versions["git_commit"],
    }  # fmt: skip


def digits(value):
    """Six digits of a number; what was not logged is None."""
    if value is None or not math.isfinite(value):
        return value
    return int(value) if value == int(value) and abs(value) < 1e6 else float(f"{value:.6g}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("assets/doctor"))
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--again", action="store_true", help="make runs anew that are there")
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    arguments.out.mkdir(parents=True, exist_ok=True)
    record = arguments.out / "runs.csv"
    done = {row["run"]: row for row in csv.DictReader(record.open())} if record.exists() else {}
    there = {path.stem for path in arguments.out.glob("*.jsonl")} | set(done)
    todo = [name for name in arguments.only if arguments.again or name not in there]
    for number, name in enumerate(todo, start=1):
        done[name] = run(name, CASES[name], arguments.out)
        (arguments.out / f"{name}.jsonl").unlink(missing_ok=True)
        with record.with_suffix(".new").open("w", newline="") as file:
            writer = csv.DictWriter(file, RECORD, lineterminator="\n")
            writer.writeheader()
            writer.writerows(done[name] for name in CASES if name in done)
        os.replace(file.name, record)
        row = done[name]
        print(f"{number}/{len(todo)} {name}: {row['rows']} rows, {row['seconds']} s, {row['ended']}", flush=True)


if __name__ == "__main__":
    main()
