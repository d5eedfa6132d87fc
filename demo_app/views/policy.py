"""The policy page: change the rules, and see what would change, without running the model."""

from collections.abc import Callable
from pathlib import Path
from time import sleep

import streamlit as st

from demo_app.components.vega_charts import risk_chart
from demo_app.state.error_messages import plain, shown
from demo_app.state.policy_draft import (
    draft,
    listing,
    read_ready,
    ready_name,
    set_control,
    sliders,
    use_draft,
    write,
)
from demo_app.state.policy_effect import changes, chat_effect, decided, effect, known, marks, unused
from demo_app.state.session import check_draft, current_policy, state
from guardrail import Policy
from guardrail.calibration.held_out import builtin_profile
from guardrail.errors import PolicyError
from guardrail.policy.load import Checked
from guardrail.policy.yaml_document import builtin_policies

__all__ = ["page"]

_EDITOR, _READY = "policy.editor", "policy.ready"
_SECONDS_BEFORE_CHART = 0.25


def page() -> None:
    """Show it."""
    st.title("Policy")
    st.markdown(
        "A policy says what becomes of an answer, by how sure the model is of it. Change it here: what would "
        "change for answers that are known already is worked out at once, and the chat goes on as before "
        "until you press **Use it in the chat**."
    )
    with shown():
        left, right = st.columns([3, 2], gap="medium")
        with left:
            checked = _edit()
        with right:
            _show_effects(checked)


def _edit() -> Checked:
    text = draft()
    names = list(builtin_policies())
    ready = ready_name(text)
    set_control(_READY, ready)
    st.selectbox(
        "Start from a ready policy",
        names,
        index=None,
        key=_READY,
        placeholder="Your own text; choose one to start afresh",
        on_change=_start_from,
    )
    checked = check_draft(text)
    if ready is not None and checked.policy is not None:
        st.caption(plain(checked.policy.description))
    set_control(_EDITOR, text)
    st.text_area(
        "Policy, as YAML",
        key=_EDITOR,
        height=560,
        on_change=_typed,
        help="Checked as soon as you leave the field, or press Ctrl+Enter.",
    )
    _show_mistakes(text, checked)
    use, save = st.columns(2)
    in_use = text == state().policy_text and state().policy is not None
    use.button(
        "In use in the chat" if in_use else "Use it in the chat",
        type="primary",
        icon=":material/check:",
        disabled=in_use or checked.policy is None,
        on_click=use_draft,
        width="stretch",
    )
    save.download_button(
        "Download the YAML",
        text,
        f"{checked.policy.name if checked.policy else 'policy'}.yaml",
        "application/yaml",
        icon=":material/download:",
        on_click="ignore",
        width="stretch",
    )
    return checked


def _show_mistakes(text: str, checked: Checked) -> None:
    if checked.mistakes:
        number = len(checked.mistakes)
        st.error(
            f"{number} mistake{'s' if number > 1 else ''} in the text. The chat keeps the policy that it has "
            "until the text has none.",
            icon=":material/error:",
        )
        st.text(listing(text, checked.mistakes))
    elif checked.warnings:
        with st.expander(f"No mistakes, and {len(checked.warnings)} to be warned of", icon=":material/info:"):
            st.text(listing(text, checked.warnings))
    else:
        st.success("No mistakes.", icon=":material/check_circle:")


def _show_effects(checked: Checked) -> None:
    st.subheader("What would change")
    if checked.policy is None:
        st.info("This is worked out again as soon as the text has no mistakes.", icon=":material/info:")
        return
    try:
        before = current_policy()
    except PolicyError:
        before = checked.policy
    sliders()
    draw = _show_held_out(before, checked.policy)
    _show_chat(before, checked.policy)
    if "observe" in (before.mode, checked.policy.mode):
        st.caption("A policy in mode observe shows every answer; counted is what it would do if enforced.")
    draw()


def _show_held_out(before: Policy, after: Policy) -> Callable[[], None]:
    """Show what becomes of the answers that were held out, and return what draws the chart of it."""
    path = _profile_path(after)
    found = known(path) if path is not None else None
    if found is None:
        st.info(
            "Nothing is known of the share of wrong answers: no answers were held out of a profile of this "
            "model. The Calibration page makes a profile, with such answers beside it.",
            icon=":material/info:",
        )
        return lambda: None
    old, new = decided(before, found), decided(after, found)
    st.markdown(effect(old, new))
    st.caption(
        f"{len(found.answers):,} answers of {plain(found.profile.author)} to other questions than those "
        f"that its profile learned from or was certified on. {unused(new)}"
    )
    place = st.empty()
    st.caption("Bars are 95 % intervals; the dashed line is the error of showing everything.")

    def draw() -> None:
        # A chart holds the browser up: what is around it is painted first, and a hand that still moves a
        # slider ends this run before.
        sleep(_SECONDS_BEFORE_CHART)
        scores = [one.confidence_score for one in found.held_out]
        chart = risk_chart(scores, [one.correct for one in found.held_out], marks(old, new))
        place.vega_lite_chart(chart, width="stretch")

    return draw


def _show_chat(before: Policy, after: Policy) -> None:
    turns = [(turn.question, turn.answer) for turn in state().turns if turn.answer is not None]
    st.markdown("##### The answers in your chat")
    if not turns:
        st.caption("None yet. What you ask on the Chat page is tried here, too.")
        return
    old, new = chat_effect(before, after, [answer for _, answer in turns])
    changed = changes([question for question, _ in turns], old, new)
    count = sum(one.action != two.action for one, two in zip(old.decisions, new.decisions, strict=True))
    st.caption(f"{count} of {len(turns)} would come out otherwise.")
    if changed:
        st.markdown(changed)


def _profile_path(policy: Policy) -> Path | None:
    session = state()
    return session.profile_path or policy.profile_path or builtin_profile(session.model_name)


def _typed() -> None:
    write(st.session_state[_EDITOR])


def _start_from() -> None:
    name = st.session_state[_READY]
    if name is not None:
        write(read_ready(name))
