"""A chain with a guard around it, as a LangChain runnable."""

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
    """A guarded chain, as returned by :meth:`UncertaintyGuard.wrap`.

    Attributes:
        chain: Chain that is guarded.
        guard: Guard that decides on its answers.
    """

    chain: Runnable[Input, Output]
    # UncertaintyGuard; annotating it would import a module that imports this one.
    guard: Any = Field(repr=False)

    model_config = ConfigDict(arbitrary_types_allowed=True)

    @property
    def InputType(self) -> type[Input]:  # noqa: N802
        """Input type of the chain."""
        return self.chain.InputType

    @property
    def OutputType(self) -> type[Output]:  # noqa: N802
        """Output type of the chain."""
        return self.chain.OutputType

    def get_input_schema(self, config: RunnableConfig | None = None) -> TypeBaseModel:
        """Return the input schema of the chain."""
        return self.chain.get_input_schema(config)

    def get_output_schema(self, config: RunnableConfig | None = None) -> TypeBaseModel:
        """Return the output schema of the chain."""
        return self.chain.get_output_schema(config)

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """Configurable fields of the chain."""
        return self.chain.config_specs

    def get_graph(self, config: RunnableConfig | None = None) -> Graph:
        """Return the graph of the chain."""
        return self.chain.get_graph(config)

    def invoke(self, input: Input, config: RunnableConfig | None = None, **kwargs: Any) -> Output:  # noqa: A002
        """Run the chain and return its output if the policy lets it through.

        Raises:
            AbstainedError: The policy withheld the output, and either a message cannot take its place or the
                guard was made with ``on_abstain="raise"``.
        """
        return self._call_with_config(self._invoke, input, config, **kwargs)

    async def ainvoke(self, input: Input, config: RunnableConfig | None = None, **kwargs: Any) -> Output:  # noqa: A002
        """Async version of :meth:`invoke`."""
        return await self._acall_with_config(self._ainvoke, input, config, **kwargs)

    def stream(
        self,
        input: Input,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Iterator[Output]:
        """Run the chain and yield its chunks after the verdict (``buffer``) or on arrival (``annotate``).

        Raises:
            AbstainedError: As for :meth:`invoke`. It is raised before the first chunk; with ``annotate``, it
                is raised after all chunks but the last if the answer could not be checked.
        """
        yield from self.transform(iter([input]), config, **kwargs)

    async def astream(
        self,
        input: Input,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Output]:
        """Async version of :meth:`stream`."""
        async with closed(self.atransform(aiter_of(input), config, **kwargs)) as chunks:
            async for chunk in chunks:
                yield chunk

    def transform(
        self,
        input: Iterator[Input],  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Iterator[Output]:
        """Run the chain as :meth:`stream` does, on an input that arrives in chunks."""
        how = self._annotated if self.guard.streams_live else self._buffered
        yield from self._transform_stream_with_config(input, how, config, **kwargs)

    async def atransform(
        self,
        input: AsyncIterator[Input],  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Output]:
        """Async version of :meth:`transform`."""
        how = self._aannotated if self.guard.streams_live else self._abuffered
        async with closed(self._atransform_stream_with_config(input, how, config, **kwargs)) as chunks:
            async for chunk in chunks:
                yield chunk

    # Only the run holds the chain's output, and it drops the output before anything is raised.

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
        # A traceback would expose the last chunk through them, and it has not been released.
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
        # As above; ``step`` has finished and holds no chunk.
        del last, run
        for chunk in finished(ending):
            yield chunk
