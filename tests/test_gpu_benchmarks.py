"""The GPU scripts, as far as a CPU can tell: rows, sizes, crash isolation, resuming, budgets and the fit table."""

import importlib.util
import json
import random
import sys
import types

import pytest

from toolexpander_lite.__main__ import _parser
from toolexpander_lite.models import load_policy
from toolexpander_lite.nano_policy import build_tokenizer
from toolexpander_lite.profiles import get_profile
from toolexpander_lite.prompts import render_prompt
from toolexpander_lite.runs import REPOSITORY, read_jsonl
from toolexpander_lite.splits import load_splits


def load_script(name):
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fit, smol, four_bit = load_script("gpu_fit"), load_script("smol_runs"), load_script("four_bit")
ROW = {"model": "tiny", "weights": "bf16 LoRA", "group": 4, "prompt": 64, "completion": 8, "hard": False}


def test_rows_are_all_that_was_asked_for():
    rows = fit.fit_rows()
    plain = {(r["model"], r["weights"], r["group"], r["prompt"], r["completion"]) for r in rows if not r["hard"]}
    assert len(plain) == 4 * 2 * 2 * 2 and len(rows) == len(plain) + 4 * 2 * 2
    assert all(r["group"] == 10 for r in rows if r["hard"])
    assert [r.keys() for r in rows] == [ROW.keys()] * len(rows)


@pytest.mark.parametrize("length", [64, 512])
def test_prompts_have_exactly_their_length_and_demonstrations_theirs(length):
    tokenizer = build_tokenizer()
    samples, bank = fit.fit_samples(tokenizer, length)
    assert {len(tokenizer(render_prompt(s, tokenizer)).input_ids) for s in samples} == {length}
    shown = [bank.choose(s, 1, random.Random(0)) for s in samples]
    longer = {len(tokenizer(render_prompt(s, tokenizer, d)).input_ids) - length for s, d in zip(samples, shown) if d}
    assert longer and all(fit.DEMO_TOKENS <= n <= fit.DEMO_TOKENS + 8 for n in longer), "turn markers on top"


@pytest.mark.parametrize("hard", [False, True])
def test_a_tiny_row_is_measured_by_the_code_of_the_large_ones(hard, tmp_path):
    row = ROW | {"hard": hard, "group": 10 if hard else 4}
    result = fit.measure(row, fit.make_model("tiny", tmp_path), steps=2)
    assert result["result"] == "FIT" and result["random_weights"] is True and len(result["seconds"]) == 2
    assert result["completion_tokens"] == 8 and result["seconds_per_step"] > 0
    assert result["prompt_tokens"] == 64 if not hard else result["prompt_tokens"] >= 64 + fit.DEMO_TOKENS
    assert fit.make_model("tiny", tmp_path) == tmp_path / "tiny" and json.dumps(result)


def stand_in(tmp_path, monkeypatch, text):
    """Let rows run this script in place of the real one."""
    script = tmp_path / "stand_in.py"
    script.write_text("import sys, time\n" + text)
    monkeypatch.setattr(fit, "__file__", str(script))


@pytest.mark.parametrize(
    "text, result, error",
    [
        ("print('noise'); print('{\"result\": \"FIT\"}')", "FIT", None),
        ("sys.exit('CUDA error: out of memory at line 3')", "OOM", "CUDA error: out of memory at line 3"),
        ("import os; os.abort()", "ERROR", "ended with code -6"),
        ("raise ValueError('odd')", "ERROR", "ValueError: odd"),
        ("time.sleep(60)", "ERROR", "not done after 1 s"),
        ("print('no json')", "ERROR", "ended with code 0"),
    ],
)
def test_a_row_that_breaks_is_only_a_row(text, result, error, tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, text)
    found = fit.run_row(ROW, tmp_path, timeout=1 if "sleep" in text else 60, steps=2)
    assert found["result"] == result and found.get("error") == error and found.items() >= ROW.items()


def test_rows_that_are_there_are_skipped_and_a_cut_line_is_measured_again(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, "print('{\"result\": \"FIT\"}')")
    out = tmp_path / "deep" / "rows.jsonl"
    rows = [ROW, ROW | {"group": 10}, ROW | {"prompt": 96}]
    out.parent.mkdir()
    out.write_text(json.dumps(ROW | {"result": "OOM"}) + "\n" + '{"model": "ti')
    assert fit.measure_all(rows, out, tmp_path, minutes=0, timeout=60, steps=2) == 2
    assert fit.measure_all(rows, out, tmp_path, minutes=5, timeout=60, steps=2) == 0
    assert [(r["group"], r["prompt"], r["result"]) for r in read_jsonl(out)] == [
        (4, 64, "OOM"), (10, 64, "FIT"), (4, 96, "FIT")
    ]  # fmt: skip


def test_a_row_cut_by_the_end_of_the_budget_is_not_an_error(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, "time.sleep(60)")
    out = tmp_path / "rows.jsonl"
    assert fit.measure_all([ROW], out, tmp_path, minutes=0.01, timeout=60, steps=2) == 1 and not out.read_text()


def on_gpu(allocated, reserved, loading=1.0, **changes):
    return ROW | {"model": "1.5B", "result": "FIT", "seconds_per_step": 2.34, "machine": "GPU",
                  "memory": {"allocated": allocated, "reserved": reserved},
                  "memory_after_loading": {"allocated": loading, "reserved": loading}} | changes  # fmt: skip


def test_the_t4_column_by_hand():
    assert fit.on_t4(on_gpu(9.0, 13.9)) == "yes"
    assert fit.on_t4(on_gpu(9.0, 14.1)) == "close"
    assert fit.on_t4(on_gpu(14.1, 16.0)) == "no"
    assert fit.on_t4(on_gpu(9.0, 10.0, loading=15.0)) == "no", "the model must be loaded too"
    assert fit.on_t4(ROW | {"result": "FIT", "memory": {"rss": 1.0}}) == ""
    assert fit.on_t4(ROW | {"result": "OOM"}) == ""


def test_fit_table_lists_every_row_smallest_model_first():
    oom = ROW | {"model": "7B", "result": "OOM", "error": "x"}
    lines = fit.fit_table([oom, on_gpu(9.0, 13.9)]).splitlines()
    assert lines[0].startswith("Random weights") and "machine: GPU" in lines[0] and "no T4 was run" in lines[0]
    assert lines[-2:] == [
        "| 1.5B | bf16 LoRA | 4 | 64 + 8 | no | FIT | 9.0-13.9 | 2.3 | yes |",
        "| 7B | bf16 LoRA | 4 | 64 + 8 | no | OOM |  |  |  |",
    ]


def calls_of(monkeypatch, tmp_path, *words, fail=()):
    """Run smol_runs with commands that only leave what they would leave -> (exit code, the commands)."""
    made = []

    def call(command, log):
        made.append(list(map(str, command)))
        options = dict(zip(made[-1], made[-1][1:]))
        run = smol.Path(options["--out"])
        (run / "final").mkdir(parents=True, exist_ok=True)
        steps = int(options.get("--steps", 1))
        (run / "checkpoints" / f"checkpoint-{steps}").mkdir(parents=True, exist_ok=True)
        (run / "summary.json").write_text(json.dumps({"steps": steps}))
        return int(made[-1][0] in fail)

    monkeypatch.setattr(smol, "call", call)
    monkeypatch.setattr(smol.Plan, "evaluate", lambda self, *model: "done")
    monkeypatch.setattr(sys, "argv", ["smol_runs.py", "--recipes", "grpo,hint", "--out", str(tmp_path), *words])
    return smol.main(), made


def test_arms_and_seeds_start_from_one_warm_start_and_end_at_their_steps(monkeypatch, tmp_path, capsys):
    code, made = calls_of(monkeypatch, tmp_path, "--seeds", "1,2", "--model", "m", "--steps", "50")
    assert code == 0 and "all is there" in capsys.readouterr().out
    assert made[0][:5] == ["warm-start", "--profile", "smol", "--model", "m"]
    trained = [dict(zip(words, words[1:])) for words in made[1:]]
    assert {(o["--recipe"], o["--seed"]) for o in trained} == {(r, s) for r in ("grpo", "hint") for s in "12"}
    assert {o["--model"] for o in trained} == {str(tmp_path / "warm-start" / "seed-1" / "final")}
    assert all(words[-1] == "--resume" for words in made[1:])
    assert [o["--steps"] for o in trained if (o["--recipe"], o["--seed"]) == ("hint", "2")] == ["20", "50"]
    assert calls_of(monkeypatch, tmp_path, "--seeds", "1,2", "--model", "m", "--steps", "50") == (0, []), "done"


def test_no_time_starts_nothing_and_says_so(monkeypatch, tmp_path, capsys):
    code, made = calls_of(monkeypatch, tmp_path, "--minutes", "0", "--warm-start-steps", "0")
    assert (code, made) == (0, []) and "call this again to go on" in capsys.readouterr().out


def test_a_run_that_was_killed_goes_on_from_its_checkpoint(monkeypatch, tmp_path):
    (tmp_path / "grpo" / "seed-0" / "checkpoints" / "checkpoint-280").mkdir(parents=True)
    words = ("--seeds", "0", "--recipes", "grpo", "--warm-start-steps", "0")
    assert [w[w.index("--steps") + 1] for w in calls_of(monkeypatch, tmp_path, *words)[1]] == ["300"]


def test_what_cannot_be_run_is_one_line(monkeypatch, tmp_path, capsys):
    assert calls_of(monkeypatch, tmp_path, "--recipes", "grpo,gpro") == (2, [])
    assert capsys.readouterr().err.startswith("error: unknown recipe 'gpro'; choose one of grpo")
    assert calls_of(monkeypatch, tmp_path, fail=["warm-start"])[0] == 2
    assert "the warm start failed" in capsys.readouterr().err
    (tmp_path / "warm-start" / "seed-0" / "final").rmdir()
    assert calls_of(monkeypatch, tmp_path) == (2, [])
    assert "has no weights" in capsys.readouterr().err
    assert calls_of(monkeypatch, tmp_path / "b", "--seeds", "0", fail=["train"])[0] == 1


def test_every_model_is_scored_on_what_was_asked_for_and_what_is_there_is_not_asked_again(monkeypatch, tmp_path):
    made, ran = [], []

    def call(words, log):
        made.append(list(map(str, words)))
        out = smol.Path(made[-1][made[-1].index("--out") + 1])
        file = out if out.suffix else out / "scores.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}")
        return 0

    def run(line, **options):
        ran.append(list(map(str, line[3:])))
        return types.SimpleNamespace(returncode=0, stdout='{"zero_shot": 0.5}')

    monkeypatch.setattr(smol, "call", call)
    monkeypatch.setattr(smol.subprocess, "run", run)
    monkeypatch.setattr(smol.Plan, "train", lambda *run: "done")
    for arm in ("grpo", "toolexpander"):
        (tmp_path / arm / "seed-0" / "final").mkdir(parents=True)
    words = "--warm-start-steps 0 --seeds 0 --model m --limit 3 --api-bank rows.json --profile smol-cpu --out"
    monkeypatch.setattr(sys, "argv", ["smol_runs.py", *words.split(), str(tmp_path)])
    assert smol.main() == 0
    scored = {folder.name for folder in (tmp_path / "evaluations").iterdir()}
    arms = {"grpo-seed-0", "toolexpander-seed-0", "toolexpander-seed-0-plain"}
    assert scored == {"base", "warm-start-seed-0"} | arms
    # Without a warm start both are the model itself, but each name is scored.
    assert len(ran) == len(scored) and len(made) == 3 * len(scored)
    invited = [words for words in made + ran if "--invite" in words]
    assert {words[words.index("--model") + 1] for words in invited} == {str(tmp_path / "toolexpander/seed-0/final")}
    assert len(invited) == 4
    parser = _parser()
    for words in made + ran:
        arguments = parser.parse_args(words)  # what is asked exists
        assert arguments.profile == "smol-cpu"
        assert arguments.command == "evaluate" or arguments.limit == 3
    assert json.loads((tmp_path / "evaluations" / "base" / "held_out.json").read_text())["zero_shot"] == 0.5
    made.clear(), ran.clear()
    assert smol.main() == 0 and not made and not ran


def test_an_unknown_benchmark_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["smol_runs.py", "--out", str(tmp_path), "--benchmarks", "bfcl,bfl"])
    with pytest.raises(SystemExit):
        smol.main()
    assert "--benchmarks: bfl; choose of bfcl, api-bank, executed" in capsys.readouterr().err


def test_precisions_are_compared_on_the_same_questions():
    rows = [{"precision": "float32", "right": ["a", "b", "c"]}, {"precision": "4bit", "right": ["b", "d"]}]
    assert four_bit.compare(rows) == {"4bit": {"both": 1, "only_float32": 2, "only_here": 1}}


def test_a_precision_is_measured_on_questions_that_nothing_trained_on():
    profile = get_profile("nano", eval_prompts=1, train_prompts=2)
    row = four_bit.measure("float32", profile, 0, 3)
    model, tokenizer = load_policy(profile)
    asked = four_bit.questions(profile, 0, tokenizer)
    trained_on = {s.id for s in load_splits(profile, 0, tokenizer).train}
    assert not trained_on & {s.id for s in asked} and {s.split for s in asked} == {"train", "test"}
    assert row["questions"] == 3 and set(row["right"]) <= {s.id for s in asked[:3]}
    assert row["MiB_weights"] == pytest.approx(4 * model.num_parameters() / 2**20, abs=0.06)
    half = four_bit.measure("bfloat16", get_profile(profile, lora_rank=4), 0, 1)
    assert half["MiB_weights"] < row["MiB_weights"] < half["MiB_peak"]
    packed = four_bit.measure("4bit", get_profile(profile, lora_rank=4), 0, 1)
    assert packed["MiB_weights"] < half["MiB_weights"] and packed["weights"] != half["weights"]


def test_the_guide_names_options_that_exist_and_no_place():
    text = (REPOSITORY / "benchmarks" / "README.md").read_text()
    for name in ("gpu_fit", "smol_runs"):
        script = (REPOSITORY / "benchmarks" / f"{name}.py").read_text()
        for line in text.splitlines():
            if f"python benchmarks/{name}.py" in line:
                command = line.split(f"{name}.py")[1].split(";")[0]
                assert all(f'"{word}"' in script for word in command.split() if word.startswith("--")), line
    assert not any(place in text for place in ("/work", "/root", "/tmp", "http"))
