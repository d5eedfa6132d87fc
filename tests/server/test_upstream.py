"""A server in front of an inference server: nothing withheld leaks, whatever fails there."""

import json
import threading

import httpx
import pytest

from guardrail.errors import OptionError
from guardrail.models.sampling import Sampling
from guardrail.policy.load import load_policy
from guardrail.server.server_settings import read_settings
from guardrail.server.upstream_settings import open_guard
from guardrail.upstream.chat_endpoint import ChatEndpoint
from guardrail.upstream.upstream_guard import UpstreamGuard
from tests.support.chat_models import ABSTAIN, calling_model
from tests.support.guards import ASKED, PASS, policy_of, tiny
from tests.support.serving import CHAT, QUESTION, serving
from tests.support.upstream import FAULTS, LARGEST, LEAKED, inference_server

pytestmark = pytest.mark.usefixtures("one_thread")

TOKENS = 24
UP = {"id": "up", "action": "escalate", "to": "human"}
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
}


def guard_at(server, *rules, timeout=60.0, weights="same", **policy):
    upstream = ChatEndpoint(server.url, server.model.name, timeout=timeout, most_bytes=LARGEST)
    return UpstreamGuard(policy_of(*rules, **policy), server.model, upstream, weights=weights, batch_size=8)


@pytest.fixture(scope="module")
def shared():
    with inference_server(tiny()) as server:
        yield server


@pytest.fixture
def server(shared):
    return shared.renewed()


def draft():
    return tiny().generate(ASKED, Sampling(max_tokens=TOKENS)).text


def seen_of(served):
    """What a client sees of a question: whole, and as a stream."""
    responses = [served.chat(max_tokens=TOKENS, **fields) for fields in ({}, {"stream": True})]
    return [(response.status_code, f"{response.headers}", response.text) for response in responses]


def test_an_answer_of_the_other_server_is_shown_with_its_verdict(server):
    with serving(guard=guard_at(server, PASS)) as served:
        answer = served.chat(max_tokens=TOKENS).json()
        (_, _, stream) = seen_of(served)[1]
        (model,) = served.client.get("/v1/models").json()["data"]
    assert answer["choices"][0]["message"]["content"] == draft()
    assert answer["guardrail"]["generated_by"]["weights"] == "verified"
    assert answer["guardrail"]["timings"]["upstream_s"] > 0
    assert model["id"] == "tiny"
    events = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
    told = "".join(e["choices"][0]["delta"].get("content", "") for e in events if e["choices"])
    assert told == draft()
    assert stream.endswith("data: [DONE]\n\n")


def test_withheld_drafts_are_nowhere_whatever_the_action(server, tmp_path):
    queue = {"escalation": {"human": {"queue": f"sqlite:///{tmp_path / 'queue.db'}"}}}
    for rules, fields in (([ABSTAIN], {}), ([UP], queue)):
        with serving(guard=guard_at(server, *rules, **fields)) as served:
            seen = seen_of(served)
            log = served.log
        half = len(draft()) // 2
        for part in (draft()[:half], draft()[half:]):
            assert part not in log + "".join(text for _, _, text in seen)
            assert json.dumps(part)[1:-1] not in log + f"{seen}"
        assert all('"content_filter"' in text for _, _, text in seen)
        assert ASKED not in log


@pytest.mark.parametrize("rule", [PASS, ABSTAIN], ids=lambda rule: rule["action"])
def test_no_word_of_a_fault_is_seen(server, rule):
    guard = guard_at(server, rule)
    with serving(guard=guard) as served:
        served.chat()
        for fault in FAULTS:
            server.fault = fault
            guard.upstream._timeout = 0.3 if fault == "hang" else 60.0
            for status, headers, text in seen_of(served):
                assert status == 200, fault
                assert '"content_filter"' in text
                assert "This answer could not be checked" in text
                assert LEAKED not in headers + text
        assert LEAKED not in served.log
        assert ASKED not in served.log


def test_a_client_that_leaves_closes_the_connection(server):
    server.fault = "hang"
    with serving(guard=guard_at(server, PASS)) as served:
        for fields in ({}, {"stream": True}):
            server.began.clear()
            server.left.clear()
            thread = threading.Thread(target=_leave, args=(served, server, fields))
            thread.start()
            assert server.left.wait(20)
            thread.join()


def _leave(served, server, fields):
    body = {"model": "tiny", "messages": QUESTION, **fields}
    with httpx.Client(base_url=served.url, timeout=httpx.Timeout(20, read=0.5)) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.post(CHAT, json=body)
        assert server.began.wait(20)


def test_a_request_has_its_time_there_too(server):
    server.fault = "hang"
    with serving(guard=guard_at(server, PASS), request_timeout=0.5) as served:
        assert served.chat().status_code == 504
        assert server.left.wait(20)


def test_readiness_is_the_other_servers_too(server):
    with serving(guard=guard_at(server, PASS)) as served:
        ready = served.client.get("/readyz")
        served.guard.upstream.url = "http://127.0.0.1:1/v1"
        served.guard.upstream._checked = (float("-inf"), "")
        gone = served.client.get("/readyz")
        alive = served.client.get("/healthz")
    assert (ready.status_code, gone.status_code, alive.status_code) == (200, 503, 200)
    assert "cannot be reached" in gone.json()["error"]["message"]


def test_calls_of_the_other_server_are_read_before_they_are_passed_on():
    call = {"function": {"name": "weather", "arguments": '{"day": "now"}'}}
    asked = {"model": "caller", "messages": QUESTION, "tools": [WEATHER], "tool_choice": "auto"}
    held = {"id": "tool", "when": {"tool_call": ["weather"]}, "action": "abstain"}
    with inference_server(calling_model(), knows=()) as server:
        server.changes["message"] = {"content": None, "tool_calls": [call]}
        for rules, reason in (([PASS], "tool_calls"), ([held, PASS], "content_filter")):
            with serving(guard=guard_at(server, *rules)) as served:
                (choice,) = served.client.post(CHAT, json=asked).json()["choices"]
            assert choice["finish_reason"] == reason
            assert ("weather" in json.dumps(choice)) == (reason == "tool_calls")


def test_a_response_that_names_the_served_model_is_what_is_declared(server):
    body = {"model": "tiny", "messages": QUESTION, "response": "Goethe."}
    for weights, doubted in (("same", False), (None, True)):
        with serving(guard=guard_at(server, PASS, weights=weights)) as served:
            judged = served.client.post("/v1/guardrail/judge", json=body).json()
        assert (
            "nobody declares" in judged["outside_domain"] or "no profile" in judged["outside_domain"]
        ) == doubted


@pytest.mark.parametrize("name", ["upstream_model", "upstream_weights", "upstream_api_key_file"])
def test_settings_of_no_other_server_are_refused(name):
    with pytest.raises(OptionError, match=f"--{name.replace('_', '-')}"):
        read_settings({name: "x"})


def opened(**given):
    settings = read_settings(given)
    policy = load_policy("builtin:default")
    return open_guard(policy, settings, model=None, batch_size=1, request_timeout=5, progress=lambda *_: None)


def test_keys_are_read_from_a_file_or_the_environment(tmp_path, monkeypatch):
    path = tmp_path / "key"
    path.write_text("sesame-key\n")
    settings = read_settings({"upstream": "http://a:1", "upstream_api_key_file": path})
    assert settings.read_upstream_key() == "sesame-key"
    monkeypatch.setenv("GUARDRAIL_UPSTREAM_API_KEY", "other-key")
    assert read_settings({"upstream": "http://a:1"}).read_upstream_key() == "other-key"
    assert "other-key" not in repr(read_settings({"upstream": "http://a:1"}))
    with pytest.raises(OptionError, match="two keys"):
        read_settings({"upstream": "http://a:1", "upstream_api_key_file": path})
    path.write_text("one\ntwo\n")
    with pytest.raises(OptionError, match="has 2 words"):
        settings.read_upstream_key()


def test_what_cannot_be_served_is_known_before_it_is(server):
    with pytest.raises(OptionError, match="--upstream-model"):
        opened(upstream="http://127.0.0.1:1")
    with pytest.raises(OptionError, match="form http"):
        opened(upstream="127.0.0.1:1")
    server.changes["models"] = ["a", "b"]
    with pytest.raises(OptionError, match="serves 2 models"):
        opened(upstream=server.url)
    with (
        inference_server(tiny(), key="sesame-key") as locked,
        pytest.raises(OptionError, match="refuses the key"),
    ):
        opened(upstream=locked.url, upstream_model="tiny")
