"""The review page: what waits, what a person says, and that nothing of it is lost."""

import json
import sqlite3

import pytest
from streamlit.testing.v1 import AppTest

from guardrail.escalation.case import Case
from guardrail.escalation.queue import HumanQueue


def _review_page():
    from demo_app.views.review import page

    page()


def _case(number, **changes):
    values = {
        "id": f"{number:032x}",
        "messages": ({"role": "user", "content": f"Question {number}?"},),
        "draft": f"Answer {number}.",
        "rule": "default",
        "reason": "no rule above holds",
        "confidence": 0.31,
        "model": "tiny",
    }
    return Case(**{**values, **changes})


@pytest.fixture
def queue(demo, tmp_path):
    demo.delenv("GUARDRAIL_QUEUE", raising=False)
    return HumanQueue(f"sqlite:///{tmp_path / 'guardrail.db'}")


def _open():
    app = AppTest.from_function(_review_page, default_timeout=30).run()
    assert not app.exception
    return app


def _said(app):
    return " ".join(one.value for kind in ("html", "markdown", "caption") for one in app.get(kind))


def _save(app):
    next(button for button in app.button if button.label == "Save").click().run()
    assert not app.exception


def test_an_empty_queue_says_what_would_fill_it(queue):
    app = _open()
    assert "human-review" in app.info[0].value
    assert not app.radio


@pytest.mark.parametrize(
    ("choice", "verdict"),
    [
        pytest.param("Right", "approve", marks=pytest.mark.slow),
        pytest.param("Wrong", "reject", marks=pytest.mark.slow),
        ("Wrong, and I know the right answer", "edit"),
    ],
)
def test_what_a_person_says_is_in_the_queue_and_the_next_case_comes_up(queue, choice, verdict):
    first, second = _case(1), _case(2)
    queue.put(first)
    queue.put(second)
    app = _open()
    app.text_input[0].set_value("ana")
    app.radio[0].set_value(choice).run()
    if verdict == "edit":
        app.text_area[0].set_value("The right one.").run()
    _save(app)
    said = queue.get(first.id).answer
    assert (said.verdict, said.by) == (verdict, "ana")
    assert said.text == ("The right one." if verdict == "edit" else None)
    assert queue.get(second.id).answer is None
    assert app.selectbox[0].label == "Waiting: 1"
    # Another visit, as after a restart.
    again = _open()
    # To some versions an expander with a symbol is a status.
    assert "Answered: 1" in [one.label for one in (*again.expander, *again.status)]


def test_texts_of_users_and_models_are_shown_as_they_are(queue):
    messages = ({"role": "user", "content": "<img src=x onerror=alert(1)>"},)
    queue.put(_case(1, messages=messages, draft="<b>**no**</b>", reason="_because_ <i>"))
    app = _open()
    bodies = " ".join(one.proto.body for one in app.get("html"))
    assert "&lt;img src=x onerror=alert(1)&gt;" in bodies
    assert "&lt;b&gt;**no**&lt;/b&gt;" in bodies
    assert "<img" not in bodies
    assert any("\\_because\\_ \\<i\\>" in one.value for one in app.caption)


def test_a_record_that_cannot_be_read_is_told_and_keeps_no_other_back(queue):
    for number in range(2):
        queue.put(_case(number))
    with sqlite3.connect(queue.path) as connection:
        connection.execute("UPDATE cases SET record = '{' WHERE number = 1")
    app = _open()
    assert "cannot be read" in app.error[0].value
    assert not app.radio
    app.selectbox[0].select_index(1).run()
    assert not app.error
    assert app.radio


def test_a_question_that_waits_twice_can_be_chosen_both_times(queue):
    for number in (1, 2):
        queue.put(_case(number, id=str(number) * 32, messages=_case(1).messages))
    app = _open()
    first, second = app.selectbox[0].options
    assert first != second
    app.selectbox[0].select_index(1).run()
    bodies = " ".join(one.proto.body for one in app.get("html"))
    assert "Answer 2." in bodies
    assert "Answer 1." not in bodies


def test_a_correction_without_a_text_is_refused_in_words(queue):
    queue.put(_case(1))
    app = _open()
    app.radio[0].set_value("Wrong, and I know the right answer").run()
    _save(app)
    assert "The text is empty" in app.error[0].value
    assert queue.items("waiting")


def test_what_somebody_else_answered_meanwhile_stands(queue):
    queue.put(_case(1))
    app = _open()
    app.radio[0].set_value("Right").run()
    queue.answer(_case(1).id, "reject", by="bo")
    _save(app)
    assert queue.get(_case(1).id).answer.by == "bo"


def test_labels_are_lines_that_a_calibration_reads(queue, demo):
    from guardrail.labelling.questions import parse_questions

    queue.put(_case(1))
    queue.answer(_case(1).id, "edit", "Better.", by="ana")
    from demo_app.session import label_lines

    lines = label_lines().splitlines()
    assert json.loads(lines[0])["correction"] == "Better."
    (question,) = parse_questions(lines).usable
    assert (question.response, question.correct) == ("Answer 1.", False)
