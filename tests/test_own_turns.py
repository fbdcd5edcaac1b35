"""Your own functions through TRL's own tool loop: rows of several turns, the file as an environment, a whole run."""

import copy
import inspect
import json
from types import SimpleNamespace

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from transformers.utils import get_json_schema
from trl import chat_template_utils
from trl.chat_template_utils import is_chat_template_prefix_preserving, parse_response, supports_tool_calling

from toolexpander_lite.__main__ import main
from toolexpander_lite.base.errors import DataError, ModelError, SettingsError
from toolexpander_lite.base.runs import read_jsonl, read_log
from toolexpander_lite.data.own_rows import own_rows
from toolexpander_lite.data.own_turns import own_environment, own_tasks, own_world, solved_dialogue
from toolexpander_lite.data.sources import load_samples
from toolexpander_lite.evaluation.executed import run_episodes, solver
from toolexpander_lite.evaluation.tool_caller import ToolCaller
from toolexpander_lite.models.templates import RESPONSE_TEMPLATE, TOOL_TEMPLATE
from toolexpander_lite.training.dialogues import DialogueReward, check_dialogues, check_template, dialogues_of
from toolexpander_lite.training.preflight import preflight
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.train import train
from toolexpander_lite.training.warm_start import rows_to_teach, sft_warm_start
from toolexpander_lite.variants.all_recipes import get_recipe
from toolexpander_lite.worlds.chain_policy import CHAIN_TEMPLATE
from toolexpander_lite.worlds.chain_policy import RESPONSE_TEMPLATE as CHAIN_RESPONSE
from toolexpander_lite.worlds.nano_policy import END, PAD, ROLES, build_model, word_tokenizer

JARS = '''
class Jars:
    def __init__(self):
        self.beans = {"Ann": 7, "Bob": 3, "Eva": 9}

    def look(self, jar: str) -> int:
        """How many beans a jar holds.

        Args:
            jar: whose jar
        """
        return self.beans[jar]

    def pour(self, source: str, target: str, beans: int, slowly: bool | None = None) -> int:
        """Move beans to another jar.

        Args:
            source: whose jar
            target: whose jar
            beans: how many
            slowly: with care
        """
        if not 0 < beans <= self.beans[source]:
            raise ValueError(f"{source} has {self.beans[source]} beans")
        self.beans[source] -= beans
        self.beans[target] += beans
        return self.beans[target]


NAMES = ["Ann", "Bob", "Eva"]
ROWS = [{"question": f"How many has {a}?", "call": f"look(jar='{a}')", "split": "train"} for a in NAMES]
ROWS += [
    {"question": f"Empty {a} into {b}.", "split": "test" if a < b else "train",
     "call": [f"look(jar='{a}')", f"pour(source='{a}', target='{b}', beans={Jars().beans[a]})"]}
    for a in NAMES for b in NAMES if a != b
]
ROWS += [("Sing.", "")]
'''
ROOM = {"max_prompt_tokens": 150, "demo_room": 150, "max_completion_length": 150}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("tools") / "jars.py"
    path.write_text(JARS)
    return path


@pytest.fixture(scope="module")
def tasks(file):
    return own_tasks(file, load_samples("own-turns", file).samples)


def emptying(tasks):
    return next(task for task in tasks.values() if task.sample.messages[-1]["content"] == "Empty Ann into Bob.")


# --- rows


def test_rows_of_several_turns_are_taken_here_and_counted_elsewhere(file):
    report = load_samples("own-turns", file)
    assert len(report.samples) == 9 and report.dropped == {"row without a call": 1}
    assert load_samples("own", file).dropped == {"calls in several turns, which data own-turns takes": 6}
    # In a table the turns are JSON text.
    table = file.with_name("table.py")
    text = '["look(jar=\\"Ann\\")", "pour(source=\\"Ann\\", target=\\"Bob\\", beans=7)"]'
    table.write_text(
        JARS.partition("NAMES")[0] + f"ROWS = [('Empty it.', r'''{text}'''), ('How many?', 'look(jar=\"Bob\")')]"
    )
    [task, _] = own_tasks(table, load_samples("own-turns", table).samples).values()
    assert [call["name"] for turn in task.turns for call in turn] == ["look", "pour"]


def test_the_goal_is_what_the_right_calls_leave_behind(tasks):
    task = emptying(tasks)
    assert task.goal == {"beans": {"Ann": 0, "Bob": 10, "Eva": 9}} and task.answer is None
    question = next(iter(tasks.values()))
    assert question.answer == 7 and question.goal == {"beans": {"Ann": 7, "Bob": 3, "Eva": 9}}


def test_a_row_whose_right_call_fails_is_named(file):
    broken = file.with_name("broken.py")
    broken.write_text(JARS.replace("ROWS += [(", "ROWS = [('Empty.', ['look(jar=\"Ann\")', 'look(jar=\"Zoe\")']), ("))
    with pytest.raises(DataError, match=r'broken.py: the right call .*"Zoe".* of the row .Empty.* fails: KeyError'):
        own_tasks(broken, load_samples("own-turns", broken).samples)


def test_splits_share_no_value_of_any_turn(file):
    split = file.with_name("split.py")
    rows = [(f"Move {n}.", [f"look(jar='{n}')", f"pour(source='{n}', target='x{n}', beans=1)"]) for n in "abcdefghij"]
    split.write_text(JARS.partition("NAMES")[0].replace("beans: int,", "beans: bool,") + f"ROWS = {rows}")
    split.write_text(split.read_text().replace("beans=1", "beans=True"))
    found = {row["question"]: row["split"] for row in own_rows(split)}
    assert sorted(found.values()).count("test") == 2, "values of the first turn count, too"


# --- the environment, as TRL takes it


def test_methods_are_the_files_tools_as_trl_reads_them(file, tasks):
    kind = own_environment(file)
    names = [name for name, _ in inspect.getmembers(kind, inspect.isfunction) if name[0] != "_"]
    assert names == ["look", "pour", "reset"]
    schemas = [get_json_schema(getattr(kind(file), name))["function"] for name in ("look", "pour")]
    assert schemas[1]["parameters"]["required"] == ["source", "target", "beans"]
    assert schemas[1]["description"] == "Move beans to another jar."
    # Prompts of evaluations list the same.
    listed = next(iter(tasks.values())).sample.tools
    assert [t["function"]["name"] for t in listed] == ["look", "pour"]
    assert listed[0] == {"type": "function", "function": schemas[0]}


def test_each_rollout_begins_with_the_files_own_state_and_nothing_raises(file, tasks):
    environment = own_environment(file)(file)
    for _ in range(2):
        environment.reset(sample_id="?", family="own")
        assert json.loads(environment.pour(source="Ann", target="Bob", beans=7)) == 10
        assert environment._at_goal(emptying(tasks))
        assert (
            json.loads(environment.pour(source="Ann", target="Bob", beans=7))["error"] == "ValueError: Ann has 0 beans"
        )
    assert "bad arguments" in json.loads(environment.look(name="x" * 9000))["error"]
    assert "bad arguments" in json.loads(environment.look())["error"]
    assert [result.ok for _, result in environment.calls] == [True, False, False, False]


def test_a_list_comes_back_as_text(tmp_path):
    """TRL 1.16 hands a list to the template as it is, and Qwen3's writes nothing for it (findings/trl-list-...)."""
    file = tmp_path / "towns.py"
    file.write_text(
        'FOUND = [{"id": 7}]\n\ndef find(again: bool) -> list[dict]:\n    """Find.\n\n    Args:\n        again: or not'
        '\n    """\n    return [] if again else FOUND\n'
    )
    environment = own_environment(file)(file)
    environment.reset()
    assert [environment.find(again=again) for again in (False, True)] == ['[{"id": 7}]', "[]"]


@pytest.mark.parametrize("name", ["reset", "calls", "get_reward", "_pour"])
def test_names_that_trl_takes_are_refused(name, file):
    taken = file.with_name("taken.py")
    taken.write_text(f'def {name}():\n    """Does it."""\n\n\nTOOLS = [{name}]\n')
    with pytest.raises(DataError, match=f"taken.py: TRL's environments have no room for a tool {name!r}; rename"):
        own_environment(taken)


def test_solutions_are_whole_dialogues_and_reach_their_goals(file, tasks):
    messages = solved_dialogue(emptying(tasks), file)
    assert [m["role"] for m in messages] == ["user", "assistant", "tool", "assistant", "tool", "assistant"]
    assert messages[2]["content"] == "7" and "<think>call pour</think>" in messages[3]["content"]
    assert solved_dialogue(emptying(tasks), file, think=False)[1]["content"].startswith("<tool_call>")
    world = {"world": lambda task: own_world(file), "timeout": 30}
    found = run_episodes(solver(tasks.values(), lambda task: task.turns), list(tasks.values()), **world)
    assert {episode.reason for episode in found} == {"ok"}
    guess = [[{"name": "pour", "arguments": {"source": "Ann", "target": "Bob", "beans": 6}}]]
    [guessed] = run_episodes(solver([emptying(tasks)], lambda task: guess), [emptying(tasks)], **world)
    assert (guessed.reason, guessed.detail) == ("wrong_state", "beans")


def test_the_reward_looks_at_state_and_answer(file, tasks):
    question, task = next(iter(tasks.values())), emptying(tasks)
    make, reward = own_environment(file), DialogueReward(tasks, None)
    look, other = ({"name": "look", "arguments": {"jar": name}} for name in ("Ann", "Eva"))
    for asked, calls, reason in (
        (question, [look], "ok"), (question, [other], "wrong_answer"), (question, [], "no_call"),
        (task, task.turns[0], "wrong_state"), (task, [*task.turns[0], *task.turns[1]], "ok"),
        (task, task.turns[1], "ok"),
    ):  # fmt: skip
        environment = make(file)
        environment.reset()
        for call in calls:
            getattr(environment, call["name"])(**call["arguments"])
        written = "".join(f"<tool_call>{json.dumps(call)}</tool_call>" for call in calls)
        assert reward.reason(asked, environment, [], written) == reason, "no tool was told of: nothing is taken out"


# --- refusals


@pytest.mark.parametrize("recipe, changes, told", [
    ("paper_replace", {}, "does not serve rows of several turns"),
    ("grpo", {"max_tools": 2}, "offers all tools in every prompt; set max_tools=0"),
])  # fmt: skip
def test_what_several_turns_cannot_have(recipe, changes, told):
    with pytest.raises(SettingsError, match=told):
        check_dialogues(get_recipe(recipe), get_profile("smol", data="own-turns", **changes))


def test_a_preflight_says_that_it_looks_at_single_turns(file):
    report = preflight(get_profile("nano", data="own-turns", data_path=str(file)))
    assert "rows of 'own-turns' take several; in its place try `train`" in str(report)


# --- a whole run


@pytest.fixture(scope="module")
def tokenizer():
    """Byte-level BPE that knows ChatML's tokens and few words."""
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer, plain.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    turns, alphabet = ["<|im_start|>", "<|im_end|>"], pre_tokenizers.ByteLevel.alphabet()
    plain.train_from_iterator(["look"], trainers.BpeTrainer(special_tokens=turns, initial_alphabet=alphabet))
    made = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token=turns[1], additional_special_tokens=turns)
    made.chat_template, made.response_template = TOOL_TEMPLATE, RESPONSE_TEMPLATE
    return made


def test_trl_and_transformers_read_what_the_kits_template_writes(tokenizer):
    assert supports_tool_calling(tokenizer) and is_chat_template_prefix_preserving(tokenizer)
    calls = [{"type": "function", "function": {"name": "look", "arguments": {"jar": "Ann"}}},
             {"type": "function", "function": {"name": "look", "arguments": {"jar": "Bob"}}}]  # fmt: skip
    for content in ("", "So:"):
        message = {"role": "assistant", "content": content, "tool_calls": calls}
        text = tokenizer.apply_chat_template([message], tokenize=False)
        assert "</tool_call>\n<tool_call>" in text
        start = "<|im_start|>assistant\n"
        ids, prefix = tokenizer(text.removeprefix(start)).input_ids, tokenizer(start).input_ids
        read = parse_response(tokenizer, ids, prefix=prefix)
        assert read["tool_calls"] == calls and read["content"] == content
    as_text = [{"function": {"name": "look", "arguments": '{"jar": "Ann"}'}}]  # as OpenAI's clients send it back
    text = tokenizer.apply_chat_template(
        [{"role": "assistant", "content": None, "tool_calls": as_text}], tokenize=False
    )
    assert '{"name": "look", "arguments": {"jar": "Ann"}}' in text


def test_a_template_that_shows_no_calls_is_refused(tokenizer):
    plain = SimpleNamespace(chat_template="x", name_or_path="m", apply_chat_template=lambda *_, **__: "x")
    with pytest.raises(ModelError, match="the chat template of 'm' does not show calls"):
        check_template(plain)
    check_template(tokenizer)


@pytest.mark.parametrize(
    "name, fits",
    [("qwen2_5", True), ("qwen3", True), ("qwen3_5_think", False), ("gemma4_v5", False), ("llama3_2", False)],
)
def test_a_template_whose_calls_no_reward_would_read_is_refused(tokenizer, name, fits):
    shipped = copy.deepcopy(tokenizer)
    shipped.chat_template, shipped.response_template = getattr(chat_template_utils, f"{name}_chat_template"), None
    if fits:
        check_template(shipped)
    else:
        with pytest.raises(ModelError, match='writes calls in another form than <tool_call>{"name"'):
            check_template(shipped)


@pytest.fixture(scope="module")
def beginner(tmp_path_factory, file, tasks):
    """A nano-size policy that has read the dialogues a few times; its words are those of the file."""
    marks = ["<|tool|>", "<think>", "</think>", "\n<tool_call>\n", "\n</tool_call>", '{"name": "', '", "arguments": {',
             '"', '": "', '": ', '", "', '"}}', "}}", "(", ")", ":", ".", "?", "<unk>"]  # fmt: skip
    words = "call no tool fits How many has Empty into error look pour jar source target beans slowly Ann Bob Eva"
    numbers = [str(number) for number in range(20)]
    tokenizer = word_tokenizer([PAD, END, *ROLES, *marks, *words.split(), *numbers], CHAIN_TEMPLATE)
    tokenizer.response_template = CHAIN_RESPONSE
    profile = get_profile("nano", data="own-turns", data_path=str(file), **ROOM)
    model, talks = build_model(tokenizer), dialogues_of(profile, tasks)
    data = SimpleNamespace(set_aside=[], train=[task.sample for task in tasks.values()])
    taught, prompts, longest = rows_to_teach(data, profile, tokenizer, 0, False, talks)
    assert len(taught) == 3 * 2 + 6 * 3, "a row for each turn and for the end"
    shown = {"prompts": prompts, "max_tokens": longest, "rows_at_once": 8}
    sft_warm_start(model, tokenizer, taught, 60, learning_rate=3e-3, **shown)
    folder = tmp_path_factory.mktemp("policy")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("recipe", ["grpo", "hard_sampling"])
def test_the_stock_trainer_goes_through_its_tool_loop(tmp_path, beginner, file, recipe, capsys):
    small = {"steps": 2, "eval_every": 2, "prompts_per_step": 1, "train_prompts": 4, "eval_prompts": 2}
    profile = get_profile("nano", model=beginner, data="own-turns", data_path=str(file), **small, **ROOM)
    run = train(get_recipe(recipe), profile, 0, tmp_path / "run")
    rows, rollouts = read_log(run), read_jsonl(run / "rollouts.jsonl")
    assert rows[1]["tools/call_frequency"] > 0.1 and {"tools/failure_frequency", "tools/refused"} <= rows[1].keys()
    assert {*rows[-1]["eval"]} >= {"zero_shot", "families", "reasons"}
    talks = [json.loads(text) for group in rollouts for text in group["completions"]]
    assert any([m["role"] for m in talk][:2] == ["assistant", "tool"] for talk in talks)
    # What is left can be asked, turns and all.
    ask = ToolCaller.load(run / "final")
    assert (
        ask.rounds > 1 and "wait for the tool's answer" in json.loads((run / "final/tools.json").read_text())["system"]
    )
    answer = ask("Empty Ann into Bob.", timeout=30)
    assert len(answer.calls) == len(answer.results)
    capsys.readouterr()
    command = ["evaluate", "--profile", "nano", "--model", str(run / "final"), "--data", "own-turns"]
    length = [word for name, size in ROOM.items() for word in ("--profile-set", f"{name}={size}")]
    assert main([*command, "--data-path", str(file), *length]) in (0, None)
    assert {"zero_shot", "reasons"} <= json.loads(capsys.readouterr().out).keys()
