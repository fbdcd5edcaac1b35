"""The doctor: logs of others with known faults, a log that has each fault and one that almost has it, bad input."""

import json

import pytest

from toolexpander_lite.base.errors import RunError
from toolexpander_lite.base.runs import REPOSITORY
from toolexpander_lite.doctor import diagnose, report
from toolexpander_lite.doctor.report import rules_table
from toolexpander_lite.doctor.rules import NOTE

CASES = REPOSITORY.parent / "shared" / "doctor"
# The head finding of each public log; None: healthy, notes only.
EXPECTED = {
    "01": None, "03": "format_never_met", "04": None, "05": "cut_at_cap", "07": "solved_already",
    "08": "reward_collapse", "11": "length_to_cap",
    "15": "reward_collapse", "17": "only_side_rewards", "18": "format_never_met",
    "20": "gradient_not_finite", "21": None, "22": None, "29": "reward_never_paid", "30": "rollout_garbage",
    "33": "identical_completions", "36": "safe_low_answer", "37": "gradient_explosion", "38": "only_side_rewards",
    "39": "side_eats_main",
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
