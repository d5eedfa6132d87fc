"""Records in files: their base class, and a store of JSON lines that an interrupted run resumes from."""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, BinaryIO, Generic, NamedTuple, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError

from guardrail.errors import FileInUseError, GuardrailError, OptionError, RecordError
from guardrail.utils.files import check_destination, whole_file
from guardrail.utils.json_lines import as_json, json_value, kind_of, split_lines

__all__ = [
    "FiniteFloat",
    "FrozenModel",
    "RecordStore",
    "StoredRecords",
    "StrictBool",
    "UnreadLine",
    "read_model",
    "read_records",
]


class FrozenModel(BaseModel):
    """Base of every record in a file: it is not changed once it is made, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


Model = TypeVar("Model", bound=FrozenModel)


FiniteFloat = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""A finite number, and nothing that could be taken for one: no text, no true or false."""


def read_model(kind: type[Model], values: Mapping[str, Any]) -> Model:
    """Make a record of values that were read from a file.

    Raises:
        RecordError: A value is missing or is not what it must be; the first of them is named.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        found = "is missing" if first["type"] == "missing" else f"is {kind_of(first['input'])}"
        raise RecordError(
            f"A part of it is missing or was changed: {where} {found}. {first['msg']}."
        ) from error


Record = TypeVar("Record")


class UnreadLine(NamedTuple):
    """A line that is not a record: its number, why it is not, and its text."""

    number: int
    problem: RecordError
    text: str


class StoredRecords(NamedTuple, Generic[Record]):
    """The contents of a file of records.

    Attributes:
        records: The records of its complete lines, in order.
        problems: Each complete line that is not a record.
        end: The offset of the first byte after the last complete line.
        last: The record after that offset, if only its line break is missing, as some editors leave it.
        torn: The bytes after that offset: a run that was killed may have left half a line.
    """

    records: list[Record]
    problems: list[UnreadLine]
    end: int
    last: Record | None
    torn: bytes


class RecordStore:
    """A file of records that one run writes at a time.

    Used as a context manager: within the block no other run writes the file, and it is not changed before the
    first record is appended. Each record is one write of a whole line, and is flushed to disk at the end.

    Args:
        path: The file.
        remedy: A sentence that says what to do if the file holds something else.

    Raises:
        FileInUseError: Another run is writing the file.
        OptionError: The file cannot be written.
    """

    def __init__(self, path: Path, remedy: str) -> None:
        # Imported late: most who import this file read records, and write none.
        from filelock import FileLock

        self.path = path
        self._remedy = remedy
        real = Path(os.path.realpath(path))
        # Beside the file, because rewriting replaces the file itself. The lock file is never removed: a run
        # that was waiting for a removed one would hold a lock that no other run sees.
        self._lock = FileLock(real.with_name(f".{real.name}.lock"), timeout=0)
        self._file: BinaryIO | None = None
        self._end = 0
        self._lead = b""

    def records(
        self, parse: Callable[[str], Record], starts: Iterable[str] = (), *, by_hand: bool = False
    ) -> list[Record]:
        """Read the records in the file; new ones are then appended. Without this call they replace the file.

        Args:
            parse: Reads a line, or raises RecordError if it is not a record.
            starts: How records of this run may begin. If the file has no complete record, they decide whether
                half a line was written by such a run and may be cut off.
            by_hand: Whether people edit the file, so that a last line without a line break is kept.

        Raises:
            RecordError: The file holds something else.
            OptionError: The file cannot be read.
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
        """Append a record. Once this returns, the record survives the end of this process.

        Raises:
            OptionError: The file cannot be written.
            GuardrailError: The disk is full or gone. No partial line is left behind.
        """
        line = self._lead + as_json(record).encode() + b"\n"
        file = self._file or self._opened()
        try:
            if file.write(line) != len(line):
                raise GuardrailError(f"{self.path} cannot be written: it took part of a line only.")
        except OSError as error:
            raise GuardrailError(f"{self.path} cannot be written: {error.strerror}.") from error
        finally:
            # A run could not resume after half a line.
            with suppress(OSError):
                if file.tell() not in (self._end, self._end + len(line)):
                    file.truncate(self._end)
                    file.seek(self._end)
        self._end += len(line)
        self._lead = b""

    def rewrite(self, records: Iterable[Mapping[str, Any]], unread: Iterable[str] = ()) -> None:
        """Replace all records, completely or not at all; new ones are appended after them.

        Args:
            records: The records.
            unread: Lines that are not records, kept as they are after the records.

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
        from filelock import Timeout

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
    """Read a file of records, even while a run writes it. Unusable lines are returned, not raised.

    Args:
        path: The file.
        parse: Reads a line, or raises RecordError if it is not a record.

    Raises:
        OSError: The file cannot be read.
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
