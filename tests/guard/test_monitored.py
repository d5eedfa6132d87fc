"""An app feeds a profile's monitor with what a guard gives."""

import json

import pytest

from guardrail.errors import CalibrationError
from guardrail.guard.decision_log import decision_record
from guardrail.labelling.provenance import Author
from guardrail.models.sampling import Sampling
from tests.support.guards import ASKED, PASS, SAID, guard_of, profile_file, profile_of

ABSTAIN = {"id": "no", "action": "abstain"}
MESSAGES = [{"role": "user", "content": ASKED}]

pytestmark = pytest.mark.usefixtures("one_thread")


def itself(answer):
    return answer


def verdict(answer):
    return json.loads(json.dumps(answer.as_plain()))


def logged(answer):
    return decision_record(answer, "test", (), MESSAGES, "none")


@pytest.fixture
def profile():
    profile = profile_of()
    # Of a profile with labels the score itself has a reference, and is watched too.
    usual = profile.reference["hybridgrad"]
    return profile.model_copy(update={"reference": {"hybridgrad": usual, "confidence_score": usual}})


def guarded(tmp_path, profile, *rules, **fields):
    from guardrail.calibration.profile import write_profile

    write_profile(profile, str(tmp_path / "p.json"))
    return guard_of(*rules, profile=tmp_path / "p.json", **fields)


@pytest.mark.parametrize("form", [itself, verdict, logged])
@pytest.mark.parametrize("rule", [PASS, ABSTAIN], ids=["shown", "withheld"])
def test_what_a_guard_gives_is_watched_shown_or_not(tmp_path, profile, form, rule):
    answer = guarded(tmp_path, profile, rule).judge(ASKED, SAID)
    monitor = profile.monitor()
    status = monitor.observe(form(answer))
    assert (status.n, status.left_out) == (1, 0)
    seen = {name: shift["seen"] for name, shift in monitor.as_plain()["shifts"].items()}
    assert seen == {
        "confidence_score": [answer.confidence_score],
        "hybridgrad": [answer.uncertainty.scores()["hybridgrad"]],
    }
    monitor.outcome(form(answer), correct=False)
    twin = profile.monitor()
    twin.outcome(answer.confidence_score, correct=False)
    assert monitor.as_plain()["errors"] == twin.as_plain()["errors"]


@pytest.mark.parametrize("form", [itself, verdict, logged])
@pytest.mark.parametrize(
    "facts",
    [
        {"answered_by": "another"},
        {"answered_by": Author("tiny", "nobody said so")},
        {"messages": "unreadable"},
        {"messages": "repeats"},
        {"messages": "drawn otherwise"},
    ],
    ids=str,
)
def test_what_the_profile_makes_no_promise_of_is_left_out_and_told(tmp_path, profile, form, facts):
    asked = facts.get("messages", "")
    if asked == "drawn otherwise":
        made = profile.making.model_copy(update={"generation": {"temperature": 0.0}})
        profile = profile.model_copy(update={"making": made})
    guard = guarded(tmp_path, profile)
    if asked == "unreadable":
        answer = guard.judge(ASKED, "")
        assert answer.uncertainty is None
    elif asked == "repeats":
        answer = guard.judge(ASKED, "I am not sure enough to answer that.")
    elif asked:
        answer = guard.ask(ASKED, Sampling(max_tokens=4, temperature=1.0))
        assert (answer.confidence, answer.domain) == (None, ("temperature",))
    else:
        answer = guard.judge(ASKED, SAID, **facts)
        assert answer.confidence_score is None
    monitor = profile.monitor()
    monitor.observe(form(answer))
    status = monitor.outcome(form(answer), correct=False)
    assert (status.n, status.left_out) == (0, 2)
    assert "2 answers were left out" in status.reason
    untouched = {**profile.monitor().as_plain(), "left_out": 2}
    assert monitor.as_plain() == untouched
    assert type(monitor).from_plain(profile, untouched).status() == status


def test_a_profile_without_labels_watches_its_own_answers_alone(tmp_path, profile):
    plain = profile.model_copy(
        update={
            "confidence_model": None,
            "calibrator": None,
            "certified": (),
            "reference": profile_of().reference,
        }
    )
    guard, monitor = guarded(tmp_path, plain), plain.monitor()
    assert monitor.observe(guard.judge(ASKED, SAID)).n == 1
    status = monitor.observe(guard.judge(ASKED, SAID, answered_by="another"))
    assert (status.n, status.left_out) == (1, 1)


@pytest.mark.parametrize("form", [itself, verdict, logged])
@pytest.mark.parametrize("take", ["observe", "outcome"])
def test_a_verdict_by_another_profile_or_by_none_is_refused(tmp_path, profile, form, take):
    monitor = profile.monitor()
    options = {"correct": True} if take == "outcome" else {}
    for guard in (guarded(tmp_path, profile_of(intercept=1.0)), guard_of()):
        with pytest.raises(CalibrationError, match="the monitor watches"):
            getattr(monitor, take)(form(guard.judge(ASKED, SAID)), **options)
    assert monitor.as_plain() == profile.monitor().as_plain()


@pytest.mark.parametrize(
    "given",
    [
        None,
        "pass",
        7,
        object(),
        {"action": "pass"},
        {"confidence_score": None, "hybridgrad": 1.0},
        {"confidence_score": "0.5", "hybridgrad": 1.0},
        {"confidence_score": True, "hybridgrad": 1.0},
        {},
    ],
    # An object's own words differ from process to process.
    ids=lambda given: type(given).__name__ if type(given) is object else repr(given),
)
def test_what_is_no_answer_is_refused_in_words(profile, given):
    with pytest.raises(CalibrationError):
        profile.monitor().observe(given)


def test_a_file_may_be_named_by_a_text(tmp_path):
    from guardrail.calibration.held_out import find_held_out, holds_held_out, read_held_out
    from guardrail.errors import RecordError
    from guardrail.labelling.answers import read_answers
    from guardrail.policy.dry_run import read_cases
    from guardrail.scoring.paraphrases import read_paraphrases
    from guardrail.scoring.records import read_lines

    profile = profile_file(tmp_path)
    missing = str(tmp_path / "none.jsonl")
    assert find_held_out(str(profile)) is None
    assert not holds_held_out(missing)
    for read in (read_answers, read_lines, read_paraphrases, lambda path: read_held_out(path, profile_of())):
        with pytest.raises(RecordError, match=r"none\.jsonl"):
            read(missing)
    cases = tmp_path / "cases.yaml"
    cases.write_text("cases:\n- name: a\n  given: {confidence: 0.5}\n  expect: {action: pass}\n")
    assert len(read_cases(str(cases))) == 1
