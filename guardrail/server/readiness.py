"""Whether what every answer needs can be used now: the review queues and the decision logs."""

import asyncio
import time
from collections.abc import Callable, Iterable

from guardrail.errors import GuardrailError
from guardrail.guard.decision_log import DecisionLog
from guardrail.policy.model import Policy
from guardrail.server.json_logging import LOGGER
from guardrail.server.review_routes import queues_of

__all__ = ["Readiness"]

# Seconds that an outcome is kept: anybody may ask, and each look takes the queue's write lock.
_KEPT_S = 1.0
# Seconds to wait for whoever writes to a queue.
_BUSY_S = 2.0


class Readiness:
    """Looks at the stores that policies name. Weights and profiles were loaded before the server listened.

    Args:
        policies: The policies that are served.
    """

    def __init__(self, policies: Iterable[Policy]) -> None:
        policies = [*policies]
        self._looks: list[tuple[str, Callable[[], object]]] = []
        for queue in queues_of(policies, _BUSY_S):
            self._looks.append(("the review queue cannot be written", queue.make))
        for path in {policy.log.file for policy in policies if policy.log}:
            self._looks.append(("the decision log cannot be written", _opens(path)))
        self._known: list[str] = []
        self._until = 0.0
        self._one = asyncio.Lock()

    async def problems(self) -> list[str]:
        """What cannot be used, in words without a place; empty where all can."""
        async with self._one:
            if time.monotonic() >= self._until:
                self._known = await asyncio.to_thread(self._look)
                self._until = time.monotonic() + _KEPT_S
            return self._known

    def _look(self) -> list[str]:
        problems = []
        for words, look in self._looks:
            try:
                look()
            except (GuardrailError, OSError) as error:
                LOGGER.warning("not ready: %s", error)
                if words not in problems:
                    problems.append(words)
        return problems


def _opens(path: str) -> Callable[[], object]:
    return lambda: DecisionLog(path)
