"""After training: what the runs of a study do with more held-out requests than a run has time to ask, greedily.

    python benchmarks/heldout_requests.py assets/runs/real-requests --out assets/benchmarks/heldout_requests.json

Asked are the model as it comes and the last weights of every run of the study that has them here (`final/`, which is
not committed), with requests of `worlds.request_world` that no training request is like:

    test     new wordings, names and numbers, tools of training
    unseen   the same of tools that training never showed
    none     requests of `test` with two other tools on offer, of which none does it: no call is right
    fresh    as test, in wordings by an author who saw no answers; committed before any policy was asked them
    fresh_unseen
             as unseen, in such wordings

And with what it trained on, to see what was learnt by heart:

    train    its training requests
    swapped  the same, with other tools on offer beside those that the right answer calls

A run is written as soon as it is measured, and a cut measurement goes on. Parts that are measured are not asked again.
The commit of a measurement stands beside it, or beside its policy where that was measured at once.
"""

import argparse
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

from toolexpander_lite.base.runs import read_json, software_versions, write_json
from toolexpander_lite.evaluation.accuracy import ask_and_judge
from toolexpander_lite.evaluation.answer_kinds import answer_kind
from toolexpander_lite.evaluation.executed import ExecutedReward
from toolexpander_lite.method.calls import parse_completion
from toolexpander_lite.method.samples import tool_name
from toolexpander_lite.models.hardware import describe_hardware
from toolexpander_lite.models.policy import load_policy
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.splits import tools_by_name, with_other_tools
from toolexpander_lite.worlds.request_world import SPLITS, request_tasks

PARTS = (*SPLITS, "swapped", "none")


def without_its_tool(samples):
    """Each sample with two tools on offer that other samples call, and not its own -> list; its answer is no call."""
    schemas = {tool_name(tool): tool for sample in samples for tool in sample.tools}
    changed = []
    for sample in samples:
        others = [tool for name, tool in schemas.items() if name not in {tool_name(t) for t in sample.tools}]
        offered = random.Random(sample.id).sample(others, 2)
        changed.append(replace(sample, id=f"{sample.id}-none", tools=offered, calls=[]))
    return changed


def with_tools_swapped(tasks):
    """Each task with another tool on offer beside the one it calls, of those that any of `tasks` offers -> list."""
    known, swapped = tools_by_name([task.sample for task in tasks]), []
    for task in tasks:
        (call,) = task.sample.calls
        sample = with_other_tools(task.sample, {call["name"]}, known, f"swapped {task.sample.id}")
        swapped.append(replace(task, sample=replace(sample, id=f"{sample.id}-swapped")))
    return swapped


def fault(text, sample, end):
    """What is wrong with an answer to a request of one call -> str; `end`: of `ExecutedReward.outcomes`."""
    calls = parse_completion(text, think=False).calls
    if end == "ok":
        return "right, in another format"
    if not calls or end == "unreadable":
        return "no readable call"
    if calls[0]["name"] != sample.calls[0]["name"]:
        return "a tool not on offer" if end == "unknown_tool" else "the other tool on offer"
    return "arguments against the schema" if end == "bad_arguments" else "other values, or more calls"


def parts_asked(profile, per_family, seed):
    """What is asked of the policy of one seed -> ({part: samples of one call each}, {sample id: task})"""
    asked = {name: request_tasks(name, per_family) for name in SPLITS if name != "train"}
    asked["train"] = request_tasks("train", profile.train_prompts, seed)
    asked = {name: [task for task in found if len(task.sample.calls) == 1] for name, found in asked.items()}
    asked["swapped"] = with_tools_swapped(asked["train"])
    tasks = {task.sample.id: task for found in asked.values() for task in found}
    asked = {name: [task.sample for task in found] for name, found in asked.items()}
    return asked | {"none": without_its_tool(asked["test"])}, tasks


def measure(profile, style, asked, tasks):
    """One policy asked `asked` of `parts_asked` -> {part: what it answered}"""
    model, tokenizer = load_policy(profile, merge=True)
    run, found = ExecutedReward(tasks), {}
    for name, samples in asked.items():
        how = tokenizer, samples, profile.max_completion_length
        _, texts, verdicts = ask_and_judge(model, *how, batch_size=32, invite=style)
        kinds = Counter(answer_kind(text, sample.tools) for text, sample in zip(texts, samples))
        found[name] = {"asked": len(samples), "kinds": dict(kinds), "in_format": sum(v.format_ok for v in verdicts)}
        if name == "none":
            continue
        ends = run.outcomes([(s.id, text) for s, text in zip(samples, texts)])
        right = [v.format_ok and end == "ok" for v, end in zip(verdicts, ends)]
        by_tool = Counter(sample.family for sample, ok in zip(samples, right) if ok)
        order = "".join("01"[ok] for ok in right)  # in the order of `request_tasks`, so that runs can be paired
        faults = Counter(fault(*given) for *given, ok in zip(texts, samples, ends, right) if not ok)
        found[name] |= {"right": sum(right), "by_tool": dict(by_tool), "order": order, "ends": dict(Counter(ends)),
                        "faults": dict(faults)}  # fmt: skip
    return found


def options(about):
    """The command line that measurements of a study's weights have in common -> `ArgumentParser`"""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder of runs, with the weights of each in final/")
    parser.add_argument("--profile", default="smol-world")
    parser.add_argument("--style", default="native", help="prompt style of the runs")
    parser.add_argument("--per-family", type=int, default=10, help="requests of each tool")
    parser.add_argument("--out", type=Path, required=True)
    return parser


def weights(arguments):
    """The model as it comes, and each run of the study that has its weights here -> [(name, profile, seed)]"""
    finals = sorted(folder for folder in arguments.study.glob("*/seed-*/final") if any(folder.glob("*.safetensors")))
    runs = [(f"{final.parents[1].name}/{final.parent.name}", get_profile(arguments.profile, model=str(final)),
             int(final.parent.name.removeprefix("seed-"))) for final in finals]  # fmt: skip
    return [("as it comes", get_profile(arguments.profile), 0), *runs]


def measured(arguments):
    """What a file of measurements begins with, and the policies in it by now -> (dict, {name: found})"""
    about = {"per_family": arguments.per_family, "style": arguments.style, "machine": str(describe_hardware()),
             "versions": software_versions()}  # fmt: skip
    return about, read_json(arguments.out)["policies"] if arguments.out.exists() else {}


def main():
    parser = options(__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to ask, all by default")
    arguments = parser.parse_args()
    about, policies = measured(arguments)
    for name, profile, seed in weights(arguments):
        known = policies.get(name, {})
        if missing := [part for part in arguments.parts if part not in known]:
            asked, tasks = parts_asked(profile, arguments.per_family, seed)
            found = measure(profile, arguments.style, {part: asked[part] for part in missing}, tasks)
            commit = {"git_commit": about["versions"]["git_commit"]}
            policies[name] = known | {part: told | commit for part, told in found.items()}
            write_json(arguments.out, about | {"policies": policies})
            print(name, {part: f"{f.get('right', '-')} of {f['asked']}" for part, f in found.items()}, flush=True)


if __name__ == "__main__":
    main()
