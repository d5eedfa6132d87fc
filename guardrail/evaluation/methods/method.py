"""What a method of telling right from wrong answers is: a name, where it comes from, what it needs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from guardrail.calibration.confidence import HiddenState
from guardrail.models.sampling import Sampling
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.uncertainty import Uncertainty

__all__ = ["Answered", "Estimate", "Method", "Sample"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer that was drawn to see what else the model might have said.

    Attributes:
        text: The answer.
        token_ids: Its tokens, with the end of turn if it was generated.
        token_texts: The text of each.
        log_probabilities: Log-probability (nats) of each at temperature 1.
        embedding: Hidden state of its last token in the middle layer, d numbers; empty where none was kept.
    """

    text: str
    token_ids: Sequence[int]
    token_texts: Sequence[str]
    log_probabilities: Sequence[float]
    embedding: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Answered:
    """A question with the answer that is to be told right from wrong, and what methods go by.

    Attributes:
        question: What was asked, as a person reads it.
        messages: What the model read.
        response: The answer.
        token_ids: Its tokens, with the end of turn if it was generated, and without what was thought before.
        token_texts: The text of each.
        log_probabilities: Log-probability (nats) of each at temperature 1.
        entropies: Entropy (nats) of the distribution that each was taken from.
        scored: Its uncertainty by each way of scoring that a method asked for.
        samples: Other answers, where a method asked for them.
        asides: Numbers that came of asking the model besides, by name (such as ``p_true``).
        hidden: Hidden state over the answer, where a method asked for it.
        reasoning_ids: Tokens that were thought before the answer, and are given where it is scored.
    """

    question: str
    messages: Sequence[Mapping[str, str]]
    response: str
    token_ids: Sequence[int]
    token_texts: Sequence[str]
    log_probabilities: Sequence[float]
    entropies: Sequence[float]
    scored: Mapping[ScoringOptions, Uncertainty]
    samples: Sequence[Sample] = ()
    asides: Mapping[str, float] = field(default_factory=dict)
    hidden: HiddenState | None = None
    reasoning_ids: Sequence[int] = ()

    @property
    def response_ids(self) -> list[int]:
        """All that was written, reasoning and answer."""
        return [*self.reasoning_ids, *self.token_ids]


Estimate = Callable[[Sequence[Answered]], Sequence[float]]


@dataclass(frozen=True, slots=True)
class Method:
    """A way of telling how unsure a model was of its answer.

    Attributes:
        name: As it is given to ``--methods``: lower case with underscores.
        title: As tables show it.
        paper: Where it comes from: authors, year, where it was published.
        estimate: Gives each answer a finite number that goes **up** with uncertainty.
        options: The ways of scoring that it reads; empty where it reads none.
        samples: How other answers are drawn for it; None where it needs none.
        asides: Names of what it has the model asked besides.
        depth: Fraction of the layers whose hidden state of the answer it reads; None where it reads none.
        similarity: Kind of the second model that it compares texts by: ``nli``, ``cross_encoder``, or none.
        stand_in: What took the place of such a model, or empty. Every table says so.
    """

    name: str
    title: str
    paper: str
    estimate: Estimate
    options: Sequence[ScoringOptions] = ()
    samples: Sampling | None = None
    asides: Sequence[str] = ()
    depth: float | None = None
    similarity: str = ""
    stand_in: str = ""
