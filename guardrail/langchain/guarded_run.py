"""One run of a guarded chain: watched while it goes on, decided on when it has ended."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.runnables import RunnableConfig

from guardrail.langchain.chunks import joined
from guardrail.langchain.ending import Ending, Result, ending_of
from guardrail.langchain.verdicts import VERDICT_EVENT
from guardrail.langchain.watching import Watch

if TYPE_CHECKING:
    from guardrail.langchain.outcome import Outcome
    from guardrail.langchain.wrapper import UncertaintyGuard

__all__ = ["GuardedRun"]


class GuardedRun:
    """One run of a guarded chain.

    Args:
        guard: The guard.
        manager: Of the run.
        config: That the chain would be run with.

    Attributes:
        watch: What happens within the chain.
        asked: The chunks of its input, as they are read.
    """

    def __init__(
        self,
        guard: "UncertaintyGuard",
        manager: CallbackManagerForChainRun | AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
    ) -> None:
        self._guard, self._manager = guard, manager
        self.watch = Watch(config, hold=not guard.streams_live, trace_drafts=guard.trace_drafts)
        self.asked: list[Any] = []

    def end(self, result: Result, error: Exception | None = None) -> Any:
        """Decide, tell those around what they may know, and give what may be given.

        Args:
            result: What the chain gave.
            error: What it raised instead.

        Raises:
            AbstainedError: What it gave is withheld, and has no place for a message.
        """
        outcome = None
        if self._is_decided(error):
            outcome = self._guard.decide(self.watch.calls, joined(self.asked), **self._facts())
        ending = ending_of(outcome, result, error, self._guard.on_abstain)
        if self.watch.held is not None:
            self.watch.held.tell(redacted=not ending.reveals)
        around: Any = self._manager.get_child()
        for event in _events(outcome):
            around.on_custom_event(VERDICT_EVENT, event, run_id=self._manager.run_id)
        return _finished(ending)

    async def aend(self, result: Result, error: Exception | None = None) -> Any:
        """As :meth:`end`, within an event loop."""
        outcome = None
        if self._is_decided(error):
            outcome = await self._guard.adecide(self.watch.calls, joined(self.asked), **self._facts())
        ending = ending_of(outcome, result, error, self._guard.on_abstain)
        if self.watch.held is not None:
            await self.watch.held.atell(redacted=not ending.reveals)
        around: Any = self._manager.get_child()
        for event in _events(outcome):
            await around.on_custom_event(VERDICT_EVENT, event, run_id=self._manager.run_id)
        return _finished(ending)

    def _is_decided(self, error: Exception | None) -> bool:
        # An error before any model answered is the chain's own, and nothing is to be decided.
        return error is None or self.watch.has_answers

    def _facts(self) -> dict[str, Any]:
        return {"run_id": self._manager.run_id, "tags": self._manager.tags}


def _events(outcome: "Outcome | None") -> Sequence[dict[str, Any]]:
    return [verdict.with_run_id() for verdict in outcome.verdicts] if outcome else []


def _finished(ending: Ending) -> Any:
    if ending.error is not None:
        raise ending.error
    return ending.given
