import json
import os
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest

import guardrail
from guardrail.calibration.profile import read_profile
from guardrail.models.fingerprint import fingerprint_model
from guardrail.models.local import LocalModel

# Answers that the model gives, responses that a judge decides on, and labels: some right, some wrong.
QUESTIONS = [
    *({"question": f"Is it {at}?", "answers": ["impossible"]} for at in range(20)),
    *(
        {"id": at, "prompt": f"What is {at}?", "response": f"It is {at % 3}.", "answers": [f"{at % 2}", "7"]}
        for at in range(10, 70)
    ),
    *(
        {"messages": [{"role": "user", "content": f"{at}"}], "response": "I", "correct": at % 2 == 0}
        for at in range(40)
    ),
]


@pytest.fixture
def source(tmp_path):
    def write(*lines, name="questions.jsonl"):
        path = tmp_path / name
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        path.write_text("".join(f"{text}\n" for text in texts))
        return path

    return write


@pytest.fixture
def calibrate(run, tmp_path):
    """Runs the command with what fits fastest."""

    def invoke(path, *arguments, output=tmp_path / "profile.json"):
        fast = ["--inputs", "hybridgrad", "--calibrator", "platt"]
        return run("calibrate", path, "--max-tokens", 3, "--output", output, *fast, *arguments)

    return invoke


def answers_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_questions_become_a_profile_of_this_model(calibrate, source, tmp_path, model_folder):
    path = source(*QUESTIONS)
    result = calibrate(
        path, "--target-error", 0.5, "--confidence", 0.9, "--report", tmp_path / "report.html", "--json"
    )
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    profile = read_profile(tmp_path / "profile.json")
    assert profile.is_calibrated
    assert profile.model == fingerprint_model(LocalModel.load(str(model_folder)))
    assert profile.making.questions_sha256 == sha256(path.read_bytes()).hexdigest()
    assert profile.making.judge == "contains, labelled"
    assert profile.making.generation["max_tokens"] == 3
    assert [(one.max_error, one.confidence) for one in profile.certified] == [(0.5, 0.9)]
    assert (summary["sha256"], summary["answers"], summary["unlabelled"]) == (profile.digest, 120, 0)
    assert summary["correct"] == profile.making.correct == 40
    assert len(answers_of(tmp_path / "profile.answers.jsonl")) == 120
    assert (tmp_path / "report.html").read_text().lstrip().startswith("<!")


def test_promises_can_be_asked_for_each_kind_that_the_lines_name(calibrate, source, tmp_path):
    kinds = [{**line, "topic": "sum" if at % 2 else "fact"} for at, line in enumerate(QUESTIONS)]
    result = calibrate(source(*kinds), "--target-error", 0.5, "--by-kind", "topic", "--json")
    assert result.exit_code == 0, result.stderr
    profile = read_profile(tmp_path / "profile.json")
    assert [(one.max_error, one.kind) for one in profile.certified] == [
        (0.5, ""),
        (0.5, "fact"),
        (0.5, "sum"),
    ]
    assert [one.get("kind") for one in json.loads(result.stdout)["certified"]] == [None, "fact", "sum"]
    other = calibrate(source(*kinds), "--by-kind", "colour", output=tmp_path / "other.json")
    assert (other.exit_code, "none has a field 'colour'" in other.stderr) == (2, True)


def test_without_json_a_person_reads_the_profile(calibrate, source, tmp_path):
    result = calibrate(source(*QUESTIONS))
    assert result.exit_code == 0, result.stderr
    assert "120 answers: 40 correct, 80 wrong, 0 without a label." in result.stderr
    for path in (tmp_path / "profile.json", tmp_path / "profile.answers.jsonl"):
        assert f"in {path}" in result.stdout
    assert {one.max_error for one in read_profile(tmp_path / "profile.json").certified} == {
        0.05,
        0.1,
        0.2,
        0.3,
    }


def test_the_answers_make_the_same_profile_without_the_model(calibrate, run, source, tmp_path, monkeypatch):
    calibrate(source(*QUESTIONS))
    monkeypatch.setattr(LocalModel, "load", None)
    kept, output = tmp_path / "profile.answers.jsonl", tmp_path / "again.json"
    before = kept.read_bytes()
    options = ["--inputs", "hybridgrad", "--calibrator", "platt"]
    result = run("calibrate", kept, "--output", output, *options, model=None)
    assert result.exit_code == 0, result.stderr
    one, other = (read_profile(path) for path in (tmp_path / "profile.json", output))
    parts = ("model", "scorer", "confidence_model", "calibrator", "certified", "reference", "report")
    assert all(getattr(one, part) == getattr(other, part) for part in parts)
    assert kept.read_bytes() == before


def test_options_without_effect_are_refused(calibrate, source, tmp_path):
    calibrate(source(*QUESTIONS[:5]))
    result = calibrate(tmp_path / "profile.answers.jsonl", output=tmp_path / "again.json")
    assert result.exit_code == 2
    assert "leave out --model, --max-tokens." in result.stderr


def test_a_label_corrected_by_hand_changes_the_profile(calibrate, source, tmp_path):
    path, kept = source(*QUESTIONS), tmp_path / "profile.answers.jsonl"
    calibrate(path)
    before = kept.read_text()
    kept.write_text(before.replace('"correct": false', '"correct": true', 3))
    result = calibrate(path, "--json")
    summary = json.loads(result.stdout)
    assert (summary["kept"], summary["correct"]) == (120, 43)
    assert read_profile(tmp_path / "profile.json").making.judge == "contains, labelled, 3 by hand"
    assert json.loads(calibrate(path, "--overwrite", "--json").stdout)["correct"] == 40


def test_questions_without_answers_give_a_profile_without_confidence(calibrate, source, tmp_path):
    result = calibrate(
        source({"question": "Who?"}, {"question": "Why?"}), "--report", tmp_path / "report.html"
    )
    assert result.exit_code == 0, result.stderr
    profile = read_profile(tmp_path / "profile.json")
    assert not profile.is_calibrated
    assert profile.reference["hybridgrad"].n == 2
    assert "gives no confidence" in result.stdout


BAD = {
    "question,answer\nWho?,I\n": ("questions.csv", "it is a table"),
    '[{"question": "Who?", "answers": ["I"]}]': ("questions.json", "it is a single JSON array"),
    "": ("questions.jsonl", "is empty"),
    "Who?\nWhy?\n": ("questions.txt", "no line is a JSON object"),
}


@pytest.mark.parametrize(("content", "expected"), BAD.items())
def test_a_file_of_another_kind_is_one_sentence(calibrate, tmp_path, content, expected):
    name, sentence = expected
    path = tmp_path / name
    path.write_text(content)
    result = calibrate(path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr
    assert not (tmp_path / "profile.json").exists()


def test_bad_lines_are_told_and_the_status_says_so(calibrate, source, tmp_path):
    bad = ["oops", {"question": "Who?", "response": "I"}, {"question": "Is it 1?", "answers": ["x"]}]
    path = source(*QUESTIONS, *bad)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    result = calibrate(path)
    assert result.exit_code == 2
    assert read_profile(tmp_path / "profile.json").making.answers == 120
    for line, sentence in (
        (121, "The line is not JSON"),
        (122, "Nothing says"),
        (123, "The line is the same question as line 2"),
    ):
        assert f"line {line}: {sentence}" in result.stderr


def test_too_few_answers_are_an_error_that_keeps_them(calibrate, source, tmp_path):
    result = calibrate(source(*QUESTIONS[:30]), "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["type"] == "CalibrationError"
    assert not (tmp_path / "profile.json").exists()
    assert len(answers_of(tmp_path / "profile.answers.jsonl")) == 30


def test_a_judge_of_ones_own_may_fail(calibrate, source, tmp_path, monkeypatch):
    (tmp_path / "moody_judge.py").write_text(
        "def judge(question, response, accepted):\n"
        "    if question == 'What is 12?':\n"
        "        raise ConnectionError('down')\n"
        "    return 'It is 0' in response\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    result = calibrate(source(*QUESTIONS), "--judge", "moody_judge:judge", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["judge_failures"] == 1
    assert "The judge failed on 1, which do not count" in result.stderr
    assert "ConnectionError: down" in result.stderr
    assert read_profile(tmp_path / "profile.json").making.answers == 119


def test_no_judge_is_a_sentence_before_the_model_is_opened(calibrate, source, monkeypatch):
    monkeypatch.setattr(LocalModel, "load", None)
    result = calibrate(source(*QUESTIONS), "--judge", "contain")
    assert result.exit_code == 2
    assert "Did you mean contains?" in result.stderr


@pytest.mark.parametrize(
    "arguments", [("--target-error", 0), ("--confidence", 1.5), ("--temperature", -1), ("--max-tokens", 0)]
)
def test_options_out_of_range_are_refused_before_the_model_is_opened(
    calibrate, source, monkeypatch, arguments
):
    monkeypatch.setattr(LocalModel, "load", None)
    assert calibrate(source(*QUESTIONS), *arguments).exit_code == 2


def test_no_file_is_written_over_another(calibrate, source, tmp_path):
    path = source(*QUESTIONS)
    before = path.read_bytes()
    for arguments in (["--answers", path], ["--report", path], ["--report", tmp_path / "profile.json"]):
        result = calibrate(path, *arguments)
        assert (result.exit_code, result.stdout) == (2, "")
    assert calibrate(path, output=path).exit_code == 2
    assert calibrate(path, output=tmp_path / "none" / "profile.json").exit_code == 2
    assert path.read_bytes() == before


def test_only_so_many_lines_are_taken_and_the_rest_later(calibrate, source, tmp_path):
    path = source(*QUESTIONS)
    calibrate(path, "--limit", 5)
    assert len(answers_of(tmp_path / "profile.answers.jsonl")) == 5
    assert json.loads(calibrate(path, "--json").stdout)["kept"] == 5


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_and_loses_a_batch_at_most(source, tmp_path, model_folder):
    path, kept = source(*QUESTIONS), tmp_path / "profile.answers.jsonl"
    environment = os.environ | {
        "PYTHONPATH": str(Path(guardrail.__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
    }
    command = [
        sys.executable,
        "-m",
        "guardrail",
        "calibrate",
        path,
        "--model",
        model_folder,
        "--batch-size",
        "2",
    ]
    command += ["--output", tmp_path / "profile.json", "--max-tokens", "20"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (kept.exists() and kept.read_bytes().count(b"\n") > 20) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    there = kept.read_bytes().count(b"\n")
    assert 20 < there < len(QUESTIONS)
    before = kept.read_bytes()
    result = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["kept"] == there
    whole = before[: before.rindex(b"\n") + 1]
    assert kept.read_bytes().startswith(whole)
    assert len(answers_of(kept)) == len(QUESTIONS)


def test_a_profile_of_labelled_lines_holds_for_the_model_that_they_name(calibrate, source, tmp_path):
    lines = [
        {"prompt": f"What is {at}?", "response": f"It is {at % 3}.", "correct": at % 2 == 0, "model": "gpt-9"}
        for at in range(120)
    ]
    shown = calibrate(source(*lines), "--target-error", 0.5, "--json")
    assert shown.exit_code == 0, shown.stderr
    assert json.loads(shown.stdout)["answered_by"] == "gpt-9"
    profile = read_profile(tmp_path / "profile.json")
    assert (profile.answered_by, profile.author) == ("gpt-9", "gpt-9")
    assert profile.model.name != "gpt-9"
    mixed = calibrate(
        source(*lines, {"prompt": "Who?", "response": "I", "correct": True}, name="mixed.jsonl")
    )
    assert mixed.exit_code == 2
    assert "--answered-by" in mixed.stderr


def logged(question, **fields):
    return {"request": "0" * 32, "policy": {"name": "p", "sha256": "0"}, "question": question, **fields}


def test_what_an_app_logged_is_asked_again_as_the_app_asked_it(calibrate, source, tmp_path):
    system = {"role": "system", "content": "Be brief."}
    asked = [[system, {"role": "user", "content": f"What is {at}?"}] for at in range(120)]
    # A prompt counts once; a digest in place of the text, and a line that is no record, do not count.
    log = source(*map(logged, asked), logged(asked[0]), logged("ab" * 32), "{", name="decisions.jsonl")
    result = calibrate(log, "--input", "prompts_from_log")
    assert result.exit_code == 0, result.output
    profile = read_profile(tmp_path / "profile.json")
    assert not profile.is_calibrated
    assert profile.domain.answers == 120
    assert profile.domain.systems == 1
    kept = tmp_path / "profile.answers.jsonl"
    answers = answers_of(kept)
    assert sorted(answer["messages"][1]["content"] for answer in answers) == sorted(
        messages[1]["content"] for messages in asked
    )
    # People say what is right, and the same command makes a profile of it.
    for at, answer in enumerate(answers):
        answer["correct"] = at % 2 == 0
    kept.write_text("".join(f"{json.dumps(answer)}\n" for answer in answers))
    assert calibrate(log, "--input", "prompts_from_log").exit_code == 0
    assert read_profile(tmp_path / "profile.json").is_calibrated


def test_a_log_without_texts_has_nothing_to_ask(calibrate, source):
    result = calibrate(source(logged("ab" * 32)), "--input", "prompts_from_log")
    assert result.exit_code != 0
    assert "text: full" in result.output


def test_a_general_profile_says_so_and_certifies_nothing_of_others(calibrate, source, tmp_path):
    result = calibrate(source(*QUESTIONS), "--general")
    assert read_profile(tmp_path / "profile.json").is_general
    shown = " ".join(result.output.split())
    assert "thresholds accept no answer of an app" in shown
    assert "Where it holds" in shown


def test_the_sentences_of_answers_become_a_profile_that_says_so(run, source, tmp_path):
    text = "It is {at}. Why not 3.5? Nobody knows it."
    lines = [{"prompt": f"What is {at}?", "response": text.format(at=at)} for at in range(12)]
    path, output = source(*lines), tmp_path / "sentences.json"
    first = run("calibrate", path, "--sentences", "--output", output)
    assert first.exit_code == 0, first.output
    unlabelled = read_profile(output)
    assert (unlabelled.unit, unlabelled.is_calibrated, unlabelled.certified) == ("sentence", False, ())
    assert unlabelled.scorer.reduction == "mean"
    assert unlabelled.reference["hybridgrad"].n == 36
    stored = tmp_path / "sentences.answers.jsonl"
    answers = answers_of(stored)
    said = [one["text"] for one in answers[0]["sentences"]]
    assert said == ["It is 0.", "Why not 3.5?", "Nobody knows it."]
    # As many as a profile needs, labelled as a person would.
    answers = [json.loads(json.dumps(answer)) for _ in range(10) for answer in answers]
    for at, answer in enumerate(answers):
        answer["prompt"], answer["scoring"]["line"] = f"What is {at}?", f"{at:016x}"
        for number, one in enumerate(answer["sentences"][:2]):
            one["correct"] = (at + number) % 3 != 0
    stored.write_text("".join(f"{json.dumps(answer)}\n" for answer in answers))
    fast = ["--inputs", "hybridgrad", "--calibrator", "platt"]
    again = run("calibrate", stored, "--sentences", "--output", output, *fast, model=None)
    assert again.exit_code == 0, again.output
    labelled = read_profile(output)
    assert (labelled.unit, labelled.is_calibrated, labelled.certified) == ("sentence", True, ())
    assert labelled.making.answers == 240
    assert labelled.making.judge == "240 sentences by hand"
    refused = run("calibrate", path, "--sentences", "--target-error", 0.1, "--output", output)
    assert refused.exit_code != 0
