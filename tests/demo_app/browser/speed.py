"""How long a visitor waits: for the first answer of a demo that was just started, and for what runs no model.

``python tests/demo_app/browser/speed.py [ROUNDS]`` starts the demo with the built-in model, whose files must
be in the cache, ROUNDS times (3 by default), and prints seconds with the machine's load before each round.
A wait begins where the page is opened, or hears of a click or key, and ends when what is waited for is
painted.
"""

import json
import os
import sys
import tempfile
import time
from statistics import median

from playwright.sync_api import sync_playwright

from tests.demo_app.browser.serving import CHROMIUM, serving

_QUESTION = "What is the capital of Japan?"
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
        page.add_init_script(_TIMES)
        page.goto(address, wait_until="commit")
        taken.setdefault(_OPENED, []).append(page.evaluate(f"shownAt({_CAN_BE_ASKED})") / 1000)
        page.get_by_role("button", name=_QUESTION).click()
        taken.setdefault(_ANSWERED, []).append(page.evaluate(f"shownAt({_PAGES['Chat']})") / 1000)
        page.get_by_test_id("stChatInputTextArea").and_(page.locator(":enabled")).wait_for()
        # Somebody reads it.
        page.wait_for_timeout(2000)
        _interactions(page, taken)
        page.close()


def _interactions(page, taken):
    navigation = page.get_by_test_id("stSidebarNav")

    def wait(what, act, shown):
        # What was done before is over, and drawn.
        page.locator("[data-test-script-state=notRunning]").wait_for()
        page.evaluate("() => new Promise(requestIdleCallback)")
        page.evaluate(f"watchNext({shown})")
        act()
        taken.setdefault(what, []).append(page.evaluate("waited") / 1000)

    # The first visit of each page reads its files; the second is what a visitor waits for from then on.
    for visit in ("first", "again"):
        for name, is_shown in _PAGES.items():
            wait(f"page {name}, {visit}", navigation.get_by_role("link", name=name).click, is_shown)
            if name == "Policy":
                begun = page.evaluate("performance.now()")
                drawn = page.evaluate(f"shownAt({_PLOT})")
                taken.setdefault(f"its plot, {visit}: after that", []).append((drawn - begun) / 1000)
    navigation.get_by_role("link", name="Policy").click()
    passed = page.get_by_role("row", name="Passed")
    slider = page.get_by_role("slider", name="Rule confident: confidence at least")
    for _ in range(3):
        has_changed = _OTHER_ROW % json.dumps(passed.inner_text())
        moved = "Policy: a slider moved, the counts beside it are new"
        wait(moved, lambda: slider.press("PageDown"), has_changed)


# The page takes the time: what drives the browser looks in twice a second, and shares its cores.
_TIMES = """
const pause = () => new Promise(resolve => setTimeout(resolve, 10));
// A message that is sent when a frame begins is heard when it is painted.
const painted = () => new Promise(resolve => requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = resolve;
    channel.port2.postMessage(null);
}));
window.shownAt = async isShown => {
    while (!isShown()) await pause();
    await painted();
    return performance.now();
};
window.watchNext = isShown => {
    window.waited = new Promise(resolve => {
        const begin = async event => {
            for (const kind of ['click', 'keydown']) removeEventListener(kind, begin, true);
            resolve(await shownAt(isShown) - event.timeStamp);
        };
        for (const kind of ['click', 'keydown']) addEventListener(kind, begin, true);
    });
};
"""
_HEADING = (
    "() => [...document.querySelectorAll('h1')].some(one => one.innerText === '%s' && one.checkVisibility())"
)
_PAGES = {name: _HEADING % name for name in ("Compare", "Policy", "Calibration", "Review")}
_PAGES["Chat"] = "() => document.querySelector('[data-action]')?.checkVisibility()"
_CAN_BE_ASKED = f"() => [...document.querySelectorAll('button')].some(one => one.innerText === '{_QUESTION}')"
_PLOT = "() => document.querySelector('[data-testid=stVegaLiteChart] :is(canvas, svg)')"
_OTHER_ROW = """() => [...document.querySelectorAll('tr')]
    .some(row => row.innerText.startsWith('Passed') && row.innerText !== %s)"""


if __name__ == "__main__":
    main()
