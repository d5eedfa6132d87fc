"""Errors as sentences that say what to do; a visitor never sees a traceback."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from guardrail.errors import GuardrailError

__all__ = ["sentence", "shown"]


_LOG = logging.getLogger("guardrail.demo")


def sentence(error: BaseException) -> str:
    """The message for a visitor. An unexpected error is logged by type and place, without its content."""
    if isinstance(error, GuardrailError):
        return str(error)
    _LOG.error("%s at %s", type(error).__name__, _place(error))
    return (
        f"Unexpected error ({type(error).__name__}). Reload the page and try again; the terminal where the "
        "demo was started shows where it happened."
    )


@contextmanager
def shown() -> Iterator[None]:
    """Show an error raised inside as a sentence on the page, and continue after the block."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  (shown)
        st.error(plain(sentence(error)), icon=":material/error:")


def plain(text: str) -> str:
    """Escape a text so that Markdown shows it literally."""
    return "".join(f"\\{character}" if character in _MARKDOWN else character for character in text)


_MARKDOWN = frozenset("\\`*_{}[]()#+-.!|<>~$:&")


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "?" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
