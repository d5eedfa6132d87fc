"""Answers as data: held to a JSON schema while they are generated, and read into what the caller wants."""

import json
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.output_parsers import BaseOutputParser, JsonOutputParser, PydanticOutputParser
from langchain_core.runnables import Runnable, RunnableAssign, RunnableLambda, RunnableMap, RunnableParallel
from langchain_core.utils.function_calling import convert_to_json_schema
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import BaseModel

from guardrail.errors import AbstainedError, OptionError
from guardrail.escalation.verdict import withholds
from guardrail.langchain.verdicts import verdict_of

__all__ = ["parsed_by", "schema_asked", "schema_of", "told_of_schema", "told_to_tracers"]


# What a schema has one of at least; a function of OpenAI's form has none of them.
_KEYWORDS = frozenset({"$ref", "allOf", "anyOf", "const", "enum", "oneOf", "properties", "type"})


def schema_of(schema: Any) -> dict[str, Any]:
    """The JSON schema of a pydantic class, a TypedDict, a schema, or a function of OpenAI's form, whole.

    Raises:
        OptionError: It is none of these.
    """
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        # LangChain's form writes out what is referred to, and leaves out what refers to itself.
        return schema.model_json_schema()
    if isinstance(schema, Mapping) and _KEYWORDS & schema.keys() and "parameters" not in schema:
        return dict(schema)
    try:
        form = convert_to_json_schema(schema)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise OptionError(f"{_named(schema)} is no schema that an answer can be held to: {error}") from error
    if not _KEYWORDS & form.keys():
        raise OptionError(f"{_named(schema)} is no schema that an answer can be held to: it says of nothing.")
    return form


def told_to_tracers(schema: Any, method: str) -> dict[str, Any]:
    """The option by which LangChain tells tracers of a schema, where it can read it."""
    try:
        convert_to_json_schema(schema)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return {}
    return {"ls_structured_output_format": {"kwargs": {"method": method}, "schema": schema}}


def schema_asked(form: Any) -> dict[str, Any] | None:
    """What ``response_format`` asks for, in OpenAI's form or as :func:`schema_of`; None for a text.

    Raises:
        OptionError: It is of another form.
    """
    kind = form.get("type") if isinstance(form, Mapping) else None
    if form is None or (kind == "text" and len(form) == 1):
        return None
    if kind == "json_object" and len(form) == 1:
        return {"type": "object"}
    if kind != "json_schema":
        return schema_of(form)
    inner = form.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, Mapping) else None
    if not isinstance(schema, Mapping):
        raise OptionError(
            'response_format has no schema: {"type": "json_schema", "json_schema": {"schema": …}}.'
        )
    return dict(schema)


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
    # Not by functions without a name, nor by RunnablePassthrough.assign: these cannot be pickled.
    whole = RunnableAssign(RunnableParallel(parsed=itemgetter("raw") | read, parsing_error=_nothing))
    failed = RunnableAssign(RunnableParallel(parsed=_nothing))
    return RunnableMap(raw=model) | whole.with_fallbacks([failed], exception_key="parsing_error")


def _answered(message: BaseMessage) -> BaseMessage:
    """The message, if it is an answer: a policy's words in its place are no data."""
    verdict = verdict_of(message)
    if verdict is not None and withholds(verdict):
        raise AbstainedError(
            f"The policy withheld the answer by its rule {verdict['rule']!r}: {message.text}", verdict
        )
    return message


def _nothing(_: Any) -> None:
    return None


def _named(schema: Any) -> str:
    return str(getattr(schema, "__name__", None) or repr(schema)[:60])
