"""Before any training: right rollouts by number and kind of demonstrations, on the requests of `worlds.request_world`.

    python benchmarks/kinds_of_demonstrations.py --out assets/benchmarks/kinds_of_demonstrations.json
    python benchmarks/kinds_of_demonstrations.py --model FOLDER --rows 10 --rollouts 20 --formats native,think

Asked are training requests, one of each tool and then over again, by `--rollouts` each at the paper's temperature. A
cell is a format, a kind and a number; it is written as soon as it is measured, and a cut measurement goes on, as does
one that is given more `--rows`. Kinds:

    same_tool     of the tool that the answer calls, drawn unchecked
    other_tool    of tools that are not on offer
    corrupted     same_tool, with each value taken from another call
    verified      same_tool, drawn anew (4 times at most) until the model is right in one of as many rollouts; measured
                  in fresh rollouts
    each_offered  the paper's: of both tools on offer, half of the number of each
"""

import argparse
import json
import random
import time
from dataclasses import replace
from pathlib import Path

import torch

from toolexpander_lite.base.runs import read_json, software_versions, write_json
from toolexpander_lite.evaluation.accuracy import generate
from toolexpander_lite.evaluation.executed import ExecutedReward
from toolexpander_lite.method.demonstrations import offering
from toolexpander_lite.method.prompts import render_prompt, wants_think
from toolexpander_lite.models.hardware import describe_hardware, pick_dtype
from toolexpander_lite.models.policy import load_policy, model_hash
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.splits import load_splits
from toolexpander_lite.variants.other_demonstrations import VariantBank

CELLS = (
    *(("same_tool", number) for number in (0, 1, 2, 3, 4, 6)), ("each_offered", 6), ("other_tool", 3),
    ("corrupted", 3), ("verified", 3),
)  # fmt: skip
SOURCES = {"other_tool": "other_tool", "corrupted": "corrupted"}  # the others draw at random
DRAWS, TEMPERATURE = 4, 0.7


def demonstrations(sample, bank, kind, number, seed):
    """Up to `number` rows to show -> list."""
    called = {call["name"] for call in sample.calls}
    tools = [tool for tool in sample.tools if tool["function"]["name"] in called]
    asked = sample if kind in ("each_offered", "other_tool") else replace(sample, tools=tools)
    return bank.choose(asked, number, random.Random(f"{seed}-{sample.id}"))


class Asker:
    """Asks one model: `right(sample, kind, number)` -> (right rollouts, demonstrations shown)."""

    def __init__(self, profile, style, rollouts):
        self.profile, self.style, self.rollouts = profile, style, rollouts
        self.model, self.tokenizer = load_policy(profile, merge=True)
        data = load_splits(profile, 0, self.tokenizer)
        self.rows, self.run = data.train, ExecutedReward(data.tasks, wants_think(style))

    def ask(self, sample, shown, seed):
        prompt = render_prompt(offering(sample, shown), self.tokenizer, shown, self.style)
        torch.manual_seed(seed)
        dtype = pick_dtype(self.profile.dtype)
        with torch.autocast(self.model.device.type, getattr(torch, dtype), enabled=dtype != "float32"):
            texts = generate(
                self.model, self.tokenizer, [prompt] * self.rollouts, self.profile.max_completion_length, TEMPERATURE
            )
        n = len(texts)
        return int(sum(self.run([prompt] * n, texts, [sample.calls] * n, [sample.tools] * n, [sample.id] * n)))

    def right(self, sample, kind, number):
        per_tool = number // 2 if kind == "each_offered" else max(number, 1)
        bank = VariantBank(self.rows, SOURCES.get(kind, "random"), per_tool)
        for draw in range(DRAWS if kind == "verified" else 1):
            shown = demonstrations(sample, bank, kind, number, draw)
            if kind != "verified" or self.ask(sample, shown, seed=1000 + draw):
                return self.ask(sample, shown, seed=0), len(shown)
        return None, 0  # never verified: the row gets none


def find_cell(cells, style, kind, number):
    """The cell of that name, made if there is none -> dict."""
    name = {"format": style, "kind": kind, "number": number}
    for cell in cells:
        if name.items() <= cell.items():
            return cell
    sums = ("requests", "rollouts", "right", "requests_with_a_right_one", "shown", "not_verified")
    cells.append(name | dict.fromkeys(sums, 0) | {"parts": []})
    return cells[-1]


def add_to(cell, verified, asked, rollouts):
    """Adds to a cell's sums: `verified`, (right rollouts, demonstrations shown) of each request, of `asked` ones."""
    cell["requests"] += len(verified)
    cell["rollouts"] += len(verified) * rollouts
    cell["right"] += sum(right for right, _ in verified)
    cell["requests_with_a_right_one"] += sum(right > 0 for right, _ in verified)
    cell["shown"] += sum(shown for _, shown in verified)
    cell["not_verified"] += asked - len(verified)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="smol-world")
    parser.add_argument("--model", help="another than the profile's")
    parser.add_argument("--formats", default="native,think", help="with commas")
    parser.add_argument("--rows", type=int, default=10, help="requests asked in each cell")
    parser.add_argument("--rollouts", type=int, default=10, help="of each")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    profile = get_profile(arguments.profile, train_prompts=8)
    profile = replace(profile, model=arguments.model or profile.model)
    asker = Asker(profile, False, arguments.rollouts)
    families = list(dict.fromkeys(s.family for s in asker.rows))
    by_family = [[s for s in asker.rows if s.family == family] for family in families]
    asked = [rows[turn] for turn in range(8) for rows in by_family][: arguments.rows]
    about = {
        "model": profile.model, "weights": model_hash(asker.model), "requests": len(asked),
        "rollouts_of_each": arguments.rollouts, "temperature": TEMPERATURE, "machine": str(describe_hardware()),
        "versions": software_versions(),
    }  # fmt: skip
    cells = read_json(arguments.out)["cells"] if arguments.out.exists() else []
    for style in arguments.formats.split(","):
        asker.style = False if style == "think" else style
        asker.run.think = wants_think(asker.style)
        for kind, number in CELLS:
            cell = find_cell(cells, style, kind, number)
            missing = asked[cell["requests"] + cell["not_verified"] :]
            if not missing:
                continue
            began = time.perf_counter()
            found = [asker.right(sample, kind, number) for sample in missing]
            add_to(cell, [told for told in found if told[0] is not None], len(found), arguments.rollouts)
            cell["parts"].append({
                "requests": len(missing), "seconds": round(time.perf_counter() - began, 1),
                "precision": pick_dtype(profile.dtype), "git_commit": about["versions"]["git_commit"],
            })  # fmt: skip
            write_json(arguments.out, about | {"cells": cells})
            print(json.dumps(cell), flush=True)


if __name__ == "__main__":
    main()
