"""Charts as Vega-Lite, which follow the page's light or dark theme; each says in words what it shows."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from guardrail.calibration.metrics import reliability, risk_coverage
from guardrail.calibration.metrics.intervals import share
from guardrail.calibration.profile import CertifiedThreshold
from guardrail.calibration.report.words import promised

__all__ = ["Mark", "marks_at", "reliability_chart", "risk_chart", "score_chart"]

Spec = dict[str, Any]

# After Okabe & Ito (2008): told apart with any colour vision, on white and on black.
_BLUE, _ORANGE, _GREEN, _GREY = "#1e8fd0", "#e0680f", "#0fa37a", "#8b929c"
_COLOURS = [_GREY, _ORANGE, _GREEN, "#cc79a7", "#e69f00"]
_SHAPES = ["circle", "diamond", "triangle-up", "square", "cross"]
_HEIGHT = 360
# Fewer answers than this are too few to scale the picture by.
_FEW = 10


class Mark(NamedTuple):
    """A point on the risk–coverage plane.

    Attributes:
        name: What it is called.
        coverage: Share of answers let through, 0 to 1.
        risk: Share of them that are wrong, 0 to 1.
        low: Lower end of the risk's 95 % interval.
        high: Upper end of it.
    """

    name: str
    coverage: float
    risk: float
    low: float
    high: float


def marks_at(
    scores: Sequence[float], correct: Sequence[bool], certified: Sequence[CertifiedThreshold]
) -> list[Mark]:
    """Where certified thresholds lie, but for those that are infeasible, or let nothing through."""
    marks = []
    for one in certified:
        accepted = np.asarray(scores) >= (np.inf if one.threshold is None else one.threshold)
        error = share(~np.asarray(correct, dtype=bool)[accepted])
        if error.value is not None and error.low is not None and error.high is not None:
            name = f"certified: at most {promised(one.max_error)} wrong"
            marks.append(Mark(name, float(accepted.mean()), error.value, error.low, error.high))
    return marks


def risk_chart(scores: Sequence[float], correct: Sequence[bool], marks: Sequence[Mark]) -> Spec:
    """Share of wrong answers among those let through, by how many are, and the marks on it."""
    coverage, risk = risk_coverage(scores, correct)
    curve = [
        {"coverage": round(float(x), 4), "risk": round(float(y), 4)}
        for x, y in zip(coverage, risk, strict=True)
    ]
    top = min(1.0, 1.1 * max([0.2, *(one["risk"] for one in curve[_FEW:]), *(mark.high for mark in marks)]))
    y = _y("risk", "wrong among them", [0, top])
    names = [mark.name for mark in marks]
    of_name = {"field": "name", "type": "nominal", "legend": _LEGEND if names else None}
    look = {
        "color": {**of_name, "scale": {"domain": names, "range": _COLOURS}},
        "shape": {**of_name, "scale": {"domain": names, "range": _SHAPES}},
    }
    said = "; ".join(f"{one.name}: {one.coverage:.0%} let through, {one.risk:.0%} wrong" for one in marks)
    return _chart(
        f"Share of wrong answers by the share of answers let through. {said}",
        {"x": _x("coverage", "answers let through, the surest first")},
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
    """Share of right answers by the confidence they were given, with 95 % intervals."""
    values = [
        {"given": one.confidence, "right": one.right.value, "low": one.right.low, "high": one.right.high}
        for one in reliability(confidences, correct)
    ]
    y = _y("right", "share that is right", [0, 1])
    said = "; ".join(f"{one['given']:.0%} given, {one['right']:.0%} right" for one in values)
    return _chart(
        f"Reliability: {said}",
        {"x": _x("given", "confidence that was given")},
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
    """Confidence scores of right answers and of wrong ones, and where the certified thresholds lie."""
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
        f"Confidence scores of right and of wrong answers; {said}",
        {
            "x": {
                "field": "score",
                "type": "quantitative",
                "title": "confidence score; further right is surer",
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
