import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.errors import PromptError
from guardrail.models.documents import as_grounded, undeclared, without_documents
from tests.support.chat import tiny_chat_model

OPEN = "The shop is open from 9 to 5."


def asks(content, document=OPEN, role="user"):
    return {"role": role, "content": content, "document": document}


@pytest.mark.parametrize(
    ("content", "left"),
    [
        (f"{OPEN}\n\nWhen does it open?", "When does it open?"),
        (f"When does it open?\n\n{OPEN}", "When does it open?"),
        (f"Read this:\n\n{OPEN}\n\nWhen does it open?", "Read this:\n\nWhen does it open?"),
        (f"Context: {OPEN} Question: when?", "Context:  Question: when?"),
    ],
)
def test_a_declared_document_is_taken_out_of_its_message(content, left):
    assert without_documents([asks(content)]) == [{"role": "user", "content": left}]


def test_of_a_conversation_every_declared_document_is_taken_out_and_the_rest_stays():
    messages = [
        {**asks(f"You are the shop. {OPEN}"), "role": "system"},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hello."},
        asks("Oak Lane 3. Where are you?", "Oak Lane 3."),
    ]
    assert [one["content"] for one in without_documents(messages)] == [
        "You are the shop.",
        "Hello",
        "Hello.",
        "Where are you?",
    ]
    assert [one["content"] for one in undeclared(messages)] == [one["content"] for one in messages]
    assert all("document" not in one for one in (*undeclared(messages), *without_documents(messages)))


def test_a_message_that_is_its_document_is_left_out():
    messages = [asks(OPEN, role="system"), {"role": "user", "content": "When?"}]
    assert without_documents(messages) == [{"role": "user", "content": "When?"}]


def test_nothing_is_declared_where_the_field_is_not_filled():
    assert without_documents([{"role": "user", "content": OPEN, "document": None}]) is None
    assert without_documents([{"role": "user", "content": OPEN}, "no message"]) is None


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (asks("When?"), "does not stand in its content"),
        (asks(f"{OPEN} {OPEN} When?"), "more than once"),
        (asks("aaa?", "aa"), "more than once"),
        (asks(f"{OPEN} When?", ""), "is no text"),
        (asks(f"{OPEN} When?", "  \n"), "is no text"),
        (asks(f"{OPEN} When?", [OPEN]), "is no text"),
        (asks(f"{OPEN} When?", True), "is no text"),
        (asks(OPEN), "no question beside it"),
        (asks(f"{OPEN} When?", role="assistant"), "only messages of the user or of the system"),
        (asks(f"{OPEN} When?", role="tool"), "only messages of the user or of the system"),
    ],
)
def test_a_document_that_is_declared_wrongly_is_refused(message, said):
    with pytest.raises(PromptError, match=said) as raised:
        without_documents([message])
    assert OPEN not in str(raised.value)


@given(st.text(max_size=30), st.text(min_size=1, max_size=30), st.text(max_size=30))
def test_what_is_left_is_what_stood_around_the_document(before, document, after):
    try:
        left = without_documents([asks(before + document + after, document)])
    except PromptError:
        return
    assert "".join(left[0]["content"].split()) == "".join((before + after).split())


def test_a_question_about_a_document_asks_behind_it():
    message = as_grounded("When does it open?", OPEN)
    assert message["content"] == f"{OPEN}\n\nWhen does it open?"
    assert without_documents([message]) == [{"role": "user", "content": "When does it open?"}]
    with pytest.raises(PromptError, match="more than once"):
        as_grounded(f"Is this so: {OPEN}", OPEN)


def test_a_chat_template_never_sees_the_declaration():
    model = tiny_chat_model()
    model.tokenizer.chat_template = (
        "{% for one in messages %}{{ one.role }}: {{ one.content }}{{ one.document }}{{ one.keys()|list }}"
        "\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    )
    content = f"{OPEN} When?"
    plain = model.encode_prompt([{"role": "user", "content": content}])
    assert model.encode_prompt([asks(content)]) == plain
