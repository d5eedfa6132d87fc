"""Guarantees for all questions in their mix and for each kind."""

import pytest
from pydantic import ValidationError

from guardrail.calibration.certify import KindOfAnswers, certify, certify_kinds
from guardrail.calibration.guarantees import CertifiedThreshold, Guarantee, divided, kinds_in
from guardrail.calibration.profile import read_profile, write_profile
from guardrail.errors import CalibrationError
from tests.support.profiles import FEASIBLE, MAKING, a_profile, an_observation

TENTH = Guarantee(0.1, 0.9)
MIXED = ("fact", "sum")


def of_kind(kind, **changes):
    """A threshold for one of two kinds, as it could have been certified."""
    values = {"kind": kind, "kinds": 2, "n": 70, "accepted": 60, "errors": 1, "needed": 29, "threshold": 1.0}
    return CertifiedThreshold(**{"max_error": 0.1, "confidence": 0.9, **values, **changes})


def infeasible(kind):
    return of_kind(kind, threshold=None, reason="too few")


def a_profile_by_kind(*certified):
    making = MAKING.model_copy(update={"answers": 240, "parts": {"fit": 40, "certify": 140, "report": 20}})
    pooled = FEASIBLE.model_copy(update={"n": 140, "threshold": 2.0})
    return a_profile(certified=(pooled, *certified), making=making)


def test_the_promises_of_the_kinds_share_what_may_go_wrong():
    assert divided(TENTH, 1) == TENTH
    assert divided(TENTH, 4) == Guarantee(0.1, pytest.approx(0.975))


def test_a_kind_is_certified_as_if_alone_with_its_share_of_what_may_go_wrong():
    scores = [float(at) for at in range(200)]
    kinds = {
        "all right": KindOfAnswers(scores, [True] * 200),
        "some right": KindOfAnswers(scores, [at % 12 != 0 or at > 90 for at in range(200)]),
        "none right": KindOfAnswers(scores, [False] * 200),
    }
    found = certify_kinds(kinds, TENTH)
    assert [one.kind for one in found] == list(kinds)
    for one, answers in zip(found, kinds.values(), strict=True):
        alone = certify(answers.scores, answers.correct, divided(TENTH, 3))
        assert (one.threshold, one.accepted, one.errors) == (alone.threshold, alone.accepted, alone.errors)
        assert (one.guarantee, one.kinds, one.needed) == (TENTH, 3, alone.needed)
        assert one.tested == divided(TENTH, 3)
    assert [one.threshold is None for one in found] == [False, False, True]
    # With all that may go wrong for itself, a kind would have needed fewer answers.
    assert certify(*kinds["some right"][:2], TENTH).needed < found[1].needed


def test_a_field_of_very_many_values_is_no_kind():
    with pytest.raises(CalibrationError, match="There are 51 kinds, and at most 50"):
        certify_kinds({f"{at}": KindOfAnswers([1.0], [True]) for at in range(51)}, TENTH)


def test_the_kinds_of_a_request_are_its_tags():
    assert kinds_in({"kind:fact", "beta", "kind:a:b", "mankind:no"}) == {"fact", "a:b"}


def test_a_promise_for_a_kind_accepts_what_names_that_kind_and_reaches_its_threshold():
    profile = a_profile_by_kind(of_kind("fact", threshold=3.0), of_kind("sum", threshold=1.0))

    def accepted(*kinds):
        scores = (0.5, 1.5, 2.5, 3.5)
        return [score for score in scores if profile.assess_score(score, {}, set(kinds)).guarantees]

    assert accepted() == [2.5, 3.5]
    assert accepted("fact") == accepted(*MIXED) == [3.5]
    assert accepted("sum") == [1.5, 2.5, 3.5]


@pytest.mark.parametrize("kinds", [("fact",), ("other",), MIXED, ("sum", "other")])
def test_a_kind_that_is_infeasible_or_unknown_has_no_promise_even_where_the_mix_has(kinds):
    profile = a_profile_by_kind(infeasible("fact"), of_kind("sum", threshold=1.0))
    assert profile.assess_score(9.0, {}).guarantees == (TENTH,)
    assert profile.assess_score(9.0, {}, {"sum"}).guarantees == (TENTH,)
    assert profile.assess_score(9.0, {}, set(kinds)).guarantees == ()


def test_without_promises_for_kinds_a_request_may_name_any():
    profile = a_profile()
    assert profile.assess(an_observation(), {"fact"}) == profile.assess(an_observation())


def test_a_profile_by_kind_reads_back(tmp_path):
    profile = a_profile_by_kind(of_kind("fact"), infeasible("sum"))
    write_profile(profile, tmp_path / "profile.json")
    assert read_profile(tmp_path / "profile.json") == profile
    assert profile.certified_for(TENTH, "fact") == profile.certified[1]
    assert profile.certified_for(TENTH) == profile.certified[0]
    assert profile.kinds_certified_for(TENTH) == ("fact",)


def test_pooled_thresholds_are_written_as_before_there_were_kinds():
    assert FEASIBLE.model_dump().keys() == CertifiedThreshold.model_fields.keys() - {"kind", "kinds"}


def test_a_pooled_threshold_shares_with_no_kind():
    with pytest.raises(ValidationError, match="shares its confidence with no kind"):
        of_kind("")
