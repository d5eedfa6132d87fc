"""What a key may do: its role, policies, tags, limits, what it sees of a verdict; and its file."""

import json
import os
import threading
import time
from hashlib import sha256

import httpx
import pytest

import guardrail.server.api_keys
from guardrail.errors import OptionError
from guardrail.guard import Guard
from guardrail.server.api_keys import ApiKeys
from guardrail.server.key_file import read_key_file
from guardrail.server.litellm_protocol import GATEWAY_PATH
from tests.server.test_litellm_guardrail import question, response
from tests.support.guards import PASS, policy_of, tiny
from tests.support.keys import ask, bearer, entry, key_of, written
from tests.support.serving import CHAT, Held, serving

pytestmark = pytest.mark.usefixtures("one_thread")

NO = {"id": "no", "action": "abstain", "message": "Not from here."}
JUDGE, QUEUE = "/v1/guardrail/judge", "/v1/guardrail/queue"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def served(folder):
    path = written(
        folder,
        entry("app"),
        entry("brief", verdict="action", policies=["test", "strict"]),
        entry("blind", verdict="none", limits={"max_output_tokens": 5, "max_prompt_tokens": 60}),
        entry("shop", tags=["shop"], policies=["strict"]),
        entry("few", limits={"requests_per_minute": 2}),
        entry("one", limits={"max_waiting": 1}),
        entry("strict", policies=["strict"]),
        entry("once", limits={"requests_per_minute": 1}),
        entry("anna", role="reviewer"),
        entry("prometheus", role="metrics"),
    )
    by_tag = {"id": "shop", "when": {"tags": ["shop"]}, "action": "pass"}
    model = tiny()
    own = Guard(policy_of(PASS), model, batch_size=8)
    strict = Guard(policy_of(by_tag, NO), model, batch_size=8)
    with serving(guard=own, others={"strict": strict}, keys=ApiKeys.from_file(path)) as one:
        yield one


def test_a_key_has_one_role_and_each_path_is_of_one(served):
    paths = {
        "app": ("/v1/models", "/openapi.json"),
        "anna": (QUEUE,),
        "prometheus": ("/metrics",),
    }
    for name in paths:
        for owner, owned in paths.items():
            for path in owned:
                response = served.client.get(path, headers=bearer(name))
                if name == owner:
                    assert response.status_code in (200, 404)
                else:
                    assert response.status_code == 403
                    assert response.json()["error"]["code"] == "insufficient_permissions"
    for name in ("anna", "prometheus"):
        assert ask(served, name).status_code == 403
        assert ask(served, name, JUDGE, response="Yes.").status_code == 403
    for path in ("/metrics", QUEUE, f"{QUEUE}/{'0' * 32}"):
        assert served.client.get(path).status_code == 401


@pytest.mark.parametrize("path", [f"{QUEUE}/", "/v1/guardrail//queue", "/v1/GUARDRAIL/queue", f"/{QUEUE}"])
def test_a_path_that_is_written_another_way_opens_nothing(served, path):
    for name in ("app", "prometheus"):
        response = httpx.get(f"{served.url}{path}", headers=bearer(name), follow_redirects=True)
        assert response.status_code in (403, 404)


def test_a_key_is_read_from_its_header_alone(served):
    key = key_of("app")
    get = served.client.get
    assert get(f"/v1/models?api_key={key}").status_code == 401
    assert get("/v1/models", headers={"cookie": f"authorization=Bearer {key}"}).status_code == 401
    assert get("/v1/models", headers={"authorization": f"Bearer {key.upper()}"}).status_code == 401
    digest = sha256(key.encode()).hexdigest()
    assert get("/v1/models", headers={"authorization": f"Bearer {digest}"}).status_code == 401
    twice = [("authorization", f"Bearer {key}"), ("authorization", f"Bearer {key_of('anna')}")]
    assert get("/v1/models", headers=twice).status_code == 401
    both = {"authorization": f"Bearer {key}", "x-api-key": key_of("anna")}
    assert get("/v1/models", headers=both).status_code == 401
    assert get("/v1/models", headers={"x-api-key": key}).status_code == 200
    assert get("/v1/models", headers={"authorization": f"bearer {key}"}).status_code == 200
    assert key not in served.log


def test_the_log_has_the_name_of_a_key(served):
    assert ask(served, "app").status_code == 200
    assert '"key": "app"' in served.log
    assert key_of("app") not in served.log


def test_what_is_seen_of_a_verdict_is_as_the_key_says(served):
    whole, brief, blind = (ask(served, name) for name in ("app", "brief", "blind"))
    assert whole.json()["guardrail"]["rule"] == "all"
    assert set(brief.json()["guardrail"]) == {"request", "action", "enforced"}
    assert brief.json()["guardrail"]["request"] == brief.headers["x-request-id"]
    assert "guardrail" not in blind.json()
    assert whole.json()["choices"] == brief.json()["choices"] == blind.json()["choices"]
    for one, there in ((whole, True), (brief, True), (blind, False)):
        assert ("x-guardrail-action" in one.headers) is there
    for name, fields in (
        ("brief", {"answer", "request", "action", "enforced"}),
        ("blind", {"answer", "request"}),
    ):
        assert set(ask(served, name, JUDGE, response="Yes.").json()) == fields
    streamed = ask(served, "blind", stream=True)
    assert "guardrail" not in f"{streamed.headers}{streamed.text}"
    assert '"rule"' not in ask(served, "brief", stream=True).text


def test_a_key_chooses_the_policy_and_its_tags_are_the_rules_evidence(served):
    named = {"x-guardrail-policy": "strict"}
    assert ask(served, "app").json()["guardrail"]["action"] == "pass"
    assert ask(served, "brief").json()["guardrail"]["action"] == "pass"
    refused = ask(served, "brief", headers=named).json()
    assert refused["guardrail"]["action"] == "abstain"
    assert refused["choices"][0]["message"]["content"] == "Not from here."
    assert ask(served, "brief", JUDGE, headers=named, response="Yes.").json()["action"] == "abstain"
    assert ask(served, "shop").json()["guardrail"]["rule"] == "shop"
    assert ask(served, "shop", JUDGE, response="Yes.").json()["rule"] == "shop"


@pytest.mark.parametrize("name", ["nothing", "STRICT", "", "../strict", "test"])
def test_a_policy_that_a_key_may_not_use_is_refused_whether_it_is_there_or_not(served, name):
    response = ask(served, "shop", headers={"x-guardrail-policy": name})
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "policy_not_found"
    both = [("x-guardrail-policy", "strict"), ("x-guardrail-policy", "test"), *bearer("brief").items()]
    assert served.client.post(CHAT, json={}, headers=both).status_code == 400


def test_the_limits_of_a_key_are_its_own(served):
    assert ask(served, "blind", max_tokens=6).status_code == 400
    assert ask(served, "blind", JUDGE, response="a " * 20).status_code == 400
    long = [{"role": "user", "content": "word " * 100}]
    assert ask(served, "blind", messages=long).json()["error"]["code"] == "context_length_exceeded"
    assert ask(served, "app", max_tokens=6, messages=long).status_code == 200
    assert [ask(served, "few").status_code for _ in range(3)] == [200, 200, 429]
    refused = ask(served, "few")
    assert 1 <= int(refused.headers["retry-after"]) <= 61
    assert served.client.get("/v1/models", headers=bearer("few")).status_code == 200
    with Held(served.guard):
        thread = threading.Thread(target=ask, args=(served, "one"))
        thread.start()
        until = time.monotonic() + 30
        while served.client.get("/readyz").json()["waiting"] == 0 and time.monotonic() < until:
            time.sleep(0.01)
        assert ask(served, "one").status_code == 429
    thread.join()
    assert ask(served, "one").status_code == 200


def through_gateway(served, name):
    """What LiteLLM is told of a response that a caller's key shows, after the question to it."""
    calls = (question(name), response(name))
    told = [served.client.post(GATEWAY_PATH, json=call, headers=bearer(name)) for call in calls]
    assert [one.status_code for one in told] == [200, 200]
    return told[1].json()


def test_a_gateway_is_answered_by_the_policy_tags_and_limits_of_its_key(served):
    assert through_gateway(served, "strict")["action"] == "BLOCKED"
    assert through_gateway(served, "shop")["action"] == "NONE"
    # A gateway may be set to ignore errors, so that one request too many is no error there.
    assert through_gateway(served, "once")["action"] == "NONE"
    assert "in a minute" in through_gateway(served, "once")["blocked_reason"]


def test_without_keys_nobody_reviews_and_this_machine_reads_metrics():
    with serving(PASS) as open_to_all:
        assert open_to_all.client.get(QUEUE).status_code == 403
        assert open_to_all.client.get("/metrics").status_code != 403


_GOOD = entry("app")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("keys: []", "keys"),
        ("nothing", "file"),
        ("keys: [", "no YAML"),
        (json.dumps({"keys": [_GOOD], "polices": {}}), "polices"),
        (json.dumps({"keys": [{**_GOOD, "roles": "client"}]}), "roles"),
        (json.dumps({"keys": [{**_GOOD, "role": "admin"}]}), "role"),
        (json.dumps({"keys": [{**_GOOD, "verdict": "some"}]}), "verdict"),
        (json.dumps({"keys": [{**_GOOD, "key": key_of("app")}]}), "one of them"),
        (json.dumps({"keys": [{"name": "app"}]}), "one of them"),
        (json.dumps({"keys": [{"name": "app", "key": "short"}]}), "can be guessed"),
        (json.dumps({"keys": [{**_GOOD, "sha256": "ab"}]}), "sha256"),
        (json.dumps({"keys": [{**_GOOD, "name": "a b"}]}), "name"),
        (json.dumps({"keys": [_GOOD, {**_GOOD, "name": "b"}]}), "one key"),
        (json.dumps({"keys": [_GOOD, {**entry("b"), "name": "app"}]}), "one name"),
        (json.dumps({"keys": [{**_GOOD, "limits": {"max_waiting": 0}}]}), "max_waiting"),
        (json.dumps({"keys": [{**_GOOD, "limits": {"max_waiting": True}}]}), "max_waiting"),
        (json.dumps({"keys": [{**_GOOD, "policies": []}]}), "policies"),
        (json.dumps({"keys": [{**_GOOD, "role": "metrics", "tags": ["a"]}]}), "of clients"),
        (f'keys: [{{name: app, key: "{key_of("app")}", name: b}}]', "twice"),
    ],
)
def test_a_file_that_has_a_mistake_is_refused_without_a_word_of_a_key(tmp_path, text, why):
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(OptionError, match=why) as refused:
        read_key_file(path)
    assert key_of("app") not in str(refused.value)
    assert _GOOD["sha256"] not in str(refused.value)


def test_a_file_that_others_may_write_to_is_refused(tmp_path):
    path = written(tmp_path, _GOOD)
    for mode in (0o620, 0o602, 0o666):
        path.chmod(mode)
        with pytest.raises(OptionError, match="chmod go-w"):
            read_key_file(path)


def test_a_key_that_names_a_policy_that_is_not_served_is_refused(tmp_path):
    keys = ApiKeys.from_file(written(tmp_path, entry("app", policies=["other"])))
    with pytest.raises(OptionError, match="'other'"), serving(PASS, keys=keys):
        pass


def test_a_file_that_changes_is_read_again_and_a_broken_one_is_not(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(guardrail.server.api_keys, "_LOOK_EVERY", 0.0)
    path = written(tmp_path, entry("app", limits={"requests_per_minute": 1}))
    keys = ApiKeys.from_file(path)
    keys.check_policies(["test"])

    def known(name):
        caller = keys.caller(f"Bearer {key_of(name)}".encode())
        return caller and caller.name

    keys.caller(f"Bearer {key_of('app')}".encode()).enter()
    path = written(tmp_path, entry("app", limits={"requests_per_minute": 1}), entry("new"))
    assert (known("app"), known("new")) == ("app", "new")
    with pytest.raises(guardrail.server.api_keys.ApiError):
        # What it used is not forgotten with the file.
        keys.caller(f"Bearer {key_of('app')}".encode()).enter()
    for broken in ("", "keys: [", json.dumps({"keys": [entry("x", policies=["gone"])]}), "short"):
        path.write_text(broken)
        assert (known("app"), known("new"), known("x")) == ("app", "new", None)
    assert caplog.text.count("stay as they were") == 4
    assert _GOOD["sha256"] not in caplog.text
    path.unlink()
    assert known("app") == "app"
    other = written(tmp_path, entry("other"))
    os.utime(other)
    assert (known("app"), known("other")) == (None, "other")
