"""Rows whose right answer is to call nothing, mixed into any source: which, how many, and what is judged right."""

import json
import random

import pytest
from test_sources import write
from test_templates import FOLDER, loaded, make_tokenizer

from toolexpander_lite.base.errors import DataError, SettingsError
from toolexpander_lite.data.row_formats import to_hermes
from toolexpander_lite.data.sources import load_samples, no_call_sample
from toolexpander_lite.evaluation.executed import ExecutedReward
from toolexpander_lite.method.calls import judge
from toolexpander_lite.method.demonstrations import DemoBank
from toolexpander_lite.method.prompts import gold_completion
from toolexpander_lite.method.samples import to_dataset, to_samples
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.splits import load_splits
from toolexpander_lite.worlds.request_world import TOOL_OF


def tool(name):
    parameters = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    return {"type": "function", "function": {"name": name, "description": "Does it", "parameters": parameters}}


def call_rows(count, tools=6):
    """Each row offers two tools of `tools` and calls the first."""
    for i in range(count):
        names = [f"t{i % tools}", f"t{(i + 1) % tools}"]
        yield to_hermes(f"Do number {i}", list(map(tool, names)), [{"name": names[0], "arguments": {"x": i}}])


def own_rows(count):
    return [to_hermes(f"Talk of number {i}", [tool("t0"), tool("t1")], []) for i in range(count)]


def lines(folder, rows):
    return write(folder, "rows.jsonl", "\n".join(map(json.dumps, rows)))


@pytest.fixture(scope="module")
def tokenizer():
    bytewise = make_tokenizer((FOLDER / "qwen3.jinja").read_text())
    loaded(bytewise)
    return bytewise


def splits(folder, rows, tokenizer, **changes):
    sizes = {"max_prompt_tokens": 5000, "max_completion_length": 900, "train_prompts": 20, "eval_prompts": 10}
    profile = get_profile("nano", data="hermes", data_path=str(lines(folder, rows)), **{**sizes, **changes})
    return load_splits(profile, 0, tokenizer)


def nothing(samples):
    return [s for s in samples if not s.calls]


def test_a_made_row_keeps_its_question_and_offers_only_other_rows_tools(tmp_path):
    samples = load_samples("hermes", lines(tmp_path, call_rows(30))).samples
    for sample in samples:
        made = no_call_sample(sample, samples, random.Random(0))
        assert made.messages == sample.messages and made.split == sample.split
        assert made.id == f"{sample.id}-no-call" and made.family == "no-call" and made.calls == []
        offered, before = ({t["function"]["name"] for t in s.tools} for s in (made, sample))
        assert len(offered) == 2 and not offered & before
        right, wrong = gold_completion(made), gold_completion(sample)
        assert judge(right, made.calls, made.tools).reason in ("ok", "no_call")
        assert judge(right, made.calls, made.tools).call_ok and judge(right, made.calls, made.tools).format_ok
        assert not judge(wrong, made.calls, made.tools).call_ok, "the old gold call is wrong now"
        listed = [{"name": made.tools[0]["function"]["name"], "arguments": {"x": 1}}]
        assert not judge(gold_completion(sample_with(made, listed)), made.calls, made.tools).call_ok
        assert not judge("garbage", made.calls, made.tools).call_ok
    assert to_samples(to_dataset([made])) == [made]


def sample_with(sample, calls):
    return type(sample)(sample.id, sample.family, sample.messages, sample.tools, calls, sample.split)


def test_where_all_rows_offer_the_same_tools_none_can_be_made(tmp_path, tokenizer):
    samples = load_samples("hermes", lines(tmp_path, call_rows(30, tools=2))).samples
    assert no_call_sample(samples[0], samples, random.Random(0)) is None
    with pytest.raises(DataError, match="of 3 no-call rows only 0 can be had of 20 rows: too few offer tools of other"):
        splits(tmp_path, call_rows(60, tools=2), tokenizer, no_call_rows=3)


def test_training_rows_are_replaced_and_held_out_ones_are_not(tmp_path, tokenizer):
    rows = list(call_rows(100))
    plain, mixed = splits(tmp_path, rows, tokenizer), splits(tmp_path, rows, tokenizer, no_call_rows=6)
    assert len(mixed.train) == len(plain.train) == 20 and len(nothing(mixed.train)) == 6
    assert [s.messages for s in mixed.train] == [s.messages for s in plain.train], "the same questions"
    assert [s for s in mixed.train if s.calls] == plain.train[:14]
    assert mixed.held_out == plain.held_out and not nothing(mixed.held_out)
    assert mixed.left_out == plain.left_out | {"train: replaced by a no-call row made of it": 6}
    again = splits(tmp_path, rows, tokenizer, no_call_rows=6)
    assert again.train == mixed.train
    asked = splits(tmp_path, rows, tokenizer, no_call_eval_rows=4)
    assert asked.train == plain.train and len(nothing(asked.held_out)) == 4 and len(asked.held_out) == 10
    assert asked.left_out["held out: replaced by a no-call row made of it"] == 4


def test_rows_of_the_file_come_first(tmp_path, tokenizer):
    rows = [*call_rows(100), *own_rows(5)]
    report = load_samples("hermes", lines(tmp_path, rows))
    assert report.dropped == {"row without a call": 5} and not nothing(report.samples)
    kept = load_samples("hermes", lines(tmp_path, rows), no_call=True)
    own = [s for s in nothing(kept.samples) if s.split == "train"]
    assert len(nothing(kept.samples)) == 5 and {s.family for s in nothing(kept.samples)} == {"no-call"}
    assert kept.dropped == {} and 0 < len(own) < 6

    mixed = splits(tmp_path, rows, tokenizer, no_call_rows=8)
    assert [s.id for s in nothing(mixed.train) if not s.id.endswith("-no-call")] == [s.id for s in own]
    assert len(nothing(mixed.train)) == 8 and not nothing(mixed.held_out)
    assert mixed.left_out["train: replaced by a no-call row of the file"] == len(own)
    assert mixed.left_out["train: replaced by a no-call row made of it"] == 8 - len(own)
    one = splits(tmp_path, rows, tokenizer, no_call_rows=1)
    assert one.left_out["no-call row of the file that was not needed"] == 4
    assert splits(tmp_path, rows, tokenizer).left_out == {"row without a call": 5}


def test_a_warm_start_gets_the_same_share(tmp_path, tokenizer):
    rows = list(call_rows(100))
    mixed = splits(tmp_path, rows, tokenizer, no_call_rows=5, warm_start_rows=40)
    assert len(mixed.set_aside) == 40 and len(nothing(mixed.set_aside)) == 10 and len(nothing(mixed.train)) == 5
    ids = [s.id for s in mixed.set_aside + mixed.train]
    assert len(set(ids)) == len(ids)
    validation = splits(tmp_path, rows, tokenizer, no_call_rows=5, no_call_eval_rows=2, eval_split="validation")
    assert len(nothing(validation.held_out)) == 2 and {s.split for s in validation.held_out} == {"train"}


def test_requests_get_no_call_rows_on_top_and_plain_words_are_right_there(tokenizer):
    sizes = {"max_prompt_tokens": 5000, "max_completion_length": 900, "demo_room": 0, "train_prompts": 2}
    whole, mixed = (load_splits(get_profile("smol-world", **sizes, no_call_rows=n), 3, tokenizer) for n in (0, 12))
    assert mixed.train[: len(whole.train)] == whole.train and mixed.held_out == whole.held_out
    rows = mixed.train[len(whole.train) :]
    assert len({s.id for s in rows}) == 12 and not any(s.calls for s in rows)
    before = {s.id for s in whole.train}
    reward, bank = ExecutedReward(mixed.tasks, think=False), DemoBank(mixed.train)
    for sample in rows:
        task = mixed.tasks[sample.id]
        assert sample.id.removesuffix("-no-call") not in before
        needed = sample.id.split("-")[1].split("+")  # the families that were asked for
        assert not {TOOL_OF[name] for name in needed} & {t["function"]["name"] for t in sample.tools}
        assert bank.choose(sample, 6, random.Random(0)) == [], "a demonstration would call"
        assert task.sample is sample
    one = rows[0]
    words, called = "Nothing here can do that.", {"name": one.tools[0]["function"]["name"], "arguments": {}}
    call = gold_completion(sample_with(one, [called]), think=False)
    right = [words, gold_completion(one, think=False), "<think>no tool fits</think>", f"<think>no</think>\n{words}"]
    wrong = [call, f"{words} {call}", "the the the", "", 'So: {"name": "x"}', "use x(1) here", "`so it is`"]
    texts = right + wrong
    given = {"calls": [[]] * 11, "tools": [one.tools] * 11, "sample_id": [one.id] * 11}
    assert reward(["q"] * 11, texts, **given) == [1] * 4 + [0] * 7
    with pytest.raises(DataError, match="of 3000 no-call rows only .* lower no_call_rows"):
        load_splits(get_profile("smol-world", **sizes, no_call_rows=3000), 3, tokenizer)
    assert not judge(words, [], one.tools).format_ok, "where a thought is asked for, it is asked for here too"


def test_what_cannot_be_mixed_is_refused(tmp_path, tokenizer):
    with pytest.raises(SettingsError, match="no_call_rows is more than train_prompts"):
        get_profile("nano", no_call_rows=17)
    with pytest.raises(SettingsError, match="no_call_eval_rows is -1"):
        get_profile("nano", no_call_eval_rows=-1)
    with pytest.raises(SettingsError, match="of the kit's worlds only 'requests'"):
        load_splits(get_profile("nano", no_call_rows=1), 0, tokenizer)
    with pytest.raises(SettingsError, match="are no-call rows already"):
        splits(tmp_path, own_rows(40), tokenizer, no_call_rows=1)
    with pytest.raises(DataError, match="no train row"):
        splits(tmp_path, call_rows(40), tokenizer, no_call_rows=1, max_prompt_tokens=1)
