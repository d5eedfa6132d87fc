"""The files of ``score``: the lines to be scored, and the records, which an interrupted run goes on with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guardrail.errors import OptionError, RecordError
from guardrail.scoring.records import Line, Made, parse_line
from guardrail.utils.json_lines import as_json, json_object, read_json_lines
from guardrail.utils.record_store import RecordStore

__all__ = ["REMEDY", "read_lines", "stored_results"]

REMEDY = "Choose another file, or start afresh with --overwrite."


def read_lines(path: str | Path) -> list[Line]:
    """Read a file of JSON lines. A line that cannot be used is among them, with its problem.

    Raises:
        RecordError: There is no such file, or it is no file of JSON lines at all.
    """
    return [parse_line(text) for text in read_json_lines(path)]


def stored_results(store: RecordStore, lines: Sequence[Line], made: Made) -> list[Mapping[str, Any]]:
    """The records that an earlier run of the same left, one for each of the first lines.

    Args:
        store: The file, open; records to come are appended to these.
        lines: The lines to be scored.
        made: What scores them.

    Raises:
        RecordError: The file holds something else.
        OptionError: It holds results of other lines, another model or other arguments, or cannot be read.
    """
    # What is passed through stands first in a record.
    start = as_json(lines[0].fields).removesuffix("}")
    records = store.records(_parsed, [start])
    if len(records) > len(lines):
        raise OptionError(f"{store.path} has more lines than there are to score. {REMEDY}")
    for number, (record, line) in enumerate(zip(records, lines, strict=False), start=1):
        is_other = record["scoring"].get("line") != line.digest
        if difference := "belongs to another input" if is_other else made.difference(record):
            raise OptionError(f"Line {number} of {store.path} {difference}. {REMEDY}")
    return records


def _parsed(line: str) -> Mapping[str, Any]:
    record = json_object(line)
    if not ("error" in record or "uncertainty" in record) or not isinstance(record.get("scoring"), dict):
        raise RecordError("It is not a result of guardrail score.")
    return record
