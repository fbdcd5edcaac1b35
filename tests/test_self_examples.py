"""Self-written examples: every reason by a typed case, the bonus by hand, and hostile input by Hypothesis."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from toolexpander_lite.base.groups import group_advantages
from toolexpander_lite.method.calls import MAX_CHARS
from toolexpander_lite.method.prompts import INVITATION, render_messages
from toolexpander_lite.method.rewards import conjunctive_reward
from toolexpander_lite.method.self_examples import REASONS, ExampleBonus, judge_examples_block
from toolexpander_lite.variants.other_self_examples import (
    EXAMPLE_REASONS,
    MAX_EXAMPLE_CHARS,
    OneExampleBonus,
    example_text,
    judge_example,
    judge_examples,
    trivial_share,
)
from toolexpander_lite.worlds.nano_world import FAMILIES, all_queries, nano_samples, right_call

TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    },
}
PROMPT = "tools: add(a b). user: what is one plus two? user: please add five and six"
QUERY, ANALYSIS = "what is three plus four", "both numbers are integers"
ANSWER = '<tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}</tool_call>'


def call(name="add", **arguments):
    return {"name": name, "arguments": arguments or {"a": 3, "b": 4}}


def completion(think, answer=ANSWER):
    return f"<think>{think}</think>{answer}"


def raw(inside, query=QUERY, analysis=ANALYSIS):
    """An example around any text in its call block."""
    return f"<example>{query}<tool_call>{inside}</tool_call>{analysis}</example>"


GOOD = example_text(QUERY, call(), ANALYSIS)
CASES = [
    ("ok", GOOD + "so I add"),
    ("ok", "first an example. " + GOOD),
    ("ok", raw('{"name": "add", "arguments": {"a": 1, "b": 4}}')),
    ("none", "I add the two."),
    ("none", ""),
    ("none", "</example>"),
    ("unclosed", GOOD.replace("</example>", "")),
    ("unclosed", "<example>"),
    ("repeated", GOOD + GOOD),
    ("repeated", f"<example>{GOOD}</example>"),
    ("repeated", "<example>" * 3),
    ("too_long", example_text("word " * MAX_EXAMPLE_CHARS, call(), ANALYSIS)),
    ("no_call", f"<example>{QUERY} {ANALYSIS}</example>"),
    ("no_call", "<example></example>"),
    ("bad_json", raw("{'name': 'add'}")),
    ("bad_json", raw('{"name": "add", "arguments": {"a": NaN, "b": 4}}')),
    ("bad_json", raw('{"name": "add", "arguments": {"a": 1e999, "b": 4}}')),
    ("bad_json", raw('{"name": "add", "arguments": {"a": 1, "a": 3, "b": 4}}')),
    ("bad_json", raw("[" * 1000 + "]" * 900)),
    ("bad_json", f'<example>{QUERY}<tool_call>{{"name": "add"</example>'),
    ("bad_call", raw('{"name": "add", "parameters": {"a": 3, "b": 4}}')),
    ("bad_call", raw("7")),
    ("extra_call", GOOD.replace(ANALYSIS, ANALYSIS + ANSWER)),
    ("no_query", raw(json.dumps(call()), query="add numbers")),
    ("no_query", raw(json.dumps(call()), query=" ... ?! ")),
    ("unknown_tool", example_text(QUERY, call("subtract"), ANALYSIS)),
    ("unknown_tool", example_text(QUERY, call("\u0430dd"), ANALYSIS)),  # a Cyrillic letter in the place of an a
    ("bad_arguments", example_text(QUERY, call(a=3), ANALYSIS)),
    ("bad_arguments", example_text(QUERY, call(a="3", b=4), ANALYSIS)),
    ("bad_arguments", example_text(QUERY, call(a=3, b=4, c=5), ANALYSIS)),
    ("copied_query", example_text("Please ADD five and six", call(), ANALYSIS)),
    ("copied_query", example_text("what is one plus two?", call(), ANALYSIS)),
    ("no_analysis", example_text(QUERY, call(), "both numbers")),
    ("no_analysis", example_text(QUERY, call(), "")),
]


@pytest.mark.parametrize("reason, think", CASES)
def test_reasons(reason, think):
    verdict = judge_example(completion(think), PROMPT, [TOOL])
    assert verdict.reason == reason and verdict.reason in EXAMPLE_REASONS


def test_every_reason_has_a_case():
    assert {reason for reason, _ in CASES} | {"same_values"} == set(EXAMPLE_REASONS)
    assert {reason for reason, _ in LISTS} | {"too_long"} == set(REASONS)


def listed(*values, joint=None):
    """An <examples> block in a think block: a list of examples that differ in `values`, or one JSON value per line."""
    examples = [{"tool": "add", "question": f"what is {v} and 1", "answer": call(a=v, b=1)} for v in values]
    text = json.dumps(examples) if joint is None else joint.join(map(json.dumps, examples))
    return f"<examples>{text}</examples> all add two numbers"


LISTS = [
    ("ok", listed(1, 2, 3, 4)),
    ("ok", listed(1, 2, 3, 4, 4, joint="\n")),
    ("ok", "first thoughts " + listed(1, 2, 3, 4, 5, joint=" , ")),
    ("too_few", listed(1, 2, 3)),  # the paper: more than 3
    ("too_few", listed(1, 2, 3, 3, 2, 1)),  # and distinct
    ("too_few", "<examples></examples>"),
    ("too_few", "<examples>" + "[]" * 9000 + "</examples>"),
    ("none", "no examples here"),
    ("unclosed", listed(1, 2, 3, 4).replace("</examples>", "")),
    ("unclosed", "<examples>"),
    ("tags", listed(1, 2, 3, 4) + listed(5, 6, 7, 8)),
    ("tags", f"<examples>{listed(1, 2, 3, 4)}</examples>"),
    ("tags", listed("<tool_call>", 2, 3, 4)),
    ("bad_json", listed(1, 2, 3, 4).replace("}]", "}")),
    ("bad_json", "<examples>" + "[" * 9000 + "</examples>"),
    ("bad_json", listed(1, 2, 3, 4).replace('"a": 1', '"a": NaN')),
    ("bad_example", listed(1, 2, 3, 4).replace("question", "query")),
    ("bad_example", "<examples>[1, 2, 3, 4]</examples>"),
    ("bad_example", listed(1, 2, 3, 4).replace('"tool": "add"', '"tool": ["add"]', 1)),
]


@pytest.mark.parametrize("reason, think", LISTS)
def test_reasons_of_the_papers_rule(reason, think):
    verdict = judge_examples_block(completion(think))
    assert verdict.reason == reason
    if reason == "ok":
        assert [e["answer"]["arguments"]["a"] for e in verdict.examples][:4] == [1, 2, 3, 4]


def test_examples_belong_into_the_thinking_and_before_the_call():
    block = listed(1, 2, 3, 4)
    assert judge_examples_block(f"<think>hm</think>{block}{ANSWER}").reason == "none"
    assert judge_examples_block(f"{block}{ANSWER}").reason == "none"
    assert judge_examples_block(f"<think>{block}").reason == "unclosed"
    assert judge_examples_block(f"<think>{block}</think>" + "x" * MAX_CHARS).reason == "too_long"
    assert judge_examples_block(completion(listed(1, 2, 3)), needed=3).reason == "ok"


def test_the_papers_reward_is_101_or_1_or_0():
    """By hand: the hundredth, quantised, only with a right answer and only for more than 3 examples that parse."""
    right, wrong = completion(listed(1, 2, 3, 4)), completion(listed(1, 2, 3, 4)).replace('"b": 2}', '"b": 9}')
    texts = [right, wrong, completion(listed(1, 2, 3)), completion("hm"), "<think>"]
    columns = {"calls": [[call(a=1, b=2)]] * 5, "tools": [[TOOL]] * 5}
    bonus = ExampleBonus(0.01, conjunctive_reward)
    task = conjunctive_reward(prompts=["p"] * 5, completions=texts, **columns)
    paid = bonus(prompts=["p"] * 5, completions=texts, **columns)
    assert [t + p for t, p in zip(task, paid)] == [1 + 41 / 4096, 0, 1, 1, 0]
    ungated = ExampleBonus(0.01, None)(prompts=["p"] * 5, completions=texts, **columns)
    assert ungated == [41 / 4096, 41 / 4096, 0, 0, 0]


def test_examples_that_show_nothing_new_by_hand():
    """Of 5 + 2 + 0 examples: two repeats, one with the prompt's own question, one with the answer's call."""
    own = [{"tool": "add", "question": "What is one, plus two", "answer": 3},
           {"tool": "add", "question": "what is three plus four", "answer": call(a=1, b=2)}]  # fmt: skip
    texts = [listed(5, 6, 5, 7, 7), f"<examples>{json.dumps(own)}</examples>", "none", "<examples>[1]</examples>"]
    assert judge_examples_block(completion(texts[0]), 1).read == 5
    assert trivial_share([PROMPT] * 4, [completion(text) for text in texts]) == 4 / 7
    messages = [{"role": "user", "content": PROMPT}]
    assert trivial_share([messages], [completion(texts[1])]) == 1.0
    assert trivial_share([PROMPT] * 2, [completion(text) for text in texts[2:]]) is None, "no share of nothing"


def test_the_parts_of_an_example_are_read():
    verdict = judge_example(completion(GOOD), PROMPT, [TOOL])
    assert (verdict.query, verdict.call, verdict.analysis) == (QUERY, call(), ANALYSIS)


def test_only_the_think_block_counts():
    """An example after the think block, or without one, is none; one in a block that never closes has a code."""
    assert judge_example(f"<think>hm</think>{GOOD}{ANSWER}", PROMPT, [TOOL]).reason == "none"
    assert judge_example(f"{GOOD}{ANSWER}", PROMPT, [TOOL]).reason == "none"
    assert judge_example(f"<think>{GOOD}", PROMPT, [TOOL]).reason == "unclosed"
    assert judge_example("<think>hm", PROMPT, [TOOL]).reason == "none"
    split = GOOD.replace(ANALYSIS, "</think>")
    assert judge_example(completion(split), PROMPT, [TOOL]).reason == "unclosed"
    # An inner <think> is text like any other; thinking ends at the first closing tag.
    assert judge_example(completion("<think>" + GOOD), PROMPT, [TOOL]).reason == "ok"


def test_a_wrong_example_is_valid_but_not_right():
    verdict = judge_example(completion(example_text(QUERY, call(a=9, b=9), ANALYSIS)), PROMPT, [TOOL])
    assert verdict.reason == "ok", "the paper does not pay for being right"


def test_strict_rule_refuses_an_argument_in_common_with_the_answer():
    shared = completion(example_text(QUERY, call(a=1, b=4), ANALYSIS))
    assert judge_example(shared, PROMPT, [TOOL]).reason == "ok"
    assert judge_example(shared, PROMPT, [TOOL], strict=True).reason == "same_values"
    swapped = completion(example_text(QUERY, call(a=2, b=1), ANALYSIS))
    assert judge_example(swapped, PROMPT, [TOOL], strict=True).reason == "ok", "a=2 is not b=2"


def test_strict_rule_compares_values_as_json_does_and_calls_without_arguments_as_a_whole():
    def strict(example, answer):
        tools = [{"type": "function", "function": {"name": name}} for name in ("add", "ping", "pong")]
        text = completion(example_text(QUERY, example, ANALYSIS), f"<tool_call>{json.dumps(answer)}</tool_call>")
        return judge_example(text, PROMPT, tools, strict=True).reason

    assert strict(call(a=1.0, b=4), call(a=1, b=2)) == "same_values"
    assert strict(call(a={"x": 1, "y": 2}), call(a={"y": 2, "x": 1})) == "same_values", "the order of keys says nothing"
    assert strict(call(a=True), call(a=1)) == "ok"
    ping, pong = {"name": "ping", "arguments": {}}, {"name": "pong", "arguments": {}}
    assert strict(ping, ping) == "same_values" and strict(ping, pong) == "ok"


def test_messages_are_judged_like_text():
    assert judge_example([{"role": "assistant", "content": completion(GOOD)}], PROMPT, [TOOL]).reason == "ok"


def test_a_demonstration_in_an_earlier_turn_of_the_prompt_counts_as_copied():
    demonstration = [{"role": "user", "content": QUERY}, {"role": "assistant", "content": ANSWER}]
    asked = [{"role": "user", "content": "please add five and six"}]
    found = judge_examples([asked, demonstration + asked], [completion(GOOD)] * 2, [[TOOL]] * 2)
    assert [verdict.reason for verdict in found] == ["ok", "copied_query"]


def test_words_are_counted_where_none_are_spaced():
    chinese = judge_example(completion(example_text("请把三加四", call(), "两个都是整数")), PROMPT, [TOOL])
    assert chinese.reason == "ok"
    short = judge_example(completion(example_text("加四", call(), "两个都是整数")), PROMPT, [TOOL])
    assert short.reason == "no_query"


def test_a_faulty_schema_is_not_the_models_fault():
    for parameters in ({"type": "nonsense"}, {"$ref": "https://example.org/schema.json"}, {"properties": 3}):
        tool = {"type": "function", "function": {"name": "add", "parameters": parameters}}
        assert judge_example(completion(GOOD), PROMPT, [tool]).reason == "ok"


@settings(max_examples=300)
@given(st.lists(st.sampled_from([
    "<think>", "</think>", "<example>", "</example>", "<tool_call>", "</tool_call>", '{"name": "add", "arguments": {}}',
    '{"name":', "NaN", "1e999", "[" * 50, "}" * 50, '"', "\\", "\u0430dd", "\ud800", "\x00", QUERY, ANALYSIS, "a " * 99,
]), max_size=30), st.booleans())  # fmt: skip
@example(["<example>"] * 30, True)
def test_nothing_raises_and_a_paid_example_is_what_it_should_be(parts, strict):
    verdict = judge_example("".join(parts), PROMPT, [TOOL], strict)
    assert verdict.reason in EXAMPLE_REASONS
    if verdict.reason == "ok":
        assert len(verdict.query.split()) >= 3 and len(verdict.analysis.split()) >= 3
        assert verdict.call["name"] == "add" and set(verdict.call["arguments"]) == {"a", "b"}


@settings(max_examples=100)
@given(st.text(max_size=200), st.text(max_size=200))
def test_any_text_around_the_call_is_read_without_harm(query, analysis):
    verdict = judge_example(completion(example_text(query, call(), analysis)), PROMPT, [TOOL])
    assert verdict.reason in EXAMPLE_REASONS


@pytest.mark.parametrize("reason, think", [
    ("none", "<think>" * 10**6), ("none", "<tool_call>" * 10**6), ("none", "a" * 10**6),
    ("too_long", "<example>" * 10**6), ("too_long", GOOD + "a" * 10**6),
])  # fmt: skip
def test_a_megabyte_is_not_read(reason, think):
    assert len(think) > MAX_CHARS and judge_example(completion(think), PROMPT, [TOOL]).reason == reason


def columns(thinks, answers=None):
    answers = answers or [ANSWER] * len(thinks)
    n = len(thinks)
    return {
        "prompts": [PROMPT] * n, "completions": [completion(t, a) for t, a in zip(thinks, answers)],
        "calls": ['[{"name": "add", "arguments": {"a": 1, "b": 2}}]'] * n, "tools": [json.dumps([TOOL])] * n,
    }  # fmt: skip


PAID = 41 / 4096  # the multiple of 1/4096 nearest to 0.01


def test_bonus_by_hand():
    wrong = ANSWER.replace("1", "8")
    rows = columns([GOOD, GOOD, "hm"], [ANSWER, wrong, ANSWER])
    assert OneExampleBonus(0.01)(**rows) == [PAID, PAID, 0.0]
    assert OneExampleBonus(0.01, conjunctive_reward)(**rows) == [PAID, 0.0, 0.0]
    shared = example_text(QUERY, call(a=1, b=9), ANALYSIS)
    assert OneExampleBonus(0.01, strict=True)(**columns([GOOD, shared])) == [PAID, 0.0]


def test_bonus_logs_what_became_of_the_examples():
    logged = {}
    answers = {QUERY: call()}
    wrong = example_text(QUERY, call(a=5, b=5), ANALYSIS)
    other = example_text("some other question here", call(), ANALYSIS)
    bonus = OneExampleBonus(0.01, answer=answers.get)
    bonus(**columns([GOOD, wrong, other, "<example>", "hm"]), log_metric=logged.__setitem__)
    assert logged == {"examples/rate": 0.6, "examples/tried": 0.8, "examples/right": 1 / 3, "examples/senseless": 1 / 3}
    logged.clear()
    bonus(**columns(["hm"]), log_metric=logged.__setitem__)
    assert logged == {"examples/rate": 0.0, "examples/tried": 0.0}, "no share of nothing"


def test_a_hundredth_is_a_full_advantage_in_a_group_that_fails():
    """The lesson of notebook 03: scaled by the group's own spread, 0.01 weighs what a whole right answer would."""
    paid = [0.01] * 5 + [0.0] * 5
    assert group_advantages(paid, 10)[0] == pytest.approx(0.005 / (0.0052705 + 1e-4), rel=1e-3)
    assert group_advantages(paid, 10, scale="none")[0] == pytest.approx(0.005)


def test_the_world_knows_the_answer_to_each_of_its_queries():
    for sample in nano_samples("test", 5):
        assert right_call(sample.messages[-1]["content"]) == sample.calls[0]
    assert right_call("book a taxi to the moon") is None
    total = sum(1 for family in FAMILIES.values() for _ in all_queries(family))
    assert len({q for family in FAMILIES.values() for q, _ in all_queries(family)}) == total, "no query has two answers"


def test_the_invitation_stands_in_the_system_turn_and_shows_no_valid_example():
    sample = nano_samples("train", 1)[0]
    plain, invited = render_messages(sample), render_messages(sample, invite=True)
    assert INVITATION in invited[0]["content"] and INVITATION not in plain[0]["content"]
    assert plain[1:] == invited[1:]
    assert judge_example(INVITATION + ANSWER, "", sample.tools).reason != "ok"


@pytest.mark.parametrize(
    "parameters, value",
    [({"properties": {"x": {"type": "integer", "multipleOf": 0.01}}}, 10**400), ({"$ref": "#"}, 1),
     ({"properties": {"x": {"type": "string", "pattern": "^(a|aa)+$"}}}, "a" * 40 + "!")],
)  # fmt: skip
def test_no_schema_and_no_completion_stop_the_judge(parameters, value):
    """A number too large for the arithmetic, a schema that refers to itself, a pattern that backtracks for hours."""
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    call = json.dumps({"name": "f", "arguments": {"x": value}})
    text = f"<think><example>what is this one\n<tool_call>\n{call}\n</tool_call>\nthis one is that</example></think>"
    assert judge_example(text, "another question altogether", [tool]).reason == "ok"


def test_a_property_may_be_called_pattern_and_is_still_checked():
    tool = {"type": "function", "function": {"name": "f", "parameters": {
        "type": "object", "properties": {"pattern": {"type": "string"}}}}}  # fmt: skip
    call = '{"name": "f", "arguments": {"pattern": 1}}'
    text = f"<think><example>what is this\n<tool_call>\n{call}\n</tool_call>\nthis one is that</example></think>"
    assert judge_example(text, "another question altogether", [tool]).reason == "bad_arguments"
