"""Telling the caller how far a long step has come, without knowing who is watching."""

import threading
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

__all__ = ["ProgressCallback", "in_background", "report"]


Result = TypeVar("Result")


class ProgressCallback(Protocol):
    """What a caller passes to be told about progress. It is always called from the caller's own thread."""

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Take note of how far it is.

        Args:
            stage: What is being done, in words; a new text means that a new stage began.
            done: How much of this stage is done, in bytes for a download and in steps otherwise.
            total: How much there is to do in the same unit; None where that is not known.
        """


def report(progress: ProgressCallback | None, stage: str, done: int = 0, total: int | None = None) -> None:
    """Call ``progress``, where there is one."""
    if progress is not None:
        progress(stage, done, total)


def in_background(
    job: Callable[[], Result],
    *,
    tick: Callable[[], None] | None = None,
    seconds_between_ticks: float = 0.25,
    deadline_seconds: float | None = None,
) -> Result:
    """Run ``job`` on a daemon thread, calling ``tick`` from this one, and return or raise what it did.

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
