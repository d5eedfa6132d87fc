"""Requests that wait, run together."""

import asyncio
import threading
from asyncio import CancelledError
from contextlib import contextmanager
from threading import RLock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrail.errors import OptionError, PromptError
from guardrail.guard import Guard
from guardrail.guard.produce import Job
from guardrail.guard.scheduler import QueuedRequest, RequestQueue
from guardrail.models.decoding import GenerationControls
from guardrail.models.local import LocalModel
from guardrail.models.sampling import Sampling
from tests.support.guards import ASKED, PASS, SHORT, policy_of, tiny

pytestmark = pytest.mark.usefixtures("one_thread")

QUESTIONS = [f"Question {at}: who was number {at * 7}?" for at in range(12)]


def request(*names, sampling=None, **fields):
    return QueuedRequest(
        [Job(name, [{"role": "user", "content": name}], **fields) for name in names], sampling
    )


class Runs:
    """A line over something that says back what it was given, and notes what it ran together."""

    def __init__(self, most=4, fails=()):
        self.lock, self.ran, self.fails = RLock(), [], fails
        self.line = RequestQueue(self.run, self.turn, most)

    @contextmanager
    def turn(self):
        with self.lock:
            yield

    def run(self, jobs, sampling, goes_on):
        self.ran.append([job.id for job in jobs])
        for job in jobs:
            if job.id in self.fails:
                raise self.fails[job.id]
        if not goes_on():
            raise CancelledError
        return [f"{job.id}!" for job in jobs]

    def all_waiting(self, *requests):
        """The results, or errors, of requests that all wait before the first of them is run."""
        results = [None] * len(requests)

        def wait(at):
            try:
                results[at] = self.line.result(requests[at])
            except BaseException as error:  # noqa: BLE001  (compared by the test)
                results[at] = error

        threads = [threading.Thread(target=wait, args=(at,)) for at in range(len(requests))]
        with self.lock:
            for at, thread in enumerate(threads):
                thread.start()
                while len(self.line._waiting) <= at:
                    pass
        for thread in threads:
            thread.join(10)
        return results


def test_requests_that_wait_are_run_together_up_to_the_most():
    runs = Runs(most=4)
    results = runs.all_waiting(*(request(name) for name in "abcdef"))
    assert results == [[f"{name}!"] for name in "abcdef"]
    assert runs.ran == [[*"abcd"], [*"ef"]]


def test_a_request_of_many_jobs_is_run_whole():
    runs = Runs(most=2)
    assert runs.all_waiting(request("a"), request(*"bcd")) == [["a!"], ["b!", "c!", "d!"]]
    assert runs.ran == [["a"], ["b", "c", "d"]]


DRAWING = Sampling(temperature=1.0)


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ({}, {}, True),
        ({"sampling": SHORT}, {"sampling": Sampling(max_tokens=SHORT.max_tokens)}, True),
        ({"sampling": SHORT}, {}, False),
        ({"sampling": DRAWING}, {"sampling": DRAWING}, True),
        # What is drawn for one row would hang on the other.
        (
            {"sampling": Sampling(temperature=1.0, seed=1)},
            {"sampling": Sampling(temperature=1.0, seed=1)},
            False,
        ),
        ({"sampling": Sampling(seed=1)}, {"sampling": Sampling(seed=1)}, True),
        # Nothing is drawn, and each is encoded by itself.
        ({"response": "x"}, {"response": "x"}, True),
        ({"response": "x"}, {"response": "x", "controls": GenerationControls(tools=[{"a": 1}])}, True),
        ({"response": "x"}, {}, False),
        ({"controls": GenerationControls(on_text=print)}, {}, False),
        (
            {"controls": GenerationControls(tools=[{"a": 1}])},
            {"controls": GenerationControls(tools=({"a": 1},))},
            True,
        ),
        (
            {"controls": GenerationControls(tools=[{"a": 1}])},
            {"controls": GenerationControls(tools=[{"a": 2}])},
            False,
        ),
        ({"tags": frozenset("a")}, {"tags": frozenset("b")}, True),
    ],
)
def test_only_what_gives_the_same_together_as_alone_is_run_together(one, other, together):
    runs = Runs()
    assert runs.all_waiting(request("a", **one), request("b", **other)) == [["a!"], ["b!"]]
    assert runs.ran == ([["a", "b"]] if together else [["a"], ["b"]])


def test_one_that_fails_does_not_touch_the_others():
    failure = PromptError("b is empty")
    runs = Runs(fails={"b": failure})
    assert runs.all_waiting(request("a"), request("b"), request("c")) == [["a!"], failure, ["c!"]]


def test_one_that_is_abandoned_while_it_waits_is_not_run():
    runs, gone = Runs(), request("b")
    gone.abandon()
    results = runs.all_waiting(request("a"), gone, request("c"))
    assert (results[0], results[2]) == (["a!"], ["c!"])
    assert not any("b" in batch for batch in runs.ran)


def test_a_run_that_nobody_waits_for_is_given_up_and_the_next_goes_on():
    runs = Runs()
    leaving = request("a", controls=GenerationControls(goes_on=lambda: False, on_text=print))
    left, stayed = runs.all_waiting(leaving, request("b"))
    assert isinstance(left, CancelledError)
    assert stayed == ["b!"]


def test_ctrl_c_in_the_thread_that_runs_leaves_the_others_their_answers():
    runs = Runs(fails={"a": KeyboardInterrupt()})
    run, interrupted = runs.run, []

    def once(jobs, *rest):
        # It reaches the thread that runs at the time, once.
        if interrupted:
            runs.fails = {}
        interrupted.append(1)
        return run(jobs, *rest)

    runs.line._run = once
    results = runs.all_waiting(request("a"), request("b"), request("c"))
    kinds = sorted(type(result).__name__ for result in results)
    assert kinds in (["KeyboardInterrupt", "list", "list"], ["CancelledError", "KeyboardInterrupt", "list"])
    assert sum(isinstance(result, KeyboardInterrupt) for result in results) == 1


@given(st.lists(st.tuples(st.integers(1, 3), st.booleans(), st.booleans()), min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_every_request_gets_what_is_its_own(plan):
    requests, fails, expected = [], {}, []
    for at, (size, failing, drawing) in enumerate(plan):
        names = [f"{at}-{number}" for number in range(size)]
        requests.append(request(*names, sampling=DRAWING if drawing else SHORT))
        expected.append([f"{name}!" for name in names])
        if failing:
            fails[names[0]] = expected[-1] = PromptError(names[0])
    assert Runs(most=3, fails=fails).all_waiting(*requests) == expected


def test_tasks_are_run_together_too_and_a_task_that_leaves_is_not_waited_for():
    runs = Runs(most=8)

    async def run():
        with runs.lock:
            tasks = [asyncio.create_task(runs.line.aresult(request(name))) for name in "abcd"]
            while len(runs.line._waiting) < 4:
                await asyncio.sleep(0.001)
            tasks[1].cancel()
            with pytest.raises(CancelledError):
                await tasks[1]
        return await asyncio.gather(*(tasks[at] for at in (0, 2, 3)))

    assert asyncio.run(run()) == [["a!"], ["c!"], ["d!"]]
    assert runs.ran == [["a", "c", "d"]]


def test_a_running_request_whose_task_leaves_frees_the_model(monkeypatch):
    guard = Guard(policy_of(PASS), tiny())
    began = threading.Event()
    tokens = []
    generate = LocalModel.generate_batch

    def noted(model, prompts, *arguments, controls, **options):
        def goes_on():
            tokens.append(1)
            began.set()
            return controls.goes_on()

        return generate(model, prompts, *arguments, controls=GenerationControls(goes_on=goes_on), **options)

    async def run():
        task = asyncio.create_task(guard.aask(ASKED, Sampling(max_tokens=400, ignore_end=True)))
        await asyncio.to_thread(began.wait, 5)
        task.cancel()
        with pytest.raises(CancelledError):
            await task
        monkeypatch.undo()
        return await guard.aask(ASKED, SHORT)

    monkeypatch.setattr(LocalModel, "generate_batch", noted)
    assert asyncio.run(run()).error == ""
    assert len(tokens) < 300


def test_batched_verdicts_of_many_threads_are_each_that_of_its_own_question():
    guard = Guard(policy_of(PASS), tiny(), batch_size=5)
    alone = [Guard(policy_of(PASS), tiny()).ask(question, SHORT) for question in QUESTIONS]
    answers = [None] * len(QUESTIONS)

    def ask(at):
        answers[at] = guard.ask(QUESTIONS[at], SHORT, tags=[str(at)])

    threads = [threading.Thread(target=ask, args=(at,)) for at in range(len(QUESTIONS))]
    with tiny().alone():
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join()
    for answer, expected in zip(answers, alone, strict=True):
        assert answer.text == expected.text
        assert dict(answer.uncertainty.scores()) == pytest.approx(
            dict(expected.uncertainty.scores()), rel=1e-3
        )


def test_in_a_batch_an_empty_question_is_its_own_callers_error():
    guard = Guard(policy_of(PASS), tiny(), batch_size=5)

    async def run():
        requests = [guard.aask(question, SHORT) for question in (ASKED, "", "x" * 3000, ASKED)]
        return await asyncio.gather(*requests, return_exceptions=True)

    first, empty, long, last = asyncio.run(run())
    assert isinstance(empty, PromptError)
    assert isinstance(long, PromptError)
    assert first.text == last.text


def test_a_batch_of_none_is_refused():
    with pytest.raises(OptionError, match="batch_size"):
        Guard(policy_of(PASS), tiny(), batch_size=0)


def test_names_of_tools_in_a_draft_reach_the_rules():
    rules = [{"id": "risky", "when": {"tool_call": ["send_*"]}, "action": "abstain"}, PASS]
    guard = Guard(policy_of(*rules), tiny())
    drafts = []

    def calls_in(draft):
        drafts.append(draft)
        return ["send_mail"]

    assert guard.ask(ASKED, SHORT, calls_in=calls_in).rule == "risky"
    assert guard.ask(ASKED, SHORT, calls_in=lambda draft: []).rule == "all"
    assert drafts == [guard.ask(ASKED, SHORT).draft]


def test_a_draft_whose_calls_cannot_be_read_is_withheld():
    def calls_in(draft):
        raise RecursionError(draft)

    answer = Guard(policy_of(PASS), tiny()).ask(ASKED, SHORT, calls_in=calls_in)
    assert (answer.action, answer.rule) == ("abstain", "on_error")
    assert answer.error == "RecursionError: the tools that the answer calls could not be read"
