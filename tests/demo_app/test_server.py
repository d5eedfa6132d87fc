"""The page answers to its own names: a site that has its name lead here gets no page and no socket."""

import http.client
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from starlette.testclient import TestClient

from demo_app.server import OwnHosts
from demo_app.settings import own_hosts
from guardrail.cli.demo import _host
from guardrail.errors import OptionError

OWN = [
    ("127.0.0.1:{port}", "http://127.0.0.1:{port}"),
    ("localhost:{port}", "http://localhost:{port}"),
    ("LOCALHOST.:{port}", None),
    ("[::1]:{port}", "http://[::1]:{port}"),
    ("demo.example.com", "https://demo.example.com"),
    ("127.0.0.1:{port}", None),
]
FOREIGN = [
    # The name of a site that leads to this machine.
    ("rebound.example", "http://rebound.example"),
    ("rebound.example:{port}", "http://rebound.example:{port}"),
    ("rebound.example:{port}", None),
    ("127.0.0.1.rebound.example", None),
    ("localhost.rebound.example", None),
    ("demo.example.com.rebound.example", None),
    ("x.demo.example.com", None),
    ("localhost@rebound.example", None),
    ("rebound.example@localhost", None),
    ("0.0.0.0:{port}", None),
    ("[::ffff:127.0.0.1]:{port}", None),
    ("2130706433", None),
    ("localhost:port", None),
    ("localhost/..", None),
    ("", None),
    # A site's page that knows where this one is.
    ("127.0.0.1:{port}", "http://rebound.example"),
    ("127.0.0.1:{port}", "null"),
    ("localhost:{port}", "file://"),
    ("demo.example.com", "https://demo.example.com.rebound.example"),
]


@contextmanager
def _serving(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["-m", "guardrail", "demo", "--headless", "--port", str(port), "--data", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, *command, "--host", "demo.example.com"], stdout=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + 120
        while time.monotonic() < until and process.poll() is None:
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    with _serving(tmp_path_factory.mktemp("demo")) as port:
        yield port


def _status(port, path, host, origin, *more):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.putrequest("GET", path, skip_host=True)
    headers = [("Host", host), ("Origin", origin), *more]
    for name, value in headers:
        if value is not None:
            connection.putheader(name, value.format(port=port))
    connection.endheaders()
    try:
        return connection.getresponse().status
    finally:
        connection.close()


def _socket_status(port, host, origin):
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    return _status(port, "/_stcore/stream", host, origin, *upgrade.items())


@pytest.mark.parametrize(("host", "origin"), OWN)
def test_a_name_of_its_own_gets_the_page_and_a_socket(port, host, origin):
    assert _status(port, "/", host, origin) == 200
    assert _status(port, "/review", host, origin) == 200
    assert _socket_status(port, host, origin) == 101


@pytest.mark.parametrize(("host", "origin"), FOREIGN)
def test_another_name_gets_no_page_and_no_socket(port, host, origin):
    for path in ("/", "/review", "/_stcore/health", "/_stcore/host-config", "/static/x", "/media/x"):
        assert _status(port, path, host, origin) in (400, 421)
    assert _socket_status(port, host, origin) in (400, 403)


def test_two_names_in_one_request_are_none(port):
    assert _status(port, "/", "localhost", None, ("Host", "rebound.example")) in (400, 421)
    assert _status(port, "/", "rebound.example", None, ("Host", "localhost")) in (400, 421)


def test_who_is_refused_reads_how_to_give_the_page_a_name(monkeypatch):
    async def app(scope, receive, send):
        raise AssertionError("it was let through")

    client = TestClient(OwnHosts(app, own_hosts()), base_url="http://demo.example.com")
    assert "guardrail demo --host NAME" in client.get("/").text
    monkeypatch.setenv("GUARDRAIL_DEMO_HOSTS", "Demo.Example.com., other.example")
    assert own_hosts()[3:] == ("demo.example.com", "other.example")


@pytest.mark.parametrize(
    ("given", "name"), [("Demo.example.com", "demo.example.com"), ("::1", "::1"), ("[fe80::1]", "fe80::1")]
)
def test_a_host_is_given_by_its_name(given, name):
    assert _host(given) == name


@pytest.mark.parametrize(
    "given", ["", "*", "*.example.com", "a,b", "http://a", "a:80", "a/b", "a@b", "a b", "[x"]
)
def test_what_is_no_host_name_is_refused(given):
    with pytest.raises(OptionError, match="is not a host name"):
        _host(given)
