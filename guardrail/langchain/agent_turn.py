"""One model call of an agent, buffered until the verdict; escalation targets within an agent."""

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
    """A model's response, buffered: no callback handler or stream has received it yet.

    Attributes:
        response: Response as the agent receives it.
        watch: Buffered run that produced it.
    """

    response: "ModelResponse[Any]" = field(repr=False)
    watch: Watch = field(repr=False)

    @property
    def message(self) -> AIMessage | None:
        """Last message of the model; None if there is none."""
        messages = [one for one in self.response.result if isinstance(one, AIMessage)]
        return messages[-1] if messages else None

    def tell(self, *, redacted: bool, facts: "Facts | None" = None) -> None:
        """Release the buffered events to the surrounding handlers; if redacted, without any text."""
        if self.watch.held is not None:
            self.watch.held.tell(redacted=redacted, facts=facts)
        self.watch.forget()

    async def atell(self, *, redacted: bool, facts: "Facts | None" = None) -> None:
        """Async version of :meth:`tell`."""
        if self.watch.held is not None:
            await self.watch.held.atell(redacted=redacted, facts=facts)
        self.watch.forget()


@dataclass(slots=True)
class AgentTurn:
    """An agent's request to its model, and what came of it.

    Attributes:
        request: Request to the model.
        handler: Function that answers the request; a coroutine function in async use.
        replies: Responses of stronger models by the name of the escalation target.
        case: Case that was handed to a person, if any.
    """

    request: "ModelRequest[Any]" = field(repr=False)
    handler: "Callable[[ModelRequest[Any]], Any]"
    replies: dict[str, Held] = field(default_factory=dict, repr=False)
    case: "Case | None" = None

    @contextmanager
    def current(self) -> "Iterator[None]":
        """Make this the current turn: targets asked within the block are asked for it, in any thread."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def ask(self, model: "BaseChatModel | None" = None) -> Held:
        """Have the request answered, by ``model`` if it is given.

        Raises:
            AbstainedError: The model answered, but its answer could not be parsed (for example into the
                agent's response format). It replaces the original error, which may quote the answer.
        """
        answered = self._asked(model)
        if isinstance(answered, BaseException):
            raise answered
        return answered

    async def aask(self, model: "BaseChatModel | None" = None) -> Held:
        """Async version of :meth:`ask`."""
        answered = await self._aasked(model)
        if isinstance(answered, BaseException):
            raise answered
        return answered

    def forget(self) -> None:
        """Drop all answers, because a traceback may keep this turn alive."""
        self.replies.clear()
        self.case = None

    # Only the frames of these two methods hold an answer. They return errors instead of raising them, so that
    # no traceback contains these frames.

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
    """Return the turn that a target is being asked for; None outside of an agent."""
    return _current.get()


def _watch(manager_for: Callable[[RunnableConfig], Any]) -> Watch:
    config = ensure_config()
    # LangGraph's streams then show the node's message, which carries the verdict, and not the released call.
    tags = [*(config.get("tags") or ()), TAG_NOSTREAM]
    held: RunnableConfig = {**config, "tags": tags}
    return Watch({**held, "callbacks": manager_for(held)}, hold=True, trace_drafts=False)


def _told(error: BaseException, watch: Watch) -> BaseException:
    """Choose what to raise in place of an error from a model or from middleware around it."""
    if not watch.calls:
        return error
    # A LangGraph interrupt or a cancellation must reach the code that waits for it.
    if isinstance(error, GraphBubbleUp) or not isinstance(error, Exception):
        return bare(error)
    if not watch.has_answers:
        return error
    return AbstainedError(
        f"The model's answer could not be read ({type(error).__name__}); the error may tell of the answer."
    )


People = Literal["interrupt", "queue"]


def targets_within(policy: "Policy", given: Mapping[str, Any] | None, people: People) -> dict[str, Any]:
    """Make the escalation targets for the guard of an agent.

    Args:
        policy: Policy whose ``escalation`` names the targets.
        given: Targets passed by the caller, by their names in ``escalation``.
        people: Whether escalation to a queue interrupts the agent or puts a case into the queue.

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
    """A chat model that receives the same request as the agent's model, with its tools, through the agent."""

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
            # A guard treats an answer without text as no answer.
            calls = ", ".join(call["name"] for call in message.tool_calls)
            return AIMessage(f"calls {calls}", response_metadata=message.response_metadata)
        return message


class _Interrupt(HumanQueue):
    """A queue that interrupts the agent: a person is asked about its case once the turn has ended."""

    def __init__(self) -> None:
        # Unlike the base class, it has no file to open.
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
