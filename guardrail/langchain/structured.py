"""Answers as data: held to a JSON schema while they are generated, and read into what the caller wants."""

import json
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, cast

from langchain_core.messages import BaseMessage
from langchain_core.output_parsers import BaseOutputParser, JsonOutputParser, PydanticOutputParser
from langchain_core.runnables import Runnable, RunnableLambda, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema
from langchain_core.utils.pydantic import is_basemodel_subclass

from guardrail.errors import AbstainedError
from guardrail.langchain.verdicts import verdict_of

__all__ = ["parsed_by", "schema_of", "told_of_schema"]


def schema_of(schema: Mapping[str, Any] | type) -> dict[str, Any]:
    """The JSON schema of a pydantic class, a TypedDict, a schema, or a function of OpenAI's form."""
    return convert_to_json_schema(cast("Any", schema))


def told_of_schema(prompt: Sequence[Mapping[str, Any]], schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A prompt that says which form the answer is to have; a model that is only held to it guesses."""
    told = [dict(message) for message in prompt]
    for message in reversed(told):
        if message["role"] == "user":
            message["content"] += f"\n\nAnswer with JSON that fits this schema:\n{json.dumps(schema)}"
            break
    return told


def parsed_by(
    model: "Runnable[Any, Any]", schema: Mapping[str, Any] | type, *, include_raw: bool
) -> "Runnable[Any, Any]":
    """A model whose messages are read as data.

    Args:
        model: Gives JSON.
        schema: What it fits; a pydantic class gives objects of that class, everything else dicts.
        include_raw: Give ``{"raw", "parsed", "parsing_error"}``.
    """
    parser: BaseOutputParser[Any] = JsonOutputParser()
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        parser = PydanticOutputParser(pydantic_object=schema)
    read: Runnable[Any, Any] = RunnableLambda(_answered) | parser
    if not include_raw:
        return model | read
    whole = RunnablePassthrough.assign(parsed=itemgetter("raw") | read, parsing_error=lambda _: None)
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=model) | whole.with_fallbacks([failed], exception_key="parsing_error")


def _answered(message: BaseMessage) -> BaseMessage:
    """The message, if it is an answer: a policy's words in its place are no data."""
    verdict = verdict_of(message) or {}
    replied = (verdict.get("escalation") or {}).get("source")
    if verdict.get("enforced") and verdict.get("action") in ("abstain", "escalate") and not replied:
        raise AbstainedError(
            f"The policy withheld the answer by its rule {verdict['rule']!r}: {message.text}", verdict
        )
    return message
