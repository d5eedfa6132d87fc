"""An interrupted run goes on only with the very same model, and only one run writes a file at a time."""

import json
import shutil

import pytest

from guardrail.utils.record_store import RecordStore
from tests.support.chat import save_tiny_chat

ENOUGH = [
    {"prompt": f"Is {at} even?", "response": "yes " * (1 + at % 3), "correct": at % 2 == 0}
    for at in range(110)
]
LINES = ENOUGH[:4]
COMMANDS = {
    "score": ["score", "--output", "{out}"],
    "calibrate": ["calibrate", "--answers", "{out}", "--output", "{out}.profile.json", "--max-tokens", "3"],
    "evaluate": ["evaluate", "--output", "{out}", "--max-tokens", "3", "--methods", "length"],
}


@pytest.fixture
def folder(tmp_path):
    """A model of this test alone, whose files are changed."""
    (tmp_path / "model").mkdir()
    return save_tiny_chat(tmp_path / "model")


@pytest.fixture
def go(run, folder, tmp_path):
    """Runs one of the commands over a file of lines, with that model."""
    out = tmp_path / "out.jsonl"

    def invoke(name, *arguments, lines=LINES):
        path = tmp_path / "in.jsonl"
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        path.write_bytes("\n".join(texts).encode("utf-8", "surrogateescape"))
        command, *rest = (one.format(out=out) for one in COMMANDS[name])
        return run(command, path, *rest, *arguments, model=folder)

    invoke.out = out
    return invoke


def replace_weights(folder):
    shutil.rmtree(folder)
    folder.mkdir()
    save_tiny_chat(folder, seed=1)


@pytest.mark.parametrize("missing", [0, 2])
@pytest.mark.parametrize("name", COMMANDS)
def test_results_of_other_weights_in_the_same_folder_are_refused_by_name(go, folder, name, missing):
    go(name)
    lines = go.out.read_bytes().splitlines(keepends=True)
    before = b"".join(lines[: len(lines) - missing])
    go.out.write_bytes(before)
    replace_weights(folder)
    result = go(name)
    assert result.exit_code == 2
    assert "(weights " in result.stderr
    assert "--overwrite" in result.stderr
    assert go.out.read_bytes() == before


@pytest.mark.parametrize("name", COMMANDS)
def test_results_under_another_template_are_refused_by_name(go, folder, name):
    go(name)
    lines = go.out.read_bytes().splitlines(keepends=True)
    go.out.write_bytes(b"".join(lines[:2]))
    for path in folder.iterdir():
        if path.name == "chat_template.jinja":
            path.write_text(path.read_text() + "{# other #}")
    result = go(name)
    assert result.exit_code == 2
    assert "chat_template" in result.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_results_of_another_data_type_are_refused_also_where_none_is_missing(go, name):
    go(name)
    before = go.out.read_bytes()
    result = go(name, "--dtype", "float64")
    assert result.exit_code == 2
    assert "float64" in result.stderr
    assert go.out.read_bytes() == before


def test_results_that_do_not_say_which_weights_made_them_are_refused(go):
    go("score")
    records = [json.loads(line) for line in go.out.read_text().splitlines()]
    for record in records:
        for name in ("weights", "chat_template", "version"):
            del record["scoring"][name]
    go.out.write_text("".join(f"{json.dumps(record)}\n" for record in records[:2]))
    result = go("score")
    assert result.exit_code == 2
    assert "does not say what weights it was made with" in result.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_a_second_run_is_told_that_another_writes_the_file(go, name, monkeypatch):
    from guardrail.models.local import LocalModel

    monkeypatch.setattr(LocalModel, "load", None)
    with RecordStore(go.out, "") as store:
        store.append({"a": 1})
        result = go(name, "--overwrite")
        assert result.exit_code == 3
        (sentence,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert sentence.startswith(f"error: {go.out}: another run writes this file")
    assert go.out.read_text() == '{"a": 1}\n'


@pytest.mark.parametrize("name", COMMANDS)
def test_lines_that_cannot_be_used_stop_no_other_on_resume_too(go, name):
    bad = [
        '{"prompt": "a", "response": "b", "correct": true, "x": 1e999}',
        '{"prompt": "a", "prompt": "b", "response": "b", "correct": true}',
        "\udcff",
        "[" * 3000,
    ]
    lines = [json.dumps(line) for line in (ENOUGH if name == "calibrate" else LINES)]
    lines[1:1] = bad
    for _ in range(2):
        result = go(name, "--json", lines=lines)
        assert result.exit_code == 2, result.stderr
        assert [one["line"] for one in json.loads(result.stdout)["failures"]] == [2, 3, 4, 5]
