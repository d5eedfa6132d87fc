"""A profile's report: sentences, pictures and figures, in the words of the report that guardrail writes."""

from typing import TYPE_CHECKING

import streamlit as st

from demo_app.parts.curves import marks_at, reliability_chart, risk_chart, score_chart
from demo_app.parts.errors import plain
from guardrail.calibration.profile import Profile
from guardrail.calibration.report.facts import confidence_facts, making_facts
from guardrail.calibration.report.rows import figure_rows
from guardrail.calibration.report.verdict import Statement, verdict
from guardrail.calibration.report.words import decimal, interval

if TYPE_CHECKING:
    from guardrail.calibration.fitting.fit import Fitted

__all__ = ["show_report"]

_ICONS = {"good": ":material/check_circle:", "caution": ":material/warning:", "bad": ":material/error:"}
_COLOURS = {"good": "green", "caution": "orange", "bad": "red"}


def show_report(fitted: "Fitted") -> None:
    """Show it, the sentences first."""
    profile, held_out = fitted.profile, fitted.held_out
    # On a narrow screen the pictures come below.
    said, drawn = st.columns(2, gap="medium")
    for statement in verdict(profile):
        said.markdown(_said(statement))
    for note in fitted.notes:
        said.caption(plain(note))
    if not profile.is_calibrated:
        return
    reliable, risk, scores = drawn.tabs(["Reliability", "Risk and coverage", "Scores"])
    reliable.vega_lite_chart(reliability_chart(held_out.confidences, held_out.correct), width="stretch")
    reliable.caption("Of answers given a confidence of 70 %, 70 % should be right: the dashed line.")
    marks = marks_at(held_out.scores, held_out.correct, profile.certified)
    risk.vega_lite_chart(risk_chart(held_out.scores, held_out.correct, marks), width="stretch")
    risk.caption("Bars are 95 % intervals; the dashed line is the error of showing everything.")
    scores.vega_lite_chart(score_chart(held_out.scores, held_out.correct, profile.certified), width="stretch")
    scores.caption("Behind a dashed line, answers are let through under a guarantee.")
    with st.expander("All figures"):
        st.markdown(_figures(profile))
    with st.expander("How it was made"):
        facts = [*making_facts(profile), *confidence_facts(profile)]
        st.markdown("\n".join(f"- **{plain(fact.label)}:** {plain(fact.text)}" for fact in facts))


def _said(statement: Statement) -> str:
    colour, said = _COLOURS.get(statement.tone, ""), plain(statement.text)
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
