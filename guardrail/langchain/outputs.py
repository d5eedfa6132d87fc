"""A text, or a verdict, put where a chain's own output has its place for it."""

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass, replace
from functools import reduce
from operator import add
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, convert_to_messages

from guardrail.langchain.answer_parts import parts_of
from guardrail.langchain.seals import sealed
from guardrail.langchain.verdicts import VERDICT_KEY

__all__ = ["NoPlaceError", "in_place_of", "in_place_of_chunks", "with_verdict", "without_verdict"]

# Where the state of a graph that converses has its messages.
_MESSAGES = "messages"
# What a chunk of a graph's stream has with ``version="v2"``.
_PART = frozenset({"type", "ns", "data"})


class NoPlaceError(Exception):
    """An output that a text cannot be put in place of."""


def in_place_of(output: Any, text: str, verdict: Mapping[str, Any], asked: Any = None) -> Any:
    """A text as an output of the same type: a text, a message, which carries the verdict, or a state.

    Args:
        output: What the text stands in place of.
        text: The text.
        verdict: What was decided.
        asked: What was asked: the messages of a state are these and the one with the text. Whatever else was
            in the state is gone, since it may tell of the answer.

    Raises:
        NoPlaceError: The output is of another type.
    """
    if isinstance(output, str):
        return text
    if isinstance(output, AIMessage):
        model = output.response_metadata.get("model_name")
        fields: dict[str, Any] = {
            "content": text,
            "name": output.name,
            "usage_metadata": output.usage_metadata,
            "response_metadata": {"model_name": model} if isinstance(model, str) and model else {},
        }
        is_chunk = isinstance(output, AIMessageChunk)
        message = AIMessageChunk(**fields, chunk_position="last") if is_chunk else AIMessage(**fields)
        return with_verdict(message, verdict)
    if isinstance(output, Mapping) and isinstance(output.get(_MESSAGES), list):
        return {_MESSAGES: [*_asked_messages(asked), with_verdict(AIMessage(text), verdict)]}
    if _is_graphs(output):
        return replace(output, value=in_place_of(output.value, text, verdict, asked), interrupts=())
    raise _no_place(f"of type {type(output).__name__}")


def in_place_of_chunks(
    chunks: Sequence[Any], text: str, verdict: Mapping[str, Any], asked: Any = None
) -> list[Any]:
    """The same for a stream: one chunk in place of all.

    Of a graph's stream it has the form of the last chunk that has messages: a state, the update of a node, a
    message with its metadata, or one of these with its mode.

    Raises:
        NoPlaceError: They are neither all texts nor all messages, nor of a graph, or there are none.
    """
    for kind in (str, AIMessageChunk):
        if chunks and all(isinstance(chunk, kind) for chunk in chunks):
            return [in_place_of(reduce(add, chunks), text, verdict)]
    for chunk in reversed(chunks):
        instead = _in_place_of_graphs(chunk, text, verdict, asked)
        if instead is not None:
            return [instead]
    if len(chunks) == 1:
        return [in_place_of(chunks[0], text, verdict, asked)]
    raise _no_place("nothing" if not chunks else f"chunks of type {type(chunks[-1]).__name__}")


def with_verdict(output: Any, verdict: Mapping[str, Any], whole: Any = None) -> Any:
    """The output; a message of a model carries the verdict then. Nothing is changed in place.

    Args:
        output: The output, or the last chunk of one.
        verdict: What was decided.
        whole: All chunks in one, if it is a chunk.
    """
    if not isinstance(output, AIMessage):
        return output
    answer = whole if isinstance(whole, BaseMessage) else output
    carried = sealed(verdict, said=parts_of(answer))
    return output.model_copy(update={"response_metadata": {**output.response_metadata, VERDICT_KEY: carried}})


def without_verdict(output: Any) -> Any:
    """The output; a message carries no verdict then. In a stream one chunk alone may: merging joins texts."""
    if not isinstance(output, AIMessage) or VERDICT_KEY not in output.response_metadata:
        return output
    metadata = {key: value for key, value in output.response_metadata.items() if key != VERDICT_KEY}
    return output.model_copy(update={"response_metadata": metadata})


def _is_graphs(output: Any) -> bool:
    """Whether it is what a graph gives with ``version="v2"``: its state, and beside it what interrupts it."""
    return (
        is_dataclass(output)
        and not isinstance(output, type)
        and isinstance(getattr(output, "value", None), Mapping)
        and hasattr(output, "interrupts")
    )


def _in_place_of_graphs(chunk: Any, text: str, verdict: Mapping[str, Any], asked: Any) -> Any:
    """A text in place of a chunk of a graph's stream; None where that has no place for one."""
    if isinstance(chunk, Mapping) and chunk.keys() >= _PART:
        instead = _in_place_of_graphs(chunk["data"], text, verdict, asked)
        rest: dict[str, Any] = {"interrupts": ()} if "interrupts" in chunk else {}
        part = {"type": chunk["type"], "ns": chunk["ns"], "data": instead, **rest}
        return None if instead is None else part
    if isinstance(chunk, Mapping):
        if isinstance(chunk.get(_MESSAGES), list):
            return in_place_of(chunk, text, verdict, asked)
        for node, update in chunk.items():
            if isinstance(update, Mapping) and isinstance(update.get(_MESSAGES), list):
                # An update adds to what is there.
                return {node: in_place_of(update, text, verdict)}
    if isinstance(chunk, tuple) and len(chunk) == 2 and isinstance(chunk[0], AIMessage):
        return in_place_of(chunk[0], text, verdict), {}
    if isinstance(chunk, tuple) and len(chunk) > 1:
        instead = _in_place_of_graphs(chunk[-1], text, verdict, asked)
        return None if instead is None else (*chunk[:-1], instead)
    return None


def _asked_messages(asked: Any) -> list[BaseMessage]:
    """The messages of a state that a graph was given, or of another input."""
    messages = asked.get(_MESSAGES) if isinstance(asked, Mapping) else asked
    if isinstance(messages, str | BaseMessage | tuple):
        messages = [messages]
    try:
        return [*convert_to_messages(messages)] if isinstance(messages, list) else []
    except (TypeError, ValueError, NotImplementedError, KeyError):
        return []


def _no_place(what: str) -> NoPlaceError:
    return NoPlaceError(
        f"The chain's output, {what}, has no place for a message; catch this error, or guard the part of the "
        "chain that gives a text or a message."
    )
