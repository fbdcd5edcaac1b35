"""The most memory that a warm start of SmolLM2-135M takes on a CPU: one step on rows of full length.

The architecture with random weights (memory does not depend on their values), profile smol-cpu's attention and
precision, 8 rows of 480 prompt and 160 answer tokens, by rows in a forward pass. Each number is that of a process of
its own, torch and transformers included.

    python benchmarks/warm_memory.py --rows 1,2 --out assets/benchmarks/warm_memory.json

Some minutes of a CPU for each; 8 rows at once need more than 10 GiB.
"""

import argparse
import random
import subprocess
import sys
import time
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from toolexpander_lite.base.runs import write_json
from toolexpander_lite.training import warm_start
from toolexpander_lite.training.record import here
from toolexpander_lite.training.trial_steps import peak_memory

SMOLLM2 = {"vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
           "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True}  # fmt: skip
PROMPT, ANSWER = 480, 160


class Padding:
    """All that a warm start on encoded rows asks of a tokenizer."""

    pad_token_id = 0


def one_step(rows_at_once):
    """One optimizer step -> (GiB at the peak of this process, seconds)."""
    torch.set_num_threads(1)
    config = AutoConfig.for_model("llama", **SMOLLM2)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    rng = random.Random(0)
    words = [[rng.randrange(SMOLLM2["vocab_size"]) for _ in range(PROMPT + ANSWER)] for _ in range(8)]
    rows = [(ids, [warm_start.IGNORED] * PROMPT + ids[PROMPT:]) for ids in words]
    warm_start.rows_that_fit = lambda *arguments: rows
    began = time.perf_counter()
    warm_start.sft_warm_start(model, Padding, rows, 1, dtype="bfloat16", rows_at_once=rows_at_once)
    return peak_memory()["rss"], time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="1,2", help="rows in a forward pass, with commas")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(*one_step(arguments.one))
        return
    found = []
    for rows in map(int, arguments.rows.split(",")):
        command = [sys.executable, __file__, "--one", str(rows)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peak, seconds = map(float, done.stdout.split())
        found.append({"rows_at_once": rows, "GiB_peak": peak, "seconds": round(seconds, 1)})
        print(found[-1], flush=True)
    if arguments.out:
        write_json(arguments.out, {"tokens_per_row": PROMPT + ANSWER, "rows": found, **here()})


if __name__ == "__main__":
    main()
