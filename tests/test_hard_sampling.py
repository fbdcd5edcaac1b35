"""The pool by hand, then inside the real trainer."""

import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from trl import GRPOConfig, GRPOTrainer

from toolexpander_lite.base.errors import PoolError
from toolexpander_lite.base.runs import read_jsonl, read_log
from toolexpander_lite.method import hard_pool as sample_pool
from toolexpander_lite.method.hard_pool import FALLBACKS
from toolexpander_lite.method.hard_sampling import PoolReward, PromptServer
from toolexpander_lite.method.prompts import render_prompt
from toolexpander_lite.method.rewards import conjunctive_reward
from toolexpander_lite.method.samples import training_columns
from toolexpander_lite.models.policy import load_policy
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.record import STATE_LETTERS, RoundLog, rewind
from toolexpander_lite.training.splits import in_training_order
from toolexpander_lite.training.train import train
from toolexpander_lite.variants.all_recipes import get_recipe
from toolexpander_lite.variants.other_demonstrations import VariantBank
from toolexpander_lite.variants.visit_pool import VisitPool
from toolexpander_lite.worlds.nano_world import nano_samples


def test_hard_then_demonstrated_then_retested_then_back():
    pool = VisitPool(["a", "b"])
    assert pool.mode("a") == "plain" and pool.counts()["unseen"] == 2
    pool.observe("a", "plain", 10, 0, step=1)
    assert pool.mode("a") == "demonstrated"
    pool.observe("a", "demonstrated", 10, 0, step=2)
    assert pool.mode("a") == "demonstrated"
    pool.observe("a", "demonstrated", 10, 3, step=3)
    assert pool.mode("a") == "retest"
    pool.observe("a", "plain", 10, 0, step=4)
    assert pool.mode("a") == "demonstrated"
    pool.observe("a", "demonstrated", 10, 1, step=5)
    pool.observe("a", "plain", 10, 2, step=6)
    assert pool.mode("a") == "plain"
    assert pool.states() == ["returned", "unseen"]
    told = pool.explain("a")
    assert "step 1 (round 0): plain -> demonstrated: 0 of 10 right without a demonstration" in told
    assert "step 3 (round 0): demonstrated -> retest: 3 of 10 right with a demonstration" in told
    assert "step 6 (round 0): retest -> plain: 2 of 10 right without a demonstration" in told
    assert pool.explain("b").count("\n") == 0


def test_small_groups_add_up_to_the_window_and_a_success_starts_it_over():
    pool = VisitPool(["a"])
    for step in range(2):
        pool.observe("a", "plain", 4, 0, step)
        assert pool.mode("a") == "plain"
    pool.observe("a", "plain", 4, 1, 2)
    pool.observe("a", "plain", 4, 0, 3)
    pool.observe("a", "plain", 4, 0, 4)
    assert pool.mode("a") == "plain", "8 failures since the last success are too few"
    pool.observe("a", "plain", 4, 0, 5)
    assert pool.mode("a") == "demonstrated"


def test_nine_failures_are_not_hard_and_ten_are():
    pool = VisitPool(["a", "b"])
    pool.observe("a", "plain", 9, 0, 1)
    pool.observe("b", "plain", 10, 0, 1)
    assert (pool.mode("a"), pool.mode("b")) == ("plain", "demonstrated")


def test_the_mode_it_was_served_in_counts_not_the_mode_it_has_now():
    """The loader fetches ahead: a plain prompt may come back after its sample was found hard."""
    pool = VisitPool(["a"])
    pool.observe("a", "plain", 10, 0, 1)
    pool.observe("a", "plain", 10, 0, 2)
    assert pool.mode("a") == "demonstrated"
    pool.observe("a", "plain", 10, 1, 3)
    assert pool.mode("a") == "plain"
    pool.observe("a", "demonstrated", 10, 5, 4)
    assert pool.mode("a") == "plain"


def test_retest_at_the_rounds_end_and_never():
    for retest, expected in (("round_end", "retest"), ("never", "demonstrated")):
        pool = VisitPool(["a"], retest=retest)
        pool.observe("a", "plain", 10, 0, 1)
        pool.observe("a", "demonstrated", 10, 9, 2)
        assert pool.mode("a") == "demonstrated"
        pool.end_round(3)
        assert pool.mode("a") == expected and pool.round == 1


def test_a_rounds_end_is_known_from_the_second_step_after_it():
    """The loader has rendered the next step already when a round ends; a resumed run has not, and must not differ."""
    pool = VisitPool(["a"], retest="round_end")
    pool.observe("a", "plain", 10, 0, 1)
    assert [pool.mode("a", step) for step in (1, 4, 9)] == ["demonstrated"] * 3
    pool.end_round(4)
    assert [pool.mode("a", step) for step in (5, 6, 7)] == ["demonstrated", "retest", "retest"]
    assert pool.mode("a") == "retest" and pool.states() == ["retest"]
    pool.observe("a", "demonstrated", 10, 9, 5)  # what was rendered before the round ended
    assert pool.mode("a", 6) == "retest"
    pool.observe("a", "plain", 10, 1, 6)
    assert pool.mode("a", 5) == "plain"


def test_a_retest_after_success_has_no_lag():
    pool = VisitPool(["a"])
    pool.observe("a", "plain", 10, 0, 1)
    pool.observe("a", "demonstrated", 10, 1, 3)
    pool.end_round(4)
    assert pool.mode("a", 5) == "retest"


def test_a_retest_that_waits_is_not_put_off_by_the_next_rounds_end():
    pool = VisitPool(["a", "b"], retest="round_end")
    pool.observe("a", "plain", 10, 0, 1)
    pool.end_round(4)
    before = pool.mode("a", 9)  # as the loader renders it during step 8
    pool.observe("b", "plain", 10, 0, 7)
    pool.end_round(8)
    assert pool.mode("b", 9) == "demonstrated" and pool.mode("b", 10) == "retest"
    assert pool.mode("a", 9) == before == "retest"


def test_states_are_in_the_order_of_the_ids_and_counts_are_theirs():
    pool = VisitPool(["retest", "unseen", "returned", "hard", "solved", "failed", "short"])
    for id in ("retest", "returned", "hard"):
        pool.observe(id, "plain", 10, 0, 1)
    pool.observe("solved", "plain", 10, 10, 1)
    pool.observe("failed", "plain", 10, 1, 1)
    for id in ("failed", "short"):
        pool.observe(id, "plain", 4, 0, 2)
    for id in ("retest", "returned"):
        pool.observe(id, "demonstrated", 10, 1, 3)
    pool.observe("returned", "plain", 10, 1, 5)
    assert pool.states() == ["retest", "unseen", "returned", "demonstrated", "solved", "plain", "plain"]
    counts = {"unseen": 1, "solved": 1, "returned": 1, "plain": 2, "demonstrated": 1, "retest": 1}
    assert pool.counts() == counts and list(pool.counts()) == list(VisitPool.STATES)
    assert "after 3 visits, 2 of 30 rollouts right." in pool.explain("returned")


def test_returned_is_solved_and_hard_before():
    pool = VisitPool(["a"])
    states = []
    for served, right in (("plain", 0), ("plain", 3), ("plain", 0), ("plain", 1), ("demonstrated", 9)):
        pool.observe("a", served, 10, right, 1)
        states += pool.states()
    assert states == ["demonstrated", "returned", "demonstrated", "returned", "returned"]
    pool = VisitPool(["a"])
    pool.observe("a", "plain", 4, 0, 1)
    pool.observe("a", "plain", 10, 3, 2)
    assert pool.states() == ["solved"], "a few failures at first are not hard"


def test_the_oldest_decisions_are_forgotten(monkeypatch, tmp_path):
    """Of five decisions the last three are told, also from a file that holds more; modes do not hang on them."""
    pool = VisitPool(["a", "b"])
    assert pool._events.maxlen == sample_pool.EVENTS_KEPT == 100_000
    pools = [pool]
    monkeypatch.setattr(sample_pool, "EVENTS_KEPT", 3)
    pools.append(VisitPool(["a", "b"]))
    for pool in pools:
        for id, step, right in (("b", 1, 0), ("a", 2, 0), ("a", 3, 1), ("a", 4, 0), ("a", 5, 1)):
            pool.observe(id, "plain", 10, right, step)
    full, short = pools
    full.save(tmp_path / "pool.json")
    loaded = VisitPool(["a", "b"])
    loaded.load(tmp_path / "pool.json")
    for pool in (short, loaded):
        assert [line.split()[1] for line in pool.explain("a").splitlines()[1:]] == ["3", "4", "5"]
        assert pool.explain("b").count("\n") == 0 and pool.states() == full.states() == ["returned", "demonstrated"]
        pool.observe("b", "plain", 10, 1, 6)
        assert "step 6" in pool.explain("b") and pool.explain("a").count("\n") == 2
    assert full.explain("a").count("\n") == 4 and full.explain("b").count("\n") == 1


def test_fallbacks_are_counted_saved_and_judged_as_plain(tmp_path):
    pool = VisitPool(["a", "b"])
    assert pool.fallbacks == dict.fromkeys(FALLBACKS, 0)
    pool.observe("a", "plain", 10, 0, 1)
    pool.observe("a", "plain", 10, 0, 3, "no_demonstration")
    pool.observe("b", "plain", 10, 0, 3, fallback="prompt_too_long")
    pool.observe("a", "plain", 10, 2, 5, fallback="no_demonstration")
    assert pool.fallbacks == dict.fromkeys(FALLBACKS, 0) | {"no_demonstration": 2, "prompt_too_long": 1}
    assert pool.states() == ["returned", "demonstrated"]
    pool.save(tmp_path / "pool.json")
    again = VisitPool(["a", "b"])
    again.load(tmp_path / "pool.json")
    assert again.fallbacks == pool.fallbacks and again.explain("a") == pool.explain("a")


def nothing_right(prompts, completions, **columns):
    return [0.0] * len(completions)


def test_the_reward_counts_a_fallback_once_a_group():
    pool = VisitPool(["a", "b"])
    PoolReward(nothing_right, pool)(
        ["x"] * 30, ["x"] * 30, sample_id=["a"] * 20 + ["b"] * 10, served=["plain"] * 30,
        fallback=["prompt_too_long"] * 20 + [""] * 10, trainer_state=SimpleNamespace(global_step=0),
    )  # fmt: skip
    assert pool.fallbacks == dict.fromkeys(FALLBACKS, 0) | {"prompt_too_long": 1}
    assert pool.visits("a") == pool.visits("b") == 1


@pytest.mark.parametrize("ends", [(3, 6, 9), (5,), ()])
def test_a_loaded_pool_knows_of_the_last_rounds_end(ends, tmp_path):
    pool = VisitPool(["a", "b"], retest="round_end")
    pool.observe("a", "plain", 10, 0, 1)
    pool.observe("b", "plain", 10, 0, 8)
    for step in ends:
        pool.end_round(step)
    pool.save(tmp_path / "pool.json")
    again = VisitPool(["a", "b"], retest="round_end")
    again.load(tmp_path / "pool.json")
    assert again.round == len(ends)
    for step in range(12):
        assert [again.mode(id, step) for id in "ab"] == [pool.mode(id, step) for id in "ab"]


@pytest.mark.parametrize(
    "ids, options, words",
    [(["a", "b", "a"], {}, "'a' appears twice"), (["a", ""], {}, "non-empty string id"), ([], {}, "non-empty"),
     ([None], {}, "sample_id column"), (["a"], {"window": 0}, "window is 0"),
     (["a"], {"retest": "soon"}, "unknown retest")],
)  # fmt: skip
def test_bad_pools_are_refused(ids, options, words):
    with pytest.raises(PoolError, match=words):
        VisitPool(ids, **options)


def test_saved_pool_makes_the_same_decisions_and_fits_only_its_own_data(tmp_path):
    rng, ids = random.Random(0), [f"s{n}" for n in range(20)]
    pool = VisitPool(ids)
    moves = [(rng.choice(ids), 10, rng.choice([0, 0, 0, 2])) for _ in range(300)]
    for step, (id, n, right) in enumerate(moves[:150]):
        pool.observe(id, "demonstrated" if pool.mode(id) == "demonstrated" else "plain", n, right, step)
    pool.save(tmp_path / "pool.json")
    again = VisitPool(ids)
    again.load(tmp_path / "pool.json")
    for step, (id, n, right) in enumerate(moves[150:]):
        for p in (pool, again):
            p.observe(id, "demonstrated" if p.mode(id) == "demonstrated" else "plain", n, right, step)
        assert pool.mode(id) == again.mode(id)
    assert [pool.explain(i) for i in ids] == [again.explain(i) for i in ids]
    with pytest.raises(PoolError, match="another data set"):
        VisitPool(ids[1:]).load(tmp_path / "pool.json")
    with pytest.raises(PoolError, match="retest='after_success', not 'never'"):
        VisitPool(ids, retest="never").load(tmp_path / "pool.json")
    with pytest.raises(PoolError, match="window=10, not 12"):
        VisitPool(ids, window=12).load(tmp_path / "pool.json")
    with pytest.raises(PoolError, match="cannot read"):
        pool.load(tmp_path / "none.json")
    for other in ('{"ids": "x", "visits": []}', "[]"):
        (tmp_path / "other.json").write_text(other)
        with pytest.raises(PoolError, match="other.json is not a pool file; give the file that `save` wrote"):
            pool.load(tmp_path / "other.json")
    with pytest.raises(PoolError, match="not in this pool"):
        pool.mode("unknown")


@pytest.fixture(scope="module")
def nano():
    return load_policy(get_profile("nano"))


def test_server_renders_what_the_pool_says(nano):
    samples = nano_samples("train", 12, families=["book_taxi"])
    pool = VisitPool([s.id for s in samples])
    server = PromptServer(pool, VariantBank(samples), samples, nano[1], seed=0)
    first = samples[0]
    plain = {"prompt": render_prompt(first, nano[1]), "served": "plain", "fallback": ""}
    assert server.serve(first.id) == plain
    pool.observe(first.id, "plain", 10, 0, 1)
    row = server.serve(first.id)
    prompt = row["prompt"]
    assert (row["served"], row["fallback"]) == ("demonstrated", "")
    assert prompt.endswith(render_prompt(first, nano[1]).split("<|end|>", 1)[1])
    assert prompt.count("<|user|>") == 2
    for value in first.calls[0]["arguments"].values():
        assert f'"{value}"' not in prompt, "a demonstration must not give the answer away"
    assert server.serve(first.id)["prompt"] == prompt, "same visit, same prompt"
    seen = {prompt}
    for step in range(2, 8):
        pool.observe(first.id, "demonstrated", 10, 0, step)
        seen.add(server.serve(first.id)["prompt"])
    assert len(seen) > 1, "demonstrations are fresh at later visits"
    batch = server({"sample_id": [first.id, samples[1].id], "family": ["x", "y"]})
    assert batch["served"] == ["demonstrated", "plain"] and batch["family"] == ["x", "y"]
    assert batch["prompt"] == [server.serve(first.id)["prompt"], render_prompt(samples[1], nano[1])]
    assert batch["fallback"] == ["", ""]


def test_demonstrations_that_are_not_fresh_stay_the_same(nano):
    samples = nano_samples("train", 12, families=["book_taxi"])
    pool = VisitPool([s.id for s in samples], fresh=False)
    server = PromptServer(pool, VariantBank(samples), samples, nano[1])
    seen = set()
    pool.observe(samples[0].id, "plain", 10, 0, 1)
    for step in range(2, 8):
        seen.add(server.serve(samples[0].id)["prompt"])
        pool.observe(samples[0].id, "demonstrated", 10, 0, step)
    assert len(seen) == 1


def test_fallbacks_are_plain_and_say_why(nano):
    samples = nano_samples("train", 12, families=["book_taxi"])
    for options, bank, why in (
        ({}, VariantBank(samples[:1]), "no_demonstration"),
        ({"max_prompt_tokens": 40, "demos": 2}, VariantBank(samples), "prompt_too_long"),
    ):
        pool = VisitPool([s.id for s in samples])
        server = PromptServer(pool, bank, samples, nano[1], **options)
        pool.observe(samples[0].id, "plain", 10, 0, 1)
        row = server.serve(samples[0].id)
        assert row == {"prompt": render_prompt(samples[0], nano[1]), "served": "plain", "fallback": why}
    roomy = PromptServer(pool, VariantBank(samples), samples, nano[1], demos=2, max_prompt_tokens=90)
    row = roomy.serve(samples[0].id)
    assert row["prompt"].count("<|assistant|>") == 2, "one demonstration fits, two do not"
    assert (row["served"], row["fallback"]) == ("demonstrated", "fewer_demonstrations")
    pool.observe(samples[0].id, row["served"], 10, 3, 2, row["fallback"])
    assert pool.fallbacks["fewer_demonstrations"] == 1 and pool.mode(samples[0].id) == "retest", "it counts as shown"
    assert "not served as planned: fewer_demonstrations" in pool.explain(samples[0].id)
    pool.observe(samples[0].id, "plain", 10, 0, 3)
    assert "not served as planned" not in pool.explain(samples[0].id), "told of the last visit alone"
    # Too long a draw is no reason to ask plainly where another demonstration fits.
    short, other = VariantBank(samples).choose(samples[0], 2, random.Random(0))
    long = replace(other, messages=[{"role": "user", "content": "city " * 200}])
    for seed in range(6):
        bank = VariantBank([samples[0], long, short])
        server = PromptServer(pool, bank, samples, nano[1], max_prompt_tokens=90, seed=seed)
        prompt, why = server.demonstrate(samples[0])
        assert short.messages[-1]["content"] in prompt and why == ""
    endless = SimpleNamespace(model_max_length=int(1e30))  # what tokenizers say that know of no limit
    with pytest.raises(PoolError, match="give max_prompt_tokens"):
        PromptServer(pool, VariantBank(samples), samples, endless)


def test_the_reward_of_ones_own_gets_every_column_and_may_give_none(nano):
    """TRL passes all columns of a row to a reward function; the pool in between must not keep any back."""
    pool, seen = VisitPool(["a", "b"]), {}

    def mine(prompts, completions, sample_id, served, trainer_state, **columns):
        seen.update(columns, sample_id=sample_id, served=served)
        return [None] * 10 + [1.0] * 10

    columns = {"sample_id": ["a"] * 10 + ["b"] * 10, "served": ["plain"] * 20, "fallback": [""] * 20, "level": [1] * 20}
    state = SimpleNamespace(global_step=0)
    rewards = PoolReward(mine, pool)(["x"] * 20, ["x"] * 20, trainer_state=state, **columns)
    assert seen == columns and rewards == [None] * 10 + [1.0] * 10
    assert (pool.mode("a"), pool.mode("b")) == ("demonstrated", "plain"), "None is not right"
    for missing in ("sample_id", "served"):
        rest = {name: column for name, column in columns.items() if name != missing}
        with pytest.raises(PoolError, match="add a sample_id column to the data set, and a PromptServer"):
            PoolReward(mine, pool)(["x"] * 20, ["x"] * 20, trainer_state=state, **rest)


def test_three_lines_in_a_script_of_ones_own(nano, tmp_path):
    """The documented use with a plain GRPOTrainer: after one epoch the pool knows who is hard."""
    model, tokenizer = nano
    samples = nano_samples("train", 2, families=["book_taxi", "play_song"])
    pool = VisitPool([s.id for s in samples])
    rows = training_columns(samples).with_transform(
        PromptServer(pool, VariantBank(nano_samples("train", 16)), samples, tokenizer)
    )
    config = GRPOConfig(
        output_dir=str(tmp_path), max_steps=2, per_device_train_batch_size=40, num_generations=10,
        max_completion_length=32,
        report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False, disable_tqdm=True, save_strategy="no",
        logging_steps=1,
    )  # fmt: skip
    GRPOTrainer(
        model=model,
        reward_funcs=PoolReward(conjunctive_reward, pool),
        args=config,
        train_dataset=rows,
        processing_class=tokenizer,
    ).train()
    assert pool.counts()["unseen"] == 0
    assert {s.family for s in samples if pool.mode(s.id) != "plain"} == {"book_taxi"}, "hard, or waiting for a re-test"
    assert all("0 of 10 right without" in pool.explain(s.id) for s in samples if s.family == "book_taxi")


TINY = dict(prompts_per_step=12, micro_batch=120, train_prompts=3, eval_every=4, eval_prompts=1)


def test_recipe_serves_demonstrations_and_resumes_with_the_same_decisions(tmp_path):
    whole = train("hard_sampling_decay", get_profile("nano", steps=8, **TINY), 0, tmp_path / "whole")
    rows, groups = read_log(whole), read_jsonl(whole / "rollouts.jsonl")
    assert rows[0]["pool"]["unseen"] == 36 and rows[-1]["pool"]["unseen"] == 0
    assert {g["served"] for g in groups} == {"plain", "demonstrated"}
    first_visits = {}
    for group in groups:
        if group["sample_id"] not in first_visits:
            assert group["served"] == "plain"
        elif group["served"] == "demonstrated":
            assert first_visits[group["sample_id"]] == 0, "only a failed sample is demonstrated"
        first_visits.setdefault(group["sample_id"], group["reasons"].get("ok", 0))
    # Step 4 lies inside an epoch of 3 steps; test_resume_at_an_epochs_end has the other case.
    parts = train("hard_sampling_decay", get_profile("nano", steps=4, **TINY), 0, tmp_path / "parts")
    train("hard_sampling_decay", get_profile("nano", steps=8, **TINY), 0, parts, resume=True)
    clockless = [[{k: v for k, v in r.items() if k != "seconds"} for r in read_log(run)] for run in (whole, parts)]
    assert clockless[0] == clockless[1]
    assert read_jsonl(parts / "rollouts.jsonl") == groups


def test_resume_at_an_epochs_end_and_past_a_cut_checkpoint(tmp_path):
    """The loader fetches a batch ahead, and a kill may leave half a checkpoint behind: neither may show."""
    small = {**TINY, "eval_every": 3}
    whole = train("hard_sampling", get_profile("nano", steps=6, **small), 0, tmp_path / "whole")
    parts = train("hard_sampling", get_profile("nano", steps=3, **small), 0, tmp_path / "parts")
    (parts / "checkpoints" / "checkpoint-5").mkdir()
    (parts / "checkpoints" / "checkpoint-5" / "trainer_state.json").write_text("{")
    shutil.copytree(parts / "checkpoints" / "checkpoint-3", parts / "checkpoints" / "checkpoint-6")
    (parts / "checkpoints" / "checkpoint-6" / "model.safetensors").unlink()  # a mounted folder lost the large file
    train("hard_sampling", get_profile("nano", steps=6, **small), 0, parts, resume=True)
    assert read_jsonl(parts / "rollouts.jsonl") == read_jsonl(whole / "rollouts.jsonl")
    config = json.loads((parts / "config.json").read_text())
    assert [again["from"] for again in config["resumed"]] == ["checkpoint-3"]


def rounds_of(out, pool, steps, checkpoint=None):
    """What a session of `steps` steps writes to rounds.jsonl when rounds are of 3 steps -> [(round, step)]."""
    rewind(out, checkpoint)
    state = SimpleNamespace(global_step=int(checkpoint.split("-")[1]) if checkpoint else 0, max_steps=steps)
    callback = RoundLog(pool, None, 3, out, nano_samples("train", 1, families=["book_taxi", "play_song"]))
    callback.on_train_begin(None, state, None)
    while state.global_step < steps:
        state.global_step += 1
        callback.on_log(None, state, None, logs={"loss": 0.0})
    callback.on_log(None, state, None, logs={"train_loss": 0.0})
    return [(line["round"], line["step"]) for line in read_jsonl(out / "rounds.jsonl")]


def test_rounds_are_written_at_their_end_and_at_the_last_step(tmp_path):
    pool = VisitPool(["a", "b"], retest="round_end")
    pool.observe("b", "plain", 10, 0, 1)
    assert rounds_of(tmp_path, pool, 8) == [(1, 3), (2, 6), (3, 8)] and pool.round == 2
    states = [line["states"] for line in read_jsonl(tmp_path / "rounds.jsonl")]
    letters = [(STATE_LETTERS["unseen"], STATE_LETTERS[name]) for name in ("demonstrated", "retest", "retest")]
    assert states == [dict(zip(("book_taxi", "play_song"), pair)) for pair in letters], "as it was before the end"
    assert set(STATE_LETTERS) == {*VisitPool.STATES, "failed"}
    assert len(set(STATE_LETTERS.values())) == len(STATE_LETTERS)


def test_a_longer_run_has_no_line_of_the_round_it_was_cut_in(tmp_path):
    pool = VisitPool(["a", "b"])
    assert rounds_of(tmp_path, pool, 4) == [(1, 3), (2, 4)]
    assert rounds_of(tmp_path, pool, 8, "checkpoint-4") == [(1, 3), (2, 6), (3, 8)]


def test_order_keeps_a_row_out_of_consecutive_batches():
    rows = training_columns(nano_samples("train", 3))
    for gap in (0, 24):
        ids = in_training_order(rows, 36 * 20, seed=1, gap=gap)["sample_id"]
        for epoch in range(20):
            assert len(set(ids[36 * epoch : 36 * (epoch + 1)])) == 36
        last, gaps = {}, []
        for place, id in enumerate(ids):
            gaps.append(place - last.get(id, -999))
            last[id] = place
        assert min(gaps) >= max(gap, 1) and (gap or min(gaps) < 24)
        assert len({tuple(ids[36 * epoch : 36 * (epoch + 1)]) for epoch in range(20)}) == 20, "each has its own order"
    assert in_training_order(rows, 50, seed=1)["sample_id"] == in_training_order(rows, 90, seed=1)["sample_id"][:50]


@pytest.mark.parametrize("gap", [36, 50])
def test_few_rows_come_as_far_apart_as_they_can(gap):
    """With no more rows than the gap, every epoch is as the first."""
    ids = in_training_order(training_columns(nano_samples("train", 3)), 36 * 4, seed=1, gap=gap)["sample_id"]
    assert len(set(ids[:36])) == 36 and ids == ids[:36] * 4


def test_learning_rate_decays_by_round_and_goes_on_after_a_resume(tmp_path):
    recipe = get_recipe("lr_decay", round_steps=2, lr_decay=0.5)
    small = {**TINY, "prompts_per_step": 6, "micro_batch": 60, "eval_every": 3}
    out = train(recipe, get_profile("nano", steps=3, **small), 0, tmp_path / "run")
    train(recipe, get_profile("nano", steps=6, **small), 0, out, resume=True)
    rates = [row["learning_rate"] for row in read_log(out)[1:]]
    base = get_profile("nano").learning_rate
    assert rates == pytest.approx([base, base, base / 2, base / 2, base / 4, base / 4])


@pytest.mark.parametrize(
    "changes, words",
    [({"num_generations": 4}, "a group of 4 does not show that"), ({"lr_decay": 0.0}, r"must lie in \(0, 1\]"),
     ({"lr_decay": 1.5}, r"must lie in \(0, 1\]"), ({"retest": "x"}, "retest is 'x'"),
     ({"round_steps": 0}, "at least 1"),
     ({"demos": 0}, "at least 1"), ({"hard_samples": "drop"}, "hard_samples is 'drop'; choose one of keep"),
     ({"hard_samples": True}, "hard_samples is True"), ({"demo_source": "best"}, "demo_source is 'best'; choose"),
     ({"reward": "graded"}, "demonstrate counts right rollouts; use reward='conjunctive'"),
     ({"hard_samples": "greso", "reward": "graded"}, "greso counts right rollouts"),
     ({"hard_samples": "keep", "reward": "graded", "gated_bonus": True}, "gated_bonus asks whether a call is right"),
     ({"hard_samples": "hint", "invite": True}, "a hint begins the answer"),
     ({"lr_decay": float("nan")}, "must lie in"), ({"serving": "swap"}, "serving is 'swap'; choose one of plain, repl"),
     ({"serving": "add"}, "serving by round and verified demonstrations need hard_samples='scan'"),
     ({"demo_source": "verified"}, "need hard_samples='scan'"),
     ({"hard_samples": "scan"}, "scan_rollouts is 0; a scan takes 10 or more"),
     ({"hard_samples": "scan", "scan_rollouts": 10, "demo_source": "own"}, "fixed at its start, and own solutions"),
     ({"few_shot_share": 2.0}, "few_shot_share is 2.0"), ({"verify_draws": 0}, "verify_draws and demos_per_tool must"),
     ({"prompt_style": "bare"}, "prompt_style is 'bare'; choose one of think, native, examples"),
     ({"prompt_style": "examples"}, "ask for examples_needed"), ({"examples_needed": 4}, "ask for examples_needed"),
     ({"num_generations": 1}, "a group needs 2 or more")],
)  # fmt: skip
def test_recipe_errors(changes, words):
    with pytest.raises(ValueError, match=words):
        get_recipe("hard_sampling", **changes)


def test_two_processes_keep_equal_pools_and_share_a_scan(tmp_path):
    """Each rank sees its own half of the groups; both pools must end equal (gloo, two CPU processes)."""
    script = tmp_path / "rank.py"
    script.write_text(
        "import sys, types\n"
        "from accelerate import PartialState\n"
        "from toolexpander_lite.method.hard_sampling import PoolReward, count_right\n"
        "from toolexpander_lite.worlds.nano_world import nano_samples\n"
        "from toolexpander_lite.method.prompts import gold_completion\n"
        "from toolexpander_lite.variants.visit_pool import VisitPool\n"
        "processes = PartialState(cpu=True)\n"
        "rank = processes.process_index\n"
        "def reward(prompts, completions, **columns):\n"
        "    return [float(c == 'right') for c in completions]\n"
        "pool = VisitPool(['a', 'b', 'c'])\n"
        "wrapped = PoolReward(reward, pool)\n"
        "# group a on rank 0, group b on rank 1, group c split over both\n"
        "ids = (['a'] * 10 if rank == 0 else ['b'] * 10) + ['c'] * 5\n"
        "texts = ['right' if i == 'b' else 'wrong' for i in ids]\n"
        "state = types.SimpleNamespace(global_step=0)\n"
        "wrapped(texts, texts, sample_id=ids, served=['plain'] * 15, trainer_state=state)\n"
        "pool.save(f'{sys.argv[1]}/{rank}.json')\n"
        "rows = [(s, s.id) for s in nano_samples('train', 1)[:5]]\n"
        "gold, asked = {s.id: gold_completion(s) for s, _ in rows}, []\n"
        "def ask(prompts, seed):\n"
        "    asked.extend(prompts)\n"
        "    return [(gold[p] if n % 10 <= list(gold).index(p) else '', 1) for n, p in enumerate(prompts)]\n"
        "counted = count_right(ask, rows, 10, 0, {'step': 0}, f'{sys.argv[1]}/scans.jsonl', chunk=3)\n"
        "assert list(counted.right.values()) == [1, 2, 3, 4, 5] and counted.rollouts == 50, counted\n"
        "assert len(asked) == (30 if rank == 0 else 20), 'each row is asked by one process'\n"
        # Leaving with gloo's threads alive aborts the process now and then.
        "processes.wait_for_everyone()\n"
        "processes.destroy_process_group()\n"
    )
    root = Path(__file__).resolve().parent.parent
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
         str(script), str(tmp_path)],
        env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    one, two = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert one == two
    assert [line["right"] for line in read_jsonl(tmp_path / "scans.jsonl")] == [1, 2, 3, 4, 5], "written once, in order"
    assert one["mode"] == [1, 0, 1], "a is hard; b is solved; c is hard only when its two halves are added up"
