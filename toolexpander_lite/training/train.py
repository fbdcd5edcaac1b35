"""`train(recipe, profile, seed)`: one run of the stock `trl.GRPOTrainer`, and its run directory.

Nothing inside the trainer is changed: we hand it a data set, a reward function, callbacks and a learning rate
schedule. The run directory it leaves is the contract every table and figure reads:

    config.json     what was run: command, recipe, profile, seed, hyper-parameters, versions, git commit
    log.jsonl       one JSON object per optimizer step, evaluations inside; step 0 is the base policy. When batches are
                    used for several updates, only a batch's first step has what its rollouts tell
    summary.json    where it ended (written only when the run is complete)
    rounds.jsonl    with a pool: the state of every sample at each round's end
    scans.jsonl     right rollouts of every row in each scan, see `rounds`  (not committed)
    rollouts.jsonl  one line per group: prompt, completions, rewards, reason codes  (not committed)
    checkpoints/    for --resume                                            (not committed)
    final/          the weights or the adapter                              (not committed)
"""

import importlib.util
import time
from collections import Counter
from dataclasses import asdict
from functools import partial
from pathlib import Path

from transformers import PrinterCallback, set_seed
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from ..base.collapse import summarize
from ..base.errors import DataError, ModelError, SettingsError
from ..base.intervals import mean
from ..base.processes import on_first, processes
from ..base.runs import read_json, write_json
from ..base.settings import check_seed
from ..base.spelled_defaults import spelled_defaults
from ..evaluation.accuracy import evaluate
from ..evaluation.executed import ExecutedReward, evaluate_dialogues, evaluate_requests
from ..method.hard_pool import HARD_WINDOW
from ..method.prompts import gold_completion, render_prompt, style_of, wants_think
from ..method.samples import training_columns
from ..models.files import mark_base
from ..models.hardware import describe_hardware, pick_dtype
from ..models.policy import adapters_to_float32, check_head, load_policy, model_hash, no_bars
from ..models.shared_prompt import share_prompts
from ..models.templates import check_invitation
from ..variants.all_recipes import get_recipe
from ..variants.assemble_any import assemble
from ..variants.other_demonstrations import VariantBank
from ..worlds import graded_world, nano_world
from .dialogues import (
    DIALOGUES,
    TURNS,
    DialogueReward,
    DialogueServer,
    check_dialogues,
    check_template,
    dialogue_rows,
    dialogues_of,
    pack_own,
)  # fmt: skip
from .distil import Distiller
from .distributed import check_came, check_sharing, join_processes, lost_processes, shards_weights
from .learning_rate import decay_by_round, first_learning_rate
from .profiles import get_profile, tools_offered
from .record import (
    MemoryReturn,
    RolloutRecorder,
    RoundLog,
    RunLog,
    StopOnRequest,
    WeightWatch,
    command_line,
    disk_errors,
    here,
    rewind,
)
from .resume import check_contents, check_folder, find_checkpoint, is_complete, load_pool, what_a_run_holds
from .rounds import Rounds
from .splits import in_training_order, load_splits, tools_by_name, training_rows, with_other_tools

ANSWERS = {"nano": nano_world.right_call, "graded": graded_world.right_call}  # where the world knows
# What a supervised run has in common with the others.
SFT_SETTINGS = (
    "output_dir", "seed", "max_steps", "learning_rate", "lr_scheduler_type", "per_device_train_batch_size",
    "gradient_accumulation_steps", "bf16", "fp16", "gradient_checkpointing", "optim", "use_cpu", "logging_steps",
    "save_steps", "save_total_limit", "report_to", "run_name", "disable_tqdm", "dataloader_pin_memory",
)  # fmt: skip
TRAINER_SETTINGS = (
    "adam_beta1", "adam_beta2", "adam_epsilon", "bf16", "fp16", "gradient_accumulation_steps", "gradient_checkpointing",
    "loss_type", "lr_scheduler_type", "max_grad_norm", "num_iterations", "optim", "per_device_train_batch_size",
    "steps_per_generation", "temperature", "top_k", "top_p", "use_bias_correction_kl", "weight_decay",
)  # fmt: skip


def train(recipe="grpo", profile="nano", seed=0, out=None, resume=False, progress=None):
    """Train one policy with GRPO -> path of the run directory.

    Started by `accelerate launch` or torchrun it is one run on all processes, see docs/scale.md.

    Args:
        recipe: name or `Recipe`; `get_recipe("grpo", learning_rate=1e-3)` changes one thing.
        profile: name or `Profile`; `get_profile("nano", steps=20)` likewise.
        seed: of the prompts drawn, their order and the rollouts. The base policy is the same for all seeds.
        out: the run directory; default `out/<recipe>/seed-<seed>`.
        resume: go on from the last checkpoint in `out`, if more is to do; the log is then the same as an uninterrupted
            run's (the clock apart, if the part before ended on an evaluation), `wall_seconds` the last session's.
        progress: called with each row of the log as it is written.

    Raises:
        SettingsError: unknown recipe or profile, an impossible seed, settings that do not fit together, or processes
            other than were asked for or that divide no step into whole groups.
        DataError, ModelError: the data or the model cannot be used.
        RunStopped: a file called "stop" in `out` asked for it; there is a checkpoint, and no summary.
        RunError: `out` cannot be written, holds a run already, or holds one that cannot be resumed: another run than
            this, one with more steps, on another number of processes, or a damaged one; or another process ended.
    """
    recipe, profile = get_recipe(recipe), get_profile(profile)
    check_request(recipe, profile, seed, resume)
    out = Path(out or Path("out") / recipe.name / f"seed-{seed}")
    identity = {"recipe": asdict(recipe), "profile": asdict(profile), "seed": seed}
    on_first(check_folder, out, identity, resume)
    sought = out, profile.steps, recipe.num_iterations, recipe.hard_samples != "keep"
    checkpoint = on_first(find_checkpoint, *sought) if resume else None
    began = time.perf_counter()
    with lost_processes(out), disk_errors(out), spelled_defaults(profile.spelled_defaults), no_bars():
        set_seed(seed)
        model, tokenizer = load_policy(profile)
        arguments = grpo_config(recipe, profile, seed, out, describe_hardware())
        data = load_splits(profile, seed, tokenizer)
        check_fit(recipe, profile, model, tokenizer, data.train)
        identity |= {"base_model_hash": model_hash(model), "holds": what_a_run_holds(profile, data, tokenizer)}
        talks = dialogues_of(profile, data.tasks, style_of(recipe.asks))
        parts = recipe_parts(recipe, profile, seed, data.train, tokenizer, tasks=data.tasks, talks=talks)
        if checkpoint:
            check_contents(out, identity["holds"], identity["base_model_hash"], profile.model)
            if on_first(is_complete, out, checkpoint, profile.steps * recipe.num_iterations):
                return out
            load_pool(parts, checkpoint)
        # Only now: what cannot go on until here leaves the logs as they are.
        counts = on_first(rewind, out, checkpoint, recipe.hard_samples == "scan")
        on_first(write_config, out, identity, arguments, data, parts, checkpoint)
        rewards = recorded(recipe, profile, parts, out / "rollouts.jsonl", counts)
        distil = distillation(recipe, profile, data.train, tokenizer, rewards[0])

        def make_trainer(arguments, rows):
            callbacks = distil + run_callbacks(recipe, profile, out, tokenizer, data, parts, counts, progress, talks)
            return stock_trainer(recipe, profile, model, tokenizer, arguments, rows, rewards, callbacks, talks)

        rows = rows_to_train_on(recipe, profile, seed, data.train, tokenizer, parts.server, talks)
        rounds = Rounds(recipe, profile, seed, data.train, tokenizer, parts, arguments, out)
        trainer, hard = rounds.run(model, make_trainer, counts, checkpoint, rows)
        save_final(trainer, recipe, profile, out / "final")
        on_first(write_summary, out, hard, began)
    return out


def check_request(recipe, profile, seed, resume):
    """Join the other processes, if there are any, and refuse what can be refused before anything is loaded."""
    check_seed(seed)
    join_processes()
    check_sharing(recipe, resume)
    check_dialogues(recipe, profile)
    batch_shape(recipe, profile)


def recorded(recipe, profile, parts, file, counts):
    """The reward functions of `method.assemble.Parts`, the task's first, with a note of each rollout in `file`."""
    judge = (lambda: getattr(parts.reward, "reward", parts.reward).verdicts) if profile.data in DIALOGUES else None
    rules = recipe.invite, recipe.examples_needed, wants_think(recipe.asks), judge
    reward = RolloutRecorder(parts.reward, recipe.num_generations, file, counts, *rules)
    return [reward, *(reward.noted(bonus) for bonus in parts.bonuses)]


def save_final(trainer, recipe, profile, folder):
    """What a run leaves to be used: weights or adapter, tokenizer and, of your own tools, file and prompt style."""
    trainer.save_model(str(folder))
    on_first(mark_base, trainer.model, folder)
    on_first(pack_own, profile, folder, recipe.asks)


def write_summary(out, hard, began):
    """What a run came to, its hard rows, and the seconds since `began`, of `time.perf_counter`."""
    write_json(out / "summary.json", summarize(out) | hard | {"wall_seconds": round(time.perf_counter() - began, 1)})


def check_fit(recipe, profile, model, tokenizer, samples):
    """Refuse what cannot be trained with, wherever a run begins.

    Raises:
        SettingsError: lengths beyond the model's context.
        ModelError: no weight of the model is trained, or its template swallows the invitation.
        DataError: fewer rows than one batch has prompts.
    """
    if not any(p.requires_grad for p in model.parameters()):
        raise ModelError(
            f"no weight of {profile.model!r} would be trained: all are frozen; unfreeze some, or give a plain model"
        )
    if len(samples) < (prompts := batch_shape(recipe, profile)[0]):
        raise DataError(
            f"{len(samples)} training rows are fewer than the {prompts} prompts of one batch; lower prompts_per_step, "
            "or give more rows"
        )
    prompt = profile.max_prompt_tokens + profile.demo_room
    longest = prompt + profile.max_completion_length
    context = getattr(model.config, "max_position_embeddings", None)
    if context and longest > context:
        raise SettingsError(
            f"profile {profile.name!r}: prompts of {prompt} and answers of {profile.max_completion_length} tokens make "
            f"{longest}, and {profile.model!r} reads {context}; lower max_prompt_tokens, demo_room or "
            "max_completion_length"
        )
    check_invitation(tokenizer, recipe.asks)


def recipe_parts(recipe, profile, seed, samples, tokenizer, bank=None, tasks=None, talks=None):
    """`variants.assemble_any` for a run, with the profile's lengths -> `Parts`; `tasks`: what calls are executed on."""
    longest = profile.max_prompt_tokens + profile.demo_room
    shown = recipe, samples, tokenizer, longest, seed, ANSWERS.get(profile.data), bank
    if talks is not None:
        check_template(tokenizer, talks.images)
        return assemble(*shown, DialogueReward(tasks, tokenizer), partial(DialogueServer, talks))
    reward = ExecutedReward(tasks, wants_think(recipe.asks)) if tasks and recipe.reward == "conjunctive" else None
    return assemble(*shown, reward)


def distillation(recipe, profile, samples, tokenizer, reward):
    """What context distillation adds to a run's callbacks -> list; `reward`, a `RolloutRecorder`, will feed it."""
    if not recipe.distil_weight:
        return []
    distiller = Distiller(samples, tokenizer, recipe, pick_dtype(profile.dtype), profile.max_completion_length)
    reward.also = distiller.take
    return [distiller]


def rows_to_train_on(recipe, profile, seed, samples, tokenizer, server=None, talks=None):
    """The rows of a whole run, in order -> `Dataset`; with a `server`, prompts are rendered when they are asked for.

    None for a recipe that scans, whose rows are found round by round. One order for all recipes of a group size, so
    that runs of one seed differ in nothing but the recipe.
    """
    if recipe.hard_samples == "scan":
        return None
    per_step, _ = batch_shape(recipe, profile)
    if server:
        columns = training_columns(samples)
    elif talks is not None:
        columns = dialogue_rows(samples, talks)
    else:
        columns = training_rows(samples, tokenizer, recipe.asks)
    if recipe.supervised:
        gold = [gold_completion(s, prompt, wants_think(recipe.asks)) for s, prompt in zip(samples, columns["prompt"])]
        columns = columns.select_columns(["prompt"]).add_column("completion", gold)
        columns = columns.add_column("row", range(len(samples)))
        per_step *= recipe.num_generations
    rows = in_training_order(columns, profile.steps * per_step, seed, gap=2 * per_step)
    if recipe.supervised and recipe.other_tools:
        shown = prompts_with_other_tools([samples[row] for row in rows["row"]], tokenizer, recipe, seed)
        rows = rows.remove_columns("prompt").add_column("prompt", shown)
    if recipe.supervised:
        return rows.remove_columns("row")
    if not server:
        return rows
    steps = [place // per_step * recipe.num_iterations + 1 for place in range(len(rows))]
    return rows.add_column("step", steps).with_transform(server)


def prompts_with_other_tools(visits, tokenizer, recipe, seed):
    """A prompt for each visit of a sample, other tools on offer beside those of its gold calls -> list of str."""
    known, prompts = tools_by_name(visits), []
    for place, sample in enumerate(visits):
        shown = with_other_tools(sample, {call["name"] for call in sample.calls}, known, f"{seed} {place}")
        prompts.append(render_prompt(shown, tokenizer, invite=recipe.asks))
    return prompts


def write_config(out, identity, arguments, data, parts, checkpoint):
    """Write config.json. Who began the run stays on record, and so does who went on."""
    config = {
        "command": command_line(),
        **identity,
        "learning_rate": arguments.learning_rate,
        "trainer": {name: value for name, value in arguments.to_dict().items() if name in TRAINER_SETTINGS},
        **here(),
        "train_samples": len(data.train),
        "held_out_samples": len(data.held_out),
        "left_out": data.left_out,
        "tools": tools_offered(identity["profile"]),
        "processes": processes()[1],
    }
    if parts.bank is not None:
        lonely = parts.bank.why_without(data.train)
        config |= {"without_demonstration": len(lonely), "no_demonstration_for": list(lonely)[:100],
                   "no_demonstration_because": dict(Counter(lonely.values()))}  # fmt: skip
    if checkpoint:
        begun = read_json(out / "config.json")
        may_differ = ("command", *here())
        again = {"from": Path(checkpoint).name, **{name: config[name] for name in may_differ}}
        config |= {name: begun[name] for name in may_differ if name in begun}
        config["resumed"] = [*begun.get("resumed", []), again]
    write_json(out / "config.json", config)


def run_callbacks(recipe, profile, out, tokenizer, data, parts, counts, progress, talks=None):
    """What writes the logs -> list of callbacks. The log first: its rows show the pool before the round closes."""
    updates, longest = recipe.num_iterations, profile.max_completion_length
    bank = VariantBank(data.train) if data.hard_families else None

    def score(policy):
        if talks is not None:
            return evaluate_dialogues(policy, tokenizer, data, longest, talks.episodes)
        if data.tasks:
            return evaluate_requests(policy, tokenizer, data, longest, recipe.asks)
        asked = {"invite": recipe.asks, "needed": recipe.examples_needed}
        return evaluate(policy, tokenizer, data.held_out, longest, bank, data.hard_families, **asked)

    every, gold = profile.eval_every * updates, 0
    if recipe.supervised:
        tokens = [len(tokenizer(gold_completion(s, think=wants_think(recipe.asks))).input_ids) + 1 for s in data.train]
        gold = round(batch_shape(recipe, profile)[0] * recipe.num_generations * mean(tokens))
    log = RunLog(out / "log.jsonl", counts, score, every, progress, parts.pool, gold)
    callbacks = [log, WeightWatch(), StopOnRequest(out), MemoryReturn()]
    if parts.pool is not None:
        callbacks.append(RoundLog(parts.pool, parts.bank, recipe.round_steps * updates, out, data.train))
    return callbacks


def stock_trainer(recipe, profile, model, tokenizer, arguments, rows, rewards, callbacks, talks=None):
    """The stock `GRPOTrainer` -> trainer, `talks` having its `environment_factory`; supervised: stock `SFTTrainer`."""
    handed = {"model": model, "train_dataset": rows, "processing_class": tokenizer, "callbacks": callbacks}
    if recipe.supervised:
        settings = {name: getattr(arguments, name) for name in SFT_SETTINGS}
        trainer = SFTTrainer(args=SFTConfig(**settings, max_length=None), **handed)
    else:
        world = {} if talks is None else {"environment_factory": talks.environment}
        trainer = GRPOTrainer(args=arguments, reward_funcs=rewards, **handed, **world)
    check_came(trainer)
    if not shards_weights():
        check_head(trainer.model, 1.0 if recipe.supervised else recipe.temperature)
    adapters_to_float32(trainer.model)  # TRL rounds QLoRA adapters to bfloat16: small updates would vanish
    if profile.share_prompts and not shards_weights():
        for each in filter(None, (trainer.model, getattr(trainer, "ref_model", None))):
            share_prompts(each)
    trainer.remove_callback(PrinterCallback)  # `progress` shows the log instead
    decay_by_round(trainer, recipe)
    return trainer


def batch_shape(recipe, profile):
    """(prompts per step, rollouts per forward pass): the profile's, fitted to the recipe's group size.

    The second is the largest divisor of a process's share of a step's rollouts that is at most `micro_batch`, and of
    the supervised rows of a real model at most 4: they share no prompt, and 20 of SmolLM2's at once took 13 GB.

    Raises:
        SettingsError: `equal_rollouts`, and a step's rollouts are no multiple of the group size; or prompts that
            cannot be shared equally among the processes, which would tear groups apart.
    """
    prompts = profile.prompts_per_step
    if recipe.equal_rollouts:
        prompts, rest = divmod(prompts * HARD_WINDOW, recipe.num_generations)
        if rest:
            raise SettingsError(
                f"recipe {recipe.name!r}: {profile.prompts_per_step} prompts of {HARD_WINDOW} rollouts a step make no "
                f"whole groups of {recipe.num_generations}; choose another prompts_per_step or equal_rollouts=False"
            )
    if prompts % (world := processes()[1]):
        raise SettingsError(
            f"profile {profile.name!r}: {prompts} prompts a step cannot be shared among {world} processes in whole "
            "groups; choose a prompts_per_step that their number divides"
        )
    rollouts = prompts * recipe.num_generations // world
    most = min(4 if recipe.supervised and profile.lora_rank else profile.micro_batch, rollouts)
    return prompts, next(n for n in range(most, 0, -1) if rollouts % n == 0)


def grpo_config(recipe, profile, seed, out, hardware):
    """Recipe x profile x seed on a `hardware.Hardware` -> `trl.GRPOConfig`.

    Raises:
        SettingsError: vLLM is asked for and cannot be used here.
    """
    prompts, micro_batch = batch_shape(recipe, profile)
    dtype = pick_dtype(profile.dtype, hardware)
    return GRPOConfig(
        output_dir=str(out / "checkpoints"), seed=seed, disable_tqdm=True, logging_steps=1,
        **tracker(recipe, profile, seed),
        save_steps=profile.eval_every * recipe.num_iterations, save_total_limit=2,
        max_steps=profile.steps * recipe.num_iterations, num_iterations=recipe.num_iterations,
        learning_rate=first_learning_rate(recipe, profile), lr_scheduler_type="constant",
        beta=recipe.beta, use_bias_correction_kl=recipe.use_bias_correction_kl, epsilon=recipe.epsilon,
        epsilon_high=recipe.epsilon_high, loss_type="grpo", scale_rewards=recipe.scale_rewards,
        temperature=recipe.temperature, num_generations=recipe.num_generations,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=prompts * recipe.num_generations // processes()[1] // micro_batch,
        shuffle_dataset=False,  # `in_training_order` has done it, in a way that a resumed run repeats
        max_completion_length=profile.max_completion_length, bf16=dtype == "bfloat16", fp16=dtype == "float16",
        gradient_checkpointing=profile.gradient_checkpointing,
        optim=profile.optim if hardware.device == "cuda" else "adamw_torch_fused",
        use_cpu=hardware.device == "cpu", dataloader_pin_memory=hardware.device != "cpu",
        **({"max_tool_calling_iterations": TURNS} if profile.data in DIALOGUES else {}),
        **(vllm_settings(profile, hardware) if profile.vllm else {}),
    )  # fmt: skip


def tracker(recipe, profile, seed):
    """The part of `trl.GRPOConfig` about `report_to` -> dict; run names are unique, trackio goes on behind an old one.

    Raises:
        SettingsError: the tracker's package is not installed.
    """
    if profile.report_to != "none" and importlib.util.find_spec(profile.report_to) is None:
        raise SettingsError(f"report_to={profile.report_to!r} needs that package: pip install {profile.report_to}")
    return {"report_to": profile.report_to, "run_name": f"{recipe.name}-seed-{seed}-{time.strftime('%Y%m%d-%H%M%S')}"}


def vllm_settings(profile, hardware):
    """The part of `trl.GRPOConfig` that samples with vLLM on the GPU that also trains -> dict.

    vLLM takes 0.3 of the GPU's memory for weights and cache (TRL's default).

    Raises:
        SettingsError: no GPU, or vLLM is not installed.
    """
    if hardware.device != "cuda":
        raise SettingsError(f"profile {profile.name!r}: vllm=True needs a CUDA GPU; set vllm=False")
    if importlib.util.find_spec("vllm") is None:
        raise SettingsError(f"profile {profile.name!r}: vllm=True needs vLLM: pip install vllm, or set vllm=False")
    if profile.vllm_server:
        return {"use_vllm": True, "vllm_mode": "server", "vllm_server_base_url": profile.vllm_server}
    longest = profile.max_prompt_tokens + profile.demo_room + profile.max_completion_length
    return {"use_vllm": True, "vllm_mode": "colocate", "vllm_max_model_length": longest}
