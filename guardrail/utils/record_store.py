"""Files of JSON lines that a run appends to as its results come, and that an interrupted one goes on with."""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Generic, NamedTuple, Self, TypeVar

from filelock import FileLock, Timeout

from guardrail.errors import FileInUseError, GuardrailError, OptionError, RecordError
from guardrail.utils.files import check_destination, whole_file
from guardrail.utils.json_lines import as_json, json_value, split_lines

__all__ = ["RecordStore", "StoredRecords", "UnreadLine", "read_records"]

Record = TypeVar("Record")


class UnreadLine(NamedTuple):
    """A line that holds no record: its number, why, and what stands there."""

    number: int
    problem: RecordError
    text: str


class StoredRecords(NamedTuple, Generic[Record]):
    """What a file of records holds.

    Attributes:
        records: The records of its whole lines, in their order.
        problems: Each line that holds none.
        end: The byte behind the last whole line.
        last: The record behind that, whole but for the end of its line, as editors leave it.
        torn: What stands there otherwise: a run that was killed may have left half a line.
    """

    records: list[Record]
    problems: list["UnreadLine"]
    end: int
    last: Record | None
    torn: bytes


class RecordStore:
    """A file of records that one run at a time writes.

    Used as a context manager: within the block nobody else writes the file, and nothing of it is changed
    before the first record is. Each record is one write of a whole line; at the end they are on the disk.

    Args:
        path: The file.
        remedy: What to do where it holds something else, as a sentence.

    Raises:
        FileInUseError: Another run writes it.
        OptionError: It cannot be written.
    """

    def __init__(self, path: Path, remedy: str) -> None:
        self.path = path
        self._remedy = remedy
        real = Path(os.path.realpath(path))
        # Beside the file, not in it: where records are written anew, another file takes its name. It stays,
        # since who waits for a lock that is removed holds one that nobody else sees.
        self._lock = FileLock(real.with_name(f".{real.name}.lock"), timeout=0)
        self._file: BinaryIO | None = None
        self._end = 0
        self._lead = b""

    def records(
        self, parse: Callable[[str], Record], starts: Iterable[str] = (), *, by_hand: bool = False
    ) -> list[Record]:
        """The records that are there; those to come are appended to them, or replace them without this call.

        Args:
            parse: Reads a line; raises RecordError where it holds no record.
            starts: How records of this run may begin: where not one in the file is whole, half a line tells
                by that whether it is ours to cut off.
            by_hand: Whether people edit the file, so that a last line without its end is to be kept.

        Raises:
            RecordError: The file holds something else.
            OptionError: It cannot be read.
        """
        try:
            stored = read_records(self.path, parse)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise OptionError(f"{self.path} cannot be read: {error.strerror}.") from error
        for number, problem, _ in stored.problems:
            raise RecordError(f"Line {number} of {self.path} cannot be used: {problem} {self._remedy}")
        records, torn = stored.records, stored.torn
        ours = bool(records) or any(
            torn.startswith(start) or start.startswith(torn) for start in map(str.encode, starts)
        )
        if torn and not ours:
            raise RecordError(f"The end of {self.path} is none of its records. {self._remedy}")
        self._end, self._lead = stored.end, b""
        if by_hand and stored.last is not None:
            self._end, self._lead = self.path.stat().st_size, b"\n"
            return [*records, stored.last]
        return records

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record; when this returns, it is there, whatever happens to this process.

        Raises:
            OptionError: The file cannot be written.
            GuardrailError: The disk is full, or gone. No half of the line is left.
        """
        line = self._lead + as_json(record).encode() + b"\n"
        file = self._file or self._opened()
        try:
            if file.write(line) != len(line):
                raise GuardrailError(f"{self.path} cannot be written: it took part of a line only.")
        except OSError as error:
            raise GuardrailError(f"{self.path} cannot be written: {error.strerror}.") from error
        finally:
            # Behind half a line nobody could go on.
            with suppress(OSError):
                if file.tell() not in (self._end, self._end + len(line)):
                    file.truncate(self._end)
                    file.seek(self._end)
        self._end += len(line)
        self._lead = b""

    def rewrite(self, records: Iterable[Mapping[str, Any]], unread: Iterable[str] = ()) -> None:
        """Write all records anew, whole or not at all; those to come are appended to them.

        Args:
            records: They.
            unread: Lines that hold none, and are to stay behind them as they are.

        Raises:
            OptionError: The file cannot be written.
        """
        with whole_file(self.path) as file:
            for line in chain(map(as_json, records), unread):
                file.write(f"{line}\n".encode("utf-8", "surrogateescape"))
            end = file.tell()
        self._close()
        self._end, self._lead = end, b""

    def __enter__(self) -> Self:
        check_destination(self.path)
        try:
            self._lock.acquire()
        except Timeout:
            raise FileInUseError(
                f"{self.path}: another run writes this file; wait until it has ended, or choose another file."
            ) from None
        except OSError as error:
            raise OptionError(f"{self.path} cannot be written: {error.strerror}.") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._close()
        finally:
            self._lock.release()

    def _opened(self) -> BinaryIO:
        try:
            if self.path.exists() and not self.path.is_file():
                raise OptionError(f"{self.path} is no file that can be gone on with: name another one.")
            self._file = self.path.open("r+b" if self.path.exists() else "x+b", buffering=0)
            self._file.truncate(self._end)
            self._file.seek(self._end)
        except OSError as error:
            raise OptionError(f"{self.path} cannot be written: {error.strerror}.") from error
        return self._file

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            os.fsync(file.fileno())
        except OSError as error:
            raise GuardrailError(f"{self.path} cannot be written: {error.strerror}.") from error
        finally:
            file.close()


def read_records(path: Path, parse: Callable[[str], Record]) -> StoredRecords[Record]:
    """Read a file of records, whoever writes it at the time. What cannot be used of it is told, not raised.

    Args:
        path: The file.
        parse: Reads a line; raises RecordError where it holds no record.

    Raises:
        OSError: It cannot be read.
    """
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    records: list[Record] = []
    problems: list[UnreadLine] = []
    for number, line in enumerate(split_lines(data[:end]) if end else (), start=1):
        if not line.strip():
            continue
        try:
            records.append(parse(line))
        except RecordError as problem:
            problems.append(UnreadLine(number, problem, line))
    torn = data[end:] if data[end:].strip() else b""
    last: Record | None = None
    with suppress(RecordError):
        if torn:
            (line,) = split_lines(torn)
            json_value(line)
            last = parse(line)
    return StoredRecords(records, problems, end, last, torn)
