"""The file of answers: appended to as they come, corrected by hand, and read again."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from guardrail.calibration.answers import AnswerRecord, parse_answer
from guardrail.errors import OptionError, RecordError
from guardrail.utils.json_lines import as_json

__all__ = ["StoredAnswers", "read_answers", "rewrite_answers"]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class StoredAnswers(NamedTuple):
    """What a file of answers holds.

    Attributes:
        records: The answers; of several to one question, the last.
        is_clean: Whether records can be appended to it as it is: a run that was killed may have left half a
            line, and an editor none of the last line's end.
    """

    records: Sequence[AnswerRecord]
    is_clean: bool


def read_answers(path: Path, expected: Iterable[Mapping[str, Any]] = ()) -> StoredAnswers:
    """Read a file of answers.

    Args:
        path: The file.
        expected: Fields of the questions that it is to hold answers to: where not one record in it is whole,
            they tell whether it is ours at all.

    Raises:
        RecordError: It cannot be read, or a line of it is no such record.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}.") from error
    *complete, torn = data.split(b"\n")
    records: dict[str, AnswerRecord] = {}
    for number, line in enumerate(complete, start=1):
        if line.removeprefix(_BYTE_ORDER_MARK).strip():
            record = _parse(path, number, line)
            records[record.digest] = record
    if torn.strip():
        try:
            record = _parse(path, len(complete) + 1, torn)
            records[record.digest] = record
        except RecordError:
            if not records and not any(_begins(torn, fields) for fields in expected):
                raise
    return StoredAnswers(list(records.values()), not torn and not data.startswith(_BYTE_ORDER_MARK))


def rewrite_answers(path: Path, records: Iterable[AnswerRecord]) -> None:
    """Write a file of answers anew, whole or not at all.

    Raises:
        OptionError: It cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            for record in records:
                file.write(f"{as_json(record.as_plain())}\n".encode())
        part.replace(path)
    except OSError as error:
        raise OptionError(f"{path} cannot be written: {error.strerror}.") from error


def _parse(path: Path, number: int, line: bytes) -> AnswerRecord:
    try:
        return parse_answer(line.decode("utf-8-sig"))
    except (RecordError, UnicodeDecodeError) as error:
        why = str(error) if isinstance(error, RecordError) else "It is not text in UTF-8."
        raise RecordError(
            f"Line {number} of {path} cannot be used: {why} Mend or remove it, choose another file with "
            "--answers, or start afresh with --overwrite."
        ) from error


def _begins(torn: bytes, fields: Mapping[str, Any]) -> bool:
    """Whether this could be the beginning of a record: what is passed through stands first in it."""
    start = as_json(fields).encode().removesuffix(b"}")
    return torn.startswith(start) or start.startswith(torn)
