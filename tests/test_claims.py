"""The claims table, against made-up runs, and its commands against the command line."""

import json
import math
import shlex
from functools import lru_cache

import pytest
from test_studies import fake_run

from toolexpander_lite.__main__ import _parser, main
from toolexpander_lite.base.runs import REPOSITORY, find_runs, read_json
from toolexpander_lite.studies.claims import CLAIMS, Claim, aims_table, claims_table, claims_view, effects_view
from toolexpander_lite.studies.plan import has_plan, read_plan
from toolexpander_lite.studies.statistics import ROLLOUTS


def test_claims_are_judged_by_their_comparison_and_only_when_it_was_run(tmp_path):
    for seed in range(5):
        fake_run(tmp_path / "study" / "with", seed, 0.9, rate=1e-3)
        fake_run(tmp_path / "study" / "without", seed, 0.2, rate=6e-4)
    fake_run(tmp_path / "study" / "elsewhere", 9, 0.9)
    compared = [("study", "with", "without"), ("none", "x", "y"), ("study", "without", "with"),
                ("study", "elsewhere", "with"), ("study", "with", "with"),
                ("study", "with", "without", ROLLOUTS)]  # fmt: skip
    claims = [Claim("a sentence", "abstract", *names) for names in compared]
    table = claims_table(tmp_path, claims)
    assert list(table.verdict) == ["seen", "not run yet", "reversed", "not run yet", "not seen",
                                   "could not be tested here"]  # fmt: skip
    assert table.gain[0] == pytest.approx(0.7) and math.isnan(table.gain[1])
    assert list(table.rates[:2]) == ["0.001 against 0.0006", ""] and table.rates[4] == "0.001"
    assert table["measured by"][0] == "accuracy, hard families" and "rollouts" in table["measured by"][5]


def collapsing(folder, variant, outcomes):
    for seed, collapsed in enumerate(outcomes):
        run = fake_run(folder / variant, seed, 0.0)
        summary = json.loads((run / "summary.json").read_text())
        (run / "summary.json").write_text(json.dumps(summary | {"collapsed": collapsed}))


@pytest.mark.parametrize(
    "outcomes, said",
    [
        ([True] * 4 + [False], "seen"),
        ([True] + [False] * 5, "leaning"),  # 1 of 6 is above 0.1, its interval is not
        ([False] * 5, "not seen"),
        ([True] * 2, "too few seeds"),
    ],
)
def test_a_claim_of_how_often_counts_the_runs_of_all_rates(tmp_path, outcomes, said):
    collapsing(tmp_path / "study", "grpo-lr1e-3", outcomes[:2])
    collapsing(tmp_path / "study", "grpo-lr2e-3", outcomes[2:])
    collapsing(tmp_path / "study", "grpo_like", [True] * 9)  # another arm
    row = claims_table(tmp_path, [Claim("it collapses", "abstract", "study", "grpo", "", "collapsed", "often")]).iloc[0]
    assert (row.verdict, row.seeds, row.gain) == (said, len(outcomes), sum(outcomes) / len(outcomes))
    assert row.low <= row.gain <= row.high


def test_a_run_and_its_continuation_count_once(tmp_path):
    collapsing(tmp_path / "study", "grpo-lr1e-3", [False] * 3)
    collapsing(tmp_path / "study", "grpo-lr1e-3-long", [True] * 3)
    for summary in (tmp_path / "study" / "grpo-lr1e-3-long").glob("*/summary.json"):
        fields = json.loads(summary.read_text())
        summary.write_text(json.dumps(fields | {"rollouts": 5 * fields["rollouts"]}))
    row = claims_table(tmp_path, [Claim("it collapses", "abstract", "study", "grpo", "", "collapsed", "often")]).iloc[0]
    assert (row.seeds, row.gain) == (3, 1.0)


def test_every_claim_names_arms_of_a_study():
    committed = REPOSITORY / "assets" / "runs"
    for claim in CLAIMS:
        known = set(find_runs(committed / claim.study))
        if has_plan(claim.study):
            known = {arm.variant for arm in read_plan(claim.study).arms}
        if claim.expects == "often":
            assert any(name.startswith(f"{claim.ours}-") for name in known), claim.text
        else:
            assert {claim.ours, claim.theirs} <= known, claim.text


def test_the_commands_of_the_table_make_the_runs_of_both_sides_elsewhere(capsys, monkeypatch):
    monkeypatch.setattr("toolexpander_lite.studies.runner.read_plan", lru_cache(read_plan))  # each plan once
    table = claims_table(REPOSITORY / "assets" / "runs")
    for row in table.drop_duplicates("command").itertuples():
        words = shlex.split(row.command)
        assert words[:3] == ["python", "-m", "toolexpander_lite"]
        if words[3] == "study":
            assert main([*words[3:], "--dry-run"]) == 0
            lines = capsys.readouterr().out.splitlines()
            outs = [line.split("--out ")[-1] for line in lines if "--out" in line]
            waiting = {line.split()[1] for line in lines if line.startswith("# ")}  # for a search of their rate
            study, names = words[4], set(words[words.index("--only") + 1].split(","))
            assert all(out.startswith(f"out/again/{study}/") for out in outs)
            made = {out.split("/")[3] for out in outs}
            assert made | waiting == names or names == {"grpo"}, row.claim
        else:
            assert _parser().parse_args(words[3:]).out.startswith("out/again/")


def test_a_view_colours_verdicts_and_leaves_out_what_is_not_known(tmp_path):
    for seed in range(5):
        fake_run(tmp_path / "study" / "with", seed, 0.9)
        fake_run(tmp_path / "study" / "without", seed, 0.2)
    claims = [Claim("a sentence", "abstract", "study", "with", "without"), Claim("other", "abstract", "none", "x", "y")]
    page = claims_view(claims_table(tmp_path, claims)).to_html()
    assert "0.70 to 0.70" in page and "#2a8c4a55" in page and "nan" not in page and "out/again" not in page


def test_a_row_of_a_forest_plot_names_the_claim_it_tests_from_either_side(tmp_path, monkeypatch):
    for arm, hard in (("with", 0.9), ("without", 0.2)):
        for seed in range(3):
            fake_run(tmp_path / "study" / arm, seed, hard)
    claim = Claim("it helps", "-", "study", "with", "without")
    monkeypatch.setattr("toolexpander_lite.studies.claims.CLAIMS", (claim,))
    page = effects_view(tmp_path / "study", ("without", ["with"]), ("with", ["without"])).to_html()
    assert page.count("it helps") == 2 and page.count("it helps: this row the other way round") == 1


def test_aims_are_met_as_the_logs_say():
    runs = REPOSITORY / "assets" / "runs"
    aims = aims_table(runs).set_index("aim")
    whole = find_runs(runs / "nano-ablation")["toolexpander"]
    ends = [read_json(run / "summary.json")["zero_shot_hard"] for run in whole]
    first = aims.iloc[0]
    assert first.found.startswith(f"{sum(end >= 0.95 for end in ends)} of {len(ends)} seeds")
    assert aims.met["its interval lies above that of hint"] == "no", "both end at the ceiling"
    assert aims.met["its interval lies above that of grpo"] == "yes"
