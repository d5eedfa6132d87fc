"""What is recorded of answers: spans, events and numbers, by a real SDK and over the tiny model."""

import asyncio
import json
import logging
import multiprocessing
import os
import threading
import time
from contextlib import nullcontext

import pytest
from opentelemetry import trace
from opentelemetry.semconv._incubating.attributes import error_attributes, gen_ai_attributes, http_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.trace import StatusCode

import guardrail.guard.pipeline
import guardrail.guard.produce
from guardrail.calibration.profile import write_profile
from guardrail.errors import AnswerTimeoutError, PromptError
from guardrail.models.sampling import Sampling
from guardrail.telemetry.answer_record import AnswerFacts, Asked, StageTime
from guardrail.telemetry.providers import use_providers
from guardrail.telemetry.semantic_conventions import Attribute, MetricName
from tests.support.chat_models import ABSTAIN
from tests.support.guards import ASKED, PASS, SAID, SHORT, guard_of, profile_file, profile_of, tiny
from tests.support.serving import Held
from tests.support.telemetry import recorded

pytestmark = pytest.mark.usefixtures("one_thread")

ESCALATE = {"id": "up", "action": "escalate", "to": "expert"}
EXPERT = {"escalation": {"expert": {"callable": "tests.support.guards:policy_of"}}}


def names_in(values):
    texts = ((name, value) for name, value in vars(values).items() if isinstance(value, str))
    return {value for name, value in texts if name.isupper()}


HTTP_METRICS = {"http.server.request.duration", "http.server.active_requests"}


def test_the_names_are_those_of_the_conventions():
    conventions = (gen_ai_attributes, error_attributes, http_attributes, gen_ai_metrics)
    known = HTTP_METRICS.union(*map(names_in, conventions))
    ours = names_in(Attribute) | names_in(MetricName)
    assert len(ours) > 30
    assert {name for name in ours if not name.startswith("guardrail.")} <= known


def test_an_answer_is_a_span_with_its_stages_below():
    with recorded() as known:
        answer = guard_of(PASS).ask(ASKED, Sampling(max_tokens=4, temperature=0.5, seed=3))
    span = known.answer
    assert span.name == "chat tiny"
    assert span.parent is None
    stages = known.below(span)
    assert {stage.name for stage in stages} == {"wait", "answer", "score", "decide", "record"}
    assert len(known.spans) == 1 + len(stages)
    told = dict(span.attributes)
    assert told[Attribute.OPERATION] == "chat"
    assert told[Attribute.REQUEST_MODEL] == told[Attribute.RESPONSE_MODEL] == "tiny"
    assert told[Attribute.REQUEST_TEMPERATURE] == 0.5
    assert told[Attribute.REQUEST_SEED] == 3
    assert told[Attribute.RESPONSE_ID] == answer.request
    assert told[Attribute.FINISH_REASONS] == (answer.finish_reason,)
    assert told[Attribute.INPUT_TOKENS] == answer.usage.prompt_tokens
    assert told[Attribute.OUTPUT_TOKENS] == answer.usage.completion_tokens
    assert (told[Attribute.ACTION], told[Attribute.RULE], told[Attribute.ENFORCED]) == ("pass", "all", True)
    assert told[Attribute.REASON] == answer.reason
    assert span.status.status_code == StatusCode.UNSET
    slack = 1_000_000
    for stage in stages:
        assert span.start_time - slack <= stage.start_time <= stage.end_time <= span.end_time + slack
    seconds = {stage.name: (stage.end_time - stage.start_time) / 1e9 for stage in stages}
    assert seconds["answer"] == pytest.approx(answer.timings["answer_s"], abs=1e-6)
    assert seconds["score"] == pytest.approx(answer.timings["score_s"], abs=1e-6)


def test_the_verdict_is_an_event_in_the_answers_trace(tmp_path):
    write_profile(profile_of(intercept=1.0), tmp_path / "p.json")
    sure = {"id": "sure", "when": {"confidence": {"gte": 0.01}}, "action": "pass"}
    with recorded() as known:
        answer = guard_of(sure, ABSTAIN, profile=tmp_path / "p.json").ask(ASKED, SHORT)
    (event,) = known.events
    assert answer.confidence is not None
    assert event.event_name == "gen_ai.evaluation.result"
    assert event.span_id == known.answer.context.span_id
    told = dict(event.attributes)
    assert told[Attribute.SCORE_VALUE] == answer.confidence
    assert told[Attribute.SCORE_LABEL] == "pass"
    assert told[Attribute.EXPLANATION] == f"sure: {answer.reason}"
    assert told[Attribute.RESPONSE_ID] == answer.request
    assert known.answer.attributes[Attribute.CONFIDENCE] == answer.confidence
    assert [count for _, count in known.points(MetricName.CONFIDENCE)] == [1]
    ((labels, _),) = known.points(MetricName.ANSWERS)
    assert labels[Attribute.FAMILIAR] == answer.familiar


def test_numbers_are_counted_by_action_rule_and_stage():
    with recorded() as known:
        guard = guard_of(ABSTAIN)
        for _ in range(2):
            guard.ask(ASKED, SHORT)
        guard.judge(ASKED, SAID)
        points = {name: known.points(name) for name in names_in(MetricName)}
    ((labels, count),) = points[MetricName.ANSWERS]
    assert count == 3
    assert (labels[Attribute.ACTION], labels[Attribute.RULE]) == ("abstain", ABSTAIN["id"])
    stages = {labels[Attribute.STAGE]: count for labels, count in points[MetricName.STAGE_DURATION]}
    assert stages == dict.fromkeys(("wait", "answer", "score", "decide", "record"), 3)
    durations = points[MetricName.OPERATION_DURATION]
    assert {labels[Attribute.OPERATION]: count for labels, count in durations} == {"chat": 2, "judge": 1}
    tokens = points[MetricName.TOKEN_USAGE]
    assert {labels[Attribute.TOKEN_TYPE] for labels, _ in tokens} == {"input", "output"}
    assert [count for _, count in points[MetricName.BATCH_SIZE]] == [3]
    assert points[MetricName.ERRORS] == []
    # Neither requests nor texts: what there may be of a label does not grow with what is asked.
    labels = [labels for point in points.values() for labels, _ in point]
    assert all(len(str(value)) < 40 for one in labels for value in one.values())


def test_the_queue_is_read_when_somebody_collects():
    with recorded() as known:
        guard = guard_of(PASS)
        with Held(guard) as held:
            threads = [threading.Thread(target=guard.ask, args=(ASKED, SHORT)) for _ in range(3)]
            for thread in threads:
                thread.start()
            until = time.monotonic() + 30
            while guard._pipeline._waiting.waiting < 3 and time.monotonic() < until:
                time.sleep(0.01)
            full = sum(value for _, value in known.points(MetricName.QUEUE_REQUESTS))
            held.let_go()
            for thread in threads:
                thread.join()
        empty = sum(value for _, value in known.points(MetricName.QUEUE_REQUESTS))
    assert (full, empty) == (3, 0)


def test_each_answer_of_a_batch_has_a_span_of_its_own():
    with recorded() as known:
        answers = guard_of(PASS).ask_batch([ASKED, f"{ASKED} Say."], SHORT)
    spans = known.named("chat ")
    ids = [span.attributes[Attribute.RESPONSE_ID] for span in spans]
    assert sorted(ids) == sorted(answer.request for answer in answers)
    assert {span.attributes[Attribute.BATCH_SIZE] for span in spans} == {2}
    for span in spans:
        assert sorted(one.name for one in known.below(span)) == [
            "answer",
            "decide",
            "record",
            "score",
            "wait",
        ]
    assert len({span.context.trace_id for span in spans}) == 2


@pytest.mark.parametrize("beside", [False, True], ids=["threads", "tasks"])
def test_answers_asked_at_once_stay_below_their_callers(beside):
    asked = [f"{ASKED} {number}" for number in range(4)]
    with recorded() as known:
        guard = guard_of(PASS)
        tracer = known.tracer_provider.get_tracer("app")

        def ask(question):
            with tracer.start_as_current_span(f"app {question}") as around:
                return around.context.span_id, guard.ask(question, SHORT).request

        async def aask(question):
            with tracer.start_as_current_span(f"app {question}") as around:
                return around.context.span_id, (await guard.aask(question, SHORT)).request

        async def all_asked():
            return await asyncio.gather(*map(aask, asked))

        if beside:
            callers = asyncio.run(all_asked())
        else:
            callers = []
            threads = [threading.Thread(target=lambda one=one: callers.append(ask(one))) for one in asked]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    seen = {(span.parent.span_id, span.attributes[Attribute.RESPONSE_ID]) for span in known.named("chat ")}
    assert seen == set(callers)
    assert len(seen) == 4


def test_what_an_escalation_records_is_below_its_stage():
    def expert(case):
        with trace.get_tracer("t", tracer_provider=known.tracer_provider).start_as_current_span("asked"):
            return "An expert's answer."

    with recorded() as known:
        answer = guard_of(ESCALATE, targets={"expert": expert}, **EXPERT).ask(ASKED, SHORT)
    assert answer.text == "An expert's answer."
    (stage,) = known.named("escalate")
    assert stage.parent.span_id == known.answer.context.span_id
    (asked,) = known.named("asked")
    assert asked.parent.span_id == stage.context.span_id


@pytest.mark.parametrize("beside", [False, True], ids=["ask", "aask"])
@pytest.mark.parametrize(
    ("question", "timeout", "error"),
    [("", None, PromptError), (ASKED, 0.05, AnswerTimeoutError)],
    ids=["empty", "late"],
)
def test_what_is_raised_ends_the_span_by_its_type_alone(question, timeout, error, beside):
    with recorded() as known:
        guard = guard_of(PASS)
        with Held(guard) if timeout else nullcontext(), pytest.raises(error) as raised:
            _ = (
                asyncio.run(guard.aask(question, SHORT, timeout=timeout))
                if beside
                else guard.ask(question, SHORT, timeout=timeout)
            )
        assert known.points(MetricName.ERRORS)[0][0][Attribute.ERROR_TYPE] == error.__name__
    span = known.answer
    assert span.attributes[Attribute.ERROR_TYPE] == error.__name__
    assert span.status.status_code == StatusCode.ERROR
    assert span.status.description is None
    assert not span.events
    assert str(raised.value) not in known.everything


class ToldError(Exception):
    """An error whose words tell what was drafted."""


def fails(draft):
    def fail(*_, **__):
        raise ToldError(draft)

    return fail


FAULTS = {
    "none": None,
    "score": (guardrail.guard.produce, "score_batch"),
    "record": (guardrail.guard.pipeline, "decision_record"),
    "calls": None,
}
ACTIONS = {
    "abstain": ([ABSTAIN], {}),
    "escalate to a queue": ([ESCALATE], {"escalation": {"expert": {"queue": "sqlite:///queue.db"}}}),
    "escalate to what fails": ([ESCALATE], EXPERT),
    "uncalibrated": ([{"id": "sure", "when": {"confidence": {"gte": 0.5}}, "action": "pass"}, ABSTAIN], {}),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("action", ACTIONS)
def test_a_withheld_draft_is_nowhere_in_telemetry(action, fault, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.DEBUG, "guardrail")
    rules, fields = ACTIONS[action]
    targets = {"expert": fails("Ouagadougou")} if action.endswith("fails") else None
    draft = tiny().generate(ASKED, Sampling(max_tokens=8)).text
    if FAULTS[fault]:
        monkeypatch.setattr(*FAULTS[fault], fails(draft))
    with recorded() as known:
        guard = guard_of(*rules, targets=targets, log={"file": "log.jsonl"}, **fields)
        calls_in = fails(draft) if fault == "calls" else None
        answers = [guard.ask(ASKED, Sampling(max_tokens=8), calls_in=calls_in)]
        answers += [asyncio.run(guard.aask(ASKED, Sampling(max_tokens=8), calls_in=calls_in))]
        answers += [guard.judge(ASKED, "Ouagadougou is the capital.", tool_calls=["Ouagadougou"])]
        answers += [guard.refuse(ASKED, "Ouagadougou", "UnreadableError: it cannot be read")]
        seen = known.everything + caplog.text
    assert len(known.named("chat ")) == len(known.named("judge ")) == 2
    assert all(answer.is_withheld for answer in answers)
    for part in (draft, draft[: len(draft) // 2], draft[len(draft) // 2 :]):
        assert part not in seen
        assert json.dumps(part)[1:-1] not in seen
    assert "Ouagadougou" not in seen
    assert ASKED not in seen


@pytest.mark.parametrize("texts", ["none", "shown", "full"])
def test_texts_are_recorded_as_the_policy_says(texts):
    with recorded() as known:
        answer = guard_of(ABSTAIN, telemetry={"texts": texts}).ask(ASKED, SHORT)
    told = dict(known.answer.attributes)
    assert (ASKED in told.get(Attribute.INPUT_MESSAGES, "")) == (texts != "none")
    assert (answer.text in told.get(Attribute.OUTPUT_MESSAGES, "")) == (texts != "none")
    assert told.get(Attribute.DRAFT) == (answer.draft if texts == "full" else None)


def test_a_reason_says_what_the_policy_looks_for_and_not_which_tool_the_model_named():
    rule = {"id": "risky", "when": {"tool_call": ["send_*"]}, "action": "abstain"}
    with recorded() as known:
        answer = guard_of(rule, PASS).judge(ASKED, SAID, tool_calls=["send_secret"])
    assert answer.reason in known.everything
    assert "send_*" in answer.reason
    assert "send_secret" not in known.everything


def test_who_answered_by_a_clients_word_is_in_no_reason_unless_texts_are_recorded(tmp_path):
    rule = {"id": "sure", "when": {"confidence": {"gte": 0.5}}, "action": "pass"}
    default = {"id": "default", "action": "abstain"}
    seen = {}
    for texts in ("none", "full"):
        with recorded() as known:
            guard = guard_of(rule, default, profile=profile_file(tmp_path), telemetry={"texts": texts})
            answer = guard.judge(ASKED, SAID, answered_by="Ouagadougou")
        seen[texts] = known.everything
    assert "Ouagadougou" in answer.reason
    assert "Ouagadougou" not in seen["none"]
    assert "Ouagadougou" in seen["full"]


class Broken:
    """A provider whose every use fails, at once or in what it gives."""

    def __init__(self, deep):
        self._deep = deep

    def __getattr__(self, name):
        if self._deep and name.startswith(("get_", "start_", "create_")):
            return lambda *_, **__: Broken(name.startswith("get_"))
        raise RuntimeError("telemetry is broken: Ouagadougou")


@pytest.mark.parametrize("signal", ["tracer_provider", "meter_provider", "logger_provider"])
@pytest.mark.parametrize("beside", [False, True], ids=["ask", "aask"])
def test_telemetry_that_fails_changes_nothing_and_is_logged_once(signal, beside, caplog):
    guard = guard_of(PASS)
    expected = guard.ask(ASKED, SHORT)
    with recorded(**{signal: Broken(deep=True)}), caplog.at_level(logging.DEBUG, "guardrail"):
        for _ in range(2):
            answer = asyncio.run(guard.aask(ASKED, SHORT)) if beside else guard.ask(ASKED, SHORT)
            assert (answer.text, answer.action, answer.error) == (expected.text, "pass", "")
    told = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(told) == 1
    assert "RuntimeError" in told[0].getMessage()
    assert "Ouagadougou" not in caplog.text


def test_without_a_provider_an_answer_costs_microseconds():
    telemetry = guard_of(PASS)._pipeline._telemetry
    stages = [StageTime(name, time.time_ns(), 0.1) for name in ("answer", "score", "decide")]
    facts = AnswerFacts(
        "r", "pass", "all", "w", False, True, 0.5, None, "", "stop", 10, 10, 0, stages, 1, "shown", "draft"
    )

    def once():
        with telemetry.recorded([Asked("r", False, [])], SHORT) as recording:
            with recording.stage("r", "record"):
                pass
            recording.answered(facts)
        telemetry.ran(1)

    use_providers()
    once()
    took = []
    for _ in range(300):
        began = time.perf_counter()
        once()
        took.append(time.perf_counter() - began)
    assert min(took) < 0.001


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_records_what_it_answers():
    forking = multiprocessing.get_context("fork")
    receiver, sender = forking.Pipe(duplex=False)
    with recorded() as known:
        guard = guard_of(PASS)
        first = guard.ask(ASKED, SHORT).request

        def ask():
            answer = guard.ask(ASKED, SHORT)
            ids = [span.attributes[Attribute.RESPONSE_ID] for span in known.named("chat ")]
            sender.send((answer.request, ids, known.points(MetricName.ANSWERS)[0][1]))

        process = forking.Process(target=ask, daemon=True)
        process.start()
        try:
            assert receiver.poll(60), "the forked process hangs"
            second, ids, count = receiver.recv()
        finally:
            process.kill()
            process.join()
        ours = [span.attributes[Attribute.RESPONSE_ID] for span in known.named("chat ")]
    assert ids == [first, second]
    assert count == 2
    assert ours == [first]
