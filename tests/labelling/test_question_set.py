"""The questions that ship: whole, without repeats, and such that the default judge can tell."""

import json
from collections import Counter
from importlib.resources import files

import pytest

from guardrail.labelling.matching import ContainsJudge
from guardrail.labelling.questions import parse_questions


@pytest.fixture(scope="module")
def questions():
    path = files("guardrail") / "data" / "questions" / "general_knowledge.jsonl"
    parsed = parse_questions(path.read_text(encoding="utf-8").splitlines())
    assert not parsed.refused
    return parsed.usable


def test_there_are_enough_of_several_kinds(questions):
    assert len(questions) >= 400
    assert Counter(question.fields["difficulty"] for question in questions).keys() == {
        "easy",
        "medium",
        "hard",
    }
    assert len({question.fields["answer_type"] for question in questions}) >= 5
    assert sum(len(question.accepted) >= 5 for question in questions) >= 50


def test_every_kind_is_named_in_its_lines_and_they_can_be_read_as_one_file():
    folder = files("guardrail") / "data" / "questions"
    lines: list[str] = []
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        lines += path.read_text(encoding="utf-8").splitlines()
    parsed = parse_questions(lines)
    # A question that stands in two files would be refused.
    assert not parsed.refused
    counts = Counter(question.fields["kind"] for question in parsed.usable)
    assert {f"{kind}.jsonl" for kind in counts} == {path.name for path in folder.iterdir()}
    assert len(counts) == 12
    assert min(counts.values()) >= 150


def test_no_question_is_asked_twice(questions):
    assert len({question.text.casefold() for question in questions}) == len(questions)


def test_the_default_judge_knows_each_accepted_answer_and_no_other(questions):
    judge = ContainsJudge()
    for question in questions:
        first = judge(question.text, question.accepted[0], question.accepted)
        assert first.correct is True, (question.text, first.reason)
        assert judge(question.text, "I do not know.", question.accepted).correct is False, question.text


def test_what_is_asked_in_an_app_is_general_knowledge_that_the_profile_is_not_asked_alone(questions):
    folder = files("guardrail") / "data" / "questions"
    alone, others = questions[:320], {question.text for question in questions[320:]}
    assert not {question.text for question in alone} & others
    asked: list[str] = []
    for kind in ("in_an_app", "conversations"):
        for line in (folder / f"{kind}.jsonl").read_text(encoding="utf-8").splitlines():
            said = json.loads(line)["messages"][-1]["content"]
            # A wording stands around the question.
            asked.append(max((text for text in others if text in said), key=len))
    assert len(set(asked)) == len(asked) == 486
