"""The distribution of scores when a profile was made: the basis of quantiles and of drift detection."""

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
        n: Number of answers behind the values.
        values: All values, or evenly spaced quantiles of many, sorted.
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
        """Share of the reference below this value, ties counted half: 0 below all, 1 above all.

        Raises:
            CalibrationError: The value is NaN.
        """
        if isnan(value):
            raise CalibrationError("A score of this answer is not a number, so it has no quantile.")
        below, up_to = bisect_left(self.values, value), bisect_right(self.values, value)
        return (below + up_to) / 2 / len(self.values)
