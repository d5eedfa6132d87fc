"""Plain JSON of anything that a program may hold, so that nothing that was said is lost for its form."""

import json
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import date, time
from enum import Enum
from math import isfinite, isnan
from typing import Any

__all__ = ["plain_json"]

# Less than readers refuse, so that a record around it can still be read.
_MAX_DEPTH = 60
# What refers to one list a thousand times would else be written as a thousand lists, each of a thousand.
_MAX_CONTAINERS = 100_000


def plain_json(value: Any) -> Any:
    """What a value is in JSON: texts, finite numbers, true, false, null, lists, objects with texts for keys.

    Nothing is raised, whatever it is: what JSON cannot hold becomes a text. Dates are in ISO 8601, decimals
    in digits, NaN ``"NaN"``, bytes their text in UTF-8 or else in hexadecimal digits, sets are sorted lists,
    a member of an enum is its value, models of pydantic and dataclasses are objects of their fields. A value
    within itself, or within sixty others, is said to be one. Halves of surrogate pairs become U+FFFD.

    Args:
        value: Anything.

    Returns:
        A value of its own, that ``json.dumps`` takes with ``allow_nan=False``.
    """
    return _Walk().plain(value, ())


class _Walk:
    """One conversion, which ends whatever it meets."""

    def __init__(self) -> None:
        self._left = _MAX_CONTAINERS

    def plain(self, value: Any, above: tuple[int, ...]) -> Any:
        try:
            if value is None or isinstance(value, bool | int | float | str | Enum):
                return self._scalar(value, above)
            self._left -= 1
            if self._left < 0:
                return "<too much to write>"
            if id(value) in above:
                return f"<circular {type(value).__name__}>"
            if len(above) >= _MAX_DEPTH:
                return f"<{type(value).__name__} nested too deeply>"
            return self._container(value, (*above, id(value)))
        # It may be anybody's class, in any state.
        except Exception:  # noqa: BLE001
            return f"<{type(value).__name__}>"

    def _scalar(self, value: Any, above: tuple[int, ...]) -> Any:
        if isinstance(value, Enum):
            return self.plain(value.value, above)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return _characters(str.__str__(value))
        if isinstance(value, int):
            return _integer(int(value))
        return _float(float(value))

    def _container(self, value: Any, above: tuple[int, ...]) -> Any:
        if isinstance(value, Mapping):
            return self._object(value.items(), above)
        if isinstance(value, bytes | bytearray | memoryview):
            return _bytes(bytes(value))
        if isinstance(value, tuple) and hasattr(value, "_asdict"):
            return self._object(value._asdict().items(), above)
        if isinstance(value, AbstractSet):
            return sorted((self.plain(one, above) for one in value), key=lambda one: json.dumps(one))
        if isinstance(value, Sequence):
            return [self.plain(one, above) for one in value]
        if is_dataclass(value) and not isinstance(value, type):
            named = ((one.name, getattr(value, one.name, None)) for one in fields(value))
            return self._object(named, above)
        if isinstance(value, date | time):
            return value.isoformat()
        if isinstance(value, type):
            return _characters(str(value))
        if callable(getattr(value, "model_dump", None)):
            return self.plain(_fields(value), above)
        # Of NumPy and torch.
        return self.plain(value.tolist(), above) if hasattr(value, "tolist") else _characters(str(value))

    def _object(self, items: Iterable[tuple[Any, Any]], above: tuple[int, ...]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in items:
            plain = self.plain(key, above)
            name = plain if isinstance(plain, str) else json.dumps(plain)
            # 1 and "1" are two keys in Python.
            while name in values:
                name += "'"
            values[name] = self.plain(value, above)
        return values


def _fields(model: Any) -> Any:
    """The fields of a model of pydantic, as it would write them; as they are, where it cannot."""
    try:
        return model.model_dump(warnings=False)
    except Exception:  # noqa: BLE001  (whatever a serializer raises)
        return vars(model)


def _characters(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        # Two halves side by side are a character.
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _integer(value: int) -> int | str:
    try:
        float(value)
    except OverflowError:
        # More digits than Python writes are written in hexadecimal ones.
        return str(value) if value.bit_length() < 4000 else hex(value)
    return value


def _float(value: float) -> float | str:
    if isfinite(value):
        return value
    return "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _bytes(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()
