import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel

from guardrail.langchain.verdicts import get_uncertainty_callback
from tests.support.guards import PASS
from tests.support.wrapping import guard, other_model

pytestmark = pytest.mark.usefixtures("one_thread")

REQUESTS = [f"r{at}" for at in range(50)]
FAILING = "r7"
# Every third answer is a long one, which is withheld.
LONG = {
    "id": "long",
    "when": {"uncertainty": {"tokens": {"gt": 12}}},
    "action": "abstain",
    "message": "Too long.",
}


def answer(asked):
    name = asked[-1].text.removeprefix("About ")
    if name == FAILING:
        raise ConnectionError(name)
    return f"{name} said {'more' if int(name[1:]) % 3 == 0 else 'so'}"


@cache
def chain():
    prompt = ChatPromptTemplate.from_template("About {name}")
    return guard(LONG, PASS).wrap(prompt | other_model(answer) | StrOutputParser())


@cache
def all_alone():
    return {name: request(chain(), name) for name in REQUESTS if name != FAILING}


@pytest.fixture
def guarded(one_thread):
    return chain()


@pytest.fixture
def alone(one_thread):
    return all_alone()


def seen(text, verdicts):
    (verdict,) = verdicts
    return text, verdict["action"], verdict["scores"]


def request(guarded, name):
    with get_uncertainty_callback() as verdicts:
        return seen(guarded.invoke({"name": name}), verdicts)


async def arequest(guarded, name):
    with get_uncertainty_callback() as verdicts:
        return seen(await guarded.ainvoke({"name": name}), verdicts)


def check(results, alone):
    for name, result in zip(REQUESTS, results, strict=True):
        if name == FAILING:
            assert isinstance(result, ConnectionError)
        else:
            assert result == alone[name]
    assert len({repr(result) for result in results}) == len(REQUESTS)


def test_alone_long_answers_are_withheld_and_others_not(alone):
    assert alone["r1"][:2] == ("r1 said so", "pass")
    assert alone["r12"][:2] == ("Too long.", "abstain")


def test_of_fifty_threads_each_gets_its_own_verdict_and_one_that_fails_fails_alone(guarded, alone):
    together = threading.Barrier(len(REQUESTS))

    def run(name):
        together.wait(10)
        try:
            return request(guarded, name)
        except ConnectionError as error:
            return error

    with ThreadPoolExecutor(len(REQUESTS)) as pool:
        check([*pool.map(run, REQUESTS)], alone)


def test_of_fifty_tasks_each_gets_its_own_verdict_and_one_that_fails_fails_alone(guarded, alone):
    async def all_at_once():
        return await asyncio.gather(*(arequest(guarded, name) for name in REQUESTS), return_exceptions=True)

    check(asyncio.run(all_at_once()), alone)


def test_of_a_batch_each_gets_its_own_answer(guarded, alone):
    names = REQUESTS[:16]
    given = guarded.batch([{"name": name} for name in names], return_exceptions=True)
    expected = [alone[name][0] if name != FAILING else None for name in names]
    assert [text if isinstance(text, str) else None for text in given] == expected


def test_branches_of_one_request_are_its_own(guarded, alone):
    names = [name for name in REQUESTS[:10] if name != FAILING]
    both = RunnableParallel(
        {name: RunnableLambda(lambda _, name=name: {"name": name}) | guarded for name in names}
    )
    with get_uncertainty_callback() as verdicts:
        answers = both.invoke("go")
    assert answers == {name: alone[name][0] for name in names}
    assert sorted(str(verdict["scores"]) for verdict in verdicts) == sorted(
        str(alone[name][2]) for name in names
    )


def test_a_task_that_is_cancelled_cancels_the_chain_and_tells_nobody_of_it():
    async def run():
        started, stopped = asyncio.Event(), asyncio.Event()

        async def step(asked):
            other_model().invoke(asked)
            started.set()
            try:
                await asyncio.sleep(60)
            finally:
                stopped.set()

        with get_uncertainty_callback() as verdicts:
            task = asyncio.create_task(guard(PASS).wrap(step).ainvoke("Who?"))
            await started.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert stopped.is_set()
        return list(verdicts)

    assert asyncio.run(run()) == []
