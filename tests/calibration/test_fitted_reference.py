"""Distributions of scores on answers that nothing was fitted on."""

from math import inf, nan

import numpy as np
import pytest

from guardrail.calibration.fit import distributions


def test_each_score_has_its_own():
    found = distributions([{"a": 2.0, "b": 5.0}, {"a": 1.0}])
    assert {name: (one.n, one.values) for name, one in found.items()} == {
        "a": (2, (1.0, 2.0)),
        "b": (1, (5.0,)),
    }


def test_what_is_no_number_is_left_out():
    found = distributions([{"a": nan, "b": inf}, {"a": 1.0, "b": nan}])
    assert {name: one.values for name, one in found.items()} == {"a": (1.0,)}


def test_of_many_values_evenly_spaced_quantiles_are_kept():
    values = np.random.default_rng(0).normal(size=5000)
    found = distributions([{"a": float(value)} for value in values])["a"]
    assert (found.n, len(found.values)) == (5000, 1000)
    for value in (-1.0, 0.0, 0.5):
        assert found.quantile_of(value) == pytest.approx((values < value).mean(), abs=0.002)
