"""Providers of a process of our own, and that nothing of OpenTelemetry is loaded without need."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

import guardrail.telemetry.providers
from guardrail.errors import MissingDependencyError, OptionError
from guardrail.telemetry.exporters import set_up_telemetry
from guardrail.telemetry.providers import use_providers
from tests.support.guards import PASS, guard_of

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"

ROOMS = """
import sys
import guardrail, guardrail.telemetry.answer_spans, guardrail.telemetry.exporters
from guardrail.telemetry.answer_spans import AnswerTelemetry
with AnswerTelemetry("m", "p", "none").recorded([]):
    pass
print([name for name in sys.modules if name.startswith(("opentelemetry", "prometheus_client", "torch"))])
"""

# A process that sends to wherever the environment says, without a model.
SENDS = """
from guardrail.telemetry.answer_record import AnswerFacts, Asked
from guardrail.telemetry.answer_spans import AnswerTelemetry
from guardrail.telemetry.exporters import set_up_telemetry
registry = set_up_telemetry(required=True)
known = ("r", "pass", "all", "w", False, True, 0.5, None, "", "stop", 1, 2, 0, [], 1)
facts = AnswerFacts(*known, "Said.", "Said.")
with AnswerTelemetry("m", "p", "none").recorded([Asked("r", False, [])]) as recording:
    recording.answered(facts)
from prometheus_client.exposition import generate_latest
print(b"guardrail_answers_total" in generate_latest(registry))
"""


def run(code, **variables):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        env={"PATH": "", "PYTHONPATH": ":".join(sys.path), **variables},
    )
    assert done.returncode == 0, done.stderr
    return done


def test_the_room_loads_nothing_of_opentelemetry():
    assert run(ROOMS).stdout.strip() == "[]"


def test_what_is_recorded_is_sent_where_the_environment_says():
    got = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        done = run(SENDS, **{ENDPOINT: f"http://127.0.0.1:{server.server_port}", "OTEL_SERVICE_NAME": "bank"})
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert done.stdout.strip() == "True"
    assert {path for path, _ in got} == {"/v1/traces", "/v1/metrics", "/v1/logs"}
    assert all(b"bank" in sent for _, sent in got)
    assert any(b"chat m" in sent for path, sent in got if path == "/v1/traces")


def test_it_is_asked_for_and_missing(monkeypatch):
    monkeypatch.setattr(guardrail.telemetry.providers, "find_spec", lambda _: None)
    for asks in (
        lambda: set_up_telemetry(required=True),
        lambda: guard_of(PASS, telemetry={"texts": "none"}),
        use_providers,
    ):
        with pytest.raises(MissingDependencyError, match=r'pip install "guardrail-llm\[telemetry\]"'):
            asks()
    assert set_up_telemetry() is None
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:4318")
    with pytest.raises(MissingDependencyError):
        set_up_telemetry()
    assert set_up_telemetry(required=False) is None
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "none")
    assert set_up_telemetry() is None


@pytest.mark.parametrize(
    "variables",
    [
        {ENDPOINT: "http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {"OTEL_TRACES_EXPORTER": "zipkin"},
    ],
    ids=json.dumps,
)
def test_a_variable_that_cannot_be_followed_is_refused(variables, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(OptionError, match=list(variables)[-1]):
        set_up_telemetry()
