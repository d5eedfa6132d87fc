"""An end to code that is somebody else's and may go on for ever, such as a chat template's loops."""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["TimeLimitReached", "time_limit"]


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
