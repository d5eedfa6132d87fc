"""Several segments come to one: the worst, the mean, the last."""

import pytest

from guardrail.errors import OptionError
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.uncertainty import SemanticToken, Uncertainty, combined_scores


def segment(hybridgrad, log_likelihood, exgrad=None):
    numbers = [hybridgrad, 1.0, 1.0, exgrad, 1.0, 1.0, 1.0, log_likelihood, 1.0, 0.5]
    return Uncertainty(*numbers, [], SemanticToken(-1, "\n"), ScoringOptions(), "truncated", "", 0.1)


@pytest.mark.parametrize(
    ("how", "expected"),
    [("worst", (3.0, -9.0)), ("mean", (2.0, -5.0)), ("last", (2.0, -2.0))],
)
def test_uncertainty_goes_up_and_likelihood_down(how, expected):
    found = combined_scores([segment(3.0, -4.0), segment(1.0, -9.0), segment(2.0, -2.0)], how)
    assert (found["hybridgrad"], found["log_likelihood"]) == expected
    assert "exgrad" not in found


def test_one_segment_comes_to_itself():
    for how in ("worst", "mean", "last"):
        assert combined_scores([segment(3.0, -4.0)], how) == segment(3.0, -4.0).scores()


def test_nothing_and_unknown_ways_are_refused():
    with pytest.raises(OptionError, match="no segments"):
        combined_scores([])
    with pytest.raises(OptionError, match=r"^combine is 'best'; it can be worst, mean, last\.$"):
        combined_scores([segment(1.0, -1.0)], "best")
