"""A profile printed on a terminal, and the tables that reports on a terminal share."""

from collections.abc import Iterable

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from guardrail.calibration.profile import Profile
from guardrail.metrics.types import Figure
from guardrail.reports.formatting import NONE, decimal, interval, percent, promised, short, visible
from guardrail.reports.profile_report import (
    Fact,
    Tone,
    confidence_facts,
    figure_rows,
    making_facts,
    model_facts,
    threshold_rows,
    verdict,
)

__all__ = ["facts_table", "plain_table", "print_profile", "print_section"]


# A sign besides the colour, for readers and terminals that cannot show the difference.
_SIGNS: dict[Tone, tuple[str, str]] = {
    "good": ("✓", "green"),
    "caution": ("!", "yellow"),
    "bad": ("✗", "red"),
    "plain": ("·", "dim"),
}


def print_profile(console: Console, profile: Profile) -> None:
    """Print a profile: its verdict, figures and thresholds, and how it was made."""
    console.print(Text(f"Profile of {visible(profile.author)}", "bold"))
    console.print(_verdict(profile))
    print_section(console, "Figures on the held-out answers", _figures(profile))
    print_section(console, "Thresholds", _thresholds(profile))
    facts = [*model_facts(profile), *confidence_facts(profile), *making_facts(profile)]
    print_section(console, "About", facts_table([*facts, Fact("Digest", profile.digest, is_code=True)]))


def print_section(console: Console, title: str, table: Table) -> None:
    """Print a table that has rows under a bold title."""
    if table.row_count:
        console.print()
        console.print(Text(title, "bold"))
        console.print(Padding(table, (0, 0, 0, 2)))


def _verdict(profile: Profile) -> Table:
    table = plain_table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for statement in verdict(profile):
        table.add_row(Text(*_SIGNS[statement.tone]), Text(statement.text))
    return table


def _figures(profile: Profile) -> Table:
    table = plain_table(header_style="dim")
    table.add_column("", no_wrap=True)
    for name in ("Figure", "95 % interval", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("better", style="dim", no_wrap=True)
    remarks = []
    for row in figure_rows(profile.report):
        figure = row.figure
        table.add_row(
            Text(row.name),
            Text(decimal(figure.value), "bold"),
            Text(interval(figure)),
            Text(f"{figure.n:,}"),
            Text(row.better),
        )
        if figure.reason:
            remarks.append(f"{row.name}: {figure.reason}.")
    for remark in remarks:
        table.add_row(Text(remark, "dim"))
    return table


def _thresholds(profile: Profile) -> Table:
    table = plain_table(header_style="dim")
    for name in ("Wrong at most", "From score", "Accepts", "Wrong of these"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in threshold_rows(profile):
        certified = row.certified
        guarantee = f"{promised(certified.max_error)} at {promised(certified.confidence)}"
        start = NONE if certified.threshold is None else short(certified.threshold)
        cells = (guarantee, start, _share(row.coverage), _share(row.error))
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _share(figure: Figure | None) -> str:
    if figure is None or figure.value is None:
        return NONE
    return f"{percent(figure.value)} ({interval(figure, as_percent=True)})"


def facts_table(facts: Iterable[Fact]) -> Table:
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
