import json

import pytest

from tests.support.grounded import DOCUMENT, GROUNDED, OTHERWISE, SURE, UNDECLARED, grounded_profile
from tests.support.guards import SAID, guard_of
from tests.support.serving import serving

JUDGE = "/v1/guardrail/judge"

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    profile = grounded_profile(tmp_path_factory.mktemp("grounded") / "profile.json")
    with serving(guard=guard_of(SURE, OTHERWISE, profile=profile)) as one:
        yield one


def test_a_declared_document_is_read_by_the_profile(served):
    document = served.chat(GROUNDED).json()
    assert document["guardrail"]["rule"] == "sure"
    assert isinstance(document["guardrail"]["scores"]["document_gain"], float)
    parts = [{"type": "text", "text": GROUNDED[0]["content"]}]
    again = served.chat([{**GROUNDED[0], "content": parts}]).json()
    assert again["choices"][0]["message"] == document["choices"][0]["message"]
    assert again["guardrail"]["confidence"] == pytest.approx(document["guardrail"]["confidence"], abs=1e-4)
    system = {"role": "system", "content": f"Go by this: {DOCUMENT}", "document": DOCUMENT}
    assert served.chat([system, *UNDECLARED]).json()["guardrail"]["rule"] == "sure"


def test_without_a_declaration_the_answer_is_withheld(served):
    shown = served.chat(UNDECLARED).json()
    assert shown["choices"][0]["finish_reason"] == "content_filter"
    assert (shown["guardrail"]["rule"], shown["guardrail"]["domain"]) == ("on_outside_domain", ["document"])
    with served.client.stream(
        "POST",
        "/v1/chat/completions",
        json={"model": "tiny", "messages": UNDECLARED, "max_tokens": 6, "stream": True},
    ) as stream:
        lines = [line for line in stream.iter_lines() if line.startswith("data: {")]
    last = json.loads(lines[-1].removeprefix("data: "))
    assert last["guardrail"]["domain"] == ["document"]


@pytest.mark.parametrize(("messages", "rule"), [(GROUNDED, "sure"), (UNDECLARED, "on_outside_domain")])
def test_a_response_from_elsewhere_is_judged_the_same_way(served, messages, rule):
    body = {"model": "tiny", "messages": messages, "response": SAID}
    found = served.client.post(JUDGE, json=body).json()
    assert found["rule"] == rule
    assert (found["answer"] == SAID) == (rule == "sure")


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": "Who?", "document": DOCUMENT},
        {"role": "user", "content": f"{DOCUMENT} {DOCUMENT} Who?", "document": DOCUMENT},
        {"role": "user", "content": f"{DOCUMENT} Who?", "document": ""},
        {"role": "user", "content": f"{DOCUMENT} Who?", "document": [DOCUMENT]},
        {"role": "assistant", "content": DOCUMENT, "document": DOCUMENT},
    ],
)
def test_a_document_that_is_declared_wrongly_is_refused(served, message):
    messages = [message, *UNDECLARED] if message["role"] == "assistant" else [message]
    bodies = {"/v1/chat/completions": {"max_tokens": 6}, JUDGE: {"response": SAID}}
    for route, more in bodies.items():
        response = served.client.post(route, json={"model": "tiny", "messages": messages, **more})
        assert response.status_code == 400, route
        assert DOCUMENT not in response.text
