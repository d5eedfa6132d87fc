"""The calibration page: a run outlives reruns, can be cancelled and gone on with, and ends in a profile."""

import json
import time

import pytest
from streamlit.testing.v1 import AppTest

from demo_app.policy_draft import keep, known, made_here
from demo_app.views.calibration import CalibrationRequest, begin
from guardrail import LocalModel
from guardrail.calibration.profile import write_profile
from guardrail.errors import OptionError
from guardrail.labelling.answers import read_answers
from tests.support.profiles import a_profile


def _calibration_page():
    from demo_app.views.calibration import page

    page()


def _lines(count=110, start=0):
    lines = [
        {"prompt": f"Is {number} even?", "response": "yes " * (1 + number % 3), "correct": number % 2 == 0}
        for number in range(start, start + count)
    ]
    return "".join(f"{json.dumps(line)}\n" for line in lines)


@pytest.fixture
def calibrate(demo, model_folder, tmp_path):
    """Runs a calibration to its end."""

    def run(text, seconds=120):
        calibration = begin(
            CalibrationRequest(text, str(model_folder)), tmp_path, lambda: LocalModel.load(str(model_folder))
        )
        until = time.monotonic() + seconds
        while calibration.is_running and time.monotonic() < until:
            time.sleep(0.02)
        assert not calibration.is_running
        return calibration

    return run


def _open(run=None):
    app = AppTest.from_function(_calibration_page, default_timeout=30)
    if run is not None:
        app.session_state["calibration.run"] = run.request.key
    app.run()
    assert not app.exception
    return app


def test_at_first_it_says_what_to_give_and_nothing_can_be_started(demo):
    app = _open()
    assert '"answers": ["Paris"]' in app.text[0].value
    assert next(one for one in app.button if one.label == "Calibrate").disabled
    assert any("No calibration yet" in one.value for one in app.caption)


def test_too_few_questions_are_refused_before_one_is_answered_in_the_librarys_words(calibrate, tmp_path):
    run = calibrate(_lines(30))
    assert run.problem == (
        "30 answered questions are too few to fit, certify and report on different ones; at least 100 are "
        "needed."
    )
    assert "at least 100 are needed" in _open(run).error[0].value
    assert not (tmp_path / "calibrations").exists()


@pytest.mark.parametrize("text", ["", "no JSON\n", '{"question": 3}\n'])
def test_a_file_of_something_else_is_refused_in_words(calibrate, text):
    run = calibrate(text)
    assert run.problem
    assert "unforeseen" not in run.problem
    assert _open(run).error


@pytest.mark.slow
def test_a_finished_run_shows_its_report_and_its_profile_can_be_used_in_the_chat(calibrate, tmp_path):
    run = calibrate(_lines())
    assert run.problem == ""
    app = _open(run)
    told = " ".join(one.value for one in app.markdown)
    assert "Nothing was fitted or certified on them" in told
    assert [one.label for one in app.tabs] == ["Reliability", "Risk and coverage", "Scores"]
    app.text_input[0].set_value("mine").run()
    next(one for one in app.button if one.label == "Save and use it in the chat").click().run()
    assert not app.exception
    kept = tmp_path / "profiles" / "mine.json"
    assert app.session_state["guardrail"].profile_path == kept
    assert made_here() == {"mine": kept}
    assert len(known(kept).answers) == run.fitted.profile.making.parts["report"]


def test_another_profile_is_not_overwritten_and_a_name_leads_nowhere_else(demo, tmp_path):
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    write_profile(a_profile(), first)
    write_profile(a_profile(report={}), second)
    assert keep(first, "mine") == keep(first, "mine")
    with pytest.raises(OptionError, match="another name"):
        keep(second, "mine")
    for name in ("../mine", "", "a/b", ".hidden"):
        with pytest.raises(OptionError, match="is not a valid name"):
            keep(first, name)


@pytest.mark.slow
def test_a_cancelled_run_keeps_its_answers_and_the_next_goes_on(demo, model_folder, tmp_path, calibrate):
    text = _lines(120)
    run = begin(
        CalibrationRequest(text, str(model_folder)), tmp_path, lambda: LocalModel.load(str(model_folder))
    )
    while run.is_running and not (run.stage[0] == "answering" and run.stage[1] >= 8):
        time.sleep(0.005)
    app = _open(run)
    next(one for one in app.button if one.label == "Cancel").click().run()
    while run.is_running:
        time.sleep(0.01)
    assert run.is_cancelled
    answers = tmp_path / "calibrations" / run.request.key / "answers.jsonl"
    kept = read_answers(answers).records
    assert 8 <= len(kept) < 120
    app = _open(run)
    assert "The answers are kept" in app.warning[0].value
    next(one for one in app.button if one.label == "Resume").click().run()
    assert not app.exception
    assert calibrate(text).problem == ""
    assert read_answers(answers).records[: len(kept)] == kept
    assert len(read_answers(answers).records) == 120


def test_two_visitors_with_the_same_file_share_a_run(demo, model_folder, tmp_path):
    request = CalibrationRequest(_lines(), str(model_folder))
    runs = [begin(request, tmp_path, lambda: LocalModel.load(str(model_folder))) for _ in range(2)]
    assert runs[0] is runs[1]
    runs[0].cancel()
    while runs[0].is_running:
        time.sleep(0.01)
