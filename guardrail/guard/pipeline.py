"""Every stage in its order: produce, assess, escalate, record; and from a decision to what is shown."""

import asyncio
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from guardrail.escalation.case import Answered, Case, Escalation
from guardrail.escalation.routing import aescalate, escalate, open_routes
from guardrail.guard.answer import DEFAULT_MESSAGES, UNCHECKED, GuardedAnswer, failure
from guardrail.guard.assess import ON_ERROR, Judged, find_yardstick, judge, sampling_of
from guardrail.guard.decision_log import DecisionLog, decision_record
from guardrail.guard.history import History, notices_of, spoken
from guardrail.guard.produce import Job, Produced, Wanted, produce
from guardrail.guard.scheduler import QueuedRequest, RequestQueue
from guardrail.policy.messages import TICKET, render_message
from guardrail.scoring.options import ScoringOptions

if TYPE_CHECKING:
    from guardrail.guard.assess import Yardstick
    from guardrail.models.local import LocalModel
    from guardrail.models.sampling import Sampling
    from guardrail.policy.model import Policy

__all__ = ["Pipeline", "case_of", "guarded", "is_escalated", "withheld"]


def is_escalated(judged: "Judged") -> bool:
    """Whether somebody else is to be asked; not where the policy only observes."""
    return judged.decision.enforced and judged.decision.action == "escalate"


def case_of(judged: "Judged", model: str, policy: str, profile: str | None) -> Case:
    """What is handed over to a target; the last two are digests."""
    job, produced = judged.job, judged.produced
    return Case(
        id=job.id,
        messages=[dict(message) for message in job.messages],
        draft=produced.draft or "",
        rule=judged.decision.rule,
        reason=judged.decision.reason,
        confidence=judged.assessment.confidence if judged.assessment else None,
        scores=dict(produced.uncertainty.scores()) if produced.uncertainty else {},
        finish_reason=produced.finish_reason,
        tags=sorted(job.tags),
        model=model,
        answered_by=author_name(judged, model),
        policy_digest=policy,
        profile_digest=profile,
    )


def author_name(judged: "Judged", model: str) -> str:
    """Who gave the draft: the local model, unless somebody else is named."""
    author = judged.job.answered_by
    return author.name if author else model


def guarded(
    judged: "Judged", escalation: Escalation | None, model: str, policy: str, yardstick: "Yardstick"
) -> GuardedAnswer:
    """The answer as it is shown; an escalation that nobody took is an abstention."""
    produced, decision, assessment = judged.produced, judged.decision, judged.assessment
    timings = {**produced.timings, "judge_s": judged.seconds}
    if escalation is not None:
        timings["escalate_s"] = sum(attempt.seconds for attempt in escalation.attempts)
    text, message = _shown(judged, escalation)
    answer = GuardedAnswer(
        text=text,
        action=decision.action,
        rule=decision.rule,
        reason=decision.reason,
        message=message,
        confidence=assessment.confidence if assessment else None,
        confidence_score=assessment.confidence_score if assessment else None,
        uncertainty=produced.uncertainty,
        guarantees=judged.guarantees,
        quantiles=assessment.quantiles if assessment else {},
        tool_calls=judged.calls,
        sentences=produced.sentences,
        reasoning=produced.reasoning,
        reasoning_tokens=produced.reasoning_tokens,
        finish_reason=produced.finish_reason,
        usage=produced.usage,
        draft=produced.draft,
        escalation=escalation,
        enforced=decision.enforced,
        error=judged.error,
        request=judged.job.id,
        model=model,
        answered_by=author_name(judged, model),
        outside_domain=judged.outside_domain,
        is_uncalibrated=yardstick.profile is None,
        policy_digest=policy,
        profile_digest=yardstick.digest,
        # A clock that went back says nothing of how long something took.
        timings={stage: max(0.0, seconds) for stage, seconds in timings.items()},
        turns_left_out=judged.job.turns_left_out,
        repeats=judged.repeats,
    )
    if is_escalated(judged) and (escalation is None or escalation.reply is None):
        nobody = withheld(answer, "EscalationError: no target took the question")
        return replace(
            nobody,
            text=DEFAULT_MESSAGES["abstain"],
            message=DEFAULT_MESSAGES["abstain"],
            rule=decision.rule,
            reason=f"{decision.reason}; no target took it",
        )
    return answer


def withheld(answer: GuardedAnswer, error: str) -> GuardedAnswer:
    """The same answer, withheld because something failed after it was decided."""
    errors = "; ".join(filter(None, (answer.error, error)))
    return replace(
        answer,
        text=UNCHECKED,
        action="abstain",
        rule=ON_ERROR,
        reason=error,
        message=UNCHECKED,
        enforced=True,
        error=errors,
    )


def _shown(judged: "Judged", escalation: Escalation | None) -> tuple[str, str | None]:
    """The text, and the policy's words where it has any to say."""
    decision, draft = judged.decision, judged.produced.draft
    if not decision.enforced:
        return draft or UNCHECKED, None
    if decision.action == "pass":
        return draft or "", None
    if escalation is not None and isinstance(escalation.reply, Answered):
        return escalation.reply.text, None
    default = DEFAULT_MESSAGES[decision.action]
    if decision.action == "abstain" and decision.rule == ON_ERROR:
        default = UNCHECKED
    message = decision.message or default
    if decision.awaiting_ticket is not None and escalation is not None:
        message = render_message(decision.awaiting_ticket, {TICKET: escalation.ticket})
    return (draft or "", message) if decision.action == "flag" else (message, message)


class Pipeline:
    """What a guard runs. Arguments and errors are those of :class:`~guardrail.guard.guard.Guard`."""

    def __init__(
        self,
        policy: "Policy",
        model: "LocalModel",
        targets: Mapping[str, Any] | None,
        batch_size: int,
        sentences: bool,
    ) -> None:
        self._policy = policy
        self._digest = policy.digest
        self._notices = notices_of(policy)
        self._model = model
        self._yardstick = find_yardstick(policy, model)
        profile = self._yardstick.profile
        scoring = profile.scorer.options() if profile else ScoringOptions()
        self._wanted = Wanted(scoring, profile.depths if profile else (), sentences)
        self._sampling = sampling_of(profile)
        self._routes = open_routes(policy.escalation, targets)
        self._log = DecisionLog(policy.log.file, policy.log.text) if policy.log else None
        self._line = RequestQueue(self._judged, model.alone, batch_size)

    @property
    def profile_digest(self) -> str | None:
        """SHA-256 of the profile in use."""
        return self._yardstick.digest

    @property
    def sampling(self) -> "Sampling | None":
        """How answers are drawn where the caller does not say; None where no profile says it."""
        return self._sampling

    @property
    def scoring(self) -> ScoringOptions:
        """How answers are scored."""
        return self._wanted.options

    def run(
        self, jobs: Sequence[Job], sampling: "Sampling | None" = None, timeout: float | None = None
    ) -> list[GuardedAnswer]:
        """Answer, or read, and guard a batch."""
        request = QueuedRequest([*map(self._as_spoken, jobs)], sampling or self._sampling)
        all_judged = self._line.result(request, timeout)
        return [self._acted(judged) for judged in all_judged]

    async def arun(
        self, jobs: Sequence[Job], sampling: "Sampling | None" = None, timeout: float | None = None
    ) -> list[GuardedAnswer]:
        """The same beside an event loop."""
        request = QueuedRequest([*map(self._as_spoken, jobs)], sampling or self._sampling)
        all_judged = await self._line.aresult(request, timeout)
        return list(await asyncio.gather(*map(self._aacted, all_judged)))

    def refuse(self, job: Job, draft: str | None, error: str) -> GuardedAnswer:
        """Guard an answer that the model cannot read."""
        return self._acted(self._refused(job, draft, error))

    async def arefuse(self, job: Job, draft: str | None, error: str) -> GuardedAnswer:
        """The same beside an event loop."""
        return await self._aacted(self._refused(job, draft, error))

    def spoken(self, messages: Sequence[Any]) -> History:
        """A conversation as the model is asked; a policy that only observes changes nothing in it."""
        return spoken(messages, None if self._policy.mode == "observe" else self._notices)

    def _as_spoken(self, job: Job) -> Job:
        history = self.spoken(job.messages)
        return replace(job, messages=history.messages, turns_left_out=history.turns_left_out)

    def _refused(self, job: Job, draft: str | None, error: str) -> Judged:
        produced = Produced(draft=draft, error=error)
        return judge(self._policy, self._yardstick, self._as_spoken(job), produced, notices=self._notices)

    def _acted(self, judged: Judged) -> GuardedAnswer:
        escalation = None
        if is_escalated(judged):
            escalation = escalate(self._routes, judged.decision.to or "", self._case(judged))
            escalation = self._answering(escalation)
        return self._recorded(judged, escalation)

    async def _aacted(self, judged: Judged) -> GuardedAnswer:
        escalation = None
        if is_escalated(judged):
            escalation = await aescalate(self._routes, judged.decision.to or "", self._case(judged))
            escalation = self._answering(escalation)
        return await asyncio.to_thread(self._recorded, judged, escalation)

    def _answering(self, escalation: Escalation) -> Escalation:
        """What came of an escalation; another model that says what the policy says has not answered."""
        reply, attempts = escalation.reply, escalation.attempts
        is_repeated = isinstance(reply, Answered) and bool(self._notices.repeated_in(reply.text))
        if not is_repeated or attempts[-1].kind != "chat_model":
            return escalation
        error = "EscalationError: its answer is a message of the policy"
        return Escalation((*attempts[:-1], replace(attempts[-1], outcome="failed", error=error)))

    def _judged(
        self, jobs: Sequence[Job], sampling: "Sampling | None", goes_on: Callable[[], bool]
    ) -> list[Judged]:
        produced = produce(self._model, jobs, sampling, self._wanted, goes_on)
        return [
            judge(self._policy, self._yardstick, job, one, sampling, self._notices)
            for job, one in zip(jobs, produced, strict=True)
        ]

    def _case(self, judged: Judged) -> Case:
        return case_of(judged, self._model.name, self._digest, self._yardstick.digest)

    def _recorded(self, judged: Judged, escalation: Escalation | None) -> GuardedAnswer:
        """The answer, once its decision is in the log; a decision that cannot be recorded is not shown."""
        answer = guarded(judged, escalation, self._model.name, self._digest, self._yardstick)
        if self._log is None:
            return answer
        try:
            self._log.write(
                decision_record(
                    answer, self._policy.name, judged.job.tags, judged.job.messages, self._log.texts
                )
            )
        except Exception as error:  # noqa: BLE001  (recorded in the answer, which is withheld)
            problem = failure("record", error)
            if answer.enforced:
                return withheld(answer, problem)
            # A policy that only observes changes nothing, whatever happens.
            warnings.warn(problem, RuntimeWarning, stacklevel=2)
        return answer
