"""A chat model's streams by a policy that decides on each sentence."""

import asyncio
import json

import pytest

from guardrail.errors import AbstainedError, OptionError
from guardrail.guard import sentence_release
from guardrail.langchain import ChatGuardrail, UncertaintyGuard, UncertaintyMiddleware, verdict_of
from tests.support.guards import PASS, tiny
from tests.support.sentences import (
    ASKED,
    FIRST,
    MESSAGE,
    SECOND,
    by_sentences,
    says,
    sentence_profile,
    stopping_at,
    uncertain_third,
)

pytestmark = pytest.mark.usefixtures("one_thread")
SHOWN = f"{FIRST}{SECOND}\n\n{MESSAGE}"


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    return sentence_profile(tmp_path_factory.mktemp("profile"))


@pytest.fixture(scope="module")
def third():
    return uncertain_third()


def chat_of(profile, *rules, **fields):
    return ChatGuardrail(model=tiny(), policy=by_sentences(profile, *rules, **fields), max_tokens=120)


async def collected(chunks):
    return [chunk async for chunk in chunks]


async def text_chunks(chat):
    events = chat.astream_events(ASKED, version="v2")
    return [one["data"]["chunk"] async for one in events if one["event"] == "on_chat_model_stream"]


def ways(chat):
    yield [*chat.stream(ASKED)]
    yield asyncio.run(collected(chat.astream(ASKED)))
    yield asyncio.run(text_chunks(chat))


def test_every_stream_has_a_chunk_for_each_sentence_and_ends_with_the_first_that_is_withheld(
    profile, third, monkeypatch
):
    text, bound = third
    says(monkeypatch, text)
    chat = chat_of(profile, *stopping_at(bound))
    for chunks in ways(chat):
        assert [chunk.content for chunk in chunks[:2]] == [FIRST, SECOND]
        assert "".join(chunk.content for chunk in chunks) == SHOWN
        verdict = verdict_of(chunks[-1])
        assert verdict["released"] == {"sentences": 2, "characters": len(FIRST + SECOND)}
        assert "CANARY" not in json.dumps([chunk.model_dump() for chunk in chunks], default=str)
    message = chat.invoke(ASKED)
    assert message.content == SHOWN
    assert verdict_of(message)["action"] == "abstain"
    with pytest.raises(AbstainedError) as raised:
        list(chat.stream(ASKED, on_abstain="raise"))
    assert "CANARY" not in str(raised.value)
    assert chat.invoke(ASKED, on_abstain="refusal").content == SHOWN


@pytest.mark.parametrize("name", ["score_segments", "assess"])
def test_no_fault_leaks_a_sentence(name, profile, third, monkeypatch):
    text, _ = third
    says(monkeypatch, text)
    inner = getattr(sentence_release, name)
    chat = chat_of(profile, PASS, on_error={"action": "abstain", "message": MESSAGE})
    calls = []

    def failing(*arguments):
        calls.append(1)
        if len(calls) % 3 == 0:
            raise RuntimeError("CANARY")
        return inner(*arguments)

    # An error is assessed as well: each way sees its third call fail.
    monkeypatch.setattr(sentence_release, name, failing)
    for chunks in ways(chat):
        assert "".join(chunk.content for chunk in chunks) == SHOWN
        assert verdict_of(chunks[-1])["rule"] == "on_error"
        calls.clear()


def test_tools_and_schemas_are_refused(profile):
    chat = chat_of(profile, PASS)
    with pytest.raises(OptionError, match="without a schema"):
        chat.invoke(ASKED, response_format={"type": "json_object"})


def test_where_somebody_else_generates_it_is_refused_by_name(profile):
    policy = by_sentences(profile, PASS)
    for door in (UncertaintyGuard, UncertaintyMiddleware):
        with pytest.raises(OptionError, match="give the policy to a ChatGuardrail"):
            door(policy, tiny())
