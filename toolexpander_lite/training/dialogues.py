"""Rows of several turns, through TRL's own tool loop: demonstrations are whole dialogues, and the world is the judge.

What TRL 1.16 does there, and what is done about it:

    tool tokens are not in `completions/mean_length`        in `completion_tokens` they are, and in rollouts.jsonl
    a call cut before its closing tag is executed           it was not written: reward 0, "not_as_written"
    "7" becomes 7 by the tool's signature                   likewise: the tokens themselves are read
    a result without room is dropped, as a success          "no_room", in the metric `tools/no_room`
    an error reaches the model as Python text               the environments answer in JSON and raise nothing
"""

from collections.abc import Callable
from functools import partial
from itertools import groupby
from types import SimpleNamespace
from typing import NamedTuple

from trl.chat_template_utils import add_response_schema, supports_tool_calling

from ..base.chat import CALL_CLOSE, CALL_OPEN
from ..base.errors import ModelError, SettingsError
from ..base.strict_json import same_value
from ..data.own_tools import pack_tools
from ..data.own_turns import OWN, own_environment, own_images, own_world, solved_dialogue
from ..method.calls import parse_completion
from ..method.hard_sampling import PromptServer
from ..method.prompts import render_messages, wants_think
from ..method.samples import training_columns
from ..worlds.api_tasks import CHAIN_PROMPT
from ..worlds.chain_world import ChainEnvironment, dialogue

DIALOGUES = ("chains", "own-turns")  # data whose rows take several turns
TURNS = 4  # rounds of calls in a rollout (our assumption: twice what a chain needs)


def check_dialogues(recipe, profile):
    """Refuse what rows of several turns cannot have.

    Raises:
        SettingsError: a scan, an invitation, supervised training, context distillation or a rule of another paper; or
            fewer tools than there are, for TRL offers all.
    """
    if profile.data in DIALOGUES and (profile.max_tools or profile.held_out_max_tools):
        raise SettingsError(f"data {profile.data!r} offers all tools in every prompt; set max_tools=0 and "
                            "held_out_max_tools=0")  # fmt: skip
    if profile.data in DIALOGUES and (
        recipe.hard_samples not in ("keep", "demonstrate") or recipe.scan_rollouts or recipe.supervised
        or recipe.invite or recipe.examples_needed or recipe.distil_weight or recipe.demo_source in ("own", "corrupted")
    ):  # fmt: skip
        raise SettingsError(
            f"recipe {recipe.name!r} does not serve rows of several turns (data {profile.data!r}); grpo and "
            "hard_sampling do"
        )


class Dialogues(NamedTuple):
    """What one kind of rows of several turns is made of, see `dialogues_of`.

    Attributes:
        tasks: {sample id: `api_tasks.Task`} of all rows.
        environment: function that makes an environment for `GRPOTrainer`; it has `calls` and `_at_goal(task)`.
        opened: sample -> the messages it is asked with.
        solved: task -> the messages of its solution, from the request on.
        episodes: what `evaluation.executed.run_episodes` is told beside, a dict.
        images: {sample id: path} of rows with a picture.
    """

    tasks: dict
    environment: Callable
    opened: Callable
    solved: Callable
    episodes: dict
    images: dict = {}


def dialogues_of(profile, tasks, style="think"):
    """The `Dialogues` of a profile's data, None for data of single turns; `style`: of prompts on own tools."""
    if profile.data == "chains":
        opened = (lambda sample: sample.messages), dialogue, {"invite": "native"}
        return Dialogues(tasks, lambda: ChainEnvironment(tasks), *opened)
    if profile.data == "own-turns":
        file, think = profile.data_path, wants_think(style)
        world = {"invite": style, "world": lambda task: own_world(file)}
        shown = partial(render_messages, invite=style), partial(solved_dialogue, file=file, think=think)
        images = own_images(file, [task.sample for task in tasks.values()])
        return Dialogues(tasks, partial(own_environment(file), file, images), *shown, world, images)
    return None


def check_template(tokenizer, images=()):
    """Refuse a model whose chat template TRL's tool loop cannot use.

    Raises:
        ModelError: rows have pictures, which the kit's own models do not see; calls or results do not show in it;
            nothing is known of how to read calls out of an answer; or they are not the JSON that `DialogueReward` reads
            (TRL runs the calls of Gemma 4, Llama 3 and Qwen3.5 as well, and every reward would be 0).
    """
    if images:
        raise ModelError(f"{len(images)} rows have a picture, and `train` loads models that read text; see "
                         "docs/use-in-trl.md for a model that sees")  # fmt: skip
    try:
        if not supports_tool_calling(tokenizer):
            why = "does not show calls and their results"
        elif not _written_as_read(tokenizer):
            why = f'writes calls in another form than {CALL_OPEN}{{"name": ..., "arguments": ...}}{CALL_CLOSE}'
        else:
            return getattr(tokenizer, "response_template", None) or add_response_schema(tokenizer)
    except ValueError:
        why = "is none whose calls TRL knows to read; set tokenizer.response_template"
    raise ModelError(f"rows of several turns cannot be asked: the chat template of {tokenizer.name_or_path!r} {why}; "
                     "Qwen2.5, Qwen3 and SmolLM2 have a fit one")  # fmt: skip


class DialogueServer(PromptServer):
    """A `PromptServer` whose prompts are messages, and whose demonstrations are whole solved dialogues.

    `dialogues`: `Dialogues`; the rest as in `PromptServer`.
    """

    def __init__(self, dialogues, *arguments):
        super().__init__(*arguments)
        self.dialogues = dialogues

    def render(self, sample, demos=()):
        """The prompt -> list of messages: system turn, the dialogues of `demos`, the request."""
        shown = [message for demo in demos for message in self.dialogues.solved(self.dialogues.tasks[demo.id])]
        *before, request = self.dialogues.opened(sample)
        return [*before, *shown, request]

    def length(self, prompt):
        tools = next(iter(self.samples.values())).tools  # those of the environment, in every row
        text = self.tokenizer.apply_chat_template(prompt, tools=tools, add_generation_prompt=True, tokenize=False)
        return len(self.tokenizer(text, add_special_tokens=False).input_ids)


def dialogue_rows(samples, dialogues):
    """`ToolSample`s -> `Dataset`: the messages as prompt, and the columns rewards need."""
    return training_columns(samples).add_column("prompt", [dialogues.opened(sample) for sample in samples])


class DialogueReward:
    """A reward function for `GRPOTrainer` with an environment: 1 for a dialogue that brings about what was asked.

    The state must be the goal, and of a question the last result its answer; every executed call must stand in the
    model's own tokens as it was executed.

    Attributes:
        verdicts: of the last batch; each has a `reason`: "ok", "no_call", "not_as_written", "wrong_state" or
            "wrong_answer".

    Args:
        tasks: {sample id: `api_tasks.Task`}.
        tokenizer: reads the tokens back.
    """

    __name__ = "dialogue_reward"

    def __init__(self, tasks, tokenizer):
        self.tasks, self.tokenizer, self.verdicts = tasks, tokenizer, []

    def __call__(self, prompts, completions, completion_ids, sample_id, environments, log_metric=None, **columns):
        texts = self.tokenizer.batch_decode(completion_ids, skip_special_tokens=False)
        rows = zip(sample_id, environments, completions, texts)
        self.verdicts = [SimpleNamespace(reason=self.reason(self.tasks[id], *row)) for id, *row in rows]
        if log_metric is not None:
            results = [result for environment in environments for _, result in environment.calls]
            told = [message for row in completions for message in row if message["role"] == "tool"]
            answered = sum(hasattr(environments[0], message["name"]) for message in told)
            log_metric("tools/refused", sum(not r.ok for r in results) / max(1, len(results)))
            log_metric("tools/no_room", (len(results) - answered) / max(1, len(results)))
        return [float(verdict.reason == "ok") for verdict in self.verdicts]

    def reason(self, task, environment, messages, text):
        """What came of one rollout -> str; `text`: its tokens, results of tools among them."""
        if not environment.calls:
            return "no_call"
        executed = [call for call, _ in environment.calls]
        if not same_value(written_calls(messages, text, self.tokenizer), executed):
            return "not_as_written"
        if not environment._at_goal(task):
            return "wrong_state"
        if task.answer is not None and not same_value(environment.calls[-1][1].value, task.answer):
            return "wrong_answer"
        return "ok"


def written_calls(messages, text, tokenizer):
    """The calls that a model wrote, read strictly from its tokens by `calls_in` -> list.

    Args:
        messages: the dialogue as TRL has it; what its tools said is taken out of `text` first, with the markers around
            it that no model can write whole: a result may be as short as a number that the model wrote, too.
        text: prompt excluded, all turns in a row, decoded with special tokens.
    """
    written = ""
    for is_tool, turn in groupby(messages, lambda message: message["role"] == "tool"):
        if is_tool:
            before, _, text = text.partition(_told(list(turn), tokenizer))
            written += before
    return calls_in(written + text)


def calls_in(text):
    """The calls in closed blocks of a text -> list; a block that is cut or no JSON is left out."""
    blocks = [part.partition(CALL_CLOSE) for part in text.split(CALL_OPEN)[1:]]
    blocks = [CALL_OPEN + block + CALL_CLOSE for block, closed, _ in blocks if closed]
    return [call for block in blocks for call in parse_completion(block, think=False).calls]


def _written_as_read(tokenizer):
    """Does the chat template write a call as `calls_in` reads it? -> bool"""
    call = {"name": "look", "arguments": {"number": 1}}
    turn = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": call}]}
    return calls_in(tokenizer.apply_chat_template([{"role": "user", "content": "x"}, turn], tokenize=False)) == [call]


def _told(results, tokenizer):
    """The text that TRL puts behind an answer for tools' results, markers of turns and all."""
    call = {"type": "function", "function": {"name": results[0]["name"], "arguments": {}}}
    asked = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    whole = tokenizer.apply_chat_template([*asked, *results], add_generation_prompt=True, tokenize=False)
    told = whole.removeprefix(tokenizer.apply_chat_template(asked, tokenize=False))
    return tokenizer.decode(tokenizer(told, add_special_tokens=False).input_ids)


def pack_own(profile, folder, invite):
    """Of a model for your own tools: leave beside it how to ask (`own_tools.pack_tools`), turns and all."""
    if profile.data in OWN:
        rounds = (TURNS, [CHAIN_PROMPT]) if profile.data in DIALOGUES else ()
        pack_tools(profile.data_path, folder, invite, profile.max_completion_length, *rounds)
