"""A policy is changed in the browser, and what would change is seen, before and after it is used."""

import re

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

expect = playwright.expect
pytestmark = pytest.mark.slow


def test_a_threshold_is_moved_by_the_keyboard_and_the_change_is_seen_and_used(visit):
    page = visit()
    page.get_by_role("link", name="Policy").click()
    passed = page.get_by_role("row", name="Passed")
    _, used, typed = passed.inner_text().split()
    assert used == typed
    slider = page.get_by_role("slider", name="Rule confident: confidence at least")
    slider.press("PageDown")
    editor = page.get_by_role("textbox", name="Policy, as YAML")
    expect(editor).to_have_value(re.compile(r"gte: 0\.8}"))
    expect(passed).not_to_have_text(re.compile(rf"{used}\s*{used}$"))
    _, still_used, typed = passed.inner_text().split()
    assert used == still_used
    page.get_by_role("button", name="Apply to chat").click()
    page.get_by_role("button", name="Active in the chat").wait_for()
    expect(passed).to_have_text(re.compile(rf"{typed}\s*{typed}$"))
    editor.fill(editor.input_value().replace("action: abstain", "action: abstian", 1))
    editor.press("Control+Enter")
    page.get_by_text("1 error").wait_for()
    expect(page.get_by_test_id("stText")).to_contain_text("did you mean 'abstain'")


def test_what_the_page_is_made_of_is_read_while_the_first_answer_is(visit):
    page = visit()
    page.get_by_role("button", name="What is the capital of Japan?").click()
    page.locator("[data-action]").wait_for()
    page.get_by_test_id("stChatInputTextArea").and_(page.locator(":enabled")).wait_for()
    # Somebody reads it.
    page.wait_for_timeout(3000)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.get_by_test_id("stSidebarNav").get_by_role("link", name="Policy").click()
    page.get_by_test_id("stVegaLiteChart").locator("canvas, svg").first.wait_for()
    assert [url for url in asked if "/static/js/" in url] == []
