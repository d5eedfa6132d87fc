import pytest
from typer.testing import CliRunner

from guardrail.cli.main import app
from tests.support.chat import save_tiny_chat


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    return save_tiny_chat(tmp_path_factory.mktemp("tiny-chat"))


@pytest.fixture(scope="session")
def broken_folder(tmp_path_factory):
    """A model that gives NaN for whatever holds one token."""
    return save_tiny_chat(tmp_path_factory.mktemp("broken-chat"), broken=True)


@pytest.fixture
def run(model_folder, one_thread, monkeypatch):
    """Runs a command with the tiny model, as a person would type it."""
    monkeypatch.delenv("FORCE_COLOR", raising=False)

    def invoke(command, *arguments, model=model_folder, **environment):
        given = [command, *map(str, arguments)]
        if model is not None:
            given[1:1] = ["--model", str(model)]
        return CliRunner().invoke(app, given, env=environment, catch_exceptions=False)

    return invoke
