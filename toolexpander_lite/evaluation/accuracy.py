"""How good is a policy? Greedy accuracy on held-out prompts, and the exact probability of the gold call."""

import hashlib
import random
from collections import Counter, defaultdict
from contextlib import contextmanager

import torch

from ..base.intervals import mean
from ..base.progress import bar
from ..method.calls import judge, whole_answers
from ..method.prompts import gold_completion, render_prompt, style_of, wants_think
from ..method.self_examples import EXAMPLES_NEEDED
from ..models.shared_prompt import share_prompts
from ..models.templates import check_invitation
from ..variants.other_self_examples import judge_examples
from .answer_kinds import answer_kind


@contextmanager
def _inference(model):
    """Evaluation mode without gradients, prompts shared; the mode the model was in comes back afterwards."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), share_prompts(model):
            yield
    finally:
        model.train(training)


def generate(model, tokenizer, prompts, max_new_tokens, temperature=0.0, batch_size=64):
    """Complete rendered prompts -> the answers, list of str, special tokens dropped.

    A think block that the chat template has opened in a prompt is part of its answer.

    Args:
        prompts: strings from `render_prompt`.
        max_new_tokens: cap per completion, in tokens.
        temperature: 0 is greedy; otherwise samples from the whole distribution.
        batch_size: prompts per forward pass; left-padded.
    """
    options = {"do_sample": False} if temperature == 0 else {"do_sample": True, "temperature": temperature, "top_k": 0}
    completions = []
    with _inference(model):
        for start in bar(range(0, len(prompts), batch_size), "answers, in batches"):
            batch = tokenizer(
                prompts[start : start + batch_size], return_tensors="pt", padding=True, padding_side="left",
                add_special_tokens=False, return_token_type_ids=False,
            ).to(model.device)  # fmt: skip
            output = model.generate(
                **batch, max_new_tokens=max_new_tokens, pad_token_id=tokenizer.pad_token_id, **options
            )
            completions += tokenizer.batch_decode(output[:, batch.input_ids.shape[1] :], skip_special_tokens=True)
    return whole_answers(prompts, completions)


def ask_policy(model, tokenizer, max_new_tokens, temperature, batch_size=640):
    """The policy as `hard_sampling.count_right` asks it: a function (prompts, seed) -> [(completion, tokens)].

    The same answers for the same prompts and seed; torch's own random state is left as it was.
    """

    def ask(prompts, seed):
        with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
            torch.manual_seed(int(hashlib.sha256(seed.encode()).hexdigest()[:15], 16))
            texts = generate(model, tokenizer, prompts, max_new_tokens, temperature, batch_size)
        counts = [len(ids) for ids in tokenizer(texts, add_special_tokens=False).input_ids]
        return [(text, count + 1) for text, count in zip(texts, counts)]  # and the end of the turn

    return ask


def ask_and_judge(model, tokenizer, samples, max_new_tokens, demos=None, batch_size=64, invite=False):
    """Greedy answers to `samples` -> (prompts, completions, `calls.Verdict`s), a list each, in order.

    `demos`: one list of demonstrations per sample, or None for zero-shot. `invite`: as in `render_prompt`.
    """
    demos = demos or [()] * len(samples)
    prompts = [render_prompt(s, tokenizer, d, invite) for s, d in zip(samples, demos)]
    completions = generate(model, tokenizer, prompts, max_new_tokens, batch_size=batch_size)
    think = wants_think(invite)
    return prompts, completions, [judge(c, s.calls, s.tools, think) for c, s in zip(completions, samples)]


def shares(values):
    """{value: its share of all}, the most frequent first."""
    counts = Counter(values)
    return {value: count / counts.total() for value, count in counts.most_common()}


def by_family(samples, right):
    """{family: share of right answers}; `right`: True or False for each sample."""
    found = defaultdict(list)
    for sample, ok in zip(samples, right):
        found[sample.family].append(ok)
    return {name: mean(hits) for name, hits in found.items()}


def gold_logprobs(model, tokenizer, samples, demos=None, batch_size=64, invite=False):
    """Log-probability of each sample's whole gold completion and end of turn -> float tensor (samples,).

    Teacher-forced: the exact chance (natural log) that one rollout at temperature 1 writes just this text.
    Right-padded, so that it does not depend on what else is in the batch. The gold completion has no example of its
    own: of a policy that writes one first, this is not the chance to be right.
    """
    demos = demos or [()] * len(samples)
    result = []
    with _inference(model):
        for start in range(0, len(samples), batch_size):
            rows, answers = [], []
            for sample, shown in zip(samples[start : start + batch_size], demos[start : start + batch_size]):
                prompt = render_prompt(sample, tokenizer, shown, invite)
                gold = gold_completion(sample, prompt, wants_think(invite))
                gold = tokenizer(gold, add_special_tokens=False).input_ids
                prompt = tokenizer(prompt, add_special_tokens=False).input_ids
                rows.append(prompt + gold + [tokenizer.eos_token_id])
                answers.append(len(gold) + 1)
            longest = max(map(len, rows))
            ids = torch.tensor([r + [tokenizer.pad_token_id] * (longest - len(r)) for r in rows], device=model.device)
            mask = torch.tensor([[1] * len(r) + [0] * (longest - len(r)) for r in rows], device=model.device)
            begin = min(len(row) - answer for row, answer in zip(rows, answers))  # no score is wanted before
            logits = model(input_ids=ids, attention_mask=mask, logits_to_keep=longest - begin + 1).logits
            logps = logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, begin:, None])[..., 0]
            for row, tokens, answer in zip(logps, rows, answers):
                result.append(row[len(tokens) - answer - begin : len(tokens) - begin].sum())
    return torch.stack(result).cpu()


def choose_demos(samples, bank, count):
    """Fixed demonstrations for an evaluation: one list per sample, the same for the same sample."""
    return [bank.choose(s, count, random.Random(f"0-{s.id}")) for s in samples]


def evaluate(model, tokenizer, samples, max_new_tokens, bank=None, hard_families=(), batch_size=64, invite=False,
             needed=EXAMPLES_NEEDED):  # fmt: skip
    """The numbers of one evaluation, as run logs hold them.

    Args:
        samples: held-out `ToolSample`s.
        max_new_tokens: as in training, so that what is cut there is cut here.
        bank: `DemoBank` for the few-shot score; None leaves it out.
        hard_families: families whose accuracy is also given apart; () when nothing is known of difficulty.
        invite: what prompts ask for, as in training and in `render_prompt`.
        needed: distinct examples that make a block of them valid.

    Returns:
        dict of fractions in [0, 1]: "zero_shot", "families" {name: accuracy}, "reasons" {code: share}; with
        `hard_families` also "zero_shot_easy", "zero_shot_hard", "gold_logprob_hard" (mean natural log of the gold
        completion's probability), "gold_prob_hard" (mean probability) and, with a bank, the same with one
        demonstration: "few_shot_hard", "few_shot_families", "few_shot_prob_hard". With `invite` also "examples", the
        share of answers with a valid example, and "uninvited", the same dict for prompts without the invitation. If
        the right answer to some samples is no call, "no_call" tells the two skills apart: {"rows", "right": share,
        "kinds": {kind of answer, see `answer_kinds`: share}, "right_with_call": accuracy on all other rows or None}.

    Raises:
        ModelError: `invite`, and the model's chat template drops the invitation.
    """
    check_invitation(tokenizer, invite)
    how = max_new_tokens, None, batch_size, invite
    prompts, completions, verdicts = ask_and_judge(model, tokenizer, samples, *how)
    right = [v.reason == "ok" for v in verdicts]
    families = by_family(samples, right)
    result = {"zero_shot": mean(right), "families": families, "reasons": shares(v.reason for v in verdicts)}
    if not all(sample.calls for sample in samples):
        result["no_call"] = _no_call(samples, completions, verdicts)
    if style_of(invite) in ("example", "examples"):
        needed = needed if style_of(invite) == "examples" else 0
        examples = judge_examples(prompts, completions, [s.tools for s in samples], needed=needed)
        result["examples"] = mean(v.reason == "ok" for v in examples)
        result["uninvited"] = evaluate(
            model, tokenizer, samples, max_new_tokens, hard_families=hard_families, batch_size=batch_size
        )
    if hard := [s for s in samples if s.family in hard_families]:
        result |= _hard(model, tokenizer, hard, families, bank, (max_new_tokens, batch_size, invite))
    return result


def _no_call(samples, completions, verdicts):
    """`evaluate`'s "no_call"."""
    declined = [i for i, sample in enumerate(samples) if not sample.calls]
    called = [v.call_ok for v, s in zip(verdicts, samples) if s.calls]
    return {
        "rows": len(declined), "right": mean(verdicts[i].reason == "ok" for i in declined),
        "kinds": shares(answer_kind(completions[i], samples[i].tools) for i in declined),
        "right_with_call": mean(called) if called else None,
    }  # fmt: skip


def _hard(model, tokenizer, hard, families, bank, how):
    """What `evaluate` says of hard families, whose samples are `hard`; `how`: (max_new_tokens, batch_size, invite)."""
    max_new_tokens, batch_size, invite = how
    names = {sample.family for sample in hard}
    easy = [share for name, share in families.items() if name not in names]
    logprobs = gold_logprobs(model, tokenizer, hard, batch_size=batch_size, invite=invite)
    result = {
        "zero_shot_hard": mean(share for name, share in families.items() if name in names),
        "zero_shot_easy": mean(easy) if easy else None,
        "gold_logprob_hard": logprobs.mean().item(), "gold_prob_hard": logprobs.exp().mean().item(),
    }  # fmt: skip
    if bank:
        shown = choose_demos(hard, bank, count=1)
        *_, verdicts = ask_and_judge(model, tokenizer, hard, max_new_tokens, shown, batch_size, invite)
        right = [v.reason == "ok" for v in verdicts]
        result |= {"few_shot_families": by_family(hard, right), "few_shot_hard": mean(right)}
        logprobs = gold_logprobs(model, tokenizer, hard, shown, batch_size, invite)
        result["few_shot_prob_hard"] = logprobs.exp().mean().item()
    return result
