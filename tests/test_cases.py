"""The small inputs kept beside the repository (../shared/cases): each gives the value that its README says."""

from pathlib import Path

import pytest

from toolexpander_lite.data.sources import load_samples

CASES = Path(__file__).resolve().parents[2] / "shared" / "cases"
BROKEN = "gold that breaks its tool's schema: "


def load(file, source):
    if not (CASES / file).is_file():
        pytest.skip(f"no {file} in ../shared/cases, the small inputs kept beside the repository")
    report = load_samples(source, CASES / file)
    return report, [[(c["name"], c["arguments"]) for c in s.calls] for s in report.samples]


def parameters(report, row=-1, tool=0):
    return report.samples[row].tools[tool]["function"]["parameters"]


def test_arguments_as_json_text():
    report, calls = load("d_args_as_json_text.jsonl", "hermes")
    assert calls == [[("set_lamp", {"room": "attic", "level": 3})], [("set_lamp", {"room": "cellar", "level": 4})]]


def test_calls_without_parameters():
    report, calls = load("e_empty_args.jsonl", "hermes")
    assert calls[0] == [("set_lamp", {"room": "attic", "level": 3})] and calls[1:] == [[("read_clock", {})]] * 4


def test_python_literals():
    report, calls = load("f_python_repr.jsonl", "hermes")
    assert calls == [
        [("save_note", {"text": "don't forget Ann's keys", "pinned": True, "tag": None})],
        [("save_note", {"text": 'she said "it\'s ok"', "pinned": True})],
    ]


def test_parameters_called_like_keywords():
    report, calls = load("g_keyword_names.jsonl", "hermes")
    shown = parameters(report)
    assert set(shown["properties"]) == set(calls[0][0][1]) and len(shown["properties"]) == 12
    assert shown["required"] == ["type", "required"] and shown["properties"]["$ref"] == {"type": "string"}


def test_null_in_several_dialects():
    report, calls = load("h_nullable.jsonl", "hermes")
    assert [c[0][1] for c in calls] == [{"time": f"7:{m}0", "label": None} for m in range(5)]
    assert report.dropped == {BROKEN + "anyOf": 1}
    assert parameters(report)["properties"]["label"] == {"anyOf": [{"type": "string"}, {"const": None}]}


def test_rows_out_of_arrow():
    report, calls = load("i_hermes_nested.parquet", "hermes")
    assert calls == [[("set_lamp", {"room": "attic"})], [("water_bed", {"bed": "roses"})]]
    assert [list(parameters(report, i)["properties"]) for i in (0, 1)] == [["room"], ["bed", "litres"]]
    report, calls = load("i_xlam_nested.parquet", "xlam")
    assert calls == [[("get_rate", {"base": "USD"})], [("get_news", {"topic": "sports"})]]
    assert [list(parameters(report, 0, i)["properties"]) for i in (0, 1)] == [["base", "quote"], ["topic", "days"]]
    assert "null" not in str(report.samples[0].tools) and "None" not in str(report.samples[0].tools)


def test_lines_in_a_json_file():
    report, calls = load("k_lines.json", "xlam")
    assert calls == [[("get_rate", {"base": "USD"})], [("get_rate", {"base": "EUR"})]]


def test_several_calls_in_one_block():
    report, calls = load("m_two_per_block.jsonl", "hermes")
    assert calls == [[("add_item", {"item": "milk"}), ("add_item", {"item": "eggs"})]] * 3


def test_references():
    report, calls = load("n_refs.jsonl", "hermes")
    leg = {"from": "Rome", "to": "Bari", "stop": {"from": "Rome", "to": "Naples"}}
    assert calls == [[("book_trip", {"legs": [leg], "class": "first"})]]
    assert report.dropped == {BROKEN + "enum": 1}
    assert parameters(report)["$defs"]["Leg"]["properties"]["stop"]["default"] is None


def test_openai_chats():
    report, calls = load("o_openai_messages.jsonl", "openai")
    assert calls == [[("set_lamp", {"room": "attic", "level": 3})]] and report.dropped == {}
    assert report.samples[0].messages == [{"role": "user", "content": "Dim the attic lamp to 3."}]


@pytest.mark.parametrize(
    "file, keyword, kept",
    [("r_missing_required.jsonl", "required", ("add_item", {"item": "eggs"})),
     ("t_one_of.jsonl", "oneOf", ("find", {"id": 4}))],
)  # fmt: skip
def test_gold_that_breaks_the_whole_schema(file, keyword, kept):
    report, calls = load(file, "hermes")
    assert calls == [[kept]] and report.dropped == {BROKEN + keyword: 1}


def test_flat_parameters_keep_their_keywords():
    report, calls = load("x_flat_keywords.jsonl", "xlam")
    assert calls == [[("set_mode", {"mode": "eco", "minutes": 10})]]
    assert parameters(report) == {
        "type": "object",
        "properties": {
            "mode": {"type": "string", "description": "Mode", "enum": ["eco", "boost"]},
            "minutes": {"type": "integer", "description": "How long", "minimum": 1, "maximum": 60},
            "zones": {"type": "array", "description": "Zones",
                      "items": {"type": "object", "properties": {"id": {"type": "integer"}}}},
        },
        "required": ["mode"],
    }  # fmt: skip


def test_openai_tools_in_a_flat_source():
    report, calls = load("x_openai_tools.jsonl", "xlam")
    assert calls == [[("set_lamp", {"room": r, "level": 3})] for r in ("attic", "x")]
    assert parameters(report, 0) == parameters(report, 1) and parameters(report)["required"] == ["room"]
