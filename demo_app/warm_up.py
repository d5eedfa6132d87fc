"""What is done before a visitor needs it: the model opened, the page's program read by the browser."""

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


# In it a question that waited for the model takes its place in the line.
_A_MOMENT = 0.2


def open_model() -> None:
    """Open what the demo was started with, then the other pages. What goes wrong is told who asks first."""
    given = settings()
    policy = check_policy(given.policy, environment()).policy
    if policy is not None:
        with suppress(GuardrailError):
            house().guard(policy, given.model)
    # Whoever asks meanwhile waits for the same interpreter.
    sleep(_A_MOMENT)
    while house().is_asked:
        sleep(_A_MOMENT)
    for name in ("compare", "policy", "calibration", "review"):
        import_module(f"demo_app.views.{name}")
    if policy is not None:
        with suppress(GuardrailError):
            _read_known(policy, given.model)


def _read_known(policy: Policy, model: str) -> None:
    """Work out what the policy page counts, for its first visitor."""
    profile = policy.profile_path or builtin_profile(model)
    if profile is not None and (found := known(profile)) is not None:
        decided(policy, found)


# Streamlit's files for what the chat does not show. Their names go on with a hash of what is in them.
_FILES = ("TextArea", "Slider", "DownloadButton", "FileUploader", "ArrowVegaLiteChart", "embed")


def read_ahead() -> None:
    """Let the browser read Streamlit's files for the other pages; what another version lacks is left out."""
    if names := _names():
        code = f"for (const name of {json.dumps(names)}) import('./static/js/' + name).catch(() => {{}})"
        st.html(f"<script>{code}</script>", unsafe_allow_javascript=True)


@cache
def _names() -> list[str]:
    folder = Path(st.__file__).parent / "static" / "static" / "js"
    return [found.name for file in _FILES for found in folder.glob(f"{file}.*.js")]
