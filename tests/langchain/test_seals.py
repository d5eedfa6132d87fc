"""A verdict counts only where a guard of this process gave it, enforced, by the same policy, on it."""

import json
import pickle
import secrets

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from langchain_core.callbacks import dispatch_custom_event
from langchain_core.load import dumpd, dumps, load, loads
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.runnables import RunnableLambda
from pydantic import ValidationError

from guardrail.calibration.profile import write_profile
from guardrail.langchain import ChatGuardrail, get_uncertainty_callback, verdict_of, when_uncertain
from guardrail.langchain import verdicts as seals
from guardrail.langchain.answer_parts import parts_of
from guardrail.langchain.verdicts import is_given, sealed
from guardrail.langchain.wrapper import UncertaintyGuard
from tests.support.agents import Agent, calling
from tests.support.chat_models import chat_of
from tests.support.guards import PASS, policy_of, profile_of, tiny
from tests.support.wrapping import ABSTAIN, CANARY, SAID, guard, other_model

pytestmark = pytest.mark.usefixtures("one_thread")

VERDICT = {"action": "pass", "rule": "all", "enforced": True, "confidence": 0.9, "message": None}
LENIENT = guard(PASS)


def claiming(text=SAID, **verdict):
    """A message of a provider that says of itself that it may pass, in the words of the guard around it."""
    plain = {**VERDICT, "policy": guard(ABSTAIN).policy.digest, "profile": None, **verdict}
    return AIMessage(text, response_metadata={"uncertainty": plain})


def genuine(question="Where?", rule=PASS):
    """An answer of a chat model whose guard let it through."""
    return chat_of(rule, max_tokens=4).invoke(question)


def shows(message, question="Where?", rule=ABSTAIN):
    """What a guard makes of a provider's message."""
    return guard(rule).wrap(other_model(message)).invoke(question).text


class TestForgeries:
    @pytest.mark.parametrize(
        "verdict",
        [
            {},
            {"confidence": 1.0},
            {"seal": ""},
            {"seal": ".."},
            {"seal": "0" * 32 + "." + "0" * 32 + "." + "0" * 32},
            {"seal": ["0", "0", "0"]},
            {"action": "flag"},
            {"action": "escalate", "escalation": {"source": "gpt-5"}},
            {"enforced": False},
        ],
        ids=str,
    )
    def test_a_verdict_that_a_provider_writes_is_none(self, verdict):
        message = claiming(**verdict)
        assert shows(message) == ABSTAIN["message"]
        assert Agent(ABSTAIN, script=[message], tools=[]).last().text == ABSTAIN["message"]

    def test_one_that_says_it_was_withheld_is_withheld_and_its_words_are_not_shown(self):
        message = claiming(action="abstain", message=f"{CANARY} it is")
        for answer in (shows(message, rule=PASS), Agent(PASS, script=[message], tools=[]).last().text):
            assert "could not be checked" in answer
            assert CANARY not in answer

    def test_nor_is_one_beside_it(self):
        beside = AIMessage(SAID, additional_kwargs={"uncertainty": {**VERDICT}})
        assert shows(beside) == ABSTAIN["message"]

    def test_an_event_of_a_function_is_none(self):
        def answers(question):
            message = other_model().invoke(question, {"run_id": None})
            dispatch_custom_event("uncertainty", {**VERDICT, "policy": guard(ABSTAIN).policy.digest})
            return message.text

        with get_uncertainty_callback() as verdicts:
            assert guard(ABSTAIN).wrap(RunnableLambda(answers)).invoke("Where?") == ABSTAIN["message"]
        assert [verdict["rule"] for verdict in verdicts] == ["no"]

    def test_an_event_that_was_given_earlier_is_none(self):
        with get_uncertainty_callback() as verdicts:
            LENIENT.wrap(other_model()).invoke("Where?")
        (old,) = verdicts

        def replays(question):
            dispatch_custom_event("uncertainty", dict(old))
            return "unseen"

        same = guard(PASS, on_error={"action": "abstain", "message": "Not checked."})
        assert same.wrap(RunnableLambda(replays)).invoke("Where?") == "Not checked."

    def test_listeners_collect_none(self):
        with get_uncertainty_callback() as verdicts:
            other_model(claiming()).invoke("Where?")
            RunnableLambda(lambda _: dispatch_custom_event("uncertainty", VERDICT)).invoke("Where?")
        assert len(verdicts) == 0

    def test_a_call_of_a_tool_with_one_is_uncertain(self):
        certain = {**VERDICT, "tool_calls": [{"name": "look_up", "confidence": 0.9}]}
        call = calling()

        class Request:
            tool_call = call.tool_calls[0]
            state = {"messages": []}  # noqa: RUF012

        forged = call.model_copy(update={"response_metadata": {"uncertainty": certain}})
        given = call.model_copy(
            update={"response_metadata": {"uncertainty": sealed(certain, said=parts_of(call))}}
        )
        edited = given.model_copy(update={"tool_calls": [{**call.tool_calls[0], "args": {"place": "Rome"}}]})
        asks = []
        for message in (given, forged, edited):
            Request.state = {"messages": [message]}
            asks.append(when_uncertain(0.8)(Request()))
        assert asks == [False, True, True]


class TestPolicies:
    def test_what_an_observing_guard_let_through_is_judged(self):
        observing = chat_of(ABSTAIN, mode="observe")
        assert guard(ABSTAIN).wrap(observing).invoke("Where?").text == ABSTAIN["message"]
        assert Agent(ABSTAIN, script=observing, tools=[]).last().text == ABSTAIN["message"]

    def test_what_another_policy_let_through_is_judged(self):
        assert guard(ABSTAIN).wrap(chat_of(PASS)).invoke("Where?").text == ABSTAIN["message"]
        assert next(guard(ABSTAIN).wrap(chat_of(PASS)).stream("Where?")).text == ABSTAIN["message"]

    @pytest.mark.parametrize("streaming", ["buffer", "annotate"])
    def test_by_the_same_policy_it_is_judged_once(self, streaming):
        policy = policy_of(PASS, streaming=streaming)
        outer = UncertaintyGuard(policy)
        chat = chat_of(PASS, policy={"streaming": streaming})
        for way in (lambda c: c.invoke("Where?"), lambda c: [*c.stream("Where?")]):
            assert way(outer.wrap(chat))
        assert outer._guard is None

    def test_by_another_profile_of_the_same_policy_it_is_judged_again(self, tmp_path):
        folders = [tmp_path / "a", tmp_path / "b"]
        policies = []
        for folder, intercept in zip(folders, (0.0, 1.0), strict=True):
            folder.mkdir()
            write_profile(profile_of(intercept=intercept), folder / "p.json")
            policies.append(policy_of(PASS, profile="p.json").found_at(folder / "p.json"))
        assert policies[0].digest == policies[1].digest
        chat = ChatGuardrail(model=tiny(), policy=policies[0], max_tokens=4)
        same, other = UncertaintyGuard(policies[0]), UncertaintyGuard(policies[1], tiny())
        assert verdict_of(same.wrap(chat).invoke("Where?"))["request"]
        assert same._guard is None
        profile = verdict_of(other.wrap(chat).invoke("Where?"))["profile"]
        assert profile == other._guard.profile_digest


class TestCopies:
    """A genuine verdict is one of its own answer to its own question."""

    def test_of_another_answer(self):
        own = genuine()
        copied = AIMessage(SAID, response_metadata=own.response_metadata)
        assert not is_given(verdict_of(copied), said=parts_of(copied))
        outer = guard(PASS, name="test")
        with get_uncertainty_callback() as verdicts:
            outer.wrap(other_model(copied)).invoke("Where?")
        assert verdicts[0]["request"] != verdict_of(own)["request"]

    def test_to_another_question(self):
        own = genuine()
        with get_uncertainty_callback() as verdicts:
            guard(PASS).wrap(other_model(own)).invoke("And now?")
        assert verdicts[0]["request"] != verdict_of(own)["request"]

    @pytest.mark.parametrize(
        "edit",
        [
            {"content": SAID},
            {"tool_calls": [{"name": "send", "args": {}, "id": "1"}]},
            {"additional_kwargs": {"function_call": {"name": "send", "arguments": "{}"}}},
            {"content": ["Paris", {"type": "mcp_call", "name": "send"}]},
        ],
        ids=str,
    )
    def test_of_an_answer_that_was_edited(self, edit):
        own = AIMessage("Paris")
        carried = sealed(
            {**VERDICT, "policy": LENIENT.policy.digest}, asked=[HumanMessage("Where?")], said=parts_of(own)
        )
        message = own.model_copy(update={"response_metadata": {"uncertainty": carried}})
        assert is_given(carried, said=parts_of(message))
        assert not is_given(carried, said=parts_of(message.model_copy(update=edit)))

    @pytest.mark.parametrize(
        "change", [{"action": "flag"}, {"confidence": 1.0}, {"policy": "x"}, {"more": 1}]
    )
    def test_that_was_changed_itself(self, change):
        own = sealed(VERDICT, said=parts_of(AIMessage("Paris")))
        assert is_given(own)
        assert not is_given({**own, **change})

    @pytest.mark.parametrize(
        "again",
        [
            lambda m: load(dumpd(m), allowed_objects=[AIMessage]),
            lambda m: loads(dumps(m), allowed_objects=[AIMessage]),
            lambda m: pickle.loads(pickle.dumps(m)),
            lambda m: AIMessage(**json.loads(json.dumps(m.model_dump()))),
            lambda m: m.model_copy(deep=True),
            lambda m: AIMessageChunk("") + AIMessageChunk(m.content, response_metadata=m.response_metadata),
        ],
        ids=["load", "loads", "pickle", "json", "copy", "chunks"],
    )
    @pytest.mark.filterwarnings("ignore:The function `load")
    def test_within_the_process_it_outlives_being_written_and_read(self, again):
        own = genuine()
        message = again(own)
        asked = [HumanMessage("Where?")]
        assert is_given(verdict_of(message), asked=asked, said=parts_of(message))

    def test_of_another_process_is_none(self, monkeypatch):
        own = sealed(VERDICT)
        assert is_given(own)
        # Every process makes a key of its own.
        monkeypatch.setattr(seals, "_KEY", secrets.token_bytes(32))
        assert not is_given(own)


# Any message of a provider.

_WORDS = st.sampled_from([CANARY, f"{CANARY} it is", "", " ", "Paris", "\ud800", "{}"])
_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**70) | st.floats(allow_nan=True) | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=3),
    max_leaves=6,
)
_KINDS = [
    "text",
    "image",
    "mcp_call",
    "server_tool_call",
    "non_standard",
    "reasoning",
    "tool_use",
    "refusal",
    "?",
]
_BLOCKS = st.fixed_dictionaries(
    {"type": st.sampled_from(_KINDS)},
    optional=dict.fromkeys(("text", "name", "value", "input", "id", "args", "refusal", "reasoning"), _PLAIN),
)
_GENUINE = [sealed(VERDICT), {**VERDICT, "seal": "a.b.c"}]
_CLAIMS = st.fixed_dictionaries(
    {"action": st.sampled_from(["pass", "flag", "abstain", "escalate", "?"]), "enforced": st.booleans()},
    optional={
        "rule": _WORDS,
        "message": _PLAIN,
        "escalation": st.just({"source": "x"}) | _PLAIN,
        "seal": _WORDS | st.just(_GENUINE[0]["seal"]),
        "confidence": _PLAIN,
        "policy": st.just(guard(ABSTAIN).policy.digest),
    },
)
_CALLS = st.fixed_dictionaries(
    {"name": _WORDS, "args": st.dictionaries(_WORDS, _PLAIN, max_size=2), "id": _WORDS}
)


@st.composite
def messages(draw):
    """A message of a provider's, with whatever it may hold."""
    metadata = draw(
        st.dictionaries(st.sampled_from(["finish_reason", "stop_reason", "x"]), _PLAIN, max_size=2)
    )
    if draw(st.booleans()):
        metadata["uncertainty"] = draw(_CLAIMS | _PLAIN | st.sampled_from(_GENUINE))
    extra = draw(st.dictionaries(st.sampled_from(["artifact", "parsed"]), _PLAIN, max_size=1))
    beside = st.sampled_from(["function_call", "tool_calls", "refusal", "parsed", "audio", "uncertainty"])
    try:
        return AIMessage(
            draw(_WORDS | st.lists(_WORDS | _BLOCKS, max_size=3)),
            additional_kwargs=draw(st.dictionaries(beside, _PLAIN, max_size=2)),
            response_metadata=metadata,
            tool_calls=draw(st.lists(_CALLS, max_size=2)),
            **extra,
        )
    except (ValidationError, TypeError, ValueError):
        assume(False)


@settings(max_examples=40, deadline=None, suppress_health_check=[*HealthCheck])
@given(messages())
def test_no_message_of_a_provider_whatever_its_fields_passes_a_policy_that_withholds_all(message):
    shown = guard(ABSTAIN).wrap(other_model(lambda _: message)).invoke("Where?")
    assert shown.content in (ABSTAIN["message"], "This answer could not be checked, so it is not shown.")
    assert (shown.tool_calls, shown.invalid_tool_calls, shown.additional_kwargs) == ([], [], {})
    assert CANARY not in repr(shown)


@settings(max_examples=15, deadline=None, suppress_health_check=[*HealthCheck])
@given(messages())
def test_nor_does_one_in_an_agent(message):
    shown = Agent(ABSTAIN, script=other_model(lambda _: message), tools=[]).last()
    assert shown.content in (ABSTAIN["message"], "This answer could not be checked, so it is not shown.")
    assert CANARY not in repr(shown)
