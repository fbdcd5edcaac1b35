"""Recipes and profiles: how their fields are set by hand, and which samples a run is measured on."""

import json
import re
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
from test_templates import FOLDER, loaded, make_tokenizer
from transformers import set_seed

from toolexpander_lite.__main__ import main
from toolexpander_lite.base.errors import DataError, RunError, SettingsError
from toolexpander_lite.base.settings import check_seed, parse_settings
from toolexpander_lite.method.prompts import gold_completion, render_prompt
from toolexpander_lite.method.recipes import PAPER_RECIPES
from toolexpander_lite.method.samples import ToolSample
from toolexpander_lite.models.hardware import Hardware
from toolexpander_lite.training import splits
from toolexpander_lite.training.profiles import PROFILES, Profile, get_profile, tools_offered
from toolexpander_lite.training.resume import check_folder
from toolexpander_lite.training.splits import fewer_tools, load_splits
from toolexpander_lite.training.train import grpo_config
from toolexpander_lite.variants.all_recipes import RECIPES, Recipe, get_recipe
from toolexpander_lite.variants.baselines import RULES
from toolexpander_lite.worlds.nano_policy import WarmStart
from toolexpander_lite.worlds.nano_world import FAMILIES, nano_samples

CPU = Hardware("cpu", "CPU", 8)
T4 = Hardware("cuda", "Tesla T4", 14.7, (7, 5))


def test_settings_get_the_types_of_their_fields():
    texts = ["beta=0.01", "retest=never", "demos=2", "fresh_demos=False", "equal_rollouts=true", "learning_rate=1e-3"]
    changes = parse_settings(Recipe, texts)
    assert changes == {
        "beta": 0.01, "retest": "never", "demos": 2, "fresh_demos": False, "equal_rollouts": True,
        "learning_rate": 0.001,
    }  # fmt: skip
    assert [type(v) for v in changes.values()] == [float, str, int, bool, bool, float]
    recipe = get_recipe("hard_sampling", **changes)
    assert (recipe.retest, recipe.demos, recipe.fresh_demos) == ("never", 2, False)
    assert parse_settings(Recipe, []) == {}
    assert parse_settings(Recipe, ["beta=1", "beta=0"]) == {"beta": 0.0}, "the last one counts"
    assert parse_settings(Profile, ["model=a=b", "steps=3"]) == {"model": "a=b", "steps": 3}
    texts = ["quantization=none", "data_path=none.jsonl"]
    assert parse_settings(Profile, texts) == {"quantization": None, "data_path": "none.jsonl"}


@pytest.mark.parametrize(
    "text, words",
    [
        ("beta", "'beta' is not NAME=VALUE with a NAME of beta, use_bias_correction_kl, epsilon"),
        ("", "'' is not NAME=VALUE"),
        ("=3", "'=3' is not NAME=VALUE"),
        ("colour=red", "'colour=red' is not NAME=VALUE with a NAME of .*hard_samples"),
        ("name=mine", "'name=mine' is not NAME=VALUE"),  # the name says which recipe it is
        ("about=mine", "'about=mine' is not NAME=VALUE"),
        ("beta=small", "'beta=small': beta takes a number, not 'small'"),
        ("demos=2.5", "demos takes a whole number, not '2.5'"),
        ("demos=", "demos takes a whole number, not ''"),
        ("fresh_demos=yes", "fresh_demos takes true or false, not 'yes'"),
        ("fresh_demos=1", "fresh_demos takes true or false, not '1'"),
        ("learning_rate=none", "learning_rate takes a number, not 'none'"),
    ],
)
def test_settings_that_are_none_are_refused(text, words, tmp_path, capsys):
    with pytest.raises(SettingsError, match=words):
        parse_settings(Recipe, [text])
    assert main(["train", "--set", text, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {text!r}") and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "text, words",
    [
        ("hard_samples=drop", "hard_samples is 'drop'; choose one of keep, scan, demonstrate, exclude_hard"),
        ("demo_source=mine", "demo_source is 'mine'; choose one of random, verified, other_tool, corrupted, gold, own"),
        ("retest=soon", "retest is 'soon'"),
        ("round_steps=0", "round_steps and demos must be at least 1"),
        ("num_iterations=0", "num_iterations must be at least 1"),
        ("beta=inf", "beta must not be negative, temperature and epsilon_high must be positive, all three finite"),
        ("beta=nan", "all three finite"),
        ("temperature=inf", "all three finite"),
        ("temperature=nan", "all three finite"),
        ("epsilon_high=inf", "all three finite"),
        ("epsilon_high=nan", "all three finite"),
        ("epsilon=nan", "epsilon must lie between 0 and 1"),
        ("epsilon=inf", "epsilon must lie between 0 and 1"),
        ("learning_rate=inf", "learning_rate is inf; it must be positive and finite"),
        ("learning_rate=nan", "learning_rate is nan; it must be positive and finite"),
        ("lr_decay=inf", "it must lie in (0, 1]"),
        ("lr_decay=nan", "it must lie in (0, 1]"),
        ("example_bonus=inf", "example_bonus is inf; it must be 0, or at least 1/4096"),
        ("example_bonus=nan", "example_bonus is nan; it must be 0, or at least 1/4096"),
    ],
)
def test_values_that_cannot_be_trained_with_are_one_line_too(text, words, tmp_path, capsys):
    assert main(["train", "--recipe", "hard_sampling", "--set", text, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: recipe 'hard_sampling': ") and words in error and error.count("\n") == 1


@pytest.mark.parametrize("rate", ["nan", "inf", "-inf", "0", "-1e-4"])
def test_a_profile_needs_a_rate_that_can_be_trained_with(rate, tmp_path, capsys):
    assert main(["train", "--profile-set", f"learning_rate={rate}", "--out", str(tmp_path / "run")]) == 2
    told = f"error: profile 'nano': learning_rate is {float(rate)}; it must be positive and finite\n"
    assert capsys.readouterr().err == told and not (tmp_path / "run").exists()


def test_a_reward_that_is_none_is_one_line(tmp_path, capsys):
    assert main(["train", "--set", "reward=nope", "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == "error: recipe 'grpo': reward is 'nope'; choose one of conjunctive, graded\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["train", "preflight", "warm-start"])
@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_that_are_none_are_one_line(command, seed, tmp_path, capsys):
    assert main([command, "--seed", str(seed), "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == f"error: seed is {seed}; it must be a whole number from 0 to 4294967295\n"
    assert not (tmp_path / "run").exists()
    with pytest.raises(SettingsError, match=f"seed is {seed}"):
        WarmStart(seed=seed)


def test_the_first_and_the_last_seed_are_taken():
    for seed in (0, 2**32 - 1):
        check_seed(seed)
        set_seed(seed)


@pytest.mark.parametrize("steps", [0, -3])
def test_a_preflight_without_an_ordinary_step_is_one_line(steps, capsys):
    assert main(["preflight", "--trial-steps", str(steps)]) == 2
    told = f"error: a preflight takes 1 ordinary step or more, not {steps}; see --trial-steps\n"
    assert capsys.readouterr().err == told


def test_the_command_line_hands_its_settings_on(tmp_path, monkeypatch):
    called = []

    def train(*arguments, **options):
        called.append(arguments)
        (tmp_path / "summary.json").write_text("{}")
        return tmp_path

    monkeypatch.setattr("toolexpander_lite.training.train.train", train)
    line = "train --recipe hint --set demos=3 --set beta=0 --num-generations 12 --eval-split validation --steps 7"
    assert main(line.split()) == 0
    recipe, profile, seed, *_ = called[0]
    assert recipe == get_recipe("hint", demos=3, beta=0.0, num_generations=12)
    assert profile == get_profile("nano", eval_split="validation", steps=7) and seed == 0
    assert main(["train", "--eval-split", "dev"]) == 2 and len(called) == 1


def test_a_field_given_twice_is_one_line(tmp_path, capsys):
    assert main(["train", "--beta", "0.1", "--set", "beta=0.2", "--out", str(tmp_path / "run")]) == 2
    assert "beta" in capsys.readouterr().err


@pytest.mark.parametrize("name", RULES)
def test_a_rule_needs_groups_that_can_be_hard(name):
    with pytest.raises(SettingsError, match="a group of 9 does not show that"):
        get_recipe("grpo", hard_samples=name, num_generations=9)
    assert get_recipe("grpo", hard_samples=name, num_generations=10).hard_samples == name


def test_every_rule_has_its_recipe():
    assert {r.hard_samples for r in RECIPES.values()} == {"keep", "scan", "demonstrate", *RULES}
    assert all(name == recipe.name for name, recipe in RECIPES.items())


# Which samples a run is measured on


def test_an_unknown_split_is_refused():
    with pytest.raises(SettingsError, match="eval_split is 'train'; choose one of test, validation"):
        get_profile("nano", eval_split="train")
    assert all(profile.eval_split == "test" for profile in PROFILES.values())


def queries(samples):
    return {s.messages[-1]["content"] for s in samples}


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_validation_prompts_are_neither_trained_on_nor_tested_with(seed):
    """Also where all queries of a family are drawn: play_song has 95 to train on."""
    for sizes in (dict(train_prompts=16, eval_prompts=20), dict(train_prompts=75, eval_prompts=20)):
        data = load_splits(get_profile("nano", eval_split="validation", **sizes), seed, None)
        tested = load_splits(get_profile("nano", **sizes), seed, None)
        assert data.train == tested.train == nano_samples("train", sizes["train_prompts"], seed)
        families = [s.family for s in data.held_out]
        assert {name: families.count(name) for name in FAMILIES} == dict.fromkeys(FAMILIES, sizes["eval_prompts"])
        assert len({s.id for s in data.held_out}) == len(data.held_out)
        assert not {s.id for s in data.held_out} & {s.id for s in data.train}
        assert not queries(data.held_out) & queries(data.train)
        assert {s.split for s in data.held_out} == {"train"}
        assert not queries(data.held_out) & {q for s in range(5) for q in queries(nano_samples("test", 20, s))}


def test_validation_prompts_repeat_themselves_and_follow_the_seed():
    profile = get_profile("nano", eval_split="validation", train_prompts=4, eval_prompts=4)
    assert load_splits(profile, 0, None) == load_splits(profile, 0, None)
    assert load_splits(profile, 0, None).held_out != load_splits(profile, 1, None).held_out


def bytewise_tokenizer():
    tokenizer = make_tokenizer((FOLDER / "qwen3.jinja").read_text())
    loaded(tokenizer)
    return tokenizer


def test_real_data_keeps_training_rows_back_for_validation(monkeypatch):
    tool = {"type": "function", "function": {"name": "call", "description": "", "parameters": {"properties": {}}}}
    samples = [
        ToolSample(f"s{n}", "real", [{"role": "user", "content": f"{n}"}], [tool], [{"name": "call", "arguments": {}}],
                   "test" if n % 5 == 0 else "train")
        for n in range(50)
    ]  # fmt: skip
    monkeypatch.setattr(splits, "load_samples", lambda *a, **o: SimpleNamespace(samples=samples, dropped={}))
    tokenizer, sizes = bytewise_tokenizer(), {"max_prompt_tokens": 5000, "max_completion_length": 900}
    for trained, held_out in ((30, 10), (39, 1)):
        profile = get_profile("smol", train_prompts=trained, eval_prompts=20, eval_split="validation",
                              warm_start_rows=0, **sizes)
        for seed in range(3):
            data = load_splits(profile, seed, tokenizer)
            assert (len(data.train), len(data.held_out)) == (trained, held_out)
            assert {s.split for s in data.train + data.held_out} == {"train"}
            assert len({s.id for s in data.train + data.held_out}) == trained + held_out
    tested = get_profile("smol", train_prompts=30, eval_prompts=20, warm_start_rows=0, **sizes)
    tested = load_splits(tested, 0, tokenizer)
    assert len(tested.held_out) == 10 and {s.split for s in tested.held_out} == {"test"}
    with pytest.raises(DataError, match="all 40 training rows .* are trained on; lower train_prompts"):
        load_splits(get_profile(profile, train_prompts=40), 0, tokenizer)
    # Rows for a warm start are set aside where there are more than a run reads: the same for all seeds, in no run.
    for wanted, trained, kept in ((12, 24, 12), (100, 24, 16), (12, 40, 0), (12, 200, 0)):
        profile = get_profile("smol", warm_start_rows=wanted, train_prompts=trained, **sizes)
        both = [load_splits(profile, seed, tokenizer) for seed in (0, 1)]
        assert both[0].set_aside == both[1].set_aside and len(both[0].set_aside) == kept
        for data in both:
            assert not {s.id for s in data.set_aside} & {s.id for s in data.train}
            assert len(data.train) == min(trained, 40)


def test_recipes_with_and_without_the_invitation_get_the_same_rows(monkeypatch):
    """A row whose prompt is too long with the invitation only is left out for all, else arms would not compare."""
    tool = {"type": "function", "function": {"name": "call", "parameters": {"type": "object"}}}
    samples = [
        ToolSample(f"s{n}", "real", [{"role": "user", "content": "city " * 40 * n}], [tool],
                   [{"name": "call", "arguments": {}}], "test" if n % 5 == 0 else "train")
        for n in range(40)
    ]  # fmt: skip
    monkeypatch.setattr(splits, "load_samples", lambda *a, **o: SimpleNamespace(samples=samples, dropped={}))
    tokenizer = bytewise_tokenizer()
    lengths = {s.id: [len(tokenizer(render_prompt(s, tokenizer, invite=i)).input_ids) for i in (False, True)]
               for s in samples}  # fmt: skip
    limit = lengths["s20"][0]  # fits without the invitation, does not with it
    assert lengths["s20"][1] > limit
    data = load_splits(get_profile("smol", max_prompt_tokens=limit, warm_start_rows=0), 0, tokenizer)
    kept = {s.id for s in data.train + data.held_out}
    assert kept == {id for id, (_, invited) in lengths.items() if invited <= limit} and "s20" not in kept


def test_an_answer_has_to_leave_room_for_an_example(monkeypatch):
    tool = {"type": "function", "function": {"name": "call", "parameters": {"type": "object"}}}
    samples = [
        ToolSample(f"s{n}", "real", [{"role": "user", "content": "q"}], [tool],
                   [{"name": "call", "arguments": {"a": "city " * n}}], "test" if n % 5 == 0 else "train")
        for n in range(20)
    ]  # fmt: skip
    monkeypatch.setattr(splits, "load_samples", lambda *a, **o: SimpleNamespace(samples=samples, dropped={}))
    tokenizer = bytewise_tokenizer()
    lengths = {s.id: len(tokenizer(gold_completion(s)).input_ids) for s in samples}
    cap = max(lengths.values()) + 1
    for room in (0, 7):
        sizes = {"max_prompt_tokens": 5000, "warm_start_rows": 0}
        profile = get_profile("smol", max_completion_length=cap, example_room=room, **sizes)
        data = load_splits(profile, 0, tokenizer)
        kept = {s.id for s in data.train + data.held_out}
        assert kept == {id for id, length in lengths.items() if length < cap - room}
        assert (len(kept) == len(samples)) == (room == 0)


def test_max_tools_keeps_what_the_answer_calls_and_the_order():
    def tools(*names):
        return [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in names]

    def offered(called, most):
        calls = [{"name": name, "arguments": {}} for name in called]
        sample = ToolSample("s", "real", [{"role": "user", "content": "q"}], tools(*"abcde"), calls)
        fewer = fewer_tools(sample, most)
        assert replace(fewer, tools=sample.tools) == sample
        return "".join(tool["function"]["name"] for tool in fewer.tools)

    assert [offered("d", most) for most in (1, 2, 3, 9)] == ["d", "ad", "abd", "abcde"]
    assert offered("a", 2) == "ab" and offered("dd", 2) == "ad"
    assert offered("dbe", 2) == "bde", "an answer needs all its tools"
    assert offered("", 2) == "ab", "no call is right whatever is offered"


@pytest.mark.parametrize("split", ["test", "validation"])
def test_held_out_rows_keep_all_their_tools_unless_asked_otherwise(split, monkeypatch, caplog):
    tools = [{"type": "function", "function": {"name": f"tool{n}", "parameters": {"type": "object"}}} for n in range(9)]
    samples = [
        ToolSample(f"s{n}", "real", [{"role": "user", "content": f"{n}"}], tools,
                   [{"name": "tool8", "arguments": {}}], "test" if n % 5 == 0 else "train")
        for n in range(20)
    ]  # fmt: skip
    monkeypatch.setattr(splits, "load_samples", lambda *a, **o: SimpleNamespace(samples=samples, dropped={}))
    everything, two = [tool["function"]["name"] for tool in tools], ["tool0", "tool8"]
    for most, held_out_most, train, held_out, words in (
        (0, 0, everything, everything, None),
        (2, 0, two, everything, "offer at most 2 of their tools, .*; held-out prompts offer all their"),
        (2, 2, two, two, "held-out prompts offer at most 2 of their tools"),
    ):
        caplog.clear()
        profile = get_profile(
            "smol-cpu", max_tools=most, held_out_max_tools=held_out_most, max_prompt_tokens=5000, train_prompts=12,
            max_completion_length=900, eval_prompts=4, warm_start_rows=0, eval_split=split,
        )  # fmt: skip
        data = load_splits(profile, 0, bytewise_tokenizer())
        assert len(data.train) == 12 and len(data.held_out) == 4
        assert all([t["function"]["name"] for t in s.tools] == train for s in data.train)
        assert all([t["function"]["name"] for t in s.tools] == held_out for s in data.held_out)
        assert not {s.id for s in data.train} & {s.id for s in data.held_out}
        assert re.search(words, caplog.text) if words else not caplog.text, "said where the run begins"


def test_runs_from_before_the_field_say_how_they_cut_held_out_prompts():
    assert "held-out prompts offer at most 2" in tools_offered({"max_tools": 2})
    assert "held-out prompts offer all" in tools_offered({"max_tools": 2, "held_out_max_tools": 0})


def test_rows_of_unknown_words_are_refused_with_their_true_cause(tmp_path, capsys):
    """Everyday rows for a nano policy, wherever a run begins; the chat template is not to blame."""
    call = json.dumps([{"name": "weather", "arguments": {"place": "Trondheim"}}])
    tools = [{"name": "weather", "description": "Tells the weather.", "parameters": {
        "type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}}]  # fmt: skip
    rows = [{"id": n, "query": f"Is there any sunshine over Trondheim on day {n}?", "answers": call,
             "tools": json.dumps(tools)} for n in range(60)]  # fmt: skip
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = r"the tokenizer of 'nano' knows too few words of 'xlam': \d\d% of the tokens become"
    words = ["--data", "xlam", "--data-path", str(file)]
    assert main(["train", *words, "--out", str(tmp_path / "run")]) == 2
    assert re.match("error: " + told, error := capsys.readouterr().err.splitlines()[-1]) and "template" not in error
    warm = ["warm-start", *words, "--warm-start-steps", "1", "--out", str(tmp_path / "warm")]
    assert main(warm) == 2 and re.search(told, capsys.readouterr().err)
    assert main(["preflight", *words]) == 2 and re.search(told, capsys.readouterr().out)


# Optimizer and vLLM


@pytest.mark.parametrize(
    "profile, hardware, optim",
    [
        ("nano", CPU, "adamw_torch_fused"),
        ("t4", CPU, "adamw_torch_fused"),  # paging needs a GPU
        ("t4", T4, "paged_adamw_8bit"),
        ("gpu24", T4, "paged_adamw_8bit"),
        ("smol", T4, "adamw_torch_fused"),
    ],
)
def test_the_optimizer_of_a_machine(profile, hardware, optim, tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr("toolexpander_lite.training.train.GRPOConfig", lambda **settings: seen.update(settings))
    grpo_config(get_recipe("grpo"), get_profile(profile), 0, tmp_path, hardware)
    assert seen["optim"] == optim and "use_vllm" not in seen


@pytest.mark.parametrize("wanted", [True, False])
def test_whether_the_kl_term_is_multiplied_by_the_ratio_reaches_the_trainer(wanted, tmp_path):
    recipe = get_recipe("paper_grpo", use_bias_correction_kl=wanted)
    assert grpo_config(recipe, get_profile("nano"), 0, tmp_path, CPU).use_bias_correction_kl is wanted


def test_vllm_is_wired_where_it_can_be_used(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr("toolexpander_lite.training.train.GRPOConfig", lambda **settings: seen.update(settings))
    profile = get_profile("gpu24", quantization=None, vllm=True)
    with pytest.raises(SettingsError, match="vllm=True needs a CUDA GPU"):
        grpo_config(get_recipe("grpo"), profile, 0, tmp_path, CPU)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="pip install vllm"):
        grpo_config(get_recipe("grpo"), profile, 0, tmp_path, T4)
    assert not seen
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    grpo_config(get_recipe("grpo"), profile, 0, tmp_path, T4)
    assert (seen["use_vllm"], seen["vllm_mode"], seen["vllm_max_model_length"]) == (True, "colocate", 1024 + 256 + 512)


@pytest.mark.parametrize(
    "name, changes, words",
    [("t4", dict(vllm=True), "vllm=True needs unquantised weights"), ("nano", dict(optim="sgd"), "optim is 'sgd'")],
)
def test_profiles_that_cannot_run_are_refused(name, changes, words):
    with pytest.raises(SettingsError, match=words):
        get_profile(name, **changes)


def test_a_run_of_an_older_version_can_be_resumed_with_the_same_settings(tmp_path):
    """Its config.json lacks the fields that came later: they count as their defaults."""
    recipe, profile = asdict(get_recipe("grpo")), asdict(get_profile("smol"))
    old = {"recipe": {k: v for k, v in recipe.items() if k != "lr_decay"}, "seed": 0,
           "profile": {k: v for k, v in profile.items() if k not in ("optim", "vllm")}}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(old))
    check_folder(tmp_path, {"recipe": recipe, "profile": profile, "seed": 0}, resume=True)
    for part, name, value in (("profile", "optim", "paged_adamw_8bit"), ("recipe", "lr_decay", 0.9)):
        identity = {"recipe": recipe, "profile": profile, "seed": 0}
        identity[part] = identity[part] | {name: value}
        with pytest.raises(RunError, match=f"its {part} differs in {name}"):
            check_folder(tmp_path, identity, resume=True)


@pytest.mark.parametrize("name", [recipe.name for recipe in PAPER_RECIPES if not recipe.supervised])
def test_the_papers_recipes_train_with_the_papers_values(name):
    """Tables 9 to 11 and sections 3.2 and 4 of arXiv 2510.07737."""
    recipe = get_recipe(name)
    by_round, second = recipe.hard_samples == "scan", "self_exemplifying" in name
    assert (recipe.temperature, recipe.epsilon, recipe.scan_rollouts) == (0.7, 0.2, 10)
    assert recipe.num_generations == (32 if name == "paper_rollouts_32" else 5)
    assert (recipe.beta, recipe.epsilon_high) == ((0, 0.26) if second else (1e-3, 0.2))
    assert recipe.lr_decay == (0.8 if by_round or second else 1)
    paid = recipe.examples_needed, recipe.example_bonus, recipe.gated_bonus
    assert paid == ((4, 0.01, True) if second else (0, 0, False))
    assert (recipe.reward, recipe.invite, recipe.num_iterations) == ("conjunctive", False, 1)
    if by_round:
        assert recipe.demo_source == ("verified" if name.endswith("verified") else "random")
