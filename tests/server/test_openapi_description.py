"""The server's description of itself holds: every answer has a status and a form that it names.

schemathesis, in an environment of its own, asks a running server more of the same:
``schemathesis run http://127.0.0.1:8000/openapi.json``.
"""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tests.support.guards import PASS
from tests.support.serving import CHAT, QUESTION, serving

pytestmark = pytest.mark.usefixtures("one_thread")

JUDGE = "/v1/guardrail/judge"
SENT = {"content-type": "application/json"}
BODY = {"model": "tiny", "messages": QUESTION, "max_tokens": 2}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
FULL = {
    **BODY,
    "messages": [{"role": "system", "content": "Be brief."}, *QUESTION],
    "temperature": 0.5,
    "top_p": 0.9,
    "seed": 1,
    "stop": ["x"],
    "tools": [TOOL],
    "tool_choice": "auto",
    "response_format": {"type": "json_object"},
    "stream": True,
    "stream_options": {"include_usage": True},
    "user": "somebody",
    "metadata": {"a": "b"},
}
JUDGED = {"model": "tiny", "messages": QUESTION, "response": "Goethe.", "finish_reason": "stop"}


@pytest.fixture(scope="module")
def served():
    with serving(PASS, max_body_bytes=5000, max_output_tokens=8) as one:
        yield one


@pytest.fixture(scope="module")
def described(served):
    return served.client.get("/openapi.json").json()


def check(described, method, path, response):
    """That a response is one of those that are described for the operation."""
    told = described["paths"][path][method]["responses"]
    assert str(response.status_code) in told, (response.status_code, response.text)
    content = told[str(response.status_code)]["content"]
    kind = response.headers["content-type"].partition(";")[0]
    assert kind in content
    if kind == "application/json":
        schema = {**content[kind]["schema"], "components": described["components"]}
        Draft202012Validator(schema).validate(response.json())


def post(served, path, body):
    return served.client.post(path, content=json.dumps(body), headers=SENT)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (CHAT, BODY, 200),
        (CHAT, {**BODY, "stream": True}, 200),
        (CHAT, {**FULL, "messages": []}, 400),
        (CHAT, {**BODY, "model": "other"}, 404),
        (CHAT, {**BODY, "user": "a" * 5000}, 413),
        (JUDGE, JUDGED, 200),
        (JUDGE, {**JUDGED, "response": ""}, 200),
        (JUDGE, {**JUDGED, "response": [10**6]}, 400),
    ],
)
def test_answers_and_errors_are_as_described(served, described, path, body, status):
    response = post(served, path, body)
    assert response.status_code == status, response.text
    check(described, "post", path, response)


def test_what_is_no_json_and_what_has_no_body_is_as_described(served, described):
    for path in (CHAT, JUDGE):
        response = served.client.post(path, content=b"x")
        assert response.status_code == 415
        check(described, "post", path, response)
    for path in ("/healthz", "/readyz", "/v1/models"):
        check(described, "get", path, served.client.get(path))
    for name, status in (("tiny", 200), ("other", 404), ("a/b", 404)):
        response = served.client.get(f"/v1/models/{name}")
        assert response.status_code == status
        check(described, "get", "/v1/models/{name}", response)


def test_a_key_is_described_where_one_is_needed(served, described):
    assert "security" not in described
    assert all("422" not in one["responses"] for path in described["paths"].values() for one in path.values())
    assert described["components"]["schemas"]["ChatCompletionRequest"]["properties"]["model"]["enum"] == [
        "tiny"
    ]


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(
        ["user", "assistant", "tool", "json_schema", "function", "auto", "required", "<|im_end|>"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def _places(value, path=()):
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from _places(value[key], (*path, key))


@st.composite
def _mutated(draw, bodies):
    """A body with some of its values replaced, left out or added."""
    body = json.loads(json.dumps(draw(st.sampled_from(bodies))))
    for _ in range(draw(st.integers(0, 2))):
        path = draw(st.sampled_from([one for one in _places(body) if one]))
        parent = body
        for key in path[:-1]:
            parent = parent[key]
        kind = draw(st.sampled_from(["replace", "remove", "add"]))
        if kind == "remove":
            del parent[path[-1]]
        elif kind == "add" and isinstance(parent, dict):
            parent[draw(st.text(max_size=8))] = draw(_JSON)
        else:
            parent[path[-1]] = draw(_JSON)
        if not body:
            break
    return body


@pytest.mark.slow
@pytest.mark.parametrize(("path", "bodies"), [(CHAT, [BODY, FULL]), (JUDGE, [JUDGED])])
def test_no_body_has_another_answer_than_one_that_is_described(served, described, path, bodies):
    statuses = set()

    @settings(
        max_examples=150,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(_mutated(bodies))
    def tried(body):
        response = post(served, path, body)
        assert response.status_code < 500, response.text
        check(described, "post", path, response)
        statuses.add(response.status_code)

    tried()
    assert {200, 400} <= statuses
