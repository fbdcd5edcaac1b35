"""What it saves to compute a prompt once: the stock `GRPOTrainer` with and without `share_prompts`.

    python benchmarks/shared_prompt.py [--only smol,nano,...] [--out assets/benchmarks/shared_prompt.json] [--again]
    python benchmarks/shared_prompt.py --figures assets/benchmarks/shared_prompt.json --out assets/figures
    python benchmarks/shared_prompt.py --quick --out out/shared_prompt.json

The second writes the pictures, and the tables of docs/shared-prompt.md. The third runs all of it, tiny, in two minutes.

Parts, each written as soon as it is done, with its versions, and passed over when it is there, but for `--again`;
`ratio` is stock's seconds over ours, of the same step:
    nano             the profile `nano` as it is: 16 prompts, groups of 10, a reference model
    smol             SmolLM2-135M with LoRA, a group of 10 in two forward passes, prompts of 400 to 800 tokens with
                     demonstrations from the API world, answers of up to 96; bfloat16, SDPA, no reference
    nothing_shared   scores, gradients and sampling of rows with prompts of their own
    memory           growth of a process over the loaded model during a step of `smol`; ours / stock
    growth           one step of a small Llama over prompt lengths and group sizes
    passes           scores and gradients of a step of four groups, shuffled, by rows in a pass (`micro_batch`)
    arithmetic       what of a step of Qwen2.5-1.5B in 4 bits fits into 8 GiB, and the GPU profiles; counted
    peers            scores and gradients beside the library prefix-grouper, if it is installed
    kit              the kit's own tests of training, and notebook 02 in quick mode
    reproduce        `kit.py reproduce`: measured by reproduce_ratio.sh, whose two files are copied in by hand
Stock, ours and stock once more take turns in one process, see `turns.py`; `control` is stock over stock. All run on
one thread, and seconds are the processor's (in `wall`, the clock's), since other work shares the machine. The learning
rate is next to nothing, so all draw the same rollouts (in bfloat16 nearly, so there only their lengths are compared).
"""

import argparse
import functools
import importlib.metadata
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import psutil
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AttentionInterface,
    LlamaConfig,
    LlamaForCausalLM,
    PrinterCallback,
    Qwen2ForCausalLM,
    TrainerCallback,
    set_seed,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from trl import GRPOTrainer
from trl.trainer.utils import add_fused_lm_head
from turns import CLOCKS, in_the_studies_environment, ratio_of, take_turns

from toolexpander_lite.base.runs import read_json, software_versions, write_json
from toolexpander_lite.method.prompts import render_prompt
from toolexpander_lite.method.rewards import conjunctive_reward
from toolexpander_lite.method.samples import training_columns
from toolexpander_lite.models.hardware import describe_hardware
from toolexpander_lite.models.memory import qwen25_config, training_bytes
from toolexpander_lite.models.policy import load_policy
from toolexpander_lite.models.shared_prompt import share_prompts, unshare
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.splits import load_splits, training_rows
from toolexpander_lite.training.train import grpo_config
from toolexpander_lite.variants.all_recipes import get_recipe
from toolexpander_lite.worlds.api_tasks import api_tasks

SIDES = ("stock", "shared", "stock, again")
# Tokens of the answers (at most) and prompts of the small Llama; the profile of `smol`, what is changed in it, and the
# tokens of its prompts in the parts `smol` and `memory`; steps and repeats; rows of `nothing_shared`.
SIZES = SimpleNamespace(
    answer=64, prompt=512, lengths=(128, 256, 512, 1024, 2048), groups=(2, 4, 8, 16, 32), passes=(4, 10, 20, 40),
    profile="smol-cpu", timed=(400, 800), weighed=(400, 560), smol_steps=4, nano_steps=8, nano_rounds=2, repeats=6,
    alone=24,
    smol={"attention": "sdpa", "micro_batch": 5, "max_completion_length": 96, "max_prompt_tokens": 800},
)  # fmt: skip
QUICK = {
    "answer": 16, "prompt": 48, "lengths": (32, 64), "groups": (2, 4), "passes": (4, 40), "profile": "nano",
    "timed": (64, 1000), "weighed": (64, 1000), "smol_steps": 3, "nano_steps": 3, "nano_rounds": 1, "repeats": 1,
    "alone": 4,
    "smol": {"attention": "sdpa", "micro_batch": 5, "max_completion_length": 8, "max_prompt_tokens": 1000,
             "prompts_per_step": 1, "lora_rank": 4, "dtype": "bfloat16"},
}  # fmt: skip
SMALL = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 4,
         "num_key_value_heads": 2, "vocab_size": 8192, "max_position_embeddings": 4096}  # fmt: skip
MARKS = ("<!-- measured: benchmarks/shared_prompt.py --figures -->", "<!-- end of what was measured -->")


class Note(TrainerCallback):
    """Calls `note` with each row of the trainer's log."""

    def __init__(self, note):
        self.note = note

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.note(logs)


def clocked(owner, method, spent, part):
    """Add the seconds of `owner.method` to `spent[part]`."""
    original = getattr(owner, method)

    @functools.wraps(original)
    def timed(*args, **kwargs):
        began = time.process_time()
        try:
            return original(*args, **kwargs)
        finally:
            spent[part] += time.process_time() - began

    setattr(owner, method, timed)


def train(recipe, profile, rows, shared, folder, spent, note):
    set_seed(0)
    model, tokenizer = load_policy(profile)
    trainer = GRPOTrainer(
        model=model, reward_funcs=conjunctive_reward, args=grpo_config(recipe, profile, 0, folder, describe_hardware()),
        train_dataset=rows(tokenizer), processing_class=tokenizer, callbacks=[Note(note)],
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    for each in (trainer.model, trainer.ref_model) if shared else ():
        if each is not None:
            share_prompts(each)
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    clocked(base, "generate", spent, "sampling")
    clocked(trainer, "_get_per_token_logps_and_entropies", spent, "forward")
    clocked(trainer.accelerator, "backward", spent, "backward")
    clocked(trainer, "training_step", spent, "step")
    trainer.train()


def measure_trainer(recipe, profile, rows, steps, **turns):
    """-> {"ratio", "interval", "control", "seconds_per_step", "shares" of stock's and our step}."""
    spent = {name: defaultdict(float) for name in SIDES}
    with tempfile.TemporaryDirectory() as folder:

        def sides(number):
            return {
                name: functools.partial(
                    train, recipe, profile, rows, name == "shared", Path(folder, str(number), name), spent[name]
                ) for name in SIDES
            }  # fmt: skip

        rounds = take_turns(sides, steps, **turns)
    shares = {}
    for name in SIDES[:2]:
        parts = spent[name]
        parts["the rest"] = parts["step"] - parts["sampling"] - parts["forward"] - parts["backward"]
        shares[name] = {part: round(s / parts["step"], 3) for part, s in parts.items() if part != "step"}
    clocks = {clock: compared(*([one[clock][name] for one in rounds] for name in SIDES)) for clock in CLOCKS}
    return {**clocks["processor"], "wall": clocks["wall"], "shares": shares}


def compared(stock, ours, again):
    """Seconds of steps, by round, of the three sides -> ratio, interval, control, medians."""
    around = [[(a + b) / 2 for a, b in zip(*pair)] for pair in zip(stock, again)]
    seconds = {name: round(statistics.median(sum(side, [])), 3) for name, side in zip(SIDES, (stock, ours, again))}
    return {**ratio_of(around, ours), "control": ratio_of(stock, again), "seconds_per_step": seconds,
            "steps": len(ours[0]), "rounds": len(ours)}  # fmt: skip


def nano():
    steps = SIZES.nano_steps
    profile = get_profile("nano", steps=steps + 1, eval_every=10**6)
    recipe = get_recipe("grpo", learning_rate=1e-12)

    def rows(tokenizer):
        return training_rows(load_splits(profile, 0, tokenizer).train, tokenizer)

    return measure_trainer(recipe, profile, rows, steps, rounds=SIZES.nano_rounds)


def smol_rows(tokenizer, count, shortest, longest):
    """Tasks of the API world, each with as many demonstrations as it takes -> `Dataset` with prompts."""
    samples = [task.sample for task in api_tasks(0, per_family=8)]
    rng, chosen, prompts = random.Random(0), [], []
    for sample in rng.sample(samples, len(samples)):
        others = [s for s in samples if s.family == sample.family and s.id != sample.id]
        target = rng.uniform(shortest, longest - 60) if SIZES.profile != "nano" else 0
        for demos in range(12):
            prompt = render_prompt(sample, tokenizer, rng.sample(others, min(demos, len(others))))
            if shortest <= (length := len(tokenizer(prompt).input_ids)) <= longest and length >= target:
                chosen.append(sample)
                prompts.append(prompt)
                break
        if len(chosen) == count:
            break
    return training_columns(chosen).add_column("prompt", prompts)


def smol_profile(steps):
    return get_profile(SIZES.profile, **SIZES.smol, steps=steps + 1, eval_every=10**6)


def smol():
    steps, prompts = SIZES.smol_steps, []
    profile = smol_profile(steps)

    def rows(tokenizer):
        found = smol_rows(tokenizer, steps + 1, *SIZES.timed)
        prompts[:] = [len(tokenizer(prompt).input_ids) for prompt in found["prompt"]]
        return found

    found = measure_trainer(
        get_recipe("no_kl", learning_rate=1e-12), profile, rows, steps, rounds=1, warm_up=1, lengths=30
    )
    return {**found, "prompt_tokens": prompts}


def memory():
    """Each side in a process of its own."""
    growth = {}
    for side in SIDES[:2]:
        free = psutil.virtual_memory().available / 2**30
        if free < 12 and SIZES.profile != "nano":
            raise SystemExit(f"the stock side needs 12 GiB, {free:.1f} are free")
        command = [sys.executable, __file__, "--memory-of", side, *(["--quick"] if SIZES.profile == "nano" else [])]
        growth[side] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    ours, stock = growth["shared"], growth["stock"]
    return {"ratio": round(ours["growth"] / stock["growth"], 3), "GiB": growth}


def memory_of(side):
    """Growth in GiB over the loaded model, of one step; and what was loaded."""
    profile = get_profile(smol_profile(1), steps=1)
    model, _ = load_policy(profile)
    del model
    loaded = []

    def rows(tokenizer):
        loaded.append(psutil.Process().memory_info().rss)
        return smol_rows(tokenizer, 2, *SIZES.weighed)

    with tempfile.TemporaryDirectory() as folder:
        train(get_recipe("no_kl"), profile, rows, side == "shared", Path(folder), defaultdict(float), lambda row: None)
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
    print(json.dumps({"growth": round((peak - loaded[0]) / 2**30, 3), "loaded": round(loaded[0] / 2**30, 3)}))


def small_model():
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SMALL)).train()
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    return model


def batch_of(prompts, group, length, seed=0):
    """Random tokens: ids and mask (prompts * group, length + answer); answers of 16 tokens or more, padded right."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(10, SMALL["vocab_size"], (prompts, 1, length), generator=draw).expand(-1, group, -1)
    answers = torch.randint(10, SMALL["vocab_size"], (prompts * group, SIZES.answer), generator=draw)
    ids = torch.cat([ids.flatten(0, 1), answers], 1)
    lengths = torch.randint(16, SIZES.answer + 1, (prompts * group, 1), generator=draw)
    mask = (torch.arange(length + SIZES.answer) < length + lengths).long()
    return ids.masked_fill(mask == 0, 0), mask


def learn(model, ids, mask):
    """Score the answers and backpropagate -> log-probabilities."""
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, :-SIZES.answer] = -100
    scores = model(input_ids=ids, attention_mask=mask, labels=labels, fused_lm_head=True).log_probs
    scores.sum().backward()
    model.zero_grad()
    return scores.detach()


def one_step(model, ids, mask):
    """Sample, score, learn."""
    torch.manual_seed(0)
    options = {"max_new_tokens": SIZES.answer, "do_sample": True, "top_k": 0, "pad_token_id": 0, "eos_token_id": 1}
    with torch.no_grad():
        model.generate(input_ids=ids[:, :-SIZES.answer], attention_mask=mask[:, :-SIZES.answer], **options)
    learn(model, ids, mask)


def in_turns(model, call, times):
    """Seconds of `call` without sharing, with it, without again, ... -> three lists."""
    seconds = [[], [], []]
    for turn in range(times + 1):
        for side, took in enumerate(seconds):
            share_prompts(model) if side == 1 else unshare(model)
            began = time.process_time()
            call()
            if turn:  # the first warms up
                took.append(time.process_time() - began)
    unshare(model)
    return seconds


def nothing_shared():
    model, (ids, mask) = small_model(), batch_of(SIZES.alone, 1, 128)
    found = {}
    for name, call in {"step": one_step, "scores_and_gradients": learn}.items():
        stock, ours, again = in_turns(model, lambda: call(model, ids, mask), SIZES.repeats)  # noqa: B023
        found[name] = compared([stock], [ours], [again])
    return {**found.pop("step"), **found}


def growth():
    model, found = small_model(), {"prompt": {}, "group": {}}
    one_step(model, *batch_of(1, 2, 128))  # warms up
    for kind, sizes in (("prompt", SIZES.lengths), ("group", SIZES.groups)):
        for size in sizes:
            batch, took = batch_of(1, *((10, size) if kind == "prompt" else (size, SIZES.prompt))), {}
            for side in ("stock", "ours"):
                share_prompts(model) if side == "ours" else unshare(model)
                began = time.process_time()
                one_step(model, *batch)
                took[side] = round(time.process_time() - began, 3)
            found[kind][size] = took
            print(kind, size, took, flush=True)
    return found


def passes():
    """{rows in a pass: seconds and tokens, of stock and ours}; rows are shuffled before the cut, as TRL does."""
    model, (ids, mask), found = small_model(), batch_of(4, 10, SIZES.prompt), {}
    order, tokens = torch.randperm(len(ids), generator=torch.Generator().manual_seed(0)), []
    model.model.layers[0].register_forward_pre_hook(lambda layer, args: tokens.append(args[0][..., 0].numel()))
    learn(model, ids[:1], mask[:1])  # warms up
    for size in SIZES.passes:
        found[size] = {}
        for side in ("stock", "ours"):
            share_prompts(model) if side == "ours" else unshare(model)
            tokens.clear()
            began = time.process_time()
            for part in order.split(size):
                learn(model, ids[part], mask[part])
            found[size][side] = {"seconds": round(time.process_time() - began, 3), "tokens": sum(tokens)}
        print(size, found[size], flush=True)
    return found


def peers():
    """Scores and gradients of one group of 10: stock, ours and prefix-grouper, the same model and tokens.

    Its own registration in transformers is for flash attention, which gets the padding alone; here it gets SDPA with a
    mask of padding and causality, made once a pass.
    """
    from prefix_grouper import PrefixGrouper
    from prefix_grouper.forward import AttentionForward

    masks = {}

    def sdpa(query, key, value, padding, module, scaling):
        size = query.shape[2], key.shape[2]
        if size not in masks:
            causal = torch.ones(size, dtype=torch.bool).tril(size[1] - size[0])
            seen = causal & padding[:, None, None].bool()
            masks[size] = torch.zeros(len(query), 1, *size).masked_fill(~seen, -1e30)
        return ALL_ATTENTION_FUNCTIONS["sdpa"](module, query, key, value, masks[size], scaling=scaling)[0]

    def attention(module, query, key, value, attention_mask, prefix_grouper, scaling=None, **kwargs):
        return AttentionForward(sdpa)(prefix_grouper, query, key, value, module, scaling), None

    AttentionInterface.register("prefix_grouper", attention)
    model, (ids, mask) = small_model(), batch_of(1, 10, SIZES.prompt)

    def grouped():
        masks.clear()
        before, after = slice(SIZES.prompt), slice(SIZES.prompt, None)
        grouper = PrefixGrouper.from_ungrouped_masks(
            prefix_mask=mask[:1, before], suffix_mask=mask[:, after], group_sizes=10, padding_mode="right",
            device=ids.device,
        )  # fmt: skip
        joined = grouper.concat_input(ids[:1, before], mask[:1, before], ids[:, after], mask[:, after])
        starts = [torch.arange(n) + SIZES.prompt for n in mask[:, after].sum(1).tolist()]
        starts = [torch.arange(SIZES.prompt), *starts]
        hidden = model.model(
            input_ids=joined, position_ids=torch.cat(starts)[None], attention_mask=None, use_cache=False,
            prefix_grouper=grouper,
        ).last_hidden_state  # fmt: skip
        _, _, answers, real = grouper.split_output(hidden, include_prefix_last=1)
        targets = grouper.convert_padding(ids[:, -SIZES.answer:], mask[:, -SIZES.answer:], padding_mode="right")
        scores = model.lm_head(answers[:, :-1]).log_softmax(-1).gather(-1, targets[..., None])[..., 0] * real[:, 1:]
        scores.sum().backward()
        model.zero_grad()
        return torch.nn.functional.pad(scores.detach(), (0, SIZES.answer - scores.shape[1]))

    seconds, scores = defaultdict(list), {}
    for turn in range(SIZES.repeats + 1):
        for name in ("stock", "ours", "prefix-grouper"):
            share_prompts(model) if name == "ours" else unshare(model)
            model.set_attn_implementation("prefix_grouper" if name == "prefix-grouper" else "sdpa")
            began = time.process_time()
            scores[name] = grouped() if name == "prefix-grouper" else learn(model, ids, mask)[:, -SIZES.answer:]
            if turn:
                seconds[name].append(time.process_time() - began)
    return {
        "seconds": {name: round(statistics.median(took), 4) for name, took in seconds.items()},
        "largest_difference": {n: float((s - scores["stock"]).abs().max()) for n, s in scores.items() if n != "stock"},
        "version": importlib.metadata.version("prefix_grouper"),
    }


def kept_bytes(layers, tokens=64):
    """Bytes that autograd keeps of a Qwen2.5-1.5B with so many layers, bfloat16 with LoRA; weights apart."""
    model = Qwen2ForCausalLM(qwen25_config("1.5B").from_dict({**qwen25_config("1.5B").to_dict(), "vocab_size": 512,
                             "num_hidden_layers": layers, "layer_types": None})).bfloat16()  # fmt: skip
    model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"))
    weights, kept = {p.untyped_storage().data_ptr() for p in model.parameters()}, {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = tensor  # held, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        model.get_base_model().model(input_ids=torch.randint(0, 512, (1, tokens)), use_cache=False)
    casts = {p.numel() for p in model.parameters()}  # autocast's copies of adapters, which do not grow with tokens
    return sum(t.untyped_storage().nbytes() for t in kept.values() if t.numel() not in casts) / tokens


def arithmetic(prompt=1024, answer=256, group=10, card=8):
    """GiB of a step: what is held all the time (`training_bytes`), and what a forward pass keeps for its gradients."""
    config = qwen25_config("1.5B")
    held = sum(training_bytes(config, get_profile("t4")).values())
    layer = kept_bytes(2) - kept_bytes(1)
    tokens = {"stock": lambda n: n * (prompt + answer), "shared": lambda n: prompt + n * answer}
    per_token = {
        "all kept": config.num_hidden_layers * layer,
        "checkpointed": config.num_hidden_layers * 2 * config.hidden_size + layer,
    }
    found = {"held_GiB": round(held / 2**30, 2), "bytes_per_token_and_layer": round(layer), "ways": {},
             "profiles": {}}  # fmt: skip
    for way, each in per_token.items():
        for side, count in tokens.items():
            fits = max((n for n in range(1, 200) if held + count(n) * each <= card * 2**30), default=0)
            whole = (held + count(group) * each) / 2**30
            row = {"tokens": count(group), "GiB": round(whole, 1), "rollouts_that_fit": fits}
            found["ways"][f"{side}, {way}"] = row
    for name in ("t4", "gpu24"):
        profile = get_profile(name)
        before, rows = profile.max_prompt_tokens + profile.demo_room, profile.micro_batch
        after, groups = profile.max_completion_length, min(profile.prompts_per_step, rows)
        width = before + 10 * after  # of a bin; its mask: booleans, and numbers of two bytes
        mask = groups * width**2 * 3
        held = sum(training_bytes(config, profile).values())
        counts = {"stock": (rows * (before + after), 0), "shared": (groups * before + rows * after, mask)}
        found["profiles"][name] = {"micro_batch": rows} | {
            side: {"tokens": count, "GiB": round((held + count * per_token["checkpointed"] + more) / 2**30, 1)}
            for side, (count, more) in counts.items()
        }
    return {**found, "prompt": prompt, "answer": answer, "group": group, "card_GiB": card}


KIT = {"tests of training": ["pytest", "-q", "-p", "no:cacheprovider", "tests/test_train.py",
                             "tests/test_train_rounds.py"],
       "notebook 02, quick": ["toolexpander_lite", "notebooks", "--quick", "--only", "02", "--out", "out"]}  # fmt: skip


def kit():
    """-> {what: {side: processor seconds}}; two copies of the last commit, in one of which no family is shared."""
    found = {what: {} for what in KIT}
    with tempfile.TemporaryDirectory() as folder:
        for side in SIDES[:2]:
            place = Path(folder, side)
            place.mkdir()
            whole = subprocess.run(["git", "archive", "HEAD"], stdout=subprocess.PIPE, check=True).stdout
            subprocess.run(["tar", "-x"], input=whole, cwd=place, check=True)
        with Path(folder, "stock", "toolexpander_lite", "models", "shared_prompt.py").open("a") as file:
            file.write("\n\nFAMILIES = ()\n")
        for side in SIDES:
            place = Path(folder, side.split(",")[0])
            for what, words in KIT.items():
                before = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
                environment = {**os.environ, "PYTHONPATH": str(place), "OMP_NUM_THREADS": "1"}
                done = subprocess.run([sys.executable, "-m", *words], cwd=place, env=environment, capture_output=True)
                if done.returncode:
                    raise RuntimeError(f"{what}, {side}: {done.stdout[-2000:].decode()}{done.stderr[-2000:].decode()}")
                found[what][side] = round(sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - before, 1)
    return found


GROWTH = {"prompt": "tokens of the prompt (group of 10)", "group": "rollouts of a group (prompt of 512 tokens)"}


def table(found):
    """The measured part of docs/shared-prompt.md."""
    lines = ["| | stock / shared | control | stock, shared: seconds a step | by the clock |", "|---|---|---|---|---|"]
    rows = {"smol": "SmolLM2-135M, LoRA, group of 10", "nano": "nano, 16 groups of 10, with a reference",
            "nothing_shared": "nothing shared"}  # fmt: skip
    for name, words in rows.items():
        if part := found.get(name):
            seconds, low, high = part["seconds_per_step"], *part["interval"]
            wall = f"{part['wall']['ratio']:.2f}" if "wall" in part else ""
            ratio, control = f"**{part['ratio']:.2f}** ({low:.2f} to {high:.2f})", f"{part['control']['ratio']:.2f}"
            both = f"{seconds['stock']:.2f}, {seconds['shared']:.2f}"
            lines.append(f"| {words} | {ratio} | {control} | {both} | {wall} |")
    lines += ["", "| share of a step | sampling | forward | backward | the rest |", "|---|---|---|---|---|"]
    for name in ("smol", "nano"):
        for side, shares in found.get(name, {}).get("shares", {}).items():
            parts = " | ".join(f"{shares[part]:.0%}" for part in ("sampling", "forward", "backward", "the rest"))
            lines.append(f"| {name}, {side} | {parts} |")
    if part := found.get("memory"):
        grown = {side: part["GiB"][side]["growth"] for side in SIDES[:2]}
        both = f"stock {grown['stock']:.2f} GiB, shared {grown['shared']:.2f} GiB, ratio **{part['ratio']:.2f}**."
        lines += ["", f"Growth of the process over the loaded model in a step of `smol`: {both}"]
    if part := found.get("arithmetic"):
        sizes = f"prompts of {part['prompt']} and answers of {part['answer']} tokens"
        lines += ["", f"Qwen2.5-1.5B in 4 bits, {sizes}, counted: {part['held_GiB']} GiB are held all the time, "
                  f"a token keeps {part['bytes_per_token_and_layer'] / 1024:.0f} KiB a layer.", "",
                  f"| | tokens of a group of {part['group']} | GiB | rollouts in one pass on {part['card_GiB']} GiB |",
                  "|---|---|---|---|"]  # fmt: skip
        for way, row in part["ways"].items():
            lines.append(f"| {way} | {row['tokens']:,} | {row['GiB']} | {row['rollouts_that_fit']} |")
        lines += ["", "The profiles, at their longest prompts and answers:", "",
                  "| | rows in a pass | tokens of a pass, stock and shared | GiB, stock and shared |",
                  "|---|---|---|---|"]  # fmt: skip
        for name, row in part["profiles"].items():
            tokens = " and ".join(f"{row[side]['tokens']:,}" for side in SIDES[:2])
            both = " and ".join(str(row[side]["GiB"]) for side in SIDES[:2])
            lines.append(f"| `{name}` | {row['micro_batch']} | {tokens} | {both} |")
    for kind, label in GROWTH.items() if "growth" in found else ():
        sizes = found["growth"][kind]
        ends = ", ".join(f"{took['stock']:.1f} and {took['ours']:.1f} seconds at {size}"
                         for size, took in (list(sizes.items())[0], list(sizes.items())[-1]))  # fmt: skip
        lines += ["", f"![Seconds of a step over {label}, stock and shared: {ends}]"
                  f"(../assets/figures/shared-prompt-{kind}.png)"]  # fmt: skip
    if part := found.get("passes"):
        lines += ["", "Scores and gradients of a step of four groups of 10, shuffled as TRL does, "
                  "prompt of 512 tokens, a Llama of 6 layers:", "",
                  "| rows in a pass | tokens computed, stock and shared | seconds, stock and shared |",
                  "|---|---|---|"]  # fmt: skip
        for size, row in ((size, row) for size, row in part.items() if size.isdigit()):
            tokens = " and ".join(f"{row[side]['tokens']:,}" for side in ("stock", "ours"))
            lines.append(f"| {size} | {tokens} | {row['stock']['seconds']:.1f} and {row['ours']['seconds']:.1f} |")
    if part := found.get("peers"):
        lines += ["", "Scores and gradients of one group of 10, prompt of 512 tokens, a Llama of 6 layers, "
                  f"prefix-grouper {part['version']}:", "",
                  "| | seconds | largest difference of a log-probability |", "|---|---|---|"]  # fmt: skip
        for name, seconds in part["seconds"].items():
            differs = part["largest_difference"].get(name)
            lines.append(f"| {name} | {seconds:.3f} | {'' if differs is None else f'{differs:.0e}'} |")
    if part := found.get("kit"):
        lines += ["", "The kit itself, processor seconds:", ""]
        lines += ["| | stock | shared | stock, again |", "|---|---|---|---|"]
        lines += [f"| {what} | {' | '.join(f'{part[what][side]:.0f}' for side in SIDES)} |" for what in KIT]
    if part := found.get("reproduce"):
        lines += ["", "`kit.py reproduce` by the clock, both at the same time, one core each "
                  "(`benchmarks/reproduce_ratio.sh`); `all`: its notebooks together:", "",
                  "| notebook | stock, seconds | shared, seconds |", "|---|---|---|"]  # fmt: skip
        lines += [f"| {name.split('.')[0]} | {took:,} | {part['seconds']['shared'][name]:,} |"
                  for name, took in part["seconds"]["stock"].items()]
    commits = sorted({found[name]["versions"]["git_commit"] for name in found})
    return "\n".join([*lines, "", f"Measured at {', '.join(commits)}; {next(iter(found.values()))['machine']}."])


def figures(found, folder):
    import matplotlib.pyplot as plt

    from toolexpander_lite.base.colours import BLUE, ORANGE

    for kind, label in GROWTH.items() if "growth" in found else ():
        sizes = found["growth"][kind]
        figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
        for colour, side, style, words in ((ORANGE, "stock", "o--", "stock"), (BLUE, "ours", "o-", "shared")):
            seconds = [took[side] for took in sizes.values()]
            axes.plot([int(size) for size in sizes], seconds, style, color=colour, label=words)
        axes.set(xlabel=label, ylabel="seconds a step", xscale="log", yscale="log")
        axes.set_xticks([int(size) for size in sizes], list(sizes))
        axes.minorticks_off()
        axes.legend(frameon=False)
        figure.savefig(Path(folder, f"shared-prompt-{kind}.png"), dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="arithmetic,nano,nothing_shared,passes,peers,growth,memory,smol,kit")
    parser.add_argument("--quick", action="store_true", help="the same code at tiny sizes; its numbers mean nothing")
    parser.add_argument("--again", action="store_true", help="measure also the parts that --out holds")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--figures", type=Path)
    parser.add_argument("--memory-of", choices=SIDES[:2])
    arguments = parser.parse_args()
    if arguments.quick:
        vars(SIZES).update(QUICK)
    if arguments.memory_of:
        return memory_of(arguments.memory_of)
    if arguments.figures:
        page = Path(__file__).resolve().parents[1] / "docs" / "shared-prompt.md"
        before, after = page.read_text().split(MARKS[0])[0], page.read_text().split(MARKS[1])[1]
        page.write_text(f"{before}{MARKS[0]}\n{table(read_json(arguments.figures))}\n{MARKS[1]}{after}")
        return figures(read_json(arguments.figures), arguments.out)
    parts = (arithmetic, nano, nothing_shared, passes, peers, growth, memory, smol, kit)
    parts = {part.__name__: part for part in parts}
    for name in arguments.only.split(","):
        done = read_json(arguments.out) if arguments.out and arguments.out.exists() else {}
        if name in done and not arguments.again:
            print(f"{name}: is there")
            continue
        began = time.perf_counter()
        try:
            found = parts[name]()
        except ImportError as error:  # prefix-grouper is nothing the kit needs
            print(f"{name}: passed over, {error}")
            continue
        about = {"machine": str(describe_hardware()), "versions": software_versions()}
        took = round(time.perf_counter() - began)
        print(f"{name} ({took} s): {json.dumps(found)}", flush=True)
        if arguments.out:
            write_json(arguments.out, {**done, name: {**found, **about, "took": took}})


if __name__ == "__main__":
    in_the_studies_environment()
    main()
