"""A profile or a comparison as a self-contained HTML file."""

from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from guardrail.calibration.held_out import HeldOut
from guardrail.calibration.profile import Profile
from guardrail.errors import CalibrationError, OptionError, ProfileError
from guardrail.evaluation.compare import COVERAGES, Comparison
from guardrail.reports.comparison_report import Setting, markdown_report, method_rows, remarks, setting_facts
from guardrail.reports.formatting import (
    NONE,
    decimal,
    interval,
    percent,
    promised,
    short,
    shown,
    visible,
)
from guardrail.reports.profile_report import (
    confidence_facts,
    figure_rows,
    making_facts,
    model_facts,
    threshold_rows,
    verdict,
)
from guardrail.utils.files import write_whole

__all__ = [
    "REPORTS",
    "check_report_path",
    "comparison_html",
    "profile_html",
    "write_comparison",
    "write_profile_html",
]

REPORTS = (".html", ".md")


class _Plots(NamedTuple):
    reliability: Markup
    risk_coverage: Markup
    scores: Markup


def profile_html(profile: Profile, held_out: HeldOut | None = None) -> str:
    """The report of a profile as an HTML page.

    Args:
        profile: The profile, calibrated or not.
        held_out: The answers its figures were measured on, for the charts; a profile does not keep them.

    Raises:
        CalibrationError: The figures were measured on other answers.
    """
    if held_out is not None:
        _check(profile, held_out)
    columns = list(dict.fromkeys(key for one in profile.making.candidates for key in one))
    return _rendered(
        "profile.html.jinja",
        name=visible(profile.author),
        profile=profile,
        verdict=verdict(profile),
        figures=list(figure_rows(profile.report)),
        thresholds=list(threshold_rows(profile)),
        plots=_plots(profile, held_out) if held_out is not None else None,
        columns=columns,
        model_facts=list(model_facts(profile)),
        confidence_facts=list(confidence_facts(profile)),
        making_facts=list(making_facts(profile)),
        method=_method(profile.report.get("method")),
        interval=interval,
        dash=NONE,
    )


def write_profile_html(profile: Profile, path: str | Path, held_out: HeldOut | None = None) -> None:
    """Write the report of a profile atomically.

    Raises:
        CalibrationError: The figures were measured on other answers.
        ProfileError: The file cannot be written.
    """
    write_whole(Path(path), profile_html(profile, held_out), ProfileError)


def _rendered(template: str, **values: Any) -> str:
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


def _check(profile: Profile, held_out: HeldOut) -> None:
    measured = (profile.report.get("n"), profile.report.get("correct"))
    given = (len(held_out.correct), sum(held_out.correct))
    if measured != given:
        raise CalibrationError(
            f"The profile's figures were measured on {measured[0]} answers ({measured[1]} right), but "
            f"{given[0]} held-out answers ({given[1]} right) were given. Give those of the same run."
        )


def _plots(profile: Profile, held_out: HeldOut) -> _Plots:
    from guardrail.reports.charts import reliability_diagram, risk_coverage_curve, score_histogram

    # Markup: matplotlib escapes its texts, and these are only numbers.
    return _Plots(
        Markup(reliability_diagram(held_out)),  # noqa: S704
        Markup(risk_coverage_curve(held_out, profile.certified)),  # noqa: S704
        Markup(score_histogram(held_out, profile.certified)),  # noqa: S704
    )


def _method(method: Any) -> str:
    if not isinstance(method, dict):
        return ""
    resamples, seed, bins = (shown(method.get(name)) for name in ("resamples", "seed", "ece_bins"))
    return f"{resamples} resamples drawn by seed {seed}. The ECE has {bins} bins."


def comparison_html(comparison: Comparison, setting: Setting) -> str:
    """A comparison as an HTML page with its curves."""
    from guardrail.reports.charts import (
        MOST_DRAWN,
        drawn_methods,
        risk_coverage_curves,
        roc_curves,
    )

    return _rendered(
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
