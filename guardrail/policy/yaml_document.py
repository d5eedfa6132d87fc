"""Parse YAML text into values with their places; find the built-in policies."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from errno import EFBIG
from math import isinf
from pathlib import Path
from typing import Any

import yaml
from yaml.error import Mark, MarkedYAMLError
from yaml.nodes import MappingNode, ScalarNode, SequenceNode
from yaml.reader import ReaderError

from guardrail.errors import PolicyError
from guardrail.policy.document import (
    HALF_A_PAIR,
    Entry,
    Mistake,
    Node,
    Place,
    TooMuchError,
    is_json,
    joined_pairs,
    read_json,
    step,
)
from guardrail.utils.files import read_regular
from guardrail.utils.text import did_you_mean

__all__ = [
    "BUILTIN",
    "ReadYaml",
    "builtin_policies",
    "builtin_policy",
    "policy_text",
    "read_file",
    "read_text",
]


BUILTIN = "builtin:"
_PACKAGE = Path(__file__).resolve().parents[1]
# In a wheel they are inside the package; in a checkout beside it, where people look for them.
_POLICIES = (_PACKAGE / "_policies", _PACKAGE.parent / "policies")


def builtin_policies() -> dict[str, Path]:
    """The paths of the built-in policies, by name."""
    folder = next((folder for folder in _POLICIES if folder.is_dir()), None)
    return {} if folder is None else {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def builtin_policy(name: str) -> Path:
    """The path of a built-in policy.

    Raises:
        PolicyError: There is none with this name.
    """
    policies = builtin_policies()
    if name not in policies:
        raise PolicyError([f"there is no built-in policy {name!r}{did_you_mean(name, policies)}"])
    return policies[name]


_MOST_BYTES = 1_000_000
_MOST_VALUES = 20_000
_DEEPEST = 40
# Including keys.
_MOST_NODES = 2 * _MOST_VALUES

# Longer integers are read as floats, and refused if infinite.
_INTEGER = re.compile(r"[-+]?(0|[1-9]\d{0,299})")
_NUMBER = re.compile(r"[-+]?(0|[1-9]\d*)?(\.\d+|(?<=\d)\.?)([eE][-+]?\d+)?")
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_OCTAL = re.compile(r"0[oO][0-7]+")
_PREFIX = "tag:yaml.org,2002:"
# Plain texts that a YAML 1.1 reader takes for something else, by PyYAML's tag.
_SURPRISES = {
    "bool": "is true or false to some YAML readers and text to others; write true or false, or quote it",
    "int": "is a different number to different YAML readers; write a plain decimal, or quote it",
    "float": "is a number to some YAML readers and text to others; write a plain decimal, or quote it",
    "timestamp": "is a date to some YAML readers; put it in quotes",
    "merge": "is a merge key to some YAML readers; write the keys out, or use extends",
    "value": "is a special key to some YAML readers; put it in quotes",
    "null": "is an empty key; give it a name",
}
# Other things that a file may turn out to be if it was not fetched properly.
_BEGINNINGS = (
    (
        re.compile(r"version https://git-lfs\.github\.com/"),
        "a git-lfs pointer instead of the file; git lfs pull fetches it",
    ),
    (re.compile(r"\s*<[!?A-Za-z]"), "a web page"),
)
_POLICY_KEY = re.compile(r"^[\s{]*[\"']?(version|name|rules|extends)[\"']?\s*:", re.MULTILINE)
_HINTS = (
    ("cannot start any token", "'\\t'", "there is a tab here; indent and separate with spaces"),
    (
        "cannot start any token",
        "",
        "a value cannot begin with this character; put the value in quotes",
    ),
    ("mapping values are not allowed", "", "there is a second ': ' in this line; put the text in quotes"),
    ("expected a single document", "", "a second document begins here; a file holds only one"),
    ("could not find expected ':'", "", "a key has no ':' after it, or a text over several lines no quotes"),
    (
        "expected <block end>",
        "",
        "this does not fit what comes before: check the indentation, and quote a text that begins with {, [ "
        "or a quotation mark",
    ),
    (
        "expected ',' or",
        "",
        "this does not fit inside the brackets: quote texts that contain { } [ ] , :",
    ),
    ("found unexpected end of stream", "", "a quotation mark is never closed"),
)


@dataclass(frozen=True, slots=True)
class ReadYaml:
    """The content of a file.

    Attributes:
        root: The whole content; None if it is not YAML.
        mistakes: What is wrong with it as YAML.
        looks_like: What the text is judging by its beginning, if that is known and not YAML.
        has_policy_keys: Whether a line begins with a key of a policy.
    """

    root: Node | None
    mistakes: tuple[Mistake, ...]
    looks_like: str = ""
    has_policy_keys: bool = False


def policy_text(file: Path) -> str:
    """The text of a policy file.

    Raises:
        OSError: It cannot be read, is not a regular file, or is larger than a policy may be.
        UnicodeDecodeError: It is not UTF-8.
    """
    return read_regular(file, _MOST_BYTES).decode("utf-8-sig")


def read_file(file: Path, shown: str) -> ReadYaml:
    """Read a file. Never raises: everything wrong with it becomes a mistake.

    Args:
        file: The path.
        shown: File name used in mistakes.
    """
    try:
        data = read_regular(file, _MOST_BYTES)
    except FileNotFoundError:
        return _unreadable(shown, "there is no such file")
    except IsADirectoryError:
        return _unreadable(shown, "is a folder; name a file in it")
    except OSError as error:
        if error.errno == EFBIG:
            return _unreadable(shown, f"is larger than {_MOST_BYTES:,} bytes, too large for a policy")
        return _unreadable(shown, f"cannot be read: {error.strerror or error}")
    except ValueError as error:
        return _unreadable(shown, f"cannot be read: {error}")
    try:
        return read_text(data.decode("utf-8-sig"), shown)
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace")
        place = Place(shown, *_line_and_column(before))
        return ReadYaml(None, (Mistake(place, "file", "is not UTF-8 from here on; save it as UTF-8"),))


def read_text(text: str, shown: str) -> ReadYaml:
    """Read a text. Never raises: everything wrong with it becomes a mistake.

    Args:
        text: YAML or JSON.
        shown: File name used in mistakes.
    """
    looks_like = next((kind for begins, kind in _BEGINNINGS if begins.match(text)), "")
    has_policy_keys = _POLICY_KEY.search(text) is not None
    return replace(_read(text, shown), looks_like=looks_like, has_policy_keys=has_policy_keys)


def _read(text: str, shown: str) -> ReadYaml:
    try:
        if is_json(text):
            node, mistakes = read_json(text, shown, most_values=_MOST_VALUES, deepest=_DEEPEST)
            return ReadYaml(node, tuple(mistakes))
    except TooMuchError as error:
        return ReadYaml(None, (Mistake(error.place, "yaml", str(error)),))
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
    except ReaderError as error:
        place = Place(shown, *_line_and_column(text[: error.position]))
        return ReadYaml(None, (Mistake(place, "yaml", "there is a character here that text cannot contain"),))
    except MarkedYAMLError as error:
        return ReadYaml(None, (_syntax_mistake(error, shown),))
    except (ValueError, OverflowError):
        # An escape of a character that does not exist.
        place = _place(shown, loader.get_mark()) if loader else Place(shown)
        said = "there is an escape with \\ here that is not a character"
        return ReadYaml(None, (Mistake(place, "yaml", said),))
    finally:
        if loader is not None:
            loader.dispose()
    if root is None:
        return ReadYaml(None, (Mistake(Place(shown), "yaml", "the file is empty"),))
    building = _Building(shown, [])
    building.mistakes.extend(Mistake(_place(shown, mark), "yaml", said) for mark, said in loader.remarks)
    try:
        node = building.node(root, "", ())
    except TooMuchError as error:
        return ReadYaml(None, (Mistake(error.place, "yaml", str(error)),))
    return ReadYaml(node, tuple(building.mistakes))


class _Loader(yaml.SafeLoader):
    """Composes nodes without constructing objects; refuses deep nesting, which would overflow the stack."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.remarks: list[tuple[Mark, str]] = []
        self._depth = self._nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) is not None:
            self.remarks.append((event.start_mark, f"the tag {event.tag[:60]} is not supported; remove it"))
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            # Reading on would take long, and end in the same mistake.
            raise MarkedYAMLError(
                problem=f"contains more than {_MOST_VALUES:,} values", problem_mark=event.start_mark
            )
        self._depth += 1
        if self._depth > _DEEPEST:
            raise MarkedYAMLError(problem=f"more than {_DEEPEST} levels", problem_mark=event.start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


@dataclass(slots=True)
class _Building:
    """Converts PyYAML's nodes to ours, and collects mistakes."""

    file: str
    mistakes: list[Mistake]
    values: int = 0

    def node(self, node: Any, path: str, above: tuple[int, ...]) -> Node:
        # An anchor can put one node in many places, so a short file could take forever to walk.
        self.values += 1
        if id(node) in above:
            raise TooMuchError(_place(self.file, node.start_mark), "an anchor contains itself")
        place, above = _place(self.file, node.start_mark), (*above, id(node))
        if self.values > _MOST_VALUES or len(above) > _DEEPEST + 1:
            raise TooMuchError(place, f"contains more than {_MOST_VALUES:,} values with its anchors")
        if isinstance(node, ScalarNode):
            return self._scalar(node, place, path)
        if isinstance(node, SequenceNode):
            items = (self.node(item, step(path, at), above) for at, item in enumerate(node.value))
            return Node(tuple(items), place, path)
        return Node(self._entries(node, path, above), place, path)

    def _scalar(self, node: ScalarNode, place: Place, path: str) -> Node:
        text = node.value
        if node.style is not None:
            return Node(self._joined(text, place, path), place, path, quoted=True)
        if _INTEGER.fullmatch(text):
            return Node(int(text), place, path)
        if _NUMBER.fullmatch(text):
            if isinf(float(text)):
                self._say(place, path, "is a number too large to represent")
            return Node(float(text), place, path)
        if text in _BOOLEANS:
            return Node(_BOOLEANS[text], place, path)
        kind = "int" if _OCTAL.fullmatch(text) else node.tag.removeprefix(_PREFIX)
        if kind == "null":
            self._say(place, path, "has no value; give it one, or remove the key")
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
                self._say(place, step(path, name), f"duplicate key; it is already in line {first}")
                continue
            entries[name] = Entry(place, self.node(value, step(path, name), above))
        return entries

    def _key(self, key: Any, place: Place, path: str) -> str | None:
        if not isinstance(key, ScalarNode):
            self._say(place, path, "a key is a list or a map; keys must be text")
            return None
        kind = key.tag.removeprefix(_PREFIX)
        if key.style is not None or kind == "str":
            return self._joined(str(key.value), place, path)
        if kind in _SURPRISES and not (_INTEGER.fullmatch(key.value) or key.value in _BOOLEANS):
            self._say(place, step(path, key.value), f"the key {key.value!r} {_SURPRISES[kind]}")
        else:
            self._say(place, step(path, key.value), f"the key {key.value} is not text; put it in quotes")
        return None

    def _joined(self, text: str, place: Place, path: str) -> str:
        joined = joined_pairs(text)
        if joined is None:
            self._say(place, path, HALF_A_PAIR)
            return text.encode("utf-8", "replace").decode()
        return joined

    def _say(self, place: Place, path: str, text: str) -> None:
        self.mistakes.append(Mistake(place, path or "yaml", text))


def _syntax_mistake(error: MarkedYAMLError, shown: str) -> Mistake:
    problem = error.problem or error.context or "is not YAML"
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
