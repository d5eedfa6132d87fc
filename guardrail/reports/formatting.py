"""Numbers formatted for people, and outside text made safe to show."""

from collections.abc import Mapping
from typing import Any

from guardrail.metrics.types import Figure, figure_of
from guardrail.utils.text import visible as without_orders

__all__ = ["NONE", "counted", "decimal", "interval", "percent", "promised", "short", "shown", "visible"]


NONE = "–"
# Keeps a number and its unit on one line.
_SPACE = "\N{NO-BREAK SPACE}"


def percent(share: float) -> str:
    """A share as percent: 57 %, and 2.8 % where a tenth matters."""
    return f"{_hundredths(share)}{_SPACE}%"


def promised(share: float) -> str:
    """A requested share as percent with all its digits: a promise is not rounded."""
    return f"{100 * share:.10g}{_SPACE}%"


def decimal(value: float | None) -> str:
    """A figure with three decimals."""
    return NONE if value is None else f"{value:.3f}".replace("-", "−")


def short(value: float) -> str:
    """A number with three significant digits."""
    return f"{value:.3g}".replace("-", "−")


def interval(figure: Figure, *, as_percent: bool = False) -> str:
    """The two ends of a figure's interval."""
    if figure.low is None or figure.high is None:
        return NONE
    if as_percent:
        return f"{_hundredths(figure.low)} to {percent(figure.high)}"
    return f"{decimal(figure.low)} to {decimal(figure.high)}"


def counted(number: int, one: str) -> str:
    """A number of things: 1 answer, 1,200 answers."""
    return f"{number:,} {one}{'' if number == 1 else 's'}"


def shown(value: Any) -> str:
    """Any plain value from a profile as text."""
    if isinstance(value, Mapping):
        if {"value", "low", "high"} <= set(value):
            figure = figure_of({"it": value}, "it")
            if figure is not None:
                return f"{decimal(figure.value)} ({interval(figure)})"
        return ", ".join(f"{shown(key)} {shown(one)}" for key, one in value.items()) or NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value)) or NONE
    return NONE if value is None or value == "" else visible(str(value))


def visible(text: str) -> str:
    """A text on one line without control characters: a name must not reorder the text around it."""
    return without_orders(text, keep="")


def _hundredths(share: float) -> str:
    hundredths = 100 * share
    # Near the ends a tenth of a percent matters: 99.6 % is not certainty.
    text = f"{hundredths:.0f}" if 9.95 <= hundredths < 99 else f"{hundredths:.1f}"
    return text.removesuffix(".0").replace("-", "−")
