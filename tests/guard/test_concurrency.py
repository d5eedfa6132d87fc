import asyncio
import threading
import time

import pytest

from guardrail.models.local import LocalModel
from tests.support.guards import ASKED, PASS, SAID, SHORT, guard_of

QUESTIONS = [f"Question {at}: who was number {at * 7}?" for at in range(12)]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def guard():
    return guard_of(PASS)


@pytest.fixture(scope="module")
def alone(guard):
    return [guard.ask(question, SHORT) for question in QUESTIONS]


def same(answer, other):
    # The last digits depend on how many threads a product is made by.
    scores = pytest.approx(dict(other.uncertainty.scores()), rel=1e-4)
    return answer.text == other.text and dict(answer.uncertainty.scores()) == scores


def test_verdicts_of_many_threads_are_each_that_of_its_own_question(guard, alone):
    answers = [None] * len(QUESTIONS)

    def ask(at):
        answers[at] = guard.ask(QUESTIONS[at], SHORT)

    threads = [threading.Thread(target=ask, args=(at,)) for at in range(len(QUESTIONS))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(map(same, answers, alone))


def test_verdicts_of_many_tasks_are_each_that_of_its_own_question(guard, alone):
    async def all_at_once():
        return await asyncio.gather(*(guard.aask(question, SHORT) for question in QUESTIONS))

    assert all(map(same, asyncio.run(all_at_once()), alone))


def test_the_async_forms_give_what_the_others_give(guard):
    async def run():
        return (
            await guard.aask(ASKED, SHORT),
            await guard.ajudge(ASKED, SAID),
            *await guard.aask_batch([ASKED], SHORT),
            *await guard.ajudge_batch([ASKED], [SAID]),
        )

    asked, judged, asked_too, judged_too = asyncio.run(run())
    assert same(asked, guard.ask(ASKED, SHORT))
    assert same(judged, guard.judge(ASKED, SAID))
    assert (asked_too.text, judged_too.text) == (asked.text, judged.text)


class Slow:
    """A model that is busy until it is let go."""

    def __init__(self, patch):
        self.started, self.go_on, self.asked = threading.Event(), threading.Event(), []
        real = LocalModel.generate_batch

        def generate(model, prompts, *arguments, **options):
            self.asked += [prompt[0]["content"] for prompt in prompts]
            self.started.set()
            assert self.go_on.wait(5)
            return real(model, prompts, *arguments, **options)

        patch.setattr(LocalModel, "generate_batch", generate)


def test_a_task_that_is_cancelled_is_free_at_once_and_a_waiting_request_is_not_run(guard, monkeypatch):
    slow = Slow(monkeypatch)

    async def run():
        first, second, third = (asyncio.create_task(guard.aask(name, SHORT)) for name in "abc")
        await asyncio.to_thread(slow.started.wait, 5)
        began = time.perf_counter()
        for task in (first, second):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        freed = time.perf_counter() - began
        slow.go_on.set()
        return freed, await third

    freed, answer = asyncio.run(run())
    assert freed < 1
    assert slow.asked == ["a", "c"]
    assert answer.action == "pass"


def test_a_task_may_give_up_after_a_time(guard, monkeypatch):
    slow = Slow(monkeypatch)

    async def run():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await guard.aask(ASKED, SHORT)
        slow.go_on.set()
        return await guard.ajudge(ASKED, SAID)

    assert asyncio.run(run()).action == "pass"


def test_one_request_that_fails_does_not_touch_the_others(guard):
    async def run():
        requests = [guard.aask(question, SHORT) for question in (ASKED, "", ASKED)]
        return await asyncio.gather(*requests, return_exceptions=True)

    first, failed, last = asyncio.run(run())
    assert type(failed).__name__ == "PromptError"
    assert same(first, last)


def test_states_of_waiting_requests_are_not_piled_up(guard):
    """Whoever generates also scores before the next one generates."""
    order = []
    generate, release = LocalModel.generate_batch, type(guard).ask_batch

    def noted(model, *arguments, **options):
        order.append("generate")
        time.sleep(0.002)
        return generate(model, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        from guardrail.guard import produce as producing

        score = producing.score_batch

        def noted_score(*arguments, **options):
            order.append("score")
            return score(*arguments, **options)

        patch.setattr(LocalModel, "generate_batch", noted)
        patch.setattr(producing, "score_batch", noted_score)
        threads = [threading.Thread(target=release, args=(guard, [ASKED], SHORT)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert order == ["generate", "score"] * 6
