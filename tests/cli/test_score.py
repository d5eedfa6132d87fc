import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import guardrail
from guardrail.errors import ScoringError
from tests.support.chat import BROKEN_TOKEN

QUESTIONS = [
    {"id": 1, "messages": [{"role": "user", "content": "Who?"}], "response": "Somebody"},
    {"id": 2, "prompt": "Where, and when, and why?", "response": "There."},
    {
        "id": 3,
        "prompt_ids": [21, 22, 23, 24],
        "response_ids": [30, 31, 4],
        "note": {"kept": ["as", "it", 1.5]},
    },
    {
        "id": 4,
        "prompt": "Wie heißt du?",
        "response": "Bärbel",
        "finish_reason": "length",
        "semantic_token": -4,
    },
    {"id": 5, "prompt": "What?", "response": "That and this and the other thing"},
]


@pytest.fixture
def source(tmp_path):
    def write(*lines, name="in.jsonl"):
        path = tmp_path / name
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        path.write_text("".join(f"{text}\n" for text in texts))
        return path

    return write


def records(text):
    return [json.loads(line) for line in text.splitlines()]


def timeless(lines):
    return [{name: value for name, value in record.items() if name != "timing"} for record in lines]


def close(one, other):
    assert [r["id"] for r in one] == [r["id"] for r in other]
    for a, b in zip(one, other, strict=True):
        assert a["uncertainty"] == pytest.approx(b["uncertainty"], rel=1e-3)


def test_messages_in_parts_are_scored_as_texts_are_and_what_is_no_text_is_told(run, source):
    parts = [{"type": "text", "text": "Who"}, {"type": "input_text", "text": "?"}]
    image = [*parts, {"type": "image_url", "image_url": {"url": "https://x/y.png"}}]
    lines = [
        {"id": 1, "messages": [{"role": "user", "content": content}], "response": "Somebody"}
        for content in (parts, "Who?", image)
    ]
    in_parts, as_text, refused = records(run("score", source(*lines)).stdout)
    assert in_parts["uncertainty"] == pytest.approx(as_text["uncertainty"], rel=1e-3)
    assert "Message 1 holds 'image_url'" in json.dumps(refused)


def test_a_line_comes_out_for_each_line_in_and_in_order(run, source):
    result = run("score", source(*QUESTIONS), "--batch-size", 2)
    assert result.exit_code == 0
    scored = records(result.stdout)
    assert [record["id"] for record in scored] == [1, 2, 3, 4, 5]
    assert scored[2]["note"] == {"kept": ["as", "it", 1.5]}
    assert scored[2]["prompt_ids"] == [21, 22, 23, 24]
    assert [record["answer"] for record in scored if "response" in record] == [
        line["response"] for line in QUESTIONS if "response" in line
    ]
    assert [record["finish_reason"] for record in scored] == ["stop", "stop", "stop", "length", "stop"]
    assert scored[3]["semantic_token"]["text"] == "<|im_start|>"
    assert "Bärbel" in result.stdout


def test_the_record_has_the_fields_of_an_answer(run, source):
    answer = json.loads(run("ask", "Who?", "--max-tokens", 2, "--json").stdout)
    (record,) = records(run("score", source({"prompt": "Who?", "response": "I"})).stdout)
    assert list(record) == ["prompt", "response", *answer, "scoring"]
    assert record["usage"]["prompt_tokens"] == answer["usage"]["prompt_tokens"]


def test_the_end_of_turn_is_scored_where_the_answer_was_not_cut_off(run, source):
    line = {"prompt": "Who?", "response": "I"}
    ended, cut = records(run("score", source(line, {**line, "finish_reason": "length"})).stdout)
    assert [token["text"] for token in ended["tokens"]] == ["I", "<|im_end|>"]
    assert [token["text"] for token in cut["tokens"]] == ["I"]


def test_the_size_of_the_batch_makes_no_difference(run, source):
    path = source(*QUESTIONS)
    close(
        records(run("score", path, "--batch-size", 1).stdout),
        records(run("score", path, "--batch-size", 5).stdout),
    )


@pytest.mark.parametrize(
    "ablation",
    [
        ("--norm", "l2"),
        ("--layers", "last"),
        ("--layers", "lower"),
        ("--layers", "all"),
        ("--no-entropy-weight",),
        ("--tied-embedding",),
        ("--reduction", "mean"),
        ("--semantic-token", "-2"),
        ("--dtype", "float64"),
    ],
)
def test_each_option_is_on_record(run, source, ablation):
    path = source(QUESTIONS[0])
    (default,), (other,) = records(run("score", path).stdout), records(run("score", path, *ablation).stdout)
    changed = {name for name in default["scoring"] if default["scoring"][name] != other["scoring"][name]}
    expected = {
        "--no-entropy-weight": "entropy_weight",
        "--tied-embedding": "include_tied_embedding",
        "--semantic-token": "semantic_token",
    }
    # Weights are told apart as they are read, their type among it.
    also = {"weights"} if ablation[0] == "--dtype" else set()
    assert changed == {expected.get(ablation[0], ablation[0].removeprefix("--")), *also}
    if ablation[0] not in ("--dtype", "--tied-embedding"):
        assert default["uncertainty"]["semgrad"] != pytest.approx(other["uncertainty"]["semgrad"], rel=1e-3)


BAD = {
    "{": "The line is not JSON",
    "": "The line is blank.",
    "[1, 2]": "The line is a list",
    '{"id": NaN}': "The line is not JSON: NaN",
    '{"question": "Who?"}': "The line needs messages and response, prompt and response, or prompt_ids and",
    '{"prompt": "Who?", "response": 3}': "response is a number; text is expected.",
    '{"prompt": "Who?", "response": ""}': "The response has no tokens",
    '{"prompt": "", "response": "I"}': "The question is empty.",
    '{"messages": "Who?", "response": "I"}': "messages is a text",
    '{"messages": [{"role": "user"}], "response": "I"}': "Message 1 is not of the form",
    '{"prompt": "Who?", "response": "\\ud800"}': "response contains half a surrogate pair",
    '{"prompt": "Who?", "response": "I", "finish_reason": "bored"}': 'finish_reason is "bored"',
    '{"prompt_ids": [20, 999999], "response_ids": [21]}': "Token 1 of the prompt is 999999",
    '{"prompt_ids": [20], "response_ids": [-1]}': "Token 0 of the response is -1",
    '{"prompt_ids": [20], "response_ids": []}': "The response has no tokens",
    '{"prompt_ids": [20, true], "response_ids": [21]}': "prompt_ids is to be a list of token ids",
}


@pytest.mark.parametrize(("line", "sentence"), BAD.items())
def test_a_bad_line_is_told_why_and_the_others_are_scored(run, source, line, sentence):
    result = run("score", source(QUESTIONS[0], line, QUESTIONS[1]))
    first, bad, last = records(result.stdout)
    assert result.exit_code == 2
    assert "uncertainty" in first
    assert "uncertainty" in last
    assert bad["error"].startswith(sentence)
    assert not {"uncertainty", "tokens", "answer", "semgrad", "timing"} & set(bad)
    assert f"line 2: {sentence}" in result.stderr


def test_a_failed_line_keeps_its_fields_but_no_numbers_that_look_like_ours(run, source):
    line = {"id": 9, "prompt": "", "response": "I", "uncertainty": {"hybridgrad": 0.0}, "error": "old"}
    (bad, _) = records(run("score", source(line, QUESTIONS[0])).stdout)
    assert (bad["id"], bad["prompt"], bad["error"]) == (9, "", "The question is empty.")
    assert "uncertainty" not in bad


def test_only_the_guilty_line_of_a_batch_goes_without_and_the_status_is_1(run, source, broken_folder):
    guilty = {"id": "guilty", "prompt_ids": [BROKEN_TOKEN, 21], "response_ids": [30]}
    result = run("score", source(*QUESTIONS, guilty, "oops"), "--batch-size", 8, model=broken_folder)
    *fine, bad, wrong = records(result.stdout)
    assert result.exit_code == 1
    assert all("uncertainty" in record for record in fine)
    assert bad["id"] == "guilty"
    assert bad["error"].startswith("The model gave logits that are not numbers")
    assert "uncertainty" not in bad
    assert wrong["error_type"] == "RecordError"


def test_a_batch_that_does_not_fit_in_memory_is_scored_line_by_line(run, source, monkeypatch):
    import guardrail.scoring.bulk as bulk

    def exhausted_by_several(model, traces, options):
        if len(traces) > 1:
            raise MemoryError
        return score_batch(model, traces, options)

    score_batch = bulk.score_batch
    monkeypatch.setattr(bulk, "score_batch", exhausted_by_several)
    result = run("score", source(*QUESTIONS))
    assert result.exit_code == 0
    assert all("uncertainty" in record for record in records(result.stdout))


def test_a_line_whose_scoring_fails_is_not_reported_as_scored(run, source, monkeypatch):
    def fail(*_):
        raise ScoringError("semgrad of this response is nan; it is not scored.")

    monkeypatch.setattr("guardrail.scoring.bulk.score_batch", fail)
    result = run("score", source(QUESTIONS[0]))
    (record,) = records(result.stdout)
    assert result.exit_code == 1
    assert record["error"] == "semgrad of this response is nan; it is not scored."


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"What is this?\nA letter.\n", "no line is a JSON object. Line 1: The line is not JSON"),
        (b'[{"prompt": "a", "response": "b"}]\n', "it is a single JSON array."),
        (
            b'[\n{"prompt": "a", "response": "b"},\n{"prompt": "a", "response": "b"}\n]\n',
            "it is a single JSON array.",
        ),
        (b'{\n"prompt": "a",\n"response": "b"\n}\n', "it is a single JSON object over several lines."),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "is not text in UTF-8"),
        (b"", "is empty"),
        (b"\n\n", "is empty"),
    ],
)
def test_a_file_that_is_not_json_lines_is_one_sentence(run, tmp_path, content, sentence):
    path = tmp_path / "file"
    path.write_bytes(content)
    result = run("score", path)
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {path}")
    assert sentence in line


def test_a_file_that_is_not_there_or_a_folder_is_one_sentence(run, tmp_path):
    for path, sentence in ((tmp_path / "none", "There is no file"), (tmp_path, "is a folder")):
        result = run("score", path, "--json")
        assert result.exit_code == 2
        assert json.loads(result.stdout)["error"]["type"] == "RecordError"
        assert sentence in result.stderr


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(run, tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "a", "response": "b"}\r\n{"prompt": "c", "response": "d"}')
    assert [r["answer"] for r in records(run("score", path).stdout)] == ["b", "d"]


def test_with_an_output_file_stdout_has_the_summary(run, source, tmp_path):
    out = tmp_path / "out.jsonl"
    result = run("score", source(*QUESTIONS, "oops"), "--output", out)
    assert result.exit_code == 2
    assert len(records(out.read_text())) == 6
    assert "5 of 6 lines" in result.stdout
    assert str(out) in result.stdout
    again = json.loads(run("score", source(*QUESTIONS, "oops"), "--output", out, "--json").stdout)
    assert (again["lines"], again["scored"], again["failed"], again["kept"]) == (6, 5, 1, 6)
    values = sorted(r["uncertainty"]["hybridgrad"] for r in records(out.read_text()) if "uncertainty" in r)
    assert again["hybridgrad"] == {"min": values[0], "median": values[2], "max": values[-1]}
    assert [failure["line"] for failure in again["failures"]] == [6]


@pytest.mark.parametrize("cut", [0, 1, 40, -1, -2, -300])
def test_an_interrupted_run_goes_on_after_the_last_whole_line(run, source, tmp_path, monkeypatch, cut):
    path, out = source(*QUESTIONS, "oops"), tmp_path / "out.jsonl"
    run("score", path, "--output", out)
    whole = out.read_bytes()
    ends = [at + 1 for at, byte in enumerate(whole) if byte == 10]
    at = ends[2] + cut
    out.write_bytes(whole[:at])
    kept = sum(end <= at for end in ends)
    result = run("score", path, "--output", out, "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["kept"] == kept
    assert out.read_bytes()[: ends[kept - 1]] == whole[: ends[kept - 1]]
    one, other = timeless(records(out.read_text())), timeless(records(whole.decode()))
    close(one[:5], other[:5])
    assert one[5] == other[5]


def test_a_run_with_other_options_or_another_model_does_not_go_on(run, source, tmp_path, broken_folder):
    path, out = source(*QUESTIONS), tmp_path / "out.jsonl"
    run("score", path, "--output", out)
    before = out.read_bytes()
    for arguments, options, name in (
        (["--reduction", "mean"], {}, "reduction sum, and this run has mean"),
        (["--semantic-token", "-2"], {}, "semantic_token none, and this run has -2"),
        (["--dtype", "bfloat16"], {}, "dtype float32, and this run has bfloat16"),
        ([], {"model": broken_folder}, "was made with model"),
    ):
        result = run("score", path, "--output", out, "--json", *arguments, **options)
        assert result.exit_code == 2
        error = json.loads(result.stdout)["error"]
        assert error["type"] == "OptionError"
        assert name in error["message"]
        assert "--overwrite" in error["message"]
        assert out.read_bytes() == before


def test_a_run_goes_on_with_a_file_that_has_the_former_name_of_the_computation(run, source, tmp_path):
    path, out = source(*QUESTIONS), tmp_path / "out.jsonl"
    run("score", path, "--output", out)
    whole = out.read_text()
    assert '"computation":"truncated"' in whole.replace(": ", ":")
    first = whole.splitlines(keepends=True)[0].replace('"truncated"', '"short"')
    out.write_text(first)
    result = run("score", path, "--output", out)
    assert result.exit_code == 0, result.stderr
    assert out.read_text().startswith(first)
    assert len(records(out.read_text())) == len(records(whole))


def test_a_run_over_another_input_does_not_go_on(run, source, tmp_path):
    out = tmp_path / "out.jsonl"
    run("score", source(*QUESTIONS), "--output", out)
    before = out.read_bytes()
    changed = [*QUESTIONS[:2], {**QUESTIONS[2], "finish_reason": "length"}, *QUESTIONS[3:]]
    for other, sentence in ((changed, "Line 3"), (QUESTIONS[:4], "has more lines")):
        result = run("score", source(*other, name="other.jsonl"), "--output", out)
        assert result.exit_code == 2
        assert sentence in result.stderr
        assert out.read_bytes() == before


@pytest.mark.parametrize("content", [b"Dear diary", b'{"a": 1}\n', b'{"id": 1, "mess', b"\x00\x01\n", b"{}"])
def test_a_file_that_is_not_ours_is_never_touched_without_being_told(run, source, tmp_path, content):
    out = tmp_path / "out.jsonl"
    out.write_bytes(content)
    result = run("score", source({"id": 2, "prompt": "Who?", "response": "I"}), "--output", out)
    assert result.exit_code == 2
    assert "--overwrite" in result.stderr
    assert out.read_bytes() == content
    assert run("score", source(*QUESTIONS), "--output", out, "--overwrite").exit_code == 0
    assert len(records(out.read_text())) == 5


def test_the_input_is_never_the_output(run, source, tmp_path):
    path = source(*QUESTIONS)
    before = path.read_bytes()
    for out, sentence in (
        (path, "is the input file"),
        (tmp_path, "is a folder"),
        (tmp_path / "none" / "out", "There is no folder"),
    ):
        result = run("score", path, "--output", out, "--overwrite")
        assert (result.exit_code, result.stdout) == (2, "")
        assert sentence in result.stderr
    assert path.read_bytes() == before


def test_a_full_disk_is_one_sentence_and_leaves_whole_lines(run, source, tmp_path):
    resource = pytest.importorskip("resource")
    out = tmp_path / "out.jsonl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A record has some two thousand bytes: the third is cut off in its middle.
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        result = run("score", source(*QUESTIONS), "--output", out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1].startswith(f"error: {out} cannot be written: ")
    assert out.read_bytes().endswith(b"\n")
    assert json.loads(run("score", source(*QUESTIONS), "--output", out, "--json").stdout)["kept"] >= 1


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on(run, source, model_folder, tmp_path):
    lines = [
        {"id": at, "prompt": "Who?" * (at % 7 + 1), "response": "I" * (at % 5 + 1)} for at in range(3000)
    ]
    path, out = source(*lines), tmp_path / "out.jsonl"
    environment = os.environ | {
        "PYTHONPATH": str(Path(guardrail.__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "guardrail", "score", path, "--model", model_folder, "--output", out]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (out.exists() and out.stat().st_size > 20_000) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    there = out.read_bytes().count(b"\n")
    assert 0 < there < len(lines)
    result = run("score", path, "--output", out, "--json", "--batch-size", 64)
    summary = json.loads(result.stdout)
    assert (summary["kept"], summary["scored"]) == (there, len(lines))
    assert [record["id"] for record in records(out.read_text())] == list(range(len(lines)))
