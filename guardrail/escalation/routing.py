"""Escalation targets: opened from a policy, and called in turn until one takes the case."""

import asyncio
import importlib
import inspect
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from guardrail.errors import EscalationError, MissingDependencyError, OptionError
from guardrail.escalation.case import Answered, Attempt, Case, Escalation, Queued, is_blank
from guardrail.escalation.queue import HumanQueue
from guardrail.escalation.verdict import AttemptOutcome, TargetKind, withholds
from guardrail.policy.model import ABSTAIN
from guardrail.policy.model import Target as Named
from guardrail.utils.threads import call_within, in_thread, wait_within

__all__ = [
    "CallableTarget",
    "ChatModelTarget",
    "EscalationTarget",
    "QueueTarget",
    "Route",
    "aescalate",
    "check_keyless",
    "check_routes",
    "escalate",
    "given_target",
    "named_target",
    "open_routes",
]


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


@dataclass(frozen=True, slots=True)
class Route:
    """A target, and what happens where it fails.

    Attributes:
        target: What takes the case.
        on_error: Name of the target that is tried next, or ``abstain``.
        timeout_s: How long it may take, in seconds.
    """

    target: EscalationTarget
    on_error: str = ABSTAIN
    timeout_s: float = 60.0


def check_routes(routes: Mapping[str, Route]) -> None:
    """Make sure that every route ends.

    Raises:
        OptionError: One leads to a target that is not there, or in a circle.
    """
    for name in routes:
        way = [name]
        while (following := routes[way[-1]].on_error) != ABSTAIN:
            if following not in routes:
                raise OptionError(f"The escalation target {way[-1]!r} falls to {following!r}, which is none.")
            if following in way:
                raise OptionError(f"Escalation goes in a circle: {' → '.join([*way, following])}.")
            way.append(following)


def escalate(routes: Mapping[str, Route], to: str, case: Case) -> Escalation:
    """Hand a case to a target, and where it fails, to the one that it falls to.

    A target fails where it raises, takes too long, or gives no text. Nothing is raised for that: the
    escalation then has no reply, and each attempt says what went wrong.
    """
    attempts: list[Attempt] = []
    for name, route in _way(routes, to):
        began = time.perf_counter()
        try:
            reply = call_within(route.timeout_s, partial(route.target.take, case))
        except Exception as error:  # noqa: BLE001  (recorded, and the next target is tried)
            attempts.append(_failed(name, route, began, error))
            continue
        return Escalation((*attempts, _succeeded(name, route, began, reply)), reply)
    return Escalation(tuple(attempts))


async def aescalate(routes: Mapping[str, Route], to: str, case: Case) -> Escalation:
    """The same within an event loop; see :func:`escalate`."""
    attempts: list[Attempt] = []
    for name, route in _way(routes, to):
        began = time.perf_counter()
        try:
            reply = await wait_within(route.timeout_s, route.target.atake(case))
        except Exception as error:  # noqa: BLE001  (recorded, and the next target is tried)
            attempts.append(_failed(name, route, began, error))
            continue
        return Escalation((*attempts, _succeeded(name, route, began, reply)), reply)
    return Escalation(tuple(attempts))


def _way(routes: Mapping[str, Route], to: str) -> Iterator[tuple[str, Route]]:
    """The targets in the order in which they are tried; none of them twice."""
    tried: set[str] = set()
    while to in routes and to not in tried:
        tried.add(to)
        yield to, routes[to]
        to = routes[to].on_error


def _succeeded(name: str, route: Route, began: float, reply: Answered | Queued) -> Attempt:
    outcome: AttemptOutcome = "queued" if isinstance(reply, Queued) else "answered"
    return Attempt(name, route.target.kind, outcome, "", _since(began))


def _failed(name: str, route: Route, began: float, error: Exception) -> Attempt:
    # What others write into their errors may be what was asked: their type has to do.
    if isinstance(error, EscalationError):
        reason = str(error)
    elif isinstance(error, TimeoutError):
        reason = f"no answer within {route.timeout_s:g} s"
    else:
        reason = "the target failed"
    return Attempt(name, route.target.kind, "failed", f"{type(error).__name__}: {reason}", _since(began))


def _since(began: float) -> float:
    return max(0.0, time.perf_counter() - began)


# A queue gives up waiting for other writers well before its caller gives up waiting for the ticket: a case
# that failed here must not turn up there.
_SHARE_OF_WAITING = 1 / 4


def open_routes(named: Mapping[str, Named], given: Mapping[str, Any] | None = None) -> dict[str, Route]:
    """Open every target of a policy, so that one that can never work is known before it is needed.

    Args:
        named: The policy's ``escalation``.
        given: Chat models, functions or queues that take the place of named ones.

    Raises:
        OptionError: A target is none, is not in the policy, or leads nowhere when it fails.
        MissingDependencyError: LangChain, or its package for a provider, is not installed.
        EscalationError: A chat model or a queue cannot be opened.
    """
    given = given or {}
    for name in given:
        if name not in named:
            known = ", ".join(named) or "none"
            raise OptionError(f"The policy has no escalation target {name!r}; it has {known}.")
    routes = {
        name: Route(
            given_target(name, given[name]) if name in given else named_target(target),
            target.on_error,
            target.timeout_s,
        )
        for name, target in named.items()
    }
    check_routes(routes)
    return routes


def named_target(target: Named) -> EscalationTarget:
    """Open what one entry of a policy's ``escalation`` names; errors are those of :func:`open_routes`."""
    if target.queue is not None:
        queue = HumanQueue(target.queue, busy_timeout_s=target.timeout_s * _SHARE_OF_WAITING)
        queue.make()
        return QueueTarget(queue)
    if target.chat_model is not None:
        return _chat_model(target.chat_model, target.arguments)
    return _function(target.callable or "")


def given_target(name: str, value: Any) -> EscalationTarget:
    """A target that a caller handed over: a chat model or other runnable, a function, or a queue.

    Raises:
        OptionError: It is none of them.
        EscalationError: The queue cannot be used.
    """
    if isinstance(value, HumanQueue):
        value.make()
        return QueueTarget(value)
    # A runnable of LangChain; told by its methods, so that LangChain need not be installed.
    if callable(getattr(value, "invoke", None)) and callable(getattr(value, "ainvoke", None)):
        return ChatModelTarget(value, _model_name(value))
    if callable(value):
        return CallableTarget(value, getattr(value, "__qualname__", type(value).__name__))
    raise OptionError(
        f"The target {name!r} is of type {type(value).__name__}; give a chat model, a function or a "
        "HumanQueue."
    )


def _chat_model(name: str, arguments: Mapping[str, Any]) -> ChatModelTarget:
    try:
        from langchain.chat_models import init_chat_model
    except ImportError as error:
        raise MissingDependencyError(
            f"The chat model {name} needs LangChain: pip install 'guardrail-llm[agents]'"
        ) from error
    try:
        return ChatModelTarget(init_chat_model(name, **arguments), name)
    except ImportError as error:
        raise MissingDependencyError(f"The chat model {name} cannot be opened: {error}") from error
    except Exception as error:
        reason, _, _ = str(error).partition("\n")
        raise EscalationError(
            f"The chat model {name} cannot be opened: {type(error).__name__}: {reason}"
        ) from error


def _function(place: str) -> CallableTarget:
    module, _, path = place.partition(":")
    try:
        value: Any = importlib.import_module(module)
        for part in path.split("."):
            value = getattr(value, part)
    except Exception as error:
        raise OptionError(
            f"The escalation target {place!r} cannot be imported ({type(error).__name__}: {error}). Give "
            "package.module:function."
        ) from error
    if not callable(value):
        raise OptionError(f"The escalation target {place!r} is no function.")
    return CallableTarget(value, place)


def _model_name(model: Any) -> str:
    names = (getattr(model, attribute, None) for attribute in ("model_name", "model", "name"))
    return next((name for name in names if isinstance(name, str) and name), type(model).__name__)


def check_keyless(targets: Mapping[str, Any] | None) -> None:
    """See that targets may be pickled: a chat model may hold a key, which is not to lie in a pickle.

    Raises:
        OptionError: One is a chat model.
    """
    for name, target in (targets or {}).items():
        if hasattr(target, "invoke"):
            raise OptionError(
                f"The escalation target {name!r} is a chat model, which may hold a key, so what it is given "
                "to is not pickled. Name it in the policy instead: {chat_model: provider:model}."
            )
