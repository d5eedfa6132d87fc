"""Choosing the model: one that is built in, a folder or file on this machine, or one of the hub."""

import streamlit as st

from demo_app.parts.errors import shown
from demo_app.parts.models import house
from demo_app.parts.session import state
from guardrail.errors import ModelReferenceError
from guardrail.models.builtin import BUILTIN_MODELS
from guardrail.models.reference import ModelReference

__all__ = ["choose_model"]

_BUILT_IN, _FOLDER, _HUB = "Built in", "Folder or .gguf file", "Hugging Face hub"
_LIKE = {_FOLDER: "/path/to/model", _HUB: "owner/name"}


@st.dialog("Choose a model")
def choose_model() -> None:
    """Ask for a model, and open it."""
    kind = st.radio("Where it comes from", [_BUILT_IN, *_LIKE], horizontal=True)
    if kind == _BUILT_IN:
        name = st.selectbox("Model", list(BUILTIN_MODELS))
        about = BUILTIN_MODELS[name]
        st.caption(f"{about.description}, {about.parameters / 1e6:.0f} million parameters, {about.licence}.")
    else:
        name = st.text_input("Model", placeholder=_LIKE[kind])
    st.caption("All visitors of this page share a model once it is open. A change begins a new conversation.")
    if st.button("Open", type="primary", width="stretch"):
        with shown():
            reference = ModelReference.parse(name)
            if kind == _FOLDER and reference.path is None:
                # It would be asked of the hub.
                raise ModelReferenceError(f"{name} is no folder and no .gguf file of this machine.")
            _open(reference)
            st.rerun()


def _open(reference: ModelReference) -> None:
    """Open a model with a bar that tells how far it is, and use it from now on.

    Raises:
        GuardrailError: It cannot be had; the one before stays.
    """
    bar = st.progress(0.0, text="Opening…")

    def tell(stage: str, done: int, total: int | None) -> None:
        bar.progress(min(1.0, done / total) if total else 0.0, text=f"{stage.capitalize()}…")

    house().model(str(reference), tell)
    session = state()
    session.models.append(str(reference))
    if session.model_name != str(reference):
        # A profile is of one model, and a conversation too.
        session.model_name, session.profile_path, session.begins = str(reference), None, True
