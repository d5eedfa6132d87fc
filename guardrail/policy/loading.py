"""A policy file to a :class:`Policy`, or everything that is wrong with it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from guardrail.errors import PolicyError
from guardrail.policy.builtin import BUILTIN, builtin_policy
from guardrail.policy.inheritance import merge
from guardrail.policy.model import Policy
from guardrail.policy.places import Mistake, Node, Place, in_order
from guardrail.policy.profiles import check_profile
from guardrail.policy.soundness import check_ids, check_soundness
from guardrail.policy.validation import validate
from guardrail.policy.variables import fill_in
from guardrail.policy.yaml_files import ReadYaml, read_file, read_text

__all__ = ["Checked", "check_policy", "check_text", "load_policy"]

_LONGEST_CHAIN = 10


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of looking through a policy.

    Attributes:
        policy: It, where nothing is wrong.
        mistakes: Everything that is wrong, in the order of the file.
        warnings: What is likely not meant, or depends on data.
    """

    policy: Policy | None
    mistakes: tuple[Mistake, ...]
    warnings: tuple[Mistake, ...]


def load_policy(where: str | Path) -> Policy:
    """Read a policy.

    Args:
        where: Its file, or ``builtin:NAME`` for one that comes with guardrail.

    Raises:
        PolicyError: It has mistakes; the error lists every one of them with its place.
    """
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
) -> Checked:
    """The same for a policy that is being typed.

    Args:
        text: YAML.
        shown: What mistakes call it.
        folder: What its paths start from.
        environment: What ``${VAR}`` stands for; by default that of this process.
    """
    gathering = _Gathering(os.environ if environment is None else environment)
    return _checked(gathering, gathering.resolve(read_text(text, shown), folder / shown, shown, ()))


@dataclass(slots=True)
class _Gathering:
    """Reads a policy and those it extends, and keeps what is wrong on the way."""

    environment: Mapping[str, str]
    mistakes: list[Mistake] = field(default_factory=list)
    # In the order in which they were read: the policy itself first.
    folders: dict[str, Path] = field(default_factory=dict)
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
        return merge(base, root)

    def _base(self, node: Node, name: str, file: Path, chain: tuple[Path, ...]) -> Node | None:
        try:
            is_builtin = name.startswith(BUILTIN)
            base = builtin_policy(name.removeprefix(BUILTIN)) if is_builtin else file.parent / name
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
        if read.root is None and read.mistakes[0].path == "file":
            # Where it is named is where it is to be mended.
            self.mistakes.append(node.mistake(f"{shown}: {read.mistakes[0].text}"))
            return None
        return self.resolve(read, base, shown, chain)


def _checked(gathering: _Gathering, root: Node | None) -> Checked:
    mistakes, warnings = list(gathering.mistakes), list[Mistake]()
    policy: Policy | None = None
    if root is not None:
        policy, found = validate(Policy, root)
        if gathering.is_whole and root.entries:
            wrong, warnings = check_soundness(root)
            profiled = check_profile(root, gathering.folders)
            found += [*wrong, *profiled.mistakes]
            warnings += [*profiled.warnings, *_doubtful_models(root)]
            policy = policy and policy.found_at(profiled.path)
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
    )


def _doubtful_models(root: Node) -> list[Mistake]:
    """Names that lead to no model from here; on another machine they may."""
    from guardrail.errors import ModelReferenceError
    from guardrail.models.reference import DEFAULT_MODEL, ModelReference

    doubtful = []
    for node in filter(None, (root.get("model"), root.get("scorer_model"))):
        try:
            ModelReference.parse(node.text or DEFAULT_MODEL)
        except (ModelReferenceError, OSError, ValueError) as error:
            doubtful.append(node.mistake(str(error)))
    return doubtful
