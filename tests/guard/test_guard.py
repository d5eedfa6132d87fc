import json
import os
from dataclasses import replace
from itertools import repeat

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage

from guardrail.calibration.calibrators import VennAbers
from guardrail.calibration.profile import CertifiedThreshold, Guarantee, write_profile
from guardrail.errors import (
    EscalationError,
    ForeignProfileError,
    OptionError,
    PolicyError,
    ProfileError,
    PromptError,
    ResponseError,
)
from guardrail.escalation.queue import HumanQueue
from guardrail.guard import Guard, GuardedAnswer
from guardrail.guard.answer import DEFAULT_MESSAGES
from guardrail.models.sampling import Sampling
from guardrail.policy.decide import decide
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.score import score
from tests.support.guards import ASKED, PASS, SAID, SHORT, guard_of, policy_of, profile_file, profile_of, tiny

FLAG = {"id": "flag", "action": "flag"}
ABSTAIN = {"id": "no", "action": "abstain"}
ESCALATE = {"id": "up", "action": "escalate", "to": "strong"}
STRONG = {"escalation": {"strong": {"callable": "json:dumps"}}}

pytestmark = pytest.mark.usefixtures("one_thread")


def strong(text="Goethe."):
    return {"strong": lambda case: text}


def test_an_answer_that_passes_is_the_models_with_its_scores():
    answer = guard_of().ask(ASKED, SHORT)
    trace = tiny().generate(ASKED, SHORT)
    assert (answer.text, answer.action, answer.rule) == (trace.text, "pass", "all")
    assert (answer.message, answer.error, answer.escalation) == (None, "", None)
    assert answer.uncertainty.scores() == score(tiny(), trace).scores()
    assert answer.usage == trace.usage
    assert answer.finish_reason == "length"
    assert answer.draft == answer.text
    assert not answer.is_withheld


def test_a_flagged_answer_has_words_beside_it():
    answer = guard_of(FLAG).judge(ASKED, SAID)
    assert (answer.text, answer.message) == (SAID, DEFAULT_MESSAGES["flag"])
    own = guard_of({**FLAG, "message": "Check: {finish_reason}."}).judge(ASKED, SAID)
    assert (own.text, own.message) == (SAID, "Check: stop.")


def test_an_answer_that_is_withheld_is_in_nothing_that_is_shown():
    answer = guard_of({**ABSTAIN, "message": "No."}).judge(ASKED, SAID)
    assert (answer.text, answer.message, answer.action) == ("No.", "No.", "abstain")
    assert answer.draft == SAID
    assert answer.is_withheld
    assert SAID not in repr(answer)
    assert SAID not in json.dumps(answer.as_plain())
    assert "Goethe" not in json.dumps(answer.as_plain())
    assert answer.as_plain(draft=True)["draft"] == SAID
    assert guard_of(ABSTAIN).judge(ASKED, SAID).text == DEFAULT_MESSAGES["abstain"]


def test_a_response_of_elsewhere_gets_the_scores_it_would_have_had_here():
    trace = tiny().generate(ASKED, SHORT)
    judged = guard_of().judge(ASKED, trace.response_ids, finish_reason="length")
    assert judged.text == trace.text
    assert judged.finish_reason == "length"
    expected = score(tiny(), trace)
    assert judged.uncertainty.hybridgrad == pytest.approx(expected.hybridgrad, rel=1e-4)


def test_a_response_is_shown_in_its_own_words():
    said = "  Goethe \t wrote\nit.  "
    assert guard_of().judge(ASKED, said).text == said


def test_tags_and_tools_reach_the_rules():
    rules = [
        {"id": "risky", "when": {"tool_call": ["send_*"]}, "action": "abstain"},
        {"id": "demo", "when": {"tags": ["demo"]}, "action": "flag"},
        PASS,
    ]
    guard = guard_of(*rules)
    assert guard.judge(ASKED, SAID, tool_calls=["send_mail"]).rule == "risky"
    assert guard.judge(ASKED, SAID, tags=["demo"]).rule == "demo"
    assert guard.ask(ASKED, SHORT, tags=["demo"]).rule == "demo"
    assert guard.judge(ASKED, SAID).rule == "all"


def test_a_batch_gives_each_its_own():
    guard = guard_of()
    questions = [ASKED, "And who wrote Emilia Galotti?", [{"role": "user", "content": "Who?"}]]
    for answer, question in zip(guard.ask_batch(questions, SHORT), questions, strict=True):
        alone = guard.ask(question, SHORT)
        assert answer.text == alone.text
        assert answer.uncertainty.hybridgrad == pytest.approx(alone.uncertainty.hybridgrad, rel=1e-3)
    judged = guard.judge_batch(questions, ["One.", "Two of them.", [50, 51]])
    assert [answer.text for answer in judged[:2]] == ["One.", "Two of them."]
    assert len({answer.request for answer in judged}) == 3
    assert guard.ask_batch([]) == []
    assert guard.judge_batch([], []) == []


def test_where_a_policy_observes_every_answer_is_shown_and_nobody_else_asked(tmp_path):
    asked = []
    for rule in (PASS, FLAG, ABSTAIN, ESCALATE):
        guard = guard_of(rule, mode="observe", targets={"strong": asked.append}, **STRONG)
        answer = guard.judge(ASKED, SAID)
        assert (answer.text, answer.action, answer.enforced) == (SAID, rule["action"], False)
        assert (answer.message, answer.escalation, answer.is_withheld) == (None, None, False)
    assert asked == []


@pytest.mark.parametrize("target", [lambda case: f"{case.draft} No: Faust.", None])
def test_an_escalated_answer_is_the_targets_and_says_so(target):
    message = AIMessage("Goethe, J. W.", response_metadata={"model_name": "strong-1"})
    target = target or GenericFakeChatModel(messages=repeat(message))
    answer = guard_of(ESCALATE, targets={"strong": target}, **STRONG).judge(ASKED, SAID)
    assert answer.text in ("Goethe wrote it. No: Faust.", "Goethe, J. W.")
    assert (answer.action, answer.message, answer.draft) == ("escalate", None, SAID)
    assert answer.escalation.target == "strong"
    assert answer.escalation.source
    assert answer.uncertainty.hybridgrad > 0
    assert answer.timings["escalate_s"] >= 0


def test_a_case_has_all_that_a_person_needs(tmp_path):
    queue = HumanQueue(f"sqlite:///{tmp_path}/q.db")
    named = {"escalation": {"strong": {"queue": queue.url}}}
    guard = guard_of({**ESCALATE, "message": "Wait."}, profile=profile_file(tmp_path), **named)
    answer = guard.judge([{"role": "system", "content": "Be brief."}, *asked()], SAID, tags=["b", "a"])
    assert (answer.text, answer.message, answer.action) == ("Wait.", "Wait.", "escalate")
    case = queue.get(answer.escalation.ticket).case
    assert case.id == answer.request
    assert (case.draft, case.rule, case.reason) == (SAID, "up", answer.reason)
    assert case.messages == [{"role": "system", "content": "Be brief."}, *asked()]
    assert case.confidence == answer.confidence == 0.5
    assert case.scores == answer.uncertainty.scores()
    assert (case.tags, case.model, case.finish_reason) == (["a", "b"], "tiny", "stop")
    assert (case.policy_digest, case.profile_digest) == (answer.policy_digest, answer.profile_digest)


def asked():
    return [{"role": "user", "content": ASKED}]


def test_an_escalation_that_nobody_takes_is_an_abstention():
    def down(case):
        raise ConnectionError(ASKED)

    rule = {**ESCALATE, "message": "A colleague will answer you."}
    answer = guard_of(rule, targets={"strong": down}, **STRONG).judge(ASKED, SAID)
    assert (answer.text, answer.action, answer.rule) == (DEFAULT_MESSAGES["abstain"], "abstain", "up")
    assert answer.escalation.attempts[0].error == "ConnectionError: the target failed"
    assert answer.error.startswith("EscalationError")
    assert ASKED not in json.dumps(answer.as_plain())


def test_a_profile_gives_confidence_quantiles_and_guarantees(tmp_path):
    certified = {"id": "sure", "when": {"certified": {"max_error": 0.1, "confidence": 0.9}}, "action": "pass"}
    sure = guard_of(certified, ABSTAIN, profile=profile_file(tmp_path, intercept=2.0)).judge(ASKED, SAID)
    assert sure.confidence == pytest.approx(0.8808, abs=1e-4)
    assert (sure.action, sure.rule, sure.guarantees) == ("pass", "sure", (Guarantee(0.1, 0.9),))
    assert 0 <= sure.quantiles["hybridgrad"] <= 1
    assert sure.profile_digest == profile_of(intercept=2.0).digest
    unsure = guard_of(certified, ABSTAIN, profile=profile_file(tmp_path, intercept=0.9)).judge(ASKED, SAID)
    assert (unsure.action, unsure.guarantees) == ("abstain", ())


def test_how_far_a_confidence_may_be_off_stands_in_the_verdict(tmp_path):
    calibrator = VennAbers(scores=(2.0,), lower=(0.1, 0.2, 0.3), upper=(0.4, 0.5, 0.6))
    path = profile_file(tmp_path, intercept=2.0, calibrator=calibrator)
    answer = guard_of(ABSTAIN, profile=path).judge(ASKED, SAID)
    assert answer.confidence_interval == (0.2, 0.5)
    assert 0.2 <= answer.confidence <= 0.5
    assert answer.as_plain()["confidence_interval"] == [0.2, 0.5]
    plain = guard_of(ABSTAIN, profile=profile_file(tmp_path, intercept=2.0)).judge(ASKED, SAID)
    assert plain.confidence is not None
    assert plain.as_plain()["confidence_interval"] is None


OF_TWO_KINDS = {"max_error": 0.1, "confidence": 0.9, "kinds": 2, "n": 50, "errors": 0, "needed": 29}


@pytest.mark.parametrize(
    ("tags", "certified"),
    [
        ((), False),
        (("sum",), False),
        (("kind:sum",), True),
        (("kind:fact",), False),
        (("kind:sum", "kind:fact"), False),
        (("kind:other",), False),
    ],
)
def test_a_guarantee_for_a_kind_holds_for_requests_that_name_it(tmp_path, tags, certified):
    rule = {"id": "sure", "when": {"certified": {"max_error": 0.1, "confidence": 0.9}}, "action": "pass"}
    kinds = (
        CertifiedThreshold(kind="sum", threshold=0.2, accepted=40, **OF_TWO_KINDS),
        CertifiedThreshold(kind="fact", threshold=None, accepted=5, reason="too few", **OF_TWO_KINDS),
    )
    # Not sure enough for the promise about the mix of kinds.
    path = profile_file(tmp_path, intercept=0.5, certified=kinds)
    answer = guard_of(rule, ABSTAIN, profile=path).judge(ASKED, SAID, tags=tags)
    assert (answer.action == "pass", bool(answer.guarantees)) == (certified, certified)


@pytest.mark.parametrize(
    ("sampling", "certified"),
    [
        (Sampling(max_tokens=4), True),
        (Sampling(max_tokens=4, top_p=0.5), True),
        (Sampling(max_tokens=4, temperature=0.7, seed=1), False),
    ],
)
def test_a_guarantee_is_of_answers_generated_as_those_of_the_calibration(tmp_path, sampling, certified):
    rule = {"id": "sure", "when": {"certified": {"max_error": 0.1, "confidence": 0.9}}, "action": "pass"}
    path = profile_file(tmp_path, intercept=2.0, generation={"temperature": 0.0, "top_p": 1.0})
    guard = guard_of(rule, ABSTAIN, profile=path)
    answer = guard.ask(ASKED, sampling)
    assert (answer.action == "pass", bool(answer.guarantees)) == (certified, certified)
    if certified:
        assert answer.confidence > 0.8
    else:
        assert (answer.confidence, answer.rule, answer.domain) == (
            None,
            "on_outside_domain",
            ("temperature",),
        )
        assert "answers at temperature 0.0, and this is one at 0.7" in answer.outside_domain
        assert answer.outside_domain in answer.reason
    assert guard.judge(ASKED, SAID).rule == "sure"


def test_the_profile_says_how_to_score_and_which_states_to_keep(tmp_path):
    options = ScoringOptions(reduction="mean", semantic_token=-2)
    path = profile_file(tmp_path, probe=True, options=options)
    answer = guard_of(profile=path).ask(ASKED, SHORT)
    assert answer.uncertainty.options == options
    assert 0 < answer.confidence < 1
    assert guard_of(profile=path).judge(ASKED, SAID).error == ""


def test_without_a_profile_the_policy_says_what_happens_and_the_reason_is_given():
    unsure = {"id": "unsure", "when": {"confidence": {"lt": 0.5}}, "action": "abstain"}
    answer = guard_of(unsure, PASS, on_uncalibrated="flag").judge(ASKED, SAID)
    assert (answer.action, answer.rule, answer.confidence) == ("flag", "on_uncalibrated", None)
    assert "no profile ships for tiny" in answer.reason
    assert (answer.guarantees, answer.profile_digest) == (None, None)


def test_a_profile_that_is_named_and_not_there_or_altered_is_an_error_at_once(tmp_path):
    with pytest.raises(ProfileError, match="no profile"):
        guard_of(profile=tmp_path / "none.json")
    path = profile_file(tmp_path)
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(ProfileError, match="altered"):
        guard_of(profile=path)


@pytest.mark.parametrize("field", ["weights", "dtype", "chat_template", "quantization"])
def test_a_profile_that_is_named_and_of_another_model_is_refused_at_once(tmp_path, field):
    profile = profile_of()
    foreign = profile.model_copy(update={"model": replace(profile.model, **{field: "other"})})
    write_profile(foreign, tmp_path / "p.json")
    with pytest.raises(ForeignProfileError, match=f"model.{field}"):
        guard_of(profile=tmp_path / "p.json")


def test_a_profile_of_another_scorer_is_refused_at_once(tmp_path):
    profile = profile_of()
    foreign = profile.model_copy(update={"scorer": replace(profile.scorer, version=99)})
    write_profile(foreign, tmp_path / "p.json")
    with pytest.raises(ForeignProfileError, match=r"scorer\.version"):
        guard_of(profile=tmp_path / "p.json")


def test_a_policy_that_does_not_know_where_its_profile_lies_is_no_policy_without_one():
    with pytest.raises(ProfileError, match="load_policy"):
        guard_of(profile=None) and Guard(policy_of(profile="./p.json"), tiny())


def test_a_shipped_profile_is_used_where_it_fits_and_left_with_a_reason_where_not(tmp_path, monkeypatch):
    unsure = {"id": "unsure", "when": {"confidence": {"lt": 0.1}}, "action": "abstain"}
    path = profile_file(tmp_path)
    monkeypatch.setattr("guardrail.guard.assess.builtin_profiles", lambda: {"tiny": path})
    assert guard_of(unsure, PASS).judge(ASKED, SAID).confidence == 0.5
    profile = profile_of()
    foreign = profile.model_copy(update={"model": replace(profile.model, dtype="bfloat16")})
    write_profile(foreign, path)
    answer = guard_of(unsure, PASS).judge(ASKED, SAID)
    assert (answer.rule, answer.action, answer.confidence) == ("on_uncalibrated", "abstain", None)
    assert "model.dtype is float32, not bfloat16" in answer.reason
    path.write_text("{}")
    with pytest.raises(ProfileError):
        guard_of(unsure, PASS)


@pytest.mark.parametrize("question", ["", "  ", [], [{"role": "user"}], "x" * 3000])
def test_what_the_caller_has_to_mend_is_raised(question):
    with pytest.raises(PromptError):
        guard_of().ask(question, SHORT)
    with pytest.raises(PromptError):
        guard_of().judge(question, SAID)


def test_a_response_that_cannot_be_read_is_raised():
    guard = guard_of()
    for response in ([10**6], "y" * 3000, None, 3, [0.5], [{"type": "text"}], b"bytes"):
        with pytest.raises(ResponseError):
            guard.judge(ASKED, response)
    with pytest.raises(OptionError, match="2 conversations and 1 responses"):
        guard.judge_batch([ASKED, ASKED], [SAID])
    with pytest.raises(OptionError):
        guard.ask_batch(ASKED)
    with pytest.raises(OptionError):
        guard.ask(ASKED, tags="demo")


def test_a_target_that_cannot_work_is_an_error_when_the_guard_is_made(tmp_path):
    queue = {"escalation": {"strong": {"queue": f"sqlite:///{tmp_path}/no/q.db"}}}
    with pytest.raises(EscalationError):
        guard_of(ESCALATE, **queue)
    with pytest.raises(OptionError, match="no escalation target"):
        guard_of(targets=strong())


TICKETED = {**ESCALATE, "message": "Wait for {ticket}; {{sure}}: {confidence:.0%} by {rule}."}


def test_who_asked_is_told_the_ticket_and_the_message_is_known_again(tmp_path):
    named = {"escalation": {"strong": {"queue": f"sqlite:///{tmp_path}/q.db"}}}
    log = {"log": {"file": str(tmp_path / "log.jsonl"), "text": "full"}}
    guard = guard_of(TICKETED, profile=profile_file(tmp_path), **named, **log)
    answer = guard.judge(ASKED, SAID)
    said = f"Wait for {answer.escalation.ticket}; {{sure}}: 50% by up."
    assert (answer.text, answer.message, answer.as_plain()["message"]) == (said, said, said)
    assert json.loads((tmp_path / "log.jsonl").read_text())["answer"] == said
    again = guard.judge([*asked(), {"role": "assistant", "content": said}, *asked()], SAID)
    assert again.turns_left_out == 1


async def test_beside_the_event_loop_the_ticket_is_told_too(tmp_path):
    guard = guard_of(TICKETED, escalation={"strong": {"queue": f"sqlite:///{tmp_path}/q.db"}})
    answer = await guard.ajudge(ASKED, SAID)
    assert answer.text.startswith(f"Wait for {answer.escalation.ticket};")


def test_where_nobody_took_it_no_ticket_is_promised(tmp_path):
    queue = HumanQueue(f"sqlite:///{tmp_path}/q.db")
    guard = guard_of(TICKETED, escalation={"strong": {"queue": queue.url}})
    for file in tmp_path.iterdir():
        file.unlink()
    queue.path.mkdir()
    answer = guard.judge(ASKED, SAID)
    assert (answer.action, answer.escalation.ticket) == ("abstain", None)
    assert "Wait for" not in answer.text


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "link to a pipe"])
def test_a_queue_or_log_that_is_no_regular_file_is_refused_in_words(tmp_path, kind):
    place = not_regular(tmp_path, kind)
    named = {"escalation": {"strong": {"queue": f"sqlite:///{place}"}}}
    expected = kind.removeprefix("link to a ")
    with pytest.raises(EscalationError, match=f"it is a {expected}, not a regular file"):
        guard_of(ESCALATE, **named)
    with pytest.raises(EscalationError, match=f"it is a {expected}"):
        HumanQueue(f"sqlite:///{place}").items()
    with pytest.raises(OptionError, match=f"it is a {expected}, not a regular file"):
        guard_of(PASS, log={"file": str(place)})


def not_regular(folder, kind):
    place = folder / "place"
    if kind == "device":
        return "/dev/zero"
    if kind == "folder":
        place.mkdir()
        return place
    os.mkfifo(place)
    if kind == "pipe":
        return place
    (folder / "link").symlink_to(place)
    return folder / "link"


def test_a_guard_is_made_of_a_file(tmp_path):
    (tmp_path / "p.yaml").write_text(
        "version: 1\nname: mine\nprofile: profile.json\nrules:\n  - {id: all, action: pass}\n"
    )
    profile_file(tmp_path)
    guard = Guard.from_policy(tmp_path / "p.yaml", tiny())
    answer = guard.judge(ASKED, SAID)
    assert isinstance(answer, GuardedAnswer)
    assert (answer.policy_digest, answer.confidence) == (guard.policy.digest, 0.5)
    (tmp_path / "p.yaml").write_text("version: 1\nname: mine\nrules: []\n")
    with pytest.raises(PolicyError):
        Guard.from_policy(tmp_path / "p.yaml", tiny())


def test_the_plain_form_is_json_with_these_fields(tmp_path):
    plain = guard_of(profile=profile_file(tmp_path, intercept=2.0)).judge(ASKED, SAID).as_plain()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert list(plain) == [
        "action",
        "rule",
        "reason",
        "message",
        "confidence",
        "confidence_interval",
        "confidence_score",
        "scores",
        "guarantees",
        "quantiles",
        "tool_calls",
        "sentences",
        "finish_reason",
        "usage",
        "escalation",
        "enforced",
        "error",
        "request",
        "model",
        "answered_by",
        "generated_by",
        "outside_domain",
        "domain",
        "uncertified",
        "familiar",
        "policy",
        "profile",
        "turns_left_out",
        "released",
        "timings",
    ]
    assert plain["guarantees"] == [{"max_error": 0.1, "confidence": 0.9}]


@pytest.mark.parametrize("tokens", [2, 8])
def test_what_was_decided_on_can_be_decided_on_again(tokens):
    short = {"id": "short", "when": {"uncertainty": {"tokens": {"lte": 3}}}, "action": "abstain"}
    guard = guard_of(short, FLAG)
    answer = guard.ask(ASKED, Sampling(max_tokens=tokens))
    again = decide(guard.policy, answer.evidence)
    assert (again.action, again.rule) == (answer.action, answer.rule)
