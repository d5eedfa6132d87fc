"""Providers for a process of our own, such as the server's: exporters by OTEL_… variables, and Prometheus."""

import os
from typing import TYPE_CHECKING, Final

from guardrail import __version__
from guardrail.errors import OptionError
from guardrail.telemetry.providers import check_installed

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["set_up_telemetry"]

_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
_SIGNALS = ("TRACES", "METRICS", "LOGS")
_PROTOCOL = "http/protobuf"
_PACKAGES = (
    "opentelemetry.sdk.trace",
    "opentelemetry.exporter.otlp.proto.http",
    "opentelemetry.exporter.prometheus",
)


def _has_endpoint() -> bool:
    """Whether the environment says where telemetry is to be sent."""
    return any(map(_is_sent, _SIGNALS))


def _is_sent(signal: str) -> bool:
    own = f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"
    return _exporter(signal) == "otlp" and bool(os.environ.get(own) or os.environ.get(_ENDPOINT))


def _exporter(signal: str) -> str:
    return os.environ.get(f"OTEL_{signal}_EXPORTER", "").strip().lower() or "otlp"


def set_up_telemetry(*, required: bool | None = None) -> "CollectorRegistry | None":
    """Set the providers of this process: spans, events and metrics go where the environment says.

    The variables are those of OpenTelemetry: ``OTEL_EXPORTER_OTLP_ENDPOINT`` and the like,
    ``OTEL_SERVICE_NAME``, ``OTEL_TRACES_SAMPLER``, ``OTEL_SDK_DISABLED``. Prometheus can read the metrics,
    endpoint or not.

    Args:
        required: Whether it was asked for; False for none at all; None for what is installed, unless the
            environment names an endpoint.

    Returns:
        What Prometheus reads; None where there is no telemetry.

    Raises:
        MissingDependencyError: It was asked for, and the extra ``telemetry`` is not installed.
        OptionError: A variable asks for what cannot be followed.
    """
    if required is False:
        return None
    try:
        check_installed("Telemetry", *_PACKAGES)
    except ImportError:
        if required or _has_endpoint():
            raise
        return None
    _check_environment()
    return _set_providers()


def _check_environment() -> None:
    for name in ("OTEL_EXPORTER_OTLP_PROTOCOL", *(f"OTEL_EXPORTER_OTLP_{one}_PROTOCOL" for one in _SIGNALS)):
        given = os.environ.get(name) or _PROTOCOL
        if given != _PROTOCOL and _has_endpoint():
            raise OptionError(f"{name} is {given!r}; telemetry is sent by {_PROTOCOL} alone. Unset it.")
    for signal in _SIGNALS:
        known = ["otlp", "none", *(["prometheus"] if signal == "METRICS" else [])]
        given = _exporter(signal)
        if given not in known:
            raise OptionError(f"OTEL_{signal}_EXPORTER is {given!r}; it can be {', '.join(known)}.")


def _set_providers() -> "CollectorRegistry":
    from opentelemetry import _logs, metrics, trace
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from prometheus_client import CollectorRegistry

    given = {"service.version": __version__}
    if not os.environ.get("OTEL_SERVICE_NAME"):
        given["service.name"] = "guardrail"
    resource = Resource.create(given)
    registry = CollectorRegistry()
    readers: list[MetricReader] = [PrometheusMetricReader(registry=registry, scope_info_enabled=False)]
    if _is_sent("METRICS"):
        readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
    metrics.set_meter_provider(MeterProvider(readers, resource=resource))
    if _is_sent("TRACES"):
        tracer_provider = TracerProvider(resource=resource)
        tracer_provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(tracer_provider)
    if _is_sent("LOGS"):
        logger_provider = LoggerProvider(resource=resource)
        logger_provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
        _logs.set_logger_provider(logger_provider)
    return registry
