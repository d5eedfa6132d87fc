"""A guard around any LangChain chain."""

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
    """A policy around chains.

    The guard checks every answer of a chat or completion model within a chain, whatever comes before or after
    it: retrievers, parsers, branches, other guards. A model with its own guard (``ChatGuardrail``, or a chain
    that is already wrapped) brings its verdict along. That verdict counts if its guard runs in this process
    and enforces the same policy with the same profile. Under another policy the answer is decided on again,
    and the stricter verdict counts; what the inner guard withheld stays withheld. A verdict that a message
    carries is ignored unless a guard of this process gave it on this answer to this question.

    The answer of any other model (vLLM, Ollama, an API) is read by a local model, which scores it as if it
    were its own. The local model's profile does not hold for it unless ``answered_by`` says so: confidence
    and guarantees are unknown, and if a rule depends on them, the policy's ``on_outside_domain`` decides. If
    there are several calls, the policy's ``combine`` determines whose verdict decides. A chain that calls no
    model has not been checked, so ``on_error`` decides. Any content of an answer beyond text counts as a tool
    call for the policy's rules.

    The verdict determines the chain's output:

    * ``pass`` and ``flag``: the output is unchanged. A message carries the verdict in its
      ``response_metadata`` (:func:`verdict_of`); otherwise :func:`get_uncertainty_callback` collects it.
    * ``abstain``: the policy's message replaces a string, a model's message, or a graph's state with
      ``messages``, which then contains only the input messages and this one.
    * ``escalate``: likewise, with the target's answer, or with the policy's message while a person decides.
      An answer to an intermediate step does not answer the chain's question, so the output is then withheld.
    * For other outputs, or with ``on_abstain="raise"``, :class:`AbstainedError` is raised.

    An error of the chain itself is passed on if no model has answered, or if the answers may be shown.
    Otherwise :class:`AbstainedError` replaces it, since errors may quote answers.

    The policy determines how answers are streamed. With ``buffer``, nothing that happens within the chain is
    visible outside before the verdict: not in its stream, callbacks, ``astream_events``, ``astream_log``,
    tracers or any of LangGraph's stream modes. Afterwards, what may be shown is released in the same order
    and chunks (a trace then has the times of the release). For a withheld answer, only the facts that models
    ran and the tokens they used are released. With ``annotate``, everything is released as it happens, and
    the verdict is on the last chunk.

    An answer is judged as a reply to the conversation without the turns that were withheld. Whether the
    chain's own model reads those turns is up to the chain.

    Warning:
        ``buffer`` cannot hide what the chain does on its own: callbacks that a model or a part of the chain
        was constructed with, ``set_debug`` and ``verbose``, a memory, checkpoint or LangGraph ``@task`` that
        the chain writes to, and side effects of its functions. A model that is called in a thread which the
        chain started without LangChain's context is not seen.

    Examples:
        >>> guarded = UncertaintyGuard(policy="builtin:default").wrap(prompt | model | StrOutputParser())
        >>> guarded.invoke({"question": "Who wrote Faust?"})

    Args:
        policy: Path, ``builtin:NAME``, or a loaded policy.
        model: Local model, or its name, that reads the answers of other models. The default is the policy's
            ``scorer_model``, else its ``model``, else the built-in one. It is opened at once if it is given
            here or as ``scorer_model``, otherwise on first use. Guards and ``ChatGuardrail`` share the
            weights of models with the same name.
        on_abstain: ``message``, or ``raise`` to raise :class:`AbstainedError` whenever nothing answers,
            before the first chunk of a stream, so that ``with_fallbacks`` works.
        targets: Chat models, functions or queues for names in the policy's ``escalation``.
        answered_by: Model that answers in the chains: its name in the profile (that of the local model, or
            the one given to ``guardrail calibrate --answered-by``), or for several models a mapping from the
            name each reports to its name in the profile. Without it, every model but a ``ChatGuardrail``
            counts as another model, for which no profile holds. It does not apply to an answer whose own
            metadata names another model.
        trace_drafts: Let tracers (LangSmith, ``collect_runs``) see everything as it happens, with true times.
            They then see every answer, withheld or not.
        familiarity: Knowledge of the traffic from an earlier guard with the same profile
            (:attr:`familiarity`), to continue from.

    Raises:
        PolicyError: The policy has mistakes; the error lists all of them.
        OptionError: An argument has an invalid value.
        GuardrailError: The model cannot be opened, or the policy's profile is of another model.
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
            # Any non-empty string is true, so even "no" would expose drafts.
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
        # The guard is opened again after unpickling, and shares a model that is already open.
        return {**self.__dict__, "_guard": None, "_familiarity": self.familiarity}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # A guard is never changed in place, so copies can share it.
        return self

    @property
    def familiarity(self) -> Mapping[str, Any] | None:
        """Knowledge of the traffic of all chains, to be saved across restarts, as ``Guard.familiarity``.

        Answers that carry the verdict of a ``ChatGuardrail`` belong to the traffic of that one.
        """
        return self._familiarity if self._guard is None else self._guard.familiarity

    @property
    def streams_live(self) -> bool:
        """Whether answers are streamed as they arrive (``streaming: annotate``)."""
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
            chain: Runnable, or an object that LangChain converts to one: a function or a dict of runnables.
            name: Name of the runs in a trace.

        Returns:
            A runnable with the same input and output types, config and schemas. It can be part of other
            chains, and supports batching, streaming, retries and fallbacks.
        """
        return GuardedChain(chain=coerce_to_runnable(chain), guard=self, name=name or type(self).__name__)

    def decide(
        self, calls: "Sequence[ModelCall]", asked: Any, *, run_id: UUID, tags: Iterable[str]
    ) -> ChainOutcome:
        """Decide on the answers of all models in one run of a chain.

        Args:
            calls: Model calls, in the order in which they ended.
            asked: Input of the chain.
            run_id: Id of the chain's run.
            tags: Tags that the policy's rules can match.
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
        """Async version of :meth:`decide`."""
        tags = tuple(tags)

        async def decided(call: "ModelCall") -> CallDecision:
            carried = _carried(call)
            if carried is not None and self._stands(carried, call, calls):
                return carried
            return _stricter(await adecide_on_call(await self._aopen(), call, tags, self.answered_by), call)

        verdicts = await asyncio.gather(*map(decided, self._deciding(calls)))
        return self._outcome(verdicts or [await arefuse_chain(await self._aopen(), asked, run_id, tags)])

    def _deciding(self, calls: "Sequence[ModelCall]") -> "list[ModelCall]":
        """Select the calls to consider; with ``combine: last``, earlier ones only if they carry a verdict."""
        if self.policy.combine == "worst":
            return [*calls]
        return [call for call in calls[:-1] if call.verdict is not None] + [*calls[-1:]]

    def _stands(self, carried: CallDecision, call: "ModelCall", calls: "Sequence[ModelCall]") -> bool:
        """Whether another guard's verdict stands, so that the answer is not decided on again."""
        if withholds(carried.plain) or (self.policy.combine == "last" and call is not calls[-1]):
            return True
        return (
            carried.plain["enforced"]
            and carried.plain.get("policy") == self.policy.digest
            and self._has_profile(carried.plain.get("profile"))
        )

    def _has_profile(self, digest: Any) -> bool:
        """Whether a verdict by the same policy used the same profile.

        ``auto`` always matches, since it names the profile that ships for the model that answered, if any.
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
        # A policy that only observes leaves the output unchanged, even if a guard within the chain acted.
        return ChainOutcome(outcome.verdict, verdicts) if self.policy.mode == "observe" else outcome

    def _open(self) -> "Guard":
        with self._opening:
            if self._guard is None:
                # Imported on first use, because it loads torch.
                from guardrail.guard.guard import Guard
                from guardrail.models.loading import LoadOptions

                model = self._model or self.policy.model or DEFAULT_MODEL
                model = shared_model(model, LoadOptions()) if isinstance(model, str) else model
                self._guard = Guard(self.policy, model, targets=self._targets, familiarity=self._familiarity)
            return self._guard

    async def _aopen(self) -> "Guard":
        # Opening the guard may load a model, so it runs in a thread.
        return self._guard if self._guard is not None else await asyncio.to_thread(self._open)


def _carried(call: "ModelCall") -> CallDecision | None:
    return CallDecision(call.verdict, call.run_id, said=call.parts) if call.verdict is not None else None


def _stricter(own: CallDecision, call: "ModelCall") -> CallDecision:
    """Return the stricter of the guard's own verdict and the one that the answer carries."""
    own, carried = replace(own, said=call.parts), _carried(call)
    return carried if carried is not None and carried.takes_away > own.takes_away else own
