import asyncio
import threading

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tracers.context import _configure_hooks

from guardrail.langchain.verdicts import (
    UncertaintyCallbackHandler,
    get_uncertainty_callback,
    verdict_of,
)
from tests.support.wrapping import guarded_message, other_model


def saying(rule):
    return other_model(guarded_message("Goethe", rule=rule)) | StrOutputParser()


def rules(verdicts):
    return [verdict["rule"] for verdict in verdicts]


def test_a_message_that_carries_a_verdict_gives_it():
    message = guarded_message("Goethe", "flag")([])
    assert verdict_of(message)["action"] == "flag"
    assert verdict_of(AIMessageChunk("", response_metadata=message.response_metadata))["rule"] == "own"


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"uncertainty": None},
        {"uncertainty": "pass"},
        {"uncertainty": 0.3},
        {"uncertainty": {"action": "allow", "enforced": True, "rule": "all"}},
        {"uncertainty": {"action": ["pass"], "enforced": True, "rule": "all"}},
        {"uncertainty": {"action": "pass", "rule": "all"}},
        {"uncertainty": {"action": "pass", "enforced": "yes", "rule": "all"}},
        {"uncertainty": {"action": "pass", "enforced": True}},
    ],
)
def test_what_is_no_verdict_is_none(metadata):
    assert verdict_of(AIMessage("Goethe", response_metadata=metadata)) is None


@pytest.mark.parametrize("value", ["Goethe", None, {"action": "pass"}])
def test_what_is_no_message_has_no_verdict(value):
    assert verdict_of(value) is None


def test_verdicts_are_read_through_a_parser_with_the_run_that_they_are_of():
    with get_uncertainty_callback() as verdicts:
        assert saying("a").invoke("Who?") == "Goethe"
        assert "".join(saying("b").stream("Who?")) == "Goethe"
    assert rules(verdicts) == ["a", "b"]
    assert len({verdict["run_id"] for verdict in verdicts}) == 2
    assert verdicts[-1] is verdicts[1]
    assert verdicts[:1] == [verdicts[0]]


def test_verdicts_are_read_through_branches_and_functions():
    called = RunnableLambda(lambda text: saying("function").invoke(text))
    with get_uncertainty_callback() as verdicts:
        RunnableParallel(a=saying("a"), b=called).invoke("Who?")
        saying("batch").batch(["Who?"] * 3)
    assert sorted(rules(verdicts)) == ["a", "batch", "batch", "batch", "function"]


def test_nothing_is_read_outside_the_block():
    with get_uncertainty_callback() as verdicts:
        pass
    saying("late").invoke("Who?")
    assert (len(verdicts), list(verdicts)) == (0, [])


def test_an_error_in_the_block_ends_it_too():
    with pytest.raises(ZeroDivisionError), get_uncertainty_callback() as verdicts:
        raise ZeroDivisionError
    saying("late").invoke("Who?")
    assert list(verdicts) == []


def test_a_block_hears_of_the_blocks_within_it_and_not_the_other_way():
    with get_uncertainty_callback() as outer:
        saying("before").invoke("Who?")
        with get_uncertainty_callback() as inner:
            saying("within").invoke("Who?")
        saying("after").invoke("Who?")
    assert rules(outer) == ["before", "within", "after"]
    assert rules(inner) == ["within"]


def test_a_block_within_a_chain_hears_its_own_and_the_outer_one_hears_it_once():
    heard = []

    def step(text):
        with get_uncertainty_callback() as inner:
            answer = saying("within").invoke(text)
        heard.append(rules(inner))
        return answer

    with get_uncertainty_callback() as outer:
        RunnableLambda(step).invoke("Who?")
    assert heard == [["within"]]
    assert rules(outer) == ["within"]


def test_threads_hear_nothing_of_each_other():
    heard, together = {}, threading.Barrier(8)

    def request(name):
        with get_uncertainty_callback() as verdicts:
            together.wait(5)
            for _ in range(3):
                saying(name).invoke("Who?")
        heard[name] = rules(verdicts)

    threads = [threading.Thread(target=request, args=(f"r{at}",)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == {f"r{at}": [f"r{at}"] * 3 for at in range(8)}


def test_tasks_hear_nothing_of_each_other_and_a_block_hears_the_tasks_within_it():
    async def request(name):
        with get_uncertainty_callback() as verdicts:
            await asyncio.gather(*(saying(name).ainvoke("Who?") for _ in range(3)))
        return rules(verdicts)

    async def requests():
        return await asyncio.gather(*(request(f"r{at}") for at in range(8)))

    assert asyncio.run(requests()) == [[f"r{at}"] * 3 for at in range(8)]


def test_langchain_is_told_of_it_once_however_often_it_is_used():
    before = len(_configure_hooks)
    for _ in range(3):
        with get_uncertainty_callback():
            pass
    assert len(_configure_hooks) == before


def test_a_handler_can_be_handed_over_where_a_block_does_not_fit():
    handler = UncertaintyCallbackHandler()
    saying("a").invoke("Who?", {"callbacks": [handler]})
    assert rules(handler.verdicts) == ["a"]


def test_a_message_without_a_verdict_is_no_verdict():
    with get_uncertainty_callback() as verdicts:
        other_model("Goethe").invoke("Who?")
    assert list(verdicts) == []
