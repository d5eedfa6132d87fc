"""How long a visitor waits: for the first answer of a demo that was just started, and for what runs no model.

``python tests/demo_app/browser/speed.py [ROUNDS]`` starts the demo with the built-in model, whose files must
be in the cache, ROUNDS times (3 by default), and prints seconds with the machine's load before each round.
Waits begin with the click, and end when the page shows what was waited for.
"""

import os
import sys
import tempfile
import time
from contextlib import contextmanager
from statistics import median

from playwright.sync_api import sync_playwright

from tests.demo_app.browser.serving import CHROMIUM, serving

QUESTION = "What is the capital of Japan?"
_STARTED = "from the start of the command: the server answers"
_OPENED = "from opening the page: it can be used"
_ANSWERED = "from opening the page: the first answer, a question asked as soon as it can be"


def main():
    """Measure, and print the median and the worst of each."""
    rounds = int(sys.argv[1]) if sys.argv[1:] else 3
    taken = {}
    with sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for number in range(rounds):
            print(f"round {number + 1}: load average {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores")
            with tempfile.TemporaryDirectory() as data:
                _first_answer(chromium, data, taken)
        chromium.close()
    for what, seconds in taken.items():
        print(f"{what}: median {median(seconds):.2f} s, worst {max(seconds):.2f} s, n = {len(seconds)}")


def _first_answer(chromium, data, taken):
    begun = time.perf_counter()
    with serving(data) as address:
        taken.setdefault(_STARTED, []).append(time.perf_counter() - begun)
        page = chromium.new_page(viewport={"width": 1200, "height": 850})
        opened = time.perf_counter()
        page.goto(address)
        example = page.get_by_role("button", name=QUESTION)
        example.wait_for(timeout=120_000)
        taken.setdefault(_OPENED, []).append(time.perf_counter() - opened)
        example.click()
        page.locator("[data-action]").wait_for(timeout=120_000)
        taken.setdefault(_ANSWERED, []).append(time.perf_counter() - opened)
        _interactions(page, taken)
        page.close()


def _interactions(page, taken):
    navigation = page.get_by_test_id("stSidebarNav")
    page.get_by_test_id("stChatInputTextArea").and_(page.locator(":enabled")).wait_for()

    @contextmanager
    def measured(what):
        # What was done before is over, and drawn.
        page.locator("[data-test-script-state=notRunning]").wait_for()
        page.evaluate("() => new Promise(requestIdleCallback)")
        begun = time.perf_counter()
        yield
        taken.setdefault(what, []).append(time.perf_counter() - begun)

    # The first visit of each page reads its files; the second is what a visitor waits for from then on.
    for visit in ("first", "again"):
        for name in ("Compare", "Policy", "Calibration", "Review", "Chat"):
            with measured(f"page {name}, {visit}"):
                navigation.get_by_role("link", name=name).click()
                _shown(page, name)
            if name == "Policy":
                _drawn(page, taken, visit, begun=time.perf_counter())
    navigation.get_by_role("link", name="Policy").click()
    _shown(page, "Policy")
    passed = page.get_by_role("row", name="Passed")
    slider = page.get_by_role("slider", name="Rule confident: confidence at least")
    for _ in range(3):
        before = passed.inner_text()
        with measured("Policy: a slider moved, the counts beside it are new"):
            slider.press("PageDown")
            page.wait_for_function(_HAS_CHANGED, arg=before, polling=10)


def _drawn(page, taken, visit, begun):
    page.get_by_test_id("stVegaLiteChart").locator("canvas, svg").first.wait_for()
    taken.setdefault(f"its plot, {visit}: after that", []).append(time.perf_counter() - begun)


def _shown(page, name):
    if name == "Chat":
        page.locator("[data-action]").first.wait_for()
    else:
        page.get_by_role("heading", name=name, level=1).wait_for()


_HAS_CHANGED = """before => [...document.querySelectorAll('tr')]
    .some(row => row.innerText.startsWith('Passed') && row.innerText !== before)"""


if __name__ == "__main__":
    main()
