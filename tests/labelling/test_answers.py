import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.errors import RecordError
from guardrail.labelling.answers import (
    AnswerRecord,
    Judgement,
    holds_answers,
    parse_answer,
    read_answers,
)
from guardrail.labelling.provenance import Provenance
from guardrail.models.fingerprint import ModelFingerprint
from guardrail.scoring.options import ScoringOptions, fingerprint_scorer
from guardrail.scoring.uncertainty import HiddenState
from guardrail.utils.json_lines import as_json
from guardrail.utils.record_store import RecordStore

PROVENANCE = Provenance(
    ModelFingerprint("tiny", "ab" * 32, None, "float32", None),
    fingerprint_scorer(ScoringOptions()),
    {"max_tokens": 64, "stop": []},
)
RECORD = AnswerRecord(
    fields={"id": 1, "question": "Who?", "answers": ["I"]},
    response="You",
    correct=False,
    judgement=Judgement(False, "contains", "The answer holds none of the accepted ones."),
    finish_reason="stop",
    scores={"hybridgrad": 0.25, "mean_entropy": 1.5},
    usage={"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    hidden=HiddenState(0.5, (0.5, -1.0), (2.0, 0.0)),
    provenance=PROVENANCE,
    digest="0" * 16,
)


def line(record=RECORD, **changes):
    return as_json({**record.as_plain(), **changes})


def numbered(number):
    return replace(RECORD, fields={"question": f"{number}?"}, digest=f"{number:016}")


float32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(
    st.lists(float32, min_size=1),
    st.sampled_from([True, False, None]),
    st.text(st.characters(codec="utf-8")),
    st.floats(0, 1),
)
def test_a_record_reads_back_as_it_was(values, correct, text, depth):
    record = replace(
        RECORD,
        response=text,
        correct=correct,
        judgement=Judgement(correct, "contains", text),
        hidden=HiddenState(depth, tuple(values), tuple(values)),
    )
    back = parse_answer(line(record))
    assert (tuple(back.hidden.mean), tuple(back.hidden.last)) == (tuple(values), tuple(values))
    assert replace(back, hidden=record.hidden) == record
    assert line(back) == line(record)


def test_the_record_has_the_fields_that_are_documented():
    assert list(json.loads(line())) == [
        *RECORD.fields,
        *("response", "correct", "judged_by", "reason", "finish_reason", "uncertainty", "usage", "model"),
        *("scoring", "hidden"),
    ]


def test_a_labelled_answer_has_its_length_among_its_scores():
    answer = parse_answer(line()).labelled()
    assert answer.observation.scores == {"hybridgrad": 0.25, "mean_entropy": 1.5, "tokens": 2.0}
    assert answer.observation.hidden.depth == 0.5
    assert (answer.correct, answer.question, answer.response) == (False, "Who?", "You")


def test_an_answer_without_a_label_does_not_count():
    assert parse_answer(line(correct=None)).labelled() is None


def test_a_label_changed_by_hand_counts_and_is_told_from_the_judges():
    corrected = parse_answer(line(correct=True))
    assert corrected.is_corrected
    assert corrected.labelled().correct is True
    assert corrected.judgement.correct is False
    assert not parse_answer(line()).is_corrected


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"correct": "yes"}, 'correct is "yes"; it can be true, false or null.'),
        ({"correct": 1}, "correct is 1"),
        ({"response": "Me"}, "The response was changed"),
        ({"response": None}, "response is null"),
        ({"uncertainty": {"hybridgrad": "low"}}, "uncertainty.hybridgrad is a text"),
        ({"uncertainty": {"hybridgrad": 1e999}}, "is not JSON"),
        ({"hidden": {"depth": 0.5, "mean": "!", "last": ""}}, "A part of it is missing or was changed"),
        ({"hidden": {"depth": 0.5}}, "A part of it is missing or was changed"),
        ({"usage": None}, "A part of it is missing or was changed"),
        ({"scoring": {"verdict": None}}, "The response was changed"),
    ],
)
def test_what_was_changed_beyond_the_label_is_refused(changes, sentence):
    text = json.dumps({**RECORD.as_plain(), **changes})
    with pytest.raises(RecordError, match=sentence):
        parse_answer(text)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (
            replace(PROVENANCE, model=replace(PROVENANCE.model, name="big", weights="cd" * 32)),
            "big (weights cdcdcdcd)",
        ),
        (
            replace(PROVENANCE, model=replace(PROVENANCE.model, dtype="float16")),
            "dtype float32, and this run has float16",
        ),
        (
            replace(PROVENANCE, scorer=replace(PROVENANCE.scorer, reduction="mean")),
            "reduction sum, and this run has mean",
        ),
        (replace(PROVENANCE, generation={"max_tokens": 9, "stop": []}), "max_tokens 64, and this run has 9"),
    ],
)
def test_the_first_difference_of_two_provenances_is_named(other, words):
    assert words in PROVENANCE.difference(other)


def test_the_name_of_a_model_is_no_difference():
    assert PROVENANCE.difference(replace(PROVENANCE, model=replace(PROVENANCE.model, name="./tiny"))) == ""


def test_a_file_of_answers_is_told_from_one_of_questions():
    assert holds_answers(["", "oops", line()])
    assert not holds_answers(['{"question": "Who?"}', line()])
    assert not holds_answers([])


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("last", [True, False])
def test_what_editors_do_to_a_file_does_no_harm(tmp_path, start, end, last):
    path = tmp_path / "answers.jsonl"
    lines = [line(numbered(1)).encode(), b"", line(numbered(2)).encode()]
    path.write_bytes(start + end.join(lines) + (end if last else b""))
    assert [record.question for record in read_answers(path).records] == ["1?", "2?"]
    with RecordStore(path, "") as store:
        records = store.records(parse_answer, by_hand=True)
        assert records == read_answers(path).records
        store.append(numbered(3).as_plain())
    assert [record.question for record in read_answers(path).records] == ["1?", "2?", "3?"]


@pytest.mark.parametrize("cut", [1, 30, -1])
def test_half_a_line_at_the_end_is_left_out(tmp_path, cut):
    path = tmp_path / "answers.jsonl"
    whole, torn = line(numbered(1)), line(numbered(2))[:cut]
    path.write_text(f"{whole}\n{torn}")
    assert [record.question for record in read_answers(path).records] == ["1?"]
    path.write_text(torn)
    assert read_answers(path).records == []
    with RecordStore(path, "Choose another.") as store:
        assert store.records(parse_answer, [as_json(numbered(2).fields)[:-1]], by_hand=True) == []
        with pytest.raises(RecordError, match=r"The end of .* is none of its records. Choose another"):
            store.records(parse_answer, ['{"other": "field"'] if cut != 1 else [], by_hand=True)


def test_the_last_answer_to_a_question_counts(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text(f"{line()}\n{line(correct=True)}\n")
    (record,) = read_answers(path).records
    assert record.correct is True


@pytest.mark.parametrize("content", [b"Dear diary\n", b"\xff\xfe\n", b'{"question": "Who?"}\n', b"[]\n"])
def test_a_line_that_is_none_of_ours_is_named(tmp_path, content):
    path = tmp_path / "answers.jsonl"
    path.write_bytes(line().encode() + b"\n" + content)
    with (
        RecordStore(path, "Start afresh with --overwrite.") as store,
        pytest.raises(RecordError, match=r"Line 2 of .*answers.jsonl cannot be used: .*--overwrite"),
    ):
        store.records(parse_answer)
