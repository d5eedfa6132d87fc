"""A guard around any chain of LangChain."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, get_args, overload
from uuid import UUID

from langchain_core.runnables.base import Runnable, coerce_to_runnable
from langchain_core.runnables.utils import Input, Output

from guardrail.calibration.profile import read_profile
from guardrail.errors import GuardrailError, OptionError
from guardrail.escalation.routing import check_keyless
from guardrail.escalation.verdict import withholds
from guardrail.guard.history import notices_of
from guardrail.langchain.answer_parts import AnsweredBy, checked_declaration
from guardrail.langchain.guarded_chain import GuardedChain
from guardrail.langchain.model_calls import adecide_on_call, arefuse_chain, decide_on_call, refuse_chain
from guardrail.langchain.outcome import CallDecision, ChainOnAbstain, ChainOutcome, combined
from guardrail.langchain.shared_models import shared_model
from guardrail.models.files.reference import DEFAULT_MODEL
from guardrail.policy.lint import AUTO
from guardrail.policy.load import load_policy
from guardrail.policy.model import SENTENCES, Policy
from guardrail.utils.text import takes_no_others
from guardrail.utils.threads import ForkSafeLock

if TYPE_CHECKING:
    from langchain_core.runnables.base import RunnableLike

    from guardrail.guard.guard import Guard
    from guardrail.langchain.model_calls import ModelCall
    from guardrail.models.local import LocalModel

__all__ = ["UncertaintyGuard"]


@takes_no_others
class UncertaintyGuard:
    """A policy that is put around chains.

    Every answer of a chat or completion model within a chain is looked at, whatever comes before and after
    it: retrievers, parsers, branches, other guards. A model with a guard of its own (``ChatGuardrail``, or a
    chain that is wrapped already) brings its verdict along. It counts if that guard, of this process,
    enforces the same policy with the same profile. Under another policy the answer is decided on again, and
    the stricter counts; what that guard withheld stays withheld. What a message says of itself counts for
    nothing where no guard of this process gave it for this answer to this question. The answer of any other
    model (vLLM, Ollama, an API) is read by a local model, which scores it as if it were its own. A profile of
    that model does not hold for it, unless ``answered_by`` says so: confidence and guarantees are unknown,
    and where a rule hangs on them the policy's ``on_outside_domain`` decides. Of several calls the policy's
    ``combine`` says whose verdict decides. A chain that calls no model was not checked, and ``on_error``
    decides. Whatever an answer holds beside its text counts as a call of a tool for the policy's rules.

    What the policy does becomes of the chain's output:

    * ``pass`` and ``flag``: the output as it is. A message carries the verdict in its ``response_metadata``
      (:func:`verdict_of`); otherwise :func:`get_uncertainty_callback` reads it.
    * ``abstain``: the policy's message, where the output is a text, a message of a model, or the state of a
      graph with ``messages``, which then holds what was asked and this message alone.
    * ``escalate``: the target's answer likewise, or the policy's message while a person decides. An answer
      to a step on the way to the last model is none to what was asked: that is withheld.
    * Where the output is something else, or ``on_abstain`` says so: :class:`AbstainedError`.

    An error of the chain itself stays what it is if no model had answered, or if what they answered may be
    shown; otherwise :class:`AbstainedError` takes its place, since errors may quote answers.

    Streaming is the policy's. ``buffer``: nothing of what happens within the chain is told to anybody around
    it before the verdict: not to its stream, nor to callbacks, ``astream_events``, ``astream_log``, tracers
    and any of LangGraph's stream modes. What may be shown is told afterwards, in the same order and chunks
    (times in a trace are then those of the telling); of what is withheld, that models ran and their tokens.
    ``annotate``: everything as it comes, and the verdict on the last chunk.

    An answer is decided on as one to the conversation without the turns that were withheld; what the chain's
    own model reads of these is the chain's affair.

    What ``buffer`` cannot keep from others, since the chain has it of its own: callbacks that a model or a
    part of the chain was made with, ``set_debug`` and ``verbose``, a memory, checkpoint or ``@task`` of
    LangGraph's that the chain writes to, and whatever its functions do. A model that is called in a thread
    which the chain started without LangChain's context is not seen.

    Examples:
        >>> guarded = UncertaintyGuard(policy="builtin:default").wrap(prompt | model | StrOutputParser())
        >>> guarded.invoke({"question": "Who wrote Faust?"})

    Args:
        policy: Path, ``builtin:NAME``, or a policy that was loaded.
        model: Local model that reads the answers of others, or its name; if not given, the policy's
            ``scorer_model``, its ``model``, or the built-in one, in this order. It is opened at once if it is
            given here or as ``scorer_model``, otherwise when it is needed first. Guards and ``ChatGuardrail``
            share the weights of what has the same name.
        on_abstain: ``message``, or ``raise`` for :class:`AbstainedError` wherever nothing answers: before the
            first chunk of a stream, so that ``with_fallbacks`` works.
        targets: Chat models, functions or queues for names of the policy's ``escalation``.
        answered_by: Who answers in the chains: a model's name as the profile has it (the local model's, or
            what ``guardrail calibrate --answered-by`` was told), or for several models a map from what each
            calls itself. Without it every model but a ``ChatGuardrail`` is somebody else, for whom no
            profile holds. It is not believed of an answer whose own metadata names another model.
        trace_drafts: Let tracers (LangSmith's, ``collect_runs``) see everything as it happens, with true
            times, and so every answer, withheld or not.
        familiarity: What an earlier guard of the same profile knew of the traffic (:attr:`familiarity`), to
            go on from there.

    Raises:
        PolicyError: The policy has mistakes; it lists all of them.
        OptionError: An argument has an invalid value.
        GuardrailError: The model cannot be opened, or the policy's profile is of another.
    """

    def __init__(
        self,
        policy: str | Path | Policy,
        model: "str | LocalModel | None" = None,
        *,
        on_abstain: ChainOnAbstain = "message",
        targets: Mapping[str, Any] | None = None,
        answered_by: AnsweredBy | None = None,
        trace_drafts: bool = False,
        familiarity: Mapping[str, Any] | None = None,
    ) -> None:
        if on_abstain not in get_args(ChainOnAbstain):
            raise OptionError(
                f"on_abstain is {on_abstain!r}; it can be {' or '.join(get_args(ChainOnAbstain))}."
            )
        if not isinstance(trace_drafts, bool):
            # Any text would show drafts, "no" too.
            raise OptionError(f"trace_drafts is {trace_drafts!r}; it can be True or False.")
        self.policy = policy if isinstance(policy, Policy) else load_policy(policy)
        if self.policy.streaming == SENTENCES:
            raise OptionError(
                "streaming: sentences decides on an answer while its model generates it, and that of a chain "
                "or an agent is read once it is there: give the policy to a ChatGuardrail, and the chain or "
                "the agent one with streaming: buffer."
            )
        self.on_abstain = on_abstain
        self.answered_by = checked_declaration(answered_by)
        self.trace_drafts = trace_drafts
        self._model = model or self.policy.scorer_model
        self._targets = targets
        self._familiarity = familiarity
        # A policy that only observes changes nothing in a conversation.
        self.notices = None if self.policy.mode == "observe" else notices_of(self.policy)
        self._opening = ForkSafeLock()
        self._guard: Guard | None = None
        if self._model is not None:
            self._open()

    def __getstate__(self) -> dict[str, Any]:
        check_keyless(self._targets)
        # Opened anew, and shared where the same is open already.
        return {**self.__dict__, "_guard": None, "_familiarity": self.familiarity}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # There is nothing in it that is changed.
        return self

    @property
    def familiarity(self) -> Mapping[str, Any] | None:
        """What is known of the traffic of all chains, to be kept over a restart, as ``Guard.familiarity``.

        Answers that bring the verdict of a ``ChatGuardrail`` along are among the traffic of that one.
        """
        return self._familiarity if self._guard is None else self._guard.familiarity

    @property
    def streams_live(self) -> bool:
        """Whether answers are shown as they come."""
        return self.policy.streaming == "annotate"

    @overload
    def wrap(
        self, chain: Runnable[Input, Output], *, name: str | None = None
    ) -> GuardedChain[Input, Output]: ...
    @overload
    def wrap(
        self, chain: Mapping[str, Any], *, name: str | None = None
    ) -> GuardedChain[Any, dict[str, Any]]: ...
    @overload
    def wrap(
        self, chain: "RunnableLike[Input, Output]", *, name: str | None = None
    ) -> GuardedChain[Input, Output]: ...
    def wrap(self, chain: "RunnableLike[Any, Any]", *, name: str | None = None) -> GuardedChain[Any, Any]:
        """Put the guard around a chain, an agent, a graph or a model.

        Args:
            chain: A runnable, or what LangChain makes one of: a function, a dict of runnables.
            name: Of its runs in a trace.

        Returns:
            A runnable of the same types of input and output, config and schemas. It can be part of other
            chains, be batched, streamed, retried and have fallbacks.
        """
        return GuardedChain(chain=coerce_to_runnable(chain), guard=self, name=name or type(self).__name__)

    def decide(
        self, calls: "Sequence[ModelCall]", asked: Any, *, run_id: UUID, tags: Iterable[str]
    ) -> ChainOutcome:
        """Decide on what the models of one run of a chain answered.

        Args:
            calls: Their calls, in the order in which they ended.
            asked: The chain's input.
            run_id: Of the chain.
            tags: What the policy's rules may go by.
        """
        tags = tuple(tags)

        def decided(call: "ModelCall") -> CallDecision:
            carried = _carried(call)
            if carried is not None and self._stands(carried, call, calls):
                return carried
            return _stricter(decide_on_call(self._open(), call, tags, self.answered_by), call)

        verdicts = [*map(decided, self._deciding(calls))]
        return self._outcome(verdicts or [refuse_chain(self._open(), asked, run_id, tags)])

    async def adecide(
        self, calls: "Sequence[ModelCall]", asked: Any, *, run_id: UUID, tags: Iterable[str]
    ) -> ChainOutcome:
        """As :meth:`decide`, within an event loop."""
        tags = tuple(tags)

        async def decided(call: "ModelCall") -> CallDecision:
            carried = _carried(call)
            if carried is not None and self._stands(carried, call, calls):
                return carried
            return _stricter(await adecide_on_call(await self._aopen(), call, tags, self.answered_by), call)

        verdicts = await asyncio.gather(*map(decided, self._deciding(calls)))
        return self._outcome(verdicts or [await arefuse_chain(await self._aopen(), asked, run_id, tags)])

    def _deciding(self, calls: "Sequence[ModelCall]") -> "list[ModelCall]":
        """The calls to look at: where the last one decides, others only if that costs nothing."""
        if self.policy.combine == "worst":
            return [*calls]
        return [call for call in calls[:-1] if call.verdict is not None] + [*calls[-1:]]

    def _stands(self, carried: CallDecision, call: "ModelCall", calls: "Sequence[ModelCall]") -> bool:
        """Whether a verdict of another guard needs no second one."""
        if withholds(carried.plain) or (self.policy.combine == "last" and call is not calls[-1]):
            return True
        return (
            carried.plain["enforced"]
            and carried.plain.get("policy") == self.policy.digest
            and self._has_profile(carried.plain.get("profile"))
        )

    def _has_profile(self, digest: Any) -> bool:
        """Whether a verdict by the same policy is by the same profile.

        ``auto`` is the one that ships for the model that answered, if there is one.
        """
        if self.policy.profile == AUTO:
            return True
        if self._guard is not None:
            return bool(digest == self._guard.profile_digest)
        path = self.policy.profile_path
        try:
            return path is not None and digest == read_profile(path).digest
        except GuardrailError:
            return False

    def _outcome(self, verdicts: Sequence[CallDecision]) -> ChainOutcome:
        outcome = combined(verdicts, self.policy.combine)
        # A policy that only observes changes nothing, whatever a guard within the chain did.
        return ChainOutcome(outcome.verdict, verdicts) if self.policy.mode == "observe" else outcome

    def _open(self) -> "Guard":
        with self._opening:
            if self._guard is None:
                # Not before it is needed: it loads torch.
                from guardrail.guard.guard import Guard
                from guardrail.models.loading import LoadOptions

                model = self._model or self.policy.model or DEFAULT_MODEL
                model = shared_model(model, LoadOptions()) if isinstance(model, str) else model
                self._guard = Guard(self.policy, model, targets=self._targets, familiarity=self._familiarity)
            return self._guard

    async def _aopen(self) -> "Guard":
        # It may have to be loaded.
        return self._guard if self._guard is not None else await asyncio.to_thread(self._open)


def _carried(call: "ModelCall") -> CallDecision | None:
    return CallDecision(call.verdict, call.run_id, said=call.parts) if call.verdict is not None else None


def _stricter(own: CallDecision, call: "ModelCall") -> CallDecision:
    """The guard's own verdict, unless the one that the answer carries takes more away."""
    own, carried = replace(own, said=call.parts), _carried(call)
    return carried if carried is not None and carried.takes_away > own.takes_away else own
