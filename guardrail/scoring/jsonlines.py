"""Files of JSON lines: what people give instead of them, told in one sentence."""

import json
from pathlib import Path
from typing import Any, NoReturn

from guardrail.errors import RecordError
from guardrail.models.prompt import is_text

__all__ = ["json_object", "kind_of", "read_json_lines", "shown", "text_of"]

_TABLES = (".csv", ".tsv", ".xlsx")


def read_json_lines(path: Path) -> list[str]:
    """The lines of a file of JSON lines, as text; single lines of it may still be anything.

    Raises:
        RecordError: There is no such file, or it is no file of JSON lines at all.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise RecordError(f"There is no file {path}.") from error
    except IsADirectoryError as error:
        raise RecordError(f"{path} is a folder, and a file of JSON lines is expected.") from error
    except UnicodeDecodeError as error:
        raise RecordError(f"{path} is not text in UTF-8, so it is no file of JSON lines.") from error
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}.") from error
    if not text.strip():
        raise RecordError(f"{path} is empty: it is to hold one JSON object a line.")
    lines = text.removesuffix("\n").split("\n")
    if all(map(_problem, lines)) or (_problem(lines[0]) and _is_whole(text)):
        raise RecordError(f"{path} is no file of JSON lines: {_what_instead(path, text, lines[0])}")
    return lines


def json_object(text: str) -> dict[str, Any]:
    """Read one line.

    Raises:
        RecordError: It is blank, no JSON, or not an object.
    """
    if not text.strip():
        raise RecordError("The line is blank.")
    try:
        values = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise RecordError("The line is nested too deeply.") from error
    except ValueError as error:
        raise RecordError(f"The line is not JSON: {error}.") from error
    if not isinstance(values, dict):
        raise RecordError(f"The line is {kind_of(values)}, and a JSON object is expected.")
    return values


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


def kind_of(value: Any) -> str:
    """What a JSON value is, in words."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def shown(value: Any) -> str:
    """A JSON value as it stood in the file, cut short."""
    return json.dumps(value)[:60]


def _problem(text: str) -> RecordError | None:
    try:
        json_object(text)
    except RecordError as problem:
        return problem
    return None


def _is_whole(text: str) -> bool:
    """Whether the file is one JSON value over several lines."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _what_instead(path: Path, text: str, first: str) -> str:
    if text.lstrip().startswith("[") and _is_whole(text):
        return "it is one JSON array. Write one object a line, without brackets or commas between them."
    if text.lstrip().startswith("{") and _is_whole(text):
        return "it is one JSON object over several lines. Write each object on a line of its own."
    if path.suffix.lower() in _TABLES:
        return "it is a table. Write each of its rows as one JSON object on a line of its own."
    return f"none of its lines is a JSON object. Line 1: {_problem(first)}"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
