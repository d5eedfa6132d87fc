"""A comparison of methods for people: its setting, rows and remarks, on a terminal and in a file."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup
from rich.console import Console
from rich.table import Table
from rich.text import Text

from guardrail.errors import OptionError
from guardrail.evaluation.compare import COVERAGES, MATCHED, METRICS, Comparison, MethodFigures
from guardrail.metrics import Figure
from guardrail.reports.formatting import (
    NONE,
    counted,
    decimal,
    facts_table,
    interval,
    percent,
    plain_table,
    print_section,
    rendered_page,
    shown,
    visible,
)
from guardrail.reports.profile_facts import Fact
from guardrail.utils.files import write_whole

__all__ = [
    "REPORTS",
    "Row",
    "Setting",
    "check_report_path",
    "comparison_html",
    "markdown_report",
    "method_rows",
    "print_comparison",
    "remarks",
    "setting_facts",
    "write_comparison",
]


REPORTS = (".html", ".md")


@dataclass(frozen=True, slots=True)
class Setting:
    """How the answers of a comparison were made.

    Attributes:
        questions: Name of the file or data set.
        model: The model's fingerprint as plain values.
        generation: Arguments of the generation.
        samples: How other answers were sampled, with their ``count``; None if none were.
        judge: The judge that labelled the answers.
        semantic_token: t* where a method names none; None for the rule of the model's chat template.
        unlabelled: Answers without a label, which are left out.
        machine: The hardware in words; empty if nothing was run.
        notes: Further remarks for the reader.
    """

    questions: str
    model: Mapping[str, Any]
    generation: Mapping[str, Any]
    samples: Mapping[str, Any] | None
    judge: str
    semantic_token: int | None = None
    unlabelled: int = 0
    machine: str = ""
    notes: Sequence[str] = ()

    def as_plain(self) -> dict[str, Any]:
        """The setting as values for JSON."""
        return {
            "questions": self.questions,
            "model": dict(self.model),
            "generation": dict(self.generation),
            "samples": dict(self.samples) if self.samples else None,
            "judge": self.judge,
            "semantic_token": self.semantic_token,
            "unlabelled": self.unlabelled,
            "machine": self.machine or None,
            "notes": list(self.notes),
        }


def setting_facts(setting: Setting, comparison: Comparison) -> list[Fact]:
    """The setting as labels and texts."""
    answers, right = len(comparison.correct), sum(comparison.correct)
    facts = [
        Fact("Questions", visible(setting.questions)),
        Fact("Model", visible(f"{setting.model['name']}, {setting.model['dtype']}")),
        Fact(
            "Answers",
            f"{counted(answers, 'answer')} to {counted(comparison.questions, 'question')}, "
            f"{percent(right / answers)} right; median length {comparison.tokens:g} tokens",
        ),
        Fact("Judge", visible(setting.judge)),
        Fact(
            "Gradients",
            f"t* {_token(setting.semantic_token)}, sum over tokens, by default",
        ),
        Fact("Generation", shown({key: value for key, value in setting.generation.items() if value})),
    ]
    if setting.unlabelled:
        facts.append(Fact("Without a label", f"{counted(setting.unlabelled, 'answer')}, left out"))
    if setting.samples:
        facts.append(Fact("Samples", shown({key: value for key, value in setting.samples.items() if value})))
    if setting.machine:
        facts.append(Fact("Machine", visible(setting.machine)))
    return facts


def _token(position: int | None) -> str:
    return "by the template’s rule" if position is None else f"−{-position}"


_ACCURACIES = tuple(name for name in METRICS if name.startswith("accuracy_at_"))


class Row(NamedTuple):
    """The figures of a method as texts.

    Attributes:
        name: The method's name.
        title: Its title in tables, with a dagger if a stand-in replaced a second model.
        paper: Its source.
        is_reference: Whether it is the reference of the differences.
        auroc: AUROC.
        auroc_interval: Its interval.
        difference: AUROC minus that of the reference.
        difference_interval: Its interval.
        auprc: Average precision of finding wrong answers.
        aurc: Area under the risk-coverage curve.
        prr: Prediction rejection ratio.
        accuracies: Share of right answers among the most confident 70, 80 and 90 %.
        matched: AUROC among answers of similar length.
        matched_interval: Its interval.
        seconds: Time added to generating an answer.
        memory: Peak memory.
    """

    name: str
    title: str
    paper: str
    is_reference: bool
    auroc: str
    auroc_interval: str
    difference: str
    difference_interval: str
    auprc: str
    aurc: str
    prr: str
    accuracies: Sequence[str]
    matched: str
    matched_interval: str
    seconds: str
    memory: str


def method_rows(comparison: Comparison) -> Iterator[Row]:
    """One row per method, best AUROC first."""
    for one in comparison.ranked:
        method, figures = one.estimated.method, one.figures
        is_reference = one.name == comparison.reference
        difference = one.differences["auroc"]
        yield Row(
            name=method.name,
            title=visible(method.title) + (" †" if method.stand_in else ""),
            paper=method.paper,
            is_reference=is_reference,
            auroc=decimal(figures["auroc"].value),
            auroc_interval=interval(figures["auroc"]),
            difference=NONE if is_reference else _signed(difference),
            difference_interval=NONE if is_reference else interval(difference),
            auprc=decimal(figures["auprc"].value),
            aurc=decimal(figures["aurc"].value),
            prr=decimal(figures["prr"].value),
            accuracies=[_share(figures[name]) for name in _ACCURACIES],
            matched=decimal(one.matched.auroc.value),
            matched_interval=interval(one.matched.auroc),
            seconds=_seconds(one.estimated.seconds),
            memory=_memory(one.estimated.peak_bytes),
        )


def remarks(comparison: Comparison) -> list[str]:
    """Notes on how to read the figures."""
    answers, first = len(comparison.correct), comparison.methods[0]
    said = [
        f"n = {answers:,} for every figure. Intervals are 95 % bootstrap intervals over "
        f"{comparison.questions:,} questions; differences are to {_title(comparison)}, on the same draws.",
        f"Similar length: AUROC among {first.matched.pairs:,} pairs of a right and a wrong answer whose "
        f"lengths differ by at most a factor of {MATCHED:g} ({first.matched.auroc.n:,} answers).",
        "Time and memory are what a method adds to generating the answer. HybridGrad, SemGrad and ParaGrad "
        "come from one pass; token scores come from the generation itself.",
    ]
    reasons = dict.fromkeys(
        figure.reason for one in comparison.methods for figure in _all_figures(one) if figure.reason
    )
    said += [f"Missing figures or intervals: {reason}." for reason in reasons]
    by_what: dict[str, list[str]] = {}
    for title, stand_in in comparison.stand_ins.items():
        by_what.setdefault(stand_in, []).append(title)
    said += [f"† {stand_in} ({', '.join(titles)})" for stand_in, titles in by_what.items()]
    return said


def _all_figures(one: MethodFigures) -> list[Figure]:
    return [*one.figures.values(), one.matched.auroc]


def _title(comparison: Comparison) -> str:
    titles = {one.name: one.estimated.method.title for one in comparison.methods}
    return titles[comparison.reference]


def _signed(figure: Figure) -> str:
    text = decimal(figure.value)
    return f"+{text}" if figure.value is not None and figure.value > 0 else text


def _share(figure: Figure) -> str:
    return NONE if figure.value is None else percent(figure.value)


def _seconds(seconds: float) -> str:
    if seconds < 0.0005:
        return "< 1 ms"
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _memory(size: int | None) -> str:
    if size is None:
        return NONE
    return f"{size / 1e6:.1f} MB" if size else "none"


_HEADERS = (
    "Method",
    "AUROC",
    "Difference",
    "AUPRC",
    "AURC ↓",
    "PRR",
    *(f"Right of {share:.0%}" for share in COVERAGES),
    "Similar length",
    "Adds",
    "Memory",
    "Source",
)


def markdown_report(comparison: Comparison, setting: Setting) -> str:
    """A comparison as Markdown: its setting, a table with a row per method, and remarks."""
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


def print_comparison(console: Console, comparison: Comparison, setting: Setting) -> None:
    """Print how well each method separates right from wrong, and its cost."""
    rows = list(method_rows(comparison))
    print_section(console, "What was measured", facts_table(setting_facts(setting, comparison)))
    ranking = ([row.auroc, row.auroc_interval, row.difference, row.difference_interval] for row in rows)
    headers = ["AUROC", "95 % interval", "difference", "95 % interval"]
    print_section(console, "Separating right from wrong answers", _method_table(rows, headers, ranking))
    selecting = ([row.auprc, row.aurc, row.prr, *row.accuracies] for row in rows)
    headers = ["AUPRC", "AURC ↓", "PRR", *(f"right of {share:.0%}" for share in COVERAGES)]
    print_section(console, "Answering only the most confident", _method_table(rows, headers, selecting))
    costs = ([row.matched, row.matched_interval, row.seconds, row.memory] for row in rows)
    headers = ["similar length", "95 % interval", "adds", "memory"]
    title = "AUROC controlled for length, and cost per answer"
    print_section(console, title, _method_table(rows, headers, costs))
    console.print()
    for remark in [*remarks(comparison), *setting.notes]:
        console.print(Text(remark, "dim"))


def _method_table(rows: Sequence[Row], headers: Sequence[str], cells: Iterable[Sequence[str]]) -> Table:
    table = plain_table(header_style="dim")
    table.add_column("", no_wrap=True)
    for header in headers:
        table.add_column(header, justify="right", no_wrap=True)
    for row, texts in zip(rows, cells, strict=True):
        style = "bold" if row.is_reference else ""
        table.add_row(Text(row.title, style), *(Text(text, style) for text in texts))
    return table


def comparison_html(comparison: Comparison, setting: Setting) -> str:
    """A comparison as an HTML page with its curves."""
    from guardrail.reports.charts import (
        MOST_DRAWN,
        drawn_methods,
        risk_coverage_curves,
        roc_curves,
    )

    return rendered_page(
        "comparison.html.jinja",
        facts=setting_facts(setting, comparison),
        rows=list(method_rows(comparison)),
        remarks=[*remarks(comparison), *setting.notes],
        coverages=[f"{share:.0%}" for share in COVERAGES],
        # Markup: matplotlib escapes its texts.
        roc=Markup(roc_curves(comparison)),  # noqa: S704
        risk=Markup(risk_coverage_curves(comparison)),  # noqa: S704
        drawn=len(drawn_methods(comparison)),
        all_drawn=len(comparison.methods) <= MOST_DRAWN,
    )


def check_report_path(path: str | Path) -> None:
    """Check that the name of a report has a supported format.

    Raises:
        OptionError: It has none.
    """
    if Path(path).suffix.lower() not in REPORTS:
        raise OptionError(f"{path}: a report is HTML or Markdown; end its name in .html or .md.")


def write_comparison(comparison: Comparison, setting: Setting, path: str | Path) -> None:
    """Write a comparison atomically, as HTML or Markdown by the name of the file.

    Raises:
        OptionError: The file cannot be written.
    """
    path = Path(path)
    check_report_path(path)
    make = comparison_html if path.suffix.lower() == ".html" else markdown_report
    write_whole(path, make(comparison, setting))
