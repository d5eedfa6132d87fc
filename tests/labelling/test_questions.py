import json

import pytest

from guardrail.labelling.questions import parse_questions, question_text

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}]


def parsed(*values, **options):
    return parse_questions(
        [value if isinstance(value, str) else json.dumps(value) for value in values], **options
    )


@pytest.mark.parametrize(
    ("values", "prompt", "accepted", "response", "correct"),
    [
        ({"question": "Who?", "answers": ["I", "me"]}, "Who?", ("I", "me"), None, None),
        ({"query": "Who?", "truthful answer": ["I"]}, "Who?", ("I",), None, None),
        ({"messages": MESSAGES, "answer": "I"}, MESSAGES, ("I",), None, None),
        ({"prompt": "Who?", "answers": "I"}, "Who?", ("I",), None, None),
        ({"question": "How many?", "answer": 7}, "How many?", ("7",), None, None),
        ({"question": "How many?", "answers": [7.5, "x"]}, "How many?", ("7.5", "x"), None, None),
        ({"prompt": "Who?", "response": "I", "correct": False}, "Who?", (), "I", False),
        ({"question": "Who?", "response": "I", "answers": ["I"]}, "Who?", ("I",), "I", None),
        ({"question": "Who?", "response": "I", "correct": None, "answers": ["I"]}, "Who?", ("I",), "I", None),
        # A label given counts; whatever the answers are then.
        ({"question": "Who?", "response": "I", "correct": True, "answers": []}, "Who?", (), "I", True),
        ({"question": "Who?"}, "Who?", (), None, None),
        # What the model reads is the prompt; what a judge is told was asked is the question.
        ({"question": "Who?", "prompt": "Read this. Who?"}, "Read this. Who?", (), None, None),
    ],
)
def test_each_form_of_a_line_is_understood(values, prompt, accepted, response, correct):
    (question,), refused = parsed(values)
    assert not refused
    assert question.prompt == prompt
    assert (question.accepted, question.response, question.correct) == (accepted, response, correct)


BAD = {
    "Who?": "The line is not JSON",
    "[1]": "The line is a list",
    '{"answers": ["I"]}': "The line needs question, query, prompt or messages; it has answers.",
    '{"Question": "Who?"}': "The line needs question, query, prompt or messages; it has Question.",
    '{"question": " "}': "question is empty.",
    '{"question": 3}': "question is a number",
    '{"question": "Who?", "answers": []}': "answers is empty",
    '{"question": "Who?", "answers": [""]}': "answers contains an empty text",
    '{"question": "Who?", "answers": [["I"]]}': "answers contains a list",
    '{"question": "Who?", "answers": {"text": "I"}}': "answers is an object with text",
    '{"question": "Is it?", "answer": true}': "answer contains true or false",
    '{"question": "Who?", "response": "I"}': "Nothing says whether the response is right",
    '{"question": "Who?", "response": 3, "correct": true}': "response is a number",
    '{"question": "Who?", "response": "I", "correct": "yes"}': 'correct is "yes"; it must be true or false.',
    '{"question": "Who?", "response": "I", "correct": 1}': "correct is 1; it must be true or false.",
    '{"question": "Who?", "correct": true}': 'The line has "correct" but no response',
    '{"messages": "Who?"}': "messages is a text",
    '{"question": "\\ud800"}': "question contains half a surrogate pair",
    '{"question": "Who?", "response": "I", "correct": true, "finish_reason": "bored"}': "finish_reason is",
    '{"question": "Who?", "response": "I", "scoring": {}, "uncertainty": {}}': "The line is a result",
}


@pytest.mark.parametrize(("line", "sentence"), BAD.items())
def test_a_bad_line_is_told_with_its_number_and_the_others_count(line, sentence):
    usable, (failure,) = parsed({"question": "a"}, "", line, {"question": "b"})
    assert [question.text for question in usable] == ["a", "b"]
    assert failure.line == 3
    assert failure.reason.startswith(sentence)
    assert failure.exit_status == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"question": "Who?"}, {"question": "Who?"}),
        ({"question": "Who?", "answers": ["I"]}, {"query": "Who?", "answers": ["you"]}),
        ({"question": "Who?"}, {"messages": [{"role": "user", "content": "Who?"}]}),
    ],
)
def test_a_question_that_was_there_before_is_refused(one, other):
    usable, (failure,) = parsed(one, other)
    assert len(usable) == 1
    assert failure.reason == "The line is the same question as line 1; each question counts once."


def test_another_response_to_the_same_question_is_another_line():
    lines = [{"question": "Who?", "response": text, "correct": True} for text in ("I", "You")]
    assert len(parsed(*lines, {"question": "Who?"}).usable) == 3


def test_a_judge_that_needs_no_answers_may_judge_a_response_alone():
    (question,), refused = parsed({"question": "Who?", "response": "I"}, judge_needs_answers=False)
    assert not refused
    assert question.correct is None


def test_what_is_ours_gives_way_and_the_rest_is_passed_through():
    (question,), _ = parsed({"id": 7, "question": "Who?", "model": "other", "response": "I", "correct": True})
    assert dict(question.fields) == {"id": 7, "question": "Who?"}


def test_a_conversation_is_told_as_a_transcript_without_its_instructions():
    assert question_text({"messages": MESSAGES}) == "Who?"
    turns = [*MESSAGES, {"role": "assistant", "content": "I"}, {"role": "user", "content": "Why?"}]
    assert question_text({"messages": turns}) == "user: Who?\n\nassistant: I\n\nuser: Why?"
    assert question_text({"messages": turns, "question": "Why?"}) == "Why?"
