"""What runs within a chain, kept from everybody around it until it is decided whether it may be seen.

LangChain tells the callbacks of a run, and of all runs around it, of every token, message and intermediate
value; ``astream_events``, ``astream_log`` and LangGraph's streams are such callbacks too. Here they are taken
off the runs within, and one that writes down what happens stands in for all of them. What it wrote down is
told to them afterwards, or never.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar, cast
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.callbacks.base import BaseCallbackManager
from langchain_core.callbacks.manager import ahandle_event, handle_event
from langchain_core.runnables import RunnableConfig
from langchain_core.tracers import context as tracing
from langchain_core.tracers._streaming import _StreamingCallbackHandler, _V2StreamingCallbackHandler
from langchain_core.tracers.base import AsyncBaseTracer, BaseTracer
from langsmith.run_helpers import tracing_context

from guardrail.langchain.model_calls import CallCollector
from guardrail.langchain.redacting import HeldEvent, without_words
from guardrail.langchain.verdicts import UncertaintyCallbackHandler

__all__ = ["HeldRuns"]

T = TypeVar("T")

# An event, or a write into a stream of LangGraph's.
_Item = HeldEvent | Callable[[], None]

# Every event of LangChain's callbacks, and the attribute of a handler that says that it does not want it.
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
# Told of verdicts, never of drafts.
_OURS = (CallCollector, UncertaintyCallbackHandler)
# Where LangGraph keeps its streams within a config.
_GRAPH_STREAM, _GRAPH_RUNTIME = "__pregel_stream", "__pregel_runtime"


class HeldRuns:
    """What happens within a chain, held back from the handlers around it.

    Args:
        callbacks: The callbacks that the runs within would have; those that are held are taken off it.
        trace_drafts: Leave tracers on, which then see everything as it happens.
    """

    def __init__(self, callbacks: BaseCallbackManager, *, trace_drafts: bool = False) -> None:
        self._items: list[_Item] = []
        self._run_id = callbacks.parent_run_id
        self._trace_drafts = trace_drafts
        hooks = [(hook, inherited) for hook, inherited in _hooks() if not self._is_live(hook.get())]
        self._hooks = [hook for hook, _ in hooks]
        # Those that are inherited are among the callbacks already, maybe as copies.
        ambient = [hook.get() for hook, inherited in hooks if not inherited]
        around = [handler for handler in (*callbacks.handlers, *ambient) if handler is not None]
        self._handlers = _once(
            handler for handler in around if not self._is_live(handler) and not isinstance(handler, _OURS)
        )
        live = [handler for handler in callbacks.handlers if self._is_live(handler)]
        callbacks.set_handlers([*live, _recorder(self._handlers, self._items)], inherit=True)

    def config(self, config: RunnableConfig) -> RunnableConfig:
        """The same config, with LangGraph's streams held as well."""
        values = dict(config.get("configurable") or {})
        if (stream := values.pop(_GRAPH_STREAM, None)) is not None and hasattr(stream, "modes"):
            values[_GRAPH_STREAM] = type(stream)(self._writer(stream), stream.modes)
        if (runtime := values.get(_GRAPH_RUNTIME)) is not None:
            values[_GRAPH_RUNTIME] = runtime.override(stream_writer=self._writer(runtime.stream_writer))
        return cast("RunnableConfig", {**config, "configurable": values})

    @contextmanager
    def isolated(self) -> Iterator[None]:
        """Nothing that listens to the context of the caller hears what runs in this block.

        To be used within a context of its own: what is set is not visible outside, and is set back.
        """
        tokens = [(hook, hook.set(None)) for hook in self._hooks]
        try:
            if self._trace_drafts:
                yield
            else:
                with tracing_context(enabled=False):
                    yield
        finally:
            for hook, token in reversed(tokens):
                hook.reset(token)

    def tell(self, *, redacted: bool) -> None:
        """Tell everybody what happened; once, and nobody of what happens afterwards.

        Args:
            redacted: Only that models ran and what tokens they took, without a word of what was said.
        """
        if redacted:
            for event in self._redacted():
                handle_event(self._counting(), event.name, _EVENTS[event.name], *event.values, **event.named)
            return
        for item in self._taken():
            if isinstance(item, HeldEvent):
                handle_event(self._handlers, item.name, _EVENTS[item.name], *item.values, **item.named)
            else:
                item()

    async def atell(self, *, redacted: bool) -> None:
        """As :meth:`tell`, within an event loop."""
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

    def _taken(self) -> list[_Item]:
        items = [*self._items]
        self._items.clear()
        return items

    def _redacted(self) -> list[HeldEvent]:
        events = [item for item in self._taken() if isinstance(item, HeldEvent)]
        return without_words(events, self._run_id)

    def _counting(self) -> list[BaseCallbackHandler]:
        # A stream would show an empty message.
        return [handler for handler in self._handlers if not isinstance(handler, _StreamingCallbackHandler)]

    def _is_live(self, handler: Any) -> bool:
        tracers = (BaseTracer, AsyncBaseTracer)
        is_stream = isinstance(handler, _StreamingCallbackHandler)
        return self._trace_drafts and isinstance(handler, tracers) and not is_stream

    def _writer(self, write: Callable[[Any], None]) -> Callable[[Any], None]:
        return lambda chunk: self._items.append(partial(write, chunk))


class _Recorder(BaseCallbackHandler):
    """Writes down what it is told. Its methods are added below, one for each event."""

    run_inline = True
    raise_error = True

    def __init__(self, items: list[_Item]) -> None:
        self._items = items


class _StreamingRecorder(_Recorder):
    """Makes models stream, as the handlers that it stands for do; it tells nobody of what it taps."""

    def tap_output_iter(self, run_id: UUID, output: Iterator[T]) -> Iterator[T]:
        return output

    def tap_output_aiter(self, run_id: UUID, output: AsyncIterator[T]) -> AsyncIterator[T]:
        return output


class _V2StreamingRecorder(_StreamingRecorder, _V2StreamingCallbackHandler):
    """The same for the newer protocol."""


def _recording(name: str) -> Callable[..., None]:
    def record(self: _Recorder, *values: Any, **named: Any) -> None:
        self._items.append(HeldEvent(name, values, named))

    return record


for _name in _EVENTS:
    setattr(_Recorder, _name, _recording(_name))


def _recorder(handlers: Sequence[BaseCallbackHandler], items: list[_Item]) -> _Recorder:
    if any(isinstance(handler, _V2StreamingCallbackHandler) for handler in handlers):
        return _V2StreamingRecorder(items)
    if any(isinstance(handler, _StreamingCallbackHandler) for handler in handlers):
        return _StreamingRecorder(items)
    return _Recorder(items)


def _hooks() -> list[tuple[ContextVar[Any], bool]]:
    """The context variables by which handlers come to every run, and whether runs within inherit them."""
    hooks = [(hook, inherited) for hook, inherited, *_ in tracing._configure_hooks]
    return [*hooks, (tracing.tracing_v2_callback_var, True)]


def _once(handlers: Iterable[BaseCallbackHandler]) -> list[BaseCallbackHandler]:
    return [*{id(handler): handler for handler in handlers}.values()]
