"""What the content of a message says: a text, or parts of which all are text.

The parts are those of OpenAI's and of LangChain's messages.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from guardrail.errors import PromptError

__all__ = ["content_text", "part_text", "with_text"]

# Where the text stands in a part of each kind, in this order.
_TEXT_OF = {
    "input_text": ("text",),
    "output_text": ("text",),
    "refusal": ("refusal",),
    "text": ("text",),
    "text-plain": ("title", "context", "text"),
}


def content_text(content: Any, place: str) -> str:
    """The text of a message's content; parts are joined as they are.

    Args:
        content: A text, or parts.
        place: What a sentence about it begins with, such as ``Message 2``.

    Raises:
        PromptError: A part is no text.
    """
    if isinstance(content, str):
        return content
    texts = []
    for part in content:
        if (text := part_text(part)) is None:
            kind = part.get("type", "a part without a type") if isinstance(part, Mapping) else part
            raise PromptError(
                f"{place} holds {str(kind)[:60]!r}, and this model reads text alone. Leave it out, or say it "
                "in words."
            )
        texts.append(text)
    return "".join(texts)


def part_text(part: Any) -> str | None:
    """The text of a part of a content; None where it is no text, or holds more."""
    if isinstance(part, str):
        return part
    names = _TEXT_OF.get(str(part.get("type")), ()) if isinstance(part, Mapping) else ()
    # A document may be given as a file instead, which is not looked into.
    if not names or not isinstance(part.get(names[-1]), str):
        return None
    texts = [part[name] for name in names if part.get(name)]
    return "\n".join(texts) if all(isinstance(text, str) for text in texts) else None


def with_text(messages: Sequence[Any]) -> list[Any]:
    """Messages whose content is a text, where it was given in parts; whatever is wrong else stays as it is.

    A turn that calls tools may say nothing (``null``).

    Raises:
        PromptError: A part is no text.
    """
    return [_with_text(message, number) for number, message in enumerate(messages, start=1)]


def _with_text(message: Any, number: int) -> Any:
    content = message.get("content") if isinstance(message, Mapping) else None
    if isinstance(content, list):
        return {**message, "content": content_text(content, f"Message {number}")}
    if isinstance(message, Mapping) and content is None and message.get("tool_calls"):
        return {**message, "content": ""}
    return message
