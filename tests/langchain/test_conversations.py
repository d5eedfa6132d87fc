"""Conversations of several turns: what was withheld is no turn of the model's, at whatever door."""

import asyncio
import json

import pytest
from langchain_core.messages import (
    AIMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    messages_from_dict,
    messages_to_dict,
)
from langgraph.checkpoint.memory import InMemorySaver

from guardrail.langchain.message_conversion import as_spoken
from guardrail.langchain.verdicts import verdict_of
from tests.support.agents import THREAD, Agent, Scripted, calling, said
from tests.support.chat_models import chat_of
from tests.support.guards import PASS
from tests.support.wrapping import guard, guarded_message, merged, other_model

REFUSAL = "Nobody knows enough to say."
HARD = {"id": "hard", "when": {"tags": ["hard"]}, "action": "abstain", "message": REFUSAL}
FLAG = {"id": "doubt", "when": {"tags": ["doubtful"]}, "action": "flag", "message": "Look it up."}
HOW = ["invoke", "ainvoke", "stream", "astream", "batch", "abatch"]

pytestmark = pytest.mark.usefixtures("one_thread")


def asked(runnable, messages, how, **options):
    async def streamed():
        return [chunk async for chunk in runnable.astream(messages, **options)]

    return {
        "invoke": lambda: runnable.invoke(messages, **options),
        "ainvoke": lambda: asyncio.run(runnable.ainvoke(messages, **options)),
        "stream": lambda: merged(list(runnable.stream(messages, **options))),
        "astream": lambda: merged(asyncio.run(streamed())),
        "batch": lambda: runnable.batch([messages], **options)[0],
        "abatch": lambda: asyncio.run(runnable.abatch([messages], **options))[0],
    }[how]()


def another_guards(text, action="pass", **verdict):
    return guarded_message(text, action, **verdict)([HumanMessage("Who?")])


def as_it_is(message):
    return message


def without_metadata(message):
    return AIMessage(message.text)


def as_dict(message):
    verdict = {"uncertainty": verdict_of(message)}
    return {"role": "assistant", "content": message.text, "response_metadata": verdict}


def read_again(message):
    (again,) = messages_from_dict(json.loads(json.dumps(messages_to_dict([message]))))
    return again


@pytest.mark.parametrize("how", HOW)
def test_a_chat_model_is_asked_without_the_withheld_ones_of_ten_turns(how):
    chat = chat_of(HARD, PASS)
    whole, clean = [SystemMessage("Be brief.")], [SystemMessage("Be brief.")]
    for number in range(10):
        message = chat.invoke([*whole, "Who?"], policy_tags=["hard"] if number % 2 else [])
        whole += ["Who?", message]
        clean += ["Who?", message] if verdict_of(message)["action"] == "pass" else []
    left_out = 10 - (len(clean) - 1) // 2
    last, alone = asked(chat, [*whole, "And?"], how), asked(chat, [*clean, "And?"], how)
    assert verdict_of(last)["turns_left_out"] == left_out >= 5
    assert verdict_of(alone)["turns_left_out"] == 0
    assert last.usage_metadata == alone.usage_metadata
    assert (last.text, verdict_of(last)["scores"]) == (alone.text, pytest.approx(verdict_of(alone)["scores"]))


@pytest.mark.parametrize("kept", [as_it_is, without_metadata, as_dict, read_again])
@pytest.mark.parametrize("on_abstain", ["message", "refusal"])
def test_it_does_not_matter_how_a_client_keeps_its_messages(kept, on_abstain):
    chat = chat_of(HARD, PASS, max_tokens=2)
    withheld = chat.invoke("Who?", policy_tags=["hard"], on_abstain=on_abstain)
    assert verdict_of(withheld)["action"] == "abstain"
    last = chat.invoke([HumanMessage("Who?"), kept(withheld), HumanMessage("And?")])
    assert last.usage_metadata["input_tokens"] == chat.invoke("And?").usage_metadata["input_tokens"]


@pytest.mark.parametrize("how", HOW)
def test_a_chains_answers_are_judged_without_the_withheld_turns(how):
    chain = guard(HARD, PASS).wrap(other_model("Goethe wrote it."))
    withheld = chain.invoke("Who?", config={"tags": ["hard"]})
    assert withheld.text == REFUSAL
    last = asked(chain, [HumanMessage("Who?"), withheld, HumanMessage("And?")], how)
    alone = asked(chain, [HumanMessage("And?")], how)
    assert verdict_of(last)["turns_left_out"] == 1
    assert verdict_of(last)["usage"] == verdict_of(alone)["usage"]


def test_a_chains_model_that_repeats_the_policy_is_not_believed():
    chain = guard(HARD, PASS).wrap(other_model(f"{REFUSAL} Really."))
    message = chain.invoke("Who?")
    assert verdict_of(message)["rule"] == "own_message"
    assert message.text == "I am not sure enough to answer that."


@pytest.mark.parametrize("how", ["sync", "async"])
def test_an_agent_with_a_memory_is_asked_without_the_withheld_ones_of_ten_turns(how):
    model = Scripted(script=[said("Goethe.")])
    agent = Agent(HARD, PASS, script=model, checkpointer=InMemorySaver())
    for number in range(10):
        config = {**THREAD, "tags": ["hard"] if number % 2 else []}
        state = agent.invoke({"messages": [("user", f"Question {number}?")]}, config, how=how)
        assert state["messages"][-1].text == (REFUSAL if number % 2 else "Goethe.")
        assert verdict_of(state["messages"][-1])["turns_left_out"] == number // 2
    assert len(state["messages"]) == 20
    heard = [one.text for one in model.asked[-1]]
    assert heard == [
        *(text for at in range(0, 9, 2) for text in (f"Question {at}?", "Goethe.")),
        "Question 9?",
    ]


def test_an_agents_withheld_turn_goes_with_the_calls_that_led_to_it():
    model = Scripted(script=[calling(), said("Far."), said("Goethe.")])
    rules = ({"id": "far", "when": {"tags": ["hard"], "not": {"tool_call": True}}, "action": "abstain"}, PASS)
    agent = Agent(*rules, script=model, checkpointer=InMemorySaver())
    agent.invoke({"messages": [("user", "How far?")]}, {**THREAD, "tags": ["hard"]})
    agent.invoke({"messages": [("user", "Who?")]}, THREAD)
    assert [one.text for one in model.asked[-1]] == ["Who?"]


def test_a_model_whose_own_guard_observes_is_asked_by_what_the_agents_guard_withheld():
    chat = chat_of(PASS, mode="observe", max_tokens=2)
    agent = Agent(HARD, PASS, script=chat, tools=[], checkpointer=InMemorySaver())
    agent.invoke({"messages": [("user", "Who?")]}, {**THREAD, "tags": ["hard"]})
    state = agent.invoke({"messages": [("user", "And?")]}, THREAD)
    alone = chat.invoke([HumanMessage("And?")])
    assert state["messages"][-1].usage_metadata["input_tokens"] == alone.usage_metadata["input_tokens"]


def test_an_observing_middleware_leaves_the_conversation_alone():
    model = Scripted(script=[said("Goethe.")])
    agent = Agent(HARD, PASS, script=model, mode="observe")
    history = [HumanMessage("Who?"), AIMessage(REFUSAL), HumanMessage("And?")]
    agent.invoke({"messages": history})
    assert [one.text for one in model.asked[-1]] == ["Who?", REFUSAL, "And?"]


@pytest.mark.parametrize(
    "message",
    [
        another_guards("Anything.", "abstain"),
        another_guards("Anything.", "escalate"),
        AIMessage("Anything.", response_metadata={"uncertainty": {"action": "abstain"}}),
        AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "1"}]),
    ],
)
def test_a_verdict_of_another_guard_may_leave_a_turn_out(message):
    is_call = bool(message.tool_calls)
    if is_call:
        message = another_guards("", "abstain").model_copy(update={"tool_calls": message.tool_calls})
    turn = [HumanMessage("Who?"), message, *([ToolMessage("42", tool_call_id="1")] if is_call else [])]
    chat = chat_of(PASS, max_tokens=2)
    last = chat.invoke([*turn, HumanMessage("And?")])
    assert last.usage_metadata["input_tokens"] == chat.invoke("And?").usage_metadata["input_tokens"]


def test_a_verdict_that_lets_a_message_of_the_policy_through_keeps_no_turn_in():
    chat = chat_of(HARD, PASS, max_tokens=2)
    last = chat.invoke([HumanMessage("Who?"), another_guards(REFUSAL), HumanMessage("And?")])
    assert verdict_of(last)["turns_left_out"] == 1


def test_what_a_target_answered_is_a_turn():
    chat = chat_of(PASS, max_tokens=2)
    answer = another_guards("Goethe.", "escalate", escalation={"source": "gpt", "ticket": None})
    last = chat.invoke([HumanMessage("Who?"), answer, HumanMessage("And?")])
    assert verdict_of(last)["turns_left_out"] == 0
    assert last.usage_metadata["input_tokens"] > chat.invoke("And?").usage_metadata["input_tokens"]


def test_messages_that_no_text_model_reads_are_kept_as_they_are():
    policy = guard(HARD, FLAG, PASS)
    picture = HumanMessage([{"type": "image", "url": "https://example.org/x.png"}])
    flagged = AIMessage([{"type": "text", "text": "Goethe.\n\nLook it up."}, {"type": "reasoning", "x": 1}])
    kept, left_out = as_spoken([picture, AIMessage(REFUSAL), picture, flagged, picture], policy.notices)
    assert left_out == 1
    assert [kept[0] is picture, kept[2] is picture] == [True, True]
    assert kept[1].content == [{"type": "text", "text": "Goethe."}, {"type": "reasoning", "x": 1}]
