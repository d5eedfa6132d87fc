"""Private names of LangChain and LangGraph: what is not as it is known is refused, and nothing leaks."""

import re
import runpy
from contextvars import ContextVar
from importlib import import_module
from pathlib import Path

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers.context import _configure_hooks, register_configure_hook
from langgraph._internal import _constants
from langgraph.graph import START, MessagesState, StateGraph

from guardrail.errors import MissingDependencyError
from guardrail.langchain import _internals
from guardrail.langchain import buffering as holding
from tests.support.guards import PASS
from tests.support.wrapping import ABSTAIN, CANARY, guard, other_model

pytestmark = pytest.mark.usefixtures("one_thread")

ASKED = {"messages": [("user", "Where?")]}
MODES = ["updates", "messages", "values", "custom", "debug"]


@pytest.fixture(autouse=True)
def anew():
    """What is found out once a process is found out anew."""
    found = (_internals._graph_keys, holding._shows_what_is_held)
    for one in found:
        one.cache_clear()
    yield
    for one in found:
        one.cache_clear()


def graph_of(step):
    graph = StateGraph(MessagesState)
    graph.add_node("answer", step)
    graph.add_edge(START, "answer")
    return graph.compile()


def app(rule):
    inner = graph_of(lambda state: {"messages": [other_model().invoke(state["messages"])]})
    guarded = guard(rule).wrap(inner)
    return graph_of(lambda state: {"messages": guarded.invoke(state)["messages"][-1:]})


def seen(graph):
    heard = []
    try:
        heard.extend(map(repr, graph.stream(ASKED, stream_mode=MODES, subgraphs=True)))
    except MissingDependencyError as error:
        return heard, error
    return heard, None


def test_langgraphs_own_names_are_those_that_are_held():
    keys = _internals.graph_keys()
    assert keys == (_constants.CONFIG_KEY_STREAM, _constants.CONFIG_KEY_RUNTIME)


def test_a_graph_within_a_guard_is_held_and_one_that_passes_is_not():
    heard, error = seen(app(ABSTAIN))
    assert error is None
    assert not any(CANARY in one for one in heard)
    heard, _ = seen(app(PASS))
    assert any(CANARY in one for one in heard)


@pytest.mark.parametrize("name", ["CONFIG_KEY_STREAM", "CONFIG_KEY_RUNTIME"])
def test_a_name_that_langgraph_no_longer_has_is_refused(name, monkeypatch):
    monkeypatch.delattr(_constants, name)
    heard, error = seen(app(ABSTAIN))
    assert not any(CANARY in one for one in heard)
    assert "langgraph 1" in str(error)
    assert name in str(error)
    assert 'pip install "guardrail-llm[agents]"' in str(error)
    with pytest.raises(MissingDependencyError):
        guard(PASS).wrap(other_model()).invoke("Where?")


@pytest.mark.parametrize("name", ["CONFIG_KEY_STREAM", "CONFIG_KEY_RUNTIME"])
def test_a_name_that_is_no_longer_the_one_in_use_is_refused(name, monkeypatch):
    monkeypatch.setattr(_constants, name, "__renamed")
    heard, error = seen(app(ABSTAIN))
    assert not any(CANARY in one for one in heard)
    assert "show what is held back" in str(error)


def test_streams_that_come_another_way_are_refused(monkeypatch):
    monkeypatch.setattr(holding.HeldRuns, "config", lambda self, config: config)
    heard, error = seen(app(ABSTAIN))
    assert not any(CANARY in one for one in heard)
    assert "show what is held back" in str(error)


class _Odd:
    pass


@pytest.mark.parametrize("at", ["stream", "runtime"])
def test_what_lies_there_and_cannot_be_held_is_refused(at):
    keys = _internals.graph_keys()
    with pytest.raises(MissingDependencyError, match="langgraph"):
        keys.check({getattr(keys, at): _Odd()})
    keys.check({})


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("langchain_core.tracers.context", "_configure_hooks"),
        ("langchain_core.tracers.context", "tracing_v2_callback_var"),
        ("langchain_core.tracers._streaming", "_StreamingCallbackHandler"),
        ("langchain_core.tracers._streaming", "_V2StreamingCallbackHandler"),
    ],
)
def test_a_name_that_langchain_no_longer_has_is_refused_where_it_is_needed(module, name, monkeypatch):
    monkeypatch.delattr(import_module(module), name)
    with pytest.raises(MissingDependencyError, match=f"langchain-core 1.*{name}.*guardrail-llm"):
        runpy.run_path(_internals.__file__)


def test_no_other_file_uses_a_private_name_of_theirs():
    """Names that begin with one underscore, of modules that are not ours."""
    own = re.compile(
        r"^from lang(?:chain|graph|smith)[\w.]* import .*\b_\w+|import_module\(\"lang|__pregel", re.M
    )
    room = Path(holding.__file__).parent
    found = [path.name for path in room.rglob("*.py") if own.search(path.read_text("utf-8"))]
    assert found == ["_internals.py"]


def test_a_handler_that_langchain_makes_by_itself_hears_nothing_of_what_is_withheld(monkeypatch):
    heard = []

    class Loud(BaseCallbackHandler):
        def on_llm_end(self, response, **named):
            heard.append(repr(response))

    monkeypatch.setenv("LOUD_HANDLER", "true")
    register_configure_hook(ContextVar("loud", default=None), True, Loud, "LOUD_HANDLER")
    try:
        guard(ABSTAIN).wrap(other_model()).invoke("Where?")
        assert not any(CANARY in one for one in heard)
        guard(PASS).wrap(other_model()).invoke("Where?")
        assert any(CANARY in one for one in heard)
    finally:
        _configure_hooks.pop()
