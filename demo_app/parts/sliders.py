"""The bounds of a policy's rules, to be moved by hand."""

from functools import lru_cache

import streamlit as st

from demo_app.parts.drafts import draft, set_control, write
from demo_app.parts.errors import plain
from guardrail.policy.editing import Bound, bounds_of, with_bound

__all__ = ["sliders"]

_SIGNS = {"gte": "at least", "gt": "more than", "lte": "at most", "lt": "less than"}
# Reading YAML takes longer than all else that is done after a click.
_bounds_of = lru_cache(maxsize=64)(bounds_of)


def sliders() -> None:
    """Show one for each bound of the text in the editor; what is moved is written there."""
    bounds = _bounds_of(draft())
    if not bounds:
        st.caption("No rule of this text sets a bound for the confidence, so there is no slider.")
    for bound in bounds:
        key = f"policy.bound.{bound.path}"
        set_control(key, bound.value)
        what = "confidence" if bound.of == "confidence" else f"quantile of {bound.of}"
        st.slider(
            f"Rule {plain(bound.rule)}: {plain(what)} {_SIGNS[bound.kind]}",
            0.0,
            1.0,
            step=0.01,
            key=key,
            on_change=_moved,
            args=(bound, key),
        )


def _moved(bound: Bound, key: str) -> None:
    write(with_bound(draft(), bound, st.session_state[key]))
