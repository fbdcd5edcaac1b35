"""Parsing, matching and judging: every reason by a typed case, and properties over generated calls."""

import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from toolexpander_lite.base.strict_json import MAX_DEPTH, same_value
from toolexpander_lite.method.calls import MAX_CHARS, REASONS, completion_text, judge, match_calls, parse_completion
from toolexpander_lite.method.prompts import gold_completion
from toolexpander_lite.method.samples import ToolSample


def schema(name):
    parameters = {"type": "object", "properties": {}}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def call(name, **arguments):
    return {"name": name, "arguments": arguments}


def text(*calls, think="<think>hm</think>"):
    return think + "".join(f"\n<tool_call>{json.dumps(c)}</tool_call>" for c in calls)


def block(inside, think="<think>hm</think>"):
    return f"{think}<tool_call>{inside}</tool_call>"


TOOLS = [schema("add"), schema("neg")]
ADD = call("add", a=1, b=2)
ADD_JSON = json.dumps(ADD)
CASES = [
    ("ok", text(ADD)),
    ("ok", f" \n<think></think>\n\n<tool_call>\n {ADD_JSON}\n </tool_call>\n"),
    ("ok", f"<think>like <tool_call>{json.dumps(call('neg'))}</tool_call></think>" + text(ADD, think="")),
    ("ok", text(call("add", b=2.0, a=1))),
    ("too_long", "x" * (MAX_CHARS + 1)),
    ("truncated", "<think>I wonder"),
    ("truncated", '<think>hm</think><tool_call>{"name": "ad'),
    ("truncated", f"<think>hm</think><tool_call>{ADD_JSON}</tool"),
    ("no_think", ""),
    ("no_think", "It is three."),
    ("no_think", text(ADD, think="")),
    ("no_think", text(ADD, think="hm</think>")),
    ("no_think", "So: " + text(ADD)),
    ("no_think", block("{", think="")),
    ("extra_text", text(ADD) + " Done."),
    ("extra_text", text(ADD, think="<think>hm</think> Let us add.")),
    ("extra_text", text(ADD, think="<think>hm</think><think>again</think>")),
    ("extra_text", text(ADD) + "</tool_call>"),
    ("extra_text", "<think>hm</think>It is three."),
    ("bad_json", block("")),
    ("bad_json", block("add(1, 2)")),
    ("bad_json", block("{'name': 'add', 'arguments': {}}")),
    ("bad_json", block(ADD_JSON + ADD_JSON)),
    ("bad_json", block(f"<tool_call>{ADD_JSON}")),
    ("bad_json", block('{"name": "add", "name": "add", "arguments": {}}')),
    ("bad_json", block('{"name": "add", "arguments": {"a": NaN}}')),
    ("bad_json", block('{"name": "add", "arguments": {"a": -Infinity}}')),
    ("bad_json", block('{"name": "add", "arguments": {"a": 1e999}}')),
    ("bad_json", block('{"name": "add", "arguments": {"a": "\\ud800"}}')),
    ("bad_json", block('{"name": "add", "arguments": {"a": "line\nbreak"}}')),
    ("bad_json", block('{"name": "add", "arguments": {"a": ' + "9" * 5000 + "}}")),
    ("bad_json", block("[" * 9000)),
    ("bad_call", block("[]")),
    ("bad_call", block('"add"')),
    ("bad_call", block('{"name": "add"}')),
    ("bad_call", block('{"name": "add", "arguments": {}, "id": 1}')),
    ("bad_call", block('{"name": 1, "arguments": {}}')),
    ("bad_call", block('{"name": "add", "arguments": "{}"}')),
    ("no_call", "<think>three, I say</think>\n"),
    ("unknown_tool", text(call("sub", a=1, b=2))),
    ("unknown_tool", text(ADD, call("sub"))),
    ("extra_call", text(ADD, ADD)),
    ("wrong_name", text(call("neg", a=1, b=2))),
    ("missing_argument", text(call("add", a=1))),
    ("missing_argument", text(call("add", a=1, c=2))),
    ("extra_argument", text(call("add", a=1, b=2, c=None))),
    ("wrong_argument", text(call("add", a=1, b=3))),
    ("wrong_argument", text(call("add", a=1, b="2"))),
    ("wrong_argument", text(call("add", a=True, b=2))),
]


@pytest.mark.parametrize(("reason", "completion"), CASES)
def test_judge_gives_the_reason(reason, completion):
    verdict = judge(completion, [ADD], TOOLS)
    assert verdict.reason == reason
    assert (verdict.format_ok and verdict.call_ok) == (reason == "ok")
    assert bool(verdict.detail) == (reason != "ok")


def test_a_gold_call_left_out_is_a_missing_call():
    verdict = judge(text(ADD), [ADD, ADD], TOOLS)
    assert (verdict.format_ok, verdict.call_ok, verdict.reason) == (True, False, "missing_call")
    assert verdict.detail == "1 instead of 2"


def test_every_reason_has_a_case():
    assert {reason for reason, _ in CASES} | {"missing_call"} == REASONS.keys()


def test_thoughts_and_calls_are_read_apart():
    parsed = parse_completion(f"<think> why <think> not </think>{block(ADD_JSON, think='')}")
    assert (parsed.think, parsed.calls, parsed.reason) == ("why <think> not", [ADD], "ok")
    # The end of the thoughts counts even where their start is missing.
    parsed = parse_completion(text(call("neg"), think="Well, ") + "</think>" + text(ADD, think=""))
    assert (parsed.think, parsed.calls, parsed.reason) == (None, [ADD], "no_think")


def test_format_faults_leave_readable_calls_and_unreadable_blocks_void_them():
    for completion in (text(ADD, think=""), text(ADD) + " Done."):
        verdict = judge(completion, [ADD], TOOLS)
        assert (verdict.format_ok, verdict.call_ok, verdict.parsed.calls) == (False, True, [ADD])
    assert parse_completion(text(ADD) + block("{", think="")).calls == []


def test_closing_tag_inside_a_string_argument_is_data():
    odd = call("add", a="</tool_call>", b='<tool_call> \\ "</think>')
    assert parse_completion(text(odd)).calls == [odd]


def test_nesting_is_allowed_up_to_the_limit_and_brackets_in_strings_do_not_count():
    lists = MAX_DEPTH - 2  # the call and its arguments are two levels
    deep = '{"name": "add", "arguments": {"a": %s}}'
    assert parse_completion(block(deep % ("[" * lists + "]" * lists))).reason == "ok"
    assert parse_completion(block(deep % ("[" * (lists + 1) + "]" * (lists + 1)))).reason == "bad_json"
    assert parse_completion(block(deep % json.dumps('[{"' * 100))).reason == "ok"


def test_no_gold_call_means_thoughts_and_nothing_else():
    right = judge("<think>no tool fits</think>", [], TOOLS)
    assert (right.format_ok, right.call_ok, right.reason) == (True, True, "ok")
    assert judge(text(ADD), [], TOOLS).reason == "extra_call"
    for garbage in ("", "<think>cut", block("{"), "<think>hm</think> I cannot."):
        verdict = judge(garbage, [], TOOLS)
        assert (verdict.format_ok, verdict.call_ok) == (False, False)


def test_reason_is_about_the_closest_gold_call():
    gold = [call("neg", a=8, b=1), call("add", z=1), call("add", a=9, b=1), call("add", a=99, b=7), ADD]
    for order in (gold, gold[::-1]):
        match = match_calls([ADD, *[call("add", a=8, b=1)] * 4], order, TOOLS)
        assert (match.reason, match.detail) == ("wrong_argument", "'add': 'a' is 8, not 9")
    assert match_calls([ADD], [call("neg")]).reason == "wrong_name"  # without tools nothing is unknown


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (1, 1.0, True), (True, 1, False), (1, True, False), (False, 0.0, False), (True, True, True),
        ("1", 1, False), (None, None, True), (None, False, False), ([], {}, False), ([1], [1.0], True),
        ([1, 2], [2, 1], False), ([1], [1, 1], False), ({"a": [True]}, {"a": [1]}, False),
        ({"a": 1, "b": 2}, {"b": 2.0, "a": 1}, True), ({"a": 1}, {"a": 1, "b": None}, False),
        (2**53 + 1, float(2**53), False),
    ],
)  # fmt: skip
def test_same_value(a, b, same):
    assert same_value(a, b) is same
    assert same_value(b, a) is same


def test_completion_text_takes_both_of_trls_forms_and_nothing_else():
    assert completion_text("hi") == "hi"
    assert completion_text([{"role": "assistant", "content": "hi"}]) == "hi"
    two = [{"role": "assistant", "content": "hi"}] * 2
    for wrong in (None, [], two, [{"role": "assistant"}], [{"content": None}], {"content": "hi"}, ["hi"]):
        with pytest.raises(TypeError, match="not a str"):
            completion_text(wrong)


# Properties.
fragments = st.sampled_from(
    ["<think>", "</think>", "<tool_call>", "</tool_call>", '{"name": ', '"add"', ', "arguments": {', "}", "{",
     "[", "]", '"', "\\", "\\ud800", "\ud800", "NaN", "1e999", ":", ",", "1", "\n", ADD_JSON, "[" * 50]
)  # fmt: skip
garbage = st.lists(fragments | st.text(max_size=5), max_size=30).map("".join)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
calls = st.builds(
    lambda name, arguments: {"name": name, "arguments": arguments},
    st.sampled_from(["add", "neg"]),
    st.dictionaries(st.text(max_size=5), values, max_size=3),
)


@settings(max_examples=300)
@given(garbage)
def test_any_text_is_parsed_without_raising(completion):
    parsed = parse_completion(completion)
    assert parsed.reason in REASONS
    if parsed.reason == "ok":
        assert parsed.calls and parsed.think is not None and completion.strip().startswith("<think>")
    json.dumps(parsed.calls, allow_nan=False, ensure_ascii=False).encode()  # can be logged as they are
    parsed.detail.encode()
    assert len(parsed.detail) <= 130
    judge(completion, [ADD], TOOLS)


@given(st.lists(calls, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_the_gold_completion_is_right_in_any_order(gold, random):
    sample = ToolSample("s", "f", [{"role": "user", "content": "q"}], TOOLS, random.sample(gold, len(gold)))
    completion = gold_completion(sample)
    assume(len(completion) <= MAX_CHARS)
    verdict = judge(completion, gold, TOOLS)
    assert (verdict.format_ok, verdict.call_ok, verdict.reason) == (True, True, "ok")
    assert verdict.parsed.calls == sample.calls


def mutate(one, kind, key):
    """A copy of the call that differs in one thing, by construction and not by `same_value`."""
    name, arguments = one["name"], dict(one["arguments"])
    if kind == "name":
        name = {"add": "neg", "neg": "add"}[name]
    elif kind == "new":
        arguments["x" * 6] = None  # longer than any generated name
    elif kind == "drop":
        del arguments[key]
    else:
        arguments[key] = [arguments[key]]
    return {"name": name, "arguments": arguments}


@given(st.lists(calls, min_size=1, max_size=4), st.data())
def test_a_changed_call_is_never_right(gold, data):
    i = data.draw(st.integers(0, len(gold) - 1))
    keys = sorted(gold[i]["arguments"])
    kind = data.draw(st.sampled_from(["name", "new", "drop", "wrap"] if keys else ["name", "new"]))
    changed = mutate(gold[i], kind, data.draw(st.sampled_from(keys)) if keys else None)
    predicted = data.draw(st.permutations([*gold[:i], changed, *gold[i + 1 :]]))
    match = match_calls(predicted, gold, TOOLS)
    assert not match.ok
    assert match.reason in {"wrong_name", "missing_argument", "extra_argument", "wrong_argument"}
    again = match_calls(predicted, data.draw(st.permutations(gold)), TOOLS)
    assert (match.reason, match.detail) == (again.reason, again.detail)


@given(st.lists(calls, min_size=1, max_size=4), st.data())
def test_a_changed_number_of_calls_is_never_right(gold, data):
    i = data.draw(st.integers(0, len(gold) - 1))
    assert match_calls(gold + [gold[i]], gold, TOOLS).reason == "extra_call"
    assert match_calls(gold[:i] + gold[i + 1 :], gold, TOOLS).reason == "missing_call"
