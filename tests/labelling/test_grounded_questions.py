import json
from dataclasses import replace
from hashlib import sha256

import pytest

from guardrail.errors import CalibrationError, OptionError
from guardrail.labelling.collection import collect, reuse
from guardrail.labelling.questions import LabelOptions, parse_questions
from guardrail.models.sampling import Sampling
from guardrail.scoring.document_gain import document_gains
from tests.support.chat import tiny_chat_model

pytestmark = pytest.mark.usefixtures("one_thread")

DOCUMENT = "The shop is open from 9 to 5."
CONTENT = f"{DOCUMENT}\n\nWhen?"
WITH_CONTEXT = {
    "question": "When?",
    "context": DOCUMENT,
    "answers": {"text": ["9 to 5"], "answer_start": [21]},
}
DECLARED = {
    "messages": [{"role": "user", "content": CONTENT.replace("When", "How long"), "document": DOCUMENT}],
    "answers": ["8 hours"],
}
JUDGED = {
    "messages": [{"role": "user", "content": CONTENT, "document": DOCUMENT}],
    "response": "From 9.",
    "correct": True,
}
BARE = {"question": "When?", "answers": ["9 to 5"]}
OPTIONS = LabelOptions(
    sampling=Sampling(max_tokens=3), depth=None, keep_positions=False, document_gain=True, batch_size=3
)


@pytest.fixture(scope="module")
def model():
    return tiny_chat_model()


def parsed(*lines):
    return parse_questions(map(json.dumps, lines))


def test_a_question_knows_its_prompt_without_the_document():
    context, declared, judged, bare = parsed(WITH_CONTEXT, DECLARED, JUDGED, BARE).usable
    assert (context.prompt, context.without_document) == (CONTENT, "When?")
    assert declared.prompt == [{"role": "user", "content": DECLARED["messages"][0]["content"]}]
    assert declared.without_document == [{"role": "user", "content": "How long?"}]
    assert judged.without_document == [{"role": "user", "content": "When?"}]
    assert bare.without_document is None


def test_a_line_whose_document_does_not_stand_in_its_message_is_refused():
    wrong = {**DECLARED, "messages": [{"role": "user", "content": "When?", "document": DOCUMENT}]}
    usable, refused = parsed(wrong)
    assert not usable
    assert "does not stand in its content" in refused[0].reason


def test_a_declaration_makes_another_question_and_an_undeclared_one_keeps_its_digest():
    undeclared = {**JUDGED, "messages": [{"role": "user", "content": CONTENT}]}
    one, other = parsed(JUDGED, undeclared).usable
    assert one.prompt == other.prompt
    assert one.digest != other.digest
    messages = [[{"role": "user", "content": CONTENT}], JUDGED["response"], None]
    assert other.digest == sha256(json.dumps(messages, sort_keys=True).encode()).hexdigest()[:16]


def test_answers_have_the_score_and_lines_without_a_document_are_refused(model, tmp_path):
    path = tmp_path / "answers.jsonl"
    collected = collect(parsed(WITH_CONTEXT, BARE, DECLARED, JUDGED), None, path, lambda: model, OPTIONS)
    (failure,) = collected.failures
    assert (failure.line, "no document" in failure.reason) == (2, True)
    assert len(collected.records) == 3
    prompts = [model.encode_prompt(asked) for asked in (CONTENT, DECLARED["messages"], CONTENT)]
    without = [model.encode_prompt(asked) for asked in ("When?", "How long?", "When?")]
    traces = model.generate_encoded(prompts[:2], OPTIONS.sampling)
    traces += model.read_encoded(prompts[2:], [model.encode_response(JUDGED["response"])])
    found = [record.observation.scores["document_gain"] for record in collected.records]
    assert found == pytest.approx(document_gains(model, traces, without), abs=1e-4)
    assert reuse(path, None).records[0].provenance.generation["document_gain"] is True


def test_answers_with_the_score_and_without_do_not_go_into_one_file(model, tmp_path):
    path = tmp_path / "answers.jsonl"
    questions = parsed(DECLARED, WITH_CONTEXT)
    plain = replace(OPTIONS, document_gain=False)
    collected = collect(questions, None, path, lambda: model, plain)
    assert all("document_gain" not in one.scores for one in collected.records)
    with pytest.raises(OptionError, match="document_gain"):
        collect(questions, None, path, lambda: model, OPTIONS)
    collect(questions, None, path, lambda: model, OPTIONS, overwrite=True)
    with pytest.raises(OptionError, match="document_gain"):
        collect(questions, None, path, lambda: model, plain)


def test_without_a_document_in_any_line_there_is_nothing_to_calibrate_with(model, tmp_path):
    with pytest.raises(CalibrationError, match="no document"):
        collect(parsed(BARE), None, tmp_path / "answers.jsonl", lambda: model, OPTIONS)
