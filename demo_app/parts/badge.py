"""The badge of an answer: what was done with it, and how likely it is to be right."""

from typing import TYPE_CHECKING

from demo_app.parts.looks import LOOKS
from demo_app.parts.style import icon, text
from guardrail.guard.words import confidence_in_words, confidence_percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guardrail import GuardedAnswer

__all__ = ["badge_html", "counts_html", "legend_html"]


def badge_html(answer: "GuardedAnswer") -> str:
    """Action and confidence, in colour, symbol and words."""
    look = LOOKS[answer.action]
    observed = "" if answer.enforced else " (observed only)"
    said = f'<span class="gr-pill">{icon(look.icon)}{look.word}{observed}</span>'
    return f'<div class="gr-badge">{said}{_confidence(answer)}</div>'


def counts_html(answers: "Sequence[GuardedAnswer]") -> str:
    """How many answers were passed, flagged, abstained and escalated."""
    cells = []
    for action, look in LOOKS.items():
        count = sum(answer.action == action for answer in answers)
        kind = f"gr-{action}" if count else "gr-none"
        cells.append(f'<div class="{kind}"><b>{count}</b>{icon(look.icon)} {look.word}</div>')
    return f'<div class="gr gr-counts" role="group" aria-label="Answers so far">{"".join(cells)}</div>'


def legend_html() -> str:
    """What the four badges mean."""
    cells = [
        f'<div><span class="gr-pill gr-{action}">{icon(look.icon)}{look.word}</span>'
        f'<span class="gr-soft">{look.means}</span></div>'
        for action, look in LOOKS.items()
    ]
    return f'<div class="gr gr-legend">{"".join(cells)}</div>'


def _confidence(answer: "GuardedAnswer") -> str:
    if answer.confidence is None and answer.outside_domain:
        return '<span class="gr-soft">no confidence: the profile is of another model’s answers</span>'
    if answer.confidence is None:
        return '<span class="gr-soft">no confidence: it is not known how often this model is right</span>'
    words, share = confidence_in_words(answer.confidence), confidence_percent(answer.confidence)
    of = ""
    if answer.escalation is not None and answer.escalation.source is not None:
        of = " (the local model’s draft, which is not shown)"
    return (
        f"<span>{words}{of} · <b>{text(share)}</b></span>"
        f'<span class="gr-meter" role="img" aria-label="confidence {text(share)}">'
        f'<i style="width:{100 * answer.confidence:.0f}%"></i></span>'
    )
