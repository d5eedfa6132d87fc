from dataclasses import replace

import pytest
import torch

import guardrail.labelling.answering as labelling
from guardrail.errors import OptionError
from guardrail.labelling.answering import label
from guardrail.labelling.answers import AnswerRecord, parse_answer, read_answers
from guardrail.labelling.judges import as_judge
from guardrail.labelling.matching import ContainsJudge
from guardrail.labelling.questions import LabelOptions, parse_questions
from guardrail.models.prompt import encode_prompt
from guardrail.models.sampling import Sampling
from guardrail.scoring.batches import Failure
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.score import score
from guardrail.utils.json_lines import as_json
from guardrail.utils.record_store import RecordStore
from tests.support.chat import CONTEXT, tiny_chat_model

OPTIONS = LabelOptions(sampling=Sampling(max_tokens=4), batch_size=2, depth=0.5)


@pytest.fixture(scope="module")
def model():
    return tiny_chat_model()


def questions(*values):
    usable, refused = parse_questions(map(as_json, values), judge_needs_answers=False)
    assert not refused
    return usable


MIXED = [
    {"id": 0, "question": "Who?", "answers": ["I"]},
    {"id": 1, "prompt": "Where, when and why?", "response": "Here.", "correct": True},
    {"id": 2, "messages": [{"role": "user", "content": "What?"}], "response": "That", "answers": ["that"]},
    {"id": 3, "query": "Whose is it?"},
    {"id": 4, "question": "Cut?", "response": "Off in the mid", "correct": False, "finish_reason": "length"},
]


def by_id(results):
    return {record.fields["id"]: record for record in results}


def test_each_form_of_a_question_is_answered_or_read_and_judged(model, one_thread):
    records = by_id(label(model, questions(*MIXED), ContainsJudge(), OPTIONS))
    assert [records[at].correct for at in range(5)] == [False, True, True, None, False]
    assert [records[at].judgement.judged_by for at in range(5)] == [
        *("contains", "labelled", "contains", None, "labelled")
    ]
    assert [records[at].response for at in (1, 2, 4)] == ["Here.", "That", "Off in the mid"]
    assert records[4].finish_reason == "length"


def test_a_generated_answer_has_the_scores_and_the_hidden_state_of_its_pass(model, one_thread):
    (record,) = label(model, questions(MIXED[0]), ContainsJudge(), OPTIONS)
    trace = model.generate("Who?", Sampling(max_tokens=4), depths=[0.5])
    assert record.response == trace.text
    assert record.finish_reason == trace.finish_reason
    (summary,) = trace.hidden.values()
    assert list(record.hidden.mean) == pytest.approx(summary.mean.tolist(), rel=1e-4, abs=1e-5)
    assert list(record.hidden.last) == pytest.approx(summary.last.tolist(), rel=1e-4, abs=1e-5)
    assert record.scores == pytest.approx(score(model, trace).scores(), rel=1e-3)
    assert record.observation.scores["tokens"] == len(trace.response_ids)


def test_an_answer_that_is_read_has_the_scores_of_reading_it(model, one_thread):
    line = {"question": "Who?", "response": "Somebody", "correct": True}
    (record,) = label(model, questions(line), ContainsJudge(), OPTIONS)
    trace = model.read("Who?", "Somebody", depths=[0.5])
    assert record.scores == pytest.approx(score(model, trace).scores(), rel=1e-3)
    assert record.usage["completion_tokens"] == len(trace.response_ids)


def test_options_are_handed_on(model, one_thread):
    plain, averaged = (
        next(label(model, questions(MIXED[0]), ContainsJudge(), replace(OPTIONS, scoring=scoring)))
        for scoring in (ScoringOptions(), ScoringOptions(reduction="mean"))
    )
    assert plain.provenance.scorer.reduction == "sum"
    assert averaged.provenance.scorer.reduction == "mean"
    assert averaged.scores["hybridgrad"] != pytest.approx(plain.scores["hybridgrad"], rel=1e-3)
    (bare,) = label(model, questions(MIXED[0]), ContainsJudge(), replace(OPTIONS, depth=None))
    assert bare.hidden is None


def test_a_system_message_goes_before_conversations_that_have_none(model, one_thread):
    system = {"role": "system", "content": "Be brief."}
    asked = {"role": "user", "content": "Who?"}
    given = questions({"question": "Who?"}, {"messages": [system, asked]})
    one, two = label(model, given, ContainsJudge(), replace(OPTIONS, system="Be brief."))
    assert one.usage["prompt_tokens"] == two.usage["prompt_tokens"]
    assert one.response == two.response
    assert one.provenance.generation["system_sha256"]
    assert "Be brief" not in as_json({"made": one.as_plain()["scoring"]})


def test_each_record_is_in_the_file_before_it_comes_out(model, one_thread, tmp_path):
    path = tmp_path / "answers.jsonl"
    with RecordStore(path, "") as output:
        for count, record in enumerate(
            label(model, questions(*MIXED), ContainsJudge(), OPTIONS, output=output), start=1
        ):
            written = path.read_text().splitlines()
            assert len(written) >= count
            assert record.digest in [parse_answer(line).digest for line in written]
    assert len(read_answers(path).records) == len(MIXED)


def test_a_window_is_sorted_by_length_and_forms_are_not_mixed(model, one_thread, monkeypatch):
    seen = []
    answer = labelling._answer

    def noted(model, jobs, *others):
        seen.append([job.length for job in jobs])
        return answer(model, jobs, *others)

    monkeypatch.setattr(labelling, "_answer", noted)
    lines = [{"question": "Who?" * n} for n in (4, 1, 3, 2)]
    lines += [{"question": "a", "response": "I" * n, "correct": True} for n in (3, 1)]
    list(label(model, questions(*lines), ContainsJudge(), OPTIONS))
    assert [len(batch) for batch in seen] == [2, 2, 2]
    assert seen[0] + seen[1] == sorted(seen[0] + seen[1])
    assert seen[2] == sorted(seen[2])


def test_progress_counts_what_was_done_before(model, one_thread):
    told = []
    list(
        label(
            model,
            questions(*MIXED),
            ContainsJudge(),
            OPTIONS,
            done=7,
            progress=lambda stage, done, total: told.append((done, total)),
        )
    )
    assert told[0] == (7, 12)
    assert told[-1] == (12, 12)


def test_only_the_guilty_question_of_a_batch_goes_without(one_thread):
    broken = tiny_chat_model()
    (token,) = broken.tokenizer("~")["input_ids"]
    with torch.no_grad():
        broken.model.get_input_embeddings().weight[token] = float("nan")
    lines = [{"id": at, "question": question} for at, question in enumerate(("Who?", "Who~", "Why?"))]
    results = list(label(broken, questions(*lines), ContainsJudge(), replace(OPTIONS, batch_size=3)))
    (failure,) = [result for result in results if isinstance(result, Failure)]
    assert (failure.line, failure.exit_status) == (2, 1)
    assert "not numbers" in failure.reason
    assert {r.fields["id"] for r in results if isinstance(r, AnswerRecord)} == {0, 2}


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] can't allocate memory: 9 bytes")]
)
def test_a_batch_that_does_not_fit_in_memory_is_done_one_by_one(model, one_thread, monkeypatch, error):
    score_batch = labelling.score_batch

    def exhausted(model, traces, options, **others):
        if len(traces) > 1 or "Where" in model.tokenizer.decode(traces[0].prompt_ids):
            raise error
        return score_batch(model, traces, options, **others)

    monkeypatch.setattr(labelling, "score_batch", exhausted)
    results = list(label(model, questions(*MIXED), ContainsJudge(), OPTIONS))
    (failure,) = [result for result in results if isinstance(result, Failure)]
    assert failure == Failure(2, "The memory does not suffice to score this line.", 1)
    assert len(results) == len(MIXED)


def test_a_question_that_cannot_be_asked_is_that_lines_failure(model, one_thread):
    lines = [
        {"messages": []},
        {"messages": [{"role": "user"}]},
        {"question": "x" * CONTEXT},
        {"question": "Who?", "response": "", "correct": True},
        {"question": "Who?"},
    ]
    results = list(label(model, questions(*lines), ContainsJudge(), OPTIONS))
    failures = {result.line: result.reason for result in results if isinstance(result, Failure)}
    assert set(failures) == {1, 2, 3, 4}
    assert failures[1] == "The question is empty."
    assert "has no tokens" in failures[4]


def test_a_long_prompt_does_not_take_the_room_of_its_neighbours(model, one_thread):
    around = len(encode_prompt(model.tokenizer, "x").ids) - 1
    lines = [{"id": 0, "question": "Who?"}, {"id": 1, "question": "x" * (CONTEXT - around - 5)}]
    options = LabelOptions(sampling=Sampling(max_tokens=12, ignore_end=True), batch_size=2)
    records = by_id(label(model, questions(*lines), ContainsJudge(), options))
    assert records[0].usage["completion_tokens"] == 12
    assert records[1].usage["completion_tokens"] == 5


def test_answers_that_are_drawn_are_repeatable(model, one_thread):
    options = replace(OPTIONS, sampling=Sampling(max_tokens=6, temperature=1.0, seed=3))
    one, two = (list(label(model, questions(*MIXED), ContainsJudge(), options)) for _ in range(2))
    assert [record.response for record in one] == [record.response for record in two]


def test_a_failing_judge_costs_the_label_and_nothing_else(model, one_thread):
    def down(*_):
        raise ConnectionError("down")

    (record,) = label(model, questions(MIXED[0]), as_judge(down), OPTIONS)
    assert record.correct is None
    assert record.judgement.failed
    assert record.scores["hybridgrad"] > 0


def test_a_batch_size_of_nothing_is_refused():
    with pytest.raises(OptionError, match="batch_size is 0"):
        LabelOptions(batch_size=0)
