"""The file of answers, as it is read by whoever does not write it: corrected by hand, and perhaps damaged."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from guardrail.calibration.answers import AnswerRecord, parse_answer
from guardrail.errors import RecordError
from guardrail.scoring.records import Failure
from guardrail.utils.record_store import UnreadLine, read_records

__all__ = ["StoredAnswers", "last_answers", "read_answers"]


class StoredAnswers(NamedTuple):
    """What a file of answers holds.

    Attributes:
        records: The answers; of several to one question, the last.
        unread: Lines that hold none, and why.
    """

    records: Sequence[AnswerRecord]
    unread: Sequence[UnreadLine] = ()

    @property
    def failures(self) -> list[Failure]:
        """The lines that hold none, as they are told."""
        return [Failure(number, str(why), why.exit_status) for number, why, _ in self.unread]


def read_answers(path: str | Path) -> StoredAnswers:
    """Read a file of answers. A line of it that cannot be used is told; the others count.

    Raises:
        RecordError: The file cannot be read, or holds no answer.
    """
    try:
        stored = read_records(Path(path), parse_answer)
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}.") from error
    records = last_answers([*stored.records, *([] if stored.last is None else [stored.last])])
    if stored.problems and not records:
        number, problem, _ = stored.problems[0]
        raise RecordError(f"Line {number} of {path} cannot be used: {problem}")
    return StoredAnswers(records, stored.problems)


def last_answers(records: Sequence[AnswerRecord]) -> list[AnswerRecord]:
    """Of several answers to one question, the last."""
    return list({record.digest: record for record in records}.values())
