"""The file of keys: who may use the server, for which policies, how much, and what they see of verdicts.

    policies:
      retail: ./retail.yaml
    keys:
      - name: web-shop
        sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
        tags: [shop]
        verdict: action
        limits: {requests_per_minute: 60}
      - {name: anna, role: reviewer, sha256: …}

A file of another suffix than ``.yaml`` or ``.yml`` has a client's key a line.
"""

import stat
from collections.abc import Hashable
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from yaml.nodes import MappingNode

from guardrail.errors import OptionError

__all__ = ["KeyEntry", "KeyFile", "KeyLimits", "Role", "Sight", "read_key_file"]

Role = Literal["client", "reviewer", "metrics"]
Sight = Literal["full", "action", "none"]
# Shorter ones can be guessed by trying.
_SHORTEST = 16
_MAKE_ONE = "Make one with: openssl rand -hex 32"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


_Least = Annotated[int, Field(ge=1)]
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]
_Names = Annotated[list[_Name], Field(min_length=1)]


class KeyLimits(_Strict):
    """What one key may use, at most what the server allows anybody; None for that.

    Attributes:
        max_waiting: Most of its requests that run and wait at once.
        requests_per_minute: Most of its requests in any 60 seconds.
        max_prompt_tokens: Longest prompt, in tokens.
        max_output_tokens: Longest answer that it may ask for, in tokens.
    """

    max_waiting: _Least | None = None
    requests_per_minute: _Least | None = None
    max_prompt_tokens: _Least | None = None
    max_output_tokens: _Least | None = None


class KeyEntry(_Strict):
    """One key, and what it may do.

    Attributes:
        name: What the log and the review queue call whoever has it.
        sha256: Of the key, 64 hexadecimal digits; or the key itself is given.
        key: The key itself.
        role: A ``client`` asks, a ``reviewer`` decides on what waits for a person, ``metrics`` reads
            ``/metrics``; none may do what another does.
        policies: Names of the policies that it may use, the first where a request names none; all of them
            if not given.
        tags: What the policies' rules are told of its requests.
        verdict: What its responses say of the verdict: all, the action alone, or nothing.
        limits: What it may use.
    """

    name: _Name
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    key: str | None = Field(default=None, repr=False)
    role: Role = "client"
    policies: _Names | None = None
    tags: list[Annotated[str, Field(min_length=1)]] = []
    verdict: Sight = "full"
    limits: KeyLimits = KeyLimits()

    @model_validator(mode="after")
    def _has_one_key(self) -> Self:
        if (self.sha256 is None) == (self.key is None):
            raise ValueError("give sha256 or key, one of them")
        if self.key is not None and (problem := problem_of(self.key)):
            raise ValueError(problem)
        if self.role != "client" and (self.tags or self.verdict != "full" or self.limits != KeyLimits()):
            raise ValueError("tags, verdict and limits are of clients")
        if self.role == "metrics" and self.policies is not None:
            raise ValueError("the metrics are of all policies")
        return self

    @property
    def digest(self) -> bytes:
        """SHA-256 of the key."""
        return bytes.fromhex(self.sha256) if self.sha256 else sha256((self.key or "").encode()).digest()


class KeyFile(_Strict):
    """What a file of keys says.

    Attributes:
        policies: Policies that are served beside the server's own, by name: a path, relative to the file, or
            ``builtin:NAME``.
        keys: The keys.
    """

    policies: dict[_Name, str] = {}
    keys: Annotated[list[KeyEntry], Field(min_length=1)]

    @model_validator(mode="after")
    def _tells_them_apart(self) -> Self:
        for what, values in (
            ("name", [entry.name for entry in self.keys]),
            ("key", [entry.digest for entry in self.keys]),
        ):
            if len({*values}) != len(values):
                raise ValueError(f"two entries have one {what}")
        return self


def problem_of(key: str) -> str:
    """Why a key cannot be used, or empty. Never with a character of it."""
    if not key.isascii() or not key.isprintable() or " " in key:
        return "a key is one word of printable ASCII characters; a client cannot send another"
    if len(key) < _SHORTEST:
        return f"a key of fewer than {_SHORTEST} characters can be guessed. {_MAKE_ONE}"
    return ""


def read_key_file(path: Path) -> KeyFile:
    """Read a file of keys.

    Raises:
        OptionError: It cannot be read, others than its owner may write to it, or it has a mistake or no keys.
            No message has a key in it.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise OptionError(f"The file of keys {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise OptionError(f"The file of keys {path} is not text in UTF-8.") from None
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise OptionError(f"Others may write to the file of keys {path}, and add keys: chmod go-w {path}")
    return _from_yaml(path, text) if path.suffix in (".yaml", ".yml") else _from_lines(path, text)


def _from_lines(path: Path, text: str) -> KeyFile:
    entries: dict[str, KeyEntry] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        key = line.strip()
        if not key or key.startswith("#"):
            continue
        if problem := problem_of(key):
            raise OptionError(f"{path}:{number}: {problem}.")
        entries.setdefault(key, KeyEntry(name=f"line-{number}", key=key))
    if not entries:
        raise OptionError(f"The file of keys {path} has none; write one a line.")
    return KeyFile(keys=[*entries.values()])


def _from_yaml(path: Path, text: str) -> KeyFile:
    try:
        read = yaml.load(text, _OneMeaning)  # noqa: S506  (a SafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        # Its own words quote the line, which may hold a key.
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark is not None else ""
        what = "a key of a map stands there twice" if isinstance(error, _TwiceError) else "no YAML"
        raise OptionError(f"{path}{where}: {what}.") from None
    try:
        file = KeyFile.model_validate(read)
    except ValidationError as error:
        mistakes = error.errors(include_url=False, include_input=False, include_context=False)
        lines = [f"{path}: {'.'.join(map(str, one['loc'])) or 'file'}: {one['msg']}." for one in mistakes]
        raise OptionError("\n".join(lines)) from None
    beside = {
        name: source if source.startswith("builtin:") else str(path.parent / source)
        for name, source in file.policies.items()
    }
    return file.model_copy(update={"policies": beside})


class _TwiceError(yaml.MarkedYAMLError):
    pass


class _OneMeaning(yaml.SafeLoader):
    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names = [key.value for key, _ in node.value]
        if len({*map(str, names)}) != len(names):
            raise _TwiceError(problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)
