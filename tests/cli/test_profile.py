import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import guardrail
from guardrail.calibration.profile import read_profile, write_profile
from tests.support.profiles import a_profile

PROFILE = a_profile()


@pytest.fixture
def profile(tmp_path):
    path = tmp_path / "profile.json"
    write_profile(PROFILE, path)
    return path


def test_a_profile_is_shown(run, profile):
    result = run("profile", "show", profile, model=None)
    assert result.exit_code == 0
    assert PROFILE.model.name in result.stdout


def test_as_json_it_is_the_file(run, profile):
    result = run("profile", "show", profile, "--json", model=None)
    assert json.loads(result.stdout) == json.loads(profile.read_text())


def test_the_name_of_a_model_stands_for_the_profile_that_ships(run, profile, monkeypatch):
    monkeypatch.setattr("guardrail.calibration.held_out.builtin_profiles", lambda: {"some-model": profile})
    result = run("profile", "show", "some-model", "--json", model=None)
    assert json.loads(result.stdout)["sha256"] == read_profile(profile).digest


@pytest.mark.parametrize(
    ("content", "sentence"), [(None, "There is no profile"), ("{", "is not JSON"), ("{}", "has version None")]
)
def test_what_is_no_profile_is_one_sentence(run, tmp_path, content, sentence):
    path = tmp_path / "profile.json"
    if content is not None:
        path.write_text(content)
    result = run("profile", "show", path, "--json", model=None)
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["type"] == "ProfileError"
    assert sentence in result.stderr


def test_showing_a_profile_loads_neither_torch_nor_numpy(profile):
    code = (
        "import sys, atexit\n"
        "names = ('torch', 'transformers', 'numpy', 'sklearn', 'matplotlib')\n"
        "atexit.register(lambda: print([name for name in names if name in sys.modules]))\n"
        "from guardrail.cli import main\n"
        "main()"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(guardrail.__file__).parents[1])}
    command = [sys.executable, "-c", code, "profile", "show", str(profile)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "[]"
