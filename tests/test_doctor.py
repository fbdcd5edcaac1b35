"""The doctor: logs of others with known faults, a log that has each fault and one that almost has it, bad input."""

import json

import numpy as np
import pandas as pd
import pytest

from toolexpander_lite.base.errors import RunError
from toolexpander_lite.base.runs import REPOSITORY
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


def test_the_page_lists_the_rules():
    assert rules_table() in (REPOSITORY / "docs" / "doctor.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name, content, says",
    [
        ("log.jsonl", b"", "empty"),
        ("log.bin", b"\x00\x01\x02" * 100, "binary"),
        ("log.csv", b"a,b\n1,2\n3,4\n", "none of its columns"),
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


def test_a_path_that_is_not_there(tmp_path):
    with pytest.raises(RunError, match="there is nothing at"):
        diagnose(tmp_path / "no")


def test_a_cut_line_is_left_out(tmp_path):
    rows = [{"step": i, "loss": 0.1, "reward": i / 40, "reward_std": 0.3} for i in range(40)]
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + '\n{"step": 41, "rew')
    assert not [f for f in diagnose(path) if f.level != NOTE]


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
                               "frac_reward_zero_std": 1 + 0 * T},
                              {"completions/min_length": 29 + 0 * T, "completions/max_length": 31 + 0 * T,
                               "frac_reward_zero_std": 1 + 0 * T}),
    "all_fail_groups": ({"groups/all_fail": 0.7 + 0 * T, **FLAT_LOW}, {"groups/all_fail": 0.7 - 0.5 * T}),
    "solved_already": ({"reward": 0.95 + 0.01 * NOISE, "frac_reward_zero_std": 0.8 + 0 * T},
                       {"reward": 0.95 + 0.01 * NOISE, "frac_reward_zero_std": 0.4 + 0 * T}),
    "spread_between_prompts": ({"frac_reward_zero_std": 1 + 0 * T, "reward_std": 0.3 + 0 * T},
                               {"frac_reward_zero_std": 0.8 + 0 * T, "reward_std": 0.3 + 0 * T}),
    "few_groups_teach": ({"frac_reward_zero_std": 0.9 + 0 * T}, {"frac_reward_zero_std": 0.6 + 0 * T}),
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
