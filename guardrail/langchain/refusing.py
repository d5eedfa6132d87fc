"""An answer that could not be checked, decided on by the policy's ``on_error``."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from guardrail.escalation.escalate import aescalate, escalate
from guardrail.guard.acting import is_escalated
from guardrail.guard.judging import Judged, judge
from guardrail.guard.producing import Job, Produced

if TYPE_CHECKING:
    from guardrail.guard.answer import GuardedAnswer
    from guardrail.guard.guard import Guard

__all__ = ["arefuse", "refuse"]


def refuse(
    guard: "Guard", asked: Sequence[Mapping[str, Any]], draft: str | None, why: str, tags: Iterable[str]
) -> "GuardedAnswer":
    """Decide on it, and act, as the guard does on any answer.

    Args:
        guard: The guard.
        asked: What was asked, as far as it is known.
        draft: The answer, as far as it is known.
        why: Why it could not be checked: the type of an error and a sentence.
        tags: What the caller says of the request.
    """
    pipeline, judged = guard._pipeline, _refused(guard, asked, draft, why, tags)
    escalation = None
    if is_escalated(judged):
        escalation = escalate(pipeline._routes, judged.decision.to or "", pipeline._case(judged))
    return pipeline._recorded(judged, escalation)


async def arefuse(
    guard: "Guard", asked: Sequence[Mapping[str, Any]], draft: str | None, why: str, tags: Iterable[str]
) -> "GuardedAnswer":
    """As :func:`refuse`, within an event loop."""
    pipeline, judged = guard._pipeline, _refused(guard, asked, draft, why, tags)
    escalation = None
    if is_escalated(judged):
        escalation = await aescalate(pipeline._routes, judged.decision.to or "", pipeline._case(judged))
    return await asyncio.to_thread(pipeline._recorded, judged, escalation)


def _refused(
    guard: "Guard", asked: Sequence[Mapping[str, Any]], draft: str | None, why: str, tags: Iterable[str]
) -> Judged:
    job = Job(id=uuid4().hex, messages=asked, tags=frozenset(tags))
    return judge(guard.policy, guard._pipeline._yardstick, job, Produced(draft=draft, error=why))
