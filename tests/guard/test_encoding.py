"""A prompt is encoded once for each answer, whoever asks: rendered as it is once, and tokenized once."""

import pytest
from langchain_core.tools import tool

from guardrail.guard import Guard
from guardrail.models.sampling import Sampling
from tests.support.chat_models import calling_model, chat_of
from tests.support.guards import PASS, policy_of

pytestmark = pytest.mark.usefixtures("one_thread")

QUESTION = "Who wrote Faust, and when was that?"


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def asked(model):
    Guard(policy_of(PASS), model).ask(QUESTION, Sampling(max_tokens=3))


def judged(model):
    Guard(policy_of(PASS), model).judge(QUESTION, "Goethe.")


def invoked(model):
    chat_of(PASS, model=model, max_tokens=3).invoke(QUESTION)


def streamed(model):
    list(chat_of(PASS, model=model, max_tokens=3).stream(QUESTION))


def invoked_with_tools(model):
    chat_of(PASS, model=model, max_tokens=3).bind_tools([add]).invoke(QUESTION)


@pytest.fixture
def counted(monkeypatch):
    """A model, with what its template renders and its tokenizer reads noted."""
    model, renders, texts = calling_model(), [], []
    kind = type(model.tokenizer)
    render, tokenize = kind.apply_chat_template, kind.__call__

    def rendering(self, messages, **options):
        renders.append((str([message["content"] for message in messages]), options["add_generation_prompt"]))
        return render(self, messages, **options)

    def tokenizing(self, text, *arguments, **options):
        texts.append(str(text))
        return tokenize(self, text, *arguments, **options)

    monkeypatch.setattr(kind, "apply_chat_template", rendering)
    monkeypatch.setattr(kind, "__call__", tokenizing)
    return model, renders, texts


@pytest.mark.parametrize("route", [asked, judged, invoked, streamed, invoked_with_tools])
def test_a_prompt_is_encoded_once_for_each_answer(counted, route):
    model, renders, texts = counted
    # What is found out about a model and its template is found out once.
    route(model)
    renders.clear()
    texts.clear()
    route(model)
    asked_for = str([QUESTION])
    # With and without the generation prompt; and once with a mark in place of each text, to see it is shown.
    assert sorted(renders) == sorted([(asked_for, True), (asked_for, False), ("['guardrailmark0x']", True)])
    assert len([text for text in texts if QUESTION in text]) == 1
