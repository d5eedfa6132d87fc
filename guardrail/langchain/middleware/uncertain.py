"""Which calls of tools a person should see, for LangChain's own human-in-the-loop middleware."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage

from guardrail.errors import OptionError
from guardrail.langchain.answer_parts import parts_of
from guardrail.langchain.middleware.review import REVIEW_KEY, STOOD
from guardrail.langchain.seals import is_given
from guardrail.langchain.verdicts import verdict_of
from guardrail.models.sampling import check_number
from guardrail.utils.arguments import takes_no_others

if TYPE_CHECKING:
    from langchain.agents.middleware import ToolCallRequest

__all__ = ["when_uncertain"]


@takes_no_others
def when_uncertain(threshold: float) -> "Callable[[ToolCallRequest], bool]":
    """Have a person review a call of a tool only where the model is not sure enough of it.

    What counts is the least of the answer's confidence and the call's own. What is not known counts as
    uncertain: a message without a verdict, a verdict that this process did not give or gave on another
    message, one without a confidence, one of an answer that could not be scored, a call that has none of its
    own, and the call of a stronger model, which was not scored. A call that a person let through already is
    not shown again.

    Warning:
        ``HumanInTheLoopMiddleware`` leaves a call that a person rejected in the message, with an answer to it
        below. Beside any middleware that jumps to ``tools`` (``jump_to: "tools"``), LangChain runs it all the
        same. Nothing here can see what else an agent was made with: let :class:`UncertaintyMiddleware` ask
        the person, which takes rejected calls out of the message, or use no middleware that jumps there.

    Example:
        >>> HumanInTheLoopMiddleware(
        ...     interrupt_on={
        ...         "send_mail": {
        ...             "allowed_decisions": ["approve", "edit", "reject"],
        ...             "when": when_uncertain(0.9),
        ...         }
        ...     }
        ... )

    Args:
        threshold: Least probability of being correct, 0 to 1, from which on nobody is asked.

    Returns:
        A predicate for ``when``. It gives the same answer again when the run resumes.

    Raises:
        OptionError: The threshold is not between 0 and 1.
    """
    check_number("threshold", threshold)
    if not 0 <= threshold <= 1:
        raise OptionError(f"The threshold is {threshold}; it is a probability, between 0 and 1.")

    def is_uncertain(request: "ToolCallRequest") -> bool:
        message = _caller(request)
        verdict = verdict_of(message)
        if message is None or verdict is None or not is_given(verdict, said=parts_of(message)):
            return True
        if verdict.get(REVIEW_KEY) in STOOD:
            return False
        confidence = _confidence(verdict, request.tool_call["name"])
        return confidence is None or confidence < threshold

    return is_uncertain


def _caller(request: "ToolCallRequest") -> AIMessage | None:
    """The message that makes the call."""
    state: Any = request.state
    messages = state.get("messages") if isinstance(state, Mapping) else getattr(state, "messages", None)
    wanted = request.tool_call.get("id")
    for message in reversed(messages or ()):
        if isinstance(message, AIMessage) and any(call.get("id") == wanted for call in message.tool_calls):
            return message
    return None


def _confidence(verdict: Mapping[str, Any], tool: str) -> float | None:
    """What can be believed of a call of a tool; None where nothing can."""
    escalation = verdict.get("escalation")
    is_of_another = isinstance(escalation, Mapping) and escalation.get("source") is not None
    calls = [call for call in verdict.get("tool_calls") or () if call.get("name") == tool]
    known: list[Any] = [verdict.get("confidence"), *(call.get("confidence") for call in calls)]
    if verdict.get("error") or is_of_another or not calls:
        return None
    return min(known) if all(type(one) is float and 0 <= one <= 1 for one in known) else None
