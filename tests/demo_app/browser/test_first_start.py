import os
import time

import pytest

from tests.demo_app.browser.serving import serving

pytest.importorskip("streamlit", reason="streamlit is not installed")
pytestmark = pytest.mark.slow


def test_who_starts_it_for_the_first_time_is_asked_for_nothing(tmp_path, capfd):
    home = tmp_path / "home"
    home.mkdir()
    # What opens pages here writes down which.
    opened, opens = tmp_path / "opened", tmp_path / "opens"
    opens.write_text(f'#!/bin/sh\necho "$1" >> {opened}\n')
    opens.chmod(0o755)
    environment = {**os.environ, "HOME": str(home), "USERPROFILE": str(home), "BROWSER": str(opens)}
    with serving(tmp_path / "data", headless=False, environment=environment) as address:
        until = time.monotonic() + 60
        while not opened.exists() and time.monotonic() < until:
            time.sleep(0.1)
    said, _ = capfd.readouterr()
    assert address in said
    assert opened.read_text().split() == [address]
    assert "mail" not in said
