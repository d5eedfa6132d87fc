"""Schemas that answers are held to: whole, and with nothing changed that is no schema."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from guardrail.errors import GenerationError, OptionError
from guardrail.models.decoding import calls_grammar, held_to, json_grammar
from guardrail.models.json_schema import closed, untitled
from tests.support.chat import tiny_chat_model
from tests.support.templates import HERMES, LLAMA31

llguidance = pytest.importorskip("llguidance", reason="llguidance is not installed")

NODE = {
    "type": "object",
    "properties": {"v": {"type": "integer"}, "next": {"type": "array", "items": {"$ref": "#/$defs/Node"}}},
    "required": ["v", "next"],
}
TREE = {"$defs": {"Node": NODE}, "$ref": "#/$defs/Node"}
A = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
B = {"type": "object", "properties": {"b": {"type": "integer"}}, "required": ["b"]}
# What looks like a schema, and is data.
DATA = {
    "properties": {"x": {"type": "integer"}},
    "$ref": "#/nowhere",
    "title": "T",
    "items": [{"title": "T"}],
}


def fits(grammar, value):
    """Whether an answer that is held to a grammar can be this value, or this text, to its end."""
    text = (value if isinstance(value, str) else json.dumps(value)).encode()
    held_to(grammar)
    matcher = llguidance.LLMatcher(llguidance.LLTokenizer("byte"), grammar)
    return matcher.try_consume_tokens(list(text)) == len(text) and matcher.is_accepting()


@pytest.mark.parametrize(
    ("schema", "fitting", "others"),
    [
        (
            TREE,
            [{"v": 1, "next": [{"v": 2, "next": []}]}],
            [{"v": 1, "next": [{}]}, {"v": 1, "next": [3]}, {"v": 1, "next": [], "w": 1}],
        ),
        (
            {"definitions": {"Node": A}, "type": "array", "items": {"$ref": "#/definitions/Node"}},
            [[], [{"a": 1}]],
            [[{"a": "x"}], [{"a": 1, "b": 2}]],
        ),
        (
            {"type": "object", "properties": {"me": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}},
            [{"me": {"me": None}}],
            [{"me": {"you": None}}],
        ),
        ({"anyOf": [A, {"type": "null"}]}, [{"a": 1}], [{"a": 1, "b": 2}, {"b": 2}]),
        ({"allOf": [A, B]}, [{"a": 1, "b": 2}], [{"a": 1}, {"b": 2}]),
        ({"allOf": [A]}, [{"a": 1}], [{"a": 1, "b": 2}]),
        ({"$defs": {"A": A}, "$ref": "#/$defs/A", **B}, [{"a": 1, "b": 2}], [{"b": 2}]),
        (
            {"$defs": {"A": A, "AB": {"allOf": [{"$ref": "#/$defs/A"}, B]}}, "$ref": "#/$defs/AB"},
            [{"a": 1, "b": 2}],
            [{"a": 1}],
        ),
        (
            {
                "oneOf": [
                    {
                        "type": "object",
                        "properties": {"k": {"const": "a"}, **A["properties"]},
                        "required": ["k"],
                    },
                    {"type": "object", "properties": {"k": {"const": "b"}}, "required": ["k"]},
                ],
                "discriminator": {"propertyName": "k"},
            },
            [{"k": "a", "a": 1}, {"k": "b"}],
            [{"k": "b", "a": 1}, {"k": "c"}],
        ),
        ({"type": ["object", "null"], **A, "title": "T"}, [{"a": 1}], [{"b": 1}]),
        ({**A, "type": ["object", "null"]}, [{"a": 1}, "null"], ["1"]),
        ({"properties": {"any": True, "none": False}}, [{"any": [1, {"x": 2}]}, {}], [{"none": 1}, {"x": 1}]),
        (
            {"type": "object", "patternProperties": {"^x_": {"type": "integer"}}, "properties": {"y": True}},
            [{"y": 1, "x_1": 2}],
            [{"x_1": "a"}, {"z": 1}],
        ),
        ({"type": "object", "additionalProperties": A}, [{"any": {"a": 1}}], [{"any": {"a": 1, "b": 2}}]),
        ({"const": DATA}, [DATA], [{}]),
        ({"enum": [DATA, "T"]}, [DATA, '"T"'], [{"title": "T"}]),
        ({"type": "integer", "default": DATA, "examples": [DATA]}, ["7"], [DATA]),
        (
            {"type": "object", "properties": {"properties": A, "$ref": {"type": "string"}}},
            [{"$ref": "x"}],
            [{"a": 1}],
        ),
        ({"type": "array", "prefixItems": [A], "items": False}, [[{"a": 1}]], [[{"a": 1, "b": 2}], [1]]),
        (True, [[1, {"a": None}], "null"], []),
        ({}, [{"a": 1}], []),
    ],
)
def test_an_answer_fits_the_whole_schema(schema, fitting, others):
    grammar = json_grammar(schema)
    assert all(fits(grammar, value) for value in fitting)
    assert not any(fits(grammar, value) for value in others)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"not": {"type": "string"}}, 'Unimplemented keys: \\["not"\\]'),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "object", "propertyNames": {"pattern": "a"}}, "propertyNames"),
        ({"if": A, "then": B}, "if"),
        ({"$ref": "https://example.com/schema.json"}, "https://example.com/schema.json"),
        ({"$ref": "#/$defs/None"}, "/\\$defs/None"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf"),
        ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
        ({"type": "integer", "minimum": 10**40}, "integer range"),
        ({"type": "colour"}, "colour"),
        (False, "nothing fits"),
    ],
)
def test_what_no_answer_can_be_held_to_is_refused_by_its_name(schema, said):
    with pytest.raises(OptionError, match=f"No answer can be held to this schema: .*{said}"):
        held_to(json_grammar(schema))


def tool(name, parameters):
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [
    tool(
        "plant",
        {
            **A,
            "properties": {"tree": {"$ref": "#/$defs/Node"}},
            "required": ["tree"],
            "$defs": {"Node": NODE},
        },
    ),
    tool("join", {"allOf": [A, B]}),
    tool('"now"', None),
]
LEAF = {"v": 1, "next": []}


@pytest.mark.parametrize(
    ("name", "arguments", "fitting"),
    [
        ("plant", {"tree": {"v": 2, "next": [LEAF]}}, True),
        ("plant", {"tree": {"v": 2, "next": [7]}}, False),
        ("join", {"a": 1, "b": 2}, True),
        ("join", {"a": 1}, False),
        ("join", {"tree": LEAF}, False),
        ('"now"', {}, True),
        ('"now"', {"a": 1}, False),
        ("later", {}, False),
    ],
)
def test_each_tool_is_held_to_its_own_schema(name, arguments, fitting):
    call = {"name": name, "arguments": arguments}
    assert fits(calls_grammar(TOOLS, HERMES), f"<tool_call>\n{json.dumps(call)}\n</tool_call>") is fitting
    call = {"name": name, "parameters": arguments}
    assert fits(calls_grammar(TOOLS, LLAMA31), call) is fitting


def test_an_answer_in_a_form_may_stand_in_place_of_a_call():
    for template, form in ((HERMES, "<tool_call>\n{}\n</tool_call>"), (LLAMA31, "{}")):
        arguments = "arguments" if template is HERMES else "parameters"
        call = form.format(json.dumps({"name": '"now"', arguments: {}}))
        grammar = calls_grammar(TOOLS, template, A)
        assert fits(grammar, call)
        assert fits(grammar, {"a": 1})
        assert not fits(grammar, {"b": 1})
        assert not fits(calls_grammar(TOOLS, template), {"a": 1})


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["title", "properties", "$ref", "a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["title", "properties", "items", "$ref", "allOf", "a"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(values, st.sampled_from(["const", "default", "x-data"]))
def test_data_within_a_schema_stays_as_it_is(data, key):
    schema = {"type": "object", "properties": {"a": {key: data, "enum": [data], "examples": [data]}}}
    for changed in (closed(schema), untitled(schema)):
        assert changed["properties"]["a"] == {key: data, "enum": [data], "examples": [data]}


@given(values)
def test_a_schema_that_was_closed_is_not_changed_by_closing_it_again(data):
    assert closed(closed(data)) == closed(data)


def test_titles_go_and_properties_of_that_name_stay():
    schema = {
        "title": "T",
        "properties": {"title": {"title": "Title", "type": "string", "default": {"title": 1}}},
    }
    assert untitled(schema) == {"properties": {"title": {"type": "string", "default": {"title": 1}}}}


def test_what_the_grammar_does_not_allow_is_ruled_out_and_an_answer_beyond_it_is_an_error():
    model = tiny_chat_model()
    held = held_to('start: "ab"')(model.runnable)
    (first,), (second,) = model.token_ids("a"), model.token_ids("b")
    # More logits than the tokenizer has tokens: the last ones can never follow.
    logits = torch.zeros(1, len(model.tokenizer) + 3)
    assert held(torch.tensor([[0]]), logits).isfinite().nonzero()[:, 1].tolist() == [first]
    assert held(torch.tensor([[0, first]]), logits).isfinite().nonzero()[:, 1].tolist() == [second]
    with pytest.raises(GenerationError, match="cannot be held to its grammar"):
        held(torch.tensor([[0, first, first]]), logits)
