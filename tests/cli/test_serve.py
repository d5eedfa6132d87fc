import json
import os
import re
import signal
import subprocess
import sys
import threading

import httpx
import pytest
from typer.testing import CliRunner

import guardrail.cli.serve
from guardrail.cli.main import app
from tests.support.chat import save_tiny_chat

run = CliRunner().invoke


def test_the_package_and_the_command_load_nothing_of_it():
    program = (
        "import sys, guardrail, guardrail.cli; served = {'fastapi', 'uvicorn', 'pydantic_settings'}; "
        "assert not (served | {'langchain_core', 'torch'}) & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_missing_extra_is_named_with_the_command_that_installs_it(monkeypatch):
    found = guardrail.cli.serve.find_spec
    monkeypatch.setattr(guardrail.cli.serve, "find_spec", lambda n: None if n == "fastapi" else found(n))
    result = run(app, ["serve"])
    assert result.exit_code == 1
    assert 'fastapi: pip install "guardrail-llm[serve]"' in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--host", "0.0.0.0"], "--api-key-file"),
        (["--api-key-file", "none"], "none cannot be read"),
        (["--policy", "none.yaml"], "none.yaml"),
        (["--port", "-1"], "--port"),
        (["--request-timeout", "nan"], "--request-timeout"),
        (["--upstream", "http://localhost:8001"], "--upstream"),
    ],
)
def test_what_cannot_be_served_is_refused_before_a_model_is_opened(arguments, why):
    result = run(app, ["serve", *arguments])
    assert result.exit_code == 2
    assert why in " ".join(result.stderr.split())


@pytest.mark.slow
def test_a_process_answers_what_it_was_asked_before_sigterm_ends_it(tmp_path):
    folder = save_tiny_chat(tmp_path / "secretive")
    environment = {**os.environ, "GUARDRAIL_PORT": "0", "GUARDRAIL_MODEL": str(folder)}
    process = subprocess.Popen(
        [sys.executable, "-m", "guardrail", "serve"], env=environment, stderr=subprocess.PIPE, text=True
    )
    with process:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if re.search("Application startup complete", line):
                break
        served = next(json.loads(line) for line in lines if '"serving"' in line)
        url = f"http://127.0.0.1:{served['port']}"
        assert [one["id"] for one in httpx.get(f"{url}/v1/models").json()["data"]] == ["secretive"]
        answers = []
        asked = {
            "model": "secretive",
            "messages": [{"role": "user", "content": "Who?"}],
            "max_tokens": 300,
        }

        def ask():
            answers.append(httpx.post(f"{url}/v1/chat/completions", json=asked, timeout=60))

        thread = threading.Thread(target=ask)
        thread.start()
        while not httpx.get(f"{url}/readyz").json()["waiting"]:
            pass
        process.send_signal(signal.SIGTERM)
        thread.join()
        rest = process.stderr.read()
    assert answers[0].status_code == 200
    assert process.returncode in (0, -signal.SIGTERM)
    assert all(json.loads(line) for line in rest.splitlines())
    assert "Who?" not in "".join(lines) + rest
