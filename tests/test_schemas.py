"""JSON Schema of tools, bounded: which keyword is broken, and what no schema and no arguments can do."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from toolexpander_lite.base import schemas
from toolexpander_lite.base.schemas import SchemaFault, broken_keyword

NUMBER, TEXT = {"type": "integer"}, {"type": "string"}
XS = {"patternProperties": {"^x": NUMBER}}


@pytest.mark.parametrize(
    "schema, good, bad, keyword",
    [
        ({"properties": {"a": NUMBER}}, {"a": 1}, {"a": "1"}, "type"),
        ({"properties": {"a": NUMBER}}, {"a": 1.0}, {"a": True}, "type"),
        ({"required": ["a"]}, {"a": None}, {}, "required"),
        ({"properties": {"a": {"enum": ["x", None]}}}, {"a": None}, {"a": "y"}, "enum"),
        ({"properties": {"a": {"const": None}}}, {"a": None}, {"a": 0}, "const"),
        ({"properties": {"a": {"type": "array", "items": {"minimum": 2}}}}, {"a": [2, 3]}, {"a": [2, 1]}, "minimum"),
        ({"properties": {"a": {"maxItems": 1}}}, {"a": [1]}, {"a": [1, 2]}, "maxItems"),
        ({"properties": {"a": {"minLength": 2}}}, {"a": "xy"}, {"a": "x"}, "minLength"),
        ({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, {"a": 1}, {"a": 1, "b": 1}, "oneOf"),
        ({"not": {"required": ["a"]}}, {}, {"a": 1}, "not"),
        ({"dependentRequired": {"a": ["b"]}}, {"a": 1, "b": 1}, {"a": 1}, "dependentRequired"),
        ({"properties": {"a": {}}, "additionalProperties": False}, {"a": 1}, {"b": 1}, "additionalProperties"),
        ({"if": {"required": ["a"]}, "then": {"required": ["b"]}}, {"a": 1, "b": 1}, {"a": 1}, "required"),
        ({"properties": {"a": {"$ref": "#/$defs/d"}}, "$defs": {"d": {"enum": [1]}}}, {"a": 1}, {"a": 2}, "enum"),
        ({"properties": {"a": {"pattern": "^[A-Z]{3}$"}}}, {"a": "LIM"}, {"a": "lim"}, "pattern"),
        ({"properties": {"a": {"pattern": r"^\p{L}+$"}}}, {"a": "Zürich"}, {"a": "9"}, "pattern"),
        ({"propertyNames": {"pattern": "^x"}}, {"xa": 1}, {"a": 1}, "pattern"),
        (XS | {"additionalProperties": False}, {"xa": 1}, {"a": 1}, "additionalProperties"),
        ({"patternProperties": {"^x": NUMBER, "a$": {"minimum": 3}}}, {"xa": 3}, {"xa": 1}, "minimum"),
        (XS | {"unevaluatedProperties": False}, {"x": 1}, {"y": 1}, "unevaluatedProperties"),
        ({"allOf": [XS], "unevaluatedProperties": False}, {"x": 1}, {"b": 1}, "unevaluatedProperties"),
    ],
)  # fmt: skip
def test_the_first_broken_keyword_is_named(schema, good, bad, keyword):
    assert broken_keyword(schema, good) is None
    assert broken_keyword(schema, bad) == keyword


def test_a_parameter_may_be_called_like_a_keyword():
    schema = {"properties": {"pattern": TEXT, "patternProperties": NUMBER, "properties": {"pattern": "b"}}}
    assert broken_keyword(schema, {"pattern": "(", "patternProperties": 1, "properties": "abc"}) is None
    assert broken_keyword(schema, {"pattern": 1}) == "type" and broken_keyword(schema, {"properties": "x"}) == "pattern"
    data = {"properties": {"a": {"const": {"pattern": "("}}}}
    assert broken_keyword(data, {"a": {"pattern": "("}}) is None and broken_keyword(data, {"a": 1}) == "const"


def doubling(levels):
    """A schema of `levels` definitions, each of which refers twice to the next: 2**levels ways to the last."""
    ref = [{"$ref": f"#/$defs/d{i + 1}"} for i in range(levels)]
    definitions = {f"d{i}": {"anyOf": [ref[i], ref[i]]} for i in range(levels)} | {f"d{levels}": {"const": 1}}
    return {"properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": definitions}


def test_schemas_that_never_end_are_given_up(monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: pytest.fail("a schema was fetched"))
    monkeypatch.setattr(schemas, "PATTERN_SECONDS", 0.01)
    endless = [
        ({"$ref": "#"}, {}),
        (doubling(40), {"a": 2}),
        ({"properties": {"a": {"$ref": "#/$defs/none"}}}, {"a": 1}),
        ({"properties": {"a": {"$ref": "https://example.org/schema.json"}}}, {"a": 1}),
        ({"properties": {"a": {"pattern": "^(a|aa)+$"}}}, {"a": "a" * 50 + "!"}),
        ({"patternProperties": {"^(a|aa)+$": {}}}, {"a" * 50 + "!": 1}),
        ({"properties": {"a": {"pattern": "("}}}, {"a": "x"}),
        ({"properties": {"a": {"multipleOf": 0.01}}}, {"a": 10**400}),
        ({"type": "text"}, {}),
        ({"properties": []}, {}),
    ]
    for schema, arguments in endless:
        with pytest.raises(SchemaFault):
            broken_keyword(schema, arguments)
    assert broken_keyword(doubling(40), {"a": 1}) is None, "the first way is enough where the value is right"
    assert broken_keyword({"properties": {"a": {"$ref": "https://example.org/x"}}}, {}) is None, "not asked for"


names, values = st.sampled_from("abx"), st.sampled_from(["", "x", "xa", "1"]) | st.integers(0, 3)
patterns = st.sampled_from(["^x", "a$", "", "[0-9]", "x|a"])
parts = st.fixed_dictionaries({}, optional={"pattern": patterns, "type": st.just("string"), "enum": st.just(["x", 1])})
objects = st.fixed_dictionaries({}, optional={
    "properties": st.dictionaries(names, parts, max_size=2),
    # Not the empty pattern: jsonschema (4.26) passes over it when it looks for additional properties.
    "patternProperties": st.dictionaries(patterns.filter(bool), parts, max_size=2),
    "additionalProperties": st.booleans() | parts, "propertyNames": parts, "required": st.just(["x"]),
})  # fmt: skip


@given(objects, st.dictionaries(names | st.sampled_from(["xa", "1"]), values, max_size=3))
def test_verdicts_are_those_of_the_library(schema, arguments):
    """Where no pattern backtracks, the texts that stand in for it change nothing."""
    assert (broken_keyword(schema, arguments) is None) == Draft202012Validator(schema).is_valid(arguments)


def test_the_empty_pattern_fits_every_name():
    """As JSON Schema says; jsonschema itself calls the name an additional property."""
    schema = {"patternProperties": {"": {"type": "string"}}, "additionalProperties": False}
    assert broken_keyword(schema, {"a": "x"}) is None and broken_keyword(schema, {"a": 1}) == "type"


def test_patterns_are_compared_as_text_not_as_patterns():
    schema = {"properties": {"a": {"pattern": r"^\(.*\)$"}}}
    assert broken_keyword(schema, {"a": "(x|y)*"}) == "pattern" and broken_keyword(schema, {"a": "(x|y)"}) is None
    assert re.fullmatch(r"\(.*\)", "(x|y)")
