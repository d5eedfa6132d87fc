"""Copies share the weights; a pickle holds names and options, and what it names is opened anew."""

import copy
import pickle

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from guardrail.errors import OptionError
from guardrail.guard import Guard
from guardrail.langchain import ChatGuardrail, UncertaintyGuard, UncertaintyMiddleware, verdict_of
from guardrail.models.local import LocalModel
from tests.support.chat import save_tiny_chat
from tests.support.chat_models import chat_of
from tests.support.guards import ASKED, PASS, policy_of, tiny

pytestmark = pytest.mark.usefixtures("one_thread")

SCHEMA = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}
UP = {"escalation": {"strong": {"chat_model": "fake:strong"}}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(save_tiny_chat(tmp_path_factory.mktemp("models") / "named"))


@pytest.fixture
def chat(folder):
    return ChatGuardrail(model=folder, policy=policy_of(PASS), max_tokens=20)


def pickled(value):
    return pickle.loads(pickle.dumps(value))


MADE_OF = {
    "chat model": lambda chat: chat,
    "bound": lambda chat: chat.bind(max_tokens=3),
    "with tags": lambda chat: chat.with_config(tags=["a"]),
    "in a chain": lambda chat: ChatPromptTemplate.from_template("{input}") | chat | StrOutputParser(),
    "wrapped": lambda chat: UncertaintyGuard(policy_of(PASS), chat.model).wrap(chat),
    "structured": lambda chat: chat.with_structured_output(SCHEMA),
    "structured, with its message": lambda chat: chat.with_structured_output(SCHEMA, include_raw=True),
}


def plain(answer):
    if isinstance(answer, dict) and "raw" in answer:
        return plain(answer["raw"])
    return getattr(answer, "content", answer)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickled])
@pytest.mark.parametrize("made", MADE_OF)
def test_a_copy_answers_as_the_original_does(chat, made, copied):
    chain = MADE_OF[made](chat)
    assert plain(copied(chain).invoke(ASKED)) == plain(chain.invoke(ASKED))


def test_no_weights_are_in_a_pickle_and_the_same_name_shares_them(chat):
    written = pickle.dumps(chat)
    assert len(written) < 5_000
    again = pickle.loads(written)
    assert again.guard.model is chat.guard.model
    assert again.profile == chat.profile


def test_a_deep_copy_shares_the_weights_and_nothing_that_is_changed(chat):
    copied = copy.deepcopy(chat.model_copy(update={"policy_tags": ["a"]}))
    assert copied.guard.model is chat.guard.model
    copied.policy_tags.append("b")
    copied.max_tokens = 2
    assert (chat.policy_tags, chat.max_tokens) == ([], 20)
    assert copied.invoke(ASKED).usage_metadata["output_tokens"] == 2
    unnamed = chat_of(PASS)
    assert copy.deepcopy(unnamed).guard.model is tiny()


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
def test_a_guard_and_what_is_made_of_it_are_what_they_were_made_by(folder, copied):
    model = LocalModel.load(folder)
    guard = copied(Guard(policy_of(PASS), model, batch_size=3))
    assert guard.ask(ASKED).action == "pass"
    assert copied(model).name == folder
    wrapped = copied(UncertaintyGuard(policy_of(PASS), folder)).wrap(FakeListChatModel(responses=["So."]))
    assert verdict_of(wrapped.invoke(ASKED))["action"]
    middleware = copied(UncertaintyMiddleware(policy_of(PASS), folder, tags=["a"]))
    assert middleware.policy == policy_of(PASS)


def test_what_was_not_opened_by_a_name_is_not_pickled():
    for unnamed in (
        tiny(),
        chat_of(PASS),
        Guard(policy_of(PASS), tiny()),
        UncertaintyGuard(policy_of(), tiny()),
    ):
        with pytest.raises(OptionError, match="not opened by a name"):
            pickle.dumps(unnamed)


def test_keys_of_targets_are_not_pickled(folder):
    strong = {"strong": FakeListChatModel(responses=["So."])}
    policy = policy_of(PASS, **UP)
    for made in (
        ChatGuardrail(model=folder, policy=policy, targets=strong),
        UncertaintyGuard(policy, folder, targets=strong),
        UncertaintyMiddleware(policy, folder, targets=strong),
    ):
        with pytest.raises(OptionError, match="'strong' is a chat model, which may hold a key"):
            pickle.dumps(made)
        copy.deepcopy(made)
