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


@pytest.fixture
def judged(tmp_path):
    """Responses with whether they are correct, of which few or many are."""

    def write(name, count, right, prompt="Is {} even?"):
        lines = [
            {"prompt": prompt.format(at), "response": "yes " * (1 + at % 3), "correct": at % right == 0}
            for at in range(count)
        ]
        path = tmp_path / name
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        return path

    return write


def test_a_profile_is_adapted_to_a_few_answers_to_other_questions(run, judged, tmp_path, model_folder):
    home, new = tmp_path / "home.json", tmp_path / "new.json"
    fast = ("--inputs", "hybridgrad", "--calibrator", "platt")
    made = run("calibrate", judged("home.jsonl", 110, 2), "--output", home, *fast)
    assert made.exit_code == 0, made.stderr
    few = judged("few.jsonl", 24, 6, "Is {} a prime?")
    adapt = ("profile", "adapt", home, "--output", new, "--model", model_folder)
    result = run(*adapt, "--labels", few, "--json", model=None)
    assert result.exit_code == 0, result.stderr
    adapted = read_profile(new)
    summary = json.loads(result.stdout)
    assert (summary["sha256"], summary["answers"], summary["correct"]) == (adapted.digest, 24, 4)
    assert summary["adapted_from"] == adapted.making.adapted_from == read_profile(home).digest
    assert adapted.certified == ()
    assert (tmp_path / "new.answers.jsonl").is_file()
    # The answers that were kept need no model, and a person reads what came of it.
    again = run(*adapt[:5], "--labels", tmp_path / "new.answers.jsonl", model=None)
    assert again.exit_code == 0, again.stderr
    assert "certify nothing" in " ".join(again.stdout.split())
    assert read_profile(new).calibrator == adapted.calibrator
    fewer = judged("fewer.jsonl", 12, 3, "Is {} odd?")
    refused = run(*adapt, "--labels", fewer, "--answers", tmp_path / "a", model=None)
    assert refused.exit_code == 2
    assert "12 answers to different questions are too few" in " ".join(refused.stderr.split())


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
