"""The GPU scripts, as far as a CPU can tell: rows, sizes, crash isolation, resuming, budgets and the fit table."""

import importlib.util
import json
import random
import sys
import types
from dataclasses import replace

import pytest

from toolexpander_lite.__main__ import _parser
from toolexpander_lite.base.runs import REPOSITORY, read_jsonl
from toolexpander_lite.method.prompts import gold_completion, render_prompt
from toolexpander_lite.method.samples import ToolSample
from toolexpander_lite.models.hardware import Hardware
from toolexpander_lite.models.policy import load_policy
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.splits import load_splits
from toolexpander_lite.variants.other_demonstrations import VariantBank
from toolexpander_lite.worlds.nano_policy import build_tokenizer
from toolexpander_lite.worlds.nano_world import nano_samples


def load_script(name):
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fit, smol, four_bit = load_script("gpu_fit"), load_script("smol_runs"), load_script("four_bit")
demonstrations = load_script("demonstrations")
ROW = {"profile": "", "model": "tiny", "weights": "bf16 LoRA", "group": 4, "prompt": 64, "completion": 8, "hard": False,
       "shared": False}  # fmt: skip


def test_rows_are_all_that_was_asked_for():
    rows = fit.fit_rows()
    assert all(r["profile"] for r in rows[:8]) and not any(r["profile"] for r in rows[8:])
    rows = rows[8:]
    plain = {(r["model"], r["weights"], r["group"], r["prompt"], r["completion"]) for r in rows if not r["hard"]}
    assert len(plain) == 4 * 2 * 2 * 2 and len(rows) == 2 * (len(plain) + 4 * 2 * 2)
    assert all(r["group"] == 10 for r in rows if r["hard"])
    assert [r.keys() for r in rows] == [ROW.keys()] * len(rows)


def test_the_first_rows_are_the_profiles_as_they_are(monkeypatch, tmp_path):
    profiles = []

    def stop(profile):
        profiles.append(profile)
        raise RuntimeError("far enough")

    monkeypatch.setattr(fit, "load_policy", stop)
    for row in fit.fit_rows()[:8]:
        with pytest.raises(RuntimeError, match="far enough"):
            fit.measure(row, tmp_path, steps=2)
        whole = get_profile(row["profile"])
        assert profiles[-1] == get_profile(whole, model=str(tmp_path), data="nano", share_prompts=row["shared"])
        assert row["model"] in whole.model and (row["weights"], whole.quantization) == ("4-bit QLoRA", "4bit")
        assert row["group"] == 10
    assert [(p.name, p.prompts_per_step) for p in profiles] == [("t4", 4)] * 4 + [("gpu24", 8)] * 4


@pytest.mark.parametrize("length", [64, 512])
def test_prompts_have_exactly_their_length_and_demonstrations_theirs(length):
    tokenizer = build_tokenizer()
    samples, bank = fit.fit_samples(tokenizer, length)
    assert {len(tokenizer(render_prompt(s, tokenizer)).input_ids) for s in samples} == {length}
    shown = [bank.choose(s, 1, random.Random(0)) for s in samples]
    longer = {len(tokenizer(render_prompt(s, tokenizer, d)).input_ids) - length for s, d in zip(samples, shown) if d}
    assert longer and all(fit.DEMO_TOKENS <= n <= fit.DEMO_TOKENS + 8 for n in longer), "turn markers on top"


TINY = fit.fit_rows(tiny=True)


@pytest.mark.parametrize(
    "row, longer, rollouts",
    [
        (ROW, 0, (1, 2)),
        (ROW | {"hard": True, "group": 10}, fit.DEMO_TOKENS, (1, 2)),
        (ROW | {"weights": "4-bit QLoRA"}, 0, (1, 2)),
        (TINY[3], get_profile("t4").demo_room - fit.MARKERS, (4, 40)),
        (TINY[5], 0, (8, 40)),
    ],
)
def test_a_tiny_row_is_measured_by_the_code_of_the_large_ones(row, longer, rollouts, tmp_path):
    if row["weights"] == "4-bit QLoRA":
        pytest.importorskip("bitsandbytes")
    result = fit.measure(row, fit.make_model("tiny", tmp_path), steps=2)
    assert result["result"] == "FIT" and result["random_weights"] is True and len(result["seconds"]) == 2
    assert result["completion_tokens"] == row["completion"] and result["seconds_per_step"] > 0
    assert longer <= result["prompt_tokens"] - row["prompt"] <= (longer and longer + fit.MARKERS)
    assert (result["settings"]["prompts_per_step"], result["settings"]["micro_batch"]) == rollouts
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
    (tmp_path / ROW["model"]).mkdir()  # the random model is there
    found = fit.run_row(ROW, tmp_path, timeout=1 if "sleep" in text else 60, steps=2)
    assert found["result"] == result and found.get("error") == error and found.items() >= ROW.items()


def test_a_model_that_cannot_be_made_is_an_error_and_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(fit.psutil, "virtual_memory", lambda: types.SimpleNamespace(available=2**20))
    with pytest.raises(MemoryError, match="GiB of weights, 0.0 GiB of the machine's memory are free"):
        fit.make_model("0.5B", tmp_path)
    stand_in(tmp_path, monkeypatch, "sys.exit('no room') if '--make' in sys.argv else print('{\"result\": \"FIT\"}')")
    (tmp_path / "tmpcut").mkdir()
    found = fit.run_row(ROW, tmp_path, timeout=60, steps=2)
    assert (found["result"], found["error"]) == ("ERROR", "no room") and not (tmp_path / "tmpcut").exists()


def test_rows_that_are_there_are_skipped_and_a_cut_line_is_measured_again(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, 'print(\'{"result": "FIT"}\')')
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
    whole = on_gpu(9.0, 13.9) | {"profile": "t4", "weights": "4-bit QLoRA", "group": 10}
    lines = fit.fit_table([oom, on_gpu(9.0, 13.9), whole]).splitlines()
    assert lines[0].startswith("Random weights") and "machine: GPU" in lines[0] and "no T4 was run" in lines[0]
    assert lines[-3:] == [
        "| `t4` | 1.5B | 4-bit QLoRA | 4 x 10 | 64 + 8 | no | no | FIT | 9.0-13.9 | 2.3 | yes |",
        "|  | 1.5B | bf16 LoRA | 1 x 4 | 64 + 8 | no | no | FIT | 9.0-13.9 | 2.3 | yes |",
        "|  | 7B | bf16 LoRA | 1 x 4 | 64 + 8 | no | no | OOM |  |  |  |",
    ]
    assert lines[2].count("|") == lines[3].count("|") == lines[-1].count("|")


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
    # An arm's first slice finds out what a step takes; its other seeds are told.
    assert [o["--steps"] for o in trained if (o["--recipe"], o["--seed"]) == ("hint", "1")] == ["20", "50"]
    assert [o["--steps"] for o in trained if (o["--recipe"], o["--seed"]) == ("hint", "2")] == ["50"]
    assert calls_of(monkeypatch, tmp_path, "--seeds", "1,2", "--model", "m", "--steps", "50") == (0, []), "done"


@pytest.mark.parametrize("steps", ["0", "30"])
def test_no_time_starts_nothing_and_says_so(steps, monkeypatch, tmp_path, capsys):
    words = ("--minutes", "0", "--warm-start-steps", steps, "--model", "m")
    assert calls_of(monkeypatch, tmp_path, *words) == (0, [])
    out = capsys.readouterr().out
    assert "call this again to go on" in out and "grpo seed 0: stopped, 0 of 300 steps" in out
    assert not list(tmp_path.glob("*/*")), "a folder without weights would be in the way of the next call"


def test_what_would_end_too_late_is_not_started(monkeypatch, tmp_path):
    """Seconds by a clock of our own: 100 to begin with, an evaluation takes 30, a training step 1."""
    clock, made = [0.0], []
    monkeypatch.setattr(smol.time, "monotonic", lambda: clock[0])
    arguments = types.SimpleNamespace(
        out=tmp_path, steps=60, eval_every=20, minutes=100 / 60, model="m", profile="smol", data_path=None, limit=None,
        warm_start_steps=0, seeds=[0, 1], eval_prompts=4, benchmarks=["bfcl"], api_bank=None,
    )  # fmt: skip
    plan = smol.Plan(arguments)

    def score(file, words, told):
        made.append((words[0], told["model"]))
        clock[0] += {"evaluate": 30, "bfcl": 15}[words[0]]
        return True

    monkeypatch.setattr(plan, "score", score)
    assert plan.evaluate("a", "a") == "done" and clock == [45]
    assert plan.evaluate("b", "b") == "done" and clock == [90]
    assert plan.evaluate("c", "c") == "stopped" and clock == [90], "10 s are left, and it took 30"
    assert made == [(kind, model) for model in "ab" for kind in ("evaluate", "bfcl")]
    assert plan.evaluate("d", None) == "stopped", "no warm start yet"

    clock[0] = 0.0

    def call(words, log):
        options = dict(zip(words, words[1:]))
        run, done = options["--out"], smol.steps_done(options["--out"])
        clock[0] += options["--steps"] - done
        (run / "checkpoints" / f"checkpoint-{options['--steps']}").mkdir(parents=True)
        (run / "summary.json").write_text(json.dumps({"steps": options["--steps"]}))
        return 0

    monkeypatch.setattr(smol, "call", call)
    assert plan.train("grpo", 0, "m") == "done" and clock == [60]
    clock[0] = 85.0
    assert plan.train("grpo", 1, "m") == "stopped" and clock == [85], "15 s are left, and 20 steps take 20"
    assert plan.train("hint", 0, "m") == "stopped" and clock == [105], "the first of its kind is only started in time"


def test_a_run_that_was_killed_goes_on_from_its_checkpoint(monkeypatch, tmp_path):
    (tmp_path / "grpo" / "seed-0" / "checkpoints" / "checkpoint-280").mkdir(parents=True)
    words = ("--seeds", "0", "--recipes", "grpo", "--warm-start-steps", "0")
    assert [w[w.index("--steps") + 1] for w in calls_of(monkeypatch, tmp_path, *words)[1]] == ["300"]


def test_what_cannot_be_run_is_one_line(monkeypatch, tmp_path, capsys):
    assert calls_of(monkeypatch, tmp_path, "--recipes", "grpo,gpro") == (2, [])
    assert capsys.readouterr().err.startswith("error: unknown recipe 'gpro'; did you mean grpo?")
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
    assert made[0][:2] == ["data", "toolrl"] and made[0][-2:] == ["--out", str(tmp_path / "contamination.json")]
    assert "bfcl:multiple" in made[0] and "api-bank:1=rows.json" in made[0], "once for all models"
    assert _parser().parse_args(made.pop(0)).command == "data"
    assert len(ran) == len(scored) and len(made) == 3 * len(scored)
    invited = [words for words in made + ran if words[words.index("--style") + 1] == "example"]
    assert {words[words.index("--model") + 1] for words in invited} == {str(tmp_path / "toolexpander/seed-0/final")}
    assert len(invited) == 4
    lengths = {words[0]: words[words.index("--max-new-tokens") + 1] for words in made}
    assert lengths == {"bfcl": "192", "api-bank": "192", "executed": "256"}, "a task may need three changes"
    parser = _parser()
    for words in made + ran:
        arguments = parser.parse_args(words)  # what is asked exists
        assert arguments.profile == "smol-cpu"
        assert arguments.command == "evaluate" or arguments.limit == 3
    assert json.loads((tmp_path / "evaluations" / "base" / "held_out.json").read_text())["zero_shot"] == 0.5
    made.clear(), ran.clear()
    assert smol.main() == 0 and not made and not ran


def test_a_folder_of_scores_holds_a_score(monkeypatch, tmp_path):
    failed = types.SimpleNamespace(returncode=1, stderr="error: no\n")
    monkeypatch.setattr(smol.subprocess, "run", lambda line, **options: failed)
    words = f"--warm-start-steps 0 --seeds 0 --model m --steps 0 --benchmarks executed --out {tmp_path}"
    monkeypatch.setattr(sys, "argv", ["smol_runs.py", *words.split()])
    assert smol.main() == 1 and "error: no" in (tmp_path / "commands.log").read_text()
    assert not list(tmp_path.glob("evaluations/*")), "notebook 06 and the report look there"


def test_an_unknown_benchmark_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["smol_runs.py", "--out", str(tmp_path), "--benchmarks", "bfcl,bfl"])
    with pytest.raises(SystemExit):
        smol.main()
    assert "--benchmarks: bfl; choose of bfcl, api-bank, executed" in capsys.readouterr().err


@pytest.mark.parametrize(
    "script, words, told",
    [
        (fit, ["--only", "nosuch"], "--only nosuch: no such row; choose one of t4, 1.5B, gpu24"),
        (fit, ["--table", "no/rows.jsonl"], "No such file or directory: 'no/rows.jsonl'"),
        (four_bit, ["--precision", "float32", "--model", "./no-model"], "cannot load model './no-model'"),
        (four_bit, ["--precision", "float32", "--profile", "smoll"], "unknown profile 'smoll'"),
    ],
)
def test_what_a_script_cannot_use_is_one_line(script, words, told, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["script.py", *words])
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 2 and told in capsys.readouterr().err.splitlines()[-1] and not list(tmp_path.iterdir())


def test_precisions_are_compared_on_the_same_questions():
    rows = [{"precision": "float32", "right": ["a", "b", "c"]}, {"precision": "4bit", "right": ["b", "d"]}]
    assert four_bit.compare(rows) == {"4bit": {"both": 1, "only_float32": 2, "only_here": 1}}


@pytest.mark.parametrize("fast, names", [(True, ["float32", "bfloat16", "4bit"]), (False, ["float32", "4bit"])])
def test_float32_is_not_measured_twice_under_two_names(monkeypatch, fast, names):
    here = Hardware("cpu", "CPU", 16.0, fast_bfloat16=fast)
    monkeypatch.setattr("toolexpander_lite.models.hardware.describe_hardware", lambda: here)
    assert four_bit.precisions_here() == names


def test_a_precision_is_measured_on_questions_that_nothing_trained_on(amx):
    profile = get_profile("nano", eval_prompts=1, train_prompts=2)
    row = four_bit.measure("float32", profile, 0, 3)
    model, tokenizer = load_policy(profile)
    asked = four_bit.questions(profile, 0, tokenizer)
    trained_on = {s.id for s in load_splits(profile, 0, tokenizer).train}
    assert not trained_on & {s.id for s in asked} and {s.split for s in asked} == {"train", "test"}
    assert row["questions"] == 3 and set(row["right"]) <= {s.id for s in asked[:3]}
    assert row["MiB_weights"] == pytest.approx(4 * model.num_parameters() / 2**20, abs=0.06)
    half = four_bit.measure("bfloat16", get_profile(profile, lora_rank=4), 0, 1)
    assert half["MiB_weights"] < row["MiB_weights"]
    assert half["GiB_peak"].keys() == four_bit.peak_memory().keys(), "the GPU's where there is one, else the process's"
    assert row["MiB_weights"] / 1024 < max(half["GiB_peak"].values())
    packed = four_bit.measure("4bit", get_profile(profile, lora_rank=4), 0, 1)
    assert packed["MiB_weights"] < half["MiB_weights"] and packed["weights"] != half["weights"]


def tool(name):
    parameters = {"type": "object", "properties": {"word": {"type": "string"}}}
    return {"type": "function", "function": {"name": name, "description": "", "parameters": parameters}}


@pytest.mark.xfail(strict=True, reason="demonstrations of a tool that the row does not offer are no longer chosen; "
                   "benchmarks/demonstrations.py measured the earlier bank")
def test_a_demonstrations_tool_is_listed_beside_the_rows_own():
    asked, shown = (
        ToolSample(f"s{n}", "f", [{"role": "user", "content": f"word {name}"}], [tool(name), tool(f"other {name}")],
                   [{"name": name, "arguments": {"word": name}}])
        for n, name in enumerate(("apple", "pear"))
    )  # fmt: skip
    _, tokenizer = load_policy(get_profile("nano-invited"))
    found = demonstrations.prompts_of(asked, VariantBank([asked, shown]), tokenizer, 4096, 0)
    assert list(found) == ["demonstrated", "listed"]
    more = replace(asked, tools=[tool("pear"), *asked.tools])
    for way, sample in (("demonstrated", asked), ("listed", more)):
        assert found[way] == render_prompt(sample, tokenizer, [shown], invite=True)
    assert demonstrations.prompts_of(asked, VariantBank([asked, shown]), tokenizer, 8, 0) == {}, "none fits"


def test_only_hard_questions_are_asked_again(monkeypatch):
    """Three samples: the first is solved, the second one is hard, the third is hard and no demonstration fits."""
    samples = nano_samples("train", 1)[:3]
    written = {s.id: gold_completion(s) for s in samples[:1]}
    prompts = {s.id: {"demonstrated": f"D {s.id}", "listed": f"L {s.id}"} for s in samples[1:2]}
    monkeypatch.setattr(demonstrations, "prompts_of", lambda sample, *rest: prompts.get(sample.id, {}))
    monkeypatch.setattr(demonstrations, "render_prompt", lambda sample, tokenizer, invite: f"A {sample.id}")

    def generate(model, tokenizer, prompts, most, temperature, batch_size):
        way, id = prompts[0].split(" ", 1)
        right = next(gold_completion(s) for s in samples if s.id == id)
        wrong = ["nothing"] * len(prompts)
        return (
            [written.get(id, "nothing")] + wrong[1:] if way == "A" else [right] * 4 + wrong[4:] if way == "L" else wrong
        )

    monkeypatch.setattr(demonstrations, "generate", generate)
    groups = demonstrations.ask(None, None, samples, None, get_profile("nano"), 0)
    assert {way: [g["ok"] for g in found] for way, found in groups.items()} == {
        "alone": [1, 0, 0], "again": [0], "demonstrated": [0], "listed": [4],
    }  # fmt: skip
    assert all(g.total() == 10 for found in groups.values() for g in found)


def test_the_guide_names_options_that_exist_and_no_place():
    text = (REPOSITORY / "docs" / "benchmarks.md").read_text()
    for name in ("gpu_fit", "smol_runs"):
        script = (REPOSITORY / "benchmarks" / f"{name}.py").read_text()
        for line in text.splitlines():
            if f"python benchmarks/{name}.py" in line:
                command = line.split(f"{name}.py")[1].split(";")[0]
                assert all(f'"{word}"' in script for word in command.split() if word.startswith("--")), line
    assert not any(place in text for place in ("/work/", "/root/", "/tmp/"))
