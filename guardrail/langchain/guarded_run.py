"""One run of a guarded chain: watched while it goes on, decided on when it has ended."""

from typing import TYPE_CHECKING, Any, TypeVar, cast
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.runnables import RunnableConfig

from guardrail.langchain.chunks import joined
from guardrail.langchain.ending import Ending, Result, ending_of
from guardrail.langchain.isolation import bare, copied
from guardrail.langchain.verdicts import VERDICT_EVENT, facts_of, note_in_traces
from guardrail.langchain.watching import Watch

if TYPE_CHECKING:
    from guardrail.langchain.outcome import Outcome
    from guardrail.langchain.wrapper import UncertaintyGuard

__all__ = ["GuardedRun", "finished"]

T = TypeVar("T")


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

    def take(self, chunk: T) -> T:
        """Note a chunk of the chain's input, and give what the chain may write into."""
        self.asked.append(chunk)
        return copied(chunk)

    def end(self, result: Result, error: BaseException | None = None) -> Ending:
        """Decide, tell those around what they may know, and say what is to be given or raised.

        Nothing is raised here, where what the chain gave is at hand: a traceback would hold it.

        Args:
            result: What the chain gave.
            error: What it raised instead.
        """
        try:
            ending = self._interrupted(error) or self._ended(result, cast("Exception | None", error))
        except BaseException as problem:  # noqa: BLE001  (raised by whoever called this)
            ending = Ending(error=bare(problem))
        finally:
            self.watch.forget()
        return ending

    async def aend(self, result: Result, error: BaseException | None = None) -> Ending:
        """As :meth:`end`, within an event loop."""
        try:
            ending = self._interrupted(error) or await self._aended(result, cast("Exception | None", error))
        except BaseException as problem:  # noqa: BLE001  (as above)
            ending = Ending(error=bare(problem))
        finally:
            self.watch.forget()
        return ending

    def _interrupted(self, error: BaseException | None) -> Ending | None:
        """How a run ends that was stopped from outside: at once. None for any other."""
        if error is None or isinstance(error, Exception):
            return None
        return Ending(error=bare(error) if self.watch.calls else error)

    def _ended(self, result: Result, error: Exception | None) -> Ending:
        outcome = None
        if self._is_decided(error):
            outcome = self._guard.decide(self.watch.calls, joined(self.asked), **self._facts())
        ending = ending_of(outcome, result, error, self._guard.on_abstain, joined(self.asked))
        if self.watch.held is not None:
            self.watch.held.tell(redacted=not ending.reveals, facts=_facts_of(outcome))
        around: Any = self._manager.get_child()
        for event in self._noted(outcome):
            around.on_custom_event(VERDICT_EVENT, event, run_id=self._manager.run_id)
        return ending

    async def _aended(self, result: Result, error: Exception | None) -> Ending:
        outcome = None
        if self._is_decided(error):
            outcome = await self._guard.adecide(self.watch.calls, joined(self.asked), **self._facts())
        ending = ending_of(outcome, result, error, self._guard.on_abstain, joined(self.asked))
        if self.watch.held is not None:
            await self.watch.held.atell(redacted=not ending.reveals, facts=_facts_of(outcome))
        around: Any = self._manager.get_child()
        for event in self._noted(outcome):
            await around.on_custom_event(VERDICT_EVENT, event, run_id=self._manager.run_id)
        return ending

    def _noted(self, outcome: "Outcome | None") -> list[dict[str, Any]]:
        """The verdicts as events; the one that decided is written into the trace."""
        if outcome is None:
            return []
        note_in_traces(self._manager, outcome.verdict.plain)
        return [verdict.with_run_id() for verdict in outcome.verdicts]

    def _is_decided(self, error: Exception | None) -> bool:
        # An error before any model answered is the chain's own, and nothing is to be decided.
        return error is None or self.watch.has_answers

    def _facts(self) -> dict[str, Any]:
        return {"run_id": self._manager.run_id, "tags": self._manager.tags}


def _facts_of(outcome: "Outcome | None") -> dict[UUID, dict[str, Any]]:
    return {verdict.run_id: facts_of(verdict.plain) for verdict in outcome.verdicts} if outcome else {}


def finished(ending: Ending) -> Any:
    """Give or raise what a run ends with, where nothing of what the chain gave is at hand any more.

    Raises:
        AbstainedError: It is withheld, and has no place for a message.
    """
    if ending.error is not None:
        raise ending.error
    return ending.given
