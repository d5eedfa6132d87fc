"""Settings of the demo, and its limits.

Host names that it answers to, what a policy typed into the page may name, and what is shown of an error.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import streamlit as st

from guardrail import Policy
from guardrail.errors import GuardrailError
from guardrail.models.files.reference import DEFAULT_MODEL
from guardrail.policy.document import Mistake, Node, Place
from guardrail.policy.load import Checked, check_policy
from guardrail.policy.model import Target
from guardrail.policy.yaml_document import BUILTIN, builtin_policies, read_text

__all__ = [
    "Settings",
    "environment",
    "known_files",
    "only_known_places",
    "own_hosts",
    "plain",
    "queue_url",
    "sentence",
    "settings",
    "shown",
]


# Environment variables, so that the settings reach the demo under ``streamlit run`` too.
_MODEL, _POLICY, _DATA = "GUARDRAIL_DEMO_MODEL", "GUARDRAIL_DEMO_POLICY", "GUARDRAIL_DEMO_DATA"

# The variable that the built-in policies name their queue by.
_QUEUE = "GUARDRAIL_QUEUE"


@dataclass(frozen=True, slots=True)
class Settings:
    """How the demo was started.

    Attributes:
        model: The model's name.
        policy: Path of a policy, or ``builtin:NAME``.
        data: Folder of profiles, labels and queues.
    """

    model: str
    policy: str
    data: Path


def settings() -> Settings:
    """Read the settings; the data folder is created if necessary."""
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
    """The default queue, in the data folder; the built-in policies use it."""
    return os.environ.get(_QUEUE) or f"sqlite:///{settings().data / 'guardrail.db'}"


def environment() -> dict[str, str]:
    """Values of ``${VAR}`` for built-in policies and the policy given at the start."""
    return {**os.environ, _QUEUE: queue_url()}


_KINDS = {"queue": "queue", "chat_model": "chat model", "callable": "function"}


def known_files() -> tuple[Path, ...]:
    """Files that a typed policy may name: base policies and profile of the policy given at the start."""
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
    """Refuse targets and logs that are in neither a built-in policy nor the one given at the start.

    Args:
        checked: The result of all other checks.
        text: The policy as typed.
        shown: The file name used in errors.
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
    """One mistake for each, in the order of the text; one that was inherited is reported at ``extends``."""
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
    """Where a target sends answers; its timeout may be changed freely."""
    return target.queue, target.chat_model, target.callable, target.arguments


def _mistake(root: Node, keys: tuple[str, ...], what: str) -> Mistake:
    said = f"a policy typed into the page cannot name a new {what}: start the demo with --policy FILE"
    place = _place_of_key(root, keys)
    if place is None:
        keys = ("extends",)
        place = _place_of_key(root, keys) or root.place
    return Mistake(place, ".".join(keys), said)


def _place_of_key(root: Node, keys: tuple[str, ...]) -> Place | None:
    """Where a nested key is in the text, if it is there."""
    place, node = None, root
    for key in keys:
        if key not in node.entries:
            return None
        place, node = node.entries[key]
    return place


# Names of this machine; others are given when the demo is started.
_HERE = ("localhost", "127.0.0.1", "::1")
_GIVEN = "GUARDRAIL_DEMO_HOSTS"


def own_hosts() -> tuple[str, ...]:
    """The host names that the demo answers to."""
    given = (name.strip().lower().rstrip(".") for name in os.environ.get(_GIVEN, "").split(","))
    return (*_HERE, *filter(None, given))


_LOG = logging.getLogger("guardrail.demo")


def sentence(error: BaseException) -> str:
    """The message for a visitor. An unexpected error is logged by type and place, without its content."""
    if isinstance(error, GuardrailError):
        return str(error)
    _LOG.error("%s at %s", type(error).__name__, _place(error))
    return (
        f"Unexpected error ({type(error).__name__}). Reload the page and try again; the terminal where the "
        "demo was started shows where it happened."
    )


@contextmanager
def shown() -> Iterator[None]:
    """Show an error raised inside as a sentence on the page, and continue after the block."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  (shown)
        st.error(plain(sentence(error)), icon=":material/error:")


def plain(text: str) -> str:
    """Escape a text so that Markdown shows it literally."""
    return "".join(f"\\{character}" if character in _MARKDOWN else character for character in text)


_MARKDOWN = frozenset("\\`*_{}[]()#+-.!|<>~$:&")


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "?" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
