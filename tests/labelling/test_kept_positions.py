"""Answers keep what t* can be chosen by, unless somebody names it."""

import json
from dataclasses import replace

import pytest

from guardrail.errors import RecordError
from guardrail.labelling.answers import parse_answer, read_answers
from guardrail.labelling.collection import collect, reuse
from guardrail.labelling.questions import LabelOptions, parse_questions
from guardrail.models.sampling import Sampling
from guardrail.scoring.candidate_positions import POSITIONS
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.score import score
from guardrail.utils.json_lines import as_json
from tests.support.chat import tiny_chat_model

OPTIONS = LabelOptions(sampling=Sampling(max_tokens=3), batch_size=2)
NAMED = replace(OPTIONS, scoring=ScoringOptions(semantic_token=-3))
LINES = [
    {"question": "Who?", "answers": ["nobody at all"]},
    {"question": "When?", "response": "In 1900.", "correct": True},
    {"question": "Why?", "response": "Because.", "answers": ["Because"]},
]


@pytest.fixture(scope="module")
def model():
    return tiny_chat_model()


@pytest.fixture
def collected(model, one_thread, tmp_path):
    path = tmp_path / "answers.jsonl"

    def run(lines=LINES, options=OPTIONS, **others):
        questions = parse_questions([as_json(line) for line in lines])
        return collect(questions, None, path, lambda: model, options, **others).records

    run.path = path
    return run


def test_answers_keep_semgrad_at_the_last_positions_and_read_back(collected):
    records = collected()
    for record in records:
        kept = record.positions
        assert kept is not None
        assert len(kept.semgrad) == POSITIONS
        assert kept.expected in kept.candidates
        assert kept.semgrad[kept.expected] == record.scores["semgrad"]
        assert kept.preservation == records[0].positions.preservation
    assert records[0].positions.preservation.queries == 20
    kept = {record.digest: record.positions for record in records}
    for again in (read_answers(collected.path).records, reuse(collected.path, None).records):
        assert {record.digest: record.positions for record in again} == kept
    labelled = records[1].labelled()
    assert labelled is not None
    assert labelled.positions == records[1].positions


def test_a_run_that_goes_on_keeps_the_same_without_asking_the_paraphrases_again(collected, monkeypatch):
    first = collected(LINES[:2])
    monkeypatch.setattr("guardrail.labelling.collection.prompt_end", None)
    records = collected()
    assert [record.positions for record in records[:2]] == [record.positions for record in first]
    assert records[2].positions.among == first[0].positions.among
    assert records[2].positions.preservation == first[0].positions.preservation


def test_answers_of_before_go_on_without(collected):
    collected(LINES[:2])
    lines = [json.loads(line) for line in collected.path.read_text().splitlines()]
    for line in lines:
        del line["scoring"]["positions"]
    collected.path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    before = [record.as_plain() for record in read_answers(collected.path).records]
    assert all("positions" not in one["scoring"] for one in before)
    assert [record.positions for record in collected()] == [None] * 3


def test_where_somebody_names_the_token_nothing_is_there_to_choose_by(collected, model):
    assert [record.positions for record in collected(options=NAMED)] == [None] * 3
    # Nor where it was kept by a run before, that happened to score there.
    kept = collected(overwrite=True)
    expected = kept[0].positions.expected
    there = replace(OPTIONS, scoring=ScoringOptions(semantic_token=expected, known=True))
    assert all(record.positions for record in collected(options=there, overwrite=True))
    given = replace(OPTIONS, scoring=ScoringOptions(semantic_token=expected))
    assert [record.positions for record in collected(options=given)] == [None] * 3
    assert all(record.positions for record in read_answers(collected.path).records)


def test_an_answer_is_scored_at_another_token_as_the_model_would(collected, model):
    record = collected()[1]
    moved = record.scored_at(-2)
    assert moved.provenance.scorer.semantic_token == -2
    trace = model.read(record.question, record.response)
    again = score(model, trace, ScoringOptions(semantic_token=-2))
    assert moved.scores == pytest.approx(dict(again.scores()), rel=1e-4)
    assert moved.scores["semgrad"] != record.scores["semgrad"]
    assert record.scored_at(None) is record
    assert record.scored_at(-POSITIONS - 1) is record
    assert replace(record, positions=None).scored_at(-2).provenance == record.provenance


def test_a_line_with_no_number_among_them_is_refused(collected):
    line = collected()[0].as_plain()
    line["scoring"]["positions"]["semgrad"] = [*line["scoring"]["positions"]["semgrad"][:-1], "much"]
    with pytest.raises(RecordError, match="semgrad"):
        parse_answer(json.dumps(line))
