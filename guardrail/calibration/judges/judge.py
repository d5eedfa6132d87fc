"""What a judge is. Users may bring their own."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

__all__ = ["Judge", "Verdict"]


class Verdict(NamedTuple):
    """What a judge says of one answer.

    Attributes:
        correct: Whether it is right; None where the judge cannot tell, and then the answer does not count.
        reason: Why, in words for a person.
    """

    correct: bool | None
    reason: str = ""


class Judge(Protocol):
    """Says whether a response answers a question correctly.

    It may raise: the answer then stays without a label.
    """

    @property
    def name(self) -> str:
        """What records and profiles call it."""

    @property
    def needs_answers(self) -> bool:
        """Whether it cannot judge without accepted answers."""

    @property
    def at_once(self) -> int:
        """How many answers it may be asked about at the same time, on threads."""

    def __call__(self, question: str, response: str, accepted: Sequence[str]) -> Verdict:
        """Judge one answer.

        Args:
            question: What was asked: of a conversation, the last thing the user said.
            response: What the model said. It may say anything, also to the judge. What it thought before
                it answered, if it is there, is no part of the answer:
                :func:`guardrail.models.reasoning.answer_of` leaves it out.
            accepted: Answers that are right; any of them will do.
        """
