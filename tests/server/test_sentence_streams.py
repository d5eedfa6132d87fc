"""The server by a policy that decides on each sentence: its streams, and what they do not hold."""

import json

import pytest

from guardrail.guard import sentence_release
from tests.support.guards import PASS
from tests.support.sentences import (
    ASKED,
    FIRST,
    MESSAGE,
    SECOND,
    says,
    sentence_guard,
    sentence_profile,
    stopping_at,
    uncertain_third,
)
from tests.support.serving import CHAT, serving

pytestmark = pytest.mark.usefixtures("one_thread")
ASKING = {"model": "tiny", "messages": [{"role": "user", "content": ASKED}], "max_tokens": 120}


@pytest.fixture(scope="module")
def third():
    return uncertain_third()


def events(served, **fields):
    body = served.client.post(CHAT, json={**ASKING, "stream": True, **fields}).text
    lines = [line.removeprefix("data: ") for line in body.splitlines() if line.startswith("data: ")]
    return body, [json.loads(line) for line in lines if line != "[DONE]"]


def said(chunks):
    return [text for one in chunks for text in [one["choices"][0]["delta"].get("content")] if text]


def test_a_stream_has_the_sentences_that_were_decided_on_and_then_the_policys_message(
    third, tmp_path, monkeypatch
):
    text, bound = third
    says(monkeypatch, text)
    guard = sentence_guard(sentence_profile(tmp_path), *stopping_at(bound))
    with serving(guard=guard) as served:
        body, chunks = events(served)
        assert said(chunks) == [FIRST, SECOND, f"\n\n{MESSAGE}"]
        assert chunks[-1]["choices"][0]["finish_reason"] == "content_filter"
        assert chunks[-1]["guardrail"]["released"]["sentences"] == 2
        assert body.endswith("data: [DONE]\n\n")
        whole = served.client.post(CHAT, json=ASKING)
        assert whole.json()["choices"][0]["message"]["content"] == "".join(said(chunks))
        tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
        refused = served.client.post(CHAT, json={**ASKING, "tools": tools})
        assert refused.status_code == 400
        assert "without tools" in refused.text
        assert "CANARY" not in body + whole.text + served.log


@pytest.mark.parametrize("name", ["score_segments", "assess", "complete_spans"])
def test_no_fault_on_the_way_leaks_a_sentence(name, third, tmp_path, monkeypatch):
    text, _ = third
    says(monkeypatch, text)
    inner, calls = getattr(sentence_release, name), []

    def failing(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("CANARY")
        return inner(*arguments)

    monkeypatch.setattr(sentence_release, name, failing)
    guard = sentence_guard(
        sentence_profile(tmp_path), PASS, on_error={"action": "abstain", "message": MESSAGE}
    )
    with serving(guard=guard) as served:
        body, chunks = events(served)
        assert said(chunks) == [FIRST, SECOND, f"\n\n{MESSAGE}"]
        assert chunks[-1]["guardrail"]["rule"] == "on_error"
        assert "CANARY" not in body + served.log
