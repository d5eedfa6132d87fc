"""Nobody learns of an answer that is withheld, however they listen; and of one that is shown, all do."""

import asyncio
import warnings

import pytest
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableGenerator, RunnableLambda, RunnableParallel
from langchain_core.tracers.base import BaseTracer
from langchain_core.tracers.context import collect_runs, tracing_v2_enabled
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt
from langsmith import Client, traceable

from guardrail.errors import AbstainedError
from guardrail.langchain.verdicts import get_uncertainty_callback, verdict_of
from tests.support.guards import PASS
from tests.support.wrapping import (
    ABSTAIN,
    BOOK,
    CANARY,
    FLAG,
    PROMPT,
    SAID,
    AsyncListener,
    Listener,
    guard,
    guarded_message,
    merged,
    other_model,
)

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:The v3 streaming protocol"),
]

WITHHELD_AND_SHOWN = pytest.mark.parametrize("rule", [ABSTAIN, PASS], ids=["withheld", "shown"])
ASKED = {"messages": [("user", "Who wrote Faust?")]}


def chains(rule=PASS):
    """Text, message, branches and a function that streams."""

    def streams(values):
        return "".join(chunk.text for chunk in other_model().stream(str(values)))

    return {
        "text": PROMPT | other_model() | StrOutputParser(),
        "message": PROMPT | other_model(),
        "branches": RunnableParallel(a=PROMPT | other_model(), b=streams) | (lambda both: both["b"]),
        "guarded": guard(rule).wrap(PROMPT | other_model() | StrOutputParser()),
    }


def ways(chain):
    """Everything that running it tells the one who runs it."""

    async def later():
        heard = {"ainvoke": await chain.ainvoke(BOOK)}
        heard["astream"] = [chunk async for chunk in chain.astream(BOOK)]
        heard["events"] = [event async for event in chain.astream_events(BOOK, version="v2")]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            heard["log"] = [patch async for patch in chain.astream_log(BOOK)]
        return heard

    return {"invoke": chain.invoke(BOOK), "stream": [*chain.stream(BOOK)], **asyncio.run(later())}


@WITHHELD_AND_SHOWN
@pytest.mark.parametrize("kind", [*chains()])
def test_who_runs_a_chain_learns_of_what_is_shown_alone(kind, rule):
    for way, heard in ways(guard(rule).wrap(chains(rule)[kind])).items():
        words = "".join(map(str, heard)) if way == "stream" else repr(heard)
        assert (CANARY in words) == (rule is PASS), way


@WITHHELD_AND_SHOWN
@pytest.mark.parametrize("listener", [Listener, AsyncListener])
def test_callbacks_learn_of_what_is_shown_alone(rule, listener):
    guarded = guard(rule).wrap(PROMPT | other_model() | StrOutputParser())

    async def later(config):
        await guarded.ainvoke(BOOK, config)
        return [chunk async for chunk in guarded.astream(BOOK, config)]

    for run in (
        lambda config: guarded.invoke(BOOK, config),
        lambda config: [*guarded.stream(BOOK, config)],
        lambda config: guarded.batch([BOOK, BOOK], config),
        lambda config: asyncio.run(later(config)),
        lambda config: guarded.with_config(config).invoke(BOOK),
    ):
        heard = listener()
        run({"callbacks": [heard]})
        assert (CANARY in repr(heard)) == (rule is PASS)
        assert heard.heard


def words_of(run):
    return run.inputs, run.outputs, run.events, run.error, run.serialized, [*map(words_of, run.child_runs)]


class Tracer(BaseTracer):
    """Keeps every run."""

    def __init__(self):
        super().__init__()
        self.kept = []

    def _persist_run(self, run):
        self.kept.append(run)

    def words(self):
        return repr([words_of(run) for run in self.kept])


@WITHHELD_AND_SHOWN
def test_tracers_learn_of_what_is_shown_alone_unless_they_are_to_know_all(rule):
    chain = PROMPT | other_model() | StrOutputParser()
    tracer = Tracer()
    guard(rule).wrap(chain).invoke(BOOK, {"callbacks": [tracer]})
    assert (CANARY in tracer.words()) == (rule is PASS)
    tracer = Tracer()
    listener = Listener()
    open_guard = guard(rule, trace_drafts=True)
    open_guard.wrap(chain).invoke(BOOK, {"callbacks": [tracer, listener]})
    assert CANARY in tracer.words()
    assert (CANARY in repr(listener)) == (rule is PASS)


@pytest.mark.parametrize("trace_drafts", [False, True])
def test_a_trace_has_a_node_of_the_guard_with_the_chains_runs_within(trace_drafts):
    tracer = Tracer()
    guard(PASS, trace_drafts=trace_drafts).wrap(PROMPT | other_model(), name="careful").invoke(
        BOOK, {"callbacks": [tracer]}
    )
    (root,) = tracer.kept
    assert (root.name, [run.name for run in root.child_runs]) == ("careful", ["RunnableSequence"])
    assert [run.name for run in root.child_runs[0].child_runs] == ["ChatPromptTemplate", "OtherModel"]


def test_of_a_withheld_answer_a_trace_has_that_a_model_ran_and_no_word():
    tracer = Tracer()
    guard(ABSTAIN).wrap(PROMPT | other_model() | StrOutputParser()).invoke(BOOK, {"callbacks": [tracer]})
    (root,) = tracer.kept
    (run,) = root.child_runs
    assert (run.name, run.run_type, "Faust" in repr(words_of(run))) == ("OtherModel", "llm", False)


@WITHHELD_AND_SHOWN
def test_what_listens_to_the_context_learns_of_what_is_shown_alone(rule):
    guarded = guard(rule).wrap(PROMPT | other_model() | StrOutputParser())
    with collect_runs() as runs, get_usage_metadata_callback() as usage:
        guarded.invoke(BOOK)
        asyncio.run(guarded.ainvoke(BOOK))
    words = repr([words_of(run) for run in runs.traced_runs])
    assert (CANARY in words) == (rule is PASS)
    assert len(runs.traced_runs) == 2
    assert usage.usage_metadata["o"]["total_tokens"] == 10


class KeepingClient(Client):
    """LangSmith's, but nothing leaves the machine."""

    def __init__(self):
        super().__init__(api_key="none", api_url="http://localhost:1", auto_batch_tracing=False)
        self.sent, self.made = [], []

    def create_run(self, *values, **named):
        self.made.append(named["id"])
        self.sent.append(repr((values, named)))

    def update_run(self, *values, **named):
        self.sent.append(repr((values, named)))


@WITHHELD_AND_SHOWN
@pytest.mark.parametrize("trace_drafts", [False, True])
def test_langsmith_learns_of_what_is_shown_alone_unless_it_is_to_know_all(rule, trace_drafts):
    @traceable
    def repeat(text):
        return text

    client = KeepingClient()
    chain = PROMPT | other_model() | StrOutputParser() | RunnableLambda(repeat)
    with tracing_v2_enabled(client=client):
        guard(rule, trace_drafts=trace_drafts).wrap(chain).invoke(BOOK, {"configurable": {"thread_id": "1"}})
    assert len(client.made) == len({*client.made}) > 1
    assert (CANARY in "".join(client.sent)) == (rule is PASS or trace_drafts)


# LangGraph.


def graph_of(step):
    graph = StateGraph(MessagesState)
    graph.add_node("answer", step)
    graph.add_edge(START, "answer")
    return graph.compile()


def inner_chain(kind):
    """The last message of a chain, or of a graph within the graph; each writes to the custom stream."""
    model = other_model()

    def write(message):
        get_stream_writer()({"draft": message.text})
        return message

    if kind == "chain":
        return RunnableLambda(lambda state: state["messages"]) | model | RunnableLambda(write)
    inner = graph_of(lambda state: {"messages": [write(model.invoke(state["messages"]))]})
    return inner | RunnableLambda(lambda state: state["messages"][-1])


@WITHHELD_AND_SHOWN
@pytest.mark.parametrize("kind", ["chain", "graph"])
def test_no_stream_of_langgraph_shows_what_is_withheld(kind, rule):
    guarded = guard(rule).wrap(inner_chain(kind))
    app = graph_of(lambda state: {"messages": [guarded.invoke(state)]})

    async def astep(state):
        return {"messages": [await guarded.ainvoke(state)]}

    later = graph_of(astep)

    async def heard_later(mode):
        return [chunk async for chunk in later.astream(ASKED, stream_mode=mode, subgraphs=True)]

    modes = ["messages", "updates", "values", "custom", "debug", "tasks"]
    for mode in modes:
        for heard in (
            [*app.stream(ASKED, stream_mode=mode)],
            [*app.stream(ASKED, stream_mode=mode, subgraphs=True)],
            asyncio.run(heard_later(mode)),
        ):
            shown = rule is PASS and (mode != "custom" or kind == "chain")
            words = "".join(str(getattr(part, "content", part)) for part in heard)
            assert (CANARY in words) in ({shown, True} if rule is PASS and mode == "custom" else {shown}), (
                mode
            )
    for chunk in app.stream(ASKED, stream_mode=modes, subgraphs=True):
        assert rule is PASS or CANARY not in repr(chunk)


@WITHHELD_AND_SHOWN
@pytest.mark.parametrize("version", ["v2", "v3"])
def test_no_event_of_langgraph_shows_what_is_withheld(version, rule):
    guarded = guard(rule).wrap(inner_chain("chain"))

    async def step(state):
        return {"messages": [await guarded.ainvoke(state)]}

    async def heard():
        events = graph_of(step).astream_events(ASKED, version=version)
        return [event async for event in (await events if version == "v3" else events)]

    events = asyncio.run(heard())
    assert events
    assert (CANARY in repr(events)) == (rule is PASS)


def test_shown_tokens_come_as_tokens_after_the_verdict():
    guarded = guard(PASS).wrap(inner_chain("chain"))
    app = graph_of(lambda state: {"messages": [guarded.invoke(state)]})
    messages = [message for message, _ in app.stream(ASKED, stream_mode="messages")]
    texts = [message.text for message in messages if isinstance(message, AIMessageChunk)]
    assert texts[:3] == [f"{CANARY} ", "wrote ", "it"]


def test_an_interrupt_within_a_guarded_chain_works():
    def review(message):
        return AIMessage(interrupt({"draft": message.text}))

    def app(rule):
        guarded = guard(rule).wrap(RunnableLambda(lambda state: state["messages"]) | other_model() | review)
        graph = StateGraph(MessagesState)
        graph.add_node("answer", lambda state: {"messages": [guarded.invoke(state)]})
        graph.add_edge(START, "answer")
        return graph.compile(checkpointer=InMemorySaver())

    config = {"configurable": {"thread_id": "1"}}
    shown = app(PASS)
    assert shown.invoke(ASKED, config)["__interrupt__"][0].value == {"draft": SAID}
    assert shown.invoke(Command(resume="Goethe"), config)["messages"][-1].text == "Goethe"
    with pytest.raises(AbstainedError, match="GraphInterrupt"):
        app(ABSTAIN).invoke(ASKED, config)


# What a stream is made of.


def test_a_stream_that_is_shown_has_the_chains_chunks_and_one_verdict():
    chunks = [*guard(FLAG).wrap(PROMPT | other_model()).stream(BOOK)]
    assert [chunk.text for chunk in chunks if chunk.text] == [f"{CANARY} ", "wrote ", "it"]
    assert [verdict_of(chunk) is not None for chunk in chunks] == [*[False] * (len(chunks) - 1), True]
    assert verdict_of(merged(chunks))["action"] == "flag"


def test_a_stream_that_is_withheld_is_one_chunk():
    (chunk,) = guard(ABSTAIN).wrap(PROMPT | other_model()).stream(BOOK)
    assert (chunk.content, verdict_of(chunk)["action"]) == (ABSTAIN["message"], "abstain")
    assert chunk.chunk_position == "last"


def test_a_guard_in_the_middle_of_a_chain_takes_and_gives_streams():
    chain = RunnableLambda(lambda text: text) | guard(PASS).wrap(other_model() | StrOutputParser())
    assert [*filter(None, chain.stream("Who?"))] == [f"{CANARY} ", "wrote ", "it"]


def telling_chain():
    """A chain that streams three letters, and a list of those that it has given already."""
    said = []

    def answer(chunks):
        other_model("abc").invoke(next(chunks))
        for letter in "abc":
            said.append(letter)
            yield letter

    return said, RunnableGenerator(answer)


@pytest.mark.parametrize("streaming", ["annotate", "buffer"])
def test_annotate_streams_as_it_comes_and_buffer_does_not(streaming):
    said, chain = telling_chain()
    chunks = guard(FLAG, streaming=streaming).wrap(chain).stream("Who?")
    assert next(chunks) == "a"
    assert said == (["a", "b"] if streaming == "annotate" else ["a", "b", "c"])
    assert [*chunks] == ["b", "c"]


def test_annotate_puts_one_verdict_on_the_last_chunk():
    async def later(chain):
        return [chunk async for chunk in chain.astream(BOOK)]

    for model in (other_model(), other_model(guarded_message(SAID, "pass"))):
        guarded = guard(FLAG, streaming="annotate").wrap(PROMPT | model)
        for chunks in ([*guarded.stream(BOOK)], asyncio.run(later(guarded))):
            assert merged(chunks).text == SAID
            assert [verdict_of(chunk) is not None for chunk in chunks] == [*[False] * (len(chunks) - 1), True]
            assert verdict_of(merged(chunks))["action"] in ("flag", "pass")


def test_annotate_lets_callbacks_hear_everything_as_it_comes():
    heard = Listener()
    chunks = (
        guard(FLAG, streaming="annotate").wrap(PROMPT | other_model()).stream(BOOK, {"callbacks": [heard]})
    )
    next(chunks)
    assert "on_llm_new_token" in heard.events()
    assert "on_custom_event" not in heard.events()
    assert len([*chunks]) >= 2
    assert heard.events()[-2:] == ["on_custom_event", "on_chain_end"]


def test_annotate_tells_at_the_end_of_an_answer_that_could_not_be_checked():
    fields = {"streaming": "annotate", "on_error": {"action": "abstain", "message": "Not checked."}}
    chunks = guard(FLAG, **fields).wrap(RunnableLambda(lambda asked: SAID)).stream("Who?")
    with pytest.raises(AbstainedError, match="Not checked"):
        next(chunks)


def test_annotate_leaves_what_a_models_own_guard_said():
    own = other_model(guarded_message("I do not know.", "abstain", message="I do not know."))
    guarded = guard(FLAG, streaming="annotate").wrap(own)
    assert merged([*guarded.stream("Who?")]).text == "I do not know."


def test_an_error_within_an_annotated_stream_is_the_chains_own():
    chunks = guard(FLAG, streaming="annotate").wrap(other_model(breaks_after=2)).stream("Who?")
    with pytest.raises(ConnectionError):
        list(chunks)


def test_a_stream_that_breaks_off_shows_nothing_of_what_is_withheld():
    broken = other_model(breaks_after=2)
    with pytest.raises(AbstainedError, match="ConnectionError"):
        list(guard(ABSTAIN).wrap(broken).stream("Who?"))
    with pytest.raises(ConnectionError):
        list(guard(PASS).wrap(broken).stream("Who?"))


def test_a_stream_that_is_left_ends_the_chain():
    closed = []

    def answer(chunks):
        try:
            yield from "abc"
        finally:
            closed.append("sync")

    async def aanswer(chunks):
        try:
            for letter in "abc":
                yield letter
        finally:
            closed.append("async")

    async def later():
        chunks = guarded.astream("Who?")
        assert await anext(chunks) == "a"
        await chunks.aclose()
        return [*closed]

    guarded = guard(FLAG, streaming="annotate").wrap(RunnableGenerator(answer, aanswer))
    chunks = guarded.stream("Who?")
    assert next(chunks) == "a"
    chunks.close()
    assert closed == ["sync"]
    assert asyncio.run(later()) == ["sync", "async"]


def test_the_verdict_is_an_event_of_its_own():
    async def heard():
        chain = guard(ABSTAIN).wrap(PROMPT | other_model() | StrOutputParser())
        return [event async for event in chain.astream_events(BOOK, version="v2")]

    (event,) = [event for event in asyncio.run(heard()) if event["event"] == "on_custom_event"]
    assert (event["name"], event["data"]["action"]) == ("uncertainty", "abstain")


def test_verdicts_are_read_from_streams_too():
    with get_uncertainty_callback() as verdicts:
        for streaming in ("buffer", "annotate"):
            list(guard(FLAG, streaming=streaming).wrap(PROMPT | other_model()).stream(BOOK))
    assert [verdict["action"] for verdict in verdicts] == ["flag", "flag"]


@pytest.mark.parametrize("how", ["invoke", "stream"])
@pytest.mark.parametrize("mode", ["values", "updates", "messages"])
def test_in_langgraphs_newer_form_the_message_has_its_place_too(mode, how):
    model = other_model()
    app = graph_of(lambda state: {"messages": [model.invoke(state["messages"])]})
    guarded = guard(ABSTAIN).wrap(app)
    if how == "invoke":
        seen = guarded.invoke(ASKED, version="v2")
        assert seen.interrupts == ()
        assert [message.text for message in seen.value["messages"]][1:] == [ABSTAIN["message"]]
    else:
        (seen,) = guarded.stream(ASKED, stream_mode=mode, version="v2")
        assert (seen["type"], seen["ns"]) == (mode, ())
        assert ABSTAIN["message"] in repr(seen["data"])
        assert type(seen["data"]) is (tuple if mode == "messages" else dict)
    assert CANARY not in repr(seen)
