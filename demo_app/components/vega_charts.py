"""Vega-Lite charts that follow the page's theme, and a profile's report with them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import streamlit as st

from demo_app.settings import plain
from guardrail.calibration.profile import CertifiedThreshold, Profile
from guardrail.metrics.confidence_quality import reliability, risk_coverage
from guardrail.metrics.intervals import share
from guardrail.reports.formatting import decimal, interval, promised
from guardrail.reports.profile_facts import confidence_facts, making_facts
from guardrail.reports.profile_report import Statement, figure_rows, verdict

if TYPE_CHECKING:
    from guardrail.calibration.fit import Fitted

__all__ = ["Mark", "marks_at", "reliability_chart", "risk_chart", "score_chart", "show_report"]


Spec = dict[str, Any]

# After Okabe & Ito (2008): distinguishable with any colour vision, on white and on black.
_BLUE, _ORANGE, _GREEN, _GREY = "#1e8fd0", "#e0680f", "#0fa37a", "#8b929c"
_COLOURS = [_GREY, _ORANGE, _GREEN, "#cc79a7", "#e69f00"]
_SHAPES = ["circle", "diamond", "triangle-up", "square", "cross"]
_HEIGHT = 360
# The first few answers make the curve jump; they do not set its scale.
_FEW = 10


class Mark(NamedTuple):
    """A point on the risk-coverage plane.

    Attributes:
        name: Its label.
        coverage: Share of answers accepted, 0 to 1.
        risk: Share of the accepted answers that are wrong, 0 to 1.
        low: Lower end of the risk's 95 % interval.
        high: Upper end of the risk's 95 % interval.
    """

    name: str
    coverage: float
    risk: float
    low: float
    high: float


def marks_at(
    scores: Sequence[float], correct: Sequence[bool], certified: Sequence[CertifiedThreshold]
) -> list[Mark]:
    """Marks of the certified thresholds that accept at least one answer."""
    marks = []
    for one in certified:
        accepted = np.asarray(scores) >= (np.inf if one.threshold is None else one.threshold)
        error = share(~np.asarray(correct, dtype=bool)[accepted])
        if error.value is not None and error.low is not None and error.high is not None:
            name = f"certified: at most {promised(one.max_error)} wrong"
            marks.append(Mark(name, float(accepted.mean()), error.value, error.low, error.high))
    return marks


def risk_chart(scores: Sequence[float], correct: Sequence[bool], marks: Sequence[Mark]) -> Spec:
    """Risk-coverage curve: error rate among the accepted answers by the share accepted, with marks."""
    coverage, risk = risk_coverage(scores, correct)
    curve = [
        {"coverage": round(float(x), 4), "risk": round(float(y), 4)}
        for x, y in zip(coverage, risk, strict=True)
    ]
    top = min(1.0, 1.1 * max([0.2, *(one["risk"] for one in curve[_FEW:]), *(mark.high for mark in marks)]))
    y = _y("risk", "error rate", [0, top])
    names = [mark.name for mark in marks]
    of_name = {"field": "name", "type": "nominal", "legend": _LEGEND if names else None}
    look = {
        "color": {**of_name, "scale": {"domain": names, "range": _COLOURS}},
        "shape": {**of_name, "scale": {"domain": names, "range": _SHAPES}},
    }
    said = "; ".join(f"{one.name}: {one.coverage:.0%} shown, {one.risk:.0%} wrong" for one in marks)
    return _chart(
        f"Error rate by share of answers shown. {said}",
        {"x": _x("coverage", "share of answers shown (most confident first)")},
        [
            _layer({"type": "rule", "color": _GREY, "strokeDash": [4, 3]}, {"y": y, "x": None}, curve[-1:]),
            _layer({"type": "line", "color": _BLUE}, {"y": y, "tooltip": _tips("coverage", "risk")}, curve),
            _layer(
                {"type": "rule", "strokeWidth": 2},
                {"y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": look["color"]},
                [mark._asdict() for mark in marks],
            ),
            _layer(
                {"type": "point", "filled": True, "size": 140, "opacity": 1},
                {"y": y, **look, "tooltip": _tips("coverage", "risk")},
                [mark._asdict() for mark in marks],
            ),
        ],
    )


def reliability_chart(confidences: Sequence[float], correct: Sequence[bool]) -> Spec:
    """Reliability diagram: share of right answers by predicted confidence, with 95 % intervals."""
    values = [
        {"given": one.confidence, "right": one.right.value, "low": one.right.low, "high": one.right.high}
        for one in reliability(confidences, correct)
    ]
    y = _y("right", "share of right answers", [0, 1])
    said = "; ".join(f"{one['given']:.0%} given, {one['right']:.0%} right" for one in values)
    return _chart(
        f"Reliability: {said}",
        {"x": _x("given", "predicted confidence")},
        [
            _layer(
                {"type": "line", "color": _GREY, "strokeDash": [4, 3]},
                {"y": y},
                [{"given": 0, "right": 0}, {"given": 1, "right": 1}],
            ),
            _layer(
                {"type": "rule", "color": _BLUE, "strokeWidth": 2},
                {"y": {**y, "field": "low"}, "y2": {"field": "high"}},
                values,
            ),
            _layer(
                {"type": "line", "color": _BLUE, "point": {"size": 80, "color": _BLUE}},
                {"y": y, "tooltip": _tips("given", "right")},
                values,
            ),
        ],
    )


def score_chart(
    scores: Sequence[float], correct: Sequence[bool], certified: Sequence[CertifiedThreshold]
) -> Spec:
    """Histogram of the confidence scores of right and of wrong answers, with the certified thresholds."""
    values = [
        {"score": score, "answer": "right" if right else "wrong"}
        for score, right in zip(scores, correct, strict=True)
    ]
    feasible = [
        {"score": one.threshold, "name": f"at most {promised(one.max_error)} wrong"}
        for one in certified
        if one.threshold is not None
    ]
    said = "; ".join(f"from {one['score']:.2f} on {one['name']}" for one in feasible) or "no threshold holds"
    scale = {"domain": ["right", "wrong"], "range": [_BLUE, _ORANGE]}
    label = {"type": "text", "align": "left", "dx": 4, "dy": 6, "baseline": "top", "color": _GREEN}
    text = {"field": "name", "type": "nominal"}
    return _chart(
        f"Confidence scores of right and wrong answers; {said}",
        {
            "x": {
                "field": "score",
                "type": "quantitative",
                "title": "confidence score (right = surer)",
            }
        },
        [
            _layer(
                {"type": "bar"},
                {
                    "x": {"field": "score", "type": "quantitative", "bin": {"maxbins": 24}},
                    "y": {"aggregate": "count", "type": "quantitative", "title": "answers"},
                    "color": {"field": "answer", "type": "nominal", "scale": scale, "legend": _LEGEND},
                },
                values,
            ),
            _layer({"type": "rule", "color": _GREEN, "strokeDash": [4, 3], "strokeWidth": 2}, {}, feasible),
            _layer(label, {"y": {"value": 0}, "text": text}, feasible),
        ],
    )


_LEGEND: Spec = {"title": None, "orient": "bottom", "direction": "vertical", "labelLimit": 0}
_AXIS: Spec = {"format": ".0%", "tickCount": 5}


def _chart(description: str, encoding: Spec, layers: list[Spec]) -> Spec:
    return {"description": description, "height": _HEIGHT, "encoding": encoding, "layer": layers}


def _layer(mark: Spec, encoding: Spec, values: Sequence[Any]) -> Spec:
    return {"mark": mark, "encoding": encoding, "data": {"values": list(values)}}


def _x(field: str, title: str) -> Spec:
    return {
        "field": field,
        "type": "quantitative",
        "title": title,
        "axis": _AXIS,
        "scale": {"domain": [0, 1]},
    }


def _y(field: str, title: str, domain: Sequence[float]) -> Spec:
    scale = {"domain": list(domain), "clamp": True}
    return {"field": field, "type": "quantitative", "title": title, "axis": _AXIS, "scale": scale}


def _tips(*fields: str) -> list[Spec]:
    return [{"field": field, "type": "quantitative", "format": ".0%"} for field in fields]


_ICONS = {"good": ":material/check_circle:", "caution": ":material/warning:", "bad": ":material/error:"}
_FIGURE_COLOURS = {"good": "green", "caution": "orange", "bad": "red"}


def show_report(fitted: "Fitted") -> None:
    """Show a profile's report, its verdict first."""
    profile, held_out = fitted.profile, fitted.held_out
    # Columns stack on a narrow screen: the verdict stays above the charts.
    said, drawn = st.columns(2, gap="medium")
    for statement in verdict(profile):
        said.markdown(_said(statement))
    for note in fitted.notes:
        said.caption(plain(note))
    if not profile.is_calibrated:
        return
    reliable, risk, scores = drawn.tabs(["Reliability", "Risk and coverage", "Scores"])
    reliable.vega_lite_chart(reliability_chart(held_out.confidences, held_out.correct), width="stretch")
    reliable.caption("Dashed: perfect calibration. Of answers given 70 % confidence, 70 % should be right.")
    pooled = [one for one in profile.certified if not one.kind]
    marks = marks_at(held_out.scores, held_out.correct, pooled)
    risk.vega_lite_chart(risk_chart(held_out.scores, held_out.correct, marks), width="stretch")
    risk.caption("Bars: 95 % intervals; dashed: error rate if every answer were shown.")
    scores.vega_lite_chart(score_chart(held_out.scores, held_out.correct, pooled), width="stretch")
    scores.caption("Right of a dashed line: covered by a guarantee.")
    with st.expander("All figures"):
        st.markdown(_figures(profile))
    with st.expander("How it was made"):
        facts = [*making_facts(profile), *confidence_facts(profile)]
        st.markdown("\n".join(f"- **{plain(fact.label)}:** {plain(fact.text)}" for fact in facts))


def _said(statement: Statement) -> str:
    colour, said = _FIGURE_COLOURS.get(statement.tone, ""), plain(statement.text)
    topic = f"{_ICONS.get(statement.tone, ':material/info:')} {plain(statement.topic)}"
    return f":{colour}[**{topic}**]  \n{said}" if colour else f"**{topic}**  \n{said}"


def _figures(profile: Profile) -> str:
    lines = [
        "| Figure | Value | 95 % interval | Better | What it says |",
        "| --- | ---: | ---: | --- | --- |",
    ]
    lines += [
        f"| {plain(row.name)} | {decimal(row.figure.value)} | {interval(row.figure)} | {row.better} | "
        f"{plain(row.meaning)} |"
        for row in figure_rows(profile.report)
    ]
    return "\n".join(lines)
