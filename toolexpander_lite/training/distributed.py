"""A run on several processes: who takes part, what was asked of the launcher and came, and what ends all of them.

`accelerate launch` says in the environment what it was asked for. On a CPU it does something else without a word (one
process, or plain DDP), so all of it is compared with what came.
"""

import os
from contextlib import contextmanager

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from torch.distributed import DistError

from ..base.errors import KitError, RunError, SettingsError
from ..base.processes import processes


def asked_for():
    """How the launcher was asked to share the model among processes -> "FSDP", "DEEPSPEED" or None."""
    ways = ("FSDP", "DEEPSPEED")
    return next((way for way in ways if os.environ.get(f"ACCELERATE_USE_{way}", "").lower() == "true"), None)


def shards_weights():
    """Does a process hold a part of the weights only (FSDP, DeepSpeed ZeRO-3)?"""
    stage = os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE")
    return asked_for() == "FSDP" or (asked_for() == "DEEPSPEED" and stage == "3")


def join_processes():
    """Join the processes that the launcher has started -> their number.

    Raises:
        SettingsError: other processes, or another way to share the model, were asked for than came.
    """
    world, cpu = int(os.environ.get("WORLD_SIZE", 1)), not torch.cuda.is_available()
    # The launcher's way for one process names a meeting point only if it was asked for several.
    if {"ACCELERATE_MIXED_PRECISION", "MASTER_ADDR"} <= os.environ.keys() and "WORLD_SIZE" not in os.environ and cpu:
        raise SettingsError(
            "accelerate launch was asked for several processes and started one, as it does on a CPU; add --multi_gpu, "
            "which starts as many as you ask for there, too"
        )
    if cpu and (way := asked_for()):
        raise SettingsError(f"{way} was asked for, and on a CPU accelerate does plain DDP instead; leave it out")
    if world > 1 and {"RANK", "MASTER_ADDR"} <= os.environ.keys():
        PartialState(cpu=cpu)
    if (came := processes()[1]) != world:
        raise SettingsError(
            f"{world} processes were asked for, and this run would be one of {came}; start it with torchrun or "
            "accelerate launch, in a process that has not used accelerate before"
        )
    return world


def check_sharing(recipe, resume):
    """Refuse what the sharing that was asked for cannot do.

    Raises:
        SettingsError: each round's scan reads whole weights, context distillation adds gradients of its own, and
            the kit reads no sharded checkpoint.
    """
    way = asked_for()
    if way and resume:
        raise SettingsError(f"a run with {way} cannot be resumed here: its checkpoints are in pieces; use plain DDP")
    if way and recipe.distil_weight:
        raise SettingsError(f"context distillation adds gradients of its own, which {way} does not see; use plain DDP")
    if shards_weights() and recipe.scan_rollouts:
        raise SettingsError(
            f"recipe {recipe.name!r} asks its rows in scans, for which each process needs the whole weights; use plain "
            "DDP or DeepSpeed ZeRO-2"
        )


def check_came(trainer):
    """Compare a trainer with what the launcher was asked for.

    Raises:
        SettingsError: it has other processes, or shares the model in another way.
    """
    way, accelerator, world = asked_for(), trainer.accelerator, processes()[1]
    if way and accelerator.distributed_type != DistributedType[way]:
        raise SettingsError(f"{way} was asked for, and the trainer has {accelerator.distributed_type.value}")
    if accelerator.num_processes != world:
        raise SettingsError(f"{world} processes were asked for, and the trainer has {accelerator.num_processes}")


@contextmanager
def lost_processes(out):
    """Another process that has ended, in the middle of a run, becomes one clear `RunError`."""
    try:
        yield
    except RuntimeError as error:
        words = str(error).lower()
        told = isinstance(error, DistError) or "gloo" in words or "nccl" in words
        if processes()[1] == 1 or isinstance(error, KitError) or not told:
            raise
        raise RunError(
            f"another process of this run ended or no longer answers ({str(error).strip().splitlines()[0][:120]}); its "
            f"own message says why. --resume goes on from the last whole checkpoint in {out}, or begins again"
        ) from error
