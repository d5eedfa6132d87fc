"""Data sets of the Hugging Face hub, read through ``datasets`` (extra ``evaluate``)."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

from guardrail.errors import GuardrailError, MissingDependencyError
from guardrail.evaluation.datasets.shapes import in_common_shape

__all__ = ["HUB_DATASETS", "HubDataset", "hub_rows"]


class HubDataset(NamedTuple):
    """Where a data set is.

    Attributes:
        title: What it is called.
        paper: Where it comes from.
        path: Its id on the hub.
        config: Which of its configurations.
        split: The part with answers that results are reported on.
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
        limit: How many rows; all without.

    Raises:
        MissingDependencyError: ``datasets`` is not installed.
        GuardrailError: The hub cannot be reached, or no longer has it in this form.
    """
    try:
        # By name: it brings no types where it is not installed.
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
    # It may be the network, the hub's own errors, the disk, or a form that it had before.
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise GuardrailError(
            f"{dataset.title} ({dataset.path}) could not be had from the hub: {reason}. Fetch it where there "
            "is a network, or give a file of questions in its place."
        ) from error


def question_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row asks and what is right, without passages and wrong answers."""
    shaped = in_common_shape(row)
    return {"question": shaped["question"], "answers": shaped["answers"]}
