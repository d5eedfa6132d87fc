"""What pages keep of a visitor between two runs: the chat, the policy and the model in use."""

from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from demo_app.parts.models import house
from demo_app.parts.settings import Settings, environment, settings
from demo_app.parts.typed import known_files, only_known_places
from demo_app.parts.visitor import Session
from guardrail.calibration.builtin import builtin_profile
from guardrail.calibration.profile import Profile, read_profile
from guardrail.errors import PolicyError
from guardrail.policy.builtin import BUILTIN, builtin_policy
from guardrail.policy.loading import Checked, check_policy, check_text
from guardrail.policy.yaml_files import policy_text

if TYPE_CHECKING:
    from guardrail import LocalModel, Policy
    from guardrail.models.progress import ProgressCallback

__all__ = [
    "apply_policy",
    "check_draft",
    "choose_policy",
    "current_model",
    "current_policy",
    "current_profile",
    "profile_of",
    "state",
]

_KEY = "guardrail"
# What mistakes call a text that no file holds.
_TYPED = "policy.yaml"


def state() -> Session:
    """This visitor's; made when they come."""
    if _KEY not in st.session_state:
        st.session_state[_KEY] = _new(settings())
    session: Session = st.session_state[_KEY]
    return session


def choose_policy(source: str) -> Checked:
    """Take a ready policy (``builtin:NAME``) or a file, with its text, in place of the present one."""
    session = state()
    session.policy_source = source
    return _taken(session, _text_of(source), check_policy(source, environment()))


def check_draft(text: str) -> Checked:
    """Look through a policy that is being typed; the one in use stays."""
    checked = check_text(text, _TYPED, state().folder, _visible_environment(), known_files())
    return only_known_places(checked, text, _TYPED)


def apply_policy(text: str) -> Checked:
    """Take the text of the editor. One with mistakes is kept, and the policy before it stays in use."""
    return _taken(state(), text, check_draft(text))


def current_policy() -> "Policy":
    """The policy in use, with the visitor's profile in place of its own where there is one.

    Raises:
        PolicyError: There was none without mistakes yet.
    """
    session = state()
    if session.policy is None:
        raise PolicyError(session.mistakes)
    if session.profile_path is None:
        return session.policy
    changed = session.policy.model_copy(update={"profile": str(session.profile_path)})
    return changed.found_at(session.profile_path)


def current_profile() -> Profile | None:
    """The profile that answers are judged by, without opening the model.

    Raises:
        ProfileError: It cannot be read.
    """
    return profile_of(current_policy(), state().model_name)


def profile_of(policy: "Policy", model_name: str) -> Profile | None:
    """The profile that answers of a model are judged by under a policy; errors as above."""
    path = _path_of(policy, model_name)
    return None if path is None else _read(path, path.stat().st_mtime_ns if path.exists() else 0)


def current_model(progress: "ProgressCallback | None" = None) -> "LocalModel":
    """The model, which all visitors share; opened if it is not, which takes a while.

    Raises:
        GuardrailError: It cannot be had.
    """
    return house().model(state().model_name, progress)


@st.cache_resource(show_spinner=False, max_entries=16)
def _read(path: Path, changed: int) -> Profile:
    return read_profile(path)


def _path_of(policy: "Policy", model_name: str) -> Path | None:
    return policy.profile_path or builtin_profile(model_name)


def _new(given: Settings) -> Session:
    session = Session(given.model, given.policy)
    _taken(session, _text_of(given.policy), check_policy(given.policy, environment()))
    return session


def _taken(session: Session, text: str, checked: Checked) -> Checked:
    session.policy_text = text
    session.mistakes = tuple(map(str, checked.mistakes))
    session.policy = checked.policy or session.policy
    return checked


def _text_of(source: str) -> str:
    try:
        name = source.removeprefix(BUILTIN)
        path = builtin_policy(name) if source.startswith(BUILTIN) else Path(source)
        return policy_text(path)
    except (PolicyError, OSError, UnicodeDecodeError):
        # What is wrong with it is among the mistakes.
        return ""


def _visible_environment() -> dict[str, str]:
    # A page must not read out the secrets of the process that serves it.
    return {name: value for name, value in environment().items() if name.startswith("GUARDRAIL_")}
