"""Progress of answers that are being generated."""

from typing import TYPE_CHECKING, NamedTuple

import streamlit as st

from demo_app.components.answer_card import plain_text
from demo_app.state.error_messages import plain
from demo_app.state.model_pool import Asking
from demo_app.state.session import state
from guardrail.reports.formatting import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamlit.delta_generator import DeltaGenerator

__all__ = ["follow"]


_SECONDS_BETWEEN_LOOKS = 0.15


class _Sight(NamedTuple):
    """What is visible of an answer in progress.

    Attributes:
        heard: The draft so far, where the policy shows it.
        words: The current stage in words.
        share: Share of the stage that is done, if known.
    """

    heard: str
    words: str
    share: float | None


def follow(placed: "Sequence[tuple[Asking, DeltaGenerator]]") -> None:
    """Show the progress of several answers, each in its place, until all are done.

    A click interrupts the run of the page at the next update; the answers continue.
    """
    seen: list[_Sight | None] = [None for _ in placed]
    while any(asking.stage != "done" for asking, _ in placed):
        # Streamlit interrupts a run where it reads state or draws.
        state()
        for number, (asking, place) in enumerate(placed):
            if asking.wait(_SECONDS_BETWEEN_LOOKS):
                continue
            sight = _sight(asking)
            # Redraw only what changed: the browser competes with the model for the same cores.
            if sight != seen[number]:
                seen[number] = sight
                with place.container():
                    _show(sight)


def _sight(asking: Asking) -> _Sight:
    loading = asking.loading
    share = min(1.0, loading.done / loading.total) if asking.stage == "opening" and loading.total else None
    return _Sight(asking.heard, _words(asking), share)


def _show(sight: _Sight) -> None:
    if sight.heard:
        plain_text(sight.heard)
    if sight.share is not None:
        st.progress(sight.share, text=f"{sight.words}…")
    else:
        st.caption(f":material/hourglass_top: {sight.words}…")


def _words(asking: Asking) -> str:
    if asking.stage == "opening":
        return _capital(asking.loading.words)
    ahead = asking.ahead
    if asking.stage == "waiting" and ahead:
        return f"Waiting: {ahead} {'question' if ahead == 1 else 'questions'} ahead of yours"
    if asking.stage == "waiting":
        return "Reading the question"
    words = f"Writing ({counted(asking.tokens, 'token')} so far)"
    is_live = asking.policy.streaming == "annotate"
    return words if is_live else f"{words}. You will see it once it has been checked"


def _capital(words: str) -> str:
    return plain(words[:1].upper() + words[1:])
