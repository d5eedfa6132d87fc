"""Where a score stands among those of the reference."""

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from guardrail.calibration.calibrators import ReferenceDistribution
from guardrail.errors import CalibrationError

finite = st.floats(allow_nan=False, allow_infinity=False)
references = st.lists(finite, min_size=1, max_size=20).map(
    lambda values: ReferenceDistribution(n=len(values), values=tuple(sorted(values)))
)


@given(references, finite, finite)
def test_a_quantile_is_a_share_and_rises_with_the_value(reference, one, other):
    low, high = reference.quantile_of(min(one, other)), reference.quantile_of(max(one, other))
    assert 0 <= low <= high <= 1


@given(references)
def test_below_all_is_0_and_above_all_is_1(reference):
    assert (reference.quantile_of(-inf), reference.quantile_of(inf)) == (0, 1)


def test_ties_are_counted_half():
    reference = ReferenceDistribution(n=4, values=(1.0, 2.0, 2.0, 3.0))
    assert [reference.quantile_of(value) for value in (0, 1, 1.5, 2, 3, 4)] == [
        0,
        1 / 8,
        1 / 4,
        1 / 2,
        7 / 8,
        1,
    ]


def test_what_is_not_a_number_has_no_place():
    with pytest.raises(CalibrationError, match="not a number"):
        ReferenceDistribution(n=1, values=(1.0,)).quantile_of(nan)


@pytest.mark.parametrize(
    "values",
    [
        {"n": 0, "values": (1.0,)},
        {"n": 2, "values": ()},
        {"n": 2, "values": (2.0, 1.0)},
        {"n": 2, "values": (1.0, nan)},
        {"n": 2, "values": (1.0, inf)},
        {"n": 1, "values": (1.0, 2.0)},
    ],
)
def test_what_is_no_distribution_is_refused(values):
    with pytest.raises(ValidationError):
        ReferenceDistribution.model_validate(values)
