"""Executing calls: right ones run, and nothing a model can write raises."""

import math
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolexpander_lite.method.samples import DataError, ToolSample
from toolexpander_lite.worlds.run_calls import MAX_ERROR_CHARS, ToolRegistry


def schema(name, required=None, **properties):
    parameters = {"type": "object", "properties": properties, "additionalProperties": False}
    parameters["required"] = list(properties) if required is None else required
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


NUMBER, INTEGER, LIST = {"type": "number"}, {"type": "integer"}, {"type": "array"}


@pytest.fixture
def registry():
    registry = ToolRegistry()
    registry.register(lambda a, b=10: a + b, schema("add", ["a"], a=NUMBER, b=NUMBER))
    registry.register(lambda x: 1 // x, schema("inverse", x=INTEGER))
    registry.register(lambda xs: xs.clear() or len(xs), schema("clear", xs=LIST))
    registry.register(lambda: sys.exit("bye"), schema("leave"))
    return registry


def call(name, **arguments):
    return {"name": name, "arguments": arguments}


def test_a_right_call_runs(registry):
    result = registry.execute(call("add", a=1, b=2.5))
    assert (result.ok, result.value, result.error) == (True, 3.5, "")
    assert registry.execute(call("add", a=1)).value == 11


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (call("sub", a=1), "unknown tool 'sub'; choose one of add, inverse, clear, leave"),
        (call("__init__"), "unknown tool"),
        (call("add"), "'a' is a required property"),
        (call("add", a="1"), "bad arguments at $.a: '1' is not of type 'number'"),
        (call("add", a=True), "True is not of type 'number'"),
        (call("add", a=1, c=2), "'c' was unexpected"),
        (call("inverse", x=0), "ZeroDivisionError: "),
        (call("leave"), "SystemExit: bye"),
        ("add(1)", "a call is"),
        ({"name": "add"}, "a call is"),
        ({"name": ["add"], "arguments": {}}, "unknown tool ['add']"),
        ({"name": "add", "arguments": [1, 2]}, "the arguments must be an object"),
    ],
)
def test_a_wrong_call_comes_back_as_text(registry, bad, error):
    result = registry.execute(bad)
    assert (result.ok, result.value) == (False, None)
    assert error in result.error


def test_errors_are_short_however_long_the_arguments(registry):
    assert len(registry.execute(call("add", a="x" * 10_000)).error) == MAX_ERROR_CHARS
    assert len(registry.execute(call("x" * 10_000)).error) <= MAX_ERROR_CHARS


def test_bottomless_arguments_come_back_as_text(registry):
    deep = []
    for _ in range(100_000):
        deep = [deep]
    result = registry.execute(call("clear", xs=deep), timeout=60)
    assert not result.ok
    assert result.error.startswith("RecursionError")
    while deep:  # taken apart by hand: freeing it in one go would recurse, too
        deep = deep.pop()


def test_a_tool_cannot_change_the_call(registry):
    asked = call("clear", xs=[1, 2])
    assert registry.execute(asked).value == 0
    assert asked == call("clear", xs=[1, 2])


def test_an_endless_tool_is_left_and_then_stopped():
    started, threads = threading.Event(), []

    def spin():
        threads.append(threading.current_thread())
        started.set()
        while True:
            pass

    registry = ToolRegistry()
    registry.register(spin, schema("spin"))
    result = registry.execute(call("spin"), timeout=0.2)
    assert (result.ok, result.error) == (False, "timeout: no result after 0.2 s")
    assert started.wait(60)
    threads[0].join(60)  # the limit only keeps a failing test from hanging
    assert not threads[0].is_alive()


def test_calls_run_from_a_thread_that_is_not_the_main_one(registry):
    results = []
    thread = threading.Thread(target=lambda: results.append(registry.execute(call("add", a=1), timeout=60)))
    thread.start()
    thread.join()
    assert results[0].value == 11


def test_execute_calls_runs_in_order_up_to_the_limit():
    seen, registry = [], ToolRegistry()
    registry.register(lambda i: seen.append(i) or -i, schema("note", i=INTEGER))
    calls = [call("note", i=i) for i in (2, "x", 1, 3)]
    results = registry.execute_calls(calls, max_steps=3)
    assert seen == [2, 1]
    assert [r.value for r in results] == [-2, None, -1, None]
    assert results[3].error == "step limit: only the first 3 calls are run"


def test_schemas_are_copies_fit_for_a_sample(registry):
    tools = registry.schemas()
    assert [t["function"]["name"] for t in tools] == ["add", "inverse", "clear", "leave"]
    ToolSample("s", "f", [{"role": "user", "content": "q"}], tools, [call("add", a=1)])
    tools[0]["function"]["name"] = "gone"
    assert registry.schemas()[0]["function"]["name"] == "add"


def test_register_refuses_bad_schemas_and_taken_names(registry):
    with pytest.raises(ValueError, match="'add' is registered already"):
        registry.register(max, schema("add"))
    with pytest.raises(ValueError, match="tool 'new': parameters are no valid JSON Schema"):
        registry.register(max, schema("new", x={"type": "dict"}))
    with pytest.raises(DataError, match="not a tool schema"):
        registry.register(max, {"name": "new"})


def test_a_schema_elsewhere_is_not_fetched(monkeypatch):
    asked, registry = [], ToolRegistry()
    monkeypatch.setattr("urllib.request.urlopen", lambda *args, **options: asked.append(args))
    registry.register(lambda x: x, schema("remote", x={"$ref": "https://example.invalid/schema.json"}))
    result = registry.execute(call("remote", x=1))
    assert not result.ok
    assert "Unresolvable" in result.error
    assert not asked


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(["add", "inverse", "clear", "sub"]) | values
arguments = st.dictionaries(st.sampled_from(["a", "b", "x", "xs", "self"]), values, max_size=3) | values


@settings(max_examples=100)
@given(values | st.fixed_dictionaries({"name": names, "arguments": arguments}))
def test_no_call_raises(anything):
    registry = ToolRegistry()
    registry.register(lambda a, b=10: math.fsum([a, b]), schema("add", ["a"], a=NUMBER, b=NUMBER))
    registry.register(lambda xs: sorted(xs), schema("clear", xs=LIST))
    result = registry.execute(anything, timeout=60)
    assert result.ok == (result.error == "")
