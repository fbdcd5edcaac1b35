"""The same weights in float32, bfloat16 and 4 bits on the same questions: how many are right, memory, time.

    python benchmarks/four_bit.py --model out/warm/final --data-path rlla_sft.json --out assets/benchmarks/four_bit.json

Each precision has a process of its own, so that none pays for another's memory; its peak is the GPU's on CUDA, else the
process's. A CPU without fast bfloat16 computes in float32 in its place, so the second is left out there. The questions
are the held-out ones of the profile and the training rows that neither a run of this seed nor a warm start trains on;
answers are greedy. What counts is the difference on the same questions: right in one precision and wrong in the other.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from toolexpander_lite.base.errors import KitError
from toolexpander_lite.base.runs import software_versions, write_json
from toolexpander_lite.evaluation.accuracy import ask_and_judge, generate
from toolexpander_lite.method.prompts import render_prompt
from toolexpander_lite.models.hardware import describe_hardware, pick_dtype
from toolexpander_lite.models.memory import held_bytes
from toolexpander_lite.models.policy import load_policy, model_hash
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.splits import load_splits
from toolexpander_lite.training.trial_steps import peak_memory

# Name -> what changes in the profile. bitsandbytes packs the linear layers; the rest stays in the dtype.
PRECISIONS = {
    "float32": {"dtype": "float32", "quantization": None},
    "bfloat16": {"dtype": "bfloat16", "quantization": None},
    "4bit": {"dtype": "bfloat16", "quantization": "4bit"},
}


def precisions_here():
    """Names of `PRECISIONS` -> list, without "bfloat16" on a machine that would compute in float32 under that name."""
    return [name for name in PRECISIONS if name != "bfloat16" or pick_dtype(name) != "float32"]


def questions(profile, seed, tokenizer):
    """Held-out samples, then training samples that neither a run of `seed` nor a warm start trains on."""
    tested = load_splits(profile, seed, tokenizer).held_out
    return tested + load_splits(replace(profile, eval_split="validation"), seed, tokenizer).held_out


def measure(precision, profile, seed, most):
    """One precision, in this process -> plain values; "right" holds the ids of the questions answered right."""
    # Adapters are kept: bitsandbytes' matrices are meant to be trained through them. Fresh ones change no answer.
    model, tokenizer = load_policy(replace(profile, **PRECISIONS[precision]))
    samples = questions(profile, seed, tokenizer)[:most]
    generate(model, tokenizer, [render_prompt(samples[0], tokenizer)], 2)  # the first call prepares things
    began = time.perf_counter()
    *_, verdicts = ask_and_judge(model, tokenizer, samples, profile.max_completion_length, batch_size=16)
    seconds = time.perf_counter() - began
    return {
        "precision": precision, "dtype": pick_dtype(PRECISIONS[precision]["dtype"]), "questions": len(samples),
        "MiB_weights": round(held_bytes(model) / 2**20, 1),
        "GiB_peak": peak_memory(), "seconds": round(seconds, 1),
        "questions_per_second": round(len(samples) / seconds, 3),
        "right": [s.id for s, v in zip(samples, verdicts) if v.reason == "ok"], "weights": model_hash(model),
    }  # fmt: skip


def compare(rows):
    """Against the first row: right in both, only in the first, only in the other."""
    first = set(rows[0]["right"])
    return {
        row["precision"]: {
            "both": len(first & set(row["right"])), f"only_{rows[0]['precision']}": len(first - set(row["right"])),
            "only_here": len(set(row["right"]) - first),
        }
        for row in rows[1:]
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="smol-cpu")
    parser.add_argument("--model", help="folder of a model that writes calls, from `warm-start` for example")
    parser.add_argument("--data-path", help="local file of the profile's data source")
    parser.add_argument("--seed", type=int, default=0, help="of the run, so that its rows are left out")
    parser.add_argument("--questions", type=int, default=200, help="at most")
    parser.add_argument("--precision", choices=PRECISIONS, help="measure this one in this process and print it")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    changes = {"model": arguments.model, "data_path": arguments.data_path}
    changes |= {"eval_prompts": arguments.questions}  # of each kind; the first `questions` of both are asked
    changes = {name: value for name, value in changes.items() if value is not None}
    if arguments.precision:
        try:
            profile = get_profile(arguments.profile, **changes)
            print(json.dumps(measure(arguments.precision, profile, arguments.seed, arguments.questions)))
        except KitError as error:
            parser.error(str(error))
        return 0
    rows = []
    for precision in precisions_here():
        line = [sys.executable, __file__, *sys.argv[1:], "--precision", precision]
        done = subprocess.run(line, capture_output=True, text=True)
        if done.returncode:
            print(done.stderr, file=sys.stderr)
            return 1
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print({name: len(value) if name == "right" else value for name, value in rows[-1].items()}, flush=True)
    result = {"rows": rows, "against_float32": compare(rows), "machine": str(describe_hardware()),
              "profile": arguments.profile, "seed": arguments.seed, "versions": software_versions()}  # fmt: skip
    print(json.dumps(result["against_float32"], indent=1))
    if arguments.out:
        write_json(arguments.out, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
