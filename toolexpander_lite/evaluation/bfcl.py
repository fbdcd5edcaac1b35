"""The Berkeley Function Calling Leaderboard, version 4: its single-turn Python questions, asked and officially checked.

Questions, allowed answers and checker all come from the `bfcl-eval` package (Apache-2.0): the installed one, else the
pinned wheel, fetched from the package index without the packages it depends on. The AST checker needs none of
them. The multi-turn, agentic, Java and JavaScript categories are left out.

An evaluation leaves OUT/config.json (whose answers, how asked), OUT/scores.json and OUT/result/<READER>/, which
`BFCL_PROJECT_ROOT=OUT bfcl evaluate --model <READER> --partial-eval` reads, too; that name only tells it how. There is
no overall number: BFCL's own is a weighted mean with categories that are not here.
"""

import hashlib
import importlib
import importlib.util
import json
import subprocess
import sys
import types
import zipfile
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import pandas as pd

from ..base.downloads import beside, cache_folder, put_in_place
from ..base.errors import DataError, RunError, unknown
from ..base.runs import write_json
from ..data.tool_schemas import TYPES, read_tool
from ..method.calls import parse_completion
from ..method.samples import ToolSample
from .answer_kinds import answer_kind, earned_text
from .answers import answer_samples, claim_folder, draw, how_asked, read_answers, scores_of

VERSION = "2026.3.23"
WHEEL_SHA256 = "3bb6dfa5f0c68ad403c9ec50b00db2bb3b4cc9b38ab1ff33f48fe30d853d3a0a"
# Category -> how many questions it has: a file that was cut between two lines would pass for a smaller benchmark.
QUESTIONS = {
    "simple_python": 400, "multiple": 200, "parallel": 200, "parallel_multiple": 200, "irrelevance": 240,
    "live_simple": 258, "live_multiple": 1053, "live_parallel": 16, "live_parallel_multiple": 24,
    "live_irrelevance": 884, "live_relevance": 16,
}  # fmt: skip
CATEGORIES = tuple(QUESTIONS)
# The official tool reads results by the rules of a model it knows. This one's are ours: <tool_call> blocks with JSON,
# and tool names as published, dots and all. (Of models behind APIs that take no dots it expects "_" for each.)
READER = "Qwen/Qwen3-0.6B-FC"
ANY_TYPES = TYPES | {"any": "string"}  # so it is to the checker, whatever the name says


@dataclass(frozen=True)
class Question:
    """One BFCL question.

    Attributes:
        sample: what the model is shown, and as gold calls one right answer: of each argument that must be given the
            first allowed value, no other argument. [] where no call is right, or where any is (relevance).
        category: one of `CATEGORIES`.
        functions: the tools as BFCL publishes them, as its checker wants them.
        answers: allowed answers, one `{tool: {argument: [values]}}` per call, "" meaning that the argument may be left
            out; None in the relevance categories, which have none.
    """

    sample: ToolSample
    category: str
    functions: list
    answers: list | None


def find_package():
    """Where `bfcl_eval` is -> (its folder, its version); the pinned wheel is fetched and unpacked if need be.

    Raises:
        DataError: not installed and out of reach, or the fetched wheel is not the pinned one.
    """
    try:
        version = metadata.version("bfcl-eval")
        return Path(importlib.util.find_spec("bfcl_eval").submodule_search_locations[0]), version
    except metadata.PackageNotFoundError:
        pass
    folder = cache_folder("bfcl") / f"bfcl_eval-{VERSION}"
    if not folder.is_dir():
        wheel = _fetch_wheel(folder.parent)
        with beside(folder.parent) as made, zipfile.ZipFile(wheel) as archive:
            archive.extractall(made / "wheel")
            put_in_place(made / "wheel", folder)  # only now: a cut run leaves no half package behind
    return folder / "bfcl_eval", VERSION


def _fetch_wheel(folder):
    """The pinned wheel in `folder`, downloaded by pip unless it is there, and checked -> its `Path`."""
    wheel = folder / f"bfcl_eval-{VERSION}-py3-none-any.whl"
    if not wheel.is_file():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-color", "--retries", "1",
                   "--timeout", "20", "--disable-pip-version-check", f"bfcl-eval=={VERSION}"]  # fmt: skip
        with beside(folder) as made:
            done = subprocess.run([*command, "--dest", str(made)], capture_output=True, text=True)
            if done.returncode or not (made / wheel.name).is_file():
                reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
                raise DataError(
                    f"cannot fetch the BFCL questions ({reason}); on a machine with internet run `pip download "
                    f"--no-deps bfcl-eval=={VERSION}` and put the .whl file into {folder}"
                )
            put_in_place(made / wheel.name, wheel)
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != WHEEL_SHA256:
        raise DataError(f"{wheel} is damaged, or not the file that was published; delete it and run again")
    return wheel


def load_questions(category, limit=None):
    """Questions of one category -> list of `Question`, in BFCL's order.

    Args:
        category: one of `CATEGORIES`.
        limit: keep this many, always the same random draw; None keeps all.

    Raises:
        DataError: no such category, a limit below 1, or the package cannot be had (see `find_package`) or read.
    """
    check_categories([category])
    data, name = find_package()[0] / "data", f"BFCL_v4_{category}.json"
    entries = _read_lines(data / name, QUESTIONS[category])
    answers = [None] * len(entries)
    if "relevance" not in category:
        rows = _read_lines(data / "possible_answer" / name, QUESTIONS[category])
        found = {row["id"]: row["ground_truth"] for row in rows}
        answers = [found[entry["id"]] for entry in entries]
    return draw([_question(entry, category, answer) for entry, answer in zip(entries, answers)], limit)


def check_categories(categories):
    """Raise `DataError` unless all are in `CATEGORIES`."""
    for name in categories:
        if name not in CATEGORIES:
            covered = "(multi-turn, agentic, Java and JavaScript ones are not covered)"
            raise DataError(f"{unknown('BFCL category', name, CATEGORIES)} {covered}")


def _read_lines(file, count):
    """The rows of one of BFCL's files, which has `count` -> list of dicts."""
    redo = f"delete the folder (or uninstall the package) and run again with version {VERSION}"
    try:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot read {file} ({error}); this bfcl-eval is damaged or not of version 4: {redo}"
        ) from None
    if len(rows) != count:
        raise DataError(f"{file} has {len(rows)} rows, not {count}; it was cut short or is of another version: {redo}")
    return rows


def _question(entry, category, answers):
    functions = entry["function"]
    tools = [read_tool(function, ANY_TYPES) for function in functions]
    calls = [first_answer(functions, answer) for answer in answers or []]
    sample = ToolSample(entry["id"], f"bfcl-{category}", entry["question"][0], tools, calls, "test")
    return Question(sample, category, functions, answers)


def first_answer(functions, answer):
    """One allowed answer, `{tool: {argument: [values]}}` -> the call that gives only what must be given, first choices.

    For a few questions the allowed answers contradict the tool's own schema; no call is right there, this one neither.
    """
    ((name, allowed),) = answer.items()
    parameters = next(f["parameters"] for f in functions if f["name"] == name)
    arguments = {}
    for argument, values in allowed.items():
        if "" not in values or argument in parameters["required"]:
            kind = parameters["properties"].get(argument, {}).get("type")
            arguments[argument] = spell_out(next((v for v in values if v != ""), ""), kind)
    return {"name": name, "arguments": arguments}


def spell_out(value, kind):
    """An allowed value -> the argument itself. In objects, and lists of them, BFCL lists the choices of each key."""
    if kind == "dict" and isinstance(value, dict):
        return {k: next((v for v in choices if v != ""), "") for k, choices in value.items() if "" not in choices}
    if kind in ("array", "tuple") and isinstance(value, list):
        return [spell_out(item, "dict") for item in value]
    return value


@lru_cache(maxsize=1)
def official_checker():
    """BFCL's own `ast_checker` and its `Language.PYTHON` -> (function, constant).

    Its module asks one other for the models it knows, which would import every model vendor's client. A stand-in that
    knows one model takes that module's place while the checker is imported.
    """
    folder, _ = find_package()
    stand_in = types.ModuleType("bfcl_eval.constants.model_config")
    stand_in.MODEL_CONFIG_MAPPING = {READER: types.SimpleNamespace(underscore_to_dot=False)}
    before = sys.modules.get(stand_in.__name__)
    sys.path.insert(0, str(folder.parent))
    sys.modules[stand_in.__name__] = stand_in
    try:
        checker = importlib.import_module("bfcl_eval.eval_checker.ast_eval.ast_checker").ast_checker
        return checker, importlib.import_module("bfcl_eval.constants.enums").Language.PYTHON
    except ImportError as error:
        raise DataError(f"cannot import the checker from {folder} ({error}); use bfcl-eval {VERSION}") from None
    finally:
        sys.path.remove(str(folder.parent))
        del sys.modules[stand_in.__name__]
        if before is not None:
            sys.modules[stand_in.__name__] = before


def check_calls(question, calls):
    """Are these calls right, by the official rules? -> (True or False, BFCL's error type or "").

    Args:
        calls: `{"name": str, "arguments": dict}`, as `parse_completion` reads them; [] for an unreadable completion.

    In the relevance categories any call, or no call, is all that is asked. An argument on which the checker itself
    breaks down is wrong, with the error type "checker_failed"; an official run would end there.
    """
    if question.answers is None:
        right = bool(calls) == (question.category == "live_relevance")
        return right, "" if right else question.category.removeprefix("live_") + "_error"
    checker, python = official_checker()
    output = [{call["name"]: call["arguments"]} for call in calls]
    try:
        found = checker(question.functions, output, question.answers, python, question.category, READER)
    except Exception:  # the arguments are a model's, and the checker is not written for all of them
        return False, "checker_failed"
    return found["valid"], "" if found["valid"] else found["error_type"]


def _group(category):
    return "live" if category.startswith("live_") else "non_live"


def result_file(out, category):
    """Where the answers to one category are kept, below `out` -> `Path`."""
    return Path(out, "result", READER.replace("/", "_"), _group(category), f"BFCL_v4_{category}_result.json")


def evaluate_bfcl(
    model, tokenizer, name, out, categories=CATEGORIES, limit=None, max_new_tokens=512, batch_size=16,
    progress=None, invite=False,
):  # fmt: skip
    """Ask a model the questions of some categories and score it -> the scores of `score_bfcl`, also in `scores.json`.

    Zero-shot and greedy, in the kit's own prompt and answer form (`prompts.py`), which is not the one behind the
    public leaderboard's numbers. What was answered before in `out` is kept; other categories may be added later.

    Args:
        name: the model's name, for `config.json`.
        limit: ask so many questions of each category, always the same random draw; None asks all.
        max_new_tokens: cap per completion, in tokens (512 is our assumption).
        progress: called with (category, number answered, number of questions, items per second).
        invite: what prompts ask for, as in training and in `prompts.render_messages`.

    Raises:
        DataError: no such category, or the questions cannot be had.
        SettingsError: limit, max_new_tokens or batch_size below 1.
        RunError: `out` holds answers of another model, or under other settings, or is damaged.
    """
    check_categories(categories)
    settings = how_asked(limit, max_new_tokens, batch_size, invite)
    # All of them before the first is asked: a damaged file shows at once, not after hours.
    asked = {category: [q.sample for q in load_questions(category, limit)] for category in categories}
    claim_folder(out, model, name, benchmark="BFCL v4", bfcl_eval=find_package()[1], **settings)
    for category, samples in asked.items():
        shown = progress and (lambda *state, category=category: progress(category, *state))
        answer_samples(model, tokenizer, samples, result_file(out, category), max_new_tokens, batch_size, shown, invite)
    scores = score_bfcl(out)
    write_json(Path(out, "scores.json"), scores)
    return scores


def score_bfcl(out):
    """Score whatever answers are below `out` by the official checker -> {category: scores}, in BFCL's order.

    Scores of a category: those of `answers.scores_of`, "questions" (in the whole category) and "errors" {BFCL's error
    type: number}. Where no call is right, BFCL credits every answer from which none is read.

    Raises:
        RunError: no answers there, or a damaged file.
        DataError: an answer to a question that is not BFCL's.
    """
    scores = {}
    for category in CATEGORIES:
        rows = read_answers(result_file(out, category))
        if not rows:
            continue
        questions = {question.sample.id: question for question in load_questions(category)}
        errors, correct, kinds = Counter(), [], {}
        for row in rows:
            if row["id"] not in questions:
                raise DataError(f"{result_file(out, category)}: no {category} question is called {row['id']!r}")
            question = questions[row["id"]]
            right, error = check_calls(question, parse_completion(row["result"]).calls)
            kinds[row["id"]] = answer_kind(row.get("completion", row["result"]), question.sample.tools)
            correct += [row["id"]] if right else []
            errors.update([] if right else [error])
        scores[category] = scores_of(rows, correct, kinds, questions=len(questions), errors=dict(errors))
    if not scores:
        raise RunError(f"no BFCL answers below {out}")
    return scores


def bfcl_table(scores):
    """`score_bfcl`'s scores -> DataFrame, one row per category, with no overall number.

    What earned the credit stands beside it. Categories in which no tool fits never stand without the call categories of
    their group, nor those without them: what was not run is in the table as such.
    """
    rows = []
    for group in ("non_live", "live"):
        members = [c for c in CATEGORIES if _group(c) == group]
        run, calls = [c for c in members if c in scores], [c for c in members if "relevance" not in c]
        shown = {*run, *(c for c in members if run and c.endswith("irrelevance"))}
        shown |= set(calls[:1]) if run and not set(run) & set(calls) else set()
        for category, s in ((c, scores.get(c)) for c in members if c in shown):
            rows.append({"category": category, "answered": "not run"} if s is None else {
                "category": category, "answered": f"{s['answered']} of {s['questions']}", "correct": s["correct"],
                "accuracy": f"{s['accuracy']:.3f}", "95 % interval": f"{s['low']:.3f}-{s['high']:.3f}",
                "earned by": earned_text(s.get("earned"), category.endswith("irrelevance")),
                "well formed": f"{s['well_formed']:.3f}",
            })  # fmt: skip
    return pd.DataFrame(rows).astype(object).fillna("")
