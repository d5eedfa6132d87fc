"""What no client of OpenAI's would send: it has an end that comes soon, and others are answered as before."""

import json
import re
import socket
import time

import pytest

from guardrail.server.bounded_connections import BoundedConnection
from tests.server.test_limits import until
from tests.support.guards import PASS
from tests.support.serving import CHAT, QUESTION, Held, serving

pytestmark = pytest.mark.usefixtures("one_thread")

BODY = json.dumps({"model": "tiny", "messages": QUESTION, "max_tokens": 2}).encode()
HEAD = b"POST " + CHAT.encode() + b" HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
WITH_LENGTH = HEAD + b"content-length: %d\r\n\r\n" % len(BODY)
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
GET = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n"


class Brisk(BoundedConnection):
    # Less than uvicorn's for idle connections, so that no test waits for these.
    headers_within = 1.5


class Hasty(BoundedConnection):
    headers_within = 1.0
    read_within = 0.5
    most = 4


@pytest.fixture(scope="module")
def served():
    with serving(PASS, connection=Brisk, max_body_bytes=20_000, request_timeout=60) as one:
        yield one
        assert one.chat().status_code == 200


@pytest.fixture(scope="module")
def hasty():
    with serving(PASS, connection=Hasty, request_timeout=1) as one:
        yield one


def connection(served):
    return socket.create_connection(("127.0.0.1", int(served.url.rpartition(":")[2])), timeout=30)


def all_of(client):
    """What comes until the server closes; a connection that it does not close is a failure."""
    got = b""
    while True:
        try:
            part = client.recv(1 << 16)
        except ConnectionResetError:
            return got
        if not part:
            return got
        got += part


def exchanged(served, *parts, pause=0.0, half_close=False):
    with connection(served) as client:
        for part in parts:
            try:
                client.sendall(part)
            except (BrokenPipeError, ConnectionResetError):
                break
            time.sleep(pause)
        if half_close:
            client.shutdown(socket.SHUT_WR)
        return all_of(client)


def statuses(data):
    return [int(one) for one in re.findall(rb"HTTP/1\.1 (\d{3}) ", data)]


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


CLOSE = b"connection: close\r\n"


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([WITH_LENGTH.replace(b"\r\n\r\n", b"\r\n" + CLOSE + b"\r\n"), BODY], [200]),
        ([CHUNKED.replace(b"\r\n\r\n", b"\r\n" + CLOSE + b"\r\n"), chunk(BODY), b"0\r\n\r\n"], [200]),
        ([CHUNKED, *(chunk(bytes([one])) for one in BODY), b"0\r\n\r\n"], [200]),
        ([WITH_LENGTH + BODY + GET + WITH_LENGTH + BODY + GET], [200] * 4),
        ([CHUNKED, b"zz\r\n"], [400]),
        ([CHUNKED, chunk(BODY), b"-5\r\n\r\n"], [400]),
        ([CHUNKED, b"f" * 40 + b"\r\n"], [400]),
        ([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"], [400]),
        ([b"GET / HTTP/9.9\r\nhost: localhost\r\n\r\n"], [404]),
        ([b"G\x00T / HTTP/1.1\r\nhost: localhost\r\n\r\n"], [400]),
        ([b"GET /v1/models HTTP/1.1\r\n\r\n"], [400]),
        ([GET.replace(b"\r\n\r\n", b"\r\nhost: localhost\r\n\r\n")], [400]),
        ([HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\n"], [400]),
        ([HEAD + b"content-length: -1\r\n\r\n"], [400]),
        ([HEAD + b"content-length: " + b"9" * 5000 + b"\r\n\r\n"], [400]),
        ([HEAD + b"content-length: 99999999999\r\n\r\n"], [413]),
        ([HEAD + b"transfer-encoding: gzip\r\n\r\n"], [400]),
        ([HEAD + b"x: " + b"a" * 70_000 + b"\r\n\r\n"], [400]),
        ([HEAD + b"x: a\r\n" * 30_000 + b"\r\n"], [400]),
        ([CHUNKED, *[chunk(b" " * 5000)] * 5], [413]),
        ([GET.replace(b"/v1", b"/" + b"%ff%00" * 50)], [404]),
        ([GET.replace(b"host:", b"upgrade: websocket\r\nconnection: upgrade\r\nhost:")], [200]),
    ],
    ids=lambda value: None if isinstance(value, list) and value and isinstance(value[0], int) else "sent",
)
def test_every_request_has_its_answer_and_the_connection_an_end(served, parts, expected):
    got = exchanged(served, *parts)
    assert statuses(got) == expected
    assert b"Traceback" not in got
    if expected == [400]:
        assert json.loads(got.partition(b"\r\n\r\n")[2])["error"]["type"] == "invalid_request_error"
    still_serves(served)


def still_serves(served):
    assert served.client.get("/healthz").status_code == 200
    assert not re.search(r'"status": 500|"level": "(error|critical)"', served.log), served.log[-3000:]


@pytest.mark.parametrize("at", [5, len(WITH_LENGTH) - 3, len(WITH_LENGTH), len(WITH_LENGTH) + 9])
@pytest.mark.parametrize("half_close", [False, True])
def test_a_client_that_leaves_in_the_middle_leaves_nothing_behind(served, at, half_close):
    part = (WITH_LENGTH + BODY)[:at]
    if half_close:
        assert statuses(exchanged(served, part, half_close=True)) in ([], [400])
    else:
        connection(served).close()
        with connection(served) as client:
            client.sendall(part)
    until(lambda: served.client.get("/readyz").json()["waiting"] == 0)
    still_serves(served)


def trickle(client, data):
    for byte in data:
        client.sendall(bytes([byte]))
        time.sleep(0.02)


def flood(client, data):
    while True:
        client.sendall(data)


def test_a_client_that_sends_headers_slowly_is_told_so_and_let_go(hasty):
    with connection(hasty) as client:
        began = time.monotonic()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            trickle(client, HEAD * 100)
        assert time.monotonic() - began < 10
    assert statuses(exchanged(hasty, HEAD)) == [408]
    assert exchanged(hasty) == b""
    still_serves(hasty)


def test_a_body_that_comes_slowly_or_not_at_all_is_not_waited_for(hasty):
    began = time.monotonic()
    assert statuses(exchanged(hasty, WITH_LENGTH)) == [408]
    assert statuses(exchanged(hasty, CHUNKED, *[chunk(b" ")] * 60, pause=0.02)) == [408]
    # Nobody reads the body of this one, and what comes of it does not keep the connection.
    unread = GET.replace(b"\r\n\r\n", b"\r\ntransfer-encoding: chunked\r\n\r\n")
    assert statuses(exchanged(hasty, unread, *[chunk(b" ")] * 60, pause=0.02)) == [200]
    assert time.monotonic() - began < 20
    still_serves(hasty)


def test_further_connections_than_the_server_takes_are_told_to_come_again(hasty):
    until(lambda: hasty.client.get("/healthz").status_code == 200)
    held = [connection(hasty) for _ in range(Hasty.most)]
    try:
        got = exchanged(hasty, GET)
    finally:
        for client in held:
            client.close()
    assert statuses(got) == [503]
    assert b"retry-after: 1" in got
    until(lambda: statuses(exchanged(hasty, GET)) == [200])


def test_a_client_that_does_not_read_is_let_go(hasty):
    with connection(hasty) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(60)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            flood(client, GET.replace(b"/v1/models", b"/openapi.json") * 50)
    still_serves(hasty)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (BODY.replace(b'"max_tokens"', b'"max_tokens": 1, "max_tokens"'), "max_tokens"),
        (BODY.replace(b'"content"', b'"content": "x", "content"'), "content"),
        (
            BODY[:-1] + b', "tools": [{"type": "function", "function": {"name": "f", "parameters": 1e999}}]}',
            "",
        ),
        (BODY[:-1] + b', "tool_choice": ' + b"9" * 5000 + b"}", ""),
        (BODY[:-1] + b', "metadata": ' + b'{"a":' * 2000 + b"1" + b"}" * 2001, ""),
        (BODY.replace(b"Faust", b"\xff\xfe"), ""),
        (BODY.decode().encode("utf-16"), ""),
        (b"\xef\xbb\xbf" + BODY, ""),
        (b"", ""),
        (b"null", ""),
        (BODY.replace(b"Faust", b"\\ud800"), ""),
    ],
)
def test_a_body_that_can_be_read_in_several_ways_or_none_is_refused(served, body, why):
    response = served.client.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400, response.text
    assert why in response.json()["error"]["message"]
    still_serves(served)


def test_infinities_and_twins_within_a_schema_of_the_clients_are_refused(served):
    for inside in (
        b'{"maximum": 1e999}',
        b'{"type": "string", "type": "integer"}',
        b'{"a": %b}' % (b"9" * 5000),
    ):
        tool = b'{"type": "function", "function": {"name": "f", "parameters": %b}}' % inside
        body = BODY[:-1] + b', "tools": [%b]}' % tool
        response = served.client.post(CHAT, content=body, headers={"content-type": "application/json"})
        assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_json")


def test_what_is_pipelined_behind_a_request_does_not_end_it(served):
    with Held(served.guard) as held, connection(served) as client:
        client.sendall(WITH_LENGTH + BODY + GET)
        until(lambda: served.client.get("/readyz").json()["waiting"] == 1)
        held.let_go()
        got = b""
        while len(statuses(got)) < 2:
            got += client.recv(1 << 16)
    assert statuses(got) == [200, 200]
