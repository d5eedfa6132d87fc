"""One answer on a page: its text, its badge, its reasons, and a withheld draft if it is asked for."""

from typing import TYPE_CHECKING

import streamlit as st

from demo_app.parts.badge import badge_html
from demo_app.parts.style import icon, text
from demo_app.parts.why import why_html

if TYPE_CHECKING:
    from guardrail import GuardedAnswer, Policy, Profile

__all__ = ["plain_text", "show_answer"]


def show_answer(
    answer: "GuardedAnswer", policy: "Policy", profile: "Profile | None", revealed: set[str]
) -> None:
    """Show what the policy lets through, its badge, and why; a withheld draft only on purpose.

    Args:
        answer: The answer.
        policy: What decided.
        profile: The profile that is in use.
        revealed: Ids of requests whose drafts were asked for; the button adds to it.
    """
    is_revealed = answer.request in revealed
    why = why_html(answer, policy, profile, revealed=is_revealed)
    draft = _draft(answer) if is_revealed else ""
    st.html(
        f'<div class="gr gr-{answer.action}" data-action="{answer.action}">'
        f'<div class="gr-text">{text(answer.text)}</div>{_note(answer)}{badge_html(answer)}{draft}{why}</div>'
    )
    if answer.is_withheld and answer.draft:
        label = "Hide the withheld draft" if is_revealed else "Reveal the withheld draft"
        symbol = ":material/visibility_off:" if is_revealed else ":material/visibility:"
        change = revealed.discard if is_revealed else revealed.add
        st.button(
            label,
            key=f"reveal-{answer.request}",
            icon=symbol,
            type="tertiary",
            on_click=change,
            args=(answer.request,),
        )


def plain_text(value: str) -> None:
    """Show a text as it is."""
    st.html(f'<div class="gr gr-text">{text(value)}</div>')


def _note(answer: "GuardedAnswer") -> str:
    escalation = answer.escalation
    said = []
    if answer.message is not None and answer.message != answer.text:
        said.append(text(answer.message))
    if escalation is not None and escalation.source is not None:
        said.append(f"Answered by {text(escalation.source)}.")
    if escalation is not None and escalation.ticket is not None:
        said.append(f"Ticket {text(escalation.ticket[:8])}: it waits on the Review page.")
    return f'<div class="gr-note">{" ".join(said)}</div>' if said else ""


def _draft(answer: "GuardedAnswer") -> str:
    return (
        f'<div class="gr-draft"><b>{icon("visibility")} Withheld draft, shown because you asked: the policy '
        f'did not let it through</b><div class="gr-text">{text(answer.draft or "")}</div></div>'
    )
