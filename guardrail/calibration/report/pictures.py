"""The house style of pictures: SVG that stands within an HTML page.

Of matplotlib the object interface alone: nothing of pyplot's global state.
"""

import re
from io import StringIO
from typing import Any

from matplotlib.figure import Figure as Picture
from matplotlib.ticker import PercentFormatter

__all__ = ["FAINT", "INK", "STYLE", "legend", "percent_axis", "svg"]

INK, FAINT = "#24292f", "#6b7280"
STYLE: dict[Any, Any] = {
    # Text stays text: it can be read aloud, searched and copied. The salt makes ids the same every time.
    "svg.fonttype": "none",
    "svg.hashsalt": "guardrail",
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": "#e8ebef",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}


def percent_axis() -> PercentFormatter:
    """Numbers of an axis as percent; each axis needs a formatter of its own."""
    return PercentFormatter(1, symbol=" %")


def legend(picture: Picture) -> None:
    """A legend above the axes, where it covers nothing."""
    picture.legend(loc="outside upper left", ncols=2, borderpad=0, columnspacing=1.4, handlelength=2.2)


def svg(picture: Picture, name: str) -> str:
    """The picture as an element of a page, its ids told apart from those of others by its name."""
    text = StringIO()
    picture.savefig(
        text, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")), transparent=True
    )
    drawn = text.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", drawn)
