"""Rows in the native format of each data set -> samples, worked out by hand; and the parsing below them."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from toolexpander_lite.data.formats import to_hermes, toolace_row
from toolexpander_lite.data.literals import read_literal, read_python_calls
from toolexpander_lite.data.sources import load_samples
from toolexpander_lite.data.tool_schemas import RowDropped, json_schema
from toolexpander_lite.method.samples import to_dataset, to_samples
from toolexpander_lite.worlds.tools import ToolRegistry

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
        xlam([ADD], tools=[flat(a={"type": ["int", "int"]}, b={"type": "int"})]),
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
