"""From what was decided on a turn to what the agent goes on with."""

from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from langchain.agents.middleware import ModelResponse
from langchain_core.messages import AIMessage

from guardrail.langchain.middleware.review import Waiting, waiting_of
from guardrail.langchain.outputs import in_place_of, with_verdict
from guardrail.langchain.verdicts import verdict_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from guardrail.langchain.middleware.turns import Held, Turn
    from guardrail.langchain.outcome import Outcome

__all__ = ["Result", "ends_agent", "result_of"]


class Result(NamedTuple):
    """What the agent goes on with.

    Attributes:
        response: The model's turn, as the agent sees it.
        shown: The answer that is in it; None where a text stands in its place.
        waiting: The draft, where it waits for a person.
    """

    response: ModelResponse[Any]
    shown: "Held | None" = None
    waiting: Waiting | None = None


def result_of(turn: "Turn", draft: "Held", outcome: "Outcome") -> Result:
    """Act on what was decided.

    Args:
        turn: The turn, with what the policy's targets gave.
        draft: What the agent's model answered.
        outcome: What was decided.
    """
    verdict, answer = outcome.verdict.plain, outcome.verdict.answer
    if outcome.text is None:
        return Result(_judged(draft, verdict), draft)
    escalation = answer.escalation if answer is not None else None
    if not outcome.withheld and escalation is not None and escalation.target in turn.replies:
        stronger = turn.replies[escalation.target]
        return Result(_judged(stronger, verdict), stronger)
    instead = in_place_of(draft.message or AIMessage(""), outcome.text, verdict)
    # Of its own: streams know the draft's id, and what replaces this one has to name it.
    message = instead.model_copy(update={"id": str(uuid4())})
    waiting = None
    if escalation is not None and turn.case is not None and escalation.ticket == turn.case.id:
        waiting = waiting_of(draft.response, verdict, message.id, turn.request.messages)
    return Result(ModelResponse(result=[message]), waiting=waiting)


def ends_agent(message: Any) -> bool:
    """Whether an agent has nothing to do after a message: a text stands in the place of an answer."""
    verdict = verdict_of(message)
    if verdict is None or not verdict["enforced"]:
        return False
    return verdict["action"] in ("abstain", "escalate") and not message.tool_calls


def _judged(held: "Held", verdict: "Mapping[str, Any]") -> ModelResponse[Any]:
    message = held.message
    messages = [with_verdict(one, verdict) if one is message else one for one in held.response.result]
    return ModelResponse(result=messages, structured_response=held.response.structured_response)
