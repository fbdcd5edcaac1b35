"""Rows in the native format of each data set -> samples, worked out by hand; and the parsing below them."""

import json
from dataclasses import replace
from pathlib import Path

import datasets
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from toolexpander_lite.base.errors import DataError
from toolexpander_lite.data.file_formats import hub_rows
from toolexpander_lite.data.parse_values import read_literal, read_python_calls
from toolexpander_lite.data.row_formats import read_calls, to_hermes, toolace_row
from toolexpander_lite.data.sources import SOURCES, load_samples
from toolexpander_lite.data.tool_schemas import RowDropped, json_schema, object_schema, read_tools
from toolexpander_lite.method.samples import to_dataset, to_samples
from toolexpander_lite.worlds.run_calls import ToolRegistry

SLICES = Path(__file__).resolve().parents[2] / "shared" / "data"


def load(folder, source, rows):
    file = folder / "rows.json"
    file.write_text(json.dumps(rows), encoding="utf-8")
    return load_samples(source, file)


WEATHER = {
    "name": "Get Weather",
    "description": "Weather of a city",
    "parameters": {
        "type": "dict",
        "properties": {
            "city": {"type": "string", "description": "The city", "enum": None},
            "days": {"type": "int", "default": 3},
            "wind": {"type": "dict", "properties": {"limit": {"type": "float"}}},
            "hours": {"type": "list", "items": {"type": "int"}},
            "note": {"type": "any"},
        },
        "required": ["city"],
    },
    "required": None,
}
PING = {"name": "ping", "description": "Is it there?", "parameters": {"type": "dict", "properties": {}}}


def toolace(*turns, tools=(WEATHER, PING)):
    system = (
        "Compose functions. Here is a list of functions in JSON format that you can invoke:\n"
        f"{json.dumps(tools)}. \nPut it in the format of [func1(params_name=params_value), func2(params)]\n"
    )
    roles = {"u": "user", "a": "assistant", "t": "tool"}
    return {"system": system, "conversations": [{"from": roles[t[0]], "value": t[1:]} for t in turns]}


def test_toolace_row(tmp_path):
    row = toolace(
        "uWeather in Rome?",
        'a[Get Weather(city="Rome, [IT] (=x)", wind={"limit": 1.5}, hours=[1, 2]), ping()]',
        't[{"name": "Get Weather", "results": {}}]',
        "aIt is fine.",
        "uAnd in Paris?",
        'a[Get Weather(city="Paris")]',
    )
    report = load(tmp_path, "toolace", [row])
    (sample,) = report.samples
    assert sample.id == "toolace-000000" and report.licence == "Apache-2.0"
    assert sample.messages == [{"role": "user", "content": "Weather in Rome?"}]
    assert sample.calls == [
        {"name": "Get Weather", "arguments": {"city": "Rome, [IT] (=x)", "wind": {"limit": 1.5}, "hours": [1, 2]}},
        {"name": "ping", "arguments": {}},
    ]
    weather, ping = (t["function"] for t in sample.tools)
    assert weather["parameters"] == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "The city"},
            "days": {"type": "integer", "default": 3},
            "wind": {"type": "object", "properties": {"limit": {"type": "number"}}},
            "hours": {"type": "array", "items": {"type": "integer"}},
            "note": {},
        },
        "required": ["city"],
    }
    assert ping == {
        "name": "ping", "description": "Is it there?", "parameters": {"type": "object", "properties": {}},
    }  # fmt: skip


def bad_tool(**changes):
    return toolace("uGo", "a[ping()]", tools=[PING | changes])


def test_unusable_toolace_rows_are_counted(tmp_path):
    rows = [
        toolace("uHello", "aWhich city do you mean?"),
        toolace("uGo", "a[ping()]", "t[]", "a[ping()]"),
        toolace("aHello", "uGo", "a[ping()]"),
        toolace("uGo", "a[pong()]"),
        toolace("uGo", 'a[ping(port="80")]'),
        toolace("uGo", 'a[ping(__import__("os").system("x"))]'),
        toolace("uGo", "a[Get Weather(city=Rome)]"),
        toolace("uGo", "a[ping()]", tools=[PING, PING]),
        toolace("uGo", "a[ping()]", tools=[]),
        bad_tool(parameters={"type": "dict", "properties": {"x": "string"}}),
        bad_tool(parameters={"type": "dict", "properties": {"x": {"type": "string", "enum": "a or b"}}}),
        bad_tool(parameters={"type": "dict", "properties": {"x": {"type": "string", "required": "yes"}}}),
        bad_tool(parameters={"type": "dict", "properties": {"x": {"type": "string"}}, "required": True}),
        bad_tool(parameters={"type": "string"}),
        bad_tool(parameters="none"),
        bad_tool(name=None),
        {"system": "You are a poet.", "conversations": [{"from": "user", "value": "Go"}]},
        {"conversations": []},
        toolace("uGo", "a[ping()]"),
        bad_tool(parameters=None),  # takes no arguments
    ]
    report = load(tmp_path, "toolace", rows)
    assert [s.id for s in report.samples] == ["toolace-000018", "toolace-000019"]
    assert report.dropped == {
        "row without a call": 1,
        "calls in several steps": 1,
        "chat that does not open with a question and an answer": 3,
        "call to an unlisted tool": 1,
        "argument its tool does not list": 1,
        "unparsable row": 2,
        "two tools of one name": 1,
        "row without tools": 1,
        "tool schema that is not JSON Schema": 7,
    }


def test_required_inside_a_property_moves_to_the_list_of_its_object():
    place = {"type": "dict", "required": True, "properties": {"city": {"type": "string", "required": True}}}
    days = {"type": "int", "required": False}
    written = {"type": "dict", "properties": {"place": place, "days": days, "required": {"type": "bool"}}}
    assert json_schema(written) == {
        "type": "object",
        "properties": {
            "place": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
            "days": {"type": "integer"},
            "required": {"type": "boolean"},
        },
        "required": ["place"],
    }
    both = {"properties": {"a": {"required": True}, "b": {"required": True}}, "required": ["b"]}
    assert json_schema(both)["required"] == ["b", "a"]
    none = json_schema({"type": "dict", "properties": {"a": {"type": "string", "required": False}}})
    assert none == {"type": "object", "properties": {"a": {"type": "string"}}}


def test_types_are_translated_wherever_a_schema_holds_another():
    inner = [{"type": "float"}, {"type": "dict", "properties": {"x": {"type": "list", "items": {"type": "int"}}}}]
    parts = {key: inner for key in ("anyOf", "oneOf", "allOf", "prefixItems")}
    parts |= {"additionalProperties": {"type": "float"}, "not": {"type": "bool"}, "$defs": {"d": {"type": "dict"}}}
    whole = {"type": "array", "items": {"type": "integer"}}
    right = [{"type": "number"}, {"type": "object", "properties": {"x": whole}}]
    assert json_schema(parts) == {key: right for key in ("anyOf", "oneOf", "allOf", "prefixItems")} | {
        "additionalProperties": {"type": "number"}, "not": {"type": "boolean"}, "$defs": {"d": {"type": "object"}},
    }  # fmt: skip
    switches = {"additionalProperties": False, "items": True, "anyOf": [True, {"type": "float"}]}
    assert json_schema(switches) == switches | {"anyOf": [True, {"type": "number"}]}


def xlam(answers, tools=None, query="Sum of 1 and 2?"):
    parameters = {
        "a": {"description": "First", "type": "int"},
        "b": {"description": "Second", "type": "int, optional", "default": ""},
        "c": {"description": "Rest", "type": "List[float]", "default": "1,2"},
    }
    tools = [{"name": "add", "description": "Adds", "parameters": parameters}] if tools is None else tools
    return {"id": 7, "query": query, "tools": json.dumps(tools), "answers": json.dumps(answers)}


def flat(**parameters):
    return {"name": "add", "description": "Adds", "parameters": parameters}


ADD = {"name": "add", "arguments": {"a": 1, "b": 2}}


def test_xlam_row(tmp_path):
    (sample,) = load(tmp_path, "xlam", [xlam([ADD, ADD])]).samples
    assert sample.calls == [ADD, ADD] and sample.messages[-1]["content"] == "Sum of 1 and 2?"
    assert sample.tools[0]["function"]["parameters"] == {
        "type": "object",
        "properties": {
            "a": {"type": "integer", "description": "First"},
            "b": {"type": "integer", "description": "Second"},
            "c": {"type": "array", "items": {"type": "number"}, "description": "Rest", "default": "1,2"},
        },
        "required": ["a"],
    }


def test_unusable_xlam_rows_are_counted(tmp_path):
    rows = [
        xlam([]),
        xlam([{"name": "sub", "arguments": {}}]),
        xlam([ADD], tools=[]),
        xlam([ADD], tools=[{"name": "add", "description": "Adds", "parameters": {"a": "int"}}]),
        xlam([ADD], tools=[flat(a={"type": "int", "description": ["First", "of two"]}, b={"type": "int"})]),
        xlam([ADD], tools=[flat(a={"type": "int", "minimum": "1"}, b={"type": "int"})]),
        xlam([ADD], tools=[flat(a={"type": "int"}, b={"type": "int"}) | {"description": 7}]),
        xlam([ADD]) | {"answers": '[{"name": "add", "argum'},
        xlam([{"name": "add", "arguments": {"a": float("nan")}}]),
        xlam([{"name": "add", "arguments": "a=1"}]),
        xlam([ADD]),
    ]
    report = load(tmp_path, "xlam", rows)
    assert [s.id for s in report.samples] == ["xlam-000010"]
    for tool in report.samples[0].tools:
        ToolRegistry().register(print, tool)
    assert report.dropped == {
        "row without a call": 1,
        "call to an unlisted tool": 1,
        "row without tools": 1,
        "tool schema that is not JSON Schema": 4,
        "unparsable row": 3,
    }


def test_xlam_rows_may_hold_lists_instead_of_text(tmp_path):
    text = xlam([ADD])
    lists = text | {key: json.loads(text[key]) for key in ("tools", "answers")}
    nan = lists | {"answers": [{"name": "add", "arguments": {"a": float("nan")}}]}
    report = load(tmp_path, "xlam", [text, lists, nan])
    first, second = report.samples
    assert (first.tools, first.calls) == (second.tools, second.calls) and report.dropped == {"unparsable row": 1}


def test_irrelevance_rows_want_no_call(tmp_path):
    report = load(tmp_path, "xlam-irrelevance", [xlam([]), xlam([ADD]), xlam([], tools=[])])
    (sample,) = report.samples
    assert sample.calls == [] and [t["function"]["name"] for t in sample.tools] == ["add"]
    assert report.dropped == {"row with a call": 1, "row without tools": 1}
    assert to_samples(to_dataset(report.samples)) == report.samples


def hermes(answer, *later):
    turns = [("system", "You may call functions within <tools> </tools>."), ("human", "Weather in Rome?")]
    turns += [("gpt", answer), *later]
    return {
        "id": "x",
        "conversations": [{"from": role, "value": value} for role, value in turns],
        "tools": json.dumps([{"type": "function", "function": WEATHER}, {"type": "function", "function": PING}]),
        "category": "Weather",
    }


def test_hermes_row(tmp_path):
    answer = (
        "<tool_call>\n{'arguments': {'city': \"L'Aquila\", 'note': None}, 'name': 'Get Weather'}\n</tool_call>\n"
        '<tool_call>\n{"name": "Get Weather", "arguments": {"city": "Rome", "note": true}}\n</tool_call>'
    )
    rows = [hermes(answer), hermes(answer, ("tool", "<tool_response>{}</tool_response>"), ("gpt", "Fine."))]
    first, second = load(tmp_path, "hermes", rows).samples
    assert first.calls == second.calls == [
        {"name": "Get Weather", "arguments": {"city": "L'Aquila", "note": None}},
        {"name": "Get Weather", "arguments": {"city": "Rome", "note": True}},
    ]
    assert first.messages == [{"role": "user", "content": "Weather in Rome?"}]
    assert first.tools[0]["function"]["parameters"]["properties"]["days"] == {"type": "integer", "default": 3}


def test_what_stands_in_a_scratch_pad_is_a_thought(tmp_path):
    ping, weather = (
        f'<tool_call>{{"name": "{name}", "arguments": {arguments}}}</tool_call>'
        for name, arguments in (("ping", "{}"), ("Get Weather", '{"city": "Rome"}'))
    )
    rows = [
        hermes(f"<scratch_pad>Perhaps {ping}, or <tool_call> alone?</scratch_pad>\n{weather}"),
        hermes(weather, ("tool", "{}"), ("gpt", f"<scratch_pad>{ping}</scratch_pad> Fine.")),
        hermes(f"<scratch_pad>Perhaps {ping}"),
    ]
    report = load(tmp_path, "hermes", rows)
    assert [[c["name"] for c in s.calls] for s in report.samples] == [["Get Weather"]] * 2
    assert report.dropped == {"row without a call": 1}


def test_unusable_hermes_rows_are_counted(tmp_path):
    ping = '<tool_call>{"name": "ping", "arguments": {}}</tool_call>'
    rows = [
        hermes("I cannot."),
        hermes(ping, ("tool", "{}"), ("gpt", ping)),
        hermes("<tool_call>{'name': ping}</tool_call>"),
        hermes("<tool_call>ping()</tool_call>"),
        hermes(ping) | {"tools": "none"},
        hermes(ping + '\n<tool_call>{"name": "Get Weather", "arg'),
        hermes(ping.replace("</tool_call>", "\n") + ping),
        hermes(ping),
    ]
    report = load(tmp_path, "hermes", rows)
    assert [s.id for s in report.samples] == ["hermes-000007"]
    assert report.dropped == {
        "row without a call": 1, "calls in several steps": 1, "unparsable row": 4, "call that is not closed": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    "text, value",
    [
        ("1", 1),
        ("-1.5", -1.5),
        ("True", True),
        ("true", True),
        ("None", None),
        ("null", None),
        ("'it''s'", "its"),  # two strings side by side are one, in Python
        (r"'a\d'", r"a\d"),
        ('"\\u00e9"', "é"),
        ('{"a": [true, {"b": null}]}', {"a": [True, {"b": None}]}),
        ("{'a': (1, 2)}", {"a": [1, 2]}),
        ("{'a': true, 'b': [false, null, None, 'true']}", {"a": True, "b": [False, None, None, "true"]}),
    ],
)
def test_literals(text, value):
    assert read_literal(text) == value and type(read_literal(text)) is type(value)


@pytest.mark.parametrize(
    "text",
    ["", "rome", "f()", "1 + 1", "'a' * 9", "{1, 2}", "b'x'", "1j", "NaN", "1e999", "[1", "lambda: 0", "f'{1}'",
     "[x for x in (1,)]", "'\\ud800'", "__import__('os')", "(" * 5000,
     "{'a': True.real}", "{'a': true()}", "{'a': truth}", "-" * 100_000 + "1", "9" * 5000],
)  # fmt: skip
def test_what_is_no_literal_is_refused(text):
    with pytest.raises((ValueError, SyntaxError, RecursionError)):
        read_literal(text)


@pytest.mark.parametrize(
    "text, calls",
    [
        ("[]", []),
        ("[f()]", [("f", {})]),
        (" [ f( a = 1 , b='x' ) , g() ] ", [("f", {"a": 1, "b": "x"}), ("g", {})]),
        ("[a.b-c d(from=1, class='x', x-y=2)]", [("a.b-c d", {"from": 1, "class": "x", "x-y": 2})]),
        ("[Get(all)(x=1), Get(y=(1, 2))]", [("Get(all)", {"x": 1}), ("Get", {"y": [1, 2]})]),
        ("""[f(a="it's, (\\"ok\\") = [", b='")')]""", [("f", {"a": 'it\'s, ("ok") = [', "b": '")'})]),
        ("[f(a=1,)]", [("f", {"a": 1})]),
    ],
)
def test_python_calls(text, calls):
    names = ["Get", "Get(all)"]
    assert [(c["name"], c["arguments"]) for c in read_python_calls(text, names)] == calls


@pytest.mark.parametrize(
    "text",
    ["", "f()", "[f]", "[f(]", "[f(1)]", "[f(a)]", "[f(a=1, a=2)]", "[f(=1)]", "[f(a=b)]", "[f(a=g(1))]", "[()]",
     "[f(a=1) g(b=2)]", "[f(a='x)]", "[f(**{'a': 1})]", "[f(a=1)] and more", "[f(a=1); f(b=2)]"],
)  # fmt: skip
def test_what_is_no_call_is_refused(text):
    with pytest.raises((ValueError, SyntaxError)):
        read_python_calls(text, ["f"])


text = st.text(st.sampled_from("a é'\"\\\n[](){},=\u2028"), max_size=6)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text
lists = st.lists(scalars | st.lists(text, max_size=2), max_size=3)
values = scalars | lists | st.dictionaries(text, scalars | lists, max_size=3)
names, arguments = st.sampled_from(["f", "Get News", "a.b"]), st.sampled_from(["x", "in", "y-z"])
calls = st.lists(st.tuples(names, st.dictionaries(arguments, values, max_size=3)), max_size=3)


@given(calls, st.sampled_from([repr, json.dumps]))
def test_written_calls_are_read_back(calls, write):
    inside = ", ".join(f"{n}({', '.join(f'{k}={write(v)}' for k, v in a.items())})" for n, a in calls)
    read = read_python_calls(f"[{inside}]", ["f"])
    assert [(c["name"], c["arguments"]) for c in read] == calls


@given(st.text(alphabet="[](){}='\", f1a\\", max_size=40))
def test_any_other_text_is_read_or_refused(text):
    try:
        calls = read_python_calls(text, ["f", "f(a)"])
    except (ValueError, SyntaxError):
        return
    assert all(set(c) == {"name", "arguments"} and isinstance(c["arguments"], dict) for c in calls)
    assert json.loads(json.dumps(calls, allow_nan=False)) == calls, "nothing that JSON cannot hold"


types = st.sampled_from(["dict", "list", "float", "any", "str, optional", "List[int]", None, ["string", "null"]])
written = st.recursive(
    st.fixed_dictionaries({"type": types}, optional={"description": st.just("x"), "enum": st.just(["a"])}),
    lambda inner: st.fixed_dictionaries(
        {"type": types}, optional={"items": inner, "properties": st.dictionaries(st.sampled_from("ab"), inner)}
    ),
    max_leaves=5,
)


@given(written)
def test_what_comes_out_is_json_schema(written):
    Draft202012Validator.check_schema(json_schema(written))


def test_a_row_is_dropped_without_evaluating_it(tmp_path):
    target = tmp_path / "made"
    with pytest.raises((RowDropped, ValueError, SyntaxError)):
        toolace_row(toolace("uGo", f"a[ping(x=open({str(target)!r}, 'w'))]"))
    assert not target.exists()


@pytest.mark.parametrize("file", ["toolrl/rlla_sft.json", "toolrl/rlla_test.parquet", "seal-tools/dev.jsonl"])
def test_schemas_of_the_real_slices_are_json_schema(file):
    if not (SLICES / file).is_file():
        pytest.skip(f"no {file} in ../shared/data, the slices of real data kept beside the repository")
    for sample in load_samples(file.partition("/")[0], SLICES / file, limit=60).samples:
        for tool in sample.tools:
            Draft202012Validator.check_schema(tool["function"]["parameters"])


def test_rows_of_your_own_are_read_back(tmp_path):
    schema = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
    tools = [{"type": "function", "function": {"name": "weather", "description": "Tells it", "parameters": schema}}]
    calls = [{"name": "weather", "arguments": {"city": "Zürich </tool", "days": n}} for n in (1, 2)]
    rows = [to_hermes("Weather?", tools, calls[:1]), to_hermes("Both?", tools, calls), to_hermes("Hello!", tools, [])]
    report = load(tmp_path, "hermes", rows)
    assert [s.calls for s in report.samples] == [calls[:1], calls] and report.dropped == {"row without a call": 1}
    assert all(s.tools == tools for s in report.samples) and report.samples[0].messages[0]["content"] == "Weather?"


LAMP = {"name": "set_lamp", "description": "A lamp", "parameters": {
    "type": "object", "required": ["room"],
    "properties": {"room": {"type": "string"}, "level": {"type": "integer"}}}}  # fmt: skip
CLOCK = {"name": "clock", "description": "The time"}
DIM = {"room": "attic", "level": 3}


def blocks(*inside):
    return "\n".join(f"<tool_call>\n{text}\n</tool_call>" for text in inside)


def in_source(source, calls, arguments="arguments"):
    """A row of any source whose gold calls, {"name", arguments} each, stand there as the source has them."""
    calls = [{("parameters" if k == "arguments" else k): v for k, v in c.items()} if arguments == "parameters" else c
             for c in calls]  # fmt: skip
    tools = [{"type": "function", "function": t} for t in (LAMP, CLOCK)]
    if source == "xlam":
        return {"query": "Go", "tools": tools, "answers": calls}
    if source == "toolrl":
        listing = "\n".join(
            f"{i}. Name: {t['name']}\nDescription: {t['description']}\nParameters: {json.dumps(parameters)}"
            for i, t in enumerate((LAMP, CLOCK), start=1) for parameters in [t.get("parameters", {})]
        )
        return {
            "instruction": f"**Available Tools**\n{listing}\n**Steps for Each Turn**", "input": "<user> Go </user>",
            "output": "<think> t </think>\n" + blocks("\n".join(map(json.dumps, calls))),
        }  # fmt: skip
    if source == "toolace":
        turns = [{"from": "user", "value": "Go"}, {"from": "assistant", "value": json.dumps(calls)}]
        return {"system": f"functions that you can invoke: {json.dumps([LAMP, CLOCK])}.", "conversations": turns}
    if source == "openai":
        called = [{"id": f"c{i}", "type": "function", "function": c} for i, c in enumerate(calls)]
        turns = [{"role": "user", "content": "Go"}, {"role": "assistant", "content": None, "tool_calls": called}]
        return {"messages": turns, "tools": tools}
    return {"tools": tools, "conversations": [
        {"from": "human", "value": "Go"}, {"from": "gpt", "value": blocks(*map(json.dumps, calls))}]}  # fmt: skip


EVERY = "xlam", "toolrl", "toolace", "hermes", "openai"


@pytest.mark.parametrize("source", EVERY)
@pytest.mark.parametrize("word", ["arguments", "parameters"])
def test_arguments_are_read_alike_in_every_source(tmp_path, source, word):
    dim = [{"name": "set_lamp", "arguments": a} 
           for a in (DIM, json.dumps(DIM), repr(DIM), json.dumps(f" {json.dumps(DIM)}\n"))]  # fmt: skip
    clock = [{"name": "clock", "arguments": a} for a in ({}, "", " ", None, "{}", "null")] + [{"name": "clock"}]
    rows = [in_source(source, [call], word) for call in dim + clock]
    report = load(tmp_path, source, rows)
    assert report.dropped == {} and [s.calls for s in report.samples] == (
        [[{"name": "set_lamp", "arguments": DIM}]] * 4 + [[{"name": "clock", "arguments": {}}]] * 7
    )
    broken = [{"name": "set_lamp", "arguments": a} for a in ("", None, "level=3", [], '["attic"]')]
    rows = [in_source(source, [call], word) for call in [*broken, dim[0]]]
    report = load(tmp_path, source, rows)
    assert report.dropped == {"gold that breaks its tool's schema: required": 2, "unparsable row": 3}


def test_calls_in_lists_may_be_text_and_questions_may_not_be_empty(tmp_path):
    call = json.dumps({"name": "clock", "arguments": {}})
    wanted = [[{"name": "clock", "arguments": {}}]]
    for answers in ([call], json.dumps([call]), json.dumps(json.dumps([call]))):
        row = {"query": "Go", "tools": json.dumps(json.dumps([CLOCK])), "answers": answers}
        assert [s.calls for s in load(tmp_path, "xlam", [row]).samples] == wanted
    picture = [{"type": "text", "text": "Go"}, {"type": "image_url", "image_url": {"url": "a.png"}}]
    row = {"messages": [{"role": "user", "content": "Go"}, {"role": "assistant", "tool_calls": [call]}],
           "tools": [CLOCK]}  # fmt: skip
    seen = {**row, "messages": [{"role": "user", "content": picture}, row["messages"][1]]}
    mute = {**row, "messages": [{"role": "user", "content": None}, row["messages"][1]]}
    report = load(tmp_path, "openai", [row, seen, mute])
    assert [s.calls for s in report.samples] == wanted
    assert report.dropped == {"turn that is not text alone": 1, "empty question": 1}


def test_null_that_the_schema_forbids_means_absent_inside_of_arguments(tmp_path):
    """As `Dataset.to_json` writes structs."""
    inner = {"type": "object", "properties": {"a": {"type": "int"}, "b": {"type": "int", "nullable": True}}}
    closed = {**inner, "additionalProperties": False}
    tool = {"name": "f", "parameters": {"type": "object", "properties": {
        "parts": {"type": "array", "items": inner}, "one": closed, "ids": {"type": "array", "items": {"type": "int"}}},
        "required": ["one"]}}  # fmt: skip
    rows = [{"query": "Go", "tools": [tool], "answers": [{"name": "f", "arguments": arguments}]} for arguments in (
        {"parts": [{"a": None, "b": 1}, {"a": 2, "b": None}], "one": {"a": 1, "z": None}, "y": None},
        {"one": None}, {"one": {}, "ids": [None]}, {"one": {"z": 1}}, {},
    )]  # fmt: skip
    report = load(tmp_path, "xlam", rows)
    assert [s.calls[0]["arguments"] for s in report.samples] == [
        {"parts": [{"b": 1}, {"a": 2, "b": None}], "one": {"a": 1}}
    ]
    broken = "gold that breaks its tool's schema: "
    assert report.dropped == {broken + "required": 1, broken + "type": 2, broken + "additionalProperties": 1}


@pytest.mark.parametrize("source", EVERY)
def test_several_calls_are_read_alike_in_every_source(tmp_path, source):
    calls = [{"name": "set_lamp", "arguments": DIM}, {"name": "clock", "arguments": {}}, {"name": "clock"}]
    (sample,) = load(tmp_path, source, [in_source(source, calls)]).samples
    assert sample.calls == [*calls[:2], calls[1]]


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "clock"}\n{"name": "set_lamp", "arguments": {"room": "a"}}',
        '{"name": "clock"}\n\n  {"name": "set_lamp", "arguments": {"room": "a"}}\n',
        '[{"name": "clock"}, {"name": "set_lamp", "arguments": {"room": "a"}}]',
        "[{'name': 'clock'}, {'name': 'set_lamp', 'arguments': {'room': 'a'}}]",
        "{'name': 'clock'}\n{'name': 'set_lamp', 'arguments': {'room': 'a'}}",
        '{"name": "clock"}, {"name": "set_lamp", "arguments": {"room": "a"}}',
        '{"name": "clock"} {"name": "set_lamp", "arguments": {"room": "a"}}',
        '{\n  "name": "clock"\n}\n{\n  "name": "set_lamp",\n  "arguments": {"room": "a"}\n}',
        '[{"name": "clock"}]\n[{"name": "set_lamp", "arguments": {"room": "a"}}]',
        '[clock(), set_lamp(room="a")]',
        '{"function": {"name": "clock"}}\n{"name": "set_lamp", "arguments": "{\\"room\\": \\"a\\"}"}',
    ],
)
def test_calls_in_one_block(text):
    assert read_calls(text) == [{"name": "clock", "arguments": {}}, {"name": "set_lamp", "arguments": {"room": "a"}}]


@pytest.mark.parametrize("text", ["clock", "clock()", '{"name": "f"} and more', '{"name": "f"', "[1]", '"x"', "{}"])
def test_what_is_no_block_of_calls_is_refused(text):
    with pytest.raises((ValueError, SyntaxError, KeyError, AttributeError)):
        read_calls(text)


def chat(*turns, tools=(LAMP, CLOCK), **more):
    return {"messages": [dict(zip(("role", "content", "tool_calls"), t)) for t in turns],
            "tools": [{"type": "function", "function": t} for t in tools], **more}  # fmt: skip


def tool_calls(*names):
    return [{"id": n, "type": "function", "function": {"name": n, "arguments": "{}"}} for n in names]


def test_openai_chats(tmp_path):
    legacy = {"role": "assistant", "content": None, "function_call": {"name": "set_lamp", "arguments": json.dumps(DIM)}}
    asked, called = ("user", "Time?"), ("assistant", None, tool_calls("clock"))
    rows = [
        chat(asked, called, ("tool", "12:00"), ("assistant", "Noon.")),
        chat(("system", "Be brief."), ("developer", "May."), asked, ("assistant", "", tool_calls("clock", "clock"))),
        chat(asked, ("assistant", "Here or there?", None), ("user", "Here."), called, ("user", "Again."), called),
        {"messages": [{"role": "user", "content": "Dim"}, legacy], "functions": [LAMP, CLOCK], "tools": None},
        chat(("user", [{"type": "text", "text": "What"}, {"type": "text", "text": "time?"}]), called),
        chat(asked, ("assistant", "<think>hm</think>" + blocks('{"name": "clock"}'))),
        {key: json.dumps(value) for key, value in chat(asked, called).items()},
        chat(asked, ("assistant", "I look."), called, called, ("tool", "12"), ("tool", "12")),
        chat(asked, ("assistant", "I cannot.", [])),
        chat(asked, called, ("tool", "12:00"), called),
        chat(("assistant", "Hello"), asked, called),
        chat(asked),
        chat(("user", [{"type": "image_url", "image_url": "x"}]), called),
        chat(asked, called, tools=()),
        chat(asked, ("assistant", None, tool_calls("other"))),
    ]
    report = load(tmp_path, "openai", rows)
    clock = {"name": "clock", "arguments": {}}
    assert [s.calls for s in report.samples] == [
        [clock], [clock, clock], [clock], [{"name": "set_lamp", "arguments": DIM}], [clock], [clock], [clock],
        [clock, clock],
    ]  # fmt: skip
    time = {"role": "user", "content": "Time?"}
    assert [s.messages for s in report.samples] == [
        [time],
        [{"role": "system", "content": "Be brief."}, {"role": "system", "content": "May."}, time],
        [time, {"role": "assistant", "content": "Here or there?"}, {"role": "user", "content": "Here."}],
        [{"role": "user", "content": "Dim"}], [{"role": "user", "content": "What\ntime?"}], [time], [time],
        [time],
    ]  # fmt: skip
    assert report.dropped == {
        "row without a call": 1, "calls in several steps": 1, "row without tools": 1, "call to an unlisted tool": 1,
        "chat that does not open with a question and an answer": 2, "turn that is not text alone": 1,
    }  # fmt: skip
    assert report.samples[0].split == report.samples[1].split == report.samples[5].split, "by the question alone"
    with pytest.raises(DataError, match="'openai' is a form for rows of your own; give their file with --data-path"):
        load_samples("openai")


def arrow_rows(folder, rows, way):
    """The rows, after a way through Arrow -> rows as the kit reads them."""
    if way == "datasets":
        datasets.Dataset.from_list(rows).to_parquet(folder / "rows.parquet")
    elif way == "pyarrow":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "rows.parquet")
    elif way == "load_dataset":  # mixed objects become its own type "json"
        (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
        read = datasets.load_dataset("json", data_files=str(folder / "rows.jsonl"), split="train")
        read.to_parquet(folder / "rows.parquet")
    elif way == "disk":
        datasets.Dataset.from_list(rows).save_to_disk(folder / "set")
        (folder / "set" / "data-00000-of-00001.arrow").rename(folder / "rows.arrow")
    elif way == "exported":  # every absent key is a null in the text
        datasets.Dataset.from_list(rows).to_json(folder / "rows.jsonl")
    else:
        datasets.Dataset.from_list(rows).to_parquet(folder / "data.parquet")
        return list(hub_rows(str(folder), None))
    (file,) = folder.glob("rows.*") if way != "load_dataset" else [folder / "rows.parquet"]
    return file


WATER = {"name": "water", "description": "A bed", "parameters": {"type": "object", "properties": {
    "bed": {"type": "string", "enum": ["roses", None]}, "steps": {"type": "array", "items": {
        "type": "object", "properties": {"litres": {"type": "integer"}, "pause": {"type": "boolean"}}}}}}}  # fmt: skip
STEPS = {"bed": "roses", "steps": [{"litres": 2}, {"pause": True}, {"litres": 1, "pause": False}]}
TEXT, TAG = {"type": "str"}, {"type": "str, optional"}
NOTE = {"name": "note", "description": "A note", "parameters": {"text": TEXT, "tag": TAG}}


@pytest.mark.parametrize("way", ["datasets", "pyarrow", "load_dataset", "disk", "exported", "hub"])
@pytest.mark.parametrize("source", ["xlam", "openai", "hermes"])
def test_rows_through_arrow_are_those_of_json_lines(tmp_path, way, source, monkeypatch):
    def row(tools, name, arguments, question):
        if source == "xlam":
            return {"query": question, "tools": tools, "answers": [{"name": name, "arguments": arguments}]}
        if source == "openai":
            text = way == "exported"  # that nested gold is a list of structs cannot be told from nulls that are meant
            called = {"id": "c", "function": {"name": name, "arguments": json.dumps(arguments) if text else arguments}}
            answer = {"role": "assistant", "content": None, "tool_calls": [called]}
            turns = [{"role": "user", "content": question}, answer]
            return {"messages": turns, "tools": [{"type": "function", "function": t} for t in tools]}
        return to_hermes(question, tools, [{"name": name, "arguments": arguments}]) | {"tools": tools}

    steps = STEPS if way != "exported" or source != "xlam" else {"bed": "roses"}
    rows = [row([NOTE, WATER], "water", steps, "Water"), row([LAMP], "set_lamp", {"room": "attic"}, "Dim"),
            row([NOTE], "note", {"text": "x"}, "Note")]  # fmt: skip
    (tmp_path / "plain").mkdir()
    (tmp_path / "arrow").mkdir()
    plain = load(tmp_path / "plain", source, rows)
    read = arrow_rows(tmp_path / "arrow", rows, way)
    if way == "hub":
        monkeypatch.setattr("toolexpander_lite.data.sources.hub_rows", lambda *a: iter(read))
        monkeypatch.setitem(SOURCES, source, replace(SOURCES[source], hub="any"))
        through = load_samples(source)
    else:
        through = load_samples(source, read)
    assert plain.dropped == through.dropped == {} and len(plain.samples) == 3
    assert [s.calls for s in through.samples] == [s.calls for s in plain.samples]
    assert [s.tools for s in through.samples] == [s.tools for s in plain.samples]
    assert [s.messages for s in through.samples] == [s.messages for s in plain.samples]


def test_null_that_is_meant_survives_in_json_lines(tmp_path):
    tag = {"type": ["string", "null"], "default": None, "examples": [None], "enum": ["a", None]}
    tool = LAMP | {"parameters": {"type": "object", "properties": {"tag": tag, "n": {"const": None}}}}
    row = to_hermes("Go", [tool], [{"name": "set_lamp", "arguments": {"tag": None, "n": None}}])
    (sample,) = load(tmp_path, "hermes", [row]).samples
    assert sample.tools[0]["function"]["parameters"]["properties"] == {"tag": tag, "n": {"const": None}}
    assert sample.calls[0]["arguments"] == {"tag": None, "n": None}
    row = xlam([{"name": "add", "arguments": {"a": 1}}], tools=[flat(a={"type": "int", "default": None, "enum": [1]})])
    (sample,) = load(tmp_path, "xlam", [row]).samples
    shown = sample.tools[0]["function"]["parameters"]
    assert shown["properties"]["a"] == {"type": "integer", "default": None, "enum": [1]} and "required" not in shown


@pytest.mark.parametrize(
    "written, schema",
    [
        ({"type": "string", "nullable": True}, {"type": ["string", "null"]}),
        ({"type": "STRING", "nullable": "true"}, {"type": ["string", "null"]}),
        ({"type": "string", "nullable": False}, {"type": "string"}),
        ({"type": "string", "enum": ["a"], "nullable": True}, {"type": ["string", "null"], "enum": ["a", None]}),
        ({"type": "string", "enum": ["a", None], "nullable": True}, {"type": ["string", "null"], "enum": ["a", None]}),
        ({"$ref": "#/$defs/d", "nullable": True, "description": "A d"},
         {"description": "A d", "anyOf": [{"$ref": "#/$defs/d"}, {"type": "null"}]}),
        ({"anyOf": [{"type": "int"}], "nullable": True},
         {"anyOf": [{"anyOf": [{"type": "integer"}]}, {"type": "null"}]}),
        ({"const": 1, "nullable": True}, {"anyOf": [{"const": 1}, {"type": "null"}]}),
        ({"enum": ["a"], "nullable": True}, {"anyOf": [{"enum": ["a"]}, {"type": "null"}]}),
        ({"nullable": True}, {}),
        ({"type": "array", "items": {"type": "INTEGER", "nullable": True}},
         {"type": "array", "items": {"type": ["integer", "null"]}}),
        ({"type": "number", "minimum": 0, "exclusiveMinimum": True}, {"type": "number", "exclusiveMinimum": 0}),
        ({"type": "number", "maximum": 1, "exclusiveMaximum": False}, {"type": "number", "maximum": 1}),
        ({"type": "array", "items": [{"type": "int"}], "additionalItems": False},
         {"type": "array", "items": False, "prefixItems": [{"type": "integer"}]}),
        ({"dependencies": {"a": ["b"], "c": {"properties": {"d": {"type": "int"}}}}},
         {"dependentRequired": {"a": ["b"]}, "dependentSchemas": {"c": {"properties": {"d": {"type": "integer"}}}}}),
        ({"properties": {"a": {"type": "str", "required": "True"}, "b": {"optional": True}}},
         {"properties": {"a": {"type": "string"}, "b": {}}, "required": ["a"]}),
        ({"type": "array", "items": [{"type": "int"}, {"type": "str"}]},
         {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}]}),
        ({"type": "string", "examples": "a", "format": "date", "pattern": "^a", "x-note": 1},
         {"type": "string", "examples": ["a"], "format": "date", "pattern": "^a", "x-note": 1}),
        ({"type": "integer", "enum": ["1", "2"]}, {"type": "integer", "enum": [1, 2]}),
        ({"type": "float", "enum": ["1", "2.5"]}, {"type": "number", "enum": [1, 2.5]}),
        ({"type": "integer", "enum": ["1", "two"]}, {"type": "integer", "enum": ["1", "two"]}),
        ({"type": "bool", "enum": ["True", "False"]}, {"type": "boolean", "enum": [True, False]}),
        ({"type": "string", "enum": [1, 2]}, {"type": "string", "enum": ["1", "2"]}),
        ({"type": "string", "enum": []}, {"type": "string"}),
        ({"type": "string[]"}, {"type": "array", "items": {"type": "string"}}),
        ({"type": "Array<int>"}, {"type": "array", "items": {"type": "integer"}}),
        ({"type": ["STRING", "NULL"]}, {"type": ["string", "null"]}),
        ({"type": ["List[int]", "None"]}, {"type": ["array", "null"], "items": {"type": "integer"}}),
        ({"if": {"type": "int"}, "patternProperties": {"type": {"type": "float"}}},
         {"if": {"type": "integer"}, "patternProperties": {"type": {"type": "number"}}}),
    ],
)  # fmt: skip
def test_dialects_become_json_schema(written, schema):
    assert json_schema(written) == schema
    Draft202012Validator.check_schema(schema)
    properties = object_schema({"type": "OBJECT", "properties": {"nullable": written}})["properties"]
    assert properties == {"nullable": schema}, "and a parameter may be called like a keyword"
    assert json_schema(json_schema(written)) == json_schema(written), "read again, it stays"


@pytest.mark.parametrize(
    "tool, parameters",
    [
        ({}, {"type": "object", "properties": {}}),
        ({"parameters": None}, {"type": "object", "properties": {}}),
        ({"parameters": ""}, {"type": "object", "properties": {}}),
        ({"parameters": {}}, {"type": "object", "properties": {}}),
        ({"parameters": {"type": "object"}}, {"type": "object", "properties": {}}),
        ({"parameters": '{"type": "object", "properties": {"a": {"type": "int"}}}'},
         {"type": "object", "properties": {"a": {"type": "integer"}}}),
        ({"input_schema": {"type": "object", "properties": {"a": {}}}}, {"type": "object", "properties": {"a": {}}}),
        ({"parameters": {"properties": {"a": {"type": "int"}}, "required": ["a"]}},
         {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}),
        ({"parameters": {"type": "object", "properties": {"a": {}}}, "required": ["a"]},
         {"type": "object", "properties": {"a": {}}, "required": ["a"]}),
        ({"parameters": {"$ref": "#/$defs/A", "$defs": {"A": {"required": ["a"]}}}},
         {"type": "object", "properties": {}, "$ref": "#/$defs/A", "$defs": {"A": {"required": ["a"]}}}),
        ({"parameters": {"a": {"type": "int"}, "b": {"type": "str"}, "required": ["b"]}},
         {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}, "required": ["b"]}),
        ({"parameters": {"type": {"type": "str"}, "properties": {"type": "dict"}, "required": {"type": "bool"}}},
         {"type": "object", "properties": {"type": {"type": "string"}, "properties": {"type": "object"},
          "required": {"type": "boolean"}}, "required": ["type", "properties", "required"]}),
        ({"parameters": {"a": {"type": "int", "required": True}, "b": {"type": "int"}}},
         {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a"]}),
        ({"parameters": {"a": {"type": "int", "required": False}, "b": {"type": "int"}}},
         {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["b"]}),
        ({"parameters": {"a": {"type": "int | None"}, "b": {"type": "Union[str, None]"}, "c": {"type": "int"}}},
         {"type": "object", "properties": {"a": {"type": ["integer", "null"]}, "b": {"type": ["string", "null"]},
                                           "c": {"type": "integer"}}, "required": ["c"]}),
        ({"parameters": {"a": {"type": "int", "required": False}, "b": None}},
         {"type": "object", "properties": {"a": {"type": "integer"}}}),
        ({"parameters": {"a": {"type": "dict", "properties": {"b": {"type": "int", "required": True},
                                                              "c": {"type": "int", "required": False}}}}},
         {"type": "object", "properties": {"a": {"type": "object", "properties": {
             "b": {"type": "integer"}, "c": {"type": "integer"}}, "required": ["b"]}}, "required": ["a"]}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("wrapped", [dict, lambda t: {"type": "function", "function": t}, json.dumps])
def test_tools_are_read_in_every_form(tool, parameters, wrapped):
    (read,) = read_tools([wrapped({"name": "f"} | tool)])
    assert read == {"type": "function", "function": {"name": "f", "description": "", "parameters": parameters}}
    assert read_tools(json.dumps([wrapped({"name": "f"} | tool)])) == [read]
    assert read_tools(wrapped({"name": "f"} | tool)) == [read] and read_tools([read]) == [read]


def test_an_argument_is_listed_wherever_its_schema_lists_it(tmp_path):
    parts = {"$ref": "#/$defs/A", "$defs": {"A": {"properties": {"a": {}}}}, "anyOf": [{"properties": {"b": {}}}]}
    free = {"type": "object", "additionalProperties": {"type": "string"}}
    rows = [
        to_hermes("Go", [LAMP | {"parameters": schema}], [{"name": "set_lamp", "arguments": arguments}])
        for schema, arguments in [
            (parts, {"a": 1, "b": 2}), (free, {"any": "x"}), ({"patternProperties": {"^x": {}}}, {"x1": 1}),
            (parts, {"c": 1}), (free, {"any": 1}), ({"patternProperties": {"^x": {}}}, {"y": 1}),
            ({"type": "object", "properties": {}, "additionalProperties": False}, {"y": 1}),
        ]
    ]  # fmt: skip
    report = load(tmp_path, "hermes", rows)
    assert [s.calls[0]["arguments"] for s in report.samples] == [{"a": 1, "b": 2}, {"any": "x"}, {"x1": 1}]
    assert report.dropped == {
        "argument its tool does not list": 2, "gold that breaks its tool's schema: type": 1,
        "gold that breaks its tool's schema: additionalProperties": 1,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
@pytest.mark.parametrize("mark", ["", "\ufeff", "\n\n  "])
@pytest.mark.parametrize("end", ["", "\n", "\r\n\r\n"])
def test_lists_and_lines_are_read_whatever_the_file_is_called(tmp_path, name, mark, end):
    rows = [xlam([ADD], query=f"Sum\u2028 {i}") for i in range(3)]
    texts = (json.dumps(rows), json.dumps(rows, indent=1), "\n".join(map(json.dumps, rows)),
             "\r\n\r\n".join(json.dumps(r, ensure_ascii=False) for r in rows))  # fmt: skip
    for text in texts:
        file = tmp_path / name
        file.write_bytes((mark + text + end).encode())
        assert [s.messages[0]["content"] for s in load_samples("xlam", file).samples] == [r["query"] for r in rows]
    file.write_text(json.dumps(rows[0]))
    assert len(load_samples("xlam", file).samples) == 1, "one line is lines, too"


@pytest.mark.parametrize(
    "text", ['{"query": "cut', '[{"query": ', '{"a": 1}\n{"query": ', "\x00\x01", '{\n"rows": [\n1\n]\n']
)
def test_nobody_is_told_to_delete_a_file_of_his_own(tmp_path, text):
    for name in ("rows.json", "rows.jsonl"):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=f"{name} .*get a whole copy of it") as error:
            load_samples("xlam", tmp_path / name)
        assert "delete" not in str(error.value).replace(str(tmp_path), "")
