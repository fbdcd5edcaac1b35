"""API-Bank: rows of both publishers, strict scores, and no second try."""

import json
import urllib.error
from pathlib import Path

import pytest

from toolexpander_lite.__main__ import main
from toolexpander_lite.base import downloads
from toolexpander_lite.base.errors import DataError, RunError, SettingsError
from toolexpander_lite.base.spelled_defaults import spelled_defaults
from toolexpander_lite.evaluation import accuracy
from toolexpander_lite.evaluation.answers import calls_text, read_answers
from toolexpander_lite.evaluation.api_bank import (
    SYSTEM_TEXT,
    api_bank_table,
    evaluate_api_bank,
    load_api_bank,
    questions_of,
    score_api_bank,
    to_owners_row,
)
from toolexpander_lite.models.policy import load_policy
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.worlds.api_tasks import api_tasks

SLICES = Path(__file__).resolve().parents[2] / "shared" / "data" / "api-bank"


def tool(name, **types):
    parameters = {key: {"type": kind, "description": f"The {key}."} for key, kind in types.items()}
    return {"name": name, "description": f"Does {name}.", "input_parameters": parameters, "output_parameters": {}}


PAY = tool("Pay", to="str", amount="int", notes="list(str)")
SEARCH = tool("ToolSearcher", keywords="str")


def owners_row(gold, tools=(PAY,), dialogue="User: Pay Ann 5.\nGenerate API Request:\n"):
    instruction = "\nGenerate an API request.\nAPI descriptions:\n" + "\n".join(map(json.dumps, tools))
    texts = {"instruction": instruction, "input": dialogue, "expected_output": f"API-Request: {gold}"}
    return {"file": "f", "id": 0, **texts}


def hammer_row(*calls, tools=(PAY,), query=None):
    tools = [{"name": t["name"], "description": t["description"], "parameters": t["input_parameters"]} for t in tools]
    query = query or [{"role": "user", "content": "Pay Ann 5.\nGenerate API Request:"}]
    return {"query": query, "tools": tools, "answers": [{"name": n, "arguments": a} for n, a in calls]}


def load(folder, rows, level=1, **options):
    file = folder / "rows.json"
    file.write_text(rows if isinstance(rows, str) else json.dumps(rows))
    return load_api_bank(level, path=file, **options)


def test_both_publishers_rows_become_the_same_sample(tmp_path):
    gold = """[Pay(to='Ann O'Neil, "Ann"', amount='5', notes='["a", 'b, c']')]"""
    owners = load(tmp_path, [owners_row(gold)])
    arguments = {"to": 'Ann O\'Neil, "Ann"', "amount": "5", "notes": "['a', 'b, c']"}
    hammers = load(tmp_path, [hammer_row(("Pay", arguments))])
    (sample,) = owners.samples
    assert hammers.samples == [sample]
    assert sample.id == "api-bank-1-000000" and sample.split == "test" and sample.family == "api-bank-1"
    assert sample.messages == [
        {"role": "system", "content": SYSTEM_TEXT},
        {"role": "user", "content": "User: Pay Ann 5.\nGenerate API Request:"},
    ]
    # text where text is listed, a number and a list where those are
    assert sample.calls == [{"name": "Pay", "arguments": {
        "to": 'Ann O\'Neil, "Ann"', "amount": 5, "notes": ["a", "b, c"]}}]  # fmt: skip
    assert sample.tools == [{"type": "function", "function": {
        "name": "Pay", "description": "Does Pay.", "parameters": {"type": "object", "properties": {
            "to": {"type": "string", "description": "The to."},
            "amount": {"type": "integer", "description": "The amount."},
            "notes": {"type": "array", "items": {"type": "string"}, "description": "The notes."},
        }}}}]  # fmt: skip
    assert owners.licence == "MIT" and "Apache-2.0" in hammers.licence and str(tmp_path) in owners.address


def test_rows_of_our_own_come_back_as_they_were(tmp_path):
    samples = [task.sample for task in api_tasks(per_family=1) if task.kind in ("question", "change")]
    report = load(tmp_path, [to_owners_row(sample) for sample in samples])
    assert len(report.samples) == len(samples) > 5 and not report.dropped
    for read, written in zip(report.samples, samples):
        assert read.calls == written.calls and type(read.calls[0]["arguments"]) is dict
        assert f"User: {written.messages[-1]['content']}" in read.messages[-1]["content"]
        assert [t["function"]["name"] for t in read.tools] == [t["function"]["name"] for t in written.tools]


def test_gold_text_that_is_not_of_the_listed_type_stays_text(tmp_path):
    (sample,) = load(tmp_path, [owners_row("[Pay(amount='five', notes='[1, ')]")]).samples
    assert sample.calls[0]["arguments"] == {"amount": "five", "notes": "[1, "}
    (sample,) = load(tmp_path, [owners_row("[Pay()]")]).samples
    assert sample.calls[0]["arguments"] == {}
    (sample,) = load(tmp_path, [owners_row("[Pay(amount='True', notes=['a, b', 'c'])]")]).samples
    assert sample.calls[0]["arguments"] == {"amount": "True", "notes": ["a, b", "c"]}, "True is no number"


def test_a_quoted_value_may_look_like_the_next_argument(tmp_path):
    for gold in ("[Pay(to='see Ann, amount=2 or so', amount='5')]", "[Pay(amount=5, to='see Ann, amount=2 or so')]"):
        (sample,) = load(tmp_path, [owners_row(gold)]).samples
        assert sample.calls[0]["arguments"] == {"to": "see Ann, amount=2 or so", "amount": 5}
    (sample,) = load(tmp_path, [owners_row("[Pay(to='Ann's, or so', amount='5')]")]).samples
    assert sample.calls[0]["arguments"] == {"to": "Ann's, or so", "amount": 5}


def test_arguments_may_stand_without_a_space_between(tmp_path):
    for gold in ("[Pay(to='Ann',amount='5')]", '[Pay(to="Ann",amount=5)]', "[Pay(to='Ann' ,\namount='5')]"):
        (sample,) = load(tmp_path, [owners_row(gold)]).samples
        assert sample.calls[0]["arguments"] == {"to": "Ann", "amount": 5}
    (sample,) = load(tmp_path, [owners_row("[Pay(to=see a=1,amount=2, amount=5)]")]).samples
    assert sample.calls[0]["arguments"] == {"to": "see a=1,amount=2", "amount": 5}, "no quote, so the comma is its own"


def test_signs_by_the_thousand_are_text_like_any_other(tmp_path):
    signs = "-" * 100_000 + "1"
    (sample,) = load(tmp_path, [owners_row(f"[Pay(amount='{signs}')]")]).samples
    assert sample.calls[0]["arguments"] == {"amount": signs}


def test_level_two_offers_what_an_earlier_search_found(tmp_path):
    found = [PAY | {"desc_for_search": "pay"}, tool("Balance", token="str")]
    dialogue = "User: Pay Ann 5.\nAPI-Request: [ToolSearcher(keywords='pay')]->{}\nGenerate API Request:\n"
    rows = [
        owners_row("[ToolSearcher(keywords='pay')]", [SEARCH]),
        owners_row("[Pay(to='Ann', amount='5')]", [SEARCH], dialogue.replace("{}", str(found))),
        owners_row("[Pay(to='Ann', amount='5')]", [SEARCH], dialogue.replace("{}", str(found[0]))),
        owners_row("[Pay(to='Ann', amount='5')]", [SEARCH], dialogue.replace("{}", str(found)[:-9])),  # cut
    ]
    report = load(tmp_path, rows, level=2)
    assert [[t["function"]["name"] for t in s.tools] for s in report.samples] == [
        ["ToolSearcher"], ["ToolSearcher", "Pay", "Balance"], ["ToolSearcher", "Pay"],
    ]  # fmt: skip
    assert report.dropped == {"call to an unlisted tool": 1}


def test_hammers_dialogue_is_one_turn_with_speakers(tmp_path):
    query = [
        {"role": "user", "content": "Pay Ann."}, {"role": "agent", "content": "How much?"},
        {"role": "assistant", "content": '```[{"name": "Pay", "arguments": {}}]```'},
        {"role": "tool", "content": "failed\nGenerate API Request:"},
    ]  # fmt: skip
    (sample,) = load(tmp_path, [hammer_row(("Pay", {"amount": 5}), query=query)]).samples
    assert sample.messages[1]["content"] == (
        'User: Pay Ann.\nAI: How much?\nAPI-Request: [{"name": "Pay", "arguments": {}}]\n'
        "API-Response: failed\nGenerate API Request:"
    )


def test_unusable_rows_are_counted_by_reason(tmp_path):
    rows = [
        owners_row("[Other(a='1')]"), owners_row("[Pay(colour='red')]"), owners_row("no call"), owners_row("[Pay(5)]"),
        {"unrelated": 1}, None, hammer_row(("Pay", {}), ("Pay", {})), hammer_row(), owners_row("[Pay(to='Ann')]"),
    ]  # fmt: skip
    report = load(tmp_path, rows)
    assert [s.id for s in report.samples] == ["api-bank-1-000008"]
    assert report.dropped == {
        "call to an unlisted tool": 1, "argument its tool does not list": 1, "unparsable row": 4,
        "not exactly one call": 2,
    }  # fmt: skip


def test_errors_name_what_is_wrong(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="no API-Bank level 3"):
        load_api_bank(3)
    with pytest.raises(DataError, match="by 'other'; choose 1 or 2, owners or hammer"):
        load_api_bank(1, "other")
    with pytest.raises(DataError, match="limit is 0"):
        load(tmp_path, [owners_row("[Pay()]")], limit=0)
    with pytest.raises(DataError, match="rows.json is not a JSON list of rows; it may be cut short; get a whole copy"):
        load(tmp_path, '[{"file"')
    with pytest.raises(DataError, match="no usable row of 1"):
        load(tmp_path, "{}")
    with pytest.raises(DataError, match="no usable row of 1"):
        load(tmp_path, [{}])
    with pytest.raises(DataError, match="no file .*absent.json"):
        load_api_bank(1, path=tmp_path / "absent.json")

    def unreachable(url, timeout):
        raise urllib.error.URLError("no route")

    monkeypatch.setenv("TOOLEXPANDER_CACHE", str(tmp_path))
    monkeypatch.setattr(downloads.urllib.request, "urlopen", unreachable)
    for publisher in ("owners", "hammer"):
        with pytest.raises(DataError, match=r"https://raw.githubusercontent.com/.+/[0-9a-f]{40}/.*no route.*path="):
            load_api_bank(2, publisher)


@pytest.mark.parametrize("content", [b'[{"file"', b'{"file"', b"\xff"])
def test_a_damaged_file_in_the_cache_is_named(tmp_path, monkeypatch, content):
    monkeypatch.setenv("TOOLEXPANDER_CACHE", str(tmp_path))
    file = downloads.cache_folder("data", "api-bank") / "level-1-api.json"
    file.write_bytes(content)
    with pytest.raises(DataError, match=f"{file}.*the kit's own copy: delete it"):
        load_api_bank(1)


def test_a_first_row_that_is_none_is_counted_like_any_other(tmp_path):
    report = load(tmp_path, [None, hammer_row(("Pay", {"amount": 5}))])
    assert report.dropped == {"unparsable row": 1} and "Apache-2.0" in report.licence


def test_a_limit_draws_the_same_rows_each_time(tmp_path):
    rows = [owners_row(f"[Pay(amount='{i}')]") for i in range(20)]
    few = load(tmp_path, rows, limit=5).samples
    assert len(few) == 5 and few == load(tmp_path, rows, limit=5).samples and few == sorted(few, key=lambda s: s.id)


def answered(folder, rows):
    """rows: (sample, completion) -> answers file."""
    file = folder / "answers.jsonl"
    lines = [{"id": s.id, "result": "", "completion": c, "latency": 0.5} for s, c in rows]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


GOLD, OTHER = ({"name": "Pay", "arguments": {"to": "Ann", "amount": n}} for n in (5, 6))


@pytest.mark.parametrize(
    "completion, correct, reason",
    [
        ("<think>x</think>" + calls_text([GOLD]), 1, "ok"),
        ("Gladly. " + calls_text([GOLD]), 1, "no_think"),  # text around a call costs form, not the call
        ("<think>x</think>" + calls_text([GOLD, OTHER]), 0, "extra_call"),  # one right call among others is not right
        ("<think>x</think>" + calls_text([GOLD, GOLD]), 0, "extra_call"),
        ("<think>x</think>" + calls_text([OTHER]), 0, "wrong_argument"),
        ("<think>x</think>" + calls_text([GOLD]).replace("5", '"5"'), 0, "wrong_argument"),
        ("<think>x</think>", 0, "no_call"),
        ("<think>x</think>" + calls_text([GOLD]) + "<tool_call>{", 0, "truncated"),
    ],
)
def test_only_the_expected_call_and_no_other_is_right(tmp_path, completion, correct, reason):
    (sample,) = load(tmp_path, [owners_row("[Pay(to='Ann', amount='5')]")]).samples
    scores = score_api_bank([sample], answered(tmp_path, [(sample, completion)]))
    assert list(scores) == ["level 1"]
    assert scores["level 1"]["correct"] == correct == scores["level 1"]["accuracy"]
    assert scores["level 1"]["reasons"] == {reason: 1} and scores["level 1"]["items_per_second"] == 2


def test_searches_are_also_left_out(tmp_path):
    rows = [owners_row("[ToolSearcher(keywords='pay')]", [SEARCH])] * 3 + [owners_row("[Pay(to='Ann', amount='5')]")]
    samples = load(tmp_path, rows, level=2).samples
    file = answered(tmp_path, [(s, "<think>x</think>" + calls_text([GOLD])) for s in samples])
    scores = score_api_bank(samples, file)
    assert {name: (s["correct"], s["answered"]) for name, s in scores.items()} == {
        "level 2": (1, 4), "level 2 without searches": (1, 1),
    }  # fmt: skip
    assert scores["level 2"]["low"] == pytest.approx(0.0456, abs=1e-3)  # Wilson's interval of 1 of 4
    assert scores["level 2"]["high"] == pytest.approx(0.6994, abs=1e-3)
    assert list(api_bank_table(scores)["questions"]) == list(scores)


def test_a_repeated_run_asks_nothing_again(tmp_path, monkeypatch):
    policy = load_policy(get_profile("nano"), device="cpu")
    report = load(tmp_path, [owners_row(f"[Pay(amount='{i}')]") for i in range(3)])
    first = evaluate_api_bank(*policy, "nano", tmp_path / "out", {1: report}, max_new_tokens=4, batch_size=2)
    assert first["level 1"]["answered"] == 3 and first["level 1"]["correct"] == 0
    rows = read_answers(tmp_path / "out" / "api-bank-1.jsonl")
    # a model that would now be right is not asked: what was wrong at the first try stays wrong
    monkeypatch.setattr(accuracy, "generate", lambda *a, **k: pytest.fail("asked again"))
    again = evaluate_api_bank(*policy, "nano", tmp_path / "out", {1: report}, max_new_tokens=4, batch_size=2)
    assert again == first == json.loads((tmp_path / "out" / "scores.json").read_text())
    assert read_answers(tmp_path / "out" / "api-bank-1.jsonl") == rows
    with pytest.raises(RunError, match="limit differ"):
        evaluate_api_bank(*policy, "nano", tmp_path / "out", {1: report}, 2, max_new_tokens=4, batch_size=2)
    file = tmp_path / "out" / "api-bank-1.jsonl"
    with pytest.raises(DataError, match="other questions than these 2"):
        score_api_bank(report.samples[1:], file)
    file.write_text(file.read_text() + json.dumps(rows[0] | {"completion": "a second try"}) + "\n")
    with pytest.raises(RunError, match="answered twice"):
        score_api_bank(report.samples, file)


def test_asked_in_the_models_own_format_no_thought_is_missed(tmp_path, monkeypatch):
    policy = load_policy(get_profile("nano"), device="cpu")
    report = load(tmp_path, [owners_row("[Pay(amount='5')]")])
    for style, reason, formed in (("native", "ok", 1), ("think", "no_think", 0)):
        monkeypatch.setattr(accuracy, "generate", lambda m, t, p, *a, **k: [calls_text(report.samples[0].calls)])
        scores = evaluate_api_bank(*policy, "nano", tmp_path / style, {1: report}, invite=style)["level 1"]
        assert (scores["correct"], scores["well_formed"], scores["reasons"]) == (1, formed, {reason: 1})
    with pytest.raises(RunError, match="invite differ"):
        evaluate_api_bank(*policy, "nano", tmp_path / "native", {1: report})


def test_answers_to_other_rows_are_refused_and_levels_join(tmp_path, monkeypatch):
    policy = load_policy(get_profile("nano"), device="cpu")
    few, many = (load(tmp_path, [owners_row(f"[Pay(amount='{i}')]") for i in range(n)]) for n in (2, 3))
    second = load(tmp_path, [owners_row("[Pay(amount='5')]")], level=2)
    out, settings = tmp_path / "out", {"max_new_tokens": 2, "batch_size": 2}
    first = evaluate_api_bank(*policy, "nano", out, {1: few}, **settings)
    told = first["level 1"]["questions"]
    assert (told["publisher"], told["source"], told["rows"]) == ("owners", "rows.json", 2) and len(told["sha256"]) == 16
    assert json.loads((out / "config.json").read_text())["questions"] == {"level 1": told}
    assert str(tmp_path) not in (out / "scores.json").read_text(), "the name of a local file, not its place"

    both = evaluate_api_bank(*policy, "nano", out, {2: second}, **settings)
    assert list(both) == ["level 1", "level 2"] and both["level 1"] == first["level 1"]
    assert both == json.loads((out / "scores.json").read_text())
    assert json.loads((out / "config.json").read_text())["questions"]["level 2"] == both["level 2"]["questions"]
    monkeypatch.setattr(accuracy, "generate", lambda *a, **k: pytest.fail("asked"))
    assert evaluate_api_bank(*policy, "nano", out, {1: few, 2: second}, **settings) == both
    # The same ids and numbers, but another question; and more of the same.
    other = load(tmp_path, [owners_row(f"[Pay(amount='{i}')]", dialogue="User: Pay Bo.") for i in range(2)])
    for report in (other, many):
        with pytest.raises(RunError, match=r"other settings \(questions differ\)"):
            evaluate_api_bank(*policy, "nano", out, {1: report}, **settings)
    with pytest.raises(RunError, match="max_new_tokens differ"):
        evaluate_api_bank(*policy, "nano", out, {2: second}, max_new_tokens=3, batch_size=2)
    with spelled_defaults("same"), pytest.raises(RunError, match="spelled_defaults differ"):
        evaluate_api_bank(*policy, "nano", out, {2: second}, **settings)
    assert json.loads((out / "scores.json").read_text()) == both
    (out / "config.json").write_text("{")
    with pytest.raises(RunError, match="cannot read .*config.json.*choose another folder"):
        evaluate_api_bank(*policy, "nano", out, {1: few}, **settings)


def test_published_rows_are_told_by_their_address(tmp_path, monkeypatch):
    rows = [hammer_row(("Pay", {"amount": 5}))]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    monkeypatch.setattr("toolexpander_lite.evaluation.api_bank.fetch", lambda url, folder: tmp_path / "rows.json")
    told = questions_of(load_api_bank(2, "hammer"))
    assert told["publisher"] == "hammer" and told["source"].endswith("apibank_l2.json") and told["rows"] == 1
    local = questions_of(load_api_bank(2, path=tmp_path / "rows.json"))
    assert local == told | {"source": "rows.json"}


def test_the_command_line_reads_asks_and_scores(tmp_path, capsys):
    (tmp_path / "rows.json").write_text(json.dumps([owners_row("[Pay(amount='5')]")]))
    command = ["api-bank", "--profile", "nano", "--levels", "1", "--data-path", str(tmp_path / "rows.json")]
    command += ["--max-new-tokens", "4"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "api-bank level 1 (MIT)" in out and "level 1: 1 of 1 answered" in out
    assert main([*command, "--out", str(tmp_path / "native"), "--style", "native"]) == 0
    assert json.loads((tmp_path / "native" / "config.json").read_text())["invite"] == "native"
    capsys.readouterr()
    assert main(["api-bank", "--levels", "3", "--out", str(tmp_path / "out")]) == 2
    assert "no API-Bank level 3" in capsys.readouterr().err
    both = ["api-bank", "--data-path", str(tmp_path / "rows.json"), "--out", str(tmp_path / "both")]
    assert main(both) == 2
    assert "say which with --levels 1 or --levels 2" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--limit", "--max-new-tokens", "--batch-size"])
def test_a_number_that_cannot_be_is_refused_at_once(tmp_path, capsys, option):
    (tmp_path / "rows.json").write_text(json.dumps([owners_row("[Pay(amount='5')]")]))
    command = ["api-bank", "--profile", "nano", "--levels", "1", "--data-path", str(tmp_path / "rows.json")]
    assert main([*command, option, "0", "--out", str(tmp_path / "out")]) == 2
    name = option[2:].replace("-", "_")
    assert capsys.readouterr().err == f"error: {name} is 0; it must be a whole number from 1\n"
    report = load(tmp_path, [owners_row("[Pay(amount='5')]")])
    with pytest.raises(SettingsError, match=f"{name} is 0"):
        evaluate_api_bank(None, None, "nano", tmp_path / "out", {1: report}, **{name: 0})
    assert not (tmp_path / "out").exists()


def test_the_real_slices_of_both_publishers_agree():
    files = [SLICES / name for name in ("level-1-api_60.json", "level1_hammer_format_60.json")]
    if not all(file.is_file() for file in files):
        pytest.skip("no api-bank in ../shared/data, the slices of real data kept beside the repository")
    owners, hammers = (load_api_bank(1, path=file) for file in files)
    assert owners.dropped == hammers.dropped == {} and len(owners.samples) == 60
    assert [s.calls for s in owners.samples] == [s.calls for s in hammers.samples]
    # publishers describe the tools in the same words; only the form of earlier calls differs
    assert [s.tools for s in owners.samples] == [s.tools for s in hammers.samples]
    plain = [s for s in owners.samples if "API-Request: [" not in s.messages[1]["content"]]
    same = {s.id: s for s in hammers.samples}
    assert plain and all(same[s.id] == s for s in plain)
