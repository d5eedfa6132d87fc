"""Check a profile against itself: recompute what it promises from the counts it reports.

A profile's hash shows that it was not altered since it was written, not that it is true. Uses no NumPy or
SciPy, which are slow to load, so that checking a policy stays instant.
"""

from collections.abc import Iterator, Mapping
from math import exp, isclose, lgamma, log, log1p
from typing import TYPE_CHECKING, Any

from guardrail.metrics import Figure

if TYPE_CHECKING:
    from guardrail.calibration.guarantees import CertifiedThreshold, Guarantee
    from guardrail.calibration.profile import Profile

__all__ = ["binomial_cdf", "contradiction_in"]

# Of sums of many probabilities.
_ROUNDING = 1e-6
# Terms fall at least geometrically; the rest of the sum is below this share of it.
_NEGLIGIBLE = 1e-18


def contradiction_in(profile: "Profile") -> str:
    """What is impossible in a profile given its other numbers, in words; empty if nothing is found."""
    try:
        return next(_contradictions(profile), "")
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        return f"its report cannot be read ({type(error).__name__})"


def binomial_cdf(most: int, trials: int, chance: float) -> float:
    """P(X ≤ most) for X the number of successes in independent trials.

    Args:
        most: Largest number of successes included.
        trials: Number of trials.
        chance: Probability of success, strictly between 0 and 1.
    """
    if most >= trials:
        return 1.0
    odds = chance / (1 - chance)
    if most < trials * chance:
        total = term = exp(_log_mass(most, trials, chance))
        for at in range(most, 0, -1):
            term *= at / ((trials - at + 1) * odds)
            total += term
            if term <= _NEGLIGIBLE * total:
                break
        return min(total, 1.0)
    # Above the mode, the terms beyond are the ones that fall.
    total = term = exp(_log_mass(most + 1, trials, chance))
    for at in range(most + 1, trials):
        term *= (trials - at) * odds / (at + 1)
        total += term
        if term <= _NEGLIGIBLE * total:
            break
    return max(1 - total, 0.0)


def _log_mass(successes: int, trials: int, chance: float) -> float:
    choices = lgamma(trials + 1) - lgamma(successes + 1) - lgamma(trials - successes + 1)
    return choices + successes * log(chance) + (trials - successes) * log1p(-chance)


def _contradictions(profile: "Profile") -> Iterator[str]:
    making, parts = profile.making, profile.making.parts
    if making.correct > making.answers:
        yield f"{making.correct} of {making.answers} answers are said to be correct"
    # Without labels nothing was judged, and all answers are in the last part.
    if profile.is_calibrated and sum(parts.values()) > making.answers:
        yield f"its parts have {sum(parts.values())} answers of only {making.answers}"
    chosen, fitted = making.semantic_token, parts.get("fit", 0)
    if chosen is not None and chosen.answers != fitted:
        yield f"its semantic token was chosen by {chosen.answers} answers, but that part has {fitted}"
    certifying = parts.get("certify", 0)
    of_kinds: dict[Guarantee, list[CertifiedThreshold]] = {}
    for one in profile.certified:
        if one.kind:
            of_kinds.setdefault(one.guarantee, []).append(one)
        elif one.n != certifying:
            yield f"a threshold is certified on {one.n} answers, but that part has {certifying}"
        yield from _of_certificate(one)
    if len({(one.guarantee, one.kind) for one in profile.certified}) < len(profile.certified):
        yield "it has two thresholds for the same guarantee"
    for guarantee, kinds in of_kinds.items():
        if sum(one.n for one in kinds) > certifying:
            yield f"the kinds certified for {guarantee} have more answers than the {certifying} of that part"
        if any(one.kinds < len(kinds) for one in kinds):
            yield f"{len(kinds)} kinds are certified for {guarantee}, but δ was divided among fewer"
    # To few answers little is fitted, and they are all that an adapted profile has.
    unseen = making.answers if profile.is_adapted else certifying + parts.get("report", 0)
    for name, reference in profile.reference.items():
        if reference.n > unseen:
            yield f"the reference of {name} is of {reference.n} answers, but there are only {unseen}"
    if profile.states is not None and profile.states.n > unseen:
        yield f"it keeps states of {profile.states.n} answers, but there are only {unseen}"
    confidences = profile.reference.get("confidence")
    if confidences is not None and (confidences.values[0] < 0 or confidences.values[-1] > 1):
        yield "a reference confidence is not between 0 and 1"
    yield from _of_report(profile.report, parts.get("report", 0))


def _of_certificate(one: "CertifiedThreshold") -> Iterator[str]:
    alpha, delta = one.max_error, 1 - one.tested.confidence
    if not one.errors <= one.accepted <= one.n:
        yield f"{one.errors} errors among {one.accepted} accepted of {one.n} answers"
    below, enough = ((1 - alpha) ** accepted for accepted in (one.needed - 1, one.needed))
    if not enough * (1 - _ROUNDING) <= delta <= below * (1 + _ROUNDING):
        yield f"{one.guarantee} does not need {one.needed} accepted answers"
    if one.threshold is None:
        return
    # However thresholds were searched, the one found must pass its own exact test.
    chance = binomial_cdf(one.errors, one.accepted, alpha)
    if chance > delta * (1 + _ROUNDING):
        yield (
            f"{one.errors} errors among {one.accepted} accepted answers do not certify {one.guarantee}: if "
            f"{alpha:.3g} of them were wrong, so few errors would have probability {chance:.3g}"
        )


def _of_report(report: Mapping[str, Any], answers: int) -> Iterator[str]:
    correct = report.get("correct", 0)
    if report.get("n", answers) != answers or not 0 <= correct <= answers:
        yield f"its report is not of the {answers} held-out answers"
    for name, values in report.items():
        if isinstance(values, Mapping) and "value" in values:
            figure = Figure.model_validate(values)
            if figure.n > answers:
                yield f"{name} is of {figure.n} answers, but {answers} were held out"
            if name == "accuracy" and "correct" in report and not _is_share(figure, correct, answers):
                yield f"its accuracy is not that of {correct} right answers among {answers}"
    for one in report.get("certified", ()):
        accepted, errors = one["accepted"], one["errors"]
        shares = [(Figure.model_validate(one["error"]), errors, accepted)]
        if one["threshold"] is not None:
            coverage = Figure.model_validate(one["coverage"])
            # Of one kind, the share is among the held-out answers of that kind.
            shares.append((coverage, accepted, coverage.n if one.get("kind") else answers))
        is_counted = one["coverage"]["n"] <= answers and all(_is_share(*share) for share in shares)
        if not 0 <= errors <= accepted <= answers or not is_counted:
            yield f"its report contradicts {errors} wrong among {accepted} held-out answers"


def _is_share(figure: Figure, part: int, whole: int) -> bool:
    if figure.value is None:
        return True
    return whole > 0 and isclose(figure.value, part / whole, rel_tol=1e-9, abs_tol=1e-12)
