"""What a chat model's streams show, and when."""

import asyncio
import threading
import time

import pytest

from guardrail.errors import AbstainedError, PromptError
from guardrail.langchain import verdict_of
from guardrail.models.local import LocalModel
from guardrail.models.sampling import Sampling
from tests.support.chat_models import ABSTAIN, chat_of
from tests.support.guards import ASKED, PASS, tiny

pytestmark = pytest.mark.usefixtures("one_thread")

FLAG = {"id": "warn", "action": "flag", "message": "Check this."}
LIVE = {"streaming": "annotate", "on_uncalibrated": "flag", "on_outside_domain": "flag"}
DRAWN = {"temperature": 1.0, "seed": 3, "max_tokens": 24}


def draft(**options):
    return tiny().generate(ASKED, Sampling(**options)).text


def streams(chat, **options):
    """The chunks of a stream and of an asynchronous one."""

    async def run():
        return [chunk async for chunk in chat.astream(ASKED, **options)]

    yield [*chat.stream(ASKED, **options)]
    yield asyncio.run(run())


def text_of(chunks):
    return "".join(chunk.content for chunk in chunks)


def test_a_buffered_stream_has_one_verdict_one_usage_and_one_end():
    for rule in (PASS, FLAG, ABSTAIN):
        for chunks in streams(chat_of(rule), **DRAWN):
            assert text_of(chunks) == (ABSTAIN["message"] if rule is ABSTAIN else draft(**DRAWN))
            assert [bool(verdict_of(chunk)) for chunk in chunks].count(True) == 1
            assert [bool(chunk.usage_metadata) for chunk in chunks].count(True) == 1
            assert [chunk.chunk_position for chunk in chunks] == [None] * (len(chunks) - 1) + ["last"]


def test_an_annotated_stream_shows_text_as_it_comes_and_the_verdict_last():
    for rule in (PASS, FLAG):
        for chunks in streams(chat_of(rule, policy=LIVE), **DRAWN):
            assert len(chunks) > 5
            assert text_of(chunks) == draft(**DRAWN)
            assert [bool(verdict_of(chunk)) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
            assert [bool(chunk.usage_metadata) for chunk in chunks].count(True) == 1
            assert chunks[-1].chunk_position == "last"
            merged = sum(chunks[1:], chunks[0])
            assert verdict_of(merged) == verdict_of(chunks[-1])
            assert merged.response_metadata["model_name"] == "tiny"


def test_an_annotated_stream_shows_nothing_of_a_stop_string():
    whole = draft(**DRAWN)
    stop = whole[10:13]
    for chunks in streams(chat_of(PASS, policy=LIVE), stop=[stop], **DRAWN):
        assert text_of(chunks) == whole[: whole.index(stop)]


def test_where_a_policy_observes_an_annotated_stream_shows_what_would_be_withheld():
    for chunks in streams(chat_of(ABSTAIN, mode="observe", policy=LIVE), **DRAWN):
        assert len(chunks) > 5
        assert text_of(chunks) == draft(**DRAWN)
        assert (verdict_of(chunks[-1])["action"], verdict_of(chunks[-1])["enforced"]) == ("abstain", False)


@pytest.mark.parametrize(
    "fields",
    [
        {"rules": [ABSTAIN]},
        {
            "rules": [{"id": "up", "action": "escalate", "to": "s"}],
            "escalation": {"s": {"chat_model": "x:y"}},
        },
        {"rules": [PASS], "on_uncalibrated": "abstain"},
    ],
)
def test_a_policy_that_can_withhold_is_never_streamed_live_whatever_it_says(fields):
    rules = fields.pop("rules")
    targets = {"s": lambda case: "Goethe"} if "escalation" in fields else None
    chat = chat_of(*rules, policy={**LIVE, **fields}, targets=targets)
    for chunks in streams(chat, **DRAWN):
        assert len(chunks) == 1


@pytest.fixture
def failing_scores(monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError(ASKED)

    monkeypatch.setattr("guardrail.guard.produce.score_batch", fail)


def test_an_answer_that_was_shown_and_cannot_be_checked_is_followed_by_the_policys_words(failing_scores):
    chat = chat_of(PASS, policy={**LIVE, "on_error": {"action": "abstain", "message": "Unchecked!"}})
    for chunks in streams(chat, **DRAWN):
        assert text_of(chunks) == f"{draft(**DRAWN)}\n\nUnchecked!"
        assert verdict_of(chunks[-1])["action"] == "abstain"
    assert chat.invoke(ASKED).content == "Unchecked!"
    with pytest.raises(AbstainedError):
        list(chat.stream(ASKED, on_abstain="raise"))


def test_tokens_are_shown_before_the_answer_is_complete(monkeypatch):
    seen, generated = threading.Event(), []
    generate = LocalModel.generate_batch

    def slow(model, prompts, *arguments, **options):
        traces = generate(model, prompts, *arguments, **options)
        # The consumer has a piece while the request is still running.
        generated.append(seen.wait(5))
        return traces

    monkeypatch.setattr(LocalModel, "generate_batch", slow)
    for piece in chat_of(PASS, policy=LIVE).stream(ASKED, **DRAWN):
        if piece.content:
            seen.set()
    assert generated == [True]


def test_an_error_while_generating_is_raised_at_once(monkeypatch):
    def fail(*arguments, **options):
        raise KeyboardInterrupt

    chat = chat_of(PASS, policy=LIVE)
    began = time.perf_counter()
    with pytest.raises(PromptError):
        list(chat.stream(""))
    with pytest.raises(PromptError):
        asyncio.run(anext(aiter(chat.astream(""))))
    monkeypatch.setattr(LocalModel, "generate_batch", fail)
    with pytest.raises(KeyboardInterrupt):
        list(chat.stream(ASKED))
    assert time.perf_counter() - began < 5


@pytest.fixture
def tokens(monkeypatch):
    """Counts the tokens that are generated."""
    counted = []
    tell = "guardrail.models.response.TextStream.__call__"
    from guardrail.models.response import TextStream

    real = TextStream.__call__

    def counting(stream, *arguments, **options):
        counted.append(1)
        return real(stream, *arguments, **options)

    monkeypatch.setattr(tell, counting)
    return counted


def test_a_consumer_that_stops_frees_the_model(tokens):
    chat = chat_of(PASS, policy=LIVE, max_tokens=400)

    async def first():
        stream = chat.astream(ASKED)
        chunk = await anext(stream)
        await stream.aclose()
        return chunk

    async def cancelled():
        async def read():
            async for _ in chat.astream(ASKED):
                began.set()

        began = asyncio.Event()
        task = asyncio.create_task(read())
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    stream = chat.stream(ASKED)
    next(stream)
    stream.close()
    for leave in (lambda: None, lambda: asyncio.run(first()), lambda: asyncio.run(cancelled())):
        leave()
        # Answered only once the model is free.
        assert chat.invoke(ASKED, max_tokens=2).content
        assert len(tokens) < 200
        tokens.clear()


def test_a_stream_can_be_left_to_the_garbage_collector(tokens):
    for _ in chat_of(PASS, policy=LIVE, max_tokens=400).stream(ASKED):
        break
    assert chat_of(PASS).invoke(ASKED).content
    assert len(tokens) < 200


def test_live_streams_do_not_mix():
    chat = chat_of(PASS, policy=LIVE, max_tokens=8)
    questions = [f"Question {at}?" for at in range(8)]

    async def one(question):
        return [chunk async for chunk in chat.astream(question)]

    async def all_at_once():
        return await asyncio.gather(*map(one, questions))

    for question, chunks in zip(questions, asyncio.run(all_at_once()), strict=True):
        trace = tiny().generate(question, Sampling(max_tokens=8))
        assert text_of(chunks) == trace.text
        assert verdict_of(chunks[-1])["scores"]["log_likelihood"] == pytest.approx(
            sum(trace.log_probabilities), rel=1e-3
        )
