"""Every figure of a profile's report, as plain values for its file."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from guardrail.calibration.figure import Figure
from guardrail.calibration.metrics.arrays import FloatArray, checked
from guardrail.calibration.metrics.intervals import LEVEL, RESAMPLES, Metric, measure, share
from guardrail.calibration.metrics.probability import brier, brier_base_rate, brier_skill
from guardrail.calibration.metrics.ranking import auprc, auroc
from guardrail.calibration.metrics.reliability import bin_count, ece, ece_if_calibrated
from guardrail.calibration.metrics.selective import aurc, prr
from guardrail.calibration.profile import CertifiedThreshold
from guardrail.errors import CalibrationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["summarise"]

_OF_SCORES: dict[str, Metric] = {"auroc": auroc, "auprc": auprc, "aurc": aurc, "prr": prr}
_OF_CONFIDENCES: dict[str, Metric] = {
    "ece": ece,
    "brier": brier,
    "brier_base_rate": brier_base_rate,
    "brier_skill": brier_skill,
}


def summarise(
    confidences: Sequence[float],
    scores: Sequence[float],
    correct: Sequence[bool],
    certified: Sequence[CertifiedThreshold] = (),
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure everything on answers that nothing was fitted or certified on.

    Every figure is ``{"value", "low", "high", "n"}``, with a ``reason`` where the value or the interval is
    None. Shares of answers (``accuracy``, and ``coverage`` and ``error`` of a threshold) have exact binomial
    intervals; ``ece_if_calibrated`` has the middle of what chance gives; all others are bootstrapped.

    Args:
        confidences: Probabilities of being correct, 0 to 1: what the ECE and Brier score are of.
        scores: Confidence scores, which thresholds apply to: what AUROC, AUPRC, AURC and PRR are of.
        correct: Whether each answer was judged correct.
        certified: Thresholds to measure.
        seed: Of the bootstrap and of the draws by chance.

    Returns:
        ``n``, ``correct``, ``method`` (of the intervals), each figure by its name, and ``certified``: for
        each threshold ``max_error``, ``confidence``, ``threshold``, ``coverage``, ``error``, ``accepted`` and
        ``errors``.

    Raises:
        CalibrationError: There are no answers, not as many of each, or something is not a number.
    """
    ranks, right = checked(scores, correct)
    probabilities, _ = checked(confidences, correct)
    if ((probabilities < 0) | (probabilities > 1)).any():
        raise CalibrationError("A confidence is a probability, from 0 to 1; there are others.")
    figures = {"accuracy": share(right)}
    figures |= {name: measure(metric, ranks, right, seed=seed) for name, metric in _OF_SCORES.items()}
    figures |= {
        name: measure(metric, probabilities, right, seed=seed) for name, metric in _OF_CONFIDENCES.items()
    }
    figures["ece_if_calibrated"] = ece_if_calibrated(probabilities, seed=seed)
    return {
        "n": len(right),
        "correct": int(right.sum()),
        "method": {
            "level": LEVEL,
            "resamples": RESAMPLES,
            "seed": seed,
            "ece_bins": bin_count(len(right)),
        },
        **{name: figure.as_plain() for name, figure in figures.items()},
        "certified": [_at(one, ranks, right) for one in certified],
    }


def _at(one: CertifiedThreshold, scores: FloatArray, right: "NDArray[np.bool_]") -> dict[str, Any]:
    plain: dict[str, Any] = {
        "max_error": one.max_error,
        "confidence": one.confidence,
        "threshold": one.threshold,
    }
    if one.threshold is None:
        none = Figure(value=None, low=None, high=None, n=len(scores), reason=one.reason).as_plain()
        return {**plain, "coverage": none, "error": none, "accepted": 0, "errors": 0}
    accepted = scores >= one.threshold
    wrong = ~right[accepted]
    return {
        **plain,
        "coverage": share(accepted).as_plain(),
        "error": share(wrong, none="no held-out answer is let through").as_plain(),
        "accepted": int(accepted.sum()),
        "errors": int(wrong.sum()),
    }
