import pytest

from tests.demo_app.browser.serving import CHROMIUM, serving

_PATIENCE_MS = 180_000


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The address of the real demo, with the built-in model."""
    with serving(tmp_path_factory.mktemp("demo-data")) as address:
        yield address


# Not for the whole session: while it runs, no other test can run an event loop.
@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(server, browser):
    """Opens the demo as a new visitor; at the end nothing of the app may have complained."""
    contexts, complaints = [], []

    def open_page(path="", **options):
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 850}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(_PATIENCE_MS)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.extend(_complaints(said)))
        page.goto(f"{server}/{path}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def _complaints(said):
    # Streamlit looks for itself below a page's own path first, before it finds itself at the root.
    is_search = "/_stcore/" in said.location["url"]
    return [f"{said.text} {said.location['url']}"] if said.type == "error" and not is_search else []
