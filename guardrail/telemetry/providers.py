"""The providers that things are recorded by: those of the process, or those that an app names."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

from guardrail import __version__
from guardrail.errors import MissingDependencyError
from guardrail.utils.threads import ForkSafeLock

if TYPE_CHECKING:
    from opentelemetry._logs import Logger, LoggerProvider
    from opentelemetry.context import Context
    from opentelemetry.metrics import Meter, MeterProvider
    from opentelemetry.trace import Span, Tracer, TracerProvider

__all__ = ["Signals", "check_installed", "safely", "signals", "use_providers", "within"]

LOGGER = logging.getLogger(__name__)
T = TypeVar("T")
P = ParamSpec("P")

_SCOPE = "guardrail"
_API = ("opentelemetry.trace", "opentelemetry.metrics", "opentelemetry._logs", "opentelemetry.context")


class Signals(NamedTuple):
    """What is recorded by.

    Attributes:
        tracer: Makes spans.
        meter: Makes instruments.
        logger: Takes events.
    """

    tracer: "Tracer"
    meter: "Meter"
    logger: "Logger"


class _State:
    """What this process records by. There is one."""

    def __init__(self) -> None:
        self.lock = ForkSafeLock()
        self.signals: Signals | None = None
        self.has_told = False


_STATE = _State()


def signals() -> Signals | None:
    """What to record by; None while there can be no provider: nobody has imported OpenTelemetry's API."""
    if _STATE.signals is None and any(name in sys.modules for name in _API[:3]):
        with _STATE.lock:
            if _STATE.signals is None:
                # A provider that is set later is found by what the API gives until then.
                _STATE.signals = safely(_signals, None, None, None)
    return _STATE.signals


def use_providers(
    *,
    tracer_provider: "TracerProvider | None" = None,
    meter_provider: "MeterProvider | None" = None,
    logger_provider: "LoggerProvider | None" = None,
) -> None:
    """Record by these providers, from now on and for all guards of the process.

    That is needed only where an app has providers that are not those of the process, as for a tracer of
    Langfuse or Phoenix that shall have nothing else.

    Args:
        tracer_provider: Of spans; that of the process (``trace.set_tracer_provider``) if not given.
        meter_provider: Of metrics; likewise.
        logger_provider: Of events; likewise.

    Raises:
        MissingDependencyError: The extra ``telemetry`` is not installed.
    """
    check_installed("Recording by providers of OpenTelemetry")
    with _STATE.lock:
        _STATE.signals = _signals(tracer_provider, meter_provider, logger_provider)
        _STATE.has_told = False


def _signals(
    tracer_provider: "TracerProvider | None",
    meter_provider: "MeterProvider | None",
    logger_provider: "LoggerProvider | None",
) -> Signals:
    trace, metrics, logs, _ = map(import_module, _API)
    tracers = tracer_provider or trace
    meters = meter_provider or metrics
    loggers = logger_provider or logs
    return Signals(
        tracers.get_tracer(_SCOPE, __version__),
        meters.get_meter(_SCOPE, __version__),
        loggers.get_logger(_SCOPE, __version__),
    )


def check_installed(what: str, *packages: str) -> None:
    """Make sure that what was asked for can be had.

    Args:
        what: What needs it, as the beginning of a sentence.
        packages: Modules that are needed beside OpenTelemetry's API.

    Raises:
        MissingDependencyError: A package is missing.
    """
    needed = ("opentelemetry.trace", *packages)
    if missing := [name for name in needed if not _is_there(name)]:
        listed = ", ".join(missing)
        raise MissingDependencyError(f'{what} needs {listed}: pip install "guardrail-llm[telemetry]"')


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def safely(record: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """Record something. What fails in it is logged, the first time, by its type, and changes nothing else.

    Args:
        record: Records it.
        *args: Its arguments.
        **kwargs: Likewise.
    """
    try:
        return record(*args, **kwargs)
    except Exception as error:  # noqa: BLE001  (telemetry must never touch an answer)
        if not _STATE.has_told:
            _STATE.has_told = True
            # Not its message, which may hold what was to be recorded.
            LOGGER.warning("telemetry fails (%s); answers go on without it", type(error).__name__)
        return None


@contextmanager
def within(span: "Span | None") -> "Iterator[None]":
    """Make a span the current one, so that what others record in the block is below it.

    Args:
        span: The span; None for none.
    """
    if span is None:
        yield
        return
    token = safely(_attached, span)
    try:
        yield
    finally:
        if token is not None:
            safely(_detach, token)


def _attached(span: "Span") -> Any:
    return import_module("opentelemetry.context").attach(below(span))


def _detach(token: Any) -> None:
    import_module("opentelemetry.context").detach(token)


def below(span: "Span") -> "Context":
    """A context whose current span is this one."""
    context: Context = import_module("opentelemetry.trace").set_span_in_context(span)
    return context
