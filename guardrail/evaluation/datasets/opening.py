"""The questions that a name or a file stands for."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from guardrail.errors import RecordError
from guardrail.evaluation.datasets.hub import HUB_DATASETS, hub_rows
from guardrail.utils.json_lines import read_json_lines

__all__ = ["QuestionSource", "open_questions"]


@dataclass(frozen=True, slots=True)
class QuestionSource:
    """Questions, and where they are from.

    Attributes:
        title: What reports call it.
        stem: What files about it are called.
        path: The file; None for a data set of the hub.
        lines: One JSON object a line, in the shape that ``parse_questions`` reads. Lines that are none are as
            they were, to be told of by number.
        sha256: Hash of the file, or of the lines of a data set.
    """

    title: str
    stem: str
    path: Path | None
    lines: Sequence[str]
    sha256: str


def open_questions(source: str, limit: int | None = None) -> QuestionSource:
    """Open a file of questions, or a data set by its name.

    Args:
        source: ``sciq``, ``triviaqa``, ``truthfulqa``, ``nq_open``, or a file of JSON lines.
        limit: Take only so many lines.

    Raises:
        RecordError: There is no such file, or it is no file of JSON lines.
        MissingDependencyError: A data set needs ``datasets``, which is not installed.
        GuardrailError: The hub cannot be reached.
    """
    path = Path(source)
    if source in HUB_DATASETS and not path.exists():
        dataset = HUB_DATASETS[source]
        rows = [json.dumps(row, ensure_ascii=False) for row in hub_rows(dataset, limit)]
        return QuestionSource(dataset.title, source, None, rows, sha256("\n".join(rows).encode()).hexdigest())
    if not path.exists():
        raise RecordError(
            f"There is no file {source}, and no data set of that name: there are {', '.join(HUB_DATASETS)}."
        )
    lines = read_json_lines(path)[:limit]
    return QuestionSource(path.name, path.stem, path, lines, sha256(path.read_bytes()).hexdigest())
