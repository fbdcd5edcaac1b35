"""The samples of a run, and the rows the trainer reads."""

import logging
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace

from ..base.chat import holds_turn_marker
from ..base.errors import DataError, SettingsError
from ..data.own_turns import own_tasks
from ..data.sources import load_samples, no_call_sample
from ..method.prompts import gold_completion, render_prompt
from ..method.samples import tool_name, training_columns
from ..models.templates import round_trip
from ..worlds.chain_world import CHAINS, chain_tasks
from ..worlds.graded_world import graded_samples
from ..worlds.nano_world import HARD_FAMILIES, nano_samples
from ..worlds.request_world import request_tasks
from .profiles import tools_offered

logger = logging.getLogger(__name__)
ROWS_READ = 100  # looked at for unknown tokens
UNKNOWN_SHARE = 0.1  # of tokens, above which rows are refused (our assumption)
WORLDS = {"nano": (nano_samples, HARD_FAMILIES), "graded": (graded_samples, ())}  # name -> samples, hard families


@dataclass(frozen=True)
class Splits:
    """The samples of a run: to train on, held out, the names of hard families, and rows left out by reason.

    Rows that gave their place to one whose right answer is no call (see `with_no_call_rows`) are counted among the
    rows left out.

    `set_aside`: training rows kept for a warm start, the same for all seeds, none of them in `train`.
    `unseen`: held-out samples whose tools no training row has. `tasks`: {sample id: task}, where calls are executed.
    """

    train: list
    held_out: list
    hard_families: tuple
    left_out: dict
    set_aside: list = ()
    unseen: list = ()
    tasks: dict = field(default_factory=dict)


def load_splits(profile, seed, tokenizer):
    """The samples a profile asks for -> `Splits`. The held-out ones of the test split are the same for all seeds.

    Raises:
        DataError: the tokenizer cannot read the rows, no row of a split fits into the profile's lengths, or too few
            no-call rows can be had.
        SettingsError: no-call rows asked of data that cannot have them.
    """
    mixed = bool(profile.no_call_rows or profile.no_call_eval_rows)
    if profile.data in (*WORLDS, "requests", "chains"):
        if profile.no_call_eval_rows or profile.no_call_rows and profile.data != "requests":
            raise SettingsError(
                "no_call_rows and no_call_eval_rows are for data sets; of the kit's worlds only 'requests' has "
                "no_call_rows; leave them out"
            )
        if profile.data == "chains":
            return _chain_splits(profile, seed)
        return _request_splits(profile, seed, tokenizer) if profile.data == "requests" else _world_splits(profile, seed)
    report = load_samples(profile.data, path=profile.data_path, no_call=mixed)
    if mixed and not any(sample.calls for sample in report.samples):
        raise SettingsError(f"all rows of {profile.data!r} are no-call rows already; leave no_call_rows out")
    check_readable(report.samples, tokenizer, profile)
    if profile.data_path and report.dropped:  # of public data sets it is known
        logger.warning("%s", report)
    if profile.max_tools or profile.held_out_max_tools:
        logger.warning("%s", tools_offered(profile))
    fitting, own, left_out, misfit = _fitting(report, profile, tokenizer, mixed)
    rows, set_aside = fitting["train"], []
    if profile.warm_start_rows:
        random.Random("warm start").shuffle(rows)
        few = max(0, min(profile.warm_start_rows, len(rows) - profile.train_prompts))
        rows, set_aside = rows[few:], rows[:few]
    random.Random(seed).shuffle(rows)
    random.Random(0).shuffle(fitting["test"])
    train_samples, held_out = rows[: profile.train_prompts], fitting["test"]
    if profile.eval_split == "validation":
        whole = {s.id: s for s in report.samples}
        held_out = [fewer_tools(whole[s.id], profile.held_out_max_tools) for s in rows[profile.train_prompts :]]
        held_out = [s for s in held_out if not misfit(s)]
    if not held_out:
        raise DataError(
            f"all {len(train_samples)} training rows of {profile.data!r} are trained on; lower train_prompts to leave "
            "some for eval_split='validation'"
        )
    held_out = held_out[: profile.eval_prompts]
    if mixed:
        warm = round(len(set_aside) * profile.no_call_rows / profile.train_prompts)
        own["held out"] = own["test" if profile.eval_split == "test" else "train"]
        parts = ("train", train_samples, profile.no_call_rows), ("train", set_aside, warm)
        for split, rows, count in (*parts, ("held out", held_out, profile.no_call_eval_rows)):
            from_file = with_no_call_rows(rows, count, own[split], fitting, misfit)
            left_out[f"{split}: replaced by a no-call row of the file"] += from_file
            left_out[f"{split}: replaced by a no-call row made of it"] += count - from_file
        left_out["no-call row of the file that was not needed"] += len(own["train"] + own["test"])
    told = [*train_samples, *held_out, *set_aside]
    tasks = own_tasks(profile.data_path, told) if profile.data == "own-turns" else {}
    return Splits(train_samples, held_out, (), dict(+left_out), set_aside, tasks=tasks)


def _world_splits(profile, seed):
    draw, hard = WORLDS[profile.data]
    train_samples = draw("train", profile.train_prompts, seed)
    if profile.eval_split == "test":
        return Splits(train_samples, draw("test", profile.eval_prompts), hard, {})
    trained_on, validation = {s.id for s in train_samples}, defaultdict(list)
    # Another draw of the training queries, large enough to fill up whatever of it is trained on.
    for sample in draw("train", profile.train_prompts + profile.eval_prompts, seed=f"{seed}-validation"):
        if sample.id not in trained_on:
            validation[sample.family].append(sample)
    held_out = [s for samples in validation.values() for s in samples[: profile.eval_prompts]]
    return Splits(train_samples, held_out, hard, {})


def _chain_splits(profile, seed):
    drawn = {"train": chain_tasks("train", profile.train_prompts, seed)}
    if profile.eval_split == "test":
        drawn["test"] = chain_tasks("test", profile.eval_prompts)
    else:
        more = chain_tasks("train", profile.train_prompts + profile.eval_prompts, seed)
        drawn["test"] = [task for task in more if task not in drawn["train"]]
    tasks = {task.sample.id: task for found in drawn.values() for task in found}
    return Splits(*([task.sample for task in found] for found in drawn.values()), CHAINS, {}, tasks=tasks)


def _request_splits(profile, seed, tokenizer):
    """Of `request_world`. Validation requests are further ones in the words and of the names of training, so that
    nothing of the test is seen when settings are chosen."""
    drawn = {"train": request_tasks("train", profile.train_prompts, seed)}
    if profile.eval_split == "test":
        drawn |= {name: request_tasks(name, profile.eval_prompts) for name in ("test", "unseen")}
    else:
        more = request_tasks("train", profile.train_prompts + profile.eval_prompts, seed)
        drawn |= {"test": [task for task in more if task not in drawn["train"]]}
    rows, left_out = {"unseen": []}, Counter()
    for name, tasks in drawn.items():
        answers = [len(tokenizer(gold_completion(task.sample)).input_ids) for task in tasks]
        rows[name] = [task for task, tokens in zip(tasks, answers) if tokens < profile.max_completion_length]
        left_out["answer_too_long"] += len(tasks) - len(rows[name])
    tasks = {task.sample.id: task for found in rows.values() for task in found}
    rows = {name: [task.sample for task in found] for name, found in rows.items()}
    nothing = _no_call_requests(profile.no_call_rows, seed, rows["train"])
    tasks |= {task.sample.id: task for task in nothing}
    rows["train"] += [task.sample for task in nothing]
    return Splits(rows["train"], rows["test"], (), dict(+left_out), unseen=rows["unseen"], tasks=tasks)


def _no_call_requests(count, seed, samples):
    """`count` training requests of another draw, with tools on offer that do not fit -> tasks; one of each family in
    turn, and none that `samples` have. Raises `DataError` where there are not so many."""
    rng, known, found = random.Random(f"{seed}-no-call"), {s.id for s in samples}, []
    names = list(dict.fromkeys(s.family for s in samples))
    more = [t for t in request_tasks("train", count, f"{seed}-no-call") if t.sample.id not in known] if count else []
    drawn = {name: [t for t in more if t.sample.family == name] for name in names}
    for place in range(count):
        if not (left := drawn[names[place % len(names)]]):
            raise DataError(f"of {count} no-call rows only {place} can be had of the requests; lower no_call_rows")
        task = left.pop()
        found.append(replace(task, sample=no_call_sample(task.sample, samples, rng), turns=[[]], answer=None))
    return found


def _fitting(report, profile, tokenizer, mixed):
    """The rows of a `LoadReport` that a run can use -> (fitting, own, left_out, misfit).

    `fitting`: {split: samples}; `own`: the same of rows without a call, where those are `mixed` in by number;
    `left_out`: Counter of reasons; `misfit`: the function of a sample that gives the reason, or None. All recipes get
    the same rows: the invitation counts for a prompt's length, whether the recipe invites or not.
    """
    fitting, own, left_out = {"train": [], "test": []}, {"train": [], "test": []}, Counter(report.dropped)
    longest_answer = profile.max_completion_length - profile.example_room
    why, unread = {"train": Counter(), "test": Counter()}, []  # of rows that do not fit; why gold is not judged right

    def misfit(sample):
        if holds_turn_marker([sample.messages, sample.tools, sample.calls], tokenizer):
            return "turn_marker"  # it could forge a turn
        if len(tokenizer(render_prompt(sample, tokenizer, invite=True)).input_ids) > profile.max_prompt_tokens:
            return "prompt_too_long"
        if len(tokenizer(gold_completion(sample)).input_ids) >= longest_answer:
            return "answer_too_long"
        if reason := round_trip(sample, tokenizer):
            unread.append(reason)
            return "gold_not_judged_right"
        return None

    for sample in report.samples:
        sample = fewer_tools(sample, profile.max_tools if sample.split == "train" else profile.held_out_max_tools)
        if reason := misfit(sample):
            why[sample.split][reason] += 1
        else:
            (own if mixed and not sample.calls else fitting)[sample.split].append(sample)
    told = {
        "turn_marker": "the text holds a turn marker of the model's chat template",
        "prompt_too_long": f"the prompt has more than {profile.max_prompt_tokens} tokens; raise max_prompt_tokens",
        "answer_too_long": f"the answer has {longest_answer} tokens or more; raise max_completion_length",
        "gold_not_judged_right": f"the gold answer itself would not be judged right: {unread and unread[0]}",
    }
    for split, reasons in why.items():
        lost = [f"in {count} {told[reason]}" for reason, count in reasons.most_common()]
        if not fitting[split] and split in ("train", profile.eval_split):
            lost += [f"{len(own[split])} call nothing"] if own[split] else []
            fewer = "no question of the file falls into that split (one in five is for the test); give more rows"
            raise DataError(f"no {split} row of {profile.data!r} can be used: {'; '.join(lost) or fewer}")
        if lost:
            logger.warning("Rows left out (%s): %s", split, "; ".join(lost))
    return fitting, own, left_out + why["train"] + why["test"], misfit


def check_readable(samples, tokenizer, profile):
    """Refuse rows that the tokenizer mostly cannot read: a model learns nothing from a prompt of unknown tokens.

    Raises:
        DataError: more than `UNKNOWN_SHARE` of the tokens of prompts and answers are unknown.
    """
    texts = [render_prompt(s, tokenizer) + gold_completion(s) for s in samples[:ROWS_READ]]
    ids = [id for row in tokenizer(texts, add_special_tokens=False).input_ids for id in row] if texts else []
    # The nano policies' tokenizers have it in their model alone, so that decoding shows it.
    word = tokenizer.unk_token or getattr(tokenizer.backend_tokenizer.model, "unk_token", None)
    unknown = ids.count(tokenizer.convert_tokens_to_ids(word)) if word else 0
    if unknown > UNKNOWN_SHARE * len(ids):
        raise DataError(
            f"the tokenizer of {profile.model!r} knows too few words of {profile.data!r}: {unknown / len(ids):.0%} of "
            f"the tokens become {word!r}; choose a model whose tokenizer reads these rows (the nano "
            "models read the nano world alone)"
        )


def with_no_call_rows(rows, count, own, others, misfit):
    """Put rows whose right answer is no call into the places of the last `count` rows, in place -> how many of `own`.

    First rows of the file itself (`own`, those taken leave that list). The rest is made of the rows whose place they
    take: the question stays, and the tools become such as other rows of the same split offer (`no_call_sample`).

    Args:
        others: split -> `ToolSample`s whose tools may be offered instead.
        misfit: function of a sample that says why it does not fit the profile, or None.

    Raises:
        DataError: too few can be made, since the rows all offer the same tools or the prompts become too long.
    """
    taken = min(count, len(own))
    rows[len(rows) - taken :], own[:taken] = own[:taken], []
    needed, rng = count - taken, random.Random("no call")
    for place in reversed(range(len(rows) - taken)):
        if not needed:
            break
        for _ in range(3):
            made = no_call_sample(rows[place], others[rows[place].split], rng)
            if made and not misfit(made):
                rows[place], needed = made, needed - 1
                break
    if needed:
        raise DataError(
            f"of {count} no-call rows only {count - needed} can be had of {len(rows)} rows: too few offer tools of "
            "other names, or the prompts become too long; ask for fewer, or put rows without a call into the file"
        )
    return taken


def fewer_tools(sample, most):
    """A `ToolSample` that offers at most `most` tools: those its answer calls, then its first others, in its own order.

    A sample whose answer calls more keeps all that it calls. 0 keeps all.
    """
    if not most:
        return sample
    called = {call["name"] for call in sample.calls}
    others = [tool_name(tool) for tool in sample.tools if tool_name(tool) not in called]
    kept = called | set(others[: max(0, most - len(called))])
    return replace(sample, tools=[tool for tool in sample.tools if tool_name(tool) in kept])


def tools_by_name(samples):
    """The tools that any of `samples` offers -> dict of JSON Schemas."""
    return {tool_name(tool): tool for sample in samples for tool in sample.tools}


def with_other_tools(sample, called, known, seed):
    """`sample` with other tools on offer beside those named in `called`, as many as before, in a random order.

    They are drawn among `known` (`tools_by_name`). Where none is called nothing changes: another tool might do what
    none on offer does.
    """
    kept = [tool for tool in sample.tools if tool_name(tool) in called]
    others = [tool for name, tool in known.items() if name not in called]
    rng, wanted = random.Random(seed), len(sample.tools) - len(kept)
    tools = kept + rng.sample(others, min(wanted, len(others)))
    return replace(sample, tools=rng.sample(tools, len(tools))) if kept else sample


def without_its_tools(sample, known, seed):
    """`sample` with as many other tools on offer, of `known`, and none that its gold calls name; no call is right."""
    needed = {call["name"] for call in sample.calls}
    others = [tool for name, tool in known.items() if name not in needed]
    return replace(sample, tools=random.Random(seed).sample(others, min(len(sample.tools), len(others))), calls=[])


def training_rows(samples, tokenizer, invite=False):
    """`ToolSample`s -> the `Dataset` that `GRPOTrainer` reads: rendered prompts, and the columns rewards need.

    The prompt is rendered here, not by the trainer: each sample offers its own tools, and the trainer's own
    rendering knows only one list of tools for all.
    """
    rows = training_columns(samples)
    rows = rows.add_column("prompt", [render_prompt(s, tokenizer, invite=invite) for s in samples])
    return rows


def in_training_order(rows, prompts, seed, gap=0):
    """The rows of a whole run, one after the other -> `Dataset` of length `prompts`, to be read without shuffling.

    Epoch after epoch in a fresh order that depends on `seed` alone. TRL's own shuffling goes on from a generator
    that a resumed run starts anew, so that it would see other prompts from the second epoch on.

    Args:
        gap: at least so many prompts lie between two visits of a row (as far as there are so many rows). Two
            batches' worth keep a row out of consecutive batches: the loader renders a batch ahead, and a pool's
            decision must not be late in one run and in time in a resumed one.
    """
    size, order, epoch = len(rows), [], 0
    slack = size - min(gap, size)
    while len(order) < prompts:
        rng = random.Random(f"{seed}-epoch-{epoch}")
        # Row q of the last epoch may come at place p of this one when size - q + p >= gap.
        previous = order[-size:] if gap and order else []
        waiting = previous[:slack] if previous else rng.sample(range(size), size)
        if not previous:
            order += waiting
        for place in range(len(previous)):
            waiting += previous[place + slack : place + slack + 1]
            order.append(waiting.pop(rng.randrange(len(waiting))))
        epoch += 1
    return rows.select(order[:prompts])
