"""What telemetry records, kept in memory."""

from contextlib import contextmanager

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from guardrail.telemetry.providers import use_providers


class Recorded:
    """Providers of all signals, and what they recorded."""

    def __init__(self, *readers):
        self._spans, self._events = InMemorySpanExporter(), InMemoryLogRecordExporter()
        self._reader = InMemoryMetricReader()
        self.tracer_provider = TracerProvider(shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meter_provider = MeterProvider([self._reader, *readers], shutdown_on_exit=False)
        self.logger_provider = LoggerProvider(shutdown_on_exit=False)
        self.logger_provider.add_log_record_processor(SimpleLogRecordProcessor(self._events))

    @property
    def spans(self):
        return self._spans.get_finished_spans()

    def named(self, start):
        return [span for span in self.spans if span.name.startswith(start)]

    @property
    def answer(self):
        """The span of the only answer."""
        (span,) = [*self.named("chat "), *self.named("judge ")]
        return span

    def below(self, span):
        return [one for one in self.spans if one.parent and one.parent.span_id == span.context.span_id]

    @property
    def events(self):
        return [data.log_record for data in self._events.get_finished_logs()]

    def points(self, name):
        """The points of a metric, each as its attributes and its value, or how many values it has."""
        data = self._reader.get_metrics_data()
        return [
            (dict(point.attributes), point.value if hasattr(point, "value") else point.count)
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    @property
    def everything(self):
        """All that was recorded, as JSON."""
        data = self._reader.get_metrics_data()
        told = [*(span.to_json() for span in self.spans), *(event.to_json() for event in self._logs())]
        return "\n".join([*told, data.to_json() if data else ""])

    def _logs(self):
        return self._events.get_finished_logs()

    def close(self):
        for provider in (self.tracer_provider, self.meter_provider, self.logger_provider):
            provider.shutdown()


@contextmanager
def recorded(*readers, **replaced):
    """Record in memory; ``replaced`` are providers in place of those."""
    known = Recorded(*readers)
    names = ("tracer_provider", "meter_provider", "logger_provider")
    use_providers(**{**{name: getattr(known, name) for name in names}, **replaced})
    try:
        yield known
    finally:
        use_providers()
        known.close()
