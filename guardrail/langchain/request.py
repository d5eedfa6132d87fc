"""One request to the chat model: it is passed to the guard, and its draft may be streamed as it grows."""

import asyncio
import queue
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import aclosing, closing
from contextvars import copy_context
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

from guardrail.langchain.message_conversion import prompt_of
from guardrail.langchain.reply import Shown, shown_of, told_of_schema
from guardrail.langchain.tool_parsing import ToolReader
from guardrail.langchain.verdicts import note_in_traces
from guardrail.policy.model import SENTENCES

if TYPE_CHECKING:
    from langchain_core.callbacks.manager import BaseRunManager
    from langchain_core.messages import BaseMessage

    from guardrail.guard.answer import GuardedAnswer
    from guardrail.guard.guard import Guard
    from guardrail.guard.tool_calls import CalledTool
    from guardrail.langchain.call_options import CallOptions
    from guardrail.models.decoding import GenerationControls
    from guardrail.models.prompt import Prompt
    from guardrail.models.sampling import Sampling

__all__ = ["Ask", "ChatRequest", "alive", "live"]


T = TypeVar("T")

# Runs the request, given a callback for pieces of the draft and a check whether anybody still reads them.
Ask = Callable[[Callable[[str], None], Callable[[], bool]], T]


def live(ask: Ask[T]) -> Generator[str | T]:
    """Yield the pieces of a draft, then the result of the request.

    The request runs in its own thread. An error there is raised here at once. If the reader stops, generation
    is cancelled at the next token.
    """
    pieces: queue.SimpleQueue[tuple[str, str | T | BaseException]] = queue.SimpleQueue()
    gone = threading.Event()

    def run() -> None:
        try:
            pieces.put(("end", ask(lambda piece: pieces.put(("piece", piece)), lambda: not gone.is_set())))
        except BaseException as error:  # noqa: BLE001  (raised where the pieces are read)
            pieces.put(("error", error))

    context = copy_context()
    threading.Thread(target=context.run, args=(run,), daemon=True, name="guardrail-stream").start()
    try:
        while True:
            kind, value = pieces.get()
            if isinstance(value, BaseException):
                raise value
            yield value
            if kind == "end":
                return
    finally:
        gone.set()


async def alive(ask: Callable[[Callable[[str], None]], Awaitable[T]]) -> AsyncGenerator[str | T]:
    """Async version of :func:`live`: the request runs as a task of the event loop."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[str | None] = asyncio.Queue()
    tell = pieces.put_nowait

    def ended(task: "asyncio.Future[T]") -> None:
        # Retrieved so that asyncio does not warn about an error that nobody awaits any more.
        _ = task.cancelled() or task.exception()
        tell(None)

    task = asyncio.ensure_future(ask(lambda piece: _told(loop, tell, piece)))
    task.add_done_callback(ended)
    try:
        while (piece := await pieces.get()) is not None:
            yield piece
        yield await task
    finally:
        task.cancel()


def _told(loop: asyncio.AbstractEventLoop, tell: Callable[[str], None], piece: str) -> None:
    try:
        loop.call_soon_threadsafe(tell, piece)
    except RuntimeError as error:
        # The event loop is closed, so nobody reads the pieces.
        raise asyncio.CancelledError from error


_WITHHOLDING = ("abstain", "escalate")


class _Asked(TypedDict):
    """Arguments of ``Guard.ask``."""

    messages: "Prompt"
    sampling: "Sampling"
    tags: tuple[str, ...]
    controls: "GenerationControls"
    calls_in: "Callable[[str], Iterable[str | CalledTool]] | None"
    timeout: float | None
    request_id: str | None


class ChatRequest:
    """One request. Each has its own parser of tool calls, so that requests in one batch do not mix.

    Args:
        guard: Guard that answers.
        messages: Messages of the request.
        options: Options of the call.
        with_draft: Whether the verdict contains the draft.
        run: Traced run of the request, whose metadata receives the verdict.
        request_id: As for :meth:`~guardrail.guard.guard.Guard.ask`.

    Raises:
        PromptError: A message has content that a text model cannot read.
        OptionError: Answers cannot be constrained as the options ask.
    """

    def __init__(
        self,
        guard: "Guard",
        messages: "Sequence[BaseMessage]",
        options: "CallOptions",
        *,
        with_draft: bool,
        run: "BaseRunManager | None" = None,
        request_id: str | None = None,
    ) -> None:
        self._guard, self._options, self._with_draft = guard, options, with_draft
        self._messages, self._run, self._request_id = messages, run, request_id
        self._prompt = prompt_of(messages)
        if options.json_schema is not None:
            self._prompt = told_of_schema(self._prompt, options.json_schema)
        self._reader = ToolReader(guard.model.tokenizer, options.tools, self._rendered)
        self._processor = self._held_to()

    def ask(
        self, on_text: Callable[[str], None] | None = None, goes_on: Callable[[], bool] | None = None
    ) -> Shown:
        """Ask the guard. Neither its answer nor the draft leaves this method.

        Args:
            on_text: Callback that receives pieces of the draft as it grows.
            goes_on: Check whether anybody still waits for the answer.

        Raises:
            AnswerTimeoutError: The timeout of the call expired.
        """
        return self._shown(self._guard.ask(**self._arguments(on_text, goes_on)))

    async def aask(self, on_text: Callable[[str], None] | None = None) -> Shown:
        """Async version of :meth:`ask`."""
        return self._shown(await self._guard.aask(**self._arguments(on_text)))

    def chunks(self) -> Iterator[ChatGenerationChunk]:
        """Yield the chunks of a stream: a single one, or the draft as it grows."""
        if not self.is_live():
            yield self.ask().last_chunk()
            return
        told = ""
        with closing(live(self.ask)) as pieces:
            for piece in pieces:
                yield piece.last_chunk(told) if isinstance(piece, Shown) else _chunk(piece)
                told += piece if isinstance(piece, str) else ""

    async def achunks(self) -> AsyncGenerator[ChatGenerationChunk]:
        """Async version of :meth:`chunks`."""
        if not self.is_live():
            yield (await self.aask()).last_chunk()
            return
        told = ""
        async with aclosing(alive(self.aask)) as pieces:
            async for piece in pieces:
                yield piece.last_chunk(told) if isinstance(piece, Shown) else _chunk(piece)
                told += piece if isinstance(piece, str) else ""

    def is_live(self) -> bool:
        """Whether the answer is streamed as it grows.

        With ``streaming: sentences``, each sentence is streamed once it has been decided on. With
        ``annotate``, text is streamed before the verdict, but only if no rule could withhold the answer.
        """
        policy = self._guard.policy
        if policy.streaming == SENTENCES:
            return True
        if policy.streaming != "annotate" or self._options.tools:
            return False
        unknown = (policy.on_uncalibrated.action, policy.on_outside_domain.action)
        actions = (*unknown, *(rule.action for rule in policy.rules))
        return policy.mode == "observe" or not any(action in _WITHHOLDING for action in actions)

    def _arguments(
        self, on_text: Callable[[str], None] | None, goes_on: Callable[[], bool] | None = None
    ) -> _Asked:
        from guardrail.models.decoding import GenerationControls

        options = self._options
        return _Asked(
            messages=self._prompt,
            sampling=options.sampling,
            tags=options.policy_tags,
            controls=GenerationControls(
                options.tools,
                on_text,
                goes_on,
                self._processor,
                options.chat_template_kwargs or {},
                options.json_schema,
                options.tool_choice == "any" and bool(options.tools),
            ),
            calls_in=self._reader.calls_in if options.tools else None,
            timeout=options.timeout,
            request_id=self._request_id,
        )

    def _shown(self, answer: "GuardedAnswer") -> Shown:
        on_abstain, policy = self._options.on_abstain, self._guard.policy.name
        shown = shown_of(answer, self._reader.said, on_abstain, policy, with_draft=self._with_draft)
        note_in_traces(self._run, shown.verdict)
        return replace(shown, asked=self._messages)

    def _held_to(self) -> Any:
        """Make the logits processor that constrains the answer; None for no constraint."""
        options = self._options
        must_call = options.tool_choice == "any" and options.tools
        if not must_call and options.json_schema is None:
            return None
        from guardrail.models.decoding import calls_grammar, held_to, json_grammar

        if not options.tools:
            return held_to(json_grammar(options.json_schema or {}))
        template = str(self._guard.model.tokenizer.chat_template)
        return held_to(calls_grammar(options.tools, template, None if must_call else options.json_schema))

    def _rendered(self) -> str:
        from guardrail.models.decoding import decode

        model, options = self._guard.model, self._options
        asked = self._guard.spoken(self._prompt).messages
        encoded = model.encode_prompt(asked, options.tools, options.chat_template_kwargs)
        return decode(model.tokenizer, encoded.ids)


def _chunk(piece: str) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=AIMessageChunk(content=piece))
