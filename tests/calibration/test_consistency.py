"""A profile that is read is held to its own numbers, whatever its hash says."""

import json
from math import isclose

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from guardrail.calibration.certify import certify
from guardrail.calibration.consistency import binomial_cdf, contradiction_in
from guardrail.calibration.held_out import builtin_profiles
from guardrail.calibration.profile import CertifiedThreshold, Guarantee, Profile, read_profile, write_profile
from guardrail.errors import ProfileError
from tests.support.profiles import FEASIBLE, INFEASIBLE, MAKING, a_profile

NOT_FEASIBLE = {"max_error": 0.05, "confidence": 0.95, "threshold": -5.0, "needed": 59}
REPORT = {"n": 20, "correct": 12}


def figure(value, n=20):
    return {"value": value, "low": 0.0, "high": 1.0, "n": n}


def at(accepted, errors, coverage, error):
    promised = {"max_error": 0.1, "confidence": 0.9, "threshold": 1.5}
    return {
        **promised,
        "accepted": accepted,
        "errors": errors,
        "coverage": figure(coverage),
        "error": figure(error),
    }


def made(**changes):
    return MAKING.model_copy(update=changes)


def certified(**changes):
    return (FEASIBLE.model_copy(update=changes), INFEASIBLE)


BROKEN = {
    "5 % on 416 errors of 416": {
        "certified": (CertifiedThreshold(**NOT_FEASIBLE, n=416, accepted=416, errors=416),),
        "making": made(answers=1000, correct=1, parts={"fit": 400, "certify": 416, "report": 20}),
    },
    "one error too many": {"certified": certified(accepted=40, errors=2)},
    "a stricter promise than was earned": {
        "certified": certified(max_error=0.07, needed=32, accepted=40, errors=1)
    },
    "more confidence than was earned": {
        "certified": certified(confidence=0.98, needed=38, accepted=40, errors=1)
    },
    "fewer needed than there are": {"certified": certified(needed=5)},
    "a threshold that was certified on fewer answers": {"certified": certified(n=35)},
    "two thresholds for one guarantee": {"certified": (FEASIBLE, FEASIBLE.model_copy(update={"errors": 0}))},
    "a kind that was tested as if alone": {
        "certified": (FEASIBLE.model_copy(update={"kind": "fact", "kinds": 3}), INFEASIBLE)
    },
    "more kinds than were reckoned with": {
        "certified": tuple(
            FEASIBLE.model_copy(
                update={"kind": kind, "n": 20, "threshold": None, "reason": "?", "accepted": 9}
            )
            for kind in ("fact", "sum")
        )
    },
    "kinds of more answers than were certified on": {
        "certified": tuple(
            FEASIBLE.model_copy(update={"kind": kind, "kinds": 2, "needed": 29}) for kind in ("fact", "sum")
        )
    },
    "a report of more answers of a kind than there are": {
        "report": {
            **REPORT,
            "certified": [at(10, 1, 0.4, 0.1) | {"kind": "fact", "coverage": figure(0.4, 25)}],
        }
    },
    "more right than there are": {"making": made(correct=101)},
    "parts of more answers than there are": {"making": made(answers=70)},
    "a reference of more answers than were unseen": {
        "reference": {"hybridgrad": {"n": 61, "values": (1e-4, 1e-3)}}
    },
    "a confidence of the reference beyond 1": {"reference": {"confidence": {"n": 2, "values": (0.5, 1.5)}}},
    "a report of other answers": {"report": {**REPORT, "n": 21}},
    "a report with more right than there are": {"report": {**REPORT, "correct": 21}},
    "an accuracy that is not counted": {"report": {**REPORT, "accuracy": figure(0.9)}},
    "a figure of more answers": {"report": {**REPORT, "auroc": figure(0.7, n=500)}},
    "a figure without an interval": {"report": {"auroc": {"value": 0.7, "n": 20}}},
    "an interval the wrong way round": {"report": {"auroc": {**figure(0.7), "low": 0.9, "high": 0.1}}},
    "an error that is not counted": {"report": {**REPORT, "certified": [at(10, 5, 0.5, 0.1)]}},
    "a coverage that is not counted": {"report": {**REPORT, "certified": [at(10, 1, 0.9, 0.1)]}},
    "more errors than answers": {"report": {**REPORT, "certified": [at(3, 5, 0.15, 5 / 3)]}},
    "a report that is no report": {"report": {"certified": [1]}},
}


def written(folder, **changes):
    """A profile's file with changes, and a hash that is made anew."""
    values = {**a_profile().model_dump(), **changes}
    profile = Profile.model_validate(values) if "reference" in changes else a_profile(**changes)
    path = folder / "profile.json"
    write_profile(profile, path)
    return path


@pytest.mark.parametrize("changes", BROKEN.values(), ids=BROKEN)
def test_a_profile_that_cannot_be_true_by_its_own_numbers_is_refused(tmp_path, changes):
    with pytest.raises(ProfileError, match="contradicts itself"):
        read_profile(written(tmp_path, **changes))


def test_the_certificate_that_is_refused_is_named(tmp_path):
    path = written(tmp_path, **BROKEN["5 % on 416 errors of 416"])
    with pytest.raises(ProfileError, match="416 errors among 416 accepted answers do not certify"):
        read_profile(path)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"certified": certified(accepted=40, errors=1)},
        {
            "certified": (
                FEASIBLE,
                FEASIBLE.model_copy(update={"kind": "fact", "kinds": 2, "needed": 29, "n": 32}),
            )
        },
        {
            "report": {
                **REPORT,
                "certified": [at(4, 1, 0.5, 0.25) | {"kind": "fact", "coverage": figure(0.5, 8)}],
            }
        },
        {"report": {**REPORT, "accuracy": figure(0.6), "certified": [at(10, 1, 0.5, 0.1)]}},
        {
            "report": {
                **REPORT,
                "certified": [
                    at(0, 0, 0.0, None)
                    | {"error": {**figure(None), "low": None, "high": None, "reason": "none"}}
                ],
            }
        },
    ],
)
def test_a_profile_that_may_be_true_is_read(tmp_path, changes):
    assert read_profile(written(tmp_path, **changes)).making == MAKING


def test_every_profile_that_ships_is_consistent():
    for path in builtin_profiles().values():
        assert contradiction_in(read_profile(path)) == ""
        assert "sha256" in json.loads(path.read_text())


@settings(max_examples=300, deadline=None)
@given(
    trials=st.integers(1, 3000),
    share=st.floats(0, 1),
    chance=st.floats(0.001, 0.999),
)
def test_the_binomial_tail_is_exact(trials, share, chance):
    most = round(share * trials)
    assert isclose(
        binomial_cdf(most, trials, chance), binom.cdf(most, trials, chance), rel_tol=1e-7, abs_tol=1e-12
    )


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.booleans(), min_size=1, max_size=120),
    max_error=st.sampled_from([0.05, 0.1, 0.3, 0.5, 0.9]),
    confidence=st.sampled_from([0.3, 0.5, 0.9, 0.95, 0.99]),
)
def test_whatever_is_certified_stands_when_it_is_read(labels, max_error, confidence):
    scores = [float(at) for at in range(len(labels))]
    one = certify(scores, labels, Guarantee(max_error, confidence))
    parts = {"fit": 1, "certify": one.n, "report": 1}
    profile = a_profile(
        certified=(one,), report={}, reference={}, making=made(answers=one.n + 2, correct=0, parts=parts)
    )
    assert contradiction_in(profile) == ""
