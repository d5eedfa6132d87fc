import asyncio
import contextvars
import json
import time
from itertools import repeat

import pytest
from langchain_core.language_models import FakeListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser

from guardrail.errors import EscalationError, OptionError
from guardrail.escalation.case import Answered, Queued
from guardrail.escalation.queue import HumanQueue
from guardrail.escalation.routing import (
    Route,
    aescalate,
    check_routes,
    escalate,
    given_target,
    named_target,
    open_routes,
)
from guardrail.policy.model import Target
from tests.support.cases import case_of

SAID = "Who wrote Faust?"


def run_sync(routes, to="first", case=None):
    return escalate(routes, to, case or case_of())


def run_async(routes, to="first", case=None):
    return asyncio.run(aescalate(routes, to, case or case_of()))


@pytest.fixture(params=[run_sync, run_async])
def take(request):
    return request.param


def route(value, **options):
    return Route(given_target("first", value), **options)


def raising(error):
    def fail(case):
        raise error

    return fail


async def later(case):
    await asyncio.sleep(0)
    return f"later: {case.messages[0]['content']}"


class Coroutines:
    async def __call__(self, case):
        return "called"


def chat_model(answer):
    return FakeListChatModel(responses=[answer])


def saying(**fields):
    return GenericFakeChatModel(messages=repeat(AIMessage(**fields)))


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (lambda case: f"{case.draft} or Goethe", "Schiller. or Goethe"),
        (later, "later: Who wrote Faust? 🖋"),
        (Coroutines(), "called"),
        (lambda case: later(case), "later: Who wrote Faust? 🖋"),
        (chat_model("Goethe."), "Goethe."),
        (chat_model("Goethe.") | StrOutputParser(), "Goethe."),
        (saying(content=[{"type": "text", "text": "Goethe."}]), "Goethe."),
    ],
)
def test_a_target_answers(take, target, text):
    escalation = take({"first": route(target)})
    assert escalation.reply.text == text
    assert type(escalation.reply.text) is str
    (attempt,) = escalation.attempts
    assert (attempt.target, attempt.outcome, attempt.error) == ("first", "answered", "")
    assert escalation.ticket is None


def test_an_answer_says_which_model_gave_it(take):
    named = saying(content="Goethe.", response_metadata={"model_name": "strong-2"})
    assert take({"first": route(named)}).source == "strong-2"


def test_a_queue_gives_a_ticket_that_is_in_the_queue(take, tmp_path):
    queue = HumanQueue(f"sqlite:///{tmp_path}/q.db")
    escalation = take({"first": route(queue)})
    assert escalation.reply == Queued(queue.items()[0].ticket)
    assert (escalation.ticket, escalation.source) == (case_of().id, None)
    assert escalation.attempts[0].outcome == "queued"


@pytest.mark.parametrize(
    ("target", "error"),
    [
        (raising(RuntimeError(f"they asked: {SAID}")), "RuntimeError: the target failed"),
        (raising(MemoryError()), "MemoryError: the target failed"),
        (raising(asyncio.QueueEmpty()), "QueueEmpty: the target failed"),
        (lambda case: None, "EscalationError: the answer is no text but of type NoneType"),
        (lambda case: b"bytes", "EscalationError: the answer is no text but of type bytes"),
        (lambda case: " \n\t", "EscalationError: the answer is empty"),
        (saying(content=""), "EscalationError: the answer is empty"),
        (
            saying(content="", tool_calls=[{"name": "f", "args": {}, "id": "1"}]),
            "EscalationError: the answer is empty",
        ),
        (chat_model("x") | (lambda message: {"a": 1}), "EscalationError: the answer is no text"),
        (GenericFakeChatModel(messages=iter([])), "the target failed"),
    ],
)
def test_a_target_that_fails_gives_no_reply_and_says_why_without_what_was_said(take, target, error):
    escalation = take({"first": route(target)})
    assert (escalation.reply, escalation.target, escalation.source) == (None, None, None)
    (attempt,) = escalation.attempts
    assert attempt.outcome == "failed"
    assert error in attempt.error
    assert SAID not in json.dumps(escalation.as_plain())


def sleeping(case):
    time.sleep(2)
    return "too late"


async def sleeping_on_the_loop(case):
    await asyncio.sleep(30)
    return "too late"


@pytest.mark.parametrize("target", [sleeping, sleeping_on_the_loop])
def test_a_target_that_takes_too_long_is_not_waited_for(take, target):
    began = time.perf_counter()
    escalation = take({"first": route(target, timeout_s=0.05)})
    assert time.perf_counter() - began < 1.5
    assert escalation.reply is None
    assert escalation.attempts[0].error == "TimeoutError: no answer within 0.05 s"


def test_a_target_that_fails_falls_to_the_next_and_every_attempt_is_recorded(take, tmp_path):
    queue = HumanQueue(f"sqlite:///{tmp_path}/q.db")
    routes = {
        "first": route(raising(ValueError()), on_error="second"),
        "second": route(lambda case: "", on_error="human"),
        "human": route(queue),
    }
    escalation = take(routes)
    assert [(a.target, a.outcome) for a in escalation.attempts] == [
        ("first", "failed"),
        ("second", "failed"),
        ("human", "queued"),
    ]
    assert escalation.target == "human"


def test_where_all_fail_there_is_no_reply(take):
    routes = {
        "first": route(raising(ValueError()), on_error="second"),
        "second": route(raising(OSError())),
    }
    escalation = take(routes)
    assert escalation.reply is None
    assert len(escalation.attempts) == 2


@pytest.mark.parametrize(
    ("on_errors", "sentence"),
    [
        ({"first": "first"}, "first → first"),
        ({"first": "second", "second": "third", "third": "first"}, "circle"),
        ({"first": "third"}, "'third', which is none"),
    ],
)
def test_routes_that_do_not_end_are_refused_and_end_all_the_same(take, on_errors, sentence):
    routes = {name: route(raising(ValueError()), on_error=to) for name, to in on_errors.items()}
    with pytest.raises(OptionError, match=sentence):
        check_routes(routes)
    escalation = take(routes)
    assert escalation.reply is None
    assert len(escalation.attempts) == len(routes)


def test_a_target_that_is_not_there_gives_no_reply(take):
    assert take({}, "nobody").reply is None


def test_what_must_stop_the_program_is_not_taken_for_a_failure():
    for error in (KeyboardInterrupt, SystemExit):
        with pytest.raises(error):
            escalate({"first": route(raising(error()))}, "first", case_of())


def test_a_task_that_is_cancelled_is_free_at_once():
    async def cancelled():
        routes = {"first": route(sleeping, on_error="second"), "second": route(lambda case: "never")}
        task = asyncio.create_task(aescalate(routes, "first", case_of()))
        await asyncio.sleep(0.05)
        task.cancel()
        began = time.perf_counter()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.perf_counter() - began

    assert asyncio.run(cancelled()) < 1.5


def test_a_target_sees_the_callers_context(take):
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("of the caller")
    assert take({"first": route(lambda case: variable.get())}).reply.text == "of the caller"


def test_a_sync_escalation_works_within_an_event_loop():
    async def within():
        return escalate({"first": route(later)}, "first", case_of())

    assert isinstance(asyncio.run(within()).reply, Answered)


def for_import(case):
    return "imported"


NO_FUNCTION = "a text"
PLACE = f"{__name__}:for_import"


def test_a_function_is_found_by_its_place(take):
    assert take(open_routes({"first": Target(callable=PLACE)})).reply == Answered("imported", PLACE)


@pytest.mark.parametrize("place", ["nowhere_at_all:f", "json:nothing", f"{__name__}:NO_FUNCTION"])
def test_a_function_that_is_not_there_is_refused_when_the_targets_are_opened(place):
    with pytest.raises(OptionError, match=place):
        named_target(Target(callable=place))


def test_what_a_caller_hands_over_takes_the_place_of_what_the_policy_names(take):
    named = {"first": Target(chat_model="openai:gpt-5", on_error="human", timeout_s=7)}
    named["human"] = Target(callable=PLACE)
    routes = open_routes(named, {"first": lambda case: "given"})
    assert (routes["first"].on_error, routes["first"].timeout_s) == ("human", 7)
    assert take(routes).reply.text == "given"


def test_a_target_that_the_policy_does_not_have_is_refused():
    with pytest.raises(OptionError, match="no escalation target 'frist'; it has first"):
        open_routes({"first": Target(callable=PLACE)}, {"frist": for_import})


def test_a_queue_is_made_when_the_targets_are_opened(tmp_path):
    url = f"sqlite:///{tmp_path}/q.db"
    open_routes({"human": Target(queue=url)})
    assert HumanQueue(url).items() == []


@pytest.mark.parametrize("value", [None, "openai:gpt-5", 3])
def test_what_can_take_no_case_is_no_target(value):
    with pytest.raises(OptionError, match="give a chat model, a function or a HumanQueue"):
        given_target("strong", value)


def test_a_queue_that_cannot_be_used_is_known_when_it_is_handed_over(tmp_path):
    with pytest.raises(EscalationError):
        given_target("human", HumanQueue(f"sqlite:///{tmp_path}/missing/q.db"))
