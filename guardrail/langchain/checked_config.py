"""Refuse options of the chat model in a call's config, where they would be ignored."""

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import aclosing
from typing import Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.runnables import Runnable, RunnableConfig

from guardrail.errors import OptionError
from guardrail.langchain.call_options import FIELD_ALIASES

__all__ = ["ConfigCheckedChatModel"]


class ConfigCheckedChatModel(BaseChatModel):
    """A chat model of LangChain that refuses its own options where they are given as parts of a config."""

    def with_config(self, config: RunnableConfig | None = None, **kwargs: Any) -> Runnable[Any, Any]:
        """As LangChain has it; an option of the model is none of a config, where nobody would look at it.

        Raises:
            OptionError: One is among what is given.
        """
        given = {**(config or {}), **kwargs}
        self._check_names((*given, *(given.get("configurable") or ())))
        return super().with_config(config, **kwargs)

    # Of what a call is given as ``configurable``, any part of an app may have its own, whatever its name.

    def invoke(
        self,
        input: LanguageModelInput,  # noqa: A002
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """As LangChain has it; an option of the model in the config is an error."""
        self._check_names(config or ())
        return super().invoke(input, config, stop=stop, **kwargs)

    async def ainvoke(
        self,
        input: LanguageModelInput,  # noqa: A002
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """As :meth:`invoke`, within an event loop."""
        self._check_names(config or ())
        return await super().ainvoke(input, config, stop=stop, **kwargs)

    def stream(
        self,
        input: LanguageModelInput,  # noqa: A002
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        """As :meth:`invoke`, in chunks."""
        self._check_names(config or ())
        yield from super().stream(input, config, stop=stop, **kwargs)

    async def astream(
        self,
        input: LanguageModelInput,  # noqa: A002
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        """As :meth:`stream`, within an event loop."""
        self._check_names(config or ())
        chunks: Any = super().astream(input, config, stop=stop, **kwargs)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    def _check_names(self, given: Iterable[str]) -> None:
        """See that no option of the model is among the keys of a config, where nobody would look at it."""
        options = {*type(self).model_fields, *FIELD_ALIASES} - RunnableConfig.__annotations__.keys()
        for name in given:
            if name in options:
                raise OptionError(
                    f"{name} is no part of a config; bind it: chat.bind({name}=…), or make it one with "
                    "configurable_fields."
                )
