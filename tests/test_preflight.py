"""The preflight on the nano model, and on tiny models with something wrong."""

from types import SimpleNamespace

import pytest
import torch
from test_models import SAMPLES, WITH_TOOLS, make_tokenizer, save_model

from toolexpander_lite.__main__ import main
from toolexpander_lite.base.errors import SettingsError
from toolexpander_lite.method.prompts import render_prompt
from toolexpander_lite.models.hardware import Hardware
from toolexpander_lite.models.policy import load_policy
from toolexpander_lite.models.templates import prepare_tokenizer
from toolexpander_lite.training import preflight as module
from toolexpander_lite.training.preflight import (
    Check,
    Preflight,
    check_disk,
    check_four_bit,
    check_groups,
    check_hours,
    check_memory,
    check_numbers,
    check_prompts,
    check_room,
    check_stopping,
    check_tokens,
    check_visits,
    preflight,
)
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.trial_steps import measure_steps
from toolexpander_lite.variants.all_recipes import get_recipe
from toolexpander_lite.worlds.nano_world import nano_samples

SMALL = get_profile("nano", prompts_per_step=2, train_prompts=1, micro_batch=8)
FOUR = get_recipe("grpo", num_generations=4)
T4 = Hardware("cuda", "Tesla T4", 14.6, (7, 5))


def statuses(report):
    return {check.name: check.status for check in report.checks}


@pytest.fixture(scope="module")
def nano():
    return load_policy(get_profile("nano"))


def test_nano_passes_and_its_weights_stay():
    report = preflight(get_profile("nano", train_prompts=1, prompts_per_step=8), "grpo")
    assert not report.refused
    found = statuses(report)
    assert list(found) == [
        "4-bit weights", "prompts", "pad token", "room", "visits", "disk", "memory", "numbers", "stopping", "groups",
        "time",
    ]  # fmt: skip
    assert {status for name, status in found.items() if name != "disk"} == {"ok"}
    assert len(str(report).splitlines()) == 11 and "micro_batch" not in str(report)
    assert f"{report.seconds_per_step:.2f} s for the fastest step" in str(report)


@pytest.mark.parametrize("recipe", [FOUR, "hard_sampling"])
def test_the_longest_step_takes_longest_prompts_and_full_answers(nano, recipe):
    model, tokenizer = nano
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    samples = nano_samples("train", 2)
    measured = measure_steps(model, tokenizer, samples, get_recipe(recipe), SMALL, 1, longest=True)
    assert measured["completion_tokens"] == SMALL.max_completion_length
    assert measured["log"][0]["completions/clipped_ratio"] == 1
    plain = sorted(len(tokenizer(render_prompt(s, tokenizer)).input_ids) for s in samples)
    if recipe is FOUR:
        assert measured["prompt_tokens"] == sum(plain[-2:]) / 2
    else:  # demonstrations stand in front
        assert measured["prompt_tokens"] > plain[-1] + 10
    assert all(seconds > 0 for seconds in measured["seconds"]) and min(measured["memory"].values()) > 0
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters()), "learning rate 0"


def test_adapters_come_out_as_they_went_in_and_can_be_measured_again(tmp_path):
    profile = get_profile(SMALL, model=str(save_model(tmp_path, template=WITH_TOOLS)), lora_rank=2, prompts_per_step=1,
                          max_completion_length=4)  # fmt: skip
    model, tokenizer = load_policy(profile)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    for longest in (True, False):
        measure_steps(model, tokenizer, SAMPLES, FOUR, profile, 1, longest=longest)
        assert {n for n, p in model.named_parameters() if p.requires_grad} == {n for n in before if "lora_" in n}
        assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())


def test_ordinary_steps_are_as_many_as_asked_for(nano):
    measured = measure_steps(*nano, nano_samples("train", 1), FOUR, SMALL, 2)
    assert len(measured["seconds"]) == len(measured["log"]) == 2
    assert measured["completion_tokens"] < SMALL.max_completion_length


def test_a_model_that_never_stops_and_writes_no_call_is_refused(tmp_path):
    """A random model: no pad token of its own, no call, no end within a few tokens."""
    folder = save_model(tmp_path, template=WITH_TOOLS)
    profile = get_profile(SMALL, model=str(folder), max_completion_length=4, quantization=None)
    report = preflight(profile, FOUR)
    assert [check.name for check in report.refused] == ["stopping", "groups"]
    by_name = {check.name: check for check in report.checks}
    assert "100% of the sampled completions were cut at 4 tokens" in by_name["stopping"].found
    assert "of 2 groups 100% all fail, 0% all pass, 0% are mixed and teach something; 0%" in by_name["groups"].found
    assert "stopping first" in by_name["groups"].mend
    assert "the end token itself" in by_name["pad token"].found and by_name["pad token"].status == "ok"


def test_lengths_that_training_would_refuse_are_refused_here_too():
    report = preflight(get_profile("nano", demo_room=300))
    (refused,) = report.refused
    assert "reads 512; lower max_prompt_tokens, demo_room" in refused.found


def test_no_chat_template_is_refused_before_any_step(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "measure_steps", lambda *a, **o: pytest.fail("a slow step was taken"))
    report = preflight(get_profile(SMALL, model=str(save_model(tmp_path, template=None))), FOUR)
    assert [check.name for check in report.refused] == ["model and data"] and report.seconds_per_step is None
    assert "has no chat template; use the instruction-tuned model" in str(report)


def test_the_command_line_says_what_was_refused(tmp_path, capsys):
    assert main(["preflight", "--model", str(save_model(tmp_path, template=None))]) == 2
    printed = capsys.readouterr()
    assert "refuse  model and data" in printed.out
    assert printed.err.splitlines()[-1] == "error: the preflight refuses this run: model and data"
    assert main(["preflight", "--recipe", "gpro"]) == 2


def test_vllm_without_the_package_or_a_gpu_is_refused():
    report = preflight(get_profile(SMALL, vllm=True), FOUR)
    assert "vllm=True needs" in report.refused[0].found and len(report.checks) == 2


@pytest.mark.parametrize(
    "template, lacks",
    [
        ("{% for m in messages %}{{ m.role }}{{ m.content }}<|im_end|>{% endfor %}", "'weather'"),
        ("{% for t in tools %}{{ t | tojson }}{% endfor %}{{ messages[0].content }}<|im_end|>", "'Weather in Rome?'"),
        ("{{ tools }}{{ messages[-1].content }}<|im_end|>", "You solve the user"),
        ("{{ tools }}{% for m in messages %}{{ m.content }}{% endfor %}", "no special token"),
        (None, "no chat template"),
    ],
)
def test_a_prompt_that_lacks_something_is_refused(template, lacks):
    check = check_prompts(SAMPLES, make_tokenizer(template))
    assert check.status == "refuse" and lacks in check.found and check.mend


def test_a_whole_prompt_passes():
    assert check_prompts(SAMPLES, make_tokenizer(WITH_TOOLS)).status == "ok"


def test_tokens_that_do_not_fit_the_model_are_refused(nano):
    tokenizer = make_tokenizer(WITH_TOOLS)
    end = tokenizer.eos_token_id
    stops = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=end),
                            get_input_embeddings=lambda: torch.nn.Embedding(len(tokenizer), 2))  # fmt: skip
    assert check_tokens(stops, tokenizer).found == "the tokenizer has none."
    prepare_tokenizer(tokenizer)
    assert check_tokens(stops, tokenizer).status == "ok"
    stops.generation_config.eos_token_id = [end + 1]
    assert "does not stop at '<|im_end|>'" in check_tokens(stops, tokenizer).found
    stops.get_input_embeddings = lambda: torch.nn.Embedding(end, 2)
    assert f"outside of the model's {end} embeddings" in check_tokens(stops, tokenizer).found
    assert check_tokens(*nano).status == "ok"


@pytest.mark.parametrize(
    "recipe, limits, status, words",
    [
        ("grpo", {"max_prompt_tokens": 1}, "ok", "needs none"),
        ("hard_sampling", {"max_prompt_tokens": 256}, "ok", "in front of 100% of 12 rows"),
        ("hard_sampling", {"max_prompt_tokens": 10}, "warn", "in front of 0% of 12 rows"),
        ("hard_sampling", {"max_prompt_tokens": 10, "demo_room": 246}, "ok", "in front of 100% of 12 rows"),
        ("toolexpander", {"max_completion_length": 64}, "ok", "100% of the answers have room"),
        ("toolexpander", {"max_completion_length": 24}, "warn", "rows; 0% of the answers have room"),
    ],
)
def test_room_for_demonstrations_and_examples(nano, recipe, limits, status, words):
    samples = nano_samples("train", 12, families=["book_taxi"])
    check = check_room(samples, nano[1], get_recipe(recipe), get_profile("nano-invited", **limits))
    assert check.status == status and words in check.found and bool(check.mend) == (status == "warn")


def test_a_prompt_that_never_comes_round_again_is_warned_of():
    samples = nano_samples("train", 4)  # 48 prompts
    for steps, status in ((8, "warn"), (9, "ok")):  # 128 and 144 prompts served
        check = check_visits(samples, get_recipe("hard_sampling"), get_profile("nano", steps=steps))
        assert check.status == status and f"each of 48 prompts {steps / 3:.1f} times" in check.found
    assert check_visits(samples, get_recipe("grpo"), get_profile("nano", steps=1)).status == "ok"
    for name in ("smol", "smol-cpu", "t4", "gpu24"):  # as they stand, when as many rows are there as they ask for
        profile = get_profile(name)
        assert check_visits(samples * 100, get_recipe("toolexpander"), profile).status == "warn"
        assert check_visits(range(profile.train_prompts), get_recipe("toolexpander"), profile).status == "ok"


@pytest.mark.parametrize(
    "losses, gradients, status",
    [
        ((0.1, 0.0), (1.0, 2.0), "ok"),
        ((0.1, 0.0), (float("inf"), 2.0), "ok"),  # the loss scale settles
        ((0.1, 0.0), (float("inf"), float("nan")), "warn"),
        ((0.1, float("nan")), (1.0, 1.0), "refuse"),
    ],
)
def test_numbers_that_are_none(losses, gradients, status):
    log = [{"loss": loss, "grad_norm": gradient} for loss, gradient in zip(losses, gradients)]
    assert check_numbers(log, get_profile("smol", dtype="float16")).status == status


def test_disk_by_hand(monkeypatch, tmp_path):
    model = torch.nn.Linear(1000, 1000, bias=False)  # a million weights: 3 checkpoints of 12 MB and 4 MB at the end
    for free, status in ((39e6, "refuse"), (41e6, "warn"), (81e6, "ok")):
        monkeypatch.setattr(module.shutil, "disk_usage", lambda place, free=free: SimpleNamespace(free=free))
        check = check_disk(model, tmp_path / "not" / "there", SMALL)
        assert check.status == status and check.found.startswith("0.04 GiB needed")
    model.requires_grad_(False)
    assert check_disk(model, tmp_path, SMALL).found.startswith("0.00 GiB needed")


def test_memory_by_hand():
    profile = get_profile("t4")

    def measured(peak):
        return {"memory": {"allocated": 1.0, "reserved": peak}, "prompt_tokens": 768.0, "completion_tokens": 256.0}

    assert check_memory(measured(10.0), profile, T4).status == "ok"
    close = check_memory(measured(14.0), profile, T4)
    assert close.status == "warn" and "14.00 GiB (reserved) of 15" in close.found and "micro_batch (40)" in close.mend
    assert check_memory(None, profile, T4).status == "refuse"


def test_running_out_of_memory_is_a_refusal(monkeypatch):
    def full(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(module, "measure_steps", full)
    report = preflight(SMALL, FOUR)
    assert [check.name for check in report.refused] == ["memory"] and report.checks[-1].name == "memory"


def test_a_model_whose_numbers_are_none_is_refused(tmp_path):
    model, tokenizer = load_policy(SMALL)
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    model.save_pretrained(tmp_path), tokenizer.save_pretrained(tmp_path)
    report = preflight(get_profile(SMALL, model=str(tmp_path)), FOUR)
    assert [check.name for check in report.refused] == ["numbers"] and "choose another dtype" in str(report)


def row(**changes):
    return {"completions/clipped_ratio": 0, "groups/all_fail": 0, "groups/all_pass": 0, "format_rate": 1} | {
        name.replace("__", "/"): value for name, value in changes.items()
    }


@pytest.mark.parametrize(
    "fail, right, form, status, words",
    [
        (0.5, 0.25, 0.9, "ok", "of 8 groups 50% all fail, 25% all pass, 25% are mixed and teach something; 90%"),
        (1, 0, 0.5, "warn", "no group teaches anything yet"),
        (0.5, 0.5, 1, "warn", "no group teaches anything yet"),
        (0, 1, 1, "warn", "nothing is left to learn"),
        (1, 0, 0, "refuse", "warm start"),
    ],
)
def test_groups_by_hand(fail, right, form, status, words):
    check = check_groups([row(groups__all_fail=fail, groups__all_pass=right, format_rate=form)] * 2, prompts=4)
    assert check.status == status and words in check.found + check.mend


def test_groups_of_which_no_answer_came_to_its_end_are_not_sent_to_a_warm_start():
    log = [row(groups__all_fail=1, groups__all_pass=0, format_rate=0, completions__clipped_ratio=1)]
    check = check_groups(log, prompts=4)
    assert check.status == "refuse" and "stopping first" in check.mend and "warm start" not in check.mend


def test_shares_of_cut_answers_by_hand():
    found = [check_stopping([row(completions__clipped_ratio=share)], SMALL).status for share in (0.2, 0.3, 1)]
    assert found == ["ok", "warn", "refuse"]


def test_hours_are_seconds_times_steps():
    assert "10.00 s for the fastest step, 20.0 minutes for 120 such steps" in check_hours([12.0, 10.0], SMALL).found
    slow = check_hours([400.0], SMALL)
    assert slow.status == "warn" and "13.3 hours" in slow.found and "--resume" in slow.mend


def test_four_bits_are_tried_and_a_missing_package_is_named(monkeypatch):
    profile = get_profile("t4")
    assert check_four_bit(SMALL, "cpu").found == "not asked for."
    functional = pytest.importorskip("bitsandbytes.functional")
    assert check_four_bit(profile, "cpu").status == "ok"
    monkeypatch.setattr(functional, "dequantize_4bit", lambda *packed: torch.zeros(64, 64))
    assert "changes them by 1.00" in check_four_bit(profile, "cpu").found
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    report = preflight(get_profile(profile, model="./none"))
    assert statuses(report) == {"4-bit weights": "refuse"} and "pip install bitsandbytes" in str(report)


def test_a_report_lists_what_is_refused():
    report = Preflight([Check("a", "ok", "fine."), Check("b", "refuse", "broken.", "mend it")])
    assert report.refused == [report.checks[1]]
    assert str(report) == "ok      a: fine.\nrefuse  b: broken. Mend: mend it."
    with pytest.raises(SettingsError, match="unknown profile"):
        preflight("laptop")


def test_a_recipe_that_invites_and_reuses_batches_is_tried_as_it_trains():
    small = get_profile("nano-common", prompts_per_step=2, train_prompts=1)
    found = measure_steps(*load_policy(small), nano_samples("train", 1), get_recipe("toolexpander"), small, 2)
    assert len(found["seconds"]) == len(found["log"]) == 2, "one entry per batch, though each is used twice"
    report = preflight(get_profile("nano", prompts_per_step=2, train_prompts=1), "set")
    assert report.refused and "drops the invitation" in str(report)
