"""What the browser reads while a visitor reads the first answer, so that another page opens at once."""

import json
from functools import cache
from pathlib import Path

import streamlit as st

__all__ = ["read_ahead"]

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
