"""Nobody at any door has a word of an answer that is withheld, of whatever kind it is."""

import asyncio

import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import JsonOutputParser, StrOutputParser
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph

from guardrail.errors import AbstainedError
from guardrail.langchain.verdicts import verdict_of
from tests.support.agents import Agent
from tests.support.chat_models import chat_of
from tests.support.doors import DOORS, PIECES, Tracer, answers, canary, check_nobody_knows, leads_to, opened
from tests.support.guards import PASS
from tests.support.wrapping import ABSTAIN, guard, other_model

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS = [*answers()]
UNCHECKED = "This answer could not be checked, so it is not shown."
SYNC_AND_LATER = ["invoke", pytest.param("astream", marks=pytest.mark.slow)]
GRAPH_MODES = ["values", "updates", "messages", "custom", "debug", "tasks", "checkpoints"]


def provider(kind):
    """A model that gives an answer of a kind, made when it is asked."""
    return other_model(lambda _: answers()[kind])


def raises(message):
    raise ValueError(f"cannot read {message.text or message}")


def chains(kind="text"):
    """What may come after a model."""
    model = provider(kind)
    return {
        "model": model,
        "text": model | StrOutputParser(),
        "parser fails": model | JsonOutputParser(),
        "function fails": model | RunnableLambda(raises),
        "recovers": (model | RunnableLambda(raises)).with_fallbacks([provider(kind)]),
        "no place": model | RunnableLambda(lambda message: {"said": message}),
        "two models": model | StrOutputParser() | provider(kind),
    }


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("on_abstain", ["message", "raise"])
def test_no_door_of_a_wrapped_chain_shows_a_withheld_text(door, on_abstain):
    check_nobody_knows(opened(door, guard(ABSTAIN, on_abstain=on_abstain).wrap(provider("text")), "Where?"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("door", SYNC_AND_LATER)
def test_nor_an_answer_of_any_kind(door, kind):
    check_nobody_knows(opened(door, guard(ABSTAIN).wrap(provider(kind)), "Where?"))


@pytest.mark.parametrize("chain", chains())
@pytest.mark.parametrize("door", ["invoke", "stream", "ainvoke", "astream", "batch, errors kept"])
def test_nor_whatever_becomes_of_it_in_the_chain(door, chain):
    guarded = guard(ABSTAIN).wrap(chains()[chain])
    check_nobody_knows(opened(door, guarded, "Where?"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("door", DOORS)
def test_nor_any_kind_at_any_door(door, kind):
    guarded = guard(ABSTAIN, on_abstain="raise").wrap(chains(kind)["function fails"])
    check_nobody_knows(opened(door, guarded, "Where?"))


@pytest.mark.parametrize("door", ["invoke", "ainvoke", "stream", "astream_events v2"])
def test_what_is_shown_is_seen_by_all_so_that_the_search_can_find_it(door):
    seen = opened(door, guard(PASS).wrap(provider("text")), "Where?")
    assert all(leads_to(seen[who], PIECES[0]) for who in ("listener", "tracer", "runs", "output"))


def test_the_search_looks_into_frames_contexts_and_objects():
    class Box:
        def __init__(self, inside):
            self.inside = inside

    def fails(draft):
        try:
            raise ValueError(draft)
        except ValueError:
            raise KeyError from None

    with pytest.raises(KeyError) as caught:
        fails(canary())
    assert leads_to(caught.value, canary())
    assert leads_to([Box({"a": (canary(),)})], canary())
    assert leads_to([Box({"a": ("nothing",)})], canary()) is None


# An error that a chain recovers from is put into the input.


@pytest.mark.parametrize("door", ["invoke", "ainvoke", "batch, errors kept", "abatch"])
@pytest.mark.parametrize("rule", [ABSTAIN, PASS], ids=["withheld", "shown"])
def test_what_a_chain_writes_into_its_input_is_not_the_callers(rule, door):
    fails = RunnableLambda(lambda asked: provider("text").invoke(asked["question"])) | RunnableLambda(raises)
    recovers = fails.with_fallbacks([RunnableLambda(lambda asked: "Paris")], exception_key="error")
    asked = {"question": "Where?", "history": [AIMessage("Hello.")]}
    seen = opened(door, guard(rule).wrap(recovers), asked)
    assert asked == {"question": "Where?", "history": [AIMessage("Hello.")]}
    if rule is ABSTAIN:
        check_nobody_knows(seen)


def test_messages_of_the_caller_are_not_changed_by_the_chain():
    def marks(messages):
        messages[0].additional_kwargs["seen"] = (
            messages.append("more") or provider("text").invoke("Where?").text
        )
        return messages[0].additional_kwargs["seen"]

    asked = [AIMessage("Hello.")]
    assert guard(ABSTAIN).wrap(RunnableLambda(marks)).invoke(asked) == ABSTAIN["message"]
    assert asked == [AIMessage("Hello.")]


# Errors of the guard's own making.


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_guard_that_cannot_be_opened_when_it_is_needed_tells_nothing_of_the_answer(how, monkeypatch):
    guarded = guard(PASS).wrap(provider("text"))

    def fails(*_, **__):
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(guarded.guard, "_open", fails)
    monkeypatch.setattr(guarded.guard, "_guard", None)
    seen = opened("invoke" if how == "sync" else "ainvoke", guarded, "Where?")
    assert isinstance(seen["error"], RuntimeError)
    check_nobody_knows(seen)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
@pytest.mark.parametrize("door", ["invoke", "ainvoke", "stream", "astream"])
def test_a_run_that_is_stopped_after_an_answer_tells_nothing_of_it(door, stop):
    def stops(message):
        raise stop

    if door.startswith("a") and stop is not asyncio.CancelledError:
        pytest.skip("it stops the event loop itself")
    seen = opened(door, guard(PASS).wrap(provider("text") | RunnableLambda(stops)), "Where?")
    assert isinstance(seen["error"], stop)
    check_nobody_knows({"error": seen["error"]})


# The chat model.


@pytest.fixture(scope="module")
def draft():
    """What the tiny model answers, which no other text is made of."""
    text = chat_of(PASS, max_tokens=12).invoke("Where?").text
    assert len(text.strip()) > 3
    return text


CHAT_DOORS = [door for door in DOORS if door != "cancelled"]


@pytest.mark.parametrize(
    "on_abstain", ["raise", *(pytest.param(one, marks=pytest.mark.slow) for one in ("message", "refusal"))]
)
@pytest.mark.parametrize("door", CHAT_DOORS)
def test_no_door_of_the_chat_model_shows_a_withheld_text(door, on_abstain, draft):
    chat = chat_of(ABSTAIN, max_tokens=12, on_abstain=on_abstain)
    check_nobody_knows(opened(door, chat, "Where?"), draft)


@pytest.mark.parametrize("way", ["generate", "agenerate", "structured", "structured and raw"])
@pytest.mark.parametrize("on_abstain", ["message", "raise"])
def test_nor_do_its_own_ways(way, on_abstain, draft):
    chat = chat_of(ABSTAIN, max_tokens=12, on_abstain=on_abstain)
    asked = chat._convert_input("Where?").to_messages()
    form = {"title": "t", "type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    seen = {}
    try:
        if way.startswith("structured"):
            reads = chat.with_structured_output(form, include_raw=way.endswith("raw"))
            seen["output"] = reads.invoke("Where?")
        elif way == "generate":
            seen["output"] = chat.generate([asked])
        else:
            seen["output"] = asyncio.run(chat.agenerate([asked]))
    except AbstainedError as error:
        seen["error"] = error
    assert seen
    check_nobody_knows(seen, draft)


# Agents and graphs.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("door", ["invoke", pytest.param("ainvoke", marks=pytest.mark.slow)])
def test_no_answer_of_an_agents_model_is_seen(door, kind):
    agent = Agent(ABSTAIN, script=provider(kind), tools=[])
    seen = opened(door, agent.graph, {"messages": [("user", "Where?")]})
    assert seen["output"]["messages"][-1].text in (
        "I do not know.",
        "This answer could not be checked, so it is not shown.",
    )
    check_nobody_knows(seen)


@pytest.mark.parametrize(
    "door", ["batch, errors kept", "stream", "astream", "astream_events v2", "astream_log"]
)
def test_nor_at_any_other_door_of_an_agent(door):
    agent = Agent(ABSTAIN, script=provider("text and call"))
    check_nobody_knows(opened(door, agent.graph, {"messages": [("user", "Where?")]}))


@pytest.mark.parametrize("how", ["sync", "async"])
def test_an_agents_error_tells_nothing_of_the_answer(how, monkeypatch):
    agent = Agent(PASS, script=provider("text"), tools=[])
    middleware = agent.guard

    def fails(*_, **__):
        raise RuntimeError("the disk is full")

    async def afails(*_, **__):
        fails()

    monkeypatch.setattr(middleware._guard, "decide", fails)
    monkeypatch.setattr(middleware._guard, "adecide", afails)
    seen = opened("invoke" if how == "sync" else "ainvoke", agent.graph, {"messages": [("user", "Where?")]})
    assert isinstance(seen["error"], RuntimeError)
    check_nobody_knows(seen)


def wrapped_graph(step, **options):
    """A graph whose answer is withheld, as a step of a graph around it."""
    graph = StateGraph(MessagesState)
    graph.add_node("answer", step)
    graph.add_edge(START, "answer")
    return guard(ABSTAIN, **options).wrap(graph.compile())


def answers_state(state):
    return {"messages": [provider("text").invoke(state["messages"])]}


@pytest.mark.parametrize("mode", [*GRAPH_MODES, GRAPH_MODES], ids=[*GRAPH_MODES, "all"])
@pytest.mark.parametrize("subgraphs", [False, True], ids=["alone", "subgraphs"])
def test_no_stream_of_a_graph_around_shows_it(mode, subgraphs):
    inner = wrapped_graph(answers_state)
    outer = StateGraph(MessagesState)
    outer.add_node("inner", lambda state: {"messages": inner.invoke(state)["messages"][-1:]})
    outer.add_edge(START, "inner")
    app = outer.compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    seen = [*app.stream({"messages": [("user", "Where?")]}, config, stream_mode=mode, subgraphs=subgraphs)]
    check_nobody_knows({"stream": seen, "state": app.get_state(config).values})


class TestGraphs:
    @pytest.mark.parametrize("how", ["sync", "async"])
    def test_a_withheld_answer_of_a_graph_is_a_message_of_its_state(self, how):
        guarded = wrapped_graph(answers_state)
        asked = {"messages": [("user", "Where?")]}
        state = guarded.invoke(asked) if how == "sync" else asyncio.run(guarded.ainvoke(asked))
        assert [message.text for message in state["messages"]] == ["Where?", ABSTAIN["message"]]
        assert verdict_of(state["messages"][-1])["action"] == "abstain"
        check_nobody_knows({"state": state})

    def test_it_keeps_nothing_else_that_the_graph_found(self):
        def step(state):
            found = provider("text").invoke(state["messages"])
            return {"messages": [found, AIMessage(f"so {found.text}")]}

        guarded = wrapped_graph(step)
        state = guarded.invoke({"messages": [("user", "Hi"), ("ai", "Hello."), ("user", "Where?")]})
        assert [message.text for message in state["messages"]] == [
            "Hi",
            "Hello.",
            "Where?",
            ABSTAIN["message"],
        ]

    @pytest.mark.parametrize("mode", ["values", "updates", "messages", ["updates", "messages"]])
    def test_its_stream_is_one_chunk_of_the_form_that_was_asked_for(self, mode):
        guarded = wrapped_graph(answers_state)
        (chunk,) = guarded.stream({"messages": [("user", "Where?")]}, stream_mode=mode)
        assert ABSTAIN["message"] in repr(chunk)
        check_nobody_knows({"chunk": chunk})
        if mode == "values":
            assert chunk["messages"][-1].text == ABSTAIN["message"]
        elif mode == "updates":
            assert [one.text for one in chunk["answer"]["messages"]] == [ABSTAIN["message"]]
        elif mode == "messages":
            assert chunk[0].text == ABSTAIN["message"]

    def test_an_agent_that_is_wrapped_says_that_it_does_not_know(self):
        agent = Agent(PASS, script=provider("text"), tools=[])
        state = guard(ABSTAIN).wrap(agent.graph).invoke({"messages": [("user", "Where?")]})
        assert [message.text for message in state["messages"]] == ["Where?", ABSTAIN["message"]]

    def test_where_an_error_is_asked_for_it_is_raised(self):
        with pytest.raises(AbstainedError, match="rule no"):
            wrapped_graph(answers_state, on_abstain="raise").invoke({"messages": [("user", "Where?")]})


# Traces hold what was decided.


def facts(run):
    metadata = run.extra.get("metadata") or {}
    return {name: metadata.get(f"uncertainty_{name}") for name in ("action", "rule")} | {
        "confidence": metadata.get("uncertainty_confidence", "missing")
    }


@pytest.mark.parametrize(("rule", "action"), [(ABSTAIN, "abstain"), (PASS, "pass")])
@pytest.mark.parametrize("on_abstain", ["message", "raise"])
@pytest.mark.parametrize("door", ["invoke", "astream"])
def test_a_trace_of_a_wrapped_chain_says_what_was_decided(door, on_abstain, rule, action):
    tracer = opened(door, guard(rule, on_abstain=on_abstain).wrap(provider("text")), "Where?")["tracer"]
    told = {(run.run_type, *facts(run).values()) for run in tracer.runs()}
    expected = (action, rule["id"], None)
    assert {("chain", *expected), ("llm", *expected)} <= told
    if action == "abstain":
        assert leads_to(tracer, canary()) is None


@pytest.mark.parametrize(("rule", "action"), [(ABSTAIN, "abstain"), (PASS, "pass")])
@pytest.mark.parametrize("on_abstain", ["message", "raise"])
@pytest.mark.parametrize("door", ["invoke", "astream"])
def test_a_trace_of_the_chat_model_says_what_was_decided(door, on_abstain, rule, action):
    tracer = opened(door, chat_of(rule, on_abstain=on_abstain), "Where?")["tracer"]
    (run,) = tracer.runs()
    if door in ("invoke", "ainvoke"):
        assert facts(run) == {"action": action, "rule": rule["id"], "confidence": None}
    elif run.error:
        # LangChain hands the run of a stream to nobody.
        assert f"({action}, by its rule {rule['id']!r}, confidence unknown: " in run.error
    else:
        message = run.outputs["generations"][0][0]["message"]["kwargs"]
        verdict = message["response_metadata"]["uncertainty"]
        assert (verdict["action"], verdict["rule"], verdict["confidence"]) == (action, rule["id"], None)


@pytest.mark.parametrize(("rule", "action"), [(ABSTAIN, "abstain"), (PASS, "pass")])
@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_trace_of_an_agent_says_what_was_decided(how, rule, action):
    tracer = Tracer()
    Agent(rule, script=provider("text"), tools=[]).invoke(config={"callbacks": [tracer]}, how=how)
    told = [facts(run)["action"] for run in tracer.runs() if run.run_type == "llm"]
    assert told == [action]


def test_the_metadata_of_the_caller_is_not_written_into():
    metadata = {"who": "me"}
    guard(ABSTAIN).wrap(provider("text")).invoke("Where?", {"metadata": metadata, "callbacks": [Tracer()]})
    assert metadata == {"who": "me"}


def test_an_error_of_what_is_shown_keeps_its_frames():
    with pytest.raises(OutputParserException) as caught:
        guard(PASS).wrap(provider("text") | JsonOutputParser()).invoke("Where?")
    assert leads_to(caught.value, canary())
