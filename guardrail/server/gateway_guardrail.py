"""Decides on the calls of a gateway: a question is kept, and the response to it decided on by the guard."""

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from guardrail.labelling.provenance import Author
from guardrail.langchain.answer_parts import author_of_call, reported_model
from guardrail.langchain.message_conversion import prompt_of
from guardrail.langchain.model_calls import ModelCall, ajudge_call
from guardrail.server.chat_completions import messages_of
from guardrail.server.litellm_protocol import GatewayCall, blocked, intervened, passed
from guardrail.server.pending_questions import PendingQuestions, Question

if TYPE_CHECKING:
    from guardrail.guard.answer import GuardedAnswer
    from guardrail.guard.guard import Guard

__all__ = ["GatewayGuardrail"]

# What a message takes beside its text, which may be one letter.
_OBJECT_BYTES = 1000
_NO_QUESTION = (
    "it is not known what was asked: the gateway has to show the question, too (mode: [pre_call, post_call])"
)
_NO_ID = "the call has no id, by which its question and its response could be brought together"
_UNREAD = "the response could not be read"
_HAD_TOOLS = "the model was offered tools, which the response is read without"


class GatewayGuardrail:
    """The guard as a gateway asks it.

    Args:
        guard: The guard.
        questions: Where questions are kept.
    """

    def __init__(self, guard: "Guard", questions: PendingQuestions | None = None) -> None:
        self._guard = guard
        self._questions = PendingQuestions() if questions is None else questions

    def note_question(self, call: GatewayCall, size: int) -> dict[str, Any]:
        """Keep the question of a call. Nothing is checked in it.

        Args:
            call: What the gateway shows, whose ``input_type`` is ``request``.
            size: Of its body, in bytes.

        Returns:
            What the gateway is answered: that it may go on, unless no response to the question could be
            checked.
        """
        problem = call.problem or ("" if call.litellm_call_id else _NO_ID)
        if problem:
            return blocked(f"The answer to this could not be checked: {problem}.")
        messages = messages_of(call.structured_messages or ())
        # What no model can read is an error now, before another has answered it.
        prompt_of(messages)
        memory = size + _OBJECT_BYTES * (1 + len(messages))
        self._questions.put(self._key(call), Question(messages, bool(call.tools), memory))
        return passed()

    def question_of(self, call: GatewayCall) -> Question | None:
        """The question that a response is to; None where it is not known."""
        return self._questions.get(self._key(call)) if call.litellm_call_id else None

    async def decide(
        self, call: GatewayCall, request_id: str, tags: tuple[str, ...] = ()
    ) -> tuple[dict[str, Any], "GuardedAnswer"]:
        """Decide on a response.

        Args:
            call: What the gateway shows, whose ``input_type`` is ``response``.
            request_id: By which verdict and log know it.
            tags: What the policy's rules are told of it.

        Returns:
            What the gateway is answered, and what was decided.
        """
        question = self.question_of(call)
        problem = call.problem or (_NO_QUESTION if question is None else "")
        if problem or question is None:
            answer = await self._refused(call, question, problem, request_id, tags)
            return (blocked(answer.text) if answer.enforced else passed()), answer
        made = ModelCall(
            uuid4(),
            question.messages,
            call.text,
            call.calls,
            model=reported_model(None, None, {"model": call.model}),
        )
        # Of a response that does not say whose it is, nobody knows whether the declaration is true.
        declared = call.options.answered_by if made.model.names else None
        author = author_of_call(made, self._guard, declared)
        if author is not None and question.has_tools:
            author = Author(author.name, author.doubt or _HAD_TOOLS)
        answer = await ajudge_call(self._guard, made, tags, author, request_id)
        return _told(answer, call), answer

    async def _refused(
        self,
        call: GatewayCall,
        question: Question | None,
        problem: str,
        request_id: str,
        tags: tuple[str, ...],
    ) -> "GuardedAnswer":
        """What becomes of a response that cannot be checked."""
        asked = [] if question is None else prompt_of(question.messages)
        return await self._guard.arefuse(
            asked,
            call.text or None,
            f"ScoringError: {problem}",
            answered_by=Author(reported_model(None, None, {"model": call.model}).shown, _UNREAD),
            tags=tags,
            request_id=request_id,
        )

    @staticmethod
    def _key(call: GatewayCall) -> tuple[str | None, str | None]:
        # A client may choose the id; it cannot choose that of another's call.
        return call.litellm_call_id, call.owner


def _told(answer: "GuardedAnswer", call: GatewayCall) -> dict[str, Any]:
    """What the gateway is told of a decision."""
    if not answer.enforced or answer.action == "pass":
        return passed()
    if answer.action != "flag":
        # Not by another text: calls of tools, reasoning and a stream's own pieces would stay as they are.
        return blocked(answer.text)
    warning = answer.message or ""
    if call.options.flagged == "warn" and call.text:
        return intervened(f"{call.text}\n\n{warning}")
    return blocked(f"{warning} (The answer is not shown, since this warning could be lost on its way.)")
