"""A text, or a verdict, put where a chain's own output has its place for it."""

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk

from guardrail.langchain.verdicts import VERDICT_KEY

__all__ = ["NoPlaceError", "in_place_of", "in_place_of_chunks", "with_verdict", "without_verdict"]


class NoPlaceError(Exception):
    """An output that a text cannot be put in place of."""


def in_place_of(output: Any, text: str, verdict: Mapping[str, Any]) -> Any:
    """A text as an output of the same type: a text, or a message, which carries the verdict.

    Raises:
        NoPlaceError: The output is of another type.
    """
    if isinstance(output, str):
        return text
    if isinstance(output, AIMessage):
        model = output.response_metadata.get("model_name")
        fields: dict[str, Any] = {
            "content": text,
            "id": output.id,
            "name": output.name,
            "usage_metadata": output.usage_metadata,
            "response_metadata": {**({"model_name": model} if model else {}), VERDICT_KEY: dict(verdict)},
        }
        is_chunk = isinstance(output, AIMessageChunk)
        return AIMessageChunk(**fields, chunk_position="last") if is_chunk else AIMessage(**fields)
    raise _no_place(f"of type {type(output).__name__}")


def in_place_of_chunks(chunks: Sequence[Any], text: str, verdict: Mapping[str, Any]) -> list[Any]:
    """The same for a stream: one chunk in place of all.

    Raises:
        NoPlaceError: They are neither all texts nor all messages, or there are none.
    """
    for kind in (str, AIMessageChunk):
        if chunks and all(isinstance(chunk, kind) for chunk in chunks):
            return [in_place_of(reduce(add, chunks), text, verdict)]
    if len(chunks) == 1:
        return [in_place_of(chunks[0], text, verdict)]
    raise _no_place("nothing" if not chunks else f"chunks of type {type(chunks[-1]).__name__}")


def with_verdict(output: Any, verdict: Mapping[str, Any]) -> Any:
    """The output; a message of a model carries the verdict then. Nothing is changed in place."""
    if not isinstance(output, AIMessage):
        return output
    metadata = {**output.response_metadata, VERDICT_KEY: dict(verdict)}
    return output.model_copy(update={"response_metadata": metadata})


def without_verdict(output: Any) -> Any:
    """The output; a message carries no verdict then. In a stream one chunk alone may: merging joins texts."""
    if not isinstance(output, AIMessage) or VERDICT_KEY not in output.response_metadata:
        return output
    metadata = {key: value for key, value in output.response_metadata.items() if key != VERDICT_KEY}
    return output.model_copy(update={"response_metadata": metadata})


def _no_place(what: str) -> NoPlaceError:
    return NoPlaceError(
        f"The chain's output, {what}, has no place for a message; catch this error, or guard the part of the "
        "chain that gives a text or a message."
    )
