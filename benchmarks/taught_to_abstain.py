"""Can the model be taught to tell whether a tool on offer fits, and how many requests does that take? No GRPO here.

    python benchmarks/taught_to_abstain.py --out assets/benchmarks/taught_to_abstain.json

Supervised steps from the model as it comes, half of them on gold calls and half on the gold sentence "No tool fits."
behind the same requests with their tools withheld, other tools on offer at each visit (as `sft_other_tools` and
`withheld_gold` have it). The loss is a mean over the tokens of a step, so a short sentence weighs no more than its
tokens. The arms differ in how many requests there are, and of which words: those of `train` have three wordings of each
tool, those of `fresh` ten. The steps are the same, and so are the held-out requests, in two further wordings. What
learns from `fresh` is asked none of them: no policy of a study is trained so.

Kept are, now and then, how well it tells the two apart by the first token (see `call_or_words.py`; 0.5 is a coin), on
training requests and on held-out ones, and in the end what it answers to held-out requests, greedily. An arm is written
after each measurement; one that was cut begins again.
"""

import argparse
import random
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from call_or_words import names_weighed, told_apart
from datasets import Dataset
from heldout_requests import without_its_tool
from transformers import TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer

from toolexpander_lite.base.runs import read_json, software_versions, write_json
from toolexpander_lite.evaluation.accuracy import ask_and_judge
from toolexpander_lite.evaluation.answer_kinds import answer_kind
from toolexpander_lite.evaluation.executed import ExecutedReward
from toolexpander_lite.method.prompts import gold_completion, render_prompt, wants_think
from toolexpander_lite.models.hardware import describe_hardware
from toolexpander_lite.models.policy import load_policy
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.splits import tools_by_name, with_other_tools, without_its_tools
from toolexpander_lite.worlds.request_world import request_tasks

BATCH, ASKED = 8, 10  # rows a step; held-out requests of each tool


def single_calls(split, per_family, seed=0):
    """Tasks of a split that need one call -> list"""
    return [task for task in request_tasks(split, per_family, seed) if len(task.sample.calls) == 1]


def rows_to_learn(samples, count, seed):
    """`count` samples, by turns with the tool that fits and with it withheld, other tools on offer each time -> list"""
    known, rng, queue, rows = tools_by_name(samples), random.Random(seed), [], []
    while len(rows) < count:
        queue = queue or rng.sample(samples, len(samples))
        sample, visit = queue.pop(), f"{seed} {len(rows)}"
        rows += [with_other_tools(sample, {call["name"] for call in sample.calls}, known, visit),
                 without_its_tools(sample, known, visit)]  # fmt: skip
    return rows[:count]


def encoded(sample, tokenizer, arguments):
    """Prompt and gold answer of a sample as SFTTrainer takes tokens; of the answer all, or its first token -> dict"""
    prompt = render_prompt(sample, tokenizer, invite=arguments.style)
    answer = gold_completion(sample, prompt, think=wants_think(arguments.style))
    prompt, answer = tokenizer([prompt, answer], add_special_tokens=False).input_ids
    answer = answer[:1] if arguments.first_token else [*answer, tokenizer.eos_token_id]
    return {"input_ids": prompt + answer, "completion_mask": [0] * len(prompt) + [1] * len(answer)}


def judged(model, tokenizer, samples, style):
    """Where a tool fits and where none does: how readily a call is begun, and how well they are told apart -> dict"""
    both = samples, without_its_tool(samples)
    fits, misfits = ([names_weighed(model, tokenizer, s, style)[0] for s in some] for some in both)
    return {"asked": len(samples), "where_one_fits": float(np.mean(fits)), "where_none_fits": float(np.mean(misfits)),
            "told_apart": told_apart(fits, misfits)}  # fmt: skip


def answered(model, tokenizer, tasks, profile, style):
    """What it answers to held-out requests, greedily -> {"one fits" or "none fits": {"asked", "kinds", ...}}"""
    samples, found = [task.sample for task in tasks], {}
    run = ExecutedReward({task.sample.id: task for task in tasks})
    for name, asked in (("one fits", samples), ("none fits", without_its_tool(samples))):
        _, texts, verdicts = ask_and_judge(model, tokenizer, asked, profile.max_completion_length, batch_size=32,
                                           invite=style)  # fmt: skip
        kinds = Counter(answer_kind(text, sample.tools) for text, sample in zip(texts, asked))
        found[name] = {"asked": len(asked), "kinds": dict(kinds)}
        if name == "one fits":
            ends = run.outcomes([(s.id, text) for s, text in zip(samples, texts)])
            found[name]["right"] = sum(v.format_ok and end == "ok" for v, end in zip(verdicts, ends))
    return found


class Measure(TrainerCallback):
    """Measures the model every so many steps; `keep` is given what is found by now."""

    def __init__(self, name, every, parts, tokenizer, style, keep):
        self.name, self.every, self.parts = name, every, parts
        self.tokenizer, self.style, self.keep = tokenizer, style, keep
        self.found = {"losses": [], "curve": []}

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            self.found["losses"].append(logs["loss"])
            print(f"{self.name}: step {state.global_step}, loss {logs['loss']:.3f}", flush=True)

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step % self.every == 0:
            model.eval()
            point = {part: judged(model, self.tokenizer, asked, self.style) for part, asked in self.parts.items()}
            model.train()
            self.found["curve"].append({"step": state.global_step, **point})
            print(self.found["curve"][-1], flush=True)
            self.keep(self.found)


def arm(name, per_family, seed, arguments, keep):
    """One arm of the supervised steps -> nothing; `keep` is given what is found."""
    profile = get_profile(arguments.profile, dtype="float32")
    set_seed(seed)
    model, tokenizer = load_policy(profile)
    samples = [task.sample for task in single_calls(arguments.words, per_family, seed)]
    held_out = single_calls("test", ASKED)
    parts = {"train": samples[:: max(1, len(samples) // 50)], "test": [task.sample for task in held_out][::2]}
    shown = rows_to_learn(samples, BATCH * arguments.steps, seed)
    rows = Dataset.from_list([encoded(row, tokenizer, arguments) for row in shown])
    measure = Measure(name, arguments.measure_every, parts, tokenizer, arguments.style, keep)
    measure.found["requests"] = len(samples)
    with TemporaryDirectory() as folder:
        settings = SFTConfig(folder, max_steps=arguments.steps, per_device_train_batch_size=BATCH, report_to=[],
                             learning_rate=profile.learning_rate, lr_scheduler_type="constant", seed=seed,
                             weight_decay=0.0, logging_steps=1, save_strategy="no", max_length=None, bf16=False,
                             completion_only_loss=True,
                             shuffle_dataset=False, disable_tqdm=True, use_cpu=model.device.type == "cpu")  # fmt: skip
        SFTTrainer(model, settings, train_dataset=rows, processing_class=tokenizer, callbacks=[measure]).train()
    model.eval()
    answers = {} if arguments.first_token else answered(model, tokenizer, held_out, profile, arguments.style)
    keep(measure.found | {"answers": answers})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="smol-world")
    parser.add_argument("--style", default="native", help="prompt style")
    parser.add_argument("--per-family", type=int, nargs="+", default=[4, 40], help="training requests of each tool")
    parser.add_argument("--words", choices=("train", "fresh"), default="train", help="whose wordings are learnt")
    parser.add_argument("--first-token", action="store_true", help="learn the first token alone, call or words")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=90)
    parser.add_argument("--measure-every", type=int, default=30)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    about = {"profile": arguments.profile, "style": arguments.style, "steps": arguments.steps, "batch": BATCH,
             "machine": str(describe_hardware()), "versions": software_versions()}  # fmt: skip
    arms = read_json(arguments.out)["arms"] if arguments.out.exists() else {}

    def keep(name, found):
        arms[name] = found
        write_json(arguments.out, about | {"arms": arms})

    for seed in arguments.seeds:
        for per_family in arguments.per_family:
            learnt = ", first token" if arguments.first_token else ""
            words = ", fresh words" if arguments.words == "fresh" else ""
            name = f"{per_family} of each tool{words}{learnt}/seed-{seed}"
            if "answers" not in arms.get(name, {}):
                arm(name, per_family, seed, arguments, lambda found, name=name: keep(name, found))


if __name__ == "__main__":
    main()
