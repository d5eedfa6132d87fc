"""Threads, forks and time limits around code that is not ours."""

import asyncio
import ctypes
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import copy_context
from threading import Thread
from types import TracebackType
from typing import Protocol, Self, TypeVar
from weakref import WeakSet

__all__ = [
    "ForkSafeLock",
    "Renewed",
    "TimeLimitReached",
    "call_within",
    "in_thread",
    "renew_after_fork",
    "time_limit",
    "wait_within",
]


class Renewed(Protocol):
    """What holds something that a forked process has to have anew."""

    def renew_after_fork(self) -> None:
        """Have it anew. Called in the forked process, before anything else of this library runs there."""


_to_renew: "WeakSet[Renewed]" = WeakSet()


def renew_after_fork(one: Renewed) -> None:
    """Have something renewed in every process that is forked off while it lives."""
    _to_renew.add(one)


def _renew_all() -> None:
    for one in list(_to_renew):
        one.renew_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)


class ForkSafeLock:
    """A lock that is free in a forked process, whoever held it. A copy, or what is unpickled, is another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """Be free: whoever held it is not in this process."""
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
    """The time is up. Raised in the thread that ran too long, wherever it is in its Python code."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Stop the block, if it runs Python code for longer than this.

    It is stopped between two steps of Python, in whatever thread it runs; a single step, such as the product
    of two huge numbers, is not.

    Args:
        seconds: How long it may run.

    Raises:
        TimeLimitReached: It ran longer.
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
    """Run Python code until what another thread raised in this one has come.

    Taking it back would leave the interpreter looking for it for ever: CPython 3.11, where it is traced (by a
    debugger, by coverage), then runs the same instruction again and again.
    """
    for _ in range(100):
        threading.get_ident()


def _raise_in(thread: int, error: type[BaseException]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))


T = TypeVar("T")


def in_thread(call: Callable[[], T]) -> "Future[T]":
    """Run a call in a thread that no exit of the interpreter waits for, with the caller's context variables.

    Not an executor: targets that hang would take up its threads one after the other.
    """
    future: Future[T] = Future()
    # From here on nobody can cancel it, and the thread always has somebody to tell.
    future.set_running_or_notify_cancel()
    context = copy_context()

    def run() -> None:
        try:
            future.set_result(context.run(call))
        except BaseException as error:  # noqa: BLE001  (raised where the result is asked for)
            future.set_exception(error)

    Thread(target=run, daemon=True, name="guardrail-escalation").start()
    return future


def call_within(seconds: float, call: Callable[[], T]) -> T:
    """Give the result of a call, or stop waiting for it; a thread cannot be stopped, and its result is lost.

    Raises:
        TimeoutError: It took too long.
    """
    return in_thread(call).result(timeout=seconds)


async def wait_within(seconds: float, awaitable: Awaitable[T]) -> T:
    """The same for a coroutine, which is cancelled.

    Raises:
        TimeoutError: It took too long.
    """
    async with asyncio.timeout(seconds):
        return await awaitable
