"""Rows of several turns, through TRL's own tool loop: demonstrations are whole dialogues, and the world is the judge.

What TRL 1.16 does there, and what is done about it:

    tool tokens are not in `completions/mean_length`        in `completion_tokens` they are, and in rollouts.jsonl
    a call cut before its closing tag is executed           it was not written: reward 0, "not_as_written"
    "7" becomes 7 by the tool's signature                   likewise: the tokens themselves are read
    a result without room is dropped, as a success          "no_room", in the metric `tools/no_room`
    an error reaches the model as Python text               `ChainEnvironment` answers in JSON and raises nothing
"""

from types import SimpleNamespace

from ..base.chat import CALL_CLOSE, CALL_OPEN
from ..base.errors import SettingsError
from ..base.strict_json import same_value
from ..method.calls import parse_completion
from ..method.hard_sampling import PromptServer
from ..method.samples import training_columns
from ..worlds.chain_world import CHAIN_TOOLS, ChainEnvironment, dialogue

DIALOGUES = ("chains",)  # data whose rows take several turns
TURNS = 4  # rounds of calls in a rollout (our assumption: twice what a chain needs)


def check_dialogues(recipe, profile):
    """Refuse what rows of several turns cannot have.

    Raises:
        SettingsError: a scan, an invitation, supervised training, context distillation or a rule of another paper.
    """
    if profile.data in DIALOGUES and (
        recipe.hard_samples not in ("keep", "demonstrate") or recipe.scan_rollouts or recipe.supervised
        or recipe.invite or recipe.examples_needed or recipe.distil_weight or recipe.demo_source in ("own", "corrupted")
    ):  # fmt: skip
        raise SettingsError(
            f"recipe {recipe.name!r} does not serve rows of several turns (data {profile.data!r}); grpo and "
            "hard_sampling do"
        )


class DialogueServer(PromptServer):
    """A `PromptServer` whose prompts are messages, and whose demonstrations are whole solved dialogues.

    `tasks`: {sample id: `api_tasks.Task`} of all rows; the rest as in `PromptServer`.
    """

    def __init__(self, tasks, *arguments):
        super().__init__(*arguments)
        self.tasks = tasks

    def render(self, sample, demos=()):
        """The prompt -> list of messages: system turn, the dialogues of `demos`, the request."""
        shown = [message for demo in demos for message in dialogue(self.tasks[demo.id])]
        return [*sample.messages[:-1], *shown, sample.messages[-1]]

    def length(self, prompt):
        tools = next(iter(self.samples.values())).tools  # those of the environment, in every row
        text = self.tokenizer.apply_chat_template(prompt, tools=tools, add_generation_prompt=True, tokenize=False)
        return len(self.tokenizer(text, add_special_tokens=False).input_ids)


def dialogue_rows(samples):
    """`ToolSample`s -> `Dataset`: the messages as prompt, and the columns rewards need."""
    return training_columns(samples).add_column("prompt", [sample.messages for sample in samples])


class DialogueReward:
    """A reward function for `GRPOTrainer` with a `ChainEnvironment`: 1 for a dialogue that brings about what was asked.

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
            answered = sum(message["name"] in CHAIN_TOOLS for message in told)
            log_metric("tools/refused", sum(not r.ok for r in results) / max(1, len(results)))
            log_metric("tools/no_room", (len(results) - answered) / max(1, len(results)))
        return [float(verdict.reason == "ok") for verdict in self.verdicts]

    def reason(self, task, environment, messages, text):
        """What came of one rollout -> str; `text`: its tokens, results of tools among them."""
        if not environment.calls:
            return "no_call"
        executed = [call for call, _ in environment.calls]
        if not same_value(written_calls(messages, text), executed):
            return "not_as_written"
        if not environment._at_goal(task):
            return "wrong_state"
        if task.answer is not None and not same_value(environment.calls[-1][1].value, task.answer):
            return "wrong_answer"
        return "ok"


def written_calls(messages, text):
    """The calls that a model wrote, read strictly from its tokens -> list; a block that is cut or no JSON is left out.

    Args:
        messages: the dialogue as TRL has it; what its tools said is taken out of `text` first.
        text: prompt excluded, all turns in a row.
    """
    for message in messages:
        if message["role"] == "tool":
            text = text.replace(str(message["content"]), "", 1)
    blocks = [part.partition(CALL_CLOSE) for part in text.split(CALL_OPEN)[1:]]
    blocks = [CALL_OPEN + block + CALL_CLOSE for block, closed, _ in blocks if closed]
    return [call for block in blocks for call in parse_completion(block, think=False).calls]


def environment_of(profile, tasks):
    """What `GRPOTrainer` is handed for such data -> {"environment_factory"}, or {} for other data."""
    return {"environment_factory": lambda: ChainEnvironment(tasks)} if profile.data in DIALOGUES else {}
