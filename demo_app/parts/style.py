"""The style of what is drawn as HTML, for light and dark, and the text that goes into it."""

from html import escape
from pathlib import Path
from unicodedata import category

import streamlit as st

__all__ = ["add_style", "icon", "text"]

# Beside what is printable and spaces of any width: line ends, and what joins letters and emoji.
_SHOWN = "\n\t\u200c\u200d"
_STYLE = Path(__file__).with_name("style.css")


def add_style() -> None:
    """Add it to the page; once in a run."""
    st.html(_STYLE)


def text(value: str) -> str:
    """A text as HTML that shows it as it is: nothing in it is a tag, an image or a link."""
    return escape("".join(c if c.isprintable() or c in _SHOWN or category(c) == "Zs" else "�" for c in value))


def icon(name: str) -> str:
    """A symbol beside words that say the same."""
    return f'<span class="gr-icon" aria-hidden="true">{escape(name)}</span>'
