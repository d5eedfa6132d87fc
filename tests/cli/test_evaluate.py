import json
import subprocess
import sys

import pytest

from guardrail.models.local import LocalModel

QUESTIONS = [
    *({"question": f"Is it {at}?", "answers": ["impossible"]} for at in range(6)),
    *(
        {"prompt": f"What is {at}?", "response": f"It is {at % 3}.", "answers": [f"{at % 2}"]}
        for at in range(10, 20)
    ),
    *({"prompt": f"{at}", "response": "I", "correct": at % 2 == 0} for at in range(4)),
]


@pytest.fixture
def source(tmp_path):
    def write(*lines, name="questions.jsonl"):
        path = tmp_path / name
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        return path

    return write


@pytest.fixture
def evaluate(run, tmp_path):
    def invoke(path, *arguments, methods="hybridgrad,length", **others):
        results = ["--max-tokens", 3, "--output", tmp_path / "results.jsonl"]
        return run("evaluate", path, "--methods", methods, *results, *arguments, **others)

    return invoke


def summary_of(result):
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def responses_of(path):
    """The answers of a file of results; of several records of one, the last."""
    records = map(json.loads, path.read_text().splitlines())
    return {record["digest"]: record["response"] for record in records}


def test_methods_are_compared_on_one_s_own_questions(evaluate, source, tmp_path):
    reports = [tmp_path / "out.html", tmp_path / "out.md"]
    result = evaluate(
        source(*QUESTIONS),
        *(part for path in reports for part in ("--report", path)),
        "--json",
        methods="one_pass",
    )
    summary = summary_of(result)
    assert summary["n"] == 20
    assert summary["reference"] == "hybridgrad"
    by_name = {one["name"]: one for one in summary["methods"]}
    assert by_name["hybridgrad"]["differences"]["auroc"]["value"] == 0
    assert by_name["hybridgrad"]["seconds_per_answer"] > by_name["length"]["seconds_per_answer"] >= 0
    assert by_name["hybridgrad"]["peak_bytes"] > by_name["length"]["peak_bytes"] == 0
    for figure in ("auroc", "auprc", "aurc", "prr", "accuracy_at_70", "length_matched_auroc"):
        assert by_name["hybridgrad"][figure]["n"] > 0
    page, table = (path.read_text() for path in reports)
    assert page.count("<svg") == 2
    assert "<script" not in page
    assert "| **HybridGrad** |" in table


def test_a_person_reads_a_table_and_where_things_are(evaluate, source, tmp_path):
    result = evaluate(source(*QUESTIONS))
    assert result.exit_code == 0, result.stderr
    assert "20 answers:" in result.stderr
    assert "HybridGrad" in result.stdout
    assert f"Results in {tmp_path / 'results.jsonl'}" in result.stdout


def test_a_run_goes_on_where_it_was_killed(evaluate, source, tmp_path):
    path, kept = source(*QUESTIONS), tmp_path / "results.jsonl"
    whole = summary_of(evaluate(path, "--json"))
    lines = kept.read_bytes().splitlines(keepends=True)
    kept.write_bytes(b"".join(lines[:7]) + lines[7][:40])
    again = summary_of(evaluate(path, "--json"))
    assert again["kept"] == 7
    assert again["n"] == whole["n"] == 20
    assert len(kept.read_bytes().splitlines()) == 20
    for one, other in zip(whole["methods"], again["methods"], strict=True):
        assert one["auroc"] == other["auroc"]


def test_methods_are_added_to_the_answers_that_are_there(evaluate, source, tmp_path, monkeypatch):
    path = source(*QUESTIONS)
    before = summary_of(evaluate(path, "--json", methods="length"))
    answers = responses_of(tmp_path / "results.jsonl")
    more = summary_of(evaluate(path, "--json", methods="length,hybridgrad[norm=l2],semgrad"))
    assert more["kept"] == 20
    assert more["methods"][0]["auroc"] == before["methods"][0]["auroc"]
    assert responses_of(tmp_path / "results.jsonl") == answers
    # Nothing is missing now, and the model is not opened.
    monkeypatch.setattr(LocalModel, "load", None)
    assert summary_of(evaluate(path, "--json", methods="semgrad,length"))["kept"] == 20


def test_gradients_are_taken_at_the_token_that_is_known_and_go_on_where_they_began(
    evaluate, run, source, tmp_path
):
    cache = {"GUARDRAIL_CACHE_DIR": str(tmp_path / "cache")}
    path = source(*QUESTIONS[6:])
    assert summary_of(evaluate(path, "--json", **cache))["semantic_token"] is None
    queries = source(
        {"query": "Who was it?", "paraphrases": ["Who?"]},
        {"query": "Where?", "paraphrases": ["At?"]},
        name="q",
    )
    saved = summary_of(run("sps", queries, "--tokens", 6, "--save", "--json", **cache))["semantic_token"]
    assert summary_of(evaluate(path, "--json", **cache))["semantic_token"] is None
    afresh = summary_of(evaluate(path, "--json", "--overwrite", **cache))
    assert afresh["semantic_token"] == saved["position"]
    (record, *_) = map(json.loads, (tmp_path / "results.jsonl").read_text().splitlines())
    assert {one["semantic_token"]["position"] for one in record["scored"]} == {saved["position"]}


def test_answers_of_another_run_are_refused_by_what_differs(evaluate, source, tmp_path, broken_folder):
    path = source(*QUESTIONS[6:])
    summary_of(evaluate(path, "--json"))
    result = evaluate(path, "--max-tokens", 4)
    assert result.exit_code == 2
    assert "was made with max_tokens 3, and this run has 4" in result.stderr
    result = evaluate(path, model=broken_folder)
    assert result.exit_code == 2
    assert "was made with model" in result.stderr
    assert "--overwrite" in result.stderr
    result = evaluate(source({"question": "Else?", "answers": ["x"]}, name="other.jsonl"))
    assert "holds answers to other questions" in result.stderr
    (tmp_path / "results.jsonl").write_text('{"question": "mine", "answers": ["x"]}')
    assert evaluate(path).exit_code == 2
    assert "mine" in (tmp_path / "results.jsonl").read_text()


def test_another_judge_judges_the_answers_that_are_there(evaluate, source, monkeypatch):
    path = source(*QUESTIONS)
    summary_of(evaluate(path, "--json"))
    monkeypatch.setattr(LocalModel, "load", None)
    summary = summary_of(evaluate(path, "--judge", "exact", "--json"))
    assert summary["judged_again"] == 16
    assert summary["judge"] == "exact, labelled"


def test_wrong_lines_are_told_and_the_others_count(evaluate, source):
    result = evaluate(source(*QUESTIONS, {"answers": ["x"]}), "--json")
    assert result.exit_code == 2
    summary = json.loads(result.stdout)
    assert (summary["n"], [one["line"] for one in summary["failures"]]) == (20, [21])


def test_a_profile_s_confidence_is_a_method_on_other_questions_only(run, evaluate, source, tmp_path):
    made_of = source(
        *({"prompt": f"How is {at}?", "response": f"{at % 7}", "correct": at % 3 == 0} for at in range(120)),
        name="made_of.jsonl",
    )
    profile = tmp_path / "profile.json"
    fast = ["--inputs", "probe", "--calibrator", "platt"]
    assert run("calibrate", made_of, "--output", profile, *fast).exit_code == 0
    summary = summary_of(evaluate(source(*QUESTIONS), "--profile", profile, "--json"))
    assert [one["name"] for one in summary["methods"]] == ["confidence", "hybridgrad", "length"]
    assert "max_tokens 64, and these have 3" in " ".join(summary["notes"])
    result = evaluate(made_of, "--profile", profile)
    assert result.exit_code == 2
    assert "is the file that the profile was made of" in result.stderr
    some = source(*QUESTIONS, {"prompt": "how is 7?", "response": "7", "correct": True}, name="some.jsonl")
    result = evaluate(some, "--profile", profile)
    assert result.exit_code == 2
    assert "1 of the questions are among those that the profile was made of (line 21 first)" in result.stderr


def test_what_cannot_be_is_refused_before_anything_runs(evaluate, source, tmp_path, monkeypatch):
    monkeypatch.setattr(LocalModel, "load", None)
    path = source(*QUESTIONS)
    for arguments, message in (
        (["--report", tmp_path / "out.pdf"], "end its name in .html or .md"),
        (["--report", path], "end its name in .html or .md"),
        (["--output", path], "is the input file"),
        (["--judge", "contians"], "Did you mean contains?"),
        (["--profile", tmp_path / "none.json"], "There is no profile"),
    ):
        result = evaluate(path, *arguments)
        assert result.exit_code == 2, arguments
        assert message in result.stderr
    result = evaluate(path, methods="hybridgard")
    assert result.exit_code == 2
    assert "did you mean 'hybridgrad'" in result.stderr


def test_the_command_loads_no_torch_before_it_runs():
    modules = "guardrail.cli.evaluate, guardrail.evaluation.registry"
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_the_built_in_model_is_evaluated(run, source):
    questions = [
        ("What is the capital of France?", "Paris"),
        ("What is the capital of Spain?", "Madrid"),
        ("How many legs has a spider?", "eight"),
        ("What is the chemical symbol of gold?", "Au"),
        ("Who wrote Hamlet?", "Shakespeare"),
        ("What is 17 times 23?", "391"),
        ("Who was king of Norway in 1300?", "Haakon"),
        ("What is the largest planet?", "Jupiter"),
    ]
    path = source(*({"question": question, "answers": [answer]} for question, answer in questions))
    arguments = ["--methods", "one_pass", "--max-tokens", 16, "--output", path.with_name("r.jsonl"), "--json"]
    summary = summary_of(run("evaluate", path, *arguments, model=None))
    assert summary["n"] == 8
    assert 0 < summary["correct"] < 8
    assert all(one["auroc"]["value"] is not None for one in summary["methods"])
