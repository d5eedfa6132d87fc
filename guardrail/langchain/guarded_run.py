"""One run of a guarded chain: watched while it runs, decided on when it ends, and isolated from its caller.

Inputs are copied, errors are passed on without their causes, and streams are closed.
"""

import asyncio
import copy
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from contextvars import Context
from dataclasses import fields, is_dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import set_config_context
from pydantic import BaseModel

from guardrail.langchain.buffering import HeldRuns, make_sure_that_graphs_are_held
from guardrail.langchain.model_calls import CallCollector, ModelCall
from guardrail.langchain.outcome import ChainOutcome, ChainResult, Ending, Whole, ending_of, joined
from guardrail.langchain.verdicts import VERDICT_EVENT, CarriedVerdict, TracedVerdict, note_in_traces, traced

if TYPE_CHECKING:
    from langchain_core.callbacks.base import BaseCallbackManager

    from guardrail.langchain.wrapper import UncertaintyGuard

__all__ = [
    "NOTHING",
    "GuardedRun",
    "Watch",
    "aclose",
    "aiter_of",
    "amap",
    "anext_of",
    "bare",
    "closed",
    "copied",
    "finished",
]


T = TypeVar("T")
E = TypeVar("E", bound=BaseException)


def copied(value: T) -> T:
    """Copy mutable data recursively: lists, dicts, sets, tuples, messages, dataclasses and pydantic models.

    Other objects (clients, files, tensors) are not data, and are shared with the original.
    """
    return _copied(value, {})  # type: ignore[no-any-return]


def _copied(value: Any, known: dict[int, Any]) -> Any:
    if id(value) in known:
        return known[id(value)]
    twin: Any
    if isinstance(value, dict):
        twin = known[id(value)] = copy.copy(value)
        for key, one in value.items():
            twin[key] = _copied(one, known)
        return twin
    if isinstance(value, list | deque):
        twin = known[id(value)] = copy.copy(value)
        for at, one in enumerate(value):
            twin[at] = _copied(one, known)
        return twin
    if isinstance(value, set | bytearray):
        return copy.copy(value)
    if isinstance(value, tuple):
        parts = [_copied(one, known) for one in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, Runnable):
        return value
    if isinstance(value, BaseModel):
        twin = known[id(value)] = value.model_copy()
        for values in (twin.__dict__, twin.__pydantic_extra__ or {}):
            for key, one in values.items():
                values[key] = _copied(one, known)
        return twin
    if is_dataclass(value) and not isinstance(value, type):
        twin = known[id(value)] = copy.copy(value)
        for one in fields(value):
            # Works for frozen dataclasses too, and is safe because nothing else refers to the copy yet.
            object.__setattr__(twin, one.name, _copied(getattr(value, one.name), known))
        return twin
    return value


def bare(error: E) -> E:
    """Strip an error of its traceback, cause and context; its own message stays.

    Use it for errors that are passed on although an answer is withheld.
    """
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error


# Marks the end of a stream.
NOTHING: Any = object()


async def amap(change: Callable[[T], T], chunks: AsyncIterator[T]) -> AsyncIterator[T]:
    """Apply a function to every chunk of a stream."""
    async for chunk in chunks:
        yield change(chunk)


async def aiter_of(value: T) -> AsyncIterator[T]:
    """Make a stream of one chunk."""
    yield value


async def anext_of(chunks: AsyncIterator[Any]) -> Any:
    """Return the next chunk, or ``NOTHING`` at the end of the stream."""
    return await anext(chunks, NOTHING)


@asynccontextmanager
async def closed(chunks: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Close a stream as soon as its reader leaves the block, and not when it is garbage-collected."""
    try:
        yield chunks
    finally:
        await aclose(chunks)


async def aclose(chunks: AsyncIterator[Any]) -> None:
    """Close a stream if it can be closed."""
    if isinstance(chunks, AsyncGenerator):
        await chunks.aclose()


class Watch:
    """Watcher of a chain's run and of all runs within it.

    Args:
        config: Config of the run; its callbacks are a manager that no other run uses.
        hold: Buffer all events until :meth:`HeldRuns.tell`.
        trace_drafts: Let tracers receive events as they happen, even if the others are buffered.

    Raises:
        MissingDependencyError: This version of LangGraph is not supported.

    Attributes:
        config: Config to run the chain with.
        held: Buffered events; None if nothing is buffered.
    """

    def __init__(self, config: RunnableConfig, *, hold: bool, trace_drafts: bool) -> None:
        if hold:
            make_sure_that_graphs_are_held()
        callbacks = cast("BaseCallbackManager", config["callbacks"])
        config = {**config, "metadata": copied(config.get("metadata") or {})}
        self._collector = CallCollector()
        self.held = HeldRuns(callbacks, trace_drafts=trace_drafts) if hold else None
        callbacks.add_handler(self._collector, inherit=True)
        self.config = self.held.config(config) if self.held else config

    @property
    def calls(self) -> list[ModelCall]:
        """Model calls so far."""
        return self._collector.calls

    @property
    def has_answers(self) -> bool:
        """Whether a model has given an answer or part of one."""
        return any(call.text is not None for call in self.calls)

    def forget(self) -> None:
        """Drop everything recorded, because a config kept alive by a traceback refers to it."""
        self._collector.forget()
        if self.held is not None:
            self.held.forget()

    @contextmanager
    def context(self) -> Iterator[Context]:
        """Enter a context whose default config is this one."""
        with set_config_context(self.config) as context:
            yield context

    def run(self, call: Callable[[], T]) -> T:
        """Run a function with its events buffered."""

        def isolated() -> T:
            with self.held.isolated() if self.held else nullcontext():
                return call()

        with self.context() as context:
            return context.run(isolated)

    async def arun(self, call: Callable[[], Awaitable[T]]) -> T:
        """Async version of :meth:`run`."""

        async def isolated() -> T:
            with self.held.isolated() if self.held else nullcontext():
                return await call()

        with self.context() as context:
            return await asyncio.create_task(isolated(), context=context)


class GuardedRun:
    """One run of a guarded chain.

    Args:
        guard: Guard that decides on the answers.
        manager: Callback manager of the run.
        config: Config of the run.

    Attributes:
        watch: Watcher of the runs within the chain.
        asked: Chunks of the chain's input read so far.
    """

    def __init__(
        self,
        guard: "UncertaintyGuard",
        manager: CallbackManagerForChainRun | AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
    ) -> None:
        self._guard, self._manager = guard, manager
        self.watch = Watch(config, hold=not guard.streams_live, trace_drafts=guard.trace_drafts)
        self.asked: list[Any] = []

    def take(self, chunk: T) -> T:
        """Record a chunk of the input, and return a copy that the chain may modify."""
        self.asked.append(chunk)
        return copied(chunk)

    def decided(self, read: "Callable[[GuardedRun], ChainResult]") -> Ending:
        """Run the chain with its events buffered, and end the run.

        Args:
            read: Function that runs the chain and returns its result.
        """
        result: ChainResult = Whole()
        error = None
        try:
            result = self.watch.run(partial(read, self))
        except BaseException as raised:  # noqa: BLE001  (raised again, unless it may carry what is withheld)
            error = raised
        return self.end(result, error)

    async def adecided(self, read: "Callable[[GuardedRun], Awaitable[ChainResult]]") -> Ending:
        """Async version of :meth:`decided`."""
        result: ChainResult = Whole()
        error = None
        try:
            result = await self.watch.arun(partial(read, self))
        except BaseException as raised:  # noqa: BLE001  (as above)
            error = raised
        return await self.aend(result, error)

    def end(self, result: ChainResult, error: BaseException | None = None) -> Ending:
        """Decide, release what the verdict allows, and return the output or error that the run ends with.

        Errors are returned and not raised, because a traceback would expose the chain's result.

        Args:
            result: Result of the chain.
            error: Error that the chain raised instead.
        """
        try:
            ending = self._interrupted(error) or self._ended(result, cast("Exception | None", error))
        except BaseException as problem:  # noqa: BLE001  (raised by whoever called this)
            ending = Ending(error=bare(problem))
        finally:
            self.watch.forget()
        return ending

    async def aend(self, result: ChainResult, error: BaseException | None = None) -> Ending:
        """Async version of :meth:`end`."""
        try:
            ending = self._interrupted(error) or await self._aended(result, cast("Exception | None", error))
        except BaseException as problem:  # noqa: BLE001  (as above)
            ending = Ending(error=bare(problem))
        finally:
            self.watch.forget()
        return ending

    def _interrupted(self, error: BaseException | None) -> Ending | None:
        """End a run at once if it was stopped from outside, without a verdict; None for any other run."""
        if error is None or isinstance(error, Exception):
            return None
        return Ending(error=bare(error) if self.watch.calls else error)

    def _ended(self, result: ChainResult, error: Exception | None) -> Ending:
        asked, outcome = joined(self.asked), None
        if self._is_decided(error):
            run_id, tags = self._manager.run_id, self._manager.tags
            outcome = self._guard.decide(self.watch.calls, asked, run_id=run_id, tags=tags)
        ending = ending_of(outcome, result, error, self._guard.on_abstain, asked)
        if self.watch.held is not None:
            self.watch.held.tell(redacted=not ending.reveals, facts=_facts_of(outcome))
        around: Any = self._manager.get_child()
        for event in self._noted(outcome):
            around.on_custom_event(VERDICT_EVENT, event, run_id=self._manager.run_id)
        return ending

    async def _aended(self, result: ChainResult, error: Exception | None) -> Ending:
        asked, outcome = joined(self.asked), None
        if self._is_decided(error):
            run_id, tags = self._manager.run_id, self._manager.tags
            outcome = await self._guard.adecide(self.watch.calls, asked, run_id=run_id, tags=tags)
        ending = ending_of(outcome, result, error, self._guard.on_abstain, asked)
        if self.watch.held is not None:
            await self.watch.held.atell(redacted=not ending.reveals, facts=_facts_of(outcome))
        around: Any = self._manager.get_child()
        for event in self._noted(outcome):
            await around.on_custom_event(VERDICT_EVENT, event, run_id=self._manager.run_id)
        return ending

    def _noted(self, outcome: ChainOutcome | None) -> list[CarriedVerdict]:
        """Return the verdicts as events, and write the decisive one into the trace."""
        if outcome is None:
            return []
        note_in_traces(self._manager, outcome.verdict.plain)
        return [verdict.with_run_id() for verdict in outcome.verdicts]

    def _is_decided(self, error: Exception | None) -> bool:
        # If the chain failed before any model answered, there is nothing to decide on.
        return error is None or self.watch.has_answers


def _facts_of(outcome: ChainOutcome | None) -> dict[UUID, TracedVerdict]:
    return {verdict.run_id: traced(verdict.plain) for verdict in outcome.verdicts} if outcome else {}


def finished(ending: Ending) -> Any:
    """Return the output or raise the error that a run ends with, outside the frames that hold its result.

    Raises:
        AbstainedError: The output is withheld, and either a message cannot take its place or the guard raises
            wherever nothing answers.
    """
    if ending.error is not None:
        raise ending.error
    return ending.given
