"""Answers that an inference server generated: what it reports, and whether they are the local model's.

That a server runs the weights of the local model is a declaration. Where the server reports the
log-probabilities of its tokens, these are compared with the local reading of the same tokens: other weights,
and another prompt, show there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import TYPE_CHECKING

from guardrail.escalation.verdict import ReadBy, ServedWeights, VerdictGeneration
from guardrail.labelling.provenance import Author

if TYPE_CHECKING:
    from guardrail.guard.produce import Job, Produced
    from guardrail.models.sampling import Sampling
    from guardrail.models.trace import Trace

__all__ = [
    "Attribution",
    "ExternalGeneration",
    "attribute",
    "attributed",
    "generation_told",
    "largest_difference",
]

# Mean absolute difference of a token's log-probability (nats) between a server and the local reading. On
# SmolLM2 the same weights in float32 are 3e-6 apart, and weights rounded to bfloat16 2e-3 to 1e-2: see
# docs/how-to/upstream.md. In half precision rounding by itself differs more; that bound was not measured.
_FULL_PRECISION, _HALF_PRECISION = 2e-4, 5e-2
_FULL = ("torch.float32", "torch.float64")
# Where the largest single token may lie, in multiples of that.
_SINGLE_TOKEN = 10


@dataclass(frozen=True, slots=True)
class ExternalGeneration:
    """What an inference server reports of an answer that it generated.

    Attributes:
        model: Name that the model is served by.
        sampling: How it was asked to draw.
        is_same_model: Whether the server is declared to run the local model's weights.
        read_by: Whether the answer is read by the token ids that the server reported, or by its text.
        prompt_ids: The prompt that it read, as token ids; None where it does not report them.
        log_probabilities: Log-probability (nats, at temperature 1) of each token of the answer, perhaps
            without the token that ends the turn; None where it does not report them.
        is_constrained: Whether the answer was held to a form.
        doubt: Why the answer cannot be read as it was generated, or empty.
        seconds: How long the server took.
    """

    model: str
    sampling: "Sampling"
    is_same_model: bool
    read_by: ReadBy
    prompt_ids: Sequence[int] | None = field(default=None, repr=False)
    log_probabilities: Sequence[float] | None = field(default=None, repr=False)
    is_constrained: bool = False
    doubt: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Attribution:
    """Whose an answer of a server is.

    Attributes:
        weights: ``verified``, ``declared`` or ``foreign``.
        difference: Mean absolute difference (nats) of a token's log-probability; None where there is nothing
            to compare.
        doubt: Why the answer is not the local model's, or empty.
    """

    weights: ServedWeights
    difference: float | None = None
    doubt: str = ""


def largest_difference(dtype: str) -> float:
    """How far a server's log-probabilities may lie from the local ones: the mean over an answer, in nats.

    Args:
        dtype: Of the local model, such as ``torch.float32``.
    """
    return _FULL_PRECISION if dtype in _FULL else _HALF_PRECISION


def attribute(reported: ExternalGeneration, trace: "Trace", dtype: str) -> Attribution:
    """Compare what a server reports of an answer with the local reading.

    Args:
        reported: What it reports.
        trace: The answer, read by the local model.
        dtype: Of the local model.
    """
    if not reported.is_same_model:
        return Attribution("foreign")
    if reported.doubt:
        return Attribution("foreign", doubt=reported.doubt)
    if reported.prompt_ids is not None and list(reported.prompt_ids) != trace.prompt_ids:
        return Attribution(
            "foreign", doubt="the server read another prompt than the local chat template writes"
        )
    if reported.log_probabilities is None:
        return Attribution("declared")
    return _compared(reported.log_probabilities, trace.log_probabilities, largest_difference(dtype))


def _compared(served: Sequence[float], local: Sequence[float], bound: float) -> Attribution:
    # Some servers leave out the token that ends the turn.
    if not served or len(local) - len(served) not in (0, 1):
        return Attribution(
            "foreign", doubt="the server's log-probabilities are not of the tokens that were read"
        )
    apart = [abs(one - other) for one, other in zip(served, local, strict=False)]
    mean = sum(apart) / len(apart)
    # Written so that a NaN agrees with nothing.
    if isfinite(mean) and mean <= bound and max(apart) <= _SINGLE_TOKEN * bound:
        return Attribution("verified", mean)
    doubt = (
        f"its log-probabilities differ from those of the local weights by {mean:.2g} nats a token "
        f"({max(apart):.2g} at most), and the same weights stay within {bound:g} ({_SINGLE_TOKEN * bound:g})"
    )
    return Attribution("foreign", mean if isfinite(mean) else None, doubt)


def attributed(job: "Job", produced: "Produced") -> "Job":
    """The request, with the server's model as the author where the answer is not the local model's."""
    if job.generation is None:
        return job
    if not job.generation.is_same_model:
        # Whoever was declared to answer there: what the server says of this answer may contradict it.
        author, doubt = job.answered_by, job.generation.doubt
        return job if author is None or not doubt else replace(job, answered_by=Author(author.name, doubt))
    attribution = produced.attribution
    if attribution is not None and attribution.weights != "foreign":
        return job
    doubt = (
        attribution.doubt if attribution is not None else "it could not be compared with the local weights"
    )
    return replace(job, answered_by=Author(job.generation.model, doubt))


def generation_told(job: "Job", produced: "Produced") -> VerdictGeneration | None:
    """What the verdict says of how the answer was generated; None where the local model did it."""
    if job.generation is None:
        return None
    attribution = produced.attribution or Attribution("foreign")
    return VerdictGeneration(
        model=job.generation.model,
        read_by=job.generation.read_by,
        weights=attribution.weights,
        log_probability_difference=attribution.difference,
    )
