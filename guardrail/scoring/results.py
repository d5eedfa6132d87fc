"""The files of ``score``: the lines to be scored, and the records, which an interrupted run goes on with."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from guardrail.errors import OptionError
from guardrail.scoring.appending import AppendedFile
from guardrail.scoring.records import Line, Made, parse_line
from guardrail.utils.json_lines import as_json, read_json_lines

_OTHER_FILE = "Choose another file, or start afresh with --overwrite."


def read_lines(path: Path) -> list[Line]:
    """Read a file of JSON lines. A line that cannot be used is among them, with its problem.

    Raises:
        RecordError: There is no such file, or it is no file of JSON lines at all.
    """
    return [parse_line(text) for text in read_json_lines(path)]


class ResultsFile(AppendedFile):
    """Records written line by line, each safe on its own.

    Use :meth:`open`, and the file as a context manager.
    """

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
        return cls.at(path, end)


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


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)
