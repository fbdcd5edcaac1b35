"""The doctor: logs of others with known faults, a log that has each fault and one that almost has it, bad input."""

import json
import random
import re
import sqlite3
import struct

import numpy as np
import pandas as pd
import pytest

from toolexpander_lite.base.errors import RunError
from toolexpander_lite.base.runs import REPOSITORY, find_runs, read_json
from toolexpander_lite.doctor import diagnose, report
from toolexpander_lite.doctor.readers import read
from toolexpander_lite.doctor.report import rules_table
from toolexpander_lite.doctor.rules import NOTE, RULES

CASES = REPOSITORY.parent / "shared" / "doctor"
# The head finding of each public log; None: healthy, notes only.
EXPECTED = {
    "01": None, "03": "format_never_met", "04": None, "05": "cut_at_cap", "07": "solved_already",
    "08": "reward_collapse", "11": "length_to_cap", "15": "reward_collapse", "17": "only_side_rewards",
    "18": "format_never_met", "20": "gradient_not_finite", "21": None, "22": None, "29": "reward_never_paid",
    "30": "rollout_garbage", "33": "identical_completions", "36": "safe_low_answer", "37": "gradient_explosion",
    "38": "only_side_rewards", "39": "side_eats_main",
}  # fmt: skip


@pytest.mark.skipif(not CASES.exists(), reason="the public logs are not part of the repository")
@pytest.mark.parametrize("number", EXPECTED)
@pytest.mark.parametrize("name", ["log.jsonl", "console.txt"])
def test_public_logs_with_known_faults(number, name, tmp_path):
    text = next(CASES.glob(f"{number}-*")) / name
    if not text.exists():
        pytest.skip("this case has no console output")
    hidden = tmp_path / f"log{text.suffix}"  # the folder's name gives the cause away
    hidden.write_bytes(text.read_bytes())
    found = diagnose(hidden)
    heads = [finding.name for finding in found if finding.level != NOTE]
    assert heads[:1] == [EXPECTED[number]] * (EXPECTED[number] is not None), report(hidden)


def test_the_page_lists_the_rules_and_shows_what_is_printed():
    page = (REPOSITORY / "docs" / "doctor.md").read_text(encoding="utf-8")
    assert rules_table() in page
    shown = re.search(r"toolexpander_lite doctor (assets/doctor/\S+)\n```\n\n```text\n(.*?)\n```", page, re.S)
    assert shown[2] == report(REPOSITORY / shown[1])


@pytest.mark.parametrize(
    "name, content, says",
    [
        ("log.jsonl", b"", "empty"),
        ("log.bin", b"\x00\x01\x02" * 100, "binary"),
        ("log.csv", b"a,b\n1,2\n3,4\n", "none of its columns .*; it has a, b"),
        ("log.csv", b"\x1b[2J" + b"x" * 900 + b",b\n1,2\n", "it has .x1b.2J" + "x" * 36 + ", b$"),
        ("log.csv", b"step,reward\n1,high\n2,low\n", "no number stands under reward"),
        ("log.txt", b"hello\nworld\n", "no row of a training log"),
        ("log.parquet", b"PAR1 and then nothing", "no whole parquet"),
        ("x.db", b"SQLite format 3\0" + b"x" * 100, "no trackio project"),
    ],
)
def test_bad_input_gives_one_clear_line(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(RunError, match=says) as told:
        diagnose(path)
    assert len(str(told.value).splitlines()) == 1 and path.name in str(told.value)


def test_damaged_logs_never_raise_anything_else(tmp_path):
    """Bytes put in, taken out and overwritten, seeded; 120 damaged logs of several forms."""
    draw = random.Random(0)
    junk = [b"nan", b"1e999", b"9" * 400, b"null", b"]", b"\xff\xfe", b"\n", b"|", b"{" * 50, b'"reward"', b"step"]
    for number in range(120):
        name = draw.choice([*FORMS, "events.out.tfevents.1"])
        data = bytearray(event_file(small_run()) if name not in FORMS else FORMS[name](small_run()).encode())
        for _ in range(draw.randint(1, 8)):
            place = draw.randrange(len(data) + 1)
            data[place : place + draw.choice([0, 0, 3, 40])] = draw.choice(junk)
        path = tmp_path / f"{number}-{name}"
        path.write_bytes(data)
        try:
            report(path)
        except RunError as error:
            assert len(str(error).splitlines()) == 1


def test_a_path_that_is_not_there(tmp_path):
    with pytest.raises(RunError, match="there is nothing at"):
        diagnose(tmp_path / "no")


def test_a_cut_line_is_left_out(tmp_path):
    rows = [{"step": i, "loss": 0.1, "reward": i / 40, "reward_std": 0.3} for i in range(40)]
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + '\n{"step": 41, "rew')
    assert not [f for f in diagnose(path) if f.level != NOTE]
    assert "It is cut: its last line has no end." in report(path)
    whole = json.dumps({"log_history": rows})
    lines = "\n".join(map(json.dumps, rows))
    for text, cut in ((whole, False), (whole + "\n", False), (whole[:-40], True), (lines, False)):
        path.write_text(text)
        assert ("It is cut" in report(path)) == cut


# --------------------------------------------------------------------------------- each rule: a log that has it, and
# one that almost has it. T runs from 0 to 1 over 60 steps; what a case does not name is as in a healthy run.
T = np.linspace(0, 1, 60)
JUMP = T > 0.5
RNG = np.random.default_rng(0)
NOISE = RNG.normal(size=60)


def healthy():
    return {
        "step": np.arange(1, 61), "reward": 0.2 + 0.5 * T + 0.03 * NOISE, "reward_std": 0.4 + 0.02 * NOISE,
        "frac_reward_zero_std": 0.3 + 0.02 * NOISE, "loss": 0.05 + 0.01 * NOISE, "grad_norm": 0.5 + 0.1 * NOISE,
        "learning_rate": np.full(60, 1e-6), "kl": 0.05 * T, "entropy": 0.8 - 0.2 * T,
        "clip_ratio/region_mean": 0.01 * T,
        "completions/mean_length": 120 + 10 * NOISE, "completions/min_length": 40 + 5 * NOISE,
        "completions/max_length": 250 + 20 * NOISE, "completions/clipped_ratio": 0.02 + 0.01 * abs(NOISE),
    }  # fmt: skip


def parts(**rewards):
    return {f"rewards/{name}/mean": values for name, values in rewards.items()}


def texts(prompt, completion, reward, **columns):
    """A log with completions: `prompt(g)`, `completion(g, i)`, `reward(g, i)` of 8 groups of 4."""
    rows = [{"step": g + 1, "prompt": prompt(g), "completion": completion(g, i), "task": reward(g, i), "advantage": 0.0,
             **{name: make(g) for name, make in columns.items()}} for g in range(8) for i in range(4)]  # fmt: skip
    log = read([{"step": g + 1, "reward": np.mean([reward(g, i) for i in range(4)])} for g in range(8)])
    log.texts = pd.DataFrame(rows)
    return log


def chat(g):
    return [{"role": "user", "content": f"question {g}"}]


def kit_groups(reward):
    log = read(pd.DataFrame(healthy()))
    log.groups = [{"step": i, "rewards": [reward] * 4, "reasons": {"wrong_argument": 4}} for i in range(1, 31)]
    return log


BROKEN = {"reward": np.where(JUMP, 0.02, 0.6) + 0.02 * NOISE}
FLAT_LOW = {"reward": 0.1 + 0.01 * NOISE}
# rule: (what a log with the fault has, what one without it has, though it looks alike)
PAIRS = {
    "gradient_not_finite": ({"grad_norm": np.full(60, np.nan)}, {"grad_norm": np.where(T == 0, np.nan, 0.5)}),
    "loss_not_finite": ({"loss": np.where(JUMP, np.nan, 0.1)}, {"loss": np.where(T == 0, np.inf, 0.1)}),
    "gradient_explosion": ({"grad_norm": np.where(T == 1, 5e6, 0.5)}, {"grad_norm": np.where(T == 1, 400, 0.5)}),
    "gradient_always_zero": ({"grad_norm": 0 * T}, {"grad_norm": np.where(T < 0.9, 0, 0.2)}),
    "learning_rate_zero": ({"learning_rate": 0 * T, "grad_norm": T + 0.1234}, {"learning_rate": 1e-6 * (1 - T)}),
    "rollout_garbage": ({"entropy": 9.5 + 0 * T, "kl": 1e-4 + 0 * T, "reward": 0 * T, "reward_std": 0 * T},
                        {"entropy": 0.8 + 4 * JUMP, "kl": 1e-4 + 0 * T, "reward": 0 * T, "reward_std": 0 * T}),
    "no_chat_template": (texts(lambda g: f"2+{g}=?", lambda g, i: f"{i}\nQuestion: 3?", lambda g, i: 1),
                         texts(lambda g: f"[INST]2+{g}", lambda g, i: f"{i}\nQuestion: 3?", lambda g, i: 1)),
    "never_stops": ({"completions/clipped_ratio": 1 + 0 * T, **FLAT_LOW},
                    {"completions/clipped_ratio": np.where(T < 0.2, 0.5, 1.0), **FLAT_LOW}),
    "cut_at_cap": ({"completions/clipped_ratio": 0.85 + 0.02 * NOISE, **FLAT_LOW},
                   {"completions/clipped_ratio": 0.85 - 0.8 * T}),
    "scorer_rejects_right": (texts(chat, lambda g, i: f"so\nit is {g}77", lambda g, i: 0.0, answer=lambda g: f"{g}77"),
                             texts(chat, lambda g, i: f"{g}77?\nso 5", lambda g, i: 0.0, answer=lambda g: f"{g}77")),
    "reward_never_paid": ({"reward": 0 * T, "reward_std": 0 * T}, {"reward": 0.1 * (T > 0.7), "reward_std": 0.1 * T}),
    "only_side_rewards": (parts(format=T, correctness=0 * T), parts(format=T, correctness=np.where(T > 0.8, 0.2, 0))),
    "format_never_met": (parts(strict_format=0 * T, correctness=T), parts(strict_format=0.01 * JUMP, correctness=T)),
    "dead_reward_part": (parts(weather=0 * T, other=T), parts(weather_penalty=0 * T, other=T)),
    "reward_collapse": (BROKEN, {"reward": np.where((T > 0.5) & (T < 0.7), 0.02, 0.6) + 0.02 * NOISE}),
    "eval_falls": ({"eval_reward": np.where(JUMP, 0.1, 0.5)}, {"eval_reward": np.where(JUMP, 0.3, 0.5)}),
    "length_to_cap": ({"completions/clipped_ratio": np.where(JUMP, 0.95, 0.05)},
                      {"completions/clipped_ratio": np.where(JUMP, 0.5, 0.05)}),
    "length_growth": ({"completions/mean_length": np.where(T > 0.75, 900, 200), "reward": 0.6 - 0.4 * T + 0.02 * NOISE},
                      {"completions/mean_length": np.where(T > 0.75, 900, 200)}),
    "length_shrinks": ({"completions/mean_length": 200 - 199 * T, **FLAT_LOW},
                       {"completions/mean_length": 200 - 199 * T}),
    "entropy_up": ({"entropy": np.where(JUMP, 4, 0.4)}, {"entropy": np.where(JUMP, 0.8, 0.4)}),
    "entropy_down": ({"entropy": np.where(JUMP, 0.02, 0.8), **FLAT_LOW}, {"entropy": np.where(JUMP, 0.02, 0.8)}),
    "safe_low_answer": ({"entropy": 0.5 - 0.45 * T, "reward_std": 0.05 - 0.04 * T, "reward": 0.048 + 0 * T},
                        {"entropy": 0.5 - 0.45 * T, "reward_std": 0.4 - 0.35 * T}),
    "kl_explosion": ({"kl": np.where(JUMP, 40, 0.1)}, {"kl": np.where(T == T[30], 40, 0.1)}),
    "sampler_mismatch": ({"sampling/importance_sampling_ratio/mean": np.where(JUMP, 0.01, 1)},
                         {"sampling/importance_sampling_ratio/mean": np.where(JUMP, 0.7, 1)}),
    "clip_ratio_high": ({"clip_ratio/region_mean": 0.4 * T}, {"clip_ratio/region_mean": 0.15 * T}),
    "gradient_spikes": ({"grad_norm": np.where(np.isin(np.arange(60), (29, 30, 31)), 30, 0.5), **BROKEN},
                        {"grad_norm": np.where(np.isin(np.arange(60), (29, 30, 31)), 30, 0.5)}),
    "learning_rate_high": ({"learning_rate": 1e-4 + 0 * T, **BROKEN}, {"learning_rate": 1e-4 + 0 * T}),
    "side_eats_main": (parts(format=T + 0.01 * NOISE, accuracy=0.6 - 0.5 * T + 0.01 * NOISE),
                       parts(format=T + 0.01 * NOISE, accuracy=0.6 - 0.1 * T + 0.01 * NOISE)),
    "bonus_up_task_flat": (parts(bonus=T, accuracy=0.1 + 0.01 * NOISE), parts(bonus=T, accuracy=0.1 + 0.3 * T)),
    "pays_wrong_answers": (kit_groups(0.6), kit_groups(0.1)),
    "identical_completions": ({"completions/min_length": 29 + 0 * T, "completions/max_length": 29 + 0 * T,
                               "frac_reward_zero_std": 1 + 0 * T, "entropy": 1e-5 + 0 * T},
                              {"completions/min_length": 29 + 0 * T, "completions/max_length": 31 + 0 * T,
                               "frac_reward_zero_std": 1 + 0 * T}),
    "all_fail_groups": ({"groups/all_fail": 0.7 + 0 * T, **FLAT_LOW}, {"groups/all_fail": 0.7 - 0.5 * T}),
    "solved_already": ({"reward": 0.95 + 0.01 * NOISE, "frac_reward_zero_std": 0.8 + 0 * T},
                       {"reward": 0.95 + 0.01 * NOISE, "frac_reward_zero_std": 0.4 + 0 * T}),
    "spread_between_prompts": ({"frac_reward_zero_std": 1 + 0 * T, "reward_std": 0.3 + 0 * T},
                               {"frac_reward_zero_std": 0.8 + 0 * T, "reward_std": 0.3 + 0 * T}),
    "few_groups_teach": ({"frac_reward_zero_std": 0.9 + 0 * T, **FLAT_LOW}, {"frac_reward_zero_std": 0.6 + 0 * T}),
    "tiny_spread_scaled": ({"reward_std": np.where(JUMP, 0.003, 0.3)}, {"reward_std": np.where(JUMP, 0, 0.3)}),
    "schedule_restarted": ({"learning_rate": 1e-6 * (1 - np.where(JUMP, T - 0.5, T))},
                           {"learning_rate": 1e-6 * (1 - T)}),
    "repeated_data": ({name: np.resize(values[:30], 60) for name, values in healthy().items() if name != "step"},
                      {"reward": np.resize(healthy()["reward"][:30], 60)}),
    "step_goes_back": ({"step": [*range(1, 41), *range(31, 51)]}, {"step": [*range(1, 41), *range(101, 121)]}),
    "tools_unused": ({"tools/call_frequency": 1 - np.minimum(1, 2 * T)}, {"tools/call_frequency": 1 - 0.8 * T}),
    "tool_failures": ({"tools/failure_frequency": 0.8 + 0 * T}, {"tools/failure_frequency": 0.9 - 0.8 * T}),
    "cap_too_tight": ({"completions/clipped_ratio": 0.5 - 0.4 * T}, {"completions/clipped_ratio": 0.2 - 0.1 * T}),
    "loss_near_zero": ({"loss": 1e-6 * NOISE}, {"loss": 1e-6 * NOISE, "reward_std": 0 * T}),
}  # fmt: skip


def log_of(case):
    return read(pd.DataFrame(healthy() | case)) if isinstance(case, dict) else case


@pytest.mark.parametrize("name", PAIRS)
def test_a_log_that_has_it_and_one_that_almost_has_it(name):
    has, almost = PAIRS[name]
    assert RULES[name].check(log_of(has))
    assert RULES[name].check(log_of(almost)) is None


def test_rules_of_long_and_of_short_logs():
    flat = {"step": range(120), "reward": 0.1 + 0.02 * np.resize([1, -1], 120)}
    assert RULES["no_learning"].check(read(pd.DataFrame(flat)))
    slow = flat | {"reward": flat["reward"] + np.arange(120) / 400}
    assert RULES["no_learning"].check(read(pd.DataFrame(slow))) is None
    short = {"step": range(8), "reward": [0.3, 0.1, 0.5, 0.2, 0.4, 0.1, 0.3, 0.2]}
    assert RULES["too_short"].check(read(pd.DataFrame(short)))
    assert RULES["too_short"].check(log_of({})) is None


def test_a_run_that_began_anew_in_the_same_log(tmp_path):
    """A really trained run, and its first steps once more, as after a resume that forgot where it was."""
    lines = (REPOSITORY / "assets" / "doctor" / "healthy-0.jsonl").read_text().splitlines()
    (tmp_path / "log.jsonl").write_text("\n".join(lines[:20] + lines[:12]))
    found = {f.name: f for f in diagnose(tmp_path / "log.jsonl")}
    assert list(found["repeated_data"].steps) == list(range(1, 13)) and "step_goes_back" in found
    (tmp_path / "log.jsonl").write_text("\n".join(lines[:20] + lines[:4]))  # a few rows may agree by chance
    assert "repeated_data" not in {f.name for f in diagnose(tmp_path / "log.jsonl")}


def test_every_rule_has_both_tests():
    assert set(RULES) == {*PAIRS, "no_learning", "too_short"} and len(RULES) >= 25


def test_a_healthy_log_is_called_healthy():
    assert diagnose(pd.DataFrame(healthy())) == []
    assert "Healthy" in report(pd.DataFrame(healthy()))


def test_an_explained_finding_is_told_once():
    case = BROKEN | {"entropy": np.where(JUMP, 4, 0.4), "completions/clipped_ratio": np.where(JUMP, 0.95, 0.05)}
    found = [f for f in diagnose(pd.DataFrame(healthy() | case)) if f.level != NOTE]
    assert [f.name for f in found] == ["reward_collapse"]
    assert {"entropy_up", "length_to_cap"} <= {f.name for f in found[0].also}
    assert min(found[0].steps) >= 29 and max(found[0].steps) == 60


# ------------------------------------------------------------------------------------- one run, in everyone's form
def small_run():
    """Twelve rows by TRL's names, two digits each."""
    t = np.linspace(0, 1, 12)
    return [{"step": i + 1, "loss": 0.01, "reward": round(0.2 + 0.5 * float(x), 2), "reward_std": 0.4, "kl": 0.02,
             "grad_norm": 0.5} for i, x in enumerate(t)]  # fmt: skip


def event_file(rows):
    """TensorBoard's form, by the published record and protocol buffer layouts."""

    def field(number, kind, value):
        return bytes([number << 3 | kind]) + value

    def block(number, value):
        return field(number, 2, bytes([len(value)]) + value)

    data = b""
    for row in rows:
        for name, value in row.items():
            if name != "step":
                scalar = block(1, f"train/{name}".encode()) + field(2, 5, struct.pack("<f", value))
                event = field(2, 0, bytes([row["step"]])) + block(5, block(1, scalar))
                data += struct.pack("<Q", len(event)) + b"crc1" + event + b"crc2"
    return data


def trackio_base(path, rows):
    with sqlite3.connect(path) as base:
        base.execute("CREATE TABLE metrics (id INTEGER PRIMARY KEY, run_name TEXT, step INTEGER, metrics TEXT)")
        for row in rows:
            metrics = json.dumps({f"train/{name}": value for name, value in row.items()})
            base.execute("INSERT INTO metrics (run_name, step, metrics) VALUES ('a', ?, ?)", (row["step"], metrics))


def as_table(rows, between, ends=("", "")):
    names = {"step": "Step", "loss": "Training Loss"}
    lines = [[names.get(name, name) for name in rows[0]], *([str(v) for v in row.values()] for row in rows)]
    return "\n".join(ends[0] + between.join(line) + ends[1] for line in lines)


VERL = {"step": "step", "loss": "actor/pg_loss", "reward": "critic/score/mean", "reward_std": "reward_std",
        "kl": "actor/kl_loss", "grad_norm": "actor/grad_norm"}  # fmt: skip
FORMS = {
    "log.jsonl": lambda rows: "\n".join(map(json.dumps, rows)),
    "trainer_state.json": lambda rows: json.dumps({"log_history": [*rows, {"train_runtime": 1.0}]}, indent=1),
    "cut_state.json": lambda rows: json.dumps({"log_history": [*rows, {"step": 13, "loss": 1}]}, indent=1)[:-30],
    "columns.json": lambda rows: json.dumps({name: [row[name] for row in rows] for name in rows[0]}),
    "trl.log": lambda rows: "\n".join(f"  5%|#   | 1/20 {row}" for row in rows),
    "trl116.log": lambda rows: "\n".join(str({k: str(v) for k, v in row.items()}) for row in rows),
    "verl.log": lambda rows: "\n".join(
        "\x1b[36m(TaskRunner pid=1)\x1b[0m " + " - ".join(f"{VERL[name]}:np.float64({v})" for name, v in row.items())
        for row in rows),
    "loop.log": lambda rows: "\n".join(
        f"[Step {row['step']}/12] " + " ".join(f"{k}={v}" for k, v in row.items() if k != "step") for row in rows),
    "unsloth.txt": lambda rows: as_table(rows, " | "),
    "markdown.md": lambda rows: as_table(rows, " | ", ("| ", " |")),
    "notebook.html": lambda rows: as_table(rows, "</td><td>", ("<tr><td>", "</td></tr>")).replace("td>", "th>", 12),
    "table.csv": lambda rows: pd.DataFrame(rows).to_csv(index=False),
    "wandb.csv": lambda rows: pd.DataFrame(rows).rename(
        columns=lambda name: name if name == "step" else f"run-a - train/{name}").to_csv(index=False),
}  # fmt: skip


@pytest.mark.parametrize("name", [*FORMS, "events.out.tfevents.1", "trackio.db", "metrics.parquet"])
def test_one_run_in_every_form(tmp_path, name):
    rows, path = small_run(), tmp_path / name
    if name in FORMS:
        path.write_text(FORMS[name](rows))
    elif name.endswith(".db"):
        trackio_base(path, rows)
    elif name.endswith(".parquet"):
        pd.DataFrame(rows).to_parquet(path)
    else:
        path.write_bytes(event_file(rows))
    log = read(path)
    for column in ("reward", "loss", "kl", "grad_norm", "reward_std"):
        assert list(log[column].round(4))[:12] == [row[column] for row in rows], column
    assert log.unit == "step" and list(log.labels)[:12] == list(range(1, 13))


def test_a_folder_says_which_of_its_logs_was_read(tmp_path):
    for name in ("one.jsonl", "two.jsonl"):
        (tmp_path / name).write_text(FORMS["log.jsonl"](small_run()))
    assert f"The folder holds 2 such files; this is {tmp_path / 'one.jsonl'}" in report(tmp_path).replace("two", "one")


def test_folders(tmp_path):
    """TRL's run directory with completions, and TensorBoard's CSV exports of single curves."""
    (tmp_path / "run" / "completions").mkdir(parents=True)
    (tmp_path / "run" / "checkpoint-12").mkdir()
    (tmp_path / "run" / "checkpoint-12" / "trainer_state.json").write_text(FORMS["trainer_state.json"](small_run()))
    texts(chat, lambda g, i: "same", lambda g, i: g % 2).texts.to_parquet(
        tmp_path / "run" / "completions" / "completions_00001.parquet"
    )
    log = read(tmp_path / "run")
    assert len(log) == 12 and len(log.texts) == 32
    assert [f.name for f in diagnose(log)][0] == "identical_completions"
    assert len(read(tmp_path / "run" / "completions" / "completions_00001.parquet")) == 8
    (tmp_path / "board").mkdir()
    for name in ("reward", "loss"):
        frame = pd.DataFrame([{"Wall time": 1.0, "Step": row["step"], "Value": row[name]} for row in small_run()])
        frame.to_csv(tmp_path / "board" / f"run-a-tag-train_{name}.csv", index=False)
    log = read(tmp_path / "board")
    assert list(log["reward"]) == [row["reward"] for row in small_run()] and log.has("loss")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(RunError, match="holds no log"):
        read(tmp_path / "nothing")


def test_a_nan_is_a_value_and_a_gap_is_none(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1, "loss": 0.1, "grad_norm": NaN, "kl": 0.1}\n{"step": 2, "loss": 0.1, "grad_norm": 1}\n')
    log = read(path)
    assert list(log.not_finite("grad_norm")) == [True, False]
    assert list(log.not_finite("kl")) == [False] and len(log["kl"]) == 1


def test_a_long_log_is_thinned_and_says_so(tmp_path):
    path = tmp_path / "long.csv"
    rows = 150_000
    pd.DataFrame({"step": range(rows), "reward": np.linspace(0.2, 0.9, rows), "loss": 0.1}).to_csv(path, index=False)
    log = read(path)
    assert len(log) == 50_000 and "one in 3 was read" in log.notes[0]
    assert "one in 3 was read" in report(path)


def test_a_run_of_the_kit_and_a_study():
    study = REPOSITORY / "assets" / "runs" / "nano-baseline"
    first = find_runs(study)["grpo-lr6e-4"][0]
    head = diagnose(first)[0]
    assert head.name == "all_fail_groups"
    page = (REPOSITORY / "docs" / "use-in-trl.md").read_text(encoding="utf-8")  # its script is run by a test
    for called in re.findall(r"\b[A-Z]\w+\(", head.try_next):
        assert called in page, f"the script to copy has no {called}"
    assert "pool = VisitPool(" in head.try_next  # without scans the paper's pool would call no row hard
    assert len(report(study).splitlines()) == 25


# ---------------------------------------------------------------------- runs of our own, `benchmarks/doctor_runs.py`
MADE = REPOSITORY / "assets" / "doctor"
RUNS = sorted(path for path in MADE.iterdir() if path.name != "runs.csv")
TOLD_UNDER = {"learning_rate_high": "reward_collapse"}  # the break it explains comes first
# What is said of a fault that a log does not show, and of a run in which none was built in (and half of the requests
# always pass, the other half never).
SAID = {"missed-other-engine": "cut_at_cap", "healthy-tools": "few_groups_teach"}


def rule_of(path):
    return path.stem.partition("-")[0]


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_runs_made_with_a_fault(path):
    """Each is named by the rule that should come first; that of a note comes without any fault or warning."""
    found, rule = diagnose(path), rule_of(path)
    heads = [f.name for f in found if f.level != NOTE]
    if rule in ("healthy", "missed"):
        assert heads == [name for run, name in SAID.items() if run == path.stem], report(path)
    elif rule in TOLD_UNDER:
        assert heads[:1] == [TOLD_UNDER[rule]] and rule in {f.name for f in found[0].also}, report(path)
    elif RULES[rule].level == NOTE:
        assert not heads and rule in {f.name for f in found}, report(path)
    else:
        assert heads[:1] == [rule], report(path)


def test_each_rule_has_a_run_and_each_run_is_recorded():
    shown = {rule_of(path) for path in RUNS} - {"healthy", "missed"}
    assert shown == set(RULES)
    sound = [path.stem for path in RUNS if rule_of(path) == "healthy"]
    assert len(sound) >= 20 and 20 * len(SAID.keys() & set(sound)) <= len(sound), "one false alarm in twenty at most"
    record = pd.read_csv(MADE / "runs.csv").set_index("run")
    assert set(record.index) == {path.stem for path in RUNS if path.suffix != ".jsonl"}, "the first runs have no record"
    assert record[["what", "seed", "settings", "python_packages", "commit"]].notna().all(axis=None)
    assert sum(file.stat().st_size for file in MADE.rglob("*.*")) < 1_000_000


def test_the_page_says_what_the_kits_own_runs_are_told():
    alarms = read_json(MADE.parent / "benchmarks" / "doctor_alarms.json")
    page = (MADE.parents[1] / "docs" / "doctor.md").read_text(encoding="utf-8")
    assert f"{alarms['runs']} of the kit's committed runs" in page
    real = alarms["real_model"]
    assert f"| {real['GRPO']['runs']} of SmolLM2, by GRPO |" in page and not real["GRPO"]["told"]
    assert f"| {real['with a second loss']['runs']} of SmolLM2, with context distillation's second loss |" in page
    for part in (alarms, real["with a second loss"]):
        told = ", ".join(f"`{rule}` in {count}" for rule, count in part["first_named"].items())
        assert f"| 0 | {len(part['told'])}: {told} |" in page
        assert {row["level"] for row in part["told"]} == {"warning"}, "no fault"
    assert 20 * len(alarms["told"]) <= alarms["runs"], "one false alarm in twenty at most"


def test_what_the_runs_taught_the_rules():
    """Faults of the rules that the runs above, and the committed studies, brought to light."""
    spikes = healthy() | {"grad_norm": np.where(np.isin(np.arange(60), (29, 30, 31)), 30, 0.5)}
    del spikes["reward"]
    assert RULES["gradient_spikes"].check(read(pd.DataFrame(spikes))) is None, "no reward is logged: no division by 0"
    learnt = {"frac_reward_zero_std": np.minimum(1, 0.85 + T), "reward_std": 0.3 + 0 * T}
    assert RULES["spread_between_prompts"].check(log_of(learnt)) is None, "groups had spread at first"
    flat = {"frac_reward_zero_std": 0.95 + 0 * T}
    assert RULES["few_groups_teach"].check(log_of(flat)).level == NOTE, "the reward rose, to 0.7"
    assert RULES["few_groups_teach"].check(log_of(flat | FLAT_LOW)).level is None
    sure = {"entropy": 0.5 * np.exp(-9 * T), "reward": 0.3 + 0.01 * NOISE}
    assert RULES["entropy_down"].check(log_of(sure))
    supervised = {"entropy": sure["entropy"], "loss": 1 - T}
    assert RULES["entropy_down"].check(read(pd.DataFrame(supervised))) is None, "no reward: that is what it is for"
    outlier = {"reward": np.where(T == 1, -1000, healthy()["reward"])}
    assert RULES["tiny_spread_scaled"].check(log_of(outlier)) is None
    shrunk = {"completions/mean_length": np.where(JUMP, 1, 19), "reward": np.where(JUMP, -0.001, -0.019)}
    assert RULES["length_shrinks"].check(log_of(shrunk)), "the reward rises, and only because nothing is said"
    fallen = {"reward": np.where(T < 0.3, 0.66, 0) - 2 * (T == T[40]) + 0.01 * NOISE}
    assert RULES["reward_collapse"].check(log_of(fallen)), "one step at -2 is no floor"
    divided = diagnose(log_of({"reward": np.where(JUMP, np.inf, 0.1)}))[0]
    assert divided.name == "loss_not_finite" and "reward function" in divided.cause
