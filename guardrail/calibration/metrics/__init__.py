"""How good a confidence is: figures of (confidence, correct), each with its n and its interval.

Each metric is a function of two arrays whose last axis is the answers; axes before it are resamples, each
judged on its own. Confidence goes **up** when the model is surer: of an uncertainty, pass the negative.
A metric that is not defined for the labels it is given is NaN; ``measure`` makes a figure that says why.

Ranking, for which any score will do: ``ranking`` (AUROC, AUPRC) and ``selective`` (risk–coverage, AURC,
PRR). Probabilities: ``probability`` (Brier) and ``reliability`` (ECE). ``intervals`` puts an interval round
any of them; ``summary`` makes all of them for a profile.
"""

from guardrail.calibration.metrics.intervals import Metric, interval, measure, resampled, share
from guardrail.calibration.metrics.probability import brier, brier_base_rate, brier_skill
from guardrail.calibration.metrics.ranking import auprc, auroc
from guardrail.calibration.metrics.reliability import Bin, bin_count, ece, ece_if_calibrated, reliability
from guardrail.calibration.metrics.selective import aurc, prr, risk_coverage
from guardrail.calibration.metrics.summary import summarise

__all__ = [
    "Bin",
    "Metric",
    "auprc",
    "aurc",
    "auroc",
    "bin_count",
    "brier",
    "brier_base_rate",
    "brier_skill",
    "ece",
    "ece_if_calibrated",
    "interval",
    "measure",
    "prr",
    "reliability",
    "resampled",
    "risk_coverage",
    "share",
    "summarise",
]
