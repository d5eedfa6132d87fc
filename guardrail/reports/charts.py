"""Charts: of a profile and a comparison as SVG for HTML reports, and the heat map of a scan for t*."""

import re
from collections.abc import Sequence
from io import StringIO
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure as Picture
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter
from scipy.stats import beta

from guardrail.calibration.held_out import HeldOut
from guardrail.calibration.profile import CertifiedThreshold
from guardrail.evaluation.compare import Comparison, MethodFigures
from guardrail.metrics.confidence_quality import reliability, risk_coverage
from guardrail.metrics.intervals import LEVEL, in_order, share
from guardrail.reports.formatting import promised, token_label
from guardrail.utils.files import whole_file

if TYPE_CHECKING:
    from guardrail.scoring.semantic_scan import Choice, Scan

__all__ = [
    "MOST_DRAWN",
    "drawn_methods",
    "reliability_diagram",
    "risk_coverage_curve",
    "risk_coverage_curves",
    "roc_curves",
    "score_histogram",
    "write_heat_map",
]


_INK, _FAINT = "#24292f", "#6b7280"
# Okabe & Ito (2008): distinguishable with any colour vision, and in grey by lightness.
_RIGHT, _WRONG, _CERTIFIED = "#0072B2", "#D55E00", "#007A5A"
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# Curves of methods also differ by their dashes.
_DASHES = ("-", (0, (6, 1.5)), (0, (1, 1)), (0, (4, 1.5, 1, 1.5)), (0, (8, 2, 2, 2)), (0, (3, 2)))
_DASHED, _DOTTED = (0, (4, 3)), (0, (1, 1.5))
_MARKS = "Ds^vP"
MOST_DRAWN = len(_COLOURS)
_HALF_PAGE, _TALL_HALF_PAGE, _WHOLE_PAGE = (5.0, 4.1), (5.0, 4.4), (10.2, 3.5)
_COVERAGE, _RISK = "share of answers accepted, most confident first", "share of them that are wrong"
_STYLE: dict[Any, Any] = {
    # Text stays text, which can be read aloud, searched and copied. The salt makes ids reproducible.
    "svg.fonttype": "none",
    "svg.hashsalt": "guardrail",
    "font.size": 9.5,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _FAINT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "grid.color": "#e8ebef",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}


def _percent_axis() -> PercentFormatter:
    """Format an axis as percent; matplotlib allows a formatter only one axis."""
    return PercentFormatter(1, symbol=" %")


def _legend(picture: Picture) -> None:
    """Draw a legend above the axes, where it covers nothing."""
    picture.legend(loc="outside upper left", ncols=2, borderpad=0, columnspacing=1.4, handlelength=2.2)


def _svg(picture: Picture, name: str) -> str:
    """The picture as an SVG element whose ids start with its name, so that a page may hold several."""
    text = StringIO()
    picture.savefig(
        text, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")), transparent=True
    )
    drawn = text.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", drawn)


def reliability_diagram(held_out: HeldOut) -> str:
    """Share of right answers by confidence, in the bins of the ECE, above a histogram of confidences."""
    with rc_context(_STYLE):
        picture = Picture(figsize=_HALF_PAGE, layout="constrained")
        above, below = picture.subplots(2, 1, height_ratios=(5, 1), sharex=True)
        _draw_reliability(above, held_out)
        below.hist(held_out.confidences, bins=np.linspace(0, 1, 41), color=_FAINT)
        below.set(xlim=(0, 1), ylabel="answers", xlabel="predicted confidence")
        below.xaxis.set_major_formatter(_percent_axis())
        _legend(picture)
        return _svg(picture, "reliability")


def risk_coverage_curve(held_out: HeldOut, certified: Sequence[CertifiedThreshold]) -> str:
    """Share of wrong answers among those accepted, by coverage, with the certified thresholds."""
    with rc_context(_STYLE):
        picture = Picture(figsize=_HALF_PAGE, layout="constrained")
        axes = picture.subplots()
        _draw_risk(axes, held_out)
        tops = [_draw_threshold(axes, held_out, one, mark) for one, mark in zip(certified, cycle(_MARKS))]
        _draw_promises(axes, sorted({one.max_error for one in certified}))
        wrong = 1 - float(np.mean(held_out.correct))
        top = min(1.0, 1.05 * max(1.4 * wrong, *(1.4 * one.max_error for one in certified), *tops, 0.1))
        axes.set(xlim=(0, 1), ylim=(0, top))
        axes.set(xlabel=_COVERAGE, ylabel=_RISK)
        return _finished(picture, axes, "risk-coverage")


def score_histogram(held_out: HeldOut, certified: Sequence[CertifiedThreshold]) -> str:
    """Histogram of confidence scores: right answers upwards, wrong ones downwards."""
    scores, right = np.asarray(held_out.scores), np.asarray(held_out.correct, dtype=bool)
    # The outermost bars hold all outliers, which would otherwise squeeze the rest together.
    low, high = np.quantile(scores, (0.005, 0.995))
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, min(max(len(scores) // 12, 10), 40) + 1)
    inside = np.clip(scores, low, high)
    with rc_context(_STYLE):
        picture = Picture(figsize=_WHOLE_PAGE, layout="constrained")
        axes = picture.subplots()
        for flag, sign, colour, name in ((right, 1, _RIGHT, "right"), (~right, -1, _WRONG, "wrong")):
            counts, _ = np.histogram(inside[flag], edges)
            axes.bar(
                edges[:-1],
                sign * counts,
                np.diff(edges),
                align="edge",
                color=colour,
                edgecolor="white",
                linewidth=0.6,
                label=f"{name} answers ({flag.sum():,})",
            )
        axes.axhline(0, color=_INK, linewidth=0.8)
        reach = max(map(abs, axes.get_ylim()))
        # Room above for the labels of the thresholds.
        axes.set_ylim(-1.08 * reach, 1.3 * reach)
        within = [one for one in certified if one.threshold is not None and low <= one.threshold <= high]
        for place, one in enumerate(sorted(within, key=lambda one: one.threshold or 0.0, reverse=True)):
            axes.axvline(one.threshold or 0.0, color=_CERTIFIED, linewidth=1.2, linestyle=_DASHED)
            axes.annotate(
                f"at most {promised(one.max_error)} wrong from here",
                (one.threshold or 0.0, 1 - 0.08 * place),
                xycoords=("data", "axes fraction"),
                xytext=(4, -2),
                textcoords="offset points",
                va="top",
                fontsize=8.5,
                color=_CERTIFIED,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            )
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}")
        axes.grid(visible=True, axis="y")
        axes.set(xlabel="confidence score (right = surer)", ylabel="answers")
        _legend(picture)
        return _svg(picture, "scores")


def _draw_reliability(axes: Axes, held_out: HeldOut) -> None:
    axes.plot((0, 1), (0, 1), color=_FAINT, linewidth=1, linestyle=_DASHED, label="perfect calibration")
    bins = reliability(held_out.confidences, held_out.correct)
    given = np.array([one.confidence for one in bins])
    right, low, high = np.array([(one.right.value, one.right.low, one.right.high) for one in bins]).T
    counts = sorted(one.right.n for one in bins)
    alike = counts[-1] - counts[0] <= 1
    of_each = f" of {counts[-1]:,} answers" if alike else ""
    axes.errorbar(
        given,
        right,
        (right - low, high - right),
        color=_RIGHT,
        marker="o",
        markersize=5,
        linewidth=1.4,
        elinewidth=1,
        capsize=2.5,
        clip_on=False,
        label=f"{len(bins)} bins{of_each}, 95 % interval",
    )
    for one in () if alike else bins:
        axes.annotate(
            f"{one.right.n:,}",
            (one.confidence, one.right.value or 0.0),
            xytext=(5, -10),
            textcoords="offset points",
            fontsize=8,
            color=_FAINT,
        )
    axes.set(ylim=(0, 1), ylabel="share of right answers")
    axes.yaxis.set_major_formatter(_percent_axis())
    axes.grid(visible=True)


def _draw_risk(axes: Axes, held_out: HeldOut) -> None:
    coverage, risk = risk_coverage(held_out.scores, held_out.correct)
    accepted = np.arange(1, len(risk) + 1)
    wrong, outside = risk * accepted, (1 - LEVEL) / 2
    # Clopper–Pearson at every point; with no error the lower bound is 0, with only errors the upper one is 1.
    low = np.where(wrong > 0, beta.ppf(outside, np.maximum(wrong, 1e-9), accepted - wrong + 1), 0)
    high = np.where(wrong < accepted, beta.ppf(1 - outside, wrong + 1, np.maximum(accepted - wrong, 1e-9)), 1)
    # More points could not be distinguished.
    some = np.unique(np.linspace(0, len(risk) - 1, 400).astype(int))
    axes.fill_between(
        coverage[some],
        low[some],
        high[some],
        color=_RIGHT,
        alpha=0.13,
        linewidth=0,
        label="95 % interval at each point",
    )
    axes.plot(coverage, risk, color=_RIGHT, linewidth=1.6, label="this confidence")
    oracle = risk_coverage(held_out.correct, held_out.correct)
    axes.plot(oracle.coverage, oracle.risk, color=_INK, linewidth=1.2, linestyle=_DOTTED, label="an oracle")
    axes.axhline(risk[-1], color=_FAINT, linewidth=1, linestyle=_DASHED, label="chance")


def _draw_threshold(axes: Axes, held_out: HeldOut, certified: CertifiedThreshold, mark: str) -> float:
    """Mark a threshold; returns the upper end of the mark."""
    if certified.threshold is None:
        return 0.0
    accepted = np.asarray(held_out.scores) >= certified.threshold
    error = share(~np.asarray(held_out.correct, dtype=bool)[accepted])
    if error.value is None or error.low is None or error.high is None:
        return 0.0
    name = f"certified: at most {promised(certified.max_error)}"
    axes.errorbar(
        accepted.mean(),
        error.value,
        [[error.value - error.low], [error.high - error.value]],
        color=_CERTIFIED,
        marker=mark,
        markersize=6,
        elinewidth=1.4,
        capsize=3,
        linestyle="none",
        zorder=5,
        label=name,
    )
    return error.high


def _draw_promises(axes: Axes, errors: Sequence[float]) -> None:
    for error in errors:
        axes.axhline(error, color=_CERTIFIED, linewidth=0.8, alpha=0.7)
        axes.annotate(
            f"at most {promised(error)}",
            (1, error),
            xycoords=("axes fraction", "data"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color=_CERTIFIED,
        )


def drawn_methods(comparison: Comparison) -> Sequence[MethodFigures]:
    """The reference and the methods with the best AUROC, as many as can be distinguished."""
    ranked = comparison.ranked
    reference = next(one for one in ranked if one.name == comparison.reference)
    return [reference, *(one for one in ranked if one is not reference)][:MOST_DRAWN]


def roc_curves(comparison: Comparison) -> str:
    """ROC curve of each method: share of right answers accepted, by the share of wrong ones."""
    right = np.asarray(comparison.correct, dtype=bool)
    with rc_context(_STYLE):
        picture = Picture(figsize=_TALL_HALF_PAGE, layout="constrained")
        axes = picture.subplots()
        for one, colour, dash in zip(drawn_methods(comparison), _COLOURS, _DASHES, strict=False):
            ordered = in_order(one.confidences)
            # Tied answers are accepted together, so only the last of them is a point.
            last = np.unique(ordered.last)
            axes.plot(
                np.r_[0, ordered.counted_to_last(~right)[last] / max((~right).sum(), 1)],
                np.r_[0, ordered.counted_to_last(right)[last] / max(right.sum(), 1)],
                color=colour,
                linestyle=dash,
                linewidth=1.5,
                label=one.estimated.method.title,
            )
        axes.plot((0, 1), (0, 1), color=_FAINT, linewidth=1, linestyle=_DASHED, label="chance")
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.set(xlabel="share of wrong answers accepted", ylabel="share of right answers accepted")
        return _finished(picture, axes, "roc")


def risk_coverage_curves(comparison: Comparison) -> str:
    """Share of wrong answers among those accepted, by coverage, for each method."""
    right = np.asarray(comparison.correct, dtype=bool)
    with rc_context(_STYLE):
        picture = Picture(figsize=_TALL_HALF_PAGE, layout="constrained")
        axes = picture.subplots()
        for one, colour, dash in zip(drawn_methods(comparison), _COLOURS, _DASHES, strict=False):
            curve = risk_coverage(one.confidences, right)
            label = one.estimated.method.title
            axes.plot(curve.coverage, curve.risk, color=colour, linestyle=dash, linewidth=1.5, label=label)
        oracle = risk_coverage(right, right)
        axes.plot(
            oracle.coverage, oracle.risk, color=_INK, linewidth=1.2, linestyle=_DOTTED, label="an oracle"
        )
        axes.axhline(1 - right.mean(), color=_FAINT, linewidth=1, linestyle=_DASHED, label="chance")
        axes.set(xlim=(0, 1), ylim=(0, min(1.0, 1.4 * float(1 - right.mean()) + 0.05)))
        axes.set(xlabel=_COVERAGE, ylabel=_RISK)
        return _finished(picture, axes, "risk-coverage")


def _finished(picture: Picture, axes: Axes, name: str) -> str:
    axes.grid(visible=True)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(_percent_axis())
    _legend(picture)
    return _svg(picture, name)


_MAP_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "svg.fonttype": "none",
}


def write_heat_map(scan: "Scan", choice: "Choice", path: str | Path) -> None:
    """Draw a scan. Darker is higher, in a single hue that survives grey print.

    Args:
        scan: The scan.
        choice: The position to mark.
        path: A ``.png``, ``.svg`` or ``.pdf`` file.

    Raises:
        OptionError: The file cannot be written.
    """
    path = Path(path)
    layers, count = scan.scores.shape
    # SPS spans decades; on a linear scale the template's tokens would all be one pale shade.
    reach = max(float(abs(scan.scores).max()), 1e-6)
    norm = SymLogNorm(linthresh=reach / 100, vmin=min(0.0, float(scan.scores.min())), vmax=reach)
    with rc_context(_MAP_STYLE):
        picture = Picture(figsize=(1.6 + 0.62 * count, 1.9 + 0.13 * layers), layout="constrained")
        axes = picture.subplots()
        image = axes.imshow(
            scan.scores, aspect="auto", cmap="Blues", norm=norm, origin="lower", interpolation="nearest"
        )
        axes.axhline(scan.upper_half - 0.5, color=_INK, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.add_patch(
            Rectangle(
                (count + choice.position - 0.5, -0.5),
                1,
                layers,
                fill=False,
                edgecolor=_WRONG,
                linewidth=2.2,
                clip_on=False,
            )
        )
        labels = [
            f"{position}\n{token_label(token)}\n{mean:.3g}"
            for position, token, mean in zip(scan.positions, scan.tokens, scan.upper_means, strict=True)
        ]
        axes.set_xticks(range(count), labels, fontsize=7.5)
        axes.set(xlabel="position from the end of the prompt, its token, mean SPS of the upper half")
        axes.set(ylabel="input of decoder layer (dashed: the upper half)")
        axes.set_title(
            f"{scan.model}: t* = {choice.position} ({scan.queries} queries, {scan.prompts} wordings)",
            fontsize=9.5,
            color=_WRONG,
        )
        picture.colorbar(image, label="Semantic Preservation Score")
        with whole_file(path) as file:
            picture.savefig(file, format=path.suffix[1:].lower(), dpi=110)
