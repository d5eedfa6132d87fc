"""A draft that waits for a person: what they are shown, and what the agent goes on with."""

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


# Where a verdict says what a person decided.
REVIEW_KEY: Final = "review"
# A person let it through, as it was or as they put it.
STOOD = ("approve", "edit")
# The action that stands for an answer without calls of tools.
_ANSWER = "answer"
_PERSON = "human review"


class Waiting(TypedDict):
    """A draft that waits for a person: what a checkpoint keeps of it.

    Attributes:
        messages: What the model's turn came to, as plain values.
        structured_response: What was read from it, where the agent has a format for answers.
        verdict: The verdict on it.
        placeholder: Id of the message that stands in its place meanwhile.
        question: What the user said last.
    """

    messages: list[dict[str, Any]]
    structured_response: Any
    verdict: CarriedVerdict
    placeholder: str
    question: str


class ReviewReply(TypedDict):
    """What a person says: one decision for each action, in their order."""

    decisions: list[Annotated[ApproveDecision | EditDecision | RejectDecision, Discriminator("type")]]


def waiting_of(
    response: ModelResponse[Any], verdict: Verdict, placeholder: str, asked: Sequence[Any]
) -> Waiting:
    """Put a draft by."""
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
    """What a person is shown: the value of the interrupt."""
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
    """The type of a reply that fits a request; LangGraph checks what comes by it before it is kept."""
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
    """The update of the agent's state by what a person said; whatever is rejected is withheld as a whole."""
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
    # A stream of messages leaves out those whose id it has seen: the one in the draft's place.
    renewed: AIMessage = with_verdict(message, verdict).model_copy(update={"id": str(uuid4())})
    return renewed


def _messages(waiting: Waiting) -> list[Any]:
    return messages_from_dict(waiting["messages"])


def _draft(waiting: Waiting) -> AIMessage:
    return cast("AIMessage", _messages(waiting)[0])


def _allowed(waiting: Waiting, message: AIMessage) -> list[str]:
    # What was read from an answer of a fixed format would not be what a person made of it.
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
    """What the agent goes on with.

    Attributes:
        response: The model's turn, as the agent sees it.
        shown: The answer that is in it; None where a text stands in its place.
        waiting: The draft, where it waits for a person.
    """

    response: ModelResponse[Any]
    shown: "Held | None" = None
    waiting: Waiting | None = None


def result_of(turn: "AgentTurn", draft: "Held", outcome: "ChainOutcome") -> TurnResult:
    """Act on what was decided.

    Args:
        turn: The turn, with what the policy's targets gave.
        draft: What the agent's model answered.
        outcome: What was decided.
    """
    verdict, answer = outcome.verdict.plain, outcome.verdict.answer
    if outcome.text is None:
        return TurnResult(_told_of(draft, verdict), draft)
    escalation = answer.escalation if answer is not None else None
    if not outcome.withheld and escalation is not None and escalation.target in turn.replies:
        stronger = turn.replies[escalation.target]
        return TurnResult(_told_of(stronger, verdict), stronger)
    instead = in_place_of(draft.message or AIMessage(""), outcome.text, verdict)
    # Of its own: streams know the draft's id, and what replaces this one has to name it.
    message = instead.model_copy(update={"id": str(uuid4())})
    waiting = None
    if escalation is not None and turn.case is not None and escalation.ticket == turn.case.id:
        waiting = waiting_of(draft.response, verdict, message.id, turn.request.messages)
    return TurnResult(ModelResponse(result=[message]), waiting=waiting)


def ends_agent(message: Any) -> bool:
    """Whether an agent has nothing to do after a message: a text stands in the place of an answer."""
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


def _confidence(verdict: CarriedVerdict, tool: str) -> float | None:
    """What can be believed of a call of a tool; None where nothing can."""
    escalation = verdict.get("escalation")
    is_of_another = isinstance(escalation, Mapping) and escalation.get("source") is not None
    calls = [call for call in verdict.get("tool_calls") or () if call.get("name") == tool]
    known: list[Any] = [verdict.get("confidence"), *(call.get("confidence") for call in calls)]
    if verdict.get("error") or is_of_another or not calls:
        return None
    return min(known) if all(type(one) is float and 0 <= one <= 1 for one in known) else None
