"""From a `ToolSample` to the text the model reads (the prompt) and the text it should write (the gold).

A prompt is one system turn with the format instruction, then demonstrations (few-shot), then the chat
of the sample itself; the tools on offer go through the chat template's own `tools=`, so every model
sees them in the form it was trained on. The paper's abstract gives no prompt text: all wording here
is our assumption, with the `<think>`/`<tool_call>` form that Qwen2.5 and ToolRL use.
"""

import json
from pathlib import Path

from ..base.errors import ModelError
from .samples import SolvedSample, ToolSample

SYSTEM_PROMPT = """\
You solve the user's request by calling tools. First think in one short sentence, then write one \
block per call and nothing after the last block:
<think>your thought</think>
<tool_call>
{"name": "tool name", "arguments": {"argument name": "value"}}
</tool_call>"""

# Self-Exemplifying Thinking (see `self_examples`): the same text in training and in evaluation.
INVITATION = """\
Inside the think block you may first write one example of your own, with another request, and say what it shows:
<think><example>
another request
<tool_call>
{"name": "tool name", "arguments": {"argument name": "value"}}
</tool_call>
what the example shows
</example>
your thought</think>"""

_PROBE = ToolSample("probe", "probe", [{"role": "user", "content": "question"}], [
    {"type": "function", "function": {"name": "probe_tool", "description": "", "parameters": {"type": "object"}}}
], [])  # fmt: skip


def gold_completion(sample):
    """What a perfect model writes for `sample`: a short thought, then one block per gold call -> str.

    The thought only names the tools (our assumption: data sets without thoughts get the same text as
    those with, and the nano model has few tokens to think in). Of a sample that no tool fits, the thought says so
    and nothing follows. No end-of-turn token is added.
    """
    if not sample.calls:
        return "<think>no tool fits</think>"
    names = ", ".join(call["name"] for call in sample.calls)
    blocks = (
        json.dumps({"name": call["name"], "arguments": call["arguments"]}, ensure_ascii=False) for call in sample.calls
    )
    return f"<think>call {names}</think>\n" + "\n".join(f"<tool_call>\n{b}\n</tool_call>" for b in blocks)


def written_completion(sample):
    """What stands as the assistant's answer to `sample`: its own completion if it has one, else the gold one -> str."""
    return sample.completion if isinstance(sample, SolvedSample) else gold_completion(sample)


def render_messages(sample, demos=(), invite=False):
    """The chat that is shown to the model -> list of `{"role", "content"}`, ending with a user turn.

    Order: system (format instruction, then the sample's own system text if it has one); for each demo,
    an earlier `ToolSample`, its user turns and its gold completion (of a `SolvedSample`, its own completion) as the
    assistant's answer; the sample's turns. A demo's own system text and tools are left out: it shows the form of an
    answer, it does not add a tool to call.

    `invite`: add the `INVITATION` to write an example of one's own.

    Raises:
        ValueError: a demo is the sample itself, which would put the answer into the question.
    """
    system = [m["content"] for m in sample.messages if m["role"] == "system"]
    system = [SYSTEM_PROMPT, *([INVITATION] if invite else []), *system]
    messages = [{"role": "system", "content": "\n\n".join(system)}]
    for demo in demos:
        if demo.id == sample.id:
            raise ValueError(f"sample {sample.id!r} is among its own demonstrations; leave it out")
        messages += [dict(m) for m in demo.messages if m["role"] != "system"]
        messages.append({"role": "assistant", "content": written_completion(demo)})
    return messages + [dict(m) for m in sample.messages if m["role"] != "system"]


def render_prompt(sample, tokenizer, demos=(), invite=False):
    """The prompt as one string, up to and including the opening of the assistant's turn -> str.

    Tokenise it with `add_special_tokens=False`: the template has written all special tokens already.
    """
    return tokenizer.apply_chat_template(
        render_messages(sample, demos, invite), tools=sample.tools, add_generation_prompt=True, tokenize=False
    )


def check_invitation(tokenizer):
    """Refuse a model whose chat template drops the invitation: it would be paid, or judged, for what it never read.

    Raises:
        ModelError: a prompt with the invitation is rendered like one without.
    """
    if render_prompt(_PROBE, tokenizer, invite=True) == render_prompt(_PROBE, tokenizer):
        raise ModelError(
            f"the chat template of {Path(tokenizer.name_or_path).name!r} drops the invitation to write examples; use "
            "another model (of the kit's own, nano-invited, nano-rare and nano-common read it)"
        )
