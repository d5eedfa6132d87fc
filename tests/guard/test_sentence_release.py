"""Answers that are shown sentence by sentence: what is shown, what is not, and what is known of it."""

import json
from dataclasses import replace

import pytest

from guardrail.errors import ForeignProfileError, OptionError, PolicyError, ProfileError
from guardrail.guard import Guard, sentence_release
from guardrail.guard.decision_log import DecisionLog
from guardrail.models import partial_response
from guardrail.models.decoding import CancelledError, GenerationControls
from guardrail.policy.load import load_policy
from tests.support.guards import PASS, policy_of, profile_file, tiny
from tests.support.sentences import (
    ASKED,
    ENOUGH,
    FIRST,
    LAST,
    MESSAGE,
    SECOND,
    by_sentences,
    says,
    scores_of,
    sentence_guard,
    sentence_profile,
    stopping_at,
    uncertain_third,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    return sentence_profile(tmp_path_factory.mktemp("profile"))


@pytest.fixture(scope="module")
def third():
    return uncertain_third()


def heard(guard, **fields):
    """What is told of an answer while it grows, and the answer."""
    told = []
    answer = guard.ask(ASKED, ENOUGH, controls=GenerationControls(on_text=told.append, **fields))
    return told, answer


def test_each_sentence_is_shown_once_it_is_complete_and_the_scores_are_those_of_the_finished_answer(
    profile, third, monkeypatch
):
    text, _ = third
    says(monkeypatch, text)
    guard = sentence_guard(profile, PASS)
    told, answer = heard(guard)
    assert "".join(told) == answer.text == text
    assert told[:2] == [FIRST, SECOND]
    assert len(told) == 4
    assert (answer.action, answer.confidence, answer.uncertainty) == ("pass", None, None)
    assert answer.released.sentences == 4
    for one, other in zip(answer.released.decisions, scores_of(text), strict=True):
        assert one.uncertainty.scores() == pytest.approx(other.scores(), rel=1e-4)
    again = guard.judge(ASKED, text)
    assert (again.text, again.action) == (text, "pass")
    plain = answer.as_plain()
    assert plain["released"] == {"sentences": 4, "characters": len(text)}
    spans = [(one["start"], one["end"]) for one in plain["sentences"]]
    assert spans == [(one["start"], one["end"]) for one in again.as_plain()["sentences"]]


def test_the_first_that_is_withheld_ends_the_answer(profile, third, monkeypatch, tmp_path):
    text, bound = third
    says(monkeypatch, text)
    log = tmp_path / "log.jsonl"
    guard = sentence_guard(profile, *stopping_at(bound), log={"file": str(log), "text": "full"})
    told, answer = heard(guard)
    assert told == [FIRST, SECOND]
    assert answer.text == f"{FIRST}{SECOND}\n\n{MESSAGE}"
    assert (answer.action, answer.rule, answer.is_withheld) == ("abstain", "unlikely", True)
    assert answer.reason.startswith("sentence 3: ")
    assert LAST.strip() not in answer.draft
    plain = answer.as_plain()
    assert plain["released"] == {"sentences": 2, "characters": len(FIRST + SECOND)}
    assert [one["action"] for one in plain["sentences"]] == ["pass", "pass", "abstain"]
    assert "CANARY" not in json.dumps(plain)
    (line,) = map(json.loads, log.read_text().splitlines())
    assert line["released"] == plain["released"]
    assert line["answer"] == answer.text
    judged = guard.judge(ASKED, text)
    assert (judged.text, judged.rule, judged.as_plain()["released"]) == (
        answer.text,
        "unlikely",
        plain["released"],
    )


def test_a_log_without_texts_says_how_much_was_shown_and_not_what(profile, third, monkeypatch, tmp_path):
    text, bound = third
    says(monkeypatch, text)
    log = tmp_path / "log.jsonl"
    heard(sentence_guard(profile, *stopping_at(bound), log={"file": str(log)}))
    assert '"released": {"sentences": 2, "characters": ' in log.read_text()
    for said in ("CANARY", "Dr. Who", "3.5"):
        assert said not in log.read_text()


def test_a_flagged_sentence_is_shown_and_the_answer_flagged(profile, third, monkeypatch):
    text, bound = third
    says(monkeypatch, text)
    high, rest = stopping_at(bound)
    told, answer = heard(sentence_guard(profile, {**high, "action": "flag"}, rest))
    assert "".join(told) == answer.text == text
    assert (answer.action, answer.message) == ("flag", MESSAGE)


def test_a_policy_that_observes_changes_nothing(profile, third, monkeypatch):
    text, bound = third
    says(monkeypatch, text)
    told, answer = heard(sentence_guard(profile, *stopping_at(bound), mode="observe"))
    assert "".join(told) == answer.text == text
    assert (answer.action, answer.enforced) == ("abstain", False)


def test_an_answer_of_one_sentence_has_its_confidence(profile, monkeypatch):
    says(monkeypatch, "It was Goethe.")
    told, answer = heard(sentence_guard(profile, PASS))
    assert told == ["It was Goethe."]
    assert answer.confidence == pytest.approx(0.5)
    assert answer.uncertainty.hybridgrad > 0


def failing_at(inner, at, error):
    """The same, but that it raises at a call, the first being 1."""
    calls = []

    def call(*arguments, **options):
        calls.append(1)
        if len(calls) == at:
            raise error
        return inner(*arguments, **options)

    return call


FAULTS = {
    "scoring": (sentence_release, "score_segments"),
    "deciding": (sentence_release, "assess"),
    "reading the sentences": (sentence_release, "complete_spans"),
    "looking at the response": (partial_response, "traces_of"),
    "writing the log": (DecisionLog, "check"),
}


@pytest.mark.parametrize("at", [1, 3])
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_fails_on_the_way_nothing_further_is_shown(fault, at, profile, third, monkeypatch, tmp_path):
    text, _ = third
    says(monkeypatch, text)
    owner, name = FAULTS[fault]
    monkeypatch.setattr(owner, name, failing_at(getattr(owner, name), at, RuntimeError("CANARY")))
    log = tmp_path / "log.jsonl"
    guard = sentence_guard(
        profile, PASS, log={"file": str(log)}, on_error={"action": "abstain", "message": MESSAGE}
    )
    told, answer = heard(guard)
    shown = [FIRST, SECOND][: at - 1]
    assert told == shown
    assert answer.text == "\n\n".join(filter(None, ["".join(shown), MESSAGE]))
    assert (answer.action, answer.rule) == ("abstain", "on_error")
    assert answer.error.startswith("RuntimeError: ")
    assert answer.as_plain()["released"]["sentences"] == len(shown)
    assert "CANARY" not in json.dumps(answer.as_document()) + log.read_text()


def test_a_score_that_is_no_number_is_none(profile, third, monkeypatch):
    text, _ = third
    says(monkeypatch, text)
    score = sentence_release.score_segments

    def broken(*arguments):
        (one,) = score(*arguments)
        return [replace(one, hybridgrad=float("nan")) if len(told) == 2 else one]

    monkeypatch.setattr(sentence_release, "score_segments", broken)
    told = []
    answer = sentence_guard(profile, PASS).ask(
        ASKED, ENOUGH, controls=GenerationControls(on_text=told.append)
    )
    assert told == [FIRST, SECOND]
    assert (answer.action, answer.rule) == ("abstain", "on_error")


def test_an_answer_that_is_given_up_is_in_the_log_as_far_as_it_was_shown(
    profile, third, monkeypatch, tmp_path
):
    text, _ = third
    says(monkeypatch, text)
    log, told = tmp_path / "log.jsonl", []
    guard = sentence_guard(profile, PASS, log={"file": str(log)})
    controls = GenerationControls(on_text=told.append, goes_on=lambda: not told)
    with pytest.raises(CancelledError):
        guard.ask(ASKED, ENOUGH, controls=controls)
    assert told == [FIRST]
    (line,) = map(json.loads, log.read_text().splitlines())
    assert line["released"] == {"sentences": 1, "characters": len(FIRST)}
    assert (line["action"], line["error"]) == ("abstain", "CancelledError: the answer was given up")


def test_a_stop_string_is_not_shown_and_ends_nothing_wrongly(profile, monkeypatch):
    says(monkeypatch, "It was he.\nQ: And now?", end=False)
    told = []
    answer = sentence_guard(profile, PASS).ask(
        ASKED, replace(ENOUGH, stop=("\nQ:",)), controls=GenerationControls(on_text=told.append)
    )
    assert "".join(told) == answer.text == "It was he."
    assert answer.action == "pass"


def test_a_sentence_that_repeats_the_policy_is_withheld(profile, monkeypatch):
    long = "I am not sure enough of this to answer it, please ask a person."
    says(monkeypatch, f"It was he. {long} Bye.")
    rule = {"id": "all", "action": "flag", "message": long}
    told, answer = heard(sentence_guard(profile, rule))
    assert told == ["It was he. "]
    assert answer.rule == "own_message"


def test_what_was_shown_is_what_was_said_in_later_turns(profile, third, monkeypatch):
    text, bound = third
    says(monkeypatch, text)
    guard = sentence_guard(profile, *stopping_at(bound))
    answer = guard.ask(ASKED, ENOUGH)
    question = {"role": "user", "content": ASKED}
    later = {"role": "user", "content": "And now?"}
    for said in (
        {"role": "assistant", "content": answer.text, "uncertainty": answer.as_plain()},
        {"role": "assistant", "content": answer.text},
    ):
        spoken = guard.spoken([question, said, later]).messages
        assert [one["content"].strip() for one in spoken] == [ASKED, f"{FIRST}{SECOND}".strip(), "And now?"]
    # A verdict that does not fit the text says of none of it that it was shown.
    other = {"role": "assistant", "content": f"{text} {MESSAGE}", "uncertainty": answer.as_plain()}
    assert guard.spoken([question, other, later]).messages == [later]


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"controls": GenerationControls(tools=[{"type": "function"}])}, "without tools"),
        ({"controls": GenerationControls(processor=lambda _: None)}, "without a schema"),
        ({"calls_in": lambda _: ()}, "without tools"),
    ],
)
def test_what_is_no_prose_is_refused(asked, error, profile):
    with pytest.raises(OptionError, match=error):
        sentence_guard(profile, PASS).ask(ASKED, **asked)


def test_profiles_are_of_what_the_policy_decides_on(profile, tmp_path):
    whole = profile_file(tmp_path)
    with pytest.raises(ForeignProfileError, match="made of whole answers"):
        Guard(by_sentences(whole, PASS), tiny())
    with pytest.raises(ForeignProfileError, match="made of sentences"):
        Guard(policy_of(PASS, profile=str(profile)).found_at(profile), tiny())
    auto = by_sentences(profile, PASS).model_copy(update={"profile": "auto"})
    with pytest.raises(ProfileError, match="needs a profile of sentences"):
        Guard(auto, tiny())
    file = tmp_path / "p.yaml"
    rules = "rules: [{id: a, action: abstain}]"
    for named, streaming, said in (
        (whole, "sentences", "whole answers"),
        (profile, "buffer", "of sentences"),
    ):
        file.write_text(f"version: 1\nname: p\nprofile: {named}\nstreaming: {streaming}\n{rules}\n")
        with pytest.raises(PolicyError, match=said):
            load_policy(file)
