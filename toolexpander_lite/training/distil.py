"""Context distillation: what the policy got right *with* demonstrations, it also learns under the *plain* prompt.

GRPO on prompts with demonstrations teaches to use them; nothing trains the plain prompt, and the policy leans on its
examples (the paper's section 3.2 says so of few-shot-only training). Here each step has a second loss: the mean
negative log-likelihood, per token, of the policy's own verified answers of that step, with the plain prompt in front.
No gold call enters. After Snell et al., arXiv 2209.15189; ours is the use inside GRPO.

A policy that has become sure writes one answer ten times, so a step has few different ones. With a replay each step
also learns some of the answers kept from earlier steps, of whatever rows. The plain prompt may offer other tools each
time, beside those that the answer calls: else a row's other tool can be a cue to its answer. Rows that no tool
fits have no demonstrations; with a replay their right answers, plain words, are learnt too, to hold calls back.

What one has learnt of calls alone is called where no tool fits, too. So the policy may first be asked each row with the
tool that it needs withheld: its plain words, right there, are learnt behind such prompts in each step, and calls where
the tool is on offer. Its words are others for each row, and seldom say that no tool fits; one gold sentence for all
can be learnt in their place, as by Hammer (arXiv 2410.04587), whose supervised data have such rows. To call or not is
said by an answer's first token, one of some 35 of a call; it can have a weight of its own.

It is a callback: transformers lets it add to the gradients before the optimizer's step, so there is one trainer, one
optimizer and one checkpoint.
"""

import json
import random
from pathlib import Path

import torch
from transformers import TrainerCallback

from ..base.files import write_whole
from ..base.processes import gather, is_first, on_first
from ..evaluation.accuracy import generate
from ..evaluation.answer_kinds import answer_kind
from ..method.calls import parse_completion
from ..method.prompts import gold_completion, render_prompt, wants_think
from .splits import tools_by_name, with_other_tools, without_its_tools
from .warm_start import IGNORED

AT_ONCE = 6  # answers in a pass: what a step without a replay has at most, in groups two by two


class Distiller(TrainerCallback):
    """Adds the second loss to each step. `take` hears of the rollouts; `record.RolloutRecorder` calls it.

    The gradients are added after those of GRPO have been clipped, and are not clipped themselves. "distil/rows" and
    "distil/loss" of a step are logged.

    Args:
        samples: `ToolSample`s of all rows.
        tokenizer: renders and reads prompts.
        recipe: `variants.all_recipes.Recipe`: its distil_..., asks and other_tools are used.
        dtype: of the arithmetic, "float32", "bfloat16" or "float16".
        longest: tokens of an answer at most; half of them are learnt of what is learnt with `distil_withheld`.
    """

    FILE, WORDS = "distil.json", "distil_withheld.json"  # in a checkpoint: the answers kept, and the first words

    def __init__(self, samples, tokenizer, recipe, dtype="float32", longest=0):
        self.samples, self.tokenizer, self.invite = {s.id: s for s in samples}, tokenizer, recipe.asks
        self.other_tools = tools_by_name(samples) if recipe.other_tools else None
        self.recipe, self.dtype, self.longest = recipe, dtype, longest
        self.kept, self.words, self.rows, self.logged = {}, {}, [], {}

    def take(self, sample_id, served, completion_ids, rewards):
        """A batch of rollouts, whole groups: keep different right answers, up to `per_group` of a row."""
        kept = {}
        for id, mode, ids, reward in zip(sample_id, served, completion_ids, rewards):
            own = mode.startswith("demonstrated") or self.recipe.distil_replay and not self.samples[id].calls
            if own and reward is not None and reward >= 1:
                kept.setdefault(id, {})[tuple(ids)] = None
        rows = [(id, list(ids)) for id, found in kept.items() for ids in list(found)[: self.recipe.distil_per_group]]
        self.rows = gather(rows)  # each process adds the same gradients, after GRPO's have been averaged

    def replayed(self, step):
        """Earlier answers that are learnt again at `step` -> [(id, tokens)]; those of this step are kept for later."""
        known = [(id, answer) for id, answers in self.kept.items() for answer in answers]
        known = [row for row in known if row not in self.rows]
        for id, answer in self.rows:
            if answer not in self.kept.setdefault(id, []):
                self.kept[id].append(answer)
        return random.Random(f"replay {step}").sample(known, min(self.recipe.distil_replay, len(known)))

    def first_words(self, model):
        """What the policy says, greedily, to rows whose tool is withheld -> {sample id: tokens}: plain words, no call.

        The first half of what it may say, and its end where it ended before: a longer text may have been cut. Gold
        words are the gold completion of a row that no tool fits.
        """
        shown = [without_its_tools(s, self.other_tools, f"first {id}") for id, s in self.samples.items() if s.calls]
        if self.recipe.distil_withheld_words == "gold":
            texts, most = [gold_completion(sample, think=wants_think(self.invite)) for sample in shown], None
        else:
            prompts = [render_prompt(sample, self.tokenizer, invite=self.invite) for sample in shown]
            texts, most = generate(model, self.tokenizer, prompts, self.longest), self.longest // 2
        said = zip(shown, texts, self.tokenizer(texts, add_special_tokens=False).input_ids)
        return {s.id: [*ids, self.tokenizer.eos_token_id][:most] for s, text, ids in said
                if answer_kind(text, s.tools) == "abstained"}  # fmt: skip

    def words_again(self, step):
        """Those of the first words that are learnt at `step` -> [(id, tokens)]"""
        known = list(self.words.items())
        return random.Random(f"withheld {step}").sample(known, min(self.recipe.distil_withheld, len(known)))

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        """A run goes on from a checkpoint, as each round does: with what was kept by then. A new one asks first."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if self.recipe.distil_replay and (folder / self.FILE).exists():
            self.kept = json.loads((folder / self.FILE).read_text())
        if self.recipe.distil_withheld and (folder / self.WORDS).exists():
            self.words = json.loads((folder / self.WORDS).read_text())
        elif self.recipe.distil_withheld:
            self.words = on_first(self.first_words, model)

    def on_save(self, args, state, control, **kwargs):
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if self.recipe.distil_replay and is_first():
            write_whole(folder / self.FILE, json.dumps(self.kept))
        if self.recipe.distil_withheld and is_first():
            write_whole(folder / self.WORDS, json.dumps(self.words))

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        """What transformers calls when a step's gradients are there and the optimizer has not yet moved."""
        again = self.replayed(state.global_step) if self.recipe.distil_replay else []
        words = self.words_again(state.global_step) if self.recipe.distil_withheld else []
        rows, losses = self.rows + again + words, 0.0
        for start in range(0, len(rows), AT_ONCE):  # each part's graph is freed before the next is made
            part = rows[start : start + AT_ONCE]
            loss = self.loss(model, part, f"{state.global_step} {start}" if self.other_tools else None)
            loss = loss * (len(part) / len(rows))
            (self.recipe.distil_weight * loss).backward()
            losses += loss.item()
        self.logged = {"distil/rows": len(rows)}
        self.logged |= {"distil/replayed": len(again)} if self.recipe.distil_replay else {}
        self.logged |= {"distil/withheld": len(words)} if self.recipe.distil_withheld else {}
        self.logged |= {"distil/loss": losses} if rows else {}

    def plain_prompt(self, id, answer, seed):
        """The row's prompt without demonstrations; with a `seed`, other tools beside those that `answer` calls.

        Where it calls none and a call would be right, no tool that the row needs is on offer.
        """
        sample = self.samples[id]
        if seed is not None:
            calls = parse_completion(self.tokenizer.decode(answer, skip_special_tokens=True), think=False).calls
            called = {call["name"] for call in calls}
            if sample.calls and not called:
                sample = without_its_tools(sample, self.other_tools, f"{seed} {id}")
            else:
                sample = with_other_tools(sample, called, self.other_tools, f"{seed} {id} {answer}")
        return render_prompt(sample, self.tokenizer, invite=self.invite)

    def loss(self, model, rows, seed=None):
        """Mean over answers of their negative log-likelihood per token, in nats, under the plain prompt.

        That of the first token comes on top, times `distil_first_token`. `rows`: [(id, tokens)]; `seed`: of the other
        tools on offer, None for the row's own.
        """
        prompts = [self.plain_prompt(*row, seed) for row in rows]
        prompts = self.tokenizer(prompts, add_special_tokens=False).input_ids
        answers, pad = [answer for _, answer in rows], self.tokenizer.pad_token_id
        # As in the trainer, prompts end at one column, so that what rows share is found (`models.shared_prompt`).
        front, back = max(map(len, prompts)), max(map(len, answers))
        ids, mask, labels = (torch.tensor(rows, device=model.device) for rows in zip(*(
            ([pad] * (front - len(p)) + p + a + [pad] * (back - len(a)),
             [0] * (front - len(p)) + [1] * (len(p) + len(a)) + [0] * (back - len(a)),
             a + [IGNORED] * (back - len(a)))
            for p, a in zip(prompts, answers)
        )))  # fmt: skip
        with torch.autocast(model.device.type, getattr(torch, self.dtype), enabled=self.dtype != "float32"):
            logits = model(input_ids=ids, attention_mask=mask, logits_to_keep=back + 1).logits[:, :-1].float()
        told = labels != IGNORED
        logprobs = logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
        return -((logprobs * told).sum(1) / told.sum(1) + self.recipe.distil_first_token * logprobs[:, 0]).mean()

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:  # before the run's own log, which reads the same dict
            logs.update(self.logged)
