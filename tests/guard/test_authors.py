"""Whose answer it is: a profile holds for the answers of whoever gave those that it is made of."""

import json

import pytest

from guardrail.calibration.profile import read_profile, write_profile
from guardrail.errors import OptionError
from guardrail.escalation.queue import HumanQueue
from guardrail.labelling.provenance import Author
from guardrail.policy.decide import decide
from tests.support.guards import ASKED, PASS, SAID, SHORT, guard_of, policy_of, profile_of

SURE = {"id": "sure", "when": {"confidence": {"gte": 0.5}}, "action": "pass"}
CERTIFIED = {
    "id": "certified",
    "when": {"certified": {"max_error": 0.1, "confidence": 0.9}},
    "action": "pass",
}
SENDING = {"id": "sends", "when": {"tool_call": ["send"], "confidence": {"gte": 0.5}}, "action": "pass"}
USUAL = {"id": "usual", "when": {"quantile": {"hybridgrad": {"lte": 1}}}, "action": "pass"}
WITHHELD = {"id": "default", "action": "abstain"}
OTHER = "gpt-4o-mini"

pytestmark = pytest.mark.usefixtures("one_thread")


def profile_file(folder, answered_by=None):
    """A profile that is sure of everything, of the tiny model's answers or another's."""
    path = folder / f"{answered_by or 'own'}.json"
    profile = profile_of(intercept=4.0)
    write_profile(profile.model_copy(update={"answered_by": answered_by}), path)
    return path


def read(guard, **facts):
    return guard.judge(ASKED, SAID, **facts)


def in_a_batch(guard, **facts):
    return guard.judge_batch([ASKED], [SAID], **facts)[0]


@pytest.mark.parametrize("answers", [read, in_a_batch])
@pytest.mark.parametrize("rule", [SURE, CERTIFIED, USUAL], ids=lambda rule: rule["id"])
@pytest.mark.parametrize(
    ("of", "by", "holds"),
    [
        (None, None, True),
        (None, "tiny", True),
        (None, " Tiny ", True),
        (None, OTHER, False),
        (None, Author("tiny", "nobody said so"), False),
        (OTHER, OTHER, True),
        (OTHER, "GPT-4o-mini", True),
        (OTHER, None, False),
        (OTHER, "tiny", False),
        (OTHER, "gpt-4o", False),
        (OTHER, Author(OTHER, "nobody said so"), False),
    ],
)
def test_a_profile_holds_for_the_answers_of_its_author_alone(tmp_path, answers, rule, of, by, holds):
    guard = guard_of(rule, WITHHELD, profile=profile_file(tmp_path, of), on_uncalibrated="flag")
    answer = answers(guard, answered_by=by)
    name = "tiny" if by is None else by.name if isinstance(by, Author) else by.strip()
    assert answer.answered_by == name
    assert answer.model == "tiny"
    assert answer.uncertainty is not None
    if holds:
        assert (answer.action, answer.rule, answer.outside_domain) == ("pass", rule["id"], "")
        return
    assert (answer.action, answer.rule) == ("abstain", "on_outside_domain")
    assert (answer.confidence, answer.guarantees, answer.quantiles) == (None, None, {})
    assert f"the answer is from {name}, but the profile is for {of or 'tiny'}" in answer.reason
    assert answer.as_plain()["confidence"] is None
    assert answer.as_plain()["outside_domain"] in answer.reason


async def test_the_author_counts_beside_the_event_loop_too(tmp_path):
    guard = guard_of(SURE, WITHHELD, profile=profile_file(tmp_path))
    assert (await guard.ajudge(ASKED, SAID, answered_by=OTHER)).rule == "on_outside_domain"
    (answer,) = await guard.ajudge_batch([ASKED], [SAID], answered_by=OTHER)
    assert answer.rule == "on_outside_domain"


def test_what_the_model_itself_generates_is_its_own(tmp_path):
    own = guard_of(SURE, WITHHELD, profile=profile_file(tmp_path)).ask(ASKED, SHORT)
    assert (own.action, own.answered_by, own.outside_domain) == ("pass", "tiny", "")
    others = guard_of(SURE, WITHHELD, profile=profile_file(tmp_path, OTHER)).ask(ASKED, SHORT)
    assert (others.action, others.rule) == ("abstain", "on_outside_domain")
    assert f"the answer is from tiny, but the profile is for {OTHER}" in others.reason


def test_calls_of_another_models_answer_have_no_confidence(tmp_path):
    guard = guard_of(SENDING, WITHHELD, profile=profile_file(tmp_path))
    assert guard.judge(ASKED, SAID, tool_calls=["send"]).action == "pass"
    answer = guard.judge(ASKED, SAID, tool_calls=["send"], answered_by=OTHER)
    assert (answer.action, answer.rule) == ("abstain", "on_outside_domain")
    (call,) = answer.tool_calls
    assert call.confidence is None
    assert call.hybridgrad is not None
    assert OTHER in call.reason


@pytest.mark.parametrize(
    ("uncalibrated", "outside", "expected"),
    [
        ("flag", "abstain", ("abstain", "on_outside_domain")),
        ("abstain", "flag", ("abstain", "on_uncalibrated")),
    ],
)
def test_without_a_profile_another_models_answer_is_outside_of_it_too(uncalibrated, outside, expected):
    guard = guard_of(SURE, WITHHELD, on_uncalibrated=uncalibrated, on_outside_domain=outside)
    assert guard.judge(ASKED, SAID).rule == "on_uncalibrated"
    assert guard.judge(ASKED, SAID, answered_by="tiny").rule == "on_uncalibrated"
    answer = guard.judge(ASKED, SAID, answered_by=OTHER)
    assert (answer.action, answer.rule) == expected
    assert f"the answer is of {OTHER}, and there is no profile" in answer.reason


def test_what_cannot_be_read_has_an_author(tmp_path):
    guard = guard_of(PASS, profile=profile_file(tmp_path))
    answer = guard.refuse(ASKED, SAID, "ScoringError: it was cut off", answered_by=OTHER)
    assert (answer.action, answer.rule, answer.answered_by) == ("abstain", "on_error", OTHER)


def test_a_policy_that_observes_says_what_it_would_do_outside(tmp_path):
    guard = guard_of(SURE, WITHHELD, profile=profile_file(tmp_path), mode="observe")
    answer = guard.judge(ASKED, SAID, answered_by=OTHER)
    assert (answer.text, answer.action, answer.enforced) == (SAID, "abstain", False)
    assert answer.confidence is None


def test_tickets_and_the_log_name_the_author_and_the_scorer(tmp_path):
    queue, log = HumanQueue(f"sqlite:///{tmp_path}/queue.db"), tmp_path / "log.jsonl"
    guard = guard_of(
        SURE,
        WITHHELD,
        profile=profile_file(tmp_path),
        targets={"human": queue},
        escalation={"human": {"queue": queue.url}},
        on_outside_domain={"action": "escalate", "to": "human"},
        log={"file": str(log)},
    )
    guard.judge(ASKED, SAID, answered_by=OTHER)
    (item,) = queue.items()
    assert (item.case.answered_by, item.case.model) == (OTHER, "tiny")
    assert item.case.confidence is None
    assert OTHER in item.case.reason
    (line,) = map(json.loads, log.read_text().splitlines())
    assert (line["answered_by"], line["model"], line["confidence"]) == (OTHER, "tiny", None)
    assert (line["quantiles"], line["guarantees"]) == ({}, None)
    assert OTHER in line["outside_domain"]


def test_another_policy_decides_on_the_answer_as_if_it_had_been_asked(tmp_path):
    guard = guard_of(SURE, WITHHELD, profile=profile_file(tmp_path))
    answer = guard.judge(ASKED, SAID, answered_by=OTHER)
    other = policy_of(SURE, WITHHELD, on_uncalibrated="flag")
    assert decide(other, answer.evidence).rule == "on_outside_domain"


@pytest.mark.parametrize("name", ["", "  ", 3, "a\x1b[31m", "a\nb", "x" * 201, ["tiny"]])
def test_a_name_that_is_none_is_refused(tmp_path, name):
    with pytest.raises(OptionError, match="answered_by"):
        guard_of(PASS).judge(ASKED, SAID, answered_by=name)


def test_a_profile_names_who_answered_and_one_of_before_keeps_its_hash(tmp_path):
    own, others = profile_file(tmp_path), profile_file(tmp_path, OTHER)
    assert read_profile(own).answered_by is None
    assert "answered_by" not in json.loads(own.read_text())
    assert read_profile(others).answered_by == OTHER
    assert (read_profile(own).author, read_profile(others).author) == ("tiny", OTHER)
    values = json.loads(others.read_text())
    del values["answered_by"]
    others.write_text(json.dumps(values))
    # The name is part of what the hash is of.
    with pytest.raises(Exception, match="altered"):
        read_profile(others)
