"""What one pass tells of an answer: scores and hidden states, and their packed form in a line of JSON."""

import sys
from array import array
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["HiddenState", "Observation", "packed", "packed_hidden", "unpacked", "unpacked_hidden"]


@dataclass(frozen=True, slots=True)
class HiddenState:
    """Input of one decoder layer over a response, as plain numbers (see ``models.trace.HiddenSummary``).

    Attributes:
        depth: Fraction of the layers at which it was taken.
        mean: Mean over the response, d values.
        last: At the last position, d values.
    """

    depth: float
    mean: Sequence[float]
    last: Sequence[float]


@dataclass(frozen=True, slots=True)
class Observation:
    """What one pass tells of one answer.

    Attributes:
        scores: Scores by name, as ``Uncertainty.scores()`` gives them, and ``tokens``, the answer's length.
        hidden: Hidden state for a probe, where one is used.
    """

    scores: Mapping[str, float]
    hidden: HiddenState | None = field(default=None)


def packed(values: Sequence[float]) -> str:
    """Numbers as text."""
    return b64encode(_little_endian(array("f", values)).tobytes()).decode()


def unpacked(text: str) -> "array[float]":
    """The numbers of a text.

    Raises:
        ValueError: It holds none.
    """
    values = array("f")
    values.frombytes(b64decode(text, validate=True))
    return _little_endian(values)


def packed_hidden(hidden: HiddenState | None) -> dict[str, Any] | None:
    """A hidden state as values for JSON."""
    if hidden is None:
        return None
    return {"depth": hidden.depth, "mean": packed(hidden.mean), "last": packed(hidden.last)}


def unpacked_hidden(values: Mapping[str, Any] | None) -> HiddenState | None:
    """The hidden state of such values.

    Raises:
        KeyError: A part of it is missing.
        ValueError: A part of it is not what it was.
    """
    if values is None:
        return None
    return HiddenState(float(values["depth"]), unpacked(values["mean"]), unpacked(values["last"]))


def _little_endian(values: "array[float]") -> "array[float]":
    if sys.byteorder == "big":
        values.byteswap()
    return values
