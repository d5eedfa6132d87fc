"""Whatever fails, nothing is let through as if it had been checked."""

import asyncio
import errno
import json
import time
from math import inf, nan

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guardrail.calibration.profile import Assessment, Profile
from guardrail.errors import CalibrationError, GenerationError, InvalidInputError, OptionError, ScoringError
from guardrail.models.local import LocalModel
from guardrail.policy.evidence import Decision, Evidence
from guardrail.scoring.score import score_batch
from guardrail.scoring.uncertainty import SCORES
from tests.support.chat import BROKEN_TOKEN, tiny_chat_model
from tests.support.guards import ASKED, PASS, SAID, SHORT, guard_of, profile_file

pytestmark = pytest.mark.usefixtures("one_thread")

SECRET = "what they asked"
ERRORS = [
    CalibrationError("a score is missing"),
    FloatingPointError(SECRET),
    GenerationError("no logits"),
    KeyError(SECRET),
    MemoryError(),
    OSError(errno.ENOSPC, "No space left on device"),
    OptionError("semantic_token is -5, and the prompt has only 3 tokens."),
    RecursionError(SECRET),
    RuntimeError(f"CUDA error while reading {SECRET}"),
    ScoringError("hybridgrad is nan"),
    StopIteration(SECRET),
    TimeoutError(SECRET),
    torch.OutOfMemoryError(f"Tried to allocate {SECRET}"),
]
NO_NUMBERS = [nan, inf, -inf, None, "0.9", True]


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


def giving(value):
    return lambda *_, **__: value


def with_score(name, value):
    """The real scores, but for one."""

    def scores(model, traces, options, **how):
        uncertainties = score_batch(model, traces, options, **how)
        for uncertainty in uncertainties:
            object.__setattr__(uncertainty, name, value)
        return uncertainties

    return scores


def assessed(confidence=0.9, score=1.0, quantile=0.5):
    return Assessment(confidence, score, None, {"hybridgrad": quantile}, ())


MODEL = {"ask": (LocalModel, "generate_batch"), "judge": (LocalModel, "read_encoded")}
SCORE = "guardrail.guard.produce.score_batch"
ASSESS = (Profile, "assess")
DECIDE = "guardrail.guard.assess.decide"
RAISED = [(seam, raising(error)) for seam in (SCORE, ASSESS, DECIDE) for error in ERRORS]
WRONG = [
    *((SCORE, giving(value)) for value in ([], [None], [0.5], ["sure"], None, [1, 2])),
    *(
        (SCORE, with_score(name, value))
        for name in SCORES
        for value in NO_NUMBERS
        if (name, value) != ("exgrad", None)
    ),
    *((ASSESS, giving(value)) for value in (None, 0.99, {})),
    *((ASSESS, giving(assessed(confidence=value))) for value in (*NO_NUMBERS, -0.1, 1.1)),
    *((ASSESS, giving(assessed(score=value))) for value in NO_NUMBERS),
    *((ASSESS, giving(assessed(quantile=value))) for value in (nan, inf, -0.5, "0.5")),
    *((DECIDE, giving(value)) for value in (None, True, "pass", Evidence(), Decision("yes", "r", "?"))),
    (DECIDE, giving(Decision("abstain", "r", "?", enforced=False))),
]


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    return profile_file(tmp_path_factory.mktemp("profile"), intercept=5.0)


@pytest.fixture(scope="module")
def guard(profile):
    """Passes everything that it can judge."""
    return guard_of(PASS, profile=profile)


def inject(patch, seam, failing):
    if isinstance(seam, str):
        patch.setattr(seam, failing)
    else:
        patch.setattr(*seam, failing)


def check_withheld(answer, draft=None):
    assert answer.action == "abstain"
    assert answer.enforced
    assert answer.text == answer.message
    assert answer.text != answer.draft
    assert answer.error.partition(":")[0].isidentifier()
    plain = json.dumps(answer.as_plain(), allow_nan=False)
    assert SECRET not in plain
    assert draft is None or draft not in plain


def test_without_a_failure_the_same_guard_passes(guard):
    answer = guard.judge(ASKED, SAID)
    assert (answer.action, answer.text, answer.error) == ("pass", SAID, "")


ROUTES = {
    "ask": lambda guard: guard.ask(ASKED, SHORT),
    "judge": lambda guard: guard.judge(ASKED, SAID),
    "ask_batch": lambda guard: guard.ask_batch([ASKED, ASKED], SHORT)[1],
    "judge_batch": lambda guard: guard.judge_batch([ASKED, ASKED], [SAID, SAID])[0],
    "ask_async": lambda guard: asyncio.run(guard.aask(ASKED, SHORT)),
    "judge_async": lambda guard: asyncio.run(guard.ajudge(ASKED, SAID)),
}
ROUTE = st.sampled_from(sorted(ROUTES))
LAW = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@LAW
@given(st.sampled_from([*RAISED, *WRONG]), ROUTE)
def test_no_failure_after_the_model_lets_an_answer_pass(guard, injected, route):
    with pytest.MonkeyPatch.context() as patch:
        inject(patch, *injected)
        answer = ROUTES[route](guard)
    check_withheld(answer, SAID if "judge" in route else None)


@pytest.mark.parametrize("action", ["pass", "flag"])
def test_a_policy_room_that_lets_failures_through_is_not_believed(guard, action, monkeypatch):
    monkeypatch.setattr(DECIDE, giving(Decision(action, "r", "?")))
    assert guard.judge(ASKED, SAID).action == action
    monkeypatch.setattr(SCORE, raising(RuntimeError(SECRET)))
    check_withheld(guard.judge(ASKED, SAID), SAID)


@LAW
@given(st.sampled_from([error for error in ERRORS if not isinstance(error, InvalidInputError)]), ROUTE)
def test_no_failure_of_the_model_lets_an_answer_pass(guard, error, route):
    with pytest.MonkeyPatch.context() as patch:
        inject(patch, MODEL[route.partition("_")[0]], raising(error))
        answer = ROUTES[route](guard)
    check_withheld(answer)
    assert answer.error.startswith(type(error).__name__)
    assert (answer.confidence, answer.uncertainty, answer.finish_reason) == (None, None, None)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("text", ["", " \n\t", "\u200b\u2060", "\x00"])
def test_an_answer_that_shows_nothing_is_none(guard, text, route, monkeypatch):
    generate = LocalModel.generate_batch

    def empty(*arguments, **options):
        traces = generate(*arguments, **options)
        for trace in traces:
            trace.text = text
        return traces

    monkeypatch.setattr(LocalModel, "generate_batch", empty)
    monkeypatch.setattr(f"{__name__}.SAID", text)
    answer = ROUTES[route](guard)
    check_withheld(answer)
    assert answer.error == "EmptyAnswer: the answer is empty"


def test_an_empty_answer_that_calls_a_tool_is_judged(guard):
    assert guard.judge(ASKED, " ", tool_calls=["search"]).action == "pass"


def test_weights_that_are_broken_give_no_answer_and_harm_no_other():
    broken = guard_of(PASS, model=tiny_chat_model(broken=True))
    good, bad = broken.judge_batch([ASKED, ASKED], [[40, 41], [40, BROKEN_TOKEN, 41]])
    check_withheld(bad)
    assert bad.error.startswith("GenerationError")
    assert good.action == "pass"


def test_only_the_guilty_one_of_a_batch_goes_without(guard, monkeypatch):
    def picky(model, traces, options, **how):
        if any("wrong" in trace.text for trace in traces):
            raise ScoringError("hybridgrad is nan")
        return score_batch(model, traces, options, **how)

    monkeypatch.setattr(SCORE, picky)
    answers = guard.judge_batch([ASKED] * 3, ["One.", "A wrong one.", "Three."])
    assert [answer.action for answer in answers] == ["pass", "abstain", "pass"]
    assert [answer.text for answer in answers[::2]] == ["One.", "Three."]


def test_a_failure_may_be_escalated_and_the_draft_is_not_shown(profile, monkeypatch):
    failing = {"on_error": {"action": "escalate", "to": "strong"}}
    named = {"escalation": {"strong": {"callable": "json:dumps"}}}
    cases = []

    def strong(case):
        cases.append(case)
        return "Goethe."

    guard = guard_of(PASS, profile=profile, targets={"strong": strong}, **failing, **named)
    monkeypatch.setattr(SCORE, raising(MemoryError()))
    answer = guard.judge(ASKED, SAID)
    assert (answer.text, answer.action, answer.rule) == ("Goethe.", "escalate", "on_error")
    assert answer.error == "MemoryError: the answer could not be scored"
    assert (cases[0].draft, cases[0].scores) == (SAID, {})


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("seam", [*MODEL.values(), SCORE, ASSESS, DECIDE])
def test_what_must_stop_the_program_does(guard, seam, stop, monkeypatch):
    inject(monkeypatch, seam, raising(stop()))
    run = guard.judge if seam == MODEL["judge"] else guard.ask
    with pytest.raises(stop):
        run(ASKED, SAID if run == guard.judge else SHORT)


def test_after_a_failure_the_guard_works_as_before(guard, monkeypatch):
    for error in ERRORS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SCORE, raising(error))
            check_withheld(guard.judge(ASKED, SAID))
    assert guard.judge(ASKED, SAID).action == "pass"


def test_a_clock_that_goes_back_changes_no_decision_and_no_time_is_negative(guard, monkeypatch):
    clock = iter(range(10_000, 0, -1))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    answer = guard.judge(ASKED, SAID)
    assert answer.action == "pass"
    assert min(answer.timings.values()) >= 0


def test_where_a_policy_observes_a_failure_is_told_and_the_draft_shown(profile, monkeypatch):
    guard = guard_of(PASS, profile=profile, mode="observe")
    monkeypatch.setattr(SCORE, raising(RuntimeError(SECRET)))
    answer = guard.judge(ASKED, SAID)
    assert (answer.text, answer.action, answer.enforced) == (SAID, "abstain", False)
    assert answer.error == "RuntimeError: the answer could not be scored"
    monkeypatch.setattr(LocalModel, "generate_batch", raising(RuntimeError(SECRET)))
    nothing = guard.ask(ASKED, SHORT)
    assert nothing.draft is None
    assert "could not be checked" in nothing.text


def test_what_cannot_be_read_at_all_is_decided_on_by_on_error(guard):
    error = "ScoringError: the model's answer was not read to its end"
    for answer in (
        guard.refuse(ASKED, SAID, error, tags=["web"]),
        asyncio.run(guard.arefuse([], None, error)),
    ):
        check_withheld(answer)
        assert (answer.rule, answer.error, answer.confidence) == ("on_error", error, None)
