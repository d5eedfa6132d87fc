"""The distribution that scores had when a profile was made: what a quantile means, and what drift is from."""

from bisect import bisect_left, bisect_right
from itertools import pairwise
from math import isnan
from typing import Annotated, Self

from pydantic import Field, model_validator

from guardrail.errors import CalibrationError
from guardrail.utils.frozen_model import FrozenModel

__all__ = ["ReferenceDistribution"]


class ReferenceDistribution(FrozenModel):
    """Sorted values of one score.

    Attributes:
        n: How many answers they stand for.
        values: All of them, or evenly spaced quantiles of many, sorted.
    """

    n: Annotated[int, Field(gt=0)]
    values: Annotated[tuple[float, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _is_sorted(self) -> Self:
        if any(a > b for a, b in pairwise(self.values)):
            raise ValueError("the values are not sorted")
        if len(self.values) > self.n:
            raise ValueError(f"{len(self.values)} values of {self.n} answers")
        return self

    def quantile_of(self, value: float) -> float:
        """Share of the reference below this value, ties counted half: 0 below all of it, 1 above.

        Raises:
            CalibrationError: The value is not a number, which has no place among others.
        """
        if isnan(value):
            raise CalibrationError("A score of this answer is not a number; it has no place among others.")
        below, up_to = bisect_left(self.values, value), bisect_right(self.values, value)
        return (below + up_to) / 2 / len(self.values)
