"""Guard: the pipeline; the only room where all stages meet."""

from typing import TYPE_CHECKING, Any

from guardrail.guard.answer import GuardedAnswer

if TYPE_CHECKING:
    from guardrail.guard.guard import Guard

__all__ = ["Guard", "GuardedAnswer"]


def __getattr__(name: str) -> Any:
    # The guard loads torch, which an answer and a decision log do without.
    if name != "Guard":
        raise AttributeError(f"module 'guardrail.guard' has no attribute {name!r}")
    from guardrail.guard.guard import Guard

    return Guard
