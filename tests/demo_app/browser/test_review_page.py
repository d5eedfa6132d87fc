"""An answer is escalated in the chat, labelled on the review page, and the label is there after a reload."""

import uuid

import pytest

pytestmark = pytest.mark.slow


def test_an_escalated_answer_is_labelled_and_stays_so(visit):
    page = visit()
    page.get_by_role("link", name="Policy").click()
    page.get_by_label("Start from a template").click()
    page.get_by_role("option", name="human-review").click()
    page.get_by_role("button", name="Apply to chat").click()
    page.get_by_role("button", name="Active in the chat").wait_for()
    question = f"Which element has the atomic number 109? {uuid.uuid4().hex[:6]}"
    page.get_by_role("link", name="Chat").click()
    page.get_by_test_id("stChatInputTextArea").fill(question)
    page.keyboard.press("Enter")
    page.locator(".gr-badge .gr-pill", has_text="Sent for review").wait_for()
    page.get_by_role("link", name="Review").click()
    page.get_by_text("Wrong, and I know the right answer").click()
    right = page.get_by_role("textbox", name="The right answer")
    right.fill("Meitnerium.")
    right.press("Control+Enter")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Answered: 1").wait_for()
    page.reload()
    page.get_by_text("Answered: 1").click()
    page.get_by_text("Meitnerium.").wait_for()
    page.get_by_text(question).first.wait_for()
