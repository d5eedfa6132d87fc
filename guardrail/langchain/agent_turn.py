"""One model call of an agent, buffered until it is decided on; escalation targets within an agent."""

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import (
    ensure_config,
    get_async_callback_manager_for_config,
    get_callback_manager_for_config,
)
from langgraph.constants import TAG_NOSTREAM
from langgraph.errors import GraphBubbleUp

from guardrail.errors import AbstainedError, EscalationError
from guardrail.escalation.queue import HumanQueue
from guardrail.escalation.routing import ChatModelTarget, given_target, named_target
from guardrail.langchain.guarded_run import Watch, bare
from guardrail.langchain.verdicts import verdict_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain.agents.middleware import ModelRequest, ModelResponse

    from guardrail.escalation.case import Case
    from guardrail.langchain.buffering import Facts
    from guardrail.policy.model import Policy

__all__ = ["AgentTurn", "Held", "People", "current_turn", "targets_within"]


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
class AgentTurn:
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


_current: ContextVar[AgentTurn | None] = ContextVar("guardrail_turn", default=None)


def current_turn() -> AgentTurn | None:
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


People = Literal["interrupt", "queue"]


def targets_within(policy: "Policy", given: Mapping[str, Any] | None, people: People) -> dict[str, Any]:
    """Targets for a policy's guard.

    Args:
        policy: The policy.
        given: What a caller handed over for names of its ``escalation``.
        people: What becomes of its queues.

    Raises:
        GuardrailError: A chat model cannot be opened.
    """
    targets = dict(given or {})
    for name, named in policy.escalation.items():
        value = targets.get(name)
        is_queue = isinstance(value, HumanQueue) or (value is None and named.kind == "queue")
        if is_queue and people == "interrupt":
            targets[name] = _Interrupt()
        elif isinstance(value, BaseChatModel):
            targets[name] = _StrongerModel(name, cast("ChatModelTarget", given_target(name, value)))
        elif value is None and named.kind == "chat_model":
            targets[name] = _StrongerModel(name, cast("ChatModelTarget", named_target(named)))
    return targets


class _StrongerModel:
    """A chat model that is asked what the agent's model was asked, with its tools, by way of the agent."""

    def __init__(self, target: str, opened: ChatModelTarget) -> None:
        self._target, self._model, self.name = target, opened.model, opened.name

    def invoke(self, _: Any) -> AIMessage:
        turn = _turn()
        return self._taken(turn, turn.ask(self._model))

    async def ainvoke(self, _: Any) -> AIMessage:
        turn = _turn()
        return self._taken(turn, await turn.aask(self._model))

    def _taken(self, turn: AgentTurn, held: Held) -> AIMessage:
        message = held.message
        if message is None:
            raise EscalationError("it gave no message")
        verdict = verdict_of(message)
        if verdict and verdict["enforced"] and verdict["action"] in ("abstain", "escalate"):
            raise EscalationError("its own guard withheld its answer")
        turn.replies[self._target] = held
        if message.tool_calls and not message.text:
            # A guard takes an answer without a text for none.
            calls = ", ".join(call["name"] for call in message.tool_calls)
            return AIMessage(f"calls {calls}", response_metadata=message.response_metadata)
        return message


class _Interrupt(HumanQueue):
    """The agent's interrupt, as a queue: what is put there is asked about once the turn has ended."""

    def __init__(self) -> None:
        # There is no file.
        pass

    def make(self) -> None:
        pass

    def put(self, case: "Case") -> str:
        _turn().case = case
        return case.id


def _turn() -> AgentTurn:
    turn = current_turn()
    if turn is None:
        raise EscalationError("it is asked outside of an agent")
    return turn
