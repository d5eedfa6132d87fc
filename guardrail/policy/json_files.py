"""JSON text to values that know where they stand.

A file that is JSON is read by the rules of JSON: YAML's readers know neither its pairs of escapes for one
character nor its tabs, and none of its long keys. What comes of it is the same as of YAML.
"""

import json
import re
from bisect import bisect_right
from math import isinf
from typing import NoReturn

from guardrail.policy.places import Entry, Mistake, Node, Place, step

__all__ = ["HALF_A_PAIR", "TooMuchError", "is_json", "joined_pairs", "read_json"]

# A text is a token of its own, so that brackets and commas within it are none.
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_WORD = re.compile(r"[-+.\w]+")
_SPACE = re.compile(r"[ \t\r\n]*")
# As YAML counts lines, so that both kinds of files have the same places.
_LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_HALF = re.compile("[\ud800-\udfff]")

HALF_A_PAIR = "holds half a surrogate pair (\\ud800 to \\udfff), which is no text"


class TooMuchError(Exception):
    """The text holds more than a policy does.

    Attributes:
        place: Where that shows.
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
    """The values of a text that is JSON, and what is wrong with them for a policy.

    Args:
        text: The text.
        shown: What mistakes call the file.
        most_values: How many values it may hold.
        deepest: How many levels it may have.

    Raises:
        TooMuchError: It holds more.
    """
    reading = _Reading(text, shown, most_values, deepest)
    node, _ = reading.value(_end(_SPACE, text, 0), "", 0)
    return node, reading.mistakes


def joined_pairs(text: str) -> str | None:
    """A text in which each surrogate pair is the character it stands for; None where half of one is left.

    JSON writes a character beyond the first 65,536 as two escapes.
    """
    if not _HALF.search(text):
        return text
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        return None


class _Reading:
    """Walks a text of which is known that it is JSON."""

    def __init__(self, text: str, shown: str, most_values: int, deepest: int) -> None:
        self.mistakes: list[Mistake] = []
        self._text = text
        self._shown = shown
        self._left = self._most = most_values
        self._deepest = deepest
        self._lines = [0, *(found.end() for found in _LINE_END.finditer(text))]

    def value(self, at: int, path: str, depth: int) -> tuple[Node, int]:
        """The value that begins here, and where the text goes on behind it."""
        place, first = self._place(at), self._text[at]
        self._left -= 1
        if self._left < 0:
            raise TooMuchError(place, f"it holds more than {self._most:,} values")
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
            self._say(place, path, "has no value; give it one, or remove it")
        elif not isinstance(value, bool) and isinf(float(self._text[at:end])):
            self._say(place, path, "is a number too large to be told from infinity")
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
                self._say(key, step(path, name), f"duplicate key; it stands in line {line} already")
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
        """Where the next item begins behind one that ends here, or the bracket stands that ends them all."""
        at = _end(_SPACE, self._text, at)
        return self._behind(at) if self._text[at] == "," else at

    def _behind(self, at: int) -> int:
        """Where the text goes on behind a single character and the space that follows it."""
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
    raise ValueError(f"{name} is no JSON number")
