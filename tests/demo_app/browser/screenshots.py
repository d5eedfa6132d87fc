"""Pictures of every page: light, dark and as wide as a phone.

``python tests/demo_app/browser/screenshots.py`` starts the demo with the built-in model, asks and calibrates
what the pictures need, and writes docs/demo/*.png. Arguments, such as ``phone``, choose among the looks.
"""

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.demo_app.browser.questions import questions_file
from tests.demo_app.browser.serving import CHROMIUM, serving

FOLDER = Path(__file__).parents[3] / "docs" / "demo"
LOOKS = {
    "light": {"viewport": {"width": 1200, "height": 860}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1200, "height": 860}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
}
QUESTIONS = (
    "What is the capital of Japan?",
    "What is the chemical symbol for gold?",
    "Who was the first woman to walk on the Moon?",
)
ESCALATED = "Which element has the atomic number 109?"


def main():
    """Make them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as data, serving(data) as address, sync_playwright() as running:
        options = ["--no-sandbox", "--font-render-hinting=none"]
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=options)
        for look in sys.argv[1:] or LOOKS:
            page = chromium.new_context(**LOOKS[look]).new_page()
            page.set_default_timeout(300_000)
            page.goto(address)
            for picture in (_welcome, _chat, _compare, _policy, _escalated, _review, _calibration):
                picture(page, look)
        chromium.close()


def _welcome(page, look):
    page.get_by_role("button", name=QUESTIONS[0]).wait_for()
    page.get_by_role("heading", level=1).scroll_into_view_if_needed()
    _shoot(page, f"welcome-{look}")


def _chat(page, look):
    for number, question in enumerate(QUESTIONS):
        _asked(page, question)
        if number == 0:
            why = page.locator("[data-action] summary", has_text="Why?")
            why.click()
            _shoot(page, f"why-{look}")
            why.click()
    _shoot(page, f"chat-{look}")


def _policy(page, look):
    _go(page, "Policy")
    page.get_by_role("slider", name="Rule unsure: confidence at least").press("PageDown")
    page.get_by_role("button", name="Apply to chat").wait_for()
    page.get_by_test_id("stVegaLiteChart").wait_for()
    _shoot(page, f"policy-{look}", taller=420)


def _escalated(page, look):
    chooser = page.get_by_role("combobox", name="Start from a template")
    chooser.scroll_into_view_if_needed()
    chooser.click()
    page.get_by_role("option", name="human-review").click()
    # Applying before the page shows the template would apply what was there before.
    page.get_by_text("send everything else to a reviewer").first.wait_for()
    page.get_by_role("button", name="Apply to chat").click()
    page.get_by_role("button", name="Active in the chat").wait_for()
    _go(page, "Chat", heading=False)
    _asked(page, ESCALATED)
    _shoot(page, f"escalated-{look}")


def _review(page, look):
    _go(page, "Review")
    page.get_by_text("Wrong, and I know the right answer").click()
    right = page.get_by_role("textbox", name="The right answer")
    right.fill("Meitnerium.")
    right.press("Control+Enter")
    page.get_by_role("textbox", name="Your name").fill("Ana")
    page.get_by_role("textbox", name="Your name").press("Enter")
    page.get_by_role("button", name="Save").and_(page.locator(":enabled")).wait_for()
    page.get_by_role("heading", name="Review").scroll_into_view_if_needed()
    _shoot(page, f"review-{look}")


def _calibration(page, look):
    _go(page, "Calibration")
    _shoot(page, f"calibration-{look}")
    with tempfile.TemporaryDirectory() as folder:
        page.locator("input[type=file]").set_input_files(questions_file(Path(folder), count=208))
        page.get_by_role("button", name="Calibrate").click()
        page.get_by_role("heading", name="The profile").wait_for()
    page.get_by_role("tab", name="Reliability").wait_for()
    page.get_by_test_id("stVegaLiteChart").first.wait_for()
    page.get_by_role("heading", name="The profile").evaluate("one => one.scrollIntoView()")
    _shoot(page, f"profile-{look}", taller=240)


def _compare(page, look):
    _go(page, "Compare")
    page.get_by_role("combobox", name="Question").fill(QUESTIONS[0])
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Ask both").click()
    page.locator("[data-action]").nth(1).wait_for()
    _shoot(page, f"compare-{look}")


def _asked(page, question):
    box = page.get_by_test_id("stChatInputTextArea").and_(page.locator(":enabled"))
    box.fill(question)
    before = page.locator("[data-action]").count()
    page.keyboard.press("Enter")
    page.locator("[data-action]").nth(before).wait_for()
    box.wait_for()


def _go(page, name, heading=True):
    """Within the visit, so that what is in the chat is seen on other pages."""
    link = page.get_by_test_id("stSidebarNav").get_by_role("link", name=name)
    narrow = page.viewport_size["width"] < 768
    if narrow:
        page.get_by_test_id("stExpandSidebarButton").click()
    link.click()
    if narrow:
        page.get_by_test_id("stSidebarCollapseButton").get_by_role("button").click()
    if heading:
        page.get_by_role("heading", name=name, level=1).wait_for()


def _shoot(page, name, taller=0):
    size = page.viewport_size
    page.set_viewport_size({**size, "height": size["height"] + taller})
    page.locator("[data-test-script-state=notRunning]").wait_for()
    # What is drawn last: charts, symbols, and boxes that fold out.
    page.evaluate("document.fonts.ready")
    page.wait_for_timeout(1500)
    page.screenshot(path=FOLDER / f"{name}.png")
    page.set_viewport_size(size)


if __name__ == "__main__":
    main()
