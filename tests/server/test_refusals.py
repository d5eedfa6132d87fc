"""Requests that cannot be followed: each is refused as OpenAI refuses it, and says by which parameter."""

import pytest

from tests.support.guards import PASS
from tests.support.serving import CHAT, QUESTION, serving

pytestmark = pytest.mark.usefixtures("one_thread")

TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.fixture(scope="module")
def served():
    with serving(PASS, max_output_tokens=50, max_prompt_tokens=100, max_body_bytes=20_000) as one:
        yield one


def error_of(response):
    assert set(response.json()) == {"error"}
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert response.headers["x-request-id"]
    return error


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temprature": 0.5}, "temprature"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "0.5"}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 1e-9}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 2}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 51}, "max_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
        ({"max_completion_tokens": 51, "max_tokens": None}, "max_completion_tokens"),
        ({"seed": 1.5}, "seed"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": ""}, "stop"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"store": True}, "store"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"modalities": ["text", "audio"]}, "modalities[1]"),
        ({"functions": []}, "functions"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"stream": "yes"}, "stream"),
        ({"stream": True, "stream_options": {"usage": True}}, "stream_options.usage"),
        ({"stream_options": {"include_usage": True}}, None),
        ({"tool_choice": "required"}, None),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
        ({"tools": [{"type": "function", "function": {"name": "f", "strict": True}}]}, "tools"),
        ({"tools": [TOOL], "parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0]"),
        ({"messages": [{"role": "robot", "content": "Hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": "Hi", "tool_calls": []}, 5]}, "messages[1]"),
        ({"messages": [{"role": "tool", "content": "Hi"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, None),
        ({"messages": [{"role": "user", "content": "long " * 100}]}, "messages"),
        ({"messages": [{"role": "user", "content": "   "}]}, "messages"),
    ],
)
def test_a_parameter_that_cannot_be_followed_is_refused_by_its_name(served, fields, param):
    response = served.chat(**fields)
    assert response.status_code == 400, response.text
    error = error_of(response)
    assert error["type"] == "invalid_request_error"
    if param is not None:
        assert error["param"] == param
        assert param.rpartition(".")[2].partition("[")[0] in error["message"] or param == "messages"
    # The same before a stream begins.
    if "stream" not in fields and "stream_options" not in fields:
        assert served.chat(**fields, stream=True).status_code == 400


def test_what_changes_nothing_is_taken(served):
    given = {"n": 1, "frequency_penalty": 0, "logit_bias": {}, "logprobs": False, "store": False, "tools": []}
    assert served.chat(**given, modalities=["text"], service_tier="auto", stop=None).status_code == 200


def test_another_model_is_not_found(served):
    response = served.chat(model="gpt-4o")
    assert (response.status_code, error_of(response)["code"]) == (404, "model_not_found")
    assert served.client.get("/v1/models/gpt-4o").status_code == 404


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"null", "application/json", 400),
        (b"[" * 10_000, "application/json", 400),
        (b'{"model": "tiny", "messages": [{"role": "user", "content": "\\ud800"}]}', "application/json", 400),
        (b'{"model": "tiny", "temperature": NaN, "messages": []}', "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"{}", "text/plain", 415),
        (b"{" * 20_001, "application/json", 413),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(served, body, content_type, status):
    response = served.client.post(CHAT, content=body, headers={"content-type": content_type})
    assert response.status_code == status
    error_of(response)


def test_a_body_that_grows_too_large_is_not_read_on(served):
    def pieces():
        for _ in range(30):
            yield b" " * 1000

    response = served.client.post(CHAT, content=pieces(), headers={"content-type": "application/json"})
    assert response.status_code == 413
    error_of(response)


def test_paths_and_methods_that_are_not_there_are_told_so(served):
    assert served.client.get("/v1/embeddings").status_code == 404
    assert error_of(served.client.get(CHAT))
    assert served.client.get(CHAT).status_code == 405
    assert "embeddings" not in served.log


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response": ""}, None),
        ({"response": [99_999]}, "response"),
        ({"response": [-1]}, "response"),
        ({"response": "a" * 60}, "response"),
        ({"response": None}, "response"),
        ({"responce": "x"}, None),
        ({"response": "Yes.", "finish_reason": "tired"}, "finish_reason"),
        ({"response": "Yes.", "draft": "No."}, "draft"),
    ],
)
def test_a_judgement_that_cannot_be_made_is_refused_or_withheld(served, fields, param):
    response = served.client.post("/v1/guardrail/judge", json={"messages": QUESTION, **fields})
    if response.status_code == 200:
        # An empty response is one that the policy's on_error decides on.
        assert response.json()["action"] == "abstain"
        return
    assert response.status_code == 400
    if param is not None:
        assert error_of(response)["param"] == param
