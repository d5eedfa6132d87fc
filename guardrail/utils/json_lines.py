"""Strict JSON and JSON Lines, and plain JSON of any value that a program may hold."""

import json
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
    "shown",
    "split_lines",
    "text_of",
]


# More than the context of any model holds. A longer line would be read, copied and encoded for minutes.
MAX_BYTES = 16 << 20
# What is nested deeper runs into Python's own limit somewhere later: in a template, or where it is written.
MAX_DEPTH = 100
_TABLES = (".csv", ".tsv", ".xlsx")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_json_lines(path: str | Path) -> list[str]:
    """The lines of a file of JSON lines, as text; single lines of it may still be anything.

    What is not UTF-8, or longer than any line may be, is refused where the line is read, by
    :func:`json_object`.

    Raises:
        RecordError: There is no such file, or it is no file of JSON lines at all.
    """
    try:
        with Path(path).open("rb") as file:
            lines = list(_lines(file))
    except FileNotFoundError as error:
        raise RecordError(f"There is no file {path}.") from error
    except IsADirectoryError as error:
        raise RecordError(f"{path} is a folder, and a file of JSON lines is expected.") from error
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}.") from error
    if not any(line.strip() for line in lines):
        raise RecordError(f"{path} is empty: it is to hold one JSON object a line.")
    if all(map(_problem, lines)) or (_problem(lines[0]) and _is_whole(lines)):
        raise RecordError(f"{path} is no file of JSON lines: {_what_instead(path, lines)}")
    return lines


def split_lines(data: bytes) -> list[str]:
    """The lines of a file that is in memory already, as :func:`read_json_lines` gives them."""
    lines = data.removeprefix(_BYTE_ORDER_MARK).removesuffix(b"\n").split(b"\n")
    return [_as_text(line[: MAX_BYTES + 1]) for line in lines]


def json_object(text: str) -> dict[str, Any]:
    """Read one line.

    Raises:
        RecordError: It is blank, not text, too long, not JSON, not an object, or holds what nobody could
            compute with or write again: a number beyond all bounds, a key twice, a hundred lists in lists.
    """
    if not text.strip():
        raise RecordError("The line is blank.")
    values = json_value(text)
    if not isinstance(values, dict):
        raise RecordError(f"The line is {kind_of(values)}, and a JSON object is expected.")
    return values


def json_value(text: str) -> Any:
    """Read one line that may hold any value; errors as of :func:`json_object`."""
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
    """One line of JSON, readable in any language.

    Raises:
        ValueError: It holds NaN, an infinity, or what is no JSON; see :func:`guardrail.utils.json_lines`.
    """
    text = json.dumps(record, ensure_ascii=False, allow_nan=False)
    # Half a surrogate pair is legal in JSON and in no encoding.
    return text if is_text(text) else json.dumps(record, allow_nan=False)


def text_of(value: Any, name: str) -> str:
    """The value of a field that is to be a text.

    Raises:
        RecordError: It is something else.
    """
    if not isinstance(value, str):
        raise RecordError(f"{name} is {kind_of(value)}, and a text is expected.")
    if not is_text(value):
        raise RecordError(f"{name} holds half a surrogate pair, which is no text.")
    return value


def is_text(text: str) -> bool:
    """Whether every character is one: JSON can hold halves of surrogate pairs, which no tokenizer takes."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def kind_of(value: Any) -> str:
    """What a JSON value is, in words."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def shown(value: Any) -> str:
    """A JSON value as it stood in the file, cut short."""
    return json.dumps(value)[:60]


def _lines(file: BinaryIO) -> Iterator[str]:
    """The lines of a file; of one that is too long no more than what shows it, whatever it goes on with."""
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
    # Bytes that are no UTF-8 become halves of surrogate pairs, which no file of text in UTF-8 has: so the
    # line can be refused where it is read, and no other with it.
    return line.decode("utf-8", "surrogateescape")


def _problem(text: str) -> RecordError | None:
    try:
        json_object(text)
    except RecordError as problem:
        return problem
    return None


def _is_whole(lines: Sequence[str]) -> bool:
    """Whether the file is one JSON value over several lines."""
    try:
        json.loads("\n".join(lines))
    except (ValueError, RecursionError):
        return False
    return True


def _what_instead(path: str | Path, lines: Sequence[str]) -> str:
    begin = next(line for line in lines if line.strip()).lstrip()
    if begin.startswith("[") and _is_whole(lines):
        return "it is one JSON array. Write one object a line, without brackets or commas between them."
    if begin.startswith("{") and _is_whole(lines):
        return "it is one JSON object over several lines. Write each object on a line of its own."
    if Path(path).suffix.lower() in _TABLES:
        return "it is a table. Write each of its rows as one JSON object on a line of its own."
    if not all(map(is_text, lines)):
        return "it is not text in UTF-8."
    return f"none of its lines is a JSON object. Line 1: {_problem(lines[0])}"


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
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"{text[:20]} is larger than any number can be")
    return number


def _bounded(text: str) -> int:
    # Whole numbers have no bound in Python; but whatever computes with them turns them into floats.
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
"""Reads JSON that a computer can be asked to compute with: no NaN, nothing infinite, no key twice."""


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
