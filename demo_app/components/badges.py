"""Badges, shaded tokens and histograms as HTML, in a light and a dark style."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import exp, log
from pathlib import Path
from typing import TYPE_CHECKING
from unicodedata import category

import streamlit as st

from guardrail.calibration.calibrators import ReferenceDistribution
from guardrail.guard.answer import confidence_percent
from guardrail.scoring.uncertainty import TokenScore

if TYPE_CHECKING:
    from guardrail import GuardedAnswer
    from guardrail.guard.sentence_scores import ScoredSentence
    from guardrail.policy.evidence import Action

__all__ = [
    "LOOKS",
    "Axis",
    "Look",
    "add_style",
    "badge_html",
    "counts_html",
    "histogram",
    "icon",
    "legend_html",
    "text",
    "token_table",
    "tokens_html",
]


@dataclass(frozen=True, slots=True)
class Look:
    """How an action is shown.

    Attributes:
        word: Its name on a badge.
        means: Its explanation in the legend.
        icon: Name of a Material symbol.
        colour: Name of a Streamlit colour.
    """

    word: str
    means: str
    icon: str
    colour: str


LOOKS: "Mapping[Action, Look]" = {
    "pass": Look("Passed", "shown: confidence high enough", "check_circle", "green"),
    "flag": Look("Flagged", "shown with a warning", "warning", "orange"),
    "abstain": Look("Withheld", "not shown: confidence too low", "block", "red"),
    "escalate": Look("Sent for review", "passed to a person or a larger model", "move_up", "violet"),
}


# Allowed besides printable characters and spaces of any width: line breaks, and joiners of letters and emoji.
_SHOWN = "\n\t\u200c\u200d"
_STYLE = Path(__file__).with_name("style.css")


def add_style() -> None:
    """Add the style sheet to the page, once in a run."""
    st.html(_STYLE)


def text(value: str) -> str:
    """A text as HTML that shows it literally: no tag, image or link in it takes effect."""
    return escape("".join(c if c.isprintable() or c in _SHOWN or category(c) == "Zs" else "�" for c in value))


def icon(name: str) -> str:
    """A decorative symbol; the words beside it say the same."""
    return f'<span class="gr-icon" aria-hidden="true">{escape(name)}</span>'


def badge_html(answer: "GuardedAnswer") -> str:
    """The badge: action and confidence, in colour, symbol and words."""
    look = LOOKS[answer.action]
    word = look.word if answer.enforced else f"Would have been {look.word.lower()}"
    said = f'<span class="gr-pill">{icon(look.icon)}{word}</span>'
    return f'<div class="gr-badge">{said}{_confidence(answer)}</div>'


def counts_html(answers: "Sequence[GuardedAnswer]") -> str:
    """How many answers got each badge."""
    cells = []
    for action, look in LOOKS.items():
        count = sum(answer.action == action for answer in answers)
        kind = f"gr-{action}" if count else "gr-none"
        cells.append(f'<div class="{kind}"><b>{count}</b>{icon(look.icon)} {look.word}</div>')
    return f'<div class="gr gr-counts" role="group" aria-label="Answers so far">{"".join(cells)}</div>'


def legend_html() -> str:
    """The legend of the four badges."""
    cells = [
        f'<div><span class="gr-pill gr-{action}">{icon(look.icon)}{look.word}</span>'
        f'<span class="gr-soft">{look.means}</span></div>'
        for action, look in LOOKS.items()
    ]
    return f'<div class="gr gr-legend">{"".join(cells)}</div>'


def _confidence(answer: "GuardedAnswer") -> str:
    if answer.confidence is None and answer.outside_domain:
        return f'<span class="gr-soft">no confidence: {text(answer.outside_domain)}</span>'
    if answer.confidence is None:
        return '<span class="gr-soft">no confidence: no profile says how often this model is right</span>'
    share = confidence_percent(answer.confidence)
    of = ""
    if answer.escalation is not None and answer.escalation.source is not None:
        of = " (the local model’s draft, not this answer)"
    return (
        f"<span><b>{text(share)}</b> likely to be right{of}</span>"
        f'<span class="gr-meter" role="img" aria-label="confidence {text(share)}">'
        f'<i style="width:{100 * answer.confidence:.0f}%"></i></span>'
    )


_END = "∎"
_LEAST, _MOST = 0.08, 0.65


def tokens_html(draft: str, tokens: Sequence[TokenScore], sentences: "Sequence[ScoredSentence]" = ()) -> str:
    """The answer with shaded tokens; each token's values appear in a tooltip.

    Args:
        draft: The answer.
        tokens: Its tokens.
        sentences: Its sentences, if each is to be shaded as a whole by its HybridGrad.
    """
    weights, tips = [token.weight for token in tokens], [_tip(token) for token in tokens]
    for number, (start, end, scores) in enumerate(sentences, start=1):
        for at in range(start, end):
            weights[at] = scores.hybridgrad
            tips[at] = f"sentence {number}: HybridGrad {scores.hybridgrad:.3g} a token\n{tips[at]}"
    largest = max(weights, default=0.0) or 1.0
    spans = []
    for weight, tip, shown in zip(weights, tips, _shown(draft, tokens), strict=True):
        share = weight / largest
        shade = f"background:rgb(235 94 66 / {_MOST * share:.2f})" if share > _LEAST else ""
        spans.append(f'<span style="{shade}" data-tip="{text(tip)}">{text(shown)}</span>')
    return f'<div class="gr-tokens">{"".join(spans)}</div>'


def token_table(draft: str, tokens: Sequence[TokenScore]) -> str:
    """The token values as a table, readable without a pointer."""
    rows = "".join(
        f'<tr><td>{text(_visible(shown))}</td><td class="gr-num">{token.weight:.3g}</td>'
        f'<td class="gr-num">{token.entropy:.3g}</td>'
        f'<td class="gr-num">{exp(token.log_probability):.1%}</td></tr>'
        for token, shown in zip(tokens, _shown(draft, tokens), strict=True)
    )
    head = (
        '<tr><th scope="col">Token</th><th scope="col">Weight</th><th scope="col">Entropy, nats</th>'
        '<th scope="col">Probability</th></tr>'
    )
    table = f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"
    return f'<details><summary>Show as table</summary><div class="gr-scroll">{table}</div></details>'


def _shown(draft: str, tokens: Sequence[TokenScore]) -> list[str]:
    """The piece of text that each token adds; an end mark for tokens that add none."""
    shown, at = [], 0
    for token in tokens:
        # Some tokenizers drop the space before the first word.
        piece = token.text if at or draft.startswith(token.text) else token.text.lstrip()
        is_part = bool(piece) and draft.startswith(piece, at)
        at += len(piece) if is_part else 0
        shown.append(piece if is_part else _END)
    return shown


def _tip(token: TokenScore) -> str:
    return (
        f"weight {token.weight:.3g}\nentropy {token.entropy:.3g} nats\n"
        f"probability {exp(token.log_probability):.1%}"
    )


def _visible(piece: str) -> str:
    return piece.replace("\n", "⏎").replace(" ", "␣") if not piece.strip() else piece


_BINS = 30


@dataclass(frozen=True, slots=True)
class Axis:
    """A horizontal axis with labelled ends.

    Attributes:
        low: Value at the left end.
        high: Value at the right end.
        ends: Labels of both ends.
        logarithmic: Whether the scale is logarithmic; both ends must then be above 0.
    """

    low: float
    high: float
    ends: tuple[str, str]
    logarithmic: bool = False

    @classmethod
    def of_score(cls, values: Sequence[float], ends: tuple[str, str]) -> "Axis":
        """A logarithmic axis, for a score that spans decades."""
        above = [value for value in values if value > 0] or [1.0]
        return cls(min(above), max(above), ends, logarithmic=True)

    def at(self, value: float) -> float:
        """Position of a value, 0 to 1; values beyond an end are placed at it."""
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = log(low), log(high), log(max(value, self.low))
        return 0.5 if high <= low else min(1.0, max(0.0, (value - low) / (high - low)))


def histogram(title: str, value: float, among: ReferenceDistribution, axis: Axis, caption: str) -> str:
    """A distribution as bars with the value marked; the caption says the same in words."""
    counts = [0] * _BINS
    for one in among.values:
        counts[min(int(axis.at(one) * _BINS), _BINS - 1)] += 1
    highest = max(counts) or 1
    bars = "".join(f'<i style="height:{100 * count / highest:.0f}%"></i>' for count in counts)
    mark = f'<b style="left:{100 * axis.at(value):.1f}%"></b>'
    ends = "".join(f"<span>{text(end)}</span>" for end in axis.ends)
    return (
        f'<div class="gr-plot"><div>{text(title)}</div>'
        f'<div class="gr-bars" role="img" aria-label="{text(caption)}">{bars}{mark}</div>'
        f'<div class="gr-ends" aria-hidden="true">{ends}</div>'
        f'<div class="gr-caption">{text(caption)}</div></div>'
    )
