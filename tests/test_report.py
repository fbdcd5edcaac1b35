"""README, docs and the committed evidence: nothing typed in, nothing left out."""

import ast
import importlib
import json
import re
import shutil

import pandas as pd
import pytest

from toolexpander_lite.base.collapse import summarize
from toolexpander_lite.base.runs import REPOSITORY, evaluations, find_runs, load_study, read_json, read_log
from toolexpander_lite.studies.report import (
    BEGIN,
    END,
    agreement_line,
    demonstration_lines,
    precision_lines,
    reading_lines,
    rebuild,
    resume_line,
)
from toolexpander_lite.studies.statistics import arms_table, hits

RUNS = REPOSITORY / "assets" / "runs"
# Made where the packed logs of the study had been moved away, and nothing else differed from the commit.
LOGS_MOVED = {f"{commit}-dirty" for commit in ("407f0185841e", "49baaa21eb5b", "a844aeff2c4a", "d42c6b6b15a5")}
STUDIES = sorted(folder.name for folder in RUNS.iterdir())
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_runs_csv_has_a_row_per_run():
    table = pd.read_csv(RUNS.parent / "runs.csv")
    assert len(table) == sum(len(runs) for study in STUDIES for runs in find_runs(RUNS / study).values())
    row = table[(table.study == "nano-ablation") & (table.arm == "set") & (table.seed == 3)].iloc[0]
    run = RUNS / "nano-ablation" / "set" / "seed-3"
    last, told = read_log(run)[-1], read_json(run / "summary.json")
    assert row.tokens == last["prompt_tokens"] + last["completion_tokens"] and row.rollouts == last["rollouts"]
    assert row.few_shot_hard == last["eval"]["few_shot_hard"] and row.zero_shot_hard == told["zero_shot_hard"]
    assert (row.collapsed, row.profile, row.seconds) == (told["collapsed"], "nano-invited", told["seconds"])
    warm = table[table.arm == "warm-start"]
    assert len(warm) == 4 and warm.rollouts.isna().all() and warm.zero_shot.notna().all()
    assert "unknown" not in set(table.commit) and table.commit.notna().all()


def test_readme_results_and_runs_csv_follow_from_the_committed_logs(tmp_path):
    for folder in ("runs", "benchmarks"):
        shutil.copytree(RUNS.parent / folder, tmp_path / "assets" / folder)
    head, tail = README.split(BEGIN)[0], README.split(END)[1]
    (tmp_path / "README.md").write_text(f"{head}{BEGIN}\nan old table\n{END}{tail}", encoding="utf-8")
    written = rebuild(tmp_path)
    pages = [name.relative_to(REPOSITORY) for name in (REPOSITORY / "docs" / "studies").glob("*.md")]
    assert len(pages) > 10
    for page in ("README.md", "docs/results.md", "assets/runs.csv", *pages):
        assert (tmp_path / page).read_bytes() == (REPOSITORY / page).read_bytes(), f"{page}: run `report`"
    assert all(path.stat().st_size > 5000 for path in written if path.suffix == ".png")
    pages = [README, *(page.read_text(encoding="utf-8") for page in (REPOSITORY / "docs").glob("**/*.md"))]
    for name in re.findall(r"\]\((?:\.\./)*(assets/figures/[^)]+)\)", "\n".join(pages)):
        by_hand = name.startswith("assets/figures/shared-prompt-")  # by benchmarks/shared_prompt.py
        assert (REPOSITORY / name).exists() and (by_hand or (tmp_path / name).exists())


@pytest.mark.parametrize("study", STUDIES)
def test_committed_runs_are_complete_and_add_up(study):
    runs = [run for folders in find_runs(RUNS / study).values() for run in folders]
    assert runs
    for run in runs:
        adds_up(run)


def adds_up(run):
    config, told, rows = read_json(run / "config.json"), read_json(run / "summary.json"), read_log(run)
    commit = config["versions"]["git_commit"]
    assert commit and ("dirty" not in commit or commit in LOGS_MOVED)
    assert config["command"].startswith("python -m toolexpander_lite ") and config["base_model_hash"]
    assert [row["step"] for row in rows] == list(range(told["steps"] + 1)), "a step is missing"
    assert told["wall_seconds"] > 0
    if "recipe" in config:  # a GRPO run: its summary is what the code makes of its log
        measured = {"wall_seconds", "hard_rows_before", "hard_rows_after"}  # by the clock, and by scans
        assert summarize(run) == {k: v for k, v in told.items() if k not in measured}
        if config["recipe"].get("scan_rollouts"):
            assert all(0 <= told[name] <= config["train_samples"] for name in measured - {"wall_seconds"})
        group, prompts = config["recipe"]["num_generations"], config["profile"]["prompts_per_step"]
        if config["recipe"].get("equal_rollouts"):
            prompts = prompts * 10 // group
        per_step = group * prompts
        batches = told["steps"] // config["recipe"].get("num_iterations", 1)
        trained = 0 if config["recipe"].get("supervised") else per_step * batches
        assert rows[-1]["rollouts"] == trained + rows[-1].get("scan_rollouts", 0)
    assert not re.search(r"(/root/|/home/|/work/|/Users/|/tmp/)", json.dumps(config))


def test_baseline_study_has_the_seeds_it_must():
    study = load_study(RUNS / "nano-baseline")
    assert study.groupby("variant")["seed"].nunique().min() >= 5
    assert study["learning_rate"].nunique() >= 3 and study["steps"].max() >= 600
    bases = {read_json(run / "config.json")["base_model_hash"] for run in study["run"]}
    assert len(bases) == 1, "all runs start from the one committed base"


def test_the_hard_sampling_study_says_what_the_notebook_tells():
    """The band the study rests on, and its main finding; either may change only with the logs."""
    table = arms_table(RUNS / "nano-hard-sampling").set_index("variant")
    assert table.loc["grpo", "hard"] == 0 and table.loc["hard_sampling-kl0", "low"] > table.loc["grpo", "high"]
    first = read_log(RUNS / "nano-hard-sampling" / "hard_sampling-kl0" / "seed-0")[0]["eval"]
    assert 3e-6 <= first["gold_prob_hard"] <= 3e-5 and first["few_shot_prob_hard"] >= 0.5


@pytest.mark.parametrize("notebook", sorted((REPOSITORY / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem[:2])
def test_what_notebooks_import_exists(notebook):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    code = re.sub(r"^(\s*)[%!].*", r"\1pass", code, flags=re.M)  # a notebook's own commands
    found = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)]
    found = [(node.module, name.name) for node in found for name in node.names if "toolexpander_lite" in node.module]
    assert found
    for module, name in found:
        assert hasattr(importlib.import_module(module), name), f"{module} has no {name}"


def test_wilson_interval_by_hand():
    assert hits(0.375, 24) == "9 of 24 (95 % interval 0.21-0.57)"
    assert hits(0.0, 24) == "0 of 24 (95 % interval 0.00-0.14)"


def test_precision_is_told_by_hand_made_numbers(tmp_path):
    assert precision_lines(tmp_path) == []
    rows = [{"precision": p, "right": right, "questions": 4, "MiB_weights": size, "questions_per_second": 0.5,
             "GiB_peak": {"allocated": 1.04, "reserved": 1.26}}
            for p, right, size in (("float32", ["a", "b"], 512.4), ("4bit", ["b"], 100.0))]  # fmt: skip
    against = {"4bit": {"both": 1, "only_float32": 1, "only_here": 0}}
    told = {"rows": rows, "against_float32": against, "machine": "CPU"}
    (tmp_path / "four_bit.json").write_text(json.dumps(told))
    (line,) = precision_lines(tmp_path)
    assert "float32 2 of 4 (95 % interval 0.15-0.85), 512 MiB of weights, 1.3 GiB at the peak" in line
    assert "4 bits 1 of 4" in line and "1 answers are right only in float32, 0 only in 4 bits" in line


def test_what_a_demonstration_does_is_told_by_hand_made_numbers(tmp_path):
    assert reading_lines(tmp_path) == []
    asked = [("plain", "again", {"bad_json": 19, "ok": 1}), ("plain", "demonstrated", {"ok": 2, "unknown_tool": 18}),
             ("demonstrated", "again", {"unknown_tool": 10}), ("demonstrated", "demonstrated", {"ok": 10})]  # fmt: skip
    rows = [{"policy": policy, "asked": way, "reasons": reasons} for policy, way, reasons in asked]
    (tmp_path / "demonstrations.json").write_text(json.dumps({"rows": rows}))
    plain, demonstrated = reading_lines(tmp_path)[0].split(" Warm-started on rows with a demonstration, too: ")
    assert plain.endswith(
        "Warm-started on zero-shot rows: with a demonstration 18 of 20 rollouts call a tool that the row does not "
        "have and 2 are right; zero-shot again 0 and 1."
    )
    assert demonstrated.startswith("with a demonstration 0 of 10 rollouts") and demonstrated.endswith("again 10 and 0.")


def test_what_became_of_demonstrated_rollouts_is_counted_by_hand(tmp_path):
    run = tmp_path / "arms" / "toolexpander" / "seed-0"
    run.mkdir(parents=True)
    (run / "summary.json").write_text("{}")
    assert demonstration_lines(tmp_path / "arms") == [], "a run without its rollouts"
    groups = [("plain", {"ok": 10}), ("plain", {"unknown_tool": 1, "bad_json": 9}), ("plain", {"wrong_argument": 10}),
              ("demonstrated", {"ok": 2, "unknown_tool": 8}), ("demonstrated", {"unknown_tool": 10})]  # fmt: skip
    rows = (json.dumps({"step": n, "served": served, "reasons": reasons}) for n, (served, reasons) in enumerate(groups))
    (run / "rollouts.jsonl").write_text("\n".join(rows) + "\n")
    (line,) = demonstration_lines(tmp_path / "arms")
    assert "2 of 20 are right, and 18 of 20 call a tool that is not on offer" in line
    assert "of zero-shot rollouts of hard samples 1 of 20 do" in line


def test_a_run_that_was_resumed_to_another_score_is_told(tmp_path):
    found = json.loads((RUNS.parent / "benchmarks" / "bfcl_resume.json").read_text())
    assert resume_line(RUNS.parent / "benchmarks").endswith(
        "3,491 answers are the same, the scores too. (It is right on 1 of the 2,367 that want a call: what is compared "
        "is every word of its answers.)"
    )
    (tmp_path / "bfcl_resume.json").write_text(json.dumps(found | {"same_answers": 3490, "same_scores": False}))
    assert resume_line(tmp_path).split(" (It is right")[0].endswith("3,490 answers are the same, the scores are NOT.")


def test_answers_that_models_wrote_stand_beside_the_mutated_ones(tmp_path):
    found = json.loads((RUNS.parent / "benchmarks" / "bfcl_agreement.json").read_text())
    for models, words in (("not run", None), ({"answers": 1200, "with_a_readable_call": 900, "agreed": 1190, "causes": {
            "loose_text": {"answers": 10, "explanation": ""}}, "by_kind": {"a": {}, "b": {}}, "questions": 600,
            "disagreements": {"a: loose_text": "q1 q2 q3 q4 q5", "b: loose_text": "q1 q2 q3 q4 q6"}},
            "2 models answered 600 questions; of their 900 answers with a call that can be read (of 1,200; the others "
            "are wrong to both) the two judge 10 differently (loose text 10), on 6 of the questions.")):  # fmt: skip
        (tmp_path / "bfcl_agreement.json").write_text(json.dumps(found | {"models": models}))
        line = agreement_line(tmp_path)
        assert words in line if words else "models answered" not in line


def test_one_setting_per_variant():
    for _, runs in load_study(RUNS / "nano-baseline").groupby("variant"):
        assert all(runs[name].nunique() == 1 for name in ("learning_rate", "steps", "rollouts"))


def test_smol_runs_show_the_score_before_and_after():
    for variant, folders in find_runs(RUNS / "smol").items():
        for folder in folders:
            assert len(evaluations(read_log(folder))) >= 2, variant
    warm = read_json(RUNS / "smol" / "warm-start" / "seed-0" / "summary.json")
    assert {"zero_shot_before", "zero_shot", "seconds"} <= set(warm)


def test_the_precision_of_every_run_of_the_real_study_is_told():
    """All seeds of an arm in float32, all but the first, or none: as its page says."""
    page = (REPOSITORY / "docs" / "studies" / "real-requests.md").read_text(encoding="utf-8")
    [told] = re.findall(r"Computed in float32: (.*?); the other runs", page)
    all_of, _, rest = told.partition("and all but the first seed of")
    always, later = (set(re.findall(r"`(.+?)`", part)) for part in (all_of, rest))
    for arm, folders in find_runs(RUNS / "real-requests").items():
        full = [not read_json(folder / "config.json")["trainer"]["bf16"] for folder in folders]
        wanted = [arm in always, *[arm in always | later] * (len(full) - 1)]
        assert full == wanted, arm
