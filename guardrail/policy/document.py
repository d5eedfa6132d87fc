"""Values with their places in a file, mistakes found in them, and JSON text read as such values."""

import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import isinf
from typing import Any, NamedTuple, NoReturn

__all__ = [
    "HALF_A_PAIR",
    "Entry",
    "Mistake",
    "Node",
    "Place",
    "TooMuchError",
    "in_order",
    "is_json",
    "joined_pairs",
    "read_json",
    "step",
]


class Place(NamedTuple):
    """A place in a file.

    Attributes:
        file: The file as it was named, or ``builtin:NAME``.
        line: Line, counted from 1.
        column: Column, counted from 1.
    """

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Mistake:
    """A mistake or warning.

    Attributes:
        place: Where it is.
        path: The same as a path of keys: ``rules[0].when.confidence``; ``yaml`` if there are no keys yet,
            and ``file`` if there is no text yet.
        text: What is wrong, and what to do.
    """

    place: Place
    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.place} {self.path}: {self.text}"


class Entry(NamedTuple):
    """A key of a map: its place and its value."""

    key: Place
    node: "Node"


Scalar = None | bool | int | float | str


@dataclass(frozen=True, slots=True)
class Node:
    """A value in a YAML file.

    Attributes:
        value: A scalar, the items of a list, or the entries of a map by key.
        place: Where it begins.
        path: Its path of keys in its file.
        quoted: Whether it is text in quotes.
    """

    value: Scalar | tuple["Node", ...] | Mapping[str, Entry]
    place: Place
    path: str = ""
    quoted: bool = field(default=False, compare=False)

    @property
    def entries(self) -> Mapping[str, Entry]:
        """The entries of a map; empty for anything else."""
        return self.value if isinstance(self.value, Mapping) else {}

    @property
    def items(self) -> tuple["Node", ...]:
        """The items of a list; empty for anything else."""
        return self.value if isinstance(self.value, tuple) else ()

    @property
    def text(self) -> str | None:
        """The text; None for anything else."""
        return self.value if isinstance(self.value, str) else None

    def get(self, key: str) -> "Node | None":
        """The value of a key; None if this is not a map or has no such key."""
        entry = self.entries.get(key)
        return None if entry is None else entry.node

    def with_entries(self, entries: Mapping[str, Entry]) -> "Node":
        """The same map with other entries."""
        return replace(self, value=entries)

    def with_items(self, items: Iterable["Node"]) -> "Node":
        """The same list with other items."""
        return replace(self, value=tuple(items))

    def with_text(self, text: str) -> "Node":
        """The same place with another text."""
        return replace(self, value=text)

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, tuple):
            return [item.plain() for item in self.value]
        if isinstance(self.value, Mapping):
            return {key: entry.node.plain() for key, entry in self.value.items()}
        return self.value

    def mistake(self, text: str) -> Mistake:
        """A mistake at this place."""
        return Mistake(self.place, self.path or "policy", text)


def step(path: str, key: str | int) -> str:
    """A path of keys extended by a key or index."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    shown = key if key.replace("-", "_").isidentifier() else f'["{key}"]'
    return f"{path}.{shown}" if path and shown == key else f"{path}{shown}"


def in_order(mistakes: Iterable[Mistake], files: Iterable[str]) -> tuple[Mistake, ...]:
    """Unique mistakes in reading order: by file in the given order, then line and column."""
    order = {file: at for at, file in enumerate(files)}
    unique = dict.fromkeys(mistakes)
    return tuple(sorted(unique, key=lambda one: (order.get(one.place.file, len(order)), *one.place[1:])))


# A string is a single token, so brackets and commas in it do not count.
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_WORD = re.compile(r"[-+.\w]+")
_SPACE = re.compile(r"[ \t\r\n]*")
# Lines are counted as YAML does, so that places agree for both kinds of files.
_LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_HALF = re.compile("[\ud800-\udfff]")

HALF_A_PAIR = "contains half a surrogate pair (\\ud800 to \\udfff), which is not valid text"


class TooMuchError(Exception):
    """The text holds more than a policy may.

    Attributes:
        place: Where the limit is exceeded.
    """

    def __init__(self, place: Place, text: str) -> None:
        super().__init__(text)
        self.place = place


def is_json(text: str) -> bool:
    """Whether a text is a JSON object."""
    if not text.lstrip(" \t\r\n").startswith("{"):
        return False
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def read_json(text: str, shown: str, *, most_values: int, deepest: int) -> tuple[Node, list[Mistake]]:
    """Parse JSON text into values, with what is wrong with them for a policy.

    Args:
        text: The text.
        shown: File name used in mistakes.
        most_values: Maximum number of values.
        deepest: Maximum number of levels.

    Raises:
        TooMuchError: A limit is exceeded.
    """
    reading = _Reading(text, shown, most_values, deepest)
    node, _ = reading.value(_end(_SPACE, text, 0), "", 0)
    return node, reading.mistakes


def joined_pairs(text: str) -> str | None:
    """The text with surrogate pairs replaced by their characters; None if half a pair is left.

    JSON writes a character beyond the first 65,536 as two escapes.
    """
    if not _HALF.search(text):
        return text
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        return None


class _Reading:
    """Parses a text that is known to be JSON."""

    def __init__(self, text: str, shown: str, most_values: int, deepest: int) -> None:
        self.mistakes: list[Mistake] = []
        self._text = text
        self._shown = shown
        self._left = self._most = most_values
        self._deepest = deepest
        self._lines = [0, *(found.end() for found in _LINE_END.finditer(text))]

    def value(self, at: int, path: str, depth: int) -> tuple[Node, int]:
        """The value that begins here, and the position after it."""
        place, first = self._place(at), self._text[at]
        self._left -= 1
        if self._left < 0:
            raise TooMuchError(place, f"contains more than {self._most:,} values")
        if depth > self._deepest:
            raise TooMuchError(place, f"more than {self._deepest} levels")
        if first == "{":
            return self._map(at, place, path, depth)
        if first == "[":
            return self._list(at, place, path, depth)
        if first == '"':
            end = _end(_TEXT, self._text, at)
            return Node(self._joined(at, end, place, path), place, path, quoted=True), end
        end = _end(_WORD, self._text, at)
        value = json.loads(self._text[at:end])
        if value is None:
            self._say(place, path, "has no value; give it one, or remove the key")
        elif not isinstance(value, bool) and isinf(float(self._text[at:end])):
            self._say(place, path, "is a number too large to represent")
        return Node(value, place, path), end

    def _map(self, at: int, place: Place, path: str, depth: int) -> tuple[Node, int]:
        entries: dict[str, Entry] = {}
        at = self._behind(at)
        while self._text[at] != "}":
            key, end = self._place(at), _end(_TEXT, self._text, at)
            name = self._joined(at, end, key, path)
            colon = _end(_SPACE, self._text, end)
            node, end = self.value(self._behind(colon), step(path, name), depth + 1)
            if name in entries:
                line = entries[name].key.line
                self._say(key, step(path, name), f"duplicate key; it is already in line {line}")
            else:
                entries[name] = Entry(key, node)
            at = self._next(end)
        return Node(entries, place, path), at + 1

    def _list(self, at: int, place: Place, path: str, depth: int) -> tuple[Node, int]:
        items: list[Node] = []
        at = self._behind(at)
        while self._text[at] != "]":
            node, end = self.value(at, step(path, len(items)), depth + 1)
            items.append(node)
            at = self._next(end)
        return Node(tuple(items), place, path), at + 1

    def _next(self, at: int) -> int:
        """Position of the next item after one that ends here, or of the closing bracket."""
        at = _end(_SPACE, self._text, at)
        return self._behind(at) if self._text[at] == "," else at

    def _behind(self, at: int) -> int:
        """Position after a single character and the space that follows it."""
        return _end(_SPACE, self._text, at + 1)

    def _joined(self, at: int, end: int, place: Place, path: str) -> str:
        read: str = json.loads(self._text[at:end])
        text = joined_pairs(read)
        if text is None:
            self._say(place, path, HALF_A_PAIR)
            return _HALF.sub("\ufffd", read)
        return text

    def _place(self, at: int) -> Place:
        line = bisect_right(self._lines, at)
        return Place(self._shown, line, at - self._lines[line - 1] + 1)

    def _say(self, place: Place, path: str, text: str) -> None:
        self.mistakes.append(Mistake(place, path or "policy", text))


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return at if found is None else found.end()


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
