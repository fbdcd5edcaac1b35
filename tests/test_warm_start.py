"""The path of real models, end to end and tiny: rows of a file, warm start, then 4-bit QLoRA GRPO."""

import json

import pytest
import torch
from safetensors.torch import load_file

from toolexpander_lite.base.errors import ModelError
from toolexpander_lite.base.runs import RunError, read_log
from toolexpander_lite.data.row_formats import to_hermes
from toolexpander_lite.evaluation.accuracy import gold_logprobs
from toolexpander_lite.method.prompts import gold_completion
from toolexpander_lite.method.samples import DataError
from toolexpander_lite.models.policy import load_policy
from toolexpander_lite.training import warm_start
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.splits import load_splits
from toolexpander_lite.training.train import train
from toolexpander_lite.training.warm_start import build_warm_start
from toolexpander_lite.variants.all_recipes import get_recipe
from toolexpander_lite.worlds.nano_world import nano_samples


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    samples = nano_samples("train", 40, families=["send_note"])  # in words that the nano policy knows
    rows = [to_hermes(s.messages[-1]["content"], s.tools, s.calls) for s in samples]
    rows.append(to_hermes("tell heidi " * 200, samples[0].tools, samples[0].calls))
    rows.append(to_hermes("many", samples[0].tools, [call for s in samples[:20] for call in s.calls]))
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return get_profile(
        "nano", data="hermes", data_path=str(path), max_completion_length=64, warm_start_steps=2, train_prompts=8,
        eval_prompts=4, prompts_per_step=2, micro_batch=8, eval_every=1, steps=2,
    )  # fmt: skip


FOUR = get_recipe("grpo", num_generations=4)


def test_rows_that_cannot_fit_are_left_out_and_counted(tiny):
    _, tokenizer = load_policy(get_profile("nano"))
    data = load_splits(tiny, 0, tokenizer)
    assert len(data.train) == 8 and len(data.held_out) == 4 and data.hard_families == ()
    assert data.left_out["prompt_too_long"] == 1 and data.left_out["answer_too_long"] == 1
    assert sum(data.left_out.values()) == 2
    assert [s.id for s in load_splits(tiny, 1, tokenizer).held_out] == [s.id for s in data.held_out]
    assert [s.id for s in load_splits(tiny, 1, tokenizer).train] != [s.id for s in data.train]
    with pytest.raises(DataError, match="raise max_prompt_tokens"):
        load_splits(get_profile(tiny, max_prompt_tokens=3), 0, tokenizer)


@pytest.fixture(scope="module")
def warm(tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("warm") / "seed-0"
    steps = []
    folder = build_warm_start(tiny, out, progress=lambda step, loss: steps.append(step))
    assert steps == [1, 2] and folder == out / "final"
    return out


def test_warm_start_is_a_logged_step(warm, tiny):
    summary = json.loads((warm / "summary.json").read_text())
    assert summary["steps"] == 2 and {"zero_shot_before", "zero_shot", "seconds"} <= set(summary)
    rows = read_log(warm)
    assert [row["step"] for row in rows] == [0, 1, 2] and "eval" in rows[0] and "eval" in rows[2]
    base, _ = load_policy(get_profile("nano"))
    started, _ = load_policy(get_profile("nano", model=str(warm / "final")))
    assert not torch.equal(base.lm_head.weight, started.lm_head.weight)
    with pytest.raises(RunError, match="already holds a run"):
        build_warm_start(tiny, warm)
    with pytest.raises(ValueError, match="has no warm start"):
        build_warm_start(get_profile("nano"), warm)


@pytest.mark.parametrize("aside", [0, 5])
def test_it_learns_from_rows_that_are_set_aside_for_it(aside, tiny, tmp_path, monkeypatch):
    taught = []

    def learn(model, tokenizer, samples, steps, **options):
        taught.extend(s.id for s in samples)
        return [1.0] * steps

    monkeypatch.setattr(warm_start, "sft_warm_start", learn)
    monkeypatch.setattr(warm_start, "evaluate", lambda *a: {"zero_shot": 0.0})
    profile = get_profile(tiny, warm_start_rows=aside)
    out = build_warm_start(profile, tmp_path / "out").parent
    config = json.loads((out / "config.json").read_text())
    assert (config["trained_on"], config["own_rows_of_the_run"]) == ((5, False) if aside else (8, True))
    _, tokenizer = load_policy(get_profile("nano"))
    runs = [load_splits(profile, seed, tokenizer) for seed in (0, 1)]
    if not aside:
        assert taught == [s.id for s in runs[0].train]
    else:
        validation = load_splits(get_profile(profile, eval_split="validation"), 0, tokenizer)
        others = [s.id for splits in (*runs, validation) for s in (*splits.train, *splits.held_out)]
        assert len(taught) == 5 and not set(taught) & set(others)


def test_rows_come_once_more_with_a_demonstration(tiny, tmp_path, monkeypatch):
    """As hard sampling would show them: another row in front, with its answer, and what is learnt is the row's own."""
    seen = {}

    def spy(model, tokenizer, samples, *rest, prompts, max_tokens, **options):
        seen.update(samples=samples, prompts=prompts, max_tokens=max_tokens, tokenizer=tokenizer)
        return [0.5]

    monkeypatch.setattr(warm_start, "sft_warm_start", spy)
    roomy = get_profile(tiny, demo_room=128)
    build_warm_start(roomy, tmp_path / "run", demonstrations=True)
    half = len(seen["samples"]) // 2
    assert half == 8 and seen["samples"][half:] == seen["samples"][:half] and seen["prompts"][:half] == [None] * half
    assert seen["max_tokens"] == 256 + 128 + 64
    assert json.loads((tmp_path / "run" / "config.json").read_text())["with_a_demonstration"] == half
    for sample, prompt in zip(seen["samples"][half:], seen["prompts"][half:]):
        shown = [s for s in seen["samples"] if s is not sample and gold_completion(s) in prompt]
        assert shown and gold_completion(sample) not in prompt and sample.messages[-1]["content"] in prompt
        ids, labels = warm_start.encode_row(sample, seen["tokenizer"], prompt)
        read, answer = (seen["tokenizer"](text).input_ids for text in (prompt, gold_completion(sample)))
        assert ids == [*read, *answer, seen["tokenizer"].eos_token_id]
        assert labels == [-100] * len(read) + ids[len(read) :], "nothing of the demonstration is learnt"


def test_an_adapter_is_refused_before_anything_is_made(tiny, tmp_path):
    (tmp_path / "final").mkdir()
    (tmp_path / "final" / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="final is an adapter.*warm-start the base.*or go on from the adapter"):
        build_warm_start(get_profile(tiny, model=str(tmp_path / "final")), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_four_bit_lora_grpo_on_the_warm_started_model_and_resume(warm, tiny, tmp_path):
    profile = get_profile(
        tiny, model=str(warm / "final"), quantization="4bit", lora_rank=4, steps=2, learning_rate=1e-3
    )
    recipe = get_recipe(FOUR, reward="graded")  # gives a gradient even where nothing is quite right
    out = train(recipe, profile, 0, tmp_path / "run")
    rows = read_log(out)
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert rows[1]["kl"] == pytest.approx(0, abs=1e-5)  # the adapter starts as no change
    adapter = load_file(out / "final" / "adapter_model.safetensors")
    assert any("lora_B" in name and tensor.abs().max() > 0 for name, tensor in adapter.items())
    assert all(tensor.dtype == torch.float32 for tensor in adapter.values())
    # The adapter folder loads like a model: the trained policy comes back, not its base.
    again, tokenizer = load_policy(get_profile(profile, model=str(out / "final")))
    held_out = load_splits(tiny, 0, tokenizer).held_out
    base, _ = load_policy(profile)
    trained, fresh = gold_logprobs(again, tokenizer, held_out), gold_logprobs(base, tokenizer, held_out)
    assert not torch.allclose(trained, fresh, atol=1e-4)
    reloaded = {n: t for n, t in again.state_dict().items() if "lora_B" in n}
    assert all(torch.equal(t, adapter[n.replace(".default", "")]) for n, t in reloaded.items()) and reloaded
    other_seed = train(recipe, get_profile(profile, steps=1), 1, tmp_path / "other")
    hashes = {json.loads((r / "config.json").read_text())["base_model_hash"] for r in (out, other_seed)}
    assert len(hashes) == 1, "the base is the same whatever the adapters start from"
    halves = train(recipe, get_profile(profile, steps=1), 0, tmp_path / "halves")
    train(recipe, profile, 0, halves, resume=True)
    same = [{k: v for k, v in row.items() if k != "seconds"} for row in read_log(halves)]
    assert same == [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def test_rows_at_once_decide_the_memory_and_not_the_step():
    """Rows of different lengths, so that a mean of means would be another loss than the mean over all tokens."""
    samples, ends = nano_samples("train", 1), []
    for rows_at_once in (1, 3, 8):
        model, tokenizer = load_policy(get_profile("nano"))
        losses = warm_start.sft_warm_start(
            model, tokenizer, samples, 2, learning_rate=1e-3, seed=1, rows_at_once=rows_at_once
        )
        ends.append((losses, gold_logprobs(model, tokenizer, samples)))
    for losses, after in ends[:2]:
        assert losses == pytest.approx(ends[2][0], rel=1e-4)
        assert torch.allclose(after, ends[2][1], atol=2e-2)
