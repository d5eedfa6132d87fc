"""Nobody hears a word of an agent's answer before it is decided on, whatever they listen to."""

import asyncio

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command

from guardrail.langchain import verdict_of
from tests.support.agents import (
    ABSTAIN,
    ASKED,
    CANARY,
    HUMAN,
    HUMAN_TARGET,
    MODES,
    STRONG,
    STRONG_TARGET,
    THREAD,
    Agent,
    Scripted,
    calling,
    knows,
    said,
    streamed,
)
from tests.support.wrapping import Listener

HOWS = pytest.mark.parametrize("how", ["sync", "async"])
RULES = pytest.mark.parametrize("rule", [ABSTAIN, STRONG])


def withholding(rule, **options):
    strong = {"strong": Scripted(script=[said("Paris it is")])}
    return Agent(rule, script=[calling()], targets=strong, escalation=STRONG_TARGET, **options)


def events(graph):
    async def read():
        return [event async for event in graph.astream_events(ASKED, version="v2")]

    return asyncio.run(read())


def messages_of(chunks):
    return [chunk[0] for chunk in chunks if chunk[0].type != "human"]


@HOWS
@RULES
@pytest.mark.parametrize("mode", MODES)
def test_no_stream_mode_shows_a_withheld_draft(how, rule, mode):
    agent = withholding(rule, checkpointer=InMemorySaver())
    seen = streamed(agent.graph, config=THREAD, how=how, stream_mode=mode)
    assert not knows(seen)
    assert bool(seen) is (mode != "custom")


@HOWS
@RULES
def test_nor_do_all_of_them_at_once_from_an_agent_within_a_graph(how, rule):
    outer = StateGraph(MessagesState)
    outer.add_node("agent", withholding(rule).graph)
    outer.add_edge(START, "agent")
    outer.add_edge("agent", END)
    graph = outer.compile(checkpointer=InMemorySaver())
    seen = streamed(graph, config=THREAD, how=how, stream_mode=MODES, subgraphs=True)
    assert seen
    assert not knows(seen)


@RULES
def test_nor_do_events(rule):
    seen = events(withholding(rule).graph)
    assert seen
    assert not knows(seen)


@HOWS
@RULES
def test_callbacks_learn_that_a_model_ran_and_not_what_it_said(how, rule):
    listener = Listener()
    withholding(rule).invoke(config={"callbacks": [listener]}, how=how)
    names = [name for name, *_ in listener.heard]
    assert names.count("on_llm_end") == (2 if rule is STRONG else 1)
    assert not knows(listener.heard)


@pytest.mark.filterwarnings("ignore:The v3 streaming protocol")
@HOWS
def test_the_newer_streaming_protocol_does_not_show_it_either(how):
    agent = withholding(ABSTAIN)
    if how == "sync":
        seen = list(agent.graph.stream_events(ASKED, version="v3"))
    else:

        async def read():
            return [event async for event in await agent.graph.astream_events(ASKED, version="v3")]

        seen = asyncio.run(read())
    assert seen
    assert knows(seen, "I do not know.")
    assert not knows(seen)


@HOWS
def test_what_passes_comes_whole_and_once_with_its_verdict(how):
    agent = Agent(script=[calling(), said("far away")])
    seen = messages_of(streamed(agent.graph, how=how, stream_mode="messages"))
    assert [one.type for one in seen] == ["ai", "tool", "ai"]
    assert all(verdict_of(one)["action"] == "pass" for one in (seen[0], seen[2]))
    assert seen[0].text.strip() == f"{CANARY} it is"


def test_what_passes_is_told_to_callbacks_afterwards():
    listener = Listener()
    Agent(script=[said()]).graph.invoke(ASKED, {"callbacks": [listener]})
    assert knows(listener.heard)
    assert [name for name, *_ in listener.heard].count("on_llm_end") == 1


@HOWS
def test_a_stronger_models_answer_comes_whole_and_once(how):
    agent = withholding(STRONG)
    (one,) = messages_of(streamed(agent.graph, how=how, stream_mode="messages"))
    assert one.text.strip() == "Paris it is"
    assert verdict_of(one)["escalation"]["source"] == "Scripted"


@HOWS
def test_a_draft_for_a_person_is_in_the_interrupt_and_not_among_the_messages(how):
    agent = Agent(HUMAN, script=[said()], escalation=HUMAN_TARGET, checkpointer=InMemorySaver())
    both = streamed(agent.graph, config=THREAD, how=how, stream_mode=["messages", "updates"])
    messages = [chunk for mode, chunk in both if mode == "messages"]
    updates = [chunk for mode, chunk in both if mode == "updates"]
    assert messages
    assert not knows(messages)
    assert knows([update for update in updates if "__interrupt__" in update])
    assert not knows([update["model"]["messages"] for update in updates if "model" in update])
    approved = Command(resume={"decisions": [{"type": "approve"}]})
    seen = streamed(agent.graph, approved, THREAD, how=how, stream_mode="messages")
    assert [one.text.strip() for one in messages_of(seen) if one.type == "ai"] == [f"{CANARY} it is"]
