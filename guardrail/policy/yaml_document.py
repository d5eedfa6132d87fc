"""YAML text to values that know where they stand, and the policies that come with guardrail."""

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
# A wheel carries them within the package; a checkout has them beside it, where people look for them.
_POLICIES = (_PACKAGE / "_policies", _PACKAGE.parent / "policies")


def builtin_policies() -> dict[str, Path]:
    """Where each ready policy lies, by name."""
    folder = next((folder for folder in _POLICIES if folder.is_dir()), None)
    return {} if folder is None else {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def builtin_policy(name: str) -> Path:
    """Where a ready policy lies.

    Raises:
        PolicyError: There is none of this name.
    """
    policies = builtin_policies()
    if name not in policies:
        raise PolicyError([f"there is no ready policy {name!r}{did_you_mean(name, policies)}"])
    return policies[name]


_MOST_BYTES = 1_000_000
_MOST_VALUES = 20_000
_DEEPEST = 40
# With the keys.
_MOST_NODES = 2 * _MOST_VALUES

# Longer ones are told from infinity as numbers with a fraction are.
_INTEGER = re.compile(r"[-+]?(0|[1-9]\d{0,299})")
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
# What lies where a file was expected that was not fetched.
_BEGINNINGS = (
    (
        re.compile(r"version https://git-lfs\.github\.com/"),
        "the pointer of git-lfs in place of a file; git lfs pull fetches it",
    ),
    (re.compile(r"\s*<[!?A-Za-z]"), "a web page"),
)
_POLICY_KEY = re.compile(r"^[\s{]*[\"']?(version|name|rules|extends)[\"']?\s*:", re.MULTILINE)
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
        looks_like: What the text is by its beginning, where that is known and no YAML.
        has_policy_keys: Whether a line begins with a key that policies have.
    """

    root: Node | None
    mistakes: tuple[Mistake, ...]
    looks_like: str = ""
    has_policy_keys: bool = False


def policy_text(file: Path) -> str:
    """The text of a file as it stands.

    Raises:
        OSError: It cannot be read, or is no regular file or larger than a policy is.
        UnicodeDecodeError: It is not UTF-8.
    """
    return read_regular(file, _MOST_BYTES).decode("utf-8-sig")


def read_file(file: Path, shown: str) -> ReadYaml:
    """Read a file; whatever is wrong with it becomes a mistake, and nothing is raised.

    Args:
        file: Where it lies.
        shown: What mistakes call it.
    """
    try:
        data = read_regular(file, _MOST_BYTES)
    except FileNotFoundError:
        return _unreadable(shown, "there is no such file")
    except IsADirectoryError:
        return _unreadable(shown, "is a folder; name a file in it")
    except OSError as error:
        if error.errno == EFBIG:
            return _unreadable(shown, f"is larger than {_MOST_BYTES:,} bytes, and no policy is")
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
    """Read a text; whatever is wrong with it becomes a mistake, and nothing is raised.

    Args:
        text: YAML, or JSON.
        shown: What mistakes call the file.
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
        return ReadYaml(None, (Mistake(place, "yaml", "a character stands here that no text file has"),))
    except MarkedYAMLError as error:
        return ReadYaml(None, (_syntax_mistake(error, shown),))
    except (ValueError, OverflowError):
        # An escape of a character that there is not.
        place = _place(shown, loader.get_mark()) if loader else Place(shown)
        said = "an escape with \\ stands here that is no character"
        return ReadYaml(None, (Mistake(place, "yaml", said),))
    finally:
        if loader is not None:
            loader.dispose()
    if root is None:
        return ReadYaml(None, (Mistake(Place(shown), "yaml", "there is nothing in it"),))
    building = _Building(shown, [])
    building.mistakes.extend(Mistake(_place(shown, mark), "yaml", said) for mark, said in loader.remarks)
    try:
        node = building.node(root, "", ())
    except TooMuchError as error:
        return ReadYaml(None, (Mistake(error.place, "yaml", str(error)),))
    return ReadYaml(node, tuple(building.mistakes))


class _Loader(yaml.SafeLoader):
    """Composes nodes and constructs nothing; refuses what nests too deeply for those who walk it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.remarks: list[tuple[Mark, str]] = []
        self._depth = self._nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) is not None:
            self.remarks.append((event.start_mark, f"the tag {event.tag[:60]} is not read; remove it"))
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            # Reading on would take long, and end in the same mistake.
            raise MarkedYAMLError(
                problem=f"it holds more than {_MOST_VALUES:,} values", problem_mark=event.start_mark
            )
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
            raise TooMuchError(_place(self.file, node.start_mark), "an anchor stands within itself")
        place, above = _place(self.file, node.start_mark), (*above, id(node))
        if self.values > _MOST_VALUES or len(above) > _DEEPEST + 1:
            raise TooMuchError(place, f"with its anchors it holds more than {_MOST_VALUES:,} values")
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
            return self._joined(str(key.value), place, path)
        if kind in _SURPRISES and not (_INTEGER.fullmatch(key.value) or key.value in _BOOLEANS):
            self._say(place, step(path, key.value), f"the key {key.value!r} {_SURPRISES[kind]}")
        else:
            self._say(place, step(path, key.value), f"the key {key.value} is no text; put it in quotes")
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
