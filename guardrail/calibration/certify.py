"""Certify a guarantee: find the lowest threshold that keeps it, or say why there is none."""

from collections.abc import Mapping, Sequence
from math import ceil, isfinite, log
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

from guardrail.calibration.binomial_bounds import band, fewest_needed, pointwise
from guardrail.calibration.guarantees import MOST_KINDS, CertifiedThreshold, Guarantee, divided
from guardrail.calibration.threshold_search import FixedSequence, Plan, Search, default_search
from guardrail.errors import CalibrationError, OptionError

__all__ = ["KindOfAnswers", "certify", "certify_kinds"]


# Above this many answers, the number is no longer given.
_MANY = 1_000_000


class _Tested(NamedTuple):
    """Thresholds from strict to lax, with the number of answers and of wrong answers each accepts."""

    thresholds: NDArray[np.float64]
    accepted: NDArray[np.int64]
    errors: NDArray[np.int64]


def certify(
    scores: Sequence[float],
    correct: Sequence[bool],
    guarantee: Guarantee,
    plan: Plan | Search | None = None,
) -> CertifiedThreshold:
    """Find the lowest threshold with at most ``max_error`` wrong among the accepted answers.

    Learn then Test (Angelopoulos et al. 2021) with exact binomial tests of H(λ): P(wrong | score ≥ λ) ≥ α.
    Over the draw of the certify part, the probability of certifying any threshold with more than α wrong is
    at most δ, for any n and for scores that are useless, tied or not monotone. It assumes that the answers
    are independent draws from what the guarantee is about, and that scores and plan were fixed without them.
    Why it holds for a :class:`FixedSequence`: let λ* be the first threshold in the sequence with P(wrong |
    score ≥ λ*) ≥ α (it exists because that share is continuous from the left). No threshold from there on is
    certified unless λ* passes its own test, which has level δ given how many answers λ* accepts. For a
    :class:`Band` see :mod:`guardrail.calibration.binomial_bounds`.

    Args:
        scores: Confidence scores of the certify part; higher scores are accepted first.
        correct: Whether each of these answers was correct.
        guarantee: The guarantee to certify.
        plan: How to search, made by :func:`~guardrail.calibration.threshold_search.plan` on the fit part, or
            the search itself; by default a band, which needs no fit part.

    Returns:
        The threshold and the counts that certified it; or, if infeasible, the reason.

    Raises:
        CalibrationError: A score is not finite, or scores and labels differ in length.
        OptionError: The guarantee is invalid.
    """
    _check(guarantee)
    score, right = _arrays(scores, correct)
    needed, n = fewest_needed(guarantee), len(score)
    if n < needed:
        return _infeasible(guarantee, n, n, int((~right).sum()), _too_few(guarantee, n))
    search = plan.search(guarantee, n) if isinstance(plan, Plan) else plan or default_search(guarantee, n)
    alpha, delta = guarantee.max_error, 1 - guarantee.confidence
    if isinstance(search, FixedSequence):
        if not isfinite(search.start):
            raise CalibrationError(f"A fixed sequence cannot start at {search.start}.")
        tested = _thresholds(score, right, search.start)
        boundary = pointwise(n, alpha, delta)
        passed = np.logical_and.accumulate(tested.errors <= boundary[tested.accepted])
    else:
        tested = _thresholds(score, right)
        boundary = band(n, search.first, search.last, guarantee)
        passed = tested.errors <= boundary[tested.accepted]
    if passed.any():
        lowest = int(np.flatnonzero(passed)[-1])
        return CertifiedThreshold(
            max_error=alpha,
            confidence=guarantee.confidence,
            threshold=float(tested.thresholds[lowest]),
            n=n,
            accepted=int(tested.accepted[lowest]),
            errors=int(tested.errors[lowest]),
            needed=needed,
        )
    if isinstance(search, FixedSequence):
        # Only its start was tested.
        tested = _Tested(tested.thresholds[:1], tested.accepted[:1], tested.errors[:1])
    accepted, errors = _nearest(tested, alpha, needed)
    reason = _too_many_errors(guarantee, accepted, errors)
    return _infeasible(guarantee, n, accepted, errors, reason)


class KindOfAnswers(NamedTuple):
    """Answers of one kind in the certify part, and how to search for their threshold."""

    scores: Sequence[float]
    correct: Sequence[bool]
    plan: Plan | Search | None = None


def certify_kinds(kinds: Mapping[str, KindOfAnswers], guarantee: Guarantee) -> tuple[CertifiedThreshold, ...]:
    """Certify a guarantee for each kind of question, so that all that are found hold with its confidence.

    δ is divided equally among the kinds (Bonferroni), also among those that turn out infeasible.

    Args:
        kinds: The answers of each kind, all kinds that a threshold is wanted for.
        guarantee: The guarantee to certify.

    Raises:
        CalibrationError: There are too many kinds, or see :func:`certify`.
        OptionError: The guarantee is invalid.
    """
    if len(kinds) > MOST_KINDS:
        raise CalibrationError(
            f"There are {len(kinds)} kinds, and at most {MOST_KINDS} can be certified: each of them needs "
            "many answers. Name a field with fewer values."
        )
    _check(guarantee)
    shared = divided(guarantee, len(kinds))
    return tuple(
        certify(*answers[:2], shared, answers.plan).model_copy(
            update={"confidence": guarantee.confidence, "kind": kind, "kinds": len(kinds)}
        )
        for kind, answers in kinds.items()
    )


def _check(guarantee: Guarantee) -> None:
    for name, value in guarantee._asdict().items():
        if not 0 < value < 1:
            raise OptionError(f"{name} of a guarantee is {value}; it must be between 0 and 1, exclusive.")


def _arrays(
    scores: Sequence[float], correct: Sequence[bool]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    score, labels = np.asarray(scores, float), np.asarray(correct)
    if score.shape != labels.shape or score.ndim != 1:
        raise CalibrationError(
            f"{len(scores)} scores and {len(correct)} labels: every answer needs one of each."
        )
    if not np.isfinite(score).all():
        raise CalibrationError("A confidence score of the certify part is not a finite number.")
    if not np.isin(labels, (0, 1)).all():
        raise CalibrationError("A label of the certify part is neither true nor false.")
    return score, labels.astype(bool)


def _thresholds(score: NDArray[np.float64], right: NDArray[np.bool_], start: float | None = None) -> _Tested:
    """All scores as thresholds, from strict to lax; with a start, that and all below it."""
    order = np.argsort(-score, kind="stable")
    ordered, errors = score[order], np.cumsum(~right[order])
    # Tied answers are accepted together or not at all.
    ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    if start is None:
        return _Tested(ordered[ends], ends + 1, errors[ends])
    first = int((score >= start).sum())
    below = ends[ends >= first]
    return _Tested(
        np.append(start, ordered[below]),
        np.append(first, below + 1),
        np.append(errors[first - 1] if first else 0, errors[below]),
    )


def _nearest(tested: _Tested, alpha: float, needed: int) -> tuple[int, int]:
    """Accepted answers and errors of the threshold that came nearest to certification."""
    enough = tested.accepted >= needed
    if not enough.any():
        return int(tested.accepted[-1]), int(tested.errors[-1])
    p_values = np.where(enough, bdtr(tested.errors, tested.accepted, alpha), 2.0)
    nearest = int(np.argmin(p_values))
    return int(tested.accepted[nearest]), int(tested.errors[nearest])


def _infeasible(guarantee: Guarantee, n: int, accepted: int, errors: int, reason: str) -> CertifiedThreshold:
    return CertifiedThreshold(
        max_error=guarantee.max_error,
        confidence=guarantee.confidence,
        threshold=None,
        n=n,
        accepted=accepted,
        errors=errors,
        needed=fewest_needed(guarantee),
        reason=reason,
    )


def _too_few(guarantee: Guarantee, available: int) -> str:
    return (
        f"needs at least {fewest_needed(guarantee)} accepted answers without an error for "
        f"{_shown(guarantee)}; {available} available"
    )


def _too_many_errors(guarantee: Guarantee, accepted: int, errors: int) -> str:
    if accepted < fewest_needed(guarantee):
        return _too_few(guarantee, accepted)
    share = f"{errors} of {accepted} accepted answers were wrong ({100 * errors / accepted:.1f} %)"
    if errors >= guarantee.max_error * accepted:
        return (
            f"{share}, which is not below {100 * guarantee.max_error:.3g} %. For {_shown(guarantee)}, more "
            f"data will "
            "not help; the model or the score has to be better"
        )
    wanted = _needed_at(guarantee, accepted, errors)
    amount = f"about {wanted:,}" if wanted <= _MANY else f"more than {_MANY:,}"
    return f"{share}; at that rate {_shown(guarantee)} needs {amount} accepted answers; {accepted} available"


def _needed_at(guarantee: Guarantee, accepted: int, errors: int) -> int:
    """Number of accepted answers (within 5 %) at which this error rate passes one test at level δ/2.

    Half of δ allows for the search. It is a figure for planning, not a bound.
    """
    steps = ceil(log(_MANY) / log(1.05))
    sizes = np.ceil((accepted + 1) * 1.05 ** np.arange(steps))
    expected = np.ceil(errors * sizes / accepted)
    enough = bdtr(expected, sizes.astype(int), guarantee.max_error) <= (1 - guarantee.confidence) / 2
    return int(sizes[np.argmax(enough)]) if enough.any() else _MANY + 1


def _shown(guarantee: Guarantee) -> str:
    return f"{100 * guarantee.max_error:.3g} % at {100 * guarantee.confidence:.4g} %"
