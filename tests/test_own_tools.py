"""Your own functions as tools: what schemas they get, which rows are drawn, how they are split, what their calls do."""

import json
import re
import shutil
from collections import defaultdict

import pytest

from toolexpander_lite.__main__ import main
from toolexpander_lite.base.errors import DataError, ModelError
from toolexpander_lite.base.runs import REPOSITORY, read_json
from toolexpander_lite.data.own_rows import ROWS_DRAWN, own_rows
from toolexpander_lite.data.own_tools import load_tools, tool_schema
from toolexpander_lite.data.own_turns import own_tasks
from toolexpander_lite.data.sources import load_samples
from toolexpander_lite.evaluation.answers import as_completion
from toolexpander_lite.evaluation.executed import DONE
from toolexpander_lite.evaluation.tool_caller import ToolCaller, score_executed
from toolexpander_lite.models.policy import load_policy
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.splits import load_splits
from toolexpander_lite.worlds.run_calls import MAX_RESULT_CHARS

FUNCTIONS = '''
from typing import Literal

LIST = []


def set_timer(minutes: int, label: str | None = None) -> str:
    """Start a timer.

    Args:
        minutes: how long
        label: what for
    """
    return f"{label}: {minutes}"


def add_item(item: str, count: int = 1, shop: Literal["baker", "grocer"] = "grocer"):
    """Put something on the list.

    Args:
        item: what to buy
        count: how many
        shop: where
    """
    LIST.append([item, count, shop])
    return len(LIST)


def _helper(x):
    return x
'''
TEMPLATES = '''
TEMPLATES = [
    ("Timer, {minutes} minutes for the {label}.", set_timer,
     {"minutes": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], "label": ["tea", "soup", "rice", "cake", "eggs"]}),
    ("{count} {item} from the {shop}.", "add_item",
     {"count": [3, 4, 5, 11, 12], "item": ["rolls", "pears", "eggs"], "shop": {"bakery": "baker", "shop": "grocer"}}),
    ("Sing of {who}.", None, {"who": ["kings", "queens"]}),
]
'''


def write(folder, text, name="tools.py"):
    path = folder / name
    path.write_text(text)
    return path


def function(text, docs="Does it."):
    return f'def f{text}:\n    """{docs}"""\n    return 1\n'


# --- schemas


def test_schemas_are_the_functions_own_and_strict(tmp_path):
    timer, item = load_tools(write(tmp_path, FUNCTIONS)).registry.schemas()
    assert timer == {"type": "function", "function": {
        "name": "set_timer", "description": "Start a timer.", "parameters": {
            "type": "object", "additionalProperties": False, "required": ["minutes"], "properties": {
                "minutes": {"type": "integer", "description": "how long"},
                "label": {"type": ["string", "null"], "description": "what for"}}}}}  # fmt: skip
    properties = item["function"]["parameters"]["properties"]
    assert properties["shop"]["enum"] == ["baker", "grocer"] and "return" not in item["function"]


BAD = {
    "(x)": "function 'f', parameter 'x' has no type; write x: str",
    "(*args: int)": r"parameter 'args' \(\*args: int\) has no single name; write one named parameter",
    "(**more: str)": r"parameter 'more' \(\*\*more: str\) has no single name",
    "(x: int, /)": "parameter 'x' .* has no single name",
    "(x: set)": "parameter 'x' has the type set, which JSON has no schema for; use int",
    "(x: tuple[int, ...])": "parameter 'x' has the type tuple.*which JSON has no schema for",
    "(x: Colour)": "parameter 'x' has the type Colour.*Literal",
    "(x: 'Missing')": "annotations cannot be read .*Missing.*; import or define",
    "(x: int)": "parameter 'x' is not described; add a line \"x: what it is\" under \"Args:\"",
}


@pytest.mark.parametrize("signature", BAD)
def test_a_function_without_a_schema_is_named_with_its_parameter_and_mend(signature, tmp_path):
    text = "from enum import Enum\nclass Colour(Enum):\n    RED = 'red'\n" + function(signature)
    with pytest.raises(DataError, match=BAD[signature]) as error:
        load_tools(write(tmp_path, text))
    assert "tools.py: function 'f'" in str(error.value) and "is no tool begins with _" in str(error.value)


@pytest.mark.parametrize("text, message", [
    (function("()", docs=""), "has no docstring"),
    (function("(x: int)", docs="Args:\n    x: number"), "does not say what the tool does"),
    ("async " + function("()"), "is async"),
    (function("()") + function("()"), "defines 'f' twice"),
    (function("()") + "TOOLS = [f, f]", "'f' is registered already; rename one"),
    ("X = 1", "has no tools; write a function"),
    ("TOOLS = 3", "has no tools"),
    ("def f(:", "cannot run the tools file .*SyntaxError"),
    ("import nowhere_to_be_found", "cannot run .*must be installed"),
    ("raise SystemExit(3)", "cannot run .*SystemExit"),
    ("class Box:\n    def __init__(self, size): pass\n" + "    def f(self): 'Does it.'", "give every parameter"),
])  # fmt: skip
def test_a_file_that_is_no_tools_file_is_refused_in_one_sentence(text, message, tmp_path):
    with pytest.raises(DataError, match=message):
        load_tools(write(tmp_path, text))


def test_a_missing_file_and_another_kind_are_refused(tmp_path):
    with pytest.raises(DataError, match="none.py is none: there is no such file"):
        load_tools(tmp_path / "none.py")
    with pytest.raises(DataError, match="must end in .py"):
        load_tools(write(tmp_path, FUNCTIONS, "tools.txt"))
    with pytest.raises(DataError, match="is async"):
        tool_schema(test_a_coroutine)


async def test_a_coroutine():
    """No test: a function that cannot be a tool."""


test_a_coroutine.__test__ = False

KITCHEN = '''
class Kitchen:
    def __init__(self):
        self.on = {}

    def oven(self, degrees: int):
        """Heat the oven.

        Args:
            degrees: how hot
        """
        self.on["oven"] = degrees
        return self._told()

    def _told(self):
        return dict(self.on)
'''


def test_a_class_has_its_methods_as_tools_and_a_state_that_begins_anew(tmp_path):
    file = write(tmp_path, KITCHEN)
    tools = load_tools(file)
    assert [s["function"]["name"] for s in tools.registry.schemas()] == ["oven"]
    result = tools.registry.execute({"name": "oven", "arguments": {"degrees": 200}}, timeout=30)
    assert result.value == {"oven": 200} and tools.state() == {"on": {"oven": 200}}
    assert load_tools(file).state() == {"on": {}}


# --- what a tool may do


@pytest.mark.parametrize("body, reason, told", [
    ("raise KeyError('no such lamp')", "tool_error", "KeyError: 'no such lamp'"),
    ("while True: pass", "timeout", "no result after"),
    ("import time; time.sleep(3)", "timeout", "no result after"),
    ("return {1, 2}", "bad_result", "returned a set, which JSON cannot hold"),
    ("return float('nan')", "bad_result", "returned a float, which JSON cannot hold"),
    ("x = []; x.append(x); return x", "bad_result", "returned a list"),
    ("return '\\ud800'", "bad_result", "returned a str"),
    ("return 'x' * 1_000_000", "bad_result", f"1,000,002 characters; at most {MAX_RESULT_CHARS:,} go on"),
    ("raise ValueError('x' * 1_000_000)", "tool_error", "ValueError: xxx"),
])  # fmt: skip
def test_whatever_a_tool_does_is_one_bounded_result_with_a_reason(body, reason, told, tmp_path):
    file = write(tmp_path, f'def f():\n    """Does it."""\n    {body}\n')
    timeout = 0.3 if reason == "timeout" else 30
    result = load_tools(file).registry.execute({"name": "f", "arguments": {}}, timeout)
    assert (result.ok, result.value, result.reason) == (False, None, reason)
    assert told in result.error and len(result.error) <= 300


def test_a_state_is_what_json_holds_of_it_and_sets(tmp_path):
    text = "A, B, C, D = {1: (2,), 'x': 3}, {'b', 'a'}, object(), [1]\n"
    assert load_tools(write(tmp_path, text + function("()"))).state() == {"A": {"1": [2], "x": 3}, "B": ["'a'", "'b'"],
                                                                         "D": [1]}  # fmt: skip


def test_a_result_is_what_json_holds_of_it(tmp_path):
    file = write(tmp_path, 'def f():\n    """Does it."""\n    return {1: (2, None)}\n')
    assert load_tools(file).registry.execute({"name": "f", "arguments": {}}, 30).value == {"1": [2, None]}


# --- rows


def values_by_split(rows, closed=("shop",)):
    found = defaultdict(set)
    for row in rows:
        for name, value in ((row["call"] or {}).get("arguments") or {}).items():
            found[row["split"]] |= {value} - ({value} if name in closed else set())
    return found


def test_templates_become_rows_whose_splits_share_no_value(tmp_path):
    rows = own_rows(write(tmp_path, FUNCTIONS + TEMPLATES))
    found = values_by_split(rows)
    assert found["train"] and found["test"] and not found["train"] & found["test"]
    minutes = {row["split"]: {r["call"]["arguments"]["minutes"] for r in rows if "Timer" in r["question"] and
               r["split"] == row["split"]} for row in rows}  # fmt: skip
    assert len(minutes["test"]) == 2 and len(minutes["train"]) == 8, "a fifth of ten"
    questions = [(row["question"], row["split"]) for row in rows]
    assert len(set(questions)) == len(questions)
    timers = [s for q, s in questions if q.startswith("Timer")]
    assert (timers.count("train"), timers.count("test")) == (8 * 4, 2 * 1), "all there are"
    assert timers.count("train") < ROWS_DRAWN["train"]
    assert rows == own_rows(tmp_path / "tools.py"), "the same at each reading"
    row = next(row for row in rows if row["question"].endswith("from the bakery."))
    assert row["call"]["arguments"]["shop"] == "baker"
    assert {row["split"] for row in rows if row["call"] is None} == {"train", "test"}


LAMP = '''
from typing import Literal

def lamp(room: Literal["hall", "attic", "cellar"], on: bool):
    """Switch a lamp.

    Args:
        room: where it hangs.
        on: light or no light.
    """

TEMPLATES = [
    ("Lamp in the {room} {on}.", lamp, {"room": ["hall", "attic", "cellar"], "on": {"on": True, "off": False}}),
    ("Where is my {thing}?", None, {"thing": ["key", "hat"]}),
    ("What is love?", None, {}),
]
'''


def test_no_question_is_in_both_splits_where_all_its_values_are(tmp_path):
    rows = own_rows(write(tmp_path, LAMP))
    lamps = {split: [r["question"] for r in rows if r["split"] == split and r["call"]] for split in ("train", "test")}
    assert len(set(lamps["train"])) == 5 and len(lamps["test"]) == 1, "a fifth of six is held out"
    assert not set(lamps["train"]) & set(lamps["test"])
    assert [row["split"] for row in rows if row["question"] == "What is love?"] == ["train"]


def test_all_rows_can_be_trained_on(tmp_path):
    report = load_samples("own", write(tmp_path, FUNCTIONS + TEMPLATES))
    rows = own_rows(tmp_path / "tools.py")
    assert report.dropped == {} and [s.split for s in report.samples] == [row["split"] for row in rows]
    assert all(len(s.tools) == 2 for s in report.samples)
    assert {s.family for s in report.samples} == {"own", "no-call"}


TABLE = """question,call
Timer for 3 minutes,set_timer(minutes=3)
Timer for 9 minutes,"{""name"": ""set_timer"", ""arguments"": {""minutes"": 9}}"
Two pears,"add_item(item=""pears"", count=2)"
Two pears and a plum,"[add_item(item=""pears"", count=2), add_item(item=""plum"")]"
Timer of a quarter,set_timer(minutes='quarter')
Dance,dance(minutes=3)
How are you?,
"""


def test_a_table_of_questions_and_calls(tmp_path):
    write(tmp_path, TABLE, "questions.csv")
    report = load_samples("own", write(tmp_path, FUNCTIONS + 'ROWS = "questions.csv"'))
    calls = {s.messages[-1]["content"]: [c["arguments"] for c in s.calls] for s in report.samples}
    assert calls["Timer for 3 minutes"] == [{"minutes": 3}] and calls["Timer for 9 minutes"] == [{"minutes": 9}]
    assert calls["Two pears and a plum"] == [{"item": "pears", "count": 2}, {"item": "plum"}]
    assert calls["How are you?"] == [] and len(calls) == 5
    assert report.dropped == {"gold that breaks its tool's schema: type": 1, "call to an unlisted tool": 1}
    split = {s.messages[-1]["content"]: s.split for s in report.samples}
    assert split["Two pears"] == split["Two pears and a plum"], "they have a value in common"


def test_chats_in_openais_form_and_lists_of_rows(tmp_path):
    call = {"function": {"name": "set_timer", "arguments": '{"minutes": 4}'}}
    chat = {"messages": [{"role": "user", "content": "Four minutes"}, {"role": "assistant", "tool_calls": [call]}]}
    write(tmp_path, json.dumps(chat), "chats.jsonl")
    [sample] = load_samples("own", write(tmp_path, FUNCTIONS + 'ROWS = "chats.jsonl"')).samples
    assert sample.calls == [{"name": "set_timer", "arguments": {"minutes": 4}}] and len(sample.tools) == 2
    pairs = [("Four", "set_timer(minutes=4)"), ("Six", {"name": "set_timer", "arguments": {"minutes": 6}}), 7]
    report = load_samples("own", write(tmp_path, FUNCTIONS + f"ROWS = {pairs}"))
    assert len(report.samples) == 2 and report.dropped == {"unparsable row": 1}


def test_what_is_wrong_with_a_given_row_is_told(tmp_path):
    report = load_samples("own", write(tmp_path, FUNCTIONS + """ROWS = [
        ("Dance", "set_timr(minutes=3)"), ("Three", "set_timer(minutes=3, loud=True)"), ("Four", "set_timer()"),
        ("Five", "set_timer(minutes='5')"), ("Six", "set_timer(minutes=6)")]"""))  # fmt: skip
    told = {"call to an unlisted tool": "unknown tool 'set_timr'; did you mean set_timer.",
            "gold that breaks its tool's schema: additionalProperties": "set_timer: .*'loud'",
            "gold that breaks its tool's schema: required": "set_timer: 'minutes' is a required property",
            "gold that breaks its tool's schema: type": "set_timer: '5' is not of type 'integer'"}  # fmt: skip
    assert dict.fromkeys(told, 1) == report.dropped
    for reason, words in told.items():
        assert re.search(words, report.first[reason]) and re.search(words, str(report))


@pytest.mark.parametrize("row", [{"question": "Six", "cal": "set_timer(minutes=6)"}, {"question": "Six"}, ("Six",)])
def test_a_row_without_an_answer_is_not_one_that_no_tool_fits(row, tmp_path):
    rows = [("Five", "set_timer(minutes=5)"), row]
    with pytest.raises(DataError, match=r'row 2 of ROWS has no "call", only .question.*or None .null. where no tool'):
        own_rows(write(tmp_path, FUNCTIONS + f"ROWS = {rows}"))
    write(tmp_path, '{"question": "Hi", "call": null}\n{"question": "Six"}', "r.jsonl")
    with pytest.raises(DataError, match='row 2 of ROWS has no "call"'):
        own_rows(write(tmp_path, FUNCTIONS + "ROWS = 'r.jsonl'"))


def test_given_rows_are_held_out_by_value(tmp_path):
    pairs = [(f"Number {n}, time {t}", f"set_timer(minutes={n})") for n in range(20) for t in range(3)]
    report = load_samples("own", write(tmp_path, FUNCTIONS + f"ROWS = {pairs}"))
    minutes = defaultdict(set)
    for sample in report.samples:
        minutes[sample.split].add(sample.calls[0]["arguments"]["minutes"])
    assert not minutes["train"] & minutes["test"] and len(minutes["test"]) == 4


@pytest.mark.parametrize("templates, message", [
    ("[('Go', 5)]", "is no template; write"),
    ("[('Go {minutes}', set_timer, {})]", "has no values for its slot 'minutes'"),
    ("[('Go', set_timer, {'speed': [1, 2]})]", "has values for 'speed', which its set_timer does not have"),
    ("[('Go', 'dance', {})]", "calls 'dance', which is no tool of the file; choose one of set_timer"),
    ("[('Go {minutes}', set_timer, {'minutes': [1]})]", "slot 'minutes' has fewer than two values"),
    ("[]", "has no example rows; add TEMPLATES"),
])  # fmt: skip
def test_a_template_that_does_not_fit_is_named(templates, message, tmp_path):
    with pytest.raises(DataError, match=message):
        own_rows(write(tmp_path, FUNCTIONS + f"TEMPLATES = {templates}"))


@pytest.mark.parametrize("text", ["question,answer\na,b\n", ""])
def test_a_table_without_its_columns_is_refused(text, tmp_path):
    write(tmp_path, text, "questions.csv")
    with pytest.raises(DataError, match="needs the columns question and call"):
        own_rows(write(tmp_path, FUNCTIONS + 'ROWS = "questions.csv"'))


# --- executed


def test_what_calls_do_is_judged_not_only_their_words(tmp_path):
    file = write(tmp_path, FUNCTIONS + 'ROWS = [("Two pears", "add_item(item=\'pears\', count=2)")] * 6 + ["no row"]')
    [sample] = [s for s in load_samples("own", file).samples][:1]

    def judged(*calls):
        written = as_completion([{"name": "add_item", "arguments": c} for c in calls])
        return score_executed([written], [sample], file, timeout=30)

    pears = {"item": "pears", "count": 2}
    assert judged(pears)["executed"] == judged(pears)["matched"] == 1
    spelled = judged(pears | {"shop": "grocer"})
    assert (spelled["matched"], spelled["executed"]) == (0, 1), "the default spelled out does the same"
    assert judged(pears | {"count": 3})["reasons"] == {"other_state": 1}, "both return 1"
    assert judged(pears, pears)["reasons"] == {"other_result": 1}
    assert judged(pears | {"count": "2"})["reasons"] == {"bad_arguments": 1}
    assert score_executed(["garbage <tool_call>"], [sample], file)["executed"] == 0


def test_no_call_is_right_only_where_it_is_meant(tmp_path):
    file = write(tmp_path, FUNCTIONS + 'ROWS = [("Hello", None), ("Four", "set_timer(minutes=4)")]')
    samples = load_samples("own", file).samples
    scores = score_executed([DONE, DONE], samples, file, timeout=30)
    assert scores["executed"] == 0.5 and scores["reasons"] == {"ok": 0.5, "no_call": 0.5}
    assert score_executed(["{{{", "{{{"], samples, file, timeout=30)["executed"] == 0


def test_rows_whose_right_call_fails_are_counted_apart(tmp_path):
    broken = FUNCTIONS.replace("return f", "raise ValueError('no clock')  # ")
    file = write(tmp_path, broken + 'ROWS = [("Four", "set_timer(minutes=4)"), ("Pears", "add_item(item=\'pears\')")]')
    samples = load_samples("own", file).samples
    right = [as_completion(sample.calls) for sample in samples]
    scores = score_executed(right, samples, file, timeout=30)
    assert (scores["gold_fails"], scores["executed"], scores["matched"]) == ({"ValueError: no clock": 1}, 1, 1)
    with pytest.raises(DataError, match="no row of 1 can be judged: ValueError: no clock"):
        score_executed(right[:1], samples[:1], file, timeout=30)


def test_calls_that_show_no_effect_are_not_judged_right(tmp_path):
    """Else any other call of theirs would be."""
    hidden = FUNCTIONS.replace("LIST = []", "class Box: pass\nLIST = Box()").replace("return len(LIST)", "")
    hidden = hidden.replace("LIST.append([item, count, shop])", "LIST.item = item")
    file = write(tmp_path, hidden + 'ROWS = [("Pears", "add_item(item=\'pears\')"), ("Four", "set_timer(minutes=4)")]')
    samples = load_samples("own", file).samples
    right = [as_completion(sample.calls) for sample in samples]
    scores = score_executed(right, samples, file, timeout=30)
    [(told, number)] = scores["gold_fails"].items()
    assert number == 1 and "return nothing and leave the state as it was; let a function return" in told
    with pytest.raises(DataError, match="tools.py: the right calls of the row 'Pears' return nothing"):
        own_tasks(file, samples)


# --- from the file to an answer

NANO = '''
CITIES = {"paris": "CDG", "london": "LHR", "lima": "LIM", "oslo": "OSL"}
DAYS = {"monday": "d1", "friday": "d5", "sunday": "d7", "tuesday": "d2"}
MONEY = {"yen": "JPY", "won": "KRW", "euros": "EUR", "pesos": "MXN"}
TIMERS = {}


def book_taxi(city: str, day: str, currency: str) -> str:
    """Book a taxi.

    Args:
        city: where
        day: when
        currency: how it is paid
    """
    if city not in CITIES.values():
        raise ValueError(f"unknown city {city!r}")
    return city


def set_timer(label: str, minutes: int) -> int:
    """Set a timer.

    Args:
        label: what for
        minutes: how long
    """
    TIMERS[label] = minutes
    return len(TIMERS)


TEMPLATES = [
    ("book a taxi in {city} for {day} paid in {currency}", book_taxi, {"city": CITIES, "day": DAYS, "currency": MONEY}),
    ("set a timer of {minutes} minutes for {label}", set_timer, {"label": ["tea", "rice", "eggs"], "minutes": [5, 10]}),
]
'''


def test_from_a_file_of_functions_to_a_folder_that_answers(tmp_path, monkeypatch, capsys):
    """Train, evaluate and ask, from the command line; then the same folder from Python, moved to another place."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, NANO, "my_tools.py")
    own = ["--data", "own", "--data-path", "my_tools.py", "--profile-set", "train_prompts=6"]
    assert main(["data", "own", "--data-path", "my_tools.py"]) == 0
    assert "dropped: none" in capsys.readouterr().out
    small = [*own, "--profile-set", "prompts_per_step=2", "--profile-set", "eval_prompts=4"]
    trained = ["--recipe", "hard_sampling", *small, "--steps", "2", "--eval-every", "2"]
    assert main(["train", *trained, "--out", "run"]) == 0
    capsys.readouterr()
    assert main(["evaluate", *small, "--model", "run/final"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["questions"] == 1 + 1 and scores["matched"] == scores["executed"]
    (tmp_path / "my_tools.py").unlink()
    assert main(["ask", "run/final", "set a timer of 10 minutes for eggs"]) == 0
    said = capsys.readouterr().out
    assert '{"name": "set_timer", "arguments": {"label": "eggs", "minutes": 10}} -> 1' in said
    shutil.move("run/final", "elsewhere")
    ask = ToolCaller.load("elsewhere")
    answer = ask("set a timer of 5 minutes for tea")
    assert [r.value for r in answer.results] == [1] and ask.tools.state()["TIMERS"] == {"tea": 5}
    taxi = ask("book a taxi in lima for monday paid in won")
    assert taxi.calls[0]["arguments"]["city"] == "lima" and taxi.results[0].error == "ValueError: unknown city 'lima'"
    assert "<tool_call>" in taxi.text
    twice = ask([{"role": "user", "content": "set a timer of 5 minutes for tea"}], rounds=2)
    assert 1 <= len(twice.results) == len(twice.calls)
    packed = tmp_path / "elsewhere" / "tools.json"
    assert json.loads(packed.read_text())["style"] == "think"
    # `evaluate` asks as the folder says; it asked every model to think, and a native one was scored 0.
    shown = []
    monkeypatch.setattr("toolexpander_lite.evaluation.tool_caller.evaluate_executed", lambda *a: shown.append(a[-1]))
    packed.write_text(json.dumps(json.loads(packed.read_text()) | {"style": "native"}))
    write(tmp_path, NANO, "my_tools.py")
    for more in ([], ["--style", "think"]):
        assert main(["evaluate", *small, "--model", "elsewhere", *more]) == 0
    assert shown == ["native", "think"]


def test_rows_that_a_model_cannot_read_are_left_out_and_told(tmp_path, caplog):
    rows = [(f"set a timer of 5 minutes for {word}", f"set_timer(label='{word}', minutes=5)", split)
            for word, split in (("tea", "train"), ("zebra", "train"), ("rice", "test"))]  # fmt: skip
    rows = [dict(zip(("question", "call", "split"), row)) for row in rows]
    file = write(tmp_path, NANO.partition("TEMPLATES")[0] + f"ROWS = {rows}")
    profile = get_profile("nano", data="own", data_path=str(file))
    data = load_splits(profile, 0, load_policy(profile, device="cpu")[1])
    assert [len(data.train), len(data.held_out), data.left_out] == [1, 1, {"gold_not_judged_right": 1}]
    assert "Rows left out (train): in 1 the gold answer itself" in caplog.text and "zebra" in caplog.text


def test_a_folder_without_tools_is_refused(tmp_path, capsys):
    with pytest.raises(ModelError, match="does not hold what a tool caller needs .*--data own"):
        ToolCaller.load(tmp_path)
    (tmp_path / "tools.json").write_text('{"style": "loud", "max_new_tokens": 9}')
    with pytest.raises(ModelError, match="style 'loud'"):
        ToolCaller.load(tmp_path)
    assert main(["ask", str(tmp_path), "hello"]) == 2 and "--data own" in capsys.readouterr().err


def test_the_measured_seconds_of_the_page():
    measured = read_json(REPOSITORY / "assets" / "benchmarks" / "first_step.json")
    page = (REPOSITORY / "docs" / "your-own-tools.md").read_text(encoding="utf-8")
    steps = measured["nano"]["steps"]
    assert f"{sum(step['seconds'] for step in steps):.0f} s for all commands" in page
    assert f"a load of up to {max(step['load'] for step in steps)}" in page
    smol = {step["step"]: step["seconds"] for step in measured["smol-cpu"]["steps"]}
    assert f"it took {sum(smol.values()):.0f} s on an idle machine, {smol['warm-start']:.0f} s of them" in page
    last, asked = measured["smol-cpu"]["log"][-1], measured["smol-cpu"]["answer"]
    assert last["step"] == 1 and last["eval"]["zero_shot"] == 0 and "bad arguments" in asked
    log = {row["step"]: row for row in measured["smol-world"]["log"]}
    took = f"done {log[1]['seconds']:.0f} s after training began and 20 steps after {log[20]['seconds']:,.0f} s"
    assert took in page and measured["smol-world"]["steps"][1]["seconds"] < log[20]["seconds"] + 120
    assert [round(4 * log[step]["eval"]["zero_shot"]) for step in (0, 20)] == [0, 2]
    assert log[0]["pool"]["demonstrated"] == 8 and "bad arguments" in measured["smol-world"]["answer"]
    turns = {step["step"]: round(step["seconds"]) for step in measured["turns"]["steps"]}
    log = measured["turns"]["log"]
    assert f"{turns['warm-start']:,} s of warm start and {turns['train']} s for three steps" in page
    assert [round(3 * row["eval"]["zero_shot"]) for row in log if "eval" in row] == [2, 2]
    assert all(row["reward"] == 1 for row in log if "reward" in row) and "value=10" in measured["turns"]["answer"]
