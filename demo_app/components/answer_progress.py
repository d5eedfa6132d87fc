"""How far an answer is, in words."""

from typing import TYPE_CHECKING, NamedTuple

import streamlit as st

from demo_app.components.answer_card import plain_text
from demo_app.state.error_messages import plain
from demo_app.state.model_pool import Asking
from demo_app.state.session import state

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamlit.delta_generator import DeltaGenerator

__all__ = ["follow"]


_SECONDS_BETWEEN_LOOKS = 0.15


class _Sight(NamedTuple):
    """What is to be seen of an answer that is on its way.

    Attributes:
        heard: The draft as far as it is written, where the policy shows it.
        words: What is being done.
        share: How much of it is done; None where that is not known.
    """

    heard: str
    words: str
    share: float | None


def follow(placed: "Sequence[tuple[Asking, DeltaGenerator]]") -> None:
    """Show how far answers are, each in its place, until all are done.

    A click ends the run of the page at the next look; the answers go on.
    """
    seen: list[_Sight | None] = [None for _ in placed]
    while any(asking.stage != "done" for asking, _ in placed):
        # A run is ended where the state is read, or something is drawn.
        state()
        for number, (asking, place) in enumerate(placed):
            if asking.wait(_SECONDS_BETWEEN_LOOKS):
                continue
            sight = _sight(asking)
            # The browser draws on the cores that the model runs on.
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
    later = "" if asking.policy.streaming == "annotate" else ", shown once it is checked"
    return f"Writing: {asking.tokens} tokens{later}"


def _capital(words: str) -> str:
    return plain(words[:1].upper() + words[1:])
