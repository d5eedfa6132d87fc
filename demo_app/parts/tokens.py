"""The tokens of an answer, each shaded by what it adds to the uncertainty, or by that of its sentence."""

from collections.abc import Sequence
from math import exp
from typing import TYPE_CHECKING

from demo_app.parts.style import text
from guardrail.scoring.uncertainty import TokenScore

if TYPE_CHECKING:
    from guardrail.guard.sentences import ScoredSentence

__all__ = ["token_table", "tokens_html"]

_END = "∎"
_LEAST, _MOST = 0.08, 0.65


def tokens_html(draft: str, tokens: Sequence[TokenScore], sentences: "Sequence[ScoredSentence]" = ()) -> str:
    """The answer with its tokens shaded; their values are shown under the pointer.

    Args:
        draft: The answer.
        tokens: Its tokens.
        sentences: Its sentences, if they are to be shaded as a whole, each by its HybridGrad.
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
    """The same as a table, for those who do not point."""
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
    return f'<details><summary>As a table</summary><div class="gr-scroll">{table}</div></details>'


def _shown(draft: str, tokens: Sequence[TokenScore]) -> list[str]:
    """What each token adds to the text; the one that ends it, or is not part of it, as a sign."""
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
