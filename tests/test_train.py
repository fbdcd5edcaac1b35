"""`train()` drives the stock GRPOTrainer on the real nano policy, a few steps at a time."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from trl import GRPOConfig, GRPOTrainer

import toolexpander_lite.training.record as recording
from toolexpander_lite.__main__ import main
from toolexpander_lite.base.errors import ModelError, RunError, RunStopped, SettingsError
from toolexpander_lite.base.groups import group_advantages
from toolexpander_lite.base.runs import evaluations, load_study, read_jsonl, read_log, software_versions
from toolexpander_lite.method.prompts import render_prompt
from toolexpander_lite.method.rewards import conjunctive_reward
from toolexpander_lite.models.files import NANO_CHECKPOINTS
from toolexpander_lite.models.hardware import Hardware
from toolexpander_lite.models.policy import load_policy
from toolexpander_lite.training.profiles import PROFILES, get_profile
from toolexpander_lite.training.splits import training_rows
from toolexpander_lite.training.train import batch_shape, grpo_config, tracker, train, vllm_settings
from toolexpander_lite.variants.all_recipes import get_recipe
from toolexpander_lite.worlds.nano_world import EASY_FAMILIES, nano_samples

# 12 prompts and 8 a step: an epoch ends in the middle of the second step, before the resumed runs set in.
TINY = dict(prompts_per_step=8, micro_batch=32, train_prompts=1, eval_every=2, eval_prompts=2)


def tiny(**changes):
    return get_profile("nano", **{**TINY, "steps": 4, **changes})


FOUR = get_recipe("grpo", num_generations=4)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(FOUR, tiny(), 0, tmp_path_factory.mktemp("runs") / "study" / "grpo" / "seed-0")


def without_clock(rows):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def test_run_directory_holds_what_it_promises(run):
    config = json.loads((run / "config.json").read_text())
    assert config["recipe"]["beta"] == 0.04 and config["recipe"]["epsilon"] == config["recipe"]["epsilon_high"] == 0.2
    assert config["profile"]["name"] == "nano" and config["seed"] == 0
    assert config["versions"]["trl"] and len(config["base_model_hash"]) == 16
    rows = read_log(run)
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["step"] for row, _ in evaluations(rows)] == [0, 2, 4]
    assert rows[-1]["rollouts"] == 4 * 8 * 4
    assert rows[-1]["learning_rate"] == rows[1]["learning_rate"] == config["learning_rate"]
    for row in rows[1:]:
        assert 0 <= row["groups/all_fail"] + row["groups/all_pass"] <= 1
        mixed = 1 - row["groups/all_fail"] - row["groups/all_pass"]
        assert row["frac_reward_zero_std"] == pytest.approx(1 - mixed, abs=1e-4)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["steps"] == 4 and summary["rollouts"] == 128
    assert set(summary) >= {
        "zero_shot",
        "zero_shot_easy",
        "zero_shot_hard",
        "peak_zero_shot",
        "stalled",
        "collapsed",
        "completion_tokens",
        "prompt_tokens",
        "seconds",
        "wall_seconds",
    }


def test_rollouts_are_recorded_by_group_and_agree_with_the_log(run):
    groups = read_jsonl(run / "rollouts.jsonl")
    assert len(groups) == 4 * 8 and all(len(g["rewards"]) == 4 for g in groups)
    for row in read_log(run)[1:]:
        here = [g for g in groups if g["step"] == row["step"]]
        assert len(here) == 8
        mean = sum(sum(g["rewards"]) for g in here) / 32
        assert row["reward"] == pytest.approx(mean, abs=1e-5)
        assert row["groups/all_fail"] == pytest.approx(sum(not any(g["rewards"]) for g in here) / 8, abs=1e-5)


def test_rollouts_can_be_read(run):
    for group in read_jsonl(run / "rollouts.jsonl"):
        assert len(group["completions"]) == len(group["verdicts"]) == 4
        assert [float(reason == "ok") for reason in group["verdicts"]] == group["rewards"]
        assert group["family"].split("_")[0] in group["prompt"] and "bonus" not in group


def test_a_run_that_is_asked_to_stop_keeps_a_checkpoint_and_goes_on_alike(run, tmp_path, capsys):
    out = tmp_path / "run"

    def ask_to_stop(row):
        if row["step"] == 3:  # not where a checkpoint is due anyway
            (out / "stop").touch()

    out.mkdir()
    (out / "stop").touch()  # of long ago: it stops nothing
    with pytest.raises(RunStopped, match=r"was stopped at step [34], as asked; --resume \(resume=True\)") as stopped:
        train(FOUR, tiny(steps=6), 0, out, progress=ask_to_stop)
    step = read_log(out)[-1]["step"]
    assert (out / "checkpoints" / f"checkpoint-{step}" / "model.safetensors").exists()
    assert not (out / "stop").exists() and not (out / "summary.json").exists()
    assert stopped.value._render_traceback_() == [str(stopped.value)], "one line in a notebook"
    train(FOUR, tiny(steps=6), 0, out, resume=True)
    assert (out / "summary.json").exists()
    whole = train(FOUR, tiny(steps=6), 0, tmp_path / "whole")
    assert without_clock(read_log(out)) == without_clock(read_log(whole))
    assert read_jsonl(out / "rollouts.jsonl") == read_jsonl(whole / "rollouts.jsonl")


def test_tokens_are_counted_rollout_by_rollout(run):
    """A prompt counts once for each rollout of its group; completions as TRL measures them."""
    tokenizer = load_policy(get_profile("nano"))[1]
    length = {s.id: len(tokenizer(render_prompt(s, tokenizer)).input_ids) for s in nano_samples("train", 1, seed=0)}
    groups, rows = read_jsonl(run / "rollouts.jsonl"), read_log(run)
    for before, row in zip(rows, rows[1:]):
        prompts = sum(4 * length[g["sample_id"]] for g in groups if g["step"] == row["step"])
        assert row["prompt_tokens"] - before["prompt_tokens"] == prompts
        written = row["completions/mean_length"] * (row["rollouts"] - before["rollouts"])
        assert row["completion_tokens"] - before["completion_tokens"] == pytest.approx(written, abs=0.1)


def test_several_processes_and_lengths_the_model_cannot_read_are_refused(tmp_path, monkeypatch):
    with pytest.raises(SettingsError, match="prompts of 500 and answers of 48 tokens make 548, and 'nano' reads 512"):
        train(FOUR, tiny(max_prompt_tokens=500), 0, tmp_path / "long")
    with pytest.raises(SettingsError, match="prompts of 480 .* lower max_prompt_tokens, demo_room"):
        train(FOUR, tiny(max_prompt_tokens=256, demo_room=224), 0, tmp_path / "long")
    monkeypatch.setenv("WORLD_SIZE", "2")  # and nobody says where the other one is
    with pytest.raises(SettingsError, match="2 processes were asked for, and this run would be one of 1"):
        train(FOUR, tiny(), 0, tmp_path / "two")
    assert not list(tmp_path.glob("*/config.json"))


def test_every_prompt_is_seen_once_an_epoch(run):
    """Twelve prompts are too few for another order in each epoch; test_order_... has the rest."""
    ids = [g["sample_id"] for g in read_jsonl(run / "rollouts.jsonl")]
    assert set(ids[:12]) == set(ids[12:24]) and len(set(ids[:12])) == 12


def test_weights_move_and_the_final_folder_loads_like_any_model(run):
    before = load_file(NANO_CHECKPOINTS["nano"] / "model.safetensors")
    after = load_file(run / "final" / "model.safetensors")
    assert any(not torch.equal(before[name], after[name]) for name in before)
    model, tokenizer = load_policy(get_profile("nano", model=str(run / "final")))
    assert tokenizer.chat_template and model.num_parameters() > 3e5


def test_same_seed_same_log_other_seed_other_log(run, tmp_path):
    again = train(FOUR, tiny(), 0, tmp_path / "a")
    other = train(FOUR, tiny(), 1, tmp_path / "b")
    assert without_clock(read_log(again)) == without_clock(read_log(run))
    assert without_clock(read_log(other))[1:] != without_clock(read_log(run))[1:]


def test_resumed_run_has_the_log_of_an_uninterrupted_one(run, tmp_path):
    """2 steps, stop, 2 more = 4 steps; also when killed after the checkpoint, with half a line written."""
    out = train(FOUR, tiny(steps=2), 0, tmp_path / "run")
    with (out / "log.jsonl").open("a") as file:
        file.write('{"step": 3, "loss": 0.1}\n{"step": 4, "lo')
    train(FOUR, tiny(), 0, out, resume=True)
    assert without_clock(read_log(out)) == without_clock(read_log(run))
    assert read_jsonl(out / "rollouts.jsonl") == read_jsonl(run / "rollouts.jsonl")
    one, two = load_file(run / "final" / "model.safetensors"), load_file(out / "final" / "model.safetensors")
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("quantization", [None, "4bit"])
def test_adapters_come_back_with_the_checkpoint(quantization, tmp_path):
    """With the KL term: TRL keeps the adapters' first state beside them, and a checkpoint holds both."""
    adapters = dict(lora_rank=2, quantization=quantization, learning_rate=1e-2, eval_every=1)
    assert get_recipe("grpo").beta > 0
    whole = train(FOUR, tiny(steps=2, **adapters), 0, tmp_path / "whole")
    cut = train(FOUR, tiny(steps=1, **adapters), 0, tmp_path / "cut")
    train(FOUR, tiny(steps=2, **adapters), 0, cut, resume=True)
    assert read_log(whole)[-1]["kl"] > 0, "the two steps would agree on a policy that did not move"
    assert without_clock(read_log(cut)) == without_clock(read_log(whole))
    one, two = (load_file(run / "final" / "adapter_model.safetensors") for run in (whole, cut))
    assert one and all(torch.equal(one[name], two[name]) for name in one)


def test_it_learns_what_it_can_and_the_hard_families_stay_at_zero(tmp_path):
    """Twelve real steps: easy accuracy rises, hard stays 0. Enough to fail if rewards and prompts got mixed up."""
    out = train("grpo", get_profile("nano", steps=12, eval_every=12), 0, tmp_path / "run")
    (_, first), (_, last) = evaluations(read_log(out))
    assert last["zero_shot_easy"] > first["zero_shot_easy"] + 0.2
    assert last["zero_shot_hard"] == first["zero_shot_hard"] == 0
    assert first["few_shot_hard"] > 0.9


def test_advantages_by_hand_are_the_trainers(tmp_path):
    """`group_advantages` against the column that the stock trainer logs."""
    model, tokenizer = load_policy(get_profile("nano"))
    samples = nano_samples("train", 2, families=EASY_FAMILIES)
    config = GRPOConfig(
        output_dir=str(tmp_path), max_steps=1, per_device_train_batch_size=32, num_generations=4, logging_steps=1,
        max_completion_length=32, log_completions=True, report_to="none", use_cpu=True, bf16=False,
        gradient_checkpointing=False, disable_tqdm=True, seed=3, save_strategy="no",
    )  # fmt: skip
    GRPOTrainer(
        model=model,
        reward_funcs=conjunctive_reward,
        args=config,
        train_dataset=training_rows(samples, tokenizer),
        processing_class=tokenizer,
    ).train()
    table = pd.read_parquet(next(Path(tmp_path).rglob("completions_*.parquet")))
    rewards = table["conjunctive_reward"].tolist()
    assert 0 < sum(rewards) < len(rewards)
    expected = group_advantages(rewards, 4)
    assert table["advantage"].tolist() == pytest.approx([float(a) for a in expected], abs=1e-5)


def test_the_last_step_is_always_evaluated(tmp_path):
    out = train(FOUR, tiny(steps=1, eval_every=5), 0, tmp_path / "run")
    assert [row["step"] for row, _ in evaluations(read_log(out))] == [0, 1]


def test_truncated_rollouts_are_seen(tmp_path):
    """A cap below the length of any answer: all are clipped, none rewarded, and the log says why."""
    out = train(FOUR, tiny(max_completion_length=6, steps=1, eval_every=1), 0, tmp_path / "run")
    row = read_log(out)[1]
    assert row["completions/clipped_ratio"] == 1 and row["reward"] == 0 and row["groups/all_fail"] == 1
    assert set(row["eval"]["reasons"]) <= {"truncated", "no_call"}


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        (dict(recipe="gpro"), ValueError, "unknown recipe 'gpro'; .*choose one of .*grpo"),
        (dict(profile="laptop"), ValueError, "unknown profile 'laptop'; choose one of nano"),
        (dict(seed="0"), ValueError, "seed is '0'; it must be a whole number from 0 to 4294967295"),
        (dict(seed=True), ValueError, "seed is True; it must be"),
        (dict(profile=get_profile("nano", model="no/such-model")), ValueError, "no/such-model"),
    ],
)
def test_bad_input_gets_one_clear_error(arguments, error, words, tmp_path):
    with pytest.raises(error, match=words):
        train(**{"out": tmp_path / "run", **arguments})


@pytest.mark.parametrize(
    "recipe, profile, shape",
    [
        ({}, {}, (16, 160)),
        ({}, {"micro_batch": 159}, (16, 80)),
        ({}, {"micro_batch": 7}, (16, 5)),  # 160 = 32 * 5: neither 7 nor 6 divides it
        ({}, {"micro_batch": 1}, (16, 1)),
        ({}, {"micro_batch": 1000}, (16, 160)),
        ({"num_generations": 7}, {}, (16, 112)),
        ({"num_generations": 8, "equal_rollouts": True}, {}, (20, 160)),
        ({"num_generations": 32, "equal_rollouts": True}, {}, (5, 160)),
        ({"num_generations": 32}, {}, (16, 128)),  # 512 in four parts
        ({"num_generations": 20, "equal_rollouts": True}, {"prompts_per_step": 2, "micro_batch": 8}, (1, 5)),
        ({"equal_rollouts": True}, {"prompts_per_step": 3}, (3, 30)),
    ],
)
def test_batch_shape_takes_the_largest_part_that_fits(recipe, profile, shape):
    assert batch_shape(get_recipe("grpo", **recipe), get_profile("nano", **profile)) == shape


def test_supervised_rows_of_a_real_model_come_a_few_at_a_time():
    assert batch_shape(get_recipe("paper_sft"), get_profile("smol-world", prompts_per_step=2)) == (2, 4)
    assert batch_shape(get_recipe("paper_sft"), get_profile("nano")) == (16, 160)


def test_equal_rollouts_are_equal_or_refused():
    with pytest.raises(SettingsError, match="2 prompts of 10 rollouts a step make no whole groups of 32"):
        batch_shape(get_recipe("rollouts_32"), get_profile("nano", prompts_per_step=2))


@pytest.mark.parametrize(
    "make",
    [lambda: get_profile("nano", steps=0), lambda: get_profile("nano", eval_every=0),
     lambda: get_profile("nano", colour=1),
     lambda: get_profile("nano", micro_batch=2.5), lambda: get_recipe("grpo", beta=-1),
     lambda: get_recipe("grpo", epsilon=2),
     lambda: get_recipe("grpo", scale_rewards="batch"), lambda: get_recipe("grpo", num_generations=1),
     lambda: get_recipe("grpo", learning_rate=0.0), lambda: get_recipe("grpo", reward="nice"),
     lambda: get_recipe("grpo", x=1)],
)  # fmt: skip
def test_settings_that_cannot_run_are_refused_when_they_are_made(make):
    with pytest.raises(ValueError):
        make()


@pytest.mark.parametrize(
    "profile, hardware, bf16, fp16, cpu, checkpointing",
    [
        ("nano", Hardware("cpu", "CPU", 8), False, False, True, False),
        ("smol", Hardware("cpu", "CPU", 8), False, False, True, False),
        ("smol", Hardware("cpu", "CPU", 8, fast_bfloat16=True), True, False, True, False),
        ("t4", Hardware("cuda", "Tesla T4", 14.7, (7, 5)), False, True, False, True),
        ("smol", Hardware("cuda", "Tesla T4", 14.7, (7, 5)), False, True, False, False),
        ("gpu24", Hardware("cuda", "RTX 3090", 23.7, (8, 6)), True, False, False, True),
    ],
)
def test_trainer_flags_by_machine(profile, hardware, bf16, fp16, cpu, checkpointing, tmp_path, monkeypatch):
    """The precision each machine gets, without owning it (transformers checks for a GPU; that check is not ours)."""
    seen = {}
    monkeypatch.setattr("toolexpander_lite.training.train.GRPOConfig", lambda **settings: seen.update(settings))
    grpo_config(get_recipe("grpo"), get_profile(profile), 0, tmp_path, hardware)
    assert (seen["bf16"], seen["fp16"], seen["use_cpu"], seen["gradient_checkpointing"]) == (
        bf16,
        fp16,
        cpu,
        checkpointing,
    )
    assert seen["per_device_train_batch_size"] * seen["gradient_accumulation_steps"] % seen["num_generations"] == 0


def test_no_git_is_no_reason_to_stop(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert software_versions()["git_commit"] is None


def test_a_complete_run_is_left_as_it_is(run, tmp_path, caplog):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.is_file()}
    assert train(FOUR, tiny(), 0, copy, resume=True) == copy
    assert "is complete already: 4 optimizer steps of 4" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.is_file()} == before
    (copy / "summary.json").unlink()  # cut before its end
    train(FOUR, tiny(), 0, copy, resume=True)
    assert (copy / "summary.json").exists()


def test_folder_errors(run, tmp_path):
    with pytest.raises(RunError, match="already holds a run"):
        train(FOUR, tiny(), 0, run)
    with pytest.raises(RunError, match="another run: its recipe differs in learning_rate"):
        train(get_recipe(FOUR, learning_rate=1e-5), tiny(), 0, run, resume=True)
    with pytest.raises(RunError, match="another run: its seed"):
        train(FOUR, tiny(), 5, run, resume=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"seed": 0}')
    with pytest.raises(RunError, match="a run of another kind"):
        train(FOUR, tiny(), 0, tmp_path / "other", resume=True)
    (tmp_path / "other" / "config.json").write_text('{"seed')
    with pytest.raises(RunError, match="cannot be read"):
        train(FOUR, tiny(), 0, tmp_path / "other", resume=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write to"):
        train(FOUR, tiny(), 0, tmp_path / "file" / "run")


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("[enforce fail at inline_container.cc:672]")]
)
def test_full_disk_at_a_checkpoint_is_the_same_clear_error(error, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise error

    monkeypatch.setattr("torch.save", full)
    with pytest.raises(RunError, match="Free some space"):
        train(FOUR, tiny(), 0, tmp_path / "run")


def test_an_error_that_is_not_the_disks_stays_itself(tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("something else")

    monkeypatch.setattr("torch.save", broken)
    with pytest.raises(RuntimeError, match="^something else$"):
        train(FOUR, tiny(), 0, tmp_path / "run")


def test_full_disk_is_one_clear_error_and_the_run_goes_on_from_its_checkpoint(run, tmp_path, monkeypatch):
    out = tmp_path / "run"
    write = recording.RunLog.write

    def full(self, row, *rest, **options):
        if row["step"] == 3:
            raise OSError(28, "No space left on device")
        write(self, row, *rest, **options)

    monkeypatch.setattr(recording.RunLog, "write", full)
    with pytest.raises(RunError, match="No space left on device.*resume=True"):
        train(FOUR, tiny(), 0, out)
    monkeypatch.undo()
    train(FOUR, tiny(), 0, out, resume=True)
    assert without_clock(read_log(out)) == without_clock(read_log(run))


def test_command_line_trains_and_tabulates(tmp_path, capsys, monkeypatch):
    out = tmp_path / "study" / "grpo" / "seed-7"
    monkeypatch.setitem(PROFILES, "nano", tiny())
    assert (
        main(
            [
                "train",
                "--recipe",
                "grpo",
                "--num-generations",
                "4",
                "--seed",
                "7",
                "--steps",
                "2",
                "--learning-rate",
                "1e-4",
                "--out",
                str(out),
            ]
        )
        == 0
    )
    assert read_log(out)[1]["learning_rate"] == 1e-4
    table = load_study(tmp_path / "study")
    assert table["seed"].tolist() == [7] and table["variant"].tolist() == ["grpo"]
    assert main(["runs", str(tmp_path / "study")]) == 0
    assert "grpo" in capsys.readouterr().out


def test_command_line_errors_are_one_line(tmp_path, capsys):
    assert main(["train", "--recipe", "nope", "--out", str(tmp_path / "x")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: unknown recipe 'nope'") and error.count("\n") == 1
    shutil.rmtree(tmp_path / "x", ignore_errors=True)
    assert main(["runs", str(tmp_path)]) == 2


def test_a_complete_run_without_checkpoints_is_not_begun_again(run, tmp_path):
    """Committed runs have none: --resume must not empty their logs."""
    copy = shutil.copytree(run, tmp_path / "again", ignore=shutil.ignore_patterns("checkpoints"))
    before = {file.name: file.read_bytes() for file in copy.iterdir() if file.is_file()}
    with pytest.raises(RunError, match="is complete, but its checkpoints are not here"):
        train(FOUR, tiny(), 0, copy, resume=True)
    assert {file.name: file.read_bytes() for file in copy.iterdir() if file.is_file()} == before


def test_an_adapter_knows_the_base_it_was_trained_on(tmp_path):
    base = shutil.copytree(NANO_CHECKPOINTS["nano"], tmp_path / "warm")
    run = train(FOUR, tiny(model=str(base), lora_rank=2, steps=1), 0, tmp_path / "run")
    final = get_profile("nano", model=str(run / "final"), lora_rank=2)
    assert load_policy(final, device="cpu")
    weights = load_file(base / "model.safetensors")
    save_file({name: tensor * 1.01 for name, tensor in weights.items()}, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="trained on other weights"):
        load_policy(final, device="cpu")


def test_trackers_are_told_and_one_that_is_not_installed_is_refused(tmp_path, monkeypatch):
    find_spec = "toolexpander_lite.training.train.importlib.util.find_spec"
    monkeypatch.setattr(find_spec, lambda name: name if name == "trackio" else None)
    settings = tracker(FOUR, tiny(report_to="trackio"), 3)
    assert settings["report_to"] == "trackio" and settings["run_name"].startswith(f"{FOUR.name}-seed-3-20")
    with pytest.raises(SettingsError, match="report_to='wandb' needs that package: pip install wandb"):
        tracker(FOUR, tiny(report_to="wandb"), 0)
    with pytest.raises(SettingsError, match="report_to is 'mlflow'; choose one of none, trackio, tensorboard, wandb"):
        tiny(report_to="mlflow")
    with pytest.raises(SettingsError, match="the address of a vLLM that is not used"):
        tiny(vllm_server="http://127.0.0.1:8000")
    gpu = SimpleNamespace(device="cuda")
    monkeypatch.setattr(find_spec, lambda name: name)
    assert vllm_settings(tiny(vllm=True, vllm_server="http://127.0.0.1:8000"), gpu) == {
        "use_vllm": True, "vllm_mode": "server", "vllm_server_base_url": "http://127.0.0.1:8000",
    }  # fmt: skip


@pytest.mark.parametrize("most, use_cpu, times", [(0, True, 1), (2**60, True, 0), (0, False, 0)])
def test_freed_memory_goes_back_after_a_step_that_leaves_much(most, use_cpu, times):
    asked = []
    callback = recording.MemoryReturn(most)
    if callback.trim is None or not Path("/proc/self/statm").exists():
        pytest.skip("glibc on Linux alone keeps freed memory so")
    callback.trim = asked.append
    callback.on_step_end(SimpleNamespace(use_cpu=use_cpu), None, None)
    assert asked == [0] * times
