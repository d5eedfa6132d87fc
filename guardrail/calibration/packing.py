"""Many numbers in little room within a line of JSON: little-endian float32 in base64."""

import sys
from array import array
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import Any

from guardrail.calibration.confidence import HiddenState

__all__ = ["packed", "packed_hidden", "unpacked", "unpacked_hidden"]


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
