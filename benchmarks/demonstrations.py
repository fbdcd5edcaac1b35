"""What a demonstration does to hard questions, before any training, by the policy that is asked.

    python benchmarks/demonstrations.py --data-path rlla_sft.json --out assets/benchmarks/demonstrations.json \
        --policy plain=out/warm/final --policy demonstrated=out/warm-demonstrated/final

Asked are the training questions of the runs with `--seeds`, by a group of rollouts each, as `toolexpander` asks them.
Those without a right rollout are hard, and asked three times more: "again", as before, since a group without luck may
have some the next time; "demonstrated", with a demonstration in front as hard sampling shows it; and "listed", with the
tool that the demonstration calls among the tools on offer as well. All are judged by the row's own tools, so
"unknown_tool" is a call of a tool that the row does not have.
"""

import argparse
import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch

from toolexpander_lite.base.errors import KitError
from toolexpander_lite.base.runs import software_versions, write_json
from toolexpander_lite.evaluation.accuracy import generate
from toolexpander_lite.method.calls import judge
from toolexpander_lite.method.hard_sampling import DRAWS
from toolexpander_lite.method.prompts import render_prompt
from toolexpander_lite.method.samples import tool_name
from toolexpander_lite.models.hardware import describe_hardware
from toolexpander_lite.models.policy import load_policy, model_hash
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.splits import load_splits
from toolexpander_lite.variants.all_recipes import get_recipe
from toolexpander_lite.variants.other_demonstrations import VariantBank

WAYS = ("alone", "again", "demonstrated", "listed")
RECIPE = get_recipe("toolexpander")


def prompts_of(sample, bank, tokenizer, longest, seed):
    """One sample with the same demonstration -> {"demonstrated": prompt, "listed": prompt}; {} when none fits."""
    rng, listed = random.Random(f"{seed}-{sample.id}"), {tool_name(tool) for tool in sample.tools}
    for _ in range(DRAWS):
        demos = bank.choose(sample, 1, rng)
        prompt = render_prompt(sample, tokenizer, demos, RECIPE.invite)
        if demos and len(tokenizer(prompt).input_ids) <= longest:
            called = {call["name"] for call in demos[0].calls} - listed
            tools = [tool for tool in demos[0].tools if tool_name(tool) in called]
            more = replace(sample, tools=[*tools, *sample.tools])
            return {"demonstrated": prompt, "listed": render_prompt(more, tokenizer, demos, RECIPE.invite)}
    return {}


def ask(model, tokenizer, samples, bank, profile, seed, tell=lambda text: None):
    """All samples of one run's training set -> {way of `WAYS`: list of a Counter of reasons per group}."""
    groups = {way: [] for way in WAYS}

    def rollouts(sample, prompt):
        prompts = [prompt] * RECIPE.num_generations
        written = generate(
            model, tokenizer, prompts, profile.max_completion_length, RECIPE.temperature, RECIPE.num_generations
        )
        return Counter(judge(text, sample.calls, sample.tools).reason for text in written)

    for number, sample in enumerate(samples, 1):
        alone = render_prompt(sample, tokenizer, invite=RECIPE.invite)
        groups["alone"].append(rollouts(sample, alone))
        if not groups["alone"][-1]["ok"]:
            shown = prompts_of(sample, bank, tokenizer, profile.max_prompt_tokens + profile.demo_room, seed)
            for way, prompt in {"again": alone, **shown}.items() if shown else ():
                groups[way].append(rollouts(sample, prompt))
        tell(f"seed {seed}: {number} of {len(samples)}, {len(groups['demonstrated'])} hard")
    return groups


def measure(name, profile, seeds):
    """One policy -> a row per way of asking."""
    torch.manual_seed(0)
    model, tokenizer = load_policy(profile, merge=True)
    groups = {way: [] for way in WAYS}
    for seed in seeds:
        train = load_splits(profile, seed, tokenizer).train
        tell = lambda text: print(f"{name}, {text}", flush=True)  # noqa: E731
        for way, found in ask(model, tokenizer, train, VariantBank(train), profile, seed, tell).items():
            groups[way] += found
    return [
        {"policy": name, "weights": model_hash(model), "asked": way, "groups": len(found),
         "groups_with_a_right_one": sum(reasons["ok"] > 0 for reasons in found),
         "reasons": dict(sum(found, Counter()).most_common())}
        for way, found in groups.items()
    ]  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="smol-cpu")
    parser.add_argument("--policy", action="append", required=True, metavar="NAME=MODEL", help="give it once for each")
    parser.add_argument("--data-path", help="local file of the profile's data source")
    parser.add_argument("--seeds", default="0,1", help="of the runs whose training questions are asked, with commas")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    try:
        rows = []
        for policy in arguments.policy:
            name, _, model = policy.partition("=")
            if not name or not model:
                parser.error(f"--policy {policy}: give NAME=MODEL")
            profile = get_profile(arguments.profile, model=model, data_path=arguments.data_path)
            rows += measure(name, profile, [int(seed) for seed in arguments.seeds.split(",")])
    except (KitError, ValueError) as error:
        parser.error(str(error))
    for row in rows:
        print(json.dumps(row))
    if arguments.out:
        write_json(arguments.out, {
            "rows": rows, "profile": arguments.profile,
            "seeds": arguments.seeds, "recipe": RECIPE.name, "machine": str(describe_hardware()),
            "versions": software_versions(),
        })  # fmt: skip


if __name__ == "__main__":
    main()
