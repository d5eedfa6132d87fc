"""Files of JSON lines, read so strictly that whatever was read can be computed with and written again.

What cannot be used of one line is that line's problem: its bytes, its length, its depth, its numbers. What
people give instead of such a file is told in one sentence.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
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
        ValueError: It holds NaN, an infinity, or what is no JSON; see :func:`guardrail.utils.plain_json`.
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
