"""A comparison as Markdown, for documents."""

from collections.abc import Iterator

from guardrail.calibration.report.words import NONE
from guardrail.evaluation.comparing import COVERAGES, Comparison
from guardrail.evaluation.report.rows import Row, method_rows, remarks
from guardrail.evaluation.report.setting import Setting, setting_facts

__all__ = ["markdown_report"]

_HEADERS = (
    "Method",
    "AUROC",
    "Difference",
    "AUPRC",
    "AURC ↓",
    "PRR",
    *(f"Right of {share:.0%}" for share in COVERAGES),
    "Like length",
    "Adds",
    "Memory",
    "Source",
)


def markdown_report(comparison: Comparison, setting: Setting) -> str:
    """What was measured, a table with a row for each method, and what is to be known of it."""
    facts = [f"- {fact.label}: {fact.text}" for fact in setting_facts(setting, comparison)]
    table = "\n".join(_lines(comparison))
    notes = [f"- {remark}" for remark in [*remarks(comparison), *setting.notes]]
    return "\n".join([*facts, "", table, "", *notes, ""])


def _lines(comparison: Comparison) -> Iterator[str]:
    yield _line(_HEADERS)
    yield _line(["---", *["---:"] * (len(_HEADERS) - 2), "---"])
    for row in method_rows(comparison):
        yield _line(_cells(row))


def _cells(row: Row) -> list[str]:
    title = row.title.replace("|", r"\|")
    return [
        f"**{title}**" if row.is_reference else title,
        _with_interval(row.auroc, row.auroc_interval),
        _with_interval(row.difference, row.difference_interval),
        row.auprc,
        row.aurc,
        row.prr,
        *row.accuracies,
        _with_interval(row.matched, row.matched_interval),
        row.seconds,
        row.memory,
        row.paper,
    ]


def _with_interval(value: str, interval: str) -> str:
    return value if interval == NONE else f"{value} ({interval})"


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"
