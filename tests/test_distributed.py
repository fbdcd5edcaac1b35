"""Runs on several processes (gloo, nano): the same run as on one, one log, and clear ends."""

import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from toolexpander_lite.base.errors import RunError, SettingsError
from toolexpander_lite.base.runs import read_json, read_jsonl, read_log, write_json
from toolexpander_lite.training.distributed import asked_for, check_sharing, join_processes, shards_weights
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.resume import check_checkpoint, check_folder, last_checkpoint
from toolexpander_lite.variants.all_recipes import get_recipe

ROOT = Path(__file__).resolve().parents[1]
# Noise that depends on the prompt and on the place in its group alone: then sampling is the same on any number of
# processes, and what is left to differ is the sharing.
SCRIPT = '''
import hashlib, json, os, sys
import torch
from transformers import GenerationMixin, LogitsProcessor
from toolexpander_lite.base.processes import leave, processes
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.train import train
from toolexpander_lite.variants.all_recipes import get_recipe

class Noise(LogitsProcessor):
    def __init__(self, rows):
        seen, self.seeds, self.start = {}, [], rows.shape[1]
        for row in rows.tolist():
            key = tuple(token for token in row if token)  # 0 pads
            seen[key] = seen.get(key, 0) + 1
            self.seeds.append(int(hashlib.sha256(f"{key}-{seen[key]}".encode()).hexdigest()[:12], 16))

    def __call__(self, ids, scores):
        step, noise = ids.shape[1] - self.start, []
        for seed in self.seeds:
            generator = torch.Generator().manual_seed(seed + step)
            noise.append(-torch.empty(scores.shape[1]).exponential_(generator=generator).log())
        best = (scores + torch.stack(noise)).argmax(1, keepdim=True)
        return torch.full_like(scores, -1e4).scatter(1, best, 1e4)

generate = GenerationMixin.generate

def with_noise(self, inputs=None, generation_config=None, **options):
    how = generation_config or self.generation_config
    if options.get("do_sample", how.do_sample):
        options["logits_processor"] = [Noise(options["input_ids"])]
    return generate(self, inputs, generation_config, **options)

GenerationMixin.generate = with_noise
out, die = sys.argv[1], sys.argv[2:]
profile = get_profile("nano", prompts_per_step=4, train_prompts=1, steps=4, eval_every=2, eval_prompts=1)
short = {"learning_rate": 1e-3}
for name in RECIPES:
    def progress(row):
        if die and row["step"] == 3:
            os._exit(7)
    recipe = get_recipe(name, **short, round_steps=2, equal_rollouts=False, num_generations=10)
    train(recipe, profile, 0, f"{out}/{name}", progress=progress)
leave()
'''


RECIPES = ("hard_sampling", "paper_replace", "context_distillation")


def launch(number, folder, recipes, *die):
    """Run the script on so many processes -> what came of it."""
    script = folder / "run.py"
    script.write_text(SCRIPT.replace("RECIPES", repr(list(recipes))))
    # A slow look at its processes: the launcher ends all of them as soon as it sees one that is gone.
    torchrun = ["-m", "torch.distributed.run", f"--nproc-per-node={number}", "--standalone", "--monitor-interval=5"]
    command = [sys.executable, *(torchrun if number > 1 else []), str(script), str(folder), *die]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    done = launch(1, folder, RECIPES)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def close(one, other):
    """Equal, numbers to 1e-5 (logs have six digits)."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    return one == (pytest.approx(other, rel=1e-5, abs=1e-5) if isinstance(other, float) else other)


@pytest.mark.parametrize(("number", "recipes"), [(2, RECIPES), (4, RECIPES[1:2])])
def test_several_processes_make_the_run_of_one(alone, tmp_path, number, recipes):
    done = launch(number, tmp_path, recipes)
    assert done.returncode == 0, done.stderr[-4000:]
    for name in recipes:
        mine, its = alone / name, tmp_path / name
        rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in read_log(run)] for run in (mine, its)]
        assert len(rows[0]) == len(rows[1]) == 5, "one log"
        for one, several in zip(*rows):
            different = [key for key in one if not close(one[key], several.get(key))]
            assert not different, (name, one["step"], different)
        assert sum(row.get("grad_norm", 0) > 1e-3 for row in rows[0]) >= 1, "something is learnt"
        assert read_jsonl(mine / "rollouts.jsonl") == read_jsonl(its / "rollouts.jsonl")
        for file in ("pool.json", "demonstrations.json"):
            files = [run / "checkpoints" / "checkpoint-4" / file for run in (mine, its)]
            assert files[0].read_text() == files[1].read_text(), (name, file)
        assert read_json(its / "config.json")["processes"] == number
        assert read_json(its / "summary.json")["rollouts"] == read_json(mine / "summary.json")["rollouts"]
    scans = [[line | {"seconds": 0} for line in read_jsonl(run / "paper_replace" / "scans.jsonl")]
             for run in (alone, tmp_path)]  # fmt: skip
    assert scans[0] == scans[1] and len(scans[0]) >= 36, "each row is asked once in each scan"


def test_a_process_that_dies_ends_the_others_with_one_error(tmp_path):
    done = launch(2, tmp_path, ["grpo"], "die")
    assert done.returncode != 0
    [told] = [line for line in done.stderr.splitlines() if "RunError: another process of this run ended" in line]
    assert str(tmp_path / "grpo") in told and "--resume goes on from the last" in told
    checkpoint = last_checkpoint(tmp_path / "grpo" / "checkpoints", with_pool=False)
    assert checkpoint.endswith("checkpoint-2")
    check_checkpoint(checkpoint)


def test_accelerate_launch_with_the_committed_file_and_prompts_that_cannot_be_shared(tmp_path):
    file = ROOT / "toolexpander_lite" / "training" / "accelerate" / "cpu.yaml"
    asked = "-m toolexpander_lite train --profile-set prompts_per_step=3 --out".split()
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", file, "--main_process_port", "0"]
    command = [*map(str, command), *asked, str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    told = "error: profile 'nano': 3 prompts a step cannot be shared among 2 processes in whole groups; choose a prom"
    assert told in done.stderr and done.returncode != 0
    assert not (tmp_path / "out").exists()


def test_what_was_asked_for_and_did_not_come_is_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert join_processes() == 1
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")  # what accelerate launch --cpu --num_processes 2 leaves behind
    with pytest.raises(SettingsError, match="asked for several processes and started one"):
        join_processes()
    monkeypatch.delenv("MASTER_ADDR")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(SettingsError, match="FSDP was asked for, and on a CPU accelerate does plain DDP"):
        join_processes()


@pytest.mark.parametrize(
    ("way", "stage", "recipe", "resume", "words"),
    [("FSDP", None, "grpo", True, "a run with FSDP cannot be resumed"),
     ("FSDP", None, "paper_replace", False, "asks its rows in scans"),
     ("DEEPSPEED", "3", "paper_replace", False, "asks its rows in scans"),
     ("DEEPSPEED", "2", "context_distillation", False, "adds gradients of its own, which DEEPSPEED does not see"),
     ("DEEPSPEED", "2", "paper_replace", False, None), ("FSDP", None, "hard_sampling", False, None)],
)  # fmt: skip
def test_what_a_sharing_cannot_do_is_refused(monkeypatch, way, stage, recipe, resume, words):
    monkeypatch.setenv(f"ACCELERATE_USE_{way}", "true")
    if stage:
        monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", stage)
    assert asked_for() == way and shards_weights() == (stage != "2")
    if words is None:
        return check_sharing(get_recipe(recipe), resume)
    with pytest.raises(SettingsError, match=words):
        check_sharing(get_recipe(recipe), resume)


def test_a_run_is_resumed_on_as_many_processes_as_it_was_begun_on(tmp_path):
    identity = {"recipe": asdict(get_recipe("grpo")), "profile": asdict(get_profile("nano")), "seed": 0}
    write_json(tmp_path / "config.json", identity | {"processes": 2})
    with pytest.raises(RunError, match="it was begun on 2 processes, not 1"):
        check_folder(tmp_path, identity, resume=True)
    write_json(tmp_path / "config.json", identity)  # a run from before it was written down
    check_folder(tmp_path, identity, resume=True)
