"""Episodes: right calls reach the goal, anything else does not and says why."""

import copy
import json
import re
import threading
from collections import Counter
from dataclasses import replace

import pytest
from transformers import AutoTokenizer

from toolexpander_lite.__main__ import main
from toolexpander_lite.evaluation.answers import as_completion, write_answers
from toolexpander_lite.evaluation.api_bank import score_api_bank
from toolexpander_lite.evaluation.executed import (
    EPISODE_REASONS,
    earned_by_episode,
    model_answers,
    render_chat,
    run_episodes,
    solver,
    state_changes,
    step_by_step,
    summarize,
    write_episodes,
)
from toolexpander_lite.method.calls import MAX_CHARS, judge, parse_completion
from toolexpander_lite.method.prompts import INVITATION, gold_completion, render_prompt
from toolexpander_lite.models.files import NANO_CHECKPOINTS
from toolexpander_lite.models.policy import load_policy
from toolexpander_lite.models.templates import TOOL_TEMPLATE
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.worlds.api_tasks import api_tasks
from toolexpander_lite.worlds.api_world import DAYS, OWNERS, UNITS, World, initial_state

PATIENT = {"timeout": 60}  # where no time limit is tested, a busy machine must not meet one
DONE = "<think>done</think>"
TASKS = {task.sample.id.split("-")[1]: task for task in api_tasks(per_family=1)}  # one of each family


def text(*calls):
    blocks = (f"<tool_call>{json.dumps(call, ensure_ascii=False)}</tool_call>" for call in calls)
    return "<think>call</think>" + "".join(blocks)


def call(name, **arguments):
    return {"name": name, "arguments": arguments}


def script(*completions):
    """A model that writes these completions, one per turn, whatever it is asked; after them it is done."""

    def answer(chats):
        turns = [sum(m["role"] == "assistant" for m in chat["messages"]) for chat in chats]
        return [completions[turn] if turn < len(completions) else DONE for turn in turns]

    return answer


def gold_script(task, turns=None):
    turns = task.turns if turns is None else turns
    return script(*(gold_completion(replace(task.sample, calls=turn)) for turn in turns))


def play(task, answer, **options):
    [episode] = run_episodes(answer, [task], **(PATIENT | options))
    return episode


@pytest.mark.parametrize("http", [False, True])
def test_gold_episodes_succeed_on_every_task(http):
    tasks = api_tasks() if not http else list(TASKS.values())
    gold = {task.sample.messages[-1]["content"]: gold_script(task) for task in tasks}

    def answer(chats):
        requests = [next(m["content"] for m in chat["messages"] if m["role"] == "user") for chat in chats]
        return [gold[request]([chat])[0] for request, chat in zip(requests, chats)]

    episodes = run_episodes(answer, tasks, http, **PATIENT)
    assert [(e.id, e.reason, e.detail) for e in episodes] == [(t.sample.id, "ok", "") for t in tasks]
    assert [len(e.calls) for e in episodes] == [sum(map(len, t.turns)) for t in tasks]


def wrong_values(value):
    """(another value, the reasons that may be given for it); None: the kind of miss depends on the tool."""
    if isinstance(value, str):
        yield from ((other, None) for other in (value + "x", value.upper() + "!"))
        for known in (DAYS, OWNERS, list(UNITS)):
            yield from ((other, None) for other in known if other != value and value in known)
        yield 7, {"bad_arguments"}
    else:
        yield value + 1, None
        yield -value, {"bad_arguments"}
        yield str(value), {"bad_arguments"}
    yield None, {"bad_arguments"}


def mutations(arguments):
    """Every argument of a call made wrong, left out, and one too many -> (arguments, reasons)."""
    for name, value in arguments.items():
        for other, reasons in wrong_values(value):
            yield arguments | {name: other}, reasons
        yield {k: v for k, v in arguments.items() if k != name}, {"bad_arguments"}
    yield arguments | {"note": "please"}, {"bad_arguments"}


@pytest.mark.parametrize("family", TASKS)
def test_every_wrong_argument_fails(family):
    task = TASKS[family]
    missed = {"tool_error", "bad_arguments", "wrong_answer" if task.answer else "wrong_state"}
    for place, gold in enumerate(task.turns[-1]):
        for arguments, reasons in mutations(gold["arguments"]):
            turns = copy.deepcopy(task.turns)
            turns[-1][place]["arguments"] = arguments
            episode = play(task, gold_script(task, turns))
            assert episode.reason in (reasons or missed), (arguments, episode)


@pytest.mark.parametrize("family", TASKS)
def test_half_a_solution_and_a_solution_twice_fail(family):
    task = TASKS[family]
    half = [*task.turns[:-1], task.turns[-1][:-1]]
    missed = "wrong_answer" if task.answer else "wrong_state"
    if len(task.turns) > 1 or half[-1]:
        assert play(task, gold_script(task, [turn for turn in half if turn])).reason == missed
    last = task.turns[-1][-1]
    twice = play(task, gold_script(task, [*task.turns[:-1], task.turns[-1] + [last]]))
    if task.kind != "chain":
        assert twice.reason in ({"extra_call"} if task.kind == "question" else {"wrong_state", "tool_error"})
    else:  # the tool refuses to do it again, or only reads; one call can be done again, and must not be
        assert twice.reason == ("wrong_state" if last["name"] == "restock_item" else "ok")


DEPOSIT = TASKS["deposit"]
RIGHT = DEPOSIT.turns[0][0]["arguments"]


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        ("", "no_call"),
        ("I cannot do that.", "no_call"),
        (DONE, "no_call"),
        (f"<think>like {text(DEPOSIT.turns[0][0])[19:]}?</think>", "no_call"),
        ("<think>never closed", "unreadable"),
        ("<think>t</think><tool_call>{", "unreadable"),
        ("<think>t</think><tool_call>deposit_money(owner='Zoë')</tool_call>", "unreadable"),
        ("<think>t</think><tool_call>__import__('os').system('true')</tool_call>", "unreadable"),
        (text(call("deposit_money", owner="Zoë", amount=float("nan"))), "unreadable"),
        (text(call("deposit_money", owner="Zoë", amount=float("inf"))), "unreadable"),
        (text(*DEPOSIT.turns[0]) + "<tool_call>{}</tool_call>", "unreadable"),
        ("x" * (MAX_CHARS + 1), "unreadable"),
        ("<tool_call>" * 1000, "unreadable"),
        (text(call("deposit_money", owner="Zoë", amount=json.loads("[" * 40 + "]" * 40))), "unreadable"),
        (text(call("drop_tables")), "unknown_tool"),
        (text(call("__init__")), "unknown_tool"),
        (text(call("../deposit_money", **RIGHT)), "unknown_tool"),
        (text(call("deposit_money\n", **RIGHT)), "unknown_tool"),
        (text(call("deposit_money", owner="Zoë", amount=-50)), "bad_arguments"),
        (text(call("deposit_money", owner="Zoë", amount="50; DROP TABLE accounts")), "bad_arguments"),
        (text(call("deposit_money", owner="Zoë", amount=10**300)), "bad_arguments"),
        (text(call("deposit_money", owner="Z" * 15_000, amount=5)), "bad_arguments"),
        (text(call("deposit_money", owner={"$ne": ""}, amount=5)), "bad_arguments"),
        (text(call("deposit_money", owner="Zoë", amount=5, self="x")), "bad_arguments"),
        (text(call("deposit_money", owner="Zoë' OR 1=1; --", amount=5)), "tool_error"),
        (text(call("deposit_money", owner="'; DROP TABLE accounts; --", amount=5)), "tool_error"),
        (text(call("deposit_money", owner="Zoe\u0308", amount=5)), "tool_error"),
        (text(call("deposit_money", owner="\u0000", amount=5)), "tool_error"),
        (text(call("deposit_money", owner="小明", amount=5)), "tool_error"),
        (text(call("deposit_money", owner="", amount=5)), "tool_error"),
        (text(*[call("get_balance", owner="Bob")] * 9), None),
    ],
)
def test_hostile_outputs_leave_the_state_and_get_a_reason(completion, reason):
    episodes = [play(DEPOSIT, script(completion), http=http) for http in (False, True)]
    assert episodes[0] == episodes[1]
    if reason is not None:
        assert episodes[0].reason == reason
    assert episodes[0].reason in EPISODE_REASONS.keys() - {"ok"}
    json.dumps([episode.__dict__ for episode in episodes], allow_nan=False).encode()
    with World(DEPOSIT.seed) as world:  # with all tools, which is more than the task offers
        world.tools.execute_calls(parse_completion(completion).calls, timeout=60)
        assert world.state() == initial_state(DEPOSIT.seed)


def test_a_title_that_looks_like_sql_is_stored_as_text():
    title = "'); DELETE FROM events; --"
    task = TASKS["new_event"]
    arguments = task.turns[0][0]["arguments"]
    hostile = script(text(call("add_event", **arguments | {"title": title})))
    assert play(task, hostile).reason == "wrong_state"
    goal = copy.deepcopy(initial_state(0))
    goal["events"][title] = [arguments["day"], arguments["hour"]]
    assert play(replace(task, goal=goal), hostile).reason == "ok"


def test_calls_count_whatever_stands_around_them():
    blocks = text(*DEPOSIT.turns[0])
    assert play(DEPOSIT, script(blocks.removeprefix("<think>call</think>"))).reason == "ok"
    assert play(DEPOSIT, script(blocks + " That should do.")).reason == "ok"


def test_a_task_that_is_no_chain_takes_one_completion():
    asked = []

    def answer(chats):
        asked.append(len(chats))
        return [text(call("deposit_money", owner="nobody", amount=1))] * len(chats)

    assert play(DEPOSIT, answer).reason == "tool_error"
    assert asked == [1]


def test_in_a_chain_a_failed_call_is_told_and_forgiven():
    task = TASKS["emptied_account"]
    seen = []

    def answer(chats):
        seen.append(chats[0]["messages"][-1])
        return script(text(call("get_balance", owner="Nobody")), *map(lambda turn: text(*turn), task.turns))(chats)

    episode = play(task, answer)
    assert episode.reason == "ok"
    assert [c["reason"] for c in episode.calls] == ["tool_error", "ok", "ok"]
    assert seen[1]["role"] == "tool" and "there is no 'Nobody'" in json.loads(seen[1]["content"])["error"]
    assert json.loads(seen[2]["content"]) == {
        "owner": task.turns[1][0]["arguments"]["sender"],
        "balance": task.turns[1][0]["arguments"]["amount"],
    }
    assert [m["role"] for m in episode.messages] == ["user", *["assistant", "tool"] * 3, "assistant"]


def test_the_first_fault_is_the_reason_when_the_goal_is_missed():
    task = TASKS["emptied_account"]
    faults = text(call("nothing")), text(call("get_balance", owner="Nobody"))
    assert play(task, script(*faults)).reason == "unknown_tool"
    assert play(task, script(text(*task.turns[0]))).reason == "wrong_state"
    garbage = [text(*turn) for turn in task.turns] + ["<think>t</think><tool_call>{"]
    assert play(task, script(*garbage)).reason == "unreadable"


def test_the_step_limit_ends_an_episode():
    task = TASKS["emptied_account"]
    balance = text(*task.turns[0])
    episode = play(task, script(*[balance] * 100))
    assert (episode.reason, len(episode.calls)) == ("step_limit", 8)
    assert play(task, script(balance, balance, text(*task.turns[1])), max_steps=3).reason == "step_limit"
    assert play(task, script(balance, text(*task.turns[1])), max_steps=3).reason == "ok"
    many = play(DEPOSIT, script(text(*DEPOSIT.turns[0] * 30)))
    assert (many.reason, len(many.calls)) == ("step_limit", 8)


@pytest.mark.parametrize("http", [False, True])
def test_a_hanging_tool_ends_the_episode(monkeypatch, http):
    release = threading.Event()
    monkeypatch.setattr(World, "deposit_money", lambda self, owner, amount: release.wait(30))
    try:
        episode = play(DEPOSIT, script(text(*DEPOSIT.turns[0], *DEPOSIT.turns[0])), http=http, timeout=0.2)
        assert (episode.reason, episode.detail) == ("timeout", "timeout: no result after 0.2 s")
        assert len(episode.calls) == 1
    finally:
        release.set()


def test_episodes_do_not_share_a_world():
    episodes = run_episodes(gold_script(DEPOSIT), [DEPOSIT] * 5, batch_size=2, **PATIENT)
    assert [e.reason for e in episodes] == ["ok"] * 5


def rule_policy(chats):
    """A baseline that reads nothing but the chat: balances, and emptying an account by what the tool answered."""
    answers = []
    for chat in chats:
        request = next(m["content"] for m in chat["messages"] if m["role"] == "user")
        owners = [word for word in re.findall(r"\w+", request) if word in OWNERS]
        if "get_balance" not in {tool["function"]["name"] for tool in chat["tools"]} or not owners:
            answers.append(DONE)
        elif chat["messages"][-1]["role"] == "user":
            answers.append(text(call("get_balance", owner=owners[0])))
        else:
            answer = json.loads(chat["messages"][-1]["content"])
            moved = "balance" in answer
            done = call("transfer_money", sender=owners[0], receiver=owners[1], amount=answer.get("balance"))
            answers.append(text(done) if moved else DONE)
    return answers


def test_a_policy_by_rules_solves_what_its_rules_cover():
    tasks = [task for family in ("balance", "emptied_account", "conversion")
             for task in api_tasks() if task.sample.id.startswith(f"api-{family}-")]  # fmt: skip
    summary = summarize(run_episodes(rule_policy, tasks, **PATIENT))
    assert (summary["tasks"], summary["solved"], summary["success"]) == (12, 8, pytest.approx(2 / 3))
    assert summary["reasons"] == {"ok": 8, "no_call": 4}
    four = {"solved": 4, "earned": {"called": 4}}
    assert summary["kinds"]["chain"] == {"tasks": 4, "success": 1.0, "reasons": {"ok": 4}, **four}
    assert summary["kinds"]["question"] == {"tasks": 8, "success": 0.5, "reasons": {"ok": 4, "no_call": 4}, **four}


def test_a_task_solved_by_doing_nothing_is_told_apart():
    """No task of the kit is; one whose goal is the state it begins with would be."""
    calm = {"calls": [{"reason": "tool_error"}], "messages": [{"role": "assistant", "content": "<think>done</think>"}]}
    assert earned_by_episode(calm) == "abstained"
    assert earned_by_episode(calm | {"calls": [{"reason": "tool_error"}, {"reason": "ok"}]}) == "called"


def test_guesses_that_the_tools_refuse_do_not_pass():
    task = TASKS["cancelled_event"]
    guess = call("cancel_event", title="school visit")  # not in the calendar, so the state stays right
    assert play(task, script(text(guess, *task.turns[0]))).reason == "tool_error"


def test_trying_all_names_is_no_answer():
    task = TASKS["balance"]
    everyone = [call("get_balance", owner=owner) for owner in OWNERS if owner != task.answer["owner"]]
    assert play(task, script(text(*everyone, *task.turns[0]))).reason == "extra_call"


def test_the_invitation_stands_in_the_system_turn_of_every_chat():
    seen = []
    for invite in (False, True):
        run_episodes(lambda chats: seen.extend(chats) or [DONE] * len(chats), list(TASKS.values()), invite=invite)
    plain, invited = seen[: len(TASKS)], seen[len(TASKS) :]
    assert all(INVITATION in chat["messages"][0]["content"] for chat in invited)
    assert not any(INVITATION in chat["messages"][0]["content"] for chat in plain)
    assert [chat["messages"][1:] for chat in plain] == [chat["messages"][1:] for chat in invited]


def test_no_tasks_no_rate():
    assert summarize(run_episodes(script(), [])) == {
        "tasks": 0, "solved": 0, "success": None, "reasons": {}, "earned": {}, "kinds": {},
    }  # fmt: skip


CHAT = {
    "messages": [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": "A"},
        {"role": "tool", "content": '{"x": 1}'},
        {"role": "tool", "content": '{"x": 2}'},
    ],
    "tools": DEPOSIT.sample.tools,
}
TURN = "[{{ m.role }}]{{ m.content }}"
STRICT = (  # as of Llama 2 or Gemma, which know user and assistant only
    "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no such role') }}{% endif %}"
    + TURN
    + "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
SILENT = STRICT.replace("== 'tool'", "!= 'tool'").replace("{{ raise_exception('no such role') }}{% endif %}" + TURN,
                                                          TURN + "{% endif %}")  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(NANO_CHECKPOINTS["nano"])


def test_results_go_through_the_templates_own_tool_role(tokenizer):
    tokenizer.chat_template = TOOL_TEMPLATE
    prompt = render_chat(CHAT, tokenizer)
    assert prompt.endswith(
        "<|im_start|>assistant\nA<|im_end|>\n"
        '<|im_start|>user\n<tool_response>\n{"x": 1}\n</tool_response><|im_end|>\n'
        '<|im_start|>user\n<tool_response>\n{"x": 2}\n</tool_response><|im_end|>\n'
        "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("template", [STRICT, SILENT])
def test_results_become_a_user_turn_where_the_template_has_no_tool_role(tokenizer, template):
    tokenizer.chat_template = template
    before = copy.deepcopy(CHAT)
    assert render_chat(CHAT, tokenizer) == (
        '[system]S[user]Q[assistant]A[user]<tool_response>\n{"x": 1}\n</tool_response>\n'
        '<tool_response>\n{"x": 2}\n</tool_response>[assistant]'
    )
    assert CHAT == before


def test_the_first_prompt_is_the_one_of_training(tokenizer):
    tokenizer.chat_template = TOOL_TEMPLATE
    seen = []
    for task in TASKS.values():
        play(task, lambda chats: seen.append(render_chat(chats[0], tokenizer)) or [""])
    assert seen == [render_prompt(task.sample, tokenizer) for task in TASKS.values()]


def test_a_model_is_taken_through_episodes(tmp_path, capsys):
    model, tokenizer = load_policy(get_profile("nano"))
    episodes = run_episodes(model_answers(model, tokenizer, 8), list(TASKS.values())[:3], **PATIENT)
    assert all(e.reason in EPISODE_REASONS.keys() - {"ok"} for e in episodes)
    command = ["executed", "--profile", "nano", "--limit", "3", "--http", "--out", str(tmp_path / "new" / "log.jsonl")]
    assert main(command) == 0
    summary = json.loads(capsys.readouterr().out)
    rows = [json.loads(line) for line in (tmp_path / "new" / "log.jsonl").read_text("utf-8").splitlines()]
    assert [row["id"] for row in rows] == [task.sample.id for task in api_tasks(limit=3)]
    assert summary["tasks"] == 3 and summary["reasons"] == dict(Counter(row["reason"] for row in rows))
    assert main(["executed", "--limit", "0"]) == 2
    assert "error: limit is 0" in capsys.readouterr().err


def test_a_file_that_cannot_be_had_is_refused_before_the_model_is_loaded(tmp_path, capsys, monkeypatch):
    policy = "toolexpander_lite.models.policy.load_policy"
    monkeypatch.setattr(policy, lambda *a, **o: pytest.fail("the model was loaded"))
    (tmp_path / "old.jsonl").write_text("precious")
    for name, words in [
        ("old.jsonl", "old.jsonl is there already and would be overwritten; choose another file"),
        ("", "is a folder; give --out a file in it"),
        ("old.jsonl/new.jsonl", f"cannot write to {tmp_path / 'old.jsonl'}"),
    ]:
        assert main(["executed", "--profile", "nano", "--limit", "1", "--out", str(tmp_path / name)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and words in error and error.count("\n") == 1
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("old.jsonl", "precious")]


def test_episodes_are_written_whole_and_non_ascii_survives(tmp_path):
    file = tmp_path / "log.jsonl"
    write_episodes([play(DEPOSIT, gold_script(DEPOSIT))], file)
    write_episodes([play(TASKS["balance"], gold_script(TASKS["balance"]))], file)
    [row] = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert row["id"] == TASKS["balance"].sample.id and row["reason"] == "ok"
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_a_solver_writes_its_turns_and_is_done():
    tasks = list(TASKS.values())
    gold = run_episodes(solver(tasks, lambda task: task.turns), tasks, timeout=60)
    assert [e.reason for e in gold] == ["ok"] * len(tasks)
    silent = run_episodes(solver(tasks, lambda task: []), tasks, timeout=60)
    assert {e.reason for e in silent} == {"no_call"}


def test_step_by_step_tells_calls_answers_and_the_judgement():
    task = next(t for t in TASKS.values() if t.kind == "change")
    asked, call, answer, judged = step_by_step(task, task.turns)
    assert (asked["step"], call["step"], answer["step"], judged["what"]) == ("asked", "call", "answer", "right")
    assert asked["state"].removeprefix("goal: ") == judged["state"].removeprefix("since the start: ") != "nothing"
    *_, refused, judged = step_by_step(task, [[{"name": "rob_bank", "arguments": {}}]])
    assert (refused["step"], judged["what"]) == ("refused", "wrong") and "rob_bank" in refused["what"]
    assert judged["state"] == "since the start: nothing"


def test_changes_of_a_state_are_named():
    before = {"accounts": {"Bob": 5, "Zoë": 1}, "stock": {}}
    after = {"accounts": {"Bob": 7, "Zoë": 1}, "stock": {"rice": [1, 2]}}
    assert state_changes(before, after) == "Bob: 5 → 7; rice: None → [1, 2]"
    assert state_changes(before, before) == "nothing"


def test_written_answers_are_scored(tmp_path):
    sample = next(t for t in TASKS.values() if t.kind == "change").sample
    assert judge(as_completion(sample.calls), sample.calls, sample.tools).reason == "ok"
    write_answers(tmp_path / "new" / "a.jsonl", [(sample, as_completion(sample.calls))])
    [scores] = score_api_bank([sample], tmp_path / "new" / "a.jsonl").values()
    assert (scores["correct"], scores["answered"], scores["well_formed"]) == (1, 1, 1.0)
