"""Preparation before the first visit: the model, the pages' imports, and Streamlit's script files."""

import json
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from time import sleep

import streamlit as st

from demo_app.state.model_pool import house
from demo_app.state.policy_effect import decided, known
from demo_app.state.settings import environment, settings
from guardrail import Policy
from guardrail.calibration.held_out import builtin_profile
from guardrail.errors import GuardrailError
from guardrail.policy.load import check_policy

__all__ = ["open_model", "read_ahead"]


# Long enough for a question that waited for the model to take its turn.
_A_MOMENT = 0.2


def open_model() -> None:
    """Open the configured model, then import the other pages. Errors are shown to whoever asks first."""
    given = settings()
    policy = check_policy(given.policy, environment()).policy
    if policy is not None:
        with suppress(GuardrailError):
            house().guard(policy, given.model)
    # Imports hold the interpreter lock, so they wait until no question is being answered.
    sleep(_A_MOMENT)
    while house().is_asked:
        sleep(_A_MOMENT)
    for name in ("compare", "policy", "calibration", "review"):
        import_module(f"demo_app.views.{name}")
    if policy is not None:
        with suppress(GuardrailError):
            _read_known(policy, given.model)


def _read_known(policy: Policy, model: str) -> None:
    """Work out what the policy page shows, before its first visitor needs it."""
    profile = policy.profile_path or builtin_profile(model)
    if profile is not None and (found := known(profile)) is not None:
        decided(policy, found)


# Streamlit's script files for elements that the chat does not use; a content hash follows each name.
_FILES = ("TextArea", "Slider", "DownloadButton", "FileUploader", "ArrowVegaLiteChart", "embed")


def read_ahead() -> None:
    """Prefetch script files for the other pages; a name that this version of Streamlit lacks is skipped."""
    if names := _names():
        code = f"for (const name of {json.dumps(names)}) import('./static/js/' + name).catch(() => {{}})"
        st.html(f"<script>{code}</script>", unsafe_allow_javascript=True)


@cache
def _names() -> list[str]:
    folder = Path(st.__file__).parent / "static" / "static" / "js"
    return [found.name for file in _FILES for found in folder.glob(f"{file}.*.js")]
