"""A comparison as one HTML file that needs nothing else, and the writing of reports."""

from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from guardrail.calibration.report.html import house_style
from guardrail.errors import OptionError
from guardrail.evaluation.comparing import COVERAGES, Comparison
from guardrail.evaluation.report.markdown import markdown_report
from guardrail.evaluation.report.rows import method_rows, remarks
from guardrail.evaluation.report.setting import Setting, setting_facts
from guardrail.utils.whole_files import write_whole

__all__ = ["REPORTS", "check_report", "html_report", "write_report"]

REPORTS = (".html", ".md")


def html_report(comparison: Comparison, setting: Setting) -> str:
    """A comparison as a page with its curves."""
    from guardrail.evaluation.report.plots import (
        MOST_DRAWN,
        drawn_methods,
        risk_coverage_curves,
        roc_curves,
    )

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string((files(__package__) / "report.html.jinja").read_text("utf-8"))
    return template.render(
        style=house_style(),
        facts=setting_facts(setting, comparison),
        rows=list(method_rows(comparison)),
        remarks=[*remarks(comparison), *setting.notes],
        coverages=[f"{share:.0%}" for share in COVERAGES],
        # Markup: matplotlib escapes what it writes.
        roc=Markup(roc_curves(comparison)),  # noqa: S704
        risk=Markup(risk_coverage_curves(comparison)),  # noqa: S704
        drawn=len(drawn_methods(comparison)),
        all_drawn=len(comparison.methods) <= MOST_DRAWN,
    )


def check_report(path: str | Path) -> None:
    """Make sure that the name of a report says what it is to be.

    Raises:
        OptionError: It ends in something else.
    """
    if Path(path).suffix.lower() not in REPORTS:
        raise OptionError(f"A report is a page (.html) or Markdown (.md), and {path} is neither by its name.")


def write_report(comparison: Comparison, setting: Setting, path: str | Path) -> None:
    """Write a comparison as HTML or Markdown, as the name of the file says; whole or not at all.

    Raises:
        OptionError: The file cannot be written.
    """
    path = Path(path)
    check_report(path)
    make = html_report if path.suffix.lower() == ".html" else markdown_report
    write_whole(path, make(comparison, setting))
