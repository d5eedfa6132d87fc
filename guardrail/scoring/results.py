"""The files of ``score``: the lines to be scored, and the records, which an interrupted run goes on with."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from guardrail.errors import GuardrailError, OptionError, RecordError
from guardrail.scoring.records import Line, Made, as_json, parse_line

_OTHER_FILE = "Choose another file, or start afresh with --overwrite."


def read_lines(path: Path) -> list[Line]:
    """Read a file of JSON lines. A line that cannot be used is among them, with its problem.

    Raises:
        RecordError: There is no such file, or it is no file of JSON lines at all.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise RecordError(f"There is no file {path}.") from error
    except IsADirectoryError as error:
        raise RecordError(f"{path} is a folder, and a file of JSON lines is expected.") from error
    except UnicodeDecodeError as error:
        raise RecordError(f"{path} is not text in UTF-8, so it is no file of JSON lines.") from error
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}.") from error
    texts = text.removesuffix("\n").split("\n") if text else []
    if not text.strip():
        raise RecordError(f"{path} is empty: it is to hold one JSON object a line.")
    lines = [parse_line(text) for text in texts]
    if not any(line.is_object for line in lines) or (not lines[0].is_object and _is_whole(text)):
        raise RecordError(f"{path} is no file of JSON lines: {_what_instead(text, lines[0])}")
    return lines


class ResultsFile:
    """Records written line by line, each safe on its own.

    Use :meth:`open`, and the file as a context manager.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self._file = file

    @classmethod
    def open(
        cls,
        path: Path,
        lines: Sequence[Line],
        made: Made,
        *,
        overwrite: bool,
        keep: Callable[[Mapping[str, Any]], None],
    ) -> Self:
        """Open a file for records, going on where an earlier run of the same was interrupted.

        Args:
            path: The file.
            lines: The lines to be scored.
            made: What scores them.
            overwrite: Start afresh, whatever is there.
            keep: Called with each record that is there already.

        Raises:
            OptionError: The file holds something else, or cannot be written.
        """
        end = 0 if overwrite else _check_kept(path, lines, made, keep)
        try:
            file = path.open("r+b" if path.exists() else "x+b", buffering=0)
            file.truncate(end)
            file.seek(end)
        except OSError as error:
            raise OptionError(f"{path} cannot be written: {error.strerror}.") from error
        return cls(path, file)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a record.

        Raises:
            GuardrailError: The disk is full, or gone.
        """
        data = f"{as_json(record)}\n".encode()
        try:
            # Unbuffered: when this returns, the line is there, whatever happens to this process.
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise GuardrailError(f"{self.path} cannot be written: {error.strerror}.") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def check_destination(path: Path, source: Path) -> None:
    """Find out, before a model is loaded, that a file could not be written.

    Raises:
        OptionError: It is the input, a folder, or in a folder that does not exist.
    """
    if path.exists() and path.samefile(source):
        raise OptionError(f"{path} is the file that is read: choose another one for the results.")
    if path.is_dir():
        raise OptionError(f"{path} is a folder: name a file for the results.")
    if not path.parent.is_dir():
        raise OptionError(f"There is no folder {path.parent} to write {path.name} into.")


def _check_kept(
    path: Path, lines: Sequence[Line], made: Made, keep: Callable[[Mapping[str, Any]], None]
) -> int:
    """Hand on the records that are there, and say at which byte they end."""
    if not path.exists():
        return 0
    try:
        *complete, torn = path.read_bytes().split(b"\n")
    except OSError as error:
        raise OptionError(f"{path} cannot be read: {error.strerror}.") from error
    if len(complete) > len(lines):
        raise OptionError(f"{path} has more lines than there are to score. {_OTHER_FILE}")
    for number, (data, line) in enumerate(zip(complete, lines, strict=False), start=1):
        record = _record(data)
        if record is None:
            raise OptionError(f"Line {number} of {path} is not a result of guardrail score. {_OTHER_FILE}")
        if difference := _difference(record, line, made):
            raise OptionError(f"Line {number} of {path} {difference}. {_OTHER_FILE}")
        keep(record)
    if torn and not (len(complete) < len(lines) and _begins(torn, lines[len(complete)])):
        raise OptionError(f"The end of {path} is not a result of guardrail score. {_OTHER_FILE}")
    return sum(len(data) + 1 for data in complete)


def _record(data: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        return None
    is_result = isinstance(record, dict) and ("error" in record or "uncertainty" in record)
    return record if is_result and isinstance(record.get("scoring"), dict) else None


def _difference(record: Mapping[str, Any], line: Line, made: Made) -> str:
    """What keeps a record from being the one that would be made of this line now, or nothing."""
    if record["scoring"].get("line") != line.digest:
        return "belongs to another input"
    for name, now in {"model": made.model, **made.fields()}.items():
        before = record["model"] if name == "model" else record["scoring"].get(name)
        if before != now:
            return f"was made with {name} {_shown(before)}, and this run has {_shown(now)}"
    return ""


def _begins(torn: bytes, line: Line) -> bool:
    """Whether this could be the beginning of the line's record: what is passed through stands first in it."""
    start = as_json(line.fields).encode().removesuffix(b"}")
    return torn.startswith(start) or start.startswith(torn)


def _is_whole(text: str) -> bool:
    """Whether the file is one JSON value over several lines."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _what_instead(text: str, first: Line) -> str:
    if text.lstrip().startswith("[") and _is_whole(text):
        return "it is one JSON array. Write one object a line, without brackets or commas between them."
    if text.lstrip().startswith("{") and _is_whole(text):
        return "it is one JSON object over several lines. Write each object on a line of its own."
    return f"none of its lines is a JSON object. Line 1: {first.problem}"


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)
