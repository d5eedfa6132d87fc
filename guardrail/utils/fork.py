"""What a process that was forked off does not have: other threads, and locks that these would give back."""

import os
import threading
from types import TracebackType
from typing import Protocol, Self
from weakref import WeakSet

__all__ = ["ForkSafeLock", "Renewed", "renew_after_fork"]


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
