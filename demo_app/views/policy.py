"""The policy page: edit the rules and see the effect without running the model."""

from collections.abc import Callable
from pathlib import Path
from time import sleep

import streamlit as st

from demo_app.components.vega_charts import risk_chart
from demo_app.policy_draft import (
    changes,
    chat_effect,
    decided,
    draft,
    effect,
    known,
    listing,
    marks,
    read_ready,
    ready_name,
    set_control,
    sliders,
    unused,
    use_draft,
    write,
)
from demo_app.session import check_draft, current_policy, state
from demo_app.settings import plain, shown
from guardrail import Policy
from guardrail.calibration.held_out import builtin_profile
from guardrail.errors import PolicyError
from guardrail.policy.load import Checked
from guardrail.policy.yaml_document import builtin_policies
from guardrail.reports.formatting import counted

__all__ = ["page"]

_EDITOR, _READY = "policy.editor", "policy.ready"
_SECONDS_BEFORE_CHART = 0.25


def page() -> None:
    """Draw the page."""
    st.title("Policy")
    st.markdown(
        "A policy decides what happens to each answer. Edit it and see the effect on answers whose "
        "correctness is known. The chat changes only when you press **Apply to chat**."
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
        "Start from a template",
        names,
        index=None,
        key=_READY,
        placeholder="Custom (choose a template to start over)",
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
        help="Checked when you leave the field or press Ctrl+Enter.",
    )
    _show_mistakes(text, checked)
    use, save = st.columns(2)
    in_use = text == state().policy_text and state().policy is not None
    use.button(
        "Active in the chat" if in_use else "Apply to chat",
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
            f"{counted(number, 'error')}. The chat keeps the current policy until "
            f"{'it is' if number == 1 else 'they are'} fixed.",
            icon=":material/error:",
        )
        st.text(listing(text, checked.mistakes))
    elif checked.warnings:
        with st.expander(f"Valid, with {counted(len(checked.warnings), 'warning')}", icon=":material/info:"):
            st.text(listing(text, checked.warnings))
    else:
        st.success("Valid.", icon=":material/check_circle:")


def _show_effects(checked: Checked) -> None:
    st.subheader("What would change")
    if checked.policy is None:
        st.info("Available again once the policy has no errors.", icon=":material/info:")
        return
    try:
        before = current_policy()
    except PolicyError:
        before = checked.policy
    sliders()
    draw = _show_held_out(before, checked.policy)
    _show_chat(before, checked.policy)
    if "observe" in (before.mode, checked.policy.mode):
        st.caption("In observe mode every answer is shown; the figures say what enforcing would do.")
    draw()


def _show_held_out(before: Policy, after: Policy) -> Callable[[], None]:
    """Show the effect on held-out answers, and return a function that draws the chart."""
    path = _profile_path(after)
    found = known(path) if path is not None else None
    if found is None:
        st.info(
            "The error rate is unknown: this model's profile has no held-out answers. Make a profile on the "
            "Calibration page to get them.",
            icon=":material/info:",
        )
        return lambda: None
    old, new = decided(before, found), decided(after, found)
    st.markdown(effect(old, new))
    st.caption(
        f"Based on {counted(len(found.answers), 'test answer')} of {plain(found.profile.author)} that the "
        f"calibration never saw. {unused(new)}"
    )
    place = st.empty()
    st.caption("Bars: 95 % intervals; dashed: error rate if every answer were shown.")

    def draw() -> None:
        # Charts are slow to render. While a slider is still moving, the next run interrupts this one here,
        # before its chart.
        sleep(_SECONDS_BEFORE_CHART)
        scores = [one.confidence_score for one in found.held_out]
        chart = risk_chart(scores, [one.correct for one in found.held_out], marks(old, new))
        place.vega_lite_chart(chart, width="stretch")

    return draw


def _show_chat(before: Policy, after: Policy) -> None:
    turns = [(turn.question, turn.answer) for turn in state().turns if turn.answer is not None]
    st.markdown("##### The answers in your chat")
    if not turns:
        st.caption("None yet. Answers from the Chat page are tried here too.")
        return
    old, new = chat_effect(before, after, [answer for _, answer in turns])
    changed = changes([question for question, _ in turns], old, new)
    count = sum(one.action != two.action for one, two in zip(old.decisions, new.decisions, strict=True))
    st.caption(f"{count} of {counted(len(turns), 'answer')} would change.")
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
