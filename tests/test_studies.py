"""Studies: what is run, at which rate, and how sure the means are."""

import json
import math
import shlex
from dataclasses import asdict, fields
from subprocess import CompletedProcess

import pytest

from toolexpander_lite.__main__ import _parser, main
from toolexpander_lite.base.errors import RunError
from toolexpander_lite.base.intervals import bootstrap_interval, paired_difference
from toolexpander_lite.base.runs import REPOSITORY, find_runs, has_seeds, read_json, rollouts_to
from toolexpander_lite.method.recipes import Recipe, get_recipe, parse_settings
from toolexpander_lite.studies import arms
from toolexpander_lite.studies import runner as studies
from toolexpander_lite.studies.arms import Arm, chosen_rates, search_table
from toolexpander_lite.studies.report import arms_table, time_to
from toolexpander_lite.studies.runner import reproduce_command, study_plan
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.resume import check_folder

RUNS = REPOSITORY / "assets" / "runs"


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
        "completion_tokens": 10, "prompt_tokens": 20, "seconds": 5.0,
    }))  # fmt: skip
    return run


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
        for seed, at in zip(arms.SEARCH_SEEDS, reached):
            curve = [(0, 0.0), *([(at, 0.95)] if at else [])]
            fake_run(tmp_path / f"grpo-lr{rate}", seed, 1.0 if at else 0.8, float(rate), curve)
    table = search_table(tmp_path).set_index("learning_rate")
    assert table.spent.to_dict() == {6e-4: 12000, 1e-3: 5600, 2e-3: 12000}, "the whole run where 0.9 is never reached"
    assert chosen_rates(tmp_path) == {"grpo": "0.001"}


def test_the_ablations_search_has_rates_of_its_own(tmp_path):
    folder = tmp_path / "nano-ablation-search"
    for rate in arms.ABLATION_RATES:
        for seed in arms.SEARCH_SEEDS:
            fake_run(folder / f"set-lr{rate}", seed, float(rate) * 1000, float(rate))
    assert chosen_rates(folder) == {"set": "0.001"}
    planned = {arm.options["--learning-rate"] for arm in arms.STUDIES["nano-ablation-search"]()}
    assert planned == set(arms.ABLATION_RATES) and "2e-3" not in planned


def test_search_takes_the_best_mean_and_of_equals_the_lower_rate(tmp_path):
    for name, scores in {"grpo": {"6e-4": (0.1, 0.3), "1e-3": (0.3, 0.1), "2e-3": (0.0, 0.3)},
                         "hint": {"6e-4": (0.0, 0.9), "1e-3": (0.5, 0.5), "2e-3": (0.0, 0.0)},
                         "greso": {"6e-4": (0.5, 0.5), "1e-3": (0.4, 0.4)}}.items():  # fmt: skip
        for rate, values in scores.items():
            for seed, value in zip(arms.SEARCH_SEEDS, values):
                fake_run(tmp_path / f"{name}-lr{rate}", seed, value, float(rate))
    fake_run(tmp_path / "grpo-lr4e-3", 100, 1.0, 4e-3)
    assert len(search_table(tmp_path)) == 8, "a rate without all search seeds does not count"
    assert chosen_rates(tmp_path) == {"grpo": "0.0006", "hint": "0.001"}, "greso's search is not complete"


def test_arms_table_by_hand(tmp_path):
    for seed in range(3):
        fake_run(tmp_path / "grpo", seed, 0.0)
    fake_run(tmp_path / "hard_sampling", 0, 1.0, curve=[(0, 0.0), (8000, 0.95)])
    fake_run(tmp_path / "hard_sampling", 1, 0.5)
    table = arms_table(tmp_path).set_index("variant")
    ours = table.loc["hard_sampling"]
    assert list(table.index) == ["hard_sampling", "grpo"], "best first"
    assert (ours.hard, ours.worst, ours.solved, ours.seeds, ours["to_0.9"], ours.gain) == (0.75, 0.5, 1, 2, 8000, 0.75)
    assert (ours.low, ours.high, ours.gain_low, ours.gain_high) == (0.5, 1.0, 0.5, 1.0)
    rows = table.assign(variant=table.index).to_dict("index")
    assert time_to(rows["hard_sampling"]) == "8,000 (1 of 2)" and time_to(rows["grpo"]) == "never"
    assert time_to(rows["hard_sampling"] | {"reached": 2}) == "8,000"
    assert has_seeds(tmp_path, ["grpo"], 3) and not has_seeds(tmp_path, ["grpo", "hard_sampling"], 3)
    assert not has_seeds(tmp_path, ["grpo", "set"], 1)
    assert table.loc["grpo", "gain"] == 0 and math.isnan(table.loc["grpo", "to_0.9"])
    assert rollouts_to(tmp_path / "grpo" / "seed-0", 0.9) is None


def recipe_of(command):
    """The `Recipe` a committed command trains."""
    arguments = _parser().parse_args(command)
    changes = {n: getattr(arguments, n) for n in ("learning_rate", "beta", "num_generations") if getattr(arguments, n)}
    return get_recipe(arguments.recipe, **changes, **parse_settings(Recipe, arguments.set))


@pytest.mark.parametrize("study", arms.STUDIES)
def test_committed_runs_are_what_the_study_says(study):
    wanted_arms = {arm.variant: arm for arm in studies.study_arms(study)}
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
            assert config["learning_rate"] == (wanted.learning_rate or get_profile("nano").learning_rate)
            assert config["seed"] in wanted_arms[variant].seeds
            assert config["profile"]["steps"] == (600 if study == "nano-ablation-long" else 120)
            assert config["profile"]["name"] == wanted_arms[variant].profile
            assert config["profile"].get("eval_split") == ("validation" if study.endswith("-search") else "test")


def test_all_arms_of_a_seed_start_from_one_base_and_see_the_same_number_of_rollouts():
    bases, rollouts = set(), {}
    for variant, runs in find_runs(RUNS / "nano-hard-sampling").items():
        for run in runs:
            bases.add(read_json(run / "config.json")["base_model_hash"])
            rollouts.setdefault(variant, set()).add(read_json(run / "summary.json")["rollouts"])
    assert len(bases) == 1
    for variant, counts in rollouts.items():
        assert counts == {61440 if variant == "rollouts_32_equal_prompts" else 19200}, variant


def test_plan_names_what_is_there_and_the_command(capsys):
    plan = study_plan("nano-lr-search", only="hint-lr")
    assert len(plan) == len(arms.SEARCH_RATES) * len(arms.SEARCH_SEEDS)
    assert main(["study", "nano-lr-search", "--only", "hint-lr1e-3", "--dry-run"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2 and printed[0].startswith("python -m toolexpander_lite train --recipe hint")
    assert main(["study", "nano-nothing"]) == 2
    assert "unknown study 'nano-nothing'" in capsys.readouterr().err


def test_an_arm_whose_rate_was_not_searched_waits(monkeypatch, capsys):
    arm = Arm("new", "grpo", (0,), {}, {"--learning-rate": None})
    monkeypatch.setitem(arms.STUDIES, "mine", lambda: [arm])
    assert main(["study", "mine", "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("# new seed 0: waits for its learning rate")
    told = []
    studies.run_study("mine", progress=told.append)
    assert told == ["mine: 0 of 1 runs are there",
                    "  no learning rate yet for new; run its search first, see `arms`"]  # fmt: skip


def test_study_makes_what_is_missing_keeps_logs_only_and_reports_a_failure(monkeypatch, tmp_path):
    mine = [Arm("works", "grpo", (0,), {}, {"--steps": 1}), Arm("fails", "no_such_recipe", (0,))]
    monkeypatch.setitem(arms.STUDIES, "mine", lambda: mine)
    monkeypatch.setattr(studies, "REPOSITORY", tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    told = []
    with pytest.raises(RunError, match="some runs of mine failed"):
        studies.run_study("mine", progress=told.append)
    run = tmp_path / "assets" / "runs" / "mine" / "works" / "seed-0"
    assert {p.name for p in run.iterdir()} == {"config.json", "log.jsonl", "summary.json"}
    assert any("fails seed 0 FAILED" in line and "no_such_recipe" in line for line in told)
    studies.run_study("mine", only="works", progress=told.append)
    assert told[-1] == "mine: 1 of 1 runs are there"


def test_studies_run_seed_by_seed_so_that_one_that_is_cut_has_something_of_every_arm(monkeypatch, tmp_path):
    monkeypatch.setitem(arms.STUDIES, "mine", lambda: [Arm("a", "grpo", (0, 1)), Arm("b", "grpo", (0, 2))])
    monkeypatch.setattr(studies, "REPOSITORY", tmp_path)
    monkeypatch.setattr(studies.subprocess, "run", lambda *a, **o: CompletedProcess(a, 1, "", "cut"))
    told = []
    with pytest.raises(RunError):
        studies.run_study("mine", progress=told.append)
    assert [line.split(" FAILED")[0].strip() for line in told[1:]] == ["a seed 0", "b seed 0", "a seed 1", "b seed 2"]


def test_a_base_policy_is_built_once_and_before_the_runs_that_need_it(monkeypatch, tmp_path):
    base = {"--code-rate": 0.2}
    mine = [Arm(name, "grpo", (0,), {}, {"--model": "out/base"}, base) for name in ("a", "b")]
    monkeypatch.setitem(arms.STUDIES, "mine", lambda: mine)
    monkeypatch.setattr(studies, "REPOSITORY", tmp_path)
    called, told, returncode = [], [], 0

    def run(words, **_):
        called.append(words[3:])
        return CompletedProcess(words, returncode or words[3] == "train", "", "no room")

    monkeypatch.setattr(studies.subprocess, "run", run)
    with pytest.raises(RunError, match="some runs of mine failed"):
        studies.run_study("mine", progress=told.append)
    assert called[0] == ["nano-policy", "--code-rate", "0.2", "--out", "out/base"]
    assert [words[0] for words in called[1:]] == ["train", "train"]

    called.clear()
    returncode = 1
    with pytest.raises(RunError, match="a base policy of mine could not be built"):
        studies.run_study("mine", progress=told.append)
    assert len(called) == 1 and told[-1] == "  out/base could not be built: no room"

    called.clear()
    (tmp_path / "out" / "base").mkdir(parents=True)
    (tmp_path / "out" / "base" / "tokenizer.json").touch()
    with pytest.raises(RunError, match="some runs of mine failed"):
        studies.run_study("mine", progress=told.append)
    assert [words[0] for words in called] == ["train", "train"]


def test_another_folder_gets_a_second_set_of_runs_from_the_same_base_policies(monkeypatch, tmp_path):
    mine = [Arm("a", "grpo", (0, 1), {}, {"--model": "out/base"}, {"--code-rate": 0.2})]
    monkeypatch.setitem(arms.STUDIES, "mine", lambda: mine)
    monkeypatch.setattr(studies, "REPOSITORY", tmp_path)
    for seed in (0, 1):
        fake_run(tmp_path / "assets" / "runs" / "mine" / "a", seed, 0.5)
    fake_run(tmp_path / "out" / "again" / "mine" / "a", 0, 0.5)
    assert study_plan("mine").complete.all()
    assert list(study_plan("mine", runs="out/again").complete) == [True, False]
    called = []

    def run(words, **_):
        called.append(words[3:])
        return CompletedProcess(words, words[3] == "train", "", "no room")

    monkeypatch.setattr(studies.subprocess, "run", run)
    with pytest.raises(RunError, match="some runs of mine failed"):
        studies.run_study("mine", progress=lambda _: None, runs="out/again")
    assert [words[-2:] for words in called] == [["--out", "out/base"], ["--out", "out/again/mine/a/seed-1"]]


def test_only_takes_whole_names_or_beginnings(monkeypatch, capsys):
    monkeypatch.setitem(arms.STUDIES, "mine", lambda: [Arm(n, "grpo", (0,)) for n in ("set", "set-a", "set-b", "grpo")])

    def chosen(only):
        return list(study_plan("mine", only).variant)

    assert chosen("") == ["set", "set-a", "set-b", "grpo"]
    assert chosen("set") == ["set"], "the name of an arm means that arm"
    assert chosen("set-") == ["set-a", "set-b"] and chosen("grpo, set-b,") == ["set-b", "grpo"]
    assert main(["study", "mine", "--only", "sett", "--dry-run"]) == 2
    assert "no variant of mine is called 'sett'" in capsys.readouterr().err


def test_status_counts_runs_and_hours(monkeypatch, tmp_path):
    monkeypatch.setitem(arms.STUDIES, "mine", lambda: [Arm("a", "grpo", (0, 1)), Arm("b", "grpo", (0,))])
    monkeypatch.setitem(arms.STUDIES, "new", lambda: [Arm("a", "grpo", (0,), {}, {"--steps": 600})])
    monkeypatch.setattr(studies, "REPOSITORY", tmp_path)
    assert math.isnan(studies.study_status(["new"]).hours_to_run[0]), "nothing to guess from"
    for folder, seconds in (("mine", 720), ("nano-hard-sampling", 360)):
        run = fake_run(tmp_path / "assets" / "runs" / folder / "a", 0, 0.5)
        summary = read_json(run / "summary.json")
        (run / "summary.json").write_text(json.dumps(summary | {"seconds": seconds, "steps": 120}))
    mine, new = studies.study_status(["mine", "new"]).itertuples()
    assert (mine.arms, mine.planned, mine.there, mine.hours_there) == (2, 3, 1, 0.2)
    assert mine.hours_to_run == pytest.approx(2 * 0.2)
    assert (new.there, new.hours_there) == (0, 0) and new.hours_to_run == pytest.approx(5 * 0.1), "five times the steps"


def test_a_row_on_record_is_reproduced_in_a_folder_of_its_own(tmp_path):
    for study in sorted(path.name for path in RUNS.iterdir()):
        for variant, runs in find_runs(RUNS / study).items():
            command = reproduce_command(RUNS / study, variant, tmp_path)
            words = shlex.split(command)[3:]
            if words[0] != "train":
                continue
            arguments = _parser().parse_args(words)
            assert arguments.out == f"{tmp_path}/{study}/{variant}/{runs[0].name}" and not arguments.resume
            check_folder(arguments.out, {}, resume=False)  # raises where a run lies already
    assert "--out out/again/nano-baseline/" in reproduce_command(RUNS / "nano-baseline", "grpo-lr1e-3")
    with pytest.raises(RunError, match="no complete run of 'nobody'"):
        reproduce_command(RUNS / "nano-baseline", "nobody")
