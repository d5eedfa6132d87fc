"""Calls of tools, each with a confidence of its own."""

import pytest

from guardrail.guard.tool_calls import CalledTool
from guardrail.policy.decide import decide
from guardrail.policy.evidence import Evidence
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.segments import Span, score_segments
from tests.support.guards import ASKED, guard_of, policy_of, profile_file, tiny

pytestmark = pytest.mark.usefixtures("one_thread")

SEND = '<tool_call>{"name": "send_mail"}</tool_call>'
READ = '<tool_call>{"name": "read_mail"}</tool_call>'
SAID = f"I would write {SEND}. {READ} {SEND}"
CALLS = [CalledTool("read_mail", READ), CalledTool("send_mail", SEND)]
UNSURE = {"id": "unsure", "when": {"tool_call": ["send_*"], "confidence": {"lt": 0.9}}, "action": "abstain"}
SURE = {"id": "sure", "when": {"tool_call": ["send_*"], "confidence": {"gte": 0.9}}, "action": "pass"}
FLAG = {"id": "else", "action": "flag"}
# A sum over a part of an answer is no sum over a whole one.
AVERAGED = ScoringOptions(reduction="mean")


@pytest.fixture
def calibrated(tmp_path):
    return profile_file(tmp_path, weight=1.0, intercept=-5.0, options=AVERAGED)


def test_each_call_has_the_scores_of_its_own_tokens(calibrated):
    answer = guard_of(profile=calibrated).judge(ASKED, SAID, tool_calls=CALLS)
    model = tiny()
    trace = model.read([{"role": "user", "content": ASKED}], SAID)
    text = "".join(trace.token_texts)
    begins = [text.rindex(call.written) for call in CALLS]
    spans = [Span(at, at + len(call.written)) for at, call in zip(begins, CALLS, strict=True)]
    assert [text[start:end] for start, end in spans] == [READ, SEND]  # a token a character
    expected = [one.hybridgrad for one in score_segments(model, trace, spans, AVERAGED)]
    assert [call.hybridgrad for call in answer.tool_calls] == pytest.approx(expected, rel=1e-4)
    confidences = [call.confidence for call in answer.tool_calls]
    assert len({*confidences, answer.confidence}) == 3
    assert all(0 < one < 1 for one in confidences)
    assert answer.as_plain()["tool_calls"][1] == {
        "name": "send_mail",
        "confidence": confidences[1],
        "hybridgrad": answer.tool_calls[1].hybridgrad,
        "reason": "",
    }


@pytest.mark.parametrize("probe", [False, True])
def test_a_call_that_is_the_whole_answer_has_its_confidence(tmp_path, probe):
    guard = guard_of(profile=profile_file(tmp_path, weight=1.0, intercept=-5.0, probe=probe))
    answer = guard.judge(ASKED, SEND, tool_calls=CALLS[1:])
    ((_, confidence, hybridgrad, reason),) = answer.tool_calls
    assert (confidence, hybridgrad) == (answer.confidence, answer.uncertainty.hybridgrad)
    assert (confidence is None, reason) == (False, "")


@pytest.mark.parametrize(
    ("options", "calls", "reason"),
    [
        ({"probe": True}, CALLS, "hidden state of whole answers"),
        ({"options": ScoringOptions()}, CALLS, "would look surer"),
        ({}, [CalledTool("send_mail")], "not known where"),
        ({}, [CalledTool("send_mail", "elsewhere")], "not known where"),
    ],
)
def test_where_no_confidence_can_be_had_it_is_none_and_nothing_passes_by_it(tmp_path, options, calls, reason):
    profile = profile_file(tmp_path, weight=0.0, intercept=9.0, **options)
    guard = guard_of(SURE, UNSURE, FLAG, profile=profile, on_uncalibrated="abstain")
    answer = guard.judge(ASKED, SAID, tool_calls=calls)
    assert answer.confidence > 0.9
    assert answer.tool_calls[-1].confidence is None
    assert reason in answer.tool_calls[-1].reason
    assert (answer.action, answer.rule) == ("abstain", "on_uncalibrated")


def test_a_failure_to_score_a_call_leaves_it_unknown(tmp_path, monkeypatch):
    def fail(*arguments):
        raise RuntimeError(SAID)

    monkeypatch.setattr("guardrail.scoring.segments.score_segments", fail)
    profile = profile_file(tmp_path, intercept=9.0)
    answer = guard_of(SURE, FLAG, profile=profile).judge(ASKED, SAID, tool_calls=CALLS)
    assert answer.rule == "on_uncalibrated"
    assert {call.confidence for call in answer.tool_calls} == {None}
    assert "could not be scored" in answer.tool_calls[0].reason
    assert SEND not in answer.tool_calls[0].reason


def test_for_a_call_given_by_name_alone_the_answer_stands(calibrated):
    answer = guard_of(FLAG, profile=calibrated).judge(ASKED, SAID, tool_calls=["send_mail"])
    assert answer.tool_calls == (("send_mail", answer.confidence, answer.uncertainty.hybridgrad, ""),)


def test_a_withheld_answer_tells_nothing_of_its_calls(calibrated):
    answer = guard_of({"id": "no", "action": "abstain"}, profile=calibrated).judge(
        ASKED, SAID, tool_calls=CALLS
    )
    assert len(answer.tool_calls) == 2
    assert answer.as_plain()["tool_calls"] == []


def test_generated_calls_are_scored_alike(calibrated):
    """Whatever the tiny model says, its beginning is taken for a call."""
    guard = guard_of(FLAG, profile=calibrated)
    answer = guard.ask(ASKED, calls_in=lambda draft: [CalledTool("send_mail", draft[:3])])
    (call,) = answer.tool_calls
    assert call.confidence not in (None, answer.confidence)


def decided(*rules, confidence=0.95, calls=(), on_uncalibrated="flag"):
    names = tuple(name for name, _ in calls)
    evidence = Evidence(confidence, {"tokens": 3.0}, tool_calls=names, call_confidences=tuple(calls))
    return decide(policy_of(*rules, on_uncalibrated=on_uncalibrated), evidence).rule


@pytest.mark.parametrize(
    ("confidence", "calls", "rule"),
    [
        (0.95, [("send_mail", 0.95)], "sure"),
        (0.95, [("send_mail", 0.3)], "unsure"),
        (0.3, [("send_mail", 0.95)], "unsure"),
        (0.95, [("send_mail", 0.95), ("send_sms", 0.3)], "unsure"),
        # Another tool's calls are not what the rule names.
        (0.95, [("send_mail", 0.95), ("read_mail", 0.3)], "sure"),
        (0.95, [("read_mail", 0.3)], "else"),
        # It may be less: what that would change is unknown, and nothing else.
        (0.95, [("send_mail", None)], "on_uncalibrated"),
        (0.3, [("send_mail", None)], "unsure"),
        (0.95, [("send_mail", None), ("send_sms", 0.3)], "unsure"),
        (None, [("send_mail", 0.95)], "on_uncalibrated"),
        (None, [("send_mail", 0.3)], "unsure"),
    ],
)
def test_a_rule_goes_by_the_least_sure_of_the_calls_that_it_names(confidence, calls, rule):
    for rules in ((UNSURE, SURE, FLAG), (SURE, UNSURE, FLAG)):
        assert decided(*rules, confidence=confidence, calls=calls) == rule


@pytest.mark.parametrize(
    "when",
    [
        {"all": [{"tool_call": ["send_*"]}, {"confidence": {"lt": 0.9}}]},
        {"tool_call": ["send_*"], "any": [{"confidence": {"lt": 0.9}}]},
        {"tool_call": ["send_*"], "not": {"confidence": {"gte": 0.9}}},
    ],
)
def test_wherever_a_rule_names_the_tools(when):
    rules = [{"id": "unsure", "when": when, "action": "abstain"}, FLAG]
    assert decided(*rules, calls=[("send_mail", 0.3)]) == "unsure"
    assert decided(*rules, calls=[("send_mail", 0.95)]) == "else"
    assert decided(*rules, calls=[("send_mail", None)]) == "on_uncalibrated"


def test_a_rule_that_names_no_tools_goes_by_the_answer():
    sure = {"id": "sure", "when": {"confidence": {"gte": 0.9}}, "action": "pass"}
    assert decided(sure, FLAG, calls=[("send_mail", 0.1)]) == "sure"


def test_evidence_that_is_none_is_an_error():
    for calls in ((("send_mail", 2.0),), (("send_mail",),), "ab", ((1, 0.5),), (("send_mail", True),)):
        evidence = Evidence(0.95, tool_calls=("send_mail",), call_confidences=calls)
        assert decide(policy_of(FLAG), evidence).rule == "on_error"


def test_a_rule_below_one_on_all_answers_can_still_decide_on_calls(tmp_path):
    from guardrail.policy.load import load_policy

    path = tmp_path / "policy.yaml"
    path.write_text(
        "version: 1\nname: t\nrules:\n"
        "  - {id: low, when: {confidence: {lt: 0.9}}, action: abstain}\n"
        "  - {id: call, when: {tool_call: 'send_*', confidence: {lt: 0.5}}, action: abstain}\n"
        "  - {id: rest, action: pass}\n"
    )
    policy = load_policy(path)
    evidence = Evidence(0.95, tool_calls=("send_x",), call_confidences=(("send_x", 0.1),))
    assert decide(policy, evidence).rule == "call"
