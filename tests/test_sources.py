"""Loaders: rows in the data sets' own formats -> samples, with every dropped row counted."""

import http.client
import io
import json
import urllib.error
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet as parquet
import pytest

from toolexpander_lite.__main__ import main
from toolexpander_lite.base import downloads
from toolexpander_lite.data import file_formats
from toolexpander_lite.data.row_formats import to_hermes
from toolexpander_lite.data.sources import SOURCES, load_samples, split_of
from toolexpander_lite.data.tool_schemas import flat_schema
from toolexpander_lite.method.samples import DataError, to_dataset, to_samples

SLICES = Path(__file__).resolve().parents[2] / "shared" / "data"

INSTRUCTION = """You are a helpful assistant.

**Available Tools**
In your response, you can use the following tools:
1. Name: Get News
Description: Retrieve news.
Two lines of description.
Parameters: {"page": {"description": "The page", "type": "int", "default": ""}}
2. Name: odds
Description: Odds of a match
Parameters: {"day": {"description": "Day", "type": "float", "default": 1.5}, \
"f": {"description": "", "type": "Callable[[float], float]", "default": ""}}

**Steps for Each Turn**
1. **Think:** Recall.
"""


def toolrl_row(output, query="What is new?", instruction=INSTRUCTION):
    return {
        "instruction": instruction,
        "input": f"**Dialogue Records History**\n<user> {query} </user>",
        "output": f"<think> I may write <tool_call> here. </think>\n{output}",
    }


def call_text(*calls):
    lines = "\n".join(json.dumps({"name": n, "parameters": p}) for n, p in calls)
    return f"<tool_call>\n{lines}\n</tool_call>"


def write(folder, name, content):
    file = folder / name
    file.write_text(content, encoding="utf-8")
    return file


def toolrl_file(folder, rows):
    return write(folder, "rows.json", json.dumps(rows))


GOOD = toolrl_row(call_text(("Get News", {"page": 1}), ("odds", {"day": 2.0})))


def test_toolrl_row_becomes_a_sample(tmp_path):
    report = load_samples("toolrl", toolrl_file(tmp_path, [GOOD]))
    (sample,) = report.samples
    assert sample.id == "toolrl-000000" and sample.family == "toolrl"
    assert sample.messages == [{"role": "user", "content": "What is new?"}]
    assert sample.calls == [
        {"name": "Get News", "arguments": {"page": 1}},
        {"name": "odds", "arguments": {"day": 2.0}},
    ]
    news, odds = (t["function"] for t in sample.tools)
    assert news["description"] == "Retrieve news.\nTwo lines of description."
    assert news["parameters"]["properties"] == {"page": {"type": "integer", "description": "The page"}}
    assert odds["parameters"]["properties"] == {
        "day": {"type": "number", "description": "Day", "default": 1.5},
        "f": {},
    }
    assert "required" not in news["parameters"]  # the format does not say
    assert report.dropped == {} and "Apache-2.0" in report.licence


def test_every_unusable_toolrl_row_is_counted_under_its_reason(tmp_path):
    multi = GOOD | {"input": "<user> a </user>\n<response> b </response>\n<user> c </user>"}
    twice = INSTRUCTION.replace("Name: odds", "Name: Get News")
    rows = [
        toolrl_row("<response> Hello </response>"),
        multi,
        toolrl_row(call_text(("Other", {}))),
        toolrl_row(call_text(("Get News", {"colour": "red"}))),
        toolrl_row("<tool_call>\n{not json\n</tool_call>"),
        toolrl_row(call_text(("Get News", ["page"]))),
        toolrl_row(call_text(("Get News", {"page": "1"}))),
        toolrl_row(call_text(("Get News", {})), instruction=twice),
        {"unrelated": 1},
        None,
        GOOD,
    ]
    report = load_samples("toolrl", toolrl_file(tmp_path, rows))
    assert [s.id for s in report.samples] == ["toolrl-000010"]  # the row's place in the file, so stable
    assert report.dropped == {
        "row without a call": 1,
        "multi-turn row": 1,
        "call to an unlisted tool": 1,
        "argument its tool does not list": 1,
        "unparsable row": 4,
        "two tools of one name": 1,
        "gold that breaks its tool's schema: type": 1,
    }
    assert "1 multi-turn row" in str(report)


def own_row(arguments, **schemas):
    """A hermes row whose one tool has these schemas, and whose gold gives it these arguments."""
    parameters = {"type": "object", "properties": schemas, "required": list(schemas)}
    parameters |= {"$defs": {"few": {"type": "integer", "maximum": 5}}}
    tools = [{"type": "function", "function": {"name": "f", "description": "Does it", "parameters": parameters}}]
    return to_hermes("Do it", tools, [{"name": "f", "arguments": arguments}])


def test_gold_that_breaks_its_tools_schema_is_dropped_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: pytest.fail("a schema was fetched"))
    whole, few = {"type": "integer"}, {"$ref": "#/$defs/few"}
    away, pattern = {"$ref": "https://example.org/schema.json"}, {"type": "string", "pattern": "("}
    rows = [
        own_row({"n": "1"}, n=whole),
        own_row({"n": [1]}, n={"type": "array", "items": {"type": "string"}}),
        own_row({"n": 6}, n=few),
        own_row({"n": 1}, n=away),
        own_row({"n": "x"}, n=pattern),
        own_row({"n": 1}, n=whole),
        own_row({"n": 5}, n=few),
        own_row({}, n=whole),
        own_row({"n": 1, "other": 1}, n=whole, other={"const": 2}),
    ]
    report = load_samples("hermes", write(tmp_path, "rows.json", json.dumps(rows)))
    assert [s.calls[0]["arguments"] for s in report.samples] == [{"n": 1}, {"n": 5}]
    assert report.dropped == {
        "gold that breaks its tool's schema: type": 2,
        "gold that breaks its tool's schema: maximum": 1,
        "gold that breaks its tool's schema: required": 1,
        "gold that breaks its tool's schema: const": 1,
        "tool schema that is not JSON Schema": 2,
    }


def test_toolrl_parquet_reads_like_the_json(tmp_path):
    prompt = [{"role": "system", "content": GOOD["instruction"]}, {"role": "user", "content": GOOD["input"]}]
    row = {"prompt": prompt, "reward_model": {"ground_truth": GOOD["output"], "style": "rule"}}
    parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "rows.parquet")
    from_parquet = load_samples("toolrl", tmp_path / "rows.parquet").samples
    assert from_parquet == load_samples("toolrl", toolrl_file(tmp_path, [GOOD])).samples


def seal_files(folder, rows):
    tools = [
        {
            "api_name": f"api{i}",
            "api_description": f"Does {i}",
            "parameters": {
                "x": {"type": "str", "description": "An x"},
                "n": {"type": "int", "description": "n"},
            },
            "required": ["x"],
        }
        for i in range(20)
    ]
    write(folder, "tool.jsonl", "\n".join(map(json.dumps, tools)))
    return write(folder, "dev.jsonl", "\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows))


def seal_row(query="Do it", api="api3", **parameters):
    return {"id": "d", "query": query, "calling": [{"api": api, "parameters": parameters, "responses": []}]}


def test_seal_tools_row_gets_distractors(tmp_path):
    rows = [seal_row(f"Do {i}", f"api{i % 20}", x="1") for i in range(60)]
    samples = load_samples("seal-tools", seal_files(tmp_path, rows)).samples
    assert {len(s.tools) for s in samples} == {3, 4, 5}
    assert {[t["function"]["name"] for t in s.tools].index(s.calls[0]["name"]) for s in samples} >= {0, 1, 2}
    function = samples[0].tools[0]["function"]
    assert function["parameters"]["required"] == ["x"]
    assert function["parameters"]["properties"]["n"] == {"type": "integer", "description": "n"}


def test_distractors_depend_on_seed_and_row_only(tmp_path):
    rows = [seal_row(f"Do {i}", x="1") for i in range(30)]
    file = seal_files(tmp_path, rows)
    everything = load_samples("seal-tools", file, seed=1).samples
    few = load_samples("seal-tools", file, seed=1, limit=7).samples
    assert few == everything[:7]
    assert load_samples("seal-tools", file, seed=2).samples != everything


def test_unusable_seal_rows_are_counted(tmp_path):
    rows = [seal_row(x="API_call_0"), seal_row(api="none"), "{broken", seal_row(y="1"), seal_row(x="1")]
    report = load_samples("seal-tools", seal_files(tmp_path, rows))
    assert len(report.samples) == 1
    assert report.dropped == {
        "argument taken from another call's result": 1,
        "call to an unlisted tool": 1,
        "unparsable row": 1,
        "argument its tool does not list": 1,
    }


def test_split_hangs_on_the_query_alone(tmp_path):
    rows = [seal_row(f"Do {i % 50}", x=str(i)) for i in range(200)]
    samples = load_samples("seal-tools", seal_files(tmp_path, rows)).samples
    queries = {s: {x.messages[0]["content"] for x in samples if x.split == s} for s in ("train", "test")}
    assert queries["train"] and queries["test"] and not queries["train"] & queries["test"]
    assert sum(split_of(f"query {i}") == "test" for i in range(1000)) == pytest.approx(200, abs=40)


@pytest.mark.parametrize(
    "written, schema",
    [
        ("str, optional", {"type": "string"}),
        ("List[int]", {"type": "array", "items": {"type": "integer"}}),
        ("List[List[float]]", {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}),
        ("Tuple[float, float]", {"type": "array"}),
        ("dict", {"type": "object"}),
        (["string", "null"], {"type": ["string", "null"]}),
        ("Optional[int]", {"type": ["integer", "null"]}),
        ("Optional[List[float]]", {"type": ["array", "null"], "items": {"type": "number"}}),
        ("List[Optional[int]]", {"type": "array", "items": {"type": ["integer", "null"]}}),
        ("Optional[Callable]", {}),
        ("Callable[[float], float]", {}),
        ("str | None", {"type": ["string", "null"]}),
        ("Union[int, float]", {"type": ["integer", "number"]}),
        ("Union[str, List[int]]", {"type": ["string", "array"], "items": {"type": "integer"}}),
        ("Union[List[str], List[int]]", {"anyOf": [
            {"type": "array", "items": {"type": "string"}}, {"type": "array", "items": {"type": "integer"}}]}),
        ("Union[str, Callable]", {}),
        ("STRING", {"type": "string"}),
        (["string", "any"], {}),
        (None, {}),
    ],
)
def test_types_become_json_schema(written, schema):
    assert flat_schema({"a": {"type": written}})["properties"]["a"] == schema


def test_required_is_what_has_no_default_and_is_not_optional():
    types = {"a": "str", "b": "str, optional", "c": "Optional[int]", "d": "List[Optional[int]]"}
    types |= {"e": "List[int], optional"}
    parameters = {name: {"type": kind} for name, kind in types.items()} | {"f": {"type": "str", "default": ""}}
    assert flat_schema(parameters)["required"] == ["a", "d"]


def test_every_block_of_a_toolrl_answer_counts(tmp_path):
    news = call_text(("Get News", {"page": 1}))
    rows = [toolrl_row(news + call_text(("odds", {}))), toolrl_row(news + "<tool_call>\n{"), toolrl_row("<tool_call>")]
    report = load_samples("toolrl", toolrl_file(tmp_path, rows))
    assert [[c["name"] for c in s.calls] for s in report.samples] == [["Get News", "odds"]]
    assert report.dropped == {"call that is not closed": 2}


def test_a_value_that_is_no_json_costs_its_row(tmp_path):
    rows = [seal_row(x=float("nan")), seal_row(x="1")]
    assert load_samples("seal-tools", seal_files(tmp_path, rows)).dropped == {"unparsable row": 1}


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(tmp_path, limit):
    with pytest.raises(DataError, match="limit is"):
        load_samples("toolrl", toolrl_file(tmp_path, [GOOD]), limit=limit)


def test_a_limit_ends_the_reading(tmp_path):
    rows = [toolrl_row("<response> Hello </response>"), GOOD, GOOD, None]
    report = load_samples("toolrl", toolrl_file(tmp_path, rows), limit=2)
    assert [s.id for s in report.samples] == ["toolrl-000001", "toolrl-000002"]
    assert report.dropped == {"row without a call": 1}  # what comes after the limit is not looked at

    # Of JSON lines no more is read than is needed: the damage at the end goes unseen.
    lines = write(tmp_path, "rows.jsonl", "\n".join([json.dumps(GOOD)] * 3) + '\n{"instruction": "cut')
    assert len(load_samples("toolrl", lines, limit=2).samples) == 2
    with pytest.raises(DataError, match="rows.jsonl ends in a line that is not JSON"):
        load_samples("toolrl", lines)


def test_errors_name_what_is_wrong(tmp_path):
    with pytest.raises(DataError, match="unknown data source 'toolr'; .*choose one of toolrl, seal-tools"):
        load_samples("toolr")
    with pytest.raises(DataError, match="no file .*absent.json"):
        load_samples("toolrl", tmp_path / "absent.json")
    with pytest.raises(DataError, match="no file"):
        load_samples("toolrl", tmp_path)
    with pytest.raises(DataError, match="rows.csv is none of .json, .jsonl, .parquet, .arrow"):
        load_samples("toolrl", write(tmp_path, "rows.csv", "a,b"))
    with pytest.raises(DataError, match="not a JSON list of rows"):
        load_samples("toolrl", write(tmp_path, "cut.json", '[{"instruction": '))
    with pytest.raises(DataError, match="no usable row of 1 .*dropped: 1 unparsable row .first: row 1, {}"):
        load_samples("toolrl", toolrl_file(tmp_path, [{}]))
    with pytest.raises(DataError, match="no usable row of 0 as openai; it is empty"):
        load_samples("openai", write(tmp_path, "empty.jsonl", ""))
    with pytest.raises(DataError, match="tool.jsonl"):
        load_samples("seal-tools", write(tmp_path, "lonely.jsonl", json.dumps(seal_row())))


@pytest.mark.parametrize("damage", ["half", "zeros", "text"])
@pytest.mark.parametrize("kind", ["parquet", "json"])
def test_a_damaged_file_is_one_clear_error(tmp_path, kind, damage):
    file = tmp_path / f"rows.{kind}"
    if kind == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist([GOOD] * 3), file)
    else:
        file.write_text(json.dumps([GOOD] * 3))
    whole = file.read_bytes()
    file.write_bytes({"half": whole[: len(whole) // 2], "zeros": b"\0\xff" * 500, "text": b"404: Not Found"}[damage])
    with pytest.raises(DataError, match=f"rows.{kind}.*; get a whole copy of it"):
        load_samples("toolrl", file)


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_an_integer_beyond_pythons_limit_costs_its_row_at_most(tmp_path, name):
    unused = json.dumps(GOOD)[:-1] + ', "id": ' + "9" * 5000 + "}"
    used = json.dumps(seal_row()).replace('"parameters": {}', '"parameters": {"n": ' + "9" * 5000 + "}")
    rows = [unused, json.dumps(GOOD), "7" * 5000, json.dumps(GOOD | {"id": 10**4000}), "-" + "7" * 5000]
    text = "[" + ", ".join(rows) + "]" if name == "rows.json" else "\n".join(rows)
    report = load_samples("toolrl", write(tmp_path, name, text))
    assert [s.id for s in report.samples] == ["toolrl-000000", "toolrl-000001", "toolrl-000003"]
    assert report.dropped == {"unparsable row": 2}
    assert load_samples("seal-tools", seal_files(tmp_path, [used, seal_row(x="1")])).dropped == {"unparsable row": 1}


def test_a_long_integer_after_a_broken_line_is_no_end(tmp_path):
    lines = write(tmp_path, "rows.jsonl", "\n".join(["{broken", "7" * 5000, json.dumps(GOOD), "{broken", "7" * 5000]))
    assert load_samples("toolrl", lines).dropped == {"unparsable row": 4}


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_a_mark_before_the_text_is_passed_over(tmp_path, name):
    text = json.dumps([GOOD]) if name == "rows.json" else json.dumps(GOOD)
    assert len(load_samples("toolrl", write(tmp_path, name, "\ufeff" + text)).samples) == 1


def test_out_of_reach_says_so_and_names_the_local_path(monkeypatch, tmp_path):
    def unreachable(url, timeout):
        raise urllib.error.URLError("no route")

    monkeypatch.setenv("TOOLEXPANDER_CACHE", str(tmp_path))
    monkeypatch.setattr(downloads.urllib.request, "urlopen", unreachable)
    with pytest.raises(DataError, match=r"cannot fetch toolrl from https://.*no route.*path="):
        load_samples("toolrl")


def test_a_fetched_file_is_cached(monkeypatch, tmp_path):
    asked = []

    def answer(url, timeout):
        asked.append(url)
        return io.BytesIO(json.dumps([GOOD]).encode())

    monkeypatch.setenv("TOOLEXPANDER_CACHE", str(tmp_path))
    monkeypatch.setattr(downloads.urllib.request, "urlopen", answer)
    report = load_samples("toolrl")
    assert load_samples("toolrl") == report and len(asked) == 1
    assert report.address == asked[0] == SOURCES["toolrl"].address


XLAM = {
    "query": "Add 1 and 2",
    "tools": json.dumps([{"name": "add", "description": "Adds", "parameters": {"a": {"type": "int"}}}]),
    "answers": json.dumps([{"name": "add", "arguments": {"a": 1}}]),
}


def test_a_hub_source_is_streamed_at_its_commit(monkeypatch):
    asked, sent = [], []

    def rows(*args, **kwargs):
        asked.append((args, kwargs))
        for number in range(60_000):
            sent.append(number)
            yield XLAM | {"query": f"Add 1 and {number}"}

    monkeypatch.setattr(datasets, "load_dataset", rows)
    report = load_samples("xlam", limit=3)
    assert [s.messages[0]["content"] for s in report.samples] == [f"Add 1 and {n}" for n in range(3)]
    assert sent == [0, 1, 2]
    revision = "26d14ebfe18b1f7b524bd39b404b50af5dc97866"
    assert asked == [
        (("Salesforce/xlam-function-calling-60k", None), {"revision": revision, "split": "train", "streaming": True})
    ]
    assert report.address == f"https://huggingface.co/datasets/Salesforce/xlam-function-calling-60k/tree/{revision}"
    load_samples("xlam", limit=1)
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **_: [asked.append(args)])
    with pytest.raises(DataError, match="no usable row of 1 as hermes"):
        load_samples("hermes")
    assert asked[-1] == ("NousResearch/hermes-function-calling-v1", "func_calling_singleturn")


def test_rows_come_whole_through_the_streaming_of_datasets(tmp_path):
    """The JSON reader of `datasets` guesses column types; the texts inside must come out as they went in."""
    chat = [{"from": "user", "value": "2024-01-01"}, {"from": "assistant", "value": "[f(a=0.3)]"}]
    rows = [XLAM | {"id": n, "query": query, "conversations": chat[: n + 1]} for n, query in enumerate(["1", "a 2024"])]
    write(tmp_path, "rows.json", json.dumps(rows))
    assert list(file_formats.hub_rows(str(tmp_path), None)) == rows
    dated = [XLAM | {"id": n, "query": f"a {n}", "meta": {"day": "2024-04-01"}} for n in range(2)]
    write(tmp_path, "rows.json", json.dumps(dated))
    with pytest.raises(DataError, match="makes times of dates, in meta, .*--data-path"):  # findings/dates-become-...
        list(file_formats.hub_rows(str(tmp_path), None))
    write(tmp_path, "rows.json", json.dumps(rows)[:-50])
    with pytest.raises(DataError, match="cannot stream .*path="):
        list(file_formats.hub_rows(str(tmp_path), None))


@pytest.mark.parametrize(
    "error, words",
    [
        (
            datasets.exceptions.DatasetNotFoundError(
                "Dataset 'Salesforce/xlam-function-calling-60k' is a gated dataset on the Hub."
            ),
            r"is gated: accept its licence on https://huggingface.co/datasets/Salesforce/xlam-function-calling-60k, "
            "then log in with `hf auth login`",
        ),
        (datasets.exceptions.DatasetNotFoundError("doesn't exist"), "the Hub has no Salesforce/.* at commit 26d14"),
        (ConnectionError("Couldn't reach"), "cannot stream Salesforce/.*Couldn't reach"),
        (pyarrow.ArrowInvalid("Parquet magic bytes not found"), "cannot stream Salesforce/.*magic bytes"),
    ],
)
@pytest.mark.parametrize("after", [0, 2])
def test_every_trouble_with_the_hub_is_one_clear_error(monkeypatch, error, words, after):
    def rows(*args, **kwargs):
        yield from [XLAM] * after
        raise error

    monkeypatch.setattr(datasets, "load_dataset", rows)
    with pytest.raises(DataError, match=rf"{words}.*\(path="):
        load_samples("xlam")


def test_without_network_the_hub_is_out_of_reach():
    with pytest.raises(DataError, match="cannot stream MadeAgents/xlam-irrelevance-7.5k from the Hub"):
        load_samples("xlam-irrelevance")  # HF_HUB_OFFLINE is set in conftest.py


def test_a_download_that_breaks_off_leaves_nothing_behind(monkeypatch, tmp_path):
    class Answer(io.BytesIO):
        def read(self):
            raise http.client.IncompleteRead(b"[{", 1000)

    monkeypatch.setenv("TOOLEXPANDER_CACHE", str(tmp_path))
    monkeypatch.setattr(downloads.urllib.request, "urlopen", lambda url, timeout: Answer())
    with pytest.raises(DataError, match="cannot fetch toolrl.*2 bytes read, 1000 more expected"):
        load_samples("toolrl")
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_the_data_command_prints_both_reports(tmp_path, capsys):
    queries = ["What is the weather in Rome today?", "Sell my old bicycle"]
    mine = toolrl_file(tmp_path, [toolrl_row(call_text(("Get News", {})), query=q) for q in queries])
    other = write(tmp_path, "other.json", json.dumps([XLAM, XLAM | {"query": "what is THE weather in Rome, today"}]))
    numbers = tmp_path / "numbers.json"
    words = ["data", "toolrl", "--data-path", str(mine), "--against", f"xlam={other}", "--out", str(numbers)]
    assert main(words) == 0
    twins = json.loads(numbers.read_text())["twins"]
    assert list(twins) == ["train split against test split", "all rows against xlam"]
    assert all(len(found["rows"]) == len(found["exact"]) == len(found["near"]) == 2 for found in twins.values())
    out = capsys.readouterr().out
    assert "toolrl (Apache-2.0" in out and "xlam (CC BY 4.0)" in out
    assert "train split against test split: 0 of" in out
    assert "1 of 2 training rows have an exact twin, 0 a near one; of 2 evaluation rows 1 and 0" in out
    assert "toolrl-000000 'What is the weather in Rome today?'" in out and "xlam-000001" in out
    assert main(["data", "nothing"]) == 2 and "unknown data source" in capsys.readouterr().err


def test_two_files_of_one_source_are_both_told(tmp_path, capsys):
    mine = write(tmp_path, "mine.json", json.dumps([XLAM, XLAM | {"query": "Sell my old bicycle"}]))
    one = write(tmp_path, "one.json", json.dumps([XLAM]))
    two = write(tmp_path, "two.json", json.dumps([XLAM | {"query": "Another question"}] * 2))
    numbers = tmp_path / "numbers.json"
    words = ["data", "xlam", "--data-path", str(mine), "--out", str(numbers), "--against", f"xlam={one}", f"xlam={two}"]
    assert main([*words, f"xlam={one}"]) == 0  # the same once more says nothing new
    twins = json.loads(numbers.read_text())["twins"]
    assert {name: found["exact"] for name, found in list(twins.items())[1:]} == {
        f"all rows against xlam={one}": [1, 1], f"all rows against xlam={two}": [0, 0],
    }  # fmt: skip
    assert f"all of xlam against all of xlam={two}: 0 of 2" in capsys.readouterr().out
    assert main([*words, f"bfcl:multiple={two}"]) == 2
    assert "the questions of BFCL come with its package" in capsys.readouterr().err


@pytest.mark.parametrize(
    "source, file, kept, broken",
    [("toolrl", "toolrl/rlla_sft.json", 276, 55), ("toolrl", "toolrl/rlla_test.parquet", 53, 17),
     ("seal-tools", "seal-tools/dev.jsonl", 622, 50)],
)  # fmt: skip
def test_real_slices(source, file, kept, broken):
    if not (SLICES / file).is_file():
        pytest.skip(f"no {file} in ../shared/data, the slices of real data kept beside the repository")
    report = load_samples(source, SLICES / file)
    assert len(report.samples) == kept
    assert report.dropped["gold that breaks its tool's schema: type"] == broken  # numbers and lists as text, nearly all
    assert not any("schema: " in reason and not reason.endswith("type") for reason in report.dropped)
    assert len(report.samples) + sum(report.dropped.values()) in (400, 80, 700)
    assert "unparsable row" not in report.dropped
    assert to_samples(to_dataset(report.samples)) == report.samples  # floats included
    tests = sum(s.split == "test" for s in report.samples) / len(report.samples)
    assert 0.1 < tests < 0.3
