"""The same questions, asked in other ways: what an app does to a question before a model sees it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from guardrail.models.sampling import Sampling

__all__ = ["VARIANTS", "Variant"]

Line = Mapping[str, Any]
Message = Mapping[str, str]

SYSTEM = (
    "You are the assistant of Hartwell Savings Bank. Answer politely and briefly, and never invent a number."
)
DOCUMENT = (
    "Visiting hours at the Linden clinic are from 2 p.m. to 6 p.m. on weekdays and from 10 a.m. to 6 p.m. at "
    "weekends. Two visitors at a time may stay with a patient. Flowers are welcome everywhere but on ward 3. "
    "The cafeteria on the ground floor closes half an hour before visiting ends, and the car park charges "
    "two coins an hour from the second hour on. Children under twelve need an adult with them at all times."
)
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string", "maxLength": 200}},
    "required": ["answer"],
}


@dataclass(frozen=True)
class Variant:
    """A way of asking.

    Attributes:
        name: As the tables call it.
        messages: The messages of a question, given the lines of others that may stand before it.
        changed: How the answer is drawn otherwise than those of the calibration.
        schema: JSON schema that the answer is held to; None for free text.
    """

    name: str
    messages: Callable[[str, Sequence[Line]], Sequence[Message]]
    changed: Mapping[str, Any] = field(default_factory=dict)
    schema: Mapping[str, Any] | None = None

    def sampling(self, made: Sampling) -> Sampling:
        """How the answer is drawn, given how those of the calibration were."""
        return replace(made, **self.changed)


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _alone(question: str, others: Sequence[Line]) -> list[Message]:
    return [_user(question)]


def _after(turns: int) -> Callable[[str, Sequence[Line]], list[Message]]:
    def messages(question: str, others: Sequence[Line]) -> list[Message]:
        before: list[Message] = []
        for line in others[:turns]:
            said = f"The answer is {line['answers'][0]}."
            before += [_user(line["question"]), {"role": "assistant", "content": said}]
        return [*before, _user(question)]

    return messages


def _wrapped(before: str, after: str = "") -> Callable[[str, Sequence[Line]], list[Message]]:
    return lambda question, others: [_user(f"{before}{question}{after}")]


_AS_JSON = f"\n\nAnswer as JSON that fits this schema: {json.dumps(SCHEMA)}"

VARIANTS = (
    Variant("alone, as calibrated", _alone),
    Variant("second turn", _after(1)),
    Variant("fourth turn", _after(3)),
    Variant(
        "under a system message",
        lambda question, others: [{"role": "system", "content": SYSTEM}, _user(question)],
    ),
    Variant("behind a document", _wrapped(f"Use this text if it helps.\n\n{DOCUMENT}\n\nQuestion: ")),
    Variant("in an app's wording", _wrapped("Answer our customer in one sentence.\n\nQuestion: ")),
    Variant("as JSON, held to a schema", _wrapped("", _AS_JSON), schema=SCHEMA),
    Variant("at temperature 0.7", _alone, {"temperature": 0.7, "seed": 1}),
    Variant("cut at 12 tokens", _alone, {"max_tokens": 12}),
)
