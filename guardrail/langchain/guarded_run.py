"""One run of a guarded chain: watched while it runs, decided on when it ends, kept apart from its callers.

Inputs are copied, errors passed on without their cause, streams closed.
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
    """A copy of everything that can be written into, as deep as lists, dicts, sets and messages go.

    Other objects (clients, files, tensors) stay the same: they are no data.
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
            # Also of a frozen one: nobody else has the copy yet.
            object.__setattr__(twin, one.name, _copied(getattr(value, one.name), known))
        return twin
    return value


def bare(error: E) -> E:
    """An error without the frames that it went through, and without the errors that it came of.

    What it says itself stays. For errors that are passed on although an answer is withheld.
    """
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error


# What comes after the last chunk.
NOTHING: Any = object()


async def amap(change: Callable[[T], T], chunks: AsyncIterator[T]) -> AsyncIterator[T]:
    """The same stream, each chunk changed."""
    async for chunk in chunks:
        yield change(chunk)


async def aiter_of(value: T) -> AsyncIterator[T]:
    """A stream of one chunk."""
    yield value


async def anext_of(chunks: AsyncIterator[Any]) -> Any:
    """The next chunk, or ``NOTHING``."""
    return await anext(chunks, NOTHING)


@asynccontextmanager
async def closed(chunks: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """A stream that is closed when whoever reads it leaves, and not some time later."""
    try:
        yield chunks
    finally:
        await aclose(chunks)


async def aclose(chunks: AsyncIterator[Any]) -> None:
    """Close a stream, if it can be."""
    if isinstance(chunks, AsyncGenerator):
        await chunks.aclose()


class Watch:
    """A run of a chain, and all that runs within it.

    Args:
        config: The config that the chain would be run with: its callbacks are a manager of its own.
        hold: Keep what happens from everybody around until :meth:`HeldRuns.tell`.
        trace_drafts: But for tracers.

    Raises:
        MissingDependencyError: This version of LangGraph is not known.

    Attributes:
        config: The config to run the chain with.
        held: What happened; None where nothing is kept from anybody.
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
        """The calls of models until now."""
        return self._collector.calls

    @property
    def has_answers(self) -> bool:
        """Whether a model gave an answer, or a part of one."""
        return any(call.text is not None for call in self.calls)

    def forget(self) -> None:
        """Keep nothing of what happened: a config that a traceback holds leads here."""
        self._collector.forget()
        if self.held is not None:
            self.held.forget()

    @contextmanager
    def context(self) -> Iterator[Context]:
        """A context in which whatever is not handed a config runs with this one."""
        with set_config_context(self.config) as context:
            yield context

    def run(self, call: Callable[[], T]) -> T:
        """Run something that nobody around hears of yet."""

        def isolated() -> T:
            with self.held.isolated() if self.held else nullcontext():
                return call()

        with self.context() as context:
            return context.run(isolated)

    async def arun(self, call: Callable[[], Awaitable[T]]) -> T:
        """The same within an event loop."""

        async def isolated() -> T:
            with self.held.isolated() if self.held else nullcontext():
                return await call()

        with self.context() as context:
            return await asyncio.create_task(isolated(), context=context)


class GuardedRun:
    """One run of a guarded chain.

    Args:
        guard: The guard.
        manager: Of the run.
        config: That the chain would be run with.

    Attributes:
        watch: What happens within the chain.
        asked: The chunks of its input, as they are read.
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
        """Note a chunk of the chain's input, and give what the chain may write into."""
        self.asked.append(chunk)
        return copied(chunk)

    def decided(self, read: "Callable[[GuardedRun], ChainResult]") -> Ending:
        """Run the chain, unheard by those around, and end the run.

        Args:
            read: Gives what comes of the chain.
        """
        result: ChainResult = Whole()
        error = None
        try:
            result = self.watch.run(partial(read, self))
        except BaseException as raised:  # noqa: BLE001  (raised again, unless it may carry what is withheld)
            error = raised
        return self.end(result, error)

    async def adecided(self, read: "Callable[[GuardedRun], Awaitable[ChainResult]]") -> Ending:
        """As :meth:`decided`, within an event loop."""
        result: ChainResult = Whole()
        error = None
        try:
            result = await self.watch.arun(partial(read, self))
        except BaseException as raised:  # noqa: BLE001  (as above)
            error = raised
        return await self.aend(result, error)

    def end(self, result: ChainResult, error: BaseException | None = None) -> Ending:
        """Decide, tell those around what they may know, and say what is to be given or raised.

        Nothing is raised here, where what the chain gave is at hand: a traceback would hold it.

        Args:
            result: What the chain gave.
            error: What it raised instead.
        """
        try:
            ending = self._interrupted(error) or self._ended(result, cast("Exception | None", error))
        except BaseException as problem:  # noqa: BLE001  (raised by whoever called this)
            ending = Ending(error=bare(problem))
        finally:
            self.watch.forget()
        return ending

    async def aend(self, result: ChainResult, error: BaseException | None = None) -> Ending:
        """As :meth:`end`, within an event loop."""
        try:
            ending = self._interrupted(error) or await self._aended(result, cast("Exception | None", error))
        except BaseException as problem:  # noqa: BLE001  (as above)
            ending = Ending(error=bare(problem))
        finally:
            self.watch.forget()
        return ending

    def _interrupted(self, error: BaseException | None) -> Ending | None:
        """How a run ends that was stopped from outside: at once. None for any other."""
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
        """The verdicts as events; the one that decided is written into the trace."""
        if outcome is None:
            return []
        note_in_traces(self._manager, outcome.verdict.plain)
        return [verdict.with_run_id() for verdict in outcome.verdicts]

    def _is_decided(self, error: Exception | None) -> bool:
        # An error before any model answered is the chain's own, and nothing is to be decided.
        return error is None or self.watch.has_answers


def _facts_of(outcome: ChainOutcome | None) -> dict[UUID, TracedVerdict]:
    return {verdict.run_id: traced(verdict.plain) for verdict in outcome.verdicts} if outcome else {}


def finished(ending: Ending) -> Any:
    """Give or raise what a run ends with, where nothing of what the chain gave is at hand any more.

    Raises:
        AbstainedError: It is withheld, and has no place for a message.
    """
    if ending.error is not None:
        raise ending.error
    return ending.given
