"""A profile is of one author's answers: whoever the labelled lines, or the command, name."""

import json

import pytest

from guardrail.errors import OptionError
from guardrail.escalation.case import Case, Item, PersonsAnswer, labels
from guardrail.labelling.answers import read_answers
from guardrail.labelling.collection import collect, reuse
from guardrail.labelling.questions import LabelOptions, of_one_author, parse_questions
from guardrail.models.sampling import Sampling
from guardrail.utils.json_lines import as_json
from tests.support.chat import tiny_chat_model

OWN, OTHER = "tiny", "gpt-4o-mini"


def given(at, **fields):
    return {"question": f"Is it {at}?", "response": f"It is {at}.", "correct": at % 2 == 0, **fields}


def parsed(*lines):
    return parse_questions(map(as_json, lines))


def taken(*lines, answered_by=None):
    questions, author = of_one_author(parsed(*lines), answered_by, OWN)
    return [one.line for one in questions.usable], [one.line for one in questions.refused], author


@pytest.mark.parametrize(
    ("lines", "answered_by", "expected"),
    [
        # Lines that name nobody are of the model that scores them.
        ([given(1), given(2)], None, ([1, 2], [], None)),
        ([given(1), {"question": "Who?"}], None, ([1, 2], [], None)),
        ([given(1), {"question": "Who?", "answers": ["I"]}], None, ([1, 2], [], None)),
        ([given(1), given(2, model="Tiny")], None, ([1, 2], [], None)),
        ([given(1, model=OTHER), given(2, model="GPT-4o-mini ")], None, ([1, 2], [], OTHER)),
        # Our own word goes before a provider's.
        ([given(1, model=OWN, answered_by=OTHER)], None, ([1], [], OTHER)),
        # Of a question that the model answers itself, a name says nothing.
        ([{"question": "Who?", "answers": ["I"], "model": OTHER}], None, ([1], [], None)),
        ([given(1), given(2)], OTHER, ([1, 2], [], OTHER)),
        ([given(1, model=OTHER), given(2)], OTHER, ([1, 2], [], OTHER)),
        ([given(1, model=OTHER), given(2, model="o3")], OTHER, ([1], [2], OTHER)),
        ([given(1, model=OTHER), given(2), given(3, model=OWN)], OWN, ([2, 3], [1], None)),
        ([given(1), {"question": "Who?", "answers": ["I"]}], OTHER, ([1], [2], OTHER)),
    ],
)
def test_lines_are_of_one_author(lines, answered_by, expected):
    assert taken(*lines, answered_by=answered_by) == expected


@pytest.mark.parametrize(
    "lines",
    [
        [given(1, model=OTHER), given(2)],
        [given(1, model=OTHER), given(2, model="o3")],
        [given(1, model=OTHER), {"question": "Who?", "answers": ["I"]}],
    ],
)
def test_lines_of_several_authors_need_a_choice(lines):
    with pytest.raises(OptionError, match="several models") as refused:
        taken(*lines)
    assert "--answered-by" in str(refused.value)
    assert OTHER in str(refused.value)


@pytest.mark.parametrize("name", [7, "", ["a"], {"id": "a"}, "a\nb"])
def test_a_name_that_is_none_is_that_lines_problem(name):
    questions = parsed(given(1, model=name), given(2))
    assert [one.line for one in questions.usable] == [2]
    assert "model" in questions.refused[0].reason


def test_answers_keep_their_author_in_the_file_and_none_goes_on_with_anothers(one_thread, tmp_path):
    path = tmp_path / "answers.jsonl"
    model, plain = tiny_chat_model(), LabelOptions(sampling=Sampling(max_tokens=3), batch_size=2)
    others = LabelOptions(plain.sampling, batch_size=2, answered_by=OTHER)
    questions = parsed(given(1), given(2))
    collected = collect(questions, None, path, lambda: model, others)
    assert collected.records[0].provenance.answered_by == OTHER
    (record, _) = read_answers(path).records
    assert (record.provenance.answered_by, record.provenance.model.name) == (OTHER, OWN)
    assert json.loads(path.read_text().splitlines()[0])["answered_by"] == OTHER
    assert reuse(path, None).records[0].provenance.answered_by == OTHER
    with pytest.raises(OptionError, match="answered_by gpt-4o-mini, and this run has the model itself"):
        collect(questions, None, path, lambda: model, plain)
    own = tmp_path / "own.jsonl"
    collect(questions, None, own, lambda: model, plain)
    assert "answered_by" not in own.read_text()


@pytest.mark.parametrize("author", [OTHER, OWN])
def test_labels_of_people_name_the_author_and_come_back_as_its_own(author):
    case = Case("t", [{"role": "user", "content": "Who?"}], "I.", "r", "why", model=OWN, answered_by=author)
    item = Item("t", "2026", case, PersonsAnswer("approve", None, "ada", "2026"))
    (line,) = labels([item])
    assert (line["model"], line["scorer"]) == (author, OWN)
    _, found = of_one_author(parsed(line), None, OWN)
    assert found == (None if author == OWN else OTHER)
