"""LiteLLM's guardrail API: nothing but a decision of the guard lets a response through."""

import json
from pathlib import Path

import httpx
import pytest

import guardrail.server.app
from guardrail.guard import Guard
from guardrail.server.api_keys import ApiKeys
from guardrail.server.gateway_guardrail import GatewayGuardrail
from guardrail.server.key_file import KeyEntry, KeyFile
from guardrail.server.litellm_protocol import GATEWAY_PATH, GatewayCall
from guardrail.server.pending_questions import PendingQuestions, Question
from tests.support.chat_models import ABSTAIN
from tests.support.guards import ASKED, PASS, SAID, guard_of, profile_file
from tests.support.serving import QUESTION, serving

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = Path(__file__).parents[1] / "data"
FLAG = {"id": "warn", "action": "flag", "message": "Check this."}
SURE = {"id": "sure", "when": {"confidence": {"gte": 0.0}}, "action": "pass"}
# What tests/integration/litellm_proxy.py recorded of a real proxy.
SENT = json.loads((DATA / "litellm" / "1.108.7.json").read_text(encoding="utf-8"))
(CALL,) = SENT["call of a tool"]["tool_calls"]


def question(identity="c1", messages=QUESTION, **fields):
    """What the proxy sends before a model is asked."""
    texts = [message["content"] for message in messages if isinstance(message["content"], str)]
    asked = {"litellm_call_id": identity, "structured_messages": messages, "texts": texts}
    return {**SENT["question"], "additional_provider_specific_params": {}, **asked, **fields}


def response(identity="c1", text=SAID, **fields):
    """What it sends of the response: without the question."""
    said = {"litellm_call_id": identity, "texts": [text] if text else []}
    return {**SENT["response"], "additional_provider_specific_params": {}, **said, **fields}


def send(served, body):
    told = served.client.post(GATEWAY_PATH, json=body)
    assert told.status_code == 200
    return told.json()


def sent_both(served, asked, said):
    assert send(served, asked) == {"action": "NONE"}
    return send(served, said)


@pytest.fixture(scope="module")
def passing():
    with serving(PASS) as served:
        yield served


@pytest.fixture(scope="module")
def abstaining():
    with serving(ABSTAIN) as served:
        yield served


@pytest.fixture(scope="module")
def flagging():
    with serving(FLAG) as served:
        yield served


def test_a_response_is_decided_on_by_the_question_that_came_before(passing):
    assert sent_both(passing, question("both"), response("both")) == {"action": "NONE"}
    told = passing.client.post(GATEWAY_PATH, json=response("both"))
    assert told.headers["x-guardrail-action"] == "pass"


def test_a_withheld_response_is_blocked_with_the_policys_message(abstaining):
    told = sent_both(abstaining, question("no"), response("no"))
    assert told == {"action": "BLOCKED", "blocked_reason": ABSTAIN["message"]}
    assert SAID not in abstaining.log
    assert ASKED not in abstaining.log


def test_a_flagged_response_gets_its_warning_only_where_that_arrives(flagging):
    warn = {"additional_provider_specific_params": {"flagged": "warn"}}
    told = sent_both(flagging, question("f"), response("f", **warn))
    assert told == {"action": "GUARDRAIL_INTERVENED", "texts": [f"{SAID}\n\nCheck this."]}
    # A stream would lose it, and calls of tools have no place for it.
    for said in (response("f"), response("f", text="", tool_calls=[CALL], **warn)):
        told = send(flagging, said)
        assert told["action"] == "BLOCKED"
        assert told["blocked_reason"].startswith("Check this.")
        assert SAID not in told["blocked_reason"]


def test_a_warning_below_an_earlier_answer_is_no_part_of_the_prompt(flagging):
    history = [*QUESTION, {"role": "assistant", "content": f"{SAID}\n\nCheck this."}, *QUESTION]
    spoken = flagging.guard.spoken(history).messages
    assert [message["content"] for message in spoken] == [ASKED, SAID, ASKED]


@pytest.mark.parametrize(
    "said",
    [
        response("unasked"),
        response(None),
        response("asked", texts=["One.", "Two."]),
        response("asked", texts=[]),
        response("asked", texts=None),
        response("asked", text="", texts=[""]),
        response("asked", images=["data:image/png;base64,AAAA"]),
        response("asked", tool_calls=[{**CALL, "function": {"name": "weather", "arguments": "{"}}]),
        response("asked", tool_calls=[{**CALL, "function": {"name": "weather", "arguments": "[1]"}}]),
        response("asked", tool_calls=[{**CALL, "function": {"name": " ", "arguments": "{}"}}]),
        response("asked", tool_calls=[{**CALL, "function": None}]),
        response("asked", tool_calls=[{**CALL, "type": "mcp"}]),
        response("asked", audio=["UklGRg=="]),
        response("asked", text="many words " * 400),
        response("asked", additional_provider_specific_params={"flaged": "warn"}),
        response("asked", additional_provider_specific_params={"answered_by": " "}),
        response("asked", additional_provider_specific_params={"answered_by": ["tiny"]}),
        response("asked", request_data={"user_api_key_hash": "another's"}),
        response("asked", texts="Yes."),
        response("asked", input_type="answer"),
        {},
    ],
)
def test_what_cannot_be_checked_is_blocked(passing, said):
    assert send(passing, question("asked")) == {"action": "NONE"}
    told = send(passing, said)
    assert told["action"] == "BLOCKED"
    assert told["blocked_reason"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"input_type": NaN}', b"\xff"])
def test_a_body_that_cannot_be_read_is_blocked(passing, body):
    told = passing.client.post(GATEWAY_PATH, content=body, headers={"content-type": "application/json"})
    assert told.json()["action"] == "BLOCKED"
    assert passing.client.post(GATEWAY_PATH, content=body).json()["action"] == "BLOCKED"


@pytest.mark.parametrize(
    "asked",
    [
        question(structured_messages=None),
        question(structured_messages=[]),
        question(None),
        question(images=["data:image/png;base64,AAAA"]),
        question(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]),
        question(messages=[{"role": "narrator", "content": "Who?"}]),
        question(messages=[{"role": "user", "content": "Who?", "secret": "x"}]),
    ],
)
def test_a_question_whose_answer_could_not_be_checked_is_blocked_at_once(passing, asked):
    assert send(passing, asked)["action"] == "BLOCKED"


def test_two_questions_of_one_call_answer_neither(passing):
    assert send(passing, question("twice")) == {"action": "NONE"}
    assert sent_both(passing, question("twice"), response("twice")) == {"action": "NONE"}
    send(passing, question("twice", [{"role": "user", "content": "What is two and two?"}]))
    assert send(passing, response("twice"))["action"] == "BLOCKED"
    send(passing, question("twice"))
    assert send(passing, response("twice"))["action"] == "BLOCKED"


def test_a_call_of_a_tool_is_decided_on_by_the_policy():
    deny = {"id": "no_weather", "when": {"tool_call": ["weather"]}, "action": "abstain", "message": "No."}
    with serving(deny, PASS) as served:
        assert sent_both(served, question(), response()) == {"action": "NONE"}
        told = send(served, response(text="", tool_calls=[CALL]))
        assert told == {"action": "BLOCKED", "blocked_reason": "No."}
        other = {**CALL, "function": {"name": "clock", "arguments": "{}"}}
        assert send(served, response(text="", tool_calls=[other])) == {"action": "NONE"}
        assert send(served, response(tool_calls=[other, CALL]))["action"] == "BLOCKED"


def declared(name):
    return {"additional_provider_specific_params": {"answered_by": name}}


def test_a_model_is_the_profiles_where_the_configuration_and_the_response_say_so(tmp_path):
    guard = guard_of(SURE, ABSTAIN, profile=profile_file(tmp_path))
    with serving(guard=guard) as served:
        assert sent_both(served, question(), response(**declared("tiny"))) == {"action": "NONE"}
        for said in (
            response(),
            response(**declared("gpt-5")),
            response(model="gpt-5", **declared("tiny")),
            response(model=None, **declared("tiny")),
            response(model=" ", **declared("tiny")),
        ):
            assert send(served, said)["action"] == "BLOCKED"


def test_an_answer_of_a_model_that_was_offered_tools_is_outside_the_profile(tmp_path):
    guard = guard_of(SURE, ABSTAIN, profile=profile_file(tmp_path))
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    with serving(guard=guard) as served:
        told = sent_both(served, question(tools=tools), response(**declared("tiny")))
        assert told["action"] == "BLOCKED"


def test_a_policy_that_observes_changes_nothing():
    with serving(ABSTAIN, policy={"mode": "observe"}) as served:
        assert sent_both(served, question(), response()) == {"action": "NONE"}
        assert send(served, response("unasked")) == {"action": "NONE"}
        assert '"action": "abstain"' in served.log


@pytest.mark.parametrize(
    ("where", "name"), [(Guard, "ajudge"), (GatewayGuardrail, "decide"), (guardrail.server.app, "prompt_of")]
)
def test_a_fault_is_a_block_without_a_word_of_it(monkeypatch, passing, where, name):
    def fail(*args, **kwargs):
        raise RuntimeError(SAID)

    assert send(passing, question("fault")) == {"action": "NONE"}
    monkeypatch.setattr(where, name, fail)
    told = send(passing, response("fault"))
    assert told["action"] == "BLOCKED"
    assert SAID not in f"{told}{passing.log}"
    assert '"error": "RuntimeError"' in passing.log


def test_what_has_no_place_or_no_time_is_blocked():
    with serving(PASS, max_waiting=1, request_timeout=0.2) as served, served.guard.model.alone():
        assert send(served, question()) == {"action": "NONE"}
        told = send(served, response())
        assert told["action"] == "BLOCKED"
        assert "time" in told["blocked_reason"]


def test_litellm_shows_its_key_in_a_header_of_its_own():
    key = "0123456789abcdef"
    with serving(PASS, keys=ApiKeys(KeyFile(keys=[KeyEntry(name="gateway", key=key)]))) as served:
        assert served.client.post(GATEWAY_PATH, json=question()).status_code == 401
        for headers, status in (
            ({"x-api-key": key}, 200),
            ({"authorization": f"Bearer {key}"}, 200),
            ({"x-api-key": "fedcba9876543210"}, 401),
            ({"x-api-key": key, "authorization": f"Bearer {key}"}, 401),
        ):
            told = served.client.post(GATEWAY_PATH, json=question(), headers=httpx.Headers(headers))
            assert told.status_code == status


def test_questions_are_forgotten_by_time_and_by_size():
    now = 0.0
    kept = PendingQuestions(most_bytes=100, seconds=10, clock=lambda: now)
    kept.put("a", Question((), size=40))
    now = 5.0
    kept.put("b", Question((), size=40))
    assert kept.get("a") is not None
    now = 10.0
    assert (kept.get("a"), len(kept)) == (None, 1)
    kept.put("c", Question((), size=90))
    assert kept.get("b") is None
    assert kept.get("c") is not None
    kept.put("d", Question((), size=101))
    assert len(kept) == 0


def test_messages_of_one_letter_take_memory_too():
    gateway = GatewayGuardrail(guard_of(PASS), PendingQuestions(most_bytes=50_000))
    call = GatewayCall.model_validate(question(messages=[{"role": "user", "content": "a"}] * 100))
    gateway.note_question(call, 4_000)
    assert gateway.question_of(call) is None


def test_a_question_that_was_forgotten_makes_room_for_no_other():
    now = 0.0
    kept = PendingQuestions(most_bytes=100, seconds=10, clock=lambda: now, most_forgotten=2)
    other = Question((), has_tools=True, size=60)
    for call in "ab":
        # The response to the first question is still to come.
        kept.put(call, Question((), size=60))
    kept.put("a", other)
    assert kept.get("a") is None
    now = 10.0
    assert (kept.get("a"), len(kept)) == (None, 0)
    kept.put("a", other)
    assert kept.get("a") is None
    for call in "cdef":
        kept.put(call, Question((), size=60))
    kept.put("a", other)
    assert kept.get("a") == other


@pytest.mark.parametrize(
    ("asked", "said"), [("question", "response"), ("question with tools", "call of a tool")]
)
def test_what_the_real_proxy_sent_is_decided_on(passing, abstaining, asked, said):
    assert SENT[asked].keys() == SENT[said].keys() == GatewayCall.model_fields.keys()
    assert SENT[said]["structured_messages"] is None
    assert sent_both(passing, SENT[asked], SENT[said]) == {"action": "NONE"}
    assert sent_both(abstaining, SENT[asked], SENT[said])["action"] == "BLOCKED"
