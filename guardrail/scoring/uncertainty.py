"""What one pass tells of an answer: its scores, one score of several segments, and hidden states for a probe.

Plain values: nothing here needs torch.
"""

import sys
from array import array
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, inf
from typing import Annotated, Any, Literal, get_args

from pydantic import PlainSerializer, PlainValidator

from guardrail.errors import OptionError
from guardrail.scoring.options import Combination, Computation, ScoringOptions

__all__ = [
    "DOCUMENT_GAIN",
    "SCORES",
    "HiddenState",
    "Observation",
    "PackedFloats",
    "SemanticToken",
    "TokenScore",
    "Uncertainty",
    "combine",
    "combined_scores",
    "packed",
    "perplexity",
    "token_weights",
    "unpacked",
]


# The names of all scores, in the order in which they are shown.
SCORES = (
    "hybridgrad",
    "semgrad",
    "paragrad",
    "exgrad",
    "mean_entropy",
    "max_entropy",
    "sum_entropy",
    "log_likelihood",
    "perplexity",
    "min_token_probability",
)

# A score of answers whose prompt declares a document, where a profile reads it.
DOCUMENT_GAIN = "document_gain"


@dataclass(frozen=True, slots=True)
class TokenScore:
    """One token of the response.

    Attributes:
        text: The token as text.
        id: Its id.
        log_probability: Log-probability in nats.
        entropy: Entropy (nats) of the distribution it was taken from.
        weight: Its factor in the loss: entropy, divided by the number of tokens where the loss is a mean.
    """

    text: str
    id: int
    log_probability: float
    entropy: float
    weight: float


@dataclass(frozen=True, slots=True)
class SemanticToken:
    """The semantics-preserving token t*.

    Attributes:
        position: Where it stands, counted from the end of the prompt.
        text: Its text.
        source: Who said so: ``given`` (an argument or a profile), ``known`` (by a scan of this model or its
            family), or the ``rule`` for models that were never scanned.
    """

    position: int
    text: str
    source: Literal["given", "known", "rule"] = "rule"


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """How unsure the model was of one response. Every score but the likelihoods goes up with uncertainty.

    Attributes:
        hybridgrad: (1 − e^−ω̄) · SemGrad + e^−ω̄ · ParaGrad, with ω̄ the mean entropy.
        semgrad: Mean absolute gradient of the loss by the hidden states of t* in the upper layers.
        paragrad: Mean absolute gradient of the loss by the weights of the language-model head.
        exgrad: ParaGrad without entropy weights; None where it was not asked for.
        mean_entropy: Mean entropy ω̄ of the response's tokens, nats.
        max_entropy: Largest of them.
        sum_entropy: Their sum.
        log_likelihood: Log-probability of the response, nats.
        perplexity: e to the mean negative log-probability of a token.
        min_token_probability: Probability of the least probable token.
        tokens: Each token of the response.
        semantic_token: The token t* that SemGrad was taken at.
        options: How it was scored.
        computation: ``truncated`` or ``full``: the backward pass that gave the gradients.
        computation_reason: Why it was the full one; empty where it was not.
        score_s: Seconds that scoring took for the batch that this response was in.
        semgrad_at: SemGrad at the prompt's last positions, up to −1, where that was asked for.
        document_gain: How much the prompt's documents moved the answer, nats a token, where that was asked
            for (see :mod:`guardrail.scoring.document_gain`).
    """

    hybridgrad: float
    semgrad: float
    paragrad: float
    exgrad: float | None
    mean_entropy: float
    max_entropy: float
    sum_entropy: float
    log_likelihood: float
    perplexity: float
    min_token_probability: float
    tokens: Sequence[TokenScore]
    semantic_token: SemanticToken
    options: ScoringOptions
    computation: Computation
    computation_reason: str
    score_s: float
    semgrad_at: tuple[float, ...] = ()
    document_gain: float | None = None

    def scores(self) -> Mapping[str, float]:
        """Every score by its name, without those that were not asked for."""
        values = ((name, getattr(self, name)) for name in (*SCORES, DOCUMENT_GAIN))
        return {name: value for name, value in values if value is not None}


def token_weights(entropies: Sequence[float], options: ScoringOptions) -> list[float]:
    """Each token's factor in the loss (docs/explanation/method.md): its entropy, or none for an ablation."""
    share = 1 / len(entropies) if options.reduction == "mean" else 1.0
    return [share * (entropy if options.entropy_weight else 1.0) for entropy in entropies]


def perplexity(log_likelihood: float, tokens: int) -> float:
    """Exponential of the mean negative log-probability of a token; infinite beyond what a float holds."""
    try:
        return exp(-log_likelihood / tokens)
    except OverflowError:
        return inf


def combine(semgrad: float, paragrad: float, mean_entropy: float) -> float:
    """HybridGrad of its two parts, weighted by the mean entropy (nats)."""
    certain = exp(-mean_entropy)
    return (1 - certain) * semgrad + certain * paragrad


# Every other score goes up with uncertainty.
_DOWN = ("log_likelihood", "min_token_probability")


def combined_scores(segments: Sequence[Uncertainty], how: Combination = "worst") -> Mapping[str, float]:
    """Each score over the segments of a response.

    Args:
        segments: Their scores, in the order of the response.
        how: ``worst``, the one of most uncertainty, for each score by itself; ``mean``, in which every
            segment counts alike; ``last``, for answers that reason first and conclude at the end.

    Returns:
        Scores by name, without those that were not asked for.

    Raises:
        OptionError: There are no segments, or ``how`` is none of these.
    """
    if how not in get_args(Combination):
        raise OptionError(f"combine is {how!r}; it can be {', '.join(get_args(Combination))}.")
    if not segments:
        raise OptionError("There are no segments to combine.")
    scores = [segment.scores() for segment in segments]
    return {name: _combination(name, how)([one[name] for one in scores]) for name in scores[0]}


def _combination(name: str, how: Combination) -> Callable[[Sequence[float]], float]:
    if how == "mean":
        return lambda values: sum(values) / len(values)
    if how == "last":
        return lambda values: values[-1]
    return min if name in _DOWN else max


def packed(values: Sequence[float]) -> str:
    """Numbers as text: float32, little-endian, in base 64."""
    return b64encode(_little_endian(array("f", values)).tobytes()).decode()


def unpacked(text: str) -> "array[float]":
    """The numbers of a text.

    Raises:
        ValueError: It holds none.
    """
    values = array("f")
    values.frombytes(b64decode(text, validate=True))
    return _little_endian(values)


def _read(values: Any) -> Sequence[float]:
    if isinstance(values, str):
        return unpacked(values)
    if isinstance(values, Sequence):
        return values
    raise ValueError("Numbers in base 64 are expected")


PackedFloats = Annotated[Sequence[float], PlainValidator(_read), PlainSerializer(packed)]
"""Numbers that a line of JSON holds packed as text."""


@dataclass(frozen=True, slots=True)
class HiddenState:
    """Input of one decoder layer over a response, as plain numbers (see ``models.trace.HiddenSummary``).

    Attributes:
        depth: Fraction of the layers at which it was taken.
        mean: Mean over the response, d values.
        last: At the last position, d values.
    """

    depth: float
    mean: PackedFloats
    last: PackedFloats


@dataclass(frozen=True, slots=True)
class Observation:
    """What one pass tells of one answer.

    Attributes:
        scores: Scores by name, as ``Uncertainty.scores()`` gives them, and ``tokens``, the answer's length.
        hidden: Hidden state for a probe, where one is used.
    """

    scores: Mapping[str, float]
    hidden: HiddenState | None = field(default=None)


def _little_endian(values: "array[float]") -> "array[float]":
    if sys.byteorder == "big":
        values.byteswap()
    return values
