import gc
import os
import socket
import sys
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from guardrail.cli import demo as command
from guardrail.cli.main import app


@pytest.fixture
def start(monkeypatch, tmp_path):
    """Runs the command up to where the server would start, and gives what it would be started with."""
    started = []
    for name in ("GUARDRAIL_DEMO_MODEL", "GUARDRAIL_DEMO_POLICY", "GUARDRAIL_DEMO_DATA"):
        # Set and taken back, so that what the command sets does not outlive the test.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "_run", lambda app, port, headless: started.append((app, port, headless)))

    def run(*arguments):
        result = CliRunner().invoke(app, ["demo", "--data", str(tmp_path / "data"), *map(str, arguments)])
        return result, started

    return run


def test_it_starts_the_page_in_the_data_folder(start, tmp_path):
    result, ((page, port, headless),) = start("--headless", "--policy", "builtin:strict")
    assert result.exit_code == 0, result.output
    assert page.name == "app.py"
    assert page.is_file()
    assert headless
    assert 8501 <= port < 8601
    assert os.getcwd() == str(tmp_path / "data")
    assert os.environ["GUARDRAIL_DEMO_POLICY"] == "builtin:strict"


def test_a_policy_is_found_from_where_the_command_was_typed(start, tmp_path):
    (tmp_path / "own.yaml").write_text("version: 1\nname: own\nrules: [{id: all, action: pass}]\n")
    result, _ = start("--policy", "own.yaml")
    assert result.exit_code == 0, result.output
    assert os.environ["GUARDRAIL_DEMO_POLICY"] == str(tmp_path / "own.yaml")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--policy", "builtin:strickt"), "did you mean 'strict'"),
        (("--policy", "missing.yaml"), "missing.yaml"),
        (("--model", "./nowhere"), "./nowhere"),
        (("--model", "no such name"), "no such name"),
    ],
)
def test_what_cannot_be_used_is_refused_before_the_page_opens(start, arguments, named):
    result, started = start(*arguments)
    assert result.exit_code == 2
    assert named in result.output
    assert started == []


def test_a_port_that_is_taken_is_told_in_a_sentence(start):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result, started = start("--port", port)
    assert result.exit_code == 2
    assert f"Port {port}" in result.output
    assert "--port" in result.output
    assert started == []


def test_without_streamlit_the_extra_is_named(start, monkeypatch):
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "streamlit" else object())
    result, started = start()
    assert result.exit_code == 1
    assert 'pip install "guardrail-llm[demo]"' in result.output
    assert started == []


@pytest.mark.parametrize("headless", [True, False])
def test_the_server_listens_on_this_machine_only_and_offers_to_install_nothing(
    monkeypatch, tmp_path, headless
):
    pytest.importorskip("streamlit")
    given = []
    monkeypatch.setattr("streamlit.web.cli.main", lambda: given.extend(sys.argv))
    monkeypatch.setattr(sys, "argv", ["guardrail"])
    monkeypatch.setattr(command, "Thread", lambda **_: type("Idle", (), {"start": lambda self: None})())
    monkeypatch.setenv("GUARDRAIL_DEMO_OPENS", "")
    command._run(tmp_path / "app.py", 8599, headless=headless)
    assert "--server.address=127.0.0.1" in given
    assert "--browser.gatherUsageStats=false" in given
    # Else Streamlit shows a button that writes files where it finds the tools of developers.
    assert "--server.headless=true" in given
    assert bool(os.environ["GUARDRAIL_DEMO_OPENS"]) is not headless


def test_garbage_is_looked_for_again_before_a_model_is_opened_and_where_none_can_be(monkeypatch):
    monkeypatch.setattr(command, "import_module", lambda _name: pytest.fail("It cannot be imported."))
    gc.disable()
    with pytest.raises(pytest.fail.Exception):
        command._open_model()
    assert gc.isenabled()


def test_a_model_is_opened_while_garbage_is_looked_for(monkeypatch):
    seen = []
    room = SimpleNamespace(open_model=lambda: seen.append(gc.isenabled()))
    monkeypatch.setattr(command, "import_module", lambda _name: room)
    gc.disable()
    command._open_model()
    assert seen == [True]
