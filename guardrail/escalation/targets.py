"""The three kinds of target: another model, a function, a person's queue."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, Protocol

from guardrail.errors import EscalationError
from guardrail.escalation.case import Answered, Case, Queued, is_blank
from guardrail.escalation.queue import HumanQueue
from guardrail.escalation.verdict import TargetKind, withholds
from guardrail.utils.threads import in_thread

__all__ = ["CallableTarget", "ChatModelTarget", "EscalationTarget", "QueueTarget"]


class EscalationTarget(Protocol):
    """Something that takes a case. Anything it raises counts as its failure."""

    @property
    def kind(self) -> TargetKind:
        """What it is."""
        ...

    def take(self, case: Case) -> Answered | Queued:
        """Answer a case, or queue it. Called in a thread without an event loop."""
        ...

    async def atake(self, case: Case) -> Answered | Queued:
        """The same within an event loop."""
        ...


class ChatModelTarget:
    """A chat model of LangChain, or any runnable that takes messages.

    Args:
        model: The model.
        name: What to call it where its answers do not say.
    """

    kind: TargetKind = "chat_model"

    def __init__(self, model: Any, name: str) -> None:
        self.model = model
        self.name = name

    def take(self, case: Case) -> Answered:
        """Ask it what the local model was asked."""
        return self._answered(self.model.invoke([dict(message) for message in case.messages]))

    async def atake(self, case: Case) -> Answered:
        """The same, within an event loop."""
        return self._answered(await self.model.ainvoke([dict(message) for message in case.messages]))

    def _answered(self, reply: Any) -> Answered:
        metadata = getattr(reply, "response_metadata", None) or {}
        if withholds(metadata.get("uncertainty")):
            raise EscalationError("its own guard withheld its answer")
        name = metadata.get("model_name")
        # A message of LangChain has its content's text here; a chain that ends in a parser gives a text.
        text = reply if isinstance(reply, str) else getattr(reply, "text", None)
        return Answered(_text(text), name if isinstance(name, str) and name else self.name)


class CallableTarget:
    """A function of a :class:`Case` that gives a text, or a coroutine function that does.

    Args:
        function: The function.
        name: What to call it.
    """

    kind: TargetKind = "callable"

    def __init__(self, function: Callable[[Case], Any], name: str) -> None:
        self.function = function
        self.name = name

    def take(self, case: Case) -> Answered:
        """Call it."""
        result = self.function(case)
        return Answered(_text(asyncio.run(_awaited(result)) if _is_awaitable(result) else result), self.name)

    async def atake(self, case: Case) -> Answered:
        """Call it within this event loop if it is a coroutine function, otherwise beside it."""
        if inspect.iscoroutinefunction(self.function):
            result = self.function(case)
        else:
            result = await asyncio.wrap_future(in_thread(lambda: self.function(case)))
        return Answered(_text(await result if _is_awaitable(result) else result), self.name)


class QueueTarget:
    """A queue that a person answers.

    Args:
        queue: The queue.
    """

    kind: TargetKind = "queue"

    def __init__(self, queue: HumanQueue) -> None:
        self.queue = queue

    def take(self, case: Case) -> Queued:
        """Queue the case; the ticket is given once it is on the disk."""
        return Queued(self.queue.put(case))

    async def atake(self, case: Case) -> Queued:
        """The same beside the event loop."""
        return await asyncio.wrap_future(in_thread(lambda: self.take(case)))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise EscalationError(f"the answer is no text but of type {type(value).__name__}")
    if is_blank(value):
        raise EscalationError("the answer is empty")
    # LangChain's texts are of a kind of their own.
    return str(value)


def _is_awaitable(value: Any) -> bool:
    return inspect.isawaitable(value)


async def _awaited(value: Any) -> Any:
    return await value
