"""Policies, profiles and guards over the tiny chat model."""

from functools import cache

import numpy as np

from guardrail.calibration.calibrators import Platt, ReferenceDistribution
from guardrail.calibration.confidence import ConfidenceModel, Probe, Term
from guardrail.calibration.familiarity import ENOUGH, Streams
from guardrail.calibration.profile import CertifiedThreshold, Making, Profile, read_profile, write_profile
from guardrail.calibration.reference_states import ReferenceStates
from guardrail.guard import Guard
from guardrail.models.fingerprint import fingerprint_model
from guardrail.models.sampling import Sampling
from guardrail.policy.model import Policy
from guardrail.scoring.options import ScoringOptions, fingerprint_scorer
from guardrail.scoring.uncertainty import HiddenState, Observation
from tests.support.chat import tiny_chat_model
from tests.support.profiles import EVERYTHING

SHORT = Sampling(max_tokens=4)
ASKED = "Who wrote Faust?"
SAID = "Goethe wrote it."
PASS = {"id": "all", "action": "pass"}


@cache
def tiny():
    return tiny_chat_model()


def policy_of(*rules, **fields):
    values = {"version": 1, "name": "test", "rules": list(rules) or [PASS], **fields}
    return Policy.model_validate(values)


# So wide apart that among them every answer of the tiny model is an ordinary one.
_SPREAD = 1e4


def hidden_states(count, seed, size=32):
    """States such as the profiles of this module keep."""
    drawn = _SPREAD * np.random.default_rng(seed).standard_normal((count, size))
    return [HiddenState(0.5, state.tolist(), state.tolist()) for state in drawn]


@cache
def reference_states():
    seen = [[Observation({}, hidden) for hidden in hidden_states(120, seed)] for seed in (1, 2)]
    return ReferenceStates.of(*seen, seed=0)


def familiar_with(profile, *streams, patterns=(), answers=ENOUGH):
    """What a guard knows that has compared enough answers, and found them like those of the profile."""
    known = Streams(profile, patterns)
    for tags in streams or ((),):
        for hidden in hidden_states(answers, seed=3):
            known.observe(tags, hidden)
    return known.as_plain()


def guard_of(*rules, targets=None, model=None, profile=None, familiar=True, **fields):
    """A guard over the tiny model; ``profile`` is a file. It starts familiar where the profile has states."""
    if profile is not None:
        policy = policy_of(*rules, **{**fields, "profile": str(profile)}).found_at(profile)
    else:
        policy = policy_of(*rules, **fields)
    known = None
    if profile is not None and familiar and (read := read_profile(profile)).states is not None:
        known = familiar_with(read, patterns=policy.streams)
    return Guard(policy, model or tiny(), targets=targets, familiarity=known)


def profile_of(
    model=None,
    *,
    weight=0.0,
    intercept=0.0,
    probe=False,
    options=None,
    generation=None,
    domain=EVERYTHING,
    is_general=False,
    certified=(),
    states=True,
    calibrator=None,
):
    """A profile whose confidence is the logistic of intercept − weight · log hybridgrad."""
    signals = ConfidenceModel(
        inputs="probe" if probe else "hybridgrad",
        intercept=intercept,
        terms=(Term(score="hybridgrad", transform="log", weight=-weight),),
        probe=Probe.of(0.5, [0.01] * 64, 0.0) if probe else None,
    )
    pooled = {"max_error": 0.1, "confidence": 0.9, "n": 100, "errors": 0, "needed": 22}
    return Profile(
        model=fingerprint_model(model or tiny()),
        scorer=fingerprint_scorer(options or ScoringOptions()),
        confidence_model=signals,
        calibrator=calibrator or Platt(slope=1.0, intercept=0.0),
        domain=domain,
        is_general=is_general,
        certified=(CertifiedThreshold(**pooled, threshold=1.0, accepted=50), *certified),
        states=reference_states() if states else None,
        reference={"hybridgrad": ReferenceDistribution(n=3, values=(1e-6, 1e-3, 1.0))},
        report={},
        making=Making(
            library="0",
            created="2026-01-01T00:00:00+00:00",
            questions="q",
            questions_sha256="0",
            judge="labelled",
            correct=1,
            answers=300,
            parts={"fit": 100, "certify": 100, "report": 100},
            seed=0,
            generation=generation or {},
        ),
    )


def profile_file(folder, **changes):
    path = folder / "profile.json"
    write_profile(profile_of(**changes), path)
    return path
