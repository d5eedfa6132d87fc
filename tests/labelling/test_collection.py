import json
from dataclasses import replace

import pytest

from guardrail.errors import CalibrationError, OptionError, RecordError
from guardrail.labelling.answers import read_answers
from guardrail.labelling.collection import collect, reuse
from guardrail.labelling.judges import as_judge
from guardrail.labelling.matching import ContainsJudge, ExactJudge
from guardrail.labelling.questions import LabelOptions, parse_questions
from guardrail.models.sampling import Sampling
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.semantic_tokens import KnownToken, key_of, save_known
from guardrail.utils.json_lines import as_json
from tests.support.chat import tiny_chat_model

OPTIONS = LabelOptions(sampling=Sampling(max_tokens=3), batch_size=2)
LINES = [
    {"question": "Who?", "answers": ["nobody at all"]},
    {"question": "Where?", "response": "In Paris.", "answers": ["Paris"]},
    {"question": "When?", "response": "In 1900.", "correct": True},
    {"question": "Why?", "response": "Because.", "answers": ["Because"]},
    {"question": "How?"},
]


@pytest.fixture(scope="module")
def model():
    return tiny_chat_model()


@pytest.fixture
def collected(model, one_thread, tmp_path):
    """Collects answers into a file, and counts how often the model was opened."""

    def run(lines=LINES, judge=None, model=model, **options):
        def opened():
            run.opened += 1
            return model

        questions = parse_questions([line if isinstance(line, str) else as_json(line) for line in lines])
        options = {"options": OPTIONS, **options}
        return collect(questions, judge, run.path, opened, **options)

    run.opened, run.path = 0, tmp_path / "answers.jsonl"
    return run


def labels(result):
    return [record.correct for record in result.records]


def edit(path, question, **changes):
    records = [json.loads(line) for line in path.read_text().splitlines()]
    edited = [{**record, **(changes if record["question"] == question else {})} for record in records]
    path.write_text("".join(f"{json.dumps(record)}\n" for record in edited))


def test_answers_come_in_the_order_of_the_questions_and_are_kept(collected):
    result = collected()
    assert labels(result) == [False, True, True, True, None]
    assert result.judge == "contains, labelled"
    assert (result.kept, result.exit_status) == (0, 0)
    assert len(read_answers(collected.path).records) == 5


def test_the_same_again_opens_no_model_and_generates_nothing(collected):
    first = collected()
    before = collected.path.read_bytes()
    again = collected(model_name=first.records[0].provenance.model.name)
    assert collected.opened == 1
    assert again.kept == 5
    assert [record.as_plain() for record in again.records] == [record.as_plain() for record in first.records]
    assert collected.path.read_bytes() == before


@pytest.mark.parametrize("lines", [0, 1, 3])
@pytest.mark.parametrize("torn", ["", "half"])
def test_an_interrupted_run_goes_on(collected, lines, torn):
    first = collected()
    whole = collected.path.read_text().splitlines(keepends=True)
    rest = whole[lines][:-40] if torn else ""
    collected.path.write_text("".join(whole[:lines]) + rest)
    again = collected()
    assert again.kept == lines
    assert labels(again) == labels(first)
    assert len(read_answers(collected.path).records) == 5


def test_a_label_corrected_by_hand_counts_whatever_is_judged_again(collected):
    collected()
    before = [record.response for record in read_answers(collected.path).records]
    edit(collected.path, "Who?", correct=True)
    edit(collected.path, "How?", correct=False)
    result = collected()
    assert collected.opened == 1
    assert labels(result) == [True, True, True, True, False]
    assert result.judge == "contains, labelled, 2 by hand"
    changed = [{**LINES[0], "answers": ["somebody else"]}, *LINES[1:]]
    result = collected(changed, ExactJudge())
    assert labels(result) == [True, False, True, True, False]
    assert result.judged_again == 2
    assert [record.response for record in read_answers(collected.path).records] == before
    assert labels(collected(changed)) == [True, False, True, True, False]


def test_other_accepted_answers_are_judged_by_and_nothing_is_generated(collected):
    collected()
    changed = [LINES[0], {**LINES[1], "answers": ["London"]}, {**LINES[2], "correct": False}, *LINES[3:]]
    result = collected(changed)
    assert labels(result) == [False, False, False, True, None]
    assert (collected.opened, result.judged_again) == (1, 2)
    assert {record.question: record.correct for record in reuse(collected.path, None).records} == {
        record.question: record.correct for record in result.records
    }


def test_what_a_judge_failed_on_is_judged_again_by_the_same(collected):
    working = False

    def moody(question, response, accepted):
        if not working:
            raise ConnectionError("down")
        return True

    judge = as_judge(moody)
    result = collected(judge=judge)
    assert result.judge_failures == 4
    assert result.exit_status == 1
    assert labels(result) == [None, None, True, None, None]
    working = True
    result = collected(judge=judge)
    assert labels(result) == [True] * 5
    assert (result.judged_again, result.exit_status, collected.opened) == (4, 0, 1)


def test_nobody_goes_on_where_another_judge_stopped_without_being_told(collected):
    collected(LINES[:2], ExactJudge())
    with pytest.raises(OptionError, match=r"were judged by exact\. Name it with --judge"):
        collected()
    assert labels(collected(judge=ExactJudge()))[:2] == [False, False]
    assert labels(collected(judge=ContainsJudge()))[:2] == [False, True]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (LabelOptions(sampling=Sampling(max_tokens=4)), "max_tokens 3, and this run has 4"),
        (LabelOptions(sampling=Sampling(max_tokens=3), system="x"), "system_sha256 none, and this run has"),
    ],
)
def test_answers_made_in_another_way_are_not_gone_on_with(collected, options, words):
    collected()
    before = collected.path.read_bytes()
    with pytest.raises(OptionError, match=words):
        collected(options=options)
    assert collected.path.read_bytes() == before


def test_answers_of_another_model_are_not_gone_on_with(collected):
    collected()
    other = tiny_chat_model(broken=True)
    with pytest.raises(OptionError, match="and this run has tiny"):
        collected(model=other, model_name="another name")
    assert labels(collected(model=other, model_name="another name", overwrite=True))[1:4] == [True] * 3


def test_answers_to_other_questions_are_never_overwritten_unasked(collected):
    collected(LINES[:2])
    before = collected.path.read_bytes()
    with pytest.raises(OptionError, match="holds answers to other questions"):
        collected(LINES[2:])
    assert collected.path.read_bytes() == before
    # Those that are not asked for now stay in the file, and do not count.
    assert len(collected(LINES[1:4]).records) == 3
    assert len(read_answers(collected.path).records) == 4


def test_a_file_that_is_not_ours_is_never_touched(collected):
    collected.path.write_text("Dear diary\n")
    with pytest.raises(RecordError, match="Line 1"):
        collected()
    assert collected.path.read_text() == "Dear diary\n"


def test_lines_that_do_not_count_are_told_and_the_others_do(collected):
    result = collected([*LINES, "oops", {"question": "x" * 9999}])
    assert len(result.records) == 5
    assert [failure.line for failure in result.failures] == [6, 7]
    assert result.exit_status == 2


@pytest.mark.parametrize("lines", [["oops"], [{"question": "x" * 9999}]])
def test_nothing_at_all_is_an_error_that_names_the_first_reason(collected, lines):
    with pytest.raises(CalibrationError, match=r"nothing to calibrate with\. Line 1: The"):
        collected(lines)


def test_answers_are_reused_without_questions_and_model(collected, tmp_path):
    first = collected()
    edit(collected.path, "Who?", correct=True)
    before = collected.path.read_bytes()
    result = reuse(collected.path, None)
    assert result.records[0].provenance == first.records[0].provenance
    assert sorted(record.question for record in result.records if record.correct) == [
        *("When?", "Where?", "Who?", "Why?")
    ]
    again = reuse(collected.path, ExactJudge(), tmp_path / "other.jsonl")
    assert sorted(record.question for record in again.records if record.correct) == ["When?", "Who?", "Why?"]
    assert again.judged_again == 2
    assert collected.path.read_bytes() == before
    assert labels(reuse(tmp_path / "other.jsonl", None)) == labels(again)


def test_answers_of_two_makers_are_not_reused_together(collected, tmp_path):
    collected()
    one = collected.path.read_text()
    collected.path.unlink()
    collected([{"question": "Else?"}], options=LabelOptions(sampling=Sampling(max_tokens=5)))
    collected.path.write_text(one + collected.path.read_text())
    with pytest.raises(OptionError, match="max_tokens"):
        reuse(collected.path, None)


def test_answers_are_scored_at_the_token_that_is_known_and_go_on_where_they_began(
    collected, model, tmp_path, monkeypatch
):
    monkeypatch.setenv("GUARDRAIL_CACHE_DIR", str(tmp_path / "cache"))
    begun = collected(LINES[:2])
    assert begun.records[0].provenance.scorer.semantic_token is None
    save_known(token_of(model, -2))
    tokens = {record.provenance.scorer.semantic_token for record in collected().records}
    assert tokens == {None}
    assert collected(overwrite=True).records[0].provenance.scorer.semantic_token == -2
    given = LabelOptions(OPTIONS.sampling, scoring=ScoringOptions(semantic_token=-1))
    assert collected(overwrite=True, options=given).records[0].provenance.scorer.semantic_token == -1
    with pytest.raises(OptionError, match="semantic_token -1, and this run has -3"):
        collected(options=replace(given, scoring=ScoringOptions(semantic_token=-3)))


def token_of(model, position):
    key = key_of(model)
    return KnownToken(
        name="tiny",
        model_types=(key.model_type,),
        size=(key.layers, key.width),
        chat_template=key.chat_template,
        tail=key.tail,
        position=position,
        token=None,
        source="a test",
    )
