"""A caller that waits no longer than it says."""

import asyncio
import threading
import time

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel

from guardrail.errors import AnswerTimeoutError, GuardrailError, OptionError
from guardrail.langchain import verdict_of
from guardrail.models.decoding import GoesOn
from tests.support.chat_models import chat_of
from tests.support.guards import ASKED, PASS

pytestmark = pytest.mark.usefixtures("one_thread")

LIVE = {"streaming": "annotate", "on_uncalibrated": "flag", "on_outside_domain": "flag"}
SHORT = {"max_tokens": 2, "timeout": 20}


@pytest.fixture
def tokens(monkeypatch):
    """Counts the tokens that are generated, each of which takes its time."""
    counted = []
    goes_on = GoesOn.__call__

    def counting(*arguments, **options):
        counted.append(1)
        time.sleep(0.005)
        return goes_on(*arguments, **options)

    monkeypatch.setattr(GoesOn, "__call__", counting)
    return counted


async def astreamed(chat):
    return [chunk async for chunk in chat.astream(ASKED)]


WAYS = {
    "invoke": lambda chat: chat.invoke(ASKED),
    "stream": lambda chat: list(chat.stream(ASKED)),
    "batch": lambda chat: chat.batch([ASKED, ASKED]),
    "ainvoke": lambda chat: asyncio.run(chat.ainvoke(ASKED)),
    "astream": lambda chat: asyncio.run(astreamed(chat)),
}


@pytest.mark.parametrize("policy", [{}, LIVE], ids=["buffer", "annotate"])
@pytest.mark.parametrize("way", WAYS)
def test_when_the_time_is_up_the_caller_is_told_and_the_model_is_free(tokens, way, policy):
    chat = chat_of(PASS, policy=policy, max_tokens=400)
    began = time.perf_counter()
    with pytest.raises(AnswerTimeoutError, match=r"no answer within 0\.1 s.*max_tokens") as caught:
        WAYS[way](chat.model_copy(update={"timeout": 0.1}))
    assert time.perf_counter() - began < 1.5
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, GuardrailError)
    assert verdict_of(chat.invoke(ASKED, **SHORT))
    assert len(tokens) < 200


def test_time_spent_in_the_line_counts(tokens):
    chat = chat_of(PASS, max_tokens=100, batch_size=1)
    answers = []
    first = threading.Thread(target=lambda: answers.append(chat.invoke(ASKED)))
    first.start()
    while not tokens:
        time.sleep(0.001)
    with pytest.raises(AnswerTimeoutError):
        chat.invoke(ASKED, timeout=0.05)
    assert first.is_alive()
    first.join()
    assert answers[0].content
    assert len(tokens) <= 101


def test_who_is_late_does_not_touch_those_that_are_answered_together(tokens):
    chat = chat_of(PASS, max_tokens=40, batch_size=8)

    async def ask(number):
        return await chat.ainvoke(f"Question {number}?", timeout=0.05 if number == 3 else 20)

    async def all_at_once():
        return await asyncio.gather(*map(ask, range(6)), return_exceptions=True)

    late = asyncio.run(all_at_once())
    assert isinstance(late.pop(3), AnswerTimeoutError)
    assert all(verdict_of(message) for message in late)


def test_a_fallback_answers_in_time(tokens):
    chain = chat_of(PASS, max_tokens=400, timeout=0.1).with_fallbacks(
        [FakeListChatModel(responses=["Quick."])]
    )
    assert chain.invoke(ASKED).content == "Quick."
    assert "".join(chunk.content for chunk in chain.stream(ASKED)) == "Quick."


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "1", True])
def test_a_time_that_is_none_is_refused(timeout):
    with pytest.raises(OptionError, match="timeout is"):
        chat_of(PASS).invoke(ASKED, timeout=timeout)
