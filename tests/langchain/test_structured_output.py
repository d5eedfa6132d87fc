"""Answers as data."""

import json
from typing import Literal, TypedDict

import pytest
from pydantic import BaseModel

from guardrail.errors import AbstainedError, OptionError
from guardrail.langchain import verdict_of
from guardrail.langchain.reply import schema_of
from tests.support.chat_models import ABSTAIN, chat_of
from tests.support.guards import ASKED, PASS

pytest.importorskip("llguidance", reason="llguidance is not installed")
pytestmark = pytest.mark.usefixtures("one_thread")


class Book(BaseModel):
    """A book."""

    kind: Literal["play", "novel"]
    acts: Literal[3, 5]


class BookDict(TypedDict):
    """A book."""

    kind: Literal["play", "novel"]
    acts: Literal[3, 5]


def structured(*rules, schema=Book, **options):
    return chat_of(*rules, max_tokens=60).with_structured_output(schema, **options)


@pytest.mark.parametrize("schema", [Book, BookDict, Book.model_json_schema()])
@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
def test_an_answer_fits_the_schema_whatever_the_weights(schema, method):
    chain = structured(PASS, schema=schema, method=method)
    for book in (chain.invoke(ASKED), [*chain.stream(ASKED)][-1]):
        fields = book.model_dump() if schema is Book else book
        assert Book.model_validate(fields)
        assert (type(book) is Book) == (schema is Book)


def test_it_is_scored_by_the_models_own_probabilities():
    result = structured(PASS, include_raw=True).invoke(ASKED)
    verdict = verdict_of(result["raw"])
    assert result["parsed"] == Book.model_validate(json.loads(result["raw"].content))
    assert (result["parsing_error"], verdict["action"], verdict["error"]) == (None, "pass", "")
    # Random weights would not have said it: what was ruled out counts.
    assert verdict["scores"]["log_likelihood"] < -50


def test_a_withheld_answer_is_no_data():
    with pytest.raises(AbstainedError, match="never"):
        structured(ABSTAIN).invoke(ASKED)
    result = structured(ABSTAIN, include_raw=True).invoke(ASKED)
    assert result["parsed"] is None
    assert isinstance(result["parsing_error"], AbstainedError)
    assert result["parsing_error"].verdict["rule"] == "never"
    assert result["raw"].content == ABSTAIN["message"]


def test_the_model_is_told_of_the_schema():
    plain = chat_of(PASS, max_tokens=60)
    told = plain.with_structured_output(Book, include_raw=True).invoke(ASKED)["raw"]
    more = told.usage_metadata["input_tokens"] - plain.invoke(ASKED).usage_metadata["input_tokens"]
    assert more > len(json.dumps(Book.model_json_schema())) / 2


def test_a_schema_that_nothing_can_be_held_to_is_refused_at_once():
    with pytest.raises(OptionError, match="held to this schema"):
        structured(
            PASS,
            schema={
                "title": "x",
                "description": "y",
                "type": "object",
                "properties": {"a": {"type": "colour"}},
            },
        )


class Part(BaseModel):
    """A part of a whole."""

    kind: Literal["leaf"]
    parts: list["Part"]


OPENAI_FORM = {"name": "Part", "description": "A part.", "parameters": Part.model_json_schema()}


@pytest.mark.parametrize(
    "schema", [Part, Part.model_json_schema(), OPENAI_FORM], ids=["class", "schema", "openai"]
)
def test_a_schema_that_refers_to_itself_stays_whole(schema):
    form = schema_of(schema)
    assert form["$defs"]["Part"]["properties"]["parts"]["items"] == {"$ref": "#/$defs/Part"}
    structured(PASS, schema=schema)


@pytest.mark.parametrize(
    ("schema", "may_be"),
    [
        (
            {"type": ["object", "null"], "properties": {"a": {"const": {"title": "T", "$ref": "#/x"}}}},
            (dict, type(None)),
        ),
        ({"enum": [{"properties": 1}, 2]}, (dict, int)),
        ({"type": "array", "items": {"type": "boolean"}, "maxItems": 3}, (list,)),
        ({"$defs": {"K": {"enum": [1, 2]}}, "$ref": "#/$defs/K"}, (int,)),
    ],
)
def test_any_schema_may_be_given(schema, may_be):
    assert isinstance(structured(PASS, schema=schema).invoke(ASKED), may_be)


@pytest.mark.parametrize("schema", [7, "x", ["a"], {"name": "f"}, {"title": "only"}])
def test_what_is_no_schema_is_refused(schema):
    with pytest.raises(OptionError, match="schema"):
        structured(PASS, schema=schema)


def test_an_unknown_way_is_refused():
    with pytest.raises(OptionError, match="method is 'yaml'"):
        structured(PASS, method="yaml")


@pytest.mark.parametrize(
    ("form", "fits"),
    [
        ({"type": "json_schema", "json_schema": {"name": "b", "schema": Book.model_json_schema()}}, True),
        (Book, True),
        ({"type": "text"}, False),
        (None, False),
    ],
)
def test_openais_response_format_is_followed(form, fits):
    said = chat_of(PASS, max_tokens=60).invoke(ASKED, response_format=form).content
    if fits:
        Book.model_validate_json(said)
    else:
        assert said == chat_of(PASS, max_tokens=60).invoke(ASKED).content


def test_an_agent_gives_its_answer_in_the_form_that_it_was_made_with():
    from langchain.agents import create_agent

    agent = create_agent(chat_of(PASS, max_tokens=60), [], response_format=Book)
    answered = agent.invoke({"messages": [{"role": "user", "content": ASKED}]})
    assert isinstance(answered["structured_response"], Book)
