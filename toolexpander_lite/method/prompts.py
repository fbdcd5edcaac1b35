"""From a `ToolSample` to the text the model reads (the prompt) and the text it should write (the gold).

A prompt is one system turn with the format instruction, then demonstrations (few-shot), then the chat of the sample
itself; the tools on offer go through the chat template's own `tools=`, so every model sees them in the form it was
trained on. The paper's first idea has Qwen's own prompt and tags (section 3.3, Appendix D), here "native"; its own
wording for the second is a picture, so all wording here is our assumption, after Qwen2.5 and ToolRL.
"""

import json

from ..base.chat import CALL_CLOSE, CALL_OPEN, THINK_CLOSE, THINK_OPEN, render_chat
from .calls import opened_think
from .samples import SolvedSample

SYSTEM_PROMPT = """\
You solve the user's request by calling tools. First think in one short sentence, then write one \
block per call and nothing after the last block:
<think>your thought</think>
<tool_call>
{"name": "tool name", "arguments": {"argument name": "value"}}
</tool_call>"""

# For one example by the kit's own rule, a departure (`variants.other_self_examples`).
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

# The paper's second idea (section 4.2), in our words: its own prompt is a picture that could not be read.
EXAMPLES_INVITATION = """\
Inside the think block first write at least four different examples of your own for the tools on offer, as JSON, then \
analyse them together with the request:
<think><examples>[{"tool": "tool name", "question": "a request", "answer": {"name": "tool name", "arguments": \
{"argument name": "value"}}}, ...]</examples>
your analysis</think>"""

# What a prompt asks for, beside the sample's own system text: a short thought; that, and perhaps an example of one's
# own; the paper's second idea; its first, where the model's own system prompt and tags stand and nothing of ours.
STYLES = {"think": [SYSTEM_PROMPT], "example": [SYSTEM_PROMPT, INVITATION],
          "examples": [SYSTEM_PROMPT, EXAMPLES_INVITATION], "native": []}  # fmt: skip


def style_of(invite):
    """The key of `STYLES` that `invite` of `render_messages` means."""
    return {False: "think", True: "example"}.get(invite, invite)


def wants_think(invite):
    """Does a prompt ask for a think block, so that an answer without one is at fault? -> bool"""
    return style_of(invite) != "native"


def gold_completion(sample, prompt="", think=True):
    """What a perfect model writes for `sample`: a short thought, then one block per gold call -> str.

    `prompt`: the rendered prompt, of which an opened think block is not written again (see `calls.opened_think`).

    The thought only names the tools (our assumption: data sets without thoughts get the same text as those with, and
    the nano model has few tokens to think in). Of a sample that no tool fits, the thought says so and nothing follows.
    Without `think`, the blocks alone, or plain words where no tool fits. No end-of-turn token is added.
    """
    names = ", ".join(call["name"] for call in sample.calls)
    blocks = (
        json.dumps({"name": call["name"], "arguments": call["arguments"]}, ensure_ascii=False) for call in sample.calls
    )
    thought = f"call {names}{THINK_CLOSE}\n" if sample.calls else f"no tool fits{THINK_CLOSE}"
    calls = "\n".join(f"{CALL_OPEN}\n{block}\n{CALL_CLOSE}" for block in blocks) or ("" if think else "No tool fits.")
    opened = opened_think(prompt)
    if not think:
        thought = f"{THINK_CLOSE}\n"  # ends at once what the prompt has opened
    return calls if THINK_CLOSE in opened or not (opened or think) else (THINK_OPEN + thought)[len(opened) :] + calls


def written_completion(sample, think=True):
    """What stands as the assistant's answer to `sample`: its own completion if it has one, else the gold one -> str."""
    return sample.completion if isinstance(sample, SolvedSample) else gold_completion(sample, think=think)


def render_messages(sample, demos=(), invite=False):
    """The chat that is shown to the model -> list of `{"role", "content"}`, ending with a user turn.

    Order: system (format instruction, then the sample's own system text if it has one); for each demo,
    an earlier `ToolSample`, its user turns and its gold completion (of a `SolvedSample`, its own completion) as the
    assistant's answer; the sample's turns. A demo's own system text and tools are left out: it shows the form of an
    answer, it does not add a tool to call.

    `invite`: add the `INVITATION` to write an example of one's own; or a key of `STYLES`.

    Raises:
        ValueError: a demo is the sample itself, which would put the answer into the question.
    """
    system = [m["content"] for m in sample.messages if m["role"] == "system"]
    system = [*STYLES[style_of(invite)], *system]
    messages = [{"role": "system", "content": "\n\n".join(system)}] if system else []
    for demo in demos:
        if demo.id == sample.id:
            raise ValueError(f"sample {sample.id!r} is among its own demonstrations; leave it out")
        messages += [dict(m) for m in demo.messages if m["role"] != "system"]
        messages.append({"role": "assistant", "content": written_completion(demo, wants_think(invite))})
    return messages + [dict(m) for m in sample.messages if m["role"] != "system"]


def render_prompt(sample, tokenizer, demos=(), invite=False):
    """The prompt as one string, up to and including the opening of the assistant's turn -> str.

    Tokenise it with `add_special_tokens=False`: the template has written all special tokens already.
    """
    return render_chat(render_messages(sample, demos, invite), sample.tools, tokenizer)
