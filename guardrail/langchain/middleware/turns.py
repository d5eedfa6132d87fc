"""One turn of an agent's model, of which nobody hears anything before it is decided on."""

from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import (
    ensure_config,
    get_async_callback_manager_for_config,
    get_callback_manager_for_config,
)
from langgraph.constants import TAG_NOSTREAM
from langgraph.errors import GraphBubbleUp

from guardrail.errors import AbstainedError
from guardrail.langchain.isolation import bare
from guardrail.langchain.watching import Watch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain.agents.middleware import ModelRequest, ModelResponse
    from langchain_core.language_models import BaseChatModel

    from guardrail.escalation.case import Case
    from guardrail.langchain.holding import Facts

__all__ = ["Held", "Turn", "current_turn"]


@dataclass(frozen=True, slots=True)
class Held:
    """What a model answered, not told to anybody yet.

    Attributes:
        response: The agent's reading of it.
        watch: What happened.
    """

    response: "ModelResponse[Any]" = field(repr=False)
    watch: Watch = field(repr=False)

    @property
    def message(self) -> AIMessage | None:
        """The model's message."""
        messages = [one for one in self.response.result if isinstance(one, AIMessage)]
        return messages[-1] if messages else None

    def tell(self, *, redacted: bool, facts: "Facts | None" = None) -> None:
        """Tell those around what happened; redacted, without a word of it."""
        if self.watch.held is not None:
            self.watch.held.tell(redacted=redacted, facts=facts)
        self.watch.forget()

    async def atell(self, *, redacted: bool, facts: "Facts | None" = None) -> None:
        """As :meth:`tell`, within an event loop."""
        if self.watch.held is not None:
            await self.watch.held.atell(redacted=redacted, facts=facts)
        self.watch.forget()


@dataclass(slots=True)
class Turn:
    """A request of an agent to its model, and what came of it.

    Attributes:
        request: The request.
        handler: Answers it; a coroutine function within an event loop.
        replies: What stronger models answered, by the name of the target.
        case: What was handed to a person.
    """

    request: "ModelRequest[Any]" = field(repr=False)
    handler: "Callable[[ModelRequest[Any]], Any]"
    replies: dict[str, Held] = field(default_factory=dict, repr=False)
    case: "Case | None" = None

    @contextmanager
    def current(self) -> "Iterator[None]":
        """What targets are asked in this block, they are asked for this turn, in whatever thread."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def ask(self, model: "BaseChatModel | None" = None) -> Held:
        """Have the request answered, by another model if one is given.

        Raises:
            AbstainedError: The model answered, but its answer could not be read (as where an agent has a
                format for answers): an error that may quote it is not passed on.
        """
        answered = self._asked(model)
        if isinstance(answered, BaseException):
            raise answered
        return answered

    async def aask(self, model: "BaseChatModel | None" = None) -> Held:
        """As :meth:`ask`, within an event loop."""
        answered = await self._aasked(model)
        if isinstance(answered, BaseException):
            raise answered
        return answered

    def forget(self) -> None:
        """Keep nothing of what was answered: a traceback may hold this turn."""
        self.replies.clear()
        self.case = None

    # An answer is in the frames of these two alone, which have returned when something is raised.

    def _asked(self, model: "BaseChatModel | None") -> Held | BaseException:
        watch = _watch(get_callback_manager_for_config)
        try:
            return Held(watch.run(partial(self.handler, self._request(model))), watch)
        except BaseException as raised:  # noqa: BLE001  (raised again, unless it may carry the answer)
            error = _told(raised, watch)
            if watch.held is not None and isinstance(raised, Exception):
                watch.held.tell(redacted=watch.has_answers)
            watch.forget()
            return error

    async def _aasked(self, model: "BaseChatModel | None") -> Held | BaseException:
        watch = _watch(get_async_callback_manager_for_config)
        try:
            return Held(await watch.arun(partial(self.handler, self._request(model))), watch)
        except BaseException as raised:  # noqa: BLE001  (as above)
            error = _told(raised, watch)
            if watch.held is not None and isinstance(raised, Exception):
                await watch.held.atell(redacted=watch.has_answers)
            watch.forget()
            return error

    def _request(self, model: "BaseChatModel | None") -> "ModelRequest[Any]":
        return self.request if model is None else self.request.override(model=model)


_current: ContextVar[Turn | None] = ContextVar("guardrail_turn", default=None)


def current_turn() -> Turn | None:
    """The turn that a target is asked for; None outside of an agent."""
    return _current.get()


def _watch(manager_for: Callable[[RunnableConfig], Any]) -> Watch:
    config = ensure_config()
    # Streams of LangGraph's show the node's message, which has the verdict, and not the call afterwards.
    tags = [*(config.get("tags") or ()), TAG_NOSTREAM]
    held: RunnableConfig = {**config, "tags": tags}
    return Watch({**held, "callbacks": manager_for(held)}, hold=True, trace_drafts=False)


def _told(error: BaseException, watch: Watch) -> BaseException:
    """What is raised in place of an error of a model's, or of the middleware around it."""
    if not watch.calls:
        return error
    # An interrupt of LangGraph's, or a stop from outside, has to reach whoever waits for it.
    if isinstance(error, GraphBubbleUp) or not isinstance(error, Exception):
        return bare(error)
    if not watch.has_answers:
        return error
    return AbstainedError(
        f"The model's answer could not be read ({type(error).__name__}); the error may tell of the answer."
    )
