"""Any bytes in any line of a file stop no other line, whoever reads it."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guardrail.errors import RecordError
from guardrail.evaluation.registry import open_questions
from guardrail.labelling.questions import parse_questions
from guardrail.scoring.paraphrases import read_paraphrases
from guardrail.scoring.records import read_lines
from guardrail.utils.json_lines import as_json, json_object, read_json_lines, split_lines

DEEP = "[" * 5000 + "]" * 5000
NUMBERS = ["1e999", "-1e999", "1" + "0" * 400, "-1" + "0" * 400, "9" * 5000, "NaN", "Infinity", "-Infinity"]
BAD = {
    **{f"number {number[:9]}": f'{{"query": "a", "prompt": "a", "x": {number}}}' for number in NUMBERS},
    "nested": '{"query": "a", "messages": [{"role": "user", "meta": {"x": [1e999]}}]}',
    "deep": f'{{"query": "a", "x": {DEEP}}}',
    "rather deep": f'{{"query": "a", "x": {"[" * 200}{"]" * 200}}}',
    "twice": '{"query": "a", "query": "b", "prompt": "a", "response": "b"}',
    "twice within": '{"query": "a", "x": {"y": 1, "y": 2}}',
    "nul": '{"query": "a\0"}',
    "list": "[1]",
    "text": '"a"',
    "blank": " ",
    "torn": '{"query": "a',
    "mark": '\ufeff{"query": "a"}',
}
BYTES = {
    **{name: line.encode() for name, line in BAD.items()},
    "latin 1": '{"query": "\xe9"}'.encode("latin-1"),
    "surrogate": b'{"query": "\xed\xa0\x80"}',
    "zeros": b"\0" * 40,
}
FINE = [
    {"query": "Who?", "paraphrases": ["Whom?"], "prompt": "Who?", "response": "I", "answers": ["I"]},
    {"query": "Why?", "paraphrases": ["What for?"], "prompt": "Why?", "response": "So", "answers": ["I"]},
]


def file_of(path, line):
    first, last = (json.dumps(one).encode() for one in FINE)
    path.write_bytes(first + b"\r\n" + line + b"\n" + last)
    return path


@pytest.mark.parametrize("line", BYTES.values(), ids=BYTES)
def test_a_line_that_cannot_be_used_is_refused_alone(tmp_path, line):
    path = file_of(tmp_path / "in.jsonl", line)
    first, bad, last = read_json_lines(path)
    assert (json_object(first), json_object(last)) == tuple(FINE)
    with pytest.raises(RecordError):
        json_object(bad)
    assert split_lines(path.read_bytes()) == [first, bad, last]
    scored = read_lines(path)
    assert [one.request is None for one in scored] == [False, True, False]
    questions = parse_questions(open_questions(str(path)).lines)
    assert [question.line for question in questions.usable] == [1, 3]
    assert len(read_paraphrases(path).queries) == 2


@pytest.mark.parametrize("text", ['{"x": 1e308}', '{"x": 1e-999}', '{"x": 123456789012345678901234567890}'])
def test_numbers_that_can_be_computed_with_are_read(text):
    assert json_object(as_json(json_object(text))) == json_object(text)


def test_a_line_that_is_too_long_is_not_held_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("guardrail.utils.json_lines.MAX_BYTES", 1000)
    path = file_of(tmp_path / "in.jsonl", b'{"query": "' + b"a" * 5_000_000 + b'"}')
    _, bad, last = read_json_lines(path)
    assert len(bad) == 1001
    with pytest.raises(RecordError, match="longer than"):
        json_object(bad)
    assert json_object(last) == FINE[1]


FIELDS = (
    "query question prompt messages response answers answer paraphrases correct finish_reason role content"
)
NAMES = st.sampled_from(f"{FIELDS} prompt_ids response_ids choices options scoring".split())
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(NAMES, some, max_size=4),
)
LINES = st.binary(max_size=40) | ANY_JSON.map(lambda value: json.dumps(value).encode("utf-8", "replace"))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LINES.map(lambda line: line.replace(b"\n", b" ")))
def test_any_bytes_in_a_line_stop_no_other_line(tmp_path, line):
    path = file_of(tmp_path / "in.jsonl", line)
    scored = read_lines(path)
    assert scored[0].request is not None
    assert scored[2].request is not None
    for one in scored:
        as_json(dict(one.fields))
    lines = open_questions(str(path)).lines
    assert {1, 3} <= {question.line for question in parse_questions(lines).usable}
    assert {query.query for query in read_paraphrases(path).queries} >= {"Who?", "Why?"}
