"""Strict reading of JSON and JSON Lines, and conversion of any value to plain JSON."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import date, time
from enum import Enum
from math import isfinite, isnan
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from guardrail.errors import RecordError

__all__ = [
    "STRICT",
    "as_json",
    "is_text",
    "json_object",
    "json_value",
    "kind_of",
    "plain_json",
    "read_json_lines",
    "readable_json",
    "shown",
    "split_lines",
    "text_of",
]


# More than any model's context; longer lines would take minutes to process.
MAX_BYTES = 16 << 20
# Deeper nesting would hit Python's own limit later, in a template or when written.
MAX_DEPTH = 100
_TABLES = (".csv", ".tsv", ".xlsx")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_json_lines(path: str | Path) -> list[str]:
    """Read a JSON Lines file as lines of text, without parsing each line.

    A line that is not UTF-8 or too long is refused later, by :func:`json_object`.

    Raises:
        RecordError: The file does not exist, or is not JSON Lines at all.
    """
    try:
        with Path(path).open("rb") as file:
            lines = list(_lines(file))
    except FileNotFoundError as error:
        raise RecordError(f"There is no file {path}.") from error
    except IsADirectoryError as error:
        raise RecordError(f"{path} is a folder; name a JSON Lines file.") from error
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}.") from error
    if not any(line.strip() for line in lines):
        raise RecordError(f"{path} is empty: it should have one JSON object per line.")
    if all(map(_problem, lines)) or (_problem(lines[0]) and _is_whole(lines)):
        raise RecordError(f"{path} is not a JSON Lines file: {_what_instead(path, lines)}")
    return lines


def split_lines(data: bytes) -> list[str]:
    """The lines of a file in memory, like :func:`read_json_lines`."""
    lines = data.removeprefix(_BYTE_ORDER_MARK).removesuffix(b"\n").split(b"\n")
    return [_as_text(line[: MAX_BYTES + 1]) for line in lines]


def json_object(text: str) -> dict[str, Any]:
    """Parse one line.

    Raises:
        RecordError: It is blank, not text, too long, not JSON, not an object, or has an infinite number, a
            duplicate key or too many levels.
    """
    if not text.strip():
        raise RecordError("The line is blank.")
    values = json_value(text)
    if not isinstance(values, dict):
        raise RecordError(f"The line is {kind_of(values)}, not a JSON object.")
    return values


def json_value(text: str) -> Any:
    """Parse one line that may hold any value; raises like :func:`json_object`."""
    if len(text) > MAX_BYTES:
        raise RecordError(f"The line is longer than {MAX_BYTES >> 20} MiB.")
    if not is_text(text):
        raise RecordError("The line is not text in UTF-8.")
    try:
        value = STRICT.decode(text)
    except RecordError:
        raise
    except RecursionError as error:
        raise RecordError("The line is nested too deeply.") from error
    except ValueError as error:
        raise RecordError(f"The line is not JSON: {error}.") from error
    if _is_deep(value):
        raise RecordError("The line is nested too deeply.")
    return value


def as_json(record: Mapping[str, Any]) -> str:
    """One line of JSON, with non-ASCII text readable.

    Raises:
        ValueError: It contains NaN, an infinity, or a value that is not JSON.
    """
    text = json.dumps(record, ensure_ascii=False, allow_nan=False)
    # Half a surrogate pair is legal in JSON but in no encoding.
    return text if is_text(text) else json.dumps(record, allow_nan=False)


def text_of(value: Any, name: str) -> str:
    """The value of a field that must be text.

    Raises:
        RecordError: It is not.
    """
    if not isinstance(value, str):
        raise RecordError(f"{name} is {kind_of(value)}; text is expected.")
    if not is_text(value):
        raise RecordError(f"{name} contains half a surrogate pair, which is not valid text.")
    return value


def is_text(text: str) -> bool:
    """Whether the text can be encoded: JSON may contain halves of surrogate pairs, unlike any text."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def kind_of(value: Any) -> str:
    """The kind of a JSON value, in words."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def shown(value: Any) -> str:
    """A JSON value as in the file, shortened."""
    return json.dumps(value)[:60]


def _lines(file: BinaryIO) -> Iterator[str]:
    """The lines of a file; a line that is too long is cut just beyond the limit."""
    is_first = True
    while piece := file.readline(MAX_BYTES + 1):
        rest = piece
        while rest and not rest.endswith(b"\n"):
            rest = file.readline(1 << 20)
        if is_first:
            piece = piece.removeprefix(_BYTE_ORDER_MARK)
            is_first = False
        yield _as_text(piece.removesuffix(b"\n"))


def _as_text(line: bytes) -> str:
    # Invalid UTF-8 becomes halves of surrogate pairs, which valid UTF-8 never contains, so that only the
    # line concerned is refused, and where it is parsed.
    return line.decode("utf-8", "surrogateescape")


def _problem(text: str) -> RecordError | None:
    try:
        json_object(text)
    except RecordError as problem:
        return problem
    return None


def _is_whole(lines: Sequence[str]) -> bool:
    """Whether the lines together are one JSON value."""
    try:
        json.loads("\n".join(lines))
    except (ValueError, RecursionError):
        return False
    return True


def _what_instead(path: str | Path, lines: Sequence[str]) -> str:
    begin = next(line for line in lines if line.strip()).lstrip()
    if begin.startswith("[") and _is_whole(lines):
        return (
            "it is a single JSON array. Write one object per line, without brackets or commas between them."
        )
    if begin.startswith("{") and _is_whole(lines):
        return "it is a single JSON object over several lines. Write each object on its own line."
    if Path(path).suffix.lower() in _TABLES:
        return "it is a table. Write each row as a JSON object on its own line."
    if not all(map(is_text, lines)):
        return "it is not text in UTF-8."
    return f"no line is a JSON object. Line 1: {_problem(lines[0])}"


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        containers = [one for one in level if isinstance(one, dict | list)]
        if not containers:
            return False
        level = [
            one for outer in containers for one in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return True


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"{text[:20]} is too large a number")
    return number


def _bounded(text: str) -> int:
    # Python integers are unbounded, but every computation converts them to floats.
    _finite(text)
    return int(text)


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RecordError(f"The line has the key {shown(twice)} twice in one object.")
    return values


STRICT = json.JSONDecoder(
    parse_constant=_refuse_constant,
    parse_float=_finite,
    parse_int=_bounded,
    object_pairs_hook=_without_twins,
)
"""JSON decoder that refuses NaN, infinite numbers and duplicate keys."""


# Below the readers' limit, so that a record around the value can still be read.
_MAX_DEPTH = 60
# A value that refers to one list a thousand times would be written as a thousand lists.
_MAX_CONTAINERS = 100_000


def plain_json(value: Any) -> Any:
    """Convert any value to plain JSON: texts, finite numbers, booleans, null, lists, objects with text keys.

    Never raises: what JSON cannot represent becomes text. Dates become ISO 8601, decimals digits, NaN
    ``"NaN"``, bytes UTF-8 text or else hexadecimal digits, sets sorted lists, enum members their values,
    pydantic models and dataclasses objects of their fields. Circular or deeply nested values are replaced by
    a note. Halves of surrogate pairs become U+FFFD.

    Args:
        value: Any value.

    Returns:
        A new value that ``json.dumps`` accepts with ``allow_nan=False``.
    """
    return _Walk().plain(value, ())


class _Walk:
    """One conversion, with a limit on its size."""

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
        # The value may be of any class, in any state.
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
        # NumPy and torch.
        return self.plain(value.tolist(), above) if hasattr(value, "tolist") else _characters(str(value))

    def _object(self, items: Iterable[tuple[Any, Any]], above: tuple[int, ...]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in items:
            plain = self.plain(key, above)
            name = plain if isinstance(plain, str) else json.dumps(plain)
            # Python distinguishes the keys 1 and "1".
            while name in values:
                name += "'"
            values[name] = self.plain(value, above)
        return values


def _fields(model: Any) -> Any:
    """The fields of a pydantic model as it would dump them, or raw if that fails."""
    try:
        return model.model_dump(warnings=False)
    except Exception:  # noqa: BLE001  (whatever a serializer raises)
        return vars(model)


def _characters(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        # Two matching halves form a character.
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _integer(value: int) -> int | str:
    try:
        float(value)
    except OverflowError:
        # Python refuses to write very long integers in decimal.
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


def readable_json(values: Mapping[str, Any]) -> str:
    """JSON with lists of numbers on one line, since nobody reads a thousand numbers one below the other."""
    text = json.dumps(values, indent=2, ensure_ascii=False)
    # Texts in JSON contain no line breaks, so none can be mistaken for a list.
    return re.sub(r"\[\n[^\[\]{}\"]*\]", lambda found: " ".join(found[0].split()), text)
