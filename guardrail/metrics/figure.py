"""One figure of a report: its value, what it may really be, and how many answers it rests on."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from guardrail.utils.frozen_model import FrozenModel

__all__ = ["Figure", "figure_of"]


class Figure(FrozenModel):
    """A figure with its 95 % interval.

    Attributes:
        value: The figure; None where it is not defined.
        low: Lower end of the interval; None where there is none.
        high: Upper end of it.
        n: Answers that it was measured on.
        reason: Why the value or the interval is missing, or empty.
    """

    value: float | None
    low: float | None
    high: float | None
    n: Annotated[int, Field(ge=0)]
    reason: str = ""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        missing = self.value is None or self.low is None
        if (self.low is None) != (self.high is None) or (self.value is None and self.low is not None):
            raise ValueError("an interval has two ends, and a value within")
        if missing and not self.reason:
            raise ValueError("nothing says why the value or its interval is missing")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError("the interval's ends are the wrong way round")
        return self

    def as_plain(self) -> dict[str, Any]:
        """The fields by name, for JSON; the reason only where there is one."""
        return self.model_dump(exclude=None if self.reason else {"reason"})


def figure_of(report: Mapping[str, Any], name: str) -> Figure | None:
    """One figure of a profile's report; None where it has none that can be read."""
    try:
        return Figure.model_validate(report[name])
    except (KeyError, ValueError):
        return None
