"""Values of a YAML file that know where they stand, and what is wrong with them said with the place."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

__all__ = ["Entry", "Mistake", "Node", "Place", "in_order", "step"]


class Place(NamedTuple):
    """Where something stands.

    Attributes:
        file: The file as it was named, or ``builtin:NAME``.
        line: Counted from 1.
        column: Likewise.
    """

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong, or to be warned of.

    Attributes:
        place: Where it stands.
        path: The same as a path of keys: ``rules[0].when.confidence``; ``yaml`` where there are no keys yet,
            and ``file`` where there is no text yet.
        text: What is wrong, and what to do.
    """

    place: Place
    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.place} {self.path}: {self.text}"


class Entry(NamedTuple):
    """One key of a map: where the key stands, and its value."""

    key: Place
    node: "Node"


Scalar = None | bool | int | float | str


@dataclass(frozen=True, slots=True)
class Node:
    """A value of a YAML file.

    Attributes:
        value: A scalar, the items of a list, or the entries of a map by key.
        place: Where it begins.
        path: Its path of keys in the file that it stands in.
        quoted: Whether it is a text by its quotation marks.
    """

    value: Scalar | tuple["Node", ...] | Mapping[str, Entry]
    place: Place
    path: str = ""
    quoted: bool = field(default=False, compare=False)

    @property
    def entries(self) -> Mapping[str, Entry]:
        """The entries of a map; none for anything else."""
        return self.value if isinstance(self.value, Mapping) else {}

    @property
    def items(self) -> tuple["Node", ...]:
        """The items of a list; none for anything else."""
        return self.value if isinstance(self.value, tuple) else ()

    @property
    def text(self) -> str | None:
        """A text, or None for anything else."""
        return self.value if isinstance(self.value, str) else None

    def get(self, key: str) -> "Node | None":
        """The value of a key; None where this is no map or has no such key."""
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
        """The value without its places."""
        if isinstance(self.value, tuple):
            return [item.plain() for item in self.value]
        if isinstance(self.value, Mapping):
            return {key: entry.node.plain() for key, entry in self.value.items()}
        return self.value

    def mistake(self, text: str) -> Mistake:
        """Something that is wrong here."""
        return Mistake(self.place, self.path or "policy", text)


def step(path: str, key: str | int) -> str:
    """A path of keys with one key or index more."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    shown = key if key.replace("-", "_").isidentifier() else f'["{key}"]'
    return f"{path}.{shown}" if path and shown == key else f"{path}{shown}"


def in_order(mistakes: Iterable[Mistake], files: Iterable[str]) -> tuple[Mistake, ...]:
    """Mistakes as a reader meets them, each once: by file in this order, then line and column."""
    order = {file: at for at, file in enumerate(files)}
    unique = dict.fromkeys(mistakes)
    return tuple(sorted(unique, key=lambda one: (order.get(one.place.file, len(order)), *one.place[1:])))
