"""Answers as data."""

import json
from typing import Literal, TypedDict

import pytest
from pydantic import BaseModel

from guardrail.errors import AbstainedError, OptionError
from guardrail.langchain import verdict_of
from tests.guard.making import ASKED, PASS
from tests.langchain.making import ABSTAIN, chat_of

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
