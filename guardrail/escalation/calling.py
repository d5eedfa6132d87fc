"""Calling what is not ours: in a thread of its own, for no longer than it may take."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextvars import copy_context
from threading import Thread
from typing import TypeVar

__all__ = ["call_within", "in_thread", "wait_within"]

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
