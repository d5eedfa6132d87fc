"""What one pass tells about an answer: scores and hidden states, and how a line of JSON packs them."""

import sys
from array import array
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator

__all__ = ["HiddenState", "Observation", "PackedFloats", "packed", "unpacked"]


def packed(values: Sequence[float]) -> str:
    """Numbers as text: float32, little-endian, in base 64."""
    return b64encode(_little_endian(array("f", values)).tobytes()).decode()


def unpacked(text: str) -> "array[float]":
    """The numbers of a text.

    Raises:
        ValueError: It holds none.
    """
    values = array("f")
    values.frombytes(b64decode(text, validate=True))
    return _little_endian(values)


def _read(values: Any) -> Sequence[float]:
    if isinstance(values, str):
        return unpacked(values)
    if isinstance(values, Sequence):
        return values
    raise ValueError("Numbers in base 64 are expected")


PackedFloats = Annotated[Sequence[float], PlainValidator(_read), PlainSerializer(packed)]
"""Numbers that a line of JSON holds packed as text."""


@dataclass(frozen=True, slots=True)
class HiddenState:
    """Input of one decoder layer over a response, as plain numbers (see ``models.trace.HiddenSummary``).

    Attributes:
        depth: Fraction of the layers at which it was taken.
        mean: Mean over the response, d values.
        last: At the last position, d values.
    """

    depth: float
    mean: PackedFloats
    last: PackedFloats


@dataclass(frozen=True, slots=True)
class Observation:
    """What one pass tells of one answer.

    Attributes:
        scores: Scores by name, as ``Uncertainty.scores()`` gives them, and ``tokens``, the answer's length.
        hidden: Hidden state for a probe, where one is used.
    """

    scores: Mapping[str, float]
    hidden: HiddenState | None = field(default=None)


def _little_endian(values: "array[float]") -> "array[float]":
    if sys.byteorder == "big":
        values.byteswap()
    return values
