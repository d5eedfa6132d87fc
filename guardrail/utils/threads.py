"""Threads, forks and time limits for code that is not ours, and the progress that long steps report."""

import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from threading import Thread
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TypeVar
from weakref import WeakSet

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = [
    "ForkSafeLock",
    "ProgressCallback",
    "Renewed",
    "TimeLimitReached",
    "call_within",
    "in_background",
    "in_thread",
    "renew_after_fork",
    "report",
    "time_limit",
    "wait_within",
]


class Renewed(Protocol):
    """An object with state that a forked process must create afresh."""

    def renew_after_fork(self) -> None:
        """Create the state afresh. Called in the forked process before anything else of this library."""


_to_renew: WeakSet[Renewed] = WeakSet()


def renew_after_fork(one: Renewed) -> None:
    """Have an object renewed in every process forked during its lifetime."""
    _to_renew.add(one)


def _renew_all() -> None:
    for one in list(_to_renew):
        one.renew_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)


class ForkSafeLock:
    """A lock that is free in a forked process, whoever held it. A copied or unpickled lock is a new one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """Become free: the holder does not exist in this process."""
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._lock.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type["ForkSafeLock"], tuple[()]]:
        return (type(self), ())


class TimeLimitReached(BaseException):
    """The time limit was exceeded. Raised in the thread that ran too long, anywhere in its Python code."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Stop the block if it runs Python code for longer than this.

    It is stopped between two Python instructions, in whatever thread it runs. A single long instruction, such
    as the product of two huge numbers, is not interrupted.

    Args:
        seconds: The time limit.

    Raises:
        TimeLimitReached: The block ran longer.
    """
    thread = threading.get_ident()
    lock, state = threading.Lock(), {"over": False, "raised": False}

    def stop() -> None:
        with lock:
            if not state["over"]:
                state["raised"] = True
                _raise_in(thread, TimeLimitReached)

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        try:
            yield
        finally:
            with lock:
                state["over"] = True
            if state["raised"]:
                _wait_for_what_is_raised()
            else:
                timer.cancel()
    except TimeLimitReached:
        if not state["raised"]:  # a limit around this one
            raise
    if state["raised"]:
        raise TimeLimitReached


def _wait_for_what_is_raised() -> None:
    """Run Python code until an exception raised by another thread has arrived.

    Taking it back instead would make CPython 3.11 loop for ever under tracing (by a debugger or coverage): it
    would repeat the same instruction.
    """
    for _ in range(100):
        threading.get_ident()


def _raise_in(thread: int, error: type[BaseException]) -> None:
    # Imported late, as asyncio and futures are below: a check of a policy needs none of them.
    import ctypes

    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))


T = TypeVar("T")


def in_thread(call: Callable[[], T]) -> "Future[T]":
    """Run a call in a daemon thread with the caller's context variables.

    Not in an executor: hanging targets would use up its threads.
    """
    from concurrent.futures import Future

    future: Future[T] = Future()
    # From here on it cannot be cancelled, so the result can always be set.
    future.set_running_or_notify_cancel()
    context = copy_context()

    def run() -> None:
        try:
            future.set_result(context.run(call))
        except BaseException as error:  # noqa: BLE001  (raised where the result is requested)
            future.set_exception(error)

    Thread(target=run, daemon=True, name="guardrail-escalation").start()
    return future


def call_within(seconds: float, call: Callable[[], T]) -> T:
    """Return the result of a call, or stop waiting for it. The thread goes on, and its result is lost.

    Raises:
        TimeoutError: The call took too long.
    """
    return in_thread(call).result(timeout=seconds)


async def wait_within(seconds: float, awaitable: Awaitable[T]) -> T:
    """Like :func:`call_within` for a coroutine, which is cancelled.

    Raises:
        TimeoutError: The coroutine took too long.
    """
    import asyncio

    async with asyncio.timeout(seconds):
        return await awaitable


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
