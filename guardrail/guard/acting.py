"""From a decision to what is shown."""

from dataclasses import replace
from typing import TYPE_CHECKING

from guardrail.escalation.case import Answered, Case, Escalation
from guardrail.guard.answer import GuardedAnswer
from guardrail.guard.judging import ON_ERROR
from guardrail.guard.words import DEFAULT_MESSAGES, UNCHECKED
from guardrail.policy.messages import TICKET, render_message

if TYPE_CHECKING:
    from guardrail.guard.judging import Judged, Yardstick

__all__ = ["case_of", "guarded", "is_escalated", "withheld"]


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
