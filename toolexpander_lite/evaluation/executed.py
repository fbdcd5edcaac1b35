"""Executed calls: does what a model writes bring the API world into the right state?

An episode is one task on a fresh copy of the world. The model's completion is parsed, each call is checked
against its schema and run, the results go back as `tool` messages, and the model writes on, until it writes
no more call. A task whose kind is not "chain" takes one completion, as the single-turn rows of training do.
"""

import json
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from jinja2.exceptions import TemplateError

from ..base.chat import CALL_OPEN, THINK_CLOSE
from ..base.chat import render_chat as render
from ..base.files import write_whole
from ..base.intervals import mean
from ..base.strict_json import same_value
from ..method.calls import completion_text, parse_completion, whole_answers
from ..method.prompts import render_messages
from ..method.rewards import judge_and_log
from ..method.samples import tool_name
from ..worlds.api_service import HttpTools, ToolService
from ..worlds.api_world import World, initial_state
from .accuracy import ask_and_judge, by_family, generate, gold_logprobs, shares
from .answer_kinds import answer_kind
from .answers import as_completion

MAX_STEPS = 8  # calls in an episode, our assumption: twice what the longest gold solution needs

EPISODE_REASONS = {
    "ok": "the state, or the answer to a question, is right",
    "unreadable": "a completion holds a call that cannot be read, or is cut",
    "no_call": "the first completion holds no call",
    "unknown_tool": "a call names a tool that is not on offer",
    "bad_arguments": "the arguments of a call are against its schema",
    "tool_error": "a tool refused a call, because there is no such account for example",
    "bad_result": "a tool returned what JSON cannot hold, or too much",
    "timeout": "a call took too long; the episode ends there",
    "step_limit": "the model had not finished when the number of calls was used up",
    "extra_call": "a question of one call was answered with several",
    "wrong_state": "all calls ran, but the state is not the goal",
    "wrong_answer": "all calls ran and the state is right, but the last one does not return the answer",
}


@dataclass
class Episode:
    """One task as a model went through it.

    Attributes:
        id, kind: of the task.
        reason: "ok", or the key of `EPISODE_REASONS` for the first thing that went wrong. In a chain a failed call
            is forgiven when the model goes on and reaches the goal; elsewhere there is no going on, and guesses
            of which the tools refuse all but one must not pass.
        detail: what the reason is about, in words; "" when ok.
        messages: the chat without its first system turn: the request, completions, results of tools.
        calls: what was run: {"name", "arguments", "reason", "error"}, in order.
    """

    id: str
    kind: str
    reason: str = ""
    detail: str = ""
    messages: list = field(default_factory=list)
    calls: list = field(default_factory=list)


class _Running:
    """An episode under way: its chat, its world and what went wrong so far."""

    def __init__(self, task, executor, world, max_steps, timeout, invite):
        self.task, self.executor, self.world = task, executor, world
        self.max_steps, self.timeout = max_steps, timeout
        self.messages = render_messages(task.sample, invite=invite)
        self.calls, self.last_value = [], None
        self.faults = []  # (reason, detail): failed calls, and last of all why the episode was cut
        self.ended = self.cut = False

    def take(self, completion):
        """Read one completion and run its calls."""
        self.messages.append({"role": "assistant", "content": completion})
        parsed = parse_completion(completion, think=False)
        if not parsed.calls:
            return self._without_call(parsed, completion)
        # Calls count whatever stands around them: the judge is the state, not the format.
        for call in parsed.calls:
            if len(self.calls) == self.max_steps:
                return self._cut("step_limit", f"more than {self.max_steps} calls")
            result = self.executor.execute(call, self.timeout)
            self.calls.append({**call, "reason": result.reason, "error": result.error})
            content = result.value if result.ok else {"error": result.error}
            self.messages.append({"role": "tool", "content": json.dumps(content, ensure_ascii=False)})
            self.last_value = result.value
            if result.reason == "timeout":  # it may still be at work, so nothing after it can be trusted
                return self._cut(result.reason, result.error)
            if not result.ok:
                self.faults.append((result.reason, result.error))
        self.ended = self.task.kind != "chain"
        if not self.ended and len(self.calls) == self.max_steps:
            self._cut("step_limit", f"{self.max_steps} calls and not finished")

    def _without_call(self, parsed, completion):
        """A completion from which no call was read: the end, or an attempt at a call that came to nothing."""
        body = completion.partition(THINK_CLOSE)[2] or completion
        attempted = parsed.reason != "no_call" and CALL_OPEN in body
        if attempted or parsed.reason in ("truncated", "too_long"):
            self._cut("unreadable", f"{parsed.reason}: {parsed.detail}")
        elif not self.calls:
            self._cut("no_call", parsed.detail)
        self.ended = True

    def _cut(self, reason, detail):
        self.faults.append((reason, detail))
        self.ended = self.cut = True

    def episode(self):
        """The judgement -> `Episode`."""
        missed = None if self.cut else self._missed()
        forgiven = self.task.kind == "chain" and not self.cut and not missed
        wrong = ([] if forgiven else self.faults) + ([missed] if missed else [])
        reason, detail = wrong[0] if wrong else ("ok", "")
        return Episode(self.task.sample.id, self.task.kind, reason, detail, self.messages[1:], self.calls)

    def _missed(self):
        """None at the goal, else (reason, detail)."""
        state, goal, answer = self.world.state(), self.task.goal, self.task.answer
        if state != goal:
            return "wrong_state", ", ".join(sorted(t for t in {*goal, *state} if state.get(t) != goal.get(t)))
        if answer is None:
            return None
        if self.task.kind == "question" and len(self.calls) > 1:  # trying all names in turn is no answer
            return "extra_call", f"{len(self.calls)} instead of 1"
        if not same_value(self.last_value, answer):
            return "wrong_answer", f"{self.last_value!r:.60} instead of {answer!r:.60}"
        return None


def run_episodes(answer, tasks, http=False, max_steps=MAX_STEPS, timeout=1.0, batch_size=16, invite=False, world=None):
    """Let a model solve tasks, each on a fresh copy of the world -> list of `Episode`, in order.

    Args:
        answer: the model, a function from chats to completions (list of str); a chat is
            {"messages": [{"role", "content"}], "tools": [JSON Schema]}. `model_answers` makes one.
        tasks: `api_tasks.Task`s.
        http: run the calls through a `ToolService` of each episode instead of in this process.
        max_steps: calls in an episode.
        timeout: seconds for each call.
        batch_size: episodes that go on side by side; so many chats at most are given to `answer`.
        invite: the system turn invites an example of its own, as recipes with a bonus do in training.
        world: function of a task: what it is run on, with `tools` and `state()`; None is the API world.
    """
    episodes = []
    for start in range(0, len(tasks), batch_size):
        with ExitStack() as stack:
            running = []
            for task in tasks[start : start + batch_size]:
                offered = [tool_name(tool) for tool in task.sample.tools]
                place = world(task) if world else stack.enter_context(World(task.seed, offered, task.start))
                executor = place.tools
                if http:
                    executor = HttpTools(stack.enter_context(ToolService(place.tools, timeout)).port)
                running.append(_Running(task, executor, place, max_steps, timeout, invite))
            while open_ones := [r for r in running if not r.ended]:
                chats = [{"messages": list(r.messages), "tools": r.task.sample.tools} for r in open_ones]
                for one, completion in zip(open_ones, answer(chats), strict=True):
                    one.take(completion)
            episodes += [one.episode() for one in running]
    return episodes


def summarize(episodes):
    """Counts of episodes -> {"tasks", "solved", "success", "reasons": {code: count}, "kinds": {kind: the same}}.

    "earned" says what the solved ones were solved by, {kind of answer: count}, see `earned_by_episode`.
    """
    result = _counts(episodes)
    kinds = dict.fromkeys(episode.kind for episode in episodes)
    return result | {"kinds": {kind: _counts([e for e in episodes if e.kind == kind]) for kind in kinds}}


def _counts(episodes):
    reasons = Counter(episode.reason for episode in episodes)
    success = reasons["ok"] / len(episodes) if episodes else None
    earned = Counter(earned_by_episode(asdict(e)) for e in episodes if e.reason == "ok")
    return {
        "tasks": len(episodes), "solved": reasons["ok"], "success": success, "reasons": dict(reasons.most_common()),
        "earned": dict(earned),
    }  # fmt: skip


def earned_by_episode(episode):
    """A solved episode, as a dict -> "called" if a call of it ran, else the kind of its last completion.

    Nothing but calls can solve the tasks that ship with the kit; a task whose goal is the state it begins with could be
    solved by doing nothing, or by calls that were all refused.
    """
    ran = any(call["reason"] == "ok" for call in episode["calls"])
    said = [m["content"] for m in episode["messages"] if m["role"] == "assistant"]
    return "called" if ran or not said else answer_kind(said[-1])


def write_episodes(episodes, file):
    """The episodes as JSONL, whole or not at all, so that their counts can be made again from the file."""
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, "".join(json.dumps(asdict(e)) + "\n" for e in episodes))


def model_answers(model, tokenizer, max_new_tokens, batch_size=16):
    """The greedy completions of a model, as `run_episodes` wants them.

    Args:
        max_new_tokens: cap per completion, in tokens.
        batch_size: chats per forward pass.
    """

    def answer(chats):
        prompts = [render_chat(chat, tokenizer) for chat in chats]
        return generate(model, tokenizer, prompts, max_new_tokens, batch_size=batch_size)

    return answer


def render_chat(chat, tokenizer):
    """A chat that may hold `tool` messages -> the prompt (str), up to the opening of the assistant's turn.

    Where the template refuses the role `tool` or leaves such messages out, they become a user turn with the
    results in <tool_response> tags, which is what the templates of Qwen2.5 and Hermes make of them.
    """
    messages = chat["messages"]
    if any(m["role"] == "tool" for m in messages) and not _shows_tool_role(tokenizer):
        messages = _as_user_turns(messages)
    return render(messages, chat["tools"], tokenizer)


def _shows_tool_role(tokenizer):
    turns = [("user", "q"), ("assistant", "a"), ("tool", "probe_result"), ("tool", "probe_second")]
    try:
        text = tokenizer.apply_chat_template([{"role": r, "content": c} for r, c in turns], tokenize=False)
    except (TemplateError, ValueError, TypeError, KeyError):
        return False
    return "probe_result" in text and "probe_second" in text


def _as_user_turns(messages):
    """Neighbouring results share one turn: some templates want user and assistant in turns."""
    result = []
    for message in messages:
        if message["role"] != "tool":
            result.append(message)
            continue
        content = f"<tool_response>\n{message['content']}\n</tool_response>"
        if result[-1]["role"] == "user":
            content = result.pop()["content"] + "\n" + content
        result.append({"role": "user", "content": content})
    return result


DONE = "<think>done</think>"  # of the solvers below, which have no weights; their skill is known, so they test judges


def solver(tasks, turns_of):
    """A model for `executed.run_episodes` that writes `turns_of(task)`, one list of calls per turn, and then is done.

    It knows a task by its request, so no two of `tasks` may have the same.
    """
    script = {task.sample.messages[-1]["content"]: turns_of(task) for task in tasks}

    def answer(chats):
        turns = [script[next(m["content"] for m in c["messages"] if m["role"] == "user")] for c in chats]
        said = [sum(m["role"] == "assistant" for m in c["messages"]) for c in chats]
        return [as_completion(t[n]) if n < len(t) else DONE for t, n in zip(turns, said)]

    return answer


def state_changes(before, after):
    """What differs between two states of the world, in words -> str."""
    keys = [(table, key) for table in before for key in before[table] | after[table]]
    rows = [(key, before[table].get(key), after[table].get(key)) for table, key in keys]
    return "; ".join(f"{key}: {old} → {new}" for key, old, new in rows if old != new) or "nothing"


class ExecutedReward:
    """A reward function for `trl.GRPOTrainer`: 1 if the format is right and the calls, once run, bring it about.

    A tool that fails by its own fault (it took too long, or returned what JSON cannot hold) says nothing about the
    call: that answer is compared with the gold calls instead, and counted in the metric "executed/tool_faults". Where
    no call is right, there is nothing to execute, and `calls.judge` says whether the answer abstains.

    Args:
        tasks: {sample id: `api_tasks.Task`} of all rows.
        think: as in `calls.judge`.
        timeout: seconds for each call.
    """

    TOOL_FAULTS = ("timeout", "bad_result")
    NOTHING_TO_RUN = "nothing_to_run"  # no call is right
    __name__ = "executed_reward"

    def __init__(self, tasks, think=True, timeout=10.0):
        self.tasks, self.think, self.timeout = tasks, think, timeout

    def __call__(self, prompts, completions, calls, tools, sample_id, log_metric=None, **columns):
        texts = [completion_text(text) for text in whole_answers(prompts, completions)]
        verdicts = judge_and_log(texts, calls, tools, log_metric, self.think)
        outcomes, faults = self.outcomes(list(zip(sample_id, texts))), 0
        rewards = []
        for verdict, outcome in zip(verdicts, outcomes):
            faults += (fault := outcome in self.TOOL_FAULTS)
            by_judge = fault or outcome == self.NOTHING_TO_RUN
            rewards.append(float(verdict.format_ok and (verdict.call_ok if by_judge else outcome == "ok")))
        if log_metric is not None:
            log_metric("executed/tool_faults", faults / len(texts))
        return rewards

    def outcomes(self, answers):
        """[(sample id, answer)] -> keys of `EPISODE_REASONS`, each answer run in a world of its own."""
        distinct = [answer for answer in dict.fromkeys(answers) if self.tasks[answer[0]].sample.calls]
        tasks, texts = [self.tasks[id] for id, _ in distinct], iter([text for _, text in distinct])
        ran = run_episodes(lambda chats: [next(texts) for _ in chats], tasks, timeout=self.timeout)
        found = {answer: episode.reason for answer, episode in zip(distinct, ran)}
        return [found.get(answer, self.NOTHING_TO_RUN) for answer in answers]


def evaluate_requests(model, tokenizer, data, max_new_tokens, invite=False):
    """The numbers of an evaluation on `worlds.request_world`, as run logs hold them -> dict.

    "zero_shot" is the share of held-out requests whose answer has the right format and, executed, brings about what
    was asked; "zero_shot_hard" the same for those of held-out tools, where there are any. "format_rate" and
    "gold_logprob" (mean natural log of the gold answer's probability) are of the held-out requests, "families" (by
    tool) and "reasons" (of the judge of calls) of each.

    Args:
        data: `splits.Splits`.
        max_new_tokens, invite: as in `accuracy.evaluate`.
    """
    result, run = {}, ExecutedReward(data.tasks)
    for samples, key in ((data.held_out, "zero_shot"), (data.unseen, "zero_shot_hard")):
        if not samples:
            continue
        _, texts, verdicts = ask_and_judge(model, tokenizer, samples, max_new_tokens, invite=invite)
        outcomes = run.outcomes([(s.id, text) for s, text in zip(samples, texts)])
        right = [v.format_ok and outcome == "ok" for v, outcome in zip(verdicts, outcomes)]
        suffix = key.removeprefix("zero_shot")
        result[key] = mean(right)
        result["families"] = result.get("families", {}) | by_family(samples, right)
        result[f"reasons{suffix}"] = shares(v.reason for v in verdicts)
        result[f"format_rate{suffix}"] = mean(v.format_ok for v in verdicts)
        result[f"gold_logprob{suffix}"] = gold_logprobs(model, tokenizer, samples, invite=invite).mean().item()
    return result


def evaluate_dialogues(model, tokenizer, data, max_new_tokens, asked):
    """The numbers of an evaluation on rows of several turns, as run logs hold them -> dict: greedy, without examples.

    "zero_shot", "zero_shot_hard" and "zero_shot_easy": shares of held-out requests that end at their goal, all and by
    `data.hard_families` (where there are any); "families" and "reasons" (of `EPISODE_REASONS`).

    Args:
        data: `splits.Splits`.
        max_new_tokens: of each turn.
        asked: what `run_episodes` is told beside: `training.dialogues.Dialogues.episodes`.
    """
    tasks = [data.tasks[sample.id] for sample in data.held_out]
    answer = model_answers(model, tokenizer, max_new_tokens, batch_size=64)
    episodes = run_episodes(answer, tasks, batch_size=64, **asked)
    families = {}
    for sample, episode in zip(data.held_out, episodes):
        families.setdefault(sample.family, []).append(episode.reason == "ok")
    hard, easy = ([ok for name, found in families.items() if (name in data.hard_families) == wanted for ok in found]
                  for wanted in (True, False))  # fmt: skip
    parts = {"zero_shot_hard": hard, "zero_shot_easy": easy} if data.hard_families else {}
    return {
        "zero_shot": mean(hard + easy), **{name: mean(found) if found else None for name, found in parts.items()},
        "families": {name: mean(found) for name, found in families.items()},
        "reasons": shares(episode.reason for episode in episodes),
    }  # fmt: skip


def step_by_step(task, turns):
    """Run the calls of `turns` on a fresh world of `task` -> rows {"step", "what", "state"}: request, calls, answers.

    The last row judges by the state alone, as for a task that asks for a change.
    """
    start = initial_state(task.seed)
    goal = "goal: " + state_changes(start, task.goal)
    rows = [{"step": "asked", "what": task.sample.messages[-1]["content"], "state": goal}]
    with World(task.seed, [tool_name(tool) for tool in task.sample.tools]) as world:
        for call in (call for turn in turns for call in turn):
            before, result = world.state(), world.tools.execute(call, timeout=60)
            rows.append({"step": "call", "what": json.dumps(call, ensure_ascii=False), "state": ""})
            said = json.dumps(result.value, ensure_ascii=False) if result.ok else result.error
            changed = "changed: " + state_changes(before, world.state())
            rows.append({"step": "answer" if result.ok else "refused", "what": said, "state": changed})
        verdict, since = world.state() == task.goal, "since the start: " + state_changes(start, world.state())
    return [*rows, {"step": "judged", "what": "right" if verdict else "wrong", "state": since}]
