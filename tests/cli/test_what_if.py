"""``guardrail policy what-if`` and ``guardrail profile held-out``: which answers a policy may be tried on."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from guardrail.calibration.options import Shares
from guardrail.calibration.profile import read_profile
from guardrail.calibration.splits import part_of
from guardrail.cli.main import app

_POLICY = """
version: 1
name: test
profile: ./profile.json
rules:
  - {id: likely, when: {confidence: {gte: 0.5}}, action: pass}
  - {id: default, action: abstain}
"""


@pytest.fixture(scope="module")
def questions():
    lines = [
        {"prompt": f"Is {number} even?", "response": "yes " * (1 + number % 3), "correct": number % 2 == 0}
        for number in range(110)
    ]
    return "".join(f"{json.dumps(line)}\n" for line in lines)


@pytest.fixture(scope="module")
def calibrated_once(model_folder, questions, tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrated")
    (folder / "questions.jsonl").write_text(questions)
    command = ["calibrate", "--model", model_folder, folder / "questions.jsonl", "--output"]
    made = CliRunner().invoke(app, [*map(str, command), str(folder / "profile.json")])
    assert made.exit_code == 0, made.stderr
    (folder / "policy.yaml").write_text(_POLICY)
    return folder


@pytest.fixture
def calibrated(calibrated_once, tmp_path):
    """A folder with a profile and the answers that it was made of; a copy for each test."""
    shutil.copytree(calibrated_once, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_the_command_line_tells_it_of_the_shipped_answers(run):
    said = run("policy", "what-if", "builtin:default", model=None)
    assert said.exit_code == 0
    assert "415 held-out answers of smollm2-135m" in said.stdout
    plain = json.loads(run("policy", "what-if", "builtin:default", "--json", model=None).stdout)
    assert sum(plain["actions"].values()) == plain["answers"] == 415
    assert plain["shown"]["error"]["n"] == plain["shown"]["count"]


def test_a_profile_of_ones_own_is_tried_on_its_held_out_answers_alone(run, calibrated):
    plain = "policy", "what-if", calibrated / "policy.yaml", "--json"
    assert run(*plain, model=None).exit_code == 2
    # From the answers that the profile was made of, and from the file with the held-out ones alone.
    redrawn = json.loads(run(*plain, calibrated / "profile.answers.jsonl", model=None).stdout)
    kept = run(
        "profile", "held-out", calibrated / "profile.json", calibrated / "profile.answers.jsonl", model=None
    )
    assert kept.exit_code == 0
    held_out = read_profile(calibrated / "profile.json").making.parts["report"]
    assert f"{held_out} held-out answers" in kept.stdout
    assert json.loads(run(*plain, model=None).stdout) == redrawn
    assert redrawn["answers"] == held_out
    assert "hidden" not in (calibrated / "profile.held-out.jsonl").read_text()


def test_answers_whose_labels_were_changed_since_are_refused(run, calibrated):
    answers = calibrated / "profile.answers.jsonl"
    lines = [json.loads(line) for line in answers.read_text().splitlines()]
    held_out = [line for line in lines if part_of(f"question\n{line['prompt'].casefold()}", Shares(), 0) == 2]
    right = next(line for line in held_out if line["correct"])
    wrong = next(line for line in held_out if not line["correct"])
    right["correct"], wrong["correct"] = False, True
    answers.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    said = run("profile", "held-out", calibrated / "profile.json", answers, model=None)
    assert said.exit_code == 2
    assert "it is unknown which were held out" in said.stderr


def test_held_out_answers_of_another_profile_are_refused(run, calibrated):
    from guardrail.calibration.held_out import builtin_held_out

    said = run("policy", "what-if", calibrated / "policy.yaml", builtin_held_out("smollm2-135m"), model=None)
    assert said.exit_code == 2
    assert "another profile" in said.stderr


def test_altered_held_out_answers_are_refused(run, calibrated):
    run("profile", "held-out", calibrated / "profile.json", calibrated / "profile.answers.jsonl", model=None)
    kept = calibrated / "profile.held-out.jsonl"
    kept.write_text(kept.read_text().replace('"correct": false', '"correct": true', 1))
    said = run("policy", "what-if", calibrated / "policy.yaml", model=None)
    assert said.exit_code == 2
    assert "altered" in said.stderr
