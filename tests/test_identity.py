"""A run's identity is what it holds, not what it is called; and a run that trains nothing stops."""

import json
import shutil
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_resuming import contents
from test_train import FOUR, tiny
from tokenizers import AddedToken, normalizers

from toolexpander_lite.base.errors import DataError, ModelError, PoolError, RunError
from toolexpander_lite.base.runs import read_log
from toolexpander_lite.base.saved_state import content_hash
from toolexpander_lite.models.files import NANO_CHECKPOINTS, weights_hash
from toolexpander_lite.models.policy import load_policy, tokenizer_hash
from toolexpander_lite.training import resume, splits
from toolexpander_lite.training.record import WeightWatch
from toolexpander_lite.training.train import check_fit, train
from toolexpander_lite.variants.baselines import VisitHistory
from toolexpander_lite.variants.visit_pool import VisitPool
from toolexpander_lite.worlds.nano_world import nano_samples


def edited(sample):
    """The same id, another gold answer."""
    arguments = {**sample.calls[0]["arguments"], "volume": 11}
    return replace(sample, calls=[{**sample.calls[0], "arguments": arguments}])


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A run of 2 steps on a copy of the nano policy, whose files can be changed."""
    folder = tmp_path_factory.mktemp("identity")
    shutil.copytree(NANO_CHECKPOINTS["nano"], folder / "policy")
    train(FOUR, tiny(model=str(folder / "policy"), steps=2), 0, folder / "run")
    return folder


@pytest.fixture
def begun(base, tmp_path):
    shutil.copytree(base / "run", tmp_path / "run")
    return tmp_path / "run"


def go_on(base, run, **changes):
    return train(FOUR, tiny(model=str(base / "policy"), steps=4, **changes), 0, run, resume=True)


def test_the_same_run_goes_on_and_writes_down_what_it_holds(base, begun):
    go_on(base, begun)
    config = json.loads((begun / "config.json").read_text())
    assert read_log(begun)[-1]["step"] == 4 and set(config["holds"]) == set(resume.HELD)
    assert None not in config["holds"].values()
    [again] = config["resumed"]
    assert set(again) == {"from", "command", "machine", "processor", "versions"}, "what may differ is on record"


def test_edited_rows_are_refused_in_one_line_and_nothing_is_touched(base, begun, monkeypatch):
    before = contents(begun)
    whole, hard = splits.WORLDS["nano"]

    def changed(split, *arguments, **options):
        samples = whole(split, *arguments, **options)
        return [edited(samples[0]), *samples[1:]]

    monkeypatch.setitem(splits.WORLDS, "nano", (changed, hard))
    with pytest.raises(RunError) as error:
        go_on(base, begun)
    assert "the training rows, the held-out rows changed since it was begun" in str(error.value)
    assert "\n" not in str(error.value) and contents(begun) == before


def test_other_weights_and_another_template_are_named_together(base, begun, tmp_path):
    shutil.copytree(base / "policy", tmp_path / "policy")
    config = json.loads((begun / "config.json").read_text())
    config["profile"]["model"] = str(tmp_path / "policy")  # the same name, so that the content alone tells
    (begun / "config.json").write_text(json.dumps(config))
    weights = load_file(tmp_path / "policy" / "model.safetensors")
    last = sorted(weights)[-1]
    weights[last].view(-1)[-1] += 0.5  # a single number, and not in the first row
    save_file(weights, tmp_path / "policy" / "model.safetensors", {"format": "pt"})
    template = tmp_path / "policy" / "chat_template.jinja"
    template.write_text(template.read_text() + "{# a comment #}")
    with pytest.raises(RunError, match="the base model's weights, the tokenizer or its chat template changed"):
        train(FOUR, tiny(model=str(tmp_path / "policy"), steps=4), 0, begun, resume=True)


def test_a_model_may_be_moved_and_one_that_computes_otherwise_is_refused(base, begun, tmp_path):
    shutil.copytree(base / "policy", tmp_path / "moved")
    config = json.loads((tmp_path / "moved" / "config.json").read_text())
    config["rms_norm_eps"] = 0.1  # the same weights
    (tmp_path / "moved" / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match=r"another run: the base model's config.json changed"):
        train(FOUR, tiny(model=str(tmp_path / "moved"), steps=4), 0, begun, resume=True)
    config |= {"rms_norm_eps": 1e-06, "transformers_version": "5.0.0"}
    assert json.loads((base / "policy" / "config.json").read_text())["rms_norm_eps"] == 1e-06
    (tmp_path / "moved" / "config.json").write_text(json.dumps(config))
    train(FOUR, tiny(model=str(tmp_path / "moved"), steps=4), 0, begun, resume=True)
    assert read_log(begun)[-1]["step"] == 4


def test_a_data_file_may_be_moved(tmp_path):
    """Its name decides nothing: an edited one is refused, wherever it lies."""
    holds = {name: "0" for name in resume.HELD}
    profile = json.loads(json.dumps(asdict(tiny(data="old.jsonl"))))
    old = {"recipe": asdict(FOUR), "profile": profile, "seed": 0, "holds": holds}
    (tmp_path / "config.json").write_text(json.dumps(old))
    identity = {"recipe": asdict(FOUR), "profile": asdict(tiny(data="new.jsonl")), "seed": 0}
    resume.check_folder(tmp_path, identity, resume=True)
    resume.check_contents(tmp_path, holds, "1", "nano")
    with pytest.raises(RunError, match="the training rows changed"):
        resume.check_contents(tmp_path, holds | {"rows": "1"}, "1", "nano")
    del old["holds"]["rows"]  # nothing to compare with: then the name decides
    (tmp_path / "config.json").write_text(json.dumps(old))
    with pytest.raises(RunError, match="its profile differs in data"):
        resume.check_folder(tmp_path, identity, resume=True)


def test_how_text_is_cut_up_is_part_of_a_tokenizer():
    def changed(change):
        tokenizer = load_policy(tiny())[1]
        change(tokenizer)
        return tokenizer_hash(tokenizer)

    same = changed(lambda t: None)
    assert changed(lambda t: t(["a", "b c"], padding=True, truncation=True, max_length=2)) == same
    assert changed(lambda t: setattr(t.backend_tokenizer, "normalizer", normalizers.Lowercase())) != same
    tag = AddedToken("</tool_call>", special=True)
    assert changed(lambda t: t.backend_tokenizer.add_special_tokens([tag])) != same


def test_weights_in_another_format_are_compared_as_they_were_loaded(tmp_path):
    held = {"rows": "a", "held_out": "b", "weights": None, "architecture": "d", "tokenizer": "c"}
    config = {"holds": held, "base_model_hash": "1", "profile": {"lora_rank": 0}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    resume.check_contents(tmp_path, held, "1")
    with pytest.raises(RunError, match="the base model's weights changed"):
        resume.check_contents(tmp_path, held, "2")
    config["profile"] = {"lora_rank": 8, "model": "a"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    resume.check_contents(tmp_path, held, "2", "a")
    with pytest.raises(RunError, match="the base model's weights changed"):
        resume.check_contents(tmp_path, held, "2", "b")


def test_all_settings_that_differ_are_named_in_one_refusal(base, begun):
    with pytest.raises(RunError) as error:
        train(replace(FOUR, beta=0.0), tiny(model=str(base / "policy"), micro_batch=8), 1, begun, resume=True)
    told = str(error.value)
    assert "its recipe differs in beta; its profile differs in micro_batch; its seed is 0, not 1" in told


def test_a_run_from_before_contents_were_written_down_goes_on(base, begun):
    config = json.loads((begun / "config.json").read_text())
    del config["holds"], config["profile"]["held_out_max_tools"], config["machine"]
    (begun / "config.json").write_text(json.dumps(config))
    go_on(base, begun)
    assert read_log(begun)[-1]["step"] == 4
    config["base_model_hash"] = "0" * 16
    (begun / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match="the base model's weights changed"):
        go_on(base, begun)


def test_pools_know_what_their_rows_hold(tmp_path):
    samples = nano_samples("train", 1)
    ids, other = [s.id for s in samples], [edited(samples[0]), *samples[1:]]
    for kind in (VisitPool, VisitHistory):
        kind(ids, content=content_hash(samples)).save(tmp_path / "pool.json")
        kind(ids, content=content_hash(samples)).load(tmp_path / "pool.json")
        kind(ids).load(tmp_path / "pool.json")  # who does not say what they hold is not asked
        with pytest.raises(PoolError, match="its ids are the same, but what the rows hold has changed"):
            kind(ids, content=content_hash(other)).load(tmp_path / "pool.json")
        state = json.loads((tmp_path / "pool.json").read_text())
        del state["content"]  # as saved before
        (tmp_path / "pool.json").write_text(json.dumps(state))
        kind(ids, content=content_hash(other)).load(tmp_path / "pool.json")


def test_a_single_value_changes_the_hash_of_rows_and_weights(tmp_path):
    samples = nano_samples("train", 1)
    assert content_hash(samples) == content_hash(nano_samples("train", 1))
    assert content_hash(samples) != content_hash([edited(samples[0]), *samples[1:]])
    assert content_hash(samples) != content_hash(samples[::-1]), "the order decides what is asked when"
    assert weights_hash("nano") != weights_hash("nano-rare")


def test_fewer_rows_than_a_batch_has_prompts_are_refused(tmp_path):
    with pytest.raises(DataError, match="12 training rows are fewer than the 13 prompts of one batch"):
        train(FOUR, tiny(prompts_per_step=13, micro_batch=52), 0, tmp_path / "run")
    assert not (tmp_path / "run" / "log.jsonl").exists()


def test_a_frozen_model_is_refused():
    frozen = torch.nn.Linear(2, 2).requires_grad_(False)
    frozen.config = SimpleNamespace()
    with pytest.raises(ModelError, match="no weight of 'nano' would be trained: all are frozen"):
        check_fit(FOUR, tiny(), frozen, None, nano_samples("train", 1))


def test_a_run_whose_weights_do_not_change_stops(tmp_path):
    """A rate that float32 rounds away: the trainer itself reports a gradient and says nothing."""
    with pytest.raises(RunError, match=r"step 1 had a gradient of norm .* and no weight has changed"):
        train(replace(FOUR, learning_rate=1e-30), tiny(), 0, tmp_path / "run")


def test_the_watch_waits_for_a_gradient_and_asks_once():
    model = torch.nn.Linear(2, 2)
    watch, state = WeightWatch(), SimpleNamespace(global_step=1)
    watch.on_train_begin(None, state, None, model=model)
    for norm in (0.0, 1e-9, float("nan"), float("inf")):  # all groups alike, rounding, a step that float16 skipped
        watch.on_log(None, state, None, logs={"loss": 0.0, "grad_norm": norm}, model=model)
    with pytest.raises(RunError, match="no weight has changed"):
        watch.on_log(None, state, None, logs={"loss": 0.0, "grad_norm": 0.1}, model=model)
    with torch.no_grad():
        model.weight[0, 0] += 1e-6
    watch.on_log(None, state, None, logs={"loss": 0.0, "grad_norm": 0.1}, model=model)
    watch.on_log(None, state, None, logs={"loss": 0.0, "grad_norm": 0.1}, model=model)
