"""Numbers, tables and pages formatted for people, and outside text made safe to show."""

from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from guardrail.errors import OptionError
from guardrail.metrics import Figure, figure_of
from guardrail.utils.text import visible as without_orders

if TYPE_CHECKING:
    from guardrail.reports.profile_facts import Fact

__all__ = [
    "NONE",
    "check_picture",
    "counted",
    "decimal",
    "facts_table",
    "interval",
    "percent",
    "plain_table",
    "print_section",
    "promised",
    "rendered_page",
    "short",
    "shown",
    "token_label",
    "visible",
]


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


def print_section(console: Console, title: str, table: Table) -> None:
    """Print a table that has rows under a bold title."""
    if table.row_count:
        console.print()
        console.print(Text(title, "bold"))
        console.print(Padding(table, (0, 0, 0, 2)))


def facts_table(facts: "Iterable[Fact]") -> Table:
    """Facts as a table of labels and texts."""
    table = plain_table(show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for fact in facts:
        table.add_row(Text(fact.label), Text(fact.text))
    return table


def plain_table(*, show_header: bool = True, header_style: str = "") -> Table:
    """An empty table without lines."""
    return Table(
        show_header=show_header, header_style=header_style, box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )


def rendered_page(template: str, **values: Any) -> str:
    """A self-contained HTML page, from a template of this folder."""
    # Imported late: a terminal needs neither.
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "decimal": decimal,
        "percent": percent,
        "promised": promised,
        "short": short,
        "shown": shown,
    }
    folder = files(__package__)
    # Markup: the style sheet is ours.
    style = Markup((folder / "style.css").read_text("utf-8").rstrip())  # noqa: S704
    page = environment.from_string((folder / template).read_text("utf-8"))
    return page.render(style=style, **values)


def token_label(token: str | None) -> str:
    """A token as text: quoted, so that spaces and line breaks show; ``differs`` for None."""
    if token is None:
        return "differs"
    return token if token.startswith("<|") else repr(token)


_FORMATS = (".png", ".svg", ".pdf")


def check_picture(path: str | Path) -> None:
    """Check the file's format before the scan, which takes minutes.

    Raises:
        OptionError: The file name has no supported format.
    """
    if Path(path).suffix.lower() not in _FORMATS:
        raise OptionError(f"{path} is not a supported image format: use .png, .svg or .pdf.")
