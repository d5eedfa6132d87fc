"""Keys that clients show: kept as hashes, compared in constant time, read again where their file changes."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path

from guardrail.errors import OptionError
from guardrail.server.http_errors import ApiError
from guardrail.server.json_logging import LOGGER
from guardrail.server.key_file import KeyEntry, KeyFile, KeyLimits, Role, Sight, read_key_file

__all__ = ["CALLER", "NOBODY", "ApiKeys", "Caller"]

# Seconds within which a key that was taken out of the file is refused.
_LOOK_EVERY = 1.0
_WINDOW_S = 60.0


@dataclass(slots=True)
class _Use:
    """What one key uses now."""

    inside: int = 0
    began: deque[float] = field(default_factory=deque)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request, as far as their key says it.

    Attributes:
        name: Name of the key; None without one.
        role: What they may do.
        policies: Names of the policies that they may use; None for any.
        tags: What the policy's rules are told.
        sight: What they see of a verdict.
        limits: What they may use.
        policy: The policy that the request names; None where it names none.
    """

    name: str | None = None
    role: Role = "client"
    policies: tuple[str, ...] | None = None
    tags: tuple[str, ...] = ()
    sight: Sight = "full"
    limits: KeyLimits = field(default_factory=KeyLimits)
    policy: str | None = None
    _use: _Use = field(default_factory=_Use, repr=False)

    def enter(self) -> None:
        """Count a request; each that entered leaves.

        Raises:
            ApiError: It is one too many for this key.
        """
        most, now = self.limits, time.monotonic()
        while self._use.began and self._use.began[0] <= now - _WINDOW_S:
            self._use.began.popleft()
        if most.max_waiting is not None and self._use.inside >= most.max_waiting:
            raise _too_many(f"{most.max_waiting} requests of this key run and wait", 1)
        if most.requests_per_minute is not None:
            if len(self._use.began) >= most.requests_per_minute:
                wait = self._use.began[0] + _WINDOW_S - now
                raise _too_many(
                    f"This key had {most.requests_per_minute} requests in a minute", int(wait) + 1
                )
            self._use.began.append(now)
        self._use.inside += 1

    def leave(self) -> None:
        """Take note that a request is done."""
        self._use.inside -= 1

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count a request while it is served; errors are those of :meth:`enter`."""
        self.enter()
        try:
            yield
        finally:
            self.leave()


# Where there are no keys.
NOBODY = Caller()
# Whose request it is that is being served; set before any route is asked, and not known elsewhere.
CALLER: ContextVar[Caller] = ContextVar("guardrail_caller")


class ApiKeys:
    """The keys that are let in. None of them is kept as it was read.

    Args:
        file: What is known of them.
        path: Where that was read, to be read again when it changes; None where it is not a file.
    """

    def __init__(self, file: KeyFile, path: Path | None = None) -> None:
        self._path = path
        self._seen = _stamp(path)
        self._looked = time.monotonic()
        self.policies = dict(file.policies)
        self._served: list[str] | None = None
        self._callers: list[tuple[bytes, Caller]] = []
        self._take(file)

    @classmethod
    def from_file(cls, path: Path) -> "ApiKeys":
        """Read a file of keys; see :func:`~guardrail.server.key_file.read_key_file`.

        Raises:
            OptionError: As there.
        """
        path = path.absolute()
        return cls(read_key_file(path), path)

    def check_policies(self, served: list[str]) -> None:
        """See that keys name policies that are served.

        Raises:
            OptionError: One does not.
        """
        for _, caller in self._callers:
            _check(caller.policies, served)
        self._served = served

    def caller(self, authorization: bytes | None) -> Caller | None:
        """Who shows a key, by the value of an ``Authorization`` header; None for nobody who is known.

        Args:
            authorization: The header as it was sent; None where there was none.
        """
        self._look()
        scheme, _, key = (authorization or b"").partition(b" ")
        digest = sha256(key.strip()).digest()
        # All of them, so that how long it takes does not tell which one it was.
        found = [caller for known, caller in self._callers if compare_digest(digest, known)]
        return found[0] if found and scheme.lower() == b"bearer" else None

    def _look(self) -> None:
        """Read the file again if it changed; one that cannot be used leaves the keys as they are."""
        now = time.monotonic()
        if self._path is None or now - self._looked < _LOOK_EVERY:
            return
        self._looked, stamp = now, _stamp(self._path)
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            file = read_key_file(self._path)
            if file.policies != self.policies:
                raise OptionError("Its policies changed, which are opened when the server starts.")
            for entry in file.keys:
                _check(entry.policies, self._served)
        except OptionError as error:
            LOGGER.error("the file of keys cannot be used; the keys stay as they were: %s", error)
            return
        self._take(file)
        LOGGER.info("the file of keys was read again", extra={"facts": {"keys": len(file.keys)}})

    def _take(self, file: KeyFile) -> None:
        before = {caller.name: caller._use for _, caller in self._callers}
        self._callers = [(entry.digest, _caller(entry, before.get(entry.name))) for entry in file.keys]


def _caller(entry: KeyEntry, use: _Use | None) -> Caller:
    return Caller(
        name=entry.name,
        role=entry.role,
        policies=None if entry.policies is None else tuple(entry.policies),
        tags=tuple(entry.tags),
        sight=entry.verdict,
        limits=entry.limits,
        _use=use or _Use(),
    )


def _check(policies: list[str] | tuple[str, ...] | None, served: list[str] | None) -> None:
    unknown = [] if served is None else [name for name in policies or () if name not in served]
    if unknown:
        raise OptionError(f"A key names the policy {unknown[0]!r}; served are {', '.join(served or ())}.")


def _stamp(path: Path | None) -> tuple[int, ...]:
    try:
        found = path.stat() if path is not None else None
    except OSError:
        return ()
    return () if found is None else (found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode)


def _too_many(words: str, wait: int) -> ApiError:
    return ApiError(
        429,
        f"{words}, as many as it may have. Try again later.",
        kind="rate_limit_error",
        code="rate_limit_exceeded",
        headers={"retry-after": str(wait)},
    )
