"""Questions from a file, or from a data set on the Hugging Face hub (extra ``evaluate``)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from guardrail.errors import GuardrailError, MissingDependencyError, RecordError
from guardrail.labelling.accepted_answers import shape_of
from guardrail.utils.json_lines import read_json_lines

__all__ = ["HUB_DATASETS", "HubDataset", "QuestionSource", "hub_rows", "in_common_shape", "open_questions"]


def in_common_shape(values: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its accepted answers, without duplicates, as a list in ``answers``; other fields stay.

    A row without accepted answers is returned unchanged: it may have a label, or nothing to judge by.

    Raises:
        RecordError: Its answers have an unknown shape.
    """
    accepted = shape_of(values).accepted
    others = {name: value for name, value in values.items() if name not in ("answer", "truthful answer")}
    return {**others, "answers": list(accepted)} if accepted else dict(values)


class HubDataset(NamedTuple):
    """A data set on the hub.

    Attributes:
        title: Its title.
        paper: Its source.
        path: Its id on the hub.
        config: Its configuration, if any.
        split: The split with answers that results are usually reported on.
    """

    title: str
    paper: str
    path: str
    config: str | None
    split: str


HUB_DATASETS: Mapping[str, HubDataset] = {
    "sciq": HubDataset("SciQ", "Welbl et al. (2017), W-NUT", "allenai/sciq", None, "test"),
    "triviaqa": HubDataset(
        "TriviaQA", "Joshi et al. (2017), ACL", "mandarjoshi/trivia_qa", "rc.nocontext", "validation"
    ),
    "truthfulqa": HubDataset(
        "TruthfulQA", "Lin et al. (2022), ACL", "truthfulqa/truthful_qa", "generation", "validation"
    ),
    "nq_open": HubDataset(
        "NQ-open", "Lee et al. (2019), ACL", "google-research-datasets/nq_open", None, "validation"
    ),
}


def hub_rows(dataset: HubDataset, limit: int | None = None) -> list[dict[str, Any]]:
    """The first rows of a data set, each with ``question`` and ``answers``.

    Args:
        dataset: The data set.
        limit: Number of rows; all by default.

    Raises:
        MissingDependencyError: ``datasets`` is not installed.
        GuardrailError: The hub cannot be reached, or has changed the data set's form.
    """
    try:
        # By name, because the package has no types when it is not installed.
        load_dataset = import_module("datasets").load_dataset
    except ImportError as error:
        raise MissingDependencyError(
            f"{dataset.title} is read through datasets, which is not installed: "
            "pip install 'guardrail-llm[evaluate]'. Or give a file of questions."
        ) from error
    try:
        rows = load_dataset(dataset.path, dataset.config, split=dataset.split)
        some = rows if limit is None else rows.select(range(min(limit, len(rows))))
        return [question_row(row) for row in some]
    # Network, hub, disk, or a changed form: each raises its own errors.
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise GuardrailError(
            f"{dataset.title} ({dataset.path}) could not be loaded from the hub: {reason}. Fetch it where "
            f"there is "
            "a network, or give a file of questions instead."
        ) from error


def question_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """The question and accepted answers of a row, without passages and wrong answers."""
    shaped = in_common_shape(row)
    return {"question": shaped["question"], "answers": shaped["answers"]}


@dataclass(frozen=True, slots=True)
class QuestionSource:
    """Questions and their origin.

    Attributes:
        title: Name in reports.
        stem: Stem of file names for results.
        path: The file; None for a data set from the hub.
        lines: JSON Lines in the shape that ``parse_questions`` reads. Invalid lines are kept, to be reported
            by number.
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
        source: ``sciq``, ``triviaqa``, ``truthfulqa``, ``nq_open``, or a JSON Lines file.
        limit: Use only this many lines.

    Raises:
        RecordError: The file does not exist or is not JSON Lines.
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
            f"There is no file {source} and no data set of that name; the data sets are "
            f"{', '.join(HUB_DATASETS)}."
        )
    lines = read_json_lines(path)[:limit]
    return QuestionSource(path.name, path.stem, path, lines, sha256(path.read_bytes()).hexdigest())
