"""What fits on a GPU: peak memory and seconds of a GRPO step, for Qwen2.5 architectures with random weights.

    python benchmarks/gpu_fit.py [--out assets/runs/gpu-fit/rows.jsonl] [--minutes 9] [--only 1.5B]
    python benchmarks/gpu_fit.py --table assets/runs/gpu-fit/rows.jsonl
    python benchmarks/gpu_fit.py --tiny --out out/fit.jsonl

Needs no network: memory and speed depend on sizes, not on what the weights say. First come the profiles `t4` and
`gpu24` as they are, with prompts as long as they may be, then a grid of one prompt a step. Each row runs in a process
of its own through the package's own loading and the stock trainer (`trial_steps.measure_steps`); prompts have exactly
the row's length and every completion is written to its full length. With hard sampling all samples are hard, so that
each prompt has a demonstration in front and is that much longer: by 128 tokens, or by all the room that the profile has
for one. A row is written as soon as it is done (FIT, OOM or ERROR) and skipped by the next call; delete its line to
measure it again.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import psutil
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from toolexpander_lite.base.errors import KitError
from toolexpander_lite.base.runs import read_jsonl, software_versions
from toolexpander_lite.method.prompts import gold_completion, render_prompt
from toolexpander_lite.models.hardware import describe_hardware, pick_dtype
from toolexpander_lite.models.memory import SIZES, count_parameters, qwen25_config
from toolexpander_lite.models.policy import load_policy
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.trial_steps import measure_steps, peak_memory
from toolexpander_lite.variants.all_recipes import get_recipe
from toolexpander_lite.variants.other_demonstrations import VariantBank
from toolexpander_lite.worlds.nano_policy import build_tokenizer
from toolexpander_lite.worlds.nano_world import nano_samples

LENGTHS, TINY_LENGTHS = ((512, 256), (1024, 512)), ((64, 8), (96, 16))  # tokens of prompt and completion
DEMO_TOKENS = 128  # our assumption
MARKERS = 8  # tokens at most of the template's turn markers around a demonstration
PROFILES = ("t4", "gpu24")
SHAPE = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "max_position_embeddings", "tie_word_embeddings", "pad_token_id", "eos_token_id", "bos_token_id",
)  # fmt: skip
FILLER = "and"  # one token of the nano tokenizer
T4_GIB = 14.0  # a T4 shows 14.6 GiB, of which the CUDA context takes about half a GiB
STEPS = 3  # the first one warms up


def fit_rows(tiny=False):
    """All rows, first the profiles as they are -> list of dicts; "profile" is "" in the rows of the grid.

    Hard sampling needs groups of 10, since fewer rollouts do not show that a sample is hard.
    """
    whole = []
    for name, lengths in zip(PROFILES, TINY_LENGTHS):
        profile = get_profile(name)
        prompt, completion = lengths if tiny else (profile.max_prompt_tokens, profile.max_completion_length)
        whole += [
            {"profile": name, "model": "tiny" if tiny else "1.5B", "weights": "4-bit QLoRA",
             "group": get_recipe("grpo").num_generations, "prompt": prompt, "completion": completion, "hard": hard,
             "shared": shared}
            for hard in (False, True) for shared in (False, True)
        ]  # fmt: skip
    return whole + [
        {"profile": "", "model": model, "weights": weights, "group": group, "prompt": prompt, "completion": completion,
         "hard": hard, "shared": shared}
        for prompt, completion in (TINY_LENGTHS if tiny else LENGTHS)
        for model in (("tiny",) if tiny else ("1.5B", "0.5B", "3B", "7B"))
        for weights in ("4-bit QLoRA", "bf16 LoRA")
        for group, hard in ((10, False), (10, True), (4, False))
        for shared in (False, True)
    ]  # fmt: skip


def make_model(size, models):
    """Random bfloat16 weights of a Qwen2.5's shape and the nano model's tokenizer -> their folder.

    Saved as a Llama with biases, which computes the same (but for one more bias a layer): beside a Qwen2 config,
    transformers 5.24 rebuilds any tokenizer as byte-level BPE, and the nano model's would read single letters.
    """
    folder = Path(models) / size
    if folder.is_dir():
        return folder
    tokenizer = build_tokenizer()
    config = qwen25_config(
        size, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, bos_token_id=None
    )
    place = "cuda" if describe_hardware().memory_gb > 24 and torch.cuda.is_available() else "cpu"
    count = count_parameters(config)
    size_gib, free_gib = 2 * (count["linear"] + count["other"]) / 2**30, psutil.virtual_memory().available / 2**30
    if place == "cpu" and size_gib > free_gib:
        raise MemoryError(f"{size_gib:.1f} GiB of weights, {free_gib:.1f} GiB of the machine's memory are free")
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(place):
        model = LlamaForCausalLM(LlamaConfig(attention_bias=True, **{name: getattr(config, name) for name in SHAPE}))
    torch.set_default_dtype(torch.float32)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as beside:
        model.save_pretrained(Path(beside, "model"))
        tokenizer.save_pretrained(Path(beside, "model"))
        Path(beside, "model").rename(folder)
    del model
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return folder


def filled(sample, tokens):
    """`sample` with so many filler words more in its question."""
    question = sample.messages[0]["content"] + f" {FILLER}" * tokens
    return replace(sample, messages=[{"role": "user", "content": question}])


def fit_samples(tokenizer, prompt_tokens, demo_tokens=DEMO_TOKENS):
    """Samples with prompts of exactly so many tokens, and a bank of demonstrations of `demo_tokens` -> (list, bank)."""
    samples = nano_samples("train", 4)
    lengths = [len(tokenizer(render_prompt(s, tokenizer)).input_ids) for s in samples]
    questions = [filled(s, prompt_tokens - n) for s, n in zip(samples, lengths)]
    shown = [len(tokenizer(s.messages[0]["content"] + " " + gold_completion(s)).input_ids) for s in samples]
    # The template's turn markers around question and answer are not counted.
    return questions, VariantBank([filled(s, demo_tokens - n) for s, n in zip(samples, shown)])


def measure(row, folder, steps):
    """One row on this machine -> what it took; memory in GiB, seconds of each step after the first."""
    four_bit = row["weights"] == "4-bit QLoRA"
    grid = {"dtype": "bfloat16", "quantization": "4bit" if four_bit else None, "prompts_per_step": 1,
            "micro_batch": row["group"] if row["shared"] else 2, "demo_room": DEMO_TOKENS + MARKERS}  # fmt: skip
    profile = get_profile(
        row["profile"] or "t4", model=str(folder), data="nano", max_completion_length=row["completion"],
        max_prompt_tokens=row["prompt"], share_prompts=row["shared"], **({} if row["profile"] else grid),
    )  # fmt: skip
    recipe = get_recipe("hard_sampling" if row["hard"] else "grpo", num_generations=row["group"])
    torch.manual_seed(0)
    model, tokenizer = load_policy(profile)
    loaded = peak_memory()
    samples, bank = fit_samples(tokenizer, row["prompt"], profile.demo_room - MARKERS)
    took = measure_steps(model, tokenizer, samples, recipe, profile, steps, longest=True, bank=bank)
    return {
        "result": "FIT", "seconds_per_step": round(min(took["seconds"][1:]), 3),
        "seconds": [round(s, 3) for s in took["seconds"]],
        "memory": took["memory"], "memory_after_loading": loaded, "prompt_tokens": took["prompt_tokens"],
        "completion_tokens": took["completion_tokens"], "parameters": model.num_parameters(),
        "settings": {"beta": recipe.beta, "prompts_per_step": profile.prompts_per_step,
                     "dtype": pick_dtype(profile.dtype), "micro_batch": profile.micro_batch,
                     "lora_rank": profile.lora_rank,
                     "gradient_checkpointing": profile.gradient_checkpointing, "optim_on_cuda": profile.optim},
        "random_weights": True, "machine": str(describe_hardware()), "versions": software_versions(),
    }  # fmt: skip


def run_row(row, models, timeout, steps):
    """Measure one row in a process of its own -> the row with its result; it never raises.

    The random model, where it is not there yet, is made by a process before, which may take as long again.
    """
    script, place = [sys.executable, __file__], ["--models", str(models)]
    commands = [[*script, "--row", json.dumps(row), *place, "--steps", str(steps)]]
    if not Path(models, row["model"]).is_dir():
        for cut in Path(models).glob("tmp*"):  # what a killed one has left: up to 15 GB
            shutil.rmtree(cut, ignore_errors=True)
        commands.insert(0, [*script, "--make", row["model"], *place])
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
        except subprocess.TimeoutExpired:
            return {**row, "result": "ERROR", "error": f"not done after {timeout:.0f} s"}
        if done.returncode:
            break
    last = (done.stdout.strip().splitlines() or [""])[-1]
    if done.returncode == 0 and last.startswith("{"):
        return {**row, **json.loads(last)}
    lines = done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"]
    known = next((line for line in reversed(lines) if "out of memory" in line.lower()), None)
    return {**row, "result": "OOM" if known else "ERROR", "error": (known or lines[-1])[:300]}


def measure_all(rows, out, models, minutes, timeout, steps):
    """Measure the rows that `out` does not hold, as long as the time allows -> how many are still missing."""
    out.parent.mkdir(parents=True, exist_ok=True)
    done = read_jsonl(out) if out.exists() else []
    out.write_text("".join(json.dumps(row) + "\n" for row in done))  # without a half-written last line
    missing = [row for row in rows if not any(row.items() <= old.items() for old in done)]
    end, longest = time.monotonic() + 60 * minutes, 0.0
    while missing and time.monotonic() + longest < end:
        row, began = missing.pop(0), time.monotonic()
        result = run_row(row, models, min(timeout, max(1.0, end - began)), steps)
        if result["result"] == "ERROR" and "not done" in result["error"] and end - began < timeout:
            missing.insert(0, row)  # cut by the end of the budget, not by itself
            break
        longest = max(longest, time.monotonic() - began)
        with out.open("a") as file:
            file.write(json.dumps(result) + "\n")
        shown = (*row, "result", "seconds_per_step", "memory", "error")
        print(" ".join(f"{name}={result[name]}" for name in shown if name in result), flush=True)
    return len(missing)


def on_t4(row):
    """Would the row's memory fit a T4? "yes", "no", "close" (between the two numbers torch gives), "" if unknown."""
    if "reserved" not in row.get("memory", {}):
        return ""
    peak = {name: max(row[part][name] for part in ("memory", "memory_after_loading")) for name in row["memory"]}
    return "yes" if peak["reserved"] <= T4_GIB else "no" if peak["allocated"] > T4_GIB else "close"


def fit_table(rows):
    """Rows -> Markdown: what fits, its peak memory and seconds per step."""
    rows = sorted(rows, key=lambda r: (r["profile"] == "", list(SIZES).index(r["model"]), r["weights"], r["prompt"],
                                       r["group"], r["hard"], r["shared"]))  # fmt: skip
    machines = sorted({row["machine"] for row in rows if "machine" in row})
    lines = [
        "Random weights, full-length prompts and completions; rows without a profile take rank 16 and passes of two "
        "rollouts, or of a whole group where the prompt is computed once (shared); "
        f"machine: {', '.join(machines) or 'unknown'}. "
        f"The T4 column is an estimate by memory only: peak memory against {T4_GIB:.0f} GiB; no T4 was run. "
        "Groups of 4 have no hard sampling: a sample is hard after ten rollouts.", "",
        "| profile | model | weights | prompts x group | prompt + completion | hard sampling | shared | result "
        "| peak GiB | s/step | T4, by memory only |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in rows:
        peak = "-".join(f"{value:.1f}" for value in row.get("memory", {}).values())
        seconds = f"{row['seconds_per_step']:.1f}" if "seconds_per_step" in row else ""
        profile = f"`{row['profile']}`" if row["profile"] else ""
        prompts = get_profile(row["profile"]).prompts_per_step if row["profile"] else 1
        lines.append(
            f"| {profile} | {row['model']} | {row['weights']} | {prompts} x {row['group']} | "
            f"{row['prompt']} + {row['completion']} | {'yes' if row['hard'] else 'no'} | "
            f"{'yes' if row['shared'] else 'no'} | {row['result']} | {peak} | "
            f"{seconds} | {on_t4(row)} |"
        )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("assets/runs/gpu-fit/rows.jsonl"))
    parser.add_argument("--models", type=Path, default=Path("out/gpu-fit-models"), help="folder of the random models")
    parser.add_argument("--only", default="", help="model or profile of the rows to measure, 1.5B or t4 for example")
    parser.add_argument("--minutes", type=float, default=60, help="start no row that may end later")
    parser.add_argument("--timeout", type=float, default=300, help="seconds a row may take")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--tiny", action="store_true", help="the same code with a tiny model")
    parser.add_argument("--table", type=Path, help="only print the table of these rows")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--make", choices=SIZES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    try:
        run(arguments, parser)
    except (KitError, OSError) as error:
        parser.error(str(error))


def run(arguments, parser):
    """What the command line asks for."""
    if arguments.make:
        make_model(arguments.make, arguments.models)
        return
    if arguments.row:
        row = json.loads(arguments.row)
        try:
            result = measure(row, make_model(row["model"], arguments.models), arguments.steps)
        except torch.OutOfMemoryError as error:
            result = {"result": "OOM", "error": str(error)[:300], "random_weights": True,
                      "machine": str(describe_hardware()), "versions": software_versions()}  # fmt: skip
        print(json.dumps(result))
    elif arguments.table:
        print(fit_table(read_jsonl(arguments.table)))
    else:
        rows = fit_rows(arguments.tiny)
        rows = [row for row in rows if row["model"].startswith(arguments.only) or row["profile"] == arguments.only]
        if not rows:
            known = dict.fromkeys(name for row in fit_rows(arguments.tiny) for name in (row["profile"], row["model"]))
            parser.error(f"--only {arguments.only}: no such row; choose one of {', '.join(filter(None, known))}")
        left = measure_all(rows, arguments.out, arguments.models, arguments.minutes, arguments.timeout, arguments.steps)
        print(fit_table(read_jsonl(arguments.out)), f"{left} rows are left" if left else "all rows are there", sep="\n")


if __name__ == "__main__":
    main()
