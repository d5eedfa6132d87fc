"""A draft that is withheld is in no body, header, stream or log, whatever decides and whatever fails."""

import asyncio
import json
import logging
import threading

import httpx
import pytest

import guardrail.guard.pipeline
import guardrail.guard.produce
import guardrail.server.app
from guardrail.errors import GenerationError
from guardrail.guard import Guard
from guardrail.models.sampling import Sampling
from guardrail.server.json_logging import JsonFormatter
from tests.support.chat_models import ABSTAIN
from tests.support.guards import ASKED, PASS, guard_of, policy_of, tiny
from tests.support.serving import CHAT, QUESTION, serving

pytestmark = pytest.mark.usefixtures("one_thread")

TOKENS = 24
WORD = "Ouagadougou"


@pytest.mark.parametrize(
    ("name", "told"), [("guardrails", False), ("guardrail_hub.x", False), ("guardrail.guard.pipeline", True)]
)
def test_what_other_packages_log_is_left_out_whatever_they_are_called(name, told):
    record = logging.LogRecord(name, logging.WARNING, "a.py", 1, "%s said", (WORD,), None)
    assert (WORD in JsonFormatter().format(record)) == told


def ask_everywhere(served):
    """What a client and a reader of the log see of a question: whole, as a stream, and judged."""
    body = {"model": "tiny", "messages": QUESTION, "max_tokens": TOKENS}
    seen = []
    for fields in ({}, {"stream": True}):
        response = served.client.post(CHAT, json={**body, **fields})
        seen.append((response.status_code, str(response.headers), response.text))
    return seen


def parts_of(draft):
    """The draft, whole and in halves, as it stands in a text and in JSON."""
    half = len(draft) // 2
    texts = [draft, draft[:half], draft[half:]]
    return [*texts, *(json.dumps(text)[1:-1] for text in texts)]


def draft():
    return tiny().generate(ASKED, Sampling(max_tokens=TOKENS)).text


@pytest.mark.parametrize(
    ("rules", "fields"),
    [
        ([ABSTAIN], {}),
        ([{"id": "up", "action": "escalate", "to": "human"}], {"escalation": {"human": {"queue": "memory"}}}),
        ([{"id": "sure", "when": {"confidence": {"gte": 0.5}}, "action": "pass"}, ABSTAIN], {}),
    ],
    ids=["abstain", "escalate to nobody", "uncalibrated"],
)
def test_a_withheld_draft_is_nowhere(rules, fields, tmp_path):
    if "escalation" in fields:
        fields = {"escalation": {"human": {"queue": f"sqlite:///{tmp_path / 'queue.db'}"}}}
    with serving(*rules, policy=fields) as served:
        seen = ask_everywhere(served)
        judged = served.client.post("/v1/guardrail/judge", json={"messages": QUESTION, "response": WORD})
        log = served.log
    assert [status for status, _, _ in seen] == [200, 200]
    for part in parts_of(draft()):
        assert part not in f"{seen}{log}"
        assert all(part not in text for _, _, text in seen)
    assert WORD not in judged.text + log
    assert ASKED not in log
    assert all('"content_filter"' in text for _, _, text in seen)


def test_the_draft_would_be_seen_where_it_is_shown():
    with serving(PASS) as served:
        whole, _ = ask_everywhere(served)
    assert json.loads(whole[2])["choices"][0]["message"]["content"] == draft()


def raises(error):
    def fail(*args, **kwargs):
        raise error

    return fail


@pytest.mark.parametrize("rule", [PASS, ABSTAIN], ids=lambda rule: rule["action"])
@pytest.mark.parametrize(
    ("where", "name", "status"),
    [
        (guardrail.guard.produce, "score_batch", 200),
        (guardrail.guard.produce, "_traces", 200),
        (guardrail.guard.pipeline, "assess", 500),
        (guardrail.guard.pipeline, "shown", 500),
        (guardrail.server.app, "ChatRequest", 500),
        (guardrail.server.app, "options_of", 500),
        (Guard, "aask", 500),
    ],
    ids=lambda value: str(getattr(value, "__name__", value)),
)
@pytest.mark.parametrize("error", [RuntimeError, GenerationError, ExceptionGroup], ids=lambda e: e.__name__)
def test_a_fault_ends_in_an_error_or_a_withheld_answer_without_a_word(
    monkeypatch, rule, where, name, status, error
):
    raised = error(WORD, [ValueError(WORD)]) if error is ExceptionGroup else error(WORD)
    with serving(rule) as served:
        monkeypatch.setattr(where, name, raises(raised))
        seen = ask_everywhere(served)
        log = served.log
    said = error is GenerationError and status == 200
    for code, _, text in seen:
        assert code == status
        if status == 200:
            assert "This answer could not be checked" in text
            assert '"content_filter"' in text
        else:
            assert json.loads(text)["error"]["code"] == "internal_error"
    if not said:
        # What the library itself raised has no word of a draft, and is told.
        assert WORD not in f"{seen}"
    assert WORD not in log
    assert ASKED not in log
    if status == 500:
        failures = [line for line in map(json.loads, log.splitlines()) if line["message"] == "request failed"]
        assert [one["error"] for one in failures] == [error.__name__] * 2
        ids = [json.loads(text)["error"]["message"].split()[-1].rstrip(".") for _, _, text in seen]
        assert [one["request_id"] for one in failures] == ids


def test_a_response_that_cannot_be_written_is_an_error(monkeypatch):
    with serving(PASS) as served:
        monkeypatch.setattr(guardrail.server.app, "completion", raises(ValueError(WORD)))
        monkeypatch.setattr(guardrail.server.app.CompletionChunks, "last", raises(ValueError(WORD)))
        response = served.chat()
        assert response.status_code == 500
        assert draft()[:6] not in response.text
        # The stream has begun: it is cut off, and no client takes it for whole.
        with pytest.raises(httpx.RemoteProtocolError):
            served.chat(stream=True)
        assert WORD not in served.log


def test_an_error_within_a_stream_is_its_last_event(monkeypatch):
    guard = guard_of(PASS)
    held = threading.Event()

    async def late(*args, **kwargs):
        await asyncio.to_thread(held.wait, 30)
        raise RuntimeError(WORD)

    monkeypatch.setattr(guard, "aask", late)
    with serving(guard=guard, keep_alive=0.02) as served:
        body = {"model": "tiny", "messages": QUESTION, "stream": True}
        with served.client.stream("POST", CHAT, json=body) as response:
            lines = response.iter_lines()
            assert next(lines) == ": keep-alive"
            held.set()
            rest = [line for line in lines if line.startswith("data")]
        (event,) = rest
        assert json.loads(event.removeprefix("data: "))["error"]["code"] == "internal_error"
        assert WORD not in event + served.log


def test_a_decision_that_cannot_be_recorded_is_not_shown(tmp_path):
    guard = Guard(policy_of(PASS, log={"file": str(tmp_path / "log.jsonl")}), tiny())
    (tmp_path / "log.jsonl").unlink(missing_ok=True)
    (tmp_path / "log.jsonl").mkdir()
    with serving(guard=guard) as served:
        seen = ask_everywhere(served)
    for status, _, text in seen:
        assert status == 200
        assert '"content_filter"' in text
        assert all(part not in text for part in parts_of(draft()))
