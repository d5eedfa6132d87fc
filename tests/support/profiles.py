"""Small profiles, written by hand."""

from typing import Any

from guardrail.calibration.calibrators import Platt, ReferenceDistribution
from guardrail.calibration.confidence import ConfidenceModel, Probe, Term
from guardrail.calibration.domain import Domain, Span
from guardrail.calibration.profile import CertifiedThreshold, Making, Profile
from guardrail.models.fingerprint import ModelFingerprint
from guardrail.scoring.options import ScorerFingerprint, ScoringOptions, fingerprint_scorer
from guardrail.scoring.uncertainty import HiddenState, Observation

# Answers of every kind, so that a profile holds for whatever a test asks.
EVERYTHING = Domain(
    answers=120,
    turns=Span(low=1, high=1_000),
    system={"": 60, **{f"{at:064x}": 5 for at in range(12)}},
    systems=12,
    tools={"yes": 60, "no": 60},
    form={"text": 40, "json": 40, "call": 40},
    reasoning={"yes": 60, "no": 60},
    script={"latin": 60, "cjk": 30, "cyrillic": 30},
    cut_off=Span(low=1, high=1_000),
)
MODEL = ModelFingerprint(
    name="tiny", weights="ab" * 32, chat_template="cd" * 32, dtype="float32", quantization=None
)
SCORER: ScorerFingerprint = fingerprint_scorer(ScoringOptions(semantic_token=-4))
HIDDEN = HiddenState(depth=0.5, mean=(1.0, -2.0), last=(0.5, 3.0))
FEASIBLE = CertifiedThreshold(
    max_error=0.1, confidence=0.9, threshold=1.5, n=40, accepted=30, errors=0, needed=22
)
INFEASIBLE = CertifiedThreshold(
    max_error=0.05,
    confidence=0.95,
    threshold=None,
    n=40,
    accepted=31,
    errors=0,
    needed=59,
    reason="needs at least 59 accepted answers without an error; 31 available",
)
MAKING = Making(
    library="0.1.0",
    created="2026-01-02T03:04:05+00:00",
    questions="questions.jsonl",
    questions_sha256="ef" * 32,
    judge="contains",
    correct=60,
    answers=100,
    parts={"fit": 40, "certify": 40, "report": 20},
    seed=0,
    generation={"max_tokens": 32, "stop": ["\n"]},
    candidates=({"inputs": "probe", "log_loss": 0.61},),
)


def a_profile(**changes: Any) -> Profile:
    """A profile with something of everything."""
    values = {
        "model": MODEL,
        "scorer": SCORER,
        "confidence_model": ConfidenceModel(
            inputs="probe",
            intercept=0.25,
            terms=(
                Term(score="hybridgrad", transform="log", weight=-0.5),
                Term(score="log_likelihood", transform="log_negative", weight=-0.125),
            ),
            probe=Probe.of(0.5, [0.5, -0.25, 1.0, 0.1], bias=0.75, weight=2.0),
        ),
        "calibrator": Platt(slope=1.5, intercept=-0.5),
        "domain": EVERYTHING,
        "certified": (FEASIBLE, INFEASIBLE),
        "reference": {
            "hybridgrad": ReferenceDistribution(n=4, values=(1e-4, 1e-3, 1e-3, 1e-2)),
            "confidence": ReferenceDistribution(n=2, values=(0.25, 0.75)),
        },
        "report": {"auroc": {"value": 0.7, "low": 0.6, "high": 0.8, "n": 20}},
        "making": MAKING,
    }
    return Profile(**{**values, **changes})


def an_observation(**scores: float) -> Observation:
    return Observation({"hybridgrad": 1e-3, "log_likelihood": -2.5, "tokens": 4.0, **scores}, HIDDEN)
