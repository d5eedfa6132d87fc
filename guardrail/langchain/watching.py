"""One run of a chain, watched: which models it calls, and who else may see what happens in it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import Context
from typing import TYPE_CHECKING, TypeVar, cast

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import set_config_context

from guardrail.langchain.holding import HeldRuns, make_sure_that_graphs_are_held
from guardrail.langchain.isolation import copied
from guardrail.langchain.model_calls import CallCollector, ModelCall

if TYPE_CHECKING:
    from langchain_core.callbacks.base import BaseCallbackManager

__all__ = ["Watch"]

T = TypeVar("T")


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
