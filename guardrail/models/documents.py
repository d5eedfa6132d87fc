"""Documents in a prompt: the part of a message that an answer is to be grounded in, as it is declared.

A message of the user or of the system may say which part of its content is a document, word for word:
``{"role": "user", "content": "Open from 9 to 5. When do you open?", "document": "Open from 9 to 5."}``.
The same prompt without it tells how much the document moved the answer
(:mod:`guardrail.scoring.document_gain`). A chat template never sees the declaration.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from guardrail.errors import PromptError

__all__ = ["DOCUMENT_FIELD", "as_grounded", "undeclared", "without_documents"]

# Where a message says which part of its content is a document.
DOCUMENT_FIELD = "document"

_DECLARING = ("system", "developer", "user", "human")


def without_documents(messages: Sequence[Any]) -> list[Any] | None:
    """A conversation without the documents that its messages declare; None where none does.

    A message that is nothing but its document is left out.

    Args:
        messages: Messages whose content is a text.

    Raises:
        PromptError: A declared document is no text, does not stand in the message's content exactly once, is
            declared by an answer or a tool's result, or is all that was asked.
    """
    if not any(_declares(message) for message in messages):
        return None
    found = [_without(message, number) for number, message in enumerate(messages, start=1)]
    left = [message for message in found if message is not None]
    if not any(isinstance(one, Mapping) and one.get("role") in ("user", "human") for one in left):
        raise PromptError(
            "The declared document is all that the user says: there is no question beside it. Declare only "
            "the part of the content that is the document."
        )
    return left


def undeclared(messages: Sequence[Any]) -> list[Any]:
    """The same conversation, whose messages say nothing of documents; those in it stay."""
    return [
        {name: value for name, value in message.items() if name != DOCUMENT_FIELD}
        if isinstance(message, Mapping) and DOCUMENT_FIELD in message
        else message
        for message in messages
    ]


def as_grounded(question: str, document: str) -> dict[str, str]:
    """A user's message that asks a question about a document, which stands before it.

    Raises:
        PromptError: The document is empty, or the question repeats it.
    """
    message = {"role": "user", "content": f"{document}\n\n{question}", DOCUMENT_FIELD: document}
    without_documents([message])
    return message


def _declares(message: Any) -> bool:
    # One that says None declares none: that is how many clients write a field that they do not fill.
    return isinstance(message, Mapping) and message.get(DOCUMENT_FIELD) is not None


def _without(message: Any, number: int) -> Any:
    if not _declares(message):
        return undeclared([message])[0]
    content, document = message.get("content"), message[DOCUMENT_FIELD]
    if not isinstance(document, str) or not document.strip():
        raise PromptError(
            f"The document of message {number} is no text. Give the part of its content that is the "
            "document, word for word."
        )
    if message.get("role") not in _DECLARING:
        raise PromptError(
            f"Message {number} is of {str(message.get('role'))[:20]!r} and declares a document: only "
            "messages of the user or of the system do."
        )
    times = _times(content, document) if isinstance(content, str) else 0
    if times != 1:
        where = "does not stand in its content" if not times else "stands in its content more than once"
        raise PromptError(
            f"The document of message {number} {where}. It has to stand there exactly once, word for word."
        )
    left = _joined(*content.split(document))
    return {**undeclared([message])[0], "content": left} if left else None


def _times(content: str, document: str) -> int:
    """How often a text stands in another, overlapping or not."""
    count, at = 0, content.find(document)
    while at >= 0 and count < 2:
        count, at = count + 1, content.find(document, at + 1)
    return count


def _joined(before: str, after: str) -> str:
    """What stood around a document, without the blank lines that set it off."""
    if before.endswith("\n") and after.startswith("\n"):
        return f"{before.rstrip()}\n\n{after.lstrip()}".strip()
    return f"{before}{after}".strip()
