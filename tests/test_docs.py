"""README, docs and notebooks: every command they print is one, every link leads somewhere, every script runs."""

import json
import re
import shlex
from dataclasses import replace

import pytest

from toolexpander_lite.__main__ import _parser
from toolexpander_lite.base.runs import REPOSITORY, find_runs, read_json
from toolexpander_lite.base.settings import parse_settings
from toolexpander_lite.data.own_turns import own_tasks
from toolexpander_lite.data.sources import load_samples
from toolexpander_lite.method.calls import judge
from toolexpander_lite.method.prompts import gold_completion
from toolexpander_lite.training.profiles import Profile, get_profile
from toolexpander_lite.variants.all_recipes import Recipe, get_recipe
from toolexpander_lite.worlds.nano_world import FAMILIES, make_sample, right_call

PAGES = [REPOSITORY / "README.md", REPOSITORY / "benchmarks" / "README.md", *sorted(REPOSITORY.glob("docs/**/*.md")),
         *sorted(REPOSITORY.glob("toolexpander_lite/*/README.md"))]  # fmt: skip
NOTEBOOKS = sorted(REPOSITORY.glob("notebooks/[0-9]*.ipynb"))
COMMAND = re.compile(r"python -m toolexpander_lite ([a-z][^\n`\"#<]*)")
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def text_of(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    return "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])


def name(path):
    return str(path.relative_to(REPOSITORY))


@pytest.mark.parametrize("path", [*PAGES, *NOTEBOOKS], ids=name)
def test_every_command_is_one_the_program_takes(path):
    text = text_of(path)
    for command in COMMAND.findall(text):
        try:
            arguments = vars(_parser().parse_args(shlex.split(command)))
        except SystemExit:
            pytest.fail(command)
        get_recipe(arguments.get("recipe", "grpo"), **parse_settings(Recipe, arguments.get("set") or []))
        get_profile(arguments.get("profile", "nano"), **parse_settings(Profile, arguments.get("profile_set") or []))
        for value in map(str, arguments.values()):
            assert not value.startswith("assets/") or (REPOSITORY / value).exists(), value
    for command in re.findall(r"python3 kit.py (\w+)", text):
        assert f'"{command}"' in (REPOSITORY / "kit.py").read_text(encoding="utf-8")


def test_the_pages_print_commands():
    commands = {name(path): COMMAND.findall(text_of(path)) for path in [*PAGES, *NOTEBOOKS]}
    assert sum(map(len, commands.values())) > 40 and len(commands["docs/commands.md"]) > 10


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_every_link_leads_somewhere(path):
    for picture, words, target in LINK.findall(text_of(path)):
        assert words, f"{target}: no words, or no alt text"
        file, _, part = target.partition("#")
        if file.startswith("https://"):
            assert not picture, f"{target}: pictures are committed"
        elif file:
            assert (path.parent / file).exists(), target


@pytest.mark.parametrize("path", sorted(REPOSITORY.glob("docs/*.md")), ids=name)
def test_every_page_can_be_found(path):
    assert f"(docs/{path.name})" in text_of(REPOSITORY / "README.md")


def test_every_study_has_a_page_that_can_be_found():
    pages = {path.stem for path in REPOSITORY.glob("docs/studies/*.md")}
    results = text_of(REPOSITORY / "docs" / "results.md")
    assert {study for study in re.findall(r"\(studies/([\w-]+)\.md\)", results)} == pages
    assert all(f"`{name}`" in text_of(REPOSITORY / "docs" / "studies" / f"{name}.md").splitlines()[0] for name in pages)


def test_what_is_said_not_to_be_run_is_not_run():
    studies = [*(REPOSITORY / "assets" / "runs").iterdir()]
    paper = [arm for study in studies for arm in find_runs(study) if arm.startswith("paper_")]
    second = [arm for arm in paper if "self_exemplifying" in arm]
    assert paper and "No training run" not in text_of(REPOSITORY / "README.md")
    assert ("second idea were not run with its settings" in text_of(REPOSITORY / "README.md")) == (not second), second
    gpu = [run for study in studies for runs in find_runs(study).values() for run in runs
           if "CPU" not in read_json(run / "config.json").get("machine", "CPU")]  # fmt: skip
    assert ("Nothing was run on a GPU" in text_of(REPOSITORY / "README.md")) == (not gpu), gpu


def test_no_page_names_a_file_that_is_not_there():
    """`method/hard_pool.py` and the like, as docs write them."""
    for path in PAGES:
        for file in re.findall(r"`((?:\w+/)+\w+\.(?:py|md))`", text_of(path)):
            assert (REPOSITORY / file).exists() or (REPOSITORY / "toolexpander_lite" / file).exists(), (path, file)


def test_the_front_page_is_short_and_its_example_is_judged_as_it_says():
    text = text_of(REPOSITORY / "README.md")
    assert len(text.splitlines()) <= 130
    question = re.search(r"^question +(.+)$", text, re.M)[1]
    family, arguments = FAMILIES["book_taxi"], json.loads(re.search(r"^right call +book_taxi +(.+)$", text, re.M)[1])
    sample = make_sample(family, question, arguments)
    assert right_call(question) == sample.calls[0]
    wrong = json.loads(re.search(r"^wrong call +book_taxi +(.+)$", text, re.M)[1])
    for given, reason in ((arguments, "ok"), (wrong, "wrong_argument")):
        completion = gold_completion(replace(sample, calls=[{"name": "book_taxi", "arguments": given}]))
        assert judge(completion, sample.calls, sample.tools).reason == reason
    assert all(str(word) in question for word in wrong.values()), "the wrong call repeats the question's words"


def test_the_script_for_ones_own_trainer_runs(tmp_path, monkeypatch, capsys):
    """As it stands in the docs, copied and pasted."""
    monkeypatch.chdir(tmp_path)
    script, callbacks = re.findall(r"```python\n(.*?)```", text_of(REPOSITORY / "docs" / "use-in-trl.md"), re.S)
    names = {}
    exec(script, names)
    assert "served" in capsys.readouterr().out
    assert sum(names["pool"].counts().values()) == len(names["samples"]) and names["pool"].counts()["unseen"] == 0
    exec(callbacks, names)
    assert names["Rounds"]


def test_ones_own_tools_are_written_as_the_page_says(tmp_path):
    page = text_of(REPOSITORY / "docs" / "your-own-tools.md")
    file, use, jars, away, compare, hermes = re.findall(r"```python\n(.*?)```", page, re.S)
    (tmp_path / "my_tools.py").write_text(file)
    report = load_samples("own", tmp_path / "my_tools.py")
    assert not report.dropped and {s.split for s in report.samples} == {"train", "test"}
    assert {c["name"] for s in report.samples for c in s.calls} == {"add_item", "switch_lamp"}
    assert any(not s.calls for s in report.samples)
    (tmp_path / "jars.py").write_text(jars)
    tasks = own_tasks(tmp_path / "jars.py", load_samples("own-turns", tmp_path / "jars.py").samples)
    assert [len(task.turns) for task in tasks.values()] == [1, 2]
    for code in (use, away, compare):
        compile(code, "page", "exec")
    names = {}
    exec(hermes, names)
    assert json.loads(json.dumps(names["row"])) == names["row"]


def test_the_way_to_the_first_picture_is_as_measured():
    seconds = read_json(REPOSITORY / "assets" / "benchmarks" / "first_picture.json")["seconds"]
    page = (REPOSITORY / "docs" / "hardware.md").read_text(encoding="utf-8")
    picture = seconds["first picture, from the notebook's start"]
    assert f"took {seconds['environment']:.0f} s" in page and f"{picture:.0f} s after the notebook was started" in page
    whole = read_json(REPOSITORY / "assets" / "benchmarks" / "reproduce.json")
    took = f"it took {whole['seconds']['reproduce']} s on two cores (load {whole['load_before']} when it began)"
    assert f"{took} and {whole['peak_gib']} GiB at most" in page and not whole["live"]
    assert whole["seconds"]["reproduce"] < 12 * 60 and len(whole["notebooks"]) == 8
