import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import guardrail
from guardrail.cli.models import app
from guardrail.errors import ModelReferenceError, ModelUnavailableError
from guardrail.models.files.reference import BUILTIN_MODELS
from guardrail.models.files.resolve import builtin_source, obtain


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GUARDRAIL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def fetched():
    """The default model as if it had been fetched; its content is of no interest here."""
    return obtain(
        "smollm2-135m",
        builtin_source("smollm2-135m"),
        lambda folder, scratch: (folder / "weights").write_bytes(b"x" * 2_000_000) and None,
    )


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def test_the_list_says_what_has_not_been_fetched():
    listed = run("list").stdout
    (row,) = [line for line in listed.splitlines() if line.startswith("smollm2-135m (default)")]
    for needle in ("Apache-2.0", "93 MB", "not fetched"):
        assert needle in row


def test_the_list_says_where_a_model_lies_and_how_large_it_is(fetched):
    (row,) = [line for line in run("list").stdout.splitlines() if line.startswith("smollm2-135m")]
    assert row.endswith(str(fetched))
    for needle in ("2 MB", "ready"):
        assert needle in row


def test_the_list_shows_converted_files_and_damage(fetched):
    obtain("gguf-mine-1234", {"kind": "gguf", "path": "/somewhere/mine.gguf"}, lambda folder, scratch: None)
    (fetched / "weights").unlink()
    listed = run("list").stdout
    assert "/somewhere/mine.gguf" in listed
    assert "to be fetched again: weights is missing" in listed


def test_the_list_as_json_is_the_same_for_machines(fetched):
    (row,) = json.loads(run("list", "--json").stdout)
    assert row["name"] == "smollm2-135m"
    assert row["folder"] == str(fetched)
    assert row["bytes"] == 2_000_000
    assert row["download_bytes"] == BUILTIN_MODELS["smollm2-135m"].wheel_bytes


def test_the_path_is_one_line(fetched):
    assert run("path").stdout == f"{fetched}\n"
    assert run("path", "smollm2-135m").stdout == f"{fetched}\n"


def test_the_path_of_a_model_not_here_fetches_nothing_and_names_the_command(monkeypatch):
    monkeypatch.setattr("guardrail.models.files.resolve.fetch_gguf", lambda *_: pytest.fail("fetched"))
    result = run("path", "smollm2-135m")
    assert isinstance(result.exception, ModelUnavailableError)
    assert "guardrail models pull smollm2-135m" in str(result.exception)
    assert result.exception.exit_status == 1
    assert result.stdout == ""


@pytest.mark.parametrize("command", ["path", "pull"])
def test_a_name_that_leads_nowhere_is_a_usage_error(command):
    result = run(command, "smolm2")
    assert isinstance(result.exception, ModelReferenceError)
    assert result.exception.exit_status == 2


def test_pulling_prints_the_folder_alone_on_stdout_and_the_stages_on_stderr(monkeypatch, tmp_path):
    def local_folder(reference, progress):
        progress("downloading", 0, 10)
        progress("downloading", 10, 10)
        progress("writing [bold]safetensors", 0, None)
        return tmp_path / str(reference)

    monkeypatch.setattr("guardrail.models.files.resolve.local_folder", local_folder)
    result = run("pull")
    assert result.stdout == f"{tmp_path / 'smollm2-135m'}\n"
    assert result.stderr.splitlines() == ["downloading", "writing [bold]safetensors"]
    assert json.loads(run("pull", "--json").stdout) == {
        "model": "smollm2-135m",
        "folder": str(tmp_path / "smollm2-135m"),
    }


@pytest.mark.parametrize("arguments", [["list"], ["path"], ["--help"], ["pull", "--help"]])
def test_looking_around_loads_neither_torch_nor_transformers(arguments, fetched):
    code = (
        "import sys, atexit\n"
        "atexit.register(lambda: print([m for m in ('torch', 'transformers') if m in sys.modules]))\n"
        "from guardrail.cli.models import app\n"
        f"app({arguments!r})"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(guardrail.__file__).parents[1])}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "[]"
