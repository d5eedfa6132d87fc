"""What a figure may be."""

import pytest
from pydantic import ValidationError

from guardrail.metrics import Figure


def test_a_reason_is_written_only_where_something_is_missing():
    assert Figure(value=0.5, low=0.4, high=0.6, n=9).as_plain() == {
        "value": 0.5,
        "low": 0.4,
        "high": 0.6,
        "n": 9,
    }
    assert Figure(value=0.5, low=None, high=None, n=2, reason="few").as_plain()["reason"] == "few"


@pytest.mark.parametrize(
    "values",
    [
        {"value": None, "low": None, "high": None},
        {"value": 0.5, "low": None, "high": None},
        {"value": 0.5, "low": 0.4, "high": None, "reason": "half"},
        {"value": None, "low": 0.4, "high": 0.6, "reason": "none"},
        {"value": 0.5, "low": 0.6, "high": 0.4},
        {"value": float("nan"), "low": 0.4, "high": 0.6},
        {"value": 0.5, "low": 0.4, "high": float("inf")},
        {"value": 0.5, "low": 0.4, "high": 0.6, "n": -1},
    ],
)
def test_a_figure_that_is_not_whole_is_refused(values):
    with pytest.raises(ValidationError):
        Figure(**{"n": 9, **values})
