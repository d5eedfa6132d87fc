import os

import pytest

from tests.demo_app.browser.serving import serving

pytest.importorskip("streamlit", reason="streamlit is not installed")
pytestmark = pytest.mark.slow


def test_who_starts_it_for_the_first_time_is_asked_for_nothing(tmp_path, capfd):
    home = tmp_path / "home"
    home.mkdir()
    # Whatever opens pages here opens none.
    environment = {**os.environ, "HOME": str(home), "USERPROFILE": str(home), "BROWSER": "true"}
    with serving(tmp_path / "data", headless=False, environment=environment) as address:
        pass
    said, _ = capfd.readouterr()
    assert address in said
    assert "mail" not in said
