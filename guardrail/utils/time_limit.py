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
        yield
    finally:
        with lock:
            state["over"] = True
            if state["raised"]:
                # It may have been raised already, or be about to be, behind the block.
                _raise_in(thread, None)
        timer.cancel()
    if state["raised"]:
        raise TimeLimitReached


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    wanted = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), wanted)
