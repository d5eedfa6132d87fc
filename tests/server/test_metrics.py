"""What Prometheus reads of a server, and what spans and logs have of its requests."""

import json
import re
from pathlib import Path

import pytest
import yaml
from opentelemetry import _logs, metrics, trace
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.trace import SpanKind
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from guardrail.calibration.profile import write_profile
from guardrail.models.sampling import Sampling
from guardrail.server.api_keys import ApiKeys
from guardrail.server.key_file import KeyEntry, KeyFile
from guardrail.telemetry.semantic_conventions import Attribute
from tests.support.chat_models import ABSTAIN
from tests.support.guards import ASKED, PASS, guard_of, profile_of
from tests.support.serving import QUESTION, serving
from tests.support.telemetry import recorded

pytestmark = pytest.mark.usefixtures("one_thread")

KEY, CLIENTS = "k" * 32, "c" * 32
WORD = "Ouagadougou"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


class ToldError(Exception):
    """An error whose words tell what was drafted."""


@pytest.fixture
def registry():
    return CollectorRegistry()


def samples(text):
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(text, name, **labels):
    known = samples(text).items()
    return sum(value for (one, has), value in known if one == name and labels.items() <= dict(has).items())


def test_prometheus_reads_answers_stages_and_requests(registry):
    with (
        recorded(PrometheusMetricReader(registry=registry, scope_info_enabled=False)) as known,
        serving(ABSTAIN, metrics=registry) as served,
    ):
        # Of all guards of the process: other tests may have left some.
        waiting = total(served.client.get("/metrics").text, "guardrail_queue_requests")
        assert served.chat().status_code == 200
        with served.client.stream("POST", "/v1/chat/completions", json=body(stream=True)) as response:
            streamed = response.read().decode()
        assert served.client.get(f"/none/{ASKED}").status_code == 404
        assert served.chat(temperature="hot").status_code == 400
        response = served.client.get("/metrics")
        text, log = response.text, served.log
        spans = known.everything
    assert "[DONE]" in streamed
    assert response.headers["content-type"].startswith("text/plain; version=")
    assert total(text, "guardrail_answers_total", guardrail_action="abstain", guardrail_rule="never") == 2
    assert total(text, "guardrail_stage_duration_seconds_count", guardrail_stage="score") == 2
    assert total(text, "gen_ai_client_token_usage_count", gen_ai_token_type="input") == 2
    requests = "http_server_request_duration_seconds_count"
    assert total(text, requests, http_route="/v1/chat/completions", http_response_status_code="200") == 2
    assert total(text, requests, http_route="/v1/chat/completions", http_response_status_code="400") == 1
    assert total(text, requests, http_route="(none)", http_response_status_code="404") == 1
    # The one that reads them.
    assert total(text, "http_server_active_requests") == 1
    assert total(text, "guardrail_server_admitted_requests") == 0
    assert total(text, "guardrail_queue_requests") == waiting
    draft = draft_of(served)
    for part in (draft, draft[: len(draft) // 2], draft[len(draft) // 2 :], ASKED):
        assert part not in text + spans + log
    ids = re.findall(r"[0-9a-f]{32}", text)
    assert ids == []


def body(**fields):
    return {"model": "tiny", "messages": QUESTION, "max_tokens": 6, **fields}


def draft_of(served):
    return served.guard.model.generate(ASKED, Sampling(max_tokens=6)).text


def test_the_span_of_an_answer_is_below_that_of_its_request_and_of_the_client(registry):
    with recorded() as known, serving(PASS) as served:
        response = served.client.post(
            "/v1/chat/completions", json=body(), headers={"traceparent": f"00-{TRACE}-{PARENT}-01"}
        )
    (request,) = known.named("POST ")
    assert request.name == "POST /v1/chat/completions"
    assert request.kind == SpanKind.SERVER
    assert f"{request.context.trace_id:032x}" == TRACE
    assert f"{request.parent.span_id:016x}" == PARENT
    assert known.answer.parent.span_id == request.context.span_id
    assert request.attributes[Attribute.REQUEST_ID] == response.headers["x-request-id"]
    assert request.attributes[Attribute.HTTP_STATUS] == 200


def test_what_the_framework_would_record_of_its_own_is_not_recorded(monkeypatch):
    def fail(*_, **__):
        raise ToldError(WORD)

    with recorded() as known:
        # As if they were those of the process, which cannot be taken back.
        monkeypatch.setattr(trace, "get_tracer_provider", lambda: known.tracer_provider)
        monkeypatch.setattr(metrics, "get_meter_provider", lambda: known.meter_provider)
        monkeypatch.setattr(_logs, "get_logger_provider", lambda: known.logger_provider)
        with serving(PASS) as served:
            monkeypatch.setattr(served.guard, "aask", fail)
            assert served.chat().status_code == 500
            assert served.client.get(f"/{WORD}?q={WORD}").status_code == 404
        seen = known.everything
    assert [span.name for span in known.spans] == ["POST /v1/chat/completions", "GET (none)"]
    assert sum(count for _, count in known.points("http.server.request.duration")) == 2
    assert WORD not in seen


def test_metrics_need_a_key_of_their_role(registry):
    file = KeyFile(keys=[KeyEntry(name="p", key=KEY, role="metrics"), KeyEntry(name="app", key=CLIENTS)])
    with recorded(), serving(PASS, keys=ApiKeys(file), metrics=registry) as served:
        get = served.client.get
        shown = [{}, *({"authorization": f"Bearer {key}"} for key in (CLIENTS, KEY))]
        statuses = [get("/metrics", headers=headers).status_code for headers in shown]
    assert statuses == [401, 403, 200]


def test_without_telemetry_the_route_says_how_to_have_it():
    with serving(PASS) as served:
        response = served.client.get("/metrics")
    assert response.status_code == 404
    assert 'pip install "guardrail-llm[telemetry]"' in response.json()["error"]["message"]


DEPLOY = Path(__file__).parents[2] / "deploy"
# Of Prometheus itself, and of every histogram.
GIVEN = {"job", "instance", "le"}


def expressions():
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    alerts = yaml.safe_load((DEPLOY / "alerts.yml").read_text())
    told = [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    return [one for one in [*shown, *told] if not one.startswith("up{")]


def test_the_dashboard_and_the_alerts_go_by_what_the_server_tells(registry, tmp_path):
    write_profile(profile_of(intercept=1.0), tmp_path / "p.json")
    with (
        recorded(PrometheusMetricReader(registry=registry, scope_info_enabled=False)),
        serving(guard=guard_of(ABSTAIN, profile=tmp_path / "p.json"), metrics=registry) as served,
    ):
        assert served.chat().json()["guardrail"]["confidence"] is not None
        assert served.chat(messages=[{"role": "user", "content": ""}]).status_code == 400
        known = samples(served.client.get("/metrics").text)
    names = {name for name, _ in known}
    labels = {label for _, has in known for label, _ in has} | GIVEN
    assert len(expressions()) > 15
    for one in expressions():
        used = re.findall(r"\b((?:guardrail|gen_ai|http)_\w+)\{?[^}\s]*\}?(?=[\[)\s{]|$)", one)
        metrics = [name for name in used if name not in labels]
        assert metrics, one
        assert set(metrics) <= names, one
        groups = re.findall(r"by \(([^)]*)\)", one)
        asked = [label.strip() for group in groups for label in group.split(",")]
        asked += re.findall(r"[{,](\w+)=", one)
        assert set(asked) <= labels, one
