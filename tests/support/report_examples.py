"""Profiles to report on, made without a model: their answers are drawn, their figures measured."""

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from guardrail.calibration.calibrators import Platt, ReferenceDistribution
from guardrail.calibration.confidence import ConfidenceModel, Probe, Term
from guardrail.calibration.fit import summarise
from guardrail.calibration.held_out import HeldOut
from guardrail.calibration.profile import CertifiedThreshold, Making, Profile
from guardrail.models.fingerprint import ModelFingerprint
from guardrail.scoring.options import ScoringOptions, fingerprint_scorer
from tests.support.profiles import EVERYTHING
from tests.support.states import states_of

FEASIBLE = CertifiedThreshold(
    max_error=0.1, confidence=0.9, threshold=2.4, n=300, accepted=98, errors=5, needed=22
)
INFEASIBLE = CertifiedThreshold(
    max_error=0.02,
    confidence=0.95,
    threshold=None,
    n=300,
    accepted=31,
    errors=0,
    needed=149,
    reason="needs at least 149 accepted answers without an error for 2 % at 95 %; 31 available",
)


# Beside those for all in their mix: promises for two kinds.
OF_KINDS = (
    FEASIBLE.model_copy(update={"kind": "fact", "kinds": 2, "n": 160, "needed": 29}),
    CertifiedThreshold(
        max_error=0.1,
        confidence=0.9,
        threshold=None,
        n=90,
        accepted=24,
        errors=0,
        needed=29,
        reason="needs at least 29 accepted answers without an error; 24 available",
        kind="sum",
        kinds=2,
    ),
)


class Example(NamedTuple):
    profile: Profile
    held_out: HeldOut


def answers(n: int = 300, seed: int = 0, sharpness: float = 1.0, shift: float = 0.0) -> HeldOut:
    """Held-out answers whose probabilities are right, but for a shift of their logits."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(0.6, 1.6 * sharpness, n)
    right = generator.random(n) < 1 / (1 + np.exp(-(scores - shift)))
    return HeldOut(tuple(scores.tolist()), tuple((1 / (1 + np.exp(-scores))).tolist()), tuple(right.tolist()))


def calibrated(
    held_out: HeldOut | None = None,
    certified: tuple[CertifiedThreshold, ...] = (FEASIBLE, INFEASIBLE),
    *,
    name: str = "smollm2-135m",
    **making: Any,
) -> Example:
    held_out = held_out or answers()
    profile = Profile(
        model=_model(name),
        scorer=fingerprint_scorer(ScoringOptions(semantic_token=-5, reduction="sum")),
        confidence_model=ConfidenceModel(
            inputs="probe",
            intercept=0.31,
            terms=(
                Term(score="hybridgrad", transform="log", weight=-0.62),
                Term(score="max_entropy", transform="identity", weight=-0.21),
                Term(score="log_likelihood", transform="log_negative", weight=-0.11),
            ),
            probe=Probe.of(0.67, [0.01] * 1152, 0.0, 0.8),
        ),
        calibrator=Platt(slope=1.0, intercept=0.0),
        domain=EVERYTHING,
        certified=certified,
        reference={"confidence_score": ReferenceDistribution(n=3, values=(0.0, 1.0, 2.0))},
        states=states_of(depth=0.67),
        report=_report(held_out, certified),
        making=_making(len(held_out.correct), making),
    )
    return Example(profile, held_out)


def uncalibrated(name: str = "smollm2-135m") -> Profile:
    return Profile(
        model=_model(name),
        scorer=fingerprint_scorer(ScoringOptions()),
        confidence_model=None,
        calibrator=None,
        domain=EVERYTHING,
        certified=(),
        reference={"hybridgrad": ReferenceDistribution(n=3, values=(0.1, 0.2, 0.3))},
        report={},
        making=_making(0, {"judge": "none", "correct": 0}),
    )


# Measuring takes most of the time of these tests, and many of them look at the same profile.
@cache
def _report(held_out: HeldOut, certified: tuple[CertifiedThreshold, ...]) -> dict[str, Any]:
    return summarise(held_out.confidences, held_out.scores, held_out.correct, certified)


def _model(name: str) -> ModelFingerprint:
    return ModelFingerprint(
        name=name, weights="3f" * 32, chat_template="a7" * 32, dtype="float32", quantization=None
    )


def _making(held_out: int, changes: dict[str, Any]) -> Making:
    values = {
        "library": "0.2.0",
        "created": "2026-07-28T10:12:00Z",
        "questions": "general-knowledge.jsonl",
        "questions_sha256": "5c" * 32,
        "judge": "contains",
        "correct": 566,
        "answers": 900,
        "parts": {"fit": 300, "certify": 300, "report": held_out},
        "seed": 0,
        "generation": {"max_tokens": 64, "temperature": 0.0},
        "candidates": (
            {"inputs": "hybridgrad", "auroc": 0.6341, "brier": 0.2212},
            {"inputs": "signals", "auroc": 0.6512, "brier": 0.2178},
            {"inputs": "probe", "auroc": 0.7184, "brier": 0.1993, "chosen": True},
        ),
    }
    return Making.model_validate(values | changes)
