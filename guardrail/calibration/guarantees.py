"""Guarantees, and the certified thresholds that keep them: for all questions in their mix, and for each kind.

Plain data: no torch, no NumPy.
"""

from collections.abc import Iterable
from typing import Annotated, Any, NamedTuple, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from guardrail.utils.record_store import FrozenModel

__all__ = [
    "GENERAL",
    "MOST_ANSWERS",
    "MOST_KINDS",
    "NO_STATES",
    "CertifiedThreshold",
    "Guarantee",
    "divided",
    "kinds_in",
]

# Why a profile for other people's traffic certifies nothing in an app.
GENERAL = "the profile is a general one, and only one of your own questions certifies (guardrail calibrate)"
# Why one that keeps no hidden states does not: it is never known whether traffic is like its questions.
NO_STATES = "the profile keeps no states to compare the questions with (guardrail calibrate keeps some)"


# More than anybody labels; limited because checking a certificate takes time.
MOST_ANSWERS = 1_000_000_000
# Each kind needs many answers of its own.
MOST_KINDS = 50
# A tag of a request that begins so names the kind of its question.
_KIND_TAG = "kind:"


class Guarantee(NamedTuple):
    """Of the accepted answers, at most ``max_error`` are wrong, with this confidence."""

    max_error: float
    confidence: float

    def __str__(self) -> str:
        return f"at most {self.max_error:.3g} wrong with confidence {self.confidence:.3g}"


def divided(guarantee: Guarantee, shares: int) -> Guarantee:
    """The guarantee with an equal share of δ (Bonferroni): if so many hold so, all hold as the whole does."""
    if shares == 1:
        return guarantee
    return Guarantee(guarantee.max_error, 1 - (1 - guarantee.confidence) / shares)


def kinds_in(tags: Iterable[str]) -> frozenset[str]:
    """The kinds that a request's tags name, as ``kind:NAME``."""
    return frozenset(tag.removeprefix(_KIND_TAG) for tag in tags if tag.startswith(_KIND_TAG))


class CertifiedThreshold(FrozenModel):
    """The lowest confidence score whose answers keep a guarantee, or why there is none.

    Without a kind it is pooled: a promise about answers in the mix of kinds that was calibrated on, and about
    no kind of them. The promises for each kind hold all together with the stated confidence, because δ was
    divided among them.

    Attributes:
        max_error: Maximum share of wrong answers among the accepted ones.
        confidence: Probability that the calibration set led to a threshold that keeps it (1 − δ).
        threshold: Answers with at least this confidence score are accepted; None if infeasible.
        n: Number of answers in the certify part.
        accepted: How many of them are accepted; if infeasible, by the threshold that came nearest.
        errors: How many of the accepted are wrong.
        needed: Minimum number of accepted answers, all right, that could have certified it.
        reason: Why it is infeasible; else empty.
        kind: The kind of question that it is for; empty for all in their mix.
        kinds: Number of kinds that share δ; each is tested at δ / kinds.
    """

    max_error: Annotated[float, Field(gt=0, lt=1)]
    confidence: Annotated[float, Field(gt=0, lt=1)]
    threshold: float | None
    n: Annotated[int, Field(ge=0, le=MOST_ANSWERS)]
    accepted: Annotated[int, Field(ge=0)]
    errors: Annotated[int, Field(ge=0)]
    needed: Annotated[int, Field(gt=0)]
    reason: str = ""
    kind: str = ""
    kinds: Annotated[int, Field(gt=0, le=MOST_KINDS)] = 1

    @property
    def guarantee(self) -> Guarantee:
        """The guarantee, which holds if feasible."""
        return Guarantee(self.max_error, self.confidence)

    @property
    def tested(self) -> Guarantee:
        """The guarantee that it was tested for, with the kind's share of δ."""
        return divided(self.guarantee, self.kinds)

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        if self.threshold is not None and not self.needed <= self.accepted <= self.n:
            raise ValueError(f"certified by {self.accepted} accepted answers, but {self.needed} are needed")
        if self.errors > self.accepted or self.accepted > self.n:
            raise ValueError(f"{self.errors} errors among {self.accepted} accepted of {self.n} answers")
        if self.threshold is None and not self.reason:
            raise ValueError("infeasible without a reason")
        if self.kinds > 1 and not self.kind:
            raise ValueError("a pooled threshold shares its confidence with no kind")
        return self

    @model_serializer(mode="wrap")
    def _as_plain(self, values: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = values(self)
        # Left out of pooled ones, so that profiles without kinds keep their hash.
        return plain if self.kind else {name: plain[name] for name in plain.keys() - {"kind", "kinds"}}
