"""After training: does a policy begin a call more readily where a tool on offer fits than where none does?

    python benchmarks/call_or_words.py assets/runs/real-requests --out assets/benchmarks/call_or_words.json

Asked are the model as it comes and the last weights of every run of the study that has them here (`final/`, which is
not committed), with the requests of `heldout_requests.py`: those of training and held-out ones, each with a tool that
fits and with two that do not. Kept is the probability that the answer begins with the tag of a call, and how well it
tells the two apart: the share of pairs, one prompt of each kind, in which the prompt with a tool that fits has the
higher one. 0.5 is what a coin does, 1 is perfect; it is the area under the ROC curve.

The policy may also show at a tool's name that none fits. So a call is begun for it, and kept is how well the most
likely of the names on offer tells the two kinds of prompt apart, by its log-probability, and by how far the request
lifts that over a neutral request to the same tools.

Then a threshold is put between the two, where it tells the *training* requests apart best, and held-out requests are
answered by it: no call below, and above it what the policy goes on with behind a call's first token. Counted are the
requests that it declines where no tool fits, and those that are executed rightly where one does. It costs no training.
Policies measured before December 2026 lack names and threshold.

A policy is written as soon as it is measured, and a cut measurement goes on.
"""

import copy
from dataclasses import replace

import numpy as np
import torch
from heldout_requests import measured, options, parts_asked, weights, without_its_tool

from toolexpander_lite.base.chat import CALL_OPEN
from toolexpander_lite.base.runs import write_json
from toolexpander_lite.evaluation.accuracy import generate
from toolexpander_lite.evaluation.executed import ExecutedReward
from toolexpander_lite.method.calls import judge
from toolexpander_lite.method.prompts import render_prompt
from toolexpander_lite.method.samples import tool_name
from toolexpander_lite.models.policy import load_policy

PARTS = ("train", "test")
NEUTRAL = "Please help me with this."


@torch.no_grad()
def names_weighed(model, tokenizer, sample, style):
    """Of one prompt -> (probability that the answer begins as a call does, {tool on offer: log-probability, in nats, of
    its name where a call names its tool})"""
    prompt, begun, *named = (
        tokenizer(text, add_special_tokens=False).input_ids
        for text in (render_prompt(sample, tokenizer, invite=style), f'{CALL_OPEN}\n{{"name": "',
                     *(f'{tool_name(tool)}",' for tool in sample.tools))
    )  # fmt: skip
    ids = torch.tensor([prompt + begun], device=model.device)
    read = model(input_ids=ids, use_cache=True, logits_to_keep=len(begun) + 1)
    logits, found = read.logits[0].float(), {}
    for tool, name in zip(sample.tools, named):
        ids, cache = torch.tensor([name], device=model.device), copy.deepcopy(read.past_key_values)
        more = model(input_ids=ids, past_key_values=cache).logits[0].float()
        logps = torch.cat([logits[-1:], more[:-1]]).log_softmax(-1)
        found[tool_name(tool)] = logps.gather(-1, ids[0, :, None]).sum().item()
    return logits[0].softmax(-1)[begun[0]].item(), found


def weighed(model, tokenizer, samples, style):
    """What prompts bring -> {"begun", "name", "lifted"}, an array (samples,) each; see the top of this file."""
    found = {"begun": [], "name": [], "lifted": []}
    for sample in samples:
        begun, names = names_weighed(model, tokenizer, sample, style)
        neutral = replace(sample, messages=[*sample.messages[:-1], {"role": "user", "content": NEUTRAL}])
        _, usual = names_weighed(model, tokenizer, neutral, style)
        found["begun"].append(begun)
        found["name"].append(max(names.values()))
        found["lifted"].append(max(names[name] - usual[name] for name in names))
    return {name: np.array(values) for name, values in found.items()}


def told_apart(fits, misfits):
    """Share of pairs in which the first list has the higher number; an equal pair counts half -> float"""
    above, below = np.array(fits)[:, None], np.array(misfits)[None]
    return float(((above > below) + (above == below) / 2).mean())


def best_threshold(fits, misfits):
    """Where a call begins at this probability or above, most of `fits` call and most of `misfits` do not -> float

    The largest difference of the two shares (Youden's index); of equal ones the highest threshold.
    """
    fits, misfits = np.array(fits), np.array(misfits)
    return float(max(sorted({*fits, *misfits}, reverse=True), key=lambda p: (fits >= p).mean() - (misfits >= p).mean()))


def right_if_called(model, tokenizer, samples, tasks, style, longest):
    """Whether each request is executed rightly, in format, where the answer has to begin as a call does -> [bool]"""
    begin = tokenizer.decode(tokenizer(CALL_OPEN, add_special_tokens=False).input_ids[:1])
    prompts = [render_prompt(sample, tokenizer, invite=style) + begin for sample in samples]
    texts = [begin + text for text in generate(model, tokenizer, prompts, longest, batch_size=32)]
    ends = ExecutedReward(tasks).outcomes([(sample.id, text) for sample, text in zip(samples, texts)])
    in_format = [judge(text, s.calls, s.tools, think=False).format_ok for text, s in zip(texts, samples)]
    return [ok and end == "ok" for ok, end in zip(in_format, ends)]


def measure(profile, style, per_family, seed):
    model, tokenizer = load_policy(profile, merge=True)
    (asked, tasks), found, begun = parts_asked(profile, per_family, seed), {}, {}
    for part in PARTS:
        samples = asked[part]
        fits, misfits = (weighed(model, tokenizer, some, style) for some in (samples, without_its_tool(samples)))
        begun[part] = fits["begun"], misfits["begun"]
        found[part] = {
            "asked": len(samples), "where_one_fits": fits["begun"].mean().item(),
            "where_none_fits": misfits["begun"].mean().item(), "told_apart": told_apart(*begun[part]),
            "by_name": told_apart(fits["name"], misfits["name"]),
            "by_lift": told_apart(fits["lifted"], misfits["lifted"]),
        }  # fmt: skip
    threshold = best_threshold(*begun["train"])
    right = right_if_called(model, tokenizer, asked["test"], tasks, style, profile.max_completion_length)
    fits, misfits = (probability >= threshold for probability in begun["test"])
    found["threshold"] = {
        "at": threshold, "declined_where_none_fits": int((~misfits).sum()), "called_where_one_fits": int(fits.sum()),
        "right_if_called": sum(right), "right": int((fits & right).sum()),
    }  # fmt: skip
    return found


def main():
    arguments = options(__doc__).parse_args()
    about, policies = measured(arguments)
    for name, profile, seed in weights(arguments):
        if name not in policies:
            policies[name] = measure(profile, arguments.style, arguments.per_family, seed)
            write_json(arguments.out, about | {"policies": policies})
            print(name, policies[name], flush=True)


if __name__ == "__main__":
    main()
