"""The answers that nothing was fitted or certified on: what a report is drawn from."""

from dataclasses import dataclass

from guardrail.errors import CalibrationError

__all__ = ["HeldOut"]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """One entry an answer, in the same order.

    Attributes:
        scores: Confidence scores, which thresholds apply to; the higher, the surer.
        confidences: Probabilities of being correct, 0 to 1.
        correct: Whether each was judged correct.

    Raises:
        CalibrationError: They are not of one length.
    """

    scores: tuple[float, ...]
    confidences: tuple[float, ...]
    correct: tuple[bool, ...]

    def __post_init__(self) -> None:
        if not len(self.scores) == len(self.confidences) == len(self.correct):
            raise CalibrationError(
                f"The held-out part has {len(self.scores)} scores, {len(self.confidences)} confidences and "
                f"{len(self.correct)} labels; each answer needs all three."
            )
