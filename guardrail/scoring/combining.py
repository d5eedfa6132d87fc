"""One score of several segments: of the worst, of their mean, or of the last. Needs no torch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

from guardrail.errors import OptionError
from guardrail.scoring.uncertainty import Uncertainty

__all__ = ["Combination", "combined_scores"]

Combination = Literal["worst", "mean", "last"]
# Every other score goes up with uncertainty.
_DOWN = ("log_likelihood", "min_token_probability")


def combined_scores(segments: Sequence[Uncertainty], how: Combination = "worst") -> Mapping[str, float]:
    """Each score over the segments of a response.

    Args:
        segments: Their scores, in the order of the response.
        how: ``worst``, the one of most uncertainty, for each score by itself; ``mean``, in which every
            segment counts alike; ``last``, for answers that reason first and conclude at the end.

    Returns:
        Scores by name, without those that were not asked for.

    Raises:
        OptionError: There are no segments, or ``how`` is none of these.
    """
    if how not in get_args(Combination):
        raise OptionError(f"combine is {how!r}; it can be {', '.join(get_args(Combination))}.")
    if not segments:
        raise OptionError("There are no segments to combine.")
    scores = [segment.scores() for segment in segments]
    return {name: _combination(name, how)([one[name] for one in scores]) for name in scores[0]}


def _combination(name: str, how: Combination) -> Callable[[Sequence[float]], float]:
    if how == "mean":
        return lambda values: sum(values) / len(values)
    if how == "last":
        return lambda values: values[-1]
    return min if name in _DOWN else max
