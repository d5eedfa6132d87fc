"""The main paths in a real browser, with the real model."""

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.slow


def ask(page, question):
    before = page.locator("[data-action]").count()
    page.get_by_test_id("stChatInputTextArea").fill(question)
    page.keyboard.press("Enter")
    page.locator("[data-action]").nth(before).wait_for()


def test_ask_then_badge_then_why(visit):
    page = visit()
    page.get_by_role("button", name="What is the capital of Japan?").click()
    answer = page.locator("[data-action]").first
    answer.wait_for()
    assert "Tokyo" in answer.inner_text()
    assert "Passed" in answer.inner_text()
    answer.locator("summary", has_text="Why?").click()
    assert "HybridGrad" in answer.inner_text()
    token = answer.locator("[data-tip]").first
    assert "entropy" in token.get_attribute("data-tip")


def test_a_withheld_draft_is_revealed_on_purpose_only(visit):
    page = visit()
    ask(page, "What is 17 times 24?")
    assert page.locator("[data-action=abstain]").count() == 1
    page.get_by_role("button", name="Reveal the hidden draft").click()
    page.get_by_text("not approved by the policy").wait_for()


def test_two_visitors_at_once_see_their_own_chats(visit):
    one, two = visit(), visit()
    for page in (one, two):
        page.get_by_test_id("stChatInputTextArea").wait_for()
    one.get_by_test_id("stChatInputTextArea").fill("What is the capital of Japan?")
    one.keyboard.press("Enter")
    ask(two, "What is the chemical symbol for gold?")
    one.locator("[data-action]").first.wait_for()
    assert "Tokyo" in one.locator("[data-action]").inner_text()
    assert "Au" in two.locator("[data-action]").inner_text()


def test_stop_gives_a_long_answer_up(visit):
    page = visit()
    page.get_by_test_id("stChatInputTextArea").fill("Which is heavier, a kilogram of feathers or of steel?")
    page.keyboard.press("Enter")
    stop = page.get_by_role("button", name="Stop", exact=True)
    stop.wait_for()
    # Nothing of the page before is left greyed, and Streamlit's own "Stop" is not beside ours.
    expect(page.get_by_role("heading", name="How sure is your model?")).to_have_count(0)
    expect(stop).to_have_count(1)
    stop.click()
    page.get_by_text("Stopped").wait_for()


def test_two_policies_side_by_side(visit):
    page = visit()
    page.get_by_test_id("stSidebarNav").get_by_role("link", name="Compare").click()
    page.get_by_role("combobox", name="Question").fill("What is the capital of Japan?")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Ask both").click()
    page.locator("[data-action]").nth(1).wait_for()
    actions = {one.get_attribute("data-action") for one in page.locator("[data-action]").all()}
    assert actions == {"pass", "abstain"}


def test_html_of_an_answer_or_a_question_stays_text(visit):
    page = visit()
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    ask(page, "<img src=https://example.org/x.png onerror=alert(1)> What is the capital of Japan?")
    assert page.locator("img[src*='example.org']").count() == 0
    assert not any("example.org" in url for url in requests)
