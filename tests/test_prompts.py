"""Prompts: what the model reads and what it should write."""

import json

import pytest

from toolexpander_lite.method.calls import judge
from toolexpander_lite.method.prompts import (
    EXAMPLES_INVITATION,
    SYSTEM_PROMPT,
    gold_completion,
    render_messages,
    render_prompt,
)
from toolexpander_lite.method.rewards import conjunctive_reward, native_reward
from toolexpander_lite.method.samples import ToolSample
from toolexpander_lite.variants.all_recipes import get_recipe
from toolexpander_lite.variants.assemble_any import assemble


def tool(name):
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    return {"type": "function", "function": {"name": name, "description": "d", "parameters": parameters}}


def sample(id="s-1", query="Rain in Köln?", calls=None, messages=None):
    calls = [{"name": "weather", "arguments": {"city": "Köln"}}] if calls is None else calls
    messages = messages or [{"role": "user", "content": query}]
    return ToolSample(id, "test", messages, [tool("weather"), tool("news")], calls)


def test_gold_completion_is_exactly_the_agreed_text():
    assert gold_completion(sample()) == (
        '<think>call weather</think>\n<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call>'
    )


def test_gold_completion_writes_one_block_per_call_in_order():
    calls = [{"name": "news", "arguments": {}}, {"name": "weather", "arguments": {"city": "Rome"}}]
    text = gold_completion(sample(calls=calls))
    assert text.startswith("<think>call news, weather</think>\n")
    blocks = [part.split("\n</tool_call>")[0] for part in text.split("<tool_call>\n")[1:]]
    assert [json.loads(b) for b in blocks] == calls


def test_gold_completion_of_a_sample_without_calls_is_a_thought_alone_and_judged_right():
    unfit = sample(calls=[])
    verdict = judge(gold_completion(unfit), unfit.calls, unfit.tools)
    assert verdict.format_ok and verdict.call_ok and verdict.reason == "ok"


def test_messages_hold_system_then_demos_then_the_sample():
    demo = sample("s-2", "Rain in Rome?")
    messages = render_messages(sample(), [demo])
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "user"]
    assert messages[0]["content"] == SYSTEM_PROMPT
    assert messages[2]["content"] == gold_completion(demo)
    assert messages[3]["content"] == "Rain in Köln?"


def test_the_samples_own_system_text_follows_the_instruction_and_a_demos_is_left_out():
    system = {"role": "system", "content": "Today is Monday."}
    own = sample(messages=[system, {"role": "user", "content": "q"}])
    demo = sample("s-2", messages=[{"role": "system", "content": "SECRET"}, {"role": "user", "content": "p"}])
    messages = render_messages(own, [demo])
    assert messages[0]["content"] == SYSTEM_PROMPT + "\n\nToday is Monday."
    assert not any("SECRET" in m["content"] for m in messages)


def test_rendering_leaves_the_sample_alone():
    own = sample()
    render_messages(own)[-1]["content"] = "changed"
    assert own.messages[0]["content"] == "Rain in Köln?"


def test_a_sample_cannot_be_its_own_demonstration():
    with pytest.raises(ValueError, match="among its own demonstrations"):
        render_messages(sample(), [sample()])


def test_render_prompt_asks_the_template_for_tools_and_an_opened_answer():
    seen = {}

    class Tokenizer:
        def apply_chat_template(self, messages, **options):
            seen.update(options, messages=messages)
            return "text"

    assert render_prompt(sample(), Tokenizer(), [sample("s-2")]) == "text"
    assert seen["add_generation_prompt"] is True and seen["tokenize"] is False
    assert seen["tools"] == sample().tools and len(seen["messages"]) == 4


# The paper's first idea: the model's own system prompt and tags, nothing of ours


def test_native_prompts_add_nothing_and_show_no_thoughts():
    asked, shown = sample(), sample("s-2", "Rain in Rome?", [{"name": "weather", "arguments": {"city": "Rome"}}])
    assert render_messages(asked, invite="native") == asked.messages
    messages = render_messages(asked, [shown], invite="native")
    assert [m["role"] for m in messages] == ["user", "assistant", "user"]
    assert messages[1]["content"] == '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
    own = sample(messages=[{"role": "system", "content": "Be brief."}, *asked.messages])
    assert render_messages(own, invite="native")[0] == {"role": "system", "content": "Be brief."}
    assert render_messages(own)[0]["content"] == f"{SYSTEM_PROMPT}\n\nBe brief."


def test_native_answers_need_no_think_block():
    asked = sample()
    bare = gold_completion(asked, think=False)
    answers = [
        (bare, "ok"), (f"<think>hm</think>{bare}", "ok"), (f"Sure! {bare}", "extra_text"), ("", "no_call"),
        (f"hm</think>{bare}", "no_think"), (f"<think>{bare}", "truncated"),
    ]  # fmt: skip
    for text, reason in answers:
        assert judge(text, asked.calls, asked.tools, think=False).reason == reason, text
    assert judge(bare, asked.calls, asked.tools).reason == "no_think", "where thinking is asked for, it is"
    columns = {"prompts": ["p"], "completions": [bare], "calls": [asked.calls], "tools": [asked.tools]}
    assert (native_reward(**columns), conjunctive_reward(**columns)) == ([1.0], [0.0])


def test_the_prompt_style_is_a_field_of_the_recipe():
    assert [get_recipe("paper_grpo", prompt_style=style).asks for style in ("think", "native")] == [False, "native"]
    assert get_recipe("paper_self_exemplifying").asks == "examples" and get_recipe("set").asks is True
    text = render_messages(sample(), invite="examples")[0]["content"]
    assert text == f"{SYSTEM_PROMPT}\n\n{EXAMPLES_INVITATION}" and "at least four different examples" in text


def test_a_native_recipe_is_judged_natively():
    rows = [sample(), sample("s-2", "Rain in Rome?", [{"name": "weather", "arguments": {"city": "Rome"}}])]
    for style, reward in (("native", native_reward), ("think", conjunctive_reward)):
        assert assemble(get_recipe("paper_grpo", prompt_style=style), rows, None, 100).reward is reward
    parts = assemble(get_recipe("paper_self_exemplifying", examples_needed=2), rows, None, 100)
    (bonus,) = parts.bonuses
    assert (bonus.needed, bonus.task_reward, bonus.bonus) == (2, conjunctive_reward, 41 / 4096)
