"""The instruments of guardrail's meter, and gauges that are read when somebody collects."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from guardrail.telemetry.providers import safely, signals
from guardrail.telemetry.semantic_conventions import (
    CONFIDENCE_BUCKETS,
    SECONDS_BUCKETS,
    SIZE_BUCKETS,
    TOKEN_BUCKETS,
    MetricName,
)
from guardrail.utils.threads import ForkSafeLock

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation, UpDownCounter

__all__ = ["Instruments", "Reading", "instruments", "observe"]

# A value of a gauge, with its attributes: few, and each of few values.
Reading = tuple[float, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Instruments:
    """What numbers are recorded with. No attribute of any is a text or the id of a request.

    Attributes:
        answers: Decided answers, by action, rule, whether it is enforced, and familiarity of the traffic.
        confidence: Confidences of answers that have one, 0 to 1, by action.
        duration: Seconds from a request until its answer is decided on and recorded.
        stages: Seconds of each stage.
        tokens: Tokens read and written.
        batch_size: Requests that were run together.
        errors: What failed, by type, whether an answer was withheld for it or the caller got the error.
        http_duration: Seconds of each request to the server, by route and status.
        http_active: Requests to the server that are not answered yet.
    """

    answers: "Counter"
    confidence: "Histogram"
    duration: "Histogram"
    stages: "Histogram"
    tokens: "Histogram"
    batch_size: "Histogram"
    errors: "Counter"
    http_duration: "Histogram"
    http_active: "UpDownCounter"


@dataclass(slots=True)
class _Gauge:
    unit: str
    description: str
    readers: "WeakKeyDictionary[Any, Callable[[Any], Iterable[Reading]]]"
    # Of its own: it is taken while the SDK holds one of its own, under which an instrument is made too.
    lock: ForkSafeLock


class _Made:
    """What was made by the meter that is in use. There is one."""

    def __init__(self) -> None:
        self.lock = ForkSafeLock()
        self.meter: Meter | None = None
        self.instruments: Instruments | None = None
        self.gauges: dict[str, _Gauge] = {}


_MADE = _Made()


def instruments() -> Instruments | None:
    """The instruments of the meter in use; None where nothing is recorded."""
    known = signals()
    if known is None:
        return None
    if _MADE.meter is not known.meter:
        with _MADE.lock:
            if _MADE.meter is not known.meter:
                # If it fails it is not tried again for this meter.
                _MADE.instruments = safely(_made, known.meter)
                _MADE.meter = known.meter
                for name in _MADE.gauges:
                    _make_gauge(known.meter, name)
    return _MADE.instruments


def observe(
    name: str,
    owner: Any,
    read: Callable[[Any], Iterable[Reading]],
    *,
    unit: str,
    description: str,
) -> None:
    """Have a gauge read something whenever somebody collects, as long as its owner lives.

    Readings of several owners with the same attributes are added up.

    Args:
        name: Of the gauge, such as ``guardrail.queue.requests``.
        owner: What is read; it is not kept alive.
        read: Gives the values, from any thread.
        unit: Of the values, such as ``{request}``.
        description: What it is, as a sentence.
    """
    with _MADE.lock:
        is_new = name not in _MADE.gauges
        gauge = _MADE.gauges.setdefault(name, _Gauge(unit, description, WeakKeyDictionary(), ForkSafeLock()))
        with gauge.lock:
            gauge.readers[owner] = read
        if is_new and _MADE.meter is not None:
            _make_gauge(_MADE.meter, name)


def _make_gauge(meter: "Meter", name: str) -> None:
    gauge = _MADE.gauges[name]

    def collected(_: "CallbackOptions") -> "list[Observation]":
        return safely(_read, gauge) or []

    def make() -> None:
        meter.create_observable_gauge(name, [collected], gauge.unit, gauge.description)

    safely(make)


def _read(gauge: _Gauge) -> "list[Observation]":
    from opentelemetry.metrics import Observation

    sums: dict[tuple[tuple[str, str], ...], float] = {}
    with gauge.lock:
        readers = [*gauge.readers.items()]
    for owner, read in readers:
        for value, attributes in read(owner):
            key = tuple(sorted(attributes.items()))
            sums[key] = sums.get(key, 0.0) + value
    return [Observation(value, dict(key)) for key, value in sums.items()]


def _made(meter: "Meter") -> Instruments:
    def histogram(name: str, unit: str, description: str, bounds: Iterable[float]) -> "Histogram":
        return meter.create_histogram(
            name, unit, description, explicit_bucket_boundaries_advisory=[*map(float, bounds)]
        )

    return Instruments(
        answers=meter.create_counter(MetricName.ANSWERS, "{answer}", "Answers that were decided on."),
        confidence=histogram(
            MetricName.CONFIDENCE,
            "1",
            "Probability of being correct of the answers that have one.",
            CONFIDENCE_BUCKETS,
        ),
        duration=histogram(
            MetricName.OPERATION_DURATION,
            "s",
            "Time from a request until its answer was decided on.",
            SECONDS_BUCKETS,
        ),
        stages=histogram(MetricName.STAGE_DURATION, "s", "Time of each stage of an answer.", SECONDS_BUCKETS),
        tokens=histogram(
            MetricName.TOKEN_USAGE, "{token}", "Tokens read and written for an answer.", TOKEN_BUCKETS
        ),
        batch_size=histogram(
            MetricName.BATCH_SIZE, "{request}", "Requests that were run together.", SIZE_BUCKETS
        ),
        errors=meter.create_counter(MetricName.ERRORS, "{error}", "What failed, by type."),
        http_duration=histogram(
            MetricName.HTTP_DURATION, "s", "Time of requests to the server.", SECONDS_BUCKETS
        ),
        http_active=meter.create_up_down_counter(
            MetricName.HTTP_ACTIVE, "{request}", "Requests to the server that are not answered yet."
        ),
    )
