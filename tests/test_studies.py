"""Studies: what is run, at which rate, and how sure the means are."""

import json
import math
import shlex
import sys
from dataclasses import asdict, fields
from subprocess import CompletedProcess

import pytest

from toolexpander_lite.__main__ import STEPS, _parser, chosen_profile, chosen_recipe, main
from toolexpander_lite.base.errors import RunError, SettingsError
from toolexpander_lite.base.intervals import bootstrap_interval, paired_difference
from toolexpander_lite.base.runs import REPOSITORY, find_runs, read_json, rollouts_to
from toolexpander_lite.base.settings import parse_settings
from toolexpander_lite.studies import runner as studies
from toolexpander_lite.studies.plan import PLANS, chosen_rates, plan_names, read_plan, search_table
from toolexpander_lite.studies.report import time_to
from toolexpander_lite.studies.runner import study_plan
from toolexpander_lite.studies.statistics import arms_table
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.train import batch_shape
from toolexpander_lite.variants.all_recipes import Recipe, get_recipe

RUNS = REPOSITORY / "assets" / "runs"
STUDIES = [*plan_names(), *(file.stem for file in (PLANS / "abandoned").glob("*.toml"))]
SEARCH_SEEDS = (100, 101)


def fake_run(folder, seed, hard, rate=1e-3, curve=((0, 0.0),)):
    """A run directory with just what tables read: hard accuracies of `curve` at its rollouts, then the last one."""
    run = folder / f"seed-{seed}"
    run.mkdir(parents=True)
    command = f"python -m toolexpander_lite train --seed {seed} --out {'/'.join(run.parts[-3:])}"
    (run / "config.json").write_text(json.dumps({"seed": seed, "learning_rate": rate, "command": command}))
    rows = [*curve, (19200, hard)]
    log = [
        {"step": n, "rollouts": r, "eval": {"zero_shot_hard": h, "few_shot_hard": 1.0}} for n, (r, h) in enumerate(rows)
    ]
    (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log))
    (run / "summary.json").write_text(json.dumps({
        "zero_shot": hard * 2 / 3 + 1 / 3, "zero_shot_hard": hard, "zero_shot_easy": 1.0, "rollouts": 19200,
        "completion_tokens": 10, "prompt_tokens": 20, "seconds": 5.0, "stalled": hard == 0, "collapsed": False,
    }))  # fmt: skip
    return run


def plan_file(folder, text, name="mine"):
    """A plan of one's own -> its path, as a word of the command line."""
    (folder / f"{name}.toml").write_text(text)
    return str(folder / f"{name}.toml")


def test_interval_of_what_can_be_worked_out_by_hand():
    # Two values: a resample has mean 0, 1/2 or 1 with probability 1/4, 1/2, 1/4; 2.5 % lie in either tail.
    assert bootstrap_interval([0, 1]) == (0, 1)
    assert bootstrap_interval([0.3, 0.3, 0.3]) == (0.3, 0.3)
    assert all(math.isnan(x) for x in bootstrap_interval([0.5]))
    low, high = bootstrap_interval(range(100))
    # Normal approximation: mean 49.5, standard error 28.87 / 10.
    assert low == pytest.approx(49.5 - 1.96 * 2.887, abs=0.4) and high == pytest.approx(49.5 + 1.96 * 2.887, abs=0.4)
    assert bootstrap_interval([0, 0.2, 1]) == bootstrap_interval([0, 0.2, 1]), "the same table each time"


def test_pairs_are_seeds_both_have():
    mean, low, high, n = paired_difference({0: 1.0, 1: 0.5, 2: 0.9}, {0: 0.0, 1: 0.5, 7: 0.1})
    assert (mean, low, high, n) == (0.5, 0.0, 1.0, 2)
    with pytest.raises(ValueError, match="no seed in common"):
        paired_difference({0: 1.0}, {1: 1.0})


def test_of_equally_good_rates_the_search_takes_the_sooner_one(tmp_path):
    for rate, reached in {"6e-4": (8000, 16000), "1e-3": (4800, 6400), "2e-3": (4800, None)}.items():
        for seed, at in zip(SEARCH_SEEDS, reached):
            curve = [(0, 0.0), *([(at, 0.95)] if at else [])]
            fake_run(tmp_path / "nano-lr-search" / f"grpo-lr{rate}", seed, 1.0 if at else 0.8, float(rate), curve)
    table = search_table(tmp_path / "nano-lr-search").set_index("learning_rate")
    assert table.spent.to_dict() == {6e-4: 12000, 1e-3: 5600, 2e-3: 12000}, "the whole run where 0.9 is never reached"
    assert chosen_rates(tmp_path / "nano-lr-search") == {"grpo": "0.001"}


def test_the_ablations_search_has_rates_of_its_own(tmp_path):
    folder = tmp_path / "nano-ablation-search"
    for rate in ("3e-4", "6e-4", "1e-3"):
        for seed in SEARCH_SEEDS:
            fake_run(folder / f"set-lr{rate}", seed, float(rate) * 1000, float(rate))
    assert chosen_rates(folder) == {"set": "0.001"}
    planned = {arm.options["--learning-rate"] for arm in read_plan("nano-ablation-search").arms}
    assert planned == {"3e-4", "6e-4", "1e-3"}


def test_search_takes_the_best_mean_and_of_equals_the_lower_rate(tmp_path):
    for name, scores in {"grpo": {"6e-4": (0.1, 0.3), "1e-3": (0.3, 0.1), "2e-3": (0.0, 0.3)},
                         "hint": {"6e-4": (0.0, 0.9), "1e-3": (0.5, 0.5), "2e-3": (0.0, 0.0)},
                         "greso": {"6e-4": (0.5, 0.5), "1e-3": (0.4, 0.4)}}.items():  # fmt: skip
        for rate, values in scores.items():
            for seed, value in zip(SEARCH_SEEDS, values):
                fake_run(tmp_path / "nano-lr-search" / f"{name}-lr{rate}", seed, value, float(rate))
    folder = tmp_path / "nano-lr-search"
    fake_run(folder / "grpo-lr4e-3", 100, 1.0, 4e-3)
    assert len(search_table(folder)) == 8, "a rate without all search seeds does not count"
    assert chosen_rates(folder) == {"grpo": "0.0006", "hint": "0.001"}, "greso's search is not complete"


def test_arms_table_by_hand(tmp_path):
    for seed in range(3):
        fake_run(tmp_path / "grpo", seed, 0.0)
    fake_run(tmp_path / "hard_sampling", 0, 1.0, curve=[(0, 0.0), (8000, 0.95)])
    fake_run(tmp_path / "hard_sampling", 1, 0.5)
    table = arms_table(tmp_path).set_index("variant")
    ours = table.loc["hard_sampling"]
    assert list(table.index) == ["hard_sampling", "grpo"], "best first"
    assert (ours.hard, ours.worst, ours.solved, ours.seeds, ours["to_0.9"]) == (0.75, 0.5, 1, 2, 8000)
    assert (ours.low, ours.high) == (0.5, 1.0)
    assert (ours.stalled, table.loc["grpo", "stalled"], ours.collapsed) == (0, 3, 0)
    rows = table.assign(variant=table.index).to_dict("index")
    assert time_to(rows["hard_sampling"]) == "8,000 (1 of 2)" and time_to(rows["grpo"]) == "never"
    assert time_to(rows["hard_sampling"] | {"reached": 2}) == "8,000"
    assert math.isnan(table.loc["grpo", "to_0.9"])
    assert rollouts_to(tmp_path / "grpo" / "seed-0", 0.9) is None


def recipe_of(command):
    """The `Recipe` a committed command trains."""
    arguments = _parser().parse_args(command)
    changes = {n: getattr(arguments, n) for n in ("learning_rate", "beta", "num_generations") if getattr(arguments, n)}
    return get_recipe(arguments.recipe, **changes, **parse_settings(Recipe, arguments.set))


@pytest.mark.parametrize("study", STUDIES)
def test_committed_runs_are_what_the_study_says(study):
    wanted_arms = {arm.variant: arm for arm in read_plan(study).arms}
    for variant, runs in find_runs(RUNS / study).items():
        if study == "nano-lr-search" and variant.endswith("-lr3e-4"):
            continue  # tried on one seed before the grid was fixed; counts for nothing
        for run in runs:
            config = read_json(run / "config.json")
            wanted = recipe_of(wanted_arms[variant].command(study, config["seed"]))  # at the rate the search chose
            made = recipe_of(config["command"].removeprefix("python -m toolexpander_lite ").split())
            assert made == wanted, run
            trained = {f.name: config["recipe"].get(f.name, f.default) for f in fields(Recipe)}
            if config["recipe"].get("hard_sampling"):  # the first runs had a switch where there are rules now
                trained["hard_samples"] = "demonstrate"
            skipped = {"about": wanted.about, "learning_rate": wanted.learning_rate}  # words; and see the next line
            assert trained | skipped == json.loads(json.dumps(asdict(wanted))), "the command is not what was trained"
            own = get_profile(wanted_arms[variant].profile).learning_rate
            assert config["learning_rate"] == (wanted.learning_rate or own)
            assert config["seed"] in wanted_arms[variant].seeds
            steps = get_profile(wanted_arms[variant].profile).steps
            assert config["profile"]["steps"] == wanted_arms[variant].options.get("--steps", steps)
            assert config["profile"]["name"] == wanted_arms[variant].profile
            asked = config["profile"].get("eval_split", "test")
            assert asked == ("validation" if study.endswith("-search") else "test")


def test_all_arms_of_a_seed_start_from_one_base_and_see_the_same_number_of_rollouts():
    bases, rollouts = set(), {}
    for variant, runs in find_runs(RUNS / "nano-hard-sampling").items():
        for run in runs:
            bases.add(read_json(run / "config.json")["base_model_hash"])
            rollouts.setdefault(variant, set()).add(read_json(run / "summary.json")["rollouts"])
    assert len(bases) == 1
    for variant, counts in rollouts.items():
        assert counts == {61440 if variant == "rollouts_32_equal_prompts" else 19200}, variant


@pytest.mark.parametrize("name", plan_names())
def test_every_planned_training_run_can_begin(name):
    for arm in read_plan(name).arms:
        options = _parser().parse_args(arm.command(name, 0))
        recipe = chosen_recipe(options)
        prompts, side_by_side = batch_shape(recipe, chosen_profile(options, *STEPS))
        assert prompts > 0 and prompts * recipe.num_generations % side_by_side == 0


def test_plan_names_what_is_there_and_the_command(capsys):
    plan = study_plan("nano-lr-search", only="hint-lr")
    assert len(plan) == 6 and plan.complete.all(), "three rates, two seeds"
    assert main(["study", "nano-lr-search", "--only", "hint-lr1e-3", "--dry-run"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2 and printed[0].startswith("python -m toolexpander_lite train --recipe hint")
    assert main(["study", "nano-nothing"]) == 2
    assert "unknown study 'nano-nothing'" in capsys.readouterr().err


def test_an_arm_whose_rate_was_not_searched_waits(tmp_path, capsys):
    plan_file(tmp_path, 'seeds = [7]\nrates = ["1e-3"]\nname = "{arm}-lr{rate}"\n[arms]\nset = {}\n', "my-search")
    mine = plan_file(tmp_path, 'seeds = 1\nsearch = "my-search"\n[arms]\nset = {}\ngrpo = { learning_rate = "1e-4" }\n')
    assert main(["study", mine, "--dry-run"]) == 0
    waits, runs = capsys.readouterr().out.splitlines()
    assert waits == "# set seed 0: waits for the search that its plan names" and "--learning-rate 1e-4" in runs
    told = []
    studies.run_study(mine, only="set", progress=told.append)
    assert told == ["mine: 0 of 1 runs are there",
                    "  no learning rate yet for set; run the search that its plan names first"]  # fmt: skip


def test_study_makes_what_is_missing_keeps_logs_only_and_reports_a_failure(monkeypatch, tmp_path):
    plan = 'seeds = 1\nrecipe = "grpo"\n[arms]\nworks = { steps = 1 }\nfails = { eval_split = "nowhere" }\n'
    mine, told = plan_file(tmp_path, plan), []
    monkeypatch.setattr(studies, "REPOSITORY", tmp_path)

    def train(words, cwd, env, **_):
        """Leaves what a training run leaves; `fails` ends with an error, as `train` would."""
        assert words[:3] == [sys.executable, "-m", "toolexpander_lite"] and env["OMP_NUM_THREADS"] == "1"
        arguments = _parser().parse_args(words[3:])
        if arguments.eval_split == "nowhere":
            return CompletedProcess(words, 2, "", "a warning\nerror: no split nowhere")
        run = fake_run(cwd / arguments.out.rpartition("/")[0], arguments.seed, 0.5)
        (run / "summary.json").write_text(json.dumps({"zero_shot": 0.5, "wall_seconds": 2.0}))
        (run / "rollouts.jsonl").write_text("{}\n")
        for folder in ("final", "checkpoints"):
            (run / folder).mkdir()
        return CompletedProcess(words, 0, "", "")

    monkeypatch.setattr(studies.subprocess, "run", train)
    with pytest.raises(RunError, match="some runs of mine failed"):
        studies.run_study(mine, progress=told.append)
    run = tmp_path / "assets" / "runs" / "mine" / "works" / "seed-0"
    assert {p.name for p in run.iterdir()} == {"config.json", "log.jsonl", "summary.json"}
    assert "  works seed 0: zero-shot 0.500, 2 s; 1 to go, about 0 min" in told
    assert "  fails seed 0 FAILED: error: no split nowhere" in told
    assert main(["pack", str(run.parents[1])]) == 0 and not run.exists()
    studies.run_study(mine, only="works", progress=told.append)
    assert told[-1] == "mine: 1 of 1 runs are there", "a packed run is there, too"


def test_studies_run_seed_by_seed_so_that_one_that_is_cut_has_something_of_every_arm(monkeypatch, tmp_path):
    mine = plan_file(tmp_path, 'recipe = "grpo"\n[arms]\na = { seeds = 2 }\nb = { seeds = [0, 2] }\n')
    monkeypatch.setattr(studies, "REPOSITORY", tmp_path)
    monkeypatch.setattr(studies.subprocess, "run", lambda *a, **o: CompletedProcess(a, 1, "", "cut"))
    told = []
    with pytest.raises(RunError):
        studies.run_study(mine, progress=told.append)
    assert [line.split(" FAILED")[0].strip() for line in told[1:]] == ["a seed 0", "b seed 0", "a seed 1", "b seed 2"]


BASE = """
recipe = "grpo"
seeds = {seeds}
base = "base"
base_folder = "out"
[arms]
{arms}
[bases]
base = {{ code_rate = 0.2 }}
"""


def test_a_base_policy_is_built_once_and_before_the_runs_that_need_it(monkeypatch, tmp_path):
    mine = plan_file(tmp_path, BASE.format(seeds=1, arms="a = {}\nb = {}"))
    monkeypatch.setattr(studies, "REPOSITORY", tmp_path)
    called, told, returncode = [], [], 0

    def run(words, **_):
        called.append(words[3:])
        return CompletedProcess(words, returncode or words[3] == "train", "", "no room")

    monkeypatch.setattr(studies.subprocess, "run", run)
    with pytest.raises(RunError, match="some runs of mine failed"):
        studies.run_study(mine, progress=told.append)
    assert called[0] == ["nano-policy", "--code-rate", "0.2", "--out", "out/base"]
    assert [words[0] for words in called[1:]] == ["train", "train"]

    called.clear()
    returncode = 1
    with pytest.raises(RunError, match="a base policy of mine could not be built"):
        studies.run_study(mine, progress=told.append)
    assert len(called) == 1 and told[-1] == "  out/base could not be built: no room"

    called.clear()
    (tmp_path / "out" / "base").mkdir(parents=True)
    (tmp_path / "out" / "base" / "tokenizer.json").touch()
    with pytest.raises(RunError, match="some runs of mine failed"):
        studies.run_study(mine, progress=told.append)
    assert [words[0] for words in called] == ["train", "train"]


def test_a_base_may_be_a_run_of_its_own(monkeypatch, tmp_path):
    base = 'base = { command = "train", recipe = "paper_sft", set = ["beta=0", "num_generations=4"] }'
    mine = plan_file(tmp_path, BASE.format(seeds=1, arms="a = {}").replace("base = { code_rate = 0.2 }", base))
    monkeypatch.setattr(studies, "REPOSITORY", tmp_path)
    called = []

    def run(words, **_):
        called.append(words[3:])
        return CompletedProcess(words, len(called) > 1, "", "no room")

    monkeypatch.setattr(studies.subprocess, "run", run)
    with pytest.raises(RunError, match="some runs of mine failed"):
        studies.run_study(mine, progress=lambda _: None)
    assert shlex.join(called[0]) == "train --recipe paper_sft --set beta=0 --set num_generations=4 --out out/base"
    assert called[1][called[1].index("--model") + 1] == "out/base/final"


def test_another_folder_gets_a_second_set_of_runs_from_the_same_base_policies(monkeypatch, tmp_path):
    mine = plan_file(tmp_path, BASE.format(seeds=2, arms="a = {}"))
    monkeypatch.setattr(studies, "REPOSITORY", tmp_path)
    for seed in (0, 1):
        fake_run(tmp_path / "assets" / "runs" / "mine" / "a", seed, 0.5)
    fake_run(tmp_path / "out" / "again" / "mine" / "a", 0, 0.5)
    assert study_plan(mine).complete.all()
    assert list(study_plan(mine, runs="out/again").complete) == [True, False]
    called = []

    def run(words, **_):
        called.append(words[3:])
        return CompletedProcess(words, words[3] == "train", "", "no room")

    monkeypatch.setattr(studies.subprocess, "run", run)
    with pytest.raises(RunError, match="some runs of mine failed"):
        studies.run_study(mine, progress=lambda _: None, runs="out/again")
    assert [words[-2:] for words in called] == [["--out", "out/base"], ["--out", "out/again/mine/a/seed-1"]]


def test_only_takes_whole_names_or_beginnings(tmp_path, capsys):
    arms = "\n".join(f"{name} = {{}}" for name in ("set", "set-a", "set-b", "grpo"))
    mine = plan_file(tmp_path, f'recipe = "grpo"\nseeds = 1\n[arms]\n{arms}\n')

    def chosen(only):
        return list(study_plan(mine, only).variant)

    assert chosen("") == ["set", "set-a", "set-b", "grpo"]
    assert chosen("set") == ["set"], "the name of an arm means that arm"
    assert chosen("set-") == ["set-a", "set-b"] and chosen("grpo, set-b,") == ["set-b", "grpo"]
    assert main(["study", mine, "--only", "sett", "--dry-run"]) == 2
    assert "no variant of mine is called 'sett'" in capsys.readouterr().err


def test_a_plan_of_ones_own_reads_as_it_says(tmp_path):
    mine = plan_file(tmp_path, """
profile = "nano-rare"
set = { beta = 0.0 }
rates = ["1e-3", "2e-3"]
name = "{arm}-{base}-at-{rate}"
eval_every = 5
[arms]
grpo = { seeds = [3] }
careful = { recipe = "hard_sampling", seeds = 2, set = { fresh_demos = false } }
[bases]
easy = { code_rate = 0.5 }
hard = { code_rate = 0 }
""")
    plan = read_plan(mine)
    assert [arm.variant for arm in plan.arms] == [f"{a}-{b}-at-{r}" for b in ("easy", "hard")
                                                  for a in ("grpo", "careful") for r in ("1e-3", "2e-3")]  # fmt: skip
    assert shlex.join(plan.arms[3].command(plan.name, 1, "out")) == (
        "train --recipe hard_sampling --profile nano-rare --learning-rate 2e-3 --model out/bases/easy --eval-every 5 "
        "--seed 1 --set beta=0.0 --set fresh_demos=false --out out/mine/careful-easy-at-2e-3/seed-1"
    )
    assert plan.arms[0].seeds == (3,) and plan.arms[3].seeds == (0, 1) and plan.arms[4].base == {"--code-rate": 0}


@pytest.mark.parametrize("text, told", [
    ("[arms", "mine.toml: "), ("seeds = 1", "no arm below"), ("[arms]\ngrpo = {}", "arm grpo: 'seeds' is missing"),
    ("seeds = 0\n[arms]\ngrpo = {}", "arm grpo: seeds must be"), ("seed = 1\n[arms]\ngrpo = {}", "'seed' is no key"),
    ("seeds = [1, 1]\n[arms]\ngrpo = {}", "different ones"), ("seeds = 1\n[arms]\n'../x' = {}", "cannot be an arm's"),
    ("seeds = 1\n[arms]\ngrpo2 = {}", "arm grpo2: unknown recipe"), ("seeds = '1'\n[arms]\ngrpo = {}", "seeds must be"),
    ("seeds = 1\n[arms]\ngrpo = { set = { betta = 1 } }", "arm grpo: .*betta"),
    ("seeds = 1\n[arms]\ngrpo = { sets = { beta = 1 } }", "'sets' is no key of an arm"),
    ("seeds = 1\nprofile = 'huge'\n[arms]\ngrpo = {}", "arm grpo: unknown profile"),
    ("seeds = 1\nbase = 'b'\n[arms]\ngrpo = {}", "'b' is no entry of .bases."),
    ("seeds = 1\nsearch = 'nowhere'\n[arms]\ngrpo = {}", "unknown study 'nowhere'"),
    ("seeds = 1\nrates = ['1e-3', '2e-3']\n[arms]\ngrpo = {}", "'grpo' is the name of two arms"),
    ("seeds = 1\nname = '{arm}{x}'\n[arms]\ngrpo = {}", "a key has not the form .*'x'"),
    ("arms = 3", "'arms' must be a table"), ("[[arms]]\nrecipe = 'grpo'", "'arms' must be a table"),
    ("seeds = 1\n[arms]\ngrpo = 3", "a key has not the form"),
    ("seeds = 1\n[arms.grpo]\n[[compare]]\ntitle = 'x'", "a key has not the form .*'field'"),
])  # fmt: skip
def test_a_plan_that_cannot_be_run_says_where_it_is_wrong(tmp_path, text, told):
    with pytest.raises(SettingsError, match=told) as error:
        read_plan(plan_file(tmp_path, text))
    assert str(error.value).startswith(str(tmp_path / "mine.toml"))


def test_every_plan_of_the_kit_lists_what_is_compared_as_it_was_run():
    """A value under `compare` is the one its runs were trained with."""
    for plan in map(read_plan, plan_names()):
        for field, _, arms in plan.compare:
            for value, study, variant in arms:
                config = read_json(find_runs(RUNS / study)[variant][0] / "config.json")
                usual = asdict(get_recipe(config["recipe"]["name"]))  # of the first runs, before it had the field
                ran = config["learning_rate"] if field == "learning_rate" else (usual | config["recipe"])[field]
                named = {"fresh": True, "fixed": False}.get(value, value)
                assert str(ran) == str(named) or float(ran) == float(named), (plan.name, field, value)
