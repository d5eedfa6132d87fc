"""Errors as sentences with a way out: nobody is shown a traceback."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from guardrail.errors import GuardrailError

__all__ = ["sentence", "shown"]


_LOG = logging.getLogger("guardrail.demo")


def sentence(error: BaseException) -> str:
    """What to tell a person of an error. What nobody foresaw is logged by its type, without what was said."""
    if isinstance(error, GuardrailError):
        return str(error)
    _LOG.error("%s at %s", type(error).__name__, _place(error))
    return (
        f"Something went wrong that was not foreseen ({type(error).__name__}). Reload the page and try "
        "again; the terminal that the demo was started from says where it happened."
    )


@contextmanager
def shown() -> Iterator[None]:
    """Show what goes wrong within as a sentence, and go on behind it."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  (shown)
        st.error(plain(sentence(error)), icon=":material/error:")


def plain(text: str) -> str:
    """A text that Markdown shows as it is."""
    return "".join(f"\\{character}" if character in _MARKDOWN else character for character in text)


_MARKDOWN = frozenset("\\`*_{}[]()#+-.!|<>~$:&")


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "?" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
