import json

import pytest

from guardrail.calibration.profile import read_profile
from guardrail.models.local import LocalModel
from tests.support.grounded import grounded_profile

DOCUMENT = "The shop is open from 9 to 5."


@pytest.fixture
def ask(run, tmp_path, model_folder):
    profile = grounded_profile(tmp_path / "profile.json", LocalModel.load(str(model_folder)))
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        f"version: 1\nname: mine\nprofile: {profile}\nrules:\n"
        "  - {id: sure, when: {confidence: {gte: 0.0001}}, action: pass}\n"
        "  - {id: otherwise, action: abstain}\n"
    )

    def invoke(question, *arguments):
        return run("ask", question, "--max-tokens", 4, "--policy", policy, *arguments)

    return invoke


@pytest.fixture
def document(tmp_path):
    path = tmp_path / "hours.txt"
    path.write_text(f"{DOCUMENT}\n")
    return path


def test_a_question_is_asked_about_a_document(ask, document):
    answer = json.loads(ask("When?", "--document", document, "--json").stdout)
    assert (answer["rule"], answer["outside_domain"]) == ("sure", "")
    assert isinstance(answer["scores"]["document_gain"], float)


def test_without_a_document_the_answer_is_withheld(ask):
    for question in ("When?", f"{DOCUMENT}\n\nWhen?"):
        answer = json.loads(ask(question, "--json").stdout)
        assert (answer["rule"], answer["domain"]) == ("on_outside_domain", ["document"])


def test_a_document_stands_before_the_question_without_a_policy_too(run, document):
    asked = json.loads(run("ask", "When?", "--document", document, "--max-tokens", 4, "--json").stdout)
    as_one = json.loads(run("ask", f"{DOCUMENT}\n\nWhen?", "--max-tokens", 4, "--json").stdout)
    assert asked["answer"] == as_one["answer"]
    assert asked["usage"] == as_one["usage"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no text"),
        (b" \n", "is no text"),
        (b"\xff\xfe", "no text in UTF-8"),
        (None, "cannot be read"),
        (b"When?", "more than once"),
    ],
)
def test_a_file_that_is_no_document_is_refused(ask, tmp_path, content, said):
    path = tmp_path / "other.txt"
    if content is not None:
        path.write_bytes(content)
    result = ask("When?", "--document", path)
    assert result.exit_code != 0
    assert said in result.stderr


def test_a_profile_is_made_of_answers_about_documents(run, tmp_path):
    lines = [{"question": "Who?", "answers": ["I"]}]
    for at in range(120):
        free = f"Room {at} is free."
        asked = {"role": "user", "content": f"{free}\n\nWhich?", "document": free}
        lines.append({"messages": [asked], "response": f"Room {at + at % 2}.", "correct": at % 2 == 0})
    source = tmp_path / "questions.jsonl"
    source.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    output = tmp_path / "profile.json"
    fast = ["--inputs", "signals", "--calibrator", "platt", "--target-error", 0.5, "--confidence", 0.9]
    result = run("calibrate", source, "--output", output, "--document-gain", *fast, "--json")
    assert result.exit_code == 2, result.stderr
    summary = json.loads(result.stdout)
    assert summary["answers"] == 120
    assert "no document" in summary["failures"][0]["error"]
    profile = read_profile(output)
    assert profile.making.generation["document_gain"] is True
    assert profile.reads_documents
    (term,) = [one for one in profile.confidence_model.terms if one.score == "document_gain"]
    assert term.transform == "identity"
    assert "document_gain" in profile.reference
    again = run("calibrate", source, "--output", output, *fast)
    assert again.exit_code != 0
    assert "document_gain" in again.stderr
