"""Who is let in, how many at once and for how long, and that a client that leaves frees the model."""

import json
import socket
import threading
import time

import httpx
import pytest

from guardrail.errors import OptionError
from guardrail.server.api_keys import ApiKeys
from guardrail.server.server_settings import read_settings
from tests.support.guards import PASS, guard_of
from tests.support.serving import CHAT, QUESTION, Held, serving

pytestmark = pytest.mark.usefixtures("one_thread")

KEY, OTHER = "a-key-of-some-length", "another-key-of-some-length"


def keys_in(folder, text):
    path = folder / "keys"
    path.write_text(text)
    path.chmod(0o600)
    return ApiKeys.from_file(path)


def test_without_one_of_the_keys_nobody_is_let_in(tmp_path):
    keys = keys_in(tmp_path, f"# clients\n{KEY}\n\n{OTHER}  \n")
    assert KEY not in repr(vars(keys))
    with serving(PASS, keys=keys) as served:
        get = served.client.get
        for header in ({}, *({"authorization": one} for one in _WRONG)):
            response = get("/v1/models", headers=header)
            assert response.status_code == 401
            assert response.json()["error"]["code"] == "invalid_api_key"
            assert response.headers["www-authenticate"] == "Bearer"
        assert served.client.post(CHAT, content=b"x").status_code == 401
        assert get("/openapi.json").status_code == 401
        assert get("/nothing").status_code == 401
        for key in (KEY, OTHER):
            assert get("/v1/models", headers={"authorization": f"Bearer {key}"}).status_code == 200
        assert get("/healthz").status_code == get("/readyz").status_code == 200
        assert KEY not in served.log


_WRONG = (
    "Bearer",
    f"Basic {KEY}",
    KEY,
    f"Bearer {KEY}x",
    f"Bearer {KEY[:-1]}",
    f"Bearer {KEY} {KEY}",
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has none"),
        ("# only a comment\n\n", "has none"),
        ("short\n", "can be guessed"),
        (f"{KEY} {OTHER}\n", ":1: a key is one word"),
        (f"{KEY}\nschlüssel-der-lang-genug-ist\n", ":2: a key is one word"),
    ],
)
def test_a_file_of_keys_that_cannot_be_used_is_refused(tmp_path, text, why):
    with pytest.raises(OptionError, match=why) as refused:
        keys_in(tmp_path, text)
    assert KEY not in str(refused.value)
    with pytest.raises(OptionError, match="cannot be read"):
        ApiKeys.from_file(tmp_path / "none")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.com", ""])
def test_an_address_that_others_reach_needs_keys(host, tmp_path):
    with pytest.raises(OptionError, match="--api-key-file"):
        read_settings({"host": host})
    assert read_settings({"host": host, "insecure": True}).host == host
    assert read_settings({"host": host, "api_key_file": tmp_path / "keys"}).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.9"])
def test_an_address_of_this_machine_needs_none(host):
    assert read_settings({"host": host}).is_local


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("GUARDRAIL_API_KEY", "API_KEY_FILE"),
        ("GUARDRAIL_POLICY_FILE", "POLICY"),
        ("GUARDRAIL_UPSTREAM_WEIGHT", "UPSTREAM_WEIGHTS"),
        ("guardrail_allowed_host", "ALLOWED_HOSTS"),
    ],
)
def test_a_variable_that_is_named_almost_as_a_setting_is_not_passed_over(monkeypatch, variable, meant):
    monkeypatch.setenv(variable, "secret")
    with pytest.raises(OptionError, match=f"{variable} is no setting .* GUARDRAIL_{meant}") as raised:
        read_settings({})
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("variable", ["GUARDRAIL_CACHE_DIR", "GUARDRAIL_DEMO_POLICY", "GUARDRAIL_LOG"])
def test_variables_of_others_may_begin_as_settings_do(monkeypatch, variable):
    monkeypatch.setenv(variable, "x")
    assert read_settings({}).policy == "builtin:default"


def test_settings_come_from_the_environment_and_options_count_first(monkeypatch):
    monkeypatch.setenv("GUARDRAIL_PORT", "9001")
    monkeypatch.setenv("GUARDRAIL_ALLOWED_HOSTS", "a.example, B.example")
    monkeypatch.setenv("GUARDRAIL_MAX_WAITING", "3")
    settings = read_settings({"max_waiting": 5, "port": None})
    assert (settings.port, settings.max_waiting) == (9001, 5)
    assert settings.allowed_hosts == ("a.example", "b.example")


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("GUARDRAIL_PORT", "70000", "--port"),
        ("GUARDRAIL_PORT", "eight", "GUARDRAIL_PORT"),
        ("GUARDRAIL_REQUEST_TIMEOUT", "0", "--request-timeout"),
        ("GUARDRAIL_INSECURE", "perhaps", "--insecure"),
        ("GUARDRAIL_UPSTREAM_MODEL", "m", "--upstream-model"),
    ],
)
def test_a_setting_that_cannot_be_followed_is_refused_by_its_name(monkeypatch, name, value, why):
    monkeypatch.setenv(name, value)
    with pytest.raises(OptionError, match=why):
        read_settings({})


def test_another_host_name_is_not_answered():
    with serving(PASS, allowed_hosts=("guard.example",)) as served:
        port = served.url.rpartition(":")[2]
        for host in ("evil.example", f"evil.example:{port}", "", "localhost.evil.example", "127.0.0.1.evil"):
            assert served.client.get("/v1/models", headers={"host": host}).status_code in (400, 421)
        for host in (f"localhost:{port}", "LOCALHOST", f"127.0.0.1:{port}", f"[::1]:{port}", "guard.example"):
            assert served.client.get("/v1/models", headers={"host": host}).status_code == 200


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def waiting(served):
    return served.client.get("/readyz").json()["waiting"]


def test_more_requests_than_may_wait_are_told_to_come_again():
    with serving(PASS, max_waiting=2) as served:
        with Held(served.guard):
            threads = [
                threading.Thread(target=served.chat, kwargs={"stream": stream}) for stream in (False, True)
            ]
            for thread in threads:
                thread.start()
            until(lambda: waiting(served) == 2)
            for stream in (False, True):
                response = served.chat(stream=stream)
                assert response.status_code == 429
                assert int(response.headers["retry-after"]) >= 1
                assert response.json()["error"]["type"] == "rate_limit_error"
        for thread in threads:
            thread.join()
        assert waiting(served) == 0
        assert served.chat().status_code == 200


def test_a_request_that_takes_too_long_is_a_504_and_gives_its_place_back():
    with serving(PASS, request_timeout=0.3, keep_alive=5) as served:
        with Held(served.guard):
            for stream in (False, True):
                response = served.chat(stream=stream)
                assert response.status_code == 504
                assert response.json()["error"]["code"] == "timeout"
            judged = served.client.post(
                "/v1/guardrail/judge", json={"messages": QUESTION, "response": "Yes."}
            )
            assert judged.status_code == 504
        assert waiting(served) == 0


def test_a_stream_that_takes_too_long_ends_in_an_error():
    with serving(PASS, request_timeout=0.3, keep_alive=0.02) as served, Held(served.guard):
        events = [line for line in served.chat(stream=True).text.splitlines() if line.startswith("data")]
    (event,) = events
    assert json.loads(event.removeprefix("data: "))["error"]["code"] == "timeout"


class Stepping:
    """Counts the tokens that the model makes, each of which takes a while."""

    def __init__(self, monkeypatch):
        import guardrail.models.decoding

        self.steps = 0
        asked = guardrail.models.decoding.GoesOn.__call__

        def counted(criterion, *args, **kwargs):
            self.steps += 1
            time.sleep(0.02)
            return asked(criterion, *args, **kwargs)

        monkeypatch.setattr(guardrail.models.decoding.GoesOn, "__call__", counted)


def leave_after(stepping, served, body):
    """Ask, and close the connection once the model has begun."""
    with socket.create_connection(("127.0.0.1", int(served.url.rpartition(":")[2]))) as connection:
        sent = json.dumps(body).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(sent)}\r\n\r\n".encode() + sent)
        until(lambda: stepping.steps > 3)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("live", [False, True])
def test_a_client_that_leaves_frees_the_model_at_the_next_token(monkeypatch, stream, live):
    stepping = Stepping(monkeypatch)
    fields = {"streaming": "annotate", "on_uncalibrated": "flag", "on_outside_domain": "flag"} if live else {}
    with serving(PASS, policy=fields, keep_alive=0.05) as served:
        body = {"model": "tiny", "messages": QUESTION, "max_tokens": 400, "stream": stream}
        leave_after(stepping, served, body)
        until(lambda: waiting(served) == 0, 5)
        with served.guard.model.alone():
            assert 0 < stepping.steps < 200
        assert served.chat(max_tokens=2).status_code == 200


def test_a_request_that_waits_is_not_run_for_a_client_that_left(monkeypatch):
    with serving(PASS) as served:
        with Held(served.guard):
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(
                    served.url + CHAT,
                    json={"model": "tiny", "messages": QUESTION, "max_tokens": 300},
                    timeout=0.3,
                )
            until(lambda: waiting(served) == 0)
        assert '"outcome": "client left"' in served.log


def test_a_log_line_says_what_was_decided_and_not_what_was_said():
    with serving(guard=guard_of(PASS)) as served:
        answer = served.chat(user="somebody", metadata={"name": "somebody"})
        until(lambda: '"request"' in served.log)
        lines = [json.loads(line) for line in served.log.splitlines()]
    (line,) = [line for line in lines if line["message"] == "request"]
    verdict = answer.json()["guardrail"]
    assert line["request_id"] == answer.headers["x-request-id"]
    assert (line["route"], line["status"], line["action"]) == (CHAT, 200, "pass")
    assert line["request_id"] == verdict["request"]
    assert line["rule"] == verdict["rule"]
    assert "somebody" not in str(line)


def test_there_is_one_id_of_a_request_and_a_clients_own_is_never_it(tmp_path):
    policy = {"log": {"file": str(tmp_path / "log.jsonl")}}
    with serving(PASS, policy=policy) as served:
        forged = "f" * 32
        own = {"x-client-request-id": "order/17", "x-request-id": forged}
        seen = [
            served.client.post(CHAT, json=body, headers=own) for body in (_ASKED, _ASKED | {"stream": True})
        ]
        judged = {"messages": QUESTION, "response": "Yes."}
        seen.append(served.client.post("/v1/guardrail/judge", json=judged, headers=own))
        ids = [response.headers["x-request-id"] for response in seen]
        until(lambda: served.log.count('"request"') >= 3)
        lines = [json.loads(line) for line in served.log.splitlines()]
    assert len({*ids}) == 3
    assert forged not in ids
    assert seen[0].json()["guardrail"]["request"] == ids[0]
    assert seen[0].json()["id"] == f"chatcmpl-{ids[0]}"
    assert f'"request":"{ids[1]}"' in seen[1].text
    assert seen[2].json()["request"] == ids[2]
    told = [line for line in lines if line["message"] == "request"]
    assert [line["request_id"] for line in told] == ids
    assert [line["client_request_id"] for line in told] == ["order/17"] * 3
    recorded = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["request"] for line in recorded] == ids


_ASKED = {"model": "tiny", "messages": QUESTION, "max_tokens": 4}


@pytest.mark.parametrize(
    "sent",
    [
        [("x-client-request-id", "two words")],
        [("x-client-request-id", "a" * 129)],
        [("x-client-request-id", "")],
        [("x-client-request-id", 'a","level":"error')],
        [("x-client-request-id", b"\xff\xfe")],
        [("x-client-request-id", "one"), ("x-client-request-id", "two")],
    ],
)
def test_what_is_no_clients_id_is_not_written(sent):
    with serving(PASS) as served:
        assert served.client.get("/v1/models", headers=sent).status_code == 200
        until(lambda: '"request"' in served.log)
        assert "client_request_id" not in served.log
