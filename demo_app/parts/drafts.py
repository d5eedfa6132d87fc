"""The policy that a visitor is writing, before it is used in the chat."""

from dataclasses import dataclass

import streamlit as st

from demo_app.parts.session import apply_policy, choose_policy, state
from guardrail.policy.builtin import BUILTIN, builtin_policies
from guardrail.policy.places import Mistake

__all__ = ["draft", "listing", "read_ready", "ready_name", "set_control", "use_draft", "write"]

_KEY = "policy.draft"


@dataclass(frozen=True, slots=True)
class _Draft:
    """A text, and the one in use that it was begun from."""

    text: str
    begun_from: str


def draft() -> str:
    """The text in the editor; that of the policy in use, where it was changed elsewhere since."""
    in_use = state().policy_text
    kept = st.session_state.get(_KEY)
    if not isinstance(kept, _Draft) or kept.begun_from != in_use:
        write(in_use)
    text: str = st.session_state[_KEY].text
    return text


def write(text: str) -> None:
    """Put another text into the editor."""
    st.session_state[_KEY] = _Draft(text, state().policy_text)


def use_draft() -> None:
    """Let the chat decide by the text in the editor."""
    name = ready_name(draft())
    if name is None:
        apply_policy(draft())
    else:
        choose_policy(f"{BUILTIN}{name}")


def read_ready(name: str) -> str:
    """Text of a ready policy."""
    return builtin_policies()[name].read_text(encoding="utf-8")


def ready_name(text: str) -> str | None:
    """Name of the ready policy that has this very text; None where none has."""
    return next((name for name in builtin_policies() if read_ready(name) == text), None)


def set_control(key: str, value: str | float | None) -> None:
    """Set a control, but for one that has the value: it is not taken out of the hand that moves it."""
    if key not in st.session_state or st.session_state[key] != value:
        st.session_state[key] = value


def listing(text: str, mistakes: tuple[Mistake, ...]) -> str:
    """Mistakes with their line and column, each under the line that it stands in."""
    return "\n\n".join(_shown(text, number, one) for number, one in enumerate(mistakes, start=1))


def _shown(text: str, number: int, mistake: Mistake) -> str:
    place, lines = mistake.place, text.split("\n")
    said = f"{number}. line {place.line}, column {place.column}: {mistake.path}: {mistake.text}"
    if place.file != "policy.yaml" or place.line > len(lines):
        return f"{number}. {mistake}"
    margin = f"{place.line} | "
    return f"{said}\n   {margin}{lines[place.line - 1]}\n   {' ' * (len(margin) + place.column - 1)}^"
