"""Before a long run: will it start, stop its answers, find something to learn, fit into memory, and end in time?

`preflight()` looks at the prompts and the tokenizer first, which costs nothing, and then takes real steps of the
stock trainer at learning rate 0: one on the longest prompts with every answer written to its full length, which is
the most memory the run can ask for, and some ordinary ones, for the clock and the groups. A run is refused for what
it cannot recover from and warned about for the rest. All thresholds are our assumptions.
"""

import importlib.util
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import set_seed

from ..base.errors import KitError, SettingsError
from ..base.progress import bar
from ..base.settings import check_seed
from ..method.prompts import SYSTEM_PROMPT, gold_completion, render_prompt
from ..models.hardware import describe_hardware
from ..models.policy import load_policy
from ..models.templates import closed_vocabulary, round_trip
from ..variants.all_recipes import get_recipe
from ..variants.other_demonstrations import VariantBank
from ..variants.other_self_examples import example_text
from .dialogues import DIALOGUES
from .profiles import get_profile
from .splits import load_splits
from .train import batch_shape, check_fit, grpo_config, recipe_parts
from .trial_steps import measure_steps

CUT_WARNING = 0.2  # share of completions cut at the cap
MEMORY_WARNING = 0.9  # of the device
VISITS_WARNING = 3  # visits of each prompt: alone, helped, alone again
ROOM_WARNING = 0.5  # share of rows that a demonstration or an example should fit in
SESSION_HOURS = 12  # what a free notebook session lasts at most
PROMPTS_LOOKED_AT = 100


@dataclass(frozen=True)
class Check:
    """One finding: `status` is "ok", "warn" or "refuse"; `mend` says what to do about the latter two."""

    name: str
    status: str
    found: str
    mend: str = ""

    def __str__(self):
        return f"{self.status:6}  {self.name}: {self.found}" + (f" Mend: {self.mend}." if self.mend else "")


@dataclass(frozen=True)
class Preflight:
    """All checks of a preflight, in order; printing it shows one line each.

    `seconds_per_step`: of the fastest ordinary step, evaluations not counted; None when the run was refused before.
    """

    checks: list
    seconds_per_step: float | None = None

    @property
    def refused(self):
        """The checks for which the run should not be started -> list of `Check`."""
        return [check for check in self.checks if check.status == "refuse"]

    def __str__(self):
        return "\n".join(map(str, self.checks))


def judged(name, found, mend="", warn=False, refuse=False):
    """A `Check`; what to do is said only where something is wrong."""
    status = "refuse" if refuse else "warn" if warn else "ok"
    return Check(name, status, found, "" if status == "ok" else mend)


def check_four_bit(profile, device):
    """Are 4-bit weights there, and are they right? Packs a small matrix on `device` and unpacks it."""
    if profile.quantization != "4bit":
        return Check("4-bit weights", "ok", "not asked for.")
    if importlib.util.find_spec("bitsandbytes") is None:
        return Check("4-bit weights", "refuse", "bitsandbytes is missing.", "pip install bitsandbytes")
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    weights = torch.linspace(-1, 1, 4096, device=device).reshape(64, 64)
    try:
        error = (dequantize_4bit(*quantize_4bit(weights, quant_type="nf4")) - weights).abs().max().item()
    except (RuntimeError, NotImplementedError, OSError) as problem:
        return Check("4-bit weights", "refuse", f"bitsandbytes does not work on {device}: {problem}.",
                     "install the bitsandbytes that fits this torch, or set quantization=None")  # fmt: skip
    wrong = not error < 0.2  # NF4's levels lie up to 0.31 apart
    found = f"packing weights changes them by {error:.2f} of their range." if wrong else f"NF4 works on {device}."
    return judged("4-bit weights", found, "install another bitsandbytes, or set quantization=None", refuse=wrong)


def check_prompts(samples, tokenizer, instruction=SYSTEM_PROMPT, invite=False):
    """Is the chat template applied, are instruction, question, tools and turn markers in it, and gold judged right?

    `instruction`: "" for the nano models, which were trained without one. `invite`: as in `templates.round_trip`.
    """
    def refuse(found, mend=""):
        return Check("prompts", "refuse", found, mend)

    if not tokenizer.chat_template:
        return refuse("the tokenizer has no chat template.", "use the instruction-tuned model")
    special = set(tokenizer.all_special_ids)
    for sample, demo in zip(samples[:PROMPTS_LOOKED_AT], [*samples[1:], *samples[:1]]):
        prompt = render_prompt(sample, tokenizer)
        wanted = [instruction, sample.messages[-1]["content"], *(t["function"]["name"] for t in sample.tools)]
        if missing := [text for text in wanted if text.strip() not in prompt]:
            return refuse(f"the prompt of {sample.id} lacks {missing[0][:60]!r}.",
                          "give the tokenizer a chat template that shows system turn, question and tools")  # fmt: skip
        if not special & set(tokenizer(prompt, add_special_tokens=False).input_ids):
            return refuse(f"the prompt of {sample.id} holds no special token that marks a turn.",
                          "use a model whose template has turn markers in its vocabulary")  # fmt: skip
        if reason := round_trip(sample, tokenizer, [demo] if demo.id != sample.id else [], invite):
            return refuse(f"the gold answer to {sample.id} would not be judged right: {reason}.")
    looked_at = min(len(samples), PROMPTS_LOOKED_AT)
    return Check("prompts", "ok", f"{looked_at} looked at: template applied, tools and markers there.")


def check_tokens(model, tokenizer):
    """Is there a pad token, does it fit the model, and does the model know the token that ends a turn?"""
    def refuse(found, mend="load the model with load_policy"):
        return Check("pad token", "refuse", found, mend)

    if tokenizer.pad_token_id is None:
        return refuse("the tokenizer has none.", "load the model with load_policy, or set tokenizer.pad_token")
    rows = model.get_input_embeddings().weight.shape[0]
    if max(tokenizer.pad_token_id, tokenizer.eos_token_id) >= rows:
        return refuse(f"pad or end token lies outside of the model's {rows} embeddings.",
                      "use the tokenizer that belongs to the model")  # fmt: skip
    stops = model.generation_config.eos_token_id
    if tokenizer.eos_token_id not in (stops if isinstance(stops, list) else [stops]):
        return refuse(f"sampling does not stop at {tokenizer.eos_token!r}, which ends a turn.")
    shared = ", the end token itself" if tokenizer.pad_token == tokenizer.eos_token else ""
    return Check("pad token", "ok", f"{tokenizer.pad_token!r}{shared}. A turn ends at {tokenizer.eos_token!r}.")


def check_room(samples, tokenizer, recipe, profile):
    """Do demonstrations fit into the prompts, and examples of the model's own into the answers, if the recipe has any?

    An example is taken to be as long as the sample's own call with six words around it.
    """
    samples, shares, found = samples[:PROMPTS_LOOKED_AT], [], []
    if recipe.hard_samples in ("demonstrate", "scan"):
        bank = VariantBank(samples, "gold" if recipe.demo_source == "own" else recipe.demo_source)
        server = recipe_parts(recipe, profile, 0, samples, tokenizer, bank).server
        shares.append(sum(server.demonstrate(sample)[0] is not None for sample in samples) / len(samples))
        found.append(f"a demonstration fits in front of {shares[-1]:.0%} of {len(samples)} rows")
    if recipe.invite:
        answers = [example_text("a b c", sample.calls[0] if sample.calls else {}, "a b c") + gold_completion(sample)
                   for sample in samples]  # fmt: skip
        fits = [len(ids) < profile.max_completion_length for ids in tokenizer(answers).input_ids]
        shares.append(sum(fits) / len(samples))
        found.append(f"{shares[-1]:.0%} of the answers have room for an example of the model's own")
    found = "; ".join(found) + "." if found else "the recipe needs none."
    mend = "raise demo_room or max_completion_length, or the recipe has no effect"
    return judged("room", found, mend, warn=min(shares, default=1) < ROOM_WARNING)


def check_visits(samples, recipe, profile):
    """Does each prompt come round again? Nothing can be done about a hard sample on its first visit."""
    if recipe.hard_samples == "keep":
        return Check("visits", "ok", "the recipe does not look at earlier visits.")
    visits = profile.steps * batch_shape(recipe, profile)[0] / len(samples)
    found = f"{profile.steps} steps serve each of {len(samples)} prompts {visits:.1f} times."
    mend = f"lower train_prompts or raise steps: {recipe.hard_samples} acts from a prompt's second visit on"
    return judged("visits", found, mend, warn=visits < VISITS_WARNING)


def check_disk(model, out, profile):
    """Is there room for two checkpoints, a third while it is written, and the final weights?"""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    needed = (3 * 12 + 4) * trained  # float32: 4 bytes of weight, 8 of AdamW's moments (8-bit ones take less)
    place = next(p for p in (Path(out).absolute(), *Path(out).absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free
    found = f"{needed / 2**30:.2f} GiB needed for checkpoints, {free / 2**30:.1f} GiB free."
    return judged("disk", found, f"free some space below {place}, or another --out", free < 2 * needed, free < needed)


def check_memory(measured, profile, hardware):
    """Did the longest prompts with full-length answers fit? `measured` is None when they did not."""
    mend = f"lower micro_batch ({profile.micro_batch}), max_completion_length or max_prompt_tokens in the profile"
    if measured is None:
        return Check("memory", "refuse", f"the longest prompts do not fit into {hardware.memory_gb:.0f} GiB.", mend)
    name, peak = list(measured["memory"].items())[-1]
    found = (
        f"{peak:.2f} GiB ({name}) of {hardware.memory_gb:.0f} at the longest prompts ({measured['prompt_tokens']:.0f} "
        f"tokens) with {measured['completion_tokens']:.0f} tokens of answer each."
    )
    return judged("memory", found, mend, warn=peak > MEMORY_WARNING * (hardware.memory_gb or math.inf))


def check_numbers(log, profile):
    """Are loss and gradient finite? With float16 a run may skip every update and say nothing."""
    losses, gradients = ([row[name] for row in log if name in row] for name in ("loss", "grad_norm"))
    mend = f"choose another dtype than {profile.dtype} (bfloat16 or float32), or a model made for it"
    if not all(map(math.isfinite, losses)):
        return Check("numbers", "refuse", "the model's own numbers are not finite.", mend)
    if gradients and not any(map(math.isfinite, gradients)):  # single ones are skipped while the loss scale settles
        return Check("numbers", "warn", "no gradient of the trial steps is finite.", mend)
    return Check("numbers", "ok", "loss and gradients are finite.")


def check_stopping(log, profile):
    """Does the model end its answers, or are they cut at the cap (and then fail, whatever they say)?"""
    cut = sum(row["completions/clipped_ratio"] for row in log) / len(log)
    found = f"{cut:.0%} of the sampled completions were cut at {profile.max_completion_length} tokens."
    mend = "raise max_completion_length, or teach the model to stop by a warm start"
    return judged("stopping", found, mend, cut > CUT_WARNING, cut > 1 - 1e-6)


def check_groups(log, prompts):
    """Does any group hold right and wrong answers? Judged on the task reward, `prompts` groups a step."""
    fail, right, form = (
        sum(row[name] for row in log) / len(log) for name in ("groups/all_fail", "groups/all_pass", "format_rate")
    )
    mixed = abs(1 - fail - right)  # abs: rounding leaves -0 %
    found = (
        f"of {prompts * len(log)} groups {fail:.0%} all fail, {right:.0%} all pass, {mixed:.0%} are mixed and teach "
        f"something; {form:.0%} of the answers are well-formed."
    )
    mend = ("no group teaches anything yet; sample more (steps), take easier prompts, a larger group, a recipe that "
            "serves demonstrations, or a warm start")  # fmt: skip
    if form == 0 and all(row.get("completions/clipped_ratio", 0) > 1 - 1e-6 for row in log):
        mend = "no answer came to its end, so see to stopping first"
    elif form == 0:
        mend = "the model writes no calls, so begin with a warm start (warm-start)"
    elif fail == 0:
        mend = "nothing is left to learn in these prompts, so train on harder ones"
    silent = fail + right >= 1 - 1e-6
    return judged("groups", found, mend, silent, silent and form == 0)


def check_hours(seconds, profile):
    """How long will the run take? The fastest ordinary step times the steps; evaluations come on top."""
    hours = min(seconds) * profile.steps / 3600
    told = f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"
    found = f"{min(seconds):.2f} s for the fastest step, {told} for {profile.steps} such steps, evaluations apart."
    mend = f"lower steps, or use --resume: a checkpoint each {profile.eval_every} steps"
    return judged("time", found, mend, warn=hours > SESSION_HOURS)


def preflight(profile="nano", recipe="grpo", seed=0, out="out", steps=1, progress=None):
    """Look at a run before it is started -> `Preflight`.

    Takes `steps` + 1 steps' time; what is slow is left out once something was refused. Nothing is written to `out`.

    Args:
        profile, recipe, seed, out: as for `train.train`.
        steps: ordinary steps to sample groups from, `prompts_per_step` groups each.
        progress: called with each `Check` as it ends.

    Raises:
        SettingsError: unknown recipe or profile, an impossible seed, or less than one step.
    """
    check_seed(seed)
    if steps < 1:
        raise SettingsError(f"a preflight takes 1 ordinary step or more, not {steps}; see --trial-steps")
    checks, ahead = [], _checks(get_recipe(recipe), get_profile(profile), seed, out, steps)
    while True:
        try:
            checks.append(next(ahead))
        except StopIteration as ended:
            return Preflight(checks, seconds_per_step=ended.value)
        if progress:
            progress(checks[-1])


def _checks(recipe, profile, seed, out, steps):
    """The checks as they end; what the generator returns in the end is `Preflight.seconds_per_step`."""
    hardware = describe_hardware()
    first = check_four_bit(profile, hardware.device)
    yield first
    if first.status == "refuse":
        return None
    try:
        set_seed(seed)
        if profile.data in DIALOGUES:
            raise SettingsError(f"a preflight looks at single turns, and rows of {profile.data!r} take several; in its "
                                "place try `train` with --steps 2")  # fmt: skip
        grpo_config(recipe, profile, seed, Path(out), hardware)
        model, tokenizer = load_policy(profile)
        samples = load_splits(profile, seed, tokenizer).train
        check_fit(recipe, profile, model, tokenizer, samples)
    except KitError as error:
        yield Check("model and data", "refuse", str(error))
        return None
    instruction = "" if closed_vocabulary(tokenizer) else SYSTEM_PROMPT
    quick = [check_prompts(samples, tokenizer, instruction, recipe.asks), check_tokens(model, tokenizer),
             check_room(samples, tokenizer, recipe, profile), check_visits(samples, recipe, profile),
             check_disk(model, out, profile)]  # fmt: skip
    yield from quick
    if Preflight(quick).refused:
        return None
    try:
        worst, usual = (
            measure_steps(model, tokenizer, samples, recipe, profile, number, longest=longest, seed=seed)
            for number, longest in bar([(1, True), (steps, False)], "trial steps, the longest prompts first")
        )
    except torch.OutOfMemoryError:
        yield check_memory(None, profile, hardware)
        return None
    except RuntimeError as error:
        if "probability tensor" not in str(error) and "device-side assert" not in str(error):
            raise
        yield check_numbers([{"loss": math.nan}], profile)  # torch could not sample from it
        return None
    log = usual["log"]
    yield check_memory(worst, profile, hardware)
    yield check_numbers(worst["log"] + log, profile)
    yield check_stopping(log, profile)
    yield check_groups(log, batch_shape(recipe, profile)[0])
    yield check_hours(usual["seconds"], profile)
    return min(usual["seconds"])
