"""What earned an answer its credit: an abstention, a call, or an attempt at a call that nobody could read?

BFCL credits every answer from which no call is read where no tool fits, and any call at all in `live_relevance`. Such a
score says little before it is split, so the split stands beside every score (see `earned_text`).
"""

import re

from ..base.chat import CALL_CLOSE, CALL_OPEN, THINK_CLOSE, THINK_OPEN
from ..method.calls import parse_completion
from ..method.samples import tool_name

ANSWER_KINDS = {
    "abstained": "a closed thought, plain text or both, and no attempt at a call",
    "called": "calls that can be read",
    "unknown_tool": "calls that can be read, at least one of a tool that is not on offer",
    "unreadable": "an attempt at a call that cannot be read: bad JSON, or another form than the one asked for",
    "cut": "a thought or a call is opened and never closed, as the token cap leaves it",
    "garbage": "neither a call nor text: nothing at all, one word over and over, or mostly signs",
}
# Forms of a call that were not asked for: the call without its tags, and the tags of other models.
_OTHER_FORMS = re.compile(
    r"</?tool_call|<function|\[TOOL_CALLS|<\|python_tag|```tool|[\"']name[\"']\s*:[^:]{1,200}[\"'](arguments|parameters)[\"']\s*:"
)


def answer_kind(completion, tools=None):
    """What is this answer, whatever a benchmark makes of it? -> a key of `ANSWER_KINDS`; if in doubt no abstention.

    Args:
        completion: str, as the model wrote it.
        tools: the tools on offer; None when they are not known, and then no name counts as unknown.

    Our rules: a name on offer before "(", or as a value in JSON, is an attempt at a call. That an answer which makes no
    attempt is *helpful* is not said: plain text that repeats itself, or answers wrongly, abstains from calling, too.
    """
    parsed, names = parse_completion(completion), [tool_name(tool) for tool in tools or ()]
    if parsed.calls:
        unknown = tools is not None and any(call["name"] not in names for call in parsed.calls)
        return "unknown_tool" if unknown else "called"
    before, closed, after = completion.partition(THINK_CLOSE)
    body = after if closed else completion
    if parsed.reason == "too_long":
        return "garbage"
    opened = body.rfind(CALL_OPEN)
    if opened > body.rfind(CALL_CLOSE):  # cut, unless what was begun is no call anyway
        return "cut" if re.match(r'\s*(\{\s*("|\Z)|\Z)', body[opened + len(CALL_OPEN) :]) else "unreadable"
    if body.rfind(THINK_OPEN) > body.rfind(THINK_CLOSE):
        return "cut"
    written = "|".join(map(re.escape, names))
    if _OTHER_FORMS.search(body) or (
        names and re.search(rf"(?<![\w.])({written})\s*\(|[:{{\[]\s*[\"']({written})[\"']", body)
    ):
        return "unreadable"
    words = re.findall(r"[^\W\d_]+", before.replace(THINK_OPEN, "") + " " + after)
    signs = len(re.findall(r"[^\w\s]", completion.replace(THINK_OPEN, "").replace(THINK_CLOSE, "")))
    if not words and closed and not after.strip():
        return "abstained"  # a thought without words is one, and nothing follows it
    one_word = len(words) > 2 and len(set(words)) == 1
    return "garbage" if not words or one_word or 2 * signs > len(completion) else "abstained"


def earned_by(kinds, right):
    """What earned the credit: {id: kind} and the credited ids -> {kind: [ids]}, in the order of `ANSWER_KINDS`."""
    found = {kind: sorted(id for id in right if kinds[id] == kind) for kind in ANSWER_KINDS}
    return {kind: ids for kind, ids in found.items() if ids}


def earned_text(earned, no_call=False):
    """What earned a score, in words -> "4 abstained, 2 cut"; "" for nothing.

    Args:
        earned: {kind: [ids], or their number or share}, as `earned_by` gives it; None where it is not on record.
        no_call: the right thing is to call nothing, so abstentions are counted even if there are none.
    """
    if earned is None:
        return "what earned it is not on record"
    counts = {kind: len(ids) if isinstance(ids, list) else ids for kind, ids in earned.items()}
    counts = ({"abstained": 0} if no_call else {}) | counts
    return ", ".join(f"{number} {kind.replace('_', ' ')}" for kind, number in counts.items())
