"""A profile on a terminal."""

import io
import re
import subprocess
import sys

import pytest
from rich.console import Console

from guardrail.calibration.calibrators import Isotonic, VennAbers
from guardrail.calibration.confidence import ConfidenceModel
from guardrail.calibration.held_out import HeldOut
from guardrail.reports.profile_display import print_profile
from tests.support.report_examples import FEASIBLE, OF_KINDS, answers, calibrated, uncalibrated


def printed(profile, width=100):
    console = Console(file=io.StringIO(), width=width, highlight=False)
    print_profile(console, profile)
    return console.file.getvalue().replace("\N{NO-BREAK SPACE}", " ")


def test_everything_a_reader_asks_for_is_there():
    profile = calibrated().profile
    text = re.sub(r"\s+", " ", printed(profile))
    for expected in (
        "Profile of smollm2-135m",
        "AUROC 0.815 0.768 to 0.859 300 higher",
        "10 % at 90 % 2.4 13 % (9.4 to 17 %) 5.1 % (0.6 to 17 %)",
        "needs at least 149 accepted answers",
        "0.31 − 0.62 · log(hybridgrad) − 0.21 · max_entropy − 0.11 · log(−log_likelihood)",
        "Platt: a logistic curve, slope 1, intercept 0",
        "300 for fitting, 300 for certifying thresholds, 300 held out",
        profile.digest,
    ):
        assert expected in text


def test_thresholds_are_listed_by_kind_where_there_are_kinds():
    text = re.sub(r"\s+", " ", printed(calibrated(certified=(FEASIBLE, *OF_KINDS)).profile))
    assert "Kind Wrong at most" in text
    assert "their mix 10 % at 90 % 2.4" in text
    assert "fact 10 % at 90 % 2.4" in text
    assert "sum 10 % at 90 % –" in text
    assert "Kind" not in printed(calibrated().profile)


@pytest.mark.parametrize(
    ("calibrator", "words"),
    [
        (Isotonic(scores=(0.0, 1.0), probabilities=(0.2, 0.9)), "isotonic: a rising curve through 2 points"),
        (
            VennAbers(scores=(0.0,), lower=(0.1, 0.2, 0.3), upper=(0.4, 0.5, 0.6)),
            "Venn–Abers: two rising curves over 1 score",
        ),
    ],
)
def test_a_calibrator_is_named(calibrator, words):
    assert words in printed(calibrated().profile.model_copy(update={"calibrator": calibrator}))


def test_a_score_without_a_probe_and_answers_given_as_they_were_are_shown_too():
    profile = calibrated(generation={}).profile
    alone = ConfidenceModel(inputs="hybridgrad", terms=profile.confidence_model.terms[:1])
    text = printed(profile.model_copy(update={"confidence_model": alone}))
    assert re.search(r"Inputs +HybridGrad alone", text)
    assert re.search(r"Confidence score +0 − 0.62 · log\(hybridgrad\) *\n", text)
    assert "generated with" not in text


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_line_is_wider_than_the_terminal(width):
    assert max(map(len, printed(calibrated().profile, width).splitlines())) <= width


def test_a_profile_without_labels_is_shown_as_such():
    text = printed(uncalibrated())
    assert "made without labels" in text
    assert "900 answers, not judged" in text
    assert "AUROC" not in text


def test_a_figure_that_is_not_defined_says_why():
    right = answers(60)
    text = printed(calibrated(HeldOut(right.scores, right.confidences, (True,) * 60)).profile)
    assert "AUROC: all 60 answers are right, so there is nothing to tell apart." in text


def test_a_name_is_text_and_no_order_to_the_terminal():
    text = printed(calibrated(name="[red]evil[/red]\x1b[2J").profile)
    assert "[red]evil[/red]�[2J" in text
    assert "\x1b" not in text


def test_printing_a_profile_loads_neither_numpy_nor_matplotlib():
    program = (
        "import sys, guardrail.reports.profile_display; "
        "print({'numpy', 'scipy', 'matplotlib', 'jinja2', 'torch'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "set()"
