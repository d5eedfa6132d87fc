"""What telemetry is told of a guard's answers."""

from dataclasses import replace
from typing import TYPE_CHECKING

from guardrail.telemetry.answer_record import AnswerFacts, Asked, stages_of
from guardrail.telemetry.answer_spans import AnswerTelemetry
from guardrail.telemetry.instruments import Reading, observe
from guardrail.telemetry.providers import check_installed
from guardrail.telemetry.semantic_conventions import Attribute, MetricName

if TYPE_CHECKING:
    from collections.abc import Iterable

    from guardrail.guard.answer import GuardedAnswer
    from guardrail.guard.assess import AssessedJob
    from guardrail.guard.produce import Job
    from guardrail.guard.scheduler import RequestQueue
    from guardrail.policy.model import Policy

__all__ = ["asked_of", "facts_for_telemetry", "telemetry_of", "timed"]


def telemetry_of(policy: "Policy", model: str, queue: "RequestQueue") -> AnswerTelemetry:
    """What records the answers of a guard.

    Args:
        policy: Its policy.
        model: Name of its model.
        queue: Its requests that wait.

    Raises:
        MissingDependencyError: The policy has texts recorded, and the extra ``telemetry`` is not installed.
    """
    if policy.telemetry is not None:
        check_installed("Telemetry, as the policy asks for it,")

    def waiting(one: "RequestQueue") -> list[Reading]:
        return [(float(one.waiting), {Attribute.REQUEST_MODEL: model})]

    about = "Requests that wait for the model."
    observe(MetricName.QUEUE_REQUESTS, queue, waiting, unit="{request}", description=about)
    return AnswerTelemetry(model, policy.name, policy.telemetry.texts if policy.telemetry else "none")


def asked_of(jobs: "Iterable[Job]", *, is_read: bool = False) -> list[Asked]:
    """Requests as telemetry takes them.

    Args:
        jobs: The requests.
        is_read: Whether none of them is generated, whatever they say.
    """
    return [Asked(job.id, is_read or job.response is not None, job.messages) for job in jobs]


def timed(assessed: "AssessedJob", began: int, decided: int, batch_size: int) -> "AssessedJob":
    """The same, with when its stages ran.

    Args:
        assessed: What was decided.
        began: When the model began with the batch, in nanoseconds since 1970.
        decided: When it was begun to be decided on, likewise.
        batch_size: Requests in the batch.
    """
    stages = stages_of(began, assessed.produced.timings, decided, assessed.seconds)
    return replace(assessed, stages=tuple(stages), batch_size=batch_size)


def facts_for_telemetry(answer: "GuardedAnswer", assessed: "AssessedJob") -> AnswerFacts:
    """What telemetry is told of an answer.

    Args:
        answer: The answer.
        assessed: What it is made of.
    """
    usage = answer.usage
    return AnswerFacts(
        request=answer.request,
        action=answer.action,
        rule=answer.rule,
        reason=answer.reason,
        # Words for the decision may name who answered, as a client or an upstream server says it.
        has_names=assessed.job.answered_by is not None or assessed.job.generation is not None,
        enforced=answer.enforced,
        confidence=answer.confidence,
        familiar=answer.familiar,
        error=answer.error,
        finish_reason=answer.finish_reason,
        input_tokens=usage.prompt_tokens if usage else None,
        output_tokens=usage.completion_tokens if usage else None,
        reasoning_tokens=answer.reasoning_tokens,
        stages=assessed.stages,
        batch_size=assessed.batch_size,
        shown=answer.text,
        draft=answer.draft,
    )
