"""A chain with a guard around it, as a runnable of LangChain."""

import asyncio
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSerializable
from langchain_core.runnables.graph import Graph
from langchain_core.runnables.utils import ConfigurableFieldSpec, Input, Output
from langchain_core.utils.pydantic import TypeBaseModel
from pydantic import ConfigDict, Field

from guardrail.langchain.guarded_run import (
    NOTHING,
    GuardedRun,
    aclose,
    aiter_of,
    amap,
    anext_of,
    closed,
    finished,
)
from guardrail.langchain.message_conversion import without_verdict
from guardrail.langchain.outcome import Chunks, LastChunk, Whole

__all__ = ["GuardedChain"]


class GuardedChain(RunnableSerializable[Input, Output]):
    """What :meth:`UncertaintyGuard.wrap` gives: a chain whose answers are decided on before they are seen.

    Attributes:
        chain: The chain.
        guard: The guard.
    """

    chain: Runnable[Input, Output]
    # Its class is in a file that needs this one.
    guard: Any = Field(repr=False)

    model_config = ConfigDict(arbitrary_types_allowed=True)

    @property
    def InputType(self) -> type[Input]:  # noqa: N802
        """The chain's."""
        return self.chain.InputType

    @property
    def OutputType(self) -> type[Output]:  # noqa: N802
        """The chain's."""
        return self.chain.OutputType

    def get_input_schema(self, config: RunnableConfig | None = None) -> TypeBaseModel:
        """The chain's."""
        return self.chain.get_input_schema(config)

    def get_output_schema(self, config: RunnableConfig | None = None) -> TypeBaseModel:
        """The chain's."""
        return self.chain.get_output_schema(config)

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """The chain's."""
        return self.chain.config_specs

    def get_graph(self, config: RunnableConfig | None = None) -> Graph:
        """The chain's."""
        return self.chain.get_graph(config)

    def invoke(self, input: Input, config: RunnableConfig | None = None, **kwargs: Any) -> Output:  # noqa: A002
        """Run the chain, and give its output if the policy lets it through.

        Raises:
            AbstainedError: The policy withheld it, and the output has no place for a message, or the guard
                was made with ``on_abstain="raise"``.
        """
        return self._call_with_config(self._invoke, input, config, **kwargs)

    async def ainvoke(self, input: Input, config: RunnableConfig | None = None, **kwargs: Any) -> Output:  # noqa: A002
        """As :meth:`invoke`, within an event loop."""
        return await self._acall_with_config(self._ainvoke, input, config, **kwargs)

    def stream(
        self,
        input: Input,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Iterator[Output]:
        """Run the chain, and give its chunks: after the verdict (``buffer``), or as they come (``annotate``).

        Raises:
            AbstainedError: As for :meth:`invoke`; before the first chunk, or, with ``annotate``, where an
                answer turned out not to be checkable, after all but the last.
        """
        yield from self.transform(iter([input]), config, **kwargs)

    async def astream(
        self,
        input: Input,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Output]:
        """As :meth:`stream`, within an event loop."""
        async with closed(self.atransform(aiter_of(input), config, **kwargs)) as chunks:
            async for chunk in chunks:
                yield chunk

    def transform(
        self,
        input: Iterator[Input],  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Iterator[Output]:
        """As :meth:`stream`, of an input that comes in chunks."""
        how = self._annotated if self.guard.streams_live else self._buffered
        yield from self._transform_stream_with_config(input, how, config, **kwargs)

    async def atransform(
        self,
        input: AsyncIterator[Input],  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Output]:
        """As :meth:`transform`, within an event loop."""
        how = self._aannotated if self.guard.streams_live else self._abuffered
        async with closed(self._atransform_stream_with_config(input, how, config, **kwargs)) as chunks:
            async for chunk in chunks:
                yield chunk

    # What the chain gives is held by the run alone, which has forgotten it when something is raised.

    def _invoke(
        self,
        input: Input,  # noqa: A002
        run_manager: CallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> Output:
        def read(run: GuardedRun) -> Whole:
            return Whole(self.chain.invoke(run.take(input), run.watch.config, **kwargs))

        given: Output = finished(GuardedRun(self.guard, run_manager, config).decided(read))
        return given

    async def _ainvoke(
        self,
        input: Input,  # noqa: A002
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> Output:
        async def read(run: GuardedRun) -> Whole:
            return Whole(await self.chain.ainvoke(run.take(input), run.watch.config, **kwargs))

        given: Output = finished(await GuardedRun(self.guard, run_manager, config).adecided(read))
        return given

    def _buffered(
        self,
        input: Iterator[Input],  # noqa: A002
        run_manager: CallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> Iterator[Output]:
        def read(run: GuardedRun) -> Chunks:
            return Chunks([*self.chain.transform(map(run.take, input), run.watch.config, **kwargs)])

        yield from finished(GuardedRun(self.guard, run_manager, config).decided(read))

    async def _abuffered(
        self,
        input: AsyncIterator[Input],  # noqa: A002
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> AsyncIterator[Output]:
        async def read(run: GuardedRun) -> Chunks:
            chunks = self.chain.atransform(amap(run.take, input), run.watch.config, **kwargs)
            return Chunks([chunk async for chunk in chunks])

        for chunk in finished(await GuardedRun(self.guard, run_manager, config).adecided(read)):
            yield chunk

    def _annotated(
        self,
        input: Iterator[Input],  # noqa: A002
        run_manager: CallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> Iterator[Output]:
        run = GuardedRun(self.guard, run_manager, config)
        last: list[Output] = []
        with run.watch.context() as context:
            chunks = context.run(self.chain.transform, map(run.take, input), run.watch.config, **kwargs)
            try:
                while (chunk := context.run(next, chunks, NOTHING)) is not NOTHING:
                    for seen in last:
                        yield without_verdict(seen)
                    last = [chunk]
            finally:
                if isinstance(chunks, Generator):
                    context.run(chunks.close)
        ending = run.end(LastChunk(last))
        # In a traceback they would show the last chunk, which nobody has seen.
        del last, run
        yield from finished(ending)

    async def _aannotated(
        self,
        input: AsyncIterator[Input],  # noqa: A002
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> AsyncIterator[Output]:
        run = GuardedRun(self.guard, run_manager, config)
        last: list[Output] = []
        with run.watch.context() as context:
            chunks = context.run(self.chain.atransform, amap(run.take, input), run.watch.config, **kwargs)
            try:
                while True:
                    step = asyncio.create_task(anext_of(chunks), context=context)
                    if (chunk := await step) is NOTHING:
                        break
                    for seen in last:
                        yield without_verdict(seen)
                    last = [chunk]
            finally:
                await asyncio.create_task(aclose(chunks), context=context)
        ending = await run.aend(LastChunk(last))
        # As above; ``step`` is done and has nothing.
        del last, run
        for chunk in finished(ending):
            yield chunk
