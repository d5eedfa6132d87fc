"""The policy being edited: its text, its sliders, and the profiles made on the Calibration page."""

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import streamlit as st

from demo_app.state.error_messages import plain
from demo_app.state.session import apply_policy, choose_policy, state
from demo_app.state.settings import settings
from guardrail.calibration.held_out import find_held_out
from guardrail.calibration.profile import read_profile
from guardrail.errors import OptionError
from guardrail.policy.document import Mistake
from guardrail.policy.editing import Bound, bounds_of, with_bound
from guardrail.policy.yaml_document import BUILTIN, builtin_policies
from guardrail.utils.files import write_whole

__all__ = [
    "draft",
    "keep",
    "listing",
    "made_here",
    "read_ready",
    "ready_name",
    "set_control",
    "sliders",
    "use",
    "use_draft",
    "write",
]


_NAME = re.compile(r"[A-Za-z0-9_][\w.-]{0,60}")


def made_here() -> dict[str, Path]:
    """The saved profiles by name."""
    return {file.stem: file for file in sorted((settings().data / "profiles").glob("*.json"))}


def keep(profile: Path, name: str) -> Path:
    """Save a profile under a name, with its held-out answers beside it.

    Raises:
        OptionError: The name is not a valid file name, or another profile has it.
        ProfileError: The profile cannot be read.
    """
    if not _NAME.fullmatch(name):
        raise OptionError(f"{name!r} is not a valid name; use letters, digits, '_', '-' and '.'.")
    folder = settings().data / "profiles"
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"{name}.json"
    if kept.exists() and read_profile(kept).digest != read_profile(profile).digest:
        raise OptionError(f"Another profile is already called {name}; choose another name.")
    held_out = find_held_out(profile)
    if held_out is not None:
        write_whole(kept.with_name(f"{name}.held-out.jsonl"), held_out.read_bytes())
    write_whole(kept, profile.read_bytes())
    return kept


def use(profile: Path | None) -> None:
    """Use a profile in the chat instead of the policy's own; None switches back."""
    state().profile_path = profile


_KEY = "policy.draft"


@dataclass(frozen=True, slots=True)
class _Draft:
    """An edited text, and the active text it started from."""

    text: str
    begun_from: str


def draft() -> str:
    """The text in the editor: the active policy's again if that was changed elsewhere."""
    in_use = state().policy_text
    kept = st.session_state.get(_KEY)
    if not isinstance(kept, _Draft) or kept.begun_from != in_use:
        write(in_use)
    text: str = st.session_state[_KEY].text
    return text


def write(text: str) -> None:
    """Replace the text in the editor."""
    st.session_state[_KEY] = _Draft(text, state().policy_text)


def use_draft() -> None:
    """Apply the text in the editor to the chat."""
    name = ready_name(draft())
    if name is None:
        apply_policy(draft())
    else:
        choose_policy(f"{BUILTIN}{name}")


def read_ready(name: str) -> str:
    """The text of a built-in policy."""
    return builtin_policies()[name].read_text(encoding="utf-8")


def ready_name(text: str) -> str | None:
    """The name of the built-in policy with exactly this text, if there is one."""
    return next((name for name in builtin_policies() if read_ready(name) == text), None)


def set_control(key: str, value: str | float | None) -> None:
    """Set a control unless it already has the value: writing to it would interrupt a drag."""
    if key not in st.session_state or st.session_state[key] != value:
        st.session_state[key] = value


def listing(text: str, mistakes: tuple[Mistake, ...]) -> str:
    """Mistakes by line and column, each under the line it is in."""
    return "\n\n".join(_shown(text, number, one) for number, one in enumerate(mistakes, start=1))


def _shown(text: str, number: int, mistake: Mistake) -> str:
    place, lines = mistake.place, text.split("\n")
    said = f"{number}. line {place.line}, column {place.column}: {mistake.path}: {mistake.text}"
    if place.file != "policy.yaml" or place.line > len(lines):
        return f"{number}. {mistake}"
    margin = f"{place.line} | "
    return f"{said}\n   {margin}{lines[place.line - 1]}\n   {' ' * (len(margin) + place.column - 1)}^"


_SIGNS = {"gte": "at least", "gt": "more than", "lte": "at most", "lt": "less than"}
# Parsing YAML takes longer than everything else after a click.
_bounds_of = lru_cache(maxsize=64)(bounds_of)


def sliders() -> None:
    """Show a slider for each bound in the edited policy; moving it changes the text."""
    bounds = _bounds_of(draft())
    if not bounds:
        st.caption("No rule of this policy has a confidence bound, so there is no slider.")
    for bound in bounds:
        key = f"policy.bound.{bound.path}"
        set_control(key, bound.value)
        what = "confidence" if bound.of == "confidence" else f"quantile of {bound.of}"
        st.slider(
            f"Rule {plain(bound.rule)}: {plain(what)} {_SIGNS[bound.kind]}",
            0.0,
            1.0,
            step=0.01,
            key=key,
            on_change=_moved,
            args=(bound, key),
        )


def _moved(bound: Bound, key: str) -> None:
    write(with_bound(draft(), bound, st.session_state[key]))
