"""Middleware for agents: every answer of the model is decided on before anybody sees it."""

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
    """What the middleware adds to an agent's state."""

    uncertainty_waiting: NotRequired[Annotated[Waiting | None, PrivateStateAttr]]


@takes_no_others
class UncertaintyMiddleware(AgentMiddleware[Any, Any, Any]):
    """A policy for every answer of an agent's model, before the agent or anybody else sees it.

    An answer of a ``ChatGuardrail`` that enforces the same policy was decided on, and acted on, already, and
    what another policy of its withheld stays withheld: for the actions below give it one with ``mode:
    observe``, and its ``guard.model`` as ``scorer_model``. Its answer is then read by a local model, which
    scores it, as that of any other model is. Then:

    * ``pass`` and ``flag``: the agent goes on. The message carries the verdict (:func:`verdict_of`).
    * ``abstain``: the policy's message stands in the answer's place, its calls of tools are gone, and the
      agent ends. So it does where the answer could not be scored, and where no target took it.
    * ``escalate`` to a ``chat_model``: it is asked the same, with the same tools, and the agent goes on with
      its answer, whose verdict names it as the ``source``.
    * ``escalate`` to a ``callable``: its text is the answer, and the agent ends.
    * ``escalate`` to a ``queue``: the agent stops with an ``interrupt``, for which it needs a checkpointer. A
      person approves, edits or rejects what the interrupt shows, in the form of LangChain's
      ``HumanInTheLoopMiddleware``, and the agent goes on with
      ``Command(resume={"decisions": [{"type": "approve"}]})``. What is rejected in part is withheld
      as a whole.

    Whatever the policy says of ``streaming``, nobody hears anything of an answer before the verdict: no
    stream mode, no callback, no trace. Of one that is withheld they hear that a model ran and what tokens it
    took, and no checkpoint has it. A draft that waits for a person is in the interrupt, and until it is
    decided on in the agent's private state (``uncertainty_waiting``), so in checkpoints of that time.

    A turn that was withheld stays in the agent's state, and is no part of what the model is asked later:
    neither what stands in the answer's place, nor the question and the calls that led to it.

    Give the middleware last: it is then next to the model, other middleware sees only what is let through,
    and what looks at calls of tools sees them as a person put them right.

    Examples:
        >>> guard = UncertaintyMiddleware("builtin:default")
        >>> agent = create_agent(model, tools, middleware=[guard], checkpointer=InMemorySaver())

    Args:
        policy: Path, ``builtin:NAME``, or a policy that was loaded.
        scorer_model: Local model that reads the answers of others, or its name; as ``model`` of
            :class:`UncertaintyGuard`.
        targets: Chat models, functions or queues for names of the policy's ``escalation``.
        answered_by: Who answers, as for :class:`UncertaintyGuard`.
        people: What an escalation to a queue does: ``interrupt``, or ``queue`` to put it there and end.
        tags: What the policy's rules may go by, beside the tags of the run.
        familiarity: What an earlier middleware of the same profile knew of the traffic
            (:attr:`familiarity`), to go on from there.

    Raises:
        PolicyError: The policy has mistakes; it lists all of them.
        OptionError: An argument has an invalid value.
        GuardrailError: A model cannot be opened, or the policy's profile is of another.
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
        # It is what it was made by.
        self.__init__(**made_by)  # type: ignore[misc]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # There is nothing in it that is changed.
        return self

    @property
    def policy(self) -> Policy:
        """What decides."""
        return self._guard.policy

    @property
    def familiarity(self) -> Mapping[str, Any] | None:
        """What is known of the traffic, to be kept over a restart; as for :class:`UncertaintyGuard`."""
        return self._guard.familiarity

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ExtendedModelResponse[Any]:
        """Have the model answer, and give what the policy lets through."""
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
        """As :meth:`wrap_model_call`, within an event loop."""
        turn, left_out = self._turn(request, handler)
        given = await self._adecided(request, turn, left_out, await turn.aask())
        if isinstance(given, BaseException):
            turn.forget()
            raise given
        return given

    # The answer is in the frames of these two alone, which have returned when something is raised.

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
        """Ask a person about a draft that waits for one; end the agent where nothing answers."""
        # Not while the model is called: that would be called again when the agent goes on.
        waiting = state.get(_WAITING)
        if waiting is not None:
            reply = interrupt(request_of(waiting), response_schema=reply_type(waiting))
            return {**reviewed(waiting, reply), _WAITING: None}
        return {"jump_to": "end"} if any(map(ends_agent, state["messages"][-1:])) else None

    @hook_config(can_jump_to=["end"])
    async def aafter_model(self, state: Any, runtime: "Runtime[Any]") -> dict[str, Any] | None:
        """As :meth:`after_model`, within an event loop."""
        return self.after_model(state, runtime)

    def _turn(self, request: ModelRequest[Any], handler: Callable[..., Any]) -> tuple[AgentTurn, int]:
        """The turn, whose model is not asked with what was withheld before, and how many turns that is."""
        said, left_out = as_spoken(request.messages, self._guard.notices)
        return AgentTurn(request.override(messages=said), handler), left_out

    def _call(self, draft: Held) -> ModelCall:
        """The model's call as it is assessed; where it was not seen what was asked, ``on_error`` decides."""
        message = draft.message
        if message is None:
            return ModelCall(uuid4())
        parts = parts_of(message)
        seen = [call for call in draft.watch.calls if call.text == parts.text]
        call = seen[-1] if seen else ModelCall(uuid4(), text=parts.text)
        # What was seen may have been changed on its way here, and what it says of itself may be anybody's.
        verdict = call.verdict if call.parts == parts else None
        claimed = verdict_of(message)
        is_withheld = verdict is None and claimed is not None and withholds(claimed)
        if is_withheld and claimed is not None and is_given(claimed, said=parts):
            verdict, is_withheld = claimed, False
        return replace(call, tool_calls=parts.calls, verdict=verdict, is_withheld=is_withheld)

    def _all_tags(self) -> list[str]:
        return [*self._tags, *(ensure_config().get("tags") or ())]


def _extended(request: ModelRequest[Any], result: TurnResult) -> ExtendedModelResponse[Any]:
    # What waited before, and was not decided on, does so no longer.
    is_known = result.waiting is not None or cast("Any", request.state).get(_WAITING) is not None
    command: Command[Any] | None = Command(update={_WAITING: result.waiting}) if is_known else None
    return ExtendedModelResponse(model_response=result.response, command=command)
