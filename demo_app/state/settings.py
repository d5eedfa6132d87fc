"""What the demo was started with, and what a policy that is typed into a page may not do."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import streamlit as st

from guardrail import Policy
from guardrail.models.files.reference import DEFAULT_MODEL
from guardrail.policy.document import Mistake, Node, Place
from guardrail.policy.load import Checked, check_policy
from guardrail.policy.model import Target
from guardrail.policy.yaml_document import BUILTIN, builtin_policies, read_text

__all__ = ["Settings", "environment", "known_files", "only_known_places", "queue_url", "settings"]


# Environment variables, so that ``streamlit run`` can start the demo too.
_MODEL, _POLICY, _DATA = "GUARDRAIL_DEMO_MODEL", "GUARDRAIL_DEMO_POLICY", "GUARDRAIL_DEMO_DATA"

# What ready policies call their queue by.
_QUEUE = "GUARDRAIL_QUEUE"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the demo was started with.

    Attributes:
        model: The model's name.
        policy: Path of a policy, or ``builtin:NAME``.
        data: Folder of profiles, labels and queues.
    """

    model: str
    policy: str
    data: Path


def settings() -> Settings:
    """Read them; the folder is made if it is not there."""
    data = (
        Path(os.environ.get(_DATA) or platformdirs.user_data_path("guardrail") / "demo")
        .expanduser()
        .absolute()
    )
    data.mkdir(parents=True, exist_ok=True)
    return Settings(
        os.environ.get(_MODEL) or DEFAULT_MODEL, os.environ.get(_POLICY) or "builtin:default", data
    )


def queue_url() -> str:
    """The queue of policies that name none of their own, as the ready ones: in the demo's folder."""
    return os.environ.get(_QUEUE) or f"sqlite:///{settings().data / 'guardrail.db'}"


def environment() -> dict[str, str]:
    """What ``${VAR}`` stands for in the policies that come with guardrail or with the demo's start."""
    return {**os.environ, _QUEUE: queue_url()}


_KINDS = {"queue": "queue", "chat_model": "chat model", "callable": "function"}


def known_files() -> tuple[Path, ...]:
    """The files that a typed policy may name: those that the policy of the start extends, and its profile."""
    source = settings().policy
    if source.startswith(BUILTIN):
        return ()
    return _files_of(source, _changed(Path(source)))


@st.cache_resource(show_spinner=False, max_entries=4)
def _files_of(source: str, changed: int) -> tuple[Path, ...]:
    return check_policy(source, environment()).files


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def only_known_places(checked: Checked, text: str, shown: str) -> Checked:
    """Refuse targets and logs that stand neither in a ready policy nor in the one that the demo began with.

    Args:
        checked: What the text is, all else considered.
        text: The policy as it was typed.
        shown: What mistakes call it.
    """
    policy = checked.policy
    if policy is None or not (policy.escalation or policy.log):
        return checked
    root = read_text(text, shown).root
    if root is None:
        return checked
    mistakes = tuple(_mistakes(policy, root))
    return Checked(None, mistakes, checked.warnings) if mistakes else checked


def _mistakes(policy: Policy, root: Node) -> Iterator[Mistake]:
    """One for each, in the order of the text; what came through ``extends`` is wrong where that stands."""
    known = [*_known()]
    places = [_place_of(target) for one in known for target in one.escalation.values()]
    found = [
        _mistake(root, ("escalation", name), _KINDS[target.kind])
        for name, target in policy.escalation.items()
        if _place_of(target) not in places
    ]
    if policy.log is not None and policy.log not in [one.log for one in known]:
        found.append(_mistake(root, ("log",), "log"))
    yield from sorted(found, key=lambda one: one.place)


def _known() -> Iterator[Policy]:
    for source in (settings().policy, *(f"{BUILTIN}{name}" for name in builtin_policies())):
        policy = check_policy(source, environment()).policy
        if policy is not None:
            yield policy


def _place_of(target: Target) -> tuple[object, ...]:
    """Where a target sends answers; how long it is waited for is free."""
    return target.queue, target.chat_model, target.callable, target.arguments


def _mistake(root: Node, keys: tuple[str, ...], what: str) -> Mistake:
    said = f"a policy typed into the page cannot name a new {what}: start the demo with --policy FILE"
    place = _standing(root, keys)
    if place is None:
        keys = ("extends",)
        place = _standing(root, keys) or root.place
    return Mistake(place, ".".join(keys), said)


def _standing(root: Node, keys: tuple[str, ...]) -> Place | None:
    """Where the key at the end of others stands in the text; None where it does not."""
    place, node = None, root
    for key in keys:
        if key not in node.entries:
            return None
        place, node = node.entries[key]
    return place
