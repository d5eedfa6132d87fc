"""The side bar: the counter, the policy, the model."""

import streamlit as st

from demo_app.parts.ahead import read_ahead
from demo_app.parts.badge import counts_html
from demo_app.parts.chooser import choose_model
from demo_app.parts.conversation import begin_anew
from demo_app.parts.errors import plain
from demo_app.parts.models import house
from demo_app.parts.session import choose_policy, state
from demo_app.parts.visitor import Session
from guardrail.policy.builtin import BUILTIN, builtin_policies

__all__ = ["sidebar"]

_READY = "sidebar.policy"


def sidebar() -> None:
    """Draw it."""
    session = state()
    with st.sidebar:
        st.html(counts_html(session.answers))
        st.button(
            "New chat",
            icon=":material/add_comment:",
            width="stretch",
            on_click=begin_anew,
            args=(session,),
            disabled=not session.turns and session.asking is None,
        )
        _policy(session)
        _model(session)
        if session.turns and session.asking is None:
            read_ahead()


def _policy(session: Session) -> None:
    ready = [f"{BUILTIN}{name}" for name in builtin_policies()]
    own = session.policy_source not in ready or not _is_untouched(session)
    options = ["", *ready] if own else ready
    name = session.policy.name if session.policy else "none"
    st.session_state[_READY] = "" if own else session.policy_source
    st.selectbox(
        "Policy",
        options,
        key=_READY,
        format_func=lambda source: source.removeprefix(BUILTIN) if source else f"{name} (your own)",
        on_change=_choose_policy,
        help="What decides what you get to see. The Policy page shows it, and lets you change it.",
    )
    if session.policy is not None and session.policy.description:
        st.caption(plain(session.policy.description))
    if session.mistakes:
        st.caption(":material/error: The text on the Policy page has mistakes; this one stays in use.")
    if session.profile_path is not None:
        st.caption(f"Judged by your own profile {plain(session.profile_path.name)}.")
        st.button("Use the policy’s profile", on_click=_take_back_profile, type="tertiary")


def _model(session: Session) -> None:
    is_open = house().holds(session.model_name)
    st.markdown(f"**Model** {plain(session.model_name)}")
    st.caption("Ready." if is_open else "Not opened yet: the first answer takes some seconds longer.")
    if st.button("Choose another model", icon=":material/swap_horiz:", width="stretch"):
        choose_model()


def _is_untouched(session: Session) -> bool:
    name = session.policy_source.removeprefix(BUILTIN)
    return session.policy_text == builtin_policies()[name].read_text(encoding="utf-8")


def _choose_policy() -> None:
    if source := st.session_state[_READY]:
        choose_policy(source)


def _take_back_profile() -> None:
    state().profile_path = None
