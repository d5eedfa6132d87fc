"""Buffer a chain's callback events until the verdict, then release them in full or without text."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import Context
from functools import cache, partial
from typing import Any, NamedTuple, TypeVar, cast
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.callbacks.base import BaseCallbackManager
from langchain_core.callbacks.manager import ahandle_event, handle_event
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, Generation, LLMResult
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import set_config_context
from langchain_core.tracers.base import AsyncBaseTracer, BaseTracer
from langsmith.run_helpers import tracing_context

from guardrail.errors import MissingDependencyError
from guardrail.langchain._internals import (
    EventStreamingHandler,
    StreamingHandler,
    graph_keys,
    hooks,
    unsupported,
)
from guardrail.langchain.verdicts import UncertaintyCallbackHandler

__all__ = ["HeldEvent", "HeldRuns", "make_sure_that_graphs_are_held", "without_words"]


# Keyword arguments of an event that are kept when it is redacted.
_KEPT = ("run_id", "tags", "metadata", "name")
_NOTHING_ASKED: dict[str, list[Any]] = {"on_chat_model_start": [[]], "on_llm_start": [""]}


class HeldEvent(NamedTuple):
    """A LangChain callback event.

    Attributes:
        name: Name of the callback method.
        values: Positional arguments.
        named: Keyword arguments.
    """

    name: str
    values: tuple[Any, ...]
    named: dict[str, Any]


def without_words(events: Sequence[HeldEvent], parent: UUID | None) -> list[HeldEvent]:
    """Reduce events to the start and end of each model run that ended, as direct children of ``parent``."""
    ended = {event.named["run_id"] for event in events if event.name == "on_llm_end"}
    kept = []
    for name, values, named in events:
        if named.get("run_id") not in ended:
            continue
        facts = {key: named[key] for key in _KEPT if key in named} | {"parent_run_id": parent}
        if name in _NOTHING_ASKED:
            kept.append(HeldEvent(name, (_names(values[0]), _NOTHING_ASKED[name]), facts))
        elif name == "on_llm_end":
            kept.append(HeldEvent(name, (_silent_result(values[0]),), facts))
    return kept


def _names(serialized: Any) -> dict[str, Any]:
    """Keep the names of a serialized model, and drop its constructor arguments."""
    return {key: serialized[key] for key in ("id", "name") if key in (serialized or {})}


def _silent_result(response: LLMResult) -> LLMResult:
    usage = (response.llm_output or {}).get("token_usage")
    return LLMResult(
        generations=[[_silent(generation) for generation in several] for several in response.generations],
        llm_output={"token_usage": usage} if usage else None,
    )


def _silent(generation: Any) -> Generation:
    if not isinstance(generation, ChatGeneration):
        return Generation(text="")
    message = generation.message
    model = message.response_metadata.get("model_name")
    silent = AIMessage(
        content="",
        usage_metadata=getattr(message, "usage_metadata", None),
        response_metadata={"model_name": model} if model else {},
    )
    return ChatGeneration(message=silent)


T = TypeVar("T")

# Metadata to add to runs, by run id.
Facts = Mapping[Any, Mapping[str, Any]]
# A callback event, or a pending write to a LangGraph stream.
_Item = HeldEvent | Callable[[], None]

# Every LangChain callback event, and the handler attribute that opts out of it.
_EVENTS: Mapping[str, str | None] = {
    "on_agent_action": "ignore_agent",
    "on_agent_finish": "ignore_agent",
    "on_chain_end": "ignore_chain",
    "on_chain_error": "ignore_chain",
    "on_chain_start": "ignore_chain",
    "on_chat_model_start": "ignore_chat_model",
    "on_custom_event": "ignore_custom_event",
    "on_llm_end": "ignore_llm",
    "on_llm_error": "ignore_llm",
    "on_llm_new_token": "ignore_llm",
    "on_llm_start": "ignore_llm",
    "on_retriever_end": "ignore_retriever",
    "on_retriever_error": "ignore_retriever",
    "on_retriever_start": "ignore_retriever",
    "on_retry": "ignore_retry",
    "on_stream_event": "ignore_llm",
    "on_text": None,
    "on_tool_end": "ignore_agent",
    "on_tool_error": "ignore_agent",
    "on_tool_start": "ignore_agent",
}


class HeldRuns:
    """Buffer for the callback events of a chain, kept from the surrounding handlers until the verdict.

    Args:
        callbacks: Callback manager for the runs within the chain. The buffered handlers are removed from it.
        trace_drafts: Keep tracers attached; they then receive every event as it happens.
    """

    def __init__(self, callbacks: BaseCallbackManager, *, trace_drafts: bool = False) -> None:
        self._items: list[_Item] = []
        self._run_id = callbacks.parent_run_id
        self._trace_drafts = trace_drafts
        self._hooks = [hook for hook in hooks() if not self._is_live(hook.variable.get())]
        # Inherited handlers are in the callback manager already, possibly as copies.
        ambient = [hook.variable.get() for hook in self._hooks if not hook.inherited]
        around = [handler for handler in (*callbacks.handlers, *ambient) if handler is not None]
        self._handlers = _once(
            handler
            for handler in around
            if not self._is_live(handler) and not isinstance(handler, UncertaintyCallbackHandler)
        )
        live = [handler for handler in callbacks.handlers if self._is_live(handler)]
        self._recorder = _recorder(self._handlers, self._items)
        callbacks.set_handlers([*live, self._recorder], inherit=True)

    def config(self, config: RunnableConfig) -> RunnableConfig:
        """Return a copy of the config in which LangGraph's streams are buffered as well.

        Raises:
            MissingDependencyError: This version of LangGraph is not supported.
        """
        values = dict(config.get("configurable") or {})
        keys = graph_keys()
        if keys is not None:
            keys.check(values)
            if (stream := values.get(keys.stream)) is not None:
                values[keys.stream] = type(stream)(self._writer(stream), stream.modes)
            if (runtime := values.get(keys.runtime)) is not None:
                values[keys.runtime] = runtime.override(stream_writer=self._writer(runtime.stream_writer))
        return cast("RunnableConfig", {**config, "configurable": values})

    @contextmanager
    def isolated(self) -> Iterator[None]:
        """Hide the runs in this block from handlers in the caller's context variables.

        Use it within a separate :class:`~contextvars.Context`, so that the variables it sets are not visible
        outside. They are reset at the end of the block.
        """
        # LangChain would create a handler for an empty variable, so the recorder takes its place.
        tokens = [
            (hook.variable, hook.variable.set(self._recorder if hook.makes_one else None))
            for hook in self._hooks
        ]
        try:
            if self._trace_drafts:
                yield
            else:
                with tracing_context(enabled=False):
                    yield
        finally:
            for variable, token in reversed(tokens):
                variable.reset(token)

    def tell(self, *, redacted: bool, facts: Facts | None = None) -> None:
        """Release the buffered events to the handlers, once; later events are not released.

        Args:
            redacted: Release only that models ran and the tokens they used, without any text.
            facts: Metadata to add to runs, by run id.
        """
        self._note(facts or {})
        if redacted:
            for event in self._redacted():
                handle_event(self._counting(), event.name, _EVENTS[event.name], *event.values, **event.named)
            return
        for item in self._taken():
            if isinstance(item, HeldEvent):
                handle_event(self._handlers, item.name, _EVENTS[item.name], *item.values, **item.named)
            else:
                item()

    async def atell(self, *, redacted: bool, facts: Facts | None = None) -> None:
        """Async version of :meth:`tell`."""
        self._note(facts or {})
        if redacted:
            for event in self._redacted():
                ignored = _EVENTS[event.name]
                await ahandle_event(self._counting(), event.name, ignored, *event.values, **event.named)
            return
        for item in self._taken():
            if isinstance(item, HeldEvent):
                ignored = _EVENTS[item.name]
                await ahandle_event(self._handlers, item.name, ignored, *item.values, **item.named)
            else:
                item()

    def forget(self) -> None:
        """Drop the buffered events without releasing them."""
        self._items.clear()

    def _note(self, facts: Facts) -> None:
        for at, item in enumerate(self._items):
            known = facts.get(item.named.get("run_id")) if isinstance(item, HeldEvent) else None
            if isinstance(item, HeldEvent) and known and item.name in ("on_chat_model_start", "on_llm_start"):
                metadata = {**(item.named.get("metadata") or {}), **known}
                self._items[at] = item._replace(named={**item.named, "metadata": metadata})

    def _taken(self) -> list[_Item]:
        items = [*self._items]
        self._items.clear()
        return items

    def _redacted(self) -> list[HeldEvent]:
        events = [item for item in self._taken() if isinstance(item, HeldEvent)]
        return without_words(events, self._run_id)

    def _counting(self) -> list[BaseCallbackHandler]:
        # A streaming handler would emit an empty message.
        return [handler for handler in self._handlers if not isinstance(handler, StreamingHandler)]

    def _is_live(self, handler: Any) -> bool:
        tracers = (BaseTracer, AsyncBaseTracer)
        is_stream = isinstance(handler, StreamingHandler)
        return self._trace_drafts and isinstance(handler, tracers) and not is_stream

    def _writer(self, write: Callable[[Any], None]) -> Callable[[Any], None]:
        return lambda chunk: self._items.append(partial(write, chunk))


class _Recorder(BaseCallbackHandler):
    """Callback handler that records every event. Its methods are added below, one per event."""

    run_inline = True
    raise_error = True

    def __init__(self, items: list[_Item]) -> None:
        self._items = items


class _StreamingRecorder(_Recorder):
    """Recorder that makes models stream, as the buffered handlers would; tapped output is unchanged."""

    def tap_output_iter(self, run_id: UUID, output: Iterator[T]) -> Iterator[T]:
        return output

    def tap_output_aiter(self, run_id: UUID, output: AsyncIterator[T]) -> AsyncIterator[T]:
        return output


class _V2StreamingRecorder(_StreamingRecorder, EventStreamingHandler):
    """Streaming recorder for the v2 event protocol."""


def _recording(name: str) -> Callable[..., None]:
    def record(self: _Recorder, *values: Any, **named: Any) -> None:
        self._items.append(HeldEvent(name, values, named))

    return record


for _name in _EVENTS:
    setattr(_Recorder, _name, _recording(_name))


def _recorder(handlers: Sequence[BaseCallbackHandler], items: list[_Item]) -> _Recorder:
    if any(isinstance(handler, EventStreamingHandler) for handler in handlers):
        return _V2StreamingRecorder(items)
    if any(isinstance(handler, StreamingHandler) for handler in handlers):
        return _StreamingRecorder(items)
    return _Recorder(items)


def make_sure_that_graphs_are_held() -> None:
    """Buffer a small graph within another and check that no stream shows its output; once per process.

    The names alone are not enough: LangGraph may also change which stream carries which data.

    Raises:
        MissingDependencyError: A stream shows buffered output, or the small graph fails.
    """
    if graph_keys() is None:
        return
    try:
        # In an empty context, so that it is neither traced nor part of the caller's run.
        shows = Context().run(_shows_what_is_held)
    except MissingDependencyError:
        raise
    except Exception as problem:
        raise unsupported("langgraph", f"a small graph cannot be held back ({problem!r})") from problem
    if shows:
        raise unsupported("langgraph", "its streams show what is held back")


@cache
def _shows_what_is_held() -> bool:
    from langchain_core.callbacks import CallbackManager
    from langchain_core.messages import AIMessage
    from langgraph.config import get_config, get_stream_writer
    from langgraph.graph import START, MessagesState, StateGraph

    word = "guardrail-held"

    def graph_of(step: Any) -> Any:
        graph = StateGraph(MessagesState)
        graph.add_node("step", step)
        graph.add_edge(START, "step")
        return graph.compile()

    def says(_: MessagesState) -> dict[str, Any]:
        get_stream_writer()(word)
        return {"messages": [AIMessage(word)]}

    def holds(state: MessagesState) -> dict[str, Any]:
        config = get_config()
        callbacks = CallbackManager.configure(inheritable_callbacks=config.get("callbacks"))
        held = HeldRuns(callbacks)
        inner = held.config({**config, "callbacks": callbacks})

        def run() -> None:
            with held.isolated():
                said.invoke(state, inner)

        with set_config_context(inner) as context:
            context.run(run)
        return {"messages": []}

    said, holding = graph_of(says), graph_of(holds)
    modes = ["values", "updates", "messages", "custom", "debug", "tasks", "checkpoints"]
    with tracing_context(enabled=False):
        shown = [*holding.stream({"messages": []}, stream_mode=modes, subgraphs=True)]
    return word in repr(shown)


def _once(handlers: Iterable[BaseCallbackHandler]) -> list[BaseCallbackHandler]:
    return [*{id(handler): handler for handler in handlers}.values()]
