"""How the run of a guarded chain ends: with what it gives, or with an error, and with who may know why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from guardrail.errors import AbstainedError
from guardrail.langchain.chunks import joined
from guardrail.langchain.outcome import Outcome
from guardrail.langchain.outputs import (
    NoPlaceError,
    in_place_of,
    in_place_of_chunks,
    with_verdict,
    without_verdict,
)

__all__ = ["Chunks", "Ending", "LastChunk", "OnAbstain", "Result", "Whole", "ending_of"]

OnAbstain = Literal["message", "raise"]


class Result(Protocol):
    """What a chain gave."""

    def kept(self, verdict: Mapping[str, Any]) -> Any:
        """It, with the verdict where it has a place for it."""
        ...

    def replaced(self, text: str, verdict: Mapping[str, Any], asked: Any) -> Any:
        """A text in its place.

        Args:
            text: The text.
            verdict: What was decided.
            asked: The chain's input: a state that holds messages goes on to hold these.

        Raises:
            NoPlaceError: It has none.
        """
        ...


@dataclass(frozen=True, slots=True)
class Whole:
    """An output."""

    output: Any = field(default=None, repr=False)

    def kept(self, verdict: Mapping[str, Any]) -> Any:
        """As in :class:`Result`."""
        return with_verdict(self.output, verdict)

    def replaced(self, text: str, verdict: Mapping[str, Any], asked: Any) -> Any:
        """As in :class:`Result`."""
        return in_place_of(self.output, text, verdict, asked)


@dataclass(frozen=True, slots=True)
class Chunks:
    """A stream of which nothing was seen."""

    chunks: Sequence[Any] = field(default=(), repr=False)

    def kept(self, verdict: Mapping[str, Any]) -> list[Any]:
        """As in :class:`Result`."""
        *first, last = self.chunks or [None]
        whole = joined(self.chunks)
        return [*map(without_verdict, first), with_verdict(last, verdict, whole)] if self.chunks else []

    def replaced(self, text: str, verdict: Mapping[str, Any], asked: Any) -> list[Any]:
        """As in :class:`Result`."""
        return in_place_of_chunks(self.chunks, text, verdict, asked)


@dataclass(frozen=True, slots=True)
class LastChunk:
    """A stream of which all was seen but the last chunk, or that had none."""

    chunks: Sequence[Any] = field(default=(), repr=False)

    def kept(self, verdict: Mapping[str, Any]) -> list[Any]:
        """As in :class:`Result`."""
        return [with_verdict(chunk, verdict) for chunk in self.chunks]

    def replaced(self, text: str, verdict: Mapping[str, Any], asked: Any) -> list[Any]:
        """As in :class:`Result`; never."""
        raise NoPlaceError("The answer was streamed before it could be decided on (streaming: annotate).")


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ends.

    Attributes:
        given: What it gives.
        error: What it raises instead.
        reveals: Whether those around may learn what happened within.
    """

    given: Any = field(default=None, repr=False)
    error: BaseException | None = None
    reveals: bool = False


def ending_of(
    outcome: Outcome | None,
    result: Result,
    error: Exception | None,
    on_abstain: OnAbstain,
    asked: Any = None,
) -> Ending:
    """End a run.

    Args:
        outcome: What was decided; None where no model gave an answer before the chain failed.
        result: What the chain gave.
        error: What it raised instead.
        on_abstain: What to do in place of an answer that is withheld.
        asked: What it was given.
    """
    if outcome is None:
        return Ending(error=error, reveals=True)
    verdict = outcome.verdict
    # What a model's own guard put in the draft's place may have been streamed: it is no draft.
    was_shown = isinstance(result, LastChunk) and verdict.answer is None and on_abstain == "message"
    if outcome.text is None or was_shown:
        return Ending(None if error else result.kept(verdict.plain), error, reveals=True)
    if error is not None:
        # A parser's error, for one, has all that it could not read in it.
        why = f"The chain failed as well ({type(error).__name__}); its error may tell of the answer."
        return Ending(error=_abstained(outcome, why))
    if outcome.withheld and on_abstain == "raise":
        return Ending(error=_abstained(outcome))
    try:
        return Ending(result.replaced(outcome.text, verdict.plain, asked))
    except NoPlaceError as problem:
        why = str(problem)
    return Ending(error=_abstained(outcome, why))


def _abstained(outcome: Outcome, why: str = "") -> AbstainedError:
    verdict = outcome.verdict.plain
    parts = [f"The policy withheld the answer ({verdict['action']}, rule {verdict['rule']})."]
    if verdict.get("reason"):
        parts.append(f"Why: {verdict['reason']}.")
    if outcome.withheld:
        parts.append(f"It says: {outcome.text}")
    return AbstainedError(" ".join(filter(None, [*parts, why])), verdict)
