"""A comparison on a terminal."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from guardrail.evaluation.comparing import COVERAGES, Comparison
from guardrail.evaluation.report.rows import Row, method_rows, remarks
from guardrail.evaluation.report.setting import Setting, setting_facts

__all__ = ["print_comparison"]


def print_comparison(console: Console, comparison: Comparison, setting: Setting) -> None:
    """Print how well each method tells right from wrong, and what it costs."""
    rows = list(method_rows(comparison))
    facts = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    for fact in setting_facts(setting, comparison):
        facts.add_row(Text(fact.label), Text(fact.text))
    _section(console, "What was measured", facts)
    ranking = ([row.auroc, row.auroc_interval, row.difference, row.difference_interval] for row in rows)
    headers = ["AUROC", "95 % interval", "difference", "95 % interval"]
    _section(console, "Telling right from wrong answers", _table(rows, headers, ranking))
    selecting = ([row.auprc, row.aurc, row.prr, *row.accuracies] for row in rows)
    headers = ["AUPRC", "AURC ↓", "PRR", *(f"right of {share:.0%}" for share in COVERAGES)]
    _section(console, "Answering only the surest", _table(rows, headers, selecting))
    costs = ([row.matched, row.matched_interval, row.seconds, row.memory] for row in rows)
    headers = ["like length", "95 % interval", "adds", "memory"]
    _section(console, "AUROC among answers of like length, and cost an answer", _table(rows, headers, costs))
    console.print()
    for remark in [*remarks(comparison), *setting.notes]:
        console.print(Text(remark, "dim"))


def _section(console: Console, title: str, table: Table) -> None:
    console.print()
    console.print(Text(title, "bold"))
    console.print(Padding(table, (0, 0, 0, 2)))


def _table(rows: Sequence[Row], headers: Sequence[str], cells: Iterable[Sequence[str]]) -> Table:
    table = Table(header_style="dim", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    for header in headers:
        table.add_column(header, justify="right", no_wrap=True)
    for row, texts in zip(rows, cells, strict=True):
        style = "bold" if row.is_reference else ""
        table.add_row(Text(row.title, style), *(Text(text, style) for text in texts))
    return table
