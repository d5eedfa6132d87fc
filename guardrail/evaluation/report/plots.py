"""Curves of several methods as SVG, to stand within an HTML page."""

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

from guardrail.calibration.metrics.arrays import in_order
from guardrail.calibration.metrics.selective import risk_coverage
from guardrail.calibration.report.pictures import FAINT, INK, STYLE, legend, percent_axis, svg
from guardrail.evaluation.comparing import Comparison, MethodFigures

__all__ = ["MOST_DRAWN", "drawn_methods", "risk_coverage_curves", "roc_curves"]

# Okabe & Ito (2008): told apart with any colour vision; each has a dash of its own besides.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_DASHES = ("-", (0, (6, 1.5)), (0, (1, 1)), (0, (4, 1.5, 1, 1.5)), (0, (8, 2, 2, 2)), (0, (3, 2)))
_DASHED, _DOTTED = (0, (4, 3)), (0, (1, 1.5))
_HALF_PAGE = (5.0, 4.4)
MOST_DRAWN = len(_COLOURS)


def drawn_methods(comparison: Comparison) -> Sequence[MethodFigures]:
    """The reference and the methods of the best AUROC, as many as can be told apart."""
    ranked = comparison.ranked
    reference = next(one for one in ranked if one.name == comparison.reference)
    return [reference, *(one for one in ranked if one is not reference)][:MOST_DRAWN]


def roc_curves(comparison: Comparison) -> str:
    """Share of right answers let through, by the share of wrong ones."""
    right = np.asarray(comparison.correct, dtype=bool)
    with rc_context(STYLE):
        picture = Picture(figsize=_HALF_PAGE, layout="constrained")
        axes = picture.subplots()
        for one, colour, dash in zip(drawn_methods(comparison), _COLOURS, _DASHES, strict=False):
            ordered = in_order(one.confidences)
            # Tied answers are let through together: only the last of them is a point.
            last = np.unique(ordered.last)
            axes.plot(
                np.r_[0, ordered.counted_to_last(~right)[last] / max((~right).sum(), 1)],
                np.r_[0, ordered.counted_to_last(right)[last] / max(right.sum(), 1)],
                color=colour,
                linestyle=dash,
                linewidth=1.5,
                label=one.estimated.method.title,
            )
        axes.plot((0, 1), (0, 1), color=FAINT, linewidth=1, linestyle=_DASHED, label="chance")
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.set(xlabel="share of wrong answers let through", ylabel="share of right answers let through")
        return _finished(picture, axes, "roc")


def risk_coverage_curves(comparison: Comparison) -> str:
    """Share of wrong answers among those let through, by how many are."""
    right = np.asarray(comparison.correct, dtype=bool)
    with rc_context(STYLE):
        picture = Picture(figsize=_HALF_PAGE, layout="constrained")
        axes = picture.subplots()
        for one, colour, dash in zip(drawn_methods(comparison), _COLOURS, _DASHES, strict=False):
            curve = risk_coverage(one.confidences, right)
            label = one.estimated.method.title
            axes.plot(curve.coverage, curve.risk, color=colour, linestyle=dash, linewidth=1.5, label=label)
        oracle = risk_coverage(right, right)
        axes.plot(
            oracle.coverage, oracle.risk, color=INK, linewidth=1.2, linestyle=_DOTTED, label="an oracle"
        )
        axes.axhline(1 - right.mean(), color=FAINT, linewidth=1, linestyle=_DASHED, label="chance")
        axes.set(xlim=(0, 1), ylim=(0, min(1.0, 1.4 * float(1 - right.mean()) + 0.05)))
        axes.set(
            xlabel="share of answers let through, the surest first", ylabel="share of them that are wrong"
        )
        return _finished(picture, axes, "risk-coverage")


def _finished(picture: Picture, axes: Axes, name: str) -> str:
    axes.grid(visible=True)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(percent_axis())
    legend(picture)
    return svg(picture, name)
