"""Chat templates and tokenizers: what a model is shown and how its answer is read must fit together.

What differs between models and silently breaks training is settled here, once: templates that ignore `tools=`, refuse
a system turn or two turns of one speaker, tokens that end a turn, a second BOS, and tokenizers whose decoding changes
an answer. `round_trip` tests all of it: the gold answer, written and read as the trainer does, is judged right.
"""

import json
import logging
from pathlib import Path

from jinja2.exceptions import TemplateError

from ..base.chat import CALL_CLOSE, CALL_OPEN, THINK_CLOSE, THINK_OPEN
from ..base.errors import ModelError
from ..method.calls import judge, opened_think, whole_answer
from ..method.prompts import gold_completion, render_prompt, style_of, wants_think, written_completion
from ..method.samples import ToolSample
from ..method.self_examples import BLOCK_CLOSE, BLOCK_OPEN
from ..variants.other_self_examples import EXAMPLE_CLOSE, EXAMPLE_OPEN
from ..worlds.nano_world import nano_samples, tool_schema

logger = logging.getLogger(__name__)

# A whole template, ChatML with the tools in the system turn, one JSON schema per line, and calls in <tool_call> tags:
# the form of Hermes and Qwen2.5, the wording ours. And what stands in front of a template that cannot do it by itself.
# They are saved with the tokenizer, so that a server does alike.
TOOL_TEMPLATE, TOOLS_AS_TEXT, SYSTEM_IN_USER, ONE_TURN_EACH = (
    Path(__file__).with_name("chat_templates").joinpath(f"{name}.jinja").read_text(encoding="utf-8")
    for name in ("tool_template", "tools_as_text", "system_in_user", "one_turn_each")
)
# How transformers (its server, and TRL's tool loop) reads the calls out of an answer in that form.
RESPONSE_TEMPLATE = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "reasoning_content": {"open": "<think>", "close_pattern": r"</think>\s*", "content": "text"},
        "tool_calls": {"open_pattern": r"\s*<tool_call>", "close": "</tool_call>", "repeats": True, "content": "json",
                       "transform": {"type": "function", "function": "{content}"}},
        "content": {"close_pattern": r"\s*<\|im_end\|>\s*", "content": "text"},
    },
}  # fmt: skip
_PROBE_TOOL = tool_schema("probe_tool", "", probe_parameter={"type": "string", "description": ""})
_INVITED_TAGS = {"example": (EXAMPLE_OPEN, EXAMPLE_CLOSE), "examples": (BLOCK_OPEN, BLOCK_CLOSE)}  # by prompt style
_SYSTEM, _USER = {"role": "system", "content": "probe_system"}, {"role": "user", "content": "probe_question"}
_PROBE = ToolSample("probe", "probe", [_USER], [_PROBE_TOOL], [])


def adapt_template(tokenizer):
    """Give `tokenizer` a chat template that shows tools, system text and every turn -> what was changed, a list.

    Tested by rendering small chats. "tools": `TOOL_TEMPLATE` took the place of a template that ignores tools or their
    parameters, or, in a tokenizer without ChatML's tokens, `TOOLS_AS_TEXT` went in front of it; "system":
    `SYSTEM_IN_USER`; "turns": `ONE_TURN_EACH`; "opening": a prompt ends with the opening of the assistant's turn, which
    a template that knows no `add_generation_prompt` leaves to the model. A closed vocabulary (the nano policy's) has no
    words for system text and is left alone there.

    Raises:
        ModelError: no chat template at all (a base model), or one that shows no question or cannot be rendered.
    """
    name = Path(tokenizer.name_or_path).name
    if not tokenizer.chat_template:
        raise ModelError(f"the tokenizer of {name!r} has no chat template; use the instruction-tuned model")
    own, front, changed = tokenizer.get_chat_template(tools=[_PROBE_TOOL]), "", []
    shown = _render(tokenizer, [_USER], [_PROBE_TOOL])
    if _USER["content"] not in shown:
        raise ModelError(
            f"the chat template of {name!r} does not show a question that is given as text; use a text-only model"
        )
    if "probe_tool" not in shown or "probe_parameter" not in shown:
        changed.append("tools")
        if {"<|im_start|>", "<|im_end|>"} <= set(tokenizer.get_vocab()):
            own, tokenizer.response_template = TOOL_TEMPLATE, RESPONSE_TEMPLATE
        else:
            front += TOOLS_AS_TEXT
    if not closed_vocabulary(tokenizer) and not _shows(tokenizer, [_SYSTEM, _USER], front + own):
        changed.append("system")
        front += SYSTEM_IN_USER
    if not _shows(tokenizer, [_USER, {**_USER, "content": "probe_second"}], front + own):
        changed.append("turns")
        front += ONE_TURN_EACH
    tokenizer.chat_template = front + own
    if opening := _unopened(tokenizer):
        changed.append("opening")
        tokenizer.chat_template += f"{{%- if add_generation_prompt %}}{{{{ {json.dumps(opening)} }}}}{{% endif -%}}"
    if changed:
        logger.warning("The chat template of %s does without %s; it was adapted.", name, ", ".join(changed))
    return changed


def prepare_tokenizer(tokenizer):
    """Set pad and end-of-turn tokens and check that a rendered chat is tokenised as the template means it.

    In place: padding on the left (for generation); a missing pad token becomes the unknown token, else the end token;
    the end token becomes the one with which the template closes the assistant's turn, whether or not it has a role in
    the tokenizer; decoding leaves blanks alone.

    Raises:
        ModelError: the template closes a turn with no special token, so nothing would stop an answer; or
            `tokenizer(text)` differs from the ids of the template, usually by a second BOS.
    """
    name = tokenizer.name_or_path
    tokenizer.padding_side, tokenizer.clean_up_tokenization_spaces = "left", False
    tokenizer.add_special_tokens({"eos_token": _turn_end(tokenizer)})  # so that decoding drops it
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    text = _render(tokenizer, [_USER], [_PROBE_TOOL])
    meant = tokenizer(text, add_special_tokens=False).input_ids
    if tokenizer(text).input_ids != meant:
        tokenizer.add_bos_token = False  # the template writes the BOS itself, if the model wants one
    if tokenizer(text).input_ids != meant:
        raise ModelError(f"the tokenizer of {name!r} adds tokens to a rendered chat, such as a second BOS")


def _turn_end(tokenizer):
    """The token after which a model is to stop: what follows an answer in the rendered chat -> str.

    Of the tokens there the first special one, whether or not it has a role in the tokenizer; else the first that was
    added to the vocabulary. Where nothing closes a turn, the one that opens the next (GLM's "<|user|>").
    """
    added, answer = tokenizer.added_tokens_decoder, {"role": "assistant", "content": "probe_answer"}
    special = {*tokenizer.all_special_ids, *(i for i, token in added.items() if token.special)}
    for chat in ([_USER, answer], [_USER, answer, _USER]):
        closing = _render(tokenizer, chat).rpartition("probe_answer")[2]
        ids = tokenizer(closing, add_special_tokens=False).input_ids
        if ends := [i for i in ids if i in special] or [i for i in ids if i in added]:
            return tokenizer.convert_ids_to_tokens(ends[0])
    raise ModelError(
        f"the chat template of {tokenizer.name_or_path!r} closes a turn with {closing.strip()!r}, which is no special "
        "token to stop at; name the token that ends a turn as eos_token in its tokenizer_config.json"
    )


def round_trip(sample, tokenizer, demos=(), invite=False):
    """Is the gold answer of `sample` judged right when it is shown, written and read as the trainer does? -> str.

    "" where it is, else the reason and its mend. Through the chat template (with `demos` as earlier turns), the
    tokenizer, and TRL's decoding, which drops special tokens. `invite`: as in `render_messages`; the tags of examples
    are looked at too.
    """
    try:
        prompt = render_prompt(sample, tokenizer, demos, invite)
    except (TemplateError, TypeError, ValueError, KeyError) as error:
        return f"the chat template cannot render it ({type(error).__name__}: {error}); mend it or use another model"
    for demo in demos:
        if written_completion(demo, wants_think(invite)).strip() not in prompt:
            return "the chat template changes or drops the answers of demonstrations; use another model"
    gold = gold_completion(sample, prompt, wants_think(invite))
    read = _read_back(gold, tokenizer)
    verdict = judge(whole_answer(prompt, read), sample.calls, sample.tools, wants_think(invite))
    if verdict.reason != "ok":
        return _what_is_lost(gold, read, tokenizer)
    for tag in _INVITED_TAGS.get(style_of(invite), ()):
        if (read := _read_back(tag, tokenizer)) != tag:
            return _what_is_lost(tag, read, tokenizer)
    return ""


def check_round_trip(tokenizer):
    """Refuse a tokenizer and template with which no answer would ever be judged right; on two nano samples.

    A closed vocabulary may belong to another world: there the rows of a run are looked at, when they are loaded.

    Raises:
        ModelError: with the reason of `round_trip`.
    """
    sample, demo = nano_samples("train", 1)[:2]
    if not closed_vocabulary(tokenizer) and (reason := round_trip(sample, tokenizer, [demo])):
        name = Path(tokenizer.name_or_path).name
        raise ModelError(f"with the tokenizer of {name!r} no answer would be judged right: {reason}")


def closed_vocabulary(tokenizer):
    """Does this tokenizer, a nano policy's, know only the words of its world? -> bool"""
    return type(tokenizer.backend_tokenizer.model).__name__ == "WordLevel"


def _read_back(text, tokenizer):
    return tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids, skip_special_tokens=True)


def _what_is_lost(written, read, tokenizer):
    tags = (THINK_OPEN, THINK_CLOSE, CALL_OPEN, CALL_CLOSE, *(tag for pair in _INVITED_TAGS.values() for tag in pair))
    tags = [tag for tag in tags if tag in written and tag not in _read_back(tag, tokenizer)]
    special = {*tokenizer.all_special_tokens, *(str(t) for t in tokenizer.added_tokens_decoder.values() if t.special)}
    if lost := [tag for tag in tags if tag in special]:
        return (
            f"{' and '.join(lost)} {'is' if len(lost) == 1 else 'are'} special in this tokenizer, so decoding removes "
            'it from every answer, and a warm start cannot help. Set its "special" to false under added_tokens in '
            "tokenizer.json, and take it out of the special tokens that tokenizer_config.json lists"
        )
    start = next((i for i, (a, b) in enumerate(zip(written, read)) if a != b), min(len(written), len(read)))
    start = max(0, start - 10)
    return (
        f"the tokenizer reads {written[start : start + 40]!r} back as {read[start : start + 40]!r}; "
        "use a tokenizer whose vocabulary covers these words"
    )


def _unopened(tokenizer):
    """What a template that knows no generation prompt writes between a question's end and its answer -> str."""
    plain = tokenizer.apply_chat_template([_USER], tokenize=False)
    if _render(tokenizer, [_USER]) != plain:
        return ""
    answer = {"role": "assistant", "content": "probe_answer"}
    opening = _render(tokenizer, [_USER, answer]).partition("probe_answer")[0]
    return opening.removeprefix(plain) if opening.startswith(plain) and opening.removeprefix(plain).strip() else ""


def _shows(tokenizer, chat, template):
    """Does a template render a chat, with all its texts in it?"""
    try:
        text = tokenizer.apply_chat_template(chat, chat_template=template, add_generation_prompt=True, tokenize=False)
    except (TemplateError, TypeError, ValueError, KeyError):
        return False
    return all(message["content"] in text for message in chat)


def _render(tokenizer, chat, tools=None):
    """A probing chat, rendered.

    Raises:
        ModelError: the template refuses it or is broken.
    """
    answered = len(chat) > 1
    try:
        return tokenizer.apply_chat_template(chat, tools=tools, add_generation_prompt=not answered, tokenize=False)
    except (TemplateError, TypeError, ValueError, KeyError) as error:
        raise ModelError(
            f"the chat template of {tokenizer.name_or_path!r} cannot render a question"
            f"{' with its answer' * answered} ({type(error).__name__}: {error}); mend its chat_template.jinja, or "
            "use another model"
        ) from None


def check_invitation(tokenizer, invite=True):
    """Refuse a model whose chat template drops what prompts ask for: it would be judged by what it never read.

    Raises:
        ModelError: a prompt with the invitation is rendered like one without, or with a think block that is closed.
    """
    if style_of(invite) not in ("example", "examples"):
        return
    prompt, name = render_prompt(_PROBE, tokenizer, invite=invite), Path(tokenizer.name_or_path).name
    if THINK_CLOSE in opened_think(prompt):
        raise ModelError(
            f"the chat template of {name!r} closes the think block, in which an example "
            "would stand, before the answer begins; use the template of its thinking variant"
        )
    if prompt == render_prompt(_PROBE, tokenizer):
        raise ModelError(
            f"the chat template of {name!r} drops the invitation to write examples; use "
            "another model (of the kit's own, nano-invited, nano-rare and nano-common read it)"
        )
