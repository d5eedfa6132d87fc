"""Reading files that somebody else named: regular ones only, and no more of them than is asked for.

A name in a configuration may lead to a device that never ends, to a pipe that nobody writes to, or to a file
that fills the memory. None of them is waited for, and none but a regular file is ever opened.
"""

import errno
import os
import stat
from pathlib import Path

__all__ = ["check_regular", "read_regular"]

_KINDS = (
    (stat.S_ISDIR, "folder"),
    (stat.S_ISCHR, "device"),
    (stat.S_ISBLK, "device"),
    (stat.S_ISFIFO, "pipe"),
    (stat.S_ISSOCK, "socket"),
)
_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
_CHUNK = 1 << 20


def read_regular(path: Path, most_bytes: int) -> bytes:
    """All of a regular file.

    Args:
        path: The file; a link counts as what it leads to.
        most_bytes: How large it may be.

    Raises:
        OSError: There is none, it is something else, it is larger, or it cannot be read; ``strerror`` says
            which.
        ValueError: The path is none.
    """
    # Opening a device may already do something, and opening a pipe lets whoever writes to it go on.
    _check(path, path.stat(), most_bytes)
    descriptor = os.open(path, _FLAGS)
    try:
        # It may be another one by now.
        _check(path, os.fstat(descriptor), most_bytes)
        parts, left = [], most_bytes + 1
        # What the system makes up as it is read says that it has no size.
        while left and (part := os.read(descriptor, min(left, _CHUNK))):
            parts.append(part)
            left -= len(part)
    finally:
        os.close(descriptor)
    if not left:
        raise _too_large(path, most_bytes)
    return b"".join(parts)


def check_regular(path: Path) -> None:
    """Refuse a place where something else than a regular file is; one where nothing is yet will do.

    Raises:
        OSError: It is something else; ``strerror`` says what.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return
    _check(path, found)


def _check(path: Path, found: os.stat_result, most_bytes: int | None = None) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for is_one, name in _KINDS if is_one(found.st_mode)), "special file")
        number = errno.EISDIR if kind == "folder" else errno.EINVAL
        raise OSError(number, f"it is a {kind}, and a regular file is expected", str(path))
    if most_bytes is not None and found.st_size > most_bytes:
        raise _too_large(path, most_bytes)


def _too_large(path: Path, most_bytes: int) -> OSError:
    return OSError(errno.EFBIG, f"it is larger than {most_bytes:,} bytes", str(path))
