"""Human review of a draft: the request shown to a person, and how the agent continues after the reply."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, cast
from uuid import uuid4

from langchain.agents.middleware import ModelResponse
from langchain.agents.middleware.human_in_the_loop import ApproveDecision, EditDecision, RejectDecision
from langchain_core.messages import (
    AIMessage,
    HumanMessage,
    RemoveMessage,
    messages_from_dict,
    messages_to_dict,
)
from pydantic import AfterValidator, Discriminator
from typing_extensions import TypedDict

from guardrail.errors import OptionError
from guardrail.escalation.case import is_blank
from guardrail.escalation.verdict import Verdict, VerdictEscalation
from guardrail.guard.answer import DEFAULT_MESSAGES, confidence_percent
from guardrail.langchain.answer_parts import parts_of
from guardrail.langchain.message_conversion import in_place_of, with_verdict
from guardrail.langchain.verdicts import CarriedVerdict, is_given, unsealed, verdict_of
from guardrail.models.sampling import check_number
from guardrail.utils.text import takes_no_others

if TYPE_CHECKING:
    from langchain.agents.middleware import ToolCallRequest

    from guardrail.langchain.agent_turn import AgentTurn, Held
    from guardrail.langchain.outcome import ChainOutcome

__all__ = [
    "REVIEW_KEY",
    "STOOD",
    "ReviewReply",
    "TurnResult",
    "Waiting",
    "ends_agent",
    "reply_type",
    "request_of",
    "result_of",
    "reviewed",
    "waiting_of",
    "when_uncertain",
]


# Key of a person's decision in a verdict.
REVIEW_KEY: Final = "review"
# Decisions that let the draft through, unchanged or edited.
STOOD = ("approve", "edit")
# Name of the action in a review request for an answer without tool calls.
_ANSWER = "answer"
_PERSON = "human review"


class Waiting(TypedDict):
    """A draft that waits for a person, in the form that a checkpoint stores.

    Attributes:
        messages: Messages of the model's turn as plain values.
        structured_response: Response parsed from them, if the agent has a response format.
        verdict: Verdict on the draft.
        placeholder: Id of the message that takes the draft's place meanwhile.
        question: Last message of the user.
    """

    messages: list[dict[str, Any]]
    structured_response: Any
    verdict: CarriedVerdict
    placeholder: str
    question: str


class ReviewReply(TypedDict):
    """A person's reply: one decision per action, in the order of the request."""

    decisions: list[Annotated[ApproveDecision | EditDecision | RejectDecision, Discriminator("type")]]


def waiting_of(
    response: ModelResponse[Any], verdict: Verdict, placeholder: str, asked: Sequence[Any]
) -> Waiting:
    """Make the record of a draft that waits for a person."""
    said = [one for one in response.result if isinstance(one, AIMessage)]
    message = said[-1] if said else AIMessage("")
    questions = [str(one.text) for one in asked if isinstance(one, HumanMessage)]
    return Waiting(
        messages=messages_to_dict([message, *(one for one in response.result if one is not message)]),
        structured_response=response.structured_response,
        verdict=unsealed(verdict),
        placeholder=placeholder,
        question=questions[-1] if questions else "",
    )


def request_of(waiting: Waiting) -> dict[str, Any]:
    """Make the request that a person is shown, which is the value of the interrupt."""
    message = _draft(waiting)
    allowed = _allowed(waiting, message)
    actions = [(call["name"], call["args"]) for call in message.tool_calls] or [
        (_ANSWER, {"text": str(message.text)})
    ]
    described = _description(waiting, message)
    return {
        "action_requests": [{"name": name, "args": args, "description": described} for name, args in actions],
        "review_configs": [
            {"action_name": name, "allowed_decisions": allowed}
            for name in dict.fromkeys(name for name, _ in actions)
        ],
        "uncertainty": waiting["verdict"],
    }


def reply_type(waiting: Waiting) -> type[ReviewReply]:
    """Make the type of a valid reply, by which LangGraph validates a reply before storing it."""
    message = _draft(waiting)
    allowed, expected = _allowed(waiting, message), len(message.tool_calls) or 1

    def fitting(reply: ReviewReply) -> ReviewReply:
        decisions = reply["decisions"]
        if len(decisions) != expected:
            raise ValueError(f"has {len(decisions)} decisions; the request has {expected} actions")
        for decision in decisions:
            if decision["type"] not in allowed:
                raise ValueError(f"has {decision['type']}; allowed is {' or '.join(allowed)}")
            if decision["type"] == "edit" and not message.tool_calls:
                _check_text(decision["edited_action"])
        return reply

    return cast("type[ReviewReply]", Annotated[ReviewReply, AfterValidator(fitting)])


def reviewed(waiting: Waiting, reply: ReviewReply) -> dict[str, Any]:
    """Turn a person's reply into an update of the agent's state; one rejection withholds the whole draft."""
    decisions = reply["decisions"]
    rejected = next((decision for decision in decisions if decision["type"] == "reject"), None)
    gone = RemoveMessage(id=waiting["placeholder"])
    if rejected is not None:
        words = rejected.get("message") or DEFAULT_MESSAGES["abstain"]
        verdict: CarriedVerdict = {
            **waiting["verdict"],
            "action": "abstain",
            "message": words,
            REVIEW_KEY: "reject",
        }
        return {"messages": [gone, _new(AIMessage(words), verdict)], "jump_to": "end"}
    edited = any(decision["type"] == "edit" for decision in decisions)
    message, *others = _messages(waiting)
    if edited:
        message = _edited(cast("AIMessage", message), decisions)
    kept = _new(cast("AIMessage", message), _let_through(waiting["verdict"], "edit" if edited else "approve"))
    update: dict[str, Any] = {"messages": [gone, kept, *others]}
    if not kept.tool_calls:
        update["jump_to"] = "end"
    if waiting["structured_response"] is not None:
        update["structured_response"] = waiting["structured_response"]
    return update


def _let_through(verdict: CarriedVerdict, decision: Literal["approve", "edit"]) -> CarriedVerdict:
    known = verdict.get("escalation") or VerdictEscalation(target=None, source=None, ticket=None, attempts=[])
    escalation: VerdictEscalation = {**known, "source": _PERSON}
    return {**verdict, "message": None, "escalation": escalation, REVIEW_KEY: decision}


def _edited(message: AIMessage, decisions: Sequence[Any]) -> AIMessage:
    model = message.response_metadata.get("model_name")
    text, calls = str(message.text), message.tool_calls
    if calls:
        calls = [
            {**call, "name": decision["edited_action"]["name"], "args": decision["edited_action"]["args"]}
            if decision["type"] == "edit"
            else call
            for call, decision in zip(calls, decisions, strict=True)
        ]
    else:
        text = decisions[0]["edited_action"]["args"]["text"]
    return AIMessage(
        text,
        name=message.name,
        tool_calls=calls,
        usage_metadata=message.usage_metadata,
        response_metadata={"model_name": model} if model else {},
    )


def _new(message: AIMessage, verdict: CarriedVerdict) -> AIMessage:
    # A message stream skips ids that it has seen, and it has seen that of the placeholder.
    renewed: AIMessage = with_verdict(message, verdict).model_copy(update={"id": str(uuid4())})
    return renewed


def _messages(waiting: Waiting) -> list[Any]:
    return messages_from_dict(waiting["messages"])


def _draft(waiting: Waiting) -> AIMessage:
    return cast("AIMessage", _messages(waiting)[0])


def _allowed(waiting: Waiting, message: AIMessage) -> list[str]:
    # After an edit, the structured response would no longer match the text it was parsed from.
    is_fixed = waiting["structured_response"] is not None or len(waiting["messages"]) > 1
    says_nothing = not message.tool_calls and is_blank(str(message.text))
    kinds = {"approve": not says_nothing, "edit": not is_fixed, "reject": True}
    return [kind for kind, is_allowed in kinds.items() if is_allowed]


def _check_text(action: Mapping[str, Any]) -> None:
    text = action["args"].get("text")
    if action["name"] != _ANSWER or not isinstance(text, str) or is_blank(text):
        raise ValueError(f"edits something else; give the action {_ANSWER!r} with a text")


def _description(waiting: Waiting, message: AIMessage) -> str:
    verdict = waiting["verdict"]
    confidence = verdict.get("confidence")
    lines = [
        ("Question", waiting["question"]),
        ("The model also says", str(message.text) if message.tool_calls else None),
        ("Confidence", confidence_percent(confidence) if isinstance(confidence, float) else "unknown"),
        ("Why you are asked", f"{verdict['reason']} (rule {verdict['rule']})"),
    ]
    return "\n".join(f"{title}: {text}" for title, text in lines if text)


class TurnResult(NamedTuple):
    """The result of a model's turn with which the agent continues.

    Attributes:
        response: Model response that the agent receives.
        shown: Answer in the response; None if a text replaces it.
        waiting: Draft that waits for a person, if any.
    """

    response: ModelResponse[Any]
    shown: "Held | None" = None
    waiting: Waiting | None = None


def result_of(turn: "AgentTurn", draft: "Held", outcome: "ChainOutcome") -> TurnResult:
    """Apply the outcome to a model's turn.

    Args:
        turn: Turn with the replies of the policy's escalation targets.
        draft: Answer of the agent's model.
        outcome: Outcome of the decision.
    """
    verdict, answer = outcome.verdict.plain, outcome.verdict.answer
    if outcome.text is None:
        return TurnResult(_told_of(draft, verdict), draft)
    escalation = answer.escalation if answer is not None else None
    if not outcome.withheld and escalation is not None and escalation.target in turn.replies:
        stronger = turn.replies[escalation.target]
        return TurnResult(_told_of(stronger, verdict), stronger)
    instead = in_place_of(draft.message or AIMessage(""), outcome.text, verdict)
    # It needs an id of its own: streams know the draft's id, and a review removes this message by its id.
    message = instead.model_copy(update={"id": str(uuid4())})
    waiting = None
    if escalation is not None and turn.case is not None and escalation.ticket == turn.case.id:
        waiting = waiting_of(draft.response, verdict, message.id, turn.request.messages)
    return TurnResult(ModelResponse(result=[message]), waiting=waiting)


def ends_agent(message: Any) -> bool:
    """Whether an agent ends after a message, because a text replaces a withheld answer."""
    verdict = verdict_of(message)
    if verdict is None or not verdict["enforced"]:
        return False
    return verdict["action"] in ("abstain", "escalate") and not message.tool_calls


def _told_of(held: "Held", verdict: Verdict) -> ModelResponse[Any]:
    message = held.message
    messages = [with_verdict(one, verdict) if one is message else one for one in held.response.result]
    return ModelResponse(result=messages, structured_response=held.response.structured_response)


@takes_no_others
def when_uncertain(threshold: float) -> "Callable[[ToolCallRequest], bool]":
    """Have a person review a tool call only if the model is not confident enough in it.

    The lower of the answer's confidence and the call's own is compared with the threshold. Anything unknown
    counts as uncertain: a message without a verdict, a verdict that this process did not give or gave on
    another message, a verdict without a confidence, an answer that could not be scored, a call without a
    confidence of its own, and a call by a stronger model, which was not scored. A call that a person has
    already let through is not shown again.

    Warning:
        ``HumanInTheLoopMiddleware`` leaves a rejected call in the message, followed by an answer to it. If
        any other middleware jumps to ``tools`` (``jump_to: "tools"``), LangChain runs the rejected call all
        the same. This function cannot see which other middleware an agent has. Either let
        :class:`UncertaintyMiddleware` ask the person, since it removes rejected calls from the message, or
        use no middleware that jumps to ``tools``.

    Examples:
        >>> HumanInTheLoopMiddleware(
        ...     interrupt_on={
        ...         "send_mail": {
        ...             "allowed_decisions": ["approve", "edit", "reject"],
        ...             "when": when_uncertain(0.9),
        ...         }
        ...     }
        ... )

    Args:
        threshold: Probability of being correct, 0 to 1; a person is asked only below it.

    Returns:
        A predicate for ``when``. It returns the same result again when the run resumes.

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
    """Find the message that makes the call."""
    state: Any = request.state
    messages = state.get("messages") if isinstance(state, Mapping) else getattr(state, "messages", None)
    wanted = request.tool_call.get("id")
    for message in reversed(messages or ()):
        if isinstance(message, AIMessage) and any(call.get("id") == wanted for call in message.tool_calls):
            return message
    return None


def _confidence(verdict: CarriedVerdict, tool: str) -> float | None:
    """Return the confidence in a call of the named tool; None if it is unknown."""
    escalation = verdict.get("escalation")
    is_of_another = isinstance(escalation, Mapping) and escalation.get("source") is not None
    calls = [call for call in verdict.get("tool_calls") or () if call.get("name") == tool]
    known: list[Any] = [verdict.get("confidence"), *(call.get("confidence") for call in calls)]
    if verdict.get("error") or is_of_another or not calls:
        return None
    return min(known) if all(type(one) is float and 0 <= one <= 1 for one in known) else None
