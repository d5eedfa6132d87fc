"""Careful reading and atomic, durable writing of files."""

import errno
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from guardrail.errors import GuardrailError, OptionError

__all__ = [
    "check_destination",
    "check_regular",
    "publish_folder",
    "read_regular",
    "whole_file",
    "write_whole",
]


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
    """Read a regular file completely.

    Args:
        path: The file; links are followed.
        most_bytes: Maximum size.

    Raises:
        OSError: It does not exist, is not a regular file, is too large, or cannot be read; ``strerror`` says
            which.
        ValueError: The path is invalid.
    """
    # Opening a device may have effects, and opening a pipe unblocks its writer.
    _check(path, path.stat(), most_bytes)
    descriptor = os.open(path, _FLAGS)
    try:
        # The file may have been replaced since.
        _check(path, os.fstat(descriptor), most_bytes)
        parts, left = [], most_bytes + 1
        # Virtual files report size 0, so the number of bytes is limited here too.
        while left and (part := os.read(descriptor, min(left, _CHUNK))):
            parts.append(part)
            left -= len(part)
    finally:
        os.close(descriptor)
    if not left:
        raise _too_large(path, most_bytes)
    return b"".join(parts)


def check_regular(path: Path) -> None:
    """Refuse a path that exists and is not a regular file.

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
        raise OSError(number, f"it is a {kind}, not a regular file", str(path))
    if most_bytes is not None and found.st_size > most_bytes:
        raise _too_large(path, most_bytes)


def _too_large(path: Path, most_bytes: int) -> OSError:
    return OSError(errno.EFBIG, f"it is larger than {most_bytes:,} bytes", str(path))


def check_destination(path: Path, source: Path | None = None) -> None:
    """Check that a results file can be written, before a model is loaded.

    Raises:
        OptionError: It is the input, a folder, or in a folder that does not exist.
    """
    if source is not None and path.exists() and path.samefile(source):
        raise OptionError(f"{path} is the input file: choose another one for the results.")
    if path.is_dir():
        raise OptionError(f"{path} is a folder: name a file for the results.")
    if not path.parent.is_dir():
        raise OptionError(f"There is no folder {path.parent} to write {path.name} into.")


def write_whole(path: Path, content: str | bytes, refused: type[GuardrailError] = OptionError) -> None:
    """Write a file atomically; see :func:`whole_file`.

    Text is written as UTF-8 with its line ends unchanged; undecodable bytes that were read are written back
    as they were.
    """
    with whole_file(path, refused) as file:
        file.write(content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content)


@contextmanager
def whole_file(path: Path, refused: type[GuardrailError] = OptionError) -> Iterator[BinaryIO]:
    """Open a file for writing that appears under its name only after the block has ended without an error.

    The new file is written beside it under a unique name, flushed to disk and renamed; then the folder is
    flushed, so that neither a crash nor a power cut leaves half a file. It keeps the previous file's mode. A
    link stays a link, and its target is replaced. A device or pipe is written to directly.

    Args:
        path: The file.
        refused: The error raised if it cannot be written.

    Yields:
        The file, open for bytes.
    """
    try:
        target = Path(os.path.realpath(path))
        before = target.stat() if target.exists() else None
        if before is not None and not stat.S_ISREG(before.st_mode):
            with target.open("wb") as file:
                yield file
            return
        part = target.with_name(f".guardrail-{secrets.token_hex(8)}.tmp")
        try:
            with part.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if before is not None:
                part.chmod(stat.S_IMODE(before.st_mode))
            part.replace(target)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise
        _sync_folder(target.parent)
    except OSError as error:
        raise refused(f"{path} cannot be written: {error.strerror}.") from error


def publish_folder(made: Path, target: Path) -> None:
    """Flush a folder's files to disk, then give the folder its final name.

    Args:
        made: The folder, on the same file system.
        target: The final name, not in use yet.

    Raises:
        OSError: It cannot be flushed or renamed.
    """
    for path in made.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
    for folder in (made, *(path for path in made.rglob("*") if path.is_dir())):
        _sync_folder(folder)
    made.rename(target)
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Flush the names in a folder to disk; not possible on Windows, nor needed."""
    if sys.platform == "win32":
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
