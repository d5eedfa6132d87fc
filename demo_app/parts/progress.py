"""How far an answer is, in words."""

from typing import TYPE_CHECKING

import streamlit as st

from demo_app.parts.answers import plain_text
from demo_app.parts.asking import Asking
from demo_app.parts.errors import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamlit.delta_generator import DeltaGenerator

__all__ = ["follow"]

_SECONDS_BETWEEN_LOOKS = 0.15


def follow(placed: "Sequence[tuple[Asking, DeltaGenerator]]") -> None:
    """Show how far answers are, each in its place, until all are done.

    A click ends the run of the page at the next look; the answers go on.
    """
    while any(asking.stage != "done" for asking, _ in placed):
        for asking, place in placed:
            if not asking.wait(_SECONDS_BETWEEN_LOOKS):
                with place.container():
                    _show(asking)


def _show(asking: Asking) -> None:
    """What is written so far, where the policy shows it, and what is being done."""
    if asking.heard:
        plain_text(asking.heard)
    loading = asking.loading
    if asking.stage == "opening" and loading.total:
        st.progress(min(1.0, loading.done / loading.total), text=f"{_capital(loading.words)}…")
    else:
        st.caption(f":material/hourglass_top: {_words(asking)}…")


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
