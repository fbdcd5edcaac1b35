"""BFCL: self-made files in its layout, and its own questions and checker where the wheel is at hand."""

import errno
import hashlib
import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from toolexpander_lite.__main__ import main
from toolexpander_lite.base.errors import DataError, RunError, SettingsError
from toolexpander_lite.base.runs import REPOSITORY
from toolexpander_lite.data.tool_schemas import json_schema
from toolexpander_lite.evaluation import accuracy, bfcl
from toolexpander_lite.evaluation.answer_kinds import answer_kind, earned_by
from toolexpander_lite.evaluation.answers import calls_text, read_answers
from toolexpander_lite.evaluation.bfcl import (
    ANY_TYPES,
    bfcl_table,
    check_calls,
    evaluate_bfcl,
    first_answer,
    load_questions,
    result_file,
    score_bfcl,
)
from toolexpander_lite.method.prompts import render_prompt
from toolexpander_lite.models.policy import load_policy
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.worlds.nano_world import nano_samples

UNPACKED = bfcl.cache_folder("bfcl") / f"bfcl_eval-{bfcl.VERSION}" / "bfcl_eval"
needs_wheel = pytest.mark.skipif(
    not importlib.util.find_spec("bfcl_eval") and not UNPACKED.is_dir(),
    reason="bfcl-eval is neither installed (kit.py does it) nor in the cache: `load_questions('multiple')` fetches it",
)
AREA = {
    "name": "shapes.area",
    "description": "Area of a shape.",
    "parameters": {
        "type": "dict",
        "properties": {
            "shape": {"type": "string", "enum": ["disc", "square"]},
            "size": {"type": "float", "description": "In metres."},
            "digits": {"type": "integer", "default": 2, "optional": True},
            "points": {"type": "array", "items": {"type": "tuple", "items": {"type": "float"}}},
        },
        "required": ["shape", "size"],
    },
}


def write_category(data, category, questions):
    """Questions, (text, functions, answers or None) each, as BFCL's two files of a category."""
    (data / "possible_answer").mkdir(parents=True, exist_ok=True)
    entries, allowed = [], []
    for i, (text, functions, answer) in enumerate(questions):
        id = f"{category}_{i}"
        entries.append({"id": id, "question": [[{"role": "user", "content": text}]], "function": functions})
        allowed.append({"id": id, "ground_truth": answer})
    (data / f"BFCL_v4_{category}.json").write_text("".join(json.dumps(e) + "\n" for e in entries))
    if "relevance" not in category:
        file = data / "possible_answer" / f"BFCL_v4_{category}.json"
        file.write_text("".join(json.dumps(a) + "\n" for a in allowed))


def nano_question(sample):
    functions = [t["function"] | {"parameters": t["function"]["parameters"] | {"type": "dict"}} for t in sample.tools]
    answer = [{c["name"]: {k: [v] for k, v in c["arguments"].items()}} for c in sample.calls]
    return sample.messages[0]["content"], functions, answer


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A self-made package: `simple_python` in the nano world, so that the nano policy can answer, and irrelevance."""
    data = tmp_path / "bfcl_eval" / "data"
    samples = nano_samples("test", 2, families=["play_song", "set_timer", "book_taxi"])
    write_category(data, "simple_python", [nano_question(s) for s in samples])
    write_category(data, "irrelevance", [nano_question(s)[:2] + (None,) for s in samples[:3]])
    write_category(data, "live_relevance", [nano_question(s)[:2] + (None,) for s in samples[:1]])
    write_category(data, "live_irrelevance", [("Hello", [], None)])
    counts = {"simple_python": 6, "irrelevance": 3, "live_relevance": 1, "live_irrelevance": 1, "parallel": 1}
    monkeypatch.setattr(bfcl, "QUESTIONS", counts)
    monkeypatch.setattr(bfcl, "find_package", lambda: (data.parent, "self-made"))
    monkeypatch.setattr(bfcl, "official_checker", lambda: (same_as_first_choice, "python"))
    return data


def same_as_first_choice(functions, output, allowed, language, category, model):
    """In place of the official checker, for tests of all that is around it."""
    wanted = [{name: {k: v[0] for k, v in arguments.items()} for name, arguments in a.items()} for a in allowed]
    return {"valid": output == wanted, "error_type": "not the same"}


@pytest.fixture(scope="module")
def policy():
    return load_policy(get_profile("nano"), device="cpu")


def test_parameters_become_json_schema():
    assert json_schema(AREA["parameters"], ANY_TYPES) == {
        "type": "object",
        "properties": {
            "shape": {"type": "string", "enum": ["disc", "square"]},
            "size": {"type": "number", "description": "In metres."},
            "digits": {"type": "integer", "default": 2},
            "points": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
        },
        "required": ["shape", "size"],
    }
    assert json_schema({"type": "any"}, ANY_TYPES) == {"type": "string"}
    # a parameter may be called like a keyword
    named = json_schema({"type": "dict", "properties": {"type": {"type": "dict", "properties": {}}}})
    assert named["properties"]["type"] == {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    "allowed, arguments",
    [
        ({"shape": ["disc", "circle"], "size": [1.5], "digits": [2, ""]}, {"shape": "disc", "size": 1.5}),
        ({"shape": ["", "disc"], "size": [""]}, {"shape": "disc", "size": ""}),  # required, so given all the same
        ({"points": [[[0.0, 1.0]], ""], "size": [2]}, {"size": 2}),
    ],
)
def test_first_answer_is_the_shortest_allowed_call(allowed, arguments):
    assert first_answer([AREA], {"shapes.area": allowed}) == {"name": "shapes.area", "arguments": arguments}


def test_choices_within_objects_are_spelled_out():
    kinds = {"where": {"type": "dict"}, "stops": {"type": "array", "items": {"type": "dict"}}, "raw": {"type": "array"}}
    tool = {"name": "go", "parameters": {"properties": kinds, "required": []}}
    place = {"city": ["Rome", "Roma"], "code": ["RM", ""]}
    allowed = {"where": [place], "stops": [[place, {"city": ["Oslo"]}]], "raw": [["a", "b"]]}
    assert first_answer([tool], {"go": allowed})["arguments"] == {
        "where": {"city": "Rome"}, "stops": [{"city": "Rome"}, {"city": "Oslo"}], "raw": ["a", "b"],
    }  # fmt: skip


def test_questions_become_samples(package):
    questions = load_questions("simple_python")
    assert [q.sample.id for q in questions] == [f"simple_python_{i}" for i in range(6)]
    for question, sample in zip(questions, nano_samples("test", 2, families=["play_song", "set_timer", "book_taxi"])):
        assert question.sample.messages == sample.messages and question.sample.calls == sample.calls
        assert question.sample.tools == sample.tools and question.sample.split == "test"
    assert load_questions("irrelevance")[0].answers is None
    assert load_questions("live_irrelevance")[0].sample.tools == []  # BFCL has a few without any


def test_a_limit_draws_the_same_questions_each_time(package):
    few = load_questions("simple_python", limit=3)
    assert len(few) == 3 and few == load_questions("simple_python", limit=3)
    assert [q.sample.id for q in few] == sorted(q.sample.id for q in few)
    assert load_questions("simple_python", limit=99) == load_questions("simple_python")
    with pytest.raises(DataError, match="limit is 0"):
        load_questions("simple_python", limit=0)


def test_an_unknown_category_is_named_with_the_choices(package, capsys, tmp_path):
    with pytest.raises(DataError, match="unknown BFCL category 'simple'; .*choose one of simple_python, .*relevance"):
        load_questions("simple")
    assert main(["bfcl", "--categories", "multiple", "multi_turn_base", "--out", str(tmp_path / "out")]) == 2
    assert "multi_turn_base" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_damaged_question_file_is_one_clear_error(package):
    file = package / "BFCL_v4_irrelevance.json"
    file.write_text(file.read_text()[:-20])
    with pytest.raises(DataError, match="BFCL_v4_irrelevance.json.*damaged"):
        load_questions("irrelevance")
    with pytest.raises(DataError, match="cannot read .*BFCL_v4_parallel.json"):
        load_questions("parallel")


@pytest.mark.parametrize("folder", ["", "possible_answer"])
def test_a_file_that_was_cut_between_two_lines_is_no_smaller_category(package, folder):
    file = package / folder / "BFCL_v4_simple_python.json"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-2]))
    with pytest.raises(DataError, match="BFCL_v4_simple_python.json has 4 rows, not 6; it was cut short"):
        load_questions("simple_python", limit=2)


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    def not_installed(name):
        raise bfcl.metadata.PackageNotFoundError

    monkeypatch.setenv("TOOLEXPANDER_CACHE", str(tmp_path))
    monkeypatch.setattr(bfcl.metadata, "version", not_installed)
    return tmp_path / "bfcl"


def test_offline_the_message_says_what_to_put_where(monkeypatch, empty_cache):
    failed = subprocess.CompletedProcess([], 1, "", "WARNING: retrying\nERROR: No matching distribution found\n")
    monkeypatch.setattr(bfcl.subprocess, "run", lambda *a, **k: failed)
    with pytest.raises(DataError, match="No matching distribution.*pip download --no-deps bfcl-eval==.*into .*bfcl"):
        bfcl.find_package()
    assert list(empty_cache.iterdir()) == []


def test_the_wheel_is_fetched_once_checked_and_unpacked(monkeypatch, empty_cache):
    asked = []

    def download(command, **options):
        asked.append(command)
        with zipfile.ZipFile(Path(command[-1], f"bfcl_eval-{bfcl.VERSION}-py3-none-any.whl"), "w") as wheel:
            wheel.writestr("bfcl_eval/data/BFCL_v4_multiple.json", "")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(bfcl.subprocess, "run", download)
    with pytest.raises(DataError, match="damaged.*delete it"):
        bfcl.find_package()
    (wheel,) = empty_cache.iterdir()  # nothing of it was unpacked
    monkeypatch.setattr(bfcl, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    folder, version = bfcl.find_package()
    assert (folder / "data" / "BFCL_v4_multiple.json").is_file() and version == bfcl.VERSION
    assert bfcl.find_package() == (folder, version) and len(asked) == 1 and "--no-deps" in asked[0]


def test_a_full_disk_is_one_clear_error(monkeypatch, empty_cache):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(bfcl, "_fetch_wheel", lambda folder: folder / "made.whl")
    zipfile.ZipFile(bfcl.cache_folder("bfcl") / "made.whl", "w").close()
    monkeypatch.setattr(zipfile.ZipFile, "extractall", full)
    with pytest.raises(SettingsError, match="cannot write to the cache folder .*bfcl .No space.*TOOLEXPANDER_CACHE"):
        bfcl.find_package()
    assert [place.name for place in empty_cache.iterdir()] == ["made.whl"]


def test_two_processes_may_unpack_the_wheel_at_once(monkeypatch, empty_cache):
    wheel = bfcl.cache_folder("bfcl") / f"bfcl_eval-{bfcl.VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("bfcl_eval/data/BFCL_v4_multiple.json", "")
    monkeypatch.setattr(bfcl, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    unpack, found = zipfile.ZipFile.extractall, []

    def extractall(archive, place):
        unpack(archive, place)
        if not found:  # the other process begins later and is done first
            found.append(None)
            found[0] = bfcl.find_package()

    monkeypatch.setattr(zipfile.ZipFile, "extractall", extractall)
    assert bfcl.find_package() == found[0] and (found[0][0] / "data" / "BFCL_v4_multiple.json").is_file()
    assert len(list(empty_cache.iterdir())) == 2, "the wheel and the package, nothing else"


def test_relevance_asks_for_a_call_and_irrelevance_for_none(package):
    (relevance,), irrelevance = load_questions("live_relevance"), load_questions("irrelevance")[0]
    call = [{"name": "anything", "arguments": {}}]
    assert check_calls(irrelevance, []) == (True, "") and check_calls(relevance, call) == (True, "")
    assert check_calls(irrelevance, call) == (False, "irrelevance_error")
    assert check_calls(relevance, []) == (False, "relevance_error")


def without_latency(rows):
    return [{k: v for k, v in row.items() if k != "latency"} for row in rows]


def without_speed(scores):
    return {c: {k: v for k, v in s.items() if k != "items_per_second"} for c, s in scores.items()}


ASKED = {"categories": ["simple_python", "irrelevance"], "max_new_tokens": 40, "batch_size": 2}


def test_a_run_that_was_cut_goes_on_and_scores_the_same(package, policy, tmp_path, monkeypatch):
    seen = []
    whole = evaluate_bfcl(*policy, "nano", tmp_path / "whole", **ASKED, progress=lambda *state: seen.append(state[:3]))
    assert seen == [("simple_python", n, 6) for n in (2, 4, 6)] + [("irrelevance", n, 3) for n in (2, 3)]
    # four easy questions, which the policy mostly answers, and two hard ones, which it does not
    assert 2 <= whole["simple_python"]["correct"] <= 4 and whole["simple_python"]["items_per_second"] > 0
    assert whole["irrelevance"] == whole["irrelevance"] | {"answered": 3, "questions": 3, "correct": 0}

    def stop_at_four(category, done, total, speed):
        if done == 4:
            raise KeyboardInterrupt

    cut = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        evaluate_bfcl(*policy, "nano", cut, **ASKED, progress=stop_at_four)
    file = result_file(cut, "simple_python")
    file.write_text(file.read_text()[:-30])  # and the last line was not written to its end
    assert len(read_answers(file)) == 3
    assert score_bfcl(cut)["simple_python"]["answered"] == 3
    asked = []
    ask = accuracy.generate
    monkeypatch.setattr(accuracy, "generate", lambda m, t, p, *a, **k: asked.append(len(p)) or ask(m, t, p, *a, **k))
    resumed = evaluate_bfcl(*policy, "nano", cut, **ASKED)
    assert asked == [2, 2, 2, 1]  # the first batch is kept, the half-written one asked again
    assert without_speed(resumed) == without_speed(whole)
    assert resumed == json.loads((cut / "scores.json").read_text())
    for category in ASKED["categories"]:
        rows, others = (read_answers(result_file(out, category)) for out in (tmp_path / "whole", cut))
        assert without_latency(rows) == without_latency(others)
    del asked[:]
    assert evaluate_bfcl(*policy, "nano", cut, **ASKED) == resumed and asked == []


def test_a_folder_is_for_one_model_and_one_way_of_asking(package, policy, tmp_path):
    few = ASKED | {"categories": ["irrelevance"]}
    evaluate_bfcl(*policy, "nano", tmp_path, **few)
    with pytest.raises(RunError, match="max_new_tokens differ"):
        evaluate_bfcl(*policy, "nano", tmp_path, **few | {"max_new_tokens": 41})
    other = load_policy(get_profile("nano"), device="cpu")
    next(other[0].parameters()).data.add_(1)
    with pytest.raises(RunError, match="weights differ"):
        evaluate_bfcl(*other, "nano", tmp_path, **few)
    more = evaluate_bfcl(*policy, "nano", tmp_path, **few | {"categories": ["live_relevance"]})
    assert list(more) == ["irrelevance", "live_relevance"]


def test_the_invitation_is_asked_for_and_told_apart(package, tmp_path, monkeypatch):
    model, tokenizer = load_policy(get_profile("nano-rare"), device="cpu")
    few, prompts = ASKED | {"categories": ["irrelevance"]}, {}
    for invite in (False, True):
        prompts[invite] = []
        monkeypatch.setattr(accuracy, "generate", lambda m, t, p, *a, **k: prompts[invite].extend(p) or [""] * len(p))
        evaluate_bfcl(model, tokenizer, "nano-rare", tmp_path / str(invite), **few, invite=invite)
    samples = [question.sample for question in load_questions("irrelevance")]
    for invite, asked in prompts.items():
        assert sorted(asked) == sorted(render_prompt(s, tokenizer, invite=invite) for s in samples)
    assert not set(prompts[True]) & set(prompts[False])
    with pytest.raises(RunError, match="invite differ"):
        evaluate_bfcl(model, tokenizer, "nano-rare", tmp_path / "True", **few)


def test_where_no_thought_is_asked_for_none_is_missed(package, policy, tmp_path, monkeypatch):
    answers = {"native": (1, "Sorry, none of these can do that."), "think": (0, "Sorry, none of these can do that.")}
    for style, (well_formed, answer) in answers.items():
        asked = []
        monkeypatch.setattr(accuracy, "generate", lambda m, t, p, *a, **k: asked.extend(p) or [answer] * len(p))
        few = ASKED | {"categories": ["irrelevance"], "invite": style}
        scores = evaluate_bfcl(*policy, "nano", tmp_path / style, **few)["irrelevance"]
        samples = [question.sample for question in load_questions("irrelevance")]
        assert sorted(asked) == sorted(render_prompt(s, policy[1], invite=style) for s in samples)
        assert (scores["accuracy"], scores["well_formed"], list(scores["earned"])) == (1, well_formed, ["abstained"])
    read = json.loads((tmp_path / "native" / "config.json").read_text())["invite"]
    assert read == "native" and "invite" not in json.loads((tmp_path / "think" / "config.json").read_text())
    with pytest.raises(RunError, match="invite differ"):
        evaluate_bfcl(*policy, "nano", tmp_path / "native", **few)


def write_answers(out, category, rows):
    file = result_file(out, category)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" if isinstance(row, dict) else row for row in rows))
    return file


def row(id, calls=(), completion=None):
    text = calls_text(list(calls))
    return {"id": id, "result": text, "completion": text if completion is None else completion}


def test_damaged_answers_are_refused_and_left_alone(package, policy, tmp_path):
    good = [row("irrelevance_0"), row("irrelevance_1")]
    for rows, message in [
        ([good[0], '{"id": "irrel\n', good[1]], "line 2 is no answer"),
        ([*good, good[0]], "irrelevance_0 is answered twice"),
        ([good[0], {"id": 3, "result": ""}], "line 2 is no answer"),
        ([{"id": "irrelevance_0", "result": None}], "line 1 is no answer"),
        ([good[0] | {"completion": 5}, good[1]], "line 1 is no answer"),
        ([good[0] | {"latency": "fast"}], "line 1 is no answer"),
        ([good[0] | {"latency": -1}], "line 1 is no answer"),
        ([good[0] | {"id": ["irrelevance_0"]}], "line 1 is no answer"),
        (["[" * 100_000 + "\n", good[0]], "line 1 is no answer"),
        ([good[0], "[]\n"], "line 2 is no answer"),
    ]:
        file = write_answers(tmp_path, "irrelevance", rows)
        before = file.read_text()
        for act in (lambda: score_bfcl(tmp_path), lambda: evaluate_bfcl(*policy, "nano", tmp_path, **ASKED)):
            with pytest.raises(RunError, match=message):
                act()
        assert file.read_text() == before
    file.write_bytes(b"\xff\n")
    with pytest.raises(RunError, match="cannot read .*irrelevance_result.json.*move the file away"):
        score_bfcl(tmp_path)
    write_answers(tmp_path, "irrelevance", [row("irrelevance_77")])
    with pytest.raises(DataError, match="no irrelevance question is called 'irrelevance_77'"):
        score_bfcl(tmp_path)
    with pytest.raises(RunError, match="answers to other questions"):
        evaluate_bfcl(*policy, "nano", tmp_path, **ASKED | {"categories": ["irrelevance"]})
    with pytest.raises(RunError, match="no BFCL answers below"):
        score_bfcl(tmp_path / "nothing")


def test_irrelevance_never_stands_alone_and_collapse_shows_beside_it(package, tmp_path):
    noise = "zz <tool_call> zz"
    write_answers(tmp_path, "irrelevance", [row(f"irrelevance_{i}", completion=noise) for i in range(3)])
    scores = score_bfcl(tmp_path)
    assert scores["irrelevance"]["accuracy"] == 1 and scores["irrelevance"]["well_formed"] == 0
    ids = [f"irrelevance_{i}" for i in range(3)]
    assert scores["irrelevance"]["earned"] == {"unreadable": ids}, "credited by BFCL, and nobody abstained"
    table = bfcl_table(scores).set_index("category")
    assert list(table.index) == ["simple_python", "irrelevance"] and table.loc["simple_python", "answered"] == "not run"
    write_answers(tmp_path, "simple_python", [row("simple_python_0", completion=noise)])
    table = bfcl_table(score_bfcl(tmp_path)).set_index("category")
    assert list(table["answered"]) == ["1 of 6", "3 of 3"] and list(table["accuracy"]) == ["0.000", "1.000"]
    assert list(table["earned by"]) == ["", "0 abstained, 3 unreadable"]
    (result_file(tmp_path, "irrelevance")).unlink()
    assert list(bfcl_table(score_bfcl(tmp_path))["answered"]) == ["1 of 6", "not run"]


def test_the_command_line_asks_scores_and_goes_on(package, tmp_path, capsys):
    command = ["bfcl", "--profile", "nano", "--categories", "live_relevance", "irrelevance", "--limit", "2"]
    command += ["--max-new-tokens", "4", "--out", str(tmp_path)]
    assert main(command) == 0 and main(command) == 0
    out = capsys.readouterr().out
    assert out.count("irrelevance: 2 of 2 answered") == 1 and "live_relevance" in out and "2 of 3" in out


@pytest.mark.parametrize("option", ["--limit", "--max-new-tokens", "--batch-size"])
@pytest.mark.parametrize("number", ["0", "-1"])
def test_a_number_that_cannot_be_is_refused_at_once(package, policy, tmp_path, capsys, option, number):
    assert main(["bfcl", "--profile", "nano", option, number, "--out", str(tmp_path / "out")]) == 2
    name = option[2:].replace("-", "_")
    assert capsys.readouterr().err == f"error: {name} is {number}; it must be a whole number from 1\n"
    with pytest.raises(SettingsError, match=f"{name} is {number}"):
        evaluate_bfcl(*policy, "nano", tmp_path / "out", ["irrelevance"], **{name: int(number)})
    assert not (tmp_path / "out").exists()


def test_a_damaged_category_shows_before_the_first_is_asked(package, policy, tmp_path):
    (package / "BFCL_v4_irrelevance.json").write_text("{}")
    with pytest.raises(DataError, match="BFCL_v4_irrelevance.json has 1 rows, not 3"):
        evaluate_bfcl(*policy, "nano", tmp_path / "out", ["live_relevance", "irrelevance"])
    assert not (tmp_path / "out").exists()


def test_a_config_that_is_none_is_one_clear_error(package, policy, tmp_path):
    (tmp_path / "config.json").write_text("5")
    with pytest.raises(RunError, match="cannot use .*choose another folder"):
        evaluate_bfcl(*policy, "nano", tmp_path, ["irrelevance"])


@needs_wheel
def test_every_real_category_has_the_questions_it_should():
    assert {category: len(load_questions(category)) for category in bfcl.CATEGORIES} == bfcl.QUESTIONS


@needs_wheel
@pytest.mark.parametrize("category, count", [("simple_python", 400), ("parallel", 200), ("live_simple", 258)])
def test_real_questions_have_valid_schemas_and_right_gold_calls(category, count):
    from jsonschema import Draft202012Validator

    questions = load_questions(category)
    assert len(questions) == count
    for question in questions:
        for tool in question.sample.tools:
            Draft202012Validator.check_schema(tool["function"]["parameters"])
    wrong = [q.sample.id for q in questions if not check_calls(q, q.sample.calls)[0]]
    # two whose allowed answers list no value for some keys, so that no call is right
    assert wrong == (["live_simple_106-63-0", "live_simple_112-68-0"] if category == "live_simple" else [])


@needs_wheel
def test_the_official_checker_judges_as_its_rules_say():
    allowed = [{"shapes.area": {"shape": ["disc"], "size": [2.0, 3.0], "digits": [2, ""]}}]
    sample = bfcl.ToolSample("q", "f", [{"role": "user", "content": "?"}], [], [], "test")
    question = bfcl.Question(sample, "simple_python", [AREA], allowed)

    def verdict(*calls):
        return check_calls(question, [{"name": n, "arguments": a} for n, a in calls])

    assert verdict(("shapes.area", {"shape": "disc", "size": 2.0})) == (True, "")
    assert verdict(("shapes.area", {"shape": " D.I-S_C", "size": 3, "digits": 2})) == (True, "")
    assert verdict(("shapes.area", {"shape": "disc", "size": 4.0})) == (False, "value_error:others")
    assert verdict(("shapes.area", {"shape": "disc", "size": "2.0"})) == (False, "type_error:simple")
    assert verdict(("shapes.area", {"shape": "disc", "size": 2, "digits": 2.0})) == (False, "type_error:simple")
    assert verdict(("shapes_area", {"shape": "disc", "size": 2.0})) == (
        False, "simple_function_checker:wrong_func_name",
    )  # fmt: skip
    assert verdict() == (False, "simple_function_checker:wrong_count")
    # a value the checker itself breaks down on, which would end an official run, is wrong and no more
    question = bfcl.Question(sample, "simple_python", [AREA], [{"shapes.area": allowed[0]["shapes.area"] | {
        "points": [[[0.0]], None]}}])  # fmt: skip
    assert verdict(("shapes.area", {"shape": "disc", "size": 2.0, "points": [[1.0]]})) == (False, "checker_failed")


@needs_wheel
def test_importing_the_checker_leaves_no_stand_in_behind():
    bfcl.official_checker()
    assert "bfcl_eval.constants.model_config" not in sys.modules


# The official evaluation as it is, with the vendors' clients that it imports, and does not need here, faked.
OFFICIAL = """
import importlib.abc, importlib.machinery, sys
from unittest.mock import MagicMock

FAKED = set(
    "openai mistralai anthropic cohere typer tabulate google qwen_agent tenacity writerai boto3 botocore bs4 html2text "
    "rank_bm25 serpapi sentence_transformers faiss tree_sitter tree_sitter_java tree_sitter_javascript dotenv "
    "datamodel_code_generator overrides tqdm filelock requests mpmath".split()
)

class Faker(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.split(".")[0] in FAKED else None

    def create_module(self, spec):
        module = MagicMock(__path__=[], __spec__=spec)
        if spec.name == "overrides":
            module.override, module.EnforceOverrides = (lambda method: method), object
        if spec.name == "tqdm":
            module.tqdm = lambda items, **options: items
        return module

    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Faker())
from bfcl_eval.eval_checker.eval_runner import main
main([sys.argv[1]], sys.argv[2:], None, None, partial_eval=True)
"""


@needs_wheel
def test_the_official_evaluation_reads_our_files_and_agrees(tmp_path):
    categories = ["simple_python", "parallel_multiple", "irrelevance", "live_simple", "live_relevance"]
    for category in categories:
        rows = []
        for i, question in enumerate(load_questions(category, limit=16)):
            calls = question.sample.calls or [{"name": "t", "arguments": {"text": "\n</tool_call>\u00e9"}}]
            tried = [calls, [], [*calls, calls[0]], [c | {"arguments": c["arguments"] | {"zzz": 1}} for c in calls]]
            rows.append(row(question.sample.id, tried[i % 4]))
        rows[0]["result"] = ""  # as for "<tool_call>{broken", whatever the completion
        write_answers(tmp_path, category, rows)
    ours = {c: s["accuracy"] for c, s in score_bfcl(tmp_path).items()}
    assert ours == {c: {"irrelevance": 5 / 16, "live_relevance": 11 / 16}.get(c, 3 / 16) for c in categories}
    environment = {"PYTHONPATH": str(bfcl.find_package()[0].parent), "BFCL_PROJECT_ROOT": str(tmp_path), "PATH": ""}
    command = [sys.executable, "-X", "utf8", "-c", OFFICIAL, bfcl.READER, *categories]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    for category in categories:
        file = result_file(tmp_path, category)
        score = tmp_path / "score" / file.relative_to(tmp_path / "result").parent / f"BFCL_v4_{category}_score.json"
        assert json.loads(score.read_text().splitlines()[0])["accuracy"] == pytest.approx(ours[category])


@pytest.mark.parametrize("whose, least", [("mutations", 5000), ("models", 1000)])
def test_the_committed_agreement_lists_and_explains_every_disagreement(whose, least):
    result = json.loads((REPOSITORY / "assets" / "benchmarks" / "bfcl_agreement.json").read_text())[whose]
    assert result["answers"] >= least and sum(result["outcomes"].values()) == result["answers"]
    assert sum(n for kind in result["by_kind"].values() for n in kind.values()) == result["answers"]
    assert "unexplained" not in result["causes"]
    apart = result["answers"] - result["agreed"]
    assert sum(cause["answers"] for cause in result["causes"].values()) == apart
    listed = {name: ids.split() for name, ids in result["disagreements"].items()}
    assert sum(len(ids) for ids in listed.values()) == apart
    spelled_out = {name: len(ids) if whose == "models" else min(2, len(ids)) for name, ids in listed.items()}
    assert {name: len(examples) for name, examples in result["examples"].items()} == spelled_out


@pytest.fixture
def agreement(monkeypatch):
    """The benchmark's module."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    return importlib.import_module("bfcl_agreement")


@needs_wheel
def test_a_result_file_that_the_agreement_cannot_use_is_one_error(agreement, tmp_path, monkeypatch, capsys):
    other = tmp_path / "BFCL_v4_live_parallel_result.json"
    other.write_text(json.dumps(row("simple_python_0")) + "\n")
    named = tmp_path / "scores.json"
    named.write_text("{}\n")
    told = {"missing.json": "no result file", str(named): "unknown BFCL category",
            str(other): "answers 'simple_python_0', which is no question of 'live_parallel'"}  # fmt: skip
    for file, message in told.items():
        monkeypatch.setattr(sys, "argv", ["bfcl_agreement.py", "--results", file, "--out", str(tmp_path / "out.json")])
        with pytest.raises(SystemExit):
            agreement.main()
        assert message in capsys.readouterr().err.splitlines()[-1] and not (tmp_path / "out.json").exists()


@needs_wheel
def test_the_agreement_is_what_the_benchmark_finds(agreement, tmp_path):
    committed = json.loads((REPOSITORY / "assets" / "benchmarks" / "bfcl_agreement.json").read_text())
    answers_of, compare, model_answers = agreement.answers_of, agreement.compare, agreement.model_answers
    questions = load_questions("live_parallel")
    found = compare((q, kind, calls) for q in questions for kind, calls in answers_of(q))
    assert found["by_kind"]["gold"] == {"ours right, official right": 16} and "unexplained" not in found["causes"]
    assert found["by_kind"].keys() <= committed["mutations"]["by_kind"].keys()
    rows = [row(questions[0].sample.id, questions[0].sample.calls), row(questions[1].sample.id)]
    found = compare(model_answers([write_answers(tmp_path, "live_parallel", rows)]))
    assert found["outcomes"] == {"ours right, official right": 1, "ours wrong, official wrong": 1}


def test_the_committed_whole_run_was_killed_and_is_the_same():
    found = json.loads((REPOSITORY / "assets" / "benchmarks" / "bfcl_resume.json").read_text())
    assert found["questions"] == sum(bfcl.QUESTIONS.values()) == sum(asked for _, asked in found["correct"].values())
    assert len(found["killed_at"]) >= 3 and all(0 < n < found["questions"] for n in found["killed_at"])
    assert found["same_answers"] == found["questions"] and found["same_scores"] is True


@needs_wheel
def test_a_run_that_is_killed_gives_the_same_answers(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    resume = importlib.import_module("bfcl_resume")
    words = ["--model", "nano", "--profile", "nano", "--categories", "live_parallel", "irrelevance", "--limit", "24",
             "--max-new-tokens", "32", "--batch-size", "1"]  # fmt: skip
    found = resume.measure(words, ["live_parallel", "irrelevance"], 1, tmp_path)  # one by one: slow enough for a kill
    assert found["questions"] == found["same_answers"] == 16 + 24 and found["same_scores"]
    assert found["correct"]["irrelevance"][1] == 24
    assert len(found["killed_at"]) == 1 and 20 <= found["killed_at"][0] <= 40
    rows = read_answers(result_file(tmp_path / "cut", "irrelevance"))
    rows[0]["completion"] += "!"
    result_file(tmp_path / "cut", "irrelevance").write_text("".join(json.dumps(r) + "\n" for r in rows))
    ours, theirs = (resume.answers(tmp_path / run, ["live_parallel", "irrelevance"]) for run in ("whole", "cut"))
    assert [key for key in ours if ours[key] != theirs[key]] == [("irrelevance", rows[0]["id"])]


@needs_wheel
def test_the_committed_splits_are_exact_with_the_tools_on_offer():
    """As `tests/test_answer_kinds.py`, with the tools; in a list so that one wrong file is named."""
    tools, wrong = {q.sample.id: q.sample.tools for q in load_questions("irrelevance")}, []
    files = sorted((REPOSITORY / "assets" / "runs").glob("*/evaluations/*/bfcl/scores.json"))
    for file in files:
        scores = json.loads(file.read_text())["irrelevance"]
        (answers,) = file.parent.glob("result/*/*/BFCL_v4_irrelevance_result.json")
        kinds = {r["id"]: answer_kind(r["completion"], tools[r["id"]]) for r in read_answers(answers)}
        wrong += [] if scores["earned"] == earned_by(kinds, scores["right"]) else [file.parts[-3]]
    assert files and not wrong
