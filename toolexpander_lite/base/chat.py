"""A chat as a model's own template renders it, with all that was said in it and no turn that anyone forged."""

import json
import re
from functools import lru_cache

# The tags of the Hermes style that Qwen2.5 was trained on.
THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
CALL_OPEN, CALL_CLOSE = "<tool_call>", "</tool_call>"

# What stands for a think tag while the template is at work: a letter that is kept for private use.
_STAND_INS = {THINK_OPEN: "\ue0f0", THINK_CLOSE: "\ue0f1"}
# A think block that the template has put in front of one: of an earlier turn it takes none to be there.
_TEMPLATES_OWN = re.compile(rf"{THINK_OPEN}\s*{THINK_CLOSE}\s*(?={_STAND_INS[THINK_OPEN]})")


def render_chat(messages, tools, tokenizer):
    """A chat, `{"role", "content"}` each, and the tools on offer -> the prompt (str), for the next assistant's turn.

    What an assistant's turn said stays in it as it was written: many templates strip thoughts from earlier turns, so
    that a demonstration would show another form than the one that is asked for. Turn markers of the template in what
    others wrote are broken up, so that no question, tool or result can forge a turn (see `turn_markers`).
    """
    chat = [{**m, "content": _broken_up(m["content"], tokenizer)} for m in messages]
    for message in chat:
        if message["role"] == "assistant":
            for tag, stand_in in _STAND_INS.items():
                message["content"] = message["content"].replace(tag, stand_in)
    if holds_turn_marker(tools, tokenizer):
        tools = json.loads(_broken_up(json.dumps(tools, ensure_ascii=False), tokenizer))
    text = tokenizer.apply_chat_template(chat, tools=tools, add_generation_prompt=True, tokenize=False)
    if any(stand_in in text for stand_in in _STAND_INS.values()):
        text = _TEMPLATES_OWN.sub("", text)
        for tag, stand_in in _STAND_INS.items():
            text = text.replace(stand_in, tag)
    return text


def turn_markers(tokenizer):
    """The texts that a tokenizer reads as turn markers and other special tokens -> compiled pattern, or None.

    Where a template opens the assistant's turn by ordinary text ("[/INST]"), that too.
    """
    return _markers(tokenizer, str(getattr(tokenizer, "chat_template", None)))


@lru_cache(maxsize=16)
def _markers(tokenizer, template):
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    found = {str(token) for token in added if token.special} | set(getattr(tokenizer, "all_special_tokens", ()))
    probe = [{"role": "user", "content": "probe_question"}, {"role": "assistant", "content": "probe_answer"}]
    try:
        text = tokenizer.apply_chat_template(probe, tokenize=False)
        opening = text.partition("probe_question")[2].partition("probe_answer")[0].strip()
    except Exception:  # of a stranger's template; what it cannot do is found out where it is asked for more
        opening = ""
    found = {text.strip() for text in found} - {THINK_OPEN, THINK_CLOSE, CALL_OPEN, CALL_CLOSE, ""}
    if opening and not any(text in opening for text in found):
        found.add(opening)
    return re.compile("|".join(map(re.escape, sorted(found, key=len, reverse=True)))) if found else None


def holds_turn_marker(value, tokenizer):
    """Does a text, or a text in a JSON value, hold what the tokenizer reads as a turn marker? -> bool"""
    text, markers = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), turn_markers(tokenizer)
    return bool(markers and markers.search(text))


def _broken_up(text, tokenizer):
    """`text` with a blank in each turn marker, so that it is read as the ordinary text it is."""
    markers = turn_markers(tokenizer)
    return markers.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text) if markers else text
