"""Rows of data sets with their accepted answers in one place."""

from collections.abc import Mapping
from typing import Any

from guardrail.calibration.accepted_answers import shape_of

__all__ = ["in_common_shape"]


def in_common_shape(values: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its accepted answers, each once, as a list in ``answers``; what else is in it stays.

    A row that has none is returned as it is: it may come with a label, or with nothing to judge by.

    Raises:
        RecordError: It has answers in no shape that is known.
    """
    accepted = shape_of(values).accepted
    others = {name: value for name, value in values.items() if name not in ("answer", "truthful answer")}
    return {**others, "answers": list(accepted)} if accepted else dict(values)
