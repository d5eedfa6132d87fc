"""The pictures of a report."""

import os
import subprocess
import sys
from xml.etree import ElementTree

import matplotlib
import pytest

from guardrail.calibration.held_out import HeldOut
from guardrail.reports.charts import reliability_diagram, risk_coverage_curve, score_histogram
from tests.support.report_examples import FEASIBLE, INFEASIBLE, answers

CERTIFIED = (FEASIBLE, INFEASIBLE)


def one_class(right):
    held_out = answers(30)
    return HeldOut(held_out.scores, held_out.confidences, (right,) * 30)


def drawn(held_out, certified=CERTIFIED):
    return (
        reliability_diagram(held_out),
        risk_coverage_curve(held_out, certified),
        score_histogram(held_out, certified),
    )


def texts(svg):
    root = ElementTree.fromstring(svg)
    words = {"".join(one.itertext()) for one in root.iter("{http://www.w3.org/2000/svg}text")}
    return {word.replace("\N{NO-BREAK SPACE}", " ").strip() for word in words}


def test_axes_and_legends_are_in_words_and_are_text():
    reliability, risk, scores = map(texts, drawn(answers()))
    assert {
        "share of right answers",
        "predicted confidence",
        "5 bins of 60 answers, 95 % interval",
    } <= reliability
    assert {
        "share of answers accepted, most confident first",
        "share of them that are wrong",
        "an oracle",
        "certified: at most 10 %",
        "at most 2 %",
    } <= risk
    assert {"right answers (164)", "wrong answers (136)", "at most 10 % wrong from here"} <= scores


def test_a_curve_is_drawn_without_thresholds_too():
    assert "an oracle" in texts(risk_coverage_curve(answers(40), ()))


def test_an_infeasible_threshold_is_asked_for_and_not_marked():
    words = texts(risk_coverage_curve(answers(), (INFEASIBLE,)))
    assert "at most 2 %" in words
    assert not any(word.startswith("certified") for word in words)


def test_bins_that_ties_make_unequal_are_counted_one_by_one():
    held_out = answers(100)
    confidences = tuple(0.2 if value < 0.5 else value for value in held_out.confidences)
    low = sum(value == 0.2 for value in confidences)
    assert str(low) in texts(reliability_diagram(HeldOut(held_out.scores, confidences, held_out.correct)))


@pytest.mark.parametrize(
    "held_out",
    [
        one_class(True),
        one_class(False),
        HeldOut((0.3,), (0.6,), (True,)),
        HeldOut((0.3,) * 20, (0.6,) * 20, (True, False) * 10),
        HeldOut((*range(20),), (0.0,) * 10 + (1.0,) * 10, (False,) * 10 + (True,) * 10),
    ],
    ids=["all right", "all wrong", "one answer", "all alike", "certain"],
)
def test_odd_answers_can_be_drawn_too(held_out):
    for svg in drawn(held_out):
        assert "nan" not in svg
        assert len(texts(svg)) > 5


def test_a_picture_is_the_same_every_time_and_needs_nothing_from_elsewhere():
    once, again = drawn(answers(60)), drawn(answers(60))
    assert once == again
    for svg in once:
        assert "<metadata" not in svg
        assert "http" not in svg.replace("http://www.w3.org/", "")


def test_ten_thousand_answers_make_no_huge_picture():
    assert max(map(len, drawn(answers(10_000)))) < 200_000


def test_drawing_leaves_matplotlib_as_it_was():
    before = dict(matplotlib.rcParams)
    drawn(answers(40))
    assert dict(matplotlib.rcParams) == before


@pytest.mark.slow
def test_a_fresh_machine_draws_without_pyplot_and_without_a_warning(tmp_path):
    program = (
        "import sys; from guardrail.reports.charts import score_histogram; "
        "from guardrail.calibration.held_out import HeldOut; "
        "score_histogram(HeldOut((0.1, 0.2), (0.4, 0.6), (True, False)), ()); "
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "MPLCONFIGDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "False"
