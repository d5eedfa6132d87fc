"""What LangChain is told of a model: how many tokens there are, and what it can do."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.language_models.model_profile import ModelProfile
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage, trim_messages
from langchain_core.tools import tool

from guardrail.errors import PromptError
from tests.support.chat import CONTEXT
from tests.support.chat_models import calling_model, chat_of
from tests.support.guards import ASKED, PASS, tiny

pytestmark = pytest.mark.usefixtures("one_thread")


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


LONG = [message for at in range(40) for message in (HumanMessage(f"Who was number {at}?"), AIMessage("Ann."))]


@pytest.mark.parametrize(
    "messages",
    [
        [HumanMessage(ASKED)],
        [SystemMessage("Be brief."), HumanMessage(ASKED)],
        [HumanMessage(ASKED), AIMessage("Goethe."), HumanMessage("When?")],
        [HumanMessage([{"type": "text", "text": "Who"}, " wrote Faust?"])],
    ],
)
def test_tokens_of_a_conversation_are_those_that_the_model_reads(messages):
    chat = chat_of(PASS, max_tokens=2)
    assert chat.get_num_tokens_from_messages(messages) == chat.invoke(messages).usage_metadata["input_tokens"]


def test_tools_are_counted_too():
    chat = chat_of(PASS, model=calling_model(), max_tokens=2)
    read = chat.bind_tools([add]).invoke(ASKED).usage_metadata["input_tokens"]
    assert chat.get_num_tokens_from_messages([HumanMessage(ASKED)], tools=[add]) == read
    assert chat.get_num_tokens_from_messages([HumanMessage(ASKED)]) < read


@settings(max_examples=20, deadline=None)
@given(st.text(max_size=30))
def test_tokens_of_a_text_are_the_tokenizers_own(text):
    chat = chat_of(PASS)
    assert chat.get_token_ids(text) == tiny().tokenizer(text, add_special_tokens=False)["input_ids"]
    assert chat.get_num_tokens(text) == len(chat.get_token_ids(text))


def test_a_counter_of_the_callers_own_counts():
    chat = chat_of(PASS, custom_get_token_ids=lambda text: [7] * len(text))
    assert (chat.get_token_ids("abc"), chat.get_num_tokens("ab")) == ([7, 7, 7], 2)


@pytest.mark.parametrize("strategy", ["last", "first"])
def test_a_conversation_is_trimmed_to_what_the_model_reads(strategy):
    chat = chat_of(PASS, max_tokens=2)
    with pytest.raises(PromptError, match="longer context"):
        chat.invoke(LONG)
    trimmed = trim_messages(LONG, max_tokens=300, token_counter=chat, strategy=strategy, end_on="human")
    assert 0 < len(trimmed) < len(LONG)
    read = chat.invoke(trimmed).usage_metadata["input_tokens"]
    assert 200 < read <= 300


@pytest.mark.parametrize(
    "part",
    [
        [],
        [SystemMessage("Be brief.")],
        [AIMessage("Goethe.")],
        [ToolMessage("3", tool_call_id="1")],
        [AIMessage("", tool_calls=[{"name": "add", "args": {"a": 1}, "id": "1"}])],
        [HumanMessage("")],
    ],
)
def test_a_part_that_is_no_conversation_has_a_length_too(part):
    count = chat_of(PASS).get_num_tokens_from_messages(part)
    assert count >= len(tiny().tokenizer("".join(str(one.text) for one in part))["input_ids"])
    assert (count == 0) == (part == [])


def test_a_profile_says_what_the_model_can_do_and_no_more():
    profile = chat_of(PASS).profile
    assert profile["max_input_tokens"] == CONTEXT
    assert 0 < profile["max_output_tokens"] < CONTEXT
    assert (profile["text_inputs"], profile["image_inputs"], profile["tool_calling"]) == (True, False, False)
    assert profile.keys() <= ModelProfile.__annotations__.keys()
    assert chat_of(PASS, model=calling_model()).profile["tool_calling"]


def test_another_model_has_another_profile_unless_a_caller_gave_it():
    chat, caller = chat_of(PASS), calling_model()
    assert chat.model_copy(update={"model": caller}).profile["tool_calling"]
    mine = chat_of(PASS, profile={"max_input_tokens": 7})
    assert mine.model_copy(update={"model": caller}).profile == {"max_input_tokens": 7}
