import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import guardrail
from guardrail.cli.main import app

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(guardrail.__file__).parents[1])}


def test_the_version_is_that_of_the_package():
    assert CliRunner().invoke(app, ["--version"]).stdout == f"guardrail {guardrail.__version__}\n"


def test_python_m_guardrail_is_the_same_command():
    result = subprocess.run(
        [sys.executable, "-m", "guardrail", "--version"], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert result.stdout == f"guardrail {guardrail.__version__}\n"


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["ask"],
        ["score"],
        ["calibrate"],
        ["evaluate"],
        ["bench"],
        ["sps"],
        ["models"],
        ["models", "pull"],
        ["policy"],
        ["profile"],
        ["queue"],
    ],
)
def test_help_loads_nothing_heavy(command):
    code = (
        "import sys, atexit\n"
        "heavy = ('torch', 'transformers', 'numpy', 'sklearn')\n"
        "atexit.register(lambda: print([m for m in heavy if m in sys.modules]))\n"
        "from guardrail.cli import main\n"
        "main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *command, "--help"], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert result.returncode == 0
    assert "Usage: guardrail" in result.stdout
    assert result.stdout.splitlines()[-1] == "[]"


def test_a_command_that_does_not_exist_is_a_usage_error():
    result = CliRunner().invoke(app, ["answer"])
    assert result.exit_code == 2
    assert result.stdout == ""


def test_an_interrupt_ends_quietly(run, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("guardrail.models.local.LocalModel.load", interrupted)
    result = run("ask", "Who?")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_too_little_memory_is_one_sentence(run, monkeypatch, error):
    def exhausted(*_):
        raise error

    monkeypatch.setattr("guardrail.models.local.LocalModel.load", exhausted)
    result = run("ask", "Who?")
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: Out of memory")


def test_an_error_nobody_foresaw_is_not_hidden(run, monkeypatch):
    def surprise(*_):
        raise RuntimeError("surprise")

    monkeypatch.setattr("guardrail.models.local.LocalModel.load", surprise)
    with pytest.raises(RuntimeError, match="surprise"):
        run("ask", "Who?")
