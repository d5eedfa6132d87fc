"""YAML text to values that know where they stand.

Stricter than YAML: what two readers of YAML would read differently (``yes``, ``010``, dates), and what a
policy has no use for (tags, merge keys, empty values, several documents), is a mistake. Nothing is ever
constructed but texts, numbers, true and false.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isinf
from pathlib import Path
from typing import Any

import yaml
from yaml.error import Mark, MarkedYAMLError
from yaml.nodes import MappingNode, ScalarNode, SequenceNode
from yaml.reader import ReaderError

from guardrail.policy.places import Entry, Mistake, Node, Place, step

__all__ = ["ReadYaml", "read_file", "read_text"]

_MOST_BYTES = 1_000_000
_MOST_VALUES = 20_000
_DEEPEST = 40

_INTEGER = re.compile(r"[-+]?(0|[1-9]\d{0,17})")
_NUMBER = re.compile(r"[-+]?(0|[1-9]\d*)?(\.\d+|(?<=\d)\.?)([eE][-+]?\d+)?")
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_OCTAL = re.compile(r"0[oO][0-7]+")
_PREFIX = "tag:yaml.org,2002:"
# What readers of YAML 1.1 take for something else than the text it looks like; by PyYAML's tag.
_SURPRISES = {
    "bool": "is true or false to some readers of YAML and a text to others; write true or false, or quote it",
    "int": "is another number to some readers of YAML than to others; write a plain decimal, or quote it",
    "float": "is a number to some readers of YAML and a text to others; write a plain decimal, or quote it",
    "timestamp": "is a date to some readers of YAML; put it in quotes",
    "merge": "is a merge key to some readers of YAML; write the keys out, or use extends",
    "value": "is a special key to some readers of YAML; put it in quotes",
    "null": "is an empty key; give it a name",
}
_HINTS = (
    ("cannot start any token", "'\\t'", "a tab stands here; indent and separate with spaces"),
    (
        "cannot start any token",
        "",
        "a value cannot begin with this character; put the value in quotes",
    ),
    ("mapping values are not allowed", "", "a second ': ' stands in one line; put the text in quotes"),
    ("expected a single document", "", "a second document begins here; a file holds one"),
    ("could not find expected ':'", "", "a key has no ':' behind it, or a text that spans lines no quotes"),
    (
        "expected <block end>",
        "",
        "this fits nothing that stands before: check the indentation, and the quotes of a text that begins "
        "with {, [ or a quotation mark",
    ),
    (
        "expected ',' or",
        "",
        "this fits nothing within the brackets: put texts that hold { } [ ] , : in quotes",
    ),
    ("found unexpected end of stream", "", "a quotation mark is never closed"),
)


@dataclass(frozen=True, slots=True)
class ReadYaml:
    """What a file holds.

    Attributes:
        root: All of it; None where it is no YAML.
        mistakes: What is wrong with it as YAML.
    """

    root: Node | None
    mistakes: tuple[Mistake, ...]


def read_file(file: Path, shown: str) -> ReadYaml:
    """Read a file; whatever is wrong with it becomes a mistake, and nothing is raised.

    Args:
        file: Where it lies.
        shown: What mistakes call it.
    """
    try:
        if file.stat().st_size > _MOST_BYTES:
            return _unreadable(shown, f"is larger than {_MOST_BYTES:,} bytes, and no policy is")
        data = file.read_bytes()
    except FileNotFoundError:
        return _unreadable(shown, "there is no such file")
    except IsADirectoryError:
        return _unreadable(shown, "is a folder; name a file in it")
    except (OSError, ValueError) as error:
        return _unreadable(shown, f"cannot be read: {getattr(error, 'strerror', None) or error}")
    try:
        return read_text(data.decode("utf-8-sig"), shown)
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace")
        place = Place(shown, *_line_and_column(before))
        return ReadYaml(None, (Mistake(place, "file", "is not UTF-8 from here on; save it as UTF-8"),))


def read_text(text: str, shown: str) -> ReadYaml:
    """Read a text; whatever is wrong with it becomes a mistake, and nothing is raised."""
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
    except ReaderError as error:
        place = Place(shown, *_line_and_column(text[: error.position]))
        return ReadYaml(None, (Mistake(place, "yaml", "a character stands here that no text file has"),))
    except MarkedYAMLError as error:
        return ReadYaml(None, (_syntax_mistake(error, shown),))
    finally:
        if loader is not None:
            loader.dispose()
    if root is None:
        return ReadYaml(None, (Mistake(Place(shown), "yaml", "there is nothing in it"),))
    building = _Building(shown, [])
    building.mistakes.extend(Mistake(_place(shown, mark), "yaml", said) for mark, said in loader.remarks)
    try:
        node = building.node(root, "", ())
    except _TooMuchError as error:
        return ReadYaml(None, (Mistake(_place(shown, error.mark), "yaml", str(error)),))
    return ReadYaml(node, tuple(building.mistakes))


class _TooMuchError(Exception):
    def __init__(self, mark: Mark, text: str) -> None:
        super().__init__(text)
        self.mark = mark


class _Loader(yaml.SafeLoader):
    """Composes nodes and constructs nothing; refuses what nests too deeply for those who walk it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.remarks: list[tuple[Mark, str]] = []
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) is not None:
            self.remarks.append((event.start_mark, f"the tag {event.tag[:60]} is not read; remove it"))
        self._depth += 1
        if self._depth > _DEEPEST:
            raise MarkedYAMLError(problem=f"more than {_DEEPEST} levels", problem_mark=event.start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


@dataclass(slots=True)
class _Building:
    """From PyYAML's nodes to ours, with what is wrong on the way."""

    file: str
    mistakes: list[Mistake]
    values: int = 0

    def node(self, node: Any, path: str, above: tuple[int, ...]) -> Node:
        # Anchors make one node stand in many places: what is small to read can be endless to walk.
        self.values += 1
        if id(node) in above:
            raise _TooMuchError(node.start_mark, "an anchor stands within itself")
        if self.values > _MOST_VALUES or len(above) > _DEEPEST:
            raise _TooMuchError(
                node.start_mark, f"with its anchors it holds more than {_MOST_VALUES:,} values"
            )
        place, above = _place(self.file, node.start_mark), (*above, id(node))
        if isinstance(node, ScalarNode):
            return self._scalar(node, place, path)
        if isinstance(node, SequenceNode):
            items = (self.node(item, step(path, at), above) for at, item in enumerate(node.value))
            return Node(tuple(items), place, path)
        return Node(self._entries(node, path, above), place, path)

    def _scalar(self, node: ScalarNode, place: Place, path: str) -> Node:
        text = node.value
        if node.style is not None:
            return Node(text, place, path, quoted=True)
        if _INTEGER.fullmatch(text):
            return Node(int(text), place, path)
        if _NUMBER.fullmatch(text):
            if isinf(float(text)):
                self._say(place, path, "is a number too large to be told from infinity")
            return Node(float(text), place, path)
        if text in _BOOLEANS:
            return Node(_BOOLEANS[text], place, path)
        kind = "int" if _OCTAL.fullmatch(text) else node.tag.removeprefix(_PREFIX)
        if kind == "null":
            self._say(place, path, "has no value; give it one, or remove it")
            return Node(None, place, path)
        if kind in _SURPRISES:
            self._say(place, path, f"{text!r} {_SURPRISES[kind]}")
        return Node(text, place, path)

    def _entries(self, node: MappingNode, path: str, above: tuple[int, ...]) -> Mapping[str, Entry]:
        entries: dict[str, Entry] = {}
        for key, value in node.value:
            place = _place(self.file, key.start_mark)
            name = self._key(key, place, path)
            if name is None:
                continue
            if name in entries:
                first = entries[name].key.line
                self._say(place, step(path, name), f"duplicate key; it stands in line {first} already")
                continue
            entries[name] = Entry(place, self.node(value, step(path, name), above))
        return entries

    def _key(self, key: Any, place: Place, path: str) -> str | None:
        if not isinstance(key, ScalarNode):
            self._say(place, path, "a key is a list or a map; keys are texts")
            return None
        kind = key.tag.removeprefix(_PREFIX)
        if key.style is not None or kind == "str":
            return str(key.value)
        if kind in _SURPRISES and not (_INTEGER.fullmatch(key.value) or key.value in _BOOLEANS):
            self._say(place, step(path, key.value), f"the key {key.value!r} {_SURPRISES[kind]}")
        else:
            self._say(place, step(path, key.value), f"the key {key.value} is no text; put it in quotes")
        return None

    def _say(self, place: Place, path: str, text: str) -> None:
        self.mistakes.append(Mistake(place, path or "yaml", text))


def _syntax_mistake(error: MarkedYAMLError, shown: str) -> Mistake:
    problem = error.problem or error.context or "is no YAML"
    mark = error.problem_mark or error.context_mark
    for needle, also, hint in _HINTS:
        if needle in f"{error.context} {problem}" and also in problem:
            problem = hint
            break
    else:
        problem = f"{error.context}: {problem}" if error.context else problem
    return Mistake(_place(shown, mark) if mark else Place(shown), "yaml", problem)


def _unreadable(shown: str, text: str) -> ReadYaml:
    return ReadYaml(None, (Mistake(Place(shown), "file", text),))


def _place(shown: str, mark: Mark) -> Place:
    return Place(shown, mark.line + 1, mark.column + 1)


def _line_and_column(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
