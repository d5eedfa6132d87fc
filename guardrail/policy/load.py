"""A policy file to a :class:`Policy`: its base, its variables, or everything that is wrong with it."""

import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from guardrail.errors import PolicyError
from guardrail.policy.answer_boxes import Budget
from guardrail.policy.document import Entry, Mistake, Node, Place, in_order
from guardrail.policy.evidence import Action
from guardrail.policy.lint import UNKNOWN_FILE, check_ids, check_profile, check_soundness
from guardrail.policy.messages import Notice
from guardrail.policy.model import Policy
from guardrail.policy.validation import kind_of, validate
from guardrail.policy.yaml_document import BUILTIN, ReadYaml, builtin_policy, read_file, read_text

__all__ = ["Checked", "check_policy", "check_text", "fill_in", "load_policy", "merge", "notices_in"]


# Merged key by key: targets by their names, the log by its keys. Anything else is one value.
_MERGED = ("escalation", "log")


def merge(base: Node, child: Node) -> Node:
    """The policy that ``child`` makes of ``base``; every part keeps its place.

    Rules of the same id are replaced where they stand, new ones go before all inherited ones.
    """
    entries = {key: entry for key, entry in base.entries.items() if key != "extends"}
    for key, entry in child.entries.items():
        inherited = entries.get(key)
        if key == "extends":
            continue
        if inherited is not None and key == "rules" and inherited.node.items and entry.node.items:
            entry = Entry(entry.key, _merge_rules(inherited.node, entry.node))
        elif inherited is not None and key in _MERGED and entry.node.entries:
            both = {**inherited.node.entries, **entry.node.entries}
            entry = Entry(entry.key, entry.node.with_entries(both))
        entries[key] = entry
    return child.with_entries(entries)


def notices_in(root: Node) -> list[Notice]:
    """The messages of a policy that is not checked yet."""
    rules = root.get("rules")
    said = [(_id(rule) or "", rule) for rule in (rules.items if rules else ())]
    said += [(key, entry.node) for key, entry in root.entries.items() if key.startswith("on_")]
    notices = []
    for rule, node in said:
        message, action = node.get("message"), node.get("action")
        if message is not None and message.text:
            named = action.text if action else None
            known: Action = next((one for one in get_args(Action) if one == named), "abstain")
            notices.append(Notice(message.text, known, rule))
    return notices


def _merge_rules(base: Node, child: Node) -> Node:
    replaced = {_id(rule): rule for rule in child.items if _id(rule) is not None}
    inherited = {_id(rule) for rule in base.items}
    new = [rule for rule in child.items if _id(rule) is None or _id(rule) not in inherited]
    kept = [replaced.get(_id(rule), rule) for rule in base.items]
    return child.with_items([*new, *kept])


def _id(rule: Node) -> str | None:
    node = rule.get("id")
    return None if node is None else node.text


_PART = re.compile(r"\$\$|\$\{(?P<inside>[^}]*)(?P<end>\}?)")
_INSIDE = re.compile(r"(?P<name>[A-Za-z_]\w*)(?::-(?P<default>.*))?", re.ASCII | re.DOTALL)


def fill_in(node: Node, environment: Mapping[str, str]) -> tuple[Node, list[Mistake]]:
    """Put the environment's values where they are asked for. They stay texts, and are not looked into."""
    mistakes: list[Mistake] = []
    return _filled(node, environment, mistakes), mistakes


def _filled(node: Node, environment: Mapping[str, str], mistakes: list[Mistake]) -> Node:
    if node.items:
        return node.with_items(_filled(item, environment, mistakes) for item in node.items)
    if node.entries:
        return node.with_entries(
            {
                key: Entry(entry.key, _filled(entry.node, environment, mistakes))
                for key, entry in node.entries.items()
            }
        )
    if node.text is None or "$" not in node.text:
        return node

    def value(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        inside = _INSIDE.fullmatch(found["inside"]) if found["end"] else None
        if inside is None:
            said = f"{found[0][:40]!r} is no variable; write ${{NAME}}, ${{NAME:-default}} or $$"
            mistakes.append(node.mistake(said))
            return found[0]
        name, default = inside["name"], inside["default"]
        given = environment.get(name)
        if default is not None:
            return given or default
        if given is None:
            mistakes.append(
                node.mistake(
                    f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}"
                )
            )
            return found[0]
        return given

    return node.with_text(_PART.sub(value, node.text))


_LONGEST_CHAIN = 10
_SHOWN_KEYS = 4
# What the file of a profile has.
_OF_A_PROFILE = {"scorer", "reference", "making"}


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of looking through a policy.

    Attributes:
        policy: It, where nothing is wrong.
        mistakes: Everything that is wrong, in the order of the file.
        warnings: What is likely not meant, or depends on data.
        files: Absolute paths of the files that it names and that were read: those it extends, its profile.
    """

    policy: Policy | None
    mistakes: tuple[Mistake, ...]
    warnings: tuple[Mistake, ...]
    files: tuple[Path, ...] = ()


def load_policy(where: str | Path) -> Policy:
    """Read a policy.

    Args:
        where: Its file, or ``builtin:NAME`` for one that comes with guardrail.

    Raises:
        PolicyError: It has mistakes; the error lists every one of them with its place.
    """
    if not isinstance(where, str | Path):
        raise PolicyError(
            [
                f"A policy is named by its file, or as builtin:NAME, and this is of type "
                f"{type(where).__name__}. One that is no file is made by Policy.model_validate({{…}})."
            ]
        )
    checked = check_policy(where)
    if checked.policy is None:
        raise PolicyError([str(mistake) for mistake in checked.mistakes])
    return checked.policy


def check_policy(where: str | Path, environment: Mapping[str, str] | None = None) -> Checked:
    """Read a policy and say everything that is wrong with it. Raises nothing.

    Args:
        where: Its file, or ``builtin:NAME`` for one that comes with guardrail.
        environment: What ``${VAR}`` stands for; by default that of this process.
    """
    shown = str(where)
    try:
        file = builtin_policy(shown.removeprefix(BUILTIN)) if shown.startswith(BUILTIN) else Path(where)
    except PolicyError as error:
        return Checked(None, (Mistake(Place(shown), "file", str(error)),), ())
    gathering = _Gathering(os.environ if environment is None else environment)
    return _checked(gathering, gathering.resolve(read_file(file, shown), file, shown, ()))


def check_text(
    text: str,
    shown: str = "policy.yaml",
    folder: Path = Path(),
    environment: Mapping[str, str] | None = None,
    files: Collection[Path] | None = None,
) -> Checked:
    """The same for a policy that is being typed.

    Args:
        text: YAML.
        shown: What mistakes call it.
        folder: What its paths start from.
        environment: What ``${VAR}`` stands for; by default that of this process.
        files: The only files that it may name, such as the ``files`` of what another check gave: of others it
            is not even said whether they are there. Any without.
    """
    known = None if files is None else frozenset(map(_absolute, files))
    gathering = _Gathering(os.environ if environment is None else environment, known)
    return _checked(gathering, gathering.resolve(read_text(text, shown), folder / shown, shown, ()))


@dataclass(slots=True)
class _Gathering:
    """Reads a policy and those it extends, and keeps what is wrong on the way."""

    environment: Mapping[str, str]
    # The only files that may be named; None for any.
    known: frozenset[Path] | None = None
    mistakes: list[Mistake] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    # Shared, so that a long line of policies takes no longer than one.
    budget: Budget = field(default_factory=Budget)
    # In the order in which they were read: the policy itself first.
    folders: dict[str, Path] = field(default_factory=dict)
    # What the policies that are extended say, also where it is replaced.
    inherited: list[Notice] = field(default_factory=list)
    is_whole: bool = True

    def resolve(self, read: ReadYaml, file: Path, shown: str, chain: tuple[Path, ...]) -> Node | None:
        """The policy's values with those it extends merged in; None where it cannot be read."""
        self.folders[shown] = file.parent
        self.mistakes += read.mistakes
        if read.root is None:
            self.is_whole = False
            return None
        root, unset = fill_in(read.root, self.environment)
        self.mistakes += [*unset, *check_ids(root)]
        extends = root.get("extends")
        if extends is None or not extends.text:
            return root
        base = self._base(extends, extends.text, file, (*chain, file.resolve()))
        if base is None:
            self.is_whole = False
            return root
        self.inherited += notices_in(base)
        return merge(base, root)

    def named(self, file: Path) -> Path | None:
        """A file as it is to be read; None where it may not be named. Nothing of it is looked at."""
        if self.known is None:
            return file
        # By its name without detours: a link on the way would lead elsewhere.
        absolute = _absolute(file)
        return absolute if absolute in self.known else None

    def _base(self, node: Node, name: str, file: Path, chain: tuple[Path, ...]) -> Node | None:
        """The policy that another extends: a policy of its own, or a mistake where it is named."""
        try:
            is_builtin = name.startswith(BUILTIN)
            base = (
                builtin_policy(name.removeprefix(BUILTIN)) if is_builtin else self.named(file.parent / name)
            )
            if base is None:
                self.mistakes.append(node.mistake(UNKNOWN_FILE))
                return None
            if base.resolve() in chain:
                self.mistakes.append(node.mistake(f"leads in a circle: {name} extends this file"))
                return None
            if len(chain) > _LONGEST_CHAIN:
                self.mistakes.append(node.mistake(f"is the end of more than {_LONGEST_CHAIN} policies"))
                return None
        except (PolicyError, OSError, RuntimeError, ValueError) as error:
            self.mistakes.append(node.mistake(str(error)))
            return None
        shown = name if is_builtin else os.path.normpath(base)
        read = read_file(base, shown)
        wrong = _no_policy(read)
        if wrong:
            # Where it is named is where it is to be mended.
            self.mistakes.append(node.mistake(f"{shown}{wrong}"))
            return None
        if not is_builtin:
            self.files.append(_absolute(base))
        root = self.resolve(read, base, shown, chain)
        if root is not None and self.is_whole:
            self.mistakes += _mistakes_alone(root, node, shown, self.budget)
        return root


def _checked(gathering: _Gathering, root: Node | None) -> Checked:
    mistakes, warnings = list(gathering.mistakes), list[Mistake]()
    policy: Policy | None = None
    if root is not None:
        policy, found = validate(Policy, root)
        if gathering.is_whole and root.entries:
            wrong, warnings = check_soundness(root, gathering.budget)
            profiled = check_profile(root, gathering.folders, gathering.named)
            gathering.files += [_absolute(profiled.path)] if profiled.path else []
            found += [*wrong, *profiled.mistakes]
            warnings += profiled.warnings
            # Whether a model is here is not for everybody to know.
            warnings += _doubtful_models(root) if gathering.known is None else []
            policy = policy and policy.found_at(profiled.path).inheriting(gathering.inherited)
        # What could not be read, or is not set, is wrong once, whatever else it would be wrong for.
        known = {(mistake.place, mistake.path) for mistake in mistakes}
        mistakes += [
            one
            for one in found
            if (one.place, one.path) not in known and (gathering.is_whole or one.text != "is missing")
        ]
        if policy is None and not mistakes:
            mistakes.append(root.mistake("is no policy that can be used"))
    files = list(gathering.folders)
    return Checked(
        policy=None if mistakes else policy,
        mistakes=in_order(mistakes, files),
        warnings=in_order(warnings, files),
        files=tuple(dict.fromkeys(gathering.files)),
    )


def _no_policy(read: ReadYaml) -> str:
    """What a file is that a policy extends, where that is no policy; empty where it may be one."""
    root = read.root
    if root is None:
        first = read.mistakes[0]
        if first.path == "file":
            return f": {first.text}"
        if read.looks_like:
            return f": is no policy but {read.looks_like}"
        # A policy with a slip in it is mended in its own file.
        said = f"{first.text}, in line {first.place.line}"
        return "" if read.has_policy_keys else f": is no policy ({said})"
    if not root.entries:
        if read.mistakes and not read.looks_like:
            return f": is no policy ({read.mistakes[0].text})"
        kind = "an empty map" if isinstance(root.value, Mapping) else kind_of(root)
        return f": is no policy but {read.looks_like or kind}"
    version, keys = root.get("version"), ", ".join(sorted(root.entries)[:_SHOWN_KEYS])
    if set(root.entries) >= _OF_A_PROFILE:
        return ": is a profile and no policy; name it under profile"
    if version is None:
        return f": is no policy: it has no version, but {keys}"
    if type(version.value) is not int or version.value != 1:
        return f": is a policy of version {version.plain()!r:.20}, and this guardrail reads version 1"
    if "rules" not in root.entries and "extends" not in root.entries:
        return f": is no policy: it has no rules, but {keys}"
    return ""


def _mistakes_alone(root: Node, node: Node, shown: str, budget: Budget) -> Iterator[Mistake]:
    """What keeps a policy that another extends from being one by itself.

    What the other replaces counts too: it might as well not, and nobody would look.
    """
    _, found = validate(Policy, root)
    missing = [one.path for one in found if one.text == "is missing" and one.place == root.place]
    if missing:
        yield node.mistake(f"{shown}: is no policy by itself: {' and '.join(missing)} is missing")
    yield from (one for one in found if one.text != "is missing" or one.place != root.place)
    if not missing:
        wrong, _ = check_soundness(root, budget)
        yield from wrong


def _absolute(file: Path) -> Path:
    # By its name alone: looking where a link leads is looking.
    return Path(os.path.abspath(file))


def _doubtful_models(root: Node) -> list[Mistake]:
    """Names that lead to no model from here; on another machine they may."""
    from guardrail.errors import ModelReferenceError
    from guardrail.models.files.reference import DEFAULT_MODEL, ModelReference

    doubtful = []
    for node in filter(None, (root.get("model"), root.get("scorer_model"))):
        try:
            ModelReference.parse(node.text or DEFAULT_MODEL)
        except (ModelReferenceError, OSError, ValueError) as error:
            doubtful.append(node.mistake(str(error)))
    return doubtful
