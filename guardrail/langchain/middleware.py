"""Middleware for agents: the policy decides on every answer of the model before it is visible."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NotRequired, Self, cast, get_args
from uuid import uuid4

from langchain.agents.middleware import (
    AgentMiddleware,
    AgentState,
    ExtendedModelResponse,
    ModelRequest,
    ModelResponse,
    hook_config,
)
from langchain.agents.middleware.types import PrivateStateAttr
from langchain_core.callbacks import adispatch_custom_event, dispatch_custom_event
from langchain_core.runnables.config import ensure_config
from langgraph.types import Command, interrupt

from guardrail.errors import OptionError
from guardrail.escalation.routing import check_keyless
from guardrail.escalation.verdict import withholds
from guardrail.langchain.agent_turn import AgentTurn, Held, People, targets_within
from guardrail.langchain.answer_parts import AnsweredBy, parts_of
from guardrail.langchain.guarded_run import bare
from guardrail.langchain.human_review import (
    TurnResult,
    Waiting,
    ends_agent,
    reply_type,
    request_of,
    result_of,
    reviewed,
)
from guardrail.langchain.message_conversion import as_spoken
from guardrail.langchain.model_calls import ModelCall
from guardrail.langchain.verdicts import VERDICT_EVENT, is_given, traced, verdict_of
from guardrail.langchain.wrapper import UncertaintyGuard
from guardrail.policy.load import load_policy
from guardrail.policy.model import Policy
from guardrail.utils.text import takes_no_others

if TYPE_CHECKING:
    from langgraph.runtime import Runtime

    from guardrail.models.local import LocalModel

__all__ = ["UncertaintyMiddleware"]


_WAITING = "uncertainty_waiting"


class UncertaintyState(AgentState[Any]):
    """Agent state with the fields that the middleware adds."""

    uncertainty_waiting: NotRequired[Annotated[Waiting | None, PrivateStateAttr]]


@takes_no_others
class UncertaintyMiddleware(AgentMiddleware[Any, Any, Any]):
    """A policy that decides on every answer of an agent's model before the agent or its observers see it.

    The answer of any model is read and scored by a local model, and the policy acts as listed below. A
    ``ChatGuardrail`` that enforces the same policy has already decided and acted on its answer, and what one
    with another policy withheld stays withheld. To get the actions below for a ``ChatGuardrail``, give it a
    policy with ``mode: observe``, and pass its ``guard.model`` as ``scorer_model``.

    * ``pass`` and ``flag``: the agent continues. The message carries the verdict (:func:`verdict_of`).
    * ``abstain``: the policy's message replaces the answer, its tool calls are removed, and the agent ends.
      The same happens if the answer could not be scored, or if no target answered.
    * ``escalate`` to a ``chat_model``: it receives the same request with the same tools, and the agent
      continues with its answer, whose verdict names it as the ``source``.
    * ``escalate`` to a ``callable``: its text becomes the answer, and the agent ends.
    * ``escalate`` to a ``queue``: the agent stops with an ``interrupt``, which requires a checkpointer. A
      person approves, edits or rejects what the interrupt shows, in the format of LangChain's
      ``HumanInTheLoopMiddleware``, and the agent continues with
      ``Command(resume={"decisions": [{"type": "approve"}]})``. If any part is rejected, the whole draft is
      withheld.

    Whatever the policy's ``streaming``, nothing of an answer is visible before the verdict: not in stream
    modes, callbacks or traces. For a withheld answer, these only show that a model ran and the tokens it
    used, and no checkpoint contains it. A draft that waits for a person is in the interrupt and, until it is
    decided on, in the agent's private state (``uncertainty_waiting``), and so in checkpoints of that time.

    A withheld turn stays in the agent's state but is left out of later prompts: the replacement message as
    well as the question and the tool calls that led to it.

    Put this middleware last in the list, next to the model. Other middleware then sees only answers that were
    let through, and middleware that inspects tool calls sees them as corrected by a person.

    Examples:
        >>> guard = UncertaintyMiddleware("builtin:default")
        >>> agent = create_agent(model, tools, middleware=[guard], checkpointer=InMemorySaver())

    Args:
        policy: Path, ``builtin:NAME``, or a loaded policy.
        scorer_model: Local model, or its name, that reads the answers of other models; as ``model`` of
            :class:`UncertaintyGuard`.
        targets: Chat models, functions or queues for names in the policy's ``escalation``.
        answered_by: Model that answers, as for :class:`UncertaintyGuard`.
        people: What an escalation to a queue does: ``interrupt`` the agent, or put a case into the ``queue``
            and end the agent.
        tags: Tags that the policy's rules can match, in addition to those of the run.
        familiarity: Knowledge of the traffic from an earlier middleware with the same profile
            (:attr:`familiarity`), to continue from.

    Raises:
        PolicyError: The policy has mistakes; the error lists all of them.
        OptionError: An argument has an invalid value.
        GuardrailError: A model cannot be opened, or the policy's profile is of another model.
    """

    state_schema = UncertaintyState

    def __init__(
        self,
        policy: str | Path | Policy,
        scorer_model: "str | LocalModel | None" = None,
        *,
        targets: Mapping[str, Any] | None = None,
        answered_by: AnsweredBy | None = None,
        people: People = "interrupt",
        tags: Iterable[str] = (),
        familiarity: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if people not in get_args(People):
            raise OptionError(f"people is {people!r}; it can be {' or '.join(get_args(People))}.")
        if isinstance(tags, str):
            raise OptionError("tags is a list of texts.")
        self._made_by: dict[str, Any] = {"policy": policy, "scorer_model": scorer_model, "targets": targets}
        policy = policy if isinstance(policy, Policy) else load_policy(policy)
        self._tags = tuple(tags)
        self._made_by |= {"people": people, "tags": self._tags, "answered_by": answered_by}
        within = targets_within(policy, targets, people)
        self._guard = UncertaintyGuard(
            policy, scorer_model, targets=within, answered_by=answered_by, familiarity=familiarity
        )

    def __getstate__(self) -> dict[str, Any]:
        check_keyless(self._made_by["targets"])
        return {**self._made_by, "familiarity": self.familiarity}

    def __setstate__(self, made_by: Mapping[str, Any]) -> None:
        # The state is the constructor's arguments.
        self.__init__(**made_by)  # type: ignore[misc]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # The middleware is never changed in place, so copies can share it.
        return self

    @property
    def policy(self) -> Policy:
        """Policy that decides."""
        return self._guard.policy

    @property
    def familiarity(self) -> Mapping[str, Any] | None:
        """Knowledge of the traffic, to be saved across restarts; as for :class:`UncertaintyGuard`."""
        return self._guard.familiarity

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ExtendedModelResponse[Any]:
        """Call the model, and return what the policy lets through."""
        turn, left_out = self._turn(request, handler)
        given = self._decided(request, turn, left_out, turn.ask())
        if isinstance(given, BaseException):
            turn.forget()
            raise given
        return given

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ExtendedModelResponse[Any]:
        """Async version of :meth:`wrap_model_call`."""
        turn, left_out = self._turn(request, handler)
        given = await self._adecided(request, turn, left_out, await turn.aask())
        if isinstance(given, BaseException):
            turn.forget()
            raise given
        return given

    # Only the frames of these two methods hold the answer. They return errors instead of raising them, so
    # that no traceback contains these frames.

    def _decided(
        self, request: ModelRequest[Any], turn: AgentTurn, left_out: int, draft: Held
    ) -> ExtendedModelResponse[Any] | BaseException:
        try:
            call = self._call(draft)
            with turn.current():
                outcome = self._guard.decide(
                    [call], request.messages, run_id=call.run_id, tags=self._all_tags()
                )
            outcome = outcome.with_turns_left_out(left_out)
            result = result_of(turn, draft, outcome)
            facts = {call.run_id: traced(outcome.verdict.plain)}
            draft.tell(redacted=result.shown is not draft, facts=facts)
            if result.shown is not None and result.shown is not draft:
                result.shown.tell(redacted=False)
            for verdict in outcome.verdicts:
                dispatch_custom_event(VERDICT_EVENT, verdict.with_run_id())
        except BaseException as problem:  # noqa: BLE001  (raised by whoever called this)
            draft.watch.forget()
            return bare(problem)
        return _extended(request, result)

    async def _adecided(
        self, request: ModelRequest[Any], turn: AgentTurn, left_out: int, draft: Held
    ) -> ExtendedModelResponse[Any] | BaseException:
        try:
            call = self._call(draft)
            with turn.current():
                outcome = await self._guard.adecide(
                    [call], request.messages, run_id=call.run_id, tags=self._all_tags()
                )
            outcome = outcome.with_turns_left_out(left_out)
            result = result_of(turn, draft, outcome)
            facts = {call.run_id: traced(outcome.verdict.plain)}
            await draft.atell(redacted=result.shown is not draft, facts=facts)
            if result.shown is not None and result.shown is not draft:
                await result.shown.atell(redacted=False)
            for verdict in outcome.verdicts:
                await adispatch_custom_event(VERDICT_EVENT, verdict.with_run_id())
        except BaseException as problem:  # noqa: BLE001  (as above)
            draft.watch.forget()
            return bare(problem)
        return _extended(request, result)

    @hook_config(can_jump_to=["end"])
    def after_model(self, state: Any, runtime: "Runtime[Any]") -> dict[str, Any] | None:
        """Interrupt for a draft that waits for a person; end the agent if nothing answers."""
        # Not in wrap_model_call, because the model would be called again when the agent resumes.
        waiting = state.get(_WAITING)
        if waiting is not None:
            reply = interrupt(request_of(waiting), response_schema=reply_type(waiting))
            return {**reviewed(waiting, reply), _WAITING: None}
        return {"jump_to": "end"} if any(map(ends_agent, state["messages"][-1:])) else None

    @hook_config(can_jump_to=["end"])
    async def aafter_model(self, state: Any, runtime: "Runtime[Any]") -> dict[str, Any] | None:
        """Async version of :meth:`after_model`."""
        return self.after_model(state, runtime)

    def _turn(self, request: ModelRequest[Any], handler: Callable[..., Any]) -> tuple[AgentTurn, int]:
        """Make the turn without the turns that were withheld before, and count those."""
        said, left_out = as_spoken(request.messages, self._guard.notices)
        return AgentTurn(request.override(messages=said), handler), left_out

    def _call(self, draft: Held) -> ModelCall:
        """Return the model call to assess; if its request was not seen, ``on_error`` decides."""
        message = draft.message
        if message is None:
            return ModelCall(uuid4())
        parts = parts_of(message)
        seen = [call for call in draft.watch.calls if call.text == parts.text]
        call = seen[-1] if seen else ModelCall(uuid4(), text=parts.text)
        # Other middleware may have changed the message since, and anybody may have written its verdict.
        verdict = call.verdict if call.parts == parts else None
        claimed = verdict_of(message)
        is_withheld = verdict is None and claimed is not None and withholds(claimed)
        if is_withheld and claimed is not None and is_given(claimed, said=parts):
            verdict, is_withheld = claimed, False
        return replace(call, tool_calls=parts.calls, verdict=verdict, is_withheld=is_withheld)

    def _all_tags(self) -> list[str]:
        return [*self._tags, *(ensure_config().get("tags") or ())]


def _extended(request: ModelRequest[Any], result: TurnResult) -> ExtendedModelResponse[Any]:
    # A draft from an earlier turn that was never decided on no longer waits.
    is_known = result.waiting is not None or cast("Any", request.state).get(_WAITING) is not None
    command: Command[Any] | None = Command(update={_WAITING: result.waiting}) if is_known else None
    return ExtendedModelResponse(model_response=result.response, command=command)
