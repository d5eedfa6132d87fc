"""A policy's targets within an agent: a stronger model takes the turn, a person is asked by an interrupt."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage

from guardrail.errors import EscalationError
from guardrail.escalation.opening import given_target, named_target
from guardrail.escalation.queue import HumanQueue
from guardrail.escalation.targets import ChatModelTarget
from guardrail.langchain.middleware.turns import Held, Turn, current_turn
from guardrail.langchain.verdicts import verdict_of

if TYPE_CHECKING:
    from guardrail.escalation.case import Case
    from guardrail.policy.model import Policy

__all__ = ["People", "targets_within"]

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

    def _taken(self, turn: Turn, held: Held) -> AIMessage:
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


def _turn() -> Turn:
    turn = current_turn()
    if turn is None:
        raise EscalationError("it is asked outside of an agent")
    return turn
