"""Progress of long steps, reported to a callback of the caller."""

import threading
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

__all__ = ["ProgressCallback", "in_background", "report"]


Result = TypeVar("Result")


class ProgressCallback(Protocol):
    """A callback that is told about progress, always on the thread of the caller that passed it."""

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Receive a report.

        Args:
            stage: What is being done, in words; a new text means that a new stage has begun.
            done: How much of this stage is done: bytes of a download, steps otherwise.
            total: How much there is in all, in the same unit; None if unknown.
        """


def report(progress: ProgressCallback | None, stage: str, done: int = 0, total: int | None = None) -> None:
    """Call ``progress`` if it is not None."""
    if progress is not None:
        progress(stage, done, total)


def in_background(
    job: Callable[[], Result],
    *,
    tick: Callable[[], None] | None = None,
    seconds_between_ticks: float = 0.25,
    deadline_seconds: float | None = None,
) -> Result:
    """Run ``job`` on a daemon thread, calling ``tick`` on this one; return its result or raise its error.

    Raises:
        TimeoutError: The deadline passed; the job is left behind on its thread.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(job())
        except BaseException as error:  # noqa: BLE001  (raised again below, on the caller's thread)
            errors.append(error)

    thread = threading.Thread(target=run, name="guardrail-models", daemon=True)
    thread.start()
    started = time.monotonic()
    while thread.is_alive():
        left = float("inf")
        if deadline_seconds is not None:
            left = deadline_seconds - (time.monotonic() - started)
            if left <= 0:
                raise TimeoutError(f"no answer within {deadline_seconds:g} seconds")
        thread.join(min(seconds_between_ticks, left))
        if tick is not None:
            tick()
    if errors:
        raise errors[0]
    return results[0]
