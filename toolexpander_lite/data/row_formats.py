"""One row of a public data set, in the data set's own format -> (what is asked, tool schemas, gold calls).

Each source has its converter; `sources.SOURCES` says which. What is asked is the question, or a list of messages.
Tools are read by `tool_schemas` and gold calls by `read_calls`, alike in all sources.

A converter raises `RowDropped` for a row that cannot be scored fairly, and `KeyError`, `ValueError` and the like
for one that does not have the format at all; `sources.load_samples` counts both.
"""

import json
import re
from collections import namedtuple
from itertools import takewhile

from .parse_values import plain, read_if_text, read_literal, read_python_calls
from .tool_schemas import RowDropped, read_tool, read_tools


def read_call(written):
    """One gold call as data sets write it, as data or as text -> `{"name", "arguments"}`.

    Its arguments may be called "parameters" and be JSON text, as OpenAI sends them; none, null or "" is {}.
    """
    written = read_if_text(written)
    written = written["function"] if isinstance(written.get("function"), dict) else written
    arguments = written.get("arguments", written.get("parameters"))
    while isinstance(arguments, str):
        arguments = read_if_text(arguments)
    if not isinstance(arguments, dict | None):
        raise ValueError(f"arguments that are no object: {arguments!r:.80}")
    return {"name": written["name"], "arguments": plain(arguments or {})}


def read_calls(written, names=()):
    """The gold calls of one block, as data or as text -> list of `{"name", "arguments"}`.

    Text is one call, a list of them, or one after the other; each in JSON or Python, or all as `[name(argument="x")]`.

    Args:
        names: tools on offer, see `read_python_calls`.
    """
    if not isinstance(written, str):
        written = [] if written is None else written if isinstance(written, list) else [written]
        return [read_call(call) for call in written]
    readers = (read_if_text, lambda t: read_python_calls(t, names), _line_by_line, _one_after_the_other)
    for number, read in enumerate(readers, start=1):
        try:
            return read_calls(read(written))
        except (ValueError, SyntaxError):
            if number == len(readers):
                raise


def _line_by_line(text):
    return [call for line in text.splitlines() if line.strip() for call in read_calls(read_literal(line.strip()))]


def _one_after_the_other(text):
    values, decoder, place = [], json.JSONDecoder(), 0
    while rest := text[place:].lstrip(" \t\r\n,;"):
        place = len(text) - len(rest)
        value, place = decoder.raw_decode(text, place)
        values.append(value)
    return [call for value in plain(values) for call in read_calls(value)]


def toolrl_row(row):
    """ToolRL: all three parts are text, under `instruction`, `input`, `output` or nested as its RL parquet has them."""
    if "reward_model" in row:
        system, user = (m["content"] for m in row["prompt"])
        row = {"instruction": system, "input": user, "output": row["reward_model"]["ground_truth"]}
    turns = re.findall(r"<user>(.*?)</user>", row["input"], re.DOTALL)
    if len(turns) != 1 or "<obs>" in row["input"]:
        raise RowDropped("multi-turn row")  # our assumption: single turns only, as the nano data has
    listing = row["instruction"].split("**Available Tools**", 1)[1].split("**Steps for Each Turn**", 1)[0]
    tools = []
    for entry in re.split(r"^\d+\. Name: ", listing, flags=re.MULTILINE)[1:]:
        name, rest = entry.split("\nDescription: ", 1)
        about, parameters = rest.rsplit("\nParameters: ", 1)
        tools.append(read_tool({"name": name, "description": about, "parameters": parameters}))
    # The thought before may quote the tags, so only what follows it counts.
    return turns[0].strip(), tools, _calls_in_blocks(row["output"].rpartition("</think>")[2], tools)


def seal_row(row, catalogue, rng):
    """Seal-Tools: rows name only the right tools; wrong ones are drawn from `catalogue` (name -> entry) with `rng`."""
    calls = [read_call({"name": c["api"], "arguments": c.get("parameters")}) for c in row["calling"]]
    if any(str(value).startswith("API_call_") for c in calls for value in c["arguments"].values()):
        raise RowDropped("argument taken from another call's result")
    names = list(dict.fromkeys(c["name"] for c in calls))
    if any(name not in catalogue for name in names):
        raise RowDropped("call to an unlisted tool")
    # 3 to 5 tools on offer, the wrong ones drawn from the whole catalogue (both our assumptions).
    others = [name for name in catalogue if name not in names]
    names += rng.sample(others, min(max(rng.randint(3, 5) - len(names), 0), len(others)))
    rng.shuffle(names)
    tools = [
        read_tool(catalogue[name] | {"name": name, "description": catalogue[name]["api_description"]}) for name in names
    ]
    return row["query"].strip(), tools, calls


def xlam_row(row):
    """xLAM and the irrelevance rows made from it: `query`, and `tools` and `answers` as JSON text, or as lists."""
    tools = read_tools(row["tools"])
    return row["query"].strip(), tools, read_calls(row["answers"], _names(tools))


def toolace_row(row):
    """ToolACE: a JSON list of tools inside `system`, `conversations` whose answers may be `[name(argument="x")]`."""
    asked, answer = _asked_and_answer(_turns(row["conversations"]), lambda turn: turn.text.startswith("["))
    start = row["system"].index("[", row["system"].index("invoke"))
    tools = read_tools(json.JSONDecoder().raw_decode(row["system"], start)[0])
    calls = read_calls(answer.text, _names(tools)) if answer.text.startswith("[") else []
    return asked[0].text, tools, calls


def hermes_row(row):
    """Hermes: `tools` as JSON text, `conversations` whose answers hold `<tool_call>` blocks, in JSON or Python.

    What an answer says inside `<scratch_pad>` or `<think>` is a thought: a call there is none.
    """
    asked, answer = _asked_and_answer(_turns(row["conversations"]), lambda turn: "<tool_call>" in turn.text)
    tools = read_tools(row["tools"])
    return asked[0].text, tools, _calls_in_blocks(answer.text, tools)


def openai_row(row):
    """OpenAI's chat form: `messages`, where the assistant's have `tool_calls`, and `tools`; or the older
    `function_call` and `functions`. Calls may also stand in `<tool_call>` blocks of the text.

    The gold answer is the first that calls something. What was said before it, system text included, is the question.
    """
    turns = _turns(row["messages"])
    asked, answer = _asked_and_answer(turns, lambda turn: any(turn.calls) or "<tool_call>" in turn.text, opening=False)
    tools = read_tools(row.get("tools") or row.get("functions"))
    calls = [call for written in answer.calls for call in read_calls(written, _names(tools))]
    calls = calls or _calls_in_blocks(answer.text, tools)
    system = [turn for turn in turns if turn.role == "system" and turn.text]
    return [{"role": turn.role, "content": turn.text} for turn in [*system, *asked]], tools, calls


def _names(tools):
    return [tool["function"]["name"] for tool in tools]


Turn = namedtuple("Turn", "role text calls")  # calls: what its messages hold of them beside their text
_ROLES = {"human": "user", "gpt": "assistant", "developer": "system", "function": "tool"}
_THOUGHT = re.compile(r"<(scratch_pad|think)>.*?(?:</\1>|\Z)", re.DOTALL)


def _turns(written):
    """A chat of `{"role", "content"}` or `{"from", "value"}` -> `Turn`s; the assistant's without thoughts.

    Messages of the assistant that follow each other are one turn: nothing that came between could be waited for.
    """
    turns = []
    for turn in map(read_if_text, read_if_text(written)):
        role, text = turn.get("role") or turn["from"], turn.get("content", turn.get("value")) or ""
        if isinstance(text, list):
            if not all("text" in part for part in text):
                raise RowDropped("turn that is not text alone")
            text = "\n".join(part["text"] for part in text)
        role, text = _ROLES.get(role, role), (_THOUGHT.sub("", text) if role in ("assistant", "gpt") else text).strip()
        calls = [turn.get("tool_calls") or turn.get("function_call") or []]
        if turns and turns[-1].role == role == "assistant":
            before = turns.pop()
            text, calls = f"{before.text}\n{text}".strip(), [*before.calls, *calls]
        turns.append(Turn(role, text, calls))
    return turns


def _asked_and_answer(turns, calls, opening=True):
    """What is asked in a chat, and the answer that is gold -> (turns of user and assistant, turn).

    Our assumption: one sample per conversation, since later turns hang on the results of earlier calls.

    Args:
        calls: function of a turn that says whether it calls anything.
        opening: the gold answer is the first; else the first that calls something, if one does.
    """
    turns = [turn for turn in turns if turn.role != "system"]
    called = [turn.role == "assistant" and bool(calls(turn)) for turn in turns]
    place = called.index(True) if not opening and True in called else 1
    roles = [turn.role for turn in turns[: place + 1]]
    if roles[:1] != ["user"] or roles[-2:] != ["user", "assistant"] or not {"user", "assistant"} >= {*roles}:
        raise RowDropped("chat that does not open with a question and an answer")
    later = takewhile(lambda pair: pair[0].role != "user", zip(turns[place + 1 :], called[place + 1 :]))
    if any(again for _, again in later):
        raise RowDropped("calls in several steps")
    return turns[:place], turns[place]


_CALL_BLOCK = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)


def _calls_in_blocks(text, tools):
    """The gold calls in the `<tool_call>` blocks of an answer -> list of `{"name", "arguments"}`."""
    if "<tool_call>" in _CALL_BLOCK.sub("", text):
        raise RowDropped("call that is not closed")
    blocks = _CALL_BLOCK.findall(text)
    if not all(map(str.strip, blocks)):
        raise ValueError("a block without a call")
    return [call for block in blocks for call in read_calls(block, _names(tools))]


def to_hermes(question, tools, calls):
    """One row of your own in Hermes' form: `json.dumps` of it is a line of a file that `load_samples("hermes")` reads.

    Args:
        tools: JSON Schema of the tools on offer, `{"type": "function", "function": {...}}`.
        calls: the right calls, `{"name", "arguments"}`. A row without any is dropped when it is read, unless asked for.
    """
    blocks = "\n".join(f"<tool_call>\n{json.dumps(call)}\n</tool_call>" for call in calls)
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": blocks or "No tool fits."}]
    return {"tools": json.dumps(tools), "conversations": turns}
