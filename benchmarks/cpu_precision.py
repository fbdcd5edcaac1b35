"""float32 against bfloat16 on this CPU: seconds of the parts of a training step of SmolLM2-135M, and memory.

    python benchmarks/cpu_precision.py --out assets/benchmarks/cpu_precision.json

A group of ten rollouts with six demonstrations in front is sampled, then scored with its gradient; and six answers are
learnt under the plain prompt, as context distillation does. Each measurement is a process of its own, on one thread,
the two precisions in turns, so that what else runs on the machine slows both. Seconds are those of the processor.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch

from toolexpander_lite.base.runs import software_versions, write_json
from toolexpander_lite.method.prompts import render_prompt
from toolexpander_lite.models.hardware import describe_hardware, processor_name
from toolexpander_lite.models.policy import load_policy
from toolexpander_lite.models.shared_prompt import share_prompts
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.splits import load_splits

PARTS, PRECISIONS, TOKENS = ("sample", "learn", "distil"), ("float32", "bfloat16"), 40


def learn(model, ids):
    """Log-probabilities of the last `TOKENS` tokens, and their gradient."""
    model(input_ids=ids, logits_to_keep=TOKENS + 1).logits.float().log_softmax(-1)[..., 0].sum().backward()


def measure(precision):
    """One process, one precision -> {part: seconds, "peak_gib"}."""
    torch.set_num_threads(1)
    model, tokenizer = load_policy(get_profile("smol-world", dtype="float32"))
    for weight in model.parameters():
        if precision == "bfloat16" and not weight.requires_grad:  # as `load_policy` has them where it is fast
            weight.data = weight.data.bfloat16()
    rows = load_splits(get_profile("smol-world"), 0, tokenizer).train
    long = [render_prompt(rows[0], tokenizer, rows[6:12], "native")] * 10
    plain = [render_prompt(row, tokenizer, (), "native") for row in rows[:6]]
    long, plain = (tokenizer(texts, return_tensors="pt", add_special_tokens=False, padding=True, padding_side="left")
                   for texts in (long, plain))  # fmt: skip
    share_prompts(model)
    how = {"max_new_tokens": TOKENS, "min_new_tokens": TOKENS, "pad_token_id": tokenizer.pad_token_id}
    found = {}
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        for part in PARTS:
            began = time.process_time()
            if part == "sample":
                with torch.no_grad():
                    rollouts = model.generate(**long, **how, do_sample=True)
            else:
                learn(model, rollouts if part == "learn" else plain.input_ids)
            found[part] = time.process_time() - began
    return found | {"peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precision", choices=PRECISIONS, help=argparse.SUPPRESS)  # what each process is told
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.precision:
        return print(json.dumps(measure(arguments.precision)))
    found = {precision: [] for precision in PRECISIONS}
    for _ in range(arguments.repeats):
        for precision in PRECISIONS:
            told = subprocess.run([sys.executable, __file__, "--precision", precision], check=True, capture_output=True,
                                  text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})  # fmt: skip
            found[precision].append(json.loads(told.stdout.splitlines()[-1]))
            print(precision, {name: round(value, 1) for name, value in found[precision][-1].items()}, flush=True)
    middle = {precision: {name: round(median(run[name] for run in runs), 2) for name in (*PARTS, "peak_gib")}
              for precision, runs in found.items()}  # fmt: skip
    ratios = {part: round(middle["bfloat16"][part] / middle["float32"][part], 2) for part in PARTS}
    print("bfloat16 over float32:", ratios)
    if arguments.out:
        amx = describe_hardware().fast_bfloat16
        write_json(arguments.out, {
            "medians": middle, "ratios": ratios, "runs": found, "processor": processor_name(), "amx": amx,
            "machine": str(describe_hardware()), "versions": software_versions(),
        })  # fmt: skip


if __name__ == "__main__":
    main()
