"""Load a policy file: resolve its base and variables, and report everything that is wrong with it."""

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


# Merged key by key; any other key is replaced as a whole.
_MERGED = ("escalation", "log")


def merge(base: Node, child: Node) -> Node:
    """Merge a policy into its base; every part keeps its place.

    Rules with the same id replace inherited ones in place; new rules go before all inherited ones.
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
    """The messages of a policy that has not been validated."""
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
    """Replace ``${VAR}`` by values from the environment. They stay texts and are not parsed."""
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
            said = f"{found[0][:40]!r} is not a variable; write ${{NAME}}, ${{NAME:-default}} or $$"
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
# Keys that identify a profile's file.
_OF_A_PROFILE = {"scorer", "reference", "making"}


@dataclass(frozen=True, slots=True)
class Checked:
    """Result of checking a policy.

    Attributes:
        policy: The policy, if it is valid.
        mistakes: Everything that is wrong, in the order of the file.
        warnings: What is probably unintended, or depends on data.
        files: Absolute paths of the files it names that were read: its base policies and profile.
    """

    policy: Policy | None
    mistakes: tuple[Mistake, ...]
    warnings: tuple[Mistake, ...]
    files: tuple[Path, ...] = ()


def load_policy(where: str | Path) -> Policy:
    """Read a policy.

    Args:
        where: A policy file, or ``builtin:NAME``.

    Raises:
        PolicyError: It is invalid; the error lists every mistake with its place.
    """
    if not isinstance(where, str | Path):
        raise PolicyError(
            [
                f"A policy is given as a file or as builtin:NAME, not as {type(where).__name__}. "
                f"For one that is not in a file, use Policy.model_validate({{…}})."
            ]
        )
    checked = check_policy(where)
    if checked.policy is None:
        raise PolicyError([str(mistake) for mistake in checked.mistakes])
    return checked.policy


def check_policy(where: str | Path, environment: Mapping[str, str] | None = None) -> Checked:
    """Read a policy and report everything that is wrong with it. Never raises.

    Args:
        where: A policy file, or ``builtin:NAME``.
        environment: Values of ``${VAR}``; by default this process's environment.
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
    """Like :func:`check_policy`, for a policy being edited.

    Args:
        text: YAML.
        shown: File name used in mistakes.
        folder: Folder that relative paths start from.
        environment: Values of ``${VAR}``; by default this process's environment.
        files: The only files it may name, such as ``files`` of an earlier check; nothing is revealed about
            others, not even whether they exist. None allows any.
    """
    known = None if files is None else frozenset(map(_absolute, files))
    gathering = _Gathering(os.environ if environment is None else environment, known)
    return _checked(gathering, gathering.resolve(read_text(text, shown), folder / shown, shown, ()))


@dataclass(slots=True)
class _Gathering:
    """Reads a policy with its base policies, and collects the mistakes."""

    environment: Mapping[str, str]
    # The only files that may be named; None for any.
    known: frozenset[Path] | None = None
    mistakes: list[Mistake] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    # Shared, so that a long chain of policies takes no longer than one.
    budget: Budget = field(default_factory=Budget)
    # In reading order: the policy itself first.
    folders: dict[str, Path] = field(default_factory=dict)
    # Messages of the base policies, including replaced ones.
    inherited: list[Notice] = field(default_factory=list)
    is_whole: bool = True

    def resolve(self, read: ReadYaml, file: Path, shown: str, chain: tuple[Path, ...]) -> Node | None:
        """The policy's values merged with those of its base policies; None if it cannot be read."""
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
        """The path to read for a named file, or None if it may not be named. The file is not accessed."""
        if self.known is None:
            return file
        # Compared by name: following links would access the file.
        absolute = _absolute(file)
        return absolute if absolute in self.known else None

    def _base(self, node: Node, name: str, file: Path, chain: tuple[Path, ...]) -> Node | None:
        """The resolved base policy; otherwise a mistake is reported where it is named."""
        try:
            is_builtin = name.startswith(BUILTIN)
            base = (
                builtin_policy(name.removeprefix(BUILTIN)) if is_builtin else self.named(file.parent / name)
            )
            if base is None:
                self.mistakes.append(node.mistake(UNKNOWN_FILE))
                return None
            if base.resolve() in chain:
                self.mistakes.append(node.mistake(f"is circular: {name} extends this file"))
                return None
            if len(chain) > _LONGEST_CHAIN:
                self.mistakes.append(
                    node.mistake(f"is the end of a chain of more than {_LONGEST_CHAIN} policies")
                )
                return None
        except (PolicyError, OSError, RuntimeError, ValueError) as error:
            self.mistakes.append(node.mistake(str(error)))
            return None
        shown = name if is_builtin else os.path.normpath(base)
        read = read_file(base, shown)
        wrong = _no_policy(read)
        if wrong:
            # Reported where it is named, since that is the place to fix.
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
            # Which models exist on this machine is not revealed to everybody.
            warnings += _doubtful_models(root) if gathering.known is None else []
            policy = policy and policy.found_at(profiled.path).inheriting(gathering.inherited)
        # Something unreadable or unset is reported once, not again for its consequences.
        known = {(mistake.place, mistake.path) for mistake in mistakes}
        mistakes += [
            one
            for one in found
            if (one.place, one.path) not in known and (gathering.is_whole or one.text != "is missing")
        ]
        if policy is None and not mistakes:
            mistakes.append(root.mistake("is not a valid policy"))
    files = list(gathering.folders)
    return Checked(
        policy=None if mistakes else policy,
        mistakes=in_order(mistakes, files),
        warnings=in_order(warnings, files),
        files=tuple(dict.fromkeys(gathering.files)),
    )


def _no_policy(read: ReadYaml) -> str:
    """Why a base file is not a policy; empty if it may be one."""
    root = read.root
    if root is None:
        first = read.mistakes[0]
        if first.path == "file":
            return f": {first.text}"
        if read.looks_like:
            return f": is not a policy but {read.looks_like}"
        # A policy with a slip in it is corrected in its own file.
        said = f"{first.text}, in line {first.place.line}"
        return "" if read.has_policy_keys else f": is not a policy ({said})"
    if not root.entries:
        if read.mistakes and not read.looks_like:
            return f": is not a policy ({read.mistakes[0].text})"
        kind = "an empty map" if isinstance(root.value, Mapping) else kind_of(root)
        return f": is not a policy but {read.looks_like or kind}"
    version, keys = root.get("version"), ", ".join(sorted(root.entries)[:_SHOWN_KEYS])
    if set(root.entries) >= _OF_A_PROFILE:
        return ": is a profile, not a policy; name it under profile"
    if version is None:
        return f": is not a policy: it has no version, but {keys}"
    if type(version.value) is not int or version.value != 1:
        return f": is a policy of version {version.plain()!r:.20}; this guardrail reads version 1"
    if "rules" not in root.entries and "extends" not in root.entries:
        return f": is not a policy: it has no rules, but {keys}"
    return ""


def _mistakes_alone(root: Node, node: Node, shown: str, budget: Budget) -> Iterator[Mistake]:
    """What keeps a base policy from being valid by itself.

    Mistakes in replaced parts count too, or nobody would ever see them.
    """
    _, found = validate(Policy, root)
    missing = [one.path for one in found if one.text == "is missing" and one.place == root.place]
    if missing:
        yield node.mistake(f"{shown}: is not valid by itself: {' and '.join(missing)} is missing")
    yield from (one for one in found if one.text != "is missing" or one.place != root.place)
    if not missing:
        wrong, _ = check_soundness(root, budget)
        yield from wrong


def _absolute(file: Path) -> Path:
    # By name only: resolving a link would access the file.
    return Path(os.path.abspath(file))


def _doubtful_models(root: Node) -> list[Mistake]:
    """Model names that cannot be resolved on this machine, though perhaps on another."""
    from guardrail.errors import ModelReferenceError
    from guardrail.models.files.reference import DEFAULT_MODEL, ModelReference

    doubtful = []
    for node in filter(None, (root.get("model"), root.get("scorer_model"))):
        try:
            ModelReference.parse(node.text or DEFAULT_MODEL)
        except (ModelReferenceError, OSError, ValueError) as error:
            doubtful.append(node.mistake(str(error)))
    return doubtful
