import json

import pytest

from guardrail.errors import OptionError
from guardrail.scoring.bulk import score_lines
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.records import IdsRequest, Tally, TextRequest, as_record, failure_status, parse_line
from guardrail.scoring.score import score
from guardrail.utils.json_lines import as_json
from tests.support.chat import tiny_chat_model


@pytest.fixture(scope="module")
def model():
    return tiny_chat_model()


def lines(*values):
    return [parse_line(json.dumps(value)) for value in values]


def texts(*lengths):
    return lines(*({"id": at, "prompt": "Who?" * n, "response": "I" * n} for at, n in enumerate(lengths)))


MESSAGES = [{"role": "user", "content": "Who?"}]


@pytest.mark.parametrize(
    ("values", "request_"),
    [
        ({"messages": MESSAGES, "response": "I"}, TextRequest(MESSAGES, "I", None)),
        ({"prompt": "Who?", "response": "I", "finish_reason": None}, TextRequest("Who?", "I", None)),
        ({"prompt": "Who?", "response": "I", "finish_reason": "length"}, TextRequest("Who?", "I", "length")),
        ({"prompt_ids": [1], "response_ids": [2]}, IdsRequest([1], [2], None)),
        # Ids say exactly what is to be read; a text beside them is for people.
        (
            {"prompt_ids": [1], "response_ids": [2], "prompt": "Who?", "response": "I"},
            IdsRequest([1], [2], None),
        ),
    ],
)
def test_each_form_of_a_line_is_understood(values, request_):
    (line,) = lines(values)
    assert line.request == request_
    assert line.problem is None


def test_what_is_not_ours_is_passed_through_and_what_is_gives_way():
    (line,) = lines({"prompt": "Who?", "response": "I", "id": {"a": 1}, "semantic_token": -4, "tokens": 3})
    assert dict(line.fields) == {"prompt": "Who?", "response": "I", "id": {"a": 1}}


@pytest.mark.parametrize(
    "text", ["", "  ", "{", "3", "null", '"a"', "[" * 100_000, '{"a": 1' + "0" * 5000 + "}"]
)
def test_what_is_no_object_is_a_problem_and_never_an_exception(text):
    line = parse_line(text)
    assert not line.is_object
    assert line.request is None
    assert str(line.problem).endswith(".")


def test_lines_differ_by_their_digest_and_space_around_them_does_not_matter():
    one, same, other = (parse_line(text) for text in ('{"a": 1}', ' {"a": 1}\r', '{"a": 2}'))
    assert one.digest == same.digest != other.digest


def test_a_record_reads_back_as_the_uncertainty_it_was_made_of(model):
    trace = model.read("Who?", "I")
    uncertainty = score(model, trace)
    record = json.loads(as_json(as_record(trace, uncertainty)))
    assert record["uncertainty"] == dict(uncertainty.scores())
    assert [token["weight"] for token in record["tokens"]] == [token.weight for token in uncertainty.tokens]
    assert record["usage"]["total_tokens"] == len(trace.prompt_ids) + 2


def test_a_score_that_was_not_asked_for_is_null(model):
    trace = model.read("Who?", "I")
    assert (
        as_record(trace, score(model, trace, ScoringOptions(exgrad=False)))["uncertainty"]["exgrad"] is None
    )


@pytest.mark.parametrize("value", ["ß", "\ud800", "日本", "a\u2028b"])
def test_a_record_is_one_line_that_reads_back(value):
    text = as_json({"id": value})
    assert json.loads(text.encode()) == {"id": value}
    assert text.count("\n") == 0


def test_records_come_in_the_order_of_the_lines_whatever_the_order_of_work(model, one_thread):
    given = texts(9, 1, 7, 2, 8, 3, 5, 4, 6, 30, 1, 1, 20)
    for batch_size in (1, 2, 3, 50):
        assert [r["id"] for r in score_lines(model, given, batch_size=batch_size)] == list(range(13))


def test_a_window_is_sorted_by_length_to_spare_padding(model, one_thread, monkeypatch):
    read, seen = model.read_encoded, []

    def watched(prompts, responses, **options):
        if responses:
            seen.append([len(response) for response in responses])
        return read(prompts, responses, **options)

    monkeypatch.setattr(model, "read_encoded", watched)
    list(score_lines(model, texts(8, 1, 7, 2, 6, 3, 5, 4), batch_size=2))
    assert seen == [[2, 3], [4, 5], [6, 7], [8, 9]]


def test_a_record_is_given_before_the_lines_after_its_window_are_looked_at(model, one_thread):
    told = []
    given = score_lines(
        model, texts(*range(1, 11)), batch_size=1, progress=lambda stage, done, total: told.append(done)
    )
    next(given)
    assert told[-1] == 1


def test_the_lines_done_before_are_not_done_again(model, one_thread):
    assert [r["id"] for r in score_lines(model, texts(1, 2, 3, 4), start=3)] == [3]
    assert list(score_lines(model, texts(1), start=1)) == []


def test_a_batch_size_of_nothing_is_refused_at_once(model):
    with pytest.raises(OptionError, match="batch_size is 0"):
        score_lines(model, texts(1), batch_size=0)


def test_the_token_ids_of_a_line_are_read_as_they_are(model, one_thread):
    trace = model.read(model.encode_ids([20, 21, 22, 23]), [30, 31])
    expected = as_record(trace, score(model, trace))
    (record,) = score_lines(model, lines({"prompt_ids": [20, 21, 22, 23], "response_ids": [30, 31]}))
    assert record["uncertainty"] == pytest.approx(expected["uncertainty"], rel=1e-4)
    assert record["answer"] == expected["answer"]


def test_a_prompt_that_is_too_short_for_the_semantic_token_is_that_lines_problem(model, one_thread):
    given = lines({"prompt_ids": [20], "response_ids": [30]}, {"prompt_ids": [20] * 9, "response_ids": [30]})
    bad, fine = score_lines(model, given, ScoringOptions(semantic_token=-5))
    assert bad["error_type"] == "OptionError"
    assert "uncertainty" in fine


@pytest.mark.parametrize(
    ("types", "status"),
    [
        ([None, None], 0),
        ([None, "RecordError", "PromptError"], 2),
        ([None, "ScoringError"], 1),
        (["ResponseError", "GenerationError"], 1),
        (["SomethingElse"], 1),
    ],
)
def test_the_exit_status_says_whose_fault_it_was(types, status):
    tally = Tally()
    for kind in types:
        scored = {"uncertainty": {"hybridgrad": 0.1}}
        tally.add(scored if kind is None else {"error": "why", "error_type": kind})
    assert tally.exit_status == status
    assert failure_status({"error": "why", "error_type": "os"}) == 1


def test_who_gave_a_response_is_kept_apart_from_the_model_that_scores_it():
    named, plain, ours = lines(
        {"prompt": "Who?", "response": "I", "model": "gpt-9"},
        {"prompt": "Who?", "response": "I"},
        {"prompt": "Who?", "response": "I", "model": "gpt-9", "answered_by": "o3"},
    )
    assert [line.fields.get("answered_by") for line in (named, plain, ours)] == ["gpt-9", None, "o3"]
    assert "model" not in named.fields
