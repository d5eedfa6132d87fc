"""A profile's report as people read it: on a terminal, or as a self-contained HTML file."""

from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup
from rich.console import Console
from rich.table import Table
from rich.text import Text

from guardrail.calibration.held_out import HeldOut
from guardrail.calibration.profile import Profile
from guardrail.errors import CalibrationError, ProfileError
from guardrail.metrics import Figure
from guardrail.reports.formatting import (
    NONE,
    decimal,
    facts_table,
    interval,
    percent,
    plain_table,
    print_section,
    promised,
    rendered_page,
    short,
    shown,
    visible,
)
from guardrail.reports.profile_facts import Fact, confidence_facts, domain_facts, making_facts, model_facts
from guardrail.reports.profile_report import Tone, figure_rows, threshold_rows, verdict
from guardrail.utils.files import write_whole

__all__ = ["print_profile", "profile_html", "write_profile_html"]


# In place of a kind, for what holds for all kinds in their mix and for none of them alone.
_MIX = "their mix"
# A sign besides the colour, for readers and terminals that cannot show the difference.
_SIGNS: dict[Tone, tuple[str, str]] = {
    "good": ("✓", "green"),
    "caution": ("!", "yellow"),
    "bad": ("✗", "red"),
    "plain": ("·", "dim"),
}


class _Plots(NamedTuple):
    reliability: Markup
    risk_coverage: Markup
    scores: Markup


def print_profile(console: Console, profile: Profile) -> None:
    """Print a profile: its verdict, figures and thresholds, and how it was made."""
    console.print(Text(f"Profile of {visible(profile.author)}", "bold"))
    console.print(_verdict(profile))
    print_section(console, "Figures on the held-out answers", _figures(profile))
    print_section(console, "Thresholds", _thresholds(profile))
    print_section(console, "Where it holds", facts_table([*domain_facts(profile)]))
    facts = [*model_facts(profile), *confidence_facts(profile), *making_facts(profile)]
    print_section(console, "About", facts_table([*facts, Fact("Digest", profile.digest, is_code=True)]))


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
    has_kinds = any(one.kind for one in profile.certified)
    if has_kinds:
        table.add_column("Kind", overflow="fold")
    for name in ("Wrong at most", "From score", "Accepts", "Wrong of these"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in threshold_rows(profile):
        certified = row.certified
        guarantee = f"{promised(certified.max_error)} at {promised(certified.confidence)}"
        start = NONE if certified.threshold is None else short(certified.threshold)
        kind = (visible(certified.kind) or _MIX,) if has_kinds else ()
        cells = (*kind, guarantee, start, _share(row.coverage), _share(row.error))
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _share(figure: Figure | None) -> str:
    if figure is None or figure.value is None:
        return NONE
    return f"{percent(figure.value)} ({interval(figure, as_percent=True)})"


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
    return rendered_page(
        "profile.html.jinja",
        name=visible(profile.author),
        profile=profile,
        verdict=verdict(profile),
        figures=list(figure_rows(profile.report)),
        thresholds=list(threshold_rows(profile)),
        has_kinds=any(one.kind for one in profile.certified),
        plots=_plots(profile, held_out) if held_out is not None else None,
        columns=columns,
        model_facts=list(model_facts(profile)),
        confidence_facts=list(confidence_facts(profile)),
        making_facts=list(making_facts(profile)),
        domain_facts=list(domain_facts(profile)),
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

    # The charts are of all kinds together.
    pooled = [one for one in profile.certified if not one.kind]
    # Markup: matplotlib escapes its texts, and these are only numbers.
    return _Plots(
        Markup(reliability_diagram(held_out)),  # noqa: S704
        Markup(risk_coverage_curve(held_out, pooled)),  # noqa: S704
        Markup(score_histogram(held_out, pooled)),  # noqa: S704
    )


def _method(method: Any) -> str:
    if not isinstance(method, dict):
        return ""
    resamples, seed, bins = (shown(method.get(name)) for name in ("resamples", "seed", "ece_bins"))
    return f"{resamples} resamples drawn by seed {seed}. The ECE has {bins} bins."
