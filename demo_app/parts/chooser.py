"""Choosing the model: the one that the demo began with, one that is built in, or one of the hub.

A folder of this machine is for whoever starts the demo to name: what a visitor types reads no file.
"""

from pathlib import Path

import streamlit as st

from demo_app.parts.errors import shown
from demo_app.parts.models import house
from demo_app.parts.session import state
from demo_app.parts.settings import settings
from guardrail.models.builtin import BUILTIN_MODELS
from guardrail.models.reference import ModelReference

__all__ = ["choose_model"]

_HERE, _HUB = "Built in", "Hugging Face hub"


@st.dialog("Choose a model")
def choose_model() -> None:
    """Ask for a model, and open it."""
    kind = st.radio("Where it comes from", [_HERE, _HUB], horizontal=True)
    if kind == _HERE:
        name = st.selectbox("Model", _offered(), format_func=lambda one: one.rpartition("/")[2])
        about = BUILTIN_MODELS.get(name)
        if about is not None:
            size = f"{about.parameters / 1e6:.0f} million parameters"
            st.caption(f"{about.description}, {size}, {about.licence}.")
        st.caption("For a folder or .gguf file of this machine, start the demo with --model.")
    else:
        name = st.text_input("Model", placeholder="owner/name")
    st.caption("All visitors of this page share a model once it is open. A change begins a new conversation.")
    if st.button("Open", type="primary", width="stretch"):
        with shown():
            _open(name if kind == _HERE else str(ModelReference.parse(name, local=False)))
            st.rerun()


def _offered() -> list[str]:
    """The models that are built in, and the one that the demo began with, where that is a path."""
    began = settings().model
    return [*BUILTIN_MODELS, *([began] if Path(began).is_absolute() else [])]


def _open(name: str) -> None:
    """Open a model with a bar that tells how far it is, and use it from now on.

    Raises:
        GuardrailError: It cannot be had; the one before stays.
    """
    bar = st.progress(0.0, text="Opening…")

    def tell(stage: str, done: int, total: int | None) -> None:
        bar.progress(min(1.0, done / total) if total else 0.0, text=f"{stage.capitalize()}…")

    house().model(name, tell)
    session = state()
    session.models.append(name)
    if session.model_name != name:
        # A profile is of one model, and a conversation too.
        session.model_name, session.profile_path, session.begins = name, None, True
