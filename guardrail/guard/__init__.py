"""The guard: the pipeline, where all stages meet; its answers, and what is recorded of them."""

from typing import TYPE_CHECKING, Any

from guardrail.escalation.verdict import Verdict
from guardrail.guard.answer import GuardedAnswer

if TYPE_CHECKING:
    from guardrail.guard.guard import Guard

__all__ = ["Guard", "GuardedAnswer", "Verdict"]


def __getattr__(name: str) -> Any:
    # The guard loads torch, which an answer and a decision log do without.
    if name != "Guard":
        raise AttributeError(f"module 'guardrail.guard' has no attribute {name!r}")
    from guardrail.guard.guard import Guard

    return Guard
