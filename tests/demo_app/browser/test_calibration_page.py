"""A small file is calibrated in the browser with the built-in model, and the profile is used in the chat."""

import pytest

from tests.demo_app.browser.questions import questions_file

pytestmark = pytest.mark.slow


def test_a_small_file_becomes_a_profile_that_the_chat_is_judged_by(visit, tmp_path):
    page = visit()
    page.get_by_role("link", name="Calibration").click()
    page.get_by_role("heading", name="Calibration", level=1).wait_for()
    page.locator("input[type=file]").set_input_files(questions_file(tmp_path))
    page.get_by_role("button", name="Calibrate").click()
    page.get_by_role("progressbar").wait_for()
    page.get_by_role("heading", name="The profile").wait_for()
    page.get_by_text("held-out answers").first.wait_for()
    page.get_by_role("tab", name="Risk and coverage").click()
    page.get_by_role("button", name="Save and use it in the chat").click()
    page.get_by_text("Used in the chat.").wait_for()
    page.get_by_role("link", name="Policy").click()
    page.get_by_text("that the calibration never saw").wait_for()
