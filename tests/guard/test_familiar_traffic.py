"""Whether traffic is like that of the profile, as a guard finds it out; nothing is certified before."""

import copy
import json

import pytest

from guardrail.calibration.familiarity import ENOUGH
from guardrail.calibration.guarantees import NO_STATES
from guardrail.calibration.profile import CertifiedThreshold, read_profile
from guardrail.errors import ProfileError
from guardrail.guard import Guard
from guardrail.models.sampling import Sampling
from tests.support.guards import (
    ASKED,
    SAID,
    SHORT,
    familiar_with,
    guard_of,
    policy_of,
    profile_file,
    tiny,
)
from tests.support.states import resealed

CERTIFIED = {
    "id": "certified",
    "when": {"certified": {"max_error": 0.1, "confidence": 0.9}},
    "action": "pass",
}
DEFAULT = {"id": "default", "action": "abstain", "message": "Not sure."}


def guarded(profile, **fields):
    return guard_of(CERTIFIED, DEFAULT, profile=profile, **fields)


def compared(guard, *tags):
    """How many answers of a stream were compared."""
    streams = {tuple(one["tags"]): one["compared"]["n"] for one in guard.familiarity["streams"]}
    return streams.get(tags, 0)


@pytest.fixture(name="profile")
def _profile(tmp_path):
    return profile_file(tmp_path, intercept=2.0)


def test_nothing_is_certified_before_enough_answers_were_compared(profile):
    guard = guarded(profile, familiar=False)
    for at in range(1, 4):
        answer = guard.judge(ASKED, SAID)
        assert (answer.action, answer.rule, answer.familiar) == ("abstain", "default", "untried")
        assert answer.uncertified == f"the questions so far are too few to compare: {at} of {ENOUGH}"
        assert answer.uncertified in answer.reason
        assert answer.guarantees == ()
        assert answer.confidence is not None
    assert compared(guard) == 3


def test_the_answer_that_makes_it_enough_is_certified(profile):
    read = read_profile(profile)
    known = familiar_with(read, answers=ENOUGH - 1)
    guard = Guard(guarded(profile).policy, tiny(), familiarity=known)
    answer = guard.judge(ASKED, SAID)
    assert (answer.action, answer.rule, answer.familiar, answer.uncertified) == (
        "pass",
        "certified",
        "familiar",
        "",
    )


def test_unlike_traffic_has_nothing_certified_any_more(profile):
    guard = guarded(profile)
    assert guard.judge(ASKED, SAID).action == "pass"
    unlike = copy.deepcopy(guard.familiarity)
    unlike["streams"][0]["compared"]["highest"] = 100.0
    again = Guard(guard.policy, tiny(), familiarity=resealed(unlike))
    answer = again.judge(ASKED, SAID)
    assert (answer.action, answer.familiar, answer.guarantees) == ("abstain", "unlike", ())
    assert "unlike those of the profile" in answer.uncertified
    assert answer.uncertified in answer.reason


def test_a_policy_can_go_by_it(profile):
    rule = {"id": "new", "when": {"familiar": ["untried", "unlike"]}, "action": "flag"}
    guard = guard_of(rule, CERTIFIED, DEFAULT, profile=profile, familiar=False)
    answer = guard.judge(ASKED, SAID)
    assert (answer.rule, answer.familiar) == ("new", "untried")
    assert answer.evidence.familiar == answer.as_plain()["familiar"] == "untried"


def test_a_profile_without_states_certifies_nothing_and_says_so(tmp_path):
    guard = guarded(profile_file(tmp_path, intercept=2.0, states=False))
    answer = guard.judge(ASKED, SAID)
    assert (answer.action, answer.familiar, answer.uncertified) == ("abstain", None, NO_STATES)
    assert guard.familiarity is None


def test_a_general_profile_and_a_difference_are_said_first(tmp_path):
    general = guarded(profile_file(tmp_path, is_general=True), familiar=False)
    answer = general.judge(ASKED, SAID)
    assert "general one" in answer.uncertified
    assert answer.familiar == "untried"
    path = profile_file(tmp_path, generation={"temperature": 0.0})
    answer = guarded(path, familiar=False).ask(ASKED, Sampling(max_tokens=4, temperature=0.7, seed=1))
    assert "answers at temperature 0.0" in answer.outside_domain


def test_what_says_nothing_of_the_questions_is_not_counted(tmp_path):
    path = profile_file(tmp_path, generation={"temperature": 0.0})
    guard = guarded(path, familiar=False)
    guard.judge(ASKED, SAID, answered_by="another")
    guard.judge(ASKED, "Not sure.")
    guard.judge(ASKED, "")
    guard.refuse(ASKED, SAID, "ScoringError: none")
    guard.ask(ASKED, Sampling(max_tokens=4, temperature=0.7, seed=1))
    assert compared(guard) == 0
    answer = guard.ask(ASKED, SHORT)
    assert answer.familiar == "untried"
    assert compared(guard) == 1


def test_where_a_policy_names_streams_each_is_found_out_about_by_itself(profile):
    guard = guarded(profile, streams=["tenant-*"], familiar=False)
    for tags in (["tenant-a"], ["tenant-a", "web"], ["tenant-b"], ["web"]):
        guard.judge(ASKED, SAID, tags=tags)
    assert [compared(guard, *tags) for tags in (["tenant-a"], ["tenant-b"], [])] == [2, 1, 1]
    known = familiar_with(read_profile(profile), ("tenant-a",), patterns=("tenant-*",))
    guard = Guard(guard.policy, tiny(), familiarity=known)
    assert guard.judge(ASKED, SAID, tags=["tenant-a"]).action == "pass"
    assert guard.judge(ASKED, SAID, tags=["tenant-b"]).action == "abstain"


def test_what_is_known_lasts_over_a_restart_a_copy_and_a_pickle(profile):
    guard = guarded(profile)
    guard.judge(ASKED, SAID)
    known = json.loads(json.dumps(guard.familiarity))
    assert compared(guard) == ENOUGH + 1
    unpickled = Guard.__new__(Guard)
    unpickled.__setstate__(guard.__getstate__())
    others = [
        Guard(guard.policy, tiny(), familiarity=known),
        Guard.from_policy(guard.policy, tiny(), familiarity=known),
        unpickled,
        copy.deepcopy(guard),
    ]
    for other in others:
        assert other.familiarity == known
        assert other.judge(ASKED, SAID).action == "pass"


def test_what_is_known_of_other_traffic_is_refused(profile, tmp_path):
    known = guarded(profile).familiarity
    other = tmp_path / "other"
    other.mkdir()
    policy = guarded(profile_file(other, intercept=1.0)).policy
    with pytest.raises(ProfileError, match="of another profile"):
        Guard(policy, tiny(), familiarity=known)
    with pytest.raises(ProfileError, match="cannot be read"):
        Guard(policy, tiny(), familiarity={"streams": []})
    with pytest.raises(ProfileError, match="there is no profile"):
        Guard(policy_of(), tiny(), familiarity=known)
    without = guarded(profile_file(other, states=False)).policy
    with pytest.raises(ProfileError, match="keeps no states"):
        Guard(without, tiny(), familiarity=known)


def test_guards_that_are_given_the_streams_of_another_learn_together(profile, tmp_path):
    guard = Guard(guarded(profile).policy, tiny(), familiarity=familiar_with(read_profile(profile)))
    other = Guard(guard.policy, tiny(), familiarity=guard.streams)
    assert other.judge(ASKED, SAID).action == "pass"
    assert compared(guard) == compared(other) == ENOUGH + 1
    again = tmp_path / "other"
    again.mkdir()
    of_another = Guard(guarded(profile_file(again, intercept=1.0)).policy, tiny(), familiarity=guard.streams)
    assert of_another.judge(ASKED, SAID).familiar == "untried"
    without = Guard(guarded(profile_file(again, states=False)).policy, tiny(), familiarity=guard.streams)
    assert without.judge(ASKED, SAID).familiar is None


def test_an_answer_from_elsewhere_that_was_drawn_at_another_temperature_is_not_certified(tmp_path):
    guard = guarded(profile_file(tmp_path, intercept=2.0, generation={"temperature": 0.0}))
    for temperature in (None, 0, 0.0):
        assert guard.judge(ASKED, SAID, temperature=temperature).rule == "certified"
    for temperature in (0.7, float("nan")):
        answer = guard.judge(ASKED, SAID, temperature=temperature)
        assert (answer.action, answer.guarantees, answer.domain) == ("abstain", None, ("temperature",))
        assert "answers at temperature 0.0" in answer.outside_domain


def test_a_tag_that_names_no_kind_is_held_to_no_promise(tmp_path):
    of_kind = {"kind": "sum", "max_error": 0.1, "confidence": 0.9, "n": 100, "errors": 0, "needed": 22}
    certified = (CertifiedThreshold(**of_kind, threshold=1.0, accepted=50),)
    guard = guarded(profile_file(tmp_path, intercept=2.0, certified=certified))
    said = {tags: guard.judge(ASKED, SAID, tags=tags).action for tags in [(), ("kind:sum",), ("kind:",)]}
    assert said == {(): "pass", ("kind:sum",): "pass", ("kind:",): "abstain"}
