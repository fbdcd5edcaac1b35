"""Training by rounds, as the paper has it: scan, fix what the round serves, train to its end, scan again.

A round's start is a resumption: the stock trainer is made anew and goes on from the checkpoint at the end of the round
before. So nothing of a round is decided while the trainer's loader is at work, and a run that was cut goes on alike.
"""

import copy
from dataclasses import asdict
from pathlib import Path

import torch
from datasets import concatenate_datasets
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file

from ..base.files import check_writable
from ..base.runs import write_json
from ..evaluation.accuracy import ask_policy
from ..method.hard_sampling import begin_round, count_right, round_rows
from ..method.prompts import render_prompt, wants_think
from ..method.samples import training_columns
from ..models.policy import load_policy, model_hash
from ..models.shared_prompt import share_prompts
from ..variants.all_recipes import get_recipe
from ..variants.assemble_any import assemble
from .profiles import get_profile
from .record import check_stopped, command_line, here
from .resume import step_of
from .splits import in_training_order, load_splits

SCANNED = ("replace", "add", "exclude_hard")  # servings that need to know who is hard


class Rounds:
    """The rounds of one run, and the scans before and after it that measure what it did.

    Args:
        recipe, profile, seed, samples, tokenizer: as in `train.train`.
        parts: `method.assemble.Parts`.
        arguments: `GRPOConfig` of the whole run.
        out: the run directory; scans.jsonl in it has a line per row asked, and is what a cut scan goes on from.
    """

    def __init__(self, recipe, profile, seed, samples, tokenizer, parts, arguments, out):
        self.recipe, self.profile, self.seed, self.samples, self.tokenizer = recipe, profile, seed, samples, tokenizer
        self.parts, self.arguments, self.file = parts, arguments, Path(out) / "scans.jsonl"
        self.length, self.total = recipe.round_steps * recipe.num_iterations, profile.steps * recipe.num_iterations

    def _asker(self, model):
        """As the trainer samples: at the recipe's temperature, in its precision."""
        longest, temperature = self.profile.max_completion_length, self.recipe.temperature
        ask = ask_policy(model, self.tokenizer, longest, temperature, self.profile.micro_batch)

        def asked(prompts, seed):
            dtype = torch.bfloat16 if self.arguments.bf16 else torch.float16
            with torch.autocast(model.device.type, dtype, enabled=self.arguments.bf16 or self.arguments.fp16):
                return ask(prompts, seed)

        return asked

    def scan(self, model, step):
        """Hard rows in the training set: asked plainly, none right -> number."""
        rows = [(s, render_prompt(s, self.tokenizer, invite=self.recipe.asks)) for s in self.samples]
        note = {"step": step, "kind": "scan"}
        rollouts, think = self.recipe.scan_rollouts, wants_think(self.recipe.asks)
        found = count_right(self._asker(model), rows, rollouts, self.seed, note, self.file, think)
        return sum(right == 0 for right in found.right.values())

    def run(self, model, make_trainer, counts, checkpoint=None, rows=None):
        """Train to the end, from `checkpoint` if there is one -> (the last trainer, what the summary gets).

        Args:
            make_trainer: function (`GRPOConfig`, rows) -> stock `GRPOTrainer` of `model`.
            counts: cumulative counts of the log; what scans and verification cost is added, if they decide anything.
            rows: of a recipe that does not train by rounds.

        Returns:
            The summary's part is {} for a recipe that does not scan, else "hard_rows_before" and "hard_rows_after":
            rows of the training set without a right one in `scan_rollouts` rollouts.
        """
        scans, hard = self.recipe.scan_rollouts > 0, {}
        if self.profile.share_prompts:  # as the trainer will, so that scans before and after a resumption are alike
            share_prompts(model)
        if scans:
            hard["hard_rows_before"] = self.scan(model, 0)
        if rows is None:
            trainer = self._by_round(model, make_trainer, counts, checkpoint)
        else:
            trainer = make_trainer(self.arguments, rows)
            trainer.train(resume_from_checkpoint=checkpoint)
            check_stopped(trainer, self.file.parent)
        if scans:
            hard["hard_rows_after"] = self.scan(trainer.model, self.total)
        return trainer, hard

    def _by_round(self, model, make_trainer, counts, checkpoint):
        step, trainer = step_of(checkpoint) if checkpoint else 0, None
        if checkpoint:
            load_weights(model, checkpoint)
        while trainer is None or step < self.total:
            if step % self.length == 0 and step < self.total:
                self._begin(model, step, counts)
            arguments = copy.copy(self.arguments)
            arguments.max_steps = min((step // self.length + 1) * self.length, self.total)
            trainer = make_trainer(arguments, self._rows(min(step, self.total - 1) // self.length))
            trainer.train(resume_from_checkpoint=checkpoint)
            check_stopped(trainer, self.file.parent)
            step = arguments.max_steps
            checkpoint = str(Path(arguments.output_dir) / f"checkpoint-{step}")
        return trainer

    def _begin(self, model, step, counts):
        recipe, parts = self.recipe, self.parts
        if recipe.serving not in SCANNED:
            return
        spent = begin_round(
            parts.pool, parts.server, self._asker(model), recipe.scan_rollouts, step, self.seed, self.file,
            recipe.verify_draws,
        )  # fmt: skip
        for counted in spent:
            counts["scan_rollouts"] += counted.rollouts
            counts["scan_tokens"] += counted.tokens
            counts["rollouts"] += counted.rollouts
            counts["completion_tokens"] += counted.tokens
            counts["seconds"] += counted.seconds

    def _rows(self, round):
        """The rows of the run up to a round's end; those of earlier rounds, which are skipped, are any."""
        recipe, updates = self.recipe, self.recipe.num_iterations
        per_step = self.arguments.per_device_train_batch_size * self.arguments.gradient_accumulation_steps
        per_step = per_step * self.arguments.world_size // recipe.num_generations
        begin, end = round * self.length, min((round + 1) * self.length, self.total)
        rounds = -(-self.total // self.length)
        served = round_rows(recipe.serving, self.parts.pool, round, rounds, self.seed, recipe.few_shot_share)
        place = {sample.id: n for n, sample in enumerate(self.samples)}
        rows = training_columns(self.samples).select([place[id] for id, _ in served])
        rows = rows.add_column("wanted", [mode for _, mode in served])
        ordered = in_training_order(rows, (end - begin) // updates * per_step, f"{self.seed}-{round}")
        skipped = rows.select([0] * (begin // updates * per_step))
        return concatenate_datasets([skipped, ordered]).with_transform(self.parts.server)


def hard_counts(recipe, profile, seed, out):
    """How many rows are hard plainly, with random demonstrations and with verified ones (the paper's Table 2) -> dict.

    No training. Hard rows are asked again with their demonstrations; whoever has none stays hard. Verified ones are
    asked anew, so that a lucky draw does not count. scans.jsonl in `out` has a line per row asked, and a cut scan goes
    on from it; config.json and summary.json are as a run's.

    Returns:
        {"rows", "hard_raw", "hard_random", "hard_verified", "without_demonstration", "not_verified", "rollouts",
        "completion_tokens", "seconds"}; the last three are of everything that was asked.
    """
    recipe, profile, out = get_recipe(recipe, demo_source="random"), get_profile(profile), Path(out)
    check_writable(out)
    model, tokenizer = load_policy(profile)
    if profile.share_prompts:
        share_prompts(model)
    samples = load_splits(profile, seed, tokenizer).train
    room, think = profile.max_prompt_tokens + profile.demo_room, wants_think(recipe.asks)
    ask = ask_policy(model, tokenizer, profile.max_completion_length, recipe.temperature, profile.micro_batch)
    file, rollouts, spent, result = out / "scans.jsonl", recipe.scan_rollouts, [], {"rows": len(samples)}
    for source in ("random", "verified"):
        parts = assemble(get_recipe(recipe, demo_source=source), samples, tokenizer, room, seed)
        pool, server = parts.pool, parts.server
        found = begin_round(pool, server, ask, rollouts, 0, seed, file, recipe.verify_draws)
        hard = [id for id in pool if pool.mode(id) == "demonstrated"]
        served = {id: server.serve(id) for id in hard}
        shown = [(server.samples[id], row["prompt"]) for id, row in served.items() if row["served"] == "demonstrated"]
        note = {"step": 0, "kind": source}
        again = [count_right(ask, shown, rollouts, seed, note, file, think)] if shown else []
        learnable = sum(right > 0 for counted in again for right in counted.right.values())
        result |= {"hard_raw": len(hard), f"hard_{source}": len(hard) - learnable}
        result["without_demonstration"] = sum(row["fallback"] == "no_demonstration" for row in served.values())
        spent += again + (found if source == "random" else found[1:])  # the scan is one and the same
        result["not_verified"] = sum(row["fallback"] == "not_verified" for row in served.values())
    names = {"rollouts": "rollouts", "completion_tokens": "tokens", "seconds": "seconds"}
    result |= {name: round(sum(getattr(c, field) for c in spent), 1) for name, field in names.items()}
    identity = {"recipe": asdict(recipe), "profile": asdict(profile), "seed": seed, "learning_rate": None}
    identity |= {"command": command_line(), "base_model_hash": model_hash(model), **here()}
    write_json(out / "config.json", identity)
    write_json(out / "summary.json", result)
    return result


def load_weights(model, checkpoint):
    """Put the weights of a trainer's checkpoint into `model`, in place; an adapter's, if it has one."""
    if isinstance(model, PeftModel):
        set_peft_model_state_dict(model, load_file(Path(checkpoint) / "adapter_model.safetensors"))
        return
    for file in Path(checkpoint).glob("model*.safetensors"):  # tied weights are stored once
        model.load_state_dict(load_file(file), strict=False)
