"""Where a cut run goes on, and what is refused before anything of it is changed."""

import json
import logging
import zlib
from dataclasses import MISSING, fields
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from safetensors import SafetensorError, safe_open

from ..base.errors import RunError
from ..base.files import check_writable
from ..base.processes import processes
from ..base.runs import read_json, read_jsonl
from ..base.saved_state import content_hash
from ..models.files import architecture_hash, weights_hash
from ..models.policy import tokenizer_hash
from ..variants.all_recipes import Recipe
from .profiles import Profile

logger = logging.getLogger(__name__)
LEFT_BY_A_RUN = ("log.jsonl", "summary.json", "rounds.jsonl", "rollouts.jsonl", "scans.jsonl", "checkpoints", "final")
LOGS = ("log.jsonl", "rollouts.jsonl", "rounds.jsonl", "scans.jsonl")
HELD = {"rows": "the training rows", "held_out": "the held-out rows", "weights": "the base model's weights",
        "architecture": "the base model's config.json", "tokenizer": "the tokenizer or its chat template"}  # fmt: skip


def find_checkpoint(out, steps, updates, with_pool):
    """The checkpoint from which the run in `out` goes on -> path (str), or None where it starts afresh.

    Args:
        steps: batches of rollouts in the whole run to come.
        updates: optimizer steps on each batch.
        with_pool: the recipe keeps a pool, and each checkpoint its state.

    Raises:
        RunError: more steps are done than `steps`, a log or the checkpoint is damaged, or the run is complete and its
            checkpoints are not there.
    """
    checkpoint = last_checkpoint(out / "checkpoints", with_pool)
    complete = (out / "summary.json").exists()
    if complete and not checkpoint:
        raise RunError(
            f"{out} is complete, but its checkpoints are not here, so it cannot go on; choose another folder"
        )
    for name in LOGS:
        if (out / name).exists():
            read_jsonl(out / name)
    if not checkpoint:
        return None
    check_checkpoint(checkpoint)
    if (logged := _logged_steps(out)) < step_of(checkpoint):
        raise RunError(
            f"{out / 'log.jsonl'} ends at step {logged}, before {checkpoint}: the newer part has been lost or, in a "
            "mounted folder, has not arrived yet; wait for it, or delete that checkpoint, and --resume (resume=True) "
            "goes on from the one before it"
        )
    done = max(step_of(checkpoint), logged if complete else 0) // updates
    if done > steps:
        raise RunError(f"{out} has {done} steps done, more than the {steps} asked for; ask for {done} steps or more, "
                       "or choose another folder")  # fmt: skip
    return checkpoint


def is_complete(out, checkpoint, steps):
    """Is there nothing left to do, of `steps` optimizer steps? It is said, as the caller asked to go on."""
    done = step_of(checkpoint) >= steps and (out / "final").is_dir() and (out / "summary.json").exists()
    if done:
        logger.warning("%s is complete already: %d optimizer steps of %d. It is left as it is.", out, steps, steps)
    return done


def step_of(checkpoint):
    """Optimizer steps up to a checkpoint, by its name."""
    return int(Path(checkpoint).name.split("-")[1])


def _logged_steps(out):
    """Optimizer steps of which the log tells; of a complete run the last checkpoints may have been lost."""
    rows = read_jsonl(out / "log.jsonl") if (out / "log.jsonl").exists() else []
    return rows[-1]["step"] if rows else 0


def last_checkpoint(folder, with_pool):
    """Path of the newest complete checkpoint, or None; one that was cut while it was written is passed over.

    The weights are looked for, too: a mounted folder may deliver the small files and lose the large one.
    """
    needed = ["trainer_state.json", "optimizer.pt", *(["pool.json", "demonstrations.json"] if with_pool else [])]
    weights = ("adapter_model.safetensors", "model.safetensors", "model.safetensors.index.json")
    whole = [
        c
        for c in Path(folder).glob("checkpoint-*")
        if all((c / name).is_file() for name in needed) and any((c / name).is_file() for name in weights)
    ]
    return str(max(whole, key=step_of)) if whole else None


def check_checkpoint(checkpoint):
    """Read a checkpoint's files through, since the trainer meets a damaged one only when the logs are cut back to it.

    Raises:
        RunError: a file is cut or damaged, or cannot be read now.
    """
    for file in sorted(Path(checkpoint).rglob("*")):
        try:
            _read_through(file)
        except OSError as error:  # the disk's fault, not the file's: deleting it would be wrong
            raise RunError(f"cannot read {file} ({error}); is the disk there? Try again") from error
        except (ValueError, RuntimeError, EOFError, zlib.error, BadZipFile, SafetensorError) as error:
            raise RunError(
                f"the checkpoint {checkpoint} is damaged: its {file.name} cannot be read ({error}); delete that "
                "folder, and --resume (resume=True) goes on from the checkpoint before it"
            ) from error


def _read_through(file):
    if file.suffix == ".json":
        json.loads(file.read_bytes())
    elif file.suffix == ".safetensors":
        with safe_open(file, "pt"):  # compares the file's length with that of its tensors
            pass
    elif file.suffix in (".pt", ".pth"):  # zip archives, with a checksum for each part
        with ZipFile(file) as parts:
            if broken := parts.testzip():
                raise BadZipFile(f"{broken} is damaged")


def load_pool(parts, checkpoint):
    """Restore what a checkpoint kept of a run's pool and demonstrations, if it has any (`method.assemble.Parts`)."""
    if parts.pool is not None:
        parts.pool.load(Path(checkpoint) / "pool.json")
        parts.bank.load(Path(checkpoint) / "demonstrations.json")


def check_folder(out, identity, resume):
    """Make `out` ready for a run, or say in one sentence why it is not.

    `identity`: recipe, profile and seed of the run to come. Only the number of steps may differ when resuming; anything
    else is another run. A field that the old run's version did not have counts as its default. Data and a model may
    have been moved or renamed where the run knows what they held: `check_contents` compares that. Resuming in an empty
    folder starts afresh.

    Raises:
        RunError: not writable; holds a run and `resume` is False; holds another run than `identity`, or what is left of
            a run without its config.json, which cannot be told from another.
    """
    out = Path(out)
    check_writable(out)
    if not (out / "config.json").exists():
        if left := [name for name in LEFT_BY_A_RUN if (out / name).exists()]:
            raise RunError(
                f"{out} holds {', '.join(left)} of a run, but not its config.json, and a new run would overwrite them; "
                "choose another folder, put the config.json back to go on with that run, or delete the folder"
            )
        return
    if not resume:
        raise RunError(f"{out} already holds a run; go on with it (--resume; resume=True) or choose another folder")
    old = read_json(out / "config.json")
    if set(identity) - set(old):
        raise RunError(f"{out} holds a run of another kind; choose another folder")
    differs, held = [], {name for name, value in old.get("holds", {}).items() if value is not None}
    moved = {"steps", "report_to"} | ({"data"} if {"rows", "held_out"} <= held else set())
    moved |= {"model"} if {"weights", "architecture", "tokenizer"} <= held else set()
    for part, kind, free in (("recipe", Recipe, {"about"}), ("profile", Profile, moved)):
        was, now = _filled(kind, old[part]), json.loads(json.dumps(identity[part]))
        if names := [name for name in now if name not in free and was.get(name) != now[name]]:
            differs.append(f"its {part} differs in {', '.join(names)}")
    if (began := old.get("processes", 1)) != (now := processes()[1]):
        differs.append(f"it was begun on {began} processes, not {now}, which draw other rollouts")
    if old["seed"] != identity["seed"]:
        differs.append(f"its seed is {old['seed']}, not {identity['seed']}")
    if differs:
        raise RunError(
            f"{out} holds another run: {'; '.join(differs)}; resume with the same settings or choose another folder"
        )


def _filled(kind, settings):
    """A recipe or profile as an older version wrote it, with the defaults of the fields it did not know."""
    if "max_tools" in settings:  # which once held for held-out prompts, too
        settings = {"held_out_max_tools": settings["max_tools"], **settings}
    return {f.name: f.default for f in fields(kind) if f.default is not MISSING} | settings


def what_a_run_holds(profile, data, tokenizer):
    """What a run is made of, by content -> {name of `HELD`: hash, or None where there is nothing to read}."""
    return {
        "rows": content_hash(data.train), "held_out": content_hash(data.held_out),
        "weights": weights_hash(profile.model), "architecture": architecture_hash(profile.model),
        "tokenizer": tokenizer_hash(tokenizer),
    }  # fmt: skip


def check_contents(out, holds, base_hash, model=None):
    """Refuse to go on with other rows, weights or words than a run was begun with, whatever they are called.

    Where the weights' files cannot be compared (a run from before this was written down, or weights in another format
    than safetensors), unrounded base weights are, as loaded.

    Args:
        holds: see `what_a_run_holds`.
        base_hash: `policy.model_hash` of the model as loaded.
        model: its name; another one than the run was begun with needs weights that can be compared.

    Raises:
        RunError: something differs; all that does is named.
    """
    old = read_json(Path(out) / "config.json")
    begun = old.get("holds", {})
    changed = [HELD[name] for name in HELD if None not in (begun.get(name), holds[name]) and begun[name] != holds[name]]
    unread = None in (begun.get("weights"), holds["weights"])
    plain = unread and not old["profile"].get("lora_rank")
    renamed = unread and model not in (None, old["profile"].get("model"))
    if renamed or (plain and old.get("base_model_hash", base_hash) != base_hash):
        changed.append(HELD["weights"])
    if changed:
        raise RunError(
            f"{out} holds another run: {', '.join(changed)} changed since it was begun; put back what it was begun "
            "with or choose another folder"
        )
