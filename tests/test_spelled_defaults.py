"""An argument written with its schema's default, against gold that leaves it out: one switch for all who judge."""

import json

import pytest

from toolexpander_lite.base.errors import SettingsError
from toolexpander_lite.base.spelled_defaults import spelled_defaults, without_defaults
from toolexpander_lite.method.calls import judge, match_calls
from toolexpander_lite.method.rewards import conjunctive_reward
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.variants.baselines import graded_reward
from toolexpander_lite.worlds.api_service import HttpTools, ToolService
from toolexpander_lite.worlds.run_calls import ToolRegistry

PLAY = {"type": "function", "function": {"name": "play", "parameters": {
    "type": "object", "required": ["song", "loud"],
    "properties": {"song": {"type": "string"}, "volume": {"type": "integer", "default": 5},
                   "loud": {"type": "boolean", "default": False}}}}}  # fmt: skip
GOLD = [{"name": "play", "arguments": {"song": "a", "loud": False}}]


def spelled(**arguments):
    return [{"name": "play", "arguments": {**GOLD[0]["arguments"], **arguments}}]


def text(calls):
    return "<think>so</think>" + "".join(f"<tool_call>\n{json.dumps(call)}\n</tool_call>" for call in calls)


def judged(predicted, gold=GOLD):
    """What matcher, judge and both rewards say of the same calls."""
    columns = {"calls": [json.dumps(gold)], "tools": [json.dumps([PLAY])]}
    rewards = [f(["q"], [text(predicted)], **columns)[0] for f in (conjunctive_reward, graded_reward)]
    return match_calls(predicted, gold, [PLAY]).ok, judge(text(predicted), gold, [PLAY]).reason, *rewards


def test_the_papers_rule_is_exact_and_is_the_default():
    assert get_profile("nano").spelled_defaults == "extra"
    ok, reason, exact, graded = judged(spelled(volume=5))
    assert (ok, reason, exact) == (False, "extra_argument", 0.0) and graded < 4.0
    with spelled_defaults("extra"):
        assert judged(spelled(volume=5))[2] == 0.0


def test_with_the_switch_all_of_them_take_it_for_the_same_call():
    with spelled_defaults("same"):
        assert judged(spelled(volume=5)) == (True, "ok", 1.0, 4.0)
        assert judged(spelled(volume=5.0)) == (True, "ok", 1.0, 4.0), "1 == 1.0, as everywhere"
        assert judged(GOLD, spelled(volume=5)) == (True, "ok", 1.0, 4.0), "the other way round, too"
        for other in (6, "5", True, None):
            assert judged(spelled(volume=other))[2] == 0.0, other
        needed = [{"name": "play", "arguments": {"song": "a"}}]
        assert judged(needed)[:3] == (False, "missing_argument", 0.0), "what is required has to be written"
    assert judged(spelled(volume=5))[2] == 0.0, "the cache of verdicts does not mix the rules"


def test_defaults_inside_of_an_argument_count_as_well():
    look = {"type": "object", "properties": {"dim": {"type": "integer", "default": 3}, "on": {}}, "required": ["on"]}
    tool = {"type": "function", "function": {"name": "lamp", "parameters": {"type": "object", "properties": {
        "look": look, "all": {"type": "array", "items": look}, "base": {**look, "default": {"on": 1}},
    }}}}  # fmt: skip

    def stripped(**arguments):
        return without_defaults([{"name": "lamp", "arguments": arguments}], [tool])[0]["arguments"]

    given = stripped(look={"dim": 3, "on": 1}, all=[{"dim": 3}, {"dim": 4}])
    assert given == {"look": {"on": 1}, "all": [{}, {"dim": 4}]}
    assert stripped(base={"on": 1, "dim": 3}) == {} and stripped(base={"on": 2, "dim": 3}) == {"base": {"on": 2}}
    assert stripped(look=3, all={"dim": 3}) == {"look": 3, "all": {"dim": 3}}


def test_hostile_calls_and_odd_schemas_do_not_raise():
    odd = {"type": "function", "function": {"name": "odd", "parameters": {"properties": {"x": True, "y": None}}}}
    calls = [{"name": "odd", "arguments": {"x": 1, "y": [None]}}, {"name": "unknown", "arguments": {"z": {}}}]
    assert without_defaults(calls, [odd, {"type": "function", "function": {"name": "bare"}}]) == calls


def test_the_registry_runs_both_spellings_alike():
    registry = ToolRegistry()
    registry.register(lambda song, loud, volume=9: volume, PLAY)  # its own default is another than the schema's
    assert [registry.execute(call).value for call in (GOLD[0], spelled(volume=5)[0])] == [9, 5]
    with spelled_defaults("same"):
        assert [registry.execute(call).value for call in (GOLD[0], spelled(volume=5)[0])] == [9, 9]
        with ToolService(registry, timeout=60) as service:
            tools = HttpTools(service.port)
            assert [tools.execute(call, 60).value for call in (GOLD[0], spelled(volume=5)[0])] == [9, 9]


def test_unknown_rules_are_refused_and_an_error_inside_ends_the_rule():
    with pytest.raises(SettingsError, match="use 'extra' or 'same'"), spelled_defaults("maybe"):
        pass
    with pytest.raises(SettingsError, match="spelled_defaults is 'maybe'"):
        get_profile("nano", spelled_defaults="maybe")
    with pytest.raises(ValueError), spelled_defaults("same"):
        raise ValueError
    assert judged(spelled(volume=5))[2] == 0.0
